"""Margin health: what is measured, and what is done about it."""

from __future__ import annotations

import json
import math

import pytest

from plimsoll.rules.liquidation import MaintenanceTier, liquidation_price
from plimsoll.rules.margin_health import Config, Sample, State, measure, step
from plimsoll.settings import SettingsError, load

TIERS = (
    MaintenanceTier(0.0, 5_000.0, 0.01, 0.0, 50.0),
    MaintenanceTier(5_000.0, 50_000.0, 0.025, 75.0, 20.0),
    MaintenanceTier(50_000.0, 100_000.0, 0.05, 1_325.0, 10.0),
)
ONE, TWO = Config(confirmations=1), Config()
FINE = (0.30, 0.10)
SIDES = ["long", "short"]
NAN = math.nan


def measured(side="long", rate=100.0, **changes):
    given = {"open_rate": 100.0, "amount": 10.0, "margin": 200.0, "funding": 0.0, "tiers": TIERS}
    return measure(**{"side": side, "rate": rate, **given, **changes})


def run(config, readings, state=None, start=0):
    state, found = state or State(), []
    for index, (distance, used) in enumerate(readings):
        state, health = step(state, config, Sample(start + index, distance, used))
        found.append(health)
    return state, found


def actions(config, readings, state=None):
    return [health.action for health in run(config, readings, state)[1]]


# --- measuring --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "rate", "distance", "used"),
    [
        # liquidation (200 - 1000) / (0.1 - 10) = 80.81, with the buffer 81.77; (1200 / 10.1) = 118.81 and 117.87
        ("long", 100.0, 0.182323, 0.05),
        ("long", 90.0, 0.091470, 0.545),
        ("long", 81.0, -0.009477, 0.9905),
        ("long", 120.0, 0.318603, 0.03),
        ("short", 100.0, 0.178713, 0.05),
        ("short", 110.0, 0.071557, 0.555),
        ("short", 118.0, -0.001091, 0.959),
        ("short", 80.0, 0.473391, 0.02),
    ],
)
def test_measure_when_computed_by_hand_then_it_is_the_same(side, rate, distance, used):
    assert measured(side, rate) == pytest.approx((distance, used), abs=1e-6)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("amount", [10.0, 60.0, 700.0], ids=["first tier", "second", "third"])
@pytest.mark.parametrize("funding", [0.0, -15.0])
def test_measure_when_the_price_is_at_liquidation_then_all_margin_is_used_and_no_distance_left(
    side, amount, funding
):
    position = {"open_rate": 100.0, "amount": amount, "margin": amount * 20.0, "tiers": TIERS}
    at = liquidation_price(side=side, extra=funding, buffer=0.0, **position)
    assert measure(side=side, rate=at, funding=funding, buffer=0.0, **position) == pytest.approx((0.0, 1.0))
    buffered = liquidation_price(side=side, extra=funding, **position)
    near = measure(side=side, rate=buffered, funding=funding, **position)
    assert near.distance == pytest.approx(0.0, abs=1e-12)
    assert 0.9 < near.margin_used < 1.0


@pytest.mark.parametrize("side", SIDES)
def test_measure_when_funding_was_paid_then_liquidation_is_nearer_and_more_margin_used(side):
    rate = 95.0 if side == "long" else 105.0
    free, paid, earned = (measured(side, rate, funding=funding) for funding in (0.0, -20.0, 20.0))
    assert paid.distance < free.distance < earned.distance
    assert paid.margin_used == pytest.approx(free.margin_used + 0.1)
    assert earned.margin_used == pytest.approx(free.margin_used - 0.1)


def test_measure_when_the_notional_grew_into_another_tier_then_its_maintenance_counts():
    assert measured("short", 49.9, open_rate=49.9, amount=100.0, margin=1000.0).margin_used == pytest.approx(
        0.0499
    )
    # 5,010 x 0.025 - 75 = 50.25, and a loss of 20
    assert measured("short", 50.1, open_rate=49.9, amount=100.0, margin=1000.0).margin_used == pytest.approx(
        0.07025
    )


