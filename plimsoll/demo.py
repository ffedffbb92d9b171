"""``plimsoll demo``: a strategy as it is and guarded, through stock Freqtrade on one market, offline."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plimsoll import journal
from plimsoll.figure_table import figure_rows
from plimsoll.figures import Bound, Figures, bound, figures
from plimsoll.guarded_source import SourceError, find, guarded_files, is_guarded
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import CompletedRun, RunFailed, RunTimeout, load_backtest, run_freqtrade
from plimsoll.prepared_market import MAX_OPEN_TRADES, START, Prepared, given, simulated
from plimsoll.shipped import SetupError, config_file, shipped_config, strategy_places

STRATEGY = "EmaCross"
# Of the first seven seeds the one with the median result of the unguarded strategy.
SEED = 7
DAYS, FEWEST_DAYS = 270, 5


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        "demo",
        help="compare a strategy as it is with the same strategy guarded, offline",
        description="Run stock `freqtrade backtesting` twice on the same market, with a strategy as it is and"
        " guarded, and print both side by side. Nothing leaves this machine.",
    )
    parser.add_argument("--seed", type=_whole(0), help=f"of the simulated market (default {SEED})")
    parser.add_argument("--days", type=_whole(FEWEST_DAYS), help=f"traded days to simulate (default {DAYS})")
    parser.add_argument(
        "--strategy", default=STRATEGY, help=f"unguarded strategy (default {STRATEGY}, at 5x)"
    )
    parser.add_argument("--strategy-path", type=_directory, metavar="DIR", help="where its file is")
    parser.add_argument(
        "--data", type=_directory, metavar="DIR", help="real candles instead, e.g. user_data/data/binance"
    )
    parser.add_argument(
        "--timerange", type=_timerange, help="part of --data to trade, e.g. 20230201-20240501"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="where to write (default user_data/demo, else a temporary one)",
    )
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Run the demonstration and print what came out; 0 only where both backtests succeeded."""
    if arguments.data is not None and (arguments.seed is not None or arguments.days is not None):
        arguments.refuse("--seed and --days are of the simulated market, not of --data")
    if arguments.timerange is not None and arguments.data is None:
        arguments.refuse("--timerange is a part of --data; a simulated market has --days")
    console = Console(highlight=False)
    try:
        _demonstrate(arguments, console)
    except (SetupError, SourceError, RunFailed, RunTimeout, OSError) as error:
        Console(stderr=True, highlight=False).print(Text(f"plimsoll demo: {error}"), soft_wrap=True)
        return 1
    return 0


def _demonstrate(arguments: argparse.Namespace, console: Console) -> None:
    started = time.monotonic()
    places = [arguments.strategy_path] if arguments.strategy_path else strategy_places()
    strategy, source = arguments.strategy, find(arguments.strategy, places)[0].resolve()
    directory = _directory_for(arguments.keep)
    guarded, guarded_path = _guarded_strategy(strategy, source, directory)
    with _phase(console, "Market") as said:
        if arguments.data is None:
            seed = SEED if arguments.seed is None else arguments.seed
            days = DAYS if arguments.days is None else arguments.days
            prepared = simulated(directory, seed, days)
            said(f"{len(prepared.pairs)} simulated pairs, seed {seed}, {days} days, one flash crash")
        else:
            prepared = given(arguments.data, arguments.timerange)
            said(f"{len(prepared.pairs)} pairs from {prepared.datadir}, {prepared.timerange}")
    with _phase(console, "Freqtrade") as said:
        raw_run, guarded_run = backtest_both(
            prepared,
            {directory / "raw": (strategy, source.parent), directory / "guarded": (guarded, guarded_path)},
        )
        said(f"2 backtests at once, {raw_run.seconds:.0f} s and {guarded_run.seconds:.0f} s")
    raw_run.check()
    guarded_run.check()

    results = [load_backtest(directory / "raw", strategy), load_backtest(directory / "guarded", guarded)]
    journal_path = directory / "guarded" / "plimsoll" / f"{guarded}-backtest.jsonl"
    records = journal.read(journal_path)
    buffer = float(shipped_config()["liquidation_buffer"])
    console.print()
    console.print(_comparison(figures(results[0], [], buffer), figures(results[1], records, buffer)))
    console.print(_bound_table(bound(records)))
    console.print("From Freqtrade's own results and the journal: what leverage does to a strategy.")
    console.print(f"\nResults  {results[0]['path']}\n         {results[1]['path']}", soft_wrap=True)
    console.print(f"Journal  {journal_path}", soft_wrap=True)
    if arguments.data is None:
        config = config_file()
        config = config.relative_to(Path.cwd()) if config.is_relative_to(Path.cwd()) else config
        console.print("Next     the same on real candles:")
        console.print(
            f"         freqtrade download-data -c {shlex.quote(str(config))} -t 1h --timerange 20230101-",
            soft_wrap=True,
        )
        console.print("         plimsoll demo --data user_data/data/binance")
    console.print(f"\n{time.monotonic() - started:.0f} s in total")


