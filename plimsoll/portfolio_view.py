"""How all bots of one owner stand, drawn for a terminal."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from plimsoll.portfolio import Standing
from plimsoll.portfolio.standing import BotStanding
from plimsoll.rules.answer import Outcome
from plimsoll.terminal import (
    BAD,
    FAINT,
    GOOD,
    WARNING,
    add_row,
    bar,
    clean,
    duration,
    label,
    money,
    percent,
    share,
    titled,
)


class PortfolioView:
    """Draw how all bots stand."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts, as wide as the console allows."""
        standing = self._standing
        yield Text.assemble(
            ("Portfolio", "bold"), (f"  {len(standing.bots)} bots, change {standing.sequence}", FAINT)
        )
        yield Text()
        yield label("Capital", Text(self._money(standing.capital)))
        yield self._entries()
        yield self._limits(options)
        yield self._assets(options)
        yield self._bots()

    def _entries(self) -> Table:
        standing = self._standing
        if standing.halted is not None:
            said = [
                Text("halted", BAD),
                Text(clean(standing.halted)),
                Text("`plimsoll portfolio reset` ends it"),
            ]
        elif standing.over:
            said = [Text("over a limit", BAD), *(Text(clean(text)) for text in standing.over)]
        else:
            said = [Text("open", GOOD)] if standing.outcome is Outcome.FINE else [Text("unknown", BAD)]
        said += [Text(f"cannot be counted: {clean(text)}", BAD) for text in standing.unclear]
        return label("Entries", *said)

    def _limits(self, options: ConsoleOptions) -> Table:
        standing, limits = self._standing, self._standing.limits
        table = titled("Limits", "of the capital of all bots; the tightest of their settings")
        for heading in ("", "now", "limit", "", "left"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=not heading)
        rows = (
            ("margin", standing.margin, limits.exposure),
            ("open risk", standing.risk, limits.heat),
        )
        for name, used, ratio in rows:
            part = share(used, standing.capital)
            unused = max(0.0, ratio * standing.capital - used)
            self._limit(table, options, name, part, ratio, self._money(unused))
        peak = standing.peak
        left = (
            "" if peak is None else self._money(max(0.0, standing.capital - peak * (1.0 - limits.drawdown)))
        )
        self._limit(table, options, "drawdown", standing.drawdown, limits.drawdown, left)
        return table

    def _limit(
        self, table: Table, options: ConsoleOptions, name: str, part: float | None, limit: float, left: str
    ) -> None:
        used = share(part, limit)
        halted = name == "drawdown" and self._standing.halted is not None
        style = BAD if halted else _style(used)
        add_row(
            table, name, percent(part), percent(limit), bar(1.0 if halted else used, style, options), left
        )

    def _assets(self, options: ConsoleOptions) -> Table | Text:
        standing = self._standing
        if not standing.assets:
            return Text.assemble("\n", ("Assets", "bold"), "  none")
        remark = (
            f"margin of all bots in {standing.currency}, limit {percent(standing.limits.asset)} of capital"
        )
        table = titled("Assets", remark)
        for heading in ("", "margin", "long", "short", "", "left"):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=not heading)
        for asset in standing.assets:
            used = share(asset.margin, asset.cap)
            drawn = bar(used, _style(used), options)
            amounts = (money(amount) for amount in (asset.margin, asset.long, asset.short))
            add_row(table, clean(asset.asset), *amounts, drawn, money(asset.left))
        return table

    def _bots(self) -> Table | Text:
        standing = self._standing
        if not standing.bots:
            return Text.assemble("\n", ("Bots", "bold"), "  none")
        table = titled("Bots", f"in {standing.currency}; a silent bot's positions and capital count on")
        for heading in ("bot", "heard", "capital", "margin", "reserved", "open risk", "positions"):
            left = heading in ("bot", "heard", "positions")
            table.add_column(heading, justify="left" if left else "right", overflow="fold")
        for bot in standing.bots:
            style = BAD if bot.silent else ""
            cells = (
                clean(bot.bot),
                f"silent for {duration(bot.age)}" if bot.silent else f"{duration(bot.age)} ago",
                money(bot.capital) if bot.known else f"{money(bot.capital)} (last known)",
                *(money(amount) for amount in (bot.margin, bot.reserved, bot.risk)),
                _positions(bot),
            )
            add_row(table, *(Text(cell, style) for cell in cells))
        return table

    def _money(self, amount: float) -> str:
        return f"{money(amount)} {clean(self._standing.currency)}"


def _positions(bot: BotStanding) -> str:
    places = {(claim.pair, claim.side) for claim in bot.claims}
    return ", ".join(f"{clean(pair)} {side}" for pair, side in sorted(places))


def _style(used: float | None) -> str:
    return FAINT if used is None else GOOD if used < 0.8 else WARNING if used <= 1.0 + 1e-9 else BAD
