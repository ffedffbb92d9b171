"""Confirmation of readings, deposits and withdrawals, stored state, shared helpers."""

from __future__ import annotations

import json
import math

import pytest

from plimsoll.rules import breaker, decay, drawdown, liquidated, loss_limit, streak
from plimsoll.rules.breaker import EquitySample, ReadingConfig, Readings, Verdict, confirm

TWO = ReadingConfig()


def feed(equities, config=TWO, flows=None):
    state, outputs = Readings(), []
    for index, equity in enumerate(equities):
        flow = flows[index] if flows else 0.0
        state, known = confirm(state, config, EquitySample(index * 60, equity, flow))
        outputs.append(known)
    return state, outputs


def test_confirm_when_one_confirmation_then_every_reading_counts_at_once():
    _, outputs = feed([100.0, 40.0, 90.0], ReadingConfig(confirmations=1))
    assert [known.value for known in outputs] == [100.0, 40.0, 90.0]
    assert all(known.agreed for known in outputs)


def test_confirm_when_two_confirmations_then_the_first_three_readings_are_needed():
    _, outputs = feed([100.0, 100.0, 100.0])
    assert outputs[:2] == [None, None]
    assert outputs[2].value == 100.0


@pytest.mark.parametrize("bad", [0.01, 50.0, 94.0, 106.0, 200.0, 1e9])
@pytest.mark.parametrize("position", [0, 1, 2, 3, 4, 5])
def test_confirm_when_one_reading_is_bad_then_the_confirmed_equity_stays_among_the_good(bad, position):
    readings = [100.0, 101.0, 99.0, 100.0, 101.0, 99.0]
    readings[position] = bad
    _, outputs = feed(readings)
    assert all(99.0 <= known.value <= 101.0 for known in outputs if known is not None)


def test_confirm_when_a_crash_is_genuine_then_it_counts_after_two_readings():
    _, outputs = feed([100.0, 100.0, 100.0, 50.0, 50.0])
    assert (outputs[3].value, outputs[3].agreed) == (100.0, False)
    assert (outputs[4].value, outputs[4].agreed) == (50.0, True)


def test_confirm_when_a_crash_goes_on_falling_then_it_still_counts_after_two_readings():
    _, outputs = feed([100.0, 100.0, 100.0, 70.0, 50.0])
    assert outputs[4].value == 70.0


@pytest.mark.parametrize(
    ("reading", "agreed"), [(80.0, True), (79.99, False), (120.0, True), (120.01, False)]
)
def test_confirm_when_a_reading_jumps_then_the_configured_ratio_decides(reading, agreed):
    _, outputs = feed([100.0, 100.0, 100.0, reading])
    assert outputs[-1].agreed is agreed


@pytest.mark.parametrize("equity", [None, math.nan, math.inf, -math.inf, 0.0, -5.0])
def test_confirm_when_a_reading_is_unknown_then_nothing_changes(equity):
    state, _ = feed([100.0, 100.0, 100.0])
    after, known = confirm(state, ReadingConfig(), EquitySample(999, equity))
    assert known is None
    assert after is state


def test_confirm_when_flow_is_not_a_number_then_nothing_changes():
    state, _ = feed([100.0, 100.0, 100.0])
    after, known = confirm(state, ReadingConfig(), EquitySample(999, 100.0, math.nan))
    assert (after, known) == (state, None)


def test_confirm_when_money_is_deposited_and_withdrawn_then_the_value_per_unit_does_not_move():
    state, outputs = feed(
        [100.0, 150.0, 30.0, 33.0], ReadingConfig(confirmations=1), [7.0, 57.0, -63.0, -63.0]
    )
    assert [known.value for known in outputs] == pytest.approx([100.0, 100.0, 100.0, 110.0])
    assert outputs[-1].value * outputs[-1].units == pytest.approx(33.0)
    assert state.flow == -63.0


def test_confirm_when_nearly_all_is_withdrawn_during_a_move_then_only_the_move_is_measured():
    _, outputs = feed([100.0, 2.0], ReadingConfig(confirmations=1), [0.0, -99.0])
    assert outputs[-1].value == pytest.approx(101.0)


