"""What leverage alone does to the strategy: the raw runs at forced leverage."""

from __future__ import annotations

from collections.abc import Sequence

from plimsoll.audit import audit as audited
from plimsoll.figure_table import amount
from plimsoll.report.charts.base import (
    Cells,
    Chart,
    Spec,
    axis,
    colour,
    layout,
    line_shape,
    numbers,
)
from plimsoll.report.evidence import Evidence
from plimsoll.rules.breaker import limit_percent


def audit(runs: Sequence[Evidence]) -> Chart | None:
    """Draw the raw strategy at each forced leverage; None where there is no such run."""
    forced = sorted(
        (r for r in runs if r.run.kind == "leverage" and r.run.leverage), key=lambda r: r.run.leverage or 0.0
    )
    if not forced:
        return None
    x = numbers([run.run.leverage for run in forced])
    lines: tuple[tuple[str, list[float], str, str], ...] = (
        ("return", [run.figures.profit for run in forced], "raw", "solid"),
        ("max drawdown", [-run.figures.max_drawdown for run in forced], "muted", "dash"),
    )
    traces: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": x,
            "y": numbers(values),
            "line": {"color": colour(dot), "width": 1.75, "dash": dash},
            "marker": {"size": 7},
            "hovertemplate": f"%{{x:g}}x: {name} %{{y:+.1%}}<extra></extra>",
        }
        for name, values, dot, dash in lines
    ]
    rows = []
    notes = []
    for run in forced:
        f = run.figures
        known = audited(run.backtest, run.buffer, run.run.leverage)
        worst = "–" if f.worst_margin is None else f"{f.worst_margin:+.1%}"
        if known.clipped:
            notes.append(
                f"At {run.run.leverage:g}x {known.clipped:,} of {f.trades:,} trades got less: the exchange allows no more."
            )
        if known.by_export:
            notes.append(
                f"At {run.run.leverage:g}x worst prices of {known.by_export:,} trades are the export's, with the exit's"
                " whole candle."
            )
        rows.append(
            (
                f"{run.run.leverage:g}x",
                amount(f.final_balance, run.decimals),
                f"{f.profit:+.2%}",
                f"{f.max_drawdown:.2%}",
                f"{f.trades:,}",
                f"{f.liquidations:,}",
                f"{known.reached:,}",
                f"{f.whole_margin_losses:,}",
                worst,
                f"{f.stops_outside:,}",
                "–" if known.nearest is None else f"{known.nearest:.1%}",
            )
        )
    headings = ("leverage", "final balance", "return", "drawdown", "trades", "liquidated", "reached it", "margin lost",
                "worst, of margin", "stops outside", "nearest")  # fmt: skip
    return Chart(
        key="audit",
        title="As it is at other leverage",
        question="What does leverage alone do to the strategy?",
        caption="The strategy unguarded, with the leverage forced. Return and drawdown of the wallet, both as Freqtrade states"
        " them. Liquidation is Freqtrade's buffered price at the true tier: nearer to the entry than the exchange's by"
        f" {limit_percent(forced[0].buffer)} of the way (liquidation_buffer). Reached: the price touched it, whatever the"
        " backtest made of it."
        " Margin lost: 95\u00a0% of it or more. Nearest: from the worst price of the other trades to their liquidation, of"
        " that price; of the exit's candle its open and the exit price count.",
        spec={
            "data": traces,
            "layout": layout(
                xaxis=axis("forced leverage", ticksuffix="x", type="category"),
                yaxis=axis(tickformat="+.0%"),
                shapes=[line_shape("y", 0.0, "line", "x", "solid")],
            ),
        },
        height=300,
        table=Cells(headings=headings, rows=rows),
        notes=notes,
    )
