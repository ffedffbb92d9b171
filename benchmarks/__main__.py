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

from benchmarks import (
    ablation_speed,
    backtest_overhead,
    bootstrap,
    breakers,
    ledger,
    live_loop,
    page,
    plan_latency,
    rules,
)
from benchmarks.freqtrade_alone import Alone, alone
from benchmarks.measure import Record
from benchmarks.page import figure, share

BENCHMARKS: dict[str, Callable[[], list[Record]]] = {
    "backtest_overhead": backtest_overhead.run,
    "plan_latency": plan_latency.run,
    "rules": rules.run,
    "breakers": breakers.run,
    "bootstrap": bootstrap.run,
    "live_loop": live_loop.run,
    "ledger": ledger.run,
    "ablation_speed": ablation_speed.run,
}
# Whether they run at all, in seconds; the figures mean nothing.
TINY: dict[str, Callable[[], list[Record]]] = {
    "backtest_overhead": lambda: backtest_overhead.run(
        shapes=(("Few", 3, 1), ("Few", 2, 7)), rounds=1, commands=False
    ),
    "plan_latency": lambda: plan_latency.run(
        closed=(100, 1_000), open_trades=(0, 2), rounds=1, plans=2, days=4, steps=_few_steps()
    ),
    "rules": lambda: rules.run(repeats=1, rows=800, at_least_ns=1, steps=_few_steps()),
    "breakers": lambda: breakers.run(repeats=1, at_least_ns=1, steps=_few_steps()),
    "bootstrap": lambda: bootstrap.run(repeats=1, paths=20, steps=_few_steps()),
    "live_loop": lambda: live_loop.run(pairs=4, trades=2, closed=3, quiet=2, candles=1, hours=1),
    "ledger": lambda: ledger.run(calls=2, postgres=False),
    "ablation_speed": lambda: ablation_speed.run(layers=("streak",), days=3),
}


def _few_steps() -> Alone:
    return alone(days=3, pairs=1, rounds=1)


def main() -> None:
    """Run what is named, print it, and write it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records as JSON too")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write method and figures as a page too"
    )
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
    Console(width=190).print(table(records, machine))
    if arguments.json is not None:
        data = {"machine": machine, "records": [each.as_data() for each in records]}
        arguments.json.write_text(json.dumps(data, indent=1), encoding="utf-8")
    if arguments.markdown is not None:
        arguments.markdown.write_text(page.page(records, machine), encoding="utf-8")


def table(records: list[Record], machine: str) -> Table:
    """Lay the records out, medians with the range they were taken from."""
    result = Table(
        title="Plimsoll benchmarks",
        caption=f"median (lowest to highest), share of Freqtrade's own step; {machine}",
        title_justify="left",
    )
    for column in ("", "what", "median", "range", "unit", "n", "share", "goal", "", "note"):
        right = column in ("median", "range", "n", "goal")
        result.add_column(column, justify="right" if right else "left", no_wrap=column == "range")
    last = ""
    for each in records:
        if last and each.benchmark != last:
            result.add_section()
        name = each.benchmark if each.benchmark != last else ""
        last = each.benchmark
        span = f"{figure(each.low)} to {figure(each.high)}" if each.samples > 1 else ""
        goal = "" if each.goal is None else f"{each.goal:g}"
        verdict = {None: "", True: "[green]holds[/]", False: "[red]missed[/]"}[each.holds]
        row = (
            name,
            each.name,
            figure(each.value),
            span,
            each.unit,
            str(each.samples),
            share(each),
            goal,
            verdict,
            each.note,
        )
        result.add_row(*row)
    return result


if __name__ == "__main__":
    main()
