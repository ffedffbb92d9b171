"""What a trading bot does each loop beside planning: memory, stops and positions on the exchange, proving, ledger, heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

from plimsoll.host.exchange_stops import ExchangeStops
from plimsoll.host.fleet import Fleet
from plimsoll.host.heartbeat import Heartbeat, from_environment
from plimsoll.host.inputs import Inputs
from plimsoll.host.margin import Margin
from plimsoll.host.open_trades import OpenTrades
from plimsoll.host.positions import (
    foreign_positions,
    pairs_of_others,
    positions_that_do_not_fit,
    refresh,
)
from plimsoll.host.proving import Proving
from plimsoll.host.reconcile import MEMORY
from plimsoll.host.runlog import RunLog
from plimsoll.host.watch import Watch
from plimsoll.rules.answer import Answer, Kind, gate, unknown
from plimsoll.rules.exposure import OpenPosition
from plimsoll.settings import Settings

STOP_EXIT = "plimsoll_stop"
DEADMAN_EXIT = "plimsoll_deadman"
LOOP_OVERDUE = 600.0  # seconds: a bot that hangs takes forced entries all the same


class TradingLoop:
    """Look after a trading bot; a loop is `begin`, `review`, `step`, `end`, and each may raise."""

    def __init__(
        self, strategy: IStrategy, settings: Settings, inputs: Inputs, trades: OpenTrades, margin: Margin
    ) -> None:
        self.stops = ExchangeStops(strategy)
        self.proving = Proving(strategy, settings)
        self.foreign: list[OpenPosition] = []  # on the account, in no bot's books
        # What looks outward waits for the first loop: backtests and other commands have none.
        self.watch: Watch | None = None
        self.fleet: Fleet | None = None
        self._heartbeat: Heartbeat | None = None
        self._strategy = strategy
        self._settings = settings
        self._inputs = inputs
        self._trades = trades
        self._margin = margin
        self._told_conditions: dict[str, str] = {}
        self._conditions: dict[str, str] = {}  # subject -> why no pair may be entered at this moment
        self._unfit: dict[str, tuple[int, int]] = {}
        self._foreign_seen: dict[str, tuple[int, int]] = {}
        self._unproven = False
        self._looped_at: float | None = None
        self._refreshed_at = 0

    # -- A loop ----------------------------------------------------------------------------------------------------

    def begin(self, run: RunLog, now: int) -> None:
        """Read what is remembered, and have Freqtrade look at orders whose answers were lost."""
        self._looped_at = time.monotonic()
        watch = self.watch
        if watch is None:
            watch = self.watch = Watch(self._strategy, self._settings)
            self.fleet = Fleet(self._strategy, self._settings)
            self._heartbeat = from_environment(self._settings.deadman.heartbeat_minutes)
        # What is remembered comes first: an operator's reset counts for the trades before it.
        if watch.restore(run.breakers):
            self._margin.begin(watch.margin)
        # An exit of ours that is still wanted may have been carried out and its answer lost: Freqtrade finds it by the amount.
        last = 0 if self._margin.wants_exits else self._refreshed_at
        self._refreshed_at = refresh(self._strategy, last, now)

    def review(self, trades: list[LocalTrade], now: datetime) -> None:
        """Hold the exchange's stops and positions against the books, and count the days of dry-run."""
        second = int(now.timestamp())
        self._review_conditions(trades, second)
        self._review_foreign(trades, second)
        self.proving.loop(now)
        self._say_proving()

    def step(
        self,
        run: RunLog,
        now: datetime,
        equity: float | None,
        trades: list[LocalTrade],
        status: Callable[[int], dict[str, Any]],
    ) -> None:
        """Step the breakers and tell the fleet; ``status`` describes the bot, given the number of the loop."""
        watch = self.watch
        assert watch is not None
        watch.margin = self._margin.dump()
        watch.step(run.breakers, now, equity, run.journal, lambda: status(watch.loops))
        # Before the memory is read the bot is under another name, and would count twice.
        if self.fleet is not None and watch.loops:
            self.fleet.loop(now, watch.identity, equity, watch.flow, trades, self.foreign)
            for message in self.fleet.news():
                watch.say(message)
        switch = run.breakers.by_operator.get("deadman")
        if self._settings.deadman.close_positions and switch is not None and switch.verdict is not None:
            if switch.verdict.blocked:
                self._margin.close_all(trades, DEADMAN_EXIT)
            else:
                self._margin.withdraw(DEADMAN_EXIT)

    def end(self, run: RunLog) -> None:
        """Write the journal, and tell others that the bot is alive."""
        if run.journal is not None:
            run.journal.flush()
        if self._heartbeat is not None and self.watch is not None:
            self._heartbeat.beat(alive=self.watch.blocker is None)
            for message in self._heartbeat.news():
                self.watch.say(message)

    def failed(self, error: Exception) -> None:
        """Block entries until a loop succeeds: the breakers were left behind."""
        if self.watch is not None:
            self.watch.blocker = f"the last loop failed: {error!r}"

    def say(self, message: str) -> None:
        """Tell the operator; before the first loop there is nobody to tell."""
        if self.watch is not None:
            self.watch.say(message)

    # -- Gates -----------------------------------------------------------------------------------------------------

    def gates(self) -> Iterator[Answer]:
        """Yield what a trading bot knows against entering any pair."""
        for subject, reason in self._conditions.items():
            yield gate(subject, False, reason, {})
        watch = self.watch
        blocker = "no loop was run yet" if watch is None else watch.blocker
        if blocker is not None:
            yield unknown("breakers", Kind.GATE, blocker)
        silent = 0.0 if self._looped_at is None else time.monotonic() - self._looped_at
        if silent > LOOP_OVERDUE:
            yield unknown("loop", Kind.GATE, f"the last loop was {silent / 60:.0f} minutes ago")
        if self.misfit is not None:
            yield unknown(MEMORY, Kind.GATE, self.misfit)
        proving = self.proving.answer()
        if proving is not None:
            yield proving
        fleet = None if self.fleet is None else self.fleet.answer()
        if fleet is not None:
            yield fleet

    @property
    def misfit(self) -> str | None:
        """Return what of the memory does not fit this bot, None where all does."""
        return None if self.watch is None else self.watch.misfit

    # -- What is looked at -----------------------------------------------------------------------------------------

    def _review_conditions(self, trades: list[LocalTrade], now: int) -> None:
        mended = self._trades.stops_that_do_not_fit(trades)  # in this very loop, as a rule: said if they last
        quiet = mended.keys() - self._conditions.keys()
        found = mended | self.stops.review(trades, now)
        found |= positions_that_do_not_fit(self._strategy, trades, now, self._unfit)
        if self._settings.stop.exit_when_missing:
            self._exit_instead_of_stops(trades, now)
        for subject, reason in found.items():
            if subject not in quiet and self._told_conditions.get(subject) != reason:
                self._told_conditions[subject] = reason
                self.say(f"no entries: {reason}")
        for subject in self._told_conditions.keys() - found.keys():
            del self._told_conditions[subject]
            self.say(f"{subject}: fits again")
        self._conditions = found

    def _exit_instead_of_stops(self, trades: list[LocalTrade], now: int) -> None:
        failed = self.stops.failed(trades, lambda pair: self._inputs.current_rate(pair, now))
        for trade in failed:
            if not self._margin.closes(trade):
                what = "the price is through its stop, which does not rest on the exchange"
                self.say(f"{trade.pair}: {what}; closing")
        self._margin.close_all(failed, STOP_EXIT)

    def _review_foreign(self, trades: list[LocalTrade], now: int) -> None:
        counted = {position.pair for position in self.foreign}
        claimed = set() if self.fleet is None else self.fleet.claimed_by_others(counted)
        if self.fleet is not None:
            self.fleet.see_account(pairs_of_others(self._strategy, trades, claimed))
        self.foreign = foreign_positions(
            self._strategy,
            trades,
            claimed,
            now,
            self._foreign_seen,
            lambda pair: self._inputs.current_rate(pair, now),
        )
        for position in self.foreign:
            if position.pair not in counted:
                what = f"a {position.side} position in {position.pair}"
                self.say(f"{what} is on the account and in no bot's books; it counts in every limit")

    def _say_proving(self) -> None:
        answer = self.proving.answer()
        unproven = answer is not None and answer.blocks
        if answer is not None and unproven != self._unproven:
            self.say(f"no entries: {answer.reason}" if unproven else f"proving: {answer.reason}")
        self._unproven = unproven
