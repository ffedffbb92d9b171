"""The simulated account: fills, margin, funding, refusals and what happens behind a bot's back."""

from __future__ import annotations

import itertools

import pytest
from simulated_world import (
    BTC,
    ETH,
    HOUR,
    MAKER,
    START,
    TAKER,
    World,
    opened_with_stop,
    refused,
)

from plimsoll.market.account import SimulatedAccount
from plimsoll.market.history import Funding, NoHistory
from plimsoll.market.positions import Position, leverage_tiers


@pytest.fixture
def world() -> World:
    return World()


# -- FILLS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "price", "amount"), [("BUY", 1_000.1, 2.0), ("SELL", 1_000.0, -2.0)])
def test_market_order_when_placed_then_fills_at_the_best_price_and_pays_the_taker_fee(
    world, side, price, amount
):
    order = world.account.place(BTC, side, "MARKET", 2.0)

    assert (order.status, order.average, order.filled) == ("FILLED", price, 2.0)
    assert (world.btc.amount, world.btc.entry_price) == (amount, price)
    assert world.btc.isolated_wallet == pytest.approx(2.0 * price / 5)
    assert world.account.wallet_balance == pytest.approx(10_000 - 2.0 * price * TAKER)
    assert world.account.available_balance() == pytest.approx(10_000 - 2.0 * price * (TAKER + 1 / 5))


@pytest.mark.parametrize(("side", "limit", "short_of", "reached"), [
    ("BUY", 990.0, 990.1, 990.0),
    ("SELL", 1_010.0, 1_009.9, 1_010.0),
])  # fmt: skip
def test_limit_order_when_price_reaches_it_then_fills_at_its_price_as_maker(
    world, side, limit, short_of, reached
):
    order = world.account.place(BTC, side, "LIMIT", 1.0, price=limit)
    assert world.account.available_balance() == pytest.approx(10_000 - limit / 5)

    world.move(short_of)
    assert (order.status, world.btc.amount) == ("NEW", 0.0)
    world.move(reached)
    assert (order.status, order.average) == ("FILLED", limit)
    assert world.account.wallet_balance == pytest.approx(10_000 - limit * MAKER)
    assert world.account.fills[0].is_maker


def test_limit_order_when_it_crosses_the_book_then_fills_at_the_better_price_as_taker(world):
    order = world.account.place(BTC, "BUY", "LIMIT", 1.0, price=1_005.0)

    assert (order.status, order.average) == ("FILLED", 1_000.1)
    assert not world.account.fills[0].is_maker


@pytest.mark.parametrize("time_in_force", ["IOC", "FOK"])
def test_limit_order_when_it_may_not_rest_then_expires_and_holds_nothing_back(world, time_in_force):
    order = world.account.place(BTC, "BUY", "LIMIT", 1.0, price=990.0, time_in_force=time_in_force)

    assert order.status == "EXPIRED"
    assert world.account.available_balance() == 10_000


def test_cancelled_order_when_price_reaches_it_then_does_not_fill_and_cannot_be_cancelled_again(world):
    order = world.account.place(BTC, "BUY", "LIMIT", 1.0, price=990.0)
    world.account.cancel(order)
    world.move(900.0)

    assert (order.status, order.filled) == ("CANCELED", 0.0)
    with refused(-2011):
        world.account.cancel(order)


def test_position_when_added_to_then_has_the_mean_entry_and_both_margins(world):
    world.account.place(BTC, "BUY", "MARKET", 1.0)
    world.move(1_100.0)
    world.account.place(BTC, "BUY", "MARKET", 3.0)

    assert world.btc.amount == 4.0
    assert world.btc.entry_price == pytest.approx((1_000.1 + 3 * 1_100.1) / 4)
    assert world.btc.isolated_wallet == pytest.approx((1_000.1 + 3 * 1_100.1) / 5)


