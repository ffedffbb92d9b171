"""A simulated account of USD-M futures: what may be asked of it, and what a test may do behind a bot's back."""

from __future__ import annotations

from typing import Final

from plimsoll.market import order_rules
from plimsoll.market.endpoints import BinanceError
from plimsoll.market.matching import Matching
from plimsoll.market.orders import Order, OrderSide, StopOrder

# Freqtrade logs it and goes on without a stop; a refusal for good would make it close the position.
OVERLOADED: Final = BinanceError(
    -1008, "Server is currently overloaded with other requests. Please try again in a few minutes.", 503
)
_STOP_KINDS = ("STOP_MARKET", "STOP", "TAKE_PROFIT_MARKET", "TAKE_PROFIT")


class SimulatedAccount(Matching):
    """Keep one account on the prices of a source: what is ordered, filled, paid, stopped and liquidated.

    It has no clock or thread: it looks at the prices whenever `advance` or any other method is called, and
    sees nothing of what lay between two looks. One-way mode, isolated margin, one stake currency. Market
    orders and triggered stops fill whole at the best price of the book that is shown, limit orders whole at
    their own price once the last price reaches it; no order moves a price. Fees come from the free balance,
    funding from the position's margin, a position loses no more than its margin.

    Parameters
    ----------
    pairs : the markets, as of the exchange; spot markets are left out
    source : where prices and funding come from, the same as the exchange's
    now : the clock in milliseconds since the epoch, the same as the exchange's; default the system's
    wallet_balance : what it starts with, stake currency
    maker_fee_ratio, taker_fee_ratio : fees as a ratio of the notional, default those of Binance's lowest tier

    Attributes
    ----------
    asset : the stake currency
    wallet_balance : stake currency, margins of positions included, open profit left out
    positions : what each symbol (``BTCUSDT``) has, also while nothing is open
    tiers : each symbol's maintenance tiers; may be replaced
    orders, stop_orders, fills, incomes : all there ever were
    stop_refusal : what every new stop order is refused with, None while they are accepted

    """

    # -- ORDERS ----------------------------------------------------------------------------------------------

    def place(
        self,
        symbol: str,
        side: OrderSide,
        kind: str,
        quantity: float,
        *,
        price: float = 0.0,
        time_in_force: str = "GTC",
        reduce_only: bool = False,
        client_id: str = "",
    ) -> Order:
        """Place a ``MARKET`` or ``LIMIT`` order; what can be filled is filled at once.

        ``quantity`` in base currency; a reducing order larger than the position becomes as large as it.
        `BinanceError` for what Binance would refuse.
        """
        with self.lock:
            self.advance()
            return self._submit(symbol, side, kind, quantity, price, time_in_force, reduce_only, client_id)

    def place_stop(
        self,
        symbol: str,
        side: OrderSide,
        kind: str,
        quantity: float,
        trigger_price: float,
        *,
        price: float = 0.0,
        time_in_force: str = "GTC",
        reduce_only: bool = False,
        by_mark: bool = False,
        client_id: str = "",
    ) -> StopOrder:
        """Place a ``STOP_MARKET``, ``STOP``, ``TAKE_PROFIT_MARKET`` or ``TAKE_PROFIT`` order.

        ``price`` is the limit of those without ``_MARKET``. Whether there is a position or margin is looked
        at when it triggers. `BinanceError` for what Binance would refuse.
        """
        with self.lock:
            self.advance()
            each, quote = self.instrument_of(symbol), self._priced(symbol)
            if self.stop_refusal is not None:
                raise self.stop_refusal
            if kind not in _STOP_KINDS:
                raise BinanceError(-1116, "Invalid orderType.")
            order_rules.check_quantity(each, quantity, market=kind.endswith("_MARKET"))
            order_rules.check_price(each, trigger_price)
            if not kind.endswith("_MARKET"):
                order_rules.check_price(each, price)
            if len(self._resting_stops(symbol)) >= order_rules.MAX_STOPS:
                raise BinanceError(-4045, "Reach max stop order limit.")
            number, now_ms = self._next_id(), self.now()
            stop = StopOrder(
                number,
                client_id or f"plimsoll_{number}",
                symbol,
                side,
                kind,
                quantity,
                trigger_price,
                price,
                time_in_force,
                reduce_only,
                by_mark,
                now_ms,
                now_ms,
            )
            if stop.is_reached(quote.mark if by_mark else quote.last):
                raise BinanceError(-2021, "Order would immediately trigger.")
            self.stop_orders[number] = stop
            return stop

    def cancel(self, order: Order | StopOrder) -> None:
        """Cancel a resting order; `BinanceError` for one that is no longer there."""
        with self.lock:
            self.advance()
            if not order.is_resting:
                raise BinanceError(-2011, "Unknown order sent.")
            order.status, order.updated_ms = "CANCELED", self.now()

    def set_leverage(self, symbol: str, leverage: int) -> None:
        """Change a symbol's leverage; `BinanceError` for what Binance would refuse."""
        with self.lock:
            self.instrument_of(symbol)
            position = self.positions[symbol]
            order_rules.check_leverage(position, leverage, self.tiers[symbol])
            position.set_leverage(leverage)

    def set_isolated(self, symbol: str) -> None:
        """Change a symbol to isolated margin; `BinanceError` where it is so already."""
        with self.lock:
            self.instrument_of(symbol)
            if self.positions[symbol].isolated:
                raise BinanceError(-4046, "No need to change margin type.")
            self.positions[symbol].isolated = True

    def advance(self) -> None:
        """Look at the prices of now: pay funding, fill orders, trigger stops and liquidate.

        Where a price jumped over several of them, resting limit orders come first, then stops and
        liquidation in the order in which they lie on the way. A stop that would cost more than the position's
        margin comes too late: the exchange takes the position over. A symbol without a price is left alone.
        """
        with self.lock:
            now_ms = self.now()
            for symbol in self._involved():
                self._pay_funding(symbol, now_ms)
                quote = self.quote(symbol)
                if quote is None:
                    continue
                self._fill_reached(symbol, quote)
                self._trigger_reached(symbol, quote)
                if self.positions[symbol].is_liquidated(quote.mark, self.tiers[symbol]):
                    self._liquidate(symbol, quote)
            self._seen_ms = now_ms

    def _resting_stops(self, symbol: str) -> list[StopOrder]:
        return [each for each in self.stop_orders.values() if each.is_resting and each.symbol == symbol]

    # -- BEHIND THE BOT'S BACK -------------------------------------------------------------------------------

    def deposit(self, amount: float) -> None:
        """Add to the wallet, stake currency."""
        if amount <= 0.0:
            raise ValueError(f"`amount` must be above 0, was {amount}")
        with self.lock:
            self._book("TRANSFER", "", amount, self.now())

    def withdraw(self, amount: float) -> None:
        """Take from the wallet, stake currency; no more than is available."""
        with self.lock:
            available = self.available_balance()
            if not 0.0 < amount <= available:
                raise ValueError(f"`amount` must be above 0 and at most {available}, was {amount}")
            self._book("TRANSFER", "", -amount, self.now())

    def open_foreign_position(self, symbol: str, amount: float, *, leverage: int = 5) -> Order:
        """Open or change a position as a person at the exchange's web page would: at the market.

        ``amount`` in base currency, negative for a short.
        """
        with self.lock:
            self.instrument_of(symbol)
            self.positions[symbol].isolated = True
            if not self.positions[symbol].is_open:
                self.set_leverage(symbol, leverage)
            side: OrderSide = "BUY" if amount > 0 else "SELL"
            return self.place(symbol, side, "MARKET", abs(amount), client_id=self._web_id())

    def close_position(self, symbol: str, quantity: float | None = None) -> Order:
        """Close a position, or ``quantity`` of it in base currency, at the market; stops stay where they are."""
        with self.lock:
            self.advance()
            amount = self.positions[symbol].amount
            side: OrderSide = "SELL" if amount > 0 else "BUY"
            closed = abs(amount) if quantity is None else quantity
            return self.place(symbol, side, "MARKET", closed, reduce_only=True, client_id=self._web_id())

    def fill_partly(self, order: Order, quantity: float) -> None:
        """Fill a part of a resting limit order at its own price, ``quantity`` in base currency."""
        with self.lock:
            self.advance()
            if not order.is_resting or not 0.0 < quantity < order.remaining:
                raise ValueError(f"`quantity` must be above 0 and under {order.remaining}, was {quantity}")
            self._fill(order, quantity, order.price, self.maker_fee_ratio, maker=True)

    def drop_stops(self, symbol: str, *, forget: bool = False) -> list[StopOrder]:
        """Cancel a symbol's resting stop orders and return them; ``forget`` them, and they were never there."""
        with self.lock:
            self.advance()
            dropped = self._resting_stops(symbol)
            for stop in dropped:
                stop.status, stop.updated_ms = "CANCELED", self.now()
                if forget:
                    del self.stop_orders[stop.id]
            return dropped

    def refuse_stops(self, refusal: BinanceError | None = OVERLOADED) -> None:
        """Refuse every new stop order from now on, with None accept them again.

        Freqtrade logs the default refusal and goes on without a stop; after a refusal for good, such as -2021
        or -4045, it closes the position.
        """
        with self.lock:
            self.stop_refusal = refusal

    def _web_id(self) -> str:
        return f"web_{self._next_id()}"
