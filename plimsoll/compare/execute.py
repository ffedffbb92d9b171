"""Run commands side by side, each in a process of its own; whatever ends this, ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

POLL_SECONDS: Final = 0.05
LAST_LINES: Final = 10
LONGEST_LINE: Final = 300
# Each library would start a thread per CPU in each process otherwise.
_THREADS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "POLARS_MAX_THREADS",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command, and the file that takes what it says."""

    name: str
    command: tuple[str, ...]
    log: Path


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A job that ended: its exit status and its wall time."""

    job: Job
    status: int
    seconds: float

    @property
    def said(self) -> str:
        """Return everything it printed."""
        return self.job.log.read_text(encoding="utf-8", errors="replace")

    @property
    def last_lines(self) -> str:
        """Return the end of what it printed."""
        return "\n".join(line[:LONGEST_LINE] for line in self.said.strip().splitlines()[-LAST_LINES:])


def cpus() -> int:
    """Return how many CPUs this process may use, by its affinity and its cgroup."""
    from joblib import cpu_count

    return int(cpu_count())


def environment(base: Mapping[str, str], at_once: int) -> dict[str, str]:
    """Return an environment in which processes that run at once share the CPUs; what it says of threads already stands."""
    threads = {name: str(max(1, cpus() // at_once)) for name in _THREADS}
    # Tables are cut at the width of a terminal.
    return {**threads, **base, "COLUMNS": "200", "NO_COLOR": "1"}


def execute(
    jobs: Sequence[Job], at_once: int, env: Mapping[str, str], started: Callable[[Job], None]
) -> Generator[Ended, None, None]:
    """Run ``at_once`` jobs at a time and yield each as it ends.

    Leaving the iterator, by the keyboard's interrupt too, kills what still runs and every process that it started.
    """
    waiting = deque(jobs)
    running: dict[subprocess.Popen[bytes], tuple[Job, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.popleft()
                running[_start(job, env)] = (job, time.monotonic())
                started(job)
            ended = [process for process in running if process.poll() is not None]
            for process in ended:
                job, since = running.pop(process)
                yield Ended(job=job, status=process.returncode, seconds=time.monotonic() - since)
            if not ended:
                time.sleep(POLL_SECONDS)
    finally:
        for process in running:
            _kill(process)


def _start(job: Job, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with job.log.open("wb") as log:
        return subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(env), start_new_session=True
        )  # fmt: skip


def _kill(process: subprocess.Popen[bytes]) -> None:
    # The command leads a process group of its own.
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
