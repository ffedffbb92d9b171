"""ATR, stop distance, stop price, and what Freqtrade is told."""

import math

import numpy as np
import pytest
import talib
from freqtrade.persistence import LocalTrade

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.stops import (
    atr_stop,
    average_true_range,
    stop_inside_liquidation,
    stop_price,
    stop_ratio_for_freqtrade,
    tighten_inside,
    tighter,
)

GARBAGE = [math.nan, math.inf, -math.inf, "5", True, [], 10**400]
SIDES = ["long", "short"]

INSIDE = {
    "side": "long",
    "stop_price": 95.0,
    "open_rate": 100.0,
    "liquidation_price": 80.0,
    "hard_ratio": 0.65,
}


@pytest.fixture
def candles():
    rng = np.random.default_rng(7)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, 300)))
    high = close * (1.0 + rng.uniform(0.0, 0.02, 300))
    low = close * (1.0 - rng.uniform(0.0, 0.02, 300))
    return high, low, close


@pytest.mark.parametrize("period", [1, 2, 14, 100])
def test_atr_when_candles_are_clean_then_identical_to_talib(candles, period):
    np.testing.assert_array_equal(
        average_true_range(*candles, period=period), talib.ATR(*candles, timeperiod=period)
    )


def test_atr_when_computed_by_hand_then_wilder(candles):
    high, low, close = candles
    ranges = np.maximum(high[1:], close[:-1]) - np.minimum(low[1:], close[:-1])
    expected = ranges[:14].mean()
    for value in ranges[14:]:
        expected = (expected * 13 + value) / 14

    assert average_true_range(*candles)[-1] == pytest.approx(expected)


def test_atr_when_later_candles_are_cut_off_then_earlier_values_stay(candles):
    full = average_true_range(*candles)
    cut = average_true_range(*(column[:200] for column in candles))

    np.testing.assert_array_equal(full[:200], cut)


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_atr_when_a_candle_is_garbage_then_nan_until_a_full_period_after_it(candles, column, value):
    broken = [series.copy() for series in candles]
    broken[column][150] = value

    atr = average_true_range(*broken)

    np.testing.assert_array_equal(atr[:150], talib.ATR(*candles, timeperiod=14)[:150])
    assert np.isnan(atr[150:165]).all()
    assert np.isfinite(atr[165:]).all()
    clean = talib.ATR(*(series[151:] for series in candles), timeperiod=14)
    np.testing.assert_array_equal(atr[151:], clean)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_atr_when_the_close_is_outside_the_candle_then_nan(candles, factor):
    high, low, close = candles
    close[-1] *= factor

    assert math.isnan(average_true_range(high, low, close)[-1])


def test_atr_when_candles_do_not_suffice_then_nan(candles):
    assert np.isnan(average_true_range(*(series[:14] for series in candles))).all()
    assert np.isfinite(average_true_range(*(series[:15] for series in candles))[-1])
    assert average_true_range([], [], []).size == 0


@pytest.mark.parametrize("period", [0, -3, 2.5, math.nan, None])
def test_atr_when_the_period_is_garbage_then_nan(candles, period):
    assert np.isnan(average_true_range(*candles, period=period)).all()


def test_atr_when_columns_are_unequal_or_text_then_nan(candles):
    high, low, close = candles

    assert np.isnan(average_true_range(high[:-1], low, close)).all()
    assert np.isnan(average_true_range(["a"] * 300, low, close)).all()
    assert np.isnan(average_true_range(high, low, [None] * 300)).all()


def test_stop_when_atr_is_two_percent_then_four_percent_away():
    answer = atr_stop(atr=2.0, rate=100.0)

    assert (answer.kind, answer.outcome, answer.value) == (Kind.STOP, Outcome.FINE, pytest.approx(0.04))


