"""Hear the operator on every channel: the command line, Freqtrade's REST API, Telegram; all of them leave rows in its database.

* ``plimsoll checkin`` and ``plimsoll reset`` write requests (`plimsoll.bridge`).
* ``POST /locks`` with pair ``PLIMSOLL/CHECKIN`` is a check-in, with pair ``PLIMSOLL/RESET`` a reset of the breaker named as reason.
* The bot keeps a lock on ``PLIMSOLL/CHECKIN``, which blocks no market: removing it (``/unlock PLIMSOLL/CHECKIN``) is a check-in.
* Removing the lock of a tripped breaker is its reset (`plimsoll.host.locks`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from freqtrade.persistence.pairlock import PairLock
from sqlalchemy import Connection, Engine, select

from plimsoll import bridge

CHECK_IN = "PLIMSOLL/CHECKIN"
RESET = "PLIMSOLL/RESET"
WITHOUT_END = timedelta(days=3650)
_REASON = "Plimsoll: check in by"


@dataclass(frozen=True, slots=True)
class Word:
    """Hold what an operator said: a check-in, or the reset of a breaker, when and how; ``request`` waits for an answer."""

    what: Literal["checkin", "reset"]
    time: int
    by: str
    breaker: str = ""
    request: int | None = None


class Operator:
    """Collect what the operator said since the last loop, each word once, through restarts as well.

    Rows are told by their ids and by the time they were removed, so nothing is lost when the bot is killed between two steps.
    What is dumped moves on only when every word was acted on: one that could not be is waiting still, after a restart as well.
    """

    def __init__(self, bot: str) -> None:
        self._bot = bot
        self._seen: int | None = None  # the newest lock looked at
        self._removed: int = 0  # when the last removal heard of was
        self._read: tuple[int, int] | None = None  # both, with the words that still wait
        self._waiting: list[Word] = []
        self._answers: dict[int, str] = {}

    def words(self, engine: Engine, now: datetime) -> list[Word]:
        """Return the words not acted on yet, in the order of their time; each stays one until :meth:`heard`."""
        if self._seen is None:  # the first start ever: what lies there is not meant for us
            newest = PairLock.session.scalars(select(PairLock.id).order_by(PairLock.id.desc()).limit(1))
            self._seen, self._removed = newest.first() or 0, int(now.timestamp())
        seen, removed = self._read or (self._seen, self._removed)
        asked = list(self._asked(engine, now))
        removals, removed = self._sentinel_removed(removed, now)
        posted, seen = self._posted(seen, now)
        # Only now, when all were read: what cannot be read is read again.
        self._read = (seen, removed)
        self._waiting = sorted([*self._waiting, *asked, *removals, *posted], key=lambda word: word.time)
        self._move_on()
        return list(self._waiting)

    def heard(self, word: Word) -> None:
        """Note that a word was acted on."""
        self._waiting.remove(word)
        self._move_on()

    def answer(self, word: Word, text: str) -> None:
        """Have a request answered with the next save of the memory."""
        if word.request is not None:
            self._answers[word.request] = text

    def write_answers(self, connection: Connection, now: datetime) -> None:
        """Write the answers; in the transaction that stores what the requests changed."""
        for request, text in self._answers.items():
            bridge.answer(connection, request, int(now.timestamp()), text)

    def saved(self, now: datetime, due: int | None) -> None:
        """Forget the answers now that they are stored, and keep one lock, saying when it is due, whose removal is a check-in.

        :param due: None where no check-in is asked for, then there is no lock.
        """
        self._answers.clear()
        reason = None if due is None else _reason(due)
        standing = PairLock.session.scalars(
            select(PairLock)
            .where(PairLock.pair.in_((CHECK_IN, RESET)), PairLock.active.is_(True))
            .order_by(PairLock.id)
        ).all()
        kept = next((lock for lock in standing if lock.pair == CHECK_IN and lock.reason == reason), None)
        superfluous = [lock for lock in standing if lock is not kept and lock.id <= (self._seen or 0)]
        for lock in superfluous:
            lock.active = False  # without an end of its own, which only an operator's removal sets
        if kept is None and reason is not None:
            end = now + WITHOUT_END
            PairLock.session.add(
                PairLock(
                    pair=CHECK_IN, lock_time=now, lock_end_time=end, reason=reason, side="*", active=True
                )
            )
        if superfluous or (kept is None and reason is not None):
            PairLock.session.commit()

    def dump(self) -> dict[str, Any]:
        """Return what has to survive a restart, as plain JSON."""
        return {"seen": self._seen, "removed": self._removed}

    def restore(self, stored: dict[str, Any] | None) -> None:
        """Take up what :meth:`dump` returned.

        :raises ValueError: where it does not fit.
        """
        if stored is not None:
            seen = stored["seen"]
            self._seen, self._removed = None if seen is None else int(seen), int(stored["removed"])

    def _asked(self, engine: Engine, now: datetime) -> Iterable[Word]:
        with engine.connect() as connection:
            requests = bridge.open_requests(connection, self._bot)
        known = self._answers.keys() | {word.request for word in self._waiting}
        for request in requests:
            if request.id in known:
                continue
            time = min(request.time, int(now.timestamp()))
            if request.command == "checkin":
                yield Word("checkin", time, request.by, request=request.id)
            elif request.command == "reset":
                yield Word("reset", time, request.by, request.argument, request.id)
            else:
                self._answers[request.id] = f"refused: this Plimsoll knows no command {request.command!r}"

    # Columns, not objects: one that something else in this process holds would keep what it was loaded with.

    def _sentinel_removed(self, since: int, now: datetime) -> tuple[list[Word], int]:
        query = select(PairLock.lock_end_time).where(
            PairLock.pair == CHECK_IN,
            PairLock.active.is_(False),
            PairLock.lock_end_time > datetime.fromtimestamp(since, UTC),
            PairLock.lock_end_time <= now,
            PairLock.reason.startswith(_REASON, autoescape=True),
        )
        # Ended early by somebody; one that we replace keeps its end, years ahead.
        times = [_seconds(end) for end in PairLock.session.scalars(query)]
        return [Word("checkin", time, "a removed lock") for time in times], max(
            [since, *(t + 1 for t in times)]
        )

    def _posted(self, seen: int, now: datetime) -> tuple[list[Word], int]:
        columns = (PairLock.id, PairLock.pair, PairLock.lock_time, PairLock.reason)
        found = []
        for number, pair, begin, reason in PairLock.session.execute(
            select(*columns).where(PairLock.id > seen).order_by(PairLock.id)
        ):
            seen = number
            time = min(_seconds(begin), int(now.timestamp()))
            if pair == RESET:
                found.append(Word("reset", time, "a posted lock", (reason or "").strip()))
            elif pair == CHECK_IN and not (reason or "").startswith(_REASON):
                found.append(Word("checkin", time, "a posted lock"))
        return found, seen

    def _move_on(self) -> None:
        if not self._waiting and self._read is not None:
            self._seen, self._removed = self._read


def _seconds(stored: datetime) -> int:
    return int(stored.replace(tzinfo=UTC).timestamp())


def _reason(due: int) -> str:
    when = f"{datetime.fromtimestamp(due, UTC):%Y-%m-%d %H:%M} UTC"
    return f"{_REASON} {when} by removing this lock (/unlock {CHECK_IN}); it blocks no market"
