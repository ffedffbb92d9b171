"""The drawdown that luck alone brings, by block bootstrap, against the breaker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plimsoll.calibrate import BLOCK_DAYS, HORIZON_DAYS, PATHS
from plimsoll.report.charts.base import (
    Cells,
    Chart,
    Spec,
    axis,
    label,
    layout,
    line_shape,
    numbers,
    run_colour,
    run_name,
    shown,
)
from plimsoll.report.course import drawdown_by_chance
from plimsoll.report.evidence import Evidence
from plimsoll.rules.bootstrap import DrawdownDistribution
from plimsoll.rules.breaker import limit_percent


def by_chance(runs: Sequence[Evidence], limit: float | None) -> tuple[Chart, dict[str, Any]]:
    """Draw the bootstrapped drawdown with the breaker's limit, and return its quantiles by run."""
    traces, shapes, notes = [], [], []
    annotations: list[Spec] = []
    told: dict[str, Any] = {}
    edges = np.linspace(0.0, 1.0, 101)
    for run in runs:
        found = drawdown_by_chance(run)
        if not isinstance(found, DrawdownDistribution):
            notes.append(f"{run_name(run)}: not drawn: {found}.")
            continue
        counts, _ = np.histogram(found.drawdowns, edges)
        traces.append(
            {
                "type": "bar",
                "name": shown(run_name(run)),
                "x": numbers((edges[:-1] + edges[1:]) / 2, 4),
                "y": numbers(counts / len(found.drawdowns)),
                "marker": {"color": run_colour(run), "opacity": 0.7},
                "hovertemplate": "%{x:.1%}: %{y:.1%} of paths<extra></extra>",
            }
        )
        happened = run.figures.max_drawdown
        shapes.append(line_shape("x", happened, run.run.kind, "y", "dot"))
        told[run.run.name] = {
            "median": found.q50,
            "q95": found.q95,
            "q99": found.q99,
            "exceeds_limit": None if limit is None else found.exceed_probability(limit),
            "happened": happened,
        }
    if limit is not None:
        shapes.append(line_shape("x", limit, "bad", "y"))
        beside = {"xanchor": "left", "yanchor": "top", "xshift": 4}
        annotations.append(
            label(f"breaker {limit_percent(limit)}", limit, 1, "x", "y domain", "bad", **beside)
        )
    question = "How deep may the drawdown get by luck alone, and would the breaker trip?"
    caption = (
        f"{PATHS:,} paths of {HORIZON_DAYS} days, resampled in blocks of {BLOCK_DAYS} from each run's own closed daily results, the"
        " breaker itself not acting on them. Dotted: what happened."
    )
    rows = [
        (
            name,
            f"{of['median']:.1%}",
            f"{of['q95']:.1%}",
            f"{of['q99']:.1%}",
            "–" if of["exceeds_limit"] is None else f"{of['exceeds_limit']:.1%}",
            f"{of['happened']:.1%}",
        )
        for name, of in ((run_name(run), told[run.run.name]) for run in runs if run.run.name in told)
    ]
    past = "–" if limit is None else f"chance past {limit_percent(limit)}"
    chart = Chart(
        key="chance",
        title="Drawdown by chance",
        question=question,
        caption=caption,
        missing="" if traces else "Too short, too few trades, or nothing left to lose.",
        spec={
            "data": traces,
            "layout": layout(
                barmode="overlay",
                bargap=0.03,
                xaxis=axis("deepest drawdown of a path", tickformat=".0%", range=[0, 1]),
                yaxis=axis("of paths", tickformat=".0%"),
                shapes=shapes,
                annotations=annotations,
            ),
        }
        if traces
        else None,
        height=320,
        table=Cells(headings=("run", "median", "95 %", "99 %", past, "happened"), rows=rows)
        if rows
        else None,
        notes=notes,
    )
    return chart, told
