"""Trade the way back from extremes on 5m candles, long and short."""

from typing import Any, ClassVar

import talib.abstract as ta
from freqtrade.strategy import DecimalParameter, IntParameter
from pandas import DataFrame

from plimsoll import Guarded


class MeanReversion5m(Guarded):
    """Enter when the price comes back inside its Bollinger bands after an extreme, leave at the middle band.

    Plimsoll takes volatility and the stop from 1h candles, which it loads itself: download 5m and 1h. Its
    stop is wide for a 5m strategy, so positions are small; a trade that goes nowhere is closed after eight
    hours. A starting point: nothing was optimised.
    """

    INTERFACE_VERSION = 3
    timeframe = "5m"
    can_short = True
    startup_candle_count = 200
    # Freqtrade's way to say: after 480 minutes close at any profit.
    minimal_roi: ClassVar = {"0": 100, "480": -1}
    stoploss = -0.25

    oversold = IntParameter(15, 35, default=30, space="buy")
    width = DecimalParameter(1.5, 3.0, default=2.0, decimals=1, space="buy")

    # Tighter than the defaults: trades are many, and losing ones cluster while a trend runs against them.
    plimsoll: ClassVar = {"risk": {"per_trade": 0.005}, "streak": {"cooldown_minutes": 240.0}}

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        dataframe["rsi"] = ta.RSI(dataframe, timeperiod=14)
        dataframe["middle"] = dataframe["close"].rolling(48).mean()
        dataframe["deviation"] = dataframe["close"].rolling(48).std()
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        score = (dataframe["close"] - dataframe["middle"]) / dataframe["deviation"]
        # RSI of the candle before: the one that lay outside the band.
        rsi, width = dataframe["rsi"].shift(1), float(self.width.value)
        traded = dataframe["volume"] > 0
        back_up = (score.shift(1) < -width) & (score > -width)
        back_down = (score.shift(1) > width) & (score < width)
        dataframe.loc[traded & back_up & (rsi < self.oversold.value), "enter_long"] = 1
        dataframe.loc[traded & back_down & (rsi > 100 - self.oversold.value), "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        dataframe.loc[dataframe["close"] > dataframe["middle"], "exit_long"] = 1
        dataframe.loc[dataframe["close"] < dataframe["middle"], "exit_short"] = 1
        return dataframe
