"""What ``plimsoll compare --strategy`` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from plimsoll.compare.cache import Finished
from plimsoll.compare.comparing import Outcome
from plimsoll.compare.variants import Variant
from plimsoll.rules.breaker import limit_percent
from plimsoll.terminal import FAINT, add_row, clean, percent, titled

NONE = "-"


def document(outcome: Outcome, report: Path | None) -> dict[str, Any]:
    """Return what came out as plain values for JSON; None stands for a number that there was not."""
    comparison = outcome.comparison
    return {
        "directory": str(outcome.directory),
        "report": None if report is None else str(report),
        "strategy": None if comparison is None else comparison.strategy,
        "timerange": None if comparison is None else comparison.timerange,
        "pairs": None if comparison is None else list(comparison.pairs),
        "runs": [
            {
                "name": each.name,
                "kind": each.kind,
                "strategy": each.strategy,
                "layer": each.layer,
                "leverage": each.leverage,
                "cached": found.cached,
                "seconds": found.seconds,
                "export": str(found.export),
                "journal": None if found.journal is None else str(found.journal),
                "figures": found.taken["figures"],
                "audit": None if each.guarded else found.taken["audit"],
            }
            for each, found in outcome.finished.items()
        ],
        "failed": outcome.failed,
        "left_out": outcome.left_out,
        "notes": outcome.notes,
    }


class RunsView:
    """Draw the figures of all runs, the liquidation audit, and what has to be known of them."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts."""
        outcome = self._outcome
        if outcome.comparison is not None:
            known = outcome.comparison
            cached = sum(found.cached for found in outcome.finished.values())
            span = f"  {known.timerange}, {len(known.pairs)} pairs, {len(known.runs)} runs"
            span += f", {cached} of them cached" if cached else ""
            yield Text.assemble((clean(known.strategy), "bold"), (span, FAINT))
            yield self._figures()
            forced = {each: found for each, found in outcome.finished.items() if each.leverage is not None}
            if forced:
                yield self._audit(forced)
        yield Text()
        for note in self._notes():
            yield Text(note, FAINT)

    def _figures(self) -> Table:
        table = titled("Backtests", "Freqtrade's own figures, and the journal's")
        rows: dict[str, Callable[[Mapping[str, Any]], str]] = {
            "profit": lambda f: _or_none(f["profit"], "{:+.1%}"),
            "drawdown": lambda f: percent(f["max_drawdown"]),
            "trades": lambda f: f"{f['trades']:,}",
            "margin lost": lambda f: f"{f['whole_margin_losses']:,}",
            "worst, margin": lambda f: _or_none(f["worst_margin"], "{:+.0%}"),
            "worst, R": lambda f: _or_none(f["worst_r"], "{:+.2f}"),
            "lever- age": lambda f: _or_none(f["mean_leverage"], "{:.2f}x"),
        }
        table.add_column("", no_wrap=True)
        for heading in rows:
            table.add_column(heading, justify="right")
        section: str | None = None
        for each, found in self._outcome.finished.items():
            part = each.kind if each.kind in ("without", "leverage") else "whole"
            if section not in (None, part):
                table.add_section()
            section = part
            add_row(table, each.name, *(show(found.taken["figures"]) for show in rows.values()))
        return table

    def _audit(self, forced: Mapping[Variant, Finished]) -> Table:
        table = titled("Liquidation audit", "the strategy without guard at forced leverage")
        headings = (
            "trades",
            "liqui- dated",
            "touch- ed it",
            "margin lost",
            "over 100 %",
            "stop beyond",
            "near- est",
            "5 % under",
            "half under",
        )
        table.add_column("", no_wrap=True)
        for heading in headings:
            table.add_column(heading, justify="right")
        for each, found in forced.items():
            known = found.taken["audit"]
            counts = ("trades", "liquidated", "reached", "whole_margins", "over_margin", "stops_beyond")
            distances = ("nearest", "fifth_percentile", "median")
            cells = [f"{known[name]:,}" for name in counts]
            cells += [_or_none(known[name], "{:.1%}") for name in distances]
            add_row(table, f"{each.leverage:g}x", *cells)
        return table

    def _notes(self) -> Iterator[str]:
        outcome = self._outcome
        for each, found in outcome.finished.items():
            known = found.taken["audit"]
            if each.leverage is not None:
                if known["clipped"]:
                    yield (
                        f"At {each.leverage:g}x {known['clipped']:,} of {known['trades']:,} trades got less:"
                        " the exchange allows no more."
                    )
                if known["unknown"]:
                    yield f"At {each.leverage:g}x liquidation is unknown for {known['unknown']:,} trades: no maintenance tier."
                if known["by_export"]:
                    yield (
                        f"At {each.leverage:g}x the exit's candle counts whole for {known['by_export']:,} trades:"
                        " their candles could not be read."
                    )
        if outcome.comparison is not None and any(each.leverage is not None for each in outcome.finished):
            buffer = limit_percent(outcome.comparison.liquidation_buffer)
            yield (
                "Touched: the price came to Freqtrade's buffered liquidation price at the true maintenance tier, nearer to the"
                f" entry than the exchange's by {buffer} of the way (liquidation_buffer), whatever the backtest made of it."
                " Distances are from the worst price of the other trades; of the exit's candle its open and the exit price count."
            )
        for layer, reason in outcome.left_out.items():
            yield f"Not switched off: {layer} {reason}."
        yield from outcome.notes


def _or_none(value: float | None, pattern: str) -> str:
    return NONE if value is None else pattern.format(value)