@pytest.mark.parametrize(("open_side", "close_side", "profit"), [
    ("BUY", "SELL", 0.5 * (1_100.0 - 1_000.1)),
    ("SELL", "BUY", 0.5 * (1_000.0 - 1_100.1)),
])  # fmt: skip
def test_position_when_partly_closed_then_realises_its_share_and_frees_its_margin(
    world, open_side, close_side, profit
):
    world.account.place(BTC, open_side, "MARKET", 2.0)
    margin, fees = world.btc.isolated_wallet, 10_000 - world.account.wallet_balance
    world.move(1_100.0)
    order = world.account.place(BTC, close_side, "MARKET", 0.5, reduce_only=True)

    fees += 0.5 * order.average * TAKER
    assert world.account.fills[-1].realised == pytest.approx(profit)
    assert world.btc.isolated_wallet == pytest.approx(margin * 0.75)
    assert world.account.wallet_balance == pytest.approx(10_000 + profit - fees)


def test_position_when_sold_beyond_its_size_then_turns_round(world):
    world.account.place(BTC, "BUY", "MARKET", 1.0)
    world.account.place(BTC, "SELL", "MARKET", 3.0)

    assert (world.btc.amount, world.btc.entry_price) == (-2.0, 1_000.0)
    assert world.btc.isolated_wallet == pytest.approx(2_000.0 / 5)


def test_amounts_when_they_are_sums_of_lots_then_stay_lots(world):
    for _ in range(3):
        world.account.place(BTC, "BUY", "MARKET", 0.1)
    assert world.btc.amount == 0.3
    world.account.place(BTC, "SELL", "MARKET", 0.3, reduce_only=True)

    assert world.btc == Position(leverage=5, isolated=True, updated_ms=START)
    assert world.account.cross_balance() == world.account.wallet_balance


def test_wallet_when_everything_is_closed_then_is_the_sum_of_all_incomes(world):
    world.account.deposit(500.0)
    world.account.place(BTC, "BUY", "MARKET", 1.0)
    world.account.place(ETH, "SELL", "MARKET", 3.0)
    world.move(1_037.3)
    world.move(91.17, "ETH/USDT:USDT")
    world.account.place(BTC, "SELL", "MARKET", 1.0)
    world.account.place(ETH, "BUY", "MARKET", 3.0)
    world.account.withdraw(100.0)

    assert world.account.wallet_balance == pytest.approx(
        10_000 + sum(each.amount for each in world.account.incomes)
    )
    assert world.account.available_balance() == pytest.approx(world.account.wallet_balance)


# -- REFUSALS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "code"), [
    ({"symbol": "NOPEUSDT"}, -1121),
    ({"quantity": 0.0}, -4003),
    ({"quantity": 1.0005}, -1111),
    ({"kind": "ICEBERG"}, -1116),
    ({"kind": "LIMIT", "price": 990.05}, -4014),
    ({"kind": "LIMIT", "price": 0.0}, -4001),
    ({"kind": "LIMIT", "price": 1_050.1}, -4016),
    ({"kind": "LIMIT", "side": "SELL", "price": 949.9}, -4024),
    ({"kind": "LIMIT", "price": 1_001.0, "time_in_force": "GTX"}, -5022),
    ({"quantity": 0.099}, -4164),
    ({"reduce_only": True}, -2022),
    ({"quantity": 50.0}, -2019),
])  # fmt: skip
def test_order_when_binance_would_refuse_it_then_is_refused_and_leaves_no_trace(world, order, code):
    with refused(code):
        world.account.place(**({"symbol": BTC, "side": "BUY", "kind": "MARKET", "quantity": 1.0} | order))

    assert world.account.orders == {}
    assert world.account.wallet_balance == 10_000


def test_order_when_just_inside_each_threshold_then_is_accepted(world):
    world.account.place(BTC, "BUY", "LIMIT", 0.1, price=1_050.0)
    world.account.place(BTC, "SELL", "LIMIT", 0.1, price=950.0)

    assert [each.status for each in world.account.orders.values()] == ["FILLED", "FILLED"]


