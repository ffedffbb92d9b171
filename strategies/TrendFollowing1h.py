"""Follow trends on 1h candles, long and short."""

from typing import Any, ClassVar

import talib.abstract as ta
from freqtrade.strategy import IntParameter
from pandas import DataFrame, Series

from plimsoll import Guarded


class TrendFollowing1h(Guarded):
    """Enter with the trend of two EMAs while ADX says that there is one, leave when the EMAs cross back.

    A starting point: the periods are round numbers, nothing was optimised. Size, leverage and stop (2 ATR)
    come from Plimsoll; `stoploss` is the outermost line, and the one that holds if the guard is taken away.
    """

    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = True
    startup_candle_count = 400
    minimal_roi: ClassVar = {}
    stoploss = -0.25

    fast = IntParameter(12, 36, default=24, space="buy")
    slow = IntParameter(80, 120, default=96, space="buy")
    min_adx = IntParameter(15, 35, default=25, space="buy")

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        for period in {*self.fast.range, *self.slow.range}:
            dataframe[f"ema_{period}"] = ta.EMA(dataframe, timeperiod=period)
        dataframe["adx"] = ta.ADX(dataframe, timeperiod=14)
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        fast, slow = self._averages(dataframe)
        trending = (dataframe["adx"] > self.min_adx.value) & (dataframe["volume"] > 0)
        dataframe.loc[trending & (fast > slow) & (dataframe["close"] > fast), "enter_long"] = 1
        dataframe.loc[trending & (fast < slow) & (dataframe["close"] < fast), "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        fast, slow = self._averages(dataframe)
        dataframe.loc[fast < slow, "exit_long"] = 1
        dataframe.loc[fast > slow, "exit_short"] = 1
        return dataframe

    def _averages(self, dataframe: DataFrame) -> tuple[Series, Series]:
        return dataframe[f"ema_{self.fast.value}"], dataframe[f"ema_{self.slow.value}"]
