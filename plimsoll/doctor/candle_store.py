"""The data directory as Freqtrade reads it: which files there are, by its own names, and what they hold."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pandas import DataFrame


class CandleStore:
    """Read the candles of a data directory, each file once.

    ``datadir`` is the exchange's directory, such as ``user_data/data/binance``.
    """

    def __init__(self, datadir: Path, data_format: str, trading_mode: Any) -> None:
        from freqtrade.data.history import get_datahandler
        from freqtrade.enums import CandleType

        self.datadir = datadir
        self._trading_mode = trading_mode
        self._handler: Any = get_datahandler(datadir, data_format)
        self._types = CandleType
        self._frames: dict[tuple[str, str, str], DataFrame] = {}

    @cached_property
    def files(self) -> set[tuple[str, str, str]]:
        """Return pair, timeframe and kind (``futures``, ``mark``, ``funding_rate``, ``spot``) of every file."""
        found = self._handler.ohlcv_get_available_data(self.datadir, self._trading_mode)
        return {(pair, timeframe, str(kind.value) or "spot") for pair, timeframe, kind in found}

    @cached_property
    def pairs(self) -> list[str]:
        """Return the pairs with candles of their own."""
        return sorted({pair for pair, _, kind in self.files if kind in ("futures", "spot")})

    def timeframes(self, pair: str, kind: str) -> set[str]:
        """Return the timeframes there are files of."""
        return {timeframe for found, timeframe, of in self.files if found == pair and of == kind}

    def frame(self, pair: str, timeframe: str, kind: str) -> DataFrame:
        """Return what a file holds, nothing filled in; empty where there is none."""
        key = (pair, timeframe, kind)
        if key not in self._frames:
            frame = DataFrame()
            if key in self.files:
                frame = self._handler.ohlcv_load(
                    pair,
                    timeframe,
                    self._types.from_string(kind),
                    fill_missing=False,
                    drop_incomplete=False,
                    warn_no_data=False,
                )
            self._frames[key] = frame
        return self._frames[key]
