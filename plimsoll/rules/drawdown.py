"""Stop entries when equity, open profit and loss included, is too far under its peak; step down before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from plimsoll.rules.breaker import (
    BAND_ROUNDING,
    DEFAULT_READINGS,
    MINUTE,
    NEVER,
    EquitySample,
    ReadingConfig,
    Readings,
    Verdict,
    allow,
    block,
    confirm,
    limit_percent,
    loss_ratio,
    money,
    percent,
    reaches,
    require,
    utc,
)
from plimsoll.rules.equity_breaker import EquityState, while_unconfirmed, while_unknown

Rung = tuple[float, float, float | None]
RULE = "drawdown"


@dataclass(frozen=True, slots=True)
class Config:
    """Set the drawdown breaker and its ladder.

    ``limit``: ratio of peak equity. ``reset``: latched until an operator resets it, or a cooldown of
    ``cooldown_minutes`` after which equity is the new peak. ``ladder``: rungs of (drawdown, size factor,
    most leverage or None), deeper ones never looser.
    """

    limit: float = 0.20
    reset: Literal["latched", "cooldown"] = "latched"
    cooldown_minutes: float = 10_080.0
    ladder: tuple[Rung, ...] = ()
    readings: ReadingConfig = DEFAULT_READINGS

    def __post_init__(self) -> None:
        require("limit", self.limit, 0.0 < self.limit < 1.0, "a ratio in (0, 1)")
        require("reset", self.reset, self.reset in ("latched", "cooldown"), "'latched' or 'cooldown'")
        minutes = self.cooldown_minutes
        require("cooldown_minutes", minutes, 0.0 < minutes < math.inf, "above 0 minutes")
        last_drawdown, last_factor, last_leverage = 0.0, 1.0, math.inf
        for drawdown, factor, leverage in self.ladder:
            require("ladder", self.ladder, last_drawdown < drawdown < 1.0, "rising drawdowns in (0, 1)")
            require("ladder", self.ladder, 0.0 <= factor <= last_factor, "factors in [0, 1] that never rise")
            cap = last_leverage if leverage is None else leverage
            require("ladder", self.ladder, 1.0 <= cap <= last_leverage, "leverages from 1 that never rise")
            last_drawdown, last_factor, last_leverage = drawdown, factor, cap


@dataclass(frozen=True, slots=True)
class State(EquityState):
    """Remember the peak (value per unit), the deepest rung since it, and a trip."""

    peak: float | None = None
    deepest: int = 0
    tripped: bool = False
    until: int | None = None
    reason: str = ""
    reset_time: int | None = None


def step(state: State, config: Config, sample: EquitySample) -> tuple[State, Verdict]:
    """Judge one equity sample against the peak.

    The size factor follows the drawdown of the moment; the leverage cap is that of the deepest rung since
    the peak, so it never rises before a new peak. Raises ValueError when time runs backwards.
    """
    readings, known = confirm(state.readings, config.readings, sample)
    if known is None:
        goes_on = state.tripped and (state.until is None or sample.time < state.until)
        trip = (state.reason, state.until) if goes_on else None
        return while_unknown(state, readings, RULE, "drawdown", trip, _leverage(config, state.deepest))
    time, value = sample.time, known.value
    peak, deepest = state.peak, state.deepest
    tripped, until, reason = state.tripped, state.until, state.reason
    changed = False
    if tripped and until is not None and time >= until:
        peak, tripped, until, reason, changed = None, False, None, "", True
    if peak is None or value > peak:
        changed = changed or (deepest > 0 and not tripped)
        peak, deepest = value, 0
    drawdown = loss_ratio(peak, value)
    rung = _rung(config, drawdown)
    if rung > deepest:
        deepest, changed = rung, changed or not tripped
    if not tripped and reaches(drawdown, config.limit):
        tripped, changed = True, True
        until = time + round(config.cooldown_minutes * MINUTE) if config.reset == "cooldown" else None
        reason = _reason(config, drawdown, peak * known.units, until)
    state = State(readings, peak, deepest, tripped, until, reason, state.reset_time)
    leverage = _leverage(config, deepest)
    if tripped:
        return state, block(RULE, reason, drawdown, changed, until, leverage)
    unconfirmed = while_unconfirmed(known, peak, config.limit, RULE, "drawdown", leverage)
    if unconfirmed is not None:
        return state, unconfirmed
    if deepest == 0:
        return state, allow(RULE, "drawdown within its limit", drawdown, changed)
    factor = config.ladder[rung - 1][1] if rung else 1.0
    text = f"drawdown {percent(drawdown)} from the peak of {money(peak * known.units)}, size x{factor:g}"
    text += f", leverage at most {leverage:g}x" if leverage is not None else ""
    return state, allow(RULE, text, drawdown, changed, factor=factor, leverage=leverage)


def quiet_band(state: State, config: Config) -> tuple[float, float, int] | None:
    """Return (low, high, until): while equity lies above low, up to high, before until, a step changes nothing.

    None where that cannot be told. It holds for single readings without deposits only, as a backtest has them.
    """
    certain = config.readings.confirmations == 1 and state.readings.units == 1.0
    if not certain or state.peak is None or state.tripped or state.deepest:
        return None
    first = min(config.limit, config.ladder[0][0]) if config.ladder else config.limit
    return state.peak * (1.0 - first) * (1.0 + BAND_ROUNDING), state.peak, NEVER


def reset(state: State, config: Config, sample: EquitySample) -> State:
    """Re-arm on an operator's word: the next equity confirmed by new readings, this first, is the peak."""
    readings, known = confirm(Readings(time=state.readings.time), config.readings, sample)
    if known is None:
        return State(readings, reset_time=sample.time)
    return State(readings, peak=known.value, reset_time=sample.time)


def _rung(config: Config, drawdown: float) -> int:
    return sum(reaches(drawdown, at) for at, _, _ in config.ladder)


def _leverage(config: Config, rungs: int) -> float | None:
    caps = [leverage for _, _, leverage in config.ladder[:rungs] if leverage is not None]
    return min(caps, default=None)


def _reason(config: Config, drawdown: float, peak: float, until: int | None) -> str:
    end = "an operator resets it" if until is None else utc(until)
    limit = limit_percent(config.limit)
    return f"drawdown {percent(drawdown)} from the peak of {money(peak)}, limit {limit}, until {end}"
