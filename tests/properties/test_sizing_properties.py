"""What holds for sizing whatever the numbers are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.rules.answer import Outcome
from plimsoll.rules.correlation import (
    correlation_factor,
    ewma_correlation,
    marginal_variance_factor,
    mean_correlation_factor,
)
from plimsoll.rules.kelly import MOST_NOTIONAL_TO_EQUITY, KellyEstimate, kelly_estimate, kelly_limit
from plimsoll.rules.regime import volatility_regime
from plimsoll.rules.volatility import blended_volatility, daily_close_volatility, normal_daily_range
from plimsoll.rules.volatility_budget import volatility_budget

fixed = settings(derandomize=True, deadline=None, max_examples=100, database=None)

seeds = st.integers(0, 2**32 - 1)
sigmas = st.floats(1e-4, 1.0)
equities = st.floats(1e-3, 1e9)
returns = st.lists(st.floats(-1.5, 1.5).map(lambda r: round(r, 6)), min_size=1, max_size=40)
prices = st.one_of(st.floats(1e-8, 1e8), st.sampled_from([0.0, -1.0, math.nan, math.inf]))


def candles(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(rng.standard_t(3, n) * 0.005))
    return close * np.exp(rng.exponential(0.004, n)), close * np.exp(-rng.exponential(0.004, n)), close


def book(seed: int, k: int) -> dict:
    rng = np.random.default_rng(seed)
    rho = np.corrcoef(rng.normal(size=(k + 1, k + 4)) + rng.uniform(0, 2) * rng.normal(size=k + 4))
    rho = np.clip(np.atleast_2d(rho), -1.0, 1.0)
    return {
        "held_volatility": rng.uniform(0.001, 0.02, k),
        "held_side": rng.choice([-1, 1], k),
        "held_correlation": rho[:k, :k],
        "new_correlation": rho[:k, k],
        "new_side": int(rng.choice([-1, 1])),
        "new_volatility": float(rng.uniform(0.001, 0.04)),
        "budget": float(rng.uniform(0.005, 0.05)),
        "shrink": float(rng.choice([0.0, 0.25, 1.0])),
    }


@fixed
@given(seed=seeds, n=st.integers(0, 400), more=st.integers(1, 60), future=prices, bad=st.integers(0, 400))
def test_volatility_when_future_candles_arrive_then_the_past_stays(
    seed: int, n: int, more: int, future: float, bad: int
) -> None:
    high, low, close = candles(seed, n)
    if bad < n and seed % 2:
        close[bad] = np.nan
    longer = [np.concatenate([column, np.full(more, future)]) for column in (high, low, close)]
    pairs = [
        (blended_volatility(close), blended_volatility(longer[2])),
        (blended_volatility(close, mode="max"), blended_volatility(longer[2], mode="max")),
        (daily_close_volatility(close, days=3), daily_close_volatility(longer[2], days=3)),
        (normal_daily_range(high, low, close), normal_daily_range(*longer)),
    ]
    for before, after in pairs:
        np.testing.assert_array_equal(after[:n], before)


@fixed
@given(seed=seeds, scale=st.floats(1e-6, 1e6))
def test_volatility_when_prices_are_quoted_in_another_unit_then_the_same(seed: int, scale: float) -> None:
    high, low, close = candles(seed, 200)
    for one, other in (
        (blended_volatility(close), blended_volatility(close * scale)),
        (daily_close_volatility(close, days=3), daily_close_volatility(close * scale, days=3)),
        (normal_daily_range(high, low, close), normal_daily_range(high * scale, low * scale, close * scale)),
    ):
        np.testing.assert_allclose(other, one, rtol=1e-6)


@fixed
@given(a=sigmas, b=sigmas)
def test_regime_when_volatility_rises_then_leverage_never_does(a: float, b: float) -> None:
    calm, wild = volatility_regime(sigma_day=min(a, b)), volatility_regime(sigma_day=max(a, b))
    assert wild.value <= calm.value  # type: ignore[operator]


@fixed
@given(a=sigmas, b=sigmas, equity=equities, p=st.one_of(st.none(), st.floats(0.001, 0.1)))
def test_budget_when_volatility_rises_then_notional_never_does(
    a: float, b: float, equity: float, p: float | None
) -> None:
    calm = volatility_budget(equity=equity, sigma_day=min(a, b), exceedance=p)
    wild = volatility_budget(equity=equity, sigma_day=max(a, b), exceedance=p)
    assert 0.0 < wild.value <= calm.value  # type: ignore[operator]


@fixed
@given(p=st.floats(0.001, 0.1), q=st.floats(0.001, 0.1), sigma=sigmas)
def test_budget_when_exceedance_is_rarer_then_notional_never_rises(p: float, q: float, sigma: float) -> None:
    rare = volatility_budget(equity=1.0, sigma_day=sigma, exceedance=min(p, q))
    often = volatility_budget(equity=1.0, sigma_day=sigma, exceedance=max(p, q))
    one_sigma = volatility_budget(equity=1.0, sigma_day=sigma)
    assert rare.value <= often.value < one_sigma.value  # type: ignore[operator]


@fixed
@given(sigma=sigmas, equity=equities, scale=st.floats(1e-3, 1e3))
def test_sizes_when_equity_scales_then_they_scale(sigma: float, equity: float, scale: float) -> None:
    one, other = (volatility_budget(equity=e, sigma_day=sigma).value for e in (equity, equity * scale))
    assert other == pytest.approx(one * scale, rel=1e-9)  # type: ignore[operator]
    estimate = KellyEstimate("edge", 0.5, 40)
    one, other = (
        kelly_limit(estimate=estimate, equity=e, loss_at_stop_ratio=sigma).value
        for e in (equity, equity * scale)
    )
    assert other == pytest.approx(one * scale, rel=1e-9)  # type: ignore[operator]


@fixed
@given(
    trades=returns,
    method=st.sampled_from(["exact", "binary"]),
    shrink=st.sampled_from([0.0, 100.0]),
    equity=st.floats(-1e6, 1e6),
    loss=st.floats(1e-4, 1.0),
    others=st.integers(0, 20),
    rho=st.floats(-1.0, 1.0),
)
def test_kelly_when_any_trades_are_given_then_finite_and_never_negative(
    trades: list[float], method: str, shrink: float, equity: float, loss: float, others: int, rho: float
) -> None:
    estimate = kelly_estimate(trades, method=method, multiple=0.5, shrink_trades=shrink, min_trades=5)  # type: ignore[arg-type]
    answer = kelly_limit(
        estimate=estimate, equity=equity, loss_at_stop_ratio=loss, open_trades=others, correlation=rho
    )
    assert answer.outcome is not Outcome.UNKNOWN
    assert answer.value is not None
    assert 0.0 <= answer.value < math.inf
    if equity > 1e-3:
        assert answer.value > 0.0
        assert answer.value <= max(0.5 * MOST_NOTIONAL_TO_EQUITY, 0.0025 / loss) * equity * (1.0 + 1e-12)


def notional(trades: np.ndarray, shrink: float = 0.0, method: str = "exact") -> float:
    estimate = kelly_estimate(trades, method=method, multiple=1.0, shrink_trades=shrink, min_trades=1)  # type: ignore[arg-type]
    assert estimate.notional_to_equity is not None
    return estimate.notional_to_equity


@fixed
@given(
    trades=returns,
    loss=st.floats(-1.5, 0.0).map(lambda r: round(r, 6)),
    method=st.sampled_from(["exact", "binary"]),
)
def test_kelly_when_losses_are_added_without_shrinkage_then_it_never_rises(
    trades: list[float], loss: float, method: str
) -> None:
    if (
        method == "binary"
    ):  # a loss under the mean loss lowers the mean loss; only one at least as deep is sure to count
        loss = min([loss, *trades])
    before = notional(np.array(trades), method=method)
    assert notional(np.array([*trades, loss]), method=method) <= before * (1.0 + 1e-9)


@fixed
@given(trades=returns, index=st.integers(0, 39), worse=st.floats(0.0, 1.0))
def test_kelly_exact_when_any_trade_turns_out_worse_then_it_never_rises(
    trades: list[float], index: int, worse: float
) -> None:
    changed = np.array(trades)
    changed[index % len(trades)] -= worse
    assert notional(changed) <= notional(np.array(trades)) * (1.0 + 1e-9)


@fixed
@given(trades=returns, worse=st.floats(0.0, 1.0), shrink=st.floats(0.0, 300.0))
def test_kelly_exact_when_the_worst_loss_is_deeper_then_shrunk_or_not_it_never_rises(
    trades: list[float], worse: float, shrink: float
) -> None:
    changed = np.array(trades)
    changed[changed.argmin()] -= worse
    assert notional(changed, shrink) <= notional(np.array(trades), shrink) * (1.0 + 1e-9)


@fixed
@given(trades=returns, shrink=st.floats(0.0, 300.0), method=st.sampled_from(["exact", "binary"]), seed=seeds)
def test_kelly_when_trades_are_in_another_order_or_shrunk_more_then_the_same_or_less(
    trades: list[float], shrink: float, method: str, seed: int
) -> None:
    values = np.array(trades)
    plain = notional(values, shrink, method)
    shuffled = np.random.default_rng(seed).permutation(values)
    assert notional(shuffled, shrink, method) == pytest.approx(plain, rel=1e-6, abs=1e-9)
    assert notional(values, shrink + 50.0, method) <= plain * (1.0 + 1e-9)


@fixed
@given(seed=seeds, k=st.integers(0, 8), skip=st.sampled_from([0.0, 0.25, 0.5]))
def test_correlation_factor_when_it_allows_a_share_then_the_portfolio_is_within_budget(
    seed: int, k: int, skip: float
) -> None:
    case = book(seed, k)
    share = marginal_variance_factor(**case, skip_below=skip)
    assert share == 0.0 or skip <= share <= 1.0
    sides = np.append(case["held_side"], case["new_side"])
    rho = np.eye(k + 1)
    rho[:k, :k], rho[:k, k], rho[k, :k] = (
        case["held_correlation"],
        case["new_correlation"],
        case["new_correlation"],
    )
    rho = (1.0 - case["shrink"]) * np.outer(sides, sides) * rho + case["shrink"]

    def variance(g: float) -> float:
        sigma = np.append(case["held_volatility"], g * case["new_volatility"])
        return float(sigma @ rho @ sigma)

    budget = case["budget"] ** 2
    if share > skip:
        assert variance(share) <= budget * (1.0 + 1e-9)
    if share < 1.0:  # and no larger share would fit
        assert all(variance(g) > budget * (1.0 - 1e-9) for g in np.linspace(max(share, skip) + 1e-6, 1.0, 20))


@fixed
@given(seed=seeds, k=st.integers(1, 8))
def test_correlation_factor_when_positions_are_in_another_order_then_the_same(seed: int, k: int) -> None:
    case = book(seed, k)
    order = np.random.default_rng(seed).permutation(k)
    moved = {
        **case,
        "held_volatility": case["held_volatility"][order],
        "held_side": case["held_side"][order],
        "held_correlation": case["held_correlation"][np.ix_(order, order)],
        "new_correlation": case["new_correlation"][order],
    }
    one, other = correlation_factor(**case, skip_below=0.0), correlation_factor(**moved, skip_below=0.0)
    assert other.value == pytest.approx(one.value, rel=1e-9, abs=1e-9)
    means = [mean_correlation_factor(correlations=c["new_correlation"]).value for c in (case, moved)]
    assert means[0] == pytest.approx(means[1], rel=1e-12)


@fixed
@given(seed=seeds, k=st.integers(1, 6), mirrored=st.booleans(), tighter=st.floats(0.1, 1.0))
def test_correlation_factor_when_the_budget_shrinks_then_a_book_within_it_gets_no_more(
    seed: int, k: int, mirrored: bool, tighter: float
) -> None:
    case = book(seed, k)
    if mirrored:
        flipped = {**case, "held_side": -case["held_side"], "new_side": -case["new_side"]}
        assert marginal_variance_factor(**flipped) == marginal_variance_factor(**case)
    less = {**case, "budget": case["budget"] * tighter}
    assert marginal_variance_factor(**less) <= marginal_variance_factor(**case) * (1.0 + 1e-12)


@fixed
@given(rho=st.lists(st.one_of(st.floats(-1.0, 1.0), st.just(math.nan)), max_size=12))
def test_mean_correlation_factor_when_any_correlations_then_between_floor_and_one(rho: list[float]) -> None:
    value = mean_correlation_factor(correlations=rho).value
    assert value is not None
    assert 0.25 <= value <= 1.0


@fixed
@given(seed=seeds, k=st.integers(1, 6), missing=st.floats(0.0, 0.6))
def test_ewma_correlation_when_hours_are_missing_then_symmetric_and_bounded(
    seed: int, k: int, missing: float
) -> None:
    rng = np.random.default_rng(seed)
    moves = rng.normal(size=(300, k)) + rng.normal(size=(300, 1))
    moves[rng.random(moves.shape) < missing] = np.nan
    rho = ewma_correlation(moves)
    np.testing.assert_allclose(rho, rho.T, rtol=1e-12)
    known = rho[np.isfinite(rho)]
    assert (np.abs(known) <= 1.0).all()