@contextmanager
def _phase(console: Console, name: str) -> Iterator[Callable[[str], None]]:
    outcome: list[str] = []
    with console.status(f"{name} ..."):
        yield outcome.append
    console.print(f"{name:<9} {' '.join(outcome)}", soft_wrap=True)


# -- Strategies --------------------------------------------------------------------------------------------


def _guarded_strategy(strategy: str, source: Path, directory: Path) -> tuple[str, Path]:
    if is_guarded(strategy, source):
        raise SetupError(f"{strategy} is guarded already; give the strategy below it, to compare both")
    name, place = f"Guarded{strategy}", directory / "strategies"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.json").unlink(missing_ok=True)  # of an earlier demonstration
    for file, text in guarded_files(strategy, source, str(source)).items():
        (place / file).write_text(text, encoding="utf-8")
    return name, place


# -- Backtests ---------------------------------------------------------------------------------------------


def backtest_both(prepared: Prepared, runs: Mapping[Path, tuple[str, Path]]) -> list[CompletedRun]:
    """Backtest at once, each in a user directory of its own, as Freqtrade keeps one newest result in each.

    :param runs: strategy and the directory of its file, by user directory.
    """
    command = ["backtesting", "--cache", "none", "--datadir", str(prepared.datadir)]
    command += ["--timerange", prepared.timerange]
    # Processes, because the keyboard's interrupt reaches them, not threads, and ends Freqtrade with them.
    spawning = multiprocessing.get_context("spawn")
    with (
        LoopbackExchange(prepared.pairs) as exchange,
        ProcessPoolExecutor(len(runs), mp_context=spawning) as pool,
    ):
        pending = []
        for user_data, (strategy, path) in runs.items():
            user_data.mkdir(parents=True, exist_ok=True)
            arguments = [*command, "--strategy", strategy, "--strategy-path", str(path)]
            pending.append(pool.submit(_backtest, arguments, user_data, exchange.url, prepared.pairs))
        return [future.result() for future in pending]


def _backtest(arguments: list[str], user_data: Path, url: str, pairs: tuple[str, ...]) -> CompletedRun:
    configs: list[Path | Mapping[str, Any]] = [config_file(), {"max_open_trades": MAX_OPEN_TRADES}]
    return run_freqtrade(
        arguments, user_data=user_data, configs=configs, exchange_url=url, pairs=pairs, timeout=3600.0
    )


# -- Printing ----------------------------------------------------------------------------------------------


def _comparison(raw: Figures, guarded: Figures) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("as it is", justify="right")
    table.add_column("guarded", justify="right")
    for row in figure_rows([raw, guarded], "USDT", 2):
        table.add_row(*row)
    return table


def _bound_table(found: Bound) -> Table:
    refused = found.refused.total()
    title = f"What bound: {found.granted + refused:,} signals, {found.granted:,} granted, {refused:,} refused"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="", show_header=False)
    for label, counts in (
        ("refused by", found.refused),
        ("leverage by", found.leverage),
        ("size by", found.size),
        ("tripped", found.tripped),
    ):
        table.add_row(label, ", ".join(f"{rule} {count:,}" for rule, count in counts.most_common()) or "none")
    if found.faults:
        table.add_row(
            "faults", f"{found.faults:,} callbacks failed; their entries were refused, see the journal"
        )
    return table


# -- Arguments ---------------------------------------------------------------------------------------------


def _directory_for(keep: Path | None) -> Path:
    user_data = Path("user_data")
    if keep is not None:
        directory = keep
    elif user_data.is_dir() and os.access(user_data, os.W_OK):
        directory = user_data / "demo"
    else:
        directory = Path(tempfile.mkdtemp(prefix="plimsoll-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def _whole(smallest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = smallest - 1
        if value < smallest:
            raise argparse.ArgumentTypeError(f"must be a whole number from {smallest} on, was {text!r}")
        return value

    return parse


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text}")
    return Path(text).resolve()


def _timerange(text: str) -> str:
    try:
        first, last = (datetime.strptime(part, "%Y%m%d").replace(tzinfo=UTC) for part in text.split("-"))
    except ValueError:
        first = last = START
    if first >= last:
        raise argparse.ArgumentTypeError(f"must be like 20230201-20240501, was {text!r}")
    return text
