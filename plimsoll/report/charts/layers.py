"""Return against drawdown with each layer switched off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from plimsoll.report.charts.base import (
    Cells,
    Chart,
    Spec,
    axis,
    colour,
    layout,
    line_shape,
    numbers,
    run_colour,
    run_name,
    shown,
)
from plimsoll.report.charts.labels import ROOM, Point, groups, placed
from plimsoll.report.evidence import Evidence

OFF_SCALE: Final = 2.5


def ablation(guarded: Evidence | None, raw: Evidence | None, without: Sequence[Evidence]) -> Chart | None:
    """Draw return against drawdown with each layer off; None where none was switched off."""
    if guarded is None or not without:
        return None
    runs = [guarded, *without]
    notes = []
    deepest = max(run.figures.max_drawdown for run in runs)
    if raw is not None:
        if raw.figures.max_drawdown > OFF_SCALE * deepest:
            f = raw.figures
            notes.append(f"As it is lies far outside: {f.profit:+.1%} at a drawdown of {f.max_drawdown:.1%}.")
        else:
            runs.append(raw)
    x = [run.figures.max_drawdown for run in runs]
    y = [run.figures.profit for run in runs]
    names = [run_name(run) for run in runs]
    numbered = [str(place) if run.run.kind == "without" else names[place] for place, run in enumerate(runs)]
    points = [Point(*each) for each in zip(x, y, names, strict=True)]
    labels, positions, told = _labelled(points, numbered)
    by_number = bool(told)
    notes += told
    markers = [("circle" if run.run.kind != "without" else "circle-open") for run in runs]
    trace: Spec = {
        "type": "scatter",
        "mode": "markers+text",
        "x": numbers(x),
        "y": numbers(y),
        "text": labels,
        "textposition": [position or "top center" for position in positions],
        "hovertext": _upon_one_another(points),
        "textfont": {"size": 11, "color": colour("ink")},
        "marker": {
            "size": 10,
            "symbol": markers,
            "color": [run_colour(run) for run in runs],
            "line": {"width": 2},
        },
        "hovertemplate": "%{hovertext}<br>return %{y:+.2%}, drawdown %{x:.2%}<extra></extra>",
        "cliponaxis": False,
        "showlegend": False,
    }
    # Room for the labels, which Plotly does not reckon with.
    room_x, room_y = (
        room * max(max(values) - min(values), 0.01) for room, values in zip(ROOM, (x, y), strict=True)
    )
    spec = {
        "data": [trace],
        "layout": layout(
            xaxis=axis(
                "max drawdown", tickformat=".1%", range=[max(min(x) - room_x, 0.0), max(x) + room_x], nticks=6
            ),
            yaxis=axis("return", tickformat="+.1%", range=[min(y) - room_y, max(y) + room_y]),
            shapes=[line_shape("y", 0.0, "line", "x", "solid")],
        ),
    }
    return Chart(
        key="ablation",
        title="Each layer switched off",
        question="What does each layer cost in return, and save in drawdown?",
        caption="Each open circle is the guarded strategy without one layer; up is more return, left is less drawdown. A layer"
        " whose removal moves nothing was not needed on these candles, which does not say that it never is.",
        spec=spec,
        height=400,
        table=_ablated(
            guarded, [*runs[1:], *([raw] if raw is not None and raw not in runs else [])], by_number
        ),
        notes=notes,
    )


def _labelled(points: Sequence[Point], numbered: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    # Names where all of them can be read, else numbers.
    positions, free = placed(points)
    if free:
        return [shown(point.name) for point in points], positions, []
    labels, notes = [""] * len(points), []
    for first, *others in groups(points):
        labels[first] = numbered[first]
        if others:
            notes.append(
                f"At the same point as {numbered[first]}: {', '.join(numbered[place] for place in others)}."
            )
    positions, free = placed([Point(p.x, p.y, label) for p, label in zip(points, labels, strict=True)])
    told = "Labels are the numbers of the table" + (
        "." if free else "; those without room are in the hover text only."
    )
    labels = [label if position else "" for label, position in zip(labels, positions, strict=True)]
    return labels, positions, [told, *notes]


def _upon_one_another(points: Sequence[Point]) -> list[str]:
    # Of points upon one another the pointer finds one only.
    texts = [""] * len(points)
    for group in groups(points):
        text = "<br>".join(shown(points[place].name) for place in group)
        for place in group:
            texts[place] = text
    return texts


def _ablated(guarded: Evidence, others: Sequence[Evidence], by_number: bool) -> Cells:
    base = guarded.figures
    rows = []
    for place, run in enumerate((guarded, *others)):
        f = run.figures
        number = f"{place} " if by_number and run.run.kind == "without" else ""
        change = (
            ("", "")
            if run is guarded
            else tuple(
                f"{100 * x:+.2f} pt" for x in (f.profit - base.profit, f.max_drawdown - base.max_drawdown)
            )
        )
        worst = "–" if f.worst_r is None else f"{f.worst_r:+.2f} R"
        cells = (f"{f.profit:+.2%}", change[0], f"{f.max_drawdown:.2%}", change[1], f"{f.trades:,}")
        rows.append((f"{number}{run_name(run)}", *cells, worst, f"{f.stops_outside:,}"))
    headings = ("run", "return", "change", "drawdown", "change", "trades", "worst trade", "stops outside")
    return Cells(headings=headings, rows=rows)
