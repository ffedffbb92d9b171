"""Where candles and funding come from: the data provider when trading, the files of the data directory when not.

Offline the files are read directly: the data provider cuts informative candles at the last date it served, and it loads as many
1h candles before the start as the strategy asks for of its own timeframe, too few for a 4h strategy and too many for a 5m one.
"""

from __future__ import annotations

from typing import Any

from freqtrade.configuration import TimeRange
from freqtrade.data.history import load_pair_history
from freqtrade.enums import CandleType
from freqtrade.strategy import IStrategy
from pandas import DataFrame

from plimsoll.host import internals
from plimsoll.host.candles import REQUIRED_HOURS

FUNDING_HOURS = 8 * 24


def hourly_frame(strategy: IStrategy, pair: str) -> DataFrame:
    """Return the pair's 1h candles; empty where there are none."""
    candle_type = CandleType.from_string(strategy.config["candle_type_def"])
    return _frame(strategy, pair, "1h", candle_type, REQUIRED_HOURS)


def funding_frame(strategy: IStrategy, pair: str) -> DataFrame:
    """Return the pair's funding rates (in ``open``); empty where there are none."""
    return _frame(strategy, pair, funding_timeframe(strategy), CandleType.FUNDING_RATE, FUNDING_HOURS)


def funding_timeframe(strategy: IStrategy) -> str:
    """Return the timeframe that Freqtrade names funding files by."""
    exchange = internals.exchange_of(strategy)
    return str(exchange.get_option("funding_fee_timeframe")) if exchange is not None else "1h"


def _frame(
    strategy: IStrategy, pair: str, timeframe: str, candle_type: CandleType, startup: int
) -> DataFrame:
    config: Any = strategy.config
    if internals.is_live_or_dry(config):
        return strategy.dp.get_pair_dataframe(pair, timeframe, candle_type)
    return load_pair_history(
        pair=pair,
        timeframe=timeframe,
        datadir=config["datadir"],
        timerange=TimeRange.parse_timerange(config.get("timerange")),
        startup_candles=startup,
        data_format=config["dataformat_ohlcv"],
        candle_type=candle_type,
        fill_up_missing=candle_type != CandleType.FUNDING_RATE,
    )
