"""Candles made by hand: calm hours, and whatever a test puts among them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
PRICE = 100.0


class Market:
    """Hourly candles of several pairs around one price, each with a range of 1 %, closing where it opened."""

    def __init__(self, pairs: Sequence[str], hours: int) -> None:
        dates = pd.date_range(START, periods=hours, freq="1h", unit="ms", name="date", tz="UTC")
        self.frames = {
            pair: pd.DataFrame(
                {
                    "date": dates,
                    "open": PRICE,
                    "high": PRICE * 1.005,
                    "low": PRICE * 0.995,
                    # Not quite flat, or volatility would be 0 and so unknown.
                    "close": [PRICE * (1.002 if hour % 2 else 0.998) for hour in range(hours)],
                    "volume": 1000.0,
                }
            )
            for pair in pairs
        }

    def move(self, pair: str, hour: int, to: float, *, gap: bool = False) -> None:
        """Move the price for good: within the candle of an hour, or by a gap before it."""
        frame, factor = self.frames[pair], to / PRICE
        prices = ["open", "high", "low", "close"]
        frame.loc[frame.index >= hour, prices] *= factor
        if not gap:
            frame.loc[hour, "open"] /= factor
            frame.loc[hour, "high"] = max(frame.loc[hour, "open"], frame.loc[hour, "high"])
            frame.loc[hour, "low"] = min(frame.loc[hour, "open"], frame.loc[hour, "low"])

    def write(self, datadir: Path) -> None:
        """Write the candles, mark prices equal to them, and funding of 0."""
        datadir.mkdir(parents=True, exist_ok=True)
        handler = get_datahandler(datadir, "feather")
        for pair, frame in self.frames.items():
            handler.ohlcv_store(pair, "1h", frame, CandleType.FUTURES)
            handler.ohlcv_store(pair, "1h", frame.assign(volume=0.0), CandleType.MARK)
            settled = frame[frame["date"].dt.hour % 8 == 0]
            columns = dict.fromkeys(["open", "high", "low", "close", "volume", "funding_rate"], 0.0)
            handler.ohlcv_store(pair, "1h", settled.assign(**columns), CandleType.FUNDING_RATE)


def at(hour: int) -> pd.Timestamp:
    return pd.Timestamp(START + hour * HOUR)
