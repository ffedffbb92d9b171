"""The liquidation price, its distance and the leverage that keeps it far enough away."""

import json
import math
from pathlib import Path

import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.leverage import leverage_from_liquidation
from plimsoll.rules.liquidation import (
    MaintenanceTier,
    all_finite,
    all_positive,
    buffered_distance_ratio,
    liquidation_distance,
    liquidation_distance_ratio,
    liquidation_price,
    minimum_liquidation_distance,
    tier_of,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "quant.json").read_text())
TIERS = (
    MaintenanceTier(0.0, 5_000.0, 0.01, 0.0, 50.0),
    MaintenanceTier(5_000.0, 50_000.0, 0.025, 75.0, 20.0),
    MaintenanceTier(50_000.0, 100_000.0, 0.05, 1_325.0, 2.0),
)
FLAT = (MaintenanceTier(0.0, None, 0.01, 0.0),)
GARBAGE = [math.nan, math.inf, -math.inf, None, "5", True, [], 10**400]
SIDES = ["long", "short"]


@pytest.mark.parametrize("case", VECTORS["liquidation_distance"]["cases"], ids=str)
def test_distance_when_given_the_vectors_then_equals_them(case):
    distance = liquidation_distance_ratio(leverage=case["leverage"], mmr=case["mmr"], side=case["side"])

    assert distance == pytest.approx(case["expected"], abs=1e-12)


@pytest.mark.parametrize(
    ("notional", "mmr"),
    [
        (1e-9, 0.01),
        (4_999.99, 0.01),
        (5_000.0, 0.025),
        (49_999.9, 0.025),
        (50_000.0, 0.05),
        (100_000.0, 0.05),
    ],
)
def test_tier_when_notional_is_within_then_the_one_whose_range_holds_it(notional, mmr):
    assert tier_of(TIERS, notional).mmr == mmr


@pytest.mark.parametrize("notional", [100_000.01, 0.0, -1.0, *GARBAGE])
def test_tier_when_notional_is_past_the_last_or_no_number_then_none(notional):
    assert tier_of(TIERS, notional) is None


@pytest.mark.parametrize(
    "tiers",
    [
        None,
        [],
        (),
        5,
        "abc",
        [None],
        [{"minNotional": 0}],
        [MaintenanceTier(10.0, None, 0.01, 0.0)],
        [MaintenanceTier(math.nan, None, 0.01, 0.0)],
        [MaintenanceTier(0.0, math.nan, 0.01, 0.0)],
        [MaintenanceTier(0.0, "x", 0.01, 0.0)],
        [MaintenanceTier(0.0, None, math.nan, 0.0)],
        [MaintenanceTier(0.0, None, -0.01, 0.0)],
        [MaintenanceTier(0.0, None, 1.0, 0.0)],
        [MaintenanceTier(0.0, None, 0.01, None)],
        [MaintenanceTier(0.0, None, 0.01, -1.0)],
        [MaintenanceTier(0.0, None, 0.01, 0.0, math.nan)],
    ],
    ids=str,
)
def test_tiers_when_missing_or_garbage_then_nothing_is_known(tiers):
    assert tier_of(tiers, 5.0) is None
    assert math.isnan(liquidation_price(side="long", open_rate=5.0, amount=1.0, margin=1.0, tiers=tiers))
    answer = leverage_from_liquidation(side="long", tiers=tiers, notional=5.0, cap=5.0, daily_range=0.05)
    assert answer.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("side", "expected"), [("long", 80.80808080808081), ("short", 118.81188118811882)])
def test_price_when_unbuffered_at_5x_then_the_binance_formula(side, expected):
    price = liquidation_price(side=side, open_rate=100.0, amount=1.0, margin=20.0, tiers=FLAT, buffer=0.0)

    assert price == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("side", "raw"), [("long", 80.80808080808081), ("short", 118.81188118811882)])
def test_price_when_buffered_then_nearer_to_the_entry_by_the_buffer(side, raw):
    price = liquidation_price(side=side, open_rate=100.0, amount=1.0, margin=20.0, tiers=FLAT, buffer=0.05)

    assert abs(100.0 - price) == pytest.approx(0.95 * abs(100.0 - raw))


def test_price_when_long_at_1x_then_five_percent_of_the_entry_and_never_below_zero():
    at_1x = {"side": "long", "open_rate": 100.0, "amount": 1.0, "tiers": FLAT}

    assert liquidation_price(margin=100.0, **at_1x) == pytest.approx(5.0)
    assert liquidation_price(margin=150.0, **at_1x) == 0.0


