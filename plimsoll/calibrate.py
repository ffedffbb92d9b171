"""``plimsoll calibrate``: the drawdown that luck alone brings, the size that fits, and the decay baseline."""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plimsoll.rules import decay
from plimsoll.rules.bootstrap import MIN_DAYS, bootstrap_drawdown, size_that_fits

PATHS: Final = 10_000
HORIZON_DAYS: Final = 180
BLOCK_DAYS: Final = 5
LIMIT: Final = 0.20
OUTPUT: Final = Path("baseline.json")
DAY: Final = pd.Timedelta(days=1)


class CalibrationError(Exception):
    """What the user can put right; the message says how."""


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """Hold a strategy's closed trades and the period they are of.

    ``trades`` has the columns ``closed`` (UTC), ``profit`` (stake currency) and ``profit_ratio`` (on
    notional, fees and funding included), in the order of their close. ``balance`` is what the period began
    with, in stake currency.
    """

    strategy: str
    source: str
    begins: pd.Timestamp
    ends: pd.Timestamp
    balance: float
    trades: pd.DataFrame

    @property
    def days(self) -> float:
        """Return the length of the period in days."""
        return max(float((self.ends - self.begins) / DAY), 1.0)


@dataclass(frozen=True, kw_only=True)
class Drawdown:
    """Hold what the bootstrap found: quantiles of the deepest drawdown, and the size at which it fits."""

    limit: float
    median: float
    q95: float
    q99: float
    exceed_probability: float
    size_factor: float
    q95_at_size: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Hold a calibration; what the history is too short or too poor for is None, and ``notes`` says why."""

    history: History
    days: int
    drawdown: Drawdown | None
    baseline: decay.Baseline | None
    statement: str
    notes: tuple[str, ...]


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


# -- Histories ---------------------------------------------------------------------------------------------


def from_backtest(path: Path, strategy: str | None = None) -> History:
    """Read an exported backtest: a file, or the newest in a directory.

    :raises CalibrationError: where there is none, or several strategies and none chosen.
    """
    # Freqtrade takes seconds to import, which no argument error should wait for.
    from freqtrade.data.btanalysis import load_backtest_stats
    from freqtrade.exceptions import OperationalException

    place = next((p for p in (path / "backtest_results", path) if p.is_dir()), path)
    try:
        loaded: Any = load_backtest_stats(place)
        every: dict[str, Any] = loaded["strategy"]
    except (ValueError, KeyError, TypeError, OSError, OperationalException) as error:
        raise CalibrationError(f"no backtest could be read from {path}: {error}") from error
    stats = every[_chosen(list(every), strategy, str(path))]
    columns = ["close_timestamp", "profit_abs", "profit_ratio", "leverage"]
    trades = pd.DataFrame(stats["trades"], columns=columns)
    return History(
        strategy=stats["strategy_name"],
        source=str(place),
        begins=_timestamp(stats["backtest_start_ts"]),
        ends=_timestamp(stats["backtest_end_ts"]),
        balance=float(stats["starting_balance"]),
        trades=_trades(
            pd.to_datetime(trades["close_timestamp"], unit="ms", utc=True),
            trades["profit_abs"],
            trades["profit_ratio"],
            trades["leverage"],
        ),
    )


def from_database(url: str, balance: float, strategy: str | None = None) -> History:
    """Read the closed trades of a bot's SQLite database, from its first start to its last sign of life.

    It is opened read-only.

    :raises CalibrationError: where it cannot be read, or several strategies are in it and none is chosen.
    """
    path = Path(url.removeprefix("sqlite:///"))
    if not url.startswith("sqlite:///") or not path.is_file():
        raise CalibrationError(f"`db` must be sqlite:/// and the path of an existing file, was {url!r}")
    try:
        address = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
            frame = pd.read_sql_query(
                "SELECT strategy, open_date, close_date, close_profit_abs, close_profit, leverage FROM trades"
                " WHERE is_open = 0 AND close_date IS NOT NULL AND close_profit IS NOT NULL",
                connection,
            )
            begun = _moments(
                connection, "SELECT datetime_value FROM KeyValueStore WHERE key = 'bot_start_time'"
            )
            seen = _moments(connection, "SELECT max(timestamp) FROM wallet_history")
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
        raise CalibrationError(f"{path} is no database of Freqtrade's: {error}") from error
    if frame.empty:
        raise CalibrationError(f"{path} holds no closed trade")
    name = _chosen(sorted(frame["strategy"].dropna().unique()), strategy, str(path))
    frame = frame[frame["strategy"] == name]
    opened, closed = (
        pd.to_datetime(frame[c], utc=True, format="ISO8601") for c in ("open_date", "close_date")
    )
    return History(
        strategy=name,
        source=str(path),
        begins=min([opened.min(), *begun]),
        ends=max([closed.max(), *seen]),
        balance=balance,
        trades=_trades(closed, frame["close_profit_abs"], frame["close_profit"], frame["leverage"]),
    )


def _chosen(names: list[str], wanted: str | None, place: str) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted not in names:
        raise CalibrationError(f"--strategy must be one of {', '.join(names)} in {place}, was {wanted}")
    return wanted


def _moments(connection: sqlite3.Connection, query: str) -> list[pd.Timestamp]:
    try:
        values = [row[0] for row in connection.execute(query) if row[0] is not None]
    except sqlite3.OperationalError:  # an older Freqtrade has no such table
        return []
    return list(pd.to_datetime(pd.Series(values, dtype="str"), utc=True, format="ISO8601"))


def _trades(
    closed: pd.Series[Any], profit: pd.Series[Any], ratio: pd.Series[Any], leverage: pd.Series[Any]
) -> pd.DataFrame:
    # Freqtrade's ratio is on margin; the rules speak of notional.
    on_notional = ratio.astype(float) / leverage.fillna(1.0).astype(float)
    frame = pd.DataFrame({"closed": closed, "profit": profit.astype(float), "profit_ratio": on_notional})
    return frame.sort_values("closed", kind="stable").reset_index(drop=True)


def _timestamp(milliseconds: float) -> pd.Timestamp:
    return pd.Timestamp(datetime.fromtimestamp(milliseconds / 1000.0, UTC))


# -- Calibration -------------------------------------------------------------------------------------------


def daily_returns(history: History) -> npt.NDArray[np.float64]:
    """Compute profit of each UTC day / equity at its start, days without a closed trade included as 0.

    Profit counts on the day its trade closes: exports and databases do not know the open profit of past days.

    :raises CalibrationError: where a day begins without equity.
    """
    first, last = history.begins.floor("D"), history.ends.floor("D")
    days = pd.date_range(first, max(first, last), freq="D")
    # A position that is left open closes at the very end of a backtest, which may be the next day's midnight.
    closed = history.trades["closed"].dt.floor("D").clip(days[0], days[-1])
    profit = (
        history.trades["profit"].groupby(closed).sum().reindex(days, fill_value=0.0).to_numpy(dtype=float)
    )
    equity = history.balance + np.concatenate(([0.0], np.cumsum(profit)[:-1]))
    if not (equity > 0.0).all():
        gone = days[int(np.argmin(equity > 0.0))]
        raise CalibrationError(f"{history.strategy} had lost everything by {gone:%Y-%m-%d}: no size fits")
    returns: npt.NDArray[np.float64] = profit / equity
    return returns


def calibrate(history: History, *, limit: float = LIMIT, paths: int = PATHS, seed: int = 0) -> Calibration:
    """Bootstrap the drawdown of a strategy's own daily profit, and measure its trades for the decay."""
    returns, notes = daily_returns(history), []
    found = None
    if len(returns) >= MIN_DAYS:
        found = _drawdown(returns, limit, paths, seed)
    else:
        notes.append(
            f"{len(returns)} days, {MIN_DAYS} are needed: the drawdown is not calibrated, the breaker at"
            f" {limit:.6g} of the peak alone holds"
        )
    baseline, reason = _baseline(history)
    if reason:
        notes.append(reason)
    elif baseline is not None and baseline.trades < decay.FULL_BASELINE_TRADES:
        notes.append(
            f"{baseline.trades} trades, {decay.FULL_BASELINE_TRADES} are needed for the decay breaker to"
            " pause: it only halves the size"
        )
    statement = decay.statement(decay.Config(baseline=baseline))
    return Calibration(
        history=history,
        days=len(returns),
        drawdown=found,
        baseline=baseline,
        statement=statement,
        notes=tuple(notes),
    )


