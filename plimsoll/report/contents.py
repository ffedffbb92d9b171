"""Gather everything the page, the JSON document and the Markdown summary say, once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from plimsoll.figures import bound
from plimsoll.report.charts.balance import equity
from plimsoll.report.charts.base import Chart, run_name
from plimsoll.report.charts.chance import by_chance
from plimsoll.report.charts.days import calendar
from plimsoll.report.charts.layers import ablation
from plimsoll.report.charts.leverages import audit
from plimsoll.report.charts.liquidations import liquidation
from plimsoll.report.charts.outcomes import planned_and_realised
from plimsoll.report.charts.pairs import pairs_and_sides
from plimsoll.report.charts.refusals import refusals
from plimsoll.report.charts.sizes import leverage, size
from plimsoll.report.checks import Check, check
from plimsoll.report.comparison import Comparison, Kind, read
from plimsoll.report.decisions import refused, trips
from plimsoll.report.evidence import Evidence, gather
from plimsoll.report.verdict import verdict

VERSION: Final = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """Hold a comparison's verdict, runs, checks, charts and the same as plain values."""

    comparison: Comparison
    runs: list[Evidence]
    verdict: str
    checks: list[Check]
    charts: list[Chart]
    document: dict[str, Any]

    @property
    def disagreements(self) -> list[Check]:
        return [one for one in self.checks if not one.agrees]

    def first(self, kind: Kind) -> Evidence | None:
        """Return the first run of a kind."""
        return next((run for run in self.runs if run.run.kind == kind), None)

    @property
    def compared(self) -> list[Evidence]:
        """Return the raw and the guarded run, as far as there are both; else the first run of all."""
        found = [run for run in (self.first("raw"), self.first("guarded")) if run is not None]
        return found or self.runs[:1]


def contents(directory: Path) -> Contents:
    """Read a comparison with all its runs and work out what there is to say.

    :raises ComparisonFault: where the comparison or an export cannot be read
    """
    comparison = read(directory)
    runs = gather(directory, comparison)
    raw, guarded = (next((r for r in runs if r.run.kind == kind), None) for kind in ("raw", "guarded"))
    compared = [run for run in (raw, guarded) if run is not None] or runs[:1]
    limits = comparison.settings
    breaker = _limit(limits, "drawdown", "limit")
    chance, drawdowns = by_chance(compared, breaker)
    pairs, groups = pairs_and_sides(compared)
    charts = [
        equity(compared, breaker),
        *planned_and_realised(guarded),
        leverage(compared),
        size(compared),
        refusals(guarded, raw),
        ablation(guarded, raw, [run for run in runs if run.run.kind == "without"]),
        audit(runs),
        *liquidation(compared),
        calendar(compared, _limit(limits, "loss_limit", "daily"), _other_days(limits)),
        chance,
        pairs,
    ]
    checks = [one for run in runs for one in check(run)]
    said = verdict(
        comparison.strategy,
        compared[0].currency,
        compared[0].decimals,
        None if raw is None else raw.figures,
        None if guarded is None else guarded.figures,
    )
    document = {
        "version": VERSION,
        "verdict": said,
        "strategy": comparison.strategy,
        "timerange": comparison.timerange,
        "pairs": list(comparison.pairs),
        "freqtrade": comparison.freqtrade,
        "plimsoll": comparison.plimsoll,
        "settings": comparison.settings,
        "runs": [_run(run, checks) for run in runs],
        "decisions": None if guarded is None or guarded.records is None else _decisions(guarded, raw),
        "drawdown_by_chance": drawdowns,
        "results": groups,
    }
    return Contents(
        comparison=comparison,
        runs=runs,
        verdict=said,
        checks=checks,
        charts=[chart for chart in charts if chart is not None],
        document=_plain(document),
    )


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, Mapping) else {}


def _limit(settings: Mapping[str, Any], layer: str, key: str) -> float | None:
    if layer in (settings.get("off") or ()):
        return None
    limit = _section(settings, layer).get(key)
    return float(limit) if isinstance(limit, int | float) else None


def _other_days(settings: Mapping[str, Any]) -> str:
    section = _section(settings, "loss_limit")
    if section.get("rolling"):
        return "the last 24 hours"
    zone = section.get("timezone") or "UTC"
    return "" if zone == "UTC" else f"days of {zone}"


def _run(run: Evidence, checks: Sequence[Check]) -> dict[str, Any]:
    own = [one for one in checks if one.run == run.run.name]
    return {
        **asdict(run.run),
        "title": run_name(run),
        "currency": run.currency,
        "begins": run.begins.isoformat(),
        "ends": run.ends.isoformat(),
        "starting_balance": run.balance,
        "figures": asdict(run.figures),
        "checks": {
            "compared": len(own),
            "disagree": [asdict(one) for one in own if not one.agrees],
        },
    }


def _decisions(guarded: Evidence, raw: Evidence | None) -> dict[str, Any]:
    counted = bound(guarded.records or [])
    return {
        "granted": counted.granted,
        "refused": [{**asdict(row), "made": row.made} for row in refused(guarded, raw)],
        "leverage_bound_by": dict(counted.leverage.most_common()),
        "size_bound_by": dict(counted.size.most_common()),
        "trips": [
            {"time": trip.time.isoformat(), "breaker": trip.breaker, "pair": trip.pair, "reason": trip.reason}
            for trip in trips(guarded)
        ],
        "faults": counted.faults,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
