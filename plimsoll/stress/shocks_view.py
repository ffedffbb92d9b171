"""What shocks do to positions, as tables and as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from plimsoll.rules import margin_health
from plimsoll.rules.answer import Answer, Outcome
from plimsoll.rules.heat import heat
from plimsoll.rules.shock import Hit, Reach, Struck
from plimsoll.rules.shock_limits import ACTION, exposed
from plimsoll.stress.book import Book
from plimsoll.terminal import (
    BAD,
    FAINT,
    GOOD,
    UNKNOWN,
    WARNING,
    add_row,
    clean,
    money,
    percent,
    price,
    titled,
)

NEAR: Final = 0.10
WHOLE_FROM: Final = 10_000.0  # of equity: cents would be cut in two
ASSUMED: Final = (
    "A gap is a jump: a stop inside it fills behind it, a position whose liquidation lies inside loses all of its isolated margin"
    " and open profit, and nothing more.",
    "Liquidation is buffered as Freqtrade buffers it, at Binance's maintenance tiers unless the bot knows a nearer price.",
    "Funding: each position pays, whatever its side, on its notional while its price stands still. Stops stay where they are.",
    "Entries under way and positions that no bot keeps books of count in the limits; shocks leave them as they are.",
    "Limits are asked with one reading, as of right after the shock; peak and openings are those of before.",
)


@dataclass(frozen=True, kw_only=True)
class Stressed:
    """Hold the positions, the order in which they end, and each shock with what the limits answer after it."""

    book: Book
    order: Sequence[Reach]
    funding_rate: float
    shocks: Sequence[tuple[Struck, Sequence[Answer]]]
    consequences: Mapping[str, str]
    remark: str = ""


def liquidated_in_order(stressed: Stressed, struck: Struck) -> list[Hit]:
    """Return what a shock liquidates, the position that the smallest shock of its kind reaches first."""
    places = {id(reach.position): reach for reach in stressed.order}
    only_funding = struck.shock.market_move == struck.shock.against == 0.0

    def key(hit: Hit) -> tuple[float, str]:
        reach = places[id(hit.position)]
        return (reach.settlements if only_funding else reach.to_liquidation), hit.position.pair

    return sorted((hit for hit in struck.hits if hit.outcome == "liquidated"), key=key)


# -- Plain values --------------------------------------------------------------------------------------------


def document(stressed: Stressed) -> dict[str, Any]:
    """Return everything as plain values for JSON: money in stake currency, None for unknown, "never" for what cannot be reached."""
    book = stressed.book
    return {
        "source": book.source,
        "remark": stressed.remark,
        "currency": book.currency,
        "equity": _finite(book.equity),
        "before": asdict(book.before),
        "assumed": list(ASSUMED),
        "order": [
            {
                "pair": reach.position.pair,
                "side": reach.position.side,
                "leverage": _finite(reach.position.leverage),
                "margin": reach.position.margin,
                "rate": _finite(reach.position.rate),
                "liquidation": _finite(reach.liquidation),
                "move_to_liquidation": _move(reach.to_liquidation),
                "move_to_stop": _move(reach.to_stop),
                "settlements_to_liquidation": _move(reach.settlements),
                "liquidation_before_stop": reach.behind,
            }
            for reach in stressed.order
        ],
        "others": [{k: _plain(v) for k, v in other._asdict().items()} for other in book.others],
        "funding_rate": stressed.funding_rate,
        "shocks": [_shock(stressed, struck, answers) for struck, answers in stressed.shocks],
    }


def _shock(stressed: Stressed, struck: Struck, answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        **asdict(struck.shock),
        "positions": [
            {
                "pair": hit.position.pair,
                "side": hit.position.side,
                "outcome": hit.outcome,
                "price": _finite(hit.price),
                "liquidation": _finite(hit.liquidation),
                "funding_paid": _finite(hit.funding_paid),
                "loss": _finite(hit.loss),
            }
            for hit in struck.hits
        ],
        "liquidated_in_order": [hit.position.pair for hit in liquidated_in_order(stressed, struck)],
        "loss": _finite(struck.loss),
        "equity_after": _finite(struck.equity),
        "margin_after": _finite(margin_after(stressed, struck)),
        "heat_after": _finite(heat_after(stressed, struck)),
        "limits": [
            {
                "rule": answer.rule,
                "outcome": answer.outcome.value,
                "reason": answer.reason,
                "consequence": consequence(stressed, answer),
                "numbers": {k: _plain(v) for k, v in answer.numbers.items()},
            }
            for answer in answers
        ],
    }


def consequence(stressed: Stressed, answer: Answer) -> str | None:
    """Return what a limit would do, None where it would do nothing."""
    if answer.outcome is Outcome.FINE:
        return None
    if answer.outcome is Outcome.UNKNOWN:
        return "unknown: no new risk"
    if answer.rule == margin_health.RULE:
        return str(answer.numbers.get(ACTION))
    return stressed.consequences.get(answer.rule, "no entries")


def margin_after(stressed: Stressed, struck: Struck) -> float:
    """Return the margin of all that is still open as a ratio of what is left of equity."""
    margin = math.fsum(each.margin for each in exposed(struck, stressed.book.others))
    return margin / struck.equity if struck.equity > 0.0 else math.nan


def heat_after(stressed: Stressed, struck: Struck) -> float:
    """Return the heat of all that is still open."""
    return heat(positions=exposed(struck, stressed.book.others), equity=struck.equity)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _move(value: float) -> float | str | None:
    return "never" if value == math.inf else _finite(value)


def _plain(value: Any) -> Any:
    return _finite(value) if isinstance(value, float) else value


# -- Tables --------------------------------------------------------------------------------------------------


class StressView:
    """Draw who ends first, what each shock costs, and what the limits would do."""

    def __init__(self, stressed: Stressed) -> None:
        self._stressed = stressed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts."""
        stressed, book = self._stressed, self._stressed.book
        equity = f"{money(book.equity)} {book.currency}".strip()
        yield Text.assemble(("Stress", "bold"), (f"  {clean(book.source)}, equity {equity}", FAINT))
        if stressed.remark:
            yield Text(stressed.remark, BAD)
        if book.others:
            yield self._others()
        if not book.positions:
            yield Text("no open positions: nothing to lose", GOOD)
            return
        yield self._first()
        yield self._order()
        yield self._shocks()
        yield self._limits()
        yield Text()
        for line in ASSUMED:
            yield Text(line, FAINT)

    def _others(self) -> Text:
        shown = (f"{_short(o.pair)} {o.side}, margin {money(o.margin)}" for o in self._stressed.book.others)
        return Text(f"counted in the limits only: {'; '.join(shown)}", WARNING)

    def _first(self) -> Text:
        known = [reach for reach in self._stressed.order if math.isfinite(reach.to_liquidation)]
        unknown = sum(reach.to_liquidation != reach.to_liquidation for reach in self._stressed.order)
        said = Text("\n")
        if known:
            reach = known[0]
            name = f"{clean(reach.position.pair)} {reach.position.side} {reach.position.leverage:.3g}x"
            share = reach.position.worth(reach.position.rate) / self._stressed.book.equity
            style = BAD if reach.behind else WARNING if reach.to_liquidation < NEAR else GOOD
            said.append(
                f"First liquidated: {name}, at a move of {percent(reach.to_liquidation)} against it", style
            )
            said.append(f" ({percent(share)} of equity)")
            said.append(
                ", before its stop" if reach.behind else f"; its stop is {percent(reach.to_stop)} away"
            )
        else:
            said.append("No position has a liquidation price that is known and can be reached", WARNING)
        if unknown:
            said.append(f"; of {unknown} it is unknown", WARNING)
        return said

    def _order(self) -> Table:
        rate = self._stressed.funding_rate
        table = titled("Who is liquidated first", f"by a move against it, or by fundings of {rate:.2%}")
        for heading in ("", "pair", "side", "margin", "price", "dies at", "move", "to stop", "fundings"):
            justify: Any = "left" if heading in ("pair", "side") else "right"
            table.add_column(heading, justify=justify, overflow="fold")
        for place, reach in enumerate(self._stressed.order, 1):
            p, move = reach.position, reach.to_liquidation
            style = WARNING if move != move else BAD if reach.behind or move < NEAR else ""
            add_row(
                table,
                str(place),
                _short(p.pair),
                f"{p.side} {p.leverage:.3g}x",
                money(p.margin),
                price(p.rate),
                price(reach.liquidation),
                Text(_or(move, percent), style),
                "none" if p.stop is None else _or(reach.to_stop, percent),
                _or(reach.settlements, lambda n: f"{n:,.0f}"),
            )
        return table

    def _shocks(self) -> Table:
        table = titled("Shocks", f"in {self._stressed.book.currency or UNKNOWN}, dead: liquidated")
        for heading in ("shock", "stopped", "dead", "first", "loss", "equity", "left", "margin"):
            justify: Any = "left" if heading in ("shock", "first") else "right"
            table.add_column(heading, justify=justify, no_wrap=heading != "first", overflow="fold")
        whole = self._stressed.book.equity >= WHOLE_FROM
        shown_money: Any = "{:,.0f}".format if whole else money
        for struck, _ in self._stressed.shocks:
            dead = liquidated_in_order(self._stressed, struck)
            unknown = sum(hit.outcome == "unknown" for hit in struck.hits)
            left = struck.equity / self._stressed.book.equity
            first = "" if not dead else _short(dead[0].position.pair)
            add_row(
                table,
                struck.shock.name,
                str(sum(hit.outcome == "stopped" for hit in struck.hits)),
                Text(f"{len(dead)}" + (f", {unknown} {UNKNOWN}" if unknown else ""), BAD if dead else ""),
                first,
                _or(struck.loss, shown_money),
                _or(struck.equity, shown_money),
                _or(left, percent),
                _or(margin_after(self._stressed, struck), percent),
            )
        return table

    def _limits(self) -> Table:
        table = titled("What the limits would do", "those that act")
        for heading in ("shock", "limit", "does", "because"):
            table.add_column(heading, no_wrap=heading == "shock", overflow="fold")
        for struck, answers in self._stressed.shocks:
            first = True
            for answer in answers:
                does = consequence(self._stressed, answer)
                if does is None:
                    continue
                style = WARNING if answer.outcome is Outcome.UNKNOWN else BAD
                shown = struck.shock.name if first else ""
                add_row(table, shown, answer.rule.replace("_", " "), Text(does, style), clean(answer.reason))
                first = False
            if first:
                add_row(table, struck.shock.name, Text("none", GOOD), "", "")
        return table


def _short(pair: str) -> str:
    return clean(pair).partition(":")[0]


def _or(value: float, show: Any) -> str:
    if value != value:
        return UNKNOWN
    return "never" if value == math.inf else str(show(value))
