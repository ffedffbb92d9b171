"""The leverage cap and the leverage that keeps the stop well inside liquidation."""

import json
import math
from pathlib import Path

import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.leverage import (
    HARD_MAXIMUM_LEVERAGE,
    leverage_cap,
    leverage_closed_form,
    leverage_from_stop,
)
from plimsoll.rules.liquidation import MaintenanceTier, buffered_distance_ratio

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "quant.json").read_text())
FLAT = (MaintenanceTier(0.0, None, 0.01, 0.0),)
TIERS = (MaintenanceTier(0.0, 5_000.0, 0.01, 0.0, 50.0), MaintenanceTier(5_000.0, 50_000.0, 0.1, 450.0, 2.0))
GARBAGE = [math.nan, math.inf, -math.inf, None, "5", True, [], 10**400]
SIDES = ["long", "short"]
FEE = 0.0005


@pytest.mark.parametrize("case", VECTORS["leverage_from_stop"]["cases"], ids=str)
def test_closed_form_when_given_the_vectors_then_equals_them(case):
    leverage = leverage_closed_form(
        stop_price_ratio=case["stop"],
        mmr=case["mmr"],
        stop_to_liquidation_ratio=case["phi"],
        fee=FEE,
        funding_cost_per_day=case["funding_per_day"],
        cap=case["cap"],
    )

    assert leverage == pytest.approx(case["expected"], abs=1e-12)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("case", VECTORS["leverage_from_stop"]["cases"], ids=str)
def test_leverage_when_given_the_vectors_then_at_most_their_floor_and_exact(side, case):
    funding = case["funding_per_day"] * (1 if side == "long" else -1)
    answer = leverage_from_stop(
        stop_price_ratio=case["stop"],
        side=side,
        tiers=(MaintenanceTier(0.0, None, case["mmr"], 0.0),),
        notional=1_000.0,
        stop_to_liquidation_ratio=case["phi"],
        fee=FEE,
        funding_per_day=funding,
        cap=case["cap"],
    )

    assert answer.outcome is Outcome.FINE
    assert answer.value <= math.floor(case["expected"])
    shifted = {"mmr": case["mmr"], "side": side, "extra_ratio": -3 * case["funding_per_day"]}
    assert case["stop"] <= case["phi"] * buffered_distance_ratio(leverage=answer.value, **shifted)
    if answer.value < math.floor(case["expected"]):
        assert case["stop"] > case["phi"] * buffered_distance_ratio(leverage=answer.value + 1, **shifted)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("leverage", [1, 2, 3, 4, 5])
def test_leverage_when_stop_is_just_inside_or_outside_then_kept_or_lowered(side, leverage):
    border = 0.5 * buffered_distance_ratio(leverage=leverage, mmr=0.01, side=side)
    ask = {"side": side, "tiers": FLAT, "notional": 1_000.0, "fee": 0.0}

    assert leverage_from_stop(stop_price_ratio=border - 1e-9, **ask).value == leverage
    outside = leverage_from_stop(stop_price_ratio=border + 1e-9, **ask)
    assert outside.value == leverage - 1
    assert outside.outcome is (Outcome.BREACHED if leverage == 1 else Outcome.FINE)


@pytest.mark.parametrize("side", SIDES)
def test_leverage_when_the_closed_form_clips_to_1x_then_1x_is_still_verified(side):
    assert leverage_closed_form(stop_price_ratio=0.9, mmr=0.01, fee=FEE) == 1.0

    answer = leverage_from_stop(stop_price_ratio=0.9, side=side, tiers=FLAT, notional=1_000.0, fee=FEE)

    assert (answer.outcome, answer.value) == (Outcome.BREACHED, 0.0)
    assert "not even 1x" in answer.reason


def test_leverage_when_notional_is_in_a_higher_tier_then_lower():
    ask = {"stop_price_ratio": 0.05, "side": "long", "tiers": TIERS, "fee": FEE}

    assert leverage_from_stop(notional=4_999.0, **ask).value == 5.0
    assert leverage_from_stop(notional=5_000.0, **ask).value == 2.0
    assert leverage_from_stop(notional=50_001.0, **ask).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("side", "paying"), [("long", 0.02), ("short", -0.02)])
