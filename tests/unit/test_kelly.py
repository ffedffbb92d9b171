"""Kelly: vectors, units, stages, edge cases, the limit."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.kelly import (
    MOST_NOTIONAL_TO_EQUITY,
    KellyEstimate,
    kelly_estimate,
    kelly_limit,
    without_growth_after_loss,
)

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "quant.json").read_text())["kelly"]["cases"]
TWO_POINT = np.array([0.012] * 55 + [-0.01] * 45)


def full(returns: object, method: str = "exact", shrink: float = 0.0) -> KellyEstimate:
    return kelly_estimate(returns, method=method, multiple=1.0, shrink_trades=shrink, min_trades=1)  # type: ignore[arg-type]


def growth(returns: np.ndarray, notional_to_equity: float) -> float:
    with np.errstate(all="ignore"):
        after = 1.0 + notional_to_equity * returns
        return float(np.log(after).mean()) if (after > 0.0).all() else -math.inf


def spread_with_gap() -> np.ndarray:
    # Wins and losses spread around the two points, 5 % of losses three times as large, one gap of -40 %.
    rng = np.random.default_rng(42)
    wins = rng.exponential(0.012, 1_100)
    losses = rng.exponential(0.01, 899) * np.where(rng.random(899) < 0.05, 3.0, 1.0)
    losses *= 0.01 / losses.mean()
    return np.concatenate([wins * 0.012 / wins.mean(), -losses, [-0.4]])


@pytest.mark.parametrize("case", CASES, ids=[f"{c['name']}-{c['multiple']}-{c['shrink_K']}" for c in CASES])
def test_kelly_estimate_when_given_the_vectors_then_matches(case: dict) -> None:
    estimate = kelly_estimate(
        case["returns_on_notional"][-case["window"] :],
        multiple=case["multiple"],
        shrink_trades=case["shrink_K"],
        min_trades=case["min_trades"],
    )
    expected = case["expected_notional_over_equity"]
    if expected is None:
        assert (estimate.stage, estimate.notional_to_equity) == ("cold_start", None)
    elif expected == 0.0:
        assert (estimate.stage, estimate.notional_to_equity) == ("no_edge", 0.0)
    else:
        assert estimate.stage == "edge"
        assert estimate.notional_to_equity == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["exact", "binary"])
def test_kelly_estimate_when_wins_and_losses_are_two_points_then_both_methods_agree(method: str) -> None:
    estimate = full(TWO_POINT, method)
    assert estimate.published_fraction == pytest.approx(0.55 - 0.45 / 1.2)
    assert estimate.notional_to_equity == pytest.approx(17.5, rel=1e-12)
    assert (estimate.win_rate, estimate.payoff) == (0.55, pytest.approx(1.2))


def test_kelly_fraction_when_compared_with_a_leverage_then_a_hundred_times_too_small() -> None:
    # f* is a fraction of equity at risk; at a loss of 1 % of notional it takes 100 f* of notional to risk it.
    estimate = full(TWO_POINT)
    fraction, right = estimate.published_fraction, estimate.notional_to_equity
    assert fraction is not None
    assert right is not None
    assert right / fraction == pytest.approx(1.0 / 0.01)
    assert growth(TWO_POINT, fraction) < 0.03 * growth(TWO_POINT, right)
    # As a leverage it would be under 1x whatever the edge: even a sure thing has f* = 1, so it would always bind.
    sure = full(np.array([0.012] * 999 + [-0.01])).published_fraction
    assert sure is not None
    assert fraction < sure < 1.0


def test_kelly_binary_when_losses_vary_then_it_overbets_and_exact_does_not() -> None:
    returns = spread_with_gap()
    exact, binary = full(returns), full(returns, "binary")
    assert exact.published_fraction == binary.published_fraction
    assert exact.notional_to_equity is not None
    assert binary.notional_to_equity is not None
    assert 1.5 < exact.notional_to_equity < 2.5
    assert binary.notional_to_equity > 5.0 * exact.notional_to_equity
    assert growth(returns, binary.notional_to_equity) == -math.inf
    assert growth(returns, exact.notional_to_equity) > 0.0


def test_kelly_exact_when_solved_then_no_neighbour_grows_faster() -> None:
    returns = np.random.default_rng(3).standard_t(3, 200) * 0.01 + 0.003
    best = full(returns).notional_to_equity
    assert best is not None
    assert growth(returns, best) > max(growth(returns, best * 0.999), growth(returns, best * 1.001))


def test_kelly_exact_when_shrunk_then_solves_the_returns_with_the_shrunk_mean() -> None:
    returns = np.random.default_rng(4).normal(0.004, 0.02, 80)
    estimate = full(returns, shrink=100)
    assert estimate.shrunk_mean == pytest.approx(returns.mean() * 80 / 180, rel=1e-12)
    shifted = returns - returns.mean() + returns.mean() * 80 / 180
    terms = shifted / (1.0 + estimate.notional_to_equity * shifted)
    assert abs(terms.mean()) < 1e-12


def test_kelly_estimate_when_multiple_halves_then_notional_halves() -> None:
    for method in ("exact", "binary"):
        half = kelly_estimate(TWO_POINT, method=method, multiple=0.5, shrink_trades=0, min_trades=1)  # type: ignore[arg-type]
        assert half.notional_to_equity == pytest.approx(8.75, rel=1e-12)


def test_kelly_binary_when_shrunk_then_scales_by_the_weight_of_the_sample() -> None:
    assert full(TWO_POINT, "binary", shrink=100).notional_to_equity == pytest.approx(17.5 / 2, rel=1e-12)


@pytest.mark.parametrize(("count", "stage"), [(0, "cold_start"), (29, "cold_start"), (30, "edge")])
def test_kelly_estimate_when_trades_reach_the_minimum_then_cold_start_ends(count: int, stage: str) -> None:
    returns = np.resize([0.02, -0.01], count)
    estimate = kelly_estimate(returns, multiple=0.25, shrink_trades=100, min_trades=30)
    assert (estimate.stage, estimate.trades) == (stage, count)


def test_kelly_estimate_when_minimum_is_zero_and_no_trade_exists_then_cold_start() -> None:
    assert kelly_estimate([], multiple=0.25, shrink_trades=0, min_trades=0).stage == "cold_start"


@pytest.mark.parametrize("method", ["exact", "binary"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_kelly_estimate_when_a_return_is_no_number_then_unknown(bad: float | None, method: str) -> None:
    estimate = full([*TWO_POINT, bad], method)
    assert (estimate.stage, estimate.notional_to_equity) == ("unknown", None)


@pytest.mark.parametrize("returns", [None, [[0.01, 0.02]], 0.5, [math.nan]])
def test_kelly_estimate_when_returns_are_missing_or_misshapen_then_unknown(returns: object) -> None:
    assert kelly_estimate(returns, multiple=0.25, shrink_trades=100, min_trades=30).stage == "unknown"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parameters",
    [{"multiple": math.nan}, {"multiple": 0.0}, {"shrink_trades": -1.0}, {"shrink_trades": math.nan}],
)
def test_kelly_estimate_when_parameters_are_out_of_range_then_unknown(parameters: dict[str, float]) -> None:
    arguments = {"multiple": 0.25, "shrink_trades": 100.0, "min_trades": 30, **parameters}
    assert kelly_estimate(TWO_POINT, **arguments).stage == "unknown"  # type: ignore[arg-type]


def test_kelly_estimate_when_method_does_not_exist_then_refused() -> None:
    with pytest.raises(ValueError, match="`method`"):
        full(TWO_POINT, "third")


@pytest.mark.parametrize("method", ["exact", "binary"])
@pytest.mark.parametrize(
    ("returns", "notional"),
    [
        ([0.01] * 50, MOST_NOTIONAL_TO_EQUITY),  # no loss on record: unbounded, so capped
        ([0.01] * 50 + [-1e-9], MOST_NOTIONAL_TO_EQUITY),  # hardly a loss: the same cap, no jump
        ([-0.01] * 50, 0.0),  # no win
        ([0.0] * 50, 0.0),  # neither
        ([0.01, -0.01] * 25, 0.0),  # mean exactly zero
    ],
)
def test_kelly_estimate_when_wins_or_losses_are_missing_then_finite(
    method: str, returns: list[float], notional: float
) -> None:
    estimate = full(returns, method)
    assert estimate.notional_to_equity == notional
    assert estimate.stage == ("edge" if notional > 0.0 else "no_edge")


def test_kelly_estimate_when_just_inside_the_cap_then_not_capped() -> None:
    # Two points: F = p/a - q/w. Losses of 0.4 % keep F under 125, losses of 0.3 % do not.
    inside, outside = full([0.02] * 60 + [-0.004] * 40), full([0.02] * 60 + [-0.003] * 40)
    assert inside.notional_to_equity == pytest.approx(0.6 / 0.004 - 0.4 / 0.02, abs=6.0)
    assert outside.notional_to_equity == MOST_NOTIONAL_TO_EQUITY
    low = full([0.02] * 60 + [-0.0045] * 40)
    assert low.notional_to_equity == pytest.approx(0.6 / 0.0045 - 0.4 / 0.02, rel=1e-12)


@pytest.mark.parametrize("worst", [-1.0, -1.5, -3.0])
def test_kelly_exact_when_a_loss_is_beyond_the_notional_then_ruin_stays_out_of_reach(worst: float) -> None:
    estimate = full([0.2] * 99 + [worst])
    assert estimate.notional_to_equity is not None
    assert 0.0 < estimate.notional_to_equity < -1.0 / worst
    # Two points again: F = p/a - q/w.
    assert estimate.notional_to_equity == pytest.approx(0.99 / -worst - 0.01 / 0.2, rel=1e-9)


def test_kelly_binary_when_trades_break_even_then_they_count_against_the_win_rate() -> None:
    with_zeros, without = full([*TWO_POINT, *[0.0] * 10], "binary"), full(TWO_POINT, "binary")
    assert with_zeros.win_rate == pytest.approx(0.5)
    assert with_zeros.notional_to_equity < without.notional_to_equity  # type: ignore[operator]


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e150, 1e300])
def test_kelly_estimate_when_returns_are_absurd_then_finite_or_unknown(scale: float) -> None:
    for method in ("exact", "binary"):
        value = full(TWO_POINT * scale, method).notional_to_equity
        assert value is None or 0.0 <= value <= MOST_NOTIONAL_TO_EQUITY


@pytest.mark.parametrize("method", ["exact", "binary"])
def test_kelly_estimate_when_the_sum_of_returns_overflows_then_unknown(method: str) -> None:
    assert full([1e308] * 50 + [-1e308] * 10, method).stage == "unknown"


def test_kelly_exact_when_an_added_loss_is_tiny_then_shrinkage_may_raise_it_by_its_own_weight_only() -> None:
    # More trades mean more trust: n/(n + K) rises by up to (n + 1)(n + K)/(n (n + 1 + K)) against the unshrunk mean.
    returns = np.resize([0.024, -0.016, 0.01], 50)
    before, after = full(returns, shrink=100), full([*returns, -1e-9], shrink=100)
    ratio = after.notional_to_equity / before.notional_to_equity  # type: ignore[operator]
    assert 1.0 < ratio < 51 * 150 / (50 * 151) * 1.02


def estimate_of(stage: str, notional: float | None = None) -> KellyEstimate:
    return KellyEstimate(stage, notional, 50)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (estimate_of("cold_start"), 0.0025 * 1000.0 / 0.02),
        (estimate_of("no_edge", 0.0), 0.001 * 1000.0 / 0.02),
        (estimate_of("edge", 0.7), 700.0),
        (estimate_of("edge", 0.0500001), 50.0001),  # just above the floor
        (estimate_of("edge", 0.0499999), 50.0),  # just under it
    ],
)
def test_kelly_limit_when_in_a_stage_then_its_notional(estimate: KellyEstimate, expected: float) -> None:
    answer = kelly_limit(estimate=estimate, equity=1000.0, loss_at_stop_ratio=0.02)
    assert (answer.kind, answer.outcome) == (Kind.NOTIONAL, Outcome.FINE)
    assert answer.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("open_trades", "correlation", "divisor"),
    [(0, 0.9, 1.0), (1, 0.5, 1.5), (4, 0.5, 3.0), (4, 0.0, 1.0), (4, -0.5, 1.0), (2, 1.0, 3.0)],
)
def test_kelly_limit_when_trades_share_the_risk_then_divided(
    open_trades: int, correlation: float, divisor: float
) -> None:
    answer = kelly_limit(
        estimate=estimate_of("edge", 3.0),
        equity=1000.0,
        loss_at_stop_ratio=0.02,
        open_trades=open_trades,
        correlation=correlation,
    )
    assert answer.value == pytest.approx(3000.0 / divisor)


@pytest.mark.parametrize("stage", ["cold_start", "no_edge", "edge"])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["equity", "loss_at_stop_ratio", "cold_start_risk", "floor_risk", "open_trades", "correlation"]
)
def test_kelly_limit_when_an_input_is_no_number_then_unknown(
    stage: str, name: str, bad: float | None
) -> None:
    inputs: dict[str, object] = {"equity": 1000.0, "loss_at_stop_ratio": 0.02, name: bad}
    answer = kelly_limit(estimate=estimate_of(stage, 1.0), **inputs)  # type: ignore[arg-type]
    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize(
    "inputs",
    [
        {"loss_at_stop_ratio": 0.0},
        {"loss_at_stop_ratio": -0.02},
        {"open_trades": -1},
        {"correlation": 1.01},
        {"cold_start_risk": 0.0},
        {"floor_risk": 0.0},
    ],
)
def test_kelly_limit_when_an_input_is_out_of_range_then_unknown(inputs: dict[str, float]) -> None:
    arguments = {"equity": 1000.0, "loss_at_stop_ratio": 0.02, **inputs}
    answer = kelly_limit(estimate=estimate_of("edge", 1.0), **arguments)  # type: ignore[arg-type]
    assert answer.outcome is Outcome.UNKNOWN


def test_kelly_limit_when_the_estimate_is_unknown_then_unknown() -> None:
    answer = kelly_limit(estimate=estimate_of("unknown"), equity=1000.0, loss_at_stop_ratio=0.02)
    assert answer.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("equity", [0.0, -10.0])
@pytest.mark.parametrize("stage", ["cold_start", "no_edge", "edge"])
def test_kelly_limit_when_no_equity_is_left_then_breached(stage: str, equity: float) -> None:
    answer = kelly_limit(estimate=estimate_of(stage, 1.0), equity=equity, loss_at_stop_ratio=0.02)
    assert (answer.outcome, answer.value) == (Outcome.BREACHED, 0.0)


def test_kelly_limit_when_asked_then_says_why_with_numbers() -> None:
    def reason(estimate: KellyEstimate) -> str:
        return kelly_limit(estimate=estimate, equity=1000.0, loss_at_stop_ratio=0.02).reason

    assert reason(estimate_of("cold_start")) == (
        "cold start with 50 trades, 0.25 % of equity at the stop: at most 0.125 of equity in notional"
    )
    assert reason(estimate_of("no_edge", 0.0)) == (
        "no edge in 50 trades, floor of 0.1 % of equity at the stop: at most 0.05 of equity in notional"
    )
    assert (
        reason(estimate_of("edge", 0.7)) == "Kelly from 50 trades is 0.7: at most 0.7 of equity in notional"
    )
    assert "under the floor" in reason(estimate_of("edge", 0.01))


@pytest.mark.parametrize(
    ("before", "after", "last", "expected"),
    [
        (0.5, 0.6, -0.001, 0.5),  # a small loss raised it: held
        (0.5, 0.6, 0.001, 0.6),  # a win may raise it
        (0.5, 0.4, -0.001, 0.4),  # a loss may lower it
    ],
)
def test_estimate_when_the_last_trade_lost_then_its_size_does_not_grow(
    before: float, after: float, last: float, expected: float
) -> None:
    previous = KellyEstimate("edge", before, 50)
    assert (
        without_growth_after_loss(previous, KellyEstimate("edge", after, 51), last).notional_to_equity
        == expected
    )


def test_estimate_when_the_cold_start_ends_with_a_loss_then_it_lasts_until_a_win() -> None:
    cold, edge = KellyEstimate("cold_start", None, 29), KellyEstimate("edge", 2.0, 30)
    held = without_growth_after_loss(cold, edge, -0.01)
    assert (held.stage, held.trades) == ("cold_start", 30)
    assert without_growth_after_loss(held, edge, 0.01).stage == "edge"


def test_estimate_when_an_edge_reappears_with_a_loss_then_no_edge_stays() -> None:
    none = KellyEstimate("no_edge", None, 60)
    assert without_growth_after_loss(none, KellyEstimate("edge", 0.3, 61), -0.01).stage == "no_edge"
