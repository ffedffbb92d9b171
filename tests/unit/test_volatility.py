"""Volatility of a day: vectors, history, holes, causality."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plimsoll.rules.volatility import blended_volatility, daily_close_volatility, normal_daily_range

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "quant.json").read_text())["volatility"]


def walk(n: int, *, seed: int = 7, sigma: float = 0.005) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, sigma, n)))


def slow_daily_close(close: np.ndarray, t: int, days: int) -> float:
    sampled = close[t - 24 * days : t + 1 : 24]
    return float(np.std(np.diff(np.log(sampled)), ddof=1))


@pytest.mark.parametrize(("index", "expected"), [(int(k), v) for k, v in VECTORS["expected"].items()])
def test_blended_volatility_when_given_the_vectors_then_matches(index: int, expected: float) -> None:
    assert blended_volatility(VECTORS["close"])[index] == pytest.approx(expected, rel=1e-12)


def test_blended_volatility_when_history_reaches_the_minimum_then_starts() -> None:
    sigma = blended_volatility(walk(100), min_hours=72)
    assert np.isnan(sigma[:72]).all()
    assert np.isfinite(sigma[72:]).all()


def test_blended_volatility_when_hourly_sigma_is_known_then_scales_by_root_24() -> None:
    sigma = blended_volatility(walk(20_000, sigma=0.005))
    assert float(np.nanmean(sigma)) == pytest.approx(0.005 * 24**0.5, rel=0.02)


def test_blended_volatility_when_mode_is_max_then_takes_the_greater_leg() -> None:
    close = np.concatenate([walk(800, sigma=0.002), walk(200, seed=8, sigma=0.02)])
    squared = pd.Series(np.log(close)).diff() ** 2
    fast = np.sqrt(24.0 * squared.ewm(halflife=24.0).mean().to_numpy())
    slow = np.sqrt(24.0 * squared.rolling(720, min_periods=72).mean().to_numpy())
    np.testing.assert_allclose(
        blended_volatility(close, mode="max")[72:], np.maximum(fast, slow)[72:], rtol=1e-12
    )
    mean = blended_volatility(close)[72:]
    np.testing.assert_allclose(mean, np.sqrt((fast**2 + slow**2) / 2.0)[72:], rtol=1e-12)
    assert (mean <= blended_volatility(close, mode="max")[72:] * (1.0 + 1e-12)).all()


@pytest.mark.parametrize("mode", ["mean", "max"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_blended_volatility_when_a_close_is_bad_then_unknown_exactly_while_inside_the_window(
    mode: str, bad: float
) -> None:
    close = walk(500)
    close[200] = bad
    sigma = blended_volatility(close, window_hours=100, min_hours=72, mode=mode)  # type: ignore[arg-type]
    # Returns 200 and 201 touch the close; the later of them leaves the window of 100 at 301.
    assert np.isfinite(sigma[72:200]).all()
    assert np.isnan(sigma[200:301]).all()
    assert np.isfinite(sigma[301:]).all()


def test_blended_volatility_when_a_hole_has_left_the_window_then_it_is_not_read_as_calm() -> None:
    close = walk(2_000)
    holed = close.copy()
    holed[500:510] = np.nan
    np.testing.assert_allclose(
        blended_volatility(holed)[1_300:], blended_volatility(close)[1_300:], rtol=1e-6
    )


@pytest.mark.parametrize("gap", [1, 30])
def test_blended_volatility_when_leading_closes_are_missing_then_history_starts_after_them(gap: int) -> None:
    close = walk(400)
    late = blended_volatility(np.concatenate([np.full(gap, np.nan), close]))
    np.testing.assert_allclose(late[gap:], blended_volatility(close), rtol=1e-12)
    assert np.isnan(late[: gap + 72]).all()


def test_blended_volatility_when_the_first_close_is_zero_then_unknown_as_any_bad_close() -> None:
    close = walk(300)
    close[0] = 0.0
    sigma = blended_volatility(close, window_hours=100)
    assert np.isnan(sigma[:101]).all()
    assert np.isfinite(sigma[101:]).all()


def test_blended_volatility_when_history_is_31_days_then_equals_the_full_history() -> None:
    close = walk(5_000)
    assert blended_volatility(close[-745:])[-1] == pytest.approx(blended_volatility(close)[-1], rel=1e-8)


def test_blended_volatility_when_prices_never_move_then_zero() -> None:
    assert (blended_volatility(np.full(200, 5.0))[72:] == 0.0).all()


@pytest.mark.parametrize("close", [[], [1.0], [None] * 100, [np.nan] * 100])
def test_volatility_when_there_is_no_price_history_then_nan_of_the_same_length(close: list[float]) -> None:
    for sigma in (
        blended_volatility(close),
        daily_close_volatility(close),
        normal_daily_range(close, close, close),
    ):
        assert sigma.shape == (len(close),)
        assert np.isnan(sigma).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"half_life_hours": 0.0},
        {"half_life_hours": float("nan")},
        {"min_hours": 0},
        {"min_hours": 721},
        {"mode": "median"},
    ],
)
def test_blended_volatility_when_arguments_are_out_of_range_then_refused(
    arguments: dict[str, object],
) -> None:
    with pytest.raises(ValueError, match="`"):
        blended_volatility(walk(10), **arguments)  # type: ignore[arg-type]


def test_blended_volatility_when_close_is_not_one_dimensional_then_refused() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        blended_volatility([[1.0, 2.0]])


@pytest.mark.parametrize("t", [720, 721, 743, 744, 999])
def test_daily_close_volatility_when_enough_history_then_sample_deviation_of_30_daily_returns(t: int) -> None:
    close = walk(1_000)
    assert daily_close_volatility(close)[t] == pytest.approx(slow_daily_close(close, t, 30), rel=1e-12)


def test_daily_close_volatility_when_history_is_just_too_short_then_nan() -> None:
    assert np.isnan(daily_close_volatility(walk(720))).all()
    assert np.isfinite(daily_close_volatility(walk(721))[720])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -3.0])
def test_daily_close_volatility_when_a_close_is_bad_then_unknown_exactly_where_it_is_used(bad: float) -> None:
    close = walk(400)
    close[150] = bad
    sigma = daily_close_volatility(close, days=3)
    assert sorted(np.flatnonzero(np.isnan(sigma[72:])) + 72) == [150, 174, 198, 222]


def test_daily_close_volatility_when_a_jump_left_the_window_then_nothing_of_it_stays() -> None:
    close = np.concatenate([np.full(200, 1e-6), np.full(400, 1e9)])
    assert (daily_close_volatility(close, days=3)[300:] == 0.0).all()


def test_daily_close_volatility_when_days_are_too_few_then_refused() -> None:
    with pytest.raises(ValueError, match="`days` is 1"):
        daily_close_volatility(walk(100), days=1)


def test_normal_daily_range_when_enough_history_then_mean_of_24_hour_ranges() -> None:
    close = walk(1_000)
    high, low = close * 1.004, close * 0.995
    ranges = [(high[t - 23 : t + 1].max() - low[t - 23 : t + 1].min()) / close[t] for t in range(23, 1_000)]
    result = normal_daily_range(high, low, close)
    for t in (94, 500, 742, 743, 999):
        first = max(0, t - 23 - 719)
        assert result[t] == pytest.approx(np.mean(ranges[first : t - 22]), rel=1e-10)


@pytest.mark.parametrize(("days", "first"), [(1, 46), (2, 70), (3, 94), (30, 94)])
def test_normal_daily_range_when_three_days_of_ranges_exist_then_starts(days: int, first: int) -> None:
    close = walk(200)
    result = normal_daily_range(close, close, close, days=days)
    assert np.isnan(result[:first]).all()
    assert np.isfinite(result[first:]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -3.0])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_normal_daily_range_when_a_price_is_bad_then_unknown_exactly_while_inside_the_window(
    column: int, bad: float
) -> None:
    close = walk(500)
    candles = [close * 1.01, close * 0.99, close.copy()]
    candles[column][200] = bad
    result = normal_daily_range(*candles, days=3)
    # The ranges at 200..223 see the candle; the last of them leaves the window of 72 at 295.
    assert np.isfinite(result[94:200]).all()
    assert np.isnan(result[200:295]).all()
    assert np.isfinite(result[295:]).all()


def test_normal_daily_range_when_low_is_above_high_then_unknown() -> None:
    close = walk(300)
    high, low = close * 1.01, close * 0.99
    high[250], low[250] = low[250], high[250]
    assert np.isnan(normal_daily_range(high, low, close)[250:]).all()


def test_normal_daily_range_when_leading_candles_are_missing_then_history_starts_after_them() -> None:
    close = walk(300)
    late = np.concatenate([np.full(40, np.nan), close])
    np.testing.assert_allclose(
        normal_daily_range(late, late, late)[40:], normal_daily_range(close, close, close), rtol=1e-12
    )


def test_normal_daily_range_when_the_first_candle_is_bad_then_unknown_as_any_bad_candle() -> None:
    close = walk(800)
    high, low = close * 1.01, close * 0.99
    low[0] = 0.0
    result = normal_daily_range(high, low, close)
    assert np.isnan(result[:743]).all()
    assert np.isfinite(result[743:]).all()


def test_normal_daily_range_when_lengths_differ_or_days_are_none_then_refused() -> None:
    with pytest.raises(ValueError, match="lengths"):
        normal_daily_range([1.0, 2.0], [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="`days` is 0"):
        normal_daily_range([1.0], [1.0], [1.0], days=0)
