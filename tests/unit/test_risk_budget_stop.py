"""The stop that makes room for funding within R."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.rules.risk_budget_stop import stop_ratio_within_risk
from plimsoll.rules.sizing import loss_at_stop_ratio

COSTS = {"fee_open": 0.0005, "fee_close": 0.0005, "slippage": 0.0005}
SIDES = ["long", "short"]


def stop(side: Any, distance: float, paid: float, **changes: float) -> float:
    risk = loss_at_stop_ratio(side=side, stop_price_ratio=distance, **COSTS)
    inputs = {"stop_price_ratio": distance, "risk_ratio": risk, "paid_ratio": paid} | COSTS | changes
    return stop_ratio_within_risk(side=side, **inputs)


@pytest.mark.parametrize("side", SIDES)
def test_stop_when_no_funding_was_paid_then_stays_as_planned(side: str) -> None:
    assert stop(side, 0.02, 0.0) == pytest.approx(0.02, rel=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_stop_when_funding_was_received_then_does_not_widen(side: str) -> None:
    assert stop(side, 0.02, -0.01) == 0.02


@given(
    side=st.sampled_from(SIDES),
    distance=st.floats(0.002, 0.3),
    share=st.floats(0.0, 0.85),
)
@settings(derandomize=True, max_examples=200)
def test_stop_when_funding_was_paid_then_the_whole_loss_is_still_r(
    side: Any, distance: float, share: float
) -> None:
    paid = share * distance
    risk = loss_at_stop_ratio(side=side, stop_price_ratio=distance, **COSTS)
    moved = stop(side, distance, paid)
    assert moved <= distance
    assert loss_at_stop_ratio(side=side, stop_price_ratio=moved, **COSTS) + paid == pytest.approx(
        risk, rel=1e-9
    )


@pytest.mark.parametrize("side", SIDES)
def test_stop_when_funding_ate_all_of_r_then_a_tenth_of_the_distance_stays(side: str) -> None:
    assert stop(side, 0.02, 0.05) == pytest.approx(0.002)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["paid_ratio", "risk_ratio"])
def test_stop_when_an_input_is_unusable_then_stays_as_planned(name: str, bad: float) -> None:
    assert stop("long", 0.02, 0.001, **{name: bad}) == 0.02
