"""Correlation of pairs from closed 1h candles, by the hour: prepared once, looked up in the callbacks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from plimsoll.host import internals
from plimsoll.host.candles import HOUR, FloatArray, IntArray
from plimsoll.rules.correlation import ewma_correlation
from plimsoll.settings import Settings

MIN_HOURS = 168


class Correlations:
    """Answer for the correlation of 1h log returns as of a moment; NaN where two pairs have too few hours in common.

    Offline each two pairs that meet get a series over the whole history, on first use; a trading bot gets one matrix an hour.
    Both are :func:`plimsoll.rules.correlation.ewma_correlation`.
    """

    def __init__(self, settings: Settings) -> None:
        self._half_life = settings.correlation.half_life_hours
        self._window = settings.correlation.window_hours
        self._returns: dict[str, tuple[int, FloatArray]] = {}  # pair -> first hour, a return per hour
        self._series: dict[tuple[str, str], tuple[int, FloatArray]] = {}
        self._squares: dict[
            str, tuple[int, FloatArray]
        ] = {}  # of a pair without gaps: first hour, weighted sums
        self._matrix: tuple[int, dict[str, int], FloatArray] | None = None
        # Offline: hour, place of each pair that was held in it, their correlations. New candles and another hour end it.
        self._held: tuple[int, dict[str, int], FloatArray] | None = None

    def add(self, pair: str, times: IntArray, close: FloatArray) -> None:
        """Take a pair's 1h candles: opening times in epoch seconds, ascending, and closes."""
        self._matrix = self._held = None
        if any(pair in key for key in self._series):
            self._series = {key: series for key, series in self._series.items() if pair not in key}
        self._squares.pop(pair, None)
        if len(times) < 2:
            self._returns.pop(pair, None)
            return
        hours = times // HOUR
        dense = np.full(int(hours[-1] - hours[0]) + 1, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            dense[hours - hours[0]] = np.log(close)
            self._returns[pair] = int(hours[0]) + 1, np.diff(dense)

    def between(self, new: str, held: Sequence[str], now: int) -> tuple[FloatArray, FloatArray]:
        """Return the correlations of a pair with those held, shape (k,), and of those held with each other, shape (k, k)."""
        if not internals.is_offline():
            return self._from_matrix(new, held, now // HOUR - 1)
        hour = now // HOUR - 1  # of the last closed candle
        toward = np.array([self._of(new, one, hour) for one in held])
        places, rho = self._among(held, hour)
        rows = np.array([places[pair] for pair in held], dtype=np.intp)
        return toward, rho.take(rows, axis=0).take(rows, axis=1)

    def _among(self, held: Sequence[str], hour: int) -> tuple[dict[str, int], FloatArray]:
        # Plans of one candle meet the same positions again, nearly all of them.
        if self._held is None or self._held[0] != hour:
            self._held = hour, {}, np.ones((0, 0))
        _, places, rho = self._held
        pairs = list(places)
        for one in held:
            if one not in places:
                places[one] = len(places)
                pairs.append(one)
        known = len(rho)
        if len(pairs) > known:
            grown = np.ones((len(pairs), len(pairs)))
            grown[:known, :known] = rho
            for i in range(known, len(pairs)):
                row = [self._of(pairs[i], other, hour) for other in pairs[:i]]
                grown[i, :i] = grown[:i, i] = row
            rho = grown
            self._held = hour, places, rho
        return places, rho

    def _of(self, one: str, other: str, hour: int) -> float:
        if one == other:
            return 1.0
        key = (one, other) if one < other else (other, one)
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = self._whole_series(*key)
        first, series = found
        place = hour - first
        return series.item(place) if 0 <= place < len(series) else math.nan

    def _from_matrix(self, new: str, held: Sequence[str], hour: int) -> tuple[FloatArray, FloatArray]:
        if self._matrix is None or self._matrix[0] != hour:
            self._matrix = self._matrix_of(hour)
        _, places, rho = self._matrix
        unknown = len(places)  # the last row and column, of NaN
        rows = np.array([places.get(pair, unknown) for pair in held], dtype=np.int64)
        among = rho[np.ix_(rows, rows)]
        toward = rho[places.get(new, unknown), rows]
        for i, pair in enumerate(held):
            toward[i] = 1.0 if pair == new else toward[i]
        same = np.array(held)[:, None] == np.array(held)[None, :] if held else np.empty((0, 0), dtype=bool)
        return toward, np.where(same, 1.0, among)

    def _matrix_of(self, hour: int) -> tuple[int, dict[str, int], FloatArray]:
        pairs = list(self._returns)
        rho = np.full((len(pairs) + 1, len(pairs) + 1), np.nan)
        if pairs:
            rho[:-1, :-1] = ewma_correlation(
                np.column_stack([self._recent(pair, hour) for pair in pairs]),
                half_life_hours=self._half_life,
                window_hours=self._window,
                min_hours=MIN_HOURS,
            )
        return hour, {pair: place for place, pair in enumerate(pairs)}, rho

    def _recent(self, pair: str, hour: int) -> FloatArray:
        first, returns = self._returns[pair]
        window = np.full(self._window, np.nan)
        begin, end = hour - self._window + 1, hour + 1
        low, high = max(begin, first), min(end, first + len(returns))
        if low < high:
            window[low - begin : high - begin] = returns[low - first : high - first]
        return window

    def _whole_series(self, one: str, other: str) -> tuple[int, FloatArray]:
        if one not in self._returns or other not in self._returns:
            return 0, np.empty(0)
        (first, a), (second, b) = self._returns[one], self._returns[other]
        begin = max(first, second)
        length = min(first + len(a), second + len(b)) - begin
        if length <= 0:
            return 0, np.empty(0)
        a, b = a[begin - first :][:length], b[begin - second :][:length]
        known = np.isfinite(a) & np.isfinite(b)
        if known.all():
            # As nearly always; then a pair's own squares are the same beside every other pair.
            one_alone, other_alone = self._squares_of(one, a, begin), self._squares_of(other, b, begin)
        else:
            a, b = np.where(known, a, 0.0), np.where(known, b, 0.0)
            one_alone, other_alone = self._windowed(a * a), self._windowed(b * b)
        products = self._windowed(a * b)
        counts = np.cumsum(known, dtype=np.int64)
        counts[self._window :] -= counts[: -self._window].copy()
        usable = (counts >= MIN_HOURS) & (one_alone > 0.0) & (other_alone > 0.0)
        scale = np.sqrt(np.where(usable, one_alone, 1.0)) * np.sqrt(np.where(usable, other_alone, 1.0))
        return begin, np.where(usable, np.clip(products / scale, -1.0, 1.0), np.nan)

    def _squares_of(self, pair: str, returns: FloatArray, begin: int) -> FloatArray:
        found = self._squares.get(pair)
        if found is None or (found[0], len(found[1])) != (begin, len(returns)):
            found = self._squares[pair] = begin, self._windowed(returns * returns)
        return found[1]

    def _windowed(self, values: FloatArray) -> FloatArray:
        # The weighted sum over the last hours: of all hours, less what the hours before the window still weigh.
        decay = 0.5 ** (1.0 / self._half_life)
        inside = values.copy()
        inside[self._window :] -= decay**self._window * values[: -self._window]
        inside[0] *= 1.0 - decay  # pandas gives the first value the full weight
        summed: npt.NDArray[np.float64] = (
            pd.Series(inside).ewm(alpha=1.0 - decay, adjust=False).mean().to_numpy(dtype=np.float64)
        )
        return np.maximum(summed / (1.0 - decay), 0.0) if (values >= 0.0).all() else summed / (1.0 - decay)