@pytest.mark.parametrize(
    ("own", "value"), [(None, 0.04), (0.039, 0.039), (0.041, 0.04), (0.99, 0.04), (3.0, 0.04)]
)
def test_stop_when_the_strategy_has_its_own_then_the_tighter(own, value):
    assert atr_stop(atr=2.0, rate=100.0, own_stop_price_ratio=own).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("atr", "outcome"), [(49.999, Outcome.FINE), (50.0, Outcome.BREACHED), (1e9, Outcome.BREACHED)]
)
def test_stop_when_the_distance_is_all_of_the_price_then_breached(atr, outcome):
    assert atr_stop(atr=atr, rate=100.0).outcome is outcome


@pytest.mark.parametrize("name", ["atr", "rate", "multiple", "own_stop_price_ratio"])
@pytest.mark.parametrize("value", [0.0, -0.1, *GARBAGE], ids=lambda value: str(value)[:8])
def test_stop_when_an_input_is_garbage_then_unknown(name, value):
    answer = atr_stop(
        **{"atr": 2.0, "rate": 100.0, "multiple": 2.0, "own_stop_price_ratio": 0.01, name: value}
    )

    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize("name", ["atr", "rate", "multiple"])
def test_stop_when_an_input_is_missing_then_unknown(name):
    assert atr_stop(**{"atr": 2.0, "rate": 100.0, "multiple": 2.0, name: None}).outcome is Outcome.UNKNOWN


def test_stop_price_when_valid_then_below_a_long_and_above_a_short():
    assert stop_price(side="long", rate=100.0, stop_price_ratio=0.04) == 96.0
    assert stop_price(side="short", rate=100.0, stop_price_ratio=0.04) == 104.0


@pytest.mark.parametrize(
    ("side", "rate", "ratio"),
    [
        ("long", 100.0, 1.0),
        ("long", 100.0, 0.0),
        ("short", 100.0, -0.1),
        ("long", math.nan, 0.1),
        ("long", 100.0, None),
        ("x", 100.0, 0.1),
    ],
)
def test_stop_price_when_not_valid_then_nan(side, rate, ratio):
    assert math.isnan(stop_price(side=side, rate=rate, stop_price_ratio=ratio))


@pytest.mark.parametrize(("side", "liquidation", "sign"), [("long", 80.0, -1), ("short", 120.0, 1)])
@pytest.mark.parametrize(
    ("way", "outcome"),
    [(13.0, Outcome.FINE), (13.00001, Outcome.BREACHED), (25.0, Outcome.BREACHED), (-5.0, Outcome.FINE)],
)
def test_inside_when_the_stop_is_at_65_percent_then_fine_and_just_beyond_breached(
    side, liquidation, sign, way, outcome
):
    answer = stop_inside_liquidation(
        side=side, stop_price=100.0 + sign * way, open_rate=100.0, liquidation_price=liquidation
    )

    assert (answer.kind, answer.outcome) == (Kind.GATE, outcome)


@pytest.mark.parametrize(
    ("side", "liquidation"), [("long", 100.0), ("long", 101.0), ("short", 100.0), ("short", 99.0)]
)
def test_inside_when_liquidation_is_past_the_entry_then_breached(side, liquidation):
    answer = stop_inside_liquidation(
        side=side, stop_price=100.0, open_rate=100.0, liquidation_price=liquidation
    )

    assert answer.outcome is Outcome.BREACHED


def test_inside_when_a_long_is_never_liquidated_then_fine():
    assert not stop_inside_liquidation(
        side="long", stop_price=40.0, open_rate=100.0, liquidation_price=0.0
    ).blocks


@pytest.mark.parametrize("name", ["stop_price", "open_rate", "liquidation_price", "hard_ratio", "side"])
@pytest.mark.parametrize("value", [None, -1.0, *GARBAGE], ids=lambda value: str(value)[:8])
def test_inside_when_an_input_is_garbage_then_unknown(name, value):
    assert stop_inside_liquidation(**{**INSIDE, name: value}).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("side", "stop", "liquidation", "expected"),
    [
        ("long", 95.0, 80.0, 95.0),
        ("long", 85.0, 80.0, 87.0),
        ("long", 70.0, 80.0, 87.0),
        ("long", None, 80.0, 87.0),
        ("long", math.nan, 80.0, 87.0),
        ("long", 95.0, 101.0, 101.0),
        ("short", 105.0, 120.0, 105.0),
        ("short", 115.0, 120.0, 113.0),
        ("short", math.nan, 120.0, 113.0),
        ("short", 105.0, 99.0, 99.0),
    ],
)
def test_tighten_when_the_stop_is_beyond_the_bound_then_moved_and_else_kept(
    side, stop, liquidation, expected
):
    moved = tighten_inside(
        side=side, stop_price=stop, open_rate=100.0, liquidation_price=liquidation, hard_ratio=0.65
    )

    assert moved == pytest.approx(expected)


