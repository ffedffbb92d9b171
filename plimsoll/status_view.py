"""A bot's status document as tables; what is missing or null in it is shown as unknown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from plimsoll.bridge import StoredStatus
from plimsoll.terminal import (
    BAD,
    FAINT,
    GOOD,
    UNKNOWN,
    WARNING,
    add_row,
    bar,
    duration,
    items,
    label,
    mappings,
    moment,
    money,
    number,
    number_or,
    percent,
    price,
    share,
    titled,
    words,
)

SILENT_SECONDS: Final = 60
UNBOUNDED: Final = 10_000  # columns
BOT_WIDE: Final = ("", "*")

BREAKER_STYLES: Final = {"armed": GOOD, "reduced": WARNING, "unknown": WARNING, "tripped": BAD}
HEALTH_STYLES: Final = {"fine": GOOD, "alert": WARNING, "unknown": WARNING, "reduce": BAD, "close": BAD}
DEADMAN_STYLES: Final = {"fine": GOOD, "off": FAINT, "warning": WARNING, "critical": BAD, "stopped": BAD}
MODES: Final = {"dry_run": "dry run", "live": "live"}


def is_silent(stored: StoredStatus, now: float) -> bool:
    """Tell whether a status is too old to go by, or dated so far ahead that its age is unknown."""
    return abs(now - stored.time) > SILENT_SECONDS


class StatusView:
    """Draw a status as of ``now`` in epoch seconds."""

    def __init__(self, stored: StoredStatus, now: float) -> None:
        self._stored, self._now = stored, now
        self._document = stored.document
        self._currency = words(self._document.get("stake_currency"), "")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts, as wide as the console allows."""
        yield self._header()
        yield self._breakers(options)
        yield self._exposure(options)
        yield self._positions(console, options)
        yield from self._others()
        yield Text()
        yield self._deadman()
        yield self._proving()

    # -- Header --------------------------------------------------------------------------------------------

    def _header(self) -> RenderableType:
        document, age = self._document, self._now - self._stored.time
        mode = words(document.get("runmode"))
        head = [Text(words(document.get("bot")), "bold"), Text(MODES.get(mode, mode))]
        head += [Text(f"plimsoll {words(document.get('plimsoll'))}", FAINT)]
        head += [Text(f"loop {number_or(document.get('loop'), '{:,.0f}')}", FAINT)]
        silent = is_silent(self._stored, self._now)
        if not silent:
            head.append(Text(f"written {duration(max(age, 0.0))} ago", FAINT))
        parts: list[RenderableType] = [Text("  ").join(head)]
        if silent and age > 0:
            since = f"silent since {moment(self._stored.time)} ({duration(age)}); below is what it said then"
            parts.append(Text(since, BAD))
        elif silent:
            ahead = f"its status is dated {duration(-age)} ahead: one of the clocks is wrong"
            parts.append(Text(ahead, BAD))
        equity, balance = (self._with_currency(document.get(key)) for key in ("equity", "balance"))
        entries = words(document.get("entries"))
        shown = Text(entries, FAINT if silent else GOOD if entries == "open" else BAD)
        reasons = [Text(words(reason)) for reason in items(document.get("blocked_by"))]
        parts += [Text(), label("Equity", Text(f"{equity}, balance {balance}"))]
        return Group(*parts, label("Entries", shown, *reasons))

    def _with_currency(self, value: Any) -> str:
        return f"{money(value)} {self._currency}".strip()

    # -- Breakers ------------------------------------------------------------------------------------------

    def _breakers(self, options: ConsoleOptions) -> RenderableType:
        breakers = mappings(self._document.get("breakers"))
        if breakers is None:
            return label("Breakers", Text("unknown", WARNING))
        table = titled("Breakers", f"headroom in {self._currency or UNKNOWN}")
        table.add_column("", overflow="fold")
        table.add_column("state")
        for heading in ("now", "limit"):
            table.add_column(heading, justify="right")
        table.add_column("", no_wrap=True)
        table.add_column("headroom", justify="right")
        table.add_column("until")
        notes = Table.grid(padding=(0, 2, 0, 0))
        for breaker in breakers:
            name, state = breaker_name(breaker), words(breaker.get("state"))
            value, limit = number(breaker.get("value")), number(breaker.get("limit"))
            style = BREAKER_STYLES.get(state, WARNING)
            used = 1.0 if state == "tripped" else share(value, limit)
            if state == "armed" and used is not None and used >= 1.0:
                used = None  # one that trips below its limit
            add_row(
                table,
                name,
                Text(
                    f"{state} x{number_or(breaker.get('factor'), '{:g}')}" if state == "reduced" else state,
                    style,
                ),
                breaker_value(name, value),
                breaker_value(name, limit),
                bar(used, style, options),
                "" if breaker.get("headroom") is None else money(breaker.get("headroom")),
                self._until(breaker.get("until"), state),
            )
            if state != "armed":
                add_row(notes, Text(name, style), words(breaker.get("reason")))
        return Group(table, Text(), notes) if notes.row_count else table

    def _until(self, until: Any, state: str) -> str:
        end = number(until)
        if end is None or moment(end) == UNKNOWN:
            return "reset" if state == "tripped" else ""
        return f"in {duration(end - self._now)}" if end > self._now else moment(end)

    # -- Exposure ------------------------------------------------------------------------------------------

    def _exposure(self, options: ConsoleOptions) -> RenderableType:
        exposure = self._document.get("exposure")
        if not isinstance(exposure, Mapping):
            return label("Exposure", Text("unknown", WARNING))
        table = titled("Exposure", "of equity")
        table.add_column("")
        for heading in ("now", "limit"):
            table.add_column(heading, justify="right")
        table.add_column("", no_wrap=True)
        for key in (
            "margin",
            "heat",
            "gross",
            "net",
            *(("volatility",) if "volatility_limit" in exposure else ()),
        ):
            value, limit = number(exposure.get(key)), number(exposure.get(f"{key}_limit"))
            used = share(None if value is None else abs(value), limit)
            style = FAINT if used is None else GOOD if used < 0.8 else WARNING if used <= 1.0 else BAD
            add_row(table, key, percent(value), percent(limit), bar(used, style, options))
        bets = number(exposure.get("effective_bets"))
        if bets is not None:
            add_row(table, "independent bets", f"{bets:.1f}", "", "")
        return table

    # -- Positions -----------------------------------------------------------------------------------------

    def _positions(self, console: Console, options: ConsoleOptions) -> RenderableType:
        positions = mappings(self._document.get("positions"))
        if positions is None:
            return label("Positions", Text("unknown", WARNING))
        if not positions:
            return Text.assemble("\n", ("Positions", "bold"), "  none")
        # A number that is cut in two is misread: the first form that fits is taken.
        for more in (("notional", "entry", "rate", "profit"), ()):
            table = self._one_line_each(positions, more)
            needed = console.measure(table, options=options.update_width(UNBOUNDED)).maximum
            if needed <= options.max_width:
                return table
        return self._two_lines_each(positions)

    def _positions_table(self) -> Table:
        return titled("Positions", f"in {self._currency or UNKNOWN}, resting: is the stop on the exchange?")

    def _one_line_each(self, positions: list[Mapping[str, Any]], more: tuple[str, ...]) -> Table:
        table = self._positions_table()
        left = ("pair", "side", "resting", "health")
        headings = ("pair", "side", "margin", *more, "R planned", "R now", "stop", "resting")
        for heading in (*headings, "liquidation", "distance", "used", "health"):
            table.add_column(heading, justify="left" if heading in left else "right", overflow="fold")
        for position in positions:
            cells = position_cells(position)
            add_row(table, *(cells[str(column.header)] for column in table.columns))
        return table

    def _two_lines_each(self, positions: list[Mapping[str, Any]]) -> Table:
        pairs = (
            ("pair", "side"),
            ("margin", "used"),
            ("R planned", "R now"),
            ("stop", "resting"),
            ("liquidation", "distance"),
            ("health", ""),
        )
        table = self._positions_table()
        for first, second in pairs:
            left = first in ("pair", "health")
            table.add_column(f"{first}\n{second}", justify="left" if left else "right", overflow="fold")
        for position in positions:
            cells = position_cells(position)
            add_row(
                table,
                *(Text("\n").join((cells[first], cells.get(second, Text()))) for first, second in pairs),
            )
        return table

    def _others(self) -> Iterator[Text]:
        for other in mappings(self._document.get("other_positions")) or ():
            pair, side, kind = (words(other.get(key)) for key in ("pair", "side", "kind"))
            amounts = (f"{key} {money(other.get(key))}" for key in ("margin", "notional", "risk"))
            yield Text(f"counted too: {pair} {side}, {kind}, {', '.join(amounts)}", WARNING)

    # -- Dead man's switch, proving ------------------------------------------------------------------------

    def _deadman(self) -> Table:
        deadman = self._document.get("deadman")
        if not isinstance(deadman, Mapping):
            return label("Dead man's switch", Text("unknown", WARNING))
        level = words(deadman.get("level"))
        said = [Text(level, DEADMAN_STYLES.get(level, WARNING))]
        checked_in, deadline = number(deadman.get("checked_in")), number(deadman.get("deadline"))
        if checked_in is not None:
            by = f" by {words(deadman.get('by'))}" if deadman.get("by") else ""
            said.append(Text(f"last check-in {duration(self._now - checked_in)} ago{by}"))
        elif level != "off":
            said.append(Text("no check-in yet"))
        if deadline is not None:
            left = deadline - self._now
            ends = f"in {duration(left)}" if left > 0 else f"{duration(-left)} ago"
            said.append(Text(f"stops at {moment(deadline)} ({ends})"))
        return label("Dead man's switch", Text(", ").join(said))

    def _proving(self) -> Table:
        proving = self._document.get("proving")
        if not isinstance(proving, Mapping):
            return label("Proving", Text("unknown", WARNING))
        outcomes = {"True": ("done", GOOD), "False": ("not done", WARNING)}
        state, style = outcomes.get(str(proving.get("satisfied")), (UNKNOWN, WARNING))
        days, needed = (number_or(proving.get(key), "{:.4g}") for key in ("days", "needed_days"))
        return label(
            "Proving", Text.assemble((state, style), f", {days} of {needed} days of dry-run on record")
        )


