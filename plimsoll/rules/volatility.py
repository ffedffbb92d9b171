"""Volatility of one day, forecast at the close of every 1h candle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]

HOURS_PER_DAY = 24
LEAST_RANGES = 72  # three days of 24-hour ranges, before which their mean says nothing


def blended_volatility(
    close: npt.ArrayLike,
    *,
    half_life_hours: float = 24.0,
    window_hours: int = 720,
    min_hours: int = 72,
    mode: Literal["mean", "max"] = "mean",
) -> FloatArray:
    """Forecast the standard deviation of the next day's log return at every 1h close.

    With r the 1h log returns, ``sqrt(24 * (EWMA(r^2) / 2 + mean(r^2) / 2))``: an exponentially weighted leg
    (zero mean, adjusted weights) that follows the last day, and a rolling leg that remembers the month. Mode
    "max" takes the greater leg instead: smaller sizes, not a better forecast. Causal: value t uses closes up
    to t only.

    ``close`` has shape (n,), oldest first; the result too, as a ratio per day (0.03 is 3 %). It is NaN before
    ``min_hours`` returns. A close that is not finite and positive makes both returns beside it unknown, and
    the forecast is NaN as long as one of them is among the last ``window_hours``. NaN before the first close
    is a pair not yet listed: history starts after it. A market that never moved yields 0, which the rules
    refuse to size by.

    Raises ValueError for arguments out of range or a ``close`` that is not one-dimensional.
    Sources: RiskMetrics (1996) for the weights, Corsi (2009) for mixing horizons.
    """
    if not half_life_hours > 0.0:
        raise ValueError(f"`half_life_hours` is {half_life_hours}, must be above 0")
    if not 1 <= min_hours <= window_hours:
        raise ValueError(f"`min_hours` is {min_hours}, must be in [1, `window_hours` = {window_hours}]")
    if mode not in ("mean", "max"):
        raise ValueError(f"`mode` is {mode!r}, must be 'mean' or 'max'")
    raw = _column("close", close)
    squared = np.full(raw.size, np.nan)
    squared[1:] = np.diff(np.log(_usable(raw))) ** 2
    slow = _rolling_mean(squared, start=_listed(raw) + 1, window=window_hours, least=min_hours)
    fast = pd.Series(squared).ewm(halflife=half_life_hours).mean().to_numpy(dtype=np.float64)
    # Where the slow leg is unknown the result is: both ways of mixing carry NaN on.
    variance = np.maximum(fast, slow) if mode == "max" else 0.5 * fast + 0.5 * slow
    return np.asarray(np.sqrt(HOURS_PER_DAY * variance), dtype=np.float64)


def daily_close_volatility(close: npt.ArrayLike, *, days: int = 30) -> FloatArray:
    """Measure at every 1h close the standard deviation of daily log returns, as commonly published.

    Sample standard deviation (ddof = 1) of the ``days`` log returns between the closes at t, t - 24 h, t - 48
    h, ...

    ``close`` has shape (n,), oldest first; the result too, as a ratio per day. It is NaN until ``days`` daily
    returns exist, and wherever one of the closes it uses is not finite and positive. Raises ValueError for
    ``days`` under 2.
    """
    if days < 2:
        raise ValueError(f"`days` is {days}, must be at least 2")
    price = _usable(_column("close", close))
    result = np.full(price.size, np.nan)
    start = days * HOURS_PER_DAY
    if price.size <= start:
        return result
    logs = np.log(price)
    daily = logs[HOURS_PER_DAY:] - logs[:-HOURS_PER_DAY]
    count = price.size - start
    lags = range(0, start, HOURS_PER_DAY)
    # Each sum starts from nothing: no window inherits rounding from what has left it.
    mean = np.zeros(count)
    for lag in lags:
        mean += daily[lag : lag + count]
    mean /= days
    spread, square = np.zeros(count), np.empty(count)
    for lag in lags:
        np.subtract(daily[lag : lag + count], mean, out=square)
        np.multiply(square, square, out=square)
        spread += square
    result[start:] = np.sqrt(spread / (days - 1))
    return result


def normal_daily_range(
    high: npt.ArrayLike, low: npt.ArrayLike, close: npt.ArrayLike, *, days: int = 30
) -> FloatArray:
    """Average at every 1h close the price range of 24 hours over the last days.

    The 24-hour range at t is (highest high - lowest low of the last 24 candles) / close; the result is its
    mean over the last ``days`` x 24 hours.

    The arguments have shape (n,), oldest first; the result too, as a ratio of price. It is NaN before 72
    ranges exist (24 if ``days`` is 1, 48 if 2). A candle with a price that is not finite and positive, or its
    low above its high, makes the ranges over it unknown, and the mean NaN as long as one of them is in the
    window. NaN before the first candle is a pair not yet listed. Raises ValueError for ``days`` under 1 or
    arguments of different length.
    """
    if days < 1:
        raise ValueError(f"`days` is {days}, must be at least 1")
    raw = [_column("high", high), _column("low", low), _column("close", close)]
    if len({column.size for column in raw}) != 1:
        raise ValueError(
            f"`high`, `low`, `close` have lengths {[column.size for column in raw]}, must be equal"
        )
    top, bottom, last = (_usable(column) for column in raw)
    good = (top >= bottom) & (last > 0.0)
    highest = _over_a_day(np.where(good, top, np.nan), np.maximum)
    lowest = _over_a_day(np.where(good, bottom, np.nan), np.minimum)
    ranges = (highest - lowest) / last
    window = days * HOURS_PER_DAY
    start = min(_listed(column) for column in raw) + HOURS_PER_DAY - 1
    return _rolling_mean(ranges, start=start, window=window, least=min(LEAST_RANGES, window))


def _column(name: str, values: npt.ArrayLike) -> FloatArray:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError(f"`{name}` has {column.ndim} dimensions, must have 1")
    return column


def _usable(prices: FloatArray) -> FloatArray:
    return np.where(np.isfinite(prices) & (prices > 0.0), prices, np.nan)


def _listed(prices: FloatArray) -> int:
    present = ~np.isnan(prices)
    return int(present.argmax()) if present.any() else prices.size


def _over_a_day(values: FloatArray, pick: Callable[[FloatArray, FloatArray], FloatArray]) -> FloatArray:
    extreme = values
    for lag in (1, 2, 4, 8, 8):  # spans 2, 4, 8, 16, 24 hours
        extreme = pick(extreme[lag:], extreme[:-lag])
    return np.concatenate([np.full(values.size - extreme.size, np.nan), extreme])


def _rolling_mean(values: FloatArray, *, start: int, window: int, least: int) -> FloatArray:
    # From `start` on every value is due: one that is missing is a hole, and no mean is taken over a hole.
    mean = pd.Series(values).rolling(window, min_periods=least).mean().to_numpy(dtype=np.float64)
    holes = np.isnan(values)
    holes[:start] = False
    seen = np.cumsum(holes)
    seen[window:] -= seen[:-window].copy()
    return np.where(seen > 0, np.nan, mean)
