"""The simulated account: stop orders, liquidation, and which of them comes first."""

from __future__ import annotations

import pytest
from simulated_world import BTC, HOUR, START, TIERS, World, opened_with_stop, refused

from plimsoll.market.history import Funding


@pytest.fixture
def world() -> World:
    return World()


# -- STOPS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "trigger", "short_of", "beyond", "filled_at"), [
    ("BUY", 950.0, 950.1, 940.05, 940.0),
    ("SELL", 1_050.0, 1_049.9, 1_060.0, 1_060.1),
])  # fmt: skip
def test_stop_when_price_crosses_it_then_fills_at_the_price_of_then(
    world, side, trigger, short_of, beyond, filled_at
):
    stop = opened_with_stop(world, side, trigger)
    world.move(short_of)
    assert (stop.status, world.btc.is_open) == ("NEW", True)
    world.move(beyond)

    assert (stop.status, world.btc.is_open) == ("FINISHED", False)
    assert stop.triggered_ms == world.now
    assert world.account.orders[stop.order_id].average == pytest.approx(filled_at)


@pytest.mark.parametrize("by_mark", [True, False])
def test_stop_when_last_and_mark_differ_then_goes_by_the_price_it_was_given(world, by_mark):
    world.prices.mark["BTC/USDT:USDT"] = 1_000.0
    stop = opened_with_stop(world, "BUY", 950.0, by_mark=by_mark)
    world.move(940.0)
    assert stop.status == ("NEW" if by_mark else "FINISHED")
    world.prices.mark["BTC/USDT:USDT"] = 950.0
    world.move(960.0)

    assert stop.status == "FINISHED"


def test_take_profit_when_price_rises_to_it_then_closes(world):
    world.account.place(BTC, "BUY", "MARKET", 2.0)
    order = world.account.place_stop(BTC, "SELL", "TAKE_PROFIT_MARKET", 2.0, 1_100.0, reduce_only=True)
    world.move(1_099.9)
    assert order.status == "NEW"
    world.move(1_100.0)

    assert (order.status, world.btc.is_open) == ("FINISHED", False)


def test_stop_limit_when_it_triggers_then_its_order_rests_until_reached(world):
    world.account.place(BTC, "BUY", "MARKET", 2.0)
    stop = world.account.place_stop(BTC, "SELL", "STOP", 2.0, 950.0, price=945.0, reduce_only=True)
    world.move(940.0)
    assert (stop.status, world.btc.is_open) == ("TRIGGERED", True)
    world.move(945.0)

    assert (stop.status, world.btc.is_open) == ("FINISHED", False)


@pytest.mark.parametrize(("side", "at_once", "waits"), [("SELL", 1_000.0, 999.9), ("BUY", 1_000.0, 1_000.1)])
def test_stop_when_it_would_trigger_at_once_then_is_refused(world, side, at_once, waits):
    with refused(-2021):
        world.account.place_stop(BTC, side, "STOP_MARKET", 1.0, at_once)

    assert world.account.place_stop(BTC, side, "STOP_MARKET", 1.0, waits).status == "NEW"


def test_stop_by_mark_when_only_the_last_price_is_beyond_it_then_is_accepted(world):
    world.prices.mark["BTC/USDT:USDT"] = 1_000.0
    world.move(900.0)

    assert world.account.place_stop(BTC, "SELL", "STOP_MARKET", 1.0, 950.0, by_mark=True).status == "NEW"
    with refused(-2021):
        world.account.place_stop(BTC, "SELL", "STOP_MARKET", 1.0, 950.0)


def test_stop_when_it_triggers_without_a_position_then_is_rejected(world):
    stop = opened_with_stop(world, "BUY", 950.0)
    world.account.close_position(BTC)
    world.move(940.0)

    assert (stop.status, stop.order_id, world.btc.is_open) == ("REJECTED", None, False)


