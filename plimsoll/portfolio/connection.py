"""One transaction at a time on the ledger's database, each with an end in time."""

from __future__ import annotations

import os
import random
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, StaticPool, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError

TIMEOUT_SECONDS: Final = 3.0
_WRITES: Final = "plimsoll_writes"
_RETRY_WITHIN: Final = 0.5  # seconds: a pooled connection that the server ended long ago fails at once
T = TypeVar("T")


class LedgerFault(Exception):
    """Say in one line and without a password why the ledger cannot be used now."""


class Store:
    """Run transactions on the ledger's database.

    SQLite: ``BEGIN IMMEDIATE`` takes the only write lock there is before anything is read. The file is in WAL mode, so readers
    wait for nobody; a commit survives the end of any process (what a crash of the machine may take back, bots reconcile).

    :param url: SQLAlchemy's, of SQLite or PostgreSQL, or the path of an SQLite file.
    :param timeout: seconds for connecting, and again for one transaction with its waiting.
    :param create: whether an SQLite file that does not exist is created.
    """

    def __init__(self, url: str, timeout: float = TIMEOUT_SECONDS, *, create: bool = True) -> None:
        self._timeout, self._create = timeout, create
        try:
            self._url = make_url(url) if "://" in url else URL.create("sqlite", database=url)
        except (SQLAlchemyError, ValueError):
            raise LedgerFault(
                "the ledger's URL must be like postgresql+psycopg://user@host/name, or a path"
            ) from None
        if self._url.get_backend_name() not in ("sqlite", "postgresql"):
            raise LedgerFault(f"a ledger can be in SQLite or PostgreSQL, not in {self._url.drivername!r}")
        self._engine: Engine | None = None
        self._process = 0

    @property
    def shown(self) -> str:
        """Return where the ledger is, its password hidden."""
        if self._url.get_backend_name() == "sqlite":
            return self._url.database or "memory"
        return self._url.set(query={}).render_as_string(hide_password=True)

    def run(self, work: Callable[[Connection], T], *, write: bool) -> T:
        """Do the work in one transaction, begun anew once where a connection turned out to be dead already.

        :raises LedgerFault: for whatever goes wrong; nothing is stored then, or all of it where only the answer got lost.
        """
        begun = time.monotonic()
        try:
            try:
                return self._once(work, write)
            except DBAPIError as error:
                if not error.connection_invalidated or time.monotonic() - begun > _RETRY_WITHIN:
                    raise
                return self._once(work, write)
        except LedgerFault:
            raise
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise LedgerFault(f"{self.shown}: {self._reason(error)}") from None
        except Exception as error:
            raise LedgerFault(f"{self.shown} cannot be used: {error!r}") from error

    def close(self) -> None:
        """Close its connections; the next use opens new ones."""
        if self._engine is not None:
            self._engine.dispose(close=self._process == os.getpid())
            self._engine = None

    def _once(self, work: Callable[[Connection], T], write: bool) -> T:
        engine = self._ready_engine()
        with engine.connect() as plain, self._watched(plain):
            connection = plain.execution_options(**{_WRITES: write})
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    self._limit(connection, write)
                return work(connection)

    def _limit(self, connection: Connection, write: bool) -> None:
        if not write:
            connection.execute(text("set transaction isolation level repeatable read, read only"))
        milliseconds = f"{self._timeout * 1000.0:.0f}"
        names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
        limits = ", ".join(f"set_config('{name}', '{milliseconds}', true)" for name in names)
        connection.execute(text(f"select {limits}"))

    @contextmanager
    def _watched(self, connection: Connection) -> Iterator[None]:
        """End a connection whose server does not answer: its own limits do not help where the network swallows packets."""
        driver: Any = connection.connection.driver_connection
        if connection.dialect.name != "postgresql" or not hasattr(driver, "fileno"):
            yield
            return
        # A duplicate: the number of a connection that is closed meanwhile may be another's by then.
        watched = socket.socket(fileno=os.dup(driver.fileno()))

        def cut() -> None:
            with suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._timeout + 0.2, cut)  # the server's own word is the better one
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            watched.close()

    def _ready_engine(self) -> Engine:
        if self._engine is not None and self._process != os.getpid():
            self.close()  # connections are not shared with the process that forked this one
        if self._engine is None:
            self._engine = self._sqlite() if self._url.get_backend_name() == "sqlite" else self._server()
            self._process = os.getpid()
        return self._engine

    def _sqlite(self) -> Engine:
        name = self._url.database
        memory = name in (None, "", ":memory:")
        path = Path(name or "").absolute()
        if memory:
            place = ":memory:"
        elif self._create:
            path.parent.mkdir(parents=True, exist_ok=True)
            place = f"{path.as_uri()}?mode=rwc"
        elif path.is_file():
            place = f"{path.as_uri()}?mode=rw"
        else:
            raise LedgerFault(f"there is no ledger {path}")

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(
                place, uri=not memory, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            return connection

        if memory:
            engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool)
        else:
            engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=1)

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            driver: Any = connection.connection.driver_connection
            if connection.get_execution_options().get(_WRITES, True):
                self._begin_immediate(driver)
            else:
                driver.execute("begin")

        return engine

    def _begin_immediate(self, driver: sqlite3.Connection) -> None:
        """Wait for the write lock in short, random turns: SQLite's own waiting grows, so that latecomers overtake."""
        ends = time.monotonic() + self._timeout
        driver.execute("pragma busy_timeout = 0")
        try:
            while True:
                try:
                    driver.execute("begin immediate")
                    return
                except sqlite3.OperationalError as error:
                    busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # with its variants
                    if not busy or time.monotonic() >= ends:
                        raise
                time.sleep(random.uniform(0.001, 0.02))
        finally:
            driver.execute(f"pragma busy_timeout = {self._timeout * 1000.0:.0f}")

    def _server(self) -> Engine:
        limits: dict[str, Any] = {}
        if (
            self._url.get_driver_name() in ("psycopg", "psycopg2")
            and "connect_timeout" not in self._url.query
        ):
            limits["connect_timeout"] = max(2, round(self._timeout))  # libpq takes less than 2 for 2
        try:
            return create_engine(self._url, connect_args=limits, pool_size=1, pool_timeout=self._timeout)
        except NoSuchModuleError:
            raise LedgerFault(f"SQLAlchemy knows no database {self._url.drivername!r}") from None
        except ModuleNotFoundError as error:
            raise LedgerFault(
                f"{self._url.drivername} needs the package {error.name}, which is missing"
            ) from None

    def _reason(self, error: Exception) -> str:
        lines = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        secrets: list[Any] = [self._url.password]
        for name, value in self._url.query.items():
            if "pass" in name.lower():
                secrets += [value] if isinstance(value, str) else value
        reason = lines[0]
        for secret in filter(None, secrets):
            reason = reason.replace(str(secret), "***")
        return reason
