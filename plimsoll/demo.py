"""``plimsoll demo``: a strategy as it is and guarded, through stock Freqtrade on one market, offline."""

from __future__ import annotations

import argparse
import ast
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plimsoll import journal
from plimsoll.figures import Bound, Figures, bound, figures
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import CompletedRun, RunFailed, RunTimeout, load_backtest, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

STRATEGY = "EmaCross"
# Of the first seven seeds the one with the median result of the unguarded strategy.
SEED = 7
DAYS, FEWEST_DAYS = 270, 5
# The guard needs 745 hours of candles before the first plan.
WARM_UP = timedelta(days=32)
START = datetime(2023, 1, 1, tzinfo=UTC)
MAX_OPEN_TRADES = 5
WHOLE_MARGIN = -0.95
BEYOND_R = -1.05


class DemoError(Exception):
    """What the user can put right; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Where the candles are and what of them is traded."""

    datadir: Path
    pairs: tuple[str, ...]
    timerange: str


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
    except (DemoError, RunFailed, RunTimeout, OSError) as error:
        Console(stderr=True, highlight=False).print(Text(f"plimsoll demo: {error}"), soft_wrap=True)
        return 1
    return 0


def _demonstrate(arguments: argparse.Namespace, console: Console) -> None:
    started = time.monotonic()
    strategy, source = arguments.strategy, _strategy_file(arguments.strategy, arguments.strategy_path)
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
    buffer = float(_config()["liquidation_buffer"])
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
            f"         freqtrade download-data -c {config} -t 1h --timerange 20230101-", soft_wrap=True
        )
        console.print("         plimsoll demo --data user_data/data/binance")
    console.print(f"\n{time.monotonic() - started:.0f} s in total")


@contextmanager
def _phase(console: Console, name: str) -> Iterator[Callable[[str], None]]:
    outcome: list[str] = []
    with console.status(f"{name} ..."):
        yield outcome.append
    console.print(f"{name:<9} {' '.join(outcome)}", soft_wrap=True)


# -- Market ------------------------------------------------------------------------------------------------


def simulated(directory: Path, seed: int, days: int) -> Prepared:
    """Simulate the default pairs into files below ``directory``: ``days`` to trade, and a warm-up before."""
    # Freqtrade's handlers bring the whole of it along, which no argument error should wait for.
    from plimsoll.market.candle_files import write_market

    datadir = directory / "data" / "binance"
    write_market(simulate_market(seed, WARM_UP.days + days, START), datadir)
    first = START + WARM_UP
    pairs = tuple(model.pair for model in DEFAULT_PAIRS)
    return Prepared(
        datadir=datadir, pairs=pairs, timerange=f"{first:%Y%m%d}-{first + timedelta(days=days):%Y%m%d}"
    )


def given(data: Path, timerange: str | None) -> Prepared:
    """Look up the pairs of a data directory; they are traded from the end of the warm-up on."""
    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType, TradingMode

    datadir = data if (data / "futures").is_dir() else data / "binance"
    if not (datadir / "futures").is_dir():
        raise DemoError(f"there is no directory `futures` in {data}; Freqtrade's is user_data/data/binance")
    handler = get_datahandler(datadir, "feather")
    available = handler.ohlcv_get_available_data(datadir, TradingMode.FUTURES)
    found = {pair for pair, step, kind in available if (step, kind) == ("1h", CandleType.FUTURES)}
    # Freqtrade asks the pairs in this order, and whoever comes first gets the free slot.
    known = [pair for pair in _config()["exchange"]["pair_whitelist"] if pair in found]
    pairs = (*known, *sorted(found.difference(known)))
    if not pairs:
        raise DemoError(f"there are no 1h candles in {datadir}; get them with `freqtrade download-data`")
    spans = [handler.ohlcv_data_min_max(pair, "1h", CandleType.FUTURES) for pair in pairs]
    first, last = min(span[0] for span in spans) + WARM_UP, max(span[1] for span in spans)
    if timerange is None and first >= last:
        raise DemoError(
            f"{datadir} holds less than the {WARM_UP.days} days of candles that come before a plan"
        )
    return Prepared(datadir=datadir, pairs=pairs, timerange=timerange or f"{first:%Y%m%d}-{last:%Y%m%d}")


# -- Strategies --------------------------------------------------------------------------------------------


def shipped(name: str) -> Path:
    """Find a file or directory that Plimsoll ships: at the root of a checkout, in an installed package."""
    package = Path(__file__).parent
    found = next((path for path in (package.parent / name, package / name) if path.exists()), None)
    if found is None:
        raise DemoError(f"{name} is missing in this installation of Plimsoll")
    return found


def config_file() -> Path:
    """Return the configuration that Plimsoll ships."""
    return shipped("config.json")


def _config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads(config_file().read_text(encoding="utf-8"))
    return config


def _strategy_file(strategy: str, directory: Path | None) -> Path:
    places = [directory] if directory else [shipped("strategies"), Path("user_data", "strategies")]
    for place in places:
        for path in sorted(place.glob("*.py")):
            if strategy in _classes(path):
                return path.resolve()
    raise DemoError(
        f"there is no strategy {strategy} in {' or '.join(map(str, places))}; see --strategy-path"
    )


def _classes(path: Path) -> dict[str, list[str]]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return {}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {node.name: [ast.unparse(base) for base in node.bases] for node in classes}


def _guarded_strategy(strategy: str, source: Path, directory: Path) -> tuple[str, Path]:
    classes = _classes(source)
    if any(base.split(".")[-1] == "Guarded" for base in classes[strategy]):
        raise DemoError(f"{strategy} is guarded already; give the strategy below it, to compare both")
    name = f"Guarded{strategy}"
    if name in classes:
        return name, source.parent
    place = directory / "strategies"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.py").write_text(
        f'"""Written by `plimsoll demo`."""\n\nimport sys\n\nsys.path.insert(0, {str(source.parent)!r})\n\n'
        f"from {source.stem} import {strategy}\nfrom plimsoll import Guarded\n\n\n"
        f"class {name}(Guarded, {strategy}):\n    pass\n",
        encoding="utf-8",
    )
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

    def row(label: str, show: Callable[[Figures], str]) -> None:
        table.add_row(label, show(raw), show(guarded))

    row("Final balance, USDT", lambda f: f"{f.final_balance:,.2f}")
    row("Total profit", lambda f: f"{f.profit:+.2%}")
    row("Max drawdown", lambda f: f"{f.max_drawdown:.2%}")
    row("Trades", lambda f: f"{f.trades:,}")
    row("Liquidations", lambda f: f"{f.liquidations:,}")
    row("Trades losing 95 % of their margin or more", lambda f: f"{f.whole_margin_losses:,}")
    row("Worst trade, of its margin", lambda f: _or_none(f.worst_margin, "{:+.1%}"))
    row("Worst trade, in R as planned", lambda f: _or_none(f.worst_r, "{:+.2f} R"))
    row("Trades losing over 1.05 R", lambda f: _or_none(f.beyond_r, "{:,}"))
    row("Stops outside liquidation at fill", lambda f: f"{f.stops_outside:,}")
    row("Average leverage", lambda f: _or_none(f.mean_leverage, "{:.2f}x"))
    row("Most margin in use, of the balance", lambda f: f"{f.max_margin:.1%}")
    return table


def _or_none(value: float | None, pattern: str) -> str:
    return "not planned" if value is None else pattern.format(value)


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
