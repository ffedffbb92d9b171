"""A stock ``freqtrade trade`` on the loopback exchange, to be watched, questioned, killed and started again."""

from __future__ import annotations

import base64
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from sqlalchemy import Connection, MetaData, Table, create_engine, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from plimsoll.market.clock import WallClock
from plimsoll.market.exchange import LoopbackExchange, exchange_config

Config = Mapping[str, Any] | Path
_POLL_SECONDS: Final = 0.1
_LAST_LINES: Final = 40
_READS: Final = 3
_PORTS: Final = (10_000, 32_000)  # below those that systems give to connections on their way out


class TradingBot:
    """Run ``freqtrade trade`` of this interpreter's environment in a process group of its own.

    ``with TradingBot(...) as bot`` starts it and ends it as an operator does. Every start writes on in the
    same log and works on the same database, as after a crash.

    Parameters
    ----------
    exchange : a running `LoopbackExchange`
    directory : for configurations, log and, without ``db_url``, the database; made where missing
    strategy : name of the strategy
    configs : configurations, files or mappings, the later over the earlier
    user_data : Freqtrade's user directory, default ``directory``
    pairs : whitelist, default all of the exchange's; an empty one leaves that of ``configs``
    db_url : any SQLAlchemy URL, default ``trades.sqlite`` in ``directory``
    api : whether the REST API listens, on a free port and with credentials of this bot
    live : trade for real on the exchange's simulated account instead of a dry run
    clock : tells the bot's wall clock; must be the exchange's as well
    env : variables added to the environment; no ``FREQTRADE__`` variable already there is handed on
    overrides : a configuration over all others, that of the exchange included
    arguments : more arguments of the command

    """

    def __init__(
        self,
        exchange: LoopbackExchange,
        directory: Path,
        strategy: str,
        *,
        configs: Iterable[Config] = (),
        user_data: Path | None = None,
        pairs: Iterable[str] | None = None,
        db_url: str | None = None,
        api: bool = False,
        live: bool = False,
        clock: WallClock | None = None,
        env: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        arguments: Iterable[str] = (),
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory.resolve()
        self.db_url = db_url or f"sqlite:///{self.directory / 'trades.sqlite'}"
        self.process: subprocess.Popen[bytes] | None = None
        self._log_from = 0
        self._credentials = (secrets.token_hex(8), secrets.token_hex(16))
        self._port = _free_port() if api else None
        self._env = {**(clock.environment() if clock else {}), **(env or {})}
        self._tables: dict[str, Table] = {}
        whitelist = list(exchange.pairs if pairs is None else pairs) or None
        stock = exchange_config(exchange.url, whitelist, live=live)
        layers: list[Config] = [*configs, self._own_config(), stock]
        self._command = [sys.executable, "-m", "freqtrade", "trade", "--strategy", strategy, *arguments]
        self._command += ["--user-data-dir", str((user_data or directory).resolve())]
        for number, layer in enumerate([*layers, overrides or {}]):
            path = layer
            if not isinstance(layer, Path):
                path = self.directory / f"config-{number}.json"
                path.write_text(json.dumps(layer, indent=2), encoding="utf-8")
            self._command += ["-c", str(path)]

    def __enter__(self) -> TradingBot:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()

    # -- LIFE ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process; returns at once, see `ready`."""
        if self.alive():
            raise RuntimeError("the bot is running already")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FREQTRADE__")}
        with (self.directory / "bot.log").open("ab") as stream:
            self._log_from = stream.tell()
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**inherited, "COLUMNS": "200", "NO_COLOR": "1", **self._env},
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it and every process it started with SIGKILL, as a power failure would; no effect on a dead one."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=120)

    def stop(self, seconds: float = 160.0) -> int | None:
        """End it as an operator does (SIGINT) and return its exit status; killed when it takes longer."""
        if self.process is None:
            return None
        for _ in range(2):  # Python drops an interrupt that meets a finalizer
            if self.alive():
                self.process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(timeout=seconds / 2.0)
        self.kill()
        return self.process.returncode

    def restart(self) -> None:
        """Stop it where it runs, and start it again."""
        self.stop()
        self.start()

    def alive(self) -> bool:
        """Return whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def ready(self, seconds: float = 300.0) -> bool:
        """Wait until the first loop since the latest start is done."""
        return self.wait(lambda: "Bot heartbeat" in self.log(latest=True), seconds)

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait real seconds until something holds; what held last when time is up or the bot has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.alive():
            if condition():
                return True
            time.sleep(_POLL_SECONDS)
        return condition()

    # -- WHAT IT SAYS ------------------------------------------------------------------------------------------

    def log(self, *, latest: bool = False) -> str:
        """Return everything it wrote, or what it wrote since the latest start."""
        path = self.directory / "bot.log"
        if not path.exists():
            return ""
        with path.open("rb") as stream:
            stream.seek(self._log_from if latest else 0)
            return stream.read().decode(errors="replace")

    def last_words(self) -> str:
        """Return the last lines of the log, for the message of a failing test."""
        return "\n".join(self.log().splitlines()[-_LAST_LINES:])

    def rest(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = 120.0
    ) -> tuple[int, Any]:
        """Ask the REST API, e.g. ``rest("GET", "status")``, and return status and body.

        The status is 0 and the body says why where nothing answers.
        """
        if self._port is None:
            raise RuntimeError("the bot was made without `api`")
        token = base64.b64encode(":".join(self._credentials).encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/api/v1/{path.lstrip('/')}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            with suppress(ValueError):
                return error.code, json.loads(text)
            return error.code, text
        except OSError as error:
            return 0, str(error)

    # -- DATABASE --------------------------------------------------------------------------------------------

    def trades(self) -> list[dict[str, Any]]:
        """Return the rows of ``trades`` in the order of their ids; times are aware, in UTC."""
        return self.rows("trades")

    def orders(self) -> list[dict[str, Any]]:
        """Return the rows of ``orders`` in the order of their ids; times are aware, in UTC."""
        return self.rows("orders")

    def locks(self) -> list[dict[str, Any]]:
        """Return the rows of ``pairlocks`` in the order of their ids; times are aware, in UTC."""
        return self.rows("pairlocks")

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return every row of one table, none where it or the database does not exist yet.

        The bot is never kept waiting: the read is one short transaction, of a SQLite file opened read-only.

        :raises SQLAlchemyError: where the database cannot be read, also not at the third time.
        """
        url = make_url(self.db_url)
        addresses = [url] * _READS
        if url.get_backend_name() == "sqlite":
            if url.database is None or not Path(url.database).exists():
                return []
            # After SIGKILL a journal may be left, and only a reader that may write can roll it back.
            modes = ["ro"] * (_READS - 1) + ["rw"] if self.alive() else ["rw"] * _READS
            file = f"file:{url.database}"
            addresses = [
                url.set(database=file, query={"mode": mode, "uri": "true", "timeout": "30"}) for mode in modes
            ]
        for number, address in enumerate(addresses, 1):
            try:
                with create_engine(address, poolclass=NullPool).connect() as connection:
                    return self._read(connection, table)
            except SQLAlchemyError:
                # Freqtrade may just be making or migrating the table.
                self._tables.pop(table, None)
                if number == _READS:
                    raise
                time.sleep(_POLL_SECONDS)
        raise AssertionError("unreachable")

    def _read(self, connection: Connection, table: str) -> list[dict[str, Any]]:
        if table not in self._tables:
            if not inspect(connection).has_table(table):
                return []
            self._tables[table] = Table(table, MetaData(), autoload_with=connection)
        known = self._tables[table]
        found = connection.execute(select(known).order_by(*known.primary_key.columns)).mappings()
        return [{name: _aware(value) for name, value in row.items()} for row in found]

    def _own_config(self) -> dict[str, Any]:
        own: dict[str, Any] = {"db_url": self.db_url, "initial_state": "running"}
        if self._port is not None:
            username, password = self._credentials
            own["force_entry_enable"] = True
            own["api_server"] = {
                "enabled": True,
                "listen_ip_address": "127.0.0.1",
                "listen_port": self._port,
                "verbosity": "error",
                "enable_openapi": False,
                "jwt_secret_key": secrets.token_hex(32),
                "CORS_origins": [],
                "username": username,
                "password": password,
            }
        return own


def _aware(value: Any) -> Any:
    # Freqtrade stores UTC without a zone.
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _free_port() -> int:
    # One that the system gave would be free for anybody's connections until the bot listens, seconds later.
    while True:
        port = random.SystemRandom().randint(*_PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
