"""Run the benchmarks and print one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import backtest_overhead, plan_latency, rules
from benchmarks.measure import Record

BENCHMARKS: dict[str, Callable[[], list[Record]]] = {
    "rules": rules.run,
    "plan_latency": plan_latency.run,
    "backtest_overhead": backtest_overhead.run,
}
# Whether they run at all, in seconds; the figures mean nothing.
TINY: dict[str, Callable[[], list[Record]]] = {
    "rules": lambda: rules.run(repeats=1, rows=800, at_least_ns=1),
    "plan_latency": lambda: plan_latency.run(
        closed=(100, 1_000), open_trades=(0, 2), rounds=1, plans=2, days=4
    ),
    "backtest_overhead": lambda: backtest_overhead.run(
        shapes=(("Few", 3),), rounds=1, pairs=1, commands=False
    ),
}


def main() -> None:
    """Run what is named, print it, and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records as JSON too")
    parser.add_argument("--rounds", type=int, metavar="N", help="of backtest_overhead, default 3")
    parser.add_argument("--tiny", action="store_true", help="only try whether the benchmarks run")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no benchmark is called {', '.join(unknown)}")
    chosen = dict(TINY if arguments.tiny else BENCHMARKS)
    if arguments.rounds is not None and not arguments.tiny:
        chosen["backtest_overhead"] = lambda: backtest_overhead.run(rounds=arguments.rounds)
    machine = (
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()},"
        f" Freqtrade {version('freqtrade')}"
    )
    started = time.monotonic()
    records = [each for name in arguments.names or BENCHMARKS for each in chosen[name]()]
    machine += f", {time.monotonic() - started:.0f} s"
    Console(width=160).print(table(records, machine))
    if arguments.json is not None:
        data = {"machine": machine, "records": [each.as_data() for each in records]}
        arguments.json.write_text(json.dumps(data, indent=1), encoding="utf-8")


def table(records: list[Record], machine: str) -> Table:
    """Lay the records out, medians with the range they were taken from."""
    result = Table(
        title="Plimsoll benchmarks", caption=f"median (lowest to highest); {machine}", title_justify="left"
    )
    for column in ("", "what", "median", "range", "unit", "n", "goal", "", "note"):
        right = column in ("median", "range", "n", "goal")
        result.add_column(column, justify="right" if right else "left", no_wrap=column == "range")
    last = ""
    for each in records:
        if last and each.benchmark != last:
            result.add_section()
        name = each.benchmark if each.benchmark != last else ""
        last = each.benchmark
        span = f"{_figure(each.low)} to {_figure(each.high)}" if each.samples > 1 else ""
        goal = "" if each.goal is None else f"{each.goal:g}"
        verdict = {None: "", True: "[green]holds[/]", False: "[red]missed[/]"}[each.holds]
        row = (
            name,
            each.name,
            _figure(each.value),
            span,
            each.unit,
            str(each.samples),
            goal,
            verdict,
            each.note,
        )
        result.add_row(*row)
    return result


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


if __name__ == "__main__":
    main()
