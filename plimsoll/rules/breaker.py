"""What all breakers share: samples, verdicts, stored state, and the confirmation of equity readings.

A breaker is a pure machine ``step(state, config, sample) -> (state, verdict)``: time is an argument, the
state is plain JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from plimsoll.rules.answer import Side
from plimsoll.rules.stored import Stored

MINUTE: Final = 60
DAY: Final = 86_400
NEVER: Final = 1 << 62
BAND_ROUNDING: Final = 1e-9
_BELOW_ONE: Final = math.nextafter(1.0, 0.0)
_TOLERANCE: Final = 1e-12  # 1 - 8000/10000 is a little under 0.2 in floats, and is a loss of 20 %


@dataclass(frozen=True, slots=True)
class EquitySample:
    """Hold one equity reading: time in epoch seconds (UTC), equity in stake currency, None when unknown.

    ``flow`` is the cumulative sum of deposits minus withdrawals in stake currency, from any fixed origin.
    """

    time: int
    equity: float | None
    flow: float = 0.0


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """Hold what a breaker needs of a closed trade: close time in epoch seconds, profit ratio with fees."""

    time: int
    pair: str
    profit_ratio: float | None
    liquidated: bool = False
    side: Side | None = None

    @property
    def is_loss(self) -> bool:
        return self.liquidated or (self.profit_ratio is not None and self.profit_ratio < 0.0)


@dataclass(frozen=True, slots=True)
class Tick:
    """Let time pass for a machine that otherwise steps on closed trades: time in epoch seconds."""

    time: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold what a breaker says of new risk.

    ``factor`` multiplies the size and is 0 when blocked; ``until`` is in epoch seconds, None when no time
    ends the block; ``changed`` is True in the one step in which the breaker trips, re-arms or changes its
    level. ``unknown`` blocks without being a trip. ``value`` is the statistic that the reason speaks of (a
    loss ratio, a count, a score). ``level`` is how far a breaker that warns before it blocks has come, 0
    when all is fine.
    """

    rule: str
    blocked: bool
    factor: float
    max_leverage: float | None
    until: int | None
    reason: str
    changed: bool
    unknown: bool = False
    value: float | None = None
    level: int = 0


def allow(
    rule: str,
    reason: str,
    value: float | None,
    changed: bool,
    *,
    factor: float = 1.0,
    leverage: float | None = None,
) -> Verdict:
    """Allow new risk, at a factor of its size and at most a leverage."""
    return Verdict(rule, False, factor, leverage, None, reason, changed, False, value)


def block(
    rule: str,
    reason: str,
    value: float | None,
    changed: bool,
    until: int | None,
    leverage: float | None = None,
) -> Verdict:
    """Block new risk until a time, or without end."""
    return Verdict(rule, True, 0.0, leverage, until, reason, changed, False, value)


def block_unknown(rule: str, reason: str, until: int | None = None, leverage: float | None = None) -> Verdict:
    """Block new risk because an input is unknown; this is no change of the breaker's state."""
    return Verdict(rule, True, 0.0, leverage, until, reason, False, True)


def loss_ratio(reference: float, value: float) -> float:
    """Measure the loss from a positive reference to a positive value as a ratio in [0, 1)."""
    return min(max(0.0, 1.0 - value / reference), _BELOW_ONE)


def reaches(ratio: float, limit: float) -> bool:
    """Tell whether a ratio is at or beyond a limit, rounding aside."""
    return ratio >= limit - _TOLERANCE


def require(parameter: str, value: object, holds: bool, allowed: str) -> None:
    """Raise ValueError naming parameter, value and range unless the condition holds."""
    if not holds:
        raise ValueError(f"`{parameter}` must be {allowed}, was {value!r}")


def require_order(rule: str, last: int | None, time: int) -> None:
    """Raise ValueError when time runs backwards; equal times are allowed."""
    if last is not None and time < last:
        raise ValueError(f"{rule}: `time` must not run backwards, was {utc(time)} after {utc(last)}")


