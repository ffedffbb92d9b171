"""An exchange on this machine that speaks enough of Binance for stock Freqtrade to run without a network."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from plimsoll.market.account import SimulatedAccount
from plimsoll.market.endpoints import Answer, BinanceError, Endpoints
from plimsoll.market.faults import Faults
from plimsoll.market.history import CandleSource, NoHistory
from plimsoll.market.instruments import DEFAULT_PAIRS, Instrument, exchange_info, instrument
from plimsoll.market.private import PrivateEndpoints

logger = logging.getLogger(__name__)

Clock = Callable[[], int]

_THREAD_SECONDS = 60.0  # for what its own thread does at once, unless the whole process stands still


class LoopbackExchange:
    """Answer Binance's public endpoints on 127.0.0.1, on a port of the system's choice.

    ``with LoopbackExchange() as exchange`` serves from an own thread, ``async with`` from the running loop;
    either way the port is closed on leaving. Any number may run at once.

    Parameters
    ----------
    pairs : the markets, by Freqtrade's names (``BTC/USDT:USDT`` futures, ``BTC/USDT`` spot) or with rules of
        their own
    source : where prices come from, default `NoHistory`
    now : the exchange's clock in milliseconds since the epoch, default the system's; nothing later is ever
        told
    faults : what goes wrong, and when; default nothing
    account : what the private endpoints of USD-M futures answer from, on the same source; default none, then
        only public endpoints answer. Its prices and clock are the true ones, whatever the faults

    Attributes
    ----------
    requests : how often each known endpoint was asked
    unknown_requests : method and path of every request that no endpoint answers
    failed_requests : method and path of every request that broke the exchange itself

    """

    def __init__(
        self,
        pairs: Iterable[str | Instrument] = DEFAULT_PAIRS,
        source: CandleSource | None = None,
        now: Clock | None = None,
        faults: Faults | None = None,
        account: SimulatedAccount | None = None,
    ) -> None:
        if account is not None and account.source is not source:
            raise ValueError("`account` must have the same `source` as the exchange")
        self.account = account
        self.instruments = tuple(instrument(each) if isinstance(each, str) else each for each in pairs)
        self.source: CandleSource = NoHistory() if source is None else source
        self.now: Clock = _system_clock if now is None else now
        self.faults = Faults() if faults is None else faults
        self.source, self.now = self.faults.attach(self.source, self.now)
        self.requests: Counter[str] = Counter()
        self.unknown_requests: list[str] = []
        self.failed_requests: list[str] = []
        self._runner: web.AppRunner | None = None
        self._port: int | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Return the base address, such as ``http://127.0.0.1:40123``."""
        if self._port is None:
            raise RuntimeError("the loopback exchange is not running")
        return f"http://127.0.0.1:{self._port}"

    @property
    def pairs(self) -> list[str]:
        """Return the names of all pairs."""
        return [each.pair for each in self.instruments]

    # -- LIFE ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> LoopbackExchange:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __enter__(self) -> LoopbackExchange:
        self._refuse_second_start()
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run_loop, args=(loop,), name="plimsoll-exchange", daemon=True)
        thread.start()
        self._loop, self._thread = loop, thread
        try:
            asyncio.run_coroutine_threadsafe(self._open(), loop).result(timeout=_THREAD_SECONDS)
        except BaseException:
            self._stop_thread()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        try:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=_THREAD_SECONDS)
        finally:
            self._stop_thread()

    async def _open(self) -> None:
        self._refuse_second_start()
        app = web.Application(middlewares=[self.faults.middleware, self._guard])
        app.add_routes(self._routes())
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]

    def _refuse_second_start(self) -> None:
        if self._runner is not None:
            raise RuntimeError("the loopback exchange is running already")

    async def _close(self) -> None:
        runner, self._runner, self._port = self._runner, None, None
        if runner is not None:
            await runner.cleanup()

    def _stop_thread(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=_THREAD_SECONDS)

    # -- REQUESTS --------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        asked = f"{request.method} {request.path}"
        try:
            if self.account is not None:
                self.account.advance()
            answer = await handler(request)
        except BinanceError as error:
            return _refusal(error.code, str(error), error.status)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            logger.warning("plimsoll loopback exchange: unknown endpoint %s", asked)
            self.unknown_requests.append(asked)
            return _refusal(-1000, f"plimsoll loopback exchange: unknown endpoint {asked}", 404)
        except Exception as error:
            logger.exception("plimsoll loopback exchange: %s failed", asked)
            self.failed_requests.append(asked)
            return _refusal(-1000, f"plimsoll loopback exchange: {type(error).__name__} in {asked}", 500)
        self.requests[asked] += 1
        return answer

    def _routes(self) -> list[web.RouteDef]:
        routes = [web.get("/dapi/v1/exchangeInfo", _handler(self._coin_margined_info))]
        for prefix, futures in (("/fapi/v1", True), ("/api/v3", False)):
            endpoints = Endpoints(self.instruments, self.source, self.now, futures=futures)
            routes += [
                web.get(f"{prefix}/{path}", _handler(answer)) for path, answer in endpoints.by_path().items()
            ]
        if self.account is not None:
            routes += [
                web.route(method, path, _private_handler(answer))
                for (method, path), answer in PrivateEndpoints(self.account).by_route().items()
            ]
        return routes

    def _coin_margined_info(self, query: Mapping[str, str]) -> dict[str, Any]:
        return exchange_info((), self.now(), futures=True)


