"""Results per pair, side, tag and exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from plimsoll.figure_table import amount
from plimsoll.report.charts.base import (
    AMOUNTS,
    LEGEND,
    Cells,
    Chart,
    Spec,
    axis,
    hovered,
    layout,
    left_open,
    line_shape,
    numbers,
    run_colour,
    run_name,
    shown,
)
from plimsoll.report.evidence import Evidence

MOST_PAIRS: Final = 20
MOST_ROWS: Final = 100
GROUPS: Final = {"sides": "side", "pairs": "pair", "tags": "tag", "exits": "exit"}


def pairs_and_sides(runs: Sequence[Evidence]) -> tuple[Chart, dict[str, Any]]:
    """Draw profit per pair, and list trades and profit per side, pair, tag and exit."""
    told = {run.run.name: _grouped(run) for run in runs}
    profit = pd.DataFrame({run.run.name: run.trades.groupby("pair")["profit_abs"].sum() for run in runs})
    question = "Where was it won and lost?"
    if profit.empty:
        missing = "No run has a trade."
        return (
            Chart(
                key="pairs", title="Pairs, sides, tags, exits", question=question, caption="", missing=missing
            ),
            told,
        )
    order = profit.abs().max(axis=1).sort_values(ascending=False).index
    drawn = list(order[:MOST_PAIRS])[::-1]
    bars: list[Spec] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": shown(run_name(run)),
            "y": [shown(pair) for pair in drawn],
            "x": numbers(profit[run.run.name].reindex(drawn).fillna(0.0), run.decimals),
            "marker": {"color": run_colour(run)},
            "hovertemplate": f"%{{y}}: {hovered('x', run.decimals, '+')}<extra></extra>",
        }
        for run in reversed(runs)
    ]
    rows, notes = [], []
    for group, word in GROUPS.items():
        keys = _keys(told, group)
        if len(keys) > MOST_ROWS:
            notes.append(f"The {MOST_ROWS} of {len(keys)} {group} that moved most are listed.")
        if keys != [""]:
            listed = sorted(keys[:MOST_ROWS])
            rows += [(word, key or "(none)", *_per_run(told, runs, group, key)) for key in listed]
    if len(order) > MOST_PAIRS:
        notes.append(f"The {MOST_PAIRS} of {len(order)} pairs that moved most are drawn.")
    notes += left_open(runs)
    headings = ["by", ""]
    for run in runs:
        headings += [f"{run_name(run)}: trades", "won", "profit"]
    chart = Chart(
        key="pairs",
        title="Pairs, sides, tags, exits",
        question=question,
        caption="Closed profit, fees and funding included; the chart is of pairs.",
        spec={
            "data": bars,
            "layout": layout(
                xaxis=axis(shown(runs[0].currency), **AMOUNTS),
                yaxis=axis(type="category"),
                legend=LEGEND | {"traceorder": "reversed"},
                shapes=[line_shape("x", 0.0, "line", "y", "solid")],
            ),
        },
        height=120 + 44 * len(drawn),
        table=Cells(headings=tuple(headings), rows=rows, left=2),
        notes=notes,
    )
    return chart, told


def _grouped(run: Evidence) -> dict[str, Any]:
    def of(column: str) -> dict[str, Any]:
        groups = run.trades.groupby(column)["profit_abs"]
        return {
            str(key): {
                "trades": len(profit),
                "won": int((profit > 0).sum()),
                "profit": float(profit.sum()),
            }
            for key, profit in groups
        }

    columns = {"sides": "side", "pairs": "pair", "tags": "enter_tag", "exits": "exit_reason"}
    return {group: of(column) for group, column in columns.items()}


def _keys(told: dict[str, Any], group: str) -> list[str]:
    most: dict[str, float] = {}
    for groups in told.values():
        for key, found in groups[group].items():
            most[key] = max(most.get(key, 0.0), abs(found["profit"]))
    return sorted(most, key=lambda key: (-most[key], key))


def _per_run(told: dict[str, Any], runs: Sequence[Evidence], group: str, key: str) -> tuple[str, ...]:
    cells: list[str] = []
    for run in runs:
        found = told[run.run.name][group].get(key)
        cells += (
            ("0", "–", "–")
            if found is None
            else (
                f"{found['trades']:,}",
                f"{found['won'] / found['trades']:.0%}",
                amount(found["profit"], run.decimals, "+"),
            )
        )
    return tuple(cells)
