"""Milliseconds of the bootstrapped drawdown and of the size that fits it, as ``plimsoll calibrate`` asks for them after a backtest.

They are given as a share of the raw backtest that the daily results come from: a year of 1h candles of five pairs, reckoned from
Freqtrade's own time for one candle in the same run.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from benchmarks.freqtrade_alone import Alone, alone
from benchmarks.measure import Record, nanoseconds_per_call, record
from plimsoll.rules.bootstrap import bootstrap_drawdown, size_that_fits

BENCHMARK = "bootstrap"
DAYS: Final = 365
PAIRS: Final = 5


def run(repeats: int = 7, paths: int = 2_000, steps: Alone | None = None) -> list[Record]:
    """Measure everything and return the records."""
    backtest = (
        (steps or alone()).candle_ns * DAYS * 24 * PAIRS / 1e6,
        "a raw backtest of that year, reckoned",
    )
    returns = np.random.default_rng(11).normal(0.0004, 0.012, DAYS)
    cases = {
        f"drawdown distribution, {DAYS} days, {paths:,} paths": lambda: bootstrap_drawdown(
            returns, paths=paths
        ),
        f"size that fits, {DAYS} days, {paths:,} paths": lambda: size_that_fits(
            returns, limit=0.05, paths=paths
        ),
    }
    found = []
    for name, function in cases.items():
        spent = [each / 1e6 for each in nanoseconds_per_call(function, repeats=repeats, at_least_ns=1)]
        found.append(record(BENCHMARK, name, spent, "ms", against=backtest))
    return found
