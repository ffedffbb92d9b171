"""Leverage and size of every entry over time, by the rule that bound them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from plimsoll.report.charts.base import (
    SMALL_MARKERS,
    Chart,
    Spec,
    axis,
    layout,
    numbers,
    rule_colour,
    run_colour,
    run_name,
    shown,
    thinned,
    times,
)
from plimsoll.report.decisions import sizes
from plimsoll.report.evidence import Evidence


def leverage(runs: Sequence[Evidence]) -> Chart:
    """Draw the leverage of every entry over time, by the rule that bound it."""
    return _by_rule(
        runs,
        key="leverage",
        title="Leverage",
        question="How much leverage was used, and which rule decided it?",
        value="leverage",
        rule="bound_leverage",
        caption="One point per entry, moved a little up or down so that equal ones can be told apart.",
        vertical=axis("leverage", ticksuffix="x", rangemode="tozero", dtick=1),
    )


def size(runs: Sequence[Evidence]) -> Chart:
    """Draw the size of every entry over time, by the rule that bound it."""
    return _by_rule(
        runs,
        key="size",
        title="Size",
        question="How large was each position, and which rule decided it?",
        value="size",
        rule="bound_size",
        caption="Notional as a multiple of equity, logarithmic. Guarded: of equity with open losses; as it is: of the"
        " closed balance.",
        vertical=axis("notional / equity", type="log", dtick=1, tickformat="~g", ticksuffix="x"),
    )


def _by_rule(
    runs: Sequence[Evidence], *, key: str, title: str, question: str, value: str, rule: str, caption: str, vertical: Spec
) -> Chart:  # fmt: skip
    traces, notes = [], []
    for run in runs:
        frame, note = thinned(sizes(run).dropna(subset=[value]), value)
        if note:
            notes.append(f"{run_name(run)}: {note}")
        if frame.empty:
            continue
        drawn = frame[value]
        if value == "leverage":
            drawn = drawn + (np.random.default_rng(1).random(len(frame)) - 0.5) * 0.5
        frame = frame.assign(drawn=drawn)
        if (frame[rule] == "").all():
            traces.append(_points(frame, shown(run_name(run)), f"{run_colour(run)}-soft", value))
            continue
        frequent = list(frame[rule].value_counts().index)
        group = frame[rule].map(lambda name, top=frequent[:5]: name if name in top else "other rules")
        for place, name in enumerate([*frequent[:5], *(["other rules"] if len(frequent) > 5 else [])]):
            traces.append(_points(frame[group == name], shown(name), rule_colour(place), value))
    if not traces:
        return Chart(key=key, title=title, question=question, caption="", missing="No entry in any run.")
    spec = {"data": traces, "layout": layout(xaxis=axis(type="date"), yaxis=vertical, legend=SMALL_MARKERS)}
    return Chart(
        key=key,
        title=title,
        question=question,
        caption=caption,
        spec=spec,
        height=380,
        half=True,
        notes=notes,
    )


def _points(frame: pd.DataFrame, name: str, marker: str, value: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": times(frame["time"]),
        "y": numbers(frame["drawn"], 4),
        "text": [
            f"{shown(p)} {side} {number:.3g}x" for p, side, number in _rows(frame, "pair", "side", value)
        ],
        "marker": {"size": 4.5, "color": marker},
        "hovertemplate": "%{text}<br>%{x|%Y-%m-%d %H:%M}",
    }


def _rows(frame: pd.DataFrame, *names: str) -> Any:
    return zip(*(frame[name] for name in names), strict=True)
