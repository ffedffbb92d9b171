"""How low equity fell in a backtest, open positions counted, which Freqtrade's own drawdown leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

HOUR_MS = 3_600_000
Floats = npt.NDArray[np.float64]


def lowest_equity(trades: pd.DataFrame, balance: float, candles: Mapping[str, pd.DataFrame]) -> float:
    """Return the lowest equity at any closed 1h candle as a ratio of the starting balance; 1 where nothing was ever lost.

    An open position counts at the candle's close, fees of its fills included and funding left out until it closes, and loses its
    margin at the most; ``trades`` is Freqtrade's export with its orders, ``candles`` are 1h candles by pair.
    """
    if trades.empty:
        return 1.0
    begin = min(_hours(frame)[0] for frame in candles.values())
    end = max(_hours(frame)[-1] for frame in candles.values()) + HOUR_MS
    times = np.arange(begin, end, HOUR_MS) + HOUR_MS  # when each candle is closed
    closes = {pair: _dense(frame, begin, len(times)) for pair, frame in candles.items()}
    equity = np.full(len(times), balance)
    for trade in trades.to_dict("records"):
        opened, closed = int(trade["open_timestamp"]), int(trade["close_timestamp"])
        first, last = np.searchsorted(times, [opened, closed])
        open_now = slice(int(first), int(last))
        equity[open_now] += _open_profit(trade, times[open_now], closes[trade["pair"]][open_now])
        equity[int(last) :] += float(trade["profit_abs"])
    return float(min(equity.min() / balance, 1.0))


def _open_profit(trade: Mapping[Any, Any], times: npt.NDArray[np.int64], price: Floats) -> Floats:
    sign = -1.0 if trade["is_short"] else 1.0
    held, paid = np.zeros(len(times)), np.zeros(len(times))
    for order in trade["orders"]:
        filled = times >= int(order["order_filled_timestamp"])
        amount, value = float(order["amount"]), float(order["amount"]) * float(order["safe_price"])
        entry = bool(order["ft_is_entry"])
        held += np.where(filled, amount if entry else -amount, 0.0)
        fee = float(trade["fee_open" if entry else "fee_close"]) * value
        paid += np.where(filled, (value if entry else -value) * sign + fee, 0.0)
    profit: Floats = np.maximum(sign * held * price - paid, -float(trade["max_stake_amount"]))
    return profit


def _hours(candles: pd.DataFrame) -> npt.NDArray[np.int64]:
    hours: npt.NDArray[np.int64] = candles["date"].dt.as_unit("ms").astype("int64").to_numpy()
    return hours


def _dense(candles: pd.DataFrame, begin: int, count: int) -> Floats:
    closes = np.full(count, np.nan)
    closes[(_hours(candles) - begin) // HOUR_MS] = candles["close"].to_numpy()
    filled: Floats = pd.Series(closes).ffill().bfill().to_numpy(dtype=np.float64)
    return filled
