"""A bot whose operator speaks on every channel, on a database that outlives its kills; and kills at any commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from freqtrade.persistence import PairLocks, Trade
from freqtrade.persistence.custom_data import _CustomData
from freqtrade.persistence.pairlock import PairLock
from freqtrade.rpc import RPC
from host_database import database
from postgres import Postgres
from sqlalchemy import event, inspect, select, text
from test_watch import Life

from plimsoll import bridge
from plimsoll.host.operator import CHECK_IN, RESET

DATABASES = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def reused_postgres(postgres_server: Postgres) -> str:
    """The URL of one database for many tests: making one takes longer than they do."""
    return postgres_server.new_database()


@pytest.fixture(params=DATABASES)
def bot_database(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[str]:
    """A bot's database as users have it, an SQLite file in WAL mode, and a PostgreSQL server where one is installed."""
    sqlite = request.param == "sqlite"
    if sqlite:
        url = f"sqlite:///{tmp_path / 'bot.sqlite'}"
    else:
        url = request.getfixturevalue("reused_postgres")
    with database(url):
        engine = Trade.session.get_bind()
        if sqlite:
            with engine.connect() as connection:
                assert connection.execute(text("PRAGMA journal_mode=WAL")).scalar() == "wal"
            event.listen(engine, "connect", _quick_and_patient)
            engine.dispose()
        else:
            with engine.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '120s'"))
                for table in inspect(connection).get_table_names():
                    connection.execute(text(f'TRUNCATE "{table}" CASCADE'))
        try:
            yield url
        finally:
            _CustomData.session.remove()


def _quick_and_patient(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA busy_timeout=120000")


class Killed(BaseException):
    """The process ends here."""


@contextmanager
def killed_after(commits: int) -> Iterator[None]:
    """Kill the bot right after its n-th commit; nothing of its process is left then, the database stays."""
    dialect: Any = Trade.session.get_bind().dialect
    done = 0

    def commit(connection: Any) -> None:
        nonlocal done
        type(dialect).do_commit(dialect, connection)
        done += 1
        if done == commits:
            raise Killed

    dialect.do_commit = commit
    try:
        yield
    finally:
        del dialect.do_commit
        Trade.session.remove()


def commits_of(step: Callable[[], None]) -> int:
    """Count the commits of a step that is not killed."""
    dialect: Any = Trade.session.get_bind().dialect
    done = 0

    def commit(connection: Any) -> None:
        nonlocal done
        done += 1
        type(dialect).do_commit(dialect, connection)

    dialect.do_commit = commit
    try:
        step()
    finally:
        del dialect.do_commit
    return done


class Attended(Life):
    """A bot and its operator."""

    equity = 10_000.0

    def started(self) -> Attended:
        """Run until nothing is unknown."""
        self.steady(4)
        return self

    def steady(self, loops: int = 1) -> None:
        self.loops(*[self.equity] * loops)

    def again(self) -> None:
        """Start anew, as after a kill or a stop."""
        Trade.session.remove()
        self.restart()

    def pass_hours(self, hours: float) -> None:
        self.minute += round(hours * 60)

    def catch_up(self) -> None:
        """Freqtrade dates removals by the wall clock; let it pass."""
        while self.now <= datetime.now(UTC):
            self.minute += 1

    def trip(self) -> None:
        """Lose more than the drawdown breaker allows."""
        self.equity *= 0.85
        self.steady(5)
        assert "drawdown" in self.blocking()

    @property
    def seconds(self) -> int:
        return int(self.now.timestamp())

    @property
    def switch(self) -> Any:
        return self.run.breakers.by_operator["deadman"].state

    def heard(self, what: str) -> int:
        return sum(what in message for message in self.bot.said)

    # -- The operator ---------------------------------------------------------------------------------------------------------

    def ask(self, command: str, argument: str = "", *, time: int | None = None, bot: str = "Steady") -> int:
        """Do what ``plimsoll checkin`` and ``plimsoll reset`` do."""
        engine = Trade.session.get_bind()
        bridge.create_tables(engine)
        return bridge.ask(engine, bot, command, argument, self.seconds if time is None else time, "ada")

    def answer(self, request: int) -> str | None:
        return bridge.answer_of(Trade.session.get_bind(), request)

    def post(self, pair: str, reason: str = "", *, side: str = "*", time: datetime | None = None) -> None:
        """Do what ``POST /locks`` does."""
        PairLocks.lock_pair(pair, self.now + timedelta(hours=1), reason, now=time or self.now, side=side)

    def unlock(self, pair: str | None = None, lock: int | None = None, *, at: datetime | None = None) -> None:
        """Do what ``/unlock`` and ``DELETE /locks/<id>`` do, which date the removal by the wall clock, or at a time."""
        if at is None:
            RPC.__new__(RPC)._rpc_delete_lock(lockid=lock, pair=pair)
            self.catch_up()
            return
        wanted = PairLock.id == lock if lock is not None else PairLock.pair == pair
        for found in PairLock.session.scalars(select(PairLock).where(wanted, PairLock.active.is_(True))):
            found.active, found.lock_end_time = False, at
        PairLock.session.commit()

    def sentinels(self) -> list[PairLock]:
        active = select(PairLock).where(PairLock.pair == CHECK_IN, PairLock.active.is_(True))
        return list(PairLock.session.scalars(active))


def check_in_by_request(life: Attended) -> None:
    life.ask("checkin")


def check_in_by_post(life: Attended) -> None:
    life.post(CHECK_IN, "me again")


def check_in_by_pair(life: Attended) -> None:
    life.unlock(CHECK_IN)


def check_in_by_id(life: Attended) -> None:
    (sentinel,) = life.sentinels()
    life.unlock(lock=sentinel.id)


def reset_by_request(life: Attended, breaker: str) -> None:
    life.ask("reset", breaker)


def reset_by_post(life: Attended, breaker: str) -> None:
    life.post(RESET, breaker)


def reset_by_unlock(life: Attended, breaker: str) -> None:
    mark = f"Plimsoll {breaker}: "
    active = PairLock.session.scalars(select(PairLock).where(PairLock.active.is_(True)))
    (lock,) = [lock.id for lock in active if (lock.reason or "").startswith(mark)]
    life.unlock(lock=lock)


CHECK_INS = [check_in_by_request, check_in_by_post, check_in_by_pair, check_in_by_id]
RESETS = [reset_by_request, reset_by_post, reset_by_unlock]
