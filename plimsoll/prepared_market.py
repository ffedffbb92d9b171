"""Candles ready for a backtest: simulated ones, or those of a data directory, with the warm-up that the guard needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market
from plimsoll.shipped import SetupError, shipped_config

# The guard needs 745 hours of candles before the first plan.
WARM_UP = timedelta(days=32)
START = datetime(2023, 1, 1, tzinfo=UTC)
MAX_OPEN_TRADES = 5


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Where the candles are and what of them is traded."""

    datadir: Path
    pairs: tuple[str, ...]
    timerange: str


def simulated(directory: Path, seed: int, days: int) -> Prepared:
    """Simulate the default pairs into files below ``directory``: ``days`` to trade, and a warm-up before."""
    # Freqtrade's handlers bring the whole of it along, which no argument error should wait for.
    from plimsoll.market.candle_files import write_market

    datadir = directory / "data" / "binance"
    write_market(simulate_market(seed, WARM_UP.days + days, START), datadir)
    first = START + WARM_UP
    pairs = tuple(model.pair for model in DEFAULT_PAIRS)
    return Prepared(
        datadir=datadir, pairs=pairs, timerange=f"{first:%Y%m%d}-{first + timedelta(days=days):%Y%m%d}"
    )


def given(data: Path, timerange: str | None) -> Prepared:
    """Look up the pairs of a data directory; they are traded from the end of the warm-up on."""
    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType, TradingMode

    datadir = data if (data / "futures").is_dir() else data / "binance"
    if not (datadir / "futures").is_dir():
        raise SetupError(f"there is no directory `futures` in {data}; Freqtrade's is user_data/data/binance")
    handler = get_datahandler(datadir, "feather")
    available = handler.ohlcv_get_available_data(datadir, TradingMode.FUTURES)
    found = {pair for pair, step, kind in available if (step, kind) == ("1h", CandleType.FUTURES)}
    # Freqtrade asks the pairs in this order, and whoever comes first gets the free slot.
    known = [pair for pair in shipped_config()["exchange"]["pair_whitelist"] if pair in found]
    pairs = (*known, *sorted(found.difference(known)))
    if not pairs:
        raise SetupError(f"there are no 1h candles in {datadir}; get them with `freqtrade download-data`")
    spans = [handler.ohlcv_data_min_max(pair, "1h", CandleType.FUTURES) for pair in pairs]
    first, last = min(span[0] for span in spans) + WARM_UP, max(span[1] for span in spans)
    if timerange is None and first >= last:
        raise SetupError(
            f"{datadir} holds less than the {WARM_UP.days} days of candles that come before a plan"
        )
    return Prepared(datadir=datadir, pairs=pairs, timerange=timerange or f"{first:%Y%m%d}-{last:%Y%m%d}")