def breaker_name(breaker: Mapping[str, Any]) -> str:
    """Return a breaker's name, and its pair where the name does not tell."""
    name, pair = words(breaker.get("name")), words(breaker.get("pair"), "")
    return name if pair in BOT_WIDE or pair in name else f"{name} {pair}"


def breaker_value(name: str, value: float | None) -> str:
    """Return a loss as a percentage and a count or score as it is."""
    if value is None:
        return ""
    return percent(value) if "loss" in name or "drawdown" in name else f"{value:.4g}"


def position_cells(position: Mapping[str, Any]) -> dict[str, Text]:
    """Return every cell of a position by its heading."""
    on_exchange, health, r = (
        position.get("stop_on_exchange"),
        words(position.get("health")),
        number(position.get("r")),
    )
    shown = ("yes" if on_exchange else "no") if isinstance(on_exchange, bool) else UNKNOWN
    cells = {
        "pair": words(position.get("pair")),
        "side": f"{words(position.get('side'))} {number_or(position.get('leverage'), '{:g}x')}",
        "R planned": money(position.get("risk")),
        "R now": UNKNOWN if r is None else f"{r:+.2f} R",
        "resting": shown,
        "distance": percent(number(position.get("liquidation_distance"))),
        "used": percent(number(position.get("margin_used"))),
        "health": health,
    }
    cells |= {key: money(position.get(key)) for key in ("margin", "notional", "profit")}
    cells |= {key: price(position.get(key)) for key in ("stop", "rate", "liquidation")}
    cells["entry"] = price(position.get("open_rate"))
    styles = {
        "health": HEALTH_STYLES.get(health, WARNING),
        "resting": {"yes": GOOD, "no": BAD}.get(shown, WARNING),
        "R now": "" if r is None else GOOD if r > 0 else "red" if r < 0 else "",
    }
    return {heading: Text(cell, styles.get(heading, "")) for heading, cell in cells.items()}
