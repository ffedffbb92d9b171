"""Stops that should rest on the exchange: one that is missing for a while blocks entries until it is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.enums import RunMode
from freqtrade.persistence import Order, Trade
from host_database import STARTED, close_trade, database

from plimsoll.host.exchange_stops import GRACE, LOOPS, ExchangeStops


@pytest.fixture(autouse=True)
def _database() -> Any:
    with database():
        yield


def stops(on_exchange: bool = True) -> ExchangeStops:
    strategy: Any = SimpleNamespace(order_types={"stoploss_on_exchange": on_exchange})
    return ExchangeStops(strategy)


def position(pair: str = "BTC/USDT:USDT") -> Trade:
    trade = close_trade(STARTED, 0.0, pair=pair)
    trade.is_open = True
    return trade


def order(trade: Trade, side: str, *, is_open: bool = True) -> Order:
    placed = Order(
        ft_order_side=side,
        ft_pair=trade.pair,
        ft_is_open=is_open,
        order_id=f"{side}{len(trade.orders)}",
        ft_amount=trade.amount,
        ft_price=90.0,
    )
    trade.orders.append(placed)
    return placed


def missing(found: ExchangeStops, trades: list[Trade], *times: int) -> dict[str, str]:
    told: dict[str, str] = {}
    for time in times:
        told = found.review(trades, time)
    return told


def test_stop_when_missing_for_as_long_as_it_may_be_then_nothing_is_said_and_after_it_is() -> None:
    found = stops()
    trade = position()
    assert missing(found, [trade], 0, 30, GRACE - 1) == {}
    assert found.review([trade], GRACE) == {
        trade.pair: f"the stop of {trade.pair} has not rested on the exchange since 1970-01-01 00:00 UTC"
    }
    assert found.resting(trade) is False


def test_stop_when_seen_missing_by_few_loops_then_nothing_is_said() -> None:
    found = stops()
    trade = position()
    assert LOOPS == 3
    assert missing(found, [trade], 0, 10_000) == {}
    assert found.review([trade], 10_001) != {}


def test_stop_when_it_rests_again_then_that_is_the_end_of_it() -> None:
    found = stops()
    trade = position()
    missing(found, [trade], 0, 100, 200)
    placed = order(trade, "stoploss")
    assert found.review([trade], 300) == {}
    assert found.resting(trade) is True
    placed.ft_is_open = False
    assert missing(found, [trade], 400, 430, 459) == {}
    assert found.review([trade], 460) != {}


@pytest.mark.parametrize(("side", "excused"), [("sell", True), ("buy", False)])
def test_stop_when_an_order_is_open_then_only_an_exit_excuses_it(side: str, excused: bool) -> None:
    found = stops()
    trade = position()
    order(trade, side)
    assert (missing(found, [trade], 0, 100, 200) == {}) == excused


def test_stop_when_an_exit_was_cancelled_then_the_time_counts_from_there() -> None:
    found = stops()
    trade = position()
    exiting = order(trade, "sell")
    missing(found, [trade], 0, 100, 200)
    exiting.ft_is_open = False
    assert missing(found, [trade], 300, 330, 359) == {}
    assert found.review([trade], 360) != {}


def test_stop_when_a_short_is_exiting_then_its_buy_excuses_it() -> None:
    found = stops()
    trade = position()
    trade.is_short = True
    order(trade, "buy")
    assert missing(found, [trade], 0, 100, 200) == {}


def test_stop_when_none_is_wanted_then_nothing_is_said() -> None:
    found = stops(on_exchange=False)
    trade = position()
    assert missing(found, [trade], 0, 100, 200) == {}
    assert found.resting(trade) is None


def test_stop_when_the_entry_is_not_filled_then_nothing_is_said() -> None:
    found = stops()
    trade = position()
    trade.amount = 0.0
    assert missing(found, [trade], 0, 100, 200) == {}


def test_stop_when_the_trade_closes_then_it_is_forgotten() -> None:
    found = stops()
    trade = position()
    missing(found, [trade], 0, 100, 200)
    assert found.review([], 300) == {}
    assert missing(found, [trade], 400, 430, 459) == {}


def test_stop_when_several_are_missing_then_each_is_named() -> None:
    found = stops()
    trades = [position(), position("ETH/USDT:USDT"), position("XRP/USDT:USDT")]
    order(trades[1], "stoploss")
    assert missing(found, trades, 0, 100, 200).keys() == {"BTC/USDT:USDT", "XRP/USDT:USDT"}


# -- A stop that rests and does not fill: a limit order that the price jumped over ------------------------------------------


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize(("ratio", "room"), [(None, 0.01), (0.98, 0.02), (1.0, 0.01)])
def test_failed_when_the_price_is_beyond_a_resting_stops_limit_twice_then_it_counts_as_no_stop(
    short: bool, ratio: float | None, room: float
) -> None:
    types = {"stoploss_on_exchange": True} | (
        {} if ratio is None else {"stoploss_on_exchange_limit_ratio": ratio}
    )
    strategy: Any = SimpleNamespace(order_types=types, config={"runmode": RunMode.LIVE})
    found = ExchangeStops(strategy)
    trade = position()
    trade.is_short, trade.stop_loss = short, 100.0
    order(trade, "buy" if not short else "sell", is_open=False).status = "closed"
    trade.orders[-1].filled = trade.amount
    order(trade, "stoploss")
    assert trade.has_open_sl_orders
    assert trade.has_open_position
    sign = 1.0 if short else -1.0
    inside, outside = 100.0 * (1 + sign * (room - 1e-6)), 100.0 * (1 + sign * (room + 1e-6))
    assert [found.failed([trade], lambda pair: inside) for _ in range(3)] == [[], [], []]
    assert [found.failed([trade], lambda pair: outside) for _ in range(2)] == [[], [trade]]
