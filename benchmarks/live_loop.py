"""What the guard adds to each loop of a trading bot: 80 pairs, 40 open trades, a day with 200 closed trades.

Freqtrade's own ``FreqtradeBot`` runs dry in this process, on the loopback exchange and a simulated market until
now, with a database file as by default; candles are of 5 minutes, so the guard's 1h candles come as informative
pairs. The bot opens its trades itself. Prices move a little before each loop, so that equity does as well.

- *guard*: the time in the guard's callbacks and properties, taken by wrapping them from outside; what the
  strategy's own methods take within them does not count.
- *whole loop*: the raw strategy's bot works on the same database in turns with the guarded one, so this holds
  what the guard makes Freqtrade do as well: stops asked for, candles fetched, a database written.

Loops are *quiet*, or have a *new candle* of the strategy's timeframe, or a *new hour*, when 1h candles and
funding are fetched too. Both are staged: the time of the last refresh is moved back, Freqtrade does the rest.

``python -m benchmarks.live_loop --profile`` shows where the time goes, ``--db-url`` takes another database.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
from collections.abc import Sequence
from statistics import median, quantiles

from rich.console import Console

from benchmarks.live_stage import CANDLE, GUARDED, HOUR, QUIET, Loop, bots
from benchmarks.measure import Record, ratios, record

BENCHMARK = "live loop"
GOAL_MS = 20.0
# Named in every run, however small their part: what is asked in every loop, and what a new candle adds.
CALLBACKS = {
    QUIET: ("bot_loop_start", "custom_stoploss"),
    CANDLE: ("bot_loop_start", "custom_stoploss", "populate_indicators"),
    HOUR: ("bot_loop_start", "custom_stoploss", "populate_indicators"),
}


def run(
    *,
    pairs: int = 80,
    trades: int = 40,
    closed: int = 200,
    quiet: int = 60,
    candles: int = 6,
    hours: int = 3,
    db_url: str | None = None,
) -> list[Record]:
    """Measure everything and return the records."""
    records = []
    with bots(pairs, trades, closed, db_url) as both:
        for kind, number in ((QUIET, quiet), (CANDLE, candles), (HOUR, hours)):
            loops = [both.pair_of_loops(kind) for _ in range(number)]
            records += _records(f"{pairs} pairs, {trades} open, {kind}", CALLBACKS[kind], loops)
            both.check()
    return records


def _records(name: str, callbacks: Sequence[str], loops: list[tuple[Loop, Loop]]) -> list[Record]:
    raw, guarded = [each.whole for each, _ in loops], [each.whole for _, each in loops]
    more = [after - before for before, after in zip(raw, guarded, strict=True)]
    added = [each.added for _, each in loops]
    high = quantiles(added, n=20, method="inclusive")[-1] if len(added) > 1 else added[0]
    alone = (median(raw), "Freqtrade's own loop")
    found = [
        record(BENCHMARK, f"{name}: guard", added, "ms", goal=GOAL_MS, against=alone),
        record(BENCHMARK, f"{name}: guard, 95th percentile", [high], "ms", goal=GOAL_MS),
        record(BENCHMARK, f"{name}: guard, processor time", [each.cpu for _, each in loops], "ms"),
    ]
    for part in callbacks:
        spent = [each.guard.get(part, 0.0) for _, each in loops]
        found.append(record(BENCHMARK, f"{name}: of it {part}", spent, "ms", against=alone))
    return [
        *found,
        record(BENCHMARK, f"{name}: whole loop, raw", raw, "ms"),
        record(BENCHMARK, f"{name}: whole loop, guarded - raw", more, "ms"),
        record(BENCHMARK, f"{name}: whole loop, guarded / raw", ratios(guarded, raw), "x"),
    ]


def profile(kind: str, loops: int, db_url: str | None, closed: int) -> None:
    """Print where the time of guarded loops goes."""
    with bots(80, 40, closed, db_url) as both:
        profiler = cProfile.Profile()
        for _ in range(loops):
            both.loop(GUARDED, kind, profiler.runcall)
        print(f"{loops} loops, {kind}")
        pstats.Stats(profiler).sort_stats("cumulative").print_stats("plimsoll|trade_model|pairlock", 60)


def main() -> None:
    """Measure, or profile, on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live_loop")
    parser.add_argument("--db-url", help="an empty database instead of an SQLite file of its own")
    parser.add_argument("--profile", choices=(QUIET, CANDLE, HOUR), nargs="?", const=QUIET)
    parser.add_argument("--loops", type=int, default=20, help="to be profiled")
    parser.add_argument("--closed", type=int, default=200, help="trades closed within the last day")
    arguments = parser.parse_args()
    if arguments.profile is not None:
        profile(arguments.profile, arguments.loops, arguments.db_url, arguments.closed)
        return
    from benchmarks.__main__ import table

    Console(width=190).print(table(run(db_url=arguments.db_url, closed=arguments.closed), "by hand"))


if __name__ == "__main__":
    main()
