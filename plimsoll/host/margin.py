"""Margin health of the open positions, each loop and each candle: alerts, and exits of our own where liquidation comes near.

Exits go through Freqtrade's position adjustment, which asks neither for an exit signal nor for the strategy's consent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from freqtrade.persistence import LocalTrade

from plimsoll.host import internals
from plimsoll.host.inputs import Inputs
from plimsoll.host.open_trades import OpenTrades
from plimsoll.rules import margin_health
from plimsoll.rules.liquidation import liquidation_price
from plimsoll.rules.margin_health import Config, Health, Sample, State
from plimsoll.rules.stored import Stored
from plimsoll.settings import Settings

NOT_READ = Health("unknown", True, "margin health was not read yet", False)
# times the exchange's minimum: Freqtrade silently drops a reduction that leaves less, and reserves up to half more for the stop
SMALLEST_REST = 1.5
# What a position of a backtest is called quiet within, without a measurement:
MOST_GROWTH = 2.5  # of its notional
MAINTENANCE = 0.1  # of its margin
FUNDING_AHEAD = 0.005  # of its notional, still to be paid
EXECUTED = 0.995  # of the amount to be taken off: lots are rounded


@dataclass(slots=True)
class Exit(Stored):
    """Hold an exit of ours until it is done: what share of the position it takes, why, and the amount before it."""

    share: float
    tag: str
    amount: float

    @property
    def rest(self) -> float:
        return self.amount * (1.0 - self.share)


class Quiet(NamedTuple):
    """Hold rates between which a position is surely healthy, as long as amount and margin stay and no more funding is paid."""

    amount: float
    margin: float
    paid: float
    low: float
    high: float


class Margin:
    """Follow each position's margin health and remember the exits it asks for."""

    def __init__(self, settings: Settings, inputs: Inputs, trades: OpenTrades) -> None:
        s = settings.margin_health
        self._config = Config(
            alert=s.alert,
            close=s.close,
            reduce_distance=s.reduce_distance,
            close_distance=s.close_distance,
            reduce_by=s.reduce_by,
            rearm=s.rearm,
        )
        self._off = "margin_health" in settings.off
        self._offline = False
        self._alive: set[int] = set()
        self._inputs = inputs
        self._trades = trades
        self._states: dict[int, State] = {}
        self._health: dict[int, Health] = {}
        self._exits: dict[int, Exit] = {}  # for the sake of margin health
        self._ordered: dict[int, Exit] = {}  # whole positions, for other reasons
        self._quiet: dict[int, Quiet] = {}
        self._said: dict[int, tuple[Any, ...]] = {}

    def begin(self, stored: dict[str, Any] | None = None) -> None:
        """Forget all, or take up what :meth:`dump` returned.

        :raises ValueError: where it does not fit.
        """
        states, exits = remembered(stored or {})
        # Only now: Freqtrade makes the first strategy of a backtest before it turns its database off.
        self._offline = internals.is_offline()
        self._config = replace(self._config, confirmations=1 if self._offline else 2)
        self._alive = set()
        self._states, self._exits = states, exits
        for known in (self._health, self._quiet, self._said, self._ordered):
            known.clear()

    def dump(self) -> dict[str, Any]:
        """Return what has to survive a restart, as plain JSON: reductions done, exits under way."""
        return {
            "states": {str(key): state.to_json() for key, state in self._states.items()},
            "exits": {str(key): wanted.to_json() for key, wanted in (self._exits | self._ordered).items()},
        }

    def review(self, trades: list[LocalTrade], now: int) -> Iterator[tuple[LocalTrade, Health]]:
        """Judge every position, and yield those of which something new is to be said."""
        self._forget(trades, now)
        if self._off or self._inputs.spot:
            return
        fault: Exception | None = None
        for trade in trades:
            if not trade.has_open_position:
                continue
            try:
                rate = self._inputs.current_rate(trade.pair, now)
                if rate is not None and self._offline and self._is_quiet(trade, rate):
                    continue
                known = self._health.get(trade.id)
                health = self._step(trade, rate, now)
            except Exception as error:  # first the other positions: one must not keep another's exit
                fault = fault or error
                continue
            if health.action == "unknown" and (known is None or known.action != "unknown"):
                continue  # one reading is no news: after a start no rate is known yet
            said = (health.action, health.changed and health.action == "reduce" and now)
            if health.action == "none":
                said = ("none", False)
            if said != self._said.get(trade.id, ("none", False)):
                self._said[trade.id] = said
                yield trade, health
        if fault is not None:
            raise fault

    def _forget(self, trades: list[LocalTrade], now: int) -> None:
        alive = {trade.id for trade in trades}
        if alive != self._alive:
            self._alive = alive
            for known in (self._states, self._health, self._exits, self._ordered, self._quiet, self._said):
                for gone in known.keys() - alive:
                    del known[gone]
        if self._exits:
            for trade in trades:
                self._forget_done(trade, self._inputs.current_rate(trade.pair, now))

    def close_all(self, trades: Iterable[LocalTrade], tag: str) -> None:
        """Have positions closed, whatever their health."""
        for trade in trades:
            if trade.has_open_position and not self.closes(trade):
                self._ordered[trade.id] = Exit(1.0, tag, trade.amount)

    def closes(self, trade: LocalTrade) -> bool:
        """Tell whether a position is being closed already."""
        wanted = self._wanted(trade.id)
        return wanted is not None and wanted.share >= 1.0

    def withdraw(self, tag: str) -> None:
        """Give up the exits asked for under a tag that are not done yet; a reduction that one stood in for is due again."""
        for exits in (self._ordered, self._exits):
            for key in [key for key, wanted in exits.items() if wanted.tag == tag]:
                del exits[key]

    def told(self, trade_id: int) -> Health:
        """Return the last word on a position."""
        return self._health.get(trade_id, NOT_READ)

    @property
    def wants_exits(self) -> bool:
        return bool(self._exits or self._ordered)

    def exit(self, trade: LocalTrade, rate: float) -> tuple[float, str] | None:
        """Return the margin to take off, negative, and the reason, where a position has to be reduced or closed."""
        # Freqtrade may have found an order since the review whose answer was lost.
        self._forget_done(trade, rate)
        wanted = self._wanted(trade.id)
        if wanted is None or not trade.stake_amount > 0.0:
            return None
        # A part of it may be gone already.
        margin = trade.stake_amount * max(0.0, 1.0 - wanted.rest / trade.amount)
        if wanted.share < 1.0:
            minimum = self._inputs.minimum_stake(trade.pair, rate, trade.leverage)
            if minimum is not None and min(margin, trade.stake_amount - margin) < SMALLEST_REST * minimum:
                margin = trade.stake_amount
        return -margin, wanted.tag

    def allows_addition(self, trade: LocalTrade) -> str | None:
        """Return why a position may not be added to, None where it may."""
        wanted = self._wanted(trade.id)
        if wanted is not None:
            return f"it is being reduced: {wanted.tag}"
        health = self._health.get(trade.id)
        return None if health is None or health.allows_additions else f"margin health: {health.reason}"

    def _step(self, trade: LocalTrade, rate: float | None, now: int) -> Health:
        measured = margin_health.Measured(math.nan, math.nan)
        if rate is not None:
            measured = margin_health.measure(
                side="short" if trade.is_short else "long",
                open_rate=trade.open_rate,
                rate=rate,
                amount=trade.amount,
                margin=trade.stake_amount,
                funding=min(0.0, trade.funding_fees or 0.0),
                tiers=self._inputs.tiers(trade.pair),
                buffer=self._inputs.buffer(),
                liquidation=self._trades.liquidation(trade),
            )
        state = self._states.get(trade.id, State())
        state, health = margin_health.step(
            state, self._config, Sample(max(now, state.time or now), measured.distance, measured.margin_used)
        )
        self._states[trade.id], self._health[trade.id] = state, health
        if health.action == "close":
            self._exits[trade.id] = Exit(1.0, "plimsoll_margin_close", trade.amount)
        elif health.action == "reduce" and not self.closes(trade):
            self._exits[trade.id] = Exit(health.reduce_by, "plimsoll_margin_reduce", trade.amount)
        return health

    def _forget_done(self, trade: LocalTrade, rate: float | None) -> None:
        wanted = self._exits.get(trade.id)
        if wanted is None or wanted.share >= 1.0 or not trade.amount < wanted.amount:
            return  # a close is done when the position is gone
        if trade.amount <= wanted.amount * (1.0 - EXECUTED * wanted.share) or self._is_too_little(
            trade, trade.amount - wanted.rest, rate
        ):
            del self._exits[trade.id]

    def _is_too_little(self, trade: LocalTrade, amount: float, rate: float | None) -> bool:
        # What lots or a part fill left over cannot be taken off any more.
        minimum = (
            None if rate is None else self._inputs.minimum_stake(trade.pair, rate, trade.leverage or 1.0)
        )
        return minimum is not None and trade.stake_amount * amount / trade.amount < minimum

    def _wanted(self, key: int) -> Exit | None:
        own = self._exits.get(key)
        return own if own is not None and own.share >= 1.0 else self._ordered.get(key, own)

    def _is_quiet(self, trade: LocalTrade, rate: float) -> bool:
        # Nearly all positions of a backtest nearly always: a comparison then instead of a measurement.
        known = self._quiet.get(trade.id)
        paid = -(trade.funding_fees or 0.0)
        if (
            known is None
            or known.amount != trade.amount
            or known.margin != trade.stake_amount
            or paid > known.paid
        ):
            if trade.id in self._states:
                return False
            known = self._quiet[trade.id] = self._quiet_rates(trade, paid)
        # What was found of it before has to be found over.
        health = self._health.get(trade.id)
        return known.low < rate < known.high and (health is None or health.allows_additions)

    def _quiet_rates(self, trade: LocalTrade, paid: float) -> Quiet:
        notional = trade.amount * trade.open_rate
        paid = max(0.0, paid) + FUNDING_AHEAD * notional
        low, high = self._healthy(trade, notional, paid)
        return Quiet(trade.amount, trade.stake_amount, paid, low, high)

    def _healthy(self, trade: LocalTrade, notional: float, paid: float) -> tuple[float, float]:
        """Return rates between which a position is surely healthy; nothing is between NaN."""
        tiers, margin = self._inputs.tiers(trade.pair), trade.stake_amount
        far, alert = self._config.rearm_distance, self._config.alert / self._config.rearm
        room = (alert - MAINTENANCE) * margin - paid
        most = MOST_GROWTH * notional
        if not tiers or not far < 1.0 or room <= 0.0 or most >= (tiers[0].max_notional or math.inf):
            return math.nan, math.nan
        if most * tiers[0].mmr > MAINTENANCE * margin:
            return math.nan, math.nan
        own = liquidation_price(
            side="short" if trade.is_short else "long",
            open_rate=trade.open_rate,
            amount=trade.amount,
            margin=margin,
            tiers=tiers,
            extra=-paid,
            buffer=self._inputs.buffer(),
        )
        known = trade.liquidation_price or own
        if trade.is_short:
            high = min(own, known) / (1.0 + far)
            return 0.0, min(high, trade.open_rate + room / trade.amount, MOST_GROWTH * trade.open_rate)
        low = max(own, known) / (1.0 - far)
        return max(low, trade.open_rate - room / trade.amount), MOST_GROWTH * trade.open_rate


def remembered(stored: dict[str, Any]) -> tuple[dict[int, State], dict[int, Exit]]:
    """Read what :meth:`Margin.dump` returned.

    :raises ValueError: where it does not fit.
    """
    states, exits = stored.get("states", {}), stored.get("exits", {})
    if not isinstance(states, dict) or not isinstance(exits, dict):
        raise ValueError(f"margin health needs states and exits, was {stored!r}")
    return (
        {int(key): State.from_json(value) for key, value in states.items()},
        {int(key): Exit.from_json(value) for key, value in exits.items()},
    )
