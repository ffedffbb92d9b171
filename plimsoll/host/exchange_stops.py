"""Check that the stop of each position rests on the exchange where it should: software that is down fills no stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from freqtrade.enums import RunMode
from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

from plimsoll.rules.breaker import utc

GRACE = (
    60  # seconds: Freqtrade sets the stop in the loop after the fill, and replaces it where it has to move
)
LOOPS = 3
PASSED_LOOPS = 2
LIMIT_RATIO = 0.99  # Freqtrade's own: a stop that is a limit order asks for no less than this of its price


class ExchangeStops:
    """Follow which positions lack a stop on the exchange; one that is missing for a while blocks entries until it is there."""

    def __init__(self, strategy: IStrategy) -> None:
        self._strategy = strategy
        self._missing: dict[int, tuple[int, int]] = {}  # trade -> since, loops
        self._passed: dict[int, int] = {}  # trade -> loops

    @property
    def wanted(self) -> bool:
        return bool(self._strategy.order_types.get("stoploss_on_exchange"))

    @property
    def _limit_ratio(self) -> float:
        stated = self._strategy.order_types.get("stoploss_on_exchange_limit_ratio", LIMIT_RATIO)
        return min(float(stated), LIMIT_RATIO)

    def resting(self, trade: LocalTrade) -> bool | None:
        """Tell whether a trade's stop rests on the exchange; None where none is wanted."""
        return bool(trade.has_open_sl_orders) if self.wanted else None

    def review(self, trades: Iterable[LocalTrade], now: int) -> dict[str, str]:
        """Return pair and reason of each position whose stop has been missing for too long."""
        if not self.wanted:
            return {}
        seen: dict[int, tuple[int, int]] = {}
        found = {}
        for trade in trades:
            # An exit under way has taken its stop off, and brings it back when it is cancelled.
            exiting = any(order.ft_order_side == trade.exit_side for order in trade.open_orders)
            if not trade.has_open_position or trade.has_open_sl_orders or exiting:
                continue
            since, loops = self._missing.get(trade.id, (now, 0))
            seen[trade.id] = (since, loops + 1)
            if loops + 1 >= LOOPS and now - since >= GRACE:
                found[trade.pair] = (
                    f"the stop of {trade.pair} has not rested on the exchange since {utc(since)}"
                )
        self._missing = seen
        return found

    def failed(self, trades: Iterable[LocalTrade], rate: Callable[[str], float | None]) -> list[LocalTrade]:
        """Return the positions whose price has passed a stop that does not rest on the exchange, in two loops in a row.

        A stop that rests all the same when the price is beyond the limit of its order has not filled: it counts as none. A live
        Freqtrade with stops on exchange watches no stop itself, and where the exchange refuses one it only tries again.
        """
        if not self.wanted or self._strategy.config.get("runmode") != RunMode.LIVE:
            return []
        passed: dict[int, int] = {}
        found = []
        for trade in trades:
            last = rate(trade.pair)
            if last is None or not trade.stop_loss or not trade.has_open_position:
                continue
            room = 1.0 - self._limit_ratio if trade.has_open_sl_orders else 0.0
            line = trade.stop_loss * (1.0 + room if trade.is_short else 1.0 - room)
            if (last >= line) if trade.is_short else (last <= line):
                passed[trade.id] = self._passed.get(trade.id, 0) + 1
                if passed[trade.id] >= PASSED_LOOPS:
                    found.append(trade)
        self._passed = passed
        return found
