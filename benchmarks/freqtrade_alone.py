"""What Freqtrade alone takes for steps of its own, measured in the same run: what the small parts of the guard are shares of.

A rule of a microsecond has no counterpart that a ratio could be taken to. So it is set beside the step in which it is asked: one
candle of one pair in a raw backtest, or one entry of it (the stake, the order, the trade; no callback of the strategy).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from statistics import median
from time import perf_counter_ns
from typing import Any

from benchmarks.backtest_overhead import backtest
from benchmarks.stage import stage


@dataclass(frozen=True)
class Alone:
    """Nanoseconds: of one candle of one pair in a raw backtest, of one entry."""

    candle_ns: float
    entry_ns: float


@cache
def alone(days: int = 60, pairs: int = 5, rounds: int = 3) -> Alone:
    """Backtest raw strategies, with few trades for the candle and with many for the entry; measured once in a process."""
    candle, entries = [], []
    with stage(days, pairs=pairs) as where, where.backtesting("Few", "Many") as backtesting:
        data, timerange = backtesting.load_bt_data()
        few, many = backtesting.strategylist
        for _ in range(rounds):
            run = backtest(backtesting, few, data, timerange)
            candle.append((run.wall - run.indicators) * 1e9 / (days * 24 * len(data)))
        enter = backtesting._enter_trade

        def timed(*arguments: Any, **options: Any) -> Any:
            started = perf_counter_ns()
            trade = enter(*arguments, **options)
            if trade is not None:
                entries.append(perf_counter_ns() - started)
            return trade

        backtesting._enter_trade = timed
        backtest(backtesting, many, data, timerange)
    if not entries:
        raise RuntimeError("no trade was entered, so there is no time of an entry")
    return Alone(median(candle), median(entries))
