"""Run ``freqtrade trade`` live, with ``dry_run`` false, on a simulated account at a loopback exchange."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boundary_bot import LOCKED_SECONDS, Bot, MovablePrices, clock_of_a_bot, market_until_now
from boundary_harness import CONFIG, HERE
from interrupt import interrupt

from plimsoll.market.account import SimulatedAccount
from plimsoll.market.clock import WallClock
from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.history import Funding, Window
from plimsoll.market.orders import Order, StopOrder

LIVE_CONFIG: dict[str, Any] = {
    **{name: value for name, value in CONFIG.items() if name not in ("fee", "dry_run_wallet")},
    # An account that holds nothing has no dry-run days to show for it.
    # What Freqtrade and the exchange do with each other: the guard does not step in where a stop is missing.
    "plimsoll": {"gates": {"proving_override": True}, "stop": {"exit_when_missing": False}},
    # At the price of the other side, so that limit orders are filled at once.
    "entry_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "internals": {"process_throttle_secs": 1},
    "initial_state": "running",
}


class LivePrices(MovablePrices):
    """Tell the files' prices times a factor, the mark price as well, and a factor for each pair besides."""

    def __init__(self, datadir: Path) -> None:
        super().__init__(datadir)
        self.factors: dict[str, float] = {}

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        price = super().last_price(pair, now_ms=now_ms)
        return None if price is None else round(price * self.factors.get(pair, 1.0), 8)

    def mark_price(self, pair: str, *, now_ms: int) -> float | None:
        return self.last_price(pair, now_ms=now_ms)

    def funding(self, pair: str, window: Window) -> list[Funding]:
        # Nothing is paid while the bot runs, also where it lives by the machine's own clock.
        assert self.stand_at is not None
        known_ms = min(window.now_ms, round(self.stand_at.timestamp() * 1000))
        return super().funding(pair, window._replace(now_ms=known_ms))


class LiveBot(Bot):
    """A running bot, and the account and the exchange at its other end."""

    account: SimulatedAccount
    exchange: LoopbackExchange
    prices: LivePrices
    clock: WallClock

    def orders(self) -> list[dict[str, Any]]:
        with sqlite3.connect(
            f"file:{self._database}?mode=ro", uri=True, timeout=LOCKED_SECONDS
        ) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("select * from orders order by id")]

    def resting_stops(self, symbol: str) -> list[StopOrder]:
        with self.account.lock:
            every = list(self.account.stop_orders.values())
            return [each for each in every if each.symbol == symbol and each.is_resting]

    def bots_orders(self, symbol: str) -> list[Order]:
        """Return the orders of a symbol that neither a person nor the exchange itself placed."""
        with self.account.lock:
            orders = [each for each in self.account.orders.values() if each.symbol == symbol]
        return [each for each in orders if not each.client_id.startswith(("web_", "autoclose-"))]

    def strangers(self) -> list[str]:
        """Return what the bot asked for and the exchange does not have or could not answer."""
        return [*self.exchange.unknown_requests, *self.exchange.failed_requests]


@contextmanager
def running_live_bot(
    directory: Path,
    strategy: str,
    source: str,
    pairs: Sequence[str],
    config: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    *,
    wallet_balance: float = 10_000.0,
    clock_stands: bool = False,
) -> Iterator[LiveBot]:
    """Run a strategy live until the block ends, then end it as an operator does.

    Prices stand until the test moves them, and so does the clock with ``clock_stands``.
    """
    (directory / "strategies").mkdir(parents=True)
    (directory / "strategies" / "generated.py").write_text(source)
    clock, clocked = clock_of_a_bot(directory / "clock", stands=clock_stands)
    market_until_now(directory / "live", pairs, clock.now())
    prices = LivePrices(directory / "live")
    prices.stand_at = clock.now()
    account = SimulatedAccount(pairs, prices, clock.milliseconds, wallet_balance=wallet_balance)
    own = {"db_url": f"sqlite:///{directory / 'trades.sqlite'}?timeout={LOCKED_SECONDS:g}"}
    with clock, LoopbackExchange(pairs, prices, clock.milliseconds, account=account) as exchange:
        command = [sys.executable, "-m", "freqtrade", "trade", "--strategy", strategy]
        command += ["--user-data-dir", str(directory)]
        layers = (LIVE_CONFIG, config or {}, own, exchange_config(exchange.url, pairs, live=True))
        for number, layer in enumerate(layers):
            path = directory / f"config-{number}.json"
            path.write_text(json.dumps(layer))
            command += ["-c", str(path)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FREQTRADE__")}
        environment = {**inherited, "COLUMNS": "500", "PYTHONPATH": str(HERE), **clocked, **(env or {})}
        with (directory / "bot.log").open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
            try:
                running = LiveBot(directory, process, prices, {})
                running.account, running.exchange, running.clock = account, exchange, clock
                yield running
                if process.poll() is None:
                    interrupt(process)
            finally:
                process.kill()
                process.wait(timeout=120)
