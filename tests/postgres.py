"""Run a real, throw-away PostgreSQL server that a test can stop, kill, freeze and start again."""

from __future__ import annotations

import itertools
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest

OWNER = "plimsoll"
START_SECONDS = 180.0
END_SECONDS = 120.0
PORTS = (10_000, 32_000)  # below those that systems give to connections on their way out
INSTALLED_IN = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


class NoPostgres(Exception):
    """Say why no server can be started on this machine."""


class Postgres:
    """A server of its own in a temporary directory, on a free loopback port, trusting everybody there.

    A context manager: it starts on entry and leaves nothing behind, also when this process is killed (but not the directory then).

    :param fsync: False is quick; True where a test is about what survives a crash of the machine.
    :raises NoPostgres: on entry, where PostgreSQL is not installed or does not start.
    """

    def __init__(self, *, fsync: bool = False) -> None:
        self.port = _free_port()
        self._fsync = fsync
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Postgres:
        self._bin = find_binaries()
        self._user = _unprivileged_user()
        self._directory = Path(tempfile.mkdtemp(prefix="plimsoll-pg-"))
        try:
            if self._user:
                os.chown(self._directory, int(self._user["user"]), int(self._user["group"]))
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database as SQLAlchemy and Freqtrade's ``db_url`` take it."""
        return f"postgresql+psycopg://{OWNER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"fresh_{next(self._numbers)}"
        self._execute(f"create database {name}")
        return self.url(name)

    def start(self) -> None:
        """Start the server and wait until it answers; nothing happens where it runs. A crash is recovered from."""
        if self.running:
            return
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._directory),
            "fsync": "on" if self._fsync else "off",
            "shared_buffers": "16MB",
        }
        command = [str(self._bin / "postgres"), "-D", str(self._directory / "data")]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self._directory / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user())
        # Its input ends when stop() closes it or this process dies however; SIGINT is PostgreSQL's fast shutdown.
        self._guard = subprocess.Popen(
            ["sh", "-c", f"read line; kill -INT {self._server.pid}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End every connection and the server, in order; nothing happens where it does not run."""
        if not self.running or self._server is None or self._guard is None or self._guard.stdin is None:
            return
        self.thaw()
        self._guard.stdin.close()
        self._guard.wait(timeout=END_SECONDS)
        try:
            self._server.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the server and its sessions at once with SIGKILL, as a crash does."""
        if self._guard is not None and self._guard.stdin is not None:
            self._guard.kill()  # first: it must not signal a process id that is free again
            self._guard.wait(timeout=END_SECONDS)
            self._guard.stdin.close()
        processes = self._processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self._server is not None:
            self._server.wait(timeout=END_SECONDS)
        psutil.wait_procs(processes, timeout=END_SECONDS)

    def freeze(self) -> None:
        """Let connections hang, new ones too, as behind a network that drops packets, until :meth:`thaw`."""
        # The server before its sessions are listed: it must not begin another meanwhile.
        for process in self._processes()[:1]:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in self._processes()[1:]:
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Go on after :meth:`freeze`."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def log(self) -> str:
        """Return what the server wrote so far."""
        return (self._directory / "log").read_text(errors="replace")

    def _initialise(self) -> None:
        command = [str(self._bin / "initdb"), "-D", str(self._directory / "data"), "-U", OWNER, "-A", "trust"]
        command += ["--encoding=UTF8", "--no-locale", "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, **self._as_user())
        if done.returncode != 0:
            raise NoPostgres(f"initdb failed: {(done.stderr or done.stdout).strip()[-800:]}")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.running:
            try:
                self._execute("select 1")
            except Exception:
                time.sleep(0.05)
            else:
                return
        said = self.log()[-800:]
        self.kill()
        raise NoPostgres(f"the server does not answer on port {self.port}: {said}")

    def _execute(self, statement: str) -> None:
        import psycopg  # a machine without it skips these tests

        plain = self.url().replace("+psycopg", "")
        with psycopg.connect(plain, autocommit=True, connect_timeout=60) as connection:
            connection.execute(statement)

    def _processes(self) -> list[psutil.Process]:
        if not self.running or self._server is None:
            return []
        try:
            server = psutil.Process(self._server.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _as_user(self) -> dict[str, Any]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {
            "cwd": self._directory,
            "env": {**environment, "HOME": str(self._directory)},
            "stdin": subprocess.DEVNULL,
            "start_new_session": True,  # Ctrl-C is for pytest alone
            **self._user,
        }


def find_binaries() -> Path:
    """Return the directory with initdb and postgres: the one on the PATH, else the newest installed.

    :raises NoPostgres: where there is none.
    """
    candidates = []
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    for pattern in INSTALLED_IN:
        found = Path("/").glob(pattern.lstrip("/"))
        candidates += sorted(found, key=lambda path: [int(part) for part in _numbers_in(path)], reverse=True)
    for directory in candidates:
        if all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres")):
            return directory
    raise NoPostgres(f"PostgreSQL is not installed: no initdb and postgres on the PATH or in {INSTALLED_IN}")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One server for the session; skips where PostgreSQL or its driver is not installed."""
    pytest.importorskip("psycopg", reason="psycopg, the driver of PostgreSQL, is not installed")
    try:
        find_binaries()
    except NoPostgres as reason:
        pytest.skip(str(reason))
    with Postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> str:
    """The URL of a fresh database, on a server that runs again even where the test before stopped it."""
    postgres_server.thaw()
    postgres_server.start()
    return postgres_server.new_database()


def _unprivileged_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise NoPostgres("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")


def _numbers_in(path: Path) -> list[str]:
    return "".join(sign if sign.isdigit() else " " for sign in str(path)).split() or ["0"]


def _free_port() -> int:
    # One that the system gave would be free for anybody's connections while the server starts, and whenever it is stopped.
    while True:
        port = random.SystemRandom().randint(*PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
