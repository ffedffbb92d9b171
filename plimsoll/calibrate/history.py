"""The closed trades that a calibration is of: from an exported backtest, or from a bot's database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd

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
