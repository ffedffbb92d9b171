"""``plimsoll stress markets``: a strategy raw and guarded through many simulated markets, and how many it survived."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from plimsoll.stress.errors import StressError
from plimsoll.stress.job import SURVIVED, Job, Record
from plimsoll.stress.schedule import locally, on_dask
from plimsoll.stress.strategy_source import read_strategy
from plimsoll.stress.survival import CONFIDENCE, QUANTILES, Survival, paired, survival
from plimsoll.terminal import BAD, FAINT, add_row, clean, complain, console, percent, titled

NAME: Final = "stress markets"
STRATEGY: Final = "EmaCross"
SEEDS: Final = "1-10"
MOST_SEEDS: Final = 10_000
BEYOND_MARGIN: Final = (
    "Worse than -100% of its margin: Freqtrade fills at the open of a candle that lies beyond the stop."
)
DAYS, FEWEST_DAYS, MOST_DAYS = 90, 5, 3650


def add_parser(commands: Any) -> None:
    """Add ``markets`` to the subcommands of ``plimsoll stress``."""
    parser = commands.add_parser(
        "markets",
        help="many simulated markets through stock backtests, raw and guarded",
        description="Simulate a market for each seed, run stock `freqtrade backtesting` on it with the strategy as it is and"
        f" guarded, and print how many markets each survived. Survived means: {SURVIVED}. With --scheduler the jobs run on a"
        " Dask cluster; a worker's environment needs this version of freqtrade-plimsoll and of freqtrade with what they bring,"
        " and what the strategy imports; the strategy itself is sent as text. The records are the same either way.",
    )
    parser.add_argument("--seeds", type=parse_seeds, default=parse_seeds(SEEDS), metavar="LIST",
                        help=f"seeds of the markets, such as 1-20 or 1,4,7-9 (default {SEEDS})")  # fmt: skip
    parser.add_argument("--strategy", nargs="+", default=[STRATEGY], metavar="NAME",
                        help=f"unguarded strategies, by class name (default {STRATEGY}, at 5x)")  # fmt: skip
    parser.add_argument("--strategy-path", type=_directory, metavar="DIR", help="where their files are")
    parser.add_argument("--days", type=_whole(FEWEST_DAYS, MOST_DAYS), default=DAYS,
                        help=f"traded days of each market (default {DAYS})")  # fmt: skip
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=_whole(1, 1024), metavar="N",
                       help="worker processes on this machine (default one per core that may be used)")  # fmt: skip
    where.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler instead, tcp://host:8786")
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS,  # or `stress --json` would be undone
                        help="print records and statistics as one document")  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run every market and print what came out; 1 where a backtest failed or nothing could be run."""
    try:
        sources = [read_strategy(name, arguments.strategy_path) for name in dict.fromkeys(arguments.strategy)]
        jobs = [
            Job(seed=s, days=arguments.days, source=source) for source in sources for s in arguments.seeds
        ]
        if arguments.scheduler is not None:
            ended = on_dask(jobs, arguments.scheduler)
        else:
            from joblib import cpu_count  # by affinity and cgroup, as plimsoll compare counts

            ended = locally(jobs, arguments.jobs or cpu_count())
        records = collect(_watched(ended, len(jobs)))
    except (StressError, OSError) as error:
        complain(NAME, error)
        return 1
    if arguments.json:
        print(json.dumps(document(records), sort_keys=True, allow_nan=False))
    else:
        console().print(SurvivalView(records))
    return int(any(record.fault is not None for record in records))


def collect(ended: Iterator[list[Record]]) -> list[Record]:
    """Return all records in the one order that does not depend on who ran them when."""
    return sorted((record for records in ended for record in records), key=lambda record: record.order)


def document(records: Sequence[Record]) -> dict[str, Any]:
    """Return records and statistics as plain values for JSON."""
    return {
        "survived_means": SURVIVED,
        "records": [record.as_data() for record in records],
        "survival": [each.as_data() for each in survival(records)],
        "guarded_against_raw": [asdict(each) for each in paired(records)],
    }


