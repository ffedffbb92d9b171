"""Compare what the page computes from single trades with what Freqtrade's export says of the same run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from plimsoll.report.course import course, daily
from plimsoll.report.evidence import Evidence

RATIO_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Check:
    """Hold one number computed here and the same as Freqtrade states it; ``tolerance`` is in its unit."""

    run: str
    name: str
    ours: float
    theirs: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return abs(self.ours - self.theirs) <= self.tolerance


def check(evidence: Evidence) -> list[Check]:
    """Compare a run's totals, drawdown, sides, pairs and days with the export, and its outcomes with the journal.

    Amounts must agree to half of the currency's last decimal (at most half a cent), counts exactly.
    """
    half = 0.5 * 10.0 ** -max(2, evidence.decimals)
    run = evidence.run.name
    return [
        Check(run, name, float(ours), float(theirs), {"amount": half, "ratio": RATIO_ROUNDING}.get(unit, 0.0))
        for unit, name, ours, theirs in (
            *_totals(evidence),
            *_drawdown(evidence),
            *_groups(evidence, "pair", "results_per_pair"),
            *_groups(evidence, "exit_reason", "exit_reason_summary"),
            *_groups(evidence, "enter_tag", "results_per_enter_tag"),
            *_days(evidence),
            *_journal(evidence),
        )
    ]


def unit(evidence: Evidence) -> str:
    """Return the smallest amount of a run's currency that is told apart, as 0.001 USDT."""
    return f"{10.0**-evidence.decimals:.{evidence.decimals}f} {evidence.currency}"


_Pairs = Iterator[tuple[str, str, Any, Any]]


def _totals(evidence: Evidence) -> _Pairs:
    trades, stats = evidence.trades, evidence.stats
    profit, total = trades["profit_abs"], float(trades["profit_abs"].sum())
    yield "amount", "final balance", evidence.balance + total, stats["final_balance"]
    yield "amount", "profit", total, stats.get("profit_total_abs", 0.0)
    yield "ratio", "profit, ratio", total / evidence.balance, stats.get("profit_total", 0.0)
    yield "count", "trades", len(trades), stats.get("total_trades", 0)
    for side, theirs in (("long", "trade_count_long"), ("short", "trade_count_short")):
        of_side = profit[trades["side"] == side]
        yield "count", f"{side} trades", len(of_side), stats.get(theirs, 0)
        yield "amount", f"{side} profit", of_side.sum(), stats.get(f"profit_total_{side}_abs", 0.0)
    for name, count in (("wins", profit > 0), ("losses", profit < 0), ("draws", profit == 0)):
        if name in stats:
            yield "count", name, count.sum(), stats[name]


def _drawdown(evidence: Evidence) -> _Pairs:
    found, stats = course(evidence), evidence.stats
    yield "amount", "max drawdown, amount", found.deepest_amount, stats.get("max_drawdown_abs", 0.0)
    ratio = found.ratio_at_deepest_amount
    yield "ratio", "max drawdown, ratio", ratio, stats.get("max_drawdown_account", 0.0)
    deepest = stats.get("max_relative_drawdown", 0.0)
    yield "ratio", "max relative drawdown, ratio", found.deepest_ratio, deepest


def _groups(evidence: Evidence, column: str, name: str) -> _Pairs:
    theirs = {_key(row["key"]): row for row in evidence.stats.get(name, ()) if _key(row["key"]) != "TOTAL"}
    ours = evidence.trades.groupby(column)["profit_abs"].agg(["sum", "count"])
    # Freqtrade leaves trades without a tag out of its tags.
    for key in sorted({*theirs, *filter(None, ours.index)}):
        amount, count = ours.loc[key] if key in ours.index else (0.0, 0)
        row = theirs.get(key, {"profit_total_abs": 0.0, "trades": 0})
        label = f"{column.replace('_', ' ')} {key or '(none)'}"
        yield "amount", f"{label}, profit", amount, row["profit_total_abs"]
        yield "count", f"{label}, trades", count, row["trades"]


def _key(key: Any) -> str:
    return key if isinstance(key, str) else " ".join(map(str, key)) if key else ""


def _days(evidence: Evidence) -> _Pairs:
    ours = daily(evidence)["profit"]
    for day, theirs in evidence.stats.get("daily_profit", ()):
        yield "amount", f"profit of {day}", ours.get(pd.Timestamp(day, tz="UTC"), 0.0), theirs


def _journal(evidence: Evidence) -> _Pairs:
    outcomes = evidence.of_kind("outcome")
    if evidence.records is None:
        return
    yield "count", "journal's outcomes", len(outcomes), len(evidence.trades)
    told = sum(float(record["profit"]) for record in outcomes)
    yield "amount", "journal's profit", told, evidence.trades["profit_abs"].sum()
