"""End a process with Ctrl-C, as an operator does who looks before pressing it."""

from __future__ import annotations

import signal
import subprocess
import time

import psutil

IDLE_SECONDS = 0.5  # a bot sleeps for seconds between its loops
PATIENCE = 60.0  # longer than a bot takes to end on a machine that does other things: a second interrupt would hit its end


def interrupt(process: subprocess.Popen[bytes] | subprocess.Popen[str], seconds: float = 300.0) -> int:
    """Send SIGINT while the process sleeps, and once more where nothing came of it; return the exit status.

    Amid a query Freqtrade's session cannot commit at its end, which it logs as an error; and an interrupt that meets a finalizer
    is dropped by Python ("Exception ignored in").

    :raises subprocess.TimeoutExpired: where it runs on.
    """
    wait_until_idle(process.pid)
    deadline = time.monotonic() + seconds
    while True:
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise


def wait_until_idle(pid: int, seconds: float = 60.0) -> None:
    """Wait until a process and its children hardly work, at most so long."""
    deadline, before = time.monotonic() + seconds, _worked(pid)
    while time.monotonic() < deadline:
        time.sleep(IDLE_SECONDS)
        now = _worked(pid)
        if now - before < 0.05 * IDLE_SECONDS and not _wants_to_work(pid):
            return
        before = now


def _worked(pid: int) -> float:
    try:
        parent = psutil.Process(pid)
        times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
    except psutil.Error:
        return 0.0
    return sum(spent.user + spent.system for spent in times)


def _wants_to_work(pid: int) -> bool:
    # On a machine that does other things it may have work and no processor.
    try:
        parent = psutil.Process(pid)
        return any(
            each.status() in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
            for each in (parent, *parent.children(recursive=True))
        )
    except psutil.Error:
        return False
