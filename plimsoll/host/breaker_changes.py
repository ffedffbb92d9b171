"""What changed in the breakers: journaled, and in a backtest stepped candle by candle."""

from __future__ import annotations

from datetime import datetime

from plimsoll.host.breakers import Breakers
from plimsoll.host.machines import Machine
from plimsoll.journal import Journal
from plimsoll.rules.breaker import EquitySample, Verdict


def record_change(journal: Journal | None, now: int, name: str, machine: Machine, verdict: Verdict) -> None:
    """Journal a breaker's change."""
    if journal is not None:
        journal.record(
            "breaker",
            {
                "time": now,
                "breaker": name,
                "pair": machine.pair,
                "blocked": verdict.blocked,
                "factor": verdict.factor,
                "until": verdict.until,
                "value": verdict.value,
                "reason": verdict.reason,
            },
        )


def offline_step(breakers: Breakers, now: datetime, equity: float | None, journal: Journal | None) -> None:
    """Let the breakers of a backtest see equity, and journal their changes."""
    time = int(now.timestamp())
    if breakers.is_quiet(time, equity):
        return
    breakers.equity(EquitySample(time, equity))
    for name, machine, verdict in breakers.news():
        record_change(journal, time, name, machine, verdict)
