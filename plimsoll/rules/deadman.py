"""Dead man's switch: warn, and in the end stop entries, when the operator has not checked in for long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from plimsoll.rules.breaker import Tick, Verdict, require, require_order, utc
from plimsoll.rules.stored import Stored

RULE = "deadman"
FINE: Final = 0
WARNING: Final = 1
CRITICAL: Final = 2
STOPPED: Final = 3
LEVELS: Final = ("fine", "warning", "critical", "stopped")
_HOUR: Final = 3600
_HOW = "check in with `plimsoll checkin`"


@dataclass(frozen=True, slots=True)
class CheckIn:
    """Hold a check-in: when it was made in epoch seconds, and by whom.

    ``now`` is the clock when it is heard of. Without it the caller vouches that ``time`` is not in the future. Each check-in is
    presented once.
    """

    time: int
    by: str
    now: int | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Set the hours without a check-in after which entries stop; the levels before that are ratios of them."""

    hours: float = 24.0
    warning: float = 0.83
    critical: float = 0.96

    def __post_init__(self) -> None:
        require("hours", self.hours, 0.0 < self.hours <= 8760.0, "in (0, 8760] hours")
        require("critical", self.critical, 0.0 < self.critical <= 1.0, "a ratio in (0, 1]")
        below = f"a ratio in (0, {self.critical}), under `critical`"
        require("warning", self.warning, 0.0 < self.warning < self.critical, below)


@dataclass(frozen=True, slots=True)
class State(Stored):
    """Remember the last check-in, or when counting began (``by`` is empty then), and since when entries are stopped."""

    time: int | None = None
    checked_in: int | None = None
    by: str = ""
    tripped_at: int | None = None
    level: int = FINE
    reset_time: int | None = None


def step(state: State, config: Config, sample: CheckIn | Tick) -> tuple[State, Verdict]:
    """Take a check-in, or let time pass; counting begins with the first sample ever.

    Entries stop at the instant the hours are over, whenever that is noticed: a check-in made after it is remembered and does not
    undo it. A check-in later than its ``now``, or older than the last one, changes nothing; one that turns out to be later than
    the next tick counts as made at that tick. Raises ValueError when time runs backwards: that of ticks and of ``now``.
    """
    clock = sample.time if isinstance(sample, Tick) else sample.now
    if clock is None:
        now, time = max(sample.time, state.time or sample.time), state.time
    else:
        require_order(RULE, state.time, clock)
        now = time = clock
    by, tripped_at = state.by, state.tripped_at
    last = now if state.checked_in is None else min(state.checked_in, now)
    hours_over = _seconds(config, 1.0)
    if isinstance(sample, CheckIn) and last <= sample.time <= now:
        if tripped_at is None and sample.time - last >= hours_over:
            tripped_at = last + hours_over
        last, by = sample.time, sample.by
    if tripped_at is None and now - last >= hours_over:
        tripped_at = last + hours_over
    level = STOPPED if tripped_at is not None else _level(config, now - last)
    changed = level != state.level
    state = State(time, last, by, tripped_at, level, state.reset_time)
    factor = 0.0 if level == STOPPED else 1.0
    elapsed = (now - last) / _HOUR
    reason = _reason(state, config, elapsed)
    return state, Verdict(RULE, level == STOPPED, factor, None, None, reason, changed, False, elapsed, level)


def reset(state: State, config: Config, sample: CheckIn | Tick) -> State:
    """Re-arm on an operator's word, which is a check-in as well."""
    by = sample.by if isinstance(sample, CheckIn) else "a reset"
    return State(time=state.time, checked_in=sample.time, by=by, reset_time=sample.time)


def due(state: State, config: Config) -> int | None:
    """Return by when the next check-in has to come, in epoch seconds; None before counting began and once stopped."""
    if state.checked_in is None or state.tripped_at is not None:
        return None
    return state.checked_in + _seconds(config, 1.0)


def _seconds(config: Config, ratio: float) -> int:
    # Whole seconds, so that the level changes at the very second that the reason names.
    return max(1, math.ceil(config.hours * _HOUR * ratio - 1e-6))


def _level(config: Config, elapsed: int) -> int:
    if elapsed >= _seconds(config, config.critical):
        return CRITICAL
    return WARNING if elapsed >= _seconds(config, config.warning) else FINE


def _reason(state: State, config: Config, elapsed: float) -> str:
    last = state.checked_in
    assert last is not None
    if state.tripped_at is not None:
        text = f"no check-in for {config.hours:g} h: entries stopped at {utc(state.tripped_at)}, until an operator resets it"
        if last > state.tripped_at - _seconds(config, 1.0):
            text += f"; the check-in by {state.by} at {utc(last)} does not undo it"
        return f"{text} (`plimsoll reset {RULE}`)"
    share = f"({elapsed:.1f} h of {config.hours:g} h)"
    stop = f"entries stop at {utc(last + _seconds(config, 1.0))}"
    begin = "" if state.by else "counting began at "
    if state.level == FINE:
        since = (
            f"checked in by {state.by} at {utc(last)}"
            if state.by
            else f"no check-in since {begin}{utc(last)}"
        )
        return f"{since} {share}: warning at {utc(last + _seconds(config, config.warning))}, {stop}; {_HOW}"
    since = f"no check-in since {begin}{utc(last)} {share}"
    if state.level == WARNING:
        return f"{since}: critical at {utc(last + _seconds(config, config.critical))}, {stop}; {_HOW}"
    return f"{since}: {stop}; {_HOW}"
