"""Notional from a volatility budget: sizes, quantiles, missing input."""

from __future__ import annotations

import math

import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.volatility_budget import volatility_budget


@pytest.mark.parametrize(("sigma", "expected"), [(0.02, 1000.0), (0.04, 500.0), (0.01, 2000.0), (0.2, 100.0)])
def test_volatility_budget_when_no_exceedance_is_stated_then_one_sigma_costs_the_budget(
    sigma: float, expected: float
) -> None:
    answer = volatility_budget(equity=1000.0, sigma_day=sigma)
    assert (answer.kind, answer.outcome) == (Kind.NOTIONAL, Outcome.FINE)
    assert answer.value == pytest.approx(expected, rel=1e-12)
    assert answer.value * sigma == pytest.approx(0.02 * 1000.0)
    assert "one-sigma" in answer.reason


@pytest.mark.parametrize(("p", "z"), [(0.10, 1.15), (0.05, 1.60), (0.01, 2.75), (0.005, 3.36), (0.001, 5.6)])
def test_volatility_budget_when_exceedance_was_measured_then_takes_its_quantile(p: float, z: float) -> None:
    answer = volatility_budget(equity=1000.0, sigma_day=0.04, exceedance=p)
    assert answer.value == pytest.approx(500.0 / z, rel=1e-12)
    assert answer.numbers["z"] == pytest.approx(z)


@pytest.mark.parametrize(
    ("p", "z"),
    [
        (math.sqrt(0.10 * 0.05), (1.15 + 1.60) / 2),
        (math.sqrt(0.05 * 0.01), (1.60 + 2.75) / 2),
        (math.sqrt(0.005 * 0.001), (3.36 + 5.6) / 2),
    ],
)
def test_volatility_budget_when_exceedance_is_between_then_interpolates_in_log_probability(
    p: float, z: float
) -> None:
    answer = volatility_budget(equity=1.0, sigma_day=0.04, exceedance=p)
    assert answer.numbers["z"] == pytest.approx(z, rel=1e-12)


@pytest.mark.parametrize(
    "p", [math.nextafter(0.1, 1.0), math.nextafter(0.001, 0.0), 0.0, 1.0, -0.05, math.nan, math.inf]
)
def test_volatility_budget_when_exceedance_was_never_measured_then_refused(p: float) -> None:
    with pytest.raises(ValueError, match="`exceedance`"):
        volatility_budget(equity=1000.0, sigma_day=0.04, exceedance=p)


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["equity", "sigma_day", "budget"])
def test_volatility_budget_when_an_input_is_no_number_then_unknown(name: str, bad: float | None) -> None:
    inputs: dict[str, float | None] = {"equity": 1000.0, "sigma_day": 0.04, "budget": 0.02, name: bad}
    answer = volatility_budget(**inputs)  # type: ignore[arg-type]
    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize(
    "inputs", [{"sigma_day": 0.0}, {"sigma_day": -0.04}, {"budget": 0.0}, {"budget": -0.02}]
)
def test_volatility_budget_when_volatility_or_budget_is_not_above_zero_then_unknown(
    inputs: dict[str, float],
) -> None:
    answer = volatility_budget(**{"equity": 1000.0, "sigma_day": 0.04, **inputs})
    assert answer.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("equity", [0.0, -50.0])
def test_volatility_budget_when_no_equity_is_left_then_breached(equity: float) -> None:
    answer = volatility_budget(equity=equity, sigma_day=0.04)
    assert (answer.outcome, answer.value) == (Outcome.BREACHED, 0.0)


def test_volatility_budget_when_the_result_overflows_then_unknown() -> None:
    assert volatility_budget(equity=1e300, sigma_day=1e-300).outcome is Outcome.UNKNOWN


def test_volatility_budget_when_asked_then_says_why_with_numbers() -> None:
    answer = volatility_budget(equity=1000.0, sigma_day=0.04, exceedance=0.05)
    assert answer.reason == (
        "budget (exceeded on 5 % of days, 1.6 sigma) of 2 % at volatility 4 % a day: "
        "at most 0.312 of equity in notional"
    )
    assert answer.numbers["notional_to_equity"] == pytest.approx(0.3125)
