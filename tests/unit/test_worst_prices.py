"""The worst price of a trade, on candles made by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from plimsoll.compare.price_paths import worst_prices
from plimsoll.worst_prices import Candles, worst_price, worst_rate

HOUR = 3_600_000
START = 1_700_006_400_000
PAIR = "BTC/USDT:USDT"
# A long's: open, high, low; mirrored at 100 they are a short's.
LONG = [
    (100.0, 101.0, 60.0),
    (100.0, 102.0, 97.0),
    (99.0, 103.0, 98.0),
    (98.5, 104.0, 70.0),
    (90.0, 95.0, 50.0),
]


def mirrored(price: float, short: bool) -> float:
    return 200.0 - price if short else price


def candles(short: bool = False) -> Candles:
    opens, highs, lows = np.array(LONG).T
    if short:
        opens, highs, lows = 200.0 - opens, 200.0 - lows, 200.0 - highs
    return Candles(times=START + HOUR * np.arange(len(LONG)), opens=opens, highs=highs, lows=lows)


def trade(first: int, last: int, close_rate: float, short: bool = False, **values: Any) -> dict[str, Any]:
    """Describe a trade from the open of one candle until another, exported with the whole candle of its exit."""
    made: dict[str, Any] = {
        "pair": PAIR, "is_short": short, "open_timestamp": START + first * HOUR, "close_timestamp": START + last * HOUR,
        "open_rate": 100.0, "close_rate": mirrored(close_rate, short), "min_rate": 50.0, "max_rate": 150.0, "orders": [],
    }  # fmt: skip
    return made | values


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(
    ("first", "last", "close_rate", "worst"),
    [
        (1, 3, 98.5, 97.0),  # by signal, at the open: neither what came before the entry nor the 70 after it
        (1, 3, 96.0, 96.0),  # by stop within the candle: the stop, and not the 70
        (1, 3, 103.0, 97.0),  # by ROI
        (2, 3, 99.5, 98.0),  # the candle of the entry counts whole
        (2, 4, 90.0, 70.0),  # between entry and exit as well
        (0, 1, 100.0, 60.0),  # the entry's only
        (2, 4, 95.0, 70.0),
        (1, 4, 97.0, 70.0),
        (3, 3, 96.0, 96.0),  # within one candle: the two fills
        (3, 3, 103.0, 100.0),
    ],
)
def test_worst_price_when_a_trade_left_then_only_what_it_certainly_saw_counts(
    short: bool, first: int, last: int, close_rate: float, worst: float
) -> None:
    found = worst_price(trade(first, last, close_rate, short), candles(short))
    assert found == pytest.approx(mirrored(worst, short))


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("gap", "worst"), [(96.9, 96.9), (97.1, 97.0)])
def test_worst_price_when_the_exits_candle_opened_beyond_then_its_open_was_seen_whatever_the_fill(
    short: bool, gap: float, worst: float
) -> None:
    known = candles(short)
    known.opens[3] = mirrored(gap, short)
    assert worst_price(trade(1, 3, 98.0, short), known) == pytest.approx(mirrored(worst, short))


def test_worst_price_when_the_entry_filled_later_then_counts_from_there() -> None:
    orders = [
        {"ft_is_entry": False, "order_filled_timestamp": START},
        {"ft_is_entry": True, "order_filled_timestamp": None},
        {"ft_is_entry": True, "order_filled_timestamp": START + 2 * HOUR},
        {"ft_is_entry": True, "order_filled_timestamp": START + HOUR},
    ]
    assert worst_price(trade(0, 3, 98.5, orders=orders), candles()) == 97.0
    assert worst_price(trade(0, 3, 98.5), candles()) == 60.0


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (0.5, 2), (1, 2.5), (1, 5), (5, 6)])
def test_worst_price_when_the_entrys_or_the_exits_candle_is_missing_then_it_is_unknown(
    first: float, last: float
) -> None:
    moved = {"open_timestamp": int(START + first * HOUR), "close_timestamp": int(START + last * HOUR)}
    assert math.isnan(worst_price(trade(0, 0, 100.0, **moved), candles()))


@pytest.mark.parametrize(("short", "exported"), [(False, 50.0), (True, 150.0)])
def test_worst_rate_when_the_candles_do_not_know_it_then_the_exports_is_told_apart(
    short: bool, exported: float
) -> None:
    assert worst_rate(trade(1, 2, 99.0, short)) == (exported, False)
    assert worst_rate(trade(1, 2, 99.0, short, worst_rate=math.nan)) == (exported, False)
    assert worst_rate(trade(1, 2, 99.0, short, worst_rate=97.0)) == (97.0, True)


# -- From files --------------------------------------------------------------------------------------------------------


def store(directory: Path, timeframe: str, rows: list[tuple[int, float, float, float]]) -> None:
    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType

    frame = pd.DataFrame(rows, columns=["time", "open", "high", "low"])
    frame = frame.assign(
        date=pd.to_datetime(frame["time"], unit="ms", utc=True), close=frame["open"], volume=1.0
    )
    get_datahandler(directory, "feather").ohlcv_store(PAIR, timeframe, frame, CandleType.FUTURES)


def test_worst_prices_when_there_is_a_detail_timeframe_then_its_candles_count_where_there_are_any(
    tmp_path: Path,
) -> None:
    (tmp_path / "futures").mkdir()
    store(tmp_path, "1h", [(START + place * HOUR, *prices) for place, prices in enumerate(LONG)])
    # Of the candles from the third on; the last quarter of the third goes deepest.
    fine = [
        (START + HOUR * quarter // 4, 99.0, 100.0, 98.5 - 0.1 * (quarter % 4)) for quarter in range(8, 20)
    ]
    store(tmp_path, "15m", fine)
    stats = {
        "timeframe": "1h",
        "timeframe_detail": "15m",
        "trading_mode": "futures",
        "backtest_start_ts": START,
    }
    within = {"close_timestamp": START + 9 * HOUR // 4}
    stats["trades"] = [
        trade(1, 3, 99.0),  # one candle, then four quarters
        trade(2, 2, 99.0, **within),
        trade(2, 3, 99.0),
        trade(2, 3, 99.0, pair="ETH/USDT:USDT"),
    ]
    assert worst_prices(stats, tmp_path, "feather") == pytest.approx([97.0, 98.5, 98.2, None])
    assert worst_prices(stats | {"timeframe_detail": ""}, tmp_path, "feather") == [97.0, None, 98.0, None]
    assert worst_prices(stats | {"trades": []}, tmp_path, "feather") == []
