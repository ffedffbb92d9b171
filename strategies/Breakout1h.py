"""Trade breakouts from quiet ranges on 1h candles, long and short."""

from typing import Any, ClassVar

import talib.abstract as ta
from freqtrade.strategy import IntParameter
from pandas import DataFrame

from plimsoll import Guarded


class Breakout1h(Guarded):
    """Enter when a candle closes outside the Donchian channel while volatility expands.

    The exit trails: a long ends when a candle closes under the lowest low of the `exit_hours` before it,
    which follows the price up. Until then Plimsoll's stop stands. A starting point: nothing was optimised.
    """

    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = True
    startup_candle_count = 200
    minimal_roi: ClassVar = {}
    stoploss = -0.25

    entry_hours = IntParameter(36, 60, default=48, space="buy")
    exit_hours = IntParameter(12, 24, default=18, space="sell")

    # Any limit may be set here as well; the config can only tighten it unless it names the key in `override`.
    plimsoll: ClassVar = {"exposure": {"max_long": 3, "max_short": 3}}

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        # Shifted: the candle that breaks out is not part of the channel it breaks.
        before = dataframe[["high", "low"]].shift(1)
        for hours in {*self.entry_hours.range, *self.exit_hours.range}:
            dataframe[f"upper_{hours}"] = before["high"].rolling(hours).max()
            dataframe[f"lower_{hours}"] = before["low"].rolling(hours).min()
        dataframe["expansion"] = ta.ATR(dataframe, timeperiod=6) / ta.ATR(dataframe, timeperiod=72)
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        close, hours = dataframe["close"], self.entry_hours.value
        expanding = (dataframe["expansion"] > 1.0) & (dataframe["volume"] > 0)
        dataframe.loc[expanding & (close > dataframe[f"upper_{hours}"]), "enter_long"] = 1
        dataframe.loc[expanding & (close < dataframe[f"lower_{hours}"]), "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        close, hours = dataframe["close"], self.exit_hours.value
        dataframe.loc[close < dataframe[f"lower_{hours}"], "exit_long"] = 1
        dataframe.loc[close > dataframe[f"upper_{hours}"], "exit_short"] = 1
        return dataframe
