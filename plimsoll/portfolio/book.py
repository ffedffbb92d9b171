"""The whole ledger as one transaction sees it, and what it writes back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from plimsoll.portfolio import schema
from plimsoll.portfolio.connection import LedgerFault
from plimsoll.portfolio.standing import Standing, asset_standings, bot_standings
from plimsoll.rules import portfolio, portfolio_drawdown
from plimsoll.rules.breaker import NO_READINGS, Readings
from plimsoll.rules.portfolio import Capital, Claim, Limits, Totals
from plimsoll.rules.portfolio_claims import Change
from plimsoll.rules.portfolio_drawdown import Told

RECORDED = 0.005  # of a bot's capital: a smaller move alone is no line in the history


@dataclass(frozen=True, slots=True)
class Bot:
    """Hold a bot's row: ``flow`` is its own figure in its own currency, ``recorded`` the capital last written to the history.

    ``readings`` are as stored: only one of many bots needs its own.
    """

    capital: Capital
    equity: float
    flow: float
    readings: str
    recorded: float
    limits: Limits
    account: str


class Book:
    """Load the ledger under its lock, change it, and store it with a line of history for each change.

    Everything that decides is read after the lock (:func:`~plimsoll.portfolio.schema.lock`). Were it not kept, the sequence
    number would still refuse the second of two that read the same.
    """

    def __init__(
        self, connection: Connection, now: float, own: Limits | None = None, *, lock: bool = True
    ) -> None:
        self._connection, self.now = connection, now
        if lock:
            schema.lock(connection)
        row = connection.execute(select(schema.ledger)).one()
        schema.require_version(row.version)
        self.currency: str = row.currency
        self.sequence: int = row.sequence
        self._loaded = self.sequence
        self._flow: float = row.flow
        self._drawdown = portfolio_drawdown.stored_state(
            None if row.drawdown is None else json.loads(row.drawdown)
        )
        self.bots = {row.bot: _bot(row) for row in connection.execute(select(schema.bots))}
        self.claims = {
            (row.bot, row.key): Claim(
                bot=row.bot, key=row.key, pair=row.pair, asset=row.asset, side=row.side, margin=row.margin,
                risk=row.risk, state=row.state, time=row.time,
            )
            for row in connection.execute(select(schema.claims))
        }  # fmt: skip
        self._own = own
        self._lines: list[dict[str, Any]] = []
        self._limits: Limits | None = None
        self._totals: Totals | None = None
        self._told = self._instants()

    # -- What it says --------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """The tightest of all bots' as they told them, silent ones' too; before there is any, those of who asks."""
        if self._limits is None:
            known = {bot.limits for bot in self.bots.values()}
            self._limits = portfolio.tightest(known) if known else self._own or Limits()
        return self._limits

    @property
    def halted(self) -> str | None:
        return self._drawdown.reason if self._drawdown.tripped else None

    @property
    def capitals(self) -> list[Capital]:
        return [bot.capital for bot in self.bots.values()]

    def totals(self) -> Totals:
        if self._totals is None:
            self._totals = portfolio.totals(self.claims.values(), self.capitals)
        return self._totals

    def of(self, bot: str) -> list[Claim]:
        return [claim for claim in self.claims.values() if claim.bot == bot]

    def standing(self, changes: Iterable[Change] = ()) -> Standing:
        """Return all of it at this moment."""
        totals, limits, claims = self.totals(), self.limits, list(self.claims.values())
        return Standing(
            time=self.now,
            currency=self.currency,
            sequence=self.sequence,
            limits=limits,
            capital=totals.capital,
            margin=totals.margin,
            risk=totals.risk,
            margin_cap=limits.exposure * totals.capital,
            risk_cap=limits.heat * totals.capital,
            bots=bot_standings(
                self.capitals, claims, self.now, {name: bot.account for name, bot in self.bots.items()}
            ),
            assets=asset_standings(claims, totals, limits),
            drawdown=portfolio_drawdown.depth(self._drawdown),
            peak=portfolio_drawdown.peak_equity(self._drawdown),
            halted=self.halted,
            over=totals.over(limits, portfolio.FILLED),
            changes=tuple(changes),
        )

    def readings(self, bot: str) -> Readings:
        """Return a bot's readings so far."""
        known = self.bots.get(bot)
        return NO_READINGS if known is None else Readings.from_json(json.loads(known.readings))

    # -- What changes it -----------------------------------------------------------------------------------------------

    def put(self, claim: Claim, event: str, note: str = "") -> None:
        """Store a claim as it is from now on."""
        place = (claim.bot, claim.key)
        values = {name: getattr(claim, name) for name in Claim.__slots__}
        if place in self.claims:
            where = (schema.claims.c.bot == claim.bot, schema.claims.c.key == claim.key)
            self._connection.execute(update(schema.claims).where(*where).values(values))
        else:
            self._connection.execute(insert(schema.claims).values(values))
        self.claims[place] = claim
        self._totals = None
        self.record(event, claim.bot, claim, note)

    def drop(self, claim: Claim, event: str, note: str = "") -> None:
        """End a claim."""
        where = (schema.claims.c.bot == claim.bot, schema.claims.c.key == claim.key)
        self._connection.execute(delete(schema.claims).where(*where))
        del self.claims[claim.bot, claim.key]
        self._totals = None
        self.record(event, claim.bot, replace(claim, margin=0.0, risk=0.0), note)

    def apply(self, changes: Iterable[Change]) -> None:
        """Store what a bot's claims became when they were compared with what it has."""
        for change in changes:
            if change.ends:
                self.drop(change.claim, change.event)
            else:
                self.put(change.claim, change.event)

    def hear(self, name: str, told: Told, flow: float, unclear: str, limits: Limits, account: str) -> None:
        """Store what a bot's heartbeat said, and judge the drawdown of all."""
        before = self.bots.get(name)
        equity = told.equity
        capital = Capital(name, told.capital, self.now, limits.silent_seconds, told.known, unclear)
        recorded = 0.0 if before is None else before.recorded
        joins = (before is None or before.equity <= 0.0) and equity > 0.0
        moved = abs(told.capital - recorded) > RECORDED * recorded
        if moved:
            recorded = told.capital
        readings = json.dumps(told.readings.to_json())
        self.bots[name] = Bot(capital, equity, flow, readings, recorded, limits, account)
        self._limits = self._totals = None
        self._store_bot(name, new=before is None)
        self._flow += told.flow
        self.judge()
        if joins or moved or told.flow != 0.0:
            event = "joined" if joins else "flow" if told.flow != 0.0 else "equity"
            self.record(event, name, equity=told.capital)

    def forget(self, name: str, note: str) -> None:
        """Let a bot leave with its capital, which is no loss."""
        bot = self.bots.pop(name)
        self._limits = self._totals = None
        self._connection.execute(delete(schema.bots).where(schema.bots.c.bot == name))
        self._flow -= bot.equity
        self.judge()
        self.record("left", name, note=note, equity=0.0)

    def judge(self) -> None:
        """Step the drawdown with the equity of all bots."""
        self._drawdown, _ = portfolio_drawdown.judge(
            self._drawdown, self.limits, self.now, self._equity(), self._flow
        )

    def reset(self, note: str) -> None:
        """End a halt: the equity of now is the peak."""
        self._drawdown = portfolio_drawdown.reset(
            self._drawdown, self.limits, self.now, self._equity(), self._flow
        )
        self.record("reset", "", note=note)
        self._told = self._instants()

    def record(
        self, event: str, bot: str, claim: Claim | None = None, note: str = "", equity: float | None = None
    ) -> None:
        """Write a line of history, with everything as it is after the change."""
        totals, limits = self.totals(), self.limits
        asset = "" if claim is None else claim.asset
        self.sequence += 1
        self._lines.append(
            {
                "sequence": self.sequence,
                "time": self.now,
                "event": event,
                "bot": bot,
                "key": "" if claim is None else claim.key,
                "pair": "" if claim is None else claim.pair,
                "asset": asset,
                "side": "" if claim is None else claim.side,
                "margin": 0.0 if claim is None else claim.margin,
                "risk": 0.0 if claim is None else claim.risk,
                "equity": equity,
                "total_capital": totals.capital,
                "total_margin": totals.margin,
                "total_risk": totals.risk,
                "asset_margin": totals.assets.get(asset, 0.0),
                "margin_cap": limits.exposure * totals.capital,
                "asset_cap": limits.asset * totals.capital,
                "risk_cap": limits.heat * totals.capital,
                "over": bool(totals.over(limits)),
                "halted": self._drawdown.tripped,
                "note": note,
            }
        )

    def save(self) -> None:
        """Write the history and the ledger's own row; the caller commits."""
        halted, over, limits = self._instants()
        if halted != self._told[0]:
            self.record("halted" if halted else "resumed", "", note=self.halted or "")
        if over != self._told[1]:
            self.record("over" if over else "within", "", note="; ".join(self.totals().over(self.limits)))
        if limits != self._told[2]:
            self.record("limits", "", note=json.dumps(limits.to_json()))
        written = self._connection.execute(
            update(schema.ledger)
            .where(schema.ledger.c.sequence == self._loaded)
            .values(sequence=self.sequence, flow=self._flow, drawdown=json.dumps(self._drawdown.to_json()))
        )
        if written.rowcount != 1:
            raise LedgerFault("the ledger was changed by somebody who did not wait for its lock")
        for line in self._lines:  # nearly always one
            self._connection.execute(insert(schema.history), line)

    def _instants(self) -> tuple[bool, bool, Limits]:
        return self._drawdown.tripped, bool(self.totals().over(self.limits)), self.limits

    def _equity(self) -> float:
        return math.fsum(bot.equity for bot in self.bots.values())

    def _store_bot(self, name: str, new: bool) -> None:
        bot = self.bots[name]
        values = {
            "bot": name,
            "time": bot.capital.time,
            "capital": bot.capital.capital,
            "equity": bot.equity,
            "known": bot.capital.known,
            "flow": bot.flow,
            "readings": bot.readings,
            "recorded": bot.recorded,
            "limits": json.dumps(bot.limits.to_json()),
            "unclear": bot.capital.unclear,
            "account": bot.account,
        }
        if new:
            self._connection.execute(insert(schema.bots).values(values))
        else:
            self._connection.execute(update(schema.bots).where(schema.bots.c.bot == name).values(values))


def _bot(row: Row[Any]) -> Bot:
    limits = _limits(row.limits)
    capital = Capital(row.bot, row.capital, row.time, limits.silent_seconds, bool(row.known), row.unclear)
    return Bot(capital, row.equity, row.flow, row.readings, row.recorded, limits, row.account)


@lru_cache(maxsize=256)
def _limits(text: str) -> Limits:
    return Limits.from_json(json.loads(text))
