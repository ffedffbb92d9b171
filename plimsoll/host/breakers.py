"""Run the breakers of one bot: feed the pure machines, keep their states and verdicts, answer for a pair."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from plimsoll.rules import decay, drawdown, liquidated, loss_limit, streak
from plimsoll.rules.answer import Answer, Kind, Outcome, gate, limit
from plimsoll.rules.breaker import NEVER, ClosedTrade, EquitySample, ReadingConfig, Tick, Verdict
from plimsoll.settings import Settings

BOT_WIDE = "*"
NO_BAND = (math.inf, -math.inf, 0)


@dataclass(slots=True)
class Machine:
    """Hold one breaker: its module, configuration, state and last verdict, and the pair it speaks for."""

    rule: Any
    config: Any
    pair: str = BOT_WIDE
    state: Any = None
    verdict: Verdict | None = None
    told: tuple[bool, bool, float] = (False, False, 1.0)
    was_known: bool = False
    stepped: bool = False

    def __post_init__(self) -> None:
        self.state = self.rule.State() if self.state is None else self.state

    @property
    def is_windowed(self) -> bool:
        return self.rule is decay and self.config.method == "sharpe"

    def step(self, sample: Any) -> Verdict:
        self.stepped = True
        self.state, self.verdict = self.rule.step(self.state, self.config, sample)
        return self.verdict


@dataclass(slots=True)
class Breakers:
    """Feed equity to the loss limits and the drawdown breaker, closed trades to the streak, decay and liquidation breakers.

    ``confirmations`` is how often an equity reading has to be seen; one in a backtest, whose balance cannot be misread.
    """

    settings: Settings
    confirmations: int
    by_equity: dict[str, Machine] = field(default_factory=dict)
    by_trade: dict[str, Machine] = field(default_factory=dict)
    by_pair: dict[str, Machine] = field(default_factory=dict)
    resets: dict[str, int] = field(default_factory=dict)
    _time: int = 0
    _quiet: tuple[float, float, int] = NO_BAND
    _resets_pending: bool = False

    def __post_init__(self) -> None:
        s, off = self.settings, self.settings.off
        readings = ReadingConfig(confirmations=self.confirmations)
        if "loss_limit" not in off:
            self.by_equity["daily_loss"] = self._loss_limit(s.loss_limit.daily, "day", readings)
            self.by_equity["weekly_loss"] = self._loss_limit(s.loss_limit.weekly, "week", readings)
        if "drawdown" not in off:
            config = drawdown.Config(
                limit=s.drawdown.limit,
                reset=s.drawdown.reset,
                cooldown_minutes=s.drawdown.cooldown_minutes,
                ladder=s.drawdown.ladder,
                readings=readings,
            )
            self.by_equity["drawdown"] = Machine(drawdown, config)
        if "streak" not in off:
            self.by_trade["streak"] = Machine(streak, self._streak_config())
        if "decay" not in off:
            # A baseline that cannot be read blocks entries from the start; stops need a run all the same.
            with suppress(OSError, KeyError, TypeError, ValueError):
                self.by_trade["decay"] = Machine(decay, decay_config(s))

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
            if machine.verdict is None or machine.verdict.blocked or machine.is_windowed:
                machine.step(tick)

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
        at = max(trade.time, self._time)  # one that becomes known late counts from now
        trade = replace(trade, time=at)
        known = max(at, known or at)
        for name, machine in self.by_trade.items():
            self._take_reset(name, machine, at)
            machine.step(_not_before(machine, trade, known) if machine.rule is streak else trade)
        if self.settings.streak.per_pair and "streak" not in self.settings.off:
            name = f"streak {trade.pair}"
            if name not in self.by_pair:
                self.by_pair[name] = Machine(streak, self._streak_config(), trade.pair)
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
            state = (verdict.blocked, verdict.unknown, verdict.factor)
            if state != machine.told:
                machine.told = state
                yield name, machine, verdict

    def answers(self, pair: str) -> Iterator[Answer]:
        """Yield what the breakers have against a new position in a pair; those that have nothing are silent."""
        for name, machine in self.machines():
            verdict = machine.verdict
            if verdict is None or machine.pair not in (BOT_WIDE, pair):
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
        self._quiet = NO_BAND
        if by_equity and self.confirmations == 1:
            machine.step(sample)
        self.resets[name] = sample.time
        return True

    # -- Memory --------------------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """Return what trades cannot tell, as plain JSON: equity, signals seen after a liquidation, the operator's resets."""
        return {
            "equity": {name: machine.state.to_json() for name, machine in self.by_equity.items()},
            "liquidated": {
                name: machine.state.to_json()
                for name, machine in self.by_pair.items()
                if machine.rule is liquidated
            },
            "resets": self.resets,
        }

    def restore(self, stored: dict[str, Any]) -> None:
        """Take up what :meth:`dump` returned; the trade-fed breakers are rebuilt by feeding the closed trades again.

        :raises ValueError: where it does not fit; the caller then knows nothing, which is not fine.
        """
        self._quiet = NO_BAND
        for name, state in stored["equity"].items():
            if name in self.by_equity:
                machine = self.by_equity[name]
                machine.state = machine.rule.State.from_json(state)
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

    def _loss_limit(self, ratio: float, period: Literal["day", "week"], readings: ReadingConfig) -> Machine:
        s = self.settings.loss_limit
        config = loss_limit.Config(
            limit=ratio, period=period, timezone=s.timezone, rolling=s.rolling, readings=readings
        )
        return Machine(loss_limit, config)

    def _streak_config(self) -> streak.Config:
        s = self.settings.streak
        return streak.Config(
            method=s.method,
            losses=s.losses,
            floor=s.floor,
            win_rate=s.win_rate,
            cooldown_losses=s.cooldown_losses,
            cooldown_minutes=s.cooldown_minutes,
        )


def _not_before(machine: Machine, trade: ClosedTrade, time: int) -> ClosedTrade:
    return replace(trade, time=max(time, machine.state.time or time))


def decay_config(settings: Settings) -> decay.Config:
    """Build the decay breaker's configuration, its baseline read from the file that ``plimsoll calibrate`` wrote."""
    s = settings.decay
    baseline = (
        None if s.baseline is None else decay.Baseline(**json.loads(Path(s.baseline).read_text())["decay"])
    )
    return decay.Config(
        method=s.method,
        baseline=baseline,
        window_days=s.window_days,
        min_trades=s.min_trades,
        min_sharpe=s.min_sharpe,
    )