@pytest.mark.parametrize(("quantity", "fits"), [(49.9, True), (50.0, False)])
def test_margin_when_it_is_short_of_the_order_then_the_order_is_refused(quantity, fits):
    world = World(wallet_balance=10_000.0)
    if fits:
        world.account.place(BTC, "BUY", "MARKET", quantity)
        assert world.btc.amount == quantity
    else:
        with refused(-2019):
            world.account.place(BTC, "BUY", "MARKET", quantity)


@pytest.mark.parametrize(("quantity", "fits"), [(9.9, True), (10.0, False)])
def test_notional_when_beyond_the_tier_of_the_leverage_then_the_order_is_refused(world, quantity, fits):
    world.account.set_leverage(BTC, 20)  # only the first tier has it, up to 10 000
    if fits:
        world.account.place(BTC, "BUY", "MARKET", quantity)
        assert world.btc.amount == quantity
    else:
        with refused(-2027):
            world.account.place(BTC, "BUY", "MARKET", quantity)


def test_reducing_order_when_larger_than_the_position_then_only_closes_it(world):
    world.account.place(BTC, "BUY", "MARKET", 1.0)
    order = world.account.place(BTC, "SELL", "MARKET", 5.0, reduce_only=True)

    assert (order.quantity, order.filled, order.status) == (1.0, 1.0, "FILLED")
    assert not world.btc.is_open


def test_reducing_order_when_the_position_is_gone_before_it_is_reached_then_expires(world):
    world.account.place(BTC, "BUY", "MARKET", 1.0)
    order = world.account.place(BTC, "SELL", "LIMIT", 1.0, price=1_010.0, reduce_only=True)
    world.account.close_position(BTC)
    world.move(1_020.0)

    assert (order.status, order.filled, world.btc.is_open) == ("EXPIRED", 0.0, False)


def test_leverage_when_out_of_range_or_lowered_under_a_position_then_is_refused(world):
    for leverage in (0, 51):
        with refused(-4028):
            world.account.set_leverage(BTC, leverage)
    world.account.place(BTC, "BUY", "MARKET", 1.0)
    with refused(-4161):
        world.account.set_leverage(BTC, 4)
    world.account.set_leverage(BTC, 10)

    assert world.btc.isolated_wallet == pytest.approx(1_000.1 / 10)


# -- FUNDING -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "sign"), [("BUY", -1.0), ("SELL", 1.0)])
def test_funding_when_it_is_due_then_moves_the_margin_once(world, side, sign):
    world.account.place(BTC, side, "MARKET", 2.0)
    margin, wallet = world.btc.isolated_wallet, world.account.wallet_balance
    world.prices.payments = [Funding(START, 0.5), Funding(START + 8 * HOUR, 0.001)]
    world.prices.mark["BTC/USDT:USDT"] = 1_050.0
    world.now = START + 9 * HOUR
    world.account.advance()
    world.account.advance()

    paid = sign * 2.0 * 1_050.0 * 0.001
    assert world.btc.isolated_wallet == pytest.approx(margin + paid)
    assert world.account.wallet_balance == pytest.approx(wallet + paid)
    (income,) = [each for each in world.account.incomes if each.kind == "FUNDING_FEE"]
    assert (income.time_ms, income.symbol) == (START + 8 * HOUR, BTC)


def test_funding_when_the_position_was_opened_after_it_then_is_not_paid(world):
    world.prices.payments = [Funding(START + HOUR, 0.001)]
    world.now = START + 2 * HOUR
    world.account.place(BTC, "BUY", "MARKET", 2.0)
    world.account.advance()

    assert {each.kind for each in world.account.incomes} == {"COMMISSION"}


# -- BEHIND THE BOT'S BACK ---------------------------------------------------------------------------------


def test_deposit_and_withdrawal_when_made_then_are_transfers_within_what_is_available(world):
    world.account.deposit(1_000.0)
    world.account.place(BTC, "BUY", "MARKET", 5.0)
    available = world.account.available_balance()
    with pytest.raises(ValueError, match="`amount` must be above 0 and at most"):
        world.account.withdraw(available + 0.01)
    world.account.withdraw(available)

    assert [each.amount for each in world.account.incomes if each.kind == "TRANSFER"] == [1_000.0, -available]
    assert world.account.available_balance() == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="`amount` must be above 0, was 0"):
        world.account.deposit(0.0)