@pytest.mark.parametrize("leverage", [1, 2, 3, 5])
@pytest.mark.parametrize(("side", "sign"), [("long", -1), ("short", 1)])
def test_tighten_when_the_result_is_checked_then_it_passes_its_own_gate(side, sign, leverage):
    where = {
        "side": side,
        "open_rate": 0.1234567,
        "liquidation_price": 0.1234567 * (1 + sign * 0.93 / leverage),
    }

    moved = tighten_inside(stop_price=0.1234567 * (1 + sign * 0.95 / leverage), **where)

    assert stop_inside_liquidation(stop_price=moved, **where).outcome is Outcome.FINE


@pytest.mark.parametrize("name", ["open_rate", "liquidation_price", "hard_ratio", "side"])
@pytest.mark.parametrize("value", [None, -1.0, *GARBAGE], ids=lambda value: str(value)[:8])
def test_tighten_when_the_bound_is_not_known_then_nan(name, value):
    assert math.isnan(tighten_inside(**{**INSIDE, name: value}))


def test_tighter_when_both_are_known_then_the_nearer():
    assert tighter("long", 95.0, 96.0) == tighter("long", 96.0, 95.0) == 96.0
    assert tighter("short", 105.0, 104.0) == tighter("short", 104.0, 105.0) == 104.0


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("value", [None, 0.0, -1.0, *GARBAGE], ids=lambda value: str(value)[:8])
def test_tighter_when_one_is_not_known_then_the_other(side, value):
    assert tighter(side, value, 96.0) == tighter(side, 96.0, value) == 96.0
    assert math.isnan(tighter(side, value, value))


def test_tighter_when_the_side_is_not_known_then_nan():
    assert math.isnan(tighter("x", 1.0, 2.0))


@pytest.mark.parametrize("leverage", [1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize(
    ("side", "stop"),
    [("long", 96.0), ("long", 50.0), ("long", 99.9999), ("short", 104.0), ("short", 150.0), ("short", 230.0)],
)
def test_ratio_when_given_to_freqtrade_then_its_stop_is_the_price(side, stop, leverage):
    trade = LocalTrade(
        pair="BTC/USDT:USDT",
        open_rate=100.0,
        stake_amount=100.0 / leverage,
        amount=1.0,
        fee_open=0.0005,
        fee_close=0.0005,
        leverage=leverage,
        is_short=side == "short",
        exchange="binance",
    )
    trade.adjust_stop_loss(
        100.0, stop_ratio_for_freqtrade(stop_price=stop, current_rate=100.0, side=side, leverage=leverage)
    )

    assert trade.stop_loss == pytest.approx(stop, rel=1e-12)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("beyond", [0.0, 1e-9, 5.0])
def test_ratio_when_the_stop_is_at_or_through_the_rate_then_none(side, beyond):
    stop = 100.0 + beyond if side == "long" else 100.0 - beyond

    assert stop_ratio_for_freqtrade(stop_price=stop, current_rate=100.0, side=side, leverage=3.0) is None


@pytest.mark.parametrize("name", ["stop_price", "current_rate", "leverage", "side"])
@pytest.mark.parametrize("value", [None, 0.0, -1.0, *GARBAGE], ids=lambda value: str(value)[:8])
def test_ratio_when_an_input_is_garbage_then_none(name, value):
    known = {"stop_price": 96.0, "current_rate": 100.0, "side": "long", "leverage": 3.0}

    assert stop_ratio_for_freqtrade(**{**known, name: value}) is None
