"""Run the breakers of one bot: feed the pure machines, keep their states and verdicts, answer for a pair."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from plimsoll.host.machines import (
    BOT_WIDE,
    Machine,
    deadline,
    equity_machines,
    operator_machines,
    shares_ledger,
    streak_config,
    trade_machines,
)
from plimsoll.rules import deadman, liquidated, streak
from plimsoll.rules.answer import Answer, Kind, Outcome, gate, limit
from plimsoll.rules.breaker import NEVER, ClosedTrade, EquitySample, Tick, Verdict
from plimsoll.settings import Settings

__all__ = ["BOT_WIDE", "NO_BAND", "Breakers", "Machine", "deadline", "shares_ledger"]

NO_BAND = (math.inf, -math.inf, 0)


@dataclass(slots=True)
class Breakers:
    """Feed equity to the loss limits and the drawdown breaker, closed trades to the streak, decay and liquidation breakers.

    ``confirmations`` is how often an equity reading has to be seen; one in a backtest, whose balance cannot be misread.
    ``attended`` is whether there is an operator who can check in: a trading bot has one, a backtest has none.
    """

    settings: Settings
    confirmations: int
    attended: bool = False
    by_equity: dict[str, Machine] = field(init=False)
    by_trade: dict[str, Machine] = field(init=False)
    by_pair: dict[str, Machine] = field(default_factory=dict)
    by_operator: dict[str, Machine] = field(init=False)
    resets: dict[str, int] = field(default_factory=dict)
    _time: int = 0
    _quiet: tuple[float, float, int] = NO_BAND
    _resets_pending: bool = False
    _unused: dict[str, dict[str, Any]] = field(
        default_factory=dict
    )  # stored states of breakers that are switched off
    _waits: bool = True  # a breaker has to be told the time, or something has to be said

    def __post_init__(self) -> None:
        s, attended = self.settings, self.attended
        self.by_equity = equity_machines(s, confirmations=self.confirmations, attended=attended)
        self.by_trade = trade_machines(s)
        self.by_operator = operator_machines(s, attended=attended)

    @property
    def latest(self) -> int:
        """Return the latest time the breakers were told of, through restarts, epoch seconds; 0 before the first."""
        known = [machine.state.readings.time for machine in self.by_equity.values()]
        known += [machine.state.time for machine in self.by_operator.values()]
        return max((self._time, *(time or 0 for time in known)))

    def is_quiet(self, time: int, equity: float | None) -> bool:
        """Tell whether neither this equity nor this time changes anything or is news, as nearly always in a backtest."""
        low, high, until = self._quiet
        if not self._waits and equity is not None and low < equity <= high and time < until:
            self._time = time
            return True
        return False

    # -- Samples -------------------------------------------------------------------------------------------------------

    def equity(self, sample: EquitySample) -> None:
        """Let the breakers see an equity reading and the time."""
        self._time = sample.time
        if self._resets_pending:
            for name, machine in (*self.by_trade.items(), *self.by_pair.items()):
                self._take_reset(name, machine, sample.time)
            self._resets_pending = False
        low, high, until = self._quiet
        if not (sample.equity is not None and low < sample.equity <= high and sample.time < until):
            for machine in self.by_equity.values():
                machine.step(sample)
            self._quiet = self._quiet_band()
        tick = Tick(sample.time)
        for machine in (*self.by_trade.values(), *self.by_pair.values()):
            # Time alone ends a block and lets trades leave a window; otherwise only a trade changes these.
            if self._must_tick(machine):
                machine.step(tick)
        for machine in self.by_operator.values():
            machine.step(tick)
        self._waits = any(self._must_tick(machine) for _, machine in self.machines())

    def _must_tick(self, machine: Machine) -> bool:
        known = machine.verdict is not None and not machine.verdict.blocked
        return not known or machine.is_windowed or machine.rule is deadman

    def check_in(self, time: int, by: str) -> Verdict | None:
        """Let the dead man's switch hear from the operator; answer what it says then, None where it is off."""
        machine = self.by_operator.get("deadman")
        return None if machine is None else machine.step(deadman.CheckIn(time, by))

    def _quiet_band(self) -> tuple[float, float, int]:
        low, high, until = 0.0, math.inf, NEVER
        for machine in self.by_equity.values():
            band = machine.rule.quiet_band(machine.state, machine.config)
            if band is None:
                return NO_BAND
            low, high, until = max(low, band[0]), min(high, band[1]), min(until, band[2])
        return low, high, until

    def closed(self, trade: ClosedTrade, known: int | None = None) -> None:
        """Let the breakers see a closed trade.

        :param known: when it became known, where that is later than its close: a backtest's stops fill inside a candle and are
            dated at its begin. A cooldown counts from then.
        """
        self._waits = True
        at = max(trade.time, self._time)  # one that becomes known late counts from now
        trade = _at(trade, at)
        known = max(at, known or at)
        for name, machine in self.by_trade.items():
            self._take_reset(name, machine, at)
            machine.step(_not_before(machine, trade, known) if machine.rule is streak else trade)
        if self.settings.streak.per_pair and "streak" not in self.settings.off:
            name = f"streak {trade.pair}"
            if name not in self.by_pair:
                self.by_pair[name] = Machine(streak, streak_config(self.settings), trade.pair)
            self._take_reset(name, self.by_pair[name], at)
            self.by_pair[name].step(_not_before(self.by_pair[name], trade, known))
        if trade.liquidated:
            self._liquidated(trade)

    def _liquidated(self, trade: ClosedTrade) -> None:
        name = f"liquidated {trade.pair}"
        if name not in self.by_pair:
            self.by_pair[name] = Machine(liquidated, liquidated.Config(), trade.pair)
        machine = self.by_pair[name]
        if machine.state.time is None or trade.time > machine.state.time:
            machine.step(trade)
        elif machine.verdict is None:  # remembered: the signals since are not in any table
            machine.step(Tick(machine.state.time))

    def signal(self, pair: str, signal: liquidated.Signal) -> None:
        """Let a liquidated pair's breaker see the signal of a candle."""
        machine = self.by_pair.get(f"liquidated {pair}")
        if machine is not None:
            self._waits = True
            machine.step(signal)

    def waits_for_signal(self) -> list[str]:
        """Return the pairs that were liquidated and wait for a new signal."""
        return [
            m.pair for m in self.by_pair.values() if m.rule is liquidated and m.verdict and m.verdict.blocked
        ]

    # -- Answers -------------------------------------------------------------------------------------------------------

    def machines(self) -> Iterator[tuple[str, Machine]]:
        """Yield every breaker with its name."""
        yield from self.by_equity.items()
        yield from self.by_trade.items()
        yield from self.by_pair.items()
        yield from self.by_operator.items()

    def news(self) -> Iterator[tuple[str, Machine, Verdict]]:
        """Yield every breaker whose word changed since it was last yielded: nothing is said twice for one state."""
        for name, machine in self.machines():
            verdict = machine.verdict
            if not machine.stepped or verdict is None:
                continue
            machine.stepped = False
            machine.was_known = machine.was_known or not verdict.unknown
            if not machine.was_known:
                continue  # the first readings after a start are no news
            state = (verdict.blocked, verdict.unknown, verdict.factor, verdict.level)
            if state != machine.told:
                machine.told = state
                yield name, machine, verdict

    def answers(self, pair: str) -> Iterator[Answer]:
        """Yield what the breakers have against a new position in a pair; those that have nothing are silent."""
        for name, machine in self.machines():
            verdict = machine.verdict
            if verdict is None or machine.pair not in (BOT_WIDE, pair):
                continue
            if (
                verdict.max_leverage is None
                and verdict.factor >= 1.0
                and not (verdict.blocked or verdict.unknown)
            ):
                continue
            numbers = {"value": verdict.value, "until": verdict.until}
            if verdict.unknown:
                yield Answer(name, Kind.GATE, Outcome.UNKNOWN, None, verdict.reason, numbers)
            elif verdict.blocked:
                yield gate(name, False, verdict.reason, numbers)
            elif verdict.factor < 1.0:
                yield limit(name, Kind.FACTOR, verdict.factor, verdict.reason, numbers)
            if verdict.max_leverage is not None and not verdict.blocked:
                yield limit(name, Kind.LEVERAGE, verdict.max_leverage, verdict.reason, numbers)

    def reset(self, name: str, sample: EquitySample) -> bool:
        """Re-arm a breaker with a new reference on an operator's word, and remember when; answer whether there is one."""
        machine = dict(self.machines()).get(name)
        if machine is None:
            return False
        by_equity = name in self.by_equity
        machine.state = machine.rule.reset(
            machine.state, machine.config, sample if by_equity else Tick(sample.time)
        )
        machine.verdict = None
        self._quiet, self._waits = NO_BAND, True
        if by_equity and self.confirmations == 1:
            machine.step(sample)
        self.resets[name] = sample.time
        return True

    # -- Memory --------------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return what trades cannot tell, as plain JSON: equity, signals seen after a liquidation, the operator's resets."""
        return {
            "equity": {name: machine.state.to_json() for name, machine in self.by_equity.items()}
            | self._unused.get("equity", {}),
            "liquidated": {
                name: machine.state.to_json()
                for name, machine in self.by_pair.items()
                if machine.rule is liquidated
            },
            "operator": {name: machine.state.to_json() for name, machine in self.by_operator.items()}
            | self._unused.get("operator", {}),
            "resets": self.resets,
        }

    def restore(self, stored: dict[str, Any]) -> None:
        """Take up what :meth:`dump` returned; the trade-fed breakers are rebuilt by feeding the closed trades again.

        :raises ValueError: where it does not fit; the caller then knows nothing, which is not fine.
        """
        self._quiet, self._waits = NO_BAND, True
        for kind, machines in (("equity", self.by_equity), ("operator", self.by_operator)):
            kept = stored["equity"] if kind == "equity" else stored.get(kind, {})
            for name, state in kept.items():
                if name not in machines:  # switched off: it goes on from there when it is on again
                    self._unused.setdefault(kind, {})[name] = state
                else:
                    machines[name].state = machines[name].rule.State.from_json(state)
        for name, state in stored["liquidated"].items():
            pair = name.removeprefix("liquidated ")
            self.by_pair[name] = Machine(
                liquidated, liquidated.Config(), pair, liquidated.State.from_json(state)
            )
        self._resets_pending = True
        self.resets = {str(name): int(time) for name, time in stored["resets"].items()}

    def _take_reset(self, name: str, machine: Machine, time: int) -> None:
        at = self.resets.get(name)
        if at is None or time <= at or (machine.state.reset_time or 0) >= at:
            return
        last = machine.state.time
        machine.state = machine.rule.reset(machine.state, machine.config, Tick(max(at, last or at)))


def _not_before(machine: Machine, trade: ClosedTrade, time: int) -> ClosedTrade:
    return _at(trade, max(time, machine.state.time or time))


def _at(trade: ClosedTrade, time: int) -> ClosedTrade:
    return trade if trade.time == time else replace(trade, time=time)