@pytest.mark.parametrize(("side", "sign"), [("long", 1), ("short", -1)])
def test_price_when_funding_was_paid_then_nearer_to_the_entry(side, sign):
    trade = {"side": side, "open_rate": 100.0, "amount": 1.0, "margin": 20.0, "tiers": FLAT}
    before, after = liquidation_price(**trade), liquidation_price(extra=-5.0, **trade)

    assert sign * (after - before) > 4.0


@pytest.mark.parametrize("side", SIDES)
def test_price_when_margin_is_used_up_then_past_the_entry(side):
    price = liquidation_price(side=side, open_rate=100.0, amount=1.0, margin=20.0, extra=-25.0, tiers=FLAT)

    assert (price > 100.0) if side == "long" else (price < 100.0)
    assert liquidation_distance(side=side, rate=100.0, liquidation_price=price) < 0.0


@pytest.mark.parametrize("name", ["open_rate", "amount", "margin", "extra", "buffer"])
@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: str(value)[:8])
def test_price_when_an_input_is_garbage_then_nan(name, value):
    known = {"open_rate": 100.0, "amount": 1.0, "margin": 20.0, "extra": 0.0, "buffer": 0.05, "tiers": FLAT}

    assert math.isnan(liquidation_price(side="long", **{**known, name: value}))


@pytest.mark.parametrize(
    "change", [{"margin": 0.0}, {"amount": -1.0}, {"side": "up"}, {"buffer": 1.0}, {"buffer": -0.01}]
)
def test_price_when_an_input_is_out_of_range_then_nan(change):
    known = {"side": "long", "open_rate": 100.0, "amount": 1.0, "margin": 20.0, "tiers": FLAT}

    assert math.isnan(liquidation_price(**{**known, **change}))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("leverage", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("notional", [1_000.0, 20_000.0, 80_000.0])
@pytest.mark.parametrize("extra_ratio", [0.0, -0.02, -0.9])
def test_distance_when_compared_with_the_price_then_the_same(side, leverage, notional, extra_ratio):
    price = liquidation_price(
        side=side,
        open_rate=200.0,
        amount=notional / 200.0,
        margin=notional / leverage,
        extra=notional * extra_ratio,
        tiers=TIERS,
    )
    ratio = min(
        buffered_distance_ratio(
            leverage=leverage,
            mmr=tier.mmr,
            side=side,
            maintenance_amount_ratio=tier.maintenance_amount / notional,
            extra_ratio=extra_ratio,
        )
        for tier in (TIERS if extra_ratio > -0.5 else [tier_of(TIERS, notional)])
    )

    assert ratio == pytest.approx(
        liquidation_distance(side=side, rate=200.0, liquidation_price=price), abs=1e-12
    )


@pytest.mark.parametrize(
    "change",
    [{"leverage": 0.0}, {"leverage": math.nan}, {"mmr": 1.0}, {"mmr": None}, {"side": "x"}, {"buffer": "a"}],
)
def test_distance_ratio_when_an_input_is_unknown_then_nan(change):
    assert math.isnan(buffered_distance_ratio(**{"leverage": 5.0, "mmr": 0.01, "side": "long", **change}))


@pytest.mark.parametrize(
    ("side", "rate", "price"),
    [
        ("long", math.nan, 1.0),
        ("long", 1.0, None),
        ("long", 1.0, math.nan),
        ("long", 1.0, -1.0),
        ("short", 1.0, 0.0),
        ("x", 1.0, 1.0),
    ],
)
def test_liquidation_distance_when_an_input_is_unknown_then_nan(side, rate, price):
    assert math.isnan(liquidation_distance(side=side, rate=rate, liquidation_price=price))


@pytest.mark.parametrize(
    ("distance", "daily_range", "outcome"),
    [
        (0.15, 0.05, Outcome.FINE),
        (0.149999, 0.05, Outcome.BREACHED),
        (0.20, 0.20, Outcome.FINE),
        (0.199999, 0.20, Outcome.BREACHED),
        (-0.5, 0.05, Outcome.BREACHED),
    ],
)
def test_minimum_distance_when_just_inside_or_outside_then_fine_or_breached(distance, daily_range, outcome):
    answer = minimum_liquidation_distance(distance_ratio=distance, daily_range=daily_range)

    assert answer.outcome is outcome
    assert answer.kind is Kind.GATE
    assert "%" in answer.reason


def test_minimum_distance_when_multiple_is_two_then_twice_the_daily_range():
    assert (
        minimum_liquidation_distance(distance_ratio=0.2, daily_range=0.1, daily_range_multiple=2.0).outcome
        is Outcome.FINE
    )
    assert minimum_liquidation_distance(
        distance_ratio=0.199, daily_range=0.1, daily_range_multiple=2.0
    ).blocks


@pytest.mark.parametrize("name", ["distance_ratio", "daily_range", "minimum", "daily_range_multiple"])
@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: str(value)[:8])
def test_minimum_distance_when_an_input_is_garbage_then_unknown(name, value):
    known = {"distance_ratio": 0.5, "daily_range": 0.05, "minimum": 0.15, "daily_range_multiple": 1.0}

    assert minimum_liquidation_distance(**{**known, name: value}).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("daily_range", [0.0, -0.1])
