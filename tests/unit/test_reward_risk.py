"""Whether the target pays for the risk."""

import math

import pytest
from freqtrade.persistence import LocalTrade

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.reward_risk import reward_to_risk

GARBAGE = [math.nan, math.inf, -math.inf, "5", True, [], 10**400]


@pytest.mark.parametrize(("side", "sign"), [("long", 1), ("short", -1)])
@pytest.mark.parametrize(("move", "outcome"), [(7.501, Outcome.FINE), (7.499, Outcome.BREACHED)])
def test_reward_when_just_inside_or_outside_then_fine_or_breached(side, sign, move, outcome):
    answer = reward_to_risk(
        side=side, rate=100.0, target_price=100.0 + sign * move, loss_at_stop_ratio=0.05, fees=0.0
    )

    assert (answer.kind, answer.outcome) == (Kind.GATE, outcome)


@pytest.mark.parametrize(("side", "target"), [("long", 110.0), ("short", 90.0)])
@pytest.mark.parametrize("leverage", [1.0, 5.0])
def test_reward_when_a_trade_exits_at_its_target_then_freqtrade_books_it(side, target, leverage):
    trade = LocalTrade(
        pair="BTC/USDT:USDT",
        open_rate=100.0,
        stake_amount=1_000.0 / leverage,
        amount=10.0,
        fee_open=0.001,
        fee_close=0.001,
        leverage=leverage,
        is_short=side == "short",
        exchange="binance",
    )
    trade.recalc_open_trade_value()

    answer = reward_to_risk(side=side, rate=100.0, target_price=target, loss_at_stop_ratio=0.05, fees=0.002)

    assert answer.numbers["reward_to_risk"] * 50.0 == pytest.approx(trade.calculate_profit(target).profit_abs)


def test_reward_when_fees_eat_it_then_breached():
    ask = {"side": "long", "rate": 100.0, "target_price": 107.6, "loss_at_stop_ratio": 0.05}

    assert reward_to_risk(fees=0.0, **ask).outcome is Outcome.FINE
    assert reward_to_risk(fees=0.002, **ask).outcome is Outcome.BREACHED


def test_reward_when_no_target_is_stated_then_fine():
    answer = reward_to_risk(side="long", rate=100.0, target_price=None, loss_at_stop_ratio=0.05, fees=0.001)

    assert (answer.outcome, answer.reason) == (Outcome.FINE, "no target stated")


@pytest.mark.parametrize(
    ("side", "target"), [("long", 99.0), ("long", 100.0), ("short", 101.0), ("short", 100.0)]
)
def test_reward_when_the_target_is_on_the_wrong_side_then_breached(side, target):
    answer = reward_to_risk(
        side=side, rate=100.0, target_price=target, loss_at_stop_ratio=0.05, fees=0.0, minimum=0.0
    )

    assert answer.outcome is Outcome.BREACHED
    assert "wrong side" in answer.reason


@pytest.mark.parametrize("name", ["side", "rate", "target_price", "loss_at_stop_ratio", "fees", "minimum"])
@pytest.mark.parametrize("value", [-1.0, *GARBAGE], ids=lambda value: str(value)[:8])
def test_reward_when_an_input_is_garbage_then_unknown(name, value):
    known = {
        "side": "long",
        "rate": 100.0,
        "target_price": 120.0,
        "loss_at_stop_ratio": 0.05,
        "fees": 0.0,
        "minimum": 1.5,
    }

    assert reward_to_risk(**{**known, name: value}).outcome is Outcome.UNKNOWN
