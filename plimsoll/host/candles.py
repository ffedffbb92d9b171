"""Risk inputs per pair from closed 1h candles: prepared once as plain arrays, looked up by time in the callbacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pandas import DataFrame

from plimsoll.rules.stops import average_true_range
from plimsoll.rules.volatility import blended_volatility, daily_close_volatility, normal_daily_range
from plimsoll.settings import Settings

HOUR = 3600
REQUIRED_HOURS = 745  # 720 squared returns and 24 more hours of warm-up for the fast leg
STALE_AFTER = 2 * HOUR

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reading:
    """Hold what the candles said when the last one closed; NaN is unknown. Volatility and range are per day, ratios."""

    closed_at: int
    close: float
    atr: float
    sigma_day: float
    daily_range: float


@dataclass(frozen=True, slots=True)
class HourlyCandles:
    """Hold one pair's series, a value per closed 1h candle; ``times`` are opening times, epoch seconds, ascending."""

    times: IntArray
    close: FloatArray
    atr: FloatArray
    sigma_day: FloatArray
    daily_range: FloatArray

    def at(self, now: int) -> Reading | None:
        """Return the reading of the last candle closed at ``now``; none where there is no such candle or it is stale."""
        index = self.place(now)
        if index is None:
            return None
        return Reading(
            self.times.item(index) + HOUR,
            self.close.item(index),
            self.atr.item(index),
            self.sigma_day.item(index),
            self.daily_range.item(index),
        )

    def place(self, now: int) -> int | None:
        """Return the place in the series of what :meth:`at` returns the reading of."""
        times, opened = self.times, now - HOUR
        # Without gaps it can be reckoned, for a fraction of what a search costs.
        index = (opened - times.item(0)) // HOUR if len(times) else -1
        if not (0 <= index < len(times) and times.item(index) == opened - opened % HOUR):
            index = int(times.searchsorted(opened, side="right")) - 1
            if index < 0 or opened - times.item(index) >= STALE_AFTER:
                return None
        return index


class Series:
    """Hold a plain causal series: a value per closed candle of ``seconds`` length, looked up by closing time.

    A backtest asks candle after candle, so the place of the last answer is where the next one is looked for first.
    """

    __slots__ = ("_opens", "_place", "_read", "seconds", "times", "values")

    def __init__(self, times: IntArray, values: FloatArray, seconds: int) -> None:
        self.times = np.ascontiguousarray(times)
        self.values = np.ascontiguousarray(values)
        self.seconds = seconds
        # Plain numbers come out of a view several times as fast as out of an array.
        self._opens: Any = memoryview(cast(Any, self.times))
        self._read: Any = memoryview(cast(Any, self.values))
        self._place = 0

    def __reduce__(self) -> tuple[type[Series], tuple[IntArray, FloatArray, int]]:
        return Series, (self.times, self.values, self.seconds)

    def at(self, now: int, stale_after: int) -> float | None:
        """Return the value of the last candle closed at ``now``, none where it is missing or older than ``stale_after``."""
        opened = now - self.seconds
        place, opens = self._place, self._opens
        last = len(opens) - 1
        if not (place < last and opens[place] <= opened < opens[place + 1]):
            place += 1
            if not (place < last and opens[place] <= opened < opens[place + 1]):
                place = int(self.times.searchsorted(opened, side="right")) - 1
                if place < 0:
                    return None
            self._place = place
        if opened - opens[place] >= stale_after:
            return None
        return self._read[place]


def epoch_seconds(frame: DataFrame) -> IntArray:
    """Return the dates of a frame as epoch seconds, whatever their resolution."""
    return frame["date"].to_numpy(dtype="datetime64[s]").astype(np.int64)


def hourly(frame: DataFrame, settings: Settings) -> HourlyCandles:
    """Compute the risk inputs of one pair from its 1h candles (columns date, open, high, low, close)."""
    high, low, close = (
        frame[name].to_numpy(dtype=np.float64, copy=True) for name in ("high", "low", "close")
    )
    volatility = settings.volatility
    if volatility.method == "daily":
        sigma = daily_close_volatility(close)
    else:
        sigma = blended_volatility(
            close,
            half_life_hours=volatility.half_life_hours,
            window_hours=volatility.window_hours,
            min_hours=volatility.min_hours,
            mode=volatility.mode,
        )
    return HourlyCandles(
        times=epoch_seconds(frame),
        close=close,
        atr=average_true_range(high, low, close, period=settings.stop.atr_period),
        sigma_day=sigma,
        daily_range=normal_daily_range(high, low, close),
    )


def closes(frame: DataFrame, seconds: int) -> Series:
    """Keep the closes of the strategy's own timeframe, which value open positions."""
    return Series(epoch_seconds(frame), frame["close"].to_numpy(dtype=np.float64, copy=True), seconds)


@dataclass(frozen=True, slots=True)
class FundingRates:
    """Hold one pair's settled funding: ``times`` of settlement, the rate of each, and the mean per day of the last days."""

    times: IntArray
    rates: FloatArray
    per_day: FloatArray
    grid: int  # every settlement is at a multiple of this many seconds

    def expected_per_day(self, now: int, stale_after: int) -> float | None:
        """Return the forecast per day; none where it is missing or stale."""
        index = self._last(now)
        if index < 0 or now - int(self.times[index]) >= stale_after:
            return None
        return float(self.per_day[index])

    def expected_between(self, now: int, until: int) -> float:
        """Return the rate expected to be settled from ``now`` until before ``until``: the last one, each interval again."""
        if (until - 1) // self.grid == (now - 1) // self.grid:
            return 0.0
        index = self._last(now - 1)  # what is settled now is not charged yet
        if index < 1:
            return 0.0
        last, interval = int(self.times[index]), int(self.times[index] - self.times[index - 1])
        if interval <= 0:
            return 0.0
        settlements = (until - 1 - last) // interval - (now - 1 - last) // interval
        return float(self.rates[index]) * settlements

    def _last(self, now: int) -> int:
        return int(self.times.searchsorted(now, side="right")) - 1


def funding_rates(frame: DataFrame, *, days: int = 3) -> FundingRates:
    """Prepare funding; the forecast per day is the mean of the last days' settlements, whatever their interval.

    Settlement times carry jitter of milliseconds in downloaded files, hence the rounding to the hour. A forecast needs the full
    window; before that it is NaN, which is unknown.
    """
    times = (epoch_seconds(frame) + HOUR // 2) // HOUR * HOUR
    # Freqtrade 2026.9 loads the rate as `funding_rate`, earlier releases and live candles as `open`.
    column = "funding_rate" if "funding_rate" in frame else "open"
    rates = frame[column].to_numpy(dtype=np.float64, copy=True)
    total = np.concatenate(([0.0], np.cumsum(rates)))
    first = times.searchsorted(times - days * 24 * HOUR, side="right")
    per_day = (total[1:] - total[first]) / days
    if len(times):
        per_day[times < times[0] + (days * 24 - 8) * HOUR] = np.nan
    return FundingRates(times, rates, per_day, int(np.gcd.reduce(times)) if len(times) else HOUR)
