"""What a bot tells of itself each loop, for ``plimsoll status``: one plain document."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from freqtrade.persistence import LocalTrade

from plimsoll import __version__
from plimsoll.host.account import loss_at_stop, unrealised_profit
from plimsoll.host.breakers import BOT_WIDE, Breakers, Machine, deadline
from plimsoll.host.reconcile import MEMORY
from plimsoll.rules import deadman, decay, drawdown, loss_limit, streak
from plimsoll.rules.correlation import effective_bets
from plimsoll.rules.exposure import OpenPosition

if TYPE_CHECKING:
    from plimsoll.host.planner import Planner

DOCUMENT_VERSION = 1
LEVELS = ("fine", "warning", "critical", "stopped")


def status_document(planner: Planner, now: datetime, loops: int) -> dict[str, Any]:
    """Describe the bot: equity, what blocks entries, each breaker's headroom, exposure against its limits, each position.

    Ratios are of equity, money is in stake currency; what is not known is None. ``positions`` and ``other_positions`` together are
    what ``exposure`` counts.
    """
    strategy, breakers = planner.strategy, planner.run().breakers
    config: Any = strategy.config
    second = int(now.timestamp())
    equity = planner.equity(second)
    blocked = planner.gates.bot_wide_blocks()
    counted = planner.entries.positions()
    trades = planner.book.trades()
    positions = [_position(planner, trade, second) for trade in trades if trade.has_open_position]
    return {
        "version": DOCUMENT_VERSION,
        "plimsoll": __version__,
        "time": second,
        "bot": strategy.get_strategy_name(),
        "runmode": config["runmode"].value,
        "loop": loops,
        "equity": equity,
        "balance": None if strategy.wallets is None else strategy.wallets.get_total(config["stake_currency"]),
        "stake_currency": config["stake_currency"],
        "entries": "blocked" if blocked else "open",
        "blocked_by": blocked,
        "breakers": [
            *_memory(planner.trading.misfit),
            *(_breaker(name, machine, equity) for name, machine in breakers.machines()),
        ],
        "exposure": _exposure(planner, counted, equity, second),
        "positions": positions,
        "other_positions": _others(counted, positions, {trade.pair for trade in trades}),
        "deadman": _deadman(breakers),
        "proving": planner.trading.proving.as_data(),
        "portfolio": None if planner.trading.fleet is None else planner.trading.fleet.as_data(),
    }


def _memory(misfit: str | None) -> list[dict[str, Any]]:
    # Reset like a breaker, so it is named like one.
    if misfit is None:
        return []
    numbers = dict.fromkeys(("value", "limit", "headroom", "until"))
    return [
        {"name": MEMORY, "pair": BOT_WIDE, "state": "tripped", "factor": 0.0, **numbers, "reason": misfit}
    ]


def _breaker(name: str, machine: Machine, equity: float | None) -> dict[str, Any]:
    verdict = machine.verdict
    state = "unknown"
    if verdict is not None and not verdict.unknown:
        state = "tripped" if verdict.blocked else "reduced" if verdict.factor < 1.0 else "armed"
    headroom = _headroom(machine, equity) if machine.rule in (drawdown, loss_limit) else None
    return {
        "name": name,
        "pair": machine.pair,
        "state": state,
        "factor": 0.0 if verdict is None else verdict.factor,
        "value": None if verdict is None else verdict.value,
        "limit": _limit(machine),
        "headroom": headroom,
        "until": None if verdict is None else verdict.until,
        "reason": "not evaluated yet" if verdict is None else verdict.reason,
    }


def _limit(machine: Machine) -> float | None:
    """Return the value at which a breaker trips, in the unit of its value; None where it has none or trips below it."""
    rule, config = machine.rule, machine.config
    if rule in (drawdown, loss_limit):
        return float(config.limit)
    if rule is streak:
        return float(config.cooldown_losses)
    if rule is deadman:
        return float(config.hours)
    if rule is decay and config.method == "cusum":
        known = decay.levels(config)
        return None if known is None else known.warn if known.pause is None else known.pause
    return None


def _headroom(machine: Machine, equity: float | None) -> float | None:
    state = machine.state
    reference = state.peak if machine.rule is drawdown else state.opening
    if equity is None or reference is None:
        return None
    return max(0.0, equity - reference * state.readings.units * (1.0 - machine.config.limit))


def _exposure(
    planner: Planner, positions: list[OpenPosition], equity: float | None, now: int
) -> dict[str, Any] | None:
    if equity is None or not equity > 0.0:
        return None
    limits = planner.settings.exposure
    signed = sum(_signed(position) for position in positions)
    return {
        "margin": sum(position.margin for position in positions) / equity,
        "margin_limit": limits.total_margin,
        "heat": sum(position.risk for position in positions) / equity,
        "heat_limit": limits.heat,
        "gross": sum(position.notional for position in positions) / equity,
        "gross_limit": limits.gross_notional,
        "net": abs(signed) / equity,
        "net_limit": limits.net_notional,
        **_together(planner, positions, equity, now),
    }


def _together(planner: Planner, positions: list[OpenPosition], equity: float, now: int) -> dict[str, Any]:
    """Return how much all positions move together: portfolio volatility per day, and how many independent bets they are."""
    held = planner.inputs.held(positions[0].pair, positions, equity, now) if positions else None
    if held is None:
        return {"volatility": 0.0 if not positions else None, "effective_bets": None}
    side, among = np.asarray(held.side, dtype=np.float64), np.asarray(held.among, dtype=np.float64)
    missing = planner.settings.correlation.missing * np.outer(side, side)
    matrix = np.where(np.isfinite(among), among, missing)
    signed = side * np.asarray(held.volatility, dtype=np.float64)
    variance = float(signed @ matrix @ signed)
    return {
        "volatility": _finite(math.sqrt(variance)) if variance >= 0.0 else None,
        "volatility_limit": planner.settings.correlation.budget,
        "effective_bets": _finite(effective_bets(matrix, signed)),
    }


def _signed(position: OpenPosition) -> float:
    return -position.notional if position.side == "short" else position.notional


def _position(planner: Planner, trade: LocalTrade, now: int) -> dict[str, Any]:
    rate, reading = planner.inputs.current_rate(trade.pair, now), planner.inputs.reading(trade.pair, now)
    profit = None if rate is None else unrealised_profit(trade, rate)
    plan = planner.trades.plan_of(trade)
    risk = None if plan is None else plan.risk
    liquidation = planner.trades.liquidation(trade)
    health = planner.margin.told(trade.id)
    return {
        "trade_id": trade.id,
        "pair": trade.pair,
        "side": "short" if trade.is_short else "long",
        "leverage": trade.leverage,
        "margin": trade.stake_amount,
        "notional": trade.amount * trade.open_rate,
        "open_rate": trade.open_rate,
        "rate": rate,
        "profit": profit,
        "risk": risk,
        "risk_at_stop": loss_at_stop(trade, planner.settings.risk.slippage),
        "funding": _finite(trade.funding_fees or 0.0),
        "sigma_day": None if reading is None else _finite(reading.sigma_day),
        "r": profit / risk if profit is not None and risk else None,
        "stop": trade.stop_loss or None,
        "stop_on_exchange": planner.trading.stops.resting(trade),
        "liquidation": liquidation,
        "liquidation_distance": _finite(health.distance),
        "margin_used": _finite(health.margin_used),
        "health": health.action,
    }


def _others(
    counted: list[OpenPosition], told: list[dict[str, Any]], traded: set[str]
) -> list[dict[str, Any]]:
    # Freqtrade opens one trade per pair; what is under way is what counts beyond its fills.
    filled = {each["pair"]: (each["margin"], each["notional"], each["risk_at_stop"]) for each in told}
    found = []
    for position in counted:
        margin, notional, risk = filled.get(position.pair, (0.0, 0.0, 0.0))
        if position.pair in filled and not position.notional > notional:
            continue
        under_way = "addition" if position.pair in filled else "entry"
        found.append(
            {
                "pair": position.pair,
                "side": position.side,
                "kind": under_way if position.pair in traded else "foreign",
                "margin": _finite(position.margin - margin),
                "notional": _finite(position.notional - notional),
                "risk": _finite(position.risk - risk),
            }
        )
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _deadman(breakers: Breakers) -> dict[str, Any]:
    switch = breakers.by_operator.get("deadman")
    if switch is None:
        return {"level": "off", "checked_in": None, "deadline": None, "by": None}
    level = 0 if switch.verdict is None else switch.verdict.level
    return {
        "level": LEVELS[level],
        "checked_in": switch.state.checked_in,
        "deadline": deadline(switch),
        "by": switch.state.by,
    }
