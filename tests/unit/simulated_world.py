"""An account on prices that a test sets, for the tests of the simulated account and its endpoints."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.market.account import SimulatedAccount
from plimsoll.market.endpoints import BinanceError
from plimsoll.market.history import Funding, NoHistory, Window
from plimsoll.market.positions import Position
from plimsoll.rules.liquidation import MaintenanceTier

START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
HOUR = 3_600_000
PAIRS = ["BTC/USDT:USDT", "ETH/USDT:USDT"]
BTC, ETH = "BTCUSDT", "ETHUSDT"
TIERS = (
    MaintenanceTier(0.0, 10_000.0, 0.01, 0.0, 50.0),
    MaintenanceTier(10_000.0, 100_000.0, 0.02, 100.0, 10.0),
)
TAKER, MAKER = 0.0005, 0.0002


class Prices(NoHistory):
    """Prices that a test sets; a mark price of its own only where one is given."""

    def __init__(self) -> None:
        self.last: dict[str, float | None] = {"BTC/USDT:USDT": 1_000.0, "ETH/USDT:USDT": 100.0}
        self.mark: dict[str, float] = {}
        self.payments: list[Funding] = []

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        return self.last[pair]

    def mark_price(self, pair: str, *, now_ms: int) -> float | None:
        return self.mark.get(pair, self.last[pair])

    def funding(self, pair: str, window: Window) -> list[Funding]:
        return [
            each
            for each in self.payments
            if (window.start_ms or 0) <= each.time_ms <= window.last_ms and pair == "BTC/USDT:USDT"
        ]


class World:
    """An account with its prices and its clock; BTC at 1000 (tick 0.1), ETH at 100 (tick 0.01)."""

    def __init__(self, **settings: Any) -> None:
        self.prices, self.now = Prices(), START
        self.account = SimulatedAccount(PAIRS, self.prices, lambda: self.now, **settings)
        for symbol in (BTC, ETH):
            self.account.tiers[symbol] = TIERS
            self.account.set_isolated(symbol)
            self.account.set_leverage(symbol, 5)

    def move(self, price: float, pair: str = "BTC/USDT:USDT") -> None:
        self.prices.last[pair] = price
        self.now += 1_000
        self.account.advance()

    @property
    def btc(self) -> Position:
        return self.account.positions[BTC]


def refused(code: int) -> Any:
    return pytest.raises(BinanceError, check=lambda error: error.code == code)


def opened_with_stop(world: World, side: str, trigger: float, **stop: Any):
    world.account.place(BTC, side, "MARKET", 2.0)
    other = "SELL" if side == "BUY" else "BUY"
    return world.account.place_stop(BTC, other, "STOP_MARKET", 2.0, trigger, reduce_only=True, **stop)
