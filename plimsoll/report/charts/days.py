"""Daily results as a calendar, against the daily loss limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from plimsoll.report.charts.base import (
    Chart,
    Spec,
    axis,
    colour,
    label,
    layout,
    numbers,
    run_name,
    shown,
    times,
)
from plimsoll.report.course import daily
from plimsoll.report.decisions import trips
from plimsoll.report.evidence import Evidence
from plimsoll.rules.breaker import limit_percent, reaches

FEWEST_WEEKS: Final = 26
NO_LIMIT: Final = 0.05  # where colours end without a limit
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def calendar(runs: Sequence[Evidence], limit: float | None, other_days: str = "") -> Chart:
    """Draw each day's closed result as a ratio of the balance it began with, against the daily limit, None where it is off.

    ``other_days`` are what the guard's limit counts in place of days in UTC.
    """
    end = NO_LIMIT if limit is None else limit
    traces: list[Spec] = []
    shape: Spec = {}
    annotations: list[Spec] = []
    counts = []
    for place, run in enumerate(runs):
        number = "" if place == 0 else str(place + 1)
        days = daily(run)["ratio"]
        dates = pd.DatetimeIndex(days.index)
        top = 1 - place / len(runs)
        weeks = _mondays(dates)
        table = pd.DataFrame({"week": weeks, "day": dates.weekday, "ratio": days.to_numpy()})
        grid = table.pivot_table(index="day", columns="week", values="ratio", dropna=False).reindex(range(7))
        traces.append(
            {
                "type": "heatmap",
                "x": times(grid.columns),
                "y": list(WEEKDAYS),
                "z": [numbers(row) for row in grid.to_numpy()],
                "xaxis": "x",
                "yaxis": f"y{number}",
                "zmin": -end,
                "zmax": end,
                "xgap": 1.5,
                "ygap": 1.5,
                "colorscale": [[0, colour("heat-low")], [0.5, colour("heat-mid")], [1, colour("heat-high")]],
                "showscale": place == 0,
                "colorbar": {
                    "orientation": "h", "thickness": 8, "y": -0.12, "yanchor": "top", "len": 0.5, "outlinewidth": 0,
                    "tickvals": [-end, 0, end],
                    "ticktext": [f"−{limit_percent(end)} or less", "0", f"+{limit_percent(end)} or more"],
                },
                "hovertemplate": "week of %{x|%Y-%m-%d}, %{y}: %{z:+.2%}<extra></extra>",
            }
        )  # fmt: skip
        if limit is not None:
            beyond = table[[reaches(-ratio, limit) for ratio in table["ratio"]]]
            counts.append(f"{run_name(run)}: {len(beyond):,} of {len(table):,} days")
            name = "at or beyond the daily limit"
            traces.append(
                _marks(beyond["week"], beyond["day"], f"y{number}", "x-thin-open", place == 0, name)
            )
        if run.run.kind == "guarded":
            stopped = [trip.time for trip in trips(run) if trip.family in ("daily_loss", "weekly_loss")]
            moments = pd.DatetimeIndex(stopped, tz="UTC")
            at = _mondays(moments)
            name = "guard stopped entries for a loss limit"
            traces.append(_marks(at, moments.weekday, f"y{number}", "square-open", bool(stopped), name))
        annotations.append(
            label(shown(run_name(run)), 0, top, "paper", "paper", "ink", xanchor="left", yanchor="top")
        )
        height = 1 / len(runs)
        shape[f"yaxis{number}"] = axis(
            domain=[top - height + 0.02, top - 0.1],
            autorange="reversed",
            tickvals=["Mon", "Wed", "Fri", "Sun"],
            showgrid=False,
        )
    spec = {
        "data": traces,
        "layout": layout(
            xaxis=axis(
                type="date",
                showgrid=False,
                range=_span(runs),
                anchor=f"y{'' if len(runs) == 1 else len(runs)}",
            ),
            annotations=annotations,
            **shape,
        ),
    }
    return Chart(
        key="calendar",
        title="Daily results",
        question="How bad were single days, against the daily loss limit?",
        caption="Closed profit of a day over the balance it began with (UTC); the colours end at "
        + (
            f"{limit_percent(end)}. No daily limit was in force."
            if limit is None
            else f"the daily limit of {limit_percent(limit)}. Days at or beyond it: {'; '.join(counts)}. The guard's limit also"
            " counts open losses, so it can stop on other days."
        ),
        spec=spec,
        height=150 * len(runs) + 130,
        notes=[f"The guard's own limit counts {other_days}, these days are UTC."]
        if limit is not None and other_days
        else [],
    )


def _span(runs: Sequence[Evidence]) -> list[str]:
    # A few weeks alone would be drawn as bars.
    first, last = min(run.begins for run in runs), max(run.ends for run in runs)
    half = pd.Timedelta(days=3.5)
    begin = _mondays(pd.DatetimeIndex([first]))[0] - half
    return times([begin, max(last + half, begin + FEWEST_WEEKS * 2 * half)])


def _mondays(moments: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(
        [moment.floor("D") - pd.Timedelta(days=moment.weekday()) for moment in moments], tz="UTC"
    )


def _marks(weeks: Any, days: Any, vertical: str, symbol: str, legend: bool, name: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "legendgroup": name,
        "showlegend": legend,
        "x": times(weeks),
        "y": [WEEKDAYS[int(day)] for day in days],
        "xaxis": "x",
        "yaxis": vertical,
        "marker": {"symbol": symbol, "size": 7, "color": colour("ink"), "line": {"width": 1.25}},
        "hoverinfo": "skip",
    }
