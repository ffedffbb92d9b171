"""Correlation: vectors, history, factors, missing input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.correlation import (
    correlation_factor,
    effective_bets,
    ewma_correlation,
    marginal_variance_factor,
    mean_correlation_factor,
    shrink_to_one,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "quant.json").read_text())
RETURNS = np.array(VECTORS["correlation"]["log_returns"])
CASES = VECTORS["portfolio_factor"]["cases"]


def arguments(case: dict) -> dict:
    return {
        "held_volatility": case["held_vol"],
        "held_side": case["held_side"],
        "held_correlation": case["held_corr"],
        "new_correlation": case["corr_new"],
        "new_side": case["side_new"],
        "new_volatility": case["vol_new"],
        "budget": case["budget"],
        "shrink": case["shrink_to_one"],
        "skip_below": case["skip_below"],
    }


def one_held(**changes: object) -> dict:
    base: dict[str, object] = {
        "held_volatility": [0.01],
        "held_side": [1],
        "held_correlation": [[1.0]],
        "new_correlation": [0.5],
        "new_side": 1,
        "new_volatility": 0.01,
        "budget": 0.02,
        "shrink": 0.0,
    }
    return {**base, **changes}


def test_ewma_correlation_when_given_the_vectors_then_matches() -> None:
    np.testing.assert_allclose(ewma_correlation(RETURNS), VECTORS["correlation"]["expected"], rtol=1e-12)


def test_ewma_correlation_when_rows_are_older_than_the_window_then_they_do_not_count() -> None:
    older = np.vstack([np.random.default_rng(1).normal(0.0, 1.0, (300, 3)), RETURNS])
    np.testing.assert_array_equal(ewma_correlation(older), ewma_correlation(RETURNS))


def test_ewma_correlation_when_recent_hours_agree_then_they_weigh_more() -> None:
    rng = np.random.default_rng(2)
    apart, common = rng.normal(size=(360, 2)), rng.normal(size=(360, 1)) * np.ones(2)
    assert ewma_correlation(np.vstack([apart, common]))[0, 1] > 0.7
    assert ewma_correlation(np.vstack([common, apart]))[0, 1] < 0.35


def test_ewma_correlation_when_history_is_just_under_seven_days_then_unknown() -> None:
    short, enough = RETURNS.copy(), RETURNS.copy()
    short[:-167, 2], enough[:-168, 2] = np.nan, np.nan
    rho = ewma_correlation(short)
    assert np.isnan(rho[2]).all()
    assert np.isnan(rho[:, 2]).all()
    assert rho[0, 1] == pytest.approx(VECTORS["correlation"]["expected"][0][1], rel=1e-12)
    assert np.isfinite(ewma_correlation(enough)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_ewma_correlation_when_an_hour_is_missing_then_left_out_and_not_read_as_zero(bad: float) -> None:
    holed = RETURNS.copy()
    holed[650, 0] = bad
    kept = np.delete(np.arange(720), 650)
    weights = 0.5 ** ((719 - kept) / 168)
    x, y = RETURNS[kept, 0], RETURNS[kept, 1]
    expected = (weights * x * y).sum() / math.sqrt((weights * x * x).sum() * (weights * y * y).sum())
    assert ewma_correlation(holed)[0, 1] == pytest.approx(expected, rel=1e-12)
    assert ewma_correlation(holed)[1, 2] == pytest.approx(ewma_correlation(RETURNS)[1, 2], rel=1e-12)


def test_ewma_correlation_when_a_price_never_moves_then_unknown() -> None:
    still = RETURNS.copy()
    still[:, 1] = 0.0
    rho = ewma_correlation(still)
    assert np.isnan(rho[1]).all()
    assert np.isfinite(rho[0, 2])


def test_ewma_correlation_when_pairs_move_as_one_then_never_beyond_one() -> None:
    moves = np.random.default_rng(0).normal(size=(300, 1)) * np.linspace(-2.0, 3.0, 40)
    rho = ewma_correlation(moves)
    assert np.abs(rho).max() <= 1.0
    assert np.abs(rho).min() == pytest.approx(1.0)


def test_ewma_correlation_when_no_rows_or_no_pairs_then_unknown_or_empty() -> None:
    assert np.isnan(ewma_correlation(np.empty((0, 2)))).all()
    assert ewma_correlation(np.empty((10, 0))).shape == (0, 0)


@pytest.mark.parametrize(
    "changes",
    [{"half_life_hours": 0.0}, {"half_life_hours": math.nan}, {"window_hours": 100}, {"min_hours": 0}],
)
def test_ewma_correlation_when_arguments_are_out_of_range_then_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="`"):
        ewma_correlation(RETURNS, **changes)  # type: ignore[arg-type]


def test_ewma_correlation_when_returns_are_not_two_dimensional_then_refused() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        ewma_correlation(RETURNS[:, 0])


def test_shrink_to_one_when_weight_is_given_then_mixes_with_one() -> None:
    np.testing.assert_allclose(shrink_to_one([-1.0, 0.0, 0.6, 1.0], 0.25), [-0.5, 0.25, 0.7, 1.0])
    assert np.isnan(shrink_to_one([np.nan], 0.5)).all()


@pytest.mark.parametrize("w", [-1e-9, 1.0 + 1e-9, math.nan])
def test_shrink_to_one_when_weight_is_out_of_range_then_refused(w: float) -> None:
    with pytest.raises(ValueError, match="`w`"):
        shrink_to_one([0.5], w)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_marginal_variance_factor_when_given_the_vectors_then_matches(case: dict) -> None:
    assert marginal_variance_factor(**arguments(case)) == pytest.approx(case["expected_factor"], abs=1e-12)
    answer = correlation_factor(**arguments(case))
    assert answer.value == pytest.approx(case["expected_factor"], abs=1e-12)
    assert answer.outcome is (Outcome.FINE if case["expected_factor"] else Outcome.BREACHED)


def test_marginal_variance_factor_when_part_fits_then_the_root_of_the_quadratic() -> None:
    # 1 + 2 g rho + g^2 = 2.25 in units of 0.01^2, rho = 0.5 shrunk to 0.625.
    share = marginal_variance_factor(**one_held(budget=0.015, shrink=0.25))
    assert share == pytest.approx(-0.625 + math.sqrt(0.625**2 + 1.25), rel=1e-12)


def test_marginal_variance_factor_when_nothing_is_held_then_budget_over_volatility() -> None:
    empty = one_held(held_volatility=[], held_side=[], held_correlation=[], new_correlation=[])
    assert marginal_variance_factor(**{**empty, "new_volatility": 0.04}) == pytest.approx(0.5)
    assert marginal_variance_factor(**{**empty, "new_volatility": 0.02}) == 1.0


@pytest.mark.parametrize(("skip_below", "skipped"), [(0.4999, False), (0.5001, True)])
def test_marginal_variance_factor_when_beside_the_skip_threshold_then_skips_only_under_it(
    skip_below: float, skipped: bool
) -> None:
    # Uncorrelated: 1 + g^2 = 1.25, g = 0.5.
    case = one_held(new_correlation=[0.0], budget=0.01 * math.sqrt(1.25), skip_below=skip_below)
    assert marginal_variance_factor(**case) == (0.0 if skipped else pytest.approx(0.5))
    assert correlation_factor(**case).outcome is (Outcome.BREACHED if skipped else Outcome.FINE)


def test_marginal_variance_factor_when_a_hedge_brings_the_book_back_into_budget_then_allowed() -> None:
    # Held 3 %, budget 2 %: a short of 2 % at correlation 0.9 leaves 1.48 %.
    hedge = one_held(held_volatility=[0.03], new_volatility=0.02, new_correlation=[0.9], new_side=-1)
    assert marginal_variance_factor(**hedge) == 1.0
    assert marginal_variance_factor(**{**hedge, "new_side": 1}) == 0.0
    # A hedge far too large for the book: as much of it as ends on the budget on the other side.
    share = marginal_variance_factor(**{**hedge, "new_volatility": 0.06})
    after = 0.03**2 - 2.0 * share * 0.9 * 0.03 * 0.06 + share**2 * 0.06**2
    assert 0.25 < share < 1.0
    assert after == pytest.approx(0.02**2)


def test_marginal_variance_factor_when_a_hedge_is_too_small_to_help_then_skipped() -> None:
    small = one_held(held_volatility=[0.03], new_volatility=0.001, new_correlation=[0.9], new_side=-1)
    assert marginal_variance_factor(**small) == 0.0


def test_marginal_variance_factor_when_both_sides_flip_then_nothing_changes() -> None:
    case = one_held(budget=0.015, shrink=0.25)
    assert marginal_variance_factor(
        **{**case, "held_side": [-1], "new_side": -1}
    ) == marginal_variance_factor(**case)


@pytest.mark.parametrize(
    "changes",
    [
        {"new_volatility": None},
        {"new_volatility": math.nan},
        {"new_volatility": math.inf},
        {"new_volatility": 0.0},
        {"held_volatility": [math.nan]},
        {"held_volatility": [math.inf]},
        {"held_volatility": [0.0]},
        {"held_volatility": [None]},
        {"held_volatility": [0.01, 0.01]},
        {"held_side": [0]},
        {"held_side": [math.nan]},
        {"new_side": 0},
        {"new_side": None},
        {"new_side": math.nan},
        {"new_correlation": [1.1]},
        {"new_correlation": []},
        {"held_correlation": []},
        {"held_correlation": [1.0]},
        {"budget": 0.0},
        {"budget": math.nan},
        {"budget": None},
        {"shrink": math.nan},
        {"shrink": 1.1},
        {"skip_below": math.nan},
        {"skip_below": 1.1},
    ],
)
def test_correlation_factor_when_an_input_is_missing_or_impossible_then_unknown(changes: dict) -> None:
    assert math.isnan(marginal_variance_factor(**one_held(**changes)))
    answer = correlation_factor(**one_held(**changes))
    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)
    assert answer.reason


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
@pytest.mark.parametrize(("held_side", "new_side"), [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_correlation_factor_when_a_correlation_is_missing_then_counts_against_us_on_any_sides(
    held_side: int, new_side: int, bad: float | None
) -> None:
    case = one_held(budget=0.015, held_side=[held_side], new_side=new_side, new_correlation=[bad])
    same = one_held(budget=0.015, new_correlation=[0.8])
    answer = correlation_factor(**case)
    assert answer.value == correlation_factor(**same).value
    assert answer.numbers["missing_correlations"] == 1
    assert math.isnan(marginal_variance_factor(**case))


def test_correlation_factor_when_held_pairs_lack_history_then_says_how_many() -> None:
    nan = math.nan
    case = {
        **one_held(held_volatility=[0.01, 0.01], held_side=[1, -1], new_correlation=[nan, 0.1]),
        "held_correlation": [[nan, nan], [nan, nan]],
        "budget": 0.03,
    }
    answer = correlation_factor(**case)
    assert answer.numbers["missing_correlations"] == 2
    assert answer.numbers["volatility_before"] == pytest.approx(0.01 * math.sqrt(2 + 2 * 0.8))
    assert correlation_factor(**case, missing_correlation=math.nan).outcome is Outcome.UNKNOWN


def test_correlation_factor_when_it_answers_then_says_why_with_numbers() -> None:
    fits = correlation_factor(**one_held(budget=0.015, new_correlation=[0.0]))
    assert fits.kind is Kind.FACTOR
    assert (
        fits.reason
        == "portfolio volatility 1 % a day, 1.41 % with the new position, budget 1.5 %: size x 1.00"
    )
    skip = correlation_factor(**one_held(budget=0.0101))
    assert skip.reason == (
        "portfolio volatility 1 % a day, 1.73 % with the new position, budget 1.01 %: only 0.02 of it fits, skip"
    )
    assert skip.numbers["volatility_after"] == pytest.approx(0.01)
    assert correlation_factor(**one_held(budget=0.009)).numbers["share"] == 0.0  # over budget already


@pytest.mark.parametrize(
    ("correlations", "expected"),
    [([], 1.0), ([0.0], 1.0), ([-0.5], 1.0), ([1.0], 0.25), ([0.4, 0.8], 0.55), ([-0.2, 0.6], 0.85)],
)
def test_mean_correlation_factor_when_mean_rises_then_falls_to_the_floor(
    correlations: list[float], expected: float
) -> None:
    answer = mean_correlation_factor(correlations=correlations)
    assert (answer.kind, answer.outcome) == (Kind.FACTOR, Outcome.FINE)
    assert answer.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_mean_correlation_factor_when_history_is_missing_then_pessimistic_and_says_how_many(
    bad: float | None,
) -> None:
    answer = mean_correlation_factor(correlations=[bad, 0.2])
    assert answer.value == pytest.approx(1.0 - 0.75 * 0.5)
    assert answer.numbers["missing_correlations"] == 1


@pytest.mark.parametrize(
    "inputs",
    [
        {"correlations": None},
        {"correlations": 0.5},
        {"correlations": [1.01]},
        {"correlations": [math.nan], "missing_correlation": math.nan},
        {"correlations": [0.5], "floor": math.nan},
        {"correlations": [0.5], "floor": 1.1},
    ],
)
def test_mean_correlation_factor_when_input_is_missing_or_impossible_then_unknown(inputs: dict) -> None:
    answer = mean_correlation_factor(**inputs)
    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


def test_mean_correlation_factor_when_floor_is_zero_and_all_move_as_one_then_breached() -> None:
    assert mean_correlation_factor(correlations=[1.0], floor=0.0).outcome is Outcome.BREACHED


def test_effective_bets_when_risk_is_equal_then_between_one_and_the_number_of_bets() -> None:
    ones, apart = np.ones((4, 4)), np.eye(4)
    equal = np.full(4, 0.25)
    assert effective_bets(ones, equal) == pytest.approx(1.0)
    assert effective_bets(apart, equal) == pytest.approx(4.0)
    assert effective_bets(0.5 * ones + 0.5 * apart, equal) == pytest.approx(4 / (1 + 3 * 0.5))


def test_effective_bets_when_given_covariance_or_correlation_then_the_same() -> None:
    rho, sigma = np.array([[1.0, 0.6], [0.6, 1.0]]), np.array([0.02, 0.05])
    weights = np.array([0.5, -0.3])
    direct = effective_bets(np.outer(sigma, sigma) * rho, weights)
    assert direct == pytest.approx(effective_bets(rho, weights * sigma))
    assert direct > 2.0  # a hedge


@pytest.mark.parametrize(
    ("matrix", "weights"),
    [
        ([[1.0, math.nan], [math.nan, 1.0]], [1.0, 1.0]),
        ([[1.0, 0.0], [0.0, 1.0]], [1.0, math.inf]),
        ([[1.0, 0.0], [0.0, 1.0]], [1.0]),
        ([[-1.0]], [1.0]),
        ([[0.0]], [1.0]),
        ([[1.0, 1.0], [1.0, 1.0]], [1.0, -1.0]),
        (np.empty((0, 0)), []),
    ],
)
def test_effective_bets_when_input_is_missing_or_carries_no_variance_then_nan(
    matrix: object, weights: object
) -> None:
    assert math.isnan(effective_bets(matrix, weights))  # type: ignore[arg-type]
