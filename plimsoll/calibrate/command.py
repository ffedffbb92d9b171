"""``plimsoll calibrate``: measure a strategy's drawdown by chance, and write its decay baseline."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plimsoll.calibrate.history import CalibrationError, from_backtest, from_database
from plimsoll.calibrate.measure import (
    BLOCK_DAYS,
    HORIZON_DAYS,
    LIMIT,
    PATHS,
    Calibration,
    calibrate,
    document,
)

OUTPUT: Final = Path("baseline.json")


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        "calibrate",
        help="measure a strategy's drawdown by chance, and write its decay baseline",
        description="Resample a backtest's or a dry-run's daily profit: the drawdown that luck alone"
        " brings, the size at which it fits the breaker, and the baseline of the decay breaker.",
    )
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="BACKTEST",
        help="an exported result (.zip, .json), or a directory with results, of which the newest is taken",
    )
    parser.add_argument(
        "--db", metavar="URL", help="a dry-run's database instead, e.g. sqlite:///tradesv3.dryrun.sqlite"
    )
    parser.add_argument("--strategy", help="which one, where there are several")
    parser.add_argument(
        "--balance", type=_positive, help="with --db: what the dry-run began with (dry_run_wallet)"
    )
    parser.add_argument(
        "--limit", type=_ratio, default=LIMIT, help=f"of the drawdown breaker (default {LIMIT:g})"
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, metavar="FILE", help=f"to write (default {OUTPUT})"
    )
    parser.add_argument("--json", action="store_true", help="print what is written instead of tables")
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, write the file and print what came out; 0 only where the file was written."""
    if (arguments.source is None) == (arguments.db is None):
        arguments.refuse("give either BACKTEST or --db")
    if (arguments.db is None) != (arguments.balance is None):
        arguments.refuse("--db needs --balance, a backtest knows its own")
    console = Console(highlight=False)
    try:
        if arguments.db is None:
            history = from_backtest(arguments.source, arguments.strategy)
        else:
            history = from_database(arguments.db, arguments.balance, arguments.strategy)
        calibration = calibrate(history, limit=arguments.limit)
        text = json.dumps(document(calibration), indent=2)
        _write(arguments.output, text)
    except (CalibrationError, OSError) as error:
        Console(stderr=True, highlight=False).print(Text(f"plimsoll calibrate: {error}"), soft_wrap=True)
        return 1
    if arguments.json:
        console.print(Text(text), soft_wrap=True)
    else:
        _show(calibration, arguments.output.resolve(), console)
    return 0


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(f"{text}\n", encoding="utf-8")
    partial.replace(path)


def _show(calibration: Calibration, path: Path, console: Console) -> None:
    history, found = calibration.history, calibration.drawdown
    console.print(
        f"{history.strategy}: {len(history.trades):,} trades on {calibration.days:,} days,"
        f" {history.begins:%Y-%m-%d} to {history.ends:%Y-%m-%d}, from {history.source}",
        soft_wrap=True,
    )
    if found is not None:
        console.print(
            f"\nDrawdown by chance within {HORIZON_DAYS} days, {PATHS:,} paths of {BLOCK_DAYS}-day blocks",
            soft_wrap=True,
        )
        table = Table(box=box.SIMPLE_HEAD, show_header=False)
        table.add_column("")
        table.add_column("", justify="right")
        table.add_row("Median", f"{found.median:.1%}")
        table.add_row("95th percentile", f"{found.q95:.1%}")
        table.add_row("99th percentile", f"{found.q99:.1%}")
        table.add_row(f"Chance to trip a breaker at {found.limit:.6g}", f"{found.exceed_probability:.1%}")
        table.add_row("Size at which the 95th percentile fits", f"x{found.size_factor:.3g}")
        table.add_row("95th percentile at that size", f"{found.q95_at_size:.1%}")
        console.print(table)
        console.print(
            "Profit counts when a trade closes; open losses are in no export and come on top.", soft_wrap=True
        )
    for note in calibration.notes:
        console.print(Text(f"Note: {note}"), soft_wrap=True)
    console.print(Text(calibration.statement), soft_wrap=True)
    console.print(Text(f"\nWritten  {path}"), soft_wrap=True)
    if calibration.baseline is not None:
        setting = json.dumps({"plimsoll": {"decay": {"baseline": str(path)}}})
        console.print(Text(f"Config   {setting}"), soft_wrap=True)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _ratio(text: str) -> float:
    value = _number(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"must be a ratio in (0, 1), was {text!r}")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, was {text!r}")
    return value
