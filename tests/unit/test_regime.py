"""Leverage by volatility regime: bands, their boundaries, missing input."""

from __future__ import annotations

import math

import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.regime import volatility_regime


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        (1e-9, 5.0),
        (math.nextafter(0.02, 0.0), 5.0),
        (0.02, 3.0),
        (math.nextafter(0.02, 1.0), 3.0),
        (math.nextafter(0.05, 0.0), 3.0),
        (0.05, 3.0),
        (math.nextafter(0.05, 1.0), 1.0),
        (3.0, 1.0),
    ],
)
def test_volatility_regime_when_beside_a_boundary_then_the_stated_side_holds(
    sigma: float, expected: float
) -> None:
    answer = volatility_regime(sigma_day=sigma)
    assert (answer.kind, answer.outcome, answer.value) == (Kind.LEVERAGE, Outcome.FINE, expected)


@pytest.mark.parametrize("sigma", [None, math.nan, math.inf, -math.inf, 0.0, -0.01])
def test_volatility_regime_when_volatility_is_no_number_above_zero_then_unknown(sigma: float | None) -> None:
    answer = volatility_regime(sigma_day=sigma)
    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)
    assert answer.reason


@pytest.mark.parametrize(
    "bands",
    [
        {"high": math.nan},
        {"mid": math.nan},
        {"mid": 0.05},
        {"mid": 0.06},
        {"mid": 0.0},
        {"low_leverage": 2.0},
        {"mid_leverage": math.nan},
    ],
)
def test_volatility_regime_when_bands_are_not_in_order_then_unknown(bands: dict[str, float]) -> None:
    assert volatility_regime(sigma_day=0.03, **bands).outcome is Outcome.UNKNOWN


def test_volatility_regime_when_asked_then_says_why_with_numbers() -> None:
    answer = volatility_regime(sigma_day=0.061)
    assert answer.reason == "volatility 6.1 % a day is above 5 %: at most 1x"
    assert answer.numbers["sigma_day"] == 0.061
    assert volatility_regime(sigma_day=0.03).reason == "volatility 3 % a day is from 2 % to 5 %: at most 3x"
    assert volatility_regime(sigma_day=0.012).reason == "volatility 1.2 % a day is under 2 %: at most 5x"


def test_volatility_regime_when_bands_are_set_then_they_hold() -> None:
    def leverage(sigma: float) -> float | None:
        return volatility_regime(
            sigma_day=sigma, high=0.1, mid=0.04, high_leverage=1, mid_leverage=2, low_leverage=4
        ).value

    assert [leverage(s) for s in (0.11, 0.1, 0.04, 0.03)] == [1, 2, 2, 4]
