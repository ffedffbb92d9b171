"""Tell a service outside that the bot is alive: it alerts when the pings stop, which a dead bot cannot do itself."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

VARIABLE = "PLIMSOLL_HEARTBEAT_URL"
TIMEOUT_SECONDS = 5.0
_THREAD = "plimsoll-heartbeat"


class Heartbeat:
    """Ping a URL by HTTP GET, from a thread of its own, while the bot is alive.

    The URL is a secret: no message, log or ``repr`` of ours holds more of it than its host. Any answer but 2xx is a failure.

    :param minutes: the least time between two pings. :param clock: seconds that never go back.
    """

    def __init__(self, url: str, minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._seconds = minutes * 60.0
        self._clock = clock
        self._due = -math.inf
        self._failing = False
        self._outcomes: deque[str | None] = (
            deque()
        )  # of pings: None is success; written by the thread, read by the loop
        self._news: list[str] = []
        self._thread: threading.Thread | None = None
        self._host = _host_of(url)
        self._usable = self._host is not None
        if not self._usable:
            self._news.append(
                f"no heartbeat is sent: {VARIABLE} is no URL that begins with http:// or https:// and has a host"
            )
        elif not (math.isfinite(minutes) and minutes > 0.0):
            self._usable = False
            self._news.append(f"no heartbeat is sent: its minutes are {minutes}, they must be above 0")

    def beat(self, alive: bool) -> None:
        """Ping if it is time to, without waiting for the answer; a bot that is not alive stays silent. Never raises."""
        try:
            now = self._clock()
            if not (alive and self._usable and now >= self._due):
                return
            self._due = now + self._seconds
            if self._thread is not None and self._thread.is_alive():
                self._outcomes.append("the ping before has not ended yet")
                return
            self._thread = threading.Thread(target=self._ping, name=_THREAD, daemon=True)
            self._thread.start()
        except Exception as error:
            self._outcomes.append(type(error).__name__)

    def news(self) -> list[str]:
        """Return what to tell the operator since the last call: the first of a row of failures, and its end."""
        while self._outcomes:
            failure = self._outcomes.popleft()
            if failure is not None and not self._failing:
                self._news.append(f"the heartbeat does not reach {self._host}: {failure}")
            elif failure is None and self._failing:
                self._news.append(f"the heartbeat reaches {self._host} again")
            self._failing = failure is not None
        told, self._news = self._news, []
        return told

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_thread": None}

    def _ping(self) -> None:
        try:
            import httpx

            for name in ("httpx", "httpcore.http11"):  # they log whole URLs
                logging.getLogger(name).addFilter(_is_not_ours)
            # The body is not read: it may be endless.
            with httpx.stream("GET", self._url, timeout=TIMEOUT_SECONDS, follow_redirects=True) as answer:
                self._outcomes.append(None if answer.is_success else f"it answered {answer.status_code}")
        except Exception as error:
            self._outcomes.append(type(error).__name__)  # its text may hold the URL


def from_environment(minutes: float) -> Heartbeat | None:
    """Return the heartbeat to the URL in ``PLIMSOLL_HEARTBEAT_URL``, None where it is unset or empty.

    Not from the config: Freqtrade writes that into the results of backtests.
    """
    url = os.environ.get(VARIABLE, "").strip()
    return Heartbeat(url, minutes) if url else None


def _host_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return parts.hostname if parts.scheme in ("http", "https") else None


def _is_not_ours(record: logging.LogRecord) -> bool:
    return record.threadName != _THREAD