def _watched(ended: Iterator[list[Record]], count: int) -> Iterator[list[Record]]:
    columns = (TextColumn("Markets"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("{task.fields[faults]}"))  # fmt: skip
    faults = 0
    generator: Any = ended
    with Progress(*columns, console=console(stderr=True), transient=True) as progress, closing(generator):
        task = progress.add_task("", total=count, faults="")
        for records in ended:
            faults += sum(record.fault is not None for record in records)
            progress.update(task, advance=1, faults=f"{faults} failed" if faults else "")
            yield records


# -- Printing ------------------------------------------------------------------------------------------------


class SurvivalView:
    """Draw survival statistics of records."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._survival = survival(records)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts."""
        days = sorted({record.days for record in self._records})
        markets = len({record.seed for record in self._records})
        yield Text.assemble(
            ("Simulated markets", "bold"),
            (f"  {markets} of {' or '.join(map(str, days))} days, raw and guarded", FAINT),
        )
        yield self._table(
            "Survived",
            f"interval: Wilson's, {CONFIDENCE:.0%}; margins: whole ones lost; worst: trade, of its margin",
            self._survival_columns(),
        )
        for title, remark, key in (
            ("Profit", "quantiles over markets", "profit"),
            ("Max drawdown", "Freqtrade's, of closed trades", "max_drawdown"),
            ("Lowest equity", "open positions counted", "lowest_equity"),
        ):
            yield self._table(title, remark, _quantile_columns(key))
        yield Text()
        for each in paired(self._records):
            if each.better is not None and each.shallower is not None and each.profit_difference is not None:
                yield Text(
                    f"{clean(each.strategy)}: guarded made more in {each.better:.0%} of {each.markets} markets"
                    f" (median difference {each.profit_difference:+.1%}), had the smaller drawdown in {each.shallower:.0%};"
                    f" {each.saved} survived guarded only, {each.lost} raw only."
                )
        yield Text(f"Survived: {SURVIVED}.", FAINT)
        if any((each.worst_trade or 0.0) < -1.0 for each in self._survival):
            yield Text(BEYOND_MARGIN, FAINT)
        for record in self._records:
            if record.fault is not None:
                who = f"{record.strategy} {_mode(record.guarded)}, seed {record.seed}: {record.fault}"
                yield Text(clean(who), BAD)

    def _table(self, title: str, remark: str, columns: dict[str, Callable[[Survival], str]]) -> Table:
        table = titled(title, remark)
        table.add_column("strategy", overflow="fold", min_width=8)
        table.add_column("", no_wrap=True, min_width=7)
        for heading in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        for each in self._survival:
            cells = [show(each) for show in columns.values()]
            add_row(table, clean(each.strategy), _mode(each.guarded), *cells)
        return table

    def _survival_columns(self) -> dict[str, Callable[[Survival], str]]:
        failed: dict[str, Callable[[Survival], str]] = {"failed": lambda s: str(s.faults)}
        return SURVIVAL_COLUMNS | (failed if any(each.faults for each in self._survival) else {})


def _interval(each: Survival) -> str:
    return "" if each.interval is None else f"{each.interval[0]:.0%} to {each.interval[1]:.0%}"


SURVIVAL_COLUMNS: Final[dict[str, Callable[[Survival], str]]] = {
    "survived": lambda s: f"{s.survived} of {s.markets}" + ("" if s.share is None else f", {s.share:.0%}"),
    "interval": _interval,
    "liquidated": lambda s: f"{s.liquidations:,}",
    "margins": lambda s: f"{s.whole_margins_lost:,}",
    "worst": lambda s: "" if s.worst_trade is None else f"{s.worst_trade:.0%}",
}


def _quantile_columns(key: str) -> dict[str, Callable[[Survival], str]]:
    def show(place: int) -> Callable[[Survival], str]:
        def cell(each: Survival) -> str:
            values = getattr(each, key)
            return percent(values[place]) if values else ""

        return cell

    return {f"{q:.0%}": show(place) for place, q in enumerate(QUANTILES)}


def _mode(guarded: bool) -> str:
    return "guarded" if guarded else "raw"


# -- Arguments -----------------------------------------------------------------------------------------------


def parse_seeds(text: str) -> list[int]:
    """Parse seeds such as ``1-20`` or ``1,4,7-9``: ascending, each once.

    :raises argparse.ArgumentTypeError: for anything else, and for more than 10,000.
    """
    seeds: set[int] = set()
    try:
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            low, high = int(first), int(last if dash else first)
            if not 0 <= low <= high < low + MOST_SEEDS:
                raise ValueError
            seeds.update(range(low, high + 1))
    except ValueError:
        seeds = set()
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise argparse.ArgumentTypeError(
            f"must be whole numbers from 0 on such as 1-20 or 1,4,7-9, at most {MOST_SEEDS:,}, was {text!r}"
        )
    return sorted(seeds)


def _whole(smallest: int, largest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = smallest - 1
        if not smallest <= value <= largest:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {smallest} to {largest}, was {text!r}"
            )
        return value

    return parse


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text}")
    return Path(text).resolve()