def test_minimum_distance_when_daily_range_is_not_positive_then_unknown(daily_range):
    assert (
        minimum_liquidation_distance(distance_ratio=0.5, daily_range=daily_range).outcome is Outcome.UNKNOWN
    )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("leverage", [2, 3, 4, 5])
def test_leverage_when_required_distance_is_just_inside_or_outside_then_kept_or_lowered(side, leverage):
    distance = buffered_distance_ratio(leverage=leverage, mmr=0.01, side=side)
    ask = {"side": side, "tiers": FLAT, "notional": 1_000.0, "cap": 10.0, "daily_range": 0.001}

    assert leverage_from_liquidation(minimum=distance - 1e-9, **ask).value == leverage
    assert leverage_from_liquidation(minimum=distance + 1e-9, **ask).value == leverage - 1


@pytest.mark.parametrize("side", SIDES)
def test_leverage_when_not_even_1x_is_far_enough_then_breached(side):
    distance = buffered_distance_ratio(leverage=1, mmr=0.01, side=side)
    ask = {"side": side, "tiers": FLAT, "notional": 1_000.0, "cap": 5.0, "daily_range": 0.001}

    assert leverage_from_liquidation(minimum=distance - 1e-9, **ask).value == 1.0
    answer = leverage_from_liquidation(minimum=distance + 1e-9, **ask)
    assert (answer.outcome, answer.value) == (Outcome.BREACHED, 0.0)
    assert "not even 1x" in answer.reason


@pytest.mark.parametrize(("cap", "value"), [(5.0, 5.0), (3.99, 3.0), (1.0, 1.0), (1e300, 50.0)])
def test_leverage_when_nothing_else_binds_then_the_floor_of_cap_or_tier_maximum(cap, value):
    answer = leverage_from_liquidation(
        side="long", tiers=TIERS, notional=100.0, cap=cap, minimum=0.0, daily_range=1e-9
    )

    assert answer.value == value


def test_leverage_when_cap_is_under_1x_then_breached():
    answer = leverage_from_liquidation(side="long", tiers=TIERS, notional=100.0, cap=0.99, daily_range=0.01)

    assert answer.outcome is Outcome.BREACHED


def test_leverage_when_notional_is_in_a_higher_tier_then_lower():
    ask = {"side": "long", "tiers": TIERS, "cap": 5.0, "daily_range": 0.18}

    assert leverage_from_liquidation(notional=4_999.0, **ask).value == 5.0
    assert leverage_from_liquidation(notional=50_000.0, **ask).value == 2.0
    assert leverage_from_liquidation(notional=100_001.0, **ask).outcome is Outcome.UNKNOWN


def test_leverage_when_funding_is_reserved_then_lower():
    ask = {"side": "short", "tiers": FLAT, "notional": 100.0, "cap": 5.0, "daily_range": 0.17}

    assert leverage_from_liquidation(**ask).value == 5.0
    assert leverage_from_liquidation(extra_ratio=-0.05, **ask).value == 4.0


@pytest.mark.parametrize(
    "name", ["notional", "cap", "minimum", "daily_range", "buffer", "extra_ratio", "side"]
)
@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: str(value)[:8])
def test_leverage_when_an_input_is_garbage_then_unknown(name, value):
    known = {"side": "long", "tiers": FLAT, "notional": 100.0, "cap": 5.0, "daily_range": 0.05}

    answer = leverage_from_liquidation(**{**known, name: value})

    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


def test_checks_when_given_numbers_then_tell_finite_and_positive():
    assert all_finite(1, -2.5, 0)
    assert all_positive(1, 1e-300)
    assert not all_positive(1, 0.0)
    assert not any(all_finite(value) or all_positive(value) for value in GARBAGE)
