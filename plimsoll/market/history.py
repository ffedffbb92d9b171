"""Sources of market data for the loopback exchange; none tells anything later than the asked moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

Kind = Literal["trade", "mark"]
_Rows = tuple[np.ndarray, np.ndarray]  # times in milliseconds, values

# Binance's intervals in milliseconds. A week starts on Monday, the epoch was a Thursday; a month has no
# length: neither can be put together from shorter candles by division, so both are left out.
INTERVALS_MS: dict[str, int] = {
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
}
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(5)


class Candle(NamedTuple):
    """One candle: the time it opened at in milliseconds, its prices, and its volume in base currency."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


class Funding(NamedTuple):
    """One funding payment: its time in milliseconds and its rate on notional, positive when longs pay."""

    time_ms: int
    rate: float


class Window(NamedTuple):
    """Say which rows are asked for: within ``start_ms`` and ``end_ms``, and none later than ``now_ms``.

    All times are milliseconds since the epoch. With ``start_ms`` the first ``limit`` rows from there are meant,
    without it the last ``limit`` rows, as at Binance.
    """

    now_ms: int
    start_ms: int | None = None
    end_ms: int | None = None
    limit: int = 500

    @property
    def last_ms(self) -> int:
        """Return the last moment that may be told of."""
        return self.now_ms if self.end_ms is None else min(self.now_ms, self.end_ms)


class CandleSource(Protocol):
    """Tell a market's past, up to and including ``now_ms`` and never beyond.

    The moment is an argument, so that a source holds no clock and the exchange that asks it has the only one.
    Pairs are Freqtrade's names. Rows come in ascending order.
    """

    def candles(self, pair: str, interval: str, window: Window, *, kind: Kind = "trade") -> list[Candle]:
        """Return candles that opened within the window.

        The candle in progress is the last one and holds only what had happened by ``now_ms``.
        """
        ...

    def funding(self, pair: str, window: Window) -> list[Funding]:
        """Return funding payments made within the window."""
        ...

    def mark_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return the mark price, or None where nothing is known yet."""
        ...

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return the price of the last trade, or None where nothing is known yet."""
        ...


class NoHistory:
    """Know nothing: enough for every command that brings its own data, such as backtesting."""

    def candles(self, pair: str, interval: str, window: Window, *, kind: Kind = "trade") -> list[Candle]:
        """Return no candles."""
        return []

    def funding(self, pair: str, window: Window) -> list[Funding]:
        """Return no funding."""
        return []

    def mark_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return None."""
        return None

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return None."""
        return None