def test_confirm_when_much_is_deposited_during_a_move_then_only_the_move_is_measured():
    _, outputs = feed([1.0, 101.0], ReadingConfig(confirmations=1), [0.0, 99.0])
    assert outputs[-1].value == pytest.approx(1.01)


def test_confirm_when_a_bad_reading_meets_a_withdrawal_then_later_values_are_right():
    _, outputs = feed([100.0, 100.0, 100.0, 5.0, 90.0, 90.0], flows=[0.0, 0.0, 0.0, -10.0, -10.0, -10.0])
    assert outputs[-1].value == pytest.approx(100.0)


def test_confirm_when_money_flows_before_anything_is_confirmed_then_it_starts_again():
    _, outputs = feed([100.0, 200.0, 200.0, 200.0], flows=[0.0, 100.0, 100.0, 100.0])
    assert outputs[:3] == [None, None, None]
    assert outputs[3].value == 200.0


def test_confirm_when_more_is_withdrawn_than_was_there_then_equity_is_unknown():
    state, _ = feed([100.0, 100.0, 100.0])
    after, known = confirm(state, ReadingConfig(), EquitySample(999, 50.0, -100.0))
    assert (after, known) == (state, None)


def test_confirm_when_time_runs_backwards_then_it_raises_and_equal_time_is_allowed():
    state, _ = feed([100.0, 100.0, 100.0])
    confirm(state, ReadingConfig(), EquitySample(120, 100.0))
    with pytest.raises(ValueError, match="`time` must not run backwards"):
        confirm(state, ReadingConfig(), EquitySample(119, 100.0))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"confirmations": 0}, "confirmations"),
        ({"confirmations": 11}, "confirmations"),
        ({"jump": 0.0}, "jump"),
        ({"jump": 1.0}, "jump"),
    ],
)
def test_reading_config_when_out_of_range_then_the_error_names_the_parameter(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        ReadingConfig(**arguments)


def verdict(factor):
    return Verdict("rule", False, factor, None, None, "", False)


@pytest.mark.parametrize(
    "state",
    [
        Readings(5, 1.5, 2.0, (1.0, 2.0), 1.5),
        drawdown.State(Readings(5, 1.5, 2.0, (1.0,), 1.5), 2.0, 1, True, 77, "why", 3),
        loss_limit.State(Readings(), 2.0, 9, ((1, 2.0), (2, 3.0)), 77, "why", 3),
        streak.State(5, 3, 77, 1),
        decay.State(5, "half", 1.5, None, decay.Learned(2, 0.1, 0.2, 1, 2), ((1, 0.5),), -0.5, None),
        liquidated.State(5, 4, "short", 4, 1, None),
    ],
)
def test_state_when_saved_as_json_text_and_loaded_then_it_is_equal(state):
    assert type(state).from_json(json.loads(json.dumps(state.to_json(), allow_nan=False))) == state
    assert type(state)().to_json() == json.loads(json.dumps(type(state)().to_json()))


@pytest.mark.parametrize(
    "change",
    [
        {"level": "fine"},
        {"score": "1"},
        {"score": math.nan},
        {"score": True},
        {"time": 1.5},
        {"closes": [[1, 2, 3]]},
        {"closes": None},
        {"learned": None},
        {"more": 1},
    ],
)
def test_state_when_its_json_is_corrupt_then_loading_raises(change):
    with pytest.raises(ValueError, match=r"must be|needs the keys"):
        decay.State.from_json({**decay.State().to_json(), **change})


def test_state_when_a_key_is_missing_then_loading_raises():
    with pytest.raises(ValueError, match="needs the keys"):
        streak.State.from_json({"time": 1})


def test_text_when_written_then_a_person_reads_it():
    assert breaker.utc(1_767_312_000) == "2026-01-02 00:00 UTC"
    assert breaker.money(10_000.4) == "10,000"
    assert breaker.money(0.125) == "0.125"
    assert breaker.percent(0.052) == "5.2 %"
    assert breaker.limit_percent(0.05) == "5 %"


def test_loss_ratio_when_all_is_lost_then_it_stays_under_one():
    assert breaker.loss_ratio(1e300, 1e-300) < 1.0
    assert breaker.loss_ratio(100.0, 120.0) == 0.0
