"""Refused entries by reason, and what they would have made."""

from __future__ import annotations

from typing import Final

from plimsoll.figure_table import amount
from plimsoll.report.charts.base import (
    AMOUNTS,
    Cells,
    Chart,
    Spec,
    axis,
    colour,
    hovered,
    layout,
    line_shape,
    numbers,
    shown,
)
from plimsoll.report.decisions import GRANTED, Refused, refused
from plimsoll.report.evidence import Evidence

NO_JOURNAL: Final = "The guarded run has no journal, so what was planned is not known."


def refusals(guarded: Evidence | None, raw: Evidence | None) -> Chart:
    """Draw refused entries by reason, and what the raw run's trades of the same signals made."""
    title, question = "Refused entries", "What was refused, and what would it have made?"
    if guarded is None or guarded.records is None:
        return Chart(key="refused", title=title, question=question, caption="", missing=NO_JOURNAL)
    rows = refused(guarded, raw)
    reasons = [row for row in rows if row.reason != GRANTED]
    table = Cells(
        headings=("reason", "signals", "taken by raw", "losses saved", "gains missed", "made there", "mean, of notional"),
        rows=[_cells(row, guarded.decimals) for row in rows],
    )  # fmt: skip
    caption = (
        "A refused signal is valued by the raw run's trade of the same pair, side and candle, at the raw run's size; signals"
        " that the raw run did not take (it held that pair already, or had no slot) are counted and not valued. The raw balance"
        " changes its sizes, so the mean on notional compares better than amounts. While a breaker locks a pair, Freqtrade asks"
        " for no entry there: such signals are in no count."
    )
    if not reasons:
        return Chart(
            key="refused",
            title=title,
            question=question,
            caption=caption,
            missing="No entry was refused.",
            table=table,
        )
    names = [shown(row.reason) for row in reversed(reasons)]
    value_hovered = hovered("x", guarded.decimals)
    bars: list[Spec] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": names,
            "x": numbers([sign * getattr(row, value) for row in reversed(reasons)], guarded.decimals),
            "text": [f"{row.matched:,} of {row.entries:,}" for row in reversed(reasons)],
            "textposition": "none",
            "marker": {"color": colour(dot)},
            "hovertemplate": f"%{{y}}: {name} {value_hovered}<br>%{{text}} signals valued<extra></extra>",
        }
        for name, value, sign, dot in (
            ("losses saved", "losses_saved", 1, "guarded"),
            ("gains missed", "gains_missed", -1, "raw"),
        )
    ]
    return Chart(
        key="refused",
        title=title,
        question=question,
        caption=caption,
        spec={
            "data": bars,
            "layout": layout(
                barmode="relative",
                xaxis=axis(f"{shown(guarded.currency)}, at the raw run's sizes", **AMOUNTS),
                yaxis=axis(type="category"),
                shapes=[line_shape("x", 0.0, "line", "y", "solid")],
            ),
        },
        height=130 + 34 * len(reasons),
        table=table,
    )


def _cells(row: Refused, decimals: int) -> tuple[str, ...]:
    mean = "–" if row.mean_return is None else f"{row.mean_return:+.2%}"
    amounts = (
        amount(row.losses_saved, decimals),
        amount(row.gains_missed, decimals),
        amount(row.made, decimals, "+"),
    )
    values = amounts if row.matched else ("–",) * 3
    reason = "granted, to compare" if row.reason == GRANTED else row.reason
    return (reason, f"{row.entries:,}", f"{row.matched:,}", *values, mean)
