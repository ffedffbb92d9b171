"""The wall clock of other processes: set, running, and what it does to their sleeps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plimsoll.market import clock as clock_module
from plimsoll.market.clock import FASTEST, ClockUnavailable, WallClock, library, unavailable

AT = datetime(2024, 3, 5, 12, tzinfo=UTC)
SECOND = 1_000_000_000
needs_clock = pytest.mark.skipif(unavailable() is not None, reason=f"no clock here: {unavailable()}")


@pytest.fixture
def clock(tmp_path: Path):
    with WallClock(tmp_path / "clock", AT) as clock:
        yield clock


def run(clock: WallClock, code: str) -> list[str]:
    """Run Python under the clock and return the lines it printed."""
    environment = {**os.environ, **clock.environment()}
    command = [sys.executable, "-c", f"import datetime, time, threading\n{code}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    return done.stdout.split("\n")[:-1]


def test_clock_when_stepped_then_stands_where_it_was_set(clock):
    assert clock.milliseconds() == int(AT.timestamp() * 1000)
    clock.step(AT + timedelta(hours=1, microseconds=7))
    time.sleep(0.01)
    assert clock.now() == AT + timedelta(hours=1, microseconds=7)
    assert clock.speed == 0.0


def test_clock_when_running_then_passes_speed_times_real_time(clock):
    before = time.monotonic_ns()
    clock.run(200.0)
    time.sleep(0.05)
    passed = clock.nanoseconds() - int(AT.timestamp()) * SECOND
    real = time.monotonic_ns() - before
    assert 200 * 0.05 * SECOND <= passed <= 200 * real


def test_clock_when_its_speed_changes_then_goes_on_from_where_it_is(clock):
    clock.run(1000.0)
    time.sleep(0.02)
    begun = time.monotonic_ns()
    before = clock.nanoseconds()
    clock.run(1.0)
    between = clock.nanoseconds()
    assert before <= between <= before + 1000 * (time.monotonic_ns() - begun)
    clock.run(1.0, AT - timedelta(days=1))
    assert clock.now() < AT


def test_clock_when_it_runs_until_a_moment_then_stands_there_until_it_is_told_more(clock):
    clock.run(FASTEST, until=AT + timedelta(seconds=3))
    time.sleep(0.01)
    assert clock.now() == AT + timedelta(seconds=3)
    assert clock.speed == FASTEST
    clock.run(FASTEST)
    time.sleep(0.01)
    assert clock.now() > AT + timedelta(seconds=3)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), FASTEST * 1.01])
def test_clock_when_speed_is_out_of_range_then_refuses(clock, speed):
    with pytest.raises(ValueError, match="`speed` must be above 0 and at most 10000, was"):
        clock.run(speed)
    clock.run(FASTEST)


def test_clock_when_a_moment_has_no_zone_then_refuses(clock):
    with pytest.raises(ValueError, match="`at` must have a time zone"):
        clock.step(datetime(2024, 1, 1))


def test_sleep_when_the_clock_stands_then_refuses_and_when_it_runs_then_is_divided(clock):
    with pytest.raises(RuntimeError, match="the clock stands"):
        clock.sleep(1.0)
    clock.run(1000.0)
    begun = time.monotonic()
    clock.sleep(100.0)
    assert 0.1 <= time.monotonic() - begun < 60.0


@needs_clock
def test_process_when_the_clock_stands_then_sees_that_time_in_every_way(clock):
    code = "print(time.time(), int(datetime.datetime.now(datetime.UTC).timestamp()), time.strftime('%Y-%m-%dT%H:%M'))"
    assert run(clock, code) == [f"{AT.timestamp()} {int(AT.timestamp())} 2024-03-05T12:00"]


@needs_clock
def test_process_when_the_clock_runs_then_agrees_with_this_one(clock):
    clock.run(FASTEST)
    code = "a = time.monotonic_ns(); t = time.time_ns(); b = time.monotonic_ns(); print(a, t, b)"
    before, told, after = map(int, run(clock, code)[0].split())
    base, monotonic_base, _, speed = clock._told
    assert base + speed * (before - monotonic_base) <= told + 1000
    assert told <= base + speed * (after - monotonic_base) + 1000


@needs_clock
def test_sleep_when_the_clock_runs_then_takes_its_seconds_and_monotonic_time_stays_real(clock):
    clock.run(500.0)
    code = (
        "a, b, c = time.monotonic(), time.time(), time.monotonic(); time.sleep(100)\n"
        "d, e, f = time.monotonic(), time.time(), time.monotonic(); print(e - b, d - c, f - a)\n"
        "m = time.monotonic(); threading.Event().wait(0.3); print(time.monotonic() - m)"
    )
    slept, waited = run(clock, code)
    seconds, least, most = map(float, slept.split())  # between the readings of the clocks others may run
    assert 0.2 <= least < 60.0
    assert 500 * least * 0.999 <= seconds <= 500 * most * 1.001
    assert float(waited) >= 0.3


@needs_clock
def test_process_when_the_clock_runs_until_a_moment_then_it_stands_there_and_sleeps_go_on_at_the_speed(clock):
    clock.run(500.0, until=AT + timedelta(seconds=3))
    code = "m = time.monotonic(); time.sleep(100); print(time.time(), time.monotonic() - m)"
    told, slept = map(float, run(clock, code)[0].split())
    assert told == AT.timestamp() + 3
    assert 0.2 <= slept < 60.0


@needs_clock
def test_sleep_when_the_clock_stands_then_is_real(clock):
    slept = run(clock, "m = time.monotonic(); time.sleep(0.2); print(time.monotonic() - m)")
    assert 0.2 <= float(slept[0]) < 60.0


@needs_clock
def test_library_when_built_then_is_kept_in_the_cache_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(clock_module.tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    built = library()
    changed = built.stat().st_mtime_ns
    assert built.parent == tmp_path / "plimsoll"
    assert (library(), built.stat().st_mtime_ns) == (built, changed)
    source = tmp_path / "other.c"
    source.write_bytes(clock_module._SOURCE.read_bytes() + b"\n")
    monkeypatch.setattr(clock_module, "_SOURCE", source)
    assert library() != built
    assert sorted(path.suffix for path in built.parent.iterdir()) == [".so", ".so"]


@needs_clock
def test_library_when_the_cache_cannot_be_written_then_is_built_in_the_temporary_directory(
    tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(clock_module.tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    assert library().parent.parent == tmp_path / "temp"


def test_unavailable_when_there_is_no_compiler_or_no_linux_then_says_what_is_missing(
    tmp_path, monkeypatch, clock
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(clock_module.tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    monkeypatch.setenv("PATH", str(tmp_path))
    if sys.platform == "linux":
        assert "needs a C compiler" in unavailable()
        with pytest.raises(ClockUnavailable, match="needs a C compiler"):
            clock.environment()
    monkeypatch.setattr(clock_module.sys, "platform", "darwin")
    assert "needs 64-bit Linux" in unavailable()
