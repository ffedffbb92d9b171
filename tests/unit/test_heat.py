"""The sum of what every stop would cost."""

import math

import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.heat import heat, heat_limit

GARBAGE = [math.nan, math.inf, -math.inf, None, "5", [], 10**400]


def position(risk, side="long"):
    return OpenPosition("BTC/USDT:USDT", "BTC", side, 100.0, 300.0, risk)


def test_heat_when_longs_and_shorts_are_open_then_the_sum_of_r_over_equity():
    assert heat(positions=[position(100.0), position(50.0, "short")], equity=10_000.0) == pytest.approx(0.015)
    assert heat(positions=[], equity=10_000.0) == 0.0


def test_heat_when_a_stop_is_in_profit_then_it_makes_no_room():
    assert heat(positions=[position(100.0), position(-500.0)], equity=10_000.0) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("risk", "equity"), [(math.nan, 1.0), (None, 1.0), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan)]
)
def test_heat_when_an_input_is_garbage_then_nan(risk, equity):
    assert math.isnan(heat(positions=[position(risk)], equity=equity))
    assert math.isnan(heat(positions=None, equity=1_000.0))


@pytest.mark.parametrize(
    ("risk", "outcome"), [(599.99, Outcome.FINE), (600.0, Outcome.BREACHED), (600.01, Outcome.BREACHED)]
)
def test_limit_when_heat_is_just_inside_or_outside_then_fine_or_breached(risk, outcome):
    answer = heat_limit(equity=10_000.0, positions=[position(risk)], loss_at_stop_ratio=0.05)

    assert (answer.kind, answer.outcome) == (Kind.NOTIONAL, outcome)


@pytest.mark.parametrize("side", ["long", "short"])
def test_limit_when_used_up_exactly_then_heat_is_the_maximum(side):
    held = [position(100.0, side), position(200.0, side)]
    left = heat_limit(equity=10_000.0, positions=held, loss_at_stop_ratio=0.05).value

    assert heat(positions=[*held, position(left * 0.05, side)], equity=10_000.0) == pytest.approx(0.06)


@pytest.mark.parametrize("name", ["equity", "max_heat", "loss_at_stop_ratio"])
@pytest.mark.parametrize("value", [-1.0, True, *GARBAGE], ids=lambda value: str(value)[:8])
def test_limit_when_an_input_is_garbage_then_unknown(name, value):
    known = {"equity": 10_000.0, "max_heat": 0.06, "positions": [], "loss_at_stop_ratio": 0.05}

    answer = heat_limit(**{**known, name: value})

    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize("risk", GARBAGE, ids=lambda value: str(value)[:8])
def test_limit_when_the_risk_of_a_position_is_garbage_then_unknown(risk):
    answer = heat_limit(equity=10_000.0, positions=[position(1.0), position(risk)], loss_at_stop_ratio=0.05)

    assert answer.outcome is Outcome.UNKNOWN


def test_limit_when_the_positions_are_not_known_then_unknown():
    assert heat_limit(equity=10_000.0, positions=None, loss_at_stop_ratio=0.05).outcome is Outcome.UNKNOWN


def test_limit_when_no_heat_is_allowed_then_breached():
    assert (
        heat_limit(equity=1.0, max_heat=0.0, positions=[], loss_at_stop_ratio=0.05).outcome
        is Outcome.BREACHED
    )
