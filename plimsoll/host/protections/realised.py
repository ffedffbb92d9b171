"""What trades realised, exit by exit, in the order in which it became known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from freqtrade.persistence import LocalTrade, Trade

from plimsoll.host import internals
from plimsoll.host.account import ClosedTrades
from plimsoll.host.boundary import Complaints
from plimsoll.host.runlog import END_OF_TIME, closed_trade
from plimsoll.rules.breaker import ClosedTrade


@dataclass(frozen=True, slots=True)
class Realised:
    """Hold one exit: when, its profit in stake currency (None: unknown), and the closed trade where it closed
    one.
    """

    time: int
    profit: float | None
    closed: ClosedTrade | None = None


def exits(trade: LocalTrade) -> list[Realised]:
    """Return a trade's exits in order; their profits add up to what Freqtrade says the trade realised."""
    orders = [order for order in trade.orders if order.filled and not order.ft_is_open]
    legs: list[tuple[int, float]] = []
    if sum(order.ft_order_side == trade.exit_side for order in orders) > (0 if trade.is_open else 1):
        legs = _leg_profits(trade, orders)
    total = trade.realized_profit if trade.is_open else trade.close_profit_abs
    before = math.fsum(profit for _, profit in legs[:-1])
    last = None if total is None or not math.isfinite(total) else total - before
    found = [Realised(at, profit) for at, profit in legs[:-1]]
    if not trade.is_open:
        closed = closed_trade(trade)
        found.append(Realised(closed.time, last, closed))
    elif legs:
        found.append(Realised(legs[-1][0], last))
    return found


def _leg_profits(trade: LocalTrade, orders: list[Any]) -> list[tuple[int, float]]:
    # As `Trade.recalc_trade_from_orders` does, which keeps the sum only.
    legs, amount, cost, funding = [], 0.0, 0.0, 0.0
    sign = -1.0 if trade.is_short else 1.0
    fee_open, fee_close = trade.fee_open or 0.0, trade.fee_close or 0.0
    for order in orders:
        size = order.safe_amount_after_fee
        value = size * order.safe_price
        funding += order.funding_fee or 0.0
        if order.ft_order_side == trade.entry_side:
            amount, cost = amount + size, cost + value
            continue
        opened = size * cost / amount if amount else value
        profit = sign * (value - opened) - value * fee_close - opened * fee_open + funding
        legs.append((int(order.order_filled_utc.timestamp()), profit))
        amount, cost, funding = amount - size, cost - opened, 0.0
    return legs


class Exits:
    """Follow the exits of all trades, each seen once; of open trades those that were partial."""

    def __init__(self) -> None:
        self.token = internals.run_token()
        self._closed = ClosedTrades()
        self._taken: dict[int, int] = {}
        self._complaints = Complaints()

    def new(self, now: int) -> list[Realised]:
        """Return what was realised since the last call; a trade that cannot be read has an unknown profit."""
        found: list[Realised] = []
        for trade in self._closed.new(END_OF_TIME):
            found += self._read(trade, self._taken.pop(trade.id, 0), now)
        for trade in Trade.get_trades_proxy(is_open=True):
            if trade.realized_profit:
                taken = self._taken.get(trade.id, 0)
                partial = self._read(trade, taken, now)
                self._taken[trade.id] = taken + sum(each.closed is None for each in partial)
                found += partial
        return found

    def _read(self, trade: LocalTrade, taken: int, now: int) -> list[Realised]:
        try:
            return exits(trade)[taken:]
        except Exception as error:
            pair = str(getattr(trade, "pair", "?"))
            self._complaints.about(f"{pair} {trade.id}", f"the trade cannot be read: {error!r}", error)
            return [Realised(now, None, ClosedTrade(now, pair, None))]
