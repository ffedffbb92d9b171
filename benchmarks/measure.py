"""Records, and timing that survives a busy machine: medians of ratios taken within one round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter_ns
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Record:
    """One figure: the median of ``samples`` figures from ``low`` to ``high``; ``goal`` is its upper bound.

    ``share`` is the median over what Freqtrade alone takes, in the same run, for the step of its own that ``share_of`` names.
    """

    benchmark: str
    name: str
    value: float
    unit: str
    low: float
    high: float
    samples: int
    goal: float | None = None
    note: str = ""
    share: float | None = None
    share_of: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        return None if self.goal is None else self.value <= self.goal

    def as_data(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return asdict(self) | {"holds": self.holds}


def record(
    benchmark: str,
    name: str,
    values: Sequence[float],
    unit: str,
    *,
    goal: float | None = None,
    note: str = "",
    against: tuple[float, str] | None = None,
) -> Record:
    """Summarise samples of the same figure; ``against`` is Freqtrade's own time for a step, in the same unit, and its name."""
    share, share_of = (None, "") if against is None else (median(values) / against[0], against[1])
    return Record(
        benchmark=benchmark,
        name=name,
        value=median(values),
        unit=unit,
        low=min(values),
        high=max(values),
        samples=len(values),
        goal=goal,
        note=note,
        share=share,
        share_of=share_of,
    )


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide sample by sample: both were taken in the same round, so a slow round slows both."""
    return [a / b for a, b in zip(over, under, strict=True)]


def nanoseconds_per_call(
    function: Callable[[], Any], *, repeats: int, at_least_ns: int = 2_000_000
) -> list[float]:
    """Time a function in batches long enough for the clock, one figure per batch."""
    calls = 1
    while _batch(function, calls) < at_least_ns:
        calls *= 2
    return [_batch(function, calls) / calls for _ in range(repeats)]


def _batch(function: Callable[[], Any], calls: int) -> int:
    started = perf_counter_ns()
    for _ in range(calls):
        function()
    return perf_counter_ns() - started
