"""Strategies that the benchmarks hand to Freqtrade: raw, and the same guarded.

``Few`` and ``Many`` ask for 1x and stop themselves nearer than any ATR stop, and the guarded ones are sized
far under every limit, so that raw and guarded make the same trades and differ only in what the guard costs.
``User`` is guarded as it comes.
"""

import talib.abstract as ta
from freqtrade.strategy import IStrategy

from plimsoll import Guarded

# Every rule runs, none refuses: sizes far under every limit, the strategy's own stop always the nearest.
IDENTICAL = {
    "stop": {"atr_multiple": 10.0},
    "risk": {"per_trade": 0.0002},
    "exposure": {"total_margin": 1.0, "heat": 0.5},
    "funding": {"max_share_of_risk": 10.0},
    "drawdown": {"limit": 0.99},
    "loss_limit": {"daily": 0.99, "weekly": 0.99},
    "streak": {"losses": 50, "cooldown_losses": 50},
}
QUIET = IDENTICAL | {"journal": {"enabled": False}}


class Few(IStrategy):
    """EMA 12/48 cross, both sides, nearly always in the market."""

    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = True
    stoploss = -0.03
    minimal_roi = {"0": 10.0}  # noqa: RUF012
    startup_candle_count = 745

    def populate_indicators(self, dataframe, metadata):
        dataframe["fast"] = ta.EMA(dataframe, timeperiod=12)
        dataframe["slow"] = ta.EMA(dataframe, timeperiod=48)
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        above = dataframe["fast"] > dataframe["slow"]
        dataframe.loc[above & ~above.shift(1, fill_value=True), "enter_long"] = 1
        dataframe.loc[~above & above.shift(1, fill_value=False), "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        above = dataframe["fast"] > dataframe["slow"]
        dataframe.loc[~above, "exit_long"] = 1
        dataframe.loc[above, "exit_short"] = 1
        return dataframe

    def leverage(
        self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs
    ):
        return 1.0


class Many(Few):
    """Enter whenever there is no position, out at 1 % either way: trades of a few hours."""

    stoploss = -0.01
    minimal_roi = {"0": 0.01}  # noqa: RUF012

    def populate_entry_trend(self, dataframe, metadata):
        above = dataframe["fast"] > dataframe["slow"]
        dataframe.loc[above, "enter_long"] = 1
        dataframe.loc[~above, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe


def _none(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
    return None


def _trail(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
    return -0.02 if current_profit > 0.01 else None


class FewNone(Few):
    use_custom_stoploss = True
    custom_stoploss = _none


class FewOwn(Few):
    use_custom_stoploss = True
    custom_stoploss = _trail


class FewGuarded(Guarded, Few):
    plimsoll = QUIET


class FewNoBreakers(Guarded, Few):
    plimsoll = QUIET | {"off": ["loss_limit", "drawdown", "streak", "decay"]}


class FewJournal(Guarded, Few):
    plimsoll = IDENTICAL


class FewOwnGuarded(Guarded, FewOwn):
    plimsoll = QUIET


class ManyNone(Many):
    use_custom_stoploss = True
    custom_stoploss = _none


class ManyOwn(Many):
    use_custom_stoploss = True
    custom_stoploss = _trail


class ManyGuarded(Guarded, Many):
    plimsoll = QUIET


class ManyNoBreakers(Guarded, Many):
    plimsoll = QUIET | {"off": ["loss_limit", "drawdown", "streak", "decay"]}


class ManyJournal(Guarded, Many):
    plimsoll = IDENTICAL


class ManyOwnGuarded(Guarded, ManyOwn):
    plimsoll = QUIET


class User(Few):
    """What somebody brings along: 5x, a stop of 10 % of the price, no warm-up to speak of."""

    stoploss = -0.5
    startup_candle_count = 48

    def leverage(
        self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs
    ):
        return 5.0


class UserGuarded(Guarded, User):
    pass


# For planning: one instance for each number of closed trades.
class Plan100(Guarded, Few):
    plimsoll = IDENTICAL


class Plan1000(Plan100):
    pass


class Plan10000(Plan100):
    pass


class Plan100000(Plan100):
    pass


class Live(Few):
    """For a trading bot: enters wherever it may, every other pair short, and never leaves."""

    timeframe = "5m"
    stoploss = -0.3
    startup_candle_count = 48

    def populate_entry_trend(self, dataframe, metadata):
        short = self.dp.current_whitelist().index(metadata["pair"]) % 2
        dataframe["enter_short" if short else "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe


class LiveGuarded(Guarded, Live):
    # Limits that leave room for 40 positions.
    plimsoll = IDENTICAL
