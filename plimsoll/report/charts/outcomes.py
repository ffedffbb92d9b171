"""What single trades were planned to lose, and what they made."""

from __future__ import annotations

from typing import Final

import numpy as np

from plimsoll.figures import BEYOND_R
from plimsoll.report.charts.base import (
    AMOUNTS,
    Chart,
    Spec,
    axis,
    colour,
    hovered,
    label,
    layout,
    left_open,
    line_shape,
    numbers,
    shown,
    thinned,
)
from plimsoll.report.decisions import outcomes
from plimsoll.report.evidence import Evidence

BIN_R: Final = 0.1
HIGHEST_R: Final = 6.0
NO_JOURNAL: Final = "The guarded run has no journal, so what was planned is not known."


def planned_and_realised(guarded: Evidence | None) -> list[Chart]:
    """Draw what each trade was planned to lose at its stop against what it made, and how often in R."""
    titles = ("Planned against realised", "Results in R")
    questions = ("Did any trade lose more than it was planned to?", "How are results spread around the plan?")
    frame = None if guarded is None else outcomes(guarded)
    if guarded is None or frame is None or frame.empty:
        missing = (
            "No guarded trade has closed."
            if guarded is not None and guarded.records is not None
            else NO_JOURNAL
        )
        first = Chart(key="planned", title=titles[0], question=questions[0], caption="", missing=missing, half=True)  # fmt: skip
        return [first]
    beyond = frame["realised"] < BEYOND_R
    drawn, note = thinned(frame, "realised")
    largest = float(frame["planned"].max()) * 1.05
    lowest = 1.1 * min(float(frame["profit"].min()), -largest)
    above = int((frame["profit"] > -lowest).sum())
    traces = []
    x, y = (hovered(name, guarded.decimals) for name in ("x", "y"))
    for part, name, dot in ((~beyond, "within 1.05 R", "guarded"), (beyond, "beyond 1.05 R", "bad")):
        rows = drawn[part.loc[drawn.index]]
        if len(rows):
            hover = zip(rows["pair"], rows["side"], rows["realised"], rows["exit_reason"], strict=True)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": numbers(rows["planned"], guarded.decimals),
                    "y": numbers(rows["profit"], guarded.decimals),
                    "text": [f"{shown(p)} {side}, {r:+.2f} R<br>{shown(why)}" for p, side, r, why in hover],
                    "marker": {"size": 4.5, "color": colour(dot), "opacity": 0.75},
                    "hovertemplate": f"%{{text}}<br>planned {x}, made {y}<extra></extra>",
                }
            )
    diagonal: Spec = {"type": "line", "x0": 0, "y0": 0, "x1": largest, "y1": -largest}
    diagonal["line"] = {"color": colour("bad"), "width": 1.25, "dash": "dash"}
    text = label("−1 R", largest, -largest, "x", "y", "bad", xanchor="right", yanchor="top", xshift=-14)
    currency = shown(guarded.currency)
    scatter = Chart(
        key="planned",
        title=titles[0],
        question=questions[0],
        caption=f"R is notional × (stop distance + fees + slippage). Below the dashed line a trade lost more than planned: "
        f"{int(beyond.sum()):,} of {len(frame):,} lost over 1.05 R, the worst {frame['realised'].min():+.2f} R."
        + (f" {above:,} gains lie above the frame." if above else ""),
        spec={
            "data": traces,
            "layout": layout(
                xaxis=axis(f"planned R, {currency}", rangemode="tozero", **AMOUNTS),
                yaxis=axis(f"result, {currency}", range=[lowest, -lowest], **AMOUNTS),
                shapes=[diagonal],
                annotations=[text],
            ),
        },
        height=340,
        half=True,
        notes=[note] if note else [],
    )
    return [
        scatter,
        _histogram(frame["realised"].to_numpy(), titles[1], questions[1], left_open([guarded])),
    ]


def _histogram(realised: np.ndarray, title: str, question: str, notes: list[str]) -> Chart:
    lowest = min(float(np.floor(realised.min())), -1.5)
    highest = min(HIGHEST_R, max(2.0, float(np.ceil(realised.max()))))
    edges = lowest + BIN_R * np.arange(round((highest - lowest) / BIN_R) + 1)
    counts, _ = np.histogram(np.clip(realised, lowest, highest), edges)
    middle = edges[:-1] + BIN_R / 2
    bars: Spec = {
        "type": "bar",
        "x": numbers(middle, 3),
        "y": counts.tolist(),
        "marker": {"color": [colour("bad" if at < BEYOND_R else "guarded") for at in middle]},
        "hovertemplate": "%{x:.2f} R: %{y} trades<extra></extra>",
        "showlegend": False,
    }
    above = int((realised > HIGHEST_R).sum())
    return Chart(
        key="realised",
        title=title,
        question=question,
        caption=f"Mean {realised.mean():+.3f} R over {len(realised):,} trades"
        + (f"; {above:,} beyond +{HIGHEST_R:g} R are in the last bar." if above else "."),
        spec={
            "data": [bars],
            "layout": layout(
                xaxis=axis("R", ticksuffix=" R"),
                yaxis=axis("trades"),
                bargap=0.08,
                shapes=[line_shape("x", -1.0, "bad", "y"), line_shape("x", 0.0, "line", "y", "solid")],
            ),
        },
        height=340,
        half=True,
        notes=notes,
    )
