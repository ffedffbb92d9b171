"""What goes wrong at an exchange, on request: unanswered requests, refusals, stale or missing data, a wrong clock."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import web

from plimsoll.market.history import INTERVALS_MS, Candle, CandleSource, Funding, Kind, Window

FaultKind = Literal[
    "timeout",
    "lost_answer",
    "server_error",
    "rate_limit",
    "banned",
    "stale_candles",
    "gap",
    "frozen_price",
    "clock_offset",
]
REQUEST_KINDS: Final = ("timeout", "lost_answer", "server_error", "rate_limit", "banned")
MARKET_KINDS: Final = ("stale_candles", "gap", "frozen_price")
_GATEWAY_STATUSES: Final = (502, 504)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Clock = Callable[[], int]
_Spans = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Describe one thing that goes wrong.

    Attributes:
        kind: of requests: ``timeout`` (no answer, then the connection is dropped), ``lost_answer`` (carried
            out, then the same), ``server_error`` (5xx), ``rate_limit`` (429), ``banned`` (418). Of the market:
            ``stale_candles`` (candles as they were when it began, prices go on), ``frozen_price`` (last, book,
            tickers and mark price as they were, candles go on; both together stop everything), ``gap`` (what
            opened meanwhile is missing from the candles for good). ``clock_offset``: the exchange's time.
        begins: seconds of the exchange's clock after it was made; None: off until `Faults.on`.
        ends: the same; None: until `Faults.off`.
        endpoints: of request kinds: only these, e.g. ``klines``, ``POST order``, ``/fapi/v1/depth``. Empty: all.
        pairs: of request and market kinds: only these; requests for all pairs at once are not meant then.
        probability: of request kinds: that a request meets it, 0 to 1, drawn from the seed of `Faults`.
        hold_seconds: of ``timeout`` and ``lost_answer``: real seconds until the connection is dropped.
        status: of ``server_error``: 500 to 599.
        retry_seconds: of ``rate_limit`` and ``banned``: what ``Retry-After`` says.
        offset_seconds: of ``clock_offset``: added to the exchange's time, negative when it is late.

    """

    kind: FaultKind
    begins: float | None = None
    ends: float | None = None
    endpoints: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    probability: float = 1.0
    hold_seconds: float = 30.0
    status: int = 503
    retry_seconds: int = 10
    offset_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in (*REQUEST_KINDS, *MARKET_KINDS, "clock_offset"):
            raise ValueError(f"`kind` must be one of the fault kinds, was {self.kind!r}")
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"`probability` must be within 0 and 1, was {self.probability!r}")
        if self.kind not in REQUEST_KINDS and (self.endpoints or self.probability != 1.0):
            raise ValueError(f"`endpoints` and `probability` must be left alone for {self.kind!r}")
        if self.kind == "clock_offset" and self.pairs:
            raise ValueError(f"`pairs` must be empty for a clock, was {self.pairs!r}")
        if not 500 <= self.status <= 599:
            raise ValueError(f"`status` must be within 500 and 599, was {self.status!r}")
        if self.ends is not None and not (self.begins is not None and self.begins < self.ends):
            raise ValueError(f"`ends` must be after `begins`, was {self.ends!r} and {self.begins!r}")


