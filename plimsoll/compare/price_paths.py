"""Read the candles that a backtest ran on, and what they say of its trades."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, concat

from plimsoll.worst_prices import Candles, worst_price


def worst_prices(stats: Mapping[str, Any], datadir: Path, data_format: str) -> list[float | None]:
    """Return the worst price of each trade, in the order of the export; None where its candles are missing.

    Candles are the market's, of the detail timeframe where the backtest had one; prices that the strategy put into its own
    dataframe are not looked at.
    """
    trades = stats["trades"]
    found: list[float | None] = [None] * len(trades)
    for pair in dict.fromkeys(trade["pair"] for trade in trades):
        places = [place for place, trade in enumerate(trades) if trade["pair"] == pair]
        last = max(int(trades[place]["close_timestamp"]) for place in places)
        candles = _candles(stats, pair, last, datadir, data_format)
        for place in places:
            price = worst_price(trades[place], candles)
            found[place] = price if math.isfinite(price) else None
    return found


def _candles(stats: Mapping[str, Any], pair: str, last: int, datadir: Path, data_format: str) -> Candles:
    from freqtrade.configuration import TimeRange
    from freqtrade.data.history import load_pair_history
    from freqtrade.enums import CandleType
    from freqtrade.exchange import timeframe_to_seconds

    def load(timeframe: str) -> DataFrame:
        read = load_pair_history(
            pair=pair,
            timeframe=timeframe,
            datadir=datadir,
            timerange=TimeRange("date", "date", int(stats["backtest_start_ts"]) // 1000, last // 1000),
            data_format=data_format,
            candle_type=CandleType.get_default(str(stats["trading_mode"])),
        )
        times = read["date"].dt.as_unit("ms").astype("int64") if len(read) else []
        return DataFrame(read[["open", "high", "low"]]).assign(time=np.asarray(times, dtype=np.int64))

    frame = load(stats["timeframe"])
    if stats.get("timeframe_detail"):
        detail = load(stats["timeframe_detail"])
        # As Freqtrade has it: a candle without any finer one stands for itself.
        step = timeframe_to_seconds(stats["timeframe"]) * 1000
        begins, ends = (np.searchsorted(detail["time"], frame["time"] + by) for by in (0, step))
        frame = concat([frame[begins == ends], detail]).sort_values("time")
    return Candles(
        times=frame["time"].to_numpy(np.int64),
        opens=frame["open"].to_numpy(np.float64),
        highs=frame["high"].to_numpy(np.float64),
        lows=frame["low"].to_numpy(np.float64),
    )
