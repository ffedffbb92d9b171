"""Nanoseconds per step of every breaker, and of what a loop or a candle asks of all of them together.

A breaker is stepped once in a loop, or once in a candle's time for all pairs; it is given as a share of what Freqtrade alone takes
for one candle of one pair. What all of them add to a whole backtest is in its benchmark ("guarded without breakers").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.freqtrade_alone import Alone, alone
from benchmarks.measure import Record, nanoseconds_per_call, record
from benchmarks.stage import START
from plimsoll.host.breakers import Breakers, Machine
from plimsoll.rules.breaker import ClosedTrade, EquitySample, Tick
from plimsoll.settings import load

BENCHMARK = "breakers"
PAIR = "BTC/USDT:USDT"
EQUITY, HOUR = 100_000.0, 3600
BEGIN = int(START.timestamp())


def run(repeats: int = 31, at_least_ns: int = 500_000, steps: Alone | None = None) -> list[Record]:
    """Measure everything and return the records."""
    candle = ((steps or alone()).candle_ns, "Freqtrade's own candle of a pair")
    found = []
    for name, function in cases().items():
        spent = nanoseconds_per_call(function, repeats=repeats, at_least_ns=at_least_ns)
        found.append(record(BENCHMARK, name, spent, "ns", against=candle))
    return found


def cases(trades: int = 200) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name: breakers that have seen ``trades`` closed trades and are armed."""
    breakers = Breakers(load(), confirmations=1, attended=True)
    now = BEGIN
    for number, profit in enumerate(np.random.default_rng(3).normal(0.002, 0.02, trades)):
        now = BEGIN + number * HOUR
        breakers.equity(EquitySample(now, EQUITY + number))
        breakers.check_in(now, "bench")
        breakers.closed(ClosedTrade(now, PAIR, float(profit)))
    gone = ClosedTrade(now, PAIR, -1.0, liquidated=True, side="long")
    pair = Breakers(load(), confirmations=1)
    pair.closed(gone)
    equity, trade, tick = EquitySample(now + 60, EQUITY), ClosedTrade(now + 60, PAIR, 0.01), Tick(now + 60)
    found: dict[str, Callable[[], Any]] = {}
    for machines, sample in (
        (breakers.by_equity, equity),
        (breakers.by_trade, trade),
        (breakers.by_operator, tick),
        (pair.by_pair, tick),
    ):
        found |= {f"{name}: a step": _step(machine, sample) for name, machine in machines.items()}
    return found | {
        "all: is anything due?": lambda: breakers.is_quiet(equity.time, EQUITY),
        "all: a reading of equity": lambda: breakers.equity(equity),
        "all: answers for a pair": lambda: list(breakers.answers(PAIR)),
        "all: what is stored": breakers.dump,
    }


def _step(machine: Machine, sample: Any) -> Callable[[], Any]:
    # A step is pure: the same state and sample again cost the same.
    rule, state, config = machine.rule, machine.state, machine.config
    return lambda: rule.step(state, config, sample)
