"""A wall clock for other processes: set by hand or running fast, without a change to their code."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final

FASTEST: Final = 10_000.0
_SOURCE: Final = Path(__file__).with_name("stepped_clock.c")
_LAYOUT: Final = struct.Struct("@qqqqdd")
_NEVER: Final = 2**63 - 1
_FLAGS: Final = ("-shared", "-fPIC", "-O2")


class ClockUnavailable(RuntimeError):
    """The clock of another process cannot be told on this machine; the message says why."""


class WallClock:
    """Tell the wall clock of every process started with `environment`, and of this one's exchange.

    It stands until it is set (``step``) or runs at a speed (``run``). Both processes compute the running time
    from the machine's monotonic clock, so they agree to the microsecond. Monotonic clocks stay real, and with
    them every network timeout and ``asyncio.sleep``; ``time.sleep`` is divided by the speed.

    Parameters
    ----------
    path : the file to tell the time by; it is made, and kept open until ``close``
    at : the time to begin with, aware
    speed : 0 stands, 1 is real time, at most ``FASTEST``

    """

    def __init__(self, path: Path, at: datetime, speed: float = 0.0) -> None:
        path.write_bytes(bytes(_LAYOUT.size))
        self.path = path
        self._sequence = 0
        self._told = (0, 0, _NEVER, 0.0)
        with path.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), _LAYOUT.size)
        self.run(speed, at) if speed else self.step(at)

    def __enter__(self) -> WallClock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; processes that read it keep the time as it was told last."""
        if not self._shared.closed:
            self._shared.close()

    def step(self, at: datetime) -> None:
        """Set the time and let it stand there; sleeps are real."""
        self._tell(_nanoseconds(at), 0.0, 1.0)

    def run(self, speed: float, at: datetime | None = None, *, until: datetime | None = None) -> None:
        """Let the time run at ``speed`` times real time from ``at``, default from where it is.

        :param until: where it stands until it is told more, so that whoever leads it may come late; sleeps go on at the speed.
        :raises ValueError: where the speed is not within 0 (excluded) to ``FASTEST``.
        """
        if not (math.isfinite(speed) and 0.0 < speed <= FASTEST):
            raise ValueError(f"`speed` must be above 0 and at most {FASTEST:g}, was {speed!r}")
        bound = _NEVER if until is None else _nanoseconds(until)
        self._tell(None if at is None else _nanoseconds(at), speed, speed, bound)

    @property
    def speed(self) -> float:
        """Return how many seconds pass in a real one; 0 where the time stands."""
        return self._told[3]

    def nanoseconds(self) -> int:
        """Return the time in nanoseconds since the epoch, as the processes see it."""
        return self._at(time.monotonic_ns())

    def milliseconds(self) -> int:
        """Return the time in milliseconds since the epoch: a clock for `LoopbackExchange`."""
        return self.nanoseconds() // 1_000_000

    def now(self) -> datetime:
        """Return the time in UTC, to the microsecond."""
        return datetime.fromtimestamp(self.nanoseconds() // 1000 / 1e6, UTC)

    def sleep(self, seconds: float) -> None:
        """Wait for as many seconds of this clock.

        :raises RuntimeError: where the time stands, as they would never pass.
        """
        if not self.speed:
            raise RuntimeError("the clock stands; nobody would end the wait")
        time.sleep(max(0.0, seconds) / self.speed)

    def environment(self) -> dict[str, str]:
        """Return the variables that put a process under this clock; its time zone is UTC.

        :raises ClockUnavailable: where `unavailable` says so.
        """
        preloaded = [str(library()), *os.environ.get("LD_PRELOAD", "").split()]
        return {"LD_PRELOAD": " ".join(preloaded), "STEPPED_CLOCK": str(self.path.resolve()), "TZ": "UTC"}

    def _at(self, monotonic: int) -> int:
        base, monotonic_base, until, speed = self._told
        return min(base + int(speed * float(monotonic - monotonic_base)), until) if speed else base

    def _tell(self, base: int | None, speed: float, sleep_speed: float, until: int = _NEVER) -> None:
        monotonic = time.monotonic_ns()
        told = (self._at(monotonic) if base is None else base, monotonic, until, speed)
        # Readers wait while the sequence is odd.
        struct.pack_into("@q", self._shared, 0, self._sequence + 1)
        struct.pack_into("@qqqdd", self._shared, 8, *told, sleep_speed)
        self._sequence += 2
        struct.pack_into("@q", self._shared, 0, self._sequence)
        self._told = told


def unavailable() -> str | None:
    """Return why no other process's clock can be told here, None where it can."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return f"it needs 64-bit Linux, and this is {platform.system()} on {platform.machine()}"
    if _cached() is None and _compiler() is None:
        return "it needs a C compiler (`cc`), e.g. `apt-get install gcc libc6-dev`"
    return None


def library() -> Path:
    """Return the compiled clock, built on first use into the user's cache (``$XDG_CACHE_HOME/plimsoll``).

    :raises ClockUnavailable: where it cannot be built.
    """
    found = _cached()
    if found is not None:
        return found
    reason, compiler = unavailable(), _compiler()
    if reason is not None or compiler is None:
        raise ClockUnavailable(f"no clock for other processes: {reason}")
    for directory in _directories():
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=directory) as building:
                built = Path(building, "clock.so")
                _compile(compiler, built)
                # Whole or not at all, as others may be building the same.
                return built.replace(directory / _name())
        except OSError:
            continue
    raise ClockUnavailable(f"no clock for other processes: {_directories()[0]} cannot be written")


def _compile(compiler: str, target: Path) -> None:
    command = [compiler, *_FLAGS, "-o", str(target), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClockUnavailable(f"no clock for other processes: {compiler} failed: {done.stderr.strip()}")


def _cached() -> Path | None:
    return next((path for path in (d / _name() for d in _directories()) if _own(path)), None)


def _own(path: Path) -> bool:
    # What is preloaded runs as the user, so nobody else may have put it there.
    try:
        return path.stat().st_uid == os.getuid()
    except OSError:
        return False


def _directories() -> tuple[Path, Path]:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(cache, "plimsoll"), Path(tempfile.gettempdir(), f"plimsoll-{os.getuid()}")


def _name() -> str:
    content = _SOURCE.read_bytes() + " ".join((*_FLAGS, platform.machine(), *platform.libc_ver())).encode()
    return f"clock-{hashlib.sha256(content).hexdigest()[:16]}.so"


def _compiler() -> str | None:
    return next((found for found in map(shutil.which, ("cc", "gcc", "clang")) if found), None)


def _nanoseconds(at: datetime) -> int:
    if at.tzinfo is None:
        raise ValueError(f"`at` must have a time zone, was {at.isoformat()}")
    return round(at.timestamp() * 1_000_000) * 1000