@pytest.mark.parametrize("amount", [2.0, -2.0])
def test_foreign_position_when_opened_and_closed_then_looks_like_a_persons(amount):
    world = World()
    world.account.open_foreign_position(ETH, amount, leverage=3)
    held = world.account.positions[ETH]
    assert (held.amount, held.leverage) == (amount, 3)
    world.account.close_position(ETH, 0.5)
    assert abs(held.amount) == 1.5
    world.account.close_position(ETH)

    assert not held.is_open
    assert all(each.client_id.startswith("web_") for each in world.account.orders.values())


def test_limit_order_when_filled_partly_then_keeps_the_rest_and_its_margin_until_cancelled(world):
    order = world.account.place(BTC, "BUY", "LIMIT", 2.0, price=990.0)
    world.account.fill_partly(order, 0.5)

    assert (order.status, order.filled, order.remaining) == ("PARTIALLY_FILLED", 0.5, 1.5)
    assert (world.btc.amount, world.btc.isolated_wallet) == (0.5, pytest.approx(0.5 * 990 / 5))
    assert world.account.available_balance() == pytest.approx(10_000 - 2 * 990 / 5 - 0.5 * 990 * MAKER)
    with pytest.raises(ValueError, match="`quantity` must be above 0 and under 1"):
        world.account.fill_partly(order, 1.5)
    world.account.cancel(order)
    assert (order.status, order.filled) == ("CANCELED", 0.5)
    assert world.account.available_balance() == pytest.approx(10_000 - 0.5 * 990 * (1 / 5 + MAKER))


def test_stops_when_dropped_or_forgotten_then_do_not_trigger(world):
    kept = opened_with_stop(world, "BUY", 950.0)
    assert world.account.drop_stops(BTC) == [kept]
    forgotten = world.account.place_stop(BTC, "SELL", "STOP_MARKET", 2.0, 940.0)
    world.account.drop_stops(BTC, forget=True)
    world.move(900.0)

    assert kept.status == "CANCELED"
    assert forgotten.id not in world.account.stop_orders
    assert world.btc.is_open


def test_stops_when_refused_then_are_until_they_are_accepted_again(world):
    world.account.refuse_stops()
    with refused(-1008):
        world.account.place_stop(BTC, "SELL", "STOP_MARKET", 1.0, 950.0)
    world.account.refuse_stops(None)

    assert world.account.place_stop(BTC, "SELL", "STOP_MARKET", 1.0, 950.0).status == "NEW"


def test_symbol_when_its_price_is_unknown_then_is_left_alone_and_takes_no_orders(world):
    stop = opened_with_stop(world, "BUY", 950.0)
    world.prices.last["BTC/USDT:USDT"] = None
    world.account.advance()

    assert (stop.status, world.btc.is_open) == ("NEW", True)
    with refused(-1001):
        world.account.place(BTC, "BUY", "MARKET", 1.0)


def test_account_when_its_pairs_have_no_single_stake_currency_then_is_refused():
    for pairs in (["BTC/USDT:USDT", "BTC/USDC:USDC"], ["BTC/USDT"]):
        with pytest.raises(ValueError, match="`pairs` must be futures of one stake currency"):
            SimulatedAccount(pairs, NoHistory())


def test_tiers_when_a_pair_is_published_then_are_freqtrades_own_else_those_of_a_small_coin():
    published, other = leverage_tiers("BTC/USDT:USDT"), leverage_tiers("NOPE/USDT:USDT")

    assert published[0].mmr < other[0].mmr
    for tiers in (published, other):
        # At each border both tiers ask for the same maintenance margin.
        for lower, upper in itertools.pairwise(tiers):
            border = upper.min_notional
            assert lower.max_notional == border
            assert border * lower.mmr - lower.maintenance_amount == pytest.approx(
                border * upper.mmr - upper.maintenance_amount
            )
