"""Access to the ledger that several bots share, and an operator's calls: look, end a halt, let a bot leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from plimsoll.portfolio import schema
from plimsoll.portfolio.book import Book
from plimsoll.portfolio.connection import TIMEOUT_SECONDS, LedgerFault, Store
from plimsoll.portfolio.standing import Standing
from plimsoll.rules.liquidation import all_finite
from plimsoll.rules.portfolio import Limits

T = TypeVar("T")


class SharedLedger:
    """Open the shared ledger, and do in it what needs no bot.

    Whatever happens, its methods raise :class:`LedgerFault` only, within some seconds.

    :param url: SQLAlchemy's, of SQLite or PostgreSQL, or the path of an SQLite file (:func:`~plimsoll.portfolio.address`).
    :param limits: the bot's that opens it; the tightest of all bots hold. None for an operator, who has none.
    :param currency: the bot's; the first bot's becomes the ledger's. None for an operator: then no ledger is created or migrated.
    :param timeout: seconds for connecting, and for one transaction with its waiting.
    """

    def __init__(
        self, url: str, limits: Limits | None, currency: str | None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._limits, self._currency = limits, currency
        self._store = Store(url, timeout, create=currency is not None)
        self._prepared = False

    @property
    def shown(self) -> str:
        """Return where the ledger is, its password hidden."""
        return self._store.shown

    def close(self) -> None:
        """Close its connections; the next call opens new ones."""
        self._store.close()

    def currency(self) -> str:
        """Return the ledger's currency.

        :raises LedgerFault: where it cannot be reached.
        """
        return self._read(lambda connection: Book(connection, 0.0, lock=False).currency)

    # -- An operator's calls -------------------------------------------------------------------------------------------

    def reset(self, now: float, by: str) -> Standing:
        """End the halt of all bots: the capital of now is the new peak.

        :raises LedgerFault: where the ledger cannot be used.
        """
        require_number("now", now)

        def work(connection: Connection) -> Standing:
            book = Book(connection, now, self._limits)
            book.reset(f"by {by}")
            book.save()
            return book.standing()

        return self._write(work)

    def release_bot(self, bot: str, now: float, by: str, *, force: bool = False) -> Standing:
        """Let a bot leave: its claims and its capital no longer count, which is neither profit nor loss.

        :param force: also where it was heard of lately; its next heartbeat brings it back.
        :raises LedgerFault: where the ledger cannot be used, there is no such bot, or it is not silent.
        """
        require_number("now", now)

        def work(connection: Connection) -> Standing:
            book = Book(connection, now, self._limits)
            known = book.bots.get(bot)
            if known is None:
                listed = ", ".join(sorted(book.bots)) or "none"
                raise LedgerFault(f"BOT must be one of {listed}; was {bot!r}")
            if not known.capital.silent(now) and not force:
                raise LedgerFault(
                    f"{bot} was heard {known.capital.age(now):.0f} s ago; stop it first, or it comes back with what it has"
                )
            for claim in book.of(bot):
                book.drop(claim, "released", f"by {by}")
            book.forget(bot, f"by {by}")
            book.save()
            return book.standing()

        return self._write(work)

    def standing(self, now: float) -> Standing:
        """Return how all bots stand, from one moment; waits for nobody who writes.

        :raises LedgerFault: where the ledger cannot be used.
        """
        require_number("now", now)
        return self._read(lambda connection: Book(connection, now, self._limits, lock=False).standing())

    # -- Within --------------------------------------------------------------------------------------------------------

    def _write(self, work: Callable[[Connection], T]) -> T:
        self._prepare()
        return self._store.run(work, write=True)

    def _read(self, work: Callable[[Connection], T]) -> T:
        self._prepare()
        return self._store.run(work, write=False)

    def _prepare(self) -> None:
        if not self._prepared:
            creates = self._currency is not None
            self._store.run(lambda connection: schema.prepare(connection, self._currency), write=creates)
            self._prepared = True


def require_number(name: str, value: float) -> None:
    """Refuse what is no finite number, by its name.

    :raises LedgerFault: where it is none.
    """
    if not all_finite(value):
        raise LedgerFault(f"`{name}` must be a finite number, was {value!r}")