def redirected_urls(base_url: str) -> dict[str, Any]:
    """Return every API address that the installed ccxt knows for Binance, moved to ``base_url``.

    All of them and not only the few that are answered, so that an unforeseen request ends at the loopback
    exchange, where it is seen, and never leaves the machine.
    """
    import ccxt.pro

    def moved(address: Any) -> Any:
        if isinstance(address, dict):
            return {name: moved(each) for name, each in address.items()}
        parts = urlsplit(address)
        scheme = "ws" if parts.scheme.startswith("ws") else "http"
        query = f"?{parts.query}" if parts.query else ""
        return f"{scheme}://{urlsplit(base_url).netloc}{parts.path}{query}"

    addresses: dict[str, Any] = moved(ccxt.pro.binance().urls["api"])
    return addresses


def exchange_config(
    base_url: str, pairs: Iterable[str] | None = DEFAULT_PAIRS, *, live: bool = False
) -> dict[str, Any]:
    """Return the configuration that points stock Freqtrade to ``base_url``, to be given as the last ``-c``.

    It is a dry run without credentials, or with ``live`` a live run with invented ones, which needs a
    `SimulatedAccount` at the other end; without websocket and rate limit either way. ``pairs`` becomes the
    whitelist; None leaves the whitelist of the other configurations.
    """
    urls = {"api": redirected_urls(base_url)}
    exchange: dict[str, Any] = {
        "name": "binance",
        "key": "loopback-key" if live else "",
        "secret": "loopback-secret" if live else "",
        "enable_ws": False,
        # Otherwise `download-data` prefers Binance's public archive to the API.
        "only_from_ccxt": True,
        "ccxt_config": {"enableRateLimit": False, "urls": urls},
        "ccxt_async_config": {"enableRateLimit": False, "urls": urls},
    }
    config: dict[str, Any] = {
        "dry_run": not live,
        "exchange": exchange,
        # The other ways out of the machine: exchange rates of fiat currencies, and messages.
        "fiat_display_currency": "",
        "telegram": {"enabled": False, "token": "", "chat_id": ""},
        "discord": {"enabled": False},
        "webhook": {"enabled": False},
    }
    if pairs is not None:
        exchange |= {"pair_whitelist": list(pairs), "pair_blacklist": []}
        config["pairlists"] = [{"method": "StaticPairList"}]
    return config


def _handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return web.json_response(answer(request.query))

    return handle


def _private_handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        if not request.headers.get("X-MBX-APIKEY"):
            raise BinanceError(-2014, "API-key format invalid.", 401)
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        return web.json_response(answer({**request.query, **form}))

    return handle


def _refusal(code: int, message: str, status: int) -> web.Response:
    return web.json_response({"code": code, "msg": message}, status=status)


def _system_clock() -> int:
    return time.time_ns() // 1_000_000


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