def test_leverage_when_this_side_pays_funding_then_lower_and_receiving_is_not_counted_on(side, paying):
    ask = {"stop_price_ratio": 0.07, "side": side, "tiers": FLAT, "notional": 100.0, "fee": FEE}
    neutral = leverage_from_stop(**ask).value

    assert leverage_from_stop(funding_per_day=paying, **ask).value < neutral
    assert leverage_from_stop(funding_per_day=-paying, **ask).value == neutral


@pytest.mark.parametrize(("cap", "value"), [(125.0, 5.0), (5.0, 5.0), (3.9, 3.0), (1.0, 1.0)])
def test_leverage_when_the_stop_is_tight_then_the_cap_and_never_above_five(cap, value):
    answer = leverage_from_stop(
        stop_price_ratio=0.001, side="long", tiers=TIERS, notional=100.0, fee=FEE, cap=cap
    )

    assert (answer.kind, answer.value) == (Kind.LEVERAGE, value)


@pytest.mark.parametrize(
    "name",
    [
        "stop_price_ratio",
        "notional",
        "stop_to_liquidation_ratio",
        "fee",
        "funding_per_day",
        "funding_days",
        "buffer",
        "cap",
        "side",
        "tiers",
    ],
)
@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: str(value)[:8])
def test_leverage_when_an_input_is_garbage_then_unknown(name, value):
    known = {"stop_price_ratio": 0.02, "side": "long", "tiers": FLAT, "notional": 100.0, "fee": FEE}

    answer = leverage_from_stop(**{**known, name: value})

    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize(
    "change",
    [
        {"stop_price_ratio": 0.0},
        {"stop_to_liquidation_ratio": 1.0},
        {"fee": -0.1},
        {"funding_days": -1.0},
        {"cap": 0.9},
        {"buffer": 1.0},
    ],
)
def test_leverage_when_an_input_is_out_of_range_then_unknown(change):
    known = {"stop_price_ratio": 0.02, "side": "long", "tiers": FLAT, "notional": 100.0, "fee": FEE}

    assert leverage_from_stop(**{**known, **change}).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    "change",
    [
        {"mmr": math.nan},
        {"mmr": -0.1},
        {"stop_price_ratio": None},
        {"cap": 0.5},
        {"funding_cost_per_day": "x"},
    ],
)
def test_closed_form_when_an_input_is_unknown_then_nan(change):
    assert math.isnan(leverage_closed_form(**{"stop_price_ratio": 0.02, "mmr": 0.01, "fee": FEE, **change}))


@pytest.mark.parametrize(
    ("cap", "maximum", "proposed", "value"),
    [
        (3.0, 20.0, None, 3.0),
        (3.0, 20.0, 10.0, 3.0),
        (3.0, 20.0, 2.0, 2.0),
        (3.0, 20.0, 2.99, 2.0),
        (3.0, 1.0, None, 1.0),
        (3.0, 2.5, 3.0, 2.0),
        (125.0, 125.0, 125.0, HARD_MAXIMUM_LEVERAGE),
        (5, 10, 1, 1.0),
    ],
)
def test_cap_when_several_bounds_are_given_then_the_floor_of_the_smallest(cap, maximum, proposed, value):
    answer = leverage_cap(cap=cap, exchange_maximum=maximum, proposed=proposed)

    assert (answer.outcome, answer.kind, answer.value) == (Outcome.FINE, Kind.LEVERAGE, value)


@pytest.mark.parametrize(
    ("proposed", "outcome"), [(1.0, Outcome.FINE), (0.999, Outcome.BREACHED), (0.0, Outcome.BREACHED)]
)
def test_cap_when_proposed_is_under_1x_then_breached_because_nothing_is_raised(proposed, outcome):
    assert leverage_cap(cap=3.0, exchange_maximum=20.0, proposed=proposed).outcome is outcome


@pytest.mark.parametrize("name", ["cap", "exchange_maximum", "proposed"])
@pytest.mark.parametrize("value", [-1.0, *GARBAGE], ids=lambda value: str(value)[:8])
def test_cap_when_an_input_is_garbage_then_unknown(name, value):
    answer = leverage_cap(**{"cap": 3.0, "exchange_maximum": 20.0, "proposed": 2.0, name: value})

    no_opinion = name == "proposed" and value is None
    assert (answer.outcome, answer.value) == ((Outcome.FINE, 3.0) if no_opinion else (Outcome.UNKNOWN, None))


def test_hard_maximum_when_read_then_five():
    assert HARD_MAXIMUM_LEVERAGE == 5.0
