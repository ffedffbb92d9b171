"""Strategies for the runs on real candles; written into the user directory of the test."""

EMA_CROSS = '''
import talib.abstract as ta
from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class EmaCross5x(IStrategy):
    timeframe = "1h"
    can_short = True
    stoploss = -0.99
    minimal_roi = {"0": 100}
    startup_candle_count = 100

    def populate_indicators(self, dataframe, metadata):
        dataframe["fast"] = ta.EMA(dataframe, 12)
        dataframe["slow"] = ta.EMA(dataframe, 48)
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        up = dataframe["fast"] > dataframe["slow"]
        dataframe.loc[up, "enter_long"] = 1
        dataframe.loc[~up, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        up = dataframe["fast"] > dataframe["slow"]
        dataframe.loc[~up, "exit_long"] = 1
        dataframe.loc[up, "exit_short"] = 1
        return dataframe

    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return 5.0


class GuardedEmaCross(Guarded, EmaCross5x):
    pass


class Fixed(EmaCross5x):
    """The stop closes a trade, or time does; leverage is fixed."""

    minimal_roi = {"2880": -1}
    fixed = 1.0

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe

    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return self.fixed


EXACT = {
    "off": ["streak", "drawdown", "loss_limit", "decay"],
    "risk": {"slippage": 0.0},
    "volatility": {"high": 0.99, "mid": 0.98, "high_leverage": 5.0, "mid_leverage": 5.0},
    "leverage": {"min_liquidation_distance": 0.0, "daily_ranges_to_liquidation": 0.0},
    "kelly": {"cold_start_risk": 0.01, "floor_risk": 0.01},
    "exposure": {"total_margin": 1.0},
}


class Fixed1(Guarded, Fixed):
    fixed = 1.0
    plimsoll = EXACT


class Fixed2(Guarded, Fixed):
    fixed = 2.0
    plimsoll = EXACT


class Fixed3(Guarded, Fixed):
    fixed = 3.0
    plimsoll = EXACT


class Fixed5(Guarded, Fixed):
    fixed = 5.0
    plimsoll = EXACT
'''
