"""What a reader of the tutorial has before it: a strategy that we did not write, and a configuration."""

from __future__ import annotations

from typing import Any

# As a reader of Freqtrade's documentation writes it: own leverage, file named otherwise than the class, another timeframe.
STRATEGY = """\
# My first strategy
import talib.abstract as ta
from pandas import DataFrame
from technical import qtpylib

from freqtrade.strategy import IStrategy


class BollingerRsi(IStrategy):
    INTERFACE_VERSION = 3
    can_short = True
    timeframe = "15m"
    minimal_roi = {"0": 0.03, "120": 0.01}
    stoploss = -0.30
    startup_candle_count = 30

    def populate_indicators(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe["rsi"] = ta.RSI(dataframe, timeperiod=14)
        bollinger = qtpylib.bollinger_bands(qtpylib.typical_price(dataframe), window=20, stds=2)
        dataframe["bb_lowerband"] = bollinger["lower"]
        dataframe["bb_middleband"] = bollinger["mid"]
        dataframe["bb_upperband"] = bollinger["upper"]
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe.loc[(dataframe["rsi"] < 35) & (dataframe["close"] < dataframe["bb_lowerband"]), "enter_long"] = 1
        dataframe.loc[(dataframe["rsi"] > 65) & (dataframe["close"] > dataframe["bb_upperband"]), "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict) -> DataFrame:
        dataframe.loc[dataframe["close"] > dataframe["bb_middleband"], "exit_long"] = 1
        dataframe.loc[dataframe["close"] < dataframe["bb_middleband"], "exit_short"] = 1
        return dataframe

    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return 10.0
"""
# As `freqtrade new-config` writes it, and patient with an exchange that a busy machine keeps from answering.
CONFIG: dict[str, Any] = {
    "$schema": "https://schema.freqtrade.io/schema.json",
    "max_open_trades": 3,
    "stake_currency": "USDT",
    "stake_amount": "unlimited",
    "tradable_balance_ratio": 0.99,
    "fiat_display_currency": "USD",
    "dry_run": True,
    "dry_run_wallet": 1000,
    "cancel_open_orders_on_exit": False,
    "trading_mode": "futures",
    "margin_mode": "isolated",
    "unfilledtimeout": {"entry": 10, "exit": 10, "exit_timeout_count": 0, "unit": "minutes"},
    "entry_pricing": {
        "price_side": "same",
        "use_order_book": True,
        "order_book_top": 1,
        "price_last_balance": 0.0,
    },
    "exit_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "exchange": {
        "name": "binance",
        "key": "",
        "secret": "",
        "ccxt_config": {"timeout": 120_000},
        "ccxt_async_config": {"timeout": 120_000},
        "pair_whitelist": ["BTC/USDT:USDT", "ETH/USDT:USDT"],
        "pair_blacklist": [],
    },
    "pairlists": [{"method": "StaticPairList"}],
    "telegram": {"enabled": False, "token": "", "chat_id": ""},
    "bot_name": "freqtrade",
    "initial_state": "running",
    "force_entry_enable": False,
    "internals": {"process_throttle_secs": 5},
}
