"""What ``plimsoll compare --together`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from plimsoll.compare.together import REASONS, Refusal, Together
from plimsoll.terminal import BAD, FAINT, GOOD, add_row, clean, label, moment, money, percent, titled


def document(result: Together) -> dict[str, Any]:
    """Return what came out as plain values for JSON; times are epoch seconds, None stands for what there was not."""
    by_bot = {
        bot.name: {
            "source": bot.source,
            "balance": bot.balance,
            "begins": bot.begins,
            "ends": bot.ends,
            "trades": len(bot.trades),
            "risk_from_journal": bot.planned,
            "profit": math.fsum(trade.profit for trade in bot.trades),
            "refused": {reason: _sums(result.refused(bot.name, reason)) for reason in REASONS},
        }
        for bot in result.bots
    }
    courses = {"without_limits": result.without, "with_limits": result.limited}
    return {
        "currency": result.bots[0].currency,
        "limits": asdict(result.limits),
        "bots": by_bot,
        "refused": {reason: _sums(result.refused(reason=reason)) for reason in REASONS},
        **{name: {k: _or_none(v) for k, v in asdict(course).items()} for name, course in courses.items()},
        "halt": None if result.halt is None else {"time": result.halt[0], "reason": result.halt[1]},
        "refusals": [asdict(refusal) for refusal in result.refusals],
    }


def _sums(refusals: Sequence[Refusal]) -> dict[str, float | int]:
    return {
        "entries": len(refusals),
        "additions": sum(refusal.addition for refusal in refusals),
        "margin": math.fsum(refusal.margin for refusal in refusals),
        "fits": math.fsum(refusal.fits for refusal in refusals),
        "gains_missed": math.fsum(max(refusal.profit, 0.0) for refusal in refusals),
        "losses_saved": math.fsum(max(-refusal.profit, 0.0) for refusal in refusals),
        "profit": math.fsum(refusal.profit for refusal in refusals),
    }


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class TogetherView:
    """Draw what the limits of a portfolio would have refused."""

    def __init__(self, result: Together) -> None:
        self._result = result

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts."""
        result = self._result
        begins, ends = min(bot.begins for bot in result.bots), max(bot.ends for bot in result.bots)
        span = f"  {len(result.bots)} bots, {moment(begins)[:10]} to {moment(ends)[:10]}, {result.bots[0].currency}"
        yield Text.assemble(("Together", "bold"), (span, FAINT))
        yield Text()
        yield self._halt()
        yield self._courses()
        yield self._bots()
        if result.refusals:
            yield self._refusals()
        yield Text()
        for note in self._notes():
            yield Text(note, FAINT)

    def _halt(self) -> Table:
        if self._result.halt is None:
            return label("Halted", Text("never", GOOD))
        time, reason = self._result.halt
        return label("Halted", Text(moment(time), BAD), Text(clean(reason)))

    def _courses(self) -> Table:
        result, limits = self._result, self._result.limits
        without, limited = result.without, result.limited
        table = titled("All bots", "the highest there was")
        for heading in ("", "without limits", "with limits", "limit"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        add_row(table, "profit", _signed(without.profit), _signed(limited.profit), "")
        add_row(
            table, "drawdown", percent(without.drawdown), percent(limited.drawdown), percent(limits.drawdown)
        )
        add_row(table, "margin", percent(without.margin), percent(limited.margin), percent(limits.exposure))
        assets = [f"{c.asset_name} {percent(c.asset)}".strip() for c in (without, limited)]
        add_row(table, "one asset", *assets, percent(limits.asset))
        add_row(table, "open risk", percent(without.heat), percent(limited.heat), percent(limits.heat))
        return table

    def _bots(self) -> Table:
        table = titled("Bots", "alone, and under the limits")
        for heading in ("bot", "balance", "trades", "refused", "profit", "with limits"):
            table.add_column(heading, justify="left" if heading == "bot" else "right", overflow="fold")
        for bot in self._result.bots:
            refused = self._result.refused(bot.name)
            profit = math.fsum(trade.profit for trade in bot.trades)
            kept = profit - math.fsum(refusal.profit for refusal in refused)
            opened = sum(not refusal.addition for refusal in refused)
            cells = (
                money(bot.balance),
                f"{len(bot.trades):,}",
                f"{opened:,}",
                _signed(profit),
                _signed(kept),
            )
            add_row(table, clean(bot.name), *cells)
        return table

    def _refusals(self) -> Table:
        table = titled("Refused", "entries, and what they made in the backtests")
        columns = ("reason", "bot", "entries", "margin", "would fit", "gains missed", "losses saved", "made")
        for heading in columns:
            table.add_column(
                heading, justify="left" if heading in ("reason", "bot") else "right", overflow="fold"
            )
        for reason in REASONS:
            first = True
            for bot in self._result.bots:
                refused = self._result.refused(bot.name, reason)
                if refused:
                    add_row(table, reason if first else "", clean(bot.name), *_cells(refused))
                    first = False
        table.add_section()
        add_row(table, "all", "", *_cells(self._result.refusals))
        return table

    def _notes(self) -> list[str]:
        notes = [
            "Profit counts when a trade closes: open losses are in no export, so live the drawdown is deeper and a halt earlier.",
            "Sizes are those of the backtests. A guarded bot that trades enters with what would still fit.",
        ]
        for bot in self._result.bots:
            guessed = len(bot.trades) - bot.planned
            if guessed:
                notes.append(
                    f"{clean(bot.name)}: R of {guessed:,} trades is that of the stop they began with, at most their margin: no"
                    " journal beside the export has them."
                )
        if any(refusal.reason == "unknown" for refusal in self._result.refusals):
            example = next(refusal for refusal in self._result.refusals if refusal.reason == "unknown")
            notes.append(f"Unknown, for example: {clean(example.detail)}.")
        if len({(bot.begins, bot.ends) for bot in self._result.bots}) > 1:
            notes.append("The periods differ: each bot's capital counts only in its own.")
        return notes


def _cells(refused: Sequence[Refusal]) -> tuple[str, ...]:
    sums = _sums(refused)
    amounts = (f"{sums[name]:,.0f}" for name in ("margin", "fits", "gains_missed", "losses_saved"))
    return (f"{sums['entries']:,}", *amounts, f"{sums['profit']:+,.0f}")


def _signed(value: float) -> str:
    return f"{value:+,.2f}"
