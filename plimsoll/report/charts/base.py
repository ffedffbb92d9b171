"""What all charts share: the specification of axes, colours by name, texts from outside made harmless."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from plimsoll.report.evidence import Evidence
from plimsoll.terminal import clean

Spec = dict[str, Any]
LONGEST_LABEL: Final = 34
MOST_POINTS: Final = 1_500
RULE_COLOURS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """Hold a table of the page: texts only, the first ``left`` columns to be set flush left."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Hold one figure of the page: the question it answers, how to read it, and Plotly's specification.

    ``missing`` says why there is none. ``height`` in CSS pixels; ``half`` lets two share a row where there is room.
    """

    key: str
    title: str
    question: str
    caption: str
    spec: Spec | None = None
    missing: str = ""
    height: int = 320
    half: bool = False
    table: Cells | None = None
    notes: list[str] = field(default_factory=list)


def colour(name: str) -> str:
    """Name a colour of the page's theme."""
    return f"var:{name}"


def rule_colour(place: int) -> str:
    """Name the colour of the rule at a place of the most frequent ones; all beyond share the last."""
    return colour(f"c{min(place, RULE_COLOURS) + 1}")


def run_colour(evidence: Evidence) -> str:
    """Name the colour of a run: one accent for raw, one for guarded."""
    return colour("raw" if evidence.run.kind in ("raw", "leverage") else "guarded")


def shown(value: object) -> str:
    """Return a text from outside for Plotly, which reads some HTML: one line, shortened, nothing of it markup."""
    text = clean(value)
    return html.escape(text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…", quote=False)


def sentence(value: object) -> str:
    """Return a longer text from outside for Plotly's hover, broken into lines of a phone's width."""
    words, lines = clean(value).split(" "), [""]
    for word in words:
        part = word[:60]
        if len(lines[-1]) + len(part) > 48:
            lines.append("")
        lines[-1] = f"{lines[-1]} {part}".strip()
    return "<br>".join(html.escape(line, quote=False) for line in lines)


def times(values: Iterable[Any]) -> list[str]:
    """Return UTC times as Plotly reads them."""
    return [f"{value:%Y-%m-%d %H:%M}" for value in values]


def numbers(values: Iterable[Any], digits: int = 5) -> list[float | None]:
    """Return rounded numbers; what is not finite becomes None, which JSON has and Plotly leaves out."""
    return [round(float(v), digits) if v is not None and math.isfinite(v) else None for v in values]


def axis(title: str = "", **more: Any) -> Spec:
    """Specify an axis."""
    common: Spec = {
        "gridcolor": colour("grid"),
        "linecolor": colour("line"),
        "zeroline": False,
        "automargin": True,
        "ticks": "",
    }
    return common | ({"title": {"text": title, "standoff": 8}} if title else {}) | more


AMOUNTS: Final[Spec] = {
    "separatethousands": True,
    "exponentformat": "none",
}  # of an axis: 20,000 as well as 0.0002


def hovered(name: str, decimals: int, sign: str = "") -> str:
    """Write the amount ``name`` ("x" or "y") in a hover text with the decimals of its currency."""
    return f"%{{{name}:{sign},.{decimals}f}}"


LEGEND: Final[Spec] = {
    "orientation": "h",
    "x": 0,
    "xanchor": "left",
    "y": 1.02,
    "yanchor": "bottom",
    "itemwidth": 30,
}
SMALL_MARKERS: Final[Spec] = LEGEND | {"itemsizing": "constant"}


def layout(**more: Any) -> Spec:
    """Specify what surrounds the traces; the page adds fonts and what a narrow screen needs."""
    common: Spec = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 56, "r": 16, "t": 10, "b": 30},
        "legend": LEGEND,
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "namelength": -1},
        "bargap": 0.25,
    }
    return common | more


def line_shape(axis_name: str, at: float, name: str, other: str, dash: str = "dash") -> Spec:
    """Specify a straight line across a panel: at a value of ``axis_name`` ("x" or "y3"), over the domain of ``other``."""
    letter = axis_name[0]
    shape: Spec = {
        "type": "line",
        f"{letter}ref": axis_name,
        f"{letter}0": at,
        f"{letter}1": at,
        "line": {"color": colour(name), "width": 1.25, "dash": dash},
    }
    free = "y" if letter == "x" else "x"
    return shape | {f"{free}ref": f"{other} domain", f"{free}0": 0, f"{free}1": 1}


def label(text: str, x: Any, y: Any, xref: str, yref: str, name: str = "muted", **more: Any) -> Spec:
    """Specify a text in a panel."""
    common = {"text": text, "x": x, "y": y, "xref": xref, "yref": yref, "showarrow": False}
    return common | {"font": {"color": colour(name), "size": 11}} | more


def thinned(frame: pd.DataFrame, by: str, most: int = MOST_POINTS) -> tuple[pd.DataFrame, str]:
    """Return at most ``most`` rows, the extremes by a column always among them, and the note that says so."""
    if len(frame) <= most:
        return frame, ""
    order = frame[by].argsort().to_numpy()
    extremes = most // 6
    middle = order[extremes:-extremes]
    even = middle[np.linspace(0, len(middle) - 1, most - 2 * extremes).astype(int)]
    kept = sorted({*order[:extremes].tolist(), *order[-extremes:].tolist(), *even.tolist()})
    note = f"{len(kept):,} of {len(frame):,} points drawn, the extremes all; figures count every one."
    return frame.iloc[kept], note


def left_open(runs: Sequence[Evidence]) -> list[str]:
    """Say which runs ended with trades open: their results are of that moment, and of no exit of the strategy's."""
    counts = [f"{run_name(run)} {run.left_open:,}" for run in runs if run.left_open]
    if not counts:
        return []
    return [
        f"Trades still open at the end: {', '.join(counts)}. They count as Freqtrade closed them, at the open of the last candle"
        " (force_exit)."
    ]


def run_name(run: Evidence) -> str:
    """Name a run as the page does."""
    if run.run.kind == "without":
        return f"without {run.run.layer or run.run.name}"
    if run.run.kind == "leverage":
        return f"as it is at {run.run.leverage:g}x" if run.run.leverage else run.run.name
    return "as it is" if run.run.kind == "raw" else "guarded"
