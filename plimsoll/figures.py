"""What a backtest did with leverage, and what bound it: from Freqtrade's own export and from the journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from plimsoll.maintenance_tiers import binance_tiers
from plimsoll.market.runner import Backtest
from plimsoll.rules.liquidation import MaintenanceTier, liquidation_price

WHOLE_MARGIN = -0.95
BEYOND_R = -1.05


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a backtest did with leverage, from Freqtrade's own export and, where guarded, from the journal.

    Profit and drawdown are ratios of the wallet as Freqtrade reports them; ``worst_margin`` is a ratio of
    the trade's margin, ``worst_r`` a multiple of its planned R, None where nothing was planned. The
    largest sum of margins at one time, ``max_margin``, is a ratio of the balance after the trades closed
    until then.

    A liquidation is what Freqtrade calls one: where a candle reaches the stop behind liquidation as well, it
    names the stop, and the trade is one of ``whole_margin_losses``.
    """

    final_balance: float
    profit: float
    max_drawdown: float
    trades: int
    liquidations: int
    whole_margin_losses: int
    worst_margin: float | None
    worst_r: float | None
    beyond_r: int | None
    stops_outside: int
    mean_leverage: float | None
    max_margin: float


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What the guard answered: signals granted and refused, which rules decided, how often a breaker tripped.

    A tripped breaker locks pairs in Freqtrade too, which then asks for no plan: such signals are not counted.
    """

    granted: int
    refused: Counter[str]
    leverage: Counter[str]
    size: Counter[str]
    tripped: Counter[str]
    faults: int


def figures(backtest: Backtest, records: list[dict[str, Any]], liquidation_buffer: float) -> Figures:
    """Take the figures of a backtest; ``records`` are its journal's, empty where it had none."""
    stats, trades = backtest["stats"], backtest["trades"]
    outcomes = {
        (record["pair"], record["opened"]): record for record in records if record["kind"] == "outcome"
    }
    tiers = maintenance_tiers()
    stops_outside, realised = 0, []
    for trade in trades.to_dict("records"):
        plan = outcomes.get((trade["pair"], trade["open_timestamp"] // 1000), {})
        stop, liquidation = stop_and_liquidation(
            trade, plan.get("stop_price_ratio"), tiers, liquidation_buffer
        )
        stops_outside += stop >= liquidation if trade["is_short"] else stop <= liquidation
        if plan.get("realised_r") is not None:
            realised.append(float(plan["realised_r"]))
    traded = len(trades) > 0
    return Figures(
        final_balance=float(stats["final_balance"]),
        profit=float(stats["profit_total"]),
        max_drawdown=float(stats["max_drawdown_account"]),
        trades=len(trades),
        liquidations=int((trades["exit_reason"] == "liquidation").sum()),
        whole_margin_losses=int((trades["profit_ratio"] <= WHOLE_MARGIN).sum()),
        worst_margin=float(trades["profit_ratio"].min()) if traded else None,
        worst_r=min(realised, default=None),
        beyond_r=sum(value < BEYOND_R for value in realised) if realised else None,
        stops_outside=stops_outside,
        mean_leverage=float(trades["leverage"].mean()) if traded else None,
        max_margin=_most_margin(trades, float(stats["starting_balance"])),
    )


def maintenance_tiers() -> Mapping[str, Sequence[MaintenanceTier]]:
    """Return the table that Freqtrade itself takes when there are no keys to ask the exchange with."""
    return binance_tiers()


def stop_and_liquidation(
    trade: Mapping[Hashable, Any],
    planned_ratio: float | None,
    tiers: Mapping[str, Sequence[MaintenanceTier]],
    buffer: float,
) -> tuple[float, float]:
    """Return the prices of stop and buffered liquidation that an exported trade was filled with.

    ``planned_ratio`` is the planned stop distance on price, None where nothing was planned.
    """
    short, opened = bool(trade["is_short"]), float(trade["open_rate"])
    if planned_ratio is None:
        stop = float(trade["initial_stop_loss_abs"])
    else:
        # A stop only tightens: had the planned one not been set, the last one would tell.
        planned, last = (
            opened * (1 + (planned_ratio if short else -planned_ratio)),
            float(trade["stop_loss_abs"]),
        )
        stop = max(planned, last) if short else min(planned, last)
    liquidation = liquidation_price(
        side="short" if short else "long",
        open_rate=opened,
        amount=float(trade["amount"]),
        margin=float(trade["stake_amount"]),
        tiers=tiers.get(trade["pair"]),
        buffer=buffer,
    )
    return stop, liquidation


def _most_margin(trades: pd.DataFrame, balance: float) -> float:
    # Exits first: Freqtrade hands their margin to the entries of the same candle.
    exits = [
        (t, 0, -m, p) for t, m, p in _columns(trades, "close_timestamp", "max_stake_amount", "profit_abs")
    ]
    entries = [(t, 1, m, 0.0) for t, m in _columns(trades, "open_timestamp", "max_stake_amount")]
    margin, most = 0.0, 0.0
    for _, _, change, profit in sorted(exits + entries):
        margin, balance = margin + change, balance + profit
        most = max(most, margin / balance) if balance > 0.0 else most
    return most


def _columns(trades: pd.DataFrame, *names: str) -> Iterator[tuple[Any, ...]]:
    return zip(*(trades[name].tolist() for name in names), strict=True)


def bound(records: list[dict[str, Any]]) -> Bound:
    """Count what the plans of a journal were bound by, each as it ended."""
    plans = {
        (record["time"], record["pair"], record["side"]): record
        for record in records
        if record["kind"] == "plan"
    }
    granted = [plan for plan in plans.values() if plan["granted"]]
    return Bound(
        granted=len(granted),
        refused=Counter(plan["refusal"].split(":")[0] for plan in plans.values() if not plan["granted"]),
        leverage=Counter(plan["bound_leverage"] for plan in granted),
        size=Counter(plan["bound_size"] for plan in granted),
        tripped=Counter(str(record["breaker"]) for record in tripped(records)),
        faults=sum(record["kind"] == "fault" for record in records),
    )


def tripped(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal that take a breaker from armed to blocking."""
    blocked: dict[tuple[str, str], bool] = {}
    for record in records:
        if record["kind"] == "breaker":
            key = (str(record["breaker"]), str(record["pair"]))
            if record["blocked"] and not blocked.get(key, False):
                yield record
            blocked[key] = bool(record["blocked"])
