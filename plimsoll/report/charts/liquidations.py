"""Where stops lay against liquidation, and how near it came."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plimsoll.report.charts.base import (
    SMALL_MARKERS,
    Chart,
    Spec,
    axis,
    colour,
    layout,
    numbers,
    run_colour,
    run_name,
    shown,
    thinned,
)
from plimsoll.report.decisions import distances
from plimsoll.report.evidence import Evidence


def liquidation(runs: Sequence[Evidence]) -> list[Chart]:
    """Draw for each trade where its stop lay against liquidation, and how much of the way the price went."""
    stops, nearest, notes, told, rough = [], [], [], [], []
    edges = np.linspace(0.0, 1.0, 41)
    largest = 0.1
    for run in runs:
        known = distances(run)
        if known["liquidation"].isna().any():
            missing = int(known["liquidation"].isna().sum())
            notes.append(
                f"{run_name(run)}: {missing:,} trades of pairs without maintenance tiers are left out."
            )
        known = known.dropna(subset=["liquidation"])
        if known.empty:
            continue
        name = shown(run_name(run))
        rows, note = thinned(known, "liquidation")
        notes += [f"{name}: {note}"] if note else []
        hover = zip(rows["pair"], rows["side"], rows["opened"], rows["worst"], strict=True)
        stops.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": numbers(rows["liquidation"]),
                "y": numbers(rows["stop"]),
                "text": [
                    f"{shown(p)} {side} {at:%Y-%m-%d %H:%M}<br>worst price {worst:.1%} away"
                    for p, side, at, worst in hover
                ],
                "marker": {"size": 4.5, "color": run_colour(run), "opacity": 0.7},
                "hovertemplate": "liquidation %{x:.1%}, stop %{y:.1%}<br>%{text}<extra></extra>",
            }
        )
        if by_export := int((~known["exact"]).sum()):
            rough.append(
                f"{name}: worst prices of {by_export:,} trades are the export's, with the exit's whole candle."
            )
        largest = max(largest, float(known["stop"].max()))
        way = (
            (known["worst"] / known["liquidation"].where(known["liquidation"] > 0.0))
            .fillna(0.0)
            .clip(0.0, 1.0)
        )
        counts, _ = np.histogram(way, edges)
        nearest.append(
            {
                "type": "bar",
                "name": name,
                "x": numbers((edges[:-1] + edges[1:]) / 2, 4),
                "y": numbers(counts / len(way)),
                "marker": {"color": run_colour(run), "opacity": 0.75},
                "hovertemplate": "%{x:.0%} of the way: %{y:.1%} of trades<extra></extra>",
            }
        )
        told.append(f"{name} {way.max():.0%}")
    if not stops:
        return [Chart(key="stops", title="Stop and liquidation", question="Did the stop lie inside liquidation?",
                      caption="", missing="No trade whose liquidation price is known.")]  # fmt: skip
    diagonal: Spec = {"type": "line", "x0": 0, "y0": 0, "x1": largest, "y1": largest}
    diagonal["line"] = {"color": colour("bad"), "width": 1.25, "dash": "dash"}
    first = Chart(
        key="stops",
        title="Stop and liquidation",
        question="Did every stop lie inside liquidation when it was filled?",
        caption="Distances from the entry, of the price. On or above the dashed line liquidation comes before the stop."
        " Liquidation is taken at the maintenance tier of the notional, buffered as Freqtrade buffers it.",
        spec={
            "data": stops,
            "layout": layout(
                xaxis=axis("liquidation distance", tickformat=".0%", rangemode="tozero"),
                yaxis=axis("stop distance", tickformat=".0%", rangemode="tozero"),
                legend=SMALL_MARKERS,
                shapes=[diagonal],
            ),
        },
        height=340,
        half=True,
        notes=notes,
    )
    second = Chart(
        key="nearest",
        title="How near liquidation came",
        question="How much of the way to liquidation did the price go against each trade?",
        caption=f"The worst price while a trade was open over its liquidation distance; of the exit's candle its open and the"
        f" exit price count. 100\u00a0% is liquidation. Nearest: {'; '.join(told)}.",
        spec={
            "data": nearest,
            "layout": layout(
                xaxis=axis("way to liquidation", tickformat=".0%", range=[0, 1]),
                yaxis=axis("of trades", tickformat=".0%"),
                barmode="overlay",
                bargap=0.05,
            ),
        },
        height=340,
        half=True,
        notes=rough,
    )
    return [first, second]
