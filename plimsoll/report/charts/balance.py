"""Balance, drawdown and every trip of a breaker over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

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
    run_colour,
    run_name,
    sentence,
    shown,
    times,
)
from plimsoll.report.course import course
from plimsoll.report.decisions import Trip, trips
from plimsoll.report.evidence import Evidence
from plimsoll.rules.breaker import limit_percent

MOST_LINES: Final = 60  # vertical lines of breakers other than the streak's
COMMON: Final = "streak"


def equity(runs: Sequence[Evidence], limit: float | None) -> Chart:
    """Draw balance, drawdown and every trip of a breaker above one another; ``limit`` is the drawdown breaker's."""
    guarded = next((run for run in runs if run.run.kind == "guarded"), None)
    found = [] if guarded is None else trips(guarded)
    traces: list[Spec] = []
    deepest: list[tuple[Evidence, float]] = []
    thinned_any = False
    for run in runs:
        line = {"color": run_colour(run), "width": 1.75, "shape": "hv"}
        name = shown(run_name(run))
        whole = course(run)
        thinned_any = thinned_any or whole.thinned
        deepest.append((run, whole.deepest_ratio))
        common: Spec = {"type": "scatter", "mode": "lines", "line": line, "name": name, "legendgroup": name}
        traces.append(
            common
            | {
                "x": times(whole.balance.index),
                "y": numbers(whole.balance, run.decimals),
                "hovertemplate": f"{hovered('y', run.decimals)} {shown(run.currency)}",
            }
        )
        traces.append(
            common
            | {
                "x": times(whole.drawdown.index),
                "y": numbers(-whole.drawdown),
                "yaxis": "y2",
                "showlegend": False,
                "fill": "tozeroy",
                "fillcolor": f"{run_colour(run)}-soft",
                "hovertemplate": "%{y:.1%}",
            }
        )
    if guarded is not None:
        traces += _with_open_losses(guarded)
    rows = _breakers(found)
    traces += _strip(found, rows)
    shapes = [] if limit is None else [line_shape("y2", -limit, "bad", "x")]
    rare = [trip for trip in found if trip.family != COMMON]
    if len(rare) <= MOST_LINES:
        shapes += [_across(trip) for trip in rare]
    annotations = []
    if limit is not None:
        corner = {"xanchor": "right", "yanchor": "top"}
        text = f"breaker {limit_percent(limit)}"
        annotations.append(label(text, 1, -limit, "x domain", "y2", "bad", **corner))
    strip = 0.035 * len(rows) + 0.01 if rows else 0.0
    spec = {
        "data": traces,
        "layout": layout(
            xaxis=axis(type="date", anchor="y3" if rows else "y2", hoverformat="%Y-%m-%d %H:%M"),
            yaxis=axis(
                runs[0].currency if runs else "",
                domain=[0.46 + strip, 1],
                rangemode="tozero",
                **AMOUNTS,
            ),
            yaxis2=axis(
                "under the peak",
                domain=[strip + 0.05 if rows else 0, 0.42 + strip],
                tickformat=".0%",
                rangemode="tozero",
            ),
            yaxis3=axis(domain=[0, max(strip, 0.01)], type="category", showgrid=False, fixedrange=True),
            shapes=shapes,
            annotations=annotations,
            hovermode="x unified",
        ),
    }
    caption = (
        "Balance and drawdown count closed trades only, as Freqtrade's export does. "
        + ("The dotted line is the guard's own equity with open profit and loss, each day's lowest where it planned. "
           if guarded is not None and guarded.records is not None else "")
        + (f"{_count(found)}. Each tick is one trip; hover for its reason." if found else
           "No breaker tripped." if guarded is not None and guarded.records is not None else
           "Without a journal, trips of breakers are not known.")
    )  # fmt: skip
    notes = (
        ["Curves are reduced to each day's highest, lowest and last value; figures count every trade."]
        if thinned_any
        else []
    )
    notes += left_open(runs)
    notes += [_deeper(run, ratio) for run, ratio in deepest if ratio - run.figures.max_drawdown > 5e-5]
    return Chart(
        key="equity",
        title="Balance, drawdown and trips",
        question="Did the guard lose less, and when did it step in?",
        caption=caption,
        spec=spec,
        height=460 + 22 * len(rows),
        notes=notes,
    )


def _deeper(run: Evidence, ratio: float) -> str:
    return (
        f"{run_name(run)}: the deepest point is {ratio:.2%} under its peak; max drawdown in the figures is the ratio of the largest"
        f" amount, {run.figures.max_drawdown:.2%}, as Freqtrade states it."
    )


def _with_open_losses(guarded: Evidence) -> list[Spec]:
    known = [(plan["time"], plan["equity"]) for plan in guarded.plans if plan["equity"] is not None]
    if not known:
        return []
    frame = pd.DataFrame(known, columns=["time", "equity"])
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True)
    lowest = frame.loc[frame.groupby(frame["time"].dt.floor("D"))["equity"].idxmin()]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "guarded, open losses counted",
            "x": times(lowest["time"]),
            "y": numbers(lowest["equity"], guarded.decimals),
            "line": {"color": colour("guarded"), "width": 1, "dash": "dot"},
            "hovertemplate": hovered("y", guarded.decimals),
        }
    ]


def _breakers(found: Sequence[Trip]) -> list[str]:
    return sorted({trip.family for trip in found}, reverse=True)


def _count(found: Sequence[Trip]) -> str:
    counts = pd.Series([trip.family for trip in found]).value_counts()
    return "Breakers tripped: " + ", ".join(f"{shown(name)} {count:,}" for name, count in counts.items())


def _strip(found: Sequence[Trip], rows: Sequence[str]) -> list[Spec]:
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": shown(name),
            "showlegend": False,
            "yaxis": "y3",
            "x": times(trip.time for trip in found if trip.family == name),
            "y": [shown(name)] * sum(trip.family == name for trip in found),
            "text": [sentence(f"{trip.reason} [{trip.pair}]") for trip in found if trip.family == name],
            "marker": {
                "symbol": "line-ns-open",
                "size": 10,
                "color": colour("muted" if name == COMMON else "bad"),
                "line": {"width": 1.25},
            },
            "hovertemplate": "%{text}",
        }
        for name in rows
    ]


def _across(trip: Trip) -> Spec:
    at = f"{trip.time:%Y-%m-%d %H:%M}"
    line = {"color": colour("bad"), "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": line}
