"""Stop entries for the rest of a day or week that lost too much, open profit and loss included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from plimsoll.rules.breaker import (
    BAND_ROUNDING,
    DAY,
    DEFAULT_READINGS,
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

Period = Literal["day", "week"]
Window = tuple[tuple[int, float], ...]
_SECONDS: Final[dict[Period, int]] = {"day": DAY, "week": 7 * DAY}
_RULE: Final[dict[Period, str]] = {"day": "daily_loss", "week": "weekly_loss"}
_WORD: Final[dict[Period, str]] = {"day": "daily loss", "week": "weekly loss"}
_ROLLING_WORD: Final[dict[Period, str]] = {"day": "24-hour loss", "week": "7-day loss"}
_ROLLING_SAMPLES: Final = 288  # per window: one each 5 minutes of a day, each 35 of a week


@dataclass(frozen=True, slots=True)
class Config:
    """Set a loss limit: ``limit`` as a ratio of opening equity, calendar day or ISO week in ``timezone``,
    or rolling.

    The published limits are 0.05 for a day and 0.15 for a week.
    """

    limit: float = 0.05
    period: Period = "day"
    timezone: str = "UTC"
    rolling: bool = False
    readings: ReadingConfig = DEFAULT_READINGS

    def __post_init__(self) -> None:
        require("limit", self.limit, 0.0 < self.limit < 1.0, "a ratio in (0, 1)")
        require("period", self.period, self.period in _SECONDS, "'day' or 'week'")
        try:
            ZoneInfo(self.timezone)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"`timezone` must be an IANA name, was {self.timezone!r}") from error


@dataclass(frozen=True, slots=True)
class State(EquityState):
    """Remember the opening (value per unit), the period's end, a rolling window's samples, and a trip."""

    opening: float | None = None
    ends: int | None = None
    window: Window = ()
    until: int | None = None
    reason: str = ""
    reset_time: int | None = None


def step(state: State, config: Config, sample: EquitySample) -> tuple[State, Verdict]:
    """Judge one equity sample against the opening of its period.

    Calendar: the opening is the first confirmed equity of the day or ISO week; a trip lasts until the next
    one. Rolling: it is the first equity known within the last 24 hours or 7 days (to 1/288 of it); a trip
    lasts as long as the window. Raises ValueError when time runs backwards.
    """
    rule, word = _RULE[config.period], _WORD[config.period]
    readings, known = confirm(state.readings, config.readings, sample)
    if known is None:
        goes_on = state.until is not None and sample.time < state.until
        trip = (state.reason, state.until) if goes_on else None
        return while_unknown(state, readings, rule, word, trip)
    time, value = sample.time, known.value
    opening, ends, window = state.opening, state.ends, state.window
    if config.rolling:
        window = _slide(window, _SECONDS[config.period], time, value)
        opening, ends = window[0][1], time + _SECONDS[config.period]
    elif opening is None or ends is None or time >= ends:
        opening, ends = value, next_start(time, config.period, config.timezone)
    until, reason = state.until, state.reason
    changed = False
    if until is not None and time >= until:
        until, reason, changed = None, "", True
    loss = loss_ratio(opening, value)
    if until is None and reaches(loss, config.limit):
        until, changed = ends, True
        reason = _reason(config, loss, opening * known.units, until)
    state = State(readings, opening, ends, window, until, reason, state.reset_time)
    if until is not None:
        return state, block(rule, reason, loss, changed, until)
    unconfirmed = while_unconfirmed(known, opening, config.limit, rule, word)
    if unconfirmed is not None:
        return state, unconfirmed
    return state, allow(rule, f"{word} within its limit", loss, changed)


def quiet_band(state: State, config: Config) -> tuple[float, float, int] | None:
    """Return (low, high, until): while equity lies above low, up to high, before until, a step changes nothing.

    None where that cannot be told. It holds for single readings without deposits only, as a backtest has them.
    """
    certain = config.readings.confirmations == 1 and state.readings.units == 1.0 and not config.rolling
    if not certain or state.opening is None or state.ends is None or state.until is not None:
        return None
    return state.opening * (1.0 - config.limit) * (1.0 + BAND_ROUNDING), math.inf, state.ends


def reset(state: State, config: Config, sample: EquitySample) -> State:
    """Re-arm on an operator's word: the next equity confirmed by new readings, this first, is the opening."""
    readings, known = confirm(Readings(time=state.readings.time), config.readings, sample)
    if known is None:
        return State(readings, reset_time=sample.time)
    if config.rolling:
        return State(readings, window=((sample.time, known.value),), reset_time=sample.time)
    ends = next_start(sample.time, config.period, config.timezone)
    return State(readings, known.value, ends, reset_time=sample.time)


def next_start(time: int, period: Period, timezone: str) -> int:
    """Find the start of the next calendar day or ISO week in a time zone, in epoch seconds."""
    zone = ZoneInfo(timezone)
    today = datetime.fromtimestamp(time, zone).date()
    following: date = today + timedelta(days=1 if period == "day" else 7 - today.weekday())
    return int(datetime(following.year, following.month, following.day, tzinfo=zone).timestamp())


def _slide(window: Window, length: int, time: int, value: float) -> Window:
    # The first sample of each bucket stands for it; a bucket counts while all of it lies within the window,
    # so that nothing older than the window has a say.
    bucket = length // _ROLLING_SAMPLES
    first = 0
    while first < len(window) and window[first][0] // bucket * bucket < time - length:
        first += 1
    window = window[first:]
    if not window or window[-1][0] // bucket != time // bucket:
        window = (*window, (time, value))
    return window


def _reason(config: Config, loss: float, opening: float, until: int) -> str:
    name = (_ROLLING_WORD if config.rolling else _WORD)[config.period]
    limit = limit_percent(config.limit)
    return f"{name} {percent(loss)} of {money(opening)}, limit {limit}, until {utc(until)}"
