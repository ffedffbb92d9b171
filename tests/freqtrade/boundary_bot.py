"""Drive one dry-run bot against a loopback exchange whose prices the test can move, and read its database."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from boundary_harness import CONFIG, HERE, PREAMBLE
from interrupt import interrupt

from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import WallClock, unavailable
from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.history import FileHistory
from plimsoll.market.simulate import PairModel, simulate_market

# Of a Wednesday: what goes by the hour, the day or the week, and the next payment of funding, is far away.
BEGIN = datetime(2024, 2, 7, 9, 2, tzinfo=UTC)
LOCKED_SECONDS = 120.0  # for a database: the bot may be held up while it writes, and the test while it reads
PATIENCE = (
    5.0  # times the seconds that a wait takes at most here: another machine may be slow, and do other things
)
# Coins whose maintenance tiers Freqtrade brings along.
COINS = [
    "BTC",
    "ETH",
    "LTC",
    "SUI",
    "BNB",
    "SOL",
    "XRP",
    "DOGE",
    "ADA",
    "LINK",
    "AVAX",
    "DOT",
    "TRX",
    "ATOM",
    "NEAR",
    "UNI",
    "ETC",
    "FIL",
    "APT",
    "ARB",
    "OP",
    "INJ",
    "XLM",
    "AAVE",
    "ALGO",
    "BCH",
    "GRT",
    "SAND",
    "MANA",
    "CRV",
]


def pair_of(number: int) -> str:
    return f"{COINS[number]}/USDT:USDT"


class MovablePrices(FileHistory):
    """Tell the files' last prices times a factor, and only the test moves them where they ``stand_at`` a moment."""

    factor = 1.0
    stand_at: datetime | None = None

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        at_ms = now_ms if self.stand_at is None else round(self.stand_at.timestamp() * 1000)
        price = super().last_price(pair, now_ms=at_ms)
        return None if price is None else price * self.factor


def clock_of_a_bot(path: Path, *, stands: bool = False) -> tuple[WallClock, dict[str, str]]:
    """Return a clock that runs or stands from `BEGIN`, and what puts a bot under it; without a C compiler it tells the real time."""
    if unavailable() is not None:
        return WallClock(path, datetime.now(UTC), 1.0), {}
    clock = WallClock(path, BEGIN, 0.0 if stands else 1.0)
    return clock, clock.environment()


def market_until_now(datadir: Path, pairs: Sequence[str], now: datetime | None = None) -> MovablePrices:
    """Write 36 days of candles that reach a day beyond now."""
    midnight = (now or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    models = [
        PairModel(
            pair=pair,
            start_price=100.0,
            price_decimals=2,
            daily_volatility=0.022,
            market_correlation=0.8,
            crash_depth=0.3,
            daily_quote_volume=1e9,
        )
        for pair in pairs
    ]
    write_market(simulate_market(3, 36, midnight - timedelta(days=34), models, flash_crash=False), datadir)
    return MovablePrices(datadir)


class Bot:
    """A running ``freqtrade trade --dry-run``."""

    def __init__(
        self, directory: Path, process: subprocess.Popen[bytes], prices: MovablePrices, api: dict[str, Any]
    ) -> None:
        self.process = process
        self.prices = prices
        self._log = directory / "bot.log"
        self._database = directory / "trades.sqlite"
        self._loops = directory / "loops"
        self._api = api

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def last_words(self) -> str:
        lines = [line for line in self.log().splitlines() if "127.0.0.1" not in line]
        return "\n".join(lines[-40:])

    def alive(self) -> bool:
        return self.process.poll() is None

    def loops(self) -> int:
        return self._loops.stat().st_size if self._loops.exists() else 0

    def trades(self) -> list[dict[str, Any]]:
        if not self._database.exists():
            return []
        with sqlite3.connect(
            f"file:{self._database}?mode=ro", uri=True, timeout=LOCKED_SECONDS
        ) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return [dict(row) for row in connection.execute("select * from trades")]
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until something holds; False when time is up or the bot has ended."""
        deadline = time.monotonic() + PATIENCE * seconds
        while time.monotonic() < deadline and self.alive():
            if condition():
                return True
            time.sleep(0.2)
        return condition()

    def wait_loops(self, number: int, seconds: float = 40) -> bool:
        goal = self.loops() + number
        return self.wait(lambda: self.loops() >= goal, seconds)

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._api['listen_port']}/api/v1/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Basic {self._credentials()}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE * 40) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def _credentials(self) -> str:
        return base64.b64encode(f"{self._api['username']}:{self._api['password']}".encode()).decode()


@contextmanager
def running_bot(
    directory: Path,
    strategy: str,
    source: str,
    pairs: Sequence[str],
    config: Mapping[str, Any],
    env: Mapping[str, str],
) -> Iterator[Bot]:
    """Run a strategy until the block ends, then end it as an operator does."""
    (directory / "strategies").mkdir(parents=True)
    (directory / "strategies" / "generated.py").write_text(PREAMBLE + source)
    clock, clocked = clock_of_a_bot(directory / "clock")
    prices = market_until_now(directory / "live", pairs, clock.now())
    prices.stand_at = clock.now()
    api: dict[str, Any] = {
        "enabled": True,
        "listen_ip_address": "127.0.0.1",
        "verbosity": "error",
        "enable_openapi": False,
        "jwt_secret_key": secrets.token_hex(32),
        "CORS_origins": [],
        "username": "boundary",
        "password": secrets.token_hex(16),
    }
    own = {
        "db_url": f"sqlite:///{directory / 'trades.sqlite'}?timeout={LOCKED_SECONDS:g}",
        "api_server": api,
        "force_entry_enable": True,
        "initial_state": "running",
        "internals": {"process_throttle_secs": 1},
    }
    with (
        clock,
        _reserved_port() as port,
        LoopbackExchange(pairs=pairs, source=prices, now=clock.milliseconds) as exchange,
    ):
        api["listen_port"] = port
        command = [
            sys.executable,
            "-m",
            "freqtrade",
            "trade",
            "--strategy",
            strategy,
            "--user-data-dir",
            str(directory),
        ]
        for number, layer in enumerate((CONFIG, config, own, exchange_config(exchange.url, pairs))):
            path = directory / f"config-{number}.json"
            path.write_text(json.dumps(layer))
            command += ["-c", str(path)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FREQTRADE__")}
        environment = {
            **inherited,
            "COLUMNS": "500",
            "PYTHONPATH": str(HERE),
            "LOOPS": str(directory / "loops"),
            **clocked,
            **env,
        }
        with (directory / "bot.log").open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
            try:
                yield Bot(directory, process, prices, api)
                if process.poll() is None:
                    interrupt(process)
            finally:
                process.kill()
                process.wait(timeout=120)


@contextmanager
def _reserved_port() -> Iterator[int]:
    # Bound all the while, so that nobody else gets it; an address to be used again is the bot's to listen at.
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
