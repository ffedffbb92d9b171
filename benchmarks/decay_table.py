"""Print false pauses and detection delays of the Sharpe rule and the sequential test.

Run with ``python -m benchmarks.decay_table``. Trades are independent, t(4)-tailed and evenly spaced; a
paused bot makes none. Healthy: the validated edge, for a year. Detection: trades made until the size is
reduced, and until entries pause, after at least 60 healthy days and from a moment when the bot was not
paused; once with the edge intact (what looks like detection there is false), once gone, once reversed.
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Iterable
from statistics import median

import numpy as np

from plimsoll.rules.breaker import DAY, ClosedTrade, Tick
from plimsoll.rules.decay import Baseline, Config, State, expectation, step

SHARPES = (1.0, 2.0, 4.0)
TRADES_PER_DAY = 3
SPACING = DAY // TRADES_PER_DAY
YEAR = 365 * TRADES_PER_DAY
RUNS = 80
LONGEST = 4 * YEAR


def trades(generator: np.random.Generator, edge: float, count: int) -> list[float]:
    """Draw profit ratios with a deviation of 2 % and a mean of ``edge`` deviations."""
    return list(0.02 * (generator.standard_t(4, count) / math.sqrt(2.0) + edge))


def healthy_year(
    config: Config, generator: np.random.Generator, edge: float
) -> tuple[float, int, float, float]:
    """Measure days to the first pause, pauses, and the shares of time paused and of size kept in a year."""
    state, first, pauses, paused, kept = State(), math.inf, 0, 0, 0.0
    for index, profit in enumerate(trades(generator, edge, YEAR)):
        state, verdict = step(state, config, Tick(index * SPACING))
        paused, kept = paused + verdict.blocked, kept + verdict.factor
        if not verdict.blocked:
            state, verdict = step(state, config, ClosedTrade(index * SPACING, "BTC/USDT", profit))
            if verdict.blocked:
                first, pauses = min(first, index / TRADES_PER_DAY), pauses + 1
    return first, pauses, paused / YEAR, kept / YEAR


def detection(config: Config, generator: np.random.Generator, edge: float, broken: float) -> tuple[int, int]:
    """Count the trades made from the break until a reduced size, and until a pause."""
    state, now = State(), 0
    profits = iter(trades(generator, edge, 6 * YEAR))
    blocked = False
    while now < 60 * DAY or blocked:
        state, verdict = step(state, config, Tick(now))
        if not verdict.blocked:
            state, verdict = step(state, config, ClosedTrade(now, "BTC/USDT", next(profits)))
        blocked, now = verdict.blocked, now + SPACING
    reduced = LONGEST
    for count, profit in enumerate(trades(generator, broken, LONGEST), start=1):
        state, verdict = step(state, config, ClosedTrade(now, "BTC/USDT", profit))
        now += SPACING
        if verdict.factor < 1.0:
            reduced = min(reduced, count)
        if verdict.blocked:
            return reduced, count
    return reduced, LONGEST


HEADER = (
    "annual Sharpe",
    "rule",
    "days to first false pause",
    "false pauses a year",
    "time paused",
    "size kept",
    "intact: reduced / paused",
    "edge gone",
    "edge reversed",
)


def row(cells: Iterable[object]) -> None:
    """Print one row of a Markdown table."""
    print(f"| {' | '.join(str(cell) for cell in cells)} |")


def measure(config: Config, edge: float) -> list[str]:
    """Simulate all cells of one rule at one edge."""
    years = [healthy_year(config, np.random.default_rng([1, run]), edge) for run in range(RUNS)]
    first = median(year[0] for year in years)
    pauses, paused, kept = (sum(year[i] for year in years) / RUNS for i in (1, 2, 3))
    cells = [f"{first:.0f}" if first < 365 else "over 365", f"{pauses:.2f}", f"{paused:.0%}", f"{kept:.0%}"]
    for changed in (edge, 0.0, -edge):
        delays = [detection(config, np.random.default_rng([2, run]), edge, changed) for run in range(RUNS)]
        cells.append(" / ".join(_trades(median(column)) for column in zip(*delays, strict=True)))
    return cells


def stated(config: Config) -> list[str]:
    """Compute what the closed form states at start-up for the same cells."""
    warn, pause = expectation(config, "half"), expectation(config, "pause")
    assert warn is not None
    assert pause is not None
    pairs = (
        (warn.false_alarm, pause.false_alarm),
        (warn.delay_when_gone, pause.delay_when_gone),
        (warn.delay_when_reversed, pause.delay_when_reversed),
    )
    delays = [" / ".join(_trades(days * TRADES_PER_DAY) for days in pair) for pair in pairs]
    return [f"{pause.false_alarm:.0f}", f"{365 / pause.false_alarm:.2f}", "", "", *delays]


def _trades(count: float) -> str:
    return f"{count:.0f}" if count < LONGEST else f"over {LONGEST}"


def main() -> None:
    """Simulate and print the table."""
    started = clock.perf_counter()
    print(f"{RUNS} runs, {TRADES_PER_DAY} trades a day; delays: medians, in trades; stated: means")
    row(HEADER)
    row(["---"] * len(HEADER))
    for sharpe in SHARPES:
        edge = sharpe / math.sqrt(YEAR)
        cusum = Config(baseline=Baseline(0.02 * edge, 0.02, 300, TRADES_PER_DAY))
        row([f"{sharpe:g}", "30-day Sharpe under 0.5", *measure(Config(method="sharpe"), edge)])
        row([f"{sharpe:g}", "two-level CUSUM", *measure(cusum, edge)])
        row([f"{sharpe:g}", "its statement", *stated(cusum)])
    print(f"{clock.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
