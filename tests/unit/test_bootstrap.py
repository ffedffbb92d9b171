"""Circular block bootstrap of daily returns, and the size that fits."""

from __future__ import annotations

import time

import numpy as np
import pytest

from plimsoll.rules.bootstrap import bootstrap_drawdown, size_that_fits

RETURNS = np.random.default_rng(7).standard_t(4, 300) * 0.01 + 0.0005


def naive(returns, block, paths, horizon, shrink, seed):
    """Recompute path by path in plain Python from the same block starts."""
    n = len(returns)
    mean = max(0.0, float(np.mean(returns)))
    shrunk = [r - mean + mean * n / (n + shrink) for r in returns]
    starts = np.random.default_rng(seed).integers(0, n, size=(-(-horizon // block), paths), dtype=np.int32)
    drawdowns, terminal = [], []
    for path in range(paths):
        equity = peak = 1.0
        deepest = 0.0
        for day in range(horizon):
            equity *= 1.0 + shrunk[(int(starts[day // block, path]) + day % block) % n]
            peak = max(peak, equity)
            deepest = max(deepest, 1.0 - equity / peak)
        drawdowns.append(deepest)
        terminal.append(equity - 1.0)
    return drawdowns, terminal


@pytest.mark.parametrize(("block", "horizon"), [(1, 30), (5, 30), (5, 33), (7, 20)])
def test_bootstrap_when_recomputed_path_by_path_then_it_agrees(block, horizon):
    found = bootstrap_drawdown(RETURNS[:40], block=block, paths=50, horizon=horizon, seed=3)
    drawdowns, terminal = naive(RETURNS[:40], block, 50, horizon, 100, 3)
    assert found.drawdowns == pytest.approx(drawdowns, abs=2e-6)
    assert found.terminal == pytest.approx(terminal, abs=2e-6)


def test_bootstrap_when_resampled_with_replacement_then_the_terminal_variance_is_above_zero():
    assert bootstrap_drawdown(RETURNS, seed=1).terminal.std() > 0.05
    assert bootstrap_drawdown(RETURNS, horizon=len(RETURNS), seed=1).terminal.std() > 0.05


def test_bootstrap_when_seeded_then_it_is_reproduced_and_another_seed_differs():
    first, again, other = (bootstrap_drawdown(RETURNS, seed=seed).drawdowns for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_bootstrap_when_large_then_it_takes_under_half_a_second():
    started = time.thread_time()  # not what others take of the machine meanwhile
    found = bootstrap_drawdown(RETURNS, paths=10_000, horizon=500, seed=1)
    assert time.thread_time() - started < 0.5
    assert found.drawdowns.shape == (10_000,)


def test_bootstrap_when_quantiles_are_read_then_they_rise_and_match_the_exceed_probability():
    found = bootstrap_drawdown(RETURNS, seed=1)
    assert 0.0 < found.q50 < found.q95 < found.q99 < 1.0
    assert found.exceed_probability(found.q95) == pytest.approx(0.05, abs=0.001)


def test_bootstrap_when_losses_cluster_then_blocks_show_deeper_drawdowns_than_single_days():
    runs = np.repeat(np.random.default_rng(2).normal(0.0, 0.01, 60), 5)
    assert bootstrap_drawdown(runs, block=5, seed=1).q95 > 1.3 * bootstrap_drawdown(runs, block=1, seed=1).q95


def test_bootstrap_when_the_mean_is_shrunk_then_the_forecast_is_less_rosy():
    good = RETURNS + 0.002
    assert (
        bootstrap_drawdown(good, shrink_days=100, seed=1).q95
        > bootstrap_drawdown(good, shrink_days=0, seed=1).q95
    )


def test_bootstrap_when_the_mean_is_negative_then_it_is_not_made_rosier():
    bad = RETURNS - 0.003
    assert np.array_equal(
        bootstrap_drawdown(bad, seed=1).terminal, bootstrap_drawdown(bad, shrink_days=0, seed=1).terminal
    )


def test_bootstrap_when_a_day_loses_everything_then_the_drawdown_is_nearly_one_and_finite():
    found = bootstrap_drawdown([-1.0, 0.01, -1.5], paths=100, seed=1)
    assert np.isfinite(found.drawdowns).all()
    assert found.q50 > 0.999


@pytest.mark.parametrize("limit", [0.05, 0.10, 0.20])
def test_size_when_the_drawdown_is_too_deep_then_it_is_scaled_until_it_fits(limit):
    wild = RETURNS * 4
    fit = size_that_fits(wild, limit=limit, seed=1)
    assert 0.0 < fit.factor < 1.0
    assert fit.drawdown <= limit
    assert bootstrap_drawdown(wild, scale=fit.factor, seed=1).q95 == pytest.approx(fit.drawdown)
    assert bootstrap_drawdown(wild, scale=fit.factor * 1.005, seed=1).q95 > limit


def test_size_when_the_drawdown_fits_then_it_is_never_raised_above_one():
    fit = size_that_fits(RETURNS * 0.1, seed=1)
    assert (fit.factor, fit.calibrated) == (1.0, True)


@pytest.mark.parametrize(("days", "calibrated"), [(59, False), (60, True)])
def test_size_when_there_are_few_days_then_nothing_is_calibrated(days, calibrated):
    fit = size_that_fits(RETURNS[:days] * 4, seed=1)
    assert fit.calibrated is calibrated
    assert (fit.factor == 1.0) is not calibrated


@pytest.mark.parametrize(
    ("returns", "arguments", "name"),
    [
        ([0.1], {}, "daily_returns"),
        ([0.1, float("nan")], {}, "daily_returns"),
        ([[0.1, 0.2]], {}, "daily_returns"),
        ([0.1, 0.2], {"block": 0}, "block"),
        ([0.1, 0.2], {"paths": 0}, "paths"),
        ([0.1, 0.2], {"horizon": 0}, "horizon"),
        ([0.1, 0.2], {"shrink_days": -1.0}, "shrink_days"),
    ],
)
def test_bootstrap_when_out_of_range_then_the_error_names_the_parameter(returns, arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        bootstrap_drawdown(returns, **arguments)


@pytest.mark.parametrize("arguments", [{"limit": 0.0}, {"limit": 1.0}, {"quantile": 0.0}, {"quantile": 1.0}])
def test_size_when_out_of_range_then_the_error_names_the_parameter(arguments):
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}` must be"):
        size_that_fits(RETURNS, **arguments)
