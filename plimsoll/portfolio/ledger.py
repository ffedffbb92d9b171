"""The ledger that several bots of one owner share: each reserves before it enters, and tells in every loop what it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from plimsoll.portfolio import schema
from plimsoll.portfolio.book import Book
from plimsoll.portfolio.connection import TIMEOUT_SECONDS, LedgerFault
from plimsoll.portfolio.shared import SharedLedger, require_number
from plimsoll.portfolio.standing import Standing
from plimsoll.rules import portfolio
from plimsoll.rules.answer import Outcome, Side
from plimsoll.rules.breaker import DEFAULT_READINGS, ReadingConfig
from plimsoll.rules.exposure import asset_of
from plimsoll.rules.liquidation import all_finite, all_positive
from plimsoll.rules.portfolio import Claim, Decision, Limits, Wanted
from plimsoll.rules.portfolio_claims import EXACT, Holding, Reconciled, reconcile
from plimsoll.rules.portfolio_drawdown import tell

GRACE_SECONDS: Final = 60.0
CONVERTED: Final = 0.0025  # a position in another currency moves with the rate all the time


class Ledger(SharedLedger):
    """Open the shared ledger for one bot, or for an operator.

    Amounts are in ``currency``; where that is not the ledger's, each call needs a ``rate``: units of the ledger's currency for one
    of ours. The parameters are those of :class:`SharedLedger`, and:

    :param readings: how equity is confirmed before it counts.
    :param grace: seconds in which a reservation may be without an order.
    """

    def __init__(
        self,
        url: str,
        limits: Limits | None,
        currency: str | None,
        timeout: float = TIMEOUT_SECONDS,
        *,
        readings: ReadingConfig = DEFAULT_READINGS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        super().__init__(url, limits, currency, timeout)
        self._readings, self._grace = readings, grace

    # -- A bot's calls -------------------------------------------------------------------------------------------------

    def heartbeat(
        self,
        bot: str,
        now: float,
        equity: float | None,
        flow: float,
        holdings: Sequence[Holding] | None,
        *,
        rate: float | None = None,
        account: str = "",
    ) -> Standing:
        """Tell the ledger that a bot is there, what its equity is and what it has; its claims become what it has.

        What it no longer has is released, what it has and nobody reserved is claimed for it, and its reservations that neither
        filled nor rest on the exchange expire after the grace. :attr:`Standing.changes` names them.

        :param now: epoch seconds, taken before the holdings were read.
        :param equity: None where it is not known: the last one counts on, and the bot may reserve nothing.
        :param holdings: None where they are not known: then its claims stay as they are.
        :param flow: deposits minus withdrawals so far, from any fixed origin.
        :param account: what tells its exchange account from others; empty where that is not known.
        :param rate: see the class; without one the equity counts as not known, and positions stay as they were claimed.
        :raises LedgerFault: where the ledger cannot be used.
        """
        _require_text("bot", bot, schema.NAME_LENGTH)
        require_number("now", now)
        require_number("flow", flow)

        def work(connection: Connection) -> Standing:
            book = Book(connection, now, self._limits)
            factor = self._factor(book, rate)
            before = book.bots.get(bot)
            readings = book.readings(bot)
            moved = 0.0 if before is None or factor is None else (flow - before.flow) * factor
            known_equity = (
                None if equity is None or factor is None or not all_finite(equity) else equity * factor
            )
            told = tell(readings, self._readings, now, known_equity, readings.flow + moved)
            if before is not None and known_equity is None:
                capital, equity_now = before.capital.capital, before.equity
                told = replace(told, equity=equity_now, capital=capital, flow=0.0, known=False)
            result = Reconciled((), "" if before is None else before.capital.unclear)
            if holdings is not None:
                result = reconcile(
                    bot=bot,
                    claims=book.of(bot),
                    holdings=[_converted(holding, factor) for holding in holdings],
                    now=now,
                    grace=self._grace,
                    tolerance=EXACT if self._currency == book.currency else CONVERTED,
                )
            # A flow that was not taken up yet is taken up with the next equity that is known.
            taken = flow
            if factor is None or (before is not None and told.readings is readings):
                taken = 0.0 if before is None else before.flow
            book.apply(change for change in result.changes if not change.grows)
            book.hear(bot, told, taken, result.unclear, self._limits or Limits(), account)
            book.apply(change for change in result.changes if change.grows)
            book.save()
            return book.standing(result.changes)

        return self._write(work)

    def reserve(
        self,
        bot: str,
        key: str,
        pair: str,
        side: Side,
        margin: float,
        risk: float,
        now: float,
        *,
        rate: float | None = None,
    ) -> Decision:
        """Take margin and risk of the shared limits for an order, if they fit: decided and stored in one transaction under a lock.

        The same key again is the same reservation: what is granted already stays granted, a larger amount is decided anew.

        :param key: the bot's own name of the order, unique within the bot.
        :param now: epoch seconds.
        :raises LedgerFault: where the ledger cannot be used. Then it may be reserved or not; the bot must not enter, and its
            heartbeats release it.
        """
        _require_text("bot", bot, schema.NAME_LENGTH)
        _require_text("key", key, schema.KEY_LENGTH)
        _require_text("pair", pair, schema.NAME_LENGTH)
        require_number("now", now)

        def work(connection: Connection) -> Decision:
            book = Book(connection, now, self._limits)
            decision, claim = self._decide(book, Wanted(bot, key, pair, side, margin, risk), rate)
            if claim is not None:
                book.put(claim, "reserved")
                book.save()
            return decision

        return self._write(work)

    def preview(
        self,
        bot: str,
        pair: str,
        side: Side,
        margin: float,
        risk: float,
        now: float,
        *,
        rate: float | None = None,
    ) -> Decision:
        """Decide as :meth:`reserve` would at this moment, and store nothing; ``most_margin`` is the size that fits.

        :raises LedgerFault: where the ledger cannot be used.
        """
        require_number("now", now)

        def work(connection: Connection) -> Decision:
            book = Book(connection, now, self._limits, lock=False)
            return self._decide(book, Wanted(bot, "", pair, side, margin, risk), rate)[0]

        return self._read(work)

    def confirm(
        self,
        bot: str,
        key: str,
        now: float,
        *,
        margin: float | None = None,
        risk: float | None = None,
        rate: float | None = None,
    ) -> bool:
        """Turn a reservation into a position, at what it really took where that is told; False where there is none (any more).

        :raises LedgerFault: where the ledger cannot be used. The next heartbeat finds out by itself.
        """
        require_number("now", now)

        def work(connection: Connection) -> bool:
            book = Book(connection, now, self._limits)
            claim = book.claims.get((bot, key))
            if claim is None:
                return False
            factor = self._factor(book, rate)
            after = replace(claim, state="confirmed", time=claim.time if claim.state == "confirmed" else now)
            if factor is not None and margin is not None and all_positive(margin):
                after = replace(after, margin=margin * factor)
            if factor is not None and risk is not None and all_finite(risk):
                after = replace(after, risk=max(risk, 0.0) * factor)
            if after != claim:
                book.put(after, "confirmed")
                book.save()
            return True

        return self._write(work)

    def release(self, bot: str, key: str, now: float) -> bool:
        """End a reservation or position of a bot; False where there is none (any more).

        :raises LedgerFault: where the ledger cannot be used. The next heartbeat finds out by itself.
        """
        require_number("now", now)

        def work(connection: Connection) -> bool:
            book = Book(connection, now, self._limits)
            claim = book.claims.get((bot, key))
            if claim is None:
                return False
            book.drop(claim, "released")
            book.save()
            return True

        return self._write(work)

    # -- Within --------------------------------------------------------------------------------------------------------

    def _decide(self, book: Book, wanted: Wanted, rate: float | None) -> tuple[Decision, Claim | None]:
        factor = self._factor(book, rate)
        if factor is None:
            reason = f"no rate is known from {self._currency} to the ledger's {book.currency}"
            return Decision(Outcome.UNKNOWN, reason, None), None
        if not all_finite(wanted.margin, wanted.risk):
            factor = 1.0
        else:
            wanted = replace(wanted, margin=wanted.margin * factor, risk=wanted.risk * factor)
        before = book.claims.get((wanted.bot, wanted.key))
        if before is not None:
            if (before.pair, before.side) != (wanted.pair, wanted.side):
                taken = f"{before.pair} {before.side}"
                return Decision(Outcome.UNKNOWN, f"the key {wanted.key!r} is taken by {taken}", None), None
            within = wanted.margin <= before.margin and wanted.risk <= before.risk
            if within or before.state == "confirmed":
                if within:
                    return Decision(Outcome.FINE, "reserved already", before.margin / factor), None
                return Decision(Outcome.UNKNOWN, f"the key {wanted.key!r} is a position already", None), None
        decision = portfolio.decide(
            wanted=wanted,
            claims=list(book.claims.values()),
            capitals=book.capitals,
            limits=portfolio.tightest((book.limits, self._limits or book.limits)),
            halted=book.halted,
            now=book.now,
        )
        if decision.most_margin is not None and math.isfinite(decision.most_margin):
            decision = replace(decision, most_margin=decision.most_margin / factor)
        if not decision.granted:
            return decision, None
        return decision, Claim(
            wanted.bot, wanted.key, wanted.pair, asset_of(wanted.pair), wanted.side, wanted.margin, wanted.risk,
            "reserved", book.now,
        )  # fmt: skip

    def _factor(self, book: Book, rate: float | None) -> float | None:
        if self._currency is None or self._currency == book.currency:
            return 1.0
        return rate if rate is not None and all_positive(rate) else None


def _converted(holding: Holding, factor: float | None) -> Holding:
    if factor is None:
        return replace(holding, margin=math.nan, risk=None)
    risk = holding.risk * factor if holding.risk is not None and all_finite(holding.risk) else None
    if not all_finite(holding.margin, holding.resting):
        return replace(holding, risk=risk)
    return replace(holding, margin=holding.margin * factor, resting=holding.resting * factor, risk=risk)


def _require_text(name: str, value: str, longest: int) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= longest or "\0" in value:
        raise LedgerFault(f"`{name}` must have 1 to {longest} characters and no NUL, was {value!r}")
