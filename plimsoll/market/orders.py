"""What the simulated account goes by and keeps: quotes, orders, stop orders, fills, changes of the wallet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

OrderSide = Literal["BUY", "SELL"]

RESTING = "NEW"


@dataclass
class Order:
    """An order in the book, or one that was.

    ``price`` is 0 for a market order. ``reserved`` is the margin that it holds back while it rests.
    """

    id: int
    client_id: str
    symbol: str
    side: OrderSide
    kind: str
    quantity: float
    price: float
    time_in_force: str
    reduce_only: bool
    created_ms: int
    updated_ms: int
    status: str = RESTING
    filled: float = 0.0
    quote_filled: float = 0.0
    reserved: float = 0.0

    @property
    def is_resting(self) -> bool:
        """Return whether it can still be filled."""
        return self.status in (RESTING, "PARTIALLY_FILLED")

    @property
    def remaining(self) -> float:
        """Return what is left to fill, base currency."""
        return round(self.quantity - self.filled, 10)

    @property
    def average(self) -> float:
        """Return the mean price of what was filled, 0 before."""
        return self.quote_filled / self.filled if self.filled else 0.0


@dataclass
class StopOrder:
    """A conditional ("algo") order: it waits outside the book and places ``order_id`` when it triggers.

    ``by_mark`` tells whether the mark price triggers it, else the last price does.
    """

    id: int
    client_id: str
    symbol: str
    side: OrderSide
    kind: str
    quantity: float
    trigger_price: float
    price: float
    time_in_force: str
    reduce_only: bool
    by_mark: bool
    created_ms: int
    updated_ms: int
    status: str = RESTING
    triggered_ms: int = 0
    order_id: int | None = None

    @property
    def is_resting(self) -> bool:
        """Return whether it can still trigger."""
        return self.status == RESTING

    @property
    def is_market(self) -> bool:
        """Return whether it places a market order."""
        return self.kind.endswith("_MARKET")

    def is_reached(self, price: float) -> bool:
        """Return whether a price triggers it."""
        stops = self.kind.startswith("STOP")
        return price <= self.trigger_price if (self.side == "SELL") == stops else price >= self.trigger_price


class Quote(NamedTuple):
    """The prices of one symbol at one moment."""

    bid: float
    ask: float
    last: float
    mark: float


class Fill(NamedTuple):
    """One execution; ``fee`` and ``realised`` in stake currency, the fee positive where it was paid."""

    id: int
    order_id: int
    symbol: str
    side: OrderSide
    price: float
    quantity: float
    fee: float
    realised: float
    is_maker: bool
    time_ms: int


class Income(NamedTuple):
    """One change of the wallet, in stake currency, under Binance's name of its kind."""

    id: int
    kind: str
    symbol: str
    amount: float
    time_ms: int
    trade_id: int | None = None
