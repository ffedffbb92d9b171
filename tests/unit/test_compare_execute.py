"""Processes side by side: how many at once, which failed, and that none stays behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from plimsoll.compare.execute import Ended, Job, cpus, environment, execute

SLEEP = (
    "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
)


def job(directory: Path, name: str, code: str) -> Job:
    command = (sys.executable, "-c", code, str(directory / f"{name}.pid"))
    return Job(name=name, command=command, log=directory / f"{name}.log")


def run(jobs: list[Job], at_once: int) -> tuple[list[Ended], list[str]]:
    started: list[str] = []
    ended = list(execute(jobs, at_once, dict(os.environ), lambda each: started.append(each.name)))
    return ended, started


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_execute_when_one_fails_then_the_others_go_on_and_its_last_words_are_kept(tmp_path: Path) -> None:
    failing = "import sys; print('first'); print('the last word'); sys.exit(3)"
    jobs = [job(tmp_path, "a", "pass"), job(tmp_path, "b", failing), job(tmp_path, "c", "print('well')")]
    ended, started = run(jobs, 1)
    assert started == ["a", "b", "c"]
    assert [(each.job.name, each.status) for each in ended] == [("a", 0), ("b", 3), ("c", 0)]
    assert ended[1].last_lines.endswith("the last word")
    assert all(each.seconds > 0.0 for each in ended)


@pytest.mark.parametrize("at_once", [1, 2])
def test_execute_when_several_wait_then_runs_as_many_at_once_as_allowed(tmp_path: Path, at_once: int) -> None:
    started: list[str] = []
    jobs = [job(tmp_path, name, "pass") for name in "abc"]
    running = execute(jobs, at_once, dict(os.environ), lambda each: started.append(each.name))
    for ended, _ in enumerate(running):
        assert len(started) - ended <= at_once
        assert ended > 0 or len(started) == at_once
    assert (ended, started) == (2, ["a", "b", "c"])


def test_execute_when_it_is_left_then_kills_what_still_runs(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "quick", "pass"), job(tmp_path, "slow", SLEEP), job(tmp_path, "never", SLEEP)]
    running = execute(jobs, 2, dict(os.environ), lambda each: None)
    assert next(running).job.name == "quick"
    mark, until = tmp_path / "slow.pid", time.monotonic() + 300
    while not (mark.is_file() and mark.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not gone(int(mark.read_text()))
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt)
    assert gone(int(mark.read_text()))


def test_environment_when_processes_share_the_cpus_then_each_gets_its_part_unless_said_otherwise() -> None:
    assert environment({}, 1)["OMP_NUM_THREADS"] == str(cpus())
    assert environment({}, 64 * cpus())["OPENBLAS_NUM_THREADS"] == "1"
    assert environment({"OMP_NUM_THREADS": "7"}, 2)["OMP_NUM_THREADS"] == "7"