def utc(time: int) -> str:
    """Write epoch seconds as a date and time that a person reads."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def money(amount: float) -> str:
    """Write an amount of stake currency: whole units from 1,000 on, six digits below."""
    return f"{amount:,.0f}" if abs(amount) >= 1000.0 else f"{amount:.6g}"


def percent(ratio: float) -> str:
    """Write a ratio as a measured percentage, with one decimal."""
    return f"{100.0 * ratio:.1f} %"


def limit_percent(ratio: float) -> str:
    """Write a ratio as a configured percentage, without needless decimals."""
    return f"{100.0 * ratio:.6g} %"


# --- confirmation of readings ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadingConfig:
    """Set how equity readings are confirmed; ``confirmations`` is 1 in backtests, where no reading is bad.

    ``confirmations``: readings in a row that must agree, in [1, 10]. ``jump``: a reading further than this
    ratio from the confirmed equity makes equity unknown, in (0, 1).
    """

    confirmations: int = 2
    jump: float = 0.20

    def __post_init__(self) -> None:
        require("confirmations", self.confirmations, 1 <= self.confirmations <= 10, "in [1, 10] readings")
        require("jump", self.jump, 0.0 < self.jump < 1.0, "a ratio in (0, 1)")


@dataclass(frozen=True, slots=True)
class Readings(Stored):
    """Remember the latest readings per unit, as a fund counts: deposits buy units, withdrawals sell them."""

    time: int | None = None
    flow: float = 0.0
    units: float = 1.0
    recent: tuple[float, ...] = ()
    value: float | None = None


DEFAULT_READINGS: Final = ReadingConfig()
NO_READINGS: Final = Readings()


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Hold the confirmed value per unit, the latest reading, and the units (equity = value x units)."""

    value: float
    latest: float
    units: float
    agreed: bool


def confirm(
    state: Readings, config: ReadingConfig, sample: EquitySample
) -> tuple[Readings, Confirmed | None]:
    """Confirm an equity reading; None while equity is unknown.

    The confirmed value moves only as far as the last N readings in a row all say: it is clamped to their
    range (it begins as the median of the first 2N-1). So N-1 bad readings in a row, of whatever size and
    wherever they fall, leave it within the good ones, and a genuine crash counts after N. A reading that is
    missing, not finite or not above zero changes nothing. A deposit buys units at the value before the
    move, a withdrawal sells them after it, so the move is measured on the larger capital. Raises ValueError
    when time runs backwards.
    """
    require_order("equity", state.time, sample.time)
    equity, flow = sample.equity, sample.flow
    if equity is None or not math.isfinite(equity) or equity <= 0.0 or not math.isfinite(flow):
        return state, None
    units, recent = state.units, state.recent
    if flow != state.flow and recent:
        if state.value is None:  # nothing is confirmed yet: start again
            units, recent = 1.0, ()
        else:
            units = _units_after(state, config, equity, flow - state.flow)
            if units <= 0.0:
                return state, None
    latest = equity / units
    if config.confirmations == 1:
        return Readings(sample.time, flow, units, (latest,), latest), Confirmed(latest, latest, units, True)
    length = 2 * config.confirmations - 1
    recent = (*recent, latest)[-length:]
    if len(recent) < length:
        return Readings(sample.time, flow, units, recent, None), None
    value = sorted(recent)[length // 2] if state.value is None else state.value
    row = recent[-config.confirmations :]
    value = min(max(value, min(row)), max(row))
    agreed = abs(latest / value - 1.0) <= config.jump
    return Readings(sample.time, flow, units, recent, value), Confirmed(value, latest, units, agreed)


def _units_after(state: Readings, config: ReadingConfig, equity: float, flow: float) -> float:
    assert state.value is not None
    price = state.value
    if flow < 0.0:
        before = (equity - flow) / state.units
        if abs(before / price - 1.0) <= config.jump:
            price = before
    return state.units + flow / price