def test_measure_when_a_winner_grew_into_a_high_tier_then_it_is_not_in_danger():
    # 90,000 x 0.05 - 1,325 = 3,175 of maintenance, more than the margin of 3,000; the profit of 60,000 stands before it.
    won = measured(rate=300.0, amount=300.0, margin=3_000.0)
    assert won.margin_used == pytest.approx(3_175.0 / 63_000.0)
    assert won.distance > 0.6


@pytest.mark.parametrize(("side", "nearer", "farther"), [("long", 85.0, 70.0), ("short", 115.0, 130.0)])
def test_measure_when_another_liquidation_price_is_known_then_the_nearer_one_counts(side, nearer, farther):
    own = measured(side)
    assert measured(side, liquidation=nearer).distance == pytest.approx(0.15)
    assert measured(side, liquidation=farther) == own
    assert math.isnan(measured(side, liquidation=NAN).distance)


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {name: bad}
            for name in ("rate", "open_rate", "amount", "margin")
            for bad in (NAN, None, 0.0, -1.0, "5")
        ),
        *({"funding": bad} for bad in (NAN, None, math.inf, "5")),
        {"tiers": None},
        {"tiers": ()},
        {"tiers": [None]},
        {"buffer": NAN},
        {"buffer": 1.0},
        {"side": "both"},
        {"amount": 1_001.0},
        {"liquidation": -1.0},
    ],
    ids=str,
)
def test_measure_when_an_input_is_unknown_then_both_are_nan(changes):
    assert all(math.isnan(value) for value in measured(**changes))


# --- thresholds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distance", "used", "action"),
    [
        (0.30, 0.7999, "none"),
        (0.30, 0.80, "alert"),
        (0.30, 0.8999, "alert"),
        (0.30, 0.90, "close"),
        (0.30, 1.5, "close"),
        (0.10, 0.10, "none"),
        (0.0999, 0.10, "reduce"),
        (0.0999, 0.85, "reduce"),
        (0.05, 0.10, "reduce"),
        (0.0499, 0.10, "close"),
        (-0.2, 0.10, "close"),
    ],
)
def test_step_when_at_a_threshold_then_the_action_follows_and_just_before_it_not(distance, used, action):
    _, (health,) = run(ONE, [(distance, used)])
    assert (health.action, health.changed) == (action, action != "none")
    assert health.allows_additions is (action == "none")
    assert health.reduce_by == (0.5 if action == "reduce" else 0.0)
    assert (health.distance, health.margin_used) == (distance, used)


@pytest.mark.parametrize(
    ("reading", "action"), [((0.30, 0.85), "alert"), ((0.09, 0.1), "reduce"), ((0.04, 0.1), "close")]
)
def test_step_when_confirmations_are_asked_for_then_the_last_of_them_acts(reading, action):
    assert actions(TWO, [reading, reading]) == ["none", action]
    assert actions(TWO, [FINE, reading, FINE, reading, FINE]) == ["none"] * 5
    assert actions(Config(confirmations=3), [reading] * 3) == ["none", "none", action]


@pytest.mark.parametrize(
    ("readings", "action"),
    [
        ([(0.04, 0.1), (0.09, 0.1)], "reduce"),  # both ask to reduce at least
        ([(0.30, 0.95), (0.30, 0.85)], "alert"),
        ([(0.30, 0.95), (0.04, 0.1)], "close"),  # by whichever measure
        ([(0.09, 0.1), (0.30, 0.85)], "none"),
    ],
)
def test_step_when_readings_ask_for_different_actions_then_what_each_asks_for_at_least_is_done(
    readings, action
):
    assert actions(TWO, readings)[-1] == action


def test_step_when_a_low_reading_is_not_confirmed_then_additions_are_refused_at_once():
    _, found = run(TWO, [FINE, FINE, (0.09, 0.1), FINE, FINE])
    assert [h.allows_additions for h in found] == [False, True, False, False, True]
    assert found[2].reason.endswith("no additions until this is confirmed or over")


