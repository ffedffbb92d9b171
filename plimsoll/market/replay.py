"""A candle history as a market that unfolds now: one price path, and everything told agrees with it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from plimsoll.market.history import INTERVALS_MS, Candle, CandleSource, FileHistory, Funding, Kind, Window

HOUR_MS: Final = 3_600_000
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(5)
_FAR_MS: Final = 2**60
_MOST_DECIMALS: Final = 10

_Times = npt.NDArray[np.int64]
_Values = npt.NDArray[np.float64]


def hours_to_shift(moment: datetime, now_ms: int) -> int:
    """Return the whole hours by which history has to move so that the hour from ``moment`` on happens now.

    Minutes and seconds stay those of the real clock: what happens at ``now_ms`` happened less than an hour
    after ``moment``, or exactly then where the two lie whole hours apart.
    """
    if moment.tzinfo is None:
        raise ValueError(f"`moment` must have a time zone, was {moment.isoformat()}")
    return (now_ms - round(moment.timestamp() * 1000)) // HOUR_MS


class Replay:
    """Unfold the candles of another source, moved by whole hours; a `CandleSource` itself.

    The price follows one path, made of the shortest candles known at each time: from the open to the first
    extreme in the first third of the candle, to the second in the second third, then to the close; a rising
    candle has its low first, a falling one its high. Last price, candles in progress and finished candles are
    all read from it. Other intervals are put together from these candles after the shift, so that 4h and 1d
    candles begin where the clock says.

    The mark price is the last price times the basis at which its candle opened, within that candle's range;
    finished mark candles are the source's, and hours without one have the last price.

    Where the shorter candles have a gap, longer ones hold what the shorter ones do, as the path knows no more.

    Nothing beyond ``now_ms`` is told; the path within a candle in progress is of course drawn from the whole
    candle, so nothing about an edge within a candle can be learned here.

    Parameters
    ----------
    source : where the candles come from; it is read once for each pair, on first use
    shift_hours : added to its times, whole hours; candles longer than an hour that no longer begin on their
        own boundaries are left out

    """

    def __init__(self, source: CandleSource, *, shift_hours: int = 0) -> None:
        if int(shift_hours) != shift_hours:
            raise ValueError(f"`shift_hours` must be a whole number of hours, was {shift_hours!r}")
        self._source = source
        self.shift_ms = int(shift_hours) * HOUR_MS
        self._trade: dict[str, _Path] = {}
        self._mark: dict[str, _MarkPath] = {}
        self._rates: dict[str, list[Funding]] = {}

    def span_ms(self, pairs: Iterable[str]) -> tuple[int, int] | None:
        """Return when the first of the pairs begins and the last ends, shifted; None where none is known."""
        paths = [path for path in map(self._trade_path, pairs) if len(path.starts)]
        if not paths:
            return None
        return min(int(path.starts[0]) for path in paths), max(int(path.ends[-1]) for path in paths)

    def candles(self, pair: str, interval: str, window: Window, *, kind: Kind = "trade") -> list[Candle]:
        """Return candles that opened within the window, the last as far as it had come."""
        path = self._mark_path(pair) if kind == "mark" else self._trade_path(pair)
        return path.candles(INTERVALS_MS[interval], window)

    def funding(self, pair: str, window: Window) -> list[Funding]:
        """Return funding payments made within the window."""
        paid = self._payments(pair)
        stop = bisect_right(paid, window.last_ms, key=_time)
        if window.start_ms is None:
            return paid[max(0, stop - window.limit) : stop]
        return paid[bisect_left(paid, window.start_ms, key=_time) : stop][: window.limit]

    def mark_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return the mark price, or None before the first candle."""
        return self._mark_path(pair).at(now_ms)

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return the price of the path at this moment, or None before the first candle."""
        return self._trade_path(pair).at(now_ms)

    def _trade_path(self, pair: str) -> _Path:
        if pair not in self._trade:
            self._trade[pair] = _Path(*self._pieces(pair, "trade", None))
        return self._trade[pair]

    def _mark_path(self, pair: str) -> _MarkPath:
        if pair not in self._mark:
            trade = self._trade_path(pair)
            self._mark[pair] = _MarkPath(*self._pieces(pair, "mark", trade), trade)
        return self._mark[pair]

    def _pieces(self, pair: str, kind: Kind, otherwise: _Path | None) -> tuple[_Times, _Times, _Values]:
        # The shortest candles first; longer ones only where nothing shorter is known.
        starts, lengths = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        values = np.empty((0, 5))
        layers = ((length, self._whole(pair, each, kind)) for each, length in INTERVALS_MS.items())
        hours = [] if otherwise is None else [(HOUR_MS, otherwise.whole(HOUR_MS))]
        for length, (times, rows) in [*layers, *hours]:
            aligned = times % length == 0
            times, rows = times[aligned], rows[aligned]
            before = np.searchsorted(starts, times, side="left")
            free = np.searchsorted(starts, times + length, side="left") == before
            if len(starts):
                previous = np.maximum(before - 1, 0)
                free &= (before == 0) | (starts[previous] + lengths[previous] <= times)
            order = np.argsort(np.concatenate((starts, times[free])), kind="stable")
            starts = np.concatenate((starts, times[free]))[order]
            lengths = np.concatenate((lengths, np.full(int(free.sum()), length, dtype=np.int64)))[order]
            values = np.concatenate((values, rows[free]))[order]
        return starts, lengths, values

    def _whole(self, pair: str, interval: str, kind: Kind) -> tuple[_Times, _Values]:
        if isinstance(self._source, FileHistory):
            times, values = self._source.stored(pair, interval, kind)
        else:
            rows = self._source.candles(pair, interval, Window(_FAR_MS, limit=_FAR_MS), kind=kind)
            times = np.array([row.open_ms for row in rows], dtype=np.int64)
            values = np.array([row[1:] for row in rows], dtype=float).reshape(-1, 5)
        usable = np.isfinite(values).all(axis=1)
        return times[usable] + self.shift_ms, values[usable]

    def _payments(self, pair: str) -> list[Funding]:
        if pair not in self._rates:
            paid = self._source.funding(pair, Window(_FAR_MS, limit=_FAR_MS))
            self._rates[pair] = [Funding(each.time_ms + self.shift_ms, each.rate) for each in paid]
        return self._rates[pair]


class _Path:
    # A price at every time, from candles that do not overlap.
    def __init__(self, starts: _Times, lengths: _Times, values: _Values) -> None:
        self.starts, self.lengths, self.values = starts, lengths, values
        self.ends = starts + lengths
        self._decimals = _decimals(values[:, :4])
        self._whole: dict[int, tuple[_Times, _Values, _Times]] = {}

    def row(self, now_ms: int) -> int:
        return int(np.searchsorted(self.starts, now_ms, side="right")) - 1

    def at(self, now_ms: int) -> float | None:
        row = self.row(now_ms)
        return None if row < 0 else self._so_far(row, now_ms)[_CLOSE]

    def whole(self, length: int) -> tuple[_Times, _Values]:
        times, values, _ = self._combined(length)
        return times, values

    def candles(self, length: int, window: Window) -> list[Candle]:
        now_ms, start_ms, end_ms, limit = window
        times, values, first = self._combined(length)
        # After a gap a candle begins later than its time says, and is not there before it does.
        begun = int(np.searchsorted(self.starts[first], now_ms, side="right"))
        stop = begun if end_ms is None else min(begun, int(np.searchsorted(times, end_ms, side="right")))
        if start_ms is None:
            start = max(0, stop - limit)
        else:
            start = int(np.searchsorted(times, start_ms, side="left"))
            stop = max(start, min(stop, start + limit))
        rows = zip(times[start:stop].tolist(), values[start:stop].tolist(), strict=True)
        found = [Candle(opened_ms, *row) for opened_ms, row in rows]
        if found and found[-1].open_ms + length > now_ms:
            found[-1] = Candle(found[-1].open_ms, *self._between(int(first[stop - 1]), now_ms))
        return found

    def _between(self, first: int, now_ms: int) -> tuple[float, float, float, float, float]:
        last = self.row(now_ms)
        opened, high, low, close, volume = self._so_far(last, now_ms)
        if last > first:
            before = self.values[first:last]
            opened = float(before[0, _OPEN])
            high, low = max(high, float(before[:, _HIGH].max())), min(low, float(before[:, _LOW].min()))
            volume += float(before[:, _VOLUME].sum())
        return opened, high, low, close, volume

    def _so_far(self, row: int, now_ms: int) -> tuple[float, float, float, float, float]:
        opened, high, low, close, volume = map(float, self.values[row])
        length = int(self.lengths[row])
        passed = 3 * (now_ms - int(self.starts[row]))
        if passed >= 3 * length:
            return opened, high, low, close, volume
        points = (opened, low, high, close) if close >= opened else (opened, high, low, close)
        leg, within = divmod(passed, length)
        price = points[leg] + (points[leg + 1] - points[leg]) * within / length
        if self._decimals is not None:
            price = round(price, self._decimals)
        seen = (*points[: leg + 1], price)
        return opened, max(seen), min(seen), price, volume * passed / (3 * length)

    def _combined(self, length: int) -> tuple[_Times, _Values, _Times]:
        if length not in self._whole:
            usable = np.flatnonzero(length % self.lengths == 0)
            grid = self.starts[usable] // length * length
            heads = np.flatnonzero(np.diff(grid, prepend=-1))
            tails = np.append(heads[1:], len(grid)) - 1
            part = self.values[usable]
            columns = np.empty((len(heads), 5))
            if len(heads):
                columns[:, _OPEN] = part[heads, _OPEN]
                columns[:, _HIGH] = np.maximum.reduceat(part[:, _HIGH], heads)
                columns[:, _LOW] = np.minimum.reduceat(part[:, _LOW], heads)
                columns[:, _CLOSE] = part[tails, _CLOSE]
                columns[:, _VOLUME] = np.add.reduceat(part[:, _VOLUME], heads)
            self._whole[length] = grid[heads], columns, usable[heads]
        return self._whole[length]


class _MarkPath(_Path):
    # Mark candles are mostly hourly: a path of their own would lead nowhere near the trades within the hour.
    def __init__(self, starts: _Times, lengths: _Times, values: _Values, trade: _Path) -> None:
        super().__init__(starts, lengths, values)
        self._trade = trade

    def at(self, now_ms: int) -> float | None:
        row = self.row(now_ms)
        if row < 0 or now_ms >= int(self.ends[row]):
            return self._trade.at(now_ms)
        return super().at(now_ms)

    def _so_far(self, row: int, now_ms: int) -> tuple[float, float, float, float, float]:
        opened, high, low, close, volume = map(float, self.values[row])
        start = int(self.starts[row])
        if now_ms >= int(self.ends[row]):
            return opened, high, low, close, volume
        before, first = self._trade.at(start), self._trade.row(start)
        if before is None or (self._trade.starts[first] < start < self._trade.ends[first]):
            return super()._so_far(row, now_ms)
        if self._trade.starts[first] < start:
            first = min(first + 1, self._trade.row(now_ms))
        _, traded_high, traded_low, last, _ = self._trade._between(first, now_ms)

        def marked(price: float) -> float:
            value = price * opened / before
            return min(high, max(low, value if self._decimals is None else round(value, self._decimals)))

        seen_high, seen_low = marked(traded_high), marked(traded_low)
        return opened, max(opened, seen_high), min(opened, seen_low), marked(last), 0.0


def _time(paid: Funding) -> int:
    return paid.time_ms


def _decimals(prices: _Values) -> int | None:
    # The step in which the prices come, so that the path has no finer ones than the market had.
    for decimals in range(_MOST_DECIMALS + 1):
        scaled = prices * 10.0**decimals
        if (np.abs(scaled - np.round(scaled)) <= 1e-14 * scaled).all():
            return decimals
    return None
