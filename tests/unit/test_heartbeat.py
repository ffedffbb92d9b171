"""The heartbeat to a service outside: when it pings, what it reports, and that it neither blocks nor tells its URL."""

from __future__ import annotations

import logging
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from plimsoll.host import heartbeat
from plimsoll.host.heartbeat import VARIABLE, Heartbeat, from_environment

SECRET = "9f1c-secret-ping-key"
MINUTES = 5.0
PATIENCE = 120.0  # seconds: a machine may stand still for a while


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Monitor(ThreadingHTTPServer):
    """A loopback monitoring service: it answers with ``status``, after ``release`` is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.release = threading.Event()
        self.release.set()
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{SECRET}"


class Handler(BaseHTTPRequestHandler):
    server: Monitor

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.release.wait(4 * PATIENCE)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"OK")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    with Monitor() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(heartbeat, "TIMEOUT_SECONDS", PATIENCE)


def beat_and_wait(heart: Heartbeat) -> list[str]:
    """Beat, wait until the ping has ended, and return the news."""
    heart.beat(True)
    if heart._thread is not None:
        heart._thread.join(2 * PATIENCE)
        assert not heart._thread.is_alive()
    return heart.news()


@pytest.mark.parametrize(("seconds", "pings"), [(299.9, 1), (300.0, 2)])
def test_heartbeat_when_beaten_again_then_pings_once_per_interval(
    monitor: Monitor, seconds: float, pings: int
) -> None:
    clock = Clock()
    heart = Heartbeat(monitor.url, MINUTES, clock)
    assert beat_and_wait(heart) == []
    clock.now += seconds
    assert beat_and_wait(heart) == []
    assert monitor.paths == [f"/{SECRET}"] * pings


def test_heartbeat_when_not_alive_then_is_silent_and_pings_as_soon_as_it_is(monitor: Monitor) -> None:
    clock = Clock()
    heart = Heartbeat(monitor.url, MINUTES, clock)
    heart.beat(False)
    assert heart._thread is None
    beat_and_wait(heart)
    assert len(monitor.paths) == 1
    clock.now += 400
    heart.beat(False)
    clock.now += 1
    beat_and_wait(heart)
    assert len(monitor.paths) == 2


def test_heartbeat_when_the_service_fails_then_tells_once_and_its_recovery_once(monitor: Monitor) -> None:
    clock = Clock()
    heart = Heartbeat(monitor.url, MINUTES, clock)
    told = []
    for status in (500, 500, 404, 204, 200, 503):
        monitor.status = status
        told.append(beat_and_wait(heart))
        clock.now += 300
    assert told == [
        ["the heartbeat does not reach 127.0.0.1: it answered 500"],
        [],
        [],
        ["the heartbeat reaches 127.0.0.1 again"],
        [],
        ["the heartbeat does not reach 127.0.0.1: it answered 503"],
    ]


def test_heartbeat_when_refused_then_tells_the_host_only() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound, not listening
        heart = Heartbeat(f"http://user:word@127.0.0.1:{listener.getsockname()[1]}/{SECRET}", MINUTES)
        assert beat_and_wait(heart) == ["the heartbeat does not reach 127.0.0.1: ConnectError"]


def test_heartbeat_when_the_service_is_slow_then_gives_up(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "TIMEOUT_SECONDS", 0.2)
    monitor.release.clear()
    heart = Heartbeat(monitor.url, MINUTES)
    assert beat_and_wait(heart) == ["the heartbeat does not reach 127.0.0.1: ReadTimeout"]


def test_heartbeat_when_the_service_hangs_then_the_loop_goes_on_and_no_second_ping_starts(
    monitor: Monitor,
) -> None:
    clock = Clock()
    monitor.release.clear()
    heart = Heartbeat(monitor.url, MINUTES, clock)
    began = time.monotonic()
    heart.beat(True)
    first = heart._thread
    assert heart.news() == []
    clock.now += 300
    heart.beat(True)
    assert time.monotonic() - began < PATIENCE / 2
    assert heart._thread is first
    assert first is not None
    assert first.daemon
    assert first.is_alive()
    assert heart.news() == ["the heartbeat does not reach 127.0.0.1: the ping before has not ended yet"]
    monitor.release.set()
    first.join(2 * PATIENCE)
    assert heart.news() == ["the heartbeat reaches 127.0.0.1 again"]
    assert len(monitor.paths) == 1


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_heartbeat_when_everything_is_logged_then_the_url_is_not(
    monitor: Monitor, caplog: pytest.LogCaptureFixture, level: int
) -> None:
    import httpx

    caplog.set_level(level)
    httpx.get(monitor.url, timeout=PATIENCE)
    assert SECRET in caplog.text  # what another user of httpx logs, this test would see
    caplog.clear()
    beat_and_wait(Heartbeat(monitor.url, MINUTES))
    assert len(monitor.paths) == 2
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://example.org/{SECRET}",
        f"example.org/{SECRET}",
        f"https:///{SECRET}",
        f"https://example.org:{SECRET}/",
        f"https://[{SECRET}/",
        "",
    ],
)
def test_heartbeat_when_the_url_is_bad_then_says_so_once_and_never_pings(url: str) -> None:
    heart = Heartbeat(url, MINUTES)
    heart.beat(True)
    (told,) = heart.news()
    assert told.startswith(f"no heartbeat is sent: {VARIABLE} is no URL")
    assert SECRET not in told
    assert heart._thread is None
    assert heart.news() == []


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_heartbeat_when_the_interval_is_bad_then_says_so_and_never_pings(
    monitor: Monitor, minutes: float
) -> None:
    heart = Heartbeat(monitor.url, minutes)
    heart.beat(True)
    assert heart.news() == [f"no heartbeat is sent: its minutes are {minutes}, they must be above 0"]
    assert heart._thread is None


def test_heartbeat_when_no_thread_can_start_then_is_a_failure_and_nothing_raises(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    heart = Heartbeat(monitor.url, MINUTES)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        heart.beat(True)
    assert heart.news() == ["the heartbeat does not reach 127.0.0.1: RuntimeError"]


def test_heartbeat_when_pickled_while_it_pings_then_the_copy_works(monitor: Monitor) -> None:
    monitor.release.clear()
    heart = Heartbeat(monitor.url, MINUTES)
    heart.beat(True)
    copy = pickle.loads(pickle.dumps(heart))
    monitor.release.set()
    assert copy._thread is None
    copy._due = 0.0
    assert beat_and_wait(copy) == []
    assert heart._thread is not None
    heart._thread.join(2 * PATIENCE)
    assert len(monitor.paths) == 2


def test_from_environment_when_unset_or_empty_then_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert from_environment(MINUTES) is None
    monkeypatch.setenv(VARIABLE, "  ")
    assert from_environment(MINUTES) is None


def test_from_environment_when_set_then_pings_there(
    monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f" {monitor.url}\n")
    heart = from_environment(MINUTES)
    assert heart is not None
    assert beat_and_wait(heart) == []
    assert monitor.paths == [f"/{SECRET}"]