def test_step_when_it_acts_then_the_reason_says_why():
    _, found = run(ONE, [FINE, (0.30, 0.85), (0.09, 0.5), (0.08, 0.5), (0.04, 0.5), (-0.1, 1.1)])
    assert [h.reason for h in found] == [
        "liquidation is 30.0 % away, 10.0 % of the margin used",
        "liquidation is 30.0 % away, 85.0 % of the margin used: no additions until under 64.0 % of the margin is used",
        "liquidation is 9.0 % away, 50.0 % of the margin used: reduce by 50 % of the position (1 of at most 3)",
        "liquidation is 8.0 % away, 50.0 % of the margin used: "
        "no additions after a reduction until liquidation is over 12.5 % away",
        "liquidation is 4.0 % away, 50.0 % of the margin used: close the position",
        "liquidation is 4.0 % away, 50.0 % of the margin used: close the position",
    ]


# --- memory -----------------------------------------------------------------------------------------


def test_alert_when_margin_used_swings_around_it_then_there_is_one_message():
    _, found = run(ONE, [(0.3, 0.81), (0.3, 0.79)] * 20 + [(0.3, 0.6401), (0.3, 0.6399)])
    assert [h.action for h in found] == ["alert"] * 41 + ["none"]
    assert [h.changed for h in found] == [True] + [False] * 40 + [True]
    assert [h.allows_additions for h in found] == [False] * 41 + [True]


def test_reduce_when_the_distance_stays_then_it_reduces_once():
    _, found = run(ONE, [(0.09, 0.1)] * 50)
    assert [h.action for h in found] == ["reduce"] + ["none"] * 49
    assert sum(h.changed for h in found) == 1
    assert not any(h.allows_additions for h in found)


@pytest.mark.parametrize(("back", "again"), [(0.125, "none"), (0.1251, "reduce")])
def test_reduce_when_the_distance_was_back_beyond_re_arming_then_it_reduces_again_and_just_under_it_not(
    back, again
):
    _, found = run(ONE, [(0.09, 0.1), (back, 0.1), (0.09, 0.1)])
    assert found[-1].action == again
    assert (found[1].allows_additions, found[1].changed) == ((again == "reduce"),) * 2


def test_reduce_when_one_reading_is_high_then_it_is_not_re_armed():
    low = (0.09, 0.1)
    _, found = run(TWO, [low, low, FINE, low, FINE, low])
    assert [h.action for h in found] == ["none", "reduce"] + ["none"] * 4
    assert not any(h.allows_additions for h in found)
    _, found = run(TWO, [low, low, FINE, FINE])
    assert [h.allows_additions for h in found] == [False, False, False, True]


@pytest.mark.parametrize(("deeper", "again"), [(0.07, "none"), (0.0699, "reduce")])
def test_reduce_when_half_of_the_way_to_the_close_is_gone_then_it_reduces_again_and_just_before_not(
    deeper, again
):
    assert actions(ONE, [(0.09, 0.1), (deeper, 0.1)])[-1] == again


def test_reduce_when_the_distance_falls_on_then_it_reduces_three_times_at_the_most_and_closes_in_the_end():
    path = [(0.099 - 0.0001 * i, 0.1) for i in range(500)]
    found = actions(ONE, path)
    assert found.count("reduce") == 3
    assert [round(path[i][0], 4) for i, action in enumerate(found) if action == "reduce"] == [
        0.099,
        0.0744,
        0.0621,
    ]
    assert found.index("close") == 491  # 0.0499


def test_reduce_when_one_reading_was_much_nearer_then_the_next_threshold_is_that_of_what_both_agreed_on():
    state, found = run(TWO, [(0.09, 0.1), (0.0501, 0.1)])
    assert (found[-1].action, state.reduced_at) == ("reduce", 0.09)
    assert run(TWO, [(0.0701, 0.1)], state, start=2)[1][0].action == "none"
    assert run(TWO, [(0.0699, 0.1)], state, start=2)[1][0].action == "reduce"


def test_reduce_when_it_takes_off_everything_then_it_closes():
    assert actions(Config(confirmations=1, reduce_by=1.0), [(0.09, 0.1)]) == ["close"]
    assert actions(Config(confirmations=1, reduce_by=0.999), [(0.09, 0.1)]) == ["reduce"]


def test_close_when_decided_then_it_is_not_withdrawn_and_told_once():
    _, found = run(ONE, [(0.04, 0.1), FINE, (NAN, 0.1), (0.09, 0.1)])
    assert [h.action for h in found] == ["close"] * 4
    assert [h.changed for h in found] == [True, False, False, False]
    assert not any(h.allows_additions for h in found)


# --- unknown ----------------------------------------------------------------------------------------