def test_stops_when_ten_rest_then_another_is_refused(world):
    for step in range(10):
        world.account.place_stop(BTC, "SELL", "STOP_MARKET", 1.0, 950.0 - step)
    with refused(-4045):
        world.account.place_stop(BTC, "SELL", "STOP_MARKET", 1.0, 900.0)

    resting = [stop for stop in world.account.stop_orders.values() if stop.is_resting]
    assert [stop.trigger_price for stop in resting] == [950.0 - step for step in range(10)]


# -- LIQUIDATION -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "price"), [
    # margin 1/5 of entry, mmr 1 %: entry * (1 - 0.2) / 0.99, entry * (1 + 0.2) / 1.01
    ("BUY", 1_000.1 * 0.8 / 0.99),
    ("SELL", 1_000.0 * 1.2 / 1.01),
])  # fmt: skip
def test_liquidation_when_mark_reaches_its_price_then_the_margin_is_gone_and_the_rest_stays(
    world, side, price
):
    world.account.place(BTC, side, "MARKET", 2.0)
    fees = 10_000 - world.account.wallet_balance
    margin, sign = world.btc.isolated_wallet, 1 if side == "BUY" else -1
    assert world.btc.liquidation_price(TIERS) == pytest.approx(price)

    world.move(price + sign * 0.01)
    assert world.btc.is_open
    world.move(price - sign * 0.01)
    assert not world.btc.is_open
    assert world.account.wallet_balance == pytest.approx(10_000 - fees - margin)
    order = list(world.account.orders.values())[-1]
    assert order.client_id.startswith("autoclose-")
    assert order.filled == 2.0


def test_liquidation_when_notional_lies_in_the_second_tier_then_goes_by_that_tier(world):
    world.account.place(BTC, "BUY", "MARKET", 20.0)

    # entry 1000.1: (margin + cum - amount * entry) / (amount * mmr - amount)
    entry = 20 * 1_000.1
    price = (entry / 5 + 100.0 - entry) / (20.0 * 0.02 - 20.0)
    assert world.btc.liquidation_price(TIERS) == pytest.approx(price)
    world.move(price + 0.01)
    assert world.btc.is_open
    world.move(price - 0.01)
    assert not world.btc.is_open


def test_liquidation_when_last_price_alone_crosses_then_does_not_happen(world):
    world.prices.mark["BTC/USDT:USDT"] = 1_000.0
    world.account.place(BTC, "BUY", "MARKET", 2.0)
    world.move(700.0)

    assert world.btc.is_open


@pytest.mark.parametrize(("side", "trigger", "gap_to"), [("BUY", 950.0, 700.0), ("SELL", 1_050.0, 1_400.0)])
def test_liquidation_when_price_jumps_past_stop_and_margin_then_comes_before_the_stop(
    world, side, trigger, gap_to
):
    stop = opened_with_stop(world, side, trigger)
    margin, fees = world.btc.isolated_wallet, 10_000 - world.account.wallet_balance
    world.move(gap_to)

    assert (stop.status, world.btc.is_open) == ("CANCELED", False)
    assert world.account.wallet_balance == pytest.approx(10_000 - fees - margin)


def test_stop_when_price_jumps_past_it_and_liquidation_but_not_the_margin_then_is_filled(world):
    stop = opened_with_stop(world, "BUY", 950.0)
    world.move(802.0)  # liquidated at 808.16, bankrupt at 800.08

    assert stop.status == "FINISHED"
    assert world.account.wallet_balance > 10_000 - 2_000.2 / 5


def test_stop_when_it_lies_behind_liquidation_then_comes_too_late(world):
    stop = opened_with_stop(world, "BUY", 805.0)
    world.move(804.0)

    assert (stop.status, world.btc.is_open) == ("CANCELED", False)


def test_liquidation_when_funding_has_eaten_margin_then_comes_nearer(world):
    world.account.place(BTC, "BUY", "MARKET", 2.0)
    before = world.btc.liquidation_price(TIERS)
    world.prices.payments = [Funding(START + HOUR, 0.05)]
    world.now = START + 2 * HOUR
    world.account.advance()

    assert world.btc.liquidation_price(TIERS) == pytest.approx(before + 1_000.0 * 0.05 / 0.99)
