"""The worst price of a trade while it was open: from the candles it was backtested on, else from Freqtrade's export."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

COLUMN: Final = "worst_rate"


@dataclass(frozen=True, kw_only=True, eq=False)
class Candles:
    """Hold a pair's candles in order: the ``times`` they open at, in milliseconds since 1970, and their prices."""

    times: NDArray[np.int64]
    opens: NDArray[np.float64]
    highs: NDArray[np.float64]
    lows: NDArray[np.float64]


def worst_price(trade: Mapping[Hashable, Any], candles: Candles) -> float:
    """Return the worst price that an exported trade certainly saw; NaN where the candle of its entry or its exit is missing.

    Candles count whole from the one of the first fill on, as Freqtrade enters at its open and a limit order away from it fills
    on the way to the worst price. The exit's candle counts by its open and the exit price only: a signal exits at that open, and
    when a stop, a ROI or a liquidation was reached is not known. What is entered and left in one candle saw the two fills.
    """
    short, left = bool(trade["is_short"]), int(trade["close_timestamp"])
    fills = [
        int(order["order_filled_timestamp"])
        for order in trade.get("orders") or ()
        if order["ft_is_entry"] and order["order_filled_timestamp"]
    ]
    entered = min(fills, default=int(trade["open_timestamp"]))
    begin, end = (int(place) for place in np.searchsorted(candles.times, (entered, left)))
    if end >= len(candles.times) or candles.times[begin] != entered or candles.times[end] != left:
        return math.nan
    seen = [float(trade["open_rate"]), float(trade["close_rate"])]
    if entered < left:
        seen += [float(candles.opens[end]), *(candles.highs if short else candles.lows)[begin:end].tolist()]
    return max(seen) if short else min(seen)


def worst_rate(trade: Mapping[Hashable, Any]) -> tuple[float, bool]:
    """Return a trade's worst price, and whether it is the candles'; else it is the export's, which counts the exit's whole candle.

    NaN where neither knows one.
    """
    price = float(trade.get(COLUMN) or math.nan)
    if math.isfinite(price):
        return price, True
    return float(trade["max_rate" if trade["is_short"] else "min_rate"] or math.nan), False