BAD = [
    (NAN, 0.1),
    (0.3, NAN),
    (None, 0.1),
    (0.3, None),
    (math.inf, 0.1),
    (0.01, NAN),
    (None, 2.0),
    ("0.1", 0.1),
]


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("before", [[], [FINE], [(0.3, 0.85)], [(0.09, 0.5)]], ids=str)
def test_step_when_the_reading_is_bad_then_unknown_and_nothing_changes(bad, before):
    state, _ = run(ONE, before)
    after, health = step(state, ONE, Sample(99, *bad))
    assert after is state
    assert (health.action, health.allows_additions, health.changed) == ("unknown", False, False)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_step_when_bad_readings_lie_between_then_the_good_ones_still_confirm(bad):
    assert actions(TWO, [(0.04, 0.1), bad, bad, (0.04, 0.1)])[-1] == "close"


def test_step_when_time_runs_backwards_then_it_raises_and_equal_time_is_allowed():
    state, _ = run(ONE, [FINE], start=100)
    step(state, ONE, Sample(100, *FINE))
    for reading in (FINE, (NAN, NAN)):
        with pytest.raises(ValueError, match="`time` must not run backwards"):
            step(state, ONE, Sample(99, *reading))


# --- state and configuration ------------------------------------------------------------------------

STORED = State(5, ((0.09, 0.5), (0.08, 0.6)), True, 2, 0.08, False, "why").to_json()


def test_state_when_saved_and_loaded_then_it_is_equal():
    assert State.from_json(json.loads(json.dumps(STORED, allow_nan=False))).to_json() == STORED
    assert State.from_json(json.loads(json.dumps(State().to_json()))) == State()


@pytest.mark.parametrize(
    "change",
    [
        {"time": "5"},
        {"recent": [[0.1]]},
        {"recent": [[0.1, NAN]]},
        {"alerted": 1},
        {"reductions": -1},
        {"reductions": 4},
        {"reductions": 0},
        {"reduced_at": None},
        {"reduced_at": math.inf},
        {"closing": None},
        {"reason": None},
        {"more": 1},
    ],
    ids=str,
)
def test_state_when_corrupt_then_loading_raises(change):
    with pytest.raises(ValueError):
        State.from_json({**STORED, **change})


@pytest.mark.parametrize("name", STORED)
def test_state_when_a_key_is_missing_then_loading_raises(name):
    with pytest.raises(ValueError):
        State.from_json({key: value for key, value in STORED.items() if key != name})


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"alert": 0.0}, "alert"),
        ({"alert": 0.90}, "alert"),
        ({"alert": NAN}, "alert"),
        ({"close": 1.01}, "close"),
        ({"close": 0.80}, "alert"),
        ({"reduce_distance": 1.0}, "reduce_distance"),
        ({"close_distance": 0.10}, "close_distance"),
        ({"close_distance": -0.01}, "close_distance"),
        ({"reduce_by": 0.0}, "reduce_by"),
        ({"reduce_by": 1.01}, "reduce_by"),
        ({"rearm": 0.99}, "rearm"),
        ({"rearm": 10.01}, "rearm"),
        ({"confirmations": 0}, "confirmations"),
        ({"confirmations": 11}, "confirmations"),
    ],
)
def test_config_when_out_of_range_then_the_error_names_the_parameter(arguments, name):
    Config(alert=0.89, close=1.0, reduce_distance=0.99, close_distance=0.0, reduce_by=1.0, rearm=10.0)
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Config(**arguments)


@pytest.mark.parametrize(
    ("lower", "upper", "outside", "inside"),
    [("alert", "close", 0.90, 0.8999), ("close_distance", "reduce_distance", 0.10, 0.0999)],
)
def test_settings_when_two_thresholds_are_equal_then_refused_and_just_under_it_taken(
    lower, upper, outside, inside
):
    load({"margin_health": {lower: inside}})
    with pytest.raises(
        SettingsError, match=f"margin_health.{lower} = .* must be under margin_health.{upper}"
    ):
        load({"margin_health": {lower: outside}})


def test_settings_when_they_are_the_defaults_then_the_rule_takes_them_and_has_the_same():
    values = dict(load().margin_health)
    assert Config(**values) == Config()