class Faults:
    """Inject faults into one `LoopbackExchange`, given to it as ``faults``.

    Faults of requests are drawn for each endpoint and symbol on its own, so that the order of requests to
    others does not matter. Where several apply, the first of the list is met.

    Attributes
    ----------
    counts : how often each kind was met: a request, or a look at the market that it changed

    """

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._now: _Clock | None = None
        self._spans: dict[Fault, _Spans] = {fault: [] for fault in faults}

    def attach(self, source: CandleSource, now: _Clock) -> tuple[CandleSource, _Clock]:
        """Return what the exchange is to use in their place; seconds count from here."""
        if self._now is not None:
            raise RuntimeError("`faults` must be of one exchange only")
        self._now, start = now, now()
        for fault, spans in self._spans.items():
            if fault.begins is not None:
                until = math.inf if fault.ends is None else start + fault.ends * 1000
                spans.append((start + fault.begins * 1000, until))
        return _FaultySource(source, self), self._clock

    def on(self, fault: Fault) -> None:
        """Let a fault happen from now on, also one that is not in the list yet."""
        spans = self._spans.setdefault(fault, [])
        if self.since(fault) is None:
            spans.append((self._true_now(), math.inf))

    def off(self, fault: Fault) -> None:
        """End a fault now, and every later time it was meant to happen."""
        now = self._true_now()
        spans = self._spans.get(fault, [])
        spans[:] = [(begin, min(end, now)) for begin, end in spans if begin < now]

    def clear(self) -> None:
        """End every fault now."""
        for fault in list(self._spans):
            self.off(fault)

    def since(self, fault: Fault) -> float | None:
        """Return since when a fault goes on, milliseconds since the epoch; None where it does not."""
        now = self._true_now()
        return next((b for b, e in self._spans.get(fault, []) if b <= now < e), None)

    def market(self, kind: FaultKind, pair: str) -> list[tuple[Fault, _Spans]]:
        """Return the faults of a kind that concern a pair, each with the times it happened or will happen."""
        every = list(self._spans.items())
        return [(f, spans) for f, spans in every if f.kind == kind and (not f.pairs or pair in f.pairs)]

    @web.middleware
    async def middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Answer a request as the first fault that it meets says, else as the exchange does."""
        fault = await self._met(request)
        if fault is None:
            return await handler(request)
        self.counts[fault.kind] += 1
        if fault.kind == "server_error":
            return _server_error(fault.status)
        if fault.kind in ("rate_limit", "banned"):
            return self._limited(fault)
        if fault.kind == "lost_answer":
            await handler(request)
        await asyncio.sleep(fault.hold_seconds)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=504)  # nobody is there to see it

    async def _met(self, request: web.Request) -> Fault | None:
        for number, (fault, _) in enumerate(list(self._spans.items())):
            if fault.kind not in REQUEST_KINDS or self.since(fault) is None:
                continue
            symbol = await _symbol(request)
            if not _concerns(fault, request, symbol):
                continue
            if fault.probability < 1.0:
                drawn = f"{number} {request.method} {request.path} {symbol}"
                self._asked[drawn] += 1
                chance = random.Random(f"{self._seed} {drawn} {self._asked[drawn]}").random()
                if chance >= fault.probability:
                    continue
            return fault
        return None

    def _limited(self, fault: Fault) -> web.Response:
        if fault.kind == "banned":
            until = self._clock() + fault.retry_seconds * 1000
            status, message = 418, f"Way too many requests; IP banned until {until}."
        else:
            status, message = 429, "Too many requests; current limit is 2400 requests per minute."
        body = {"code": -1003, "msg": message}
        return web.json_response(body, status=status, headers={"Retry-After": str(fault.retry_seconds)})

    def _clock(self) -> int:
        offset = 0.0
        for fault in list(self._spans):
            if fault.kind == "clock_offset" and self.since(fault) is not None:
                self.counts[fault.kind] += 1
                offset += fault.offset_seconds
        return self._true_now() + round(offset * 1000)

    def _true_now(self) -> int:
        if self._now is None:
            raise RuntimeError("the faults belong to no exchange yet")
        return self._now()


class _FaultySource:
    # A source as the faults of the market leave it.
    def __init__(self, source: CandleSource, faults: Faults) -> None:
        self._source = source
        self._faults = faults

    def candles(self, pair: str, interval: str, window: Window, *, kind: Kind = "trade") -> list[Candle]:
        now_ms, start_ms, _, limit = window
        missing = [
            span for _, spans in self._faults.market("gap", pair) for span in spans if span[0] <= now_ms
        ]
        length = INTERVALS_MS[interval]
        more = sum(int((min(end, now_ms) - begin) // length) + 1 for begin, end in missing)
        asked = window._replace(now_ms=self._until("stale_candles", pair, now_ms), limit=limit + more)
        found = self._source.candles(pair, interval, asked, kind=kind)
        left = [row for row in found if not any(begin <= row.open_ms < end for begin, end in missing)]
        if len(left) < len(found):
            self._faults.counts["gap"] += 1
        return left[:limit] if start_ms is not None else left[-limit:]

    def funding(self, pair: str, window: Window) -> list[Funding]:
        return self._source.funding(pair, window)

    def mark_price(self, pair: str, *, now_ms: int) -> float | None:
        return self._source.mark_price(pair, now_ms=self._until("frozen_price", pair, now_ms))

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        return self._source.last_price(pair, now_ms=self._until("frozen_price", pair, now_ms))

    def _until(self, kind: FaultKind, pair: str, now_ms: int) -> int:
        begun = [self._faults.since(fault) for fault, _ in self._faults.market(kind, pair)]
        until = min((int(begin) for begin in begun if begin is not None), default=now_ms)
        if until < now_ms:
            self._faults.counts[kind] += 1
        return min(until, now_ms)


def _concerns(fault: Fault, request: web.Request, symbol: str | None) -> bool:
    if fault.endpoints and not any(_is(each, request) for each in fault.endpoints):
        return False
    if not fault.pairs:
        return True
    futures = [pair for pair in fault.pairs if (":" in pair) == request.path.startswith("/fapi/")]
    return symbol in [pair.partition(":")[0].replace("/", "") for pair in futures]


def _is(endpoint: str, request: web.Request) -> bool:
    method, _, path = endpoint.rpartition(" ")
    return method in ("", request.method) and f"/{request.path}".endswith(f"/{path}")


async def _symbol(request: web.Request) -> str | None:
    symbol = request.query.get("symbol")
    if symbol is None and request.can_read_body:
        symbol = str((await request.post()).get("symbol"))
    return symbol


def _server_error(status: int) -> web.Response:
    if status in _GATEWAY_STATUSES:  # not the exchange itself answers
        return web.Response(
            status=status, text="<html><body>Bad Gateway</body></html>", content_type="text/html"
        )
    message = "Internal error; unable to process your request. Please try again."
    return web.json_response({"code": -1001, "msg": message}, status=status)
