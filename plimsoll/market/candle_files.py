"""Simulated markets as the files that Freqtrade reads."""

from collections.abc import Mapping
from pathlib import Path

from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType

from plimsoll.market.simulate import MarketData


def write_market(market: Mapping[str, MarketData], datadir: Path) -> None:
    """Write every pair's 5m and 1h candles, 1h mark prices and funding rates as feather files.

    `datadir` is the exchange's directory, e.g. `user_data/data/binance`; Freqtrade adds `futures` itself.
    Files of the same pairs are overwritten.
    """
    # Freqtrade makes the `futures` directory, but not its parents.
    datadir.mkdir(parents=True, exist_ok=True)
    handler = get_datahandler(datadir, "feather")
    for pair, data in market.items():
        handler.ohlcv_store(pair, "5m", data.candles_5m, candle_type=CandleType.FUTURES)
        handler.ohlcv_store(pair, "1h", data.candles_1h, candle_type=CandleType.FUTURES)
        handler.ohlcv_store(pair, "1h", data.mark_1h, candle_type=CandleType.MARK)
        # Older versions of Freqtrade store the rate as `open`, newer ones as `funding_rate`.
        funding = data.funding.assign(funding_rate=data.funding["open"])
        handler.ohlcv_store(pair, "1h", funding, candle_type=CandleType.FUNDING_RATE)
