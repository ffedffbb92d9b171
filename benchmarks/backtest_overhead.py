"""Wall time and memory of stock backtesting, guarded over raw, on identical candles.

Two kinds of figures, because a guard changes trades and trades are what a backtest spends its time on:

- *Same trades*: the cost of the guard itself, which is what the goal of 1.10x speaks of. The raw strategy
  asks for 1x and stops itself nearer than the ATR stop would; the guarded one runs every rule, but is sized
  far under every limit. So both make the same trades, but for the few whose stop moves with funding: the note
  has the share of the raw trades found again (same pair, side, open and close date). Timed inside one process
  around `advise_all_indicators()` and `Backtesting.backtest()` (signals, candle loop, trades), added up.
  Loading the candles before and the statistics after are alike and would only dilute the ratio. With more pairs
  there are fewer days, so that preparing the candles weighs more; the ratio is given without it as well.
- *As a user sees it*: the whole command in a process of its own, a 5x strategy with a short warm-up and the
  same guarded as it comes. Trades differ (a nearer stop makes them shorter, a refusal leaves them out), so
  the ratio may well be under 1.

Every round runs each variant once, in turn, the order reversed every other round. Ratios are taken within a
round; their median is reported with the lowest and the highest. CPU time stands beside wall time: where the
two differ, the machine was busy; then the least CPU time over the least is the figure to trust.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Record, ratios, record
from benchmarks.stage import Stage, stage

BENCHMARK = "backtest"
GOAL = 1.10
BREAKERS_GOAL = 1.05
ROOT = Path(__file__).parents[1]

# Shape, days, pairs. Trades are what costs, so the shape with many of them has fewer days, and so have more pairs.
SHAPES = (
    ("Few", 180, 5),
    ("Few", 45, 20),
    ("Few", 20, 80),
    ("Many", 30, 5),
    ("Many", 8, 20),
    ("Many", 3, 80),
)
VARIANTS = ("", "None", "Guarded", "NoBreakers", "Journal", "Own", "OwnGuarded")
MAIN = ("", "Guarded", "NoBreakers")
# guarded, raw, what is compared, goal
COMPARISONS = (
    ("None", "", "custom_stoploss returning None / raw", None),
    ("Guarded", "", "guarded / raw", GOAL),
    ("Journal", "", "guarded with journal / raw", GOAL),
    ("Guarded", "NoBreakers", "guarded / guarded without breakers", BREAKERS_GOAL),
    ("OwnGuarded", "Own", "guarded / raw, both with own custom_stoploss", None),
)


@dataclass(frozen=True)
class Run:
    """What one backtest cost, in seconds, and the trades it made."""

    indicators: float
    wall: float
    cpu: float
    trades: Any


def run(
    shapes: Sequence[tuple[str, int, int]] = SHAPES, rounds: int = 3, *, commands: bool = True
) -> list[Record]:
    """Measure everything and return the records.

    A shape's first number of pairs has every variant and whole commands, the others the guard itself; the first market is the
    user's too.
    """
    records, seen = [], set[str]()
    for shape, days, pairs in shapes:
        first = shape not in seen
        couples = [(shape, f"{shape}Journal", "same trades")]
        if not seen:
            couples.append(("User", "UserGuarded", "as a user sees it"))
        seen.add(shape)
        with stage(days, pairs=pairs) as where:
            records += same_trades(where, shape, rounds, pairs, VARIANTS if first else MAIN)
            for raw, guarded, note in couples if commands and first else ():
                records += whole_command(where, raw, guarded, note, max(1, rounds // 2))
    return records


def same_trades(
    where: Stage, shape: str, rounds: int, pairs: int, variants: Sequence[str] = VARIANTS
) -> list[Record]:
    """Compare variants of one strategy inside this process."""
    names, title = [shape + suffix for suffix in variants], f"{shape}, {pairs} pairs"
    runs: dict[str, list[Run]] = defaultdict(list)
    with where.backtesting(*names) as backtesting:
        data, timerange = backtesting.load_bt_data()
        strategies = {strategy.get_strategy_name(): strategy for strategy in backtesting.strategylist}
        # Warms up and does not count.
        backtest(backtesting, strategies[f"{shape}Guarded"], data, timerange)
        for turn in range(rounds):
            for name in reversed(names) if turn % 2 else names:
                runs[name].append(backtest(backtesting, strategies[name], data, timerange))
    raw = runs[shape][0].trades
    shape_note = f"{len(raw)} trades, {_open_candles(raw)} open candles, {_rows(data)} rows"
    walls = {name: [each.wall for each in runs[name]] for name in names}
    cpus = {name: [each.cpu for each in runs[name]] for name in names}
    records = [record(BENCHMARK, f"{title}: raw", walls[shape], "s", note=shape_note)]
    for suffix, base, what, goal in COMPARISONS:
        if suffix not in variants or base not in variants:
            continue
        name, other = shape + suffix, shape + base
        note = _sameness(runs[other][0].trades, runs[name][0].trades)
        figures = ratios(walls[name], walls[other])
        goal = goal if len(variants) == len(VARIANTS) else None
        records.append(record(BENCHMARK, f"{title}: {what}", figures, "x", goal=goal, note=note))
        least = f"least over least {min(cpus[name]) / min(cpus[other]):.2f}"
        figures = ratios(cpus[name], cpus[other])
        records.append(record(BENCHMARK, f"{title}: {what}, CPU", figures, "x", note=least))
    loops = {
        name: [each.wall - each.indicators for each in runs[name]] for name in (shape, f"{shape}Guarded")
    }
    figures = ratios(loops[f"{shape}Guarded"], loops[shape])
    name, note = f"{title}: guarded / raw, candles prepared", "signals, candles and trades only"
    records.append(record(BENCHMARK, name, figures, "x", goal=GOAL, note=note))
    added = [
        1000 * (each.indicators - other.indicators)
        for each, other in zip(runs[f"{shape}Guarded"], runs[shape], strict=True)
    ]
    own = (1000 * median(each.indicators for each in runs[shape]), "the strategy's own indicators")
    records.append(record(BENCHMARK, f"{title}: indicators added, all pairs", added, "ms", against=own))
    return records


def whole_command(where: Stage, raw: str, guarded: str, note: str, rounds: int) -> list[Record]:
    """Compare whole commands, each in a process of its own: wall time, CPU time and peak memory."""
    costs: dict[str, list[dict[str, float]]] = defaultdict(list)
    for turn in range(rounds):
        for name in (raw, guarded) if turn % 2 else (guarded, raw):
            costs[name].append(_command(where, name))

    def all_of(name: str, what: str) -> list[float]:
        return [cost[what] for cost in costs[name]]

    def compared(what: str) -> list[float]:
        return ratios(all_of(guarded, what), all_of(raw, what))

    peaks = [peak / 2**20 for peak in all_of(raw, "peak")]
    return [
        record(BENCHMARK, f"{raw}: raw command", all_of(raw, "wall"), "s"),
        record(BENCHMARK, f"{raw}: command, guarded / raw", compared("wall"), "x", note=note),
        record(BENCHMARK, f"{raw}: command, guarded / raw, CPU", compared("cpu"), "x"),
        record(BENCHMARK, f"{raw}: raw peak memory", peaks, "MiB"),
        record(BENCHMARK, f"{raw}: peak memory, guarded / raw", compared("peak"), "x", goal=GOAL),
    ]


def backtest(backtesting: Any, strategy: Any, data: Any, timerange: Any) -> Run:
    """Run one backtest inside this process and return what it cost."""
    from freqtrade.data.converter import trim_dataframes
    from freqtrade.data.history import get_timerange

    backtesting._set_strategy(strategy)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    processed = strategy.advise_all_indicators(data)
    indicators = time.perf_counter() - wall
    spent = wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    first, last = get_timerange(trim_dataframes(processed, timerange, backtesting.required_startup))
    wall, cpu = time.perf_counter(), time.process_time()
    result = backtesting.backtest(processed=processed, start_date=first, end_date=last)
    wall, cpu = time.perf_counter() - wall + spent[0], time.process_time() - cpu + spent[1]
    return Run(indicators, wall, cpu, result["results"])


def _command(where: Stage, name: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "cost.json")
        command = [sys.executable, "-m", "benchmarks.child", str(report), *where.arguments(name)]
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        wall = time.perf_counter() - started
        if done.returncode != 0 or " ERROR " in done.stderr:
            raise RuntimeError(f"{name} did not run:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return {"wall": wall, **json.loads(report.read_text("ascii"))}


def _rows(data: Any) -> int:
    return sum(len(frame) for frame in data.values())


def _open_candles(trades: Any) -> int:
    return int(trades["trade_duration"].sum() // 60) if len(trades) else 0


def _sameness(raw: Any, guarded: Any) -> str:
    keys = ["pair", "is_short", "open_date", "close_date"]
    if not len(raw) or not len(guarded):
        return f"{len(guarded)} trades"
    same = len(raw[keys].merge(guarded[keys], on=keys))
    return (
        f"{len(guarded)} trades, {same / len(raw):.1%} of raw's again, {_open_candles(guarded)} open candles"
    )
