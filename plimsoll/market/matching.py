"""The matching engine of the simulated account: wallet, fills, funding, triggers and liquidation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from plimsoll.market import order_rules
from plimsoll.market.endpoints import BinanceError, best_prices
from plimsoll.market.history import CandleSource, Window
from plimsoll.market.instruments import Instrument, instrument
from plimsoll.market.orders import Fill, Income, Order, OrderSide, Quote, StopOrder
from plimsoll.market.positions import NOTHING, Position, Tiers, leverage_tiers

_LIQUIDATION_FEE_RATIO = 0.0125  # liquidationFee of exchangeInfo


class Matching:
    """Hold the state of an account and change it by the prices of a source; `SimulatedAccount` is its door.

    The caller holds ``lock``, because the exchange serves from a thread of its own.
    """

    def __init__(
        self,
        pairs: Iterable[str | Instrument],
        source: CandleSource,
        now: Callable[[], int] | None = None,
        *,
        wallet_balance: float = 10_000.0,
        maker_fee_ratio: float = 0.0002,
        taker_fee_ratio: float = 0.0005,
    ) -> None:
        every = [instrument(each) if isinstance(each, str) else each for each in pairs]
        self.instruments = {each.symbol: each for each in every if each.is_futures}
        assets = {each.quote for each in self.instruments.values()}
        if len(assets) != 1:
            raise ValueError(f"`pairs` must be futures of one stake currency, had {sorted(assets)}")
        self.asset = assets.pop()
        self.source = source
        self.now: Callable[[], int] = _system_clock if now is None else now
        self.wallet_balance = wallet_balance
        self.maker_fee_ratio = maker_fee_ratio
        self.taker_fee_ratio = taker_fee_ratio
        self.positions = {symbol: Position() for symbol in self.instruments}
        self.tiers: dict[str, Tiers] = {s: leverage_tiers(each.pair) for s, each in self.instruments.items()}
        self.orders: dict[int, Order] = {}
        self.stop_orders: dict[int, StopOrder] = {}
        self.fills: list[Fill] = []
        self.incomes: list[Income] = []
        self.stop_refusal: BinanceError | None = None
        self.lock = threading.RLock()
        self._last_id = 1_000_000
        self._seen_ms: int | None = None

    # -- READING ---------------------------------------------------------------------------------------------

    def instrument_of(self, symbol: str) -> Instrument:
        """Return the rules of a symbol, or refuse one that is not traded."""
        if symbol not in self.instruments:
            raise BinanceError(-1121, "Invalid symbol.")
        return self.instruments[symbol]

    def quote(self, symbol: str) -> Quote | None:
        """Return the prices of this moment, None where none is known."""
        each, now_ms = self.instrument_of(symbol), self.now()
        last = self.source.last_price(each.pair, now_ms=now_ms)
        mark = self.source.mark_price(each.pair, now_ms=now_ms)
        if last is None or mark is None:
            return None
        return Quote(*best_prices(each, last), last, mark)

    def open_profit(self) -> float:
        """Return the open profit of all positions at their mark prices, stake currency."""
        total = 0.0
        for symbol, position in self.positions.items():
            if position.is_open and (quote := self.quote(symbol)) is not None:
                total += position.profit(quote.mark)
        return total

    def cross_balance(self) -> float:
        """Return the wallet without the margins of positions, stake currency."""
        return self.wallet_balance - sum(each.isolated_wallet for each in self.positions.values())

    def available_balance(self) -> float:
        """Return what new positions can use: the cross balance without what resting orders hold back."""
        reserved = sum(each.reserved for each in self.orders.values() if each.is_resting)
        return max(0.0, self.cross_balance() - reserved)

    # -- ORDERS ----------------------------------------------------------------------------------------------

    def _submit(
        self,
        symbol: str,
        side: OrderSide,
        kind: str,
        quantity: float,
        price: float,
        time_in_force: str,
        reduce_only: bool,
        client_id: str,
    ) -> Order:
        each, position, quote = self.instrument_of(symbol), self.positions[symbol], self._priced(symbol)
        if kind not in ("MARKET", "LIMIT"):
            raise BinanceError(-1116, "Invalid orderType.")
        order_rules.check_quantity(each, quantity, market=kind == "MARKET")
        if kind == "LIMIT":
            order_rules.check_price(each, price)
            order_rules.check_limit_price(side, price, quote.mark)
        sign = 1.0 if side == "BUY" else -1.0
        closes = min(quantity, abs(position.amount)) if position.amount * sign < 0 else 0.0
        if reduce_only:
            if closes <= NOTHING:
                raise BinanceError(-2022, "ReduceOnly Order is rejected.")
            quantity = closes
        best = quote.ask if side == "BUY" else quote.bid
        takes = kind == "MARKET" or (best <= price if side == "BUY" else best >= price)
        added, worth = quantity - closes, best if takes else price
        if not reduce_only:
            order_rules.check_notional(each, quantity * worth)
        if added > NOTHING:
            order_rules.check_opening(
                position,
                added=added,
                price=worth,
                mark=quote.mark,
                available=self.available_balance(),
                tiers=self.tiers[symbol],
            )
        if takes and time_in_force == "GTX":
            words = "Due to the order could not be executed as maker, the Post Only order will be rejected."
            raise BinanceError(-5022, words)
        order = self._record(symbol, side, kind, quantity, price, time_in_force, reduce_only, client_id)
        order.reserved = added * worth / position.leverage if added > NOTHING else 0.0
        if takes:
            self._fill(order, order.quantity, best, self.taker_fee_ratio)
        elif time_in_force in ("IOC", "FOK"):
            order.status = "EXPIRED"
        return order

    def _record(
        self,
        symbol: str,
        side: OrderSide,
        kind: str,
        quantity: float,
        price: float,
        time_in_force: str,
        reduce_only: bool,
        client_id: str,
    ) -> Order:
        number, now_ms = self._next_id(), self.now()
        order = Order(
            number,
            client_id or f"plimsoll_{number}",
            symbol,
            side,
            kind,
            quantity,
            price if kind == "LIMIT" else 0.0,
            time_in_force,
            reduce_only,
            now_ms,
            now_ms,
        )
        self.orders[number] = order
        return order

    def _fill(
        self, order: Order, quantity: float, price: float, fee_ratio: float, *, maker: bool = False
    ) -> None:
        position, now_ms = self.positions[order.symbol], self.now()
        if order.reduce_only:
            opposite = position.amount * (1.0 if order.side == "BUY" else -1.0) < 0
            quantity = min(quantity, abs(position.amount)) if opposite else 0.0
        if quantity > NOTHING:
            realised = position.fill(quantity if order.side == "BUY" else -quantity, price)
            position.updated_ms = now_ms
            fee, number = quantity * price * fee_ratio, self._next_id()
            self.fills.append(
                Fill(
                    number, order.id, order.symbol, order.side, price, quantity, fee, realised, maker, now_ms
                )
            )
            self._book("REALIZED_PNL", order.symbol, realised, now_ms, number)
            self._book("COMMISSION", order.symbol, -fee, now_ms, number)
            order.filled = round(order.filled + quantity, 10)
            order.quote_filled += quantity * price
            order.reserved *= order.remaining / (order.remaining + quantity)
        order.updated_ms = now_ms
        if order.remaining <= NOTHING:
            order.status = "FILLED"
        else:
            order.status = "PARTIALLY_FILLED" if quantity > NOTHING else "EXPIRED"
        for stop in self.stop_orders.values():
            if stop.order_id == order.id and not order.is_resting:
                stop.status, stop.updated_ms = "FINISHED", now_ms

    def _book(self, kind: str, symbol: str, amount: float, time_ms: int, trade_id: int | None = None) -> None:
        if amount:
            self.wallet_balance += amount
            self.incomes.append(Income(self._next_id(), kind, symbol, amount, time_ms, trade_id))

    def _priced(self, symbol: str) -> Quote:
        quote = self.quote(symbol)
        if quote is None:
            raise BinanceError(-1001, f"plimsoll loopback exchange: no price of {symbol} at this time", 503)
        return quote

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # -- TIME ------------------------------------------------------------------------------------------------

    def _involved(self) -> list[str]:
        resting = {each.symbol for each in self.orders.values() if each.is_resting}
        waiting = {each.symbol for each in self.stop_orders.values() if each.is_resting}
        held = {symbol for symbol, position in self.positions.items() if position.is_open}
        return sorted(resting | waiting | held)

    def _pay_funding(self, symbol: str, now_ms: int) -> None:
        position, pair = self.positions[symbol], self.instruments[symbol].pair
        if not position.is_open:
            return
        since_ms = max(now_ms if self._seen_ms is None else self._seen_ms, position.updated_ms)
        for paid in self.source.funding(
            pair, Window(now_ms, start_ms=since_ms + 1, end_ms=now_ms, limit=100)
        ):
            mark = self.source.mark_price(pair, now_ms=paid.time_ms)
            if mark is not None:
                amount = -position.amount * mark * paid.rate
                position.isolated_wallet += amount
                self._book("FUNDING_FEE", symbol, amount, paid.time_ms)

    def _fill_reached(self, symbol: str, quote: Quote) -> None:
        for order in [each for each in self.orders.values() if each.is_resting and each.symbol == symbol]:
            if quote.last <= order.price if order.side == "BUY" else quote.last >= order.price:
                self._fill(order, order.remaining, order.price, self.maker_fee_ratio, maker=True)

    def _trigger_reached(self, symbol: str, quote: Quote) -> None:
        stops = [each for each in self.stop_orders.values() if each.is_resting and each.symbol == symbol]
        # A falling price meets the highest first, a rising one the lowest.
        stops.sort(key=lambda stop: -stop.trigger_price if stop.side == "SELL" else stop.trigger_price)
        for stop in stops:
            if stop.is_resting and stop.is_reached(quote.mark if stop.by_mark else quote.last):
                self._trigger(stop, quote)

    def _trigger(self, stop: StopOrder, quote: Quote) -> None:
        if self._comes_too_late(stop, quote):
            self._liquidate(stop.symbol, quote)
            return
        stop.triggered_ms = stop.updated_ms = self.now()
        kind = "MARKET" if stop.is_market else "LIMIT"
        try:
            order = self._submit(
                stop.symbol,
                stop.side,
                kind,
                stop.quantity,
                stop.price,
                stop.time_in_force,
                stop.reduce_only,
                stop.client_id,
            )
        except BinanceError:
            stop.status = "REJECTED"
            return
        stop.order_id = order.id
        stop.status = "TRIGGERED" if order.is_resting else "FINISHED"

    def _comes_too_late(self, stop: StopOrder, quote: Quote) -> bool:
        position, tiers = self.positions[stop.symbol], self.tiers[stop.symbol]
        if not position.is_open or (position.amount > 0) != (stop.side == "SELL"):
            return False
        if position.isolated_wallet + position.profit(quote.bid if stop.side == "SELL" else quote.ask) < 0:
            return True
        sign = 1.0 if position.amount > 0 else -1.0
        lies_behind = sign * (stop.trigger_price - position.liquidation_price(tiers)) <= 0
        return lies_behind and position.is_liquidated(quote.mark, tiers)

    def _liquidate(self, symbol: str, quote: Quote) -> None:
        position, now_ms = self.positions[symbol], self.now()
        every: list[Order | StopOrder] = [*self.orders.values(), *self.stop_orders.values()]
        for resting in every:
            if resting.symbol == symbol and resting.is_resting:
                resting.status, resting.updated_ms = "CANCELED", now_ms
        quantity, bankruptcy = abs(position.amount), position.bankruptcy_price()
        side: OrderSide = "SELL" if position.amount > 0 else "BUY"
        # The insurance fund pays what the market does not.
        price = max(quote.bid, bankruptcy) if side == "SELL" else min(quote.ask, bankruptcy)
        left = max(0.0, position.isolated_wallet + position.profit(price))
        order = self._record(symbol, side, "LIMIT", quantity, bankruptcy, "IOC", False, f"autoclose-{now_ms}")
        self._fill(order, quantity, price, 0.0)
        self._book("INSURANCE_CLEAR", symbol, -min(left, quantity * price * _LIQUIDATION_FEE_RATIO), now_ms)


def _system_clock() -> int:
    return time.time_ns() // 1_000_000
