"""What funding is expected to cost."""

import math

import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.funding import expected_funding, funding_gate, funding_reserve

GARBAGE = [math.nan, math.inf, -math.inf, None, "5", True, [], 10**400]
PAYING = [("long", 1.0), ("short", -1.0)]


@pytest.mark.parametrize(("side", "sign"), PAYING)
def test_expected_when_the_rate_is_positive_then_longs_pay_shorts(side, sign):
    cost = expected_funding(funding_per_day=0.003, hold_hours=48.0, side=side)

    assert cost == pytest.approx(sign * 0.006)


@pytest.mark.parametrize("name", ["funding_per_day", "hold_hours", "side"])
@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: str(value)[:8])
def test_expected_when_an_input_is_garbage_then_nan(name, value):
    assert math.isnan(
        expected_funding(**{"funding_per_day": 0.001, "hold_hours": 8.0, "side": "long", name: value})
    )


def test_expected_when_the_hold_is_negative_then_nan():
    assert math.isnan(expected_funding(funding_per_day=0.001, hold_hours=-1.0, side="long"))


@pytest.mark.parametrize(("side", "sign"), PAYING)
def test_reserve_when_this_side_pays_then_days_of_it_and_never_below_zero(side, sign):
    assert funding_reserve(funding_per_day=sign * 0.003, side=side) == pytest.approx(0.009)
    assert funding_reserve(funding_per_day=-sign * 0.003, side=side) == 0.0


@pytest.mark.parametrize(
    "change",
    [{"funding_per_day": math.nan}, {"funding_per_day": None}, {"days": -1.0}, {"days": "x"}, {"side": "x"}],
)
def test_reserve_when_an_input_is_garbage_then_nan(change):
    assert math.isnan(funding_reserve(**{"funding_per_day": 0.001, "days": 3.0, "side": "long", **change}))


@pytest.mark.parametrize(("side", "sign"), PAYING)
@pytest.mark.parametrize(("rate", "outcome"), [(0.012499, Outcome.FINE), (0.012501, Outcome.BREACHED)])
def test_gate_when_the_share_of_r_is_just_inside_or_outside_then_fine_or_breached(side, sign, rate, outcome):
    ask = {"side": side, "hold_hours": 24.0, "loss_at_stop_ratio": 0.05}

    answer = funding_gate(funding_per_day=sign * rate, **ask)

    assert (answer.kind, answer.outcome) == (Kind.GATE, outcome)
    assert funding_gate(funding_per_day=-sign * 1.0, **ask).outcome is Outcome.FINE


def test_gate_when_the_rate_is_missing_then_unknown_unless_there_is_no_funding():
    ask = {"funding_per_day": None, "side": "long", "hold_hours": 24.0, "loss_at_stop_ratio": 0.05}

    assert funding_gate(**ask).outcome is Outcome.UNKNOWN
    assert funding_gate(required=True, **ask).outcome is Outcome.UNKNOWN
    assert funding_gate(required=False, **ask).outcome is Outcome.FINE
    assert funding_gate(required=False, **{**ask, "funding_per_day": math.nan}).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "name", ["funding_per_day", "side", "hold_hours", "loss_at_stop_ratio", "max_share_of_risk"]
)
@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: str(value)[:8])
def test_gate_when_an_input_is_garbage_then_unknown(name, value):
    known = {
        "funding_per_day": 0.001,
        "side": "long",
        "hold_hours": 8.0,
        "loss_at_stop_ratio": 0.05,
        "max_share_of_risk": 0.25,
    }

    assert funding_gate(**{**known, name: value}).outcome is Outcome.UNKNOWN
