"""Read what one run left behind: Freqtrade's export and the guard's journal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pandas as pd

from plimsoll.figures import Figures, figures
from plimsoll.market.runner import Backtest
from plimsoll.report.comparison import Comparison, ComparisonFault, Run
from plimsoll.worst_prices import COLUMN

COLUMNS: Final = (
    "pair", "is_short", "open_timestamp", "close_timestamp", "open_rate", "close_rate", "min_rate", "max_rate",
    "amount", "stake_amount", "max_stake_amount", "leverage", "profit_ratio", "profit_abs", "exit_reason", "enter_tag",
    "initial_stop_loss_abs", "stop_loss_abs",
)  # fmt: skip
NUMBERS: Final = tuple(
    name for name in COLUMNS if name not in ("pair", "is_short", "exit_reason", "enter_tag")
)

LEFT_OPEN: Final = "force_exit"

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Hold a run's statistics as Freqtrade exported them, its trades in the order of the export, and its journal.

    Trades have the exported columns plus ``opened`` and ``closed`` (UTC) and ``side``, and with ``worst_rate``,
    NaN where the comparison has none. Records of plans come without the
    rules' answers, with the ``equity`` they were made at; None stands for a journal that there is not.
    """

    run: Run
    stats: Record
    trades: pd.DataFrame
    records: list[Record] | None
    buffer: float
    path: Path

    @property
    def currency(self) -> str:
        return str(self.stats["stake_currency"])

    @property
    def decimals(self) -> int:
        return int(self.stats.get("stake_currency_decimals") or 2)

    @property
    def left_open(self) -> int:
        """Count the trades that were open at the backtest's end, where Freqtrade closes them."""
        return int((self.trades["exit_reason"] == LEFT_OPEN).sum())

    @property
    def balance(self) -> float:
        return float(self.stats["starting_balance"])

    @property
    def begins(self) -> pd.Timestamp:
        return pd.Timestamp(int(self.stats["backtest_start_ts"]), unit="ms", tz="UTC")

    @property
    def ends(self) -> pd.Timestamp:
        return pd.Timestamp(int(self.stats["backtest_end_ts"]), unit="ms", tz="UTC")

    @property
    def backtest(self) -> Backtest:
        return Backtest(strategy=self.run.strategy, stats=self.stats, trades=self.trades, path=self.path)

    @cached_property
    def figures(self) -> Figures:
        return figures(self.backtest, self.records or [], self.buffer)

    @cached_property
    def plans(self) -> list[Record]:
        """Return each signal's plan as it ended: Freqtrade may ask for one twice."""
        found = {(r["time"], r["pair"], r["side"]): r for r in self.of_kind("plan")}
        return list(found.values())

    def of_kind(self, kind: str) -> list[Record]:
        """Return the journal's records of a kind."""
        return [record for record in self.records or () if record["kind"] == kind]


def gather(directory: Path, comparison: Comparison) -> list[Evidence]:
    """Read every run of a comparison.

    :raises ComparisonFault: where an export cannot be read; a journal that is missing is none
    """
    if not comparison.runs:
        raise ComparisonFault(f"the comparison in {directory} has no runs")
    return [_evidence(directory, run, comparison.liquidation_buffer) for run in comparison.runs]


def _evidence(directory: Path, run: Run, buffer: float) -> Evidence:
    # Freqtrade takes seconds to import, which no argument error should wait for.
    from freqtrade.data.btanalysis import load_backtest_stats
    from freqtrade.exceptions import OperationalException

    path = directory / run.export
    try:
        loaded: Any = load_backtest_stats(path)
        stats: Record = loaded["strategy"][run.strategy]
        trades = _trades(stats["trades"])
        trades[COLUMN] = _worst_prices(directory, run, len(trades))
        records = None if run.journal is None else list(_records(directory / run.journal))
    except (ValueError, KeyError, TypeError, OSError, OperationalException) as error:
        raise ComparisonFault(f"run {run.name!r} could not be read from {path}: {error!r}") from error
    return Evidence(run=run, stats=stats, trades=trades, records=records or None, buffer=buffer, path=path)


def _trades(exported: list[Record]) -> pd.DataFrame:
    trades = pd.DataFrame(exported, columns=list(COLUMNS))
    trades[list(NUMBERS)] = trades[list(NUMBERS)].apply(pd.to_numeric)
    trades["is_short"] = trades["is_short"].astype(bool)
    # A tag may be missing; the texts are shown, so they are texts from here on.
    for name in ("pair", "exit_reason", "enter_tag"):
        trades[name] = trades[name].fillna("").astype(str)
    trades["side"] = trades["is_short"].map({True: "short", False: "long"}).astype(str)
    trades["opened"] = pd.to_datetime(trades["open_timestamp"], unit="ms", utc=True)
    trades["closed"] = pd.to_datetime(trades["close_timestamp"], unit="ms", utc=True)
    return trades


def _worst_prices(directory: Path, run: Run, count: int) -> list[float]:
    try:
        stored = (
            json.loads((directory / run.worst_prices).read_text(encoding="utf-8")) if run.worst_prices else []
        )
        prices = [math.nan if price is None else float(price) for price in stored]
    except (OSError, ValueError, TypeError):
        prices = []
    return prices if len(prices) == count else [math.nan] * count


def _records(path: Path) -> Iterator[Record]:
    # Line by line and without the answers: a journal of years on 5m candles is hundreds of megabytes.
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:  # torn by a killed process
                continue
            if isinstance(record, dict) and "kind" in record:
                if record["kind"] == "plan":
                    record["equity"] = _equity(record.pop("answers", None) or ())
                yield record


def _equity(answers: Any) -> float | None:
    for answer in answers:
        equity = answer.get("numbers", {}).get("equity")
        if equity is not None:
            return float(equity)
    return None