def _drawdown(returns: npt.NDArray[np.float64], limit: float, paths: int, seed: int) -> Drawdown:
    common = {"block": BLOCK_DAYS, "paths": paths, "horizon": HORIZON_DAYS, "seed": seed}
    full = bootstrap_drawdown(returns, **common)
    fit = size_that_fits(returns, limit=limit, **common)
    return Drawdown(
        limit=limit,
        median=full.q50,
        q95=full.q95,
        q99=full.q99,
        exceed_probability=full.exceed_probability(limit),
        size_factor=fit.factor,
        q95_at_size=full.q95 if fit.drawdown is None else fit.drawdown,
    )


def _baseline(history: History) -> tuple[decay.Baseline | None, str]:
    ratios = history.trades["profit_ratio"]
    if len(ratios) < 2:
        return None, f"{len(ratios)} trades: no decay baseline"
    mean, deviation = float(ratios.mean()), float(ratios.std(ddof=1))
    if not mean > 0.0:
        return None, f"the mean trade earns {mean:+.3%} of its notional: no edge, so no decay baseline"
    if not deviation > 1e-9 * mean:  # equal but for rounding
        return None, "all trades earn the same: no decay baseline"
    rate = len(ratios) / history.days
    return decay.Baseline(mean=mean, deviation=deviation, trades=len(ratios), trades_per_day=rate), ""


def document(calibration: Calibration) -> dict[str, Any]:
    """Return what is written; ``plimsoll.decay.baseline`` in Freqtrade's config names the file."""
    history, found, baseline = calibration.history, calibration.drawdown, calibration.baseline
    written: dict[str, Any] = {} if baseline is None else {"decay": asdict(baseline)}
    bootstrap = {"paths": PATHS, "horizon_days": HORIZON_DAYS, "block_days": BLOCK_DAYS}
    return written | {
        "decay_statement": calibration.statement,
        "drawdown": None if found is None else asdict(found) | bootstrap,
        "notes": list(calibration.notes),
        "of": {
            "strategy": history.strategy,
            "source": history.source,
            "begins": history.begins.isoformat(),
            "ends": history.ends.isoformat(),
            "days": calibration.days,
            "trades": len(history.trades),
        },
    }


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(f"{text}\n", encoding="utf-8")
    partial.replace(path)


# -- Printing ----------------------------------------------------------------------------------------------


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


# -- Arguments ---------------------------------------------------------------------------------------------


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
