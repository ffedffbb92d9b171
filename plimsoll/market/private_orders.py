"""What Binance's endpoints for orders, stop orders and fills answer, from a simulated account."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from plimsoll.market import reports
from plimsoll.market.account import SimulatedAccount
from plimsoll.market.endpoints import Answer, BinanceError, integer, limit_of, required
from plimsoll.market.orders import Order, OrderSide, StopOrder

_Row = TypeVar("_Row")
_Resting = TypeVar("_Resting", Order, StopOrder)


class OrderEndpoints:
    """Answer for one account: parameters in, Binance's bodies out."""

    def __init__(self, account: SimulatedAccount) -> None:
        self._account = account

    def by_route(self) -> dict[str, Answer]:
        """Return what answers each method and path."""
        return {
            "POST /fapi/v1/order": self._place,
            "GET /fapi/v1/order": lambda query: self._order(query, -2013, "Order does not exist."),
            "DELETE /fapi/v1/order": self._cancel,
            "DELETE /fapi/v1/allOpenOrders": self._cancel_all,
            "GET /fapi/v1/openOrder": self._open_order,
            "GET /fapi/v1/openOrders": self._open_orders,
            "GET /fapi/v1/allOrders": self._all_orders,
            "GET /fapi/v1/forceOrders": self._liquidations,
            "POST /fapi/v1/algoOrder": self._place_stop,
            "GET /fapi/v1/algoOrder": self._stop,
            "DELETE /fapi/v1/algoOrder": self._cancel_stop,
            "DELETE /fapi/v1/algoOpenOrders": self._cancel_all_stops,
            "GET /fapi/v1/openAlgoOrders": self._open_stops,
            "GET /fapi/v1/allAlgoOrders": self._all_stops,
            "GET /fapi/v1/userTrades": self._fills,
        }

    # -- ORDERS ----------------------------------------------------------------------------------------------

    def _place(self, query: Mapping[str, str]) -> dict[str, Any]:
        kind = required(query, "type")
        if kind not in ("MARKET", "LIMIT"):
            # -4120 since conditional orders moved to the algo endpoints
            words = (
                "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
            )
            raise BinanceError(-4120, words)
        order = self._account.place(
            required(query, "symbol"),
            _side(query),
            kind,
            _number(query, "quantity"),
            price=_number(query, "price") if kind == "LIMIT" else 0.0,
            time_in_force=query.get("timeInForce", "GTC"),
            reduce_only=query.get("reduceOnly", "false").lower() == "true",
            client_id=query.get("newClientOrderId", ""),
        )
        return reports.order(self._account, order)

    def _order(self, query: Mapping[str, str], code: int, words: str) -> dict[str, Any]:
        return reports.order(self._account, self._found(query, code, words))

    def _found(self, query: Mapping[str, str], code: int, words: str) -> Order:
        symbol, number = required(query, "symbol"), integer(query, "orderId")
        client_id = query.get("origClientOrderId")
        for order in self._account.orders.values():
            if order.symbol == symbol and (order.id == number or order.client_id == client_id):
                return order
        raise BinanceError(code, words)

    def _cancel(self, query: Mapping[str, str]) -> dict[str, Any]:
        order = self._found(query, -2011, "Unknown order sent.")
        self._account.cancel(order)
        return reports.order(self._account, order)

    def _cancel_all(self, query: Mapping[str, str]) -> dict[str, Any]:
        for order in self._resting(query, self._account.orders.values()):
            self._account.cancel(order)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _open_order(self, query: Mapping[str, str]) -> dict[str, Any]:
        order = self._found(query, -2013, "Order does not exist.")
        if not order.is_resting:
            raise BinanceError(-2013, "Order does not exist.")
        return reports.order(self._account, order)

    def _open_orders(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return [
            reports.order(self._account, each) for each in self._resting(query, self._account.orders.values())
        ]

    def _all_orders(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        symbol, first = required(query, "symbol"), integer(query, "orderId") or 0
        found = [each for each in self._account.orders.values() if each.symbol == symbol and each.id >= first]
        rows = within(query, found, lambda each: each.created_ms, 500, 1000)
        return [reports.order(self._account, each) for each in rows]

    def _liquidations(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        found = [each for each in self._account.orders.values() if each.client_id.startswith("autoclose-")]
        found = [each for each in found if query.get("symbol", each.symbol) == each.symbol]
        rows = within(query, found, lambda each: each.created_ms, 50, 100)
        return [reports.order(self._account, each) for each in rows]

    def _resting(self, query: Mapping[str, str], every: Iterable[_Resting]) -> list[_Resting]:
        symbols = _symbols(self._account, query)
        return [each for each in every if each.is_resting and each.symbol in symbols]

    # -- STOP ORDERS -----------------------------------------------------------------------------------------

    def _place_stop(self, query: Mapping[str, str]) -> dict[str, Any]:
        if required(query, "algoType") != "CONDITIONAL":
            raise BinanceError(-1116, "Invalid orderType.")
        kind = required(query, "type")
        stop = self._account.place_stop(
            required(query, "symbol"),
            _side(query),
            kind,
            _number(query, "quantity"),
            _number(query, "triggerPrice"),
            price=0.0 if kind.endswith("_MARKET") else _number(query, "price"),
            time_in_force=query.get("timeInForce", "GTC"),
            reduce_only=query.get("reduceOnly", "false").lower() == "true",
            by_mark=query.get("workingType") == "MARK_PRICE",
            client_id=query.get("clientAlgoId", ""),
        )
        return reports.stop_order(self._account, stop)

    def _stop(self, query: Mapping[str, str]) -> dict[str, Any]:
        return reports.stop_order(self._account, self._found_stop(query, -2013, "Order does not exist."))

    def _found_stop(self, query: Mapping[str, str], code: int, words: str) -> StopOrder:
        number, client_id = integer(query, "algoId"), query.get("clientAlgoId")
        for stop in self._account.stop_orders.values():
            if stop.id == number or stop.client_id == client_id:
                return stop
        raise BinanceError(code, words)

    def _cancel_stop(self, query: Mapping[str, str]) -> dict[str, Any]:
        stop = self._found_stop(query, -2011, "Unknown order sent.")
        self._account.cancel(stop)
        return {"algoId": stop.id, "clientAlgoId": stop.client_id, "code": "200", "msg": "success"}

    def _cancel_all_stops(self, query: Mapping[str, str]) -> dict[str, Any]:
        for stop in self._resting(query, self._account.stop_orders.values()):
            self._account.cancel(stop)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def _open_stops(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        resting = self._resting(query, self._account.stop_orders.values())
        return [reports.stop_order(self._account, each) for each in resting]

    def _all_stops(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        symbol = required(query, "symbol")
        found = [each for each in self._account.stop_orders.values() if each.symbol == symbol]
        rows = within(query, found, lambda each: each.created_ms, 500, 1000)
        return [reports.stop_order(self._account, each) for each in rows]

    def _fills(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        symbol, order_id = required(query, "symbol"), integer(query, "orderId")
        first = integer(query, "fromId") or 0
        found = [
            each
            for each in self._account.fills
            if each.symbol == symbol and each.id >= first and order_id in (None, each.order_id)
        ]
        rows = within(query, found, lambda each: each.time_ms, 500, 1000)
        return [reports.fill(self._account, each) for each in rows]


def within(
    query: Mapping[str, str], rows: list[_Row], time_of: Callable[[_Row], int], default: int, maximum: int
) -> list[_Row]:
    """Return the rows between ``startTime`` and ``endTime``: the first ones from a start, else the latest."""
    start_ms, end_ms = integer(query, "startTime"), integer(query, "endTime")
    limit = limit_of(query, default, maximum)
    found = [
        each
        for each in rows
        if (start_ms is None or time_of(each) >= start_ms) and (end_ms is None or time_of(each) <= end_ms)
    ]
    return (
        found[:limit] if start_ms is not None or "orderId" in query or "fromId" in query else found[-limit:]
    )


def _side(query: Mapping[str, str]) -> OrderSide:
    side = required(query, "side")
    if side == "BUY":
        return "BUY"
    if side == "SELL":
        return "SELL"
    raise BinanceError(-1117, "Invalid side.")


def _number(query: Mapping[str, str], name: str) -> float:
    try:
        return float(required(query, name))
    except ValueError:
        raise BinanceError(-1100, f"Illegal characters found in parameter '{name}'.") from None


def _symbols(account: SimulatedAccount, query: Mapping[str, str]) -> list[str]:
    return [account.instrument_of(query["symbol"]).symbol] if "symbol" in query else list(account.instruments)