class FileHistory:
    """Tell the past from a Freqtrade data directory.

    Files are read through Freqtrade's own data handler, each once and on first use. An interval without a
    file is put together from the longest shorter one that divides it. ``datadir`` is the directory that holds
    ``futures/`` (and the spot files), such as ``user_data/data/binance``.
    """

    def __init__(self, datadir: Path | str, *, data_format: str = "feather") -> None:
        self.datadir = Path(datadir)
        if not self.datadir.is_dir():
            raise ValueError(f"`datadir` must be a directory, was {str(self.datadir)!r}")
        self._data_format = data_format
        self._files: dict[tuple[str, str, Kind], _Rows] = {}
        self._combined: dict[tuple[str, str, Kind], _Rows] = {}
        self._rates: dict[str, _Rows] = {}

    def candles(self, pair: str, interval: str, window: Window, *, kind: Kind = "trade") -> list[Candle]:
        """Return candles that opened within the window, the last as far as it had come."""
        times, values = self._series(pair, interval, kind)
        rows = _rows(times, window)
        found = [Candle(int(times[i]), *map(float, values[i])) for i in range(rows.start, rows.stop)]
        if found and found[-1].open_ms + INTERVALS_MS[interval] > window.now_ms:
            found[-1] = self._in_progress(found[-1], pair, kind, window.now_ms)
        return found

    def funding(self, pair: str, window: Window) -> list[Funding]:
        """Return funding payments made within the window."""
        times, rates = self._funding_rows(pair)
        rows = _rows(times, window)
        return [Funding(int(times[i]), float(rates[i])) for i in range(rows.start, rows.stop)]

    def mark_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return the opening mark price of the candle in progress, else the last price.

        Files of mark prices often hold only the hours of funding, hence the second choice.
        """
        for interval in self._intervals(pair, "mark"):
            times, values = self._series(pair, interval, "mark")
            row = int(np.searchsorted(times, now_ms, side="right")) - 1
            if row >= 0 and int(times[row]) + INTERVALS_MS[interval] > now_ms:
                return float(values[row, _OPEN])
        return self.last_price(pair, now_ms=now_ms)

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return the latest price known: the open of a candle in progress or the close of a finished one."""
        latest: tuple[int, float] | None = None
        for interval in self._intervals(pair, "trade"):
            times, values = self._series(pair, interval, "trade")
            row = int(np.searchsorted(times, now_ms, side="right")) - 1
            if row < 0:
                continue
            open_ms, length = int(times[row]), INTERVALS_MS[interval]
            closed = open_ms + length <= now_ms
            seen = (open_ms + length, _CLOSE) if closed else (open_ms, _OPEN)
            if latest is None or seen[0] > latest[0]:
                latest = (seen[0], float(values[row, seen[1]]))
        return None if latest is None else latest[1]

    def stored(self, pair: str, interval: str, kind: Kind = "trade") -> tuple[np.ndarray, np.ndarray]:
        """Return everything that the file of one interval holds: times, and a row of each candle's values.

        Empty without a file; nothing is put together, and the arrays are not to be changed.
        """
        return self._file(pair, interval, kind)

    def _in_progress(self, candle: Candle, pair: str, kind: Kind, now_ms: int) -> Candle:
        so_far = Candle(candle.open_ms, candle.open, candle.open, candle.open, candle.open, 0.0)
        for interval in self._intervals(pair, kind):
            times, values = self._series(pair, interval, kind)
            first = int(np.searchsorted(times, candle.open_ms))
            closed = int(np.searchsorted(times, now_ms - INTERVALS_MS[interval], side="right"))
            if closed <= first:
                continue
            parts = values[first:closed]
            high, low, close = parts[:, _HIGH].max(), parts[:, _LOW].min(), float(parts[-1, _CLOSE])
            if closed < len(times) and times[closed] <= now_ms:
                close = float(values[closed, _OPEN])
            return Candle(
                candle.open_ms,
                candle.open,
                max(candle.open, float(high), close),
                min(candle.open, float(low), close),
                close,
                float(parts[:, _VOLUME].sum()),
            )
        return so_far

    def _intervals(self, pair: str, kind: Kind) -> list[str]:
        return [each for each in INTERVALS_MS if len(self._file(pair, each, kind)[0])]

    def _series(self, pair: str, interval: str, kind: Kind) -> _Rows:
        rows = self._file(pair, interval, kind)
        if len(rows[0]):
            return rows
        key = (pair, interval, kind)
        if key not in self._combined:
            length = INTERVALS_MS[interval]
            shorter = [
                each
                for each in self._intervals(pair, kind)
                if INTERVALS_MS[each] < length and length % INTERVALS_MS[each] == 0
            ]
            self._combined[key] = _combine(*self._file(pair, shorter[-1], kind), length) if shorter else rows
        return self._combined[key]

    def _file(self, pair: str, interval: str, kind: Kind) -> _Rows:
        key = (pair, interval, kind)
        if key not in self._files:
            candle_type = "mark" if kind == "mark" else ("futures" if ":" in pair else "spot")
            frame = self._frame(pair, interval, candle_type)
            values = frame.reindex(columns=["open", "high", "low", "close", "volume"]).to_numpy(dtype=float)
            self._files[key] = (_milliseconds(frame), values)
        return self._files[key]

    def _funding_rows(self, pair: str) -> _Rows:
        if pair not in self._rates:
            # Older downloads are named after the eight hours between payments.
            frames = (self._frame(pair, interval, "funding_rate") for interval in ("1h", "8h"))
            frame = next((each for each in frames if not each.empty), None)
            if frame is None:
                self._rates[pair] = (np.empty(0, dtype=np.int64), np.empty(0))
            else:
                column = "funding_rate" if "funding_rate" in frame.columns else "open"
                self._rates[pair] = (_milliseconds(frame), frame[column].to_numpy(dtype=float))
        return self._rates[pair]

    def _frame(self, pair: str, interval: str, candle_type: str) -> Any:
        # Imported late: Freqtrade takes seconds, and an exchange without files does not need it.
        from freqtrade.data.history.datahandlers import get_datahandler
        from freqtrade.enums import CandleType

        return get_datahandler(self.datadir, self._data_format).ohlcv_load(
            pair,
            interval,
            CandleType.from_string(candle_type),
            fill_missing=False,
            drop_incomplete=False,
            warn_no_data=False,
        )


def _rows(times: np.ndarray, window: Window) -> slice:
    stop = int(np.searchsorted(times, window.last_ms, side="right"))
    if window.start_ms is None:
        return slice(max(0, stop - window.limit), stop)
    start = int(np.searchsorted(times, window.start_ms, side="left"))
    return slice(start, max(start, min(stop, start + window.limit)))


def _combine(times: np.ndarray, values: np.ndarray, length: int) -> _Rows:
    starts = np.flatnonzero(np.diff(times // length, prepend=-1))
    ends = np.append(starts[1:], len(times)) - 1
    combined = np.column_stack(
        (
            values[starts, _OPEN],
            np.maximum.reduceat(values[:, _HIGH], starts),
            np.minimum.reduceat(values[:, _LOW], starts),
            values[ends, _CLOSE],
            np.add.reduceat(values[:, _VOLUME], starts),
        )
    )
    return times[starts] // length * length, combined


def _milliseconds(frame: Any) -> np.ndarray:
    if frame.empty:
        return np.empty(0, dtype=np.int64)
    moments = frame["date"].dt.tz_localize(None).to_numpy(dtype="datetime64[ms]")
    return np.asarray(moments.astype(np.int64))
