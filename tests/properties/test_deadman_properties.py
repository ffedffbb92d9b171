"""What must hold of the dead man's switch, whoever checks in and whenever it looks."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.rules.breaker import Tick
from plimsoll.rules.deadman import FINE, STOPPED, CheckIn, Config, State, due, reset, step

START, HOUR = 1_767_225_600, 3600
STEADY = settings(derandomize=True, deadline=None, max_examples=80, database=None)
gaps = st.sampled_from([0, 1, 600, 5 * HOUR, 12 * HOUR, 24 * HOUR - 1, 24 * HOUR, 40 * HOUR])
configs = st.sampled_from(
    [Config(), Config(hours=6.0, warning=0.5, critical=0.9), Config(hours=1e-6), Config(48.5)]
)


@st.composite
def paths(draw):
    time, samples = START, [Tick(START)]
    for gap, kind in draw(st.lists(st.tuples(gaps, st.integers(0, 3)), max_size=25)):
        time += gap
        if kind == 0:
            samples.append(CheckIn(time, "anna", draw(st.sampled_from([None, time]))))
        elif kind == 1:  # read late, with a date of its own: in the past or in the future
            samples.append(CheckIn(time + draw(st.sampled_from([-9 * HOUR, -1, 1, HOUR])), "bob", time))
        else:
            samples.append(Tick(time))
    return samples


@st.composite
def punctual_paths(draw):
    time, samples = START, [Tick(START)]
    for gap, is_tick, known in draw(st.lists(st.tuples(gaps, st.booleans(), st.booleans()), max_size=25)):
        time += gap
        samples.append(Tick(time) if is_tick else CheckIn(time, "anna", time if known else None))
    return samples


def clock(sample):
    return sample.time if isinstance(sample, Tick) or sample.now is None else sample.now


def fold(config, samples, state=None):
    state, verdicts = state or State(), []
    for sample in samples:
        state, verdict = step(state, config, sample)
        verdicts.append(verdict)
    return state, verdicts


@STEADY
@given(configs, punctual_paths())
def test_switch_when_it_stops_then_there_was_a_gap_of_all_its_hours_and_else_never(config, samples):
    heard = [START, *(s.time for s in samples if isinstance(s, CheckIn)), samples[-1].time]
    hours_over = max(1, round(config.hours * HOUR))
    stops = [a + hours_over for a, b in pairwise(heard) if b - a >= hours_over]
    state, verdicts = fold(config, samples)
    assert verdicts[-1].blocked is bool(stops)
    assert state.tripped_at == (stops[0] if stops else None)
    assert due(state, config) == (None if stops else heard[-2] + hours_over)


@STEADY
@given(configs, punctual_paths(), st.lists(st.integers(0, 24), max_size=5))
def test_switch_when_it_looks_more_often_then_it_decides_the_same(config, samples, places):
    dense = [*samples]
    for place in places:
        if place + 1 < len(samples):
            a, b = samples[place].time, samples[place + 1].time
            dense.append(Tick((a + b) // 2))
    dense.sort(key=lambda s: s.time)  # stable: a tick at an equal time comes after what was there
    sparse_state, sparse = fold(config, samples)
    dense_state, more = fold(config, dense)
    assert (dense_state.checked_in, dense_state.tripped_at, dense_state.level) == (
        sparse_state.checked_in, sparse_state.tripped_at, sparse_state.level)  # fmt: skip
    assert more[-1].level == sparse[-1].level


@STEADY
@given(configs, paths())
def test_switch_when_it_answers_then_the_verdict_is_well_formed(config, samples):
    before = FINE
    for verdict in fold(config, samples)[1]:
        assert (verdict.factor, verdict.blocked) == (
            (0.0, True) if verdict.level == STOPPED else (1.0, False)
        )
        assert verdict.changed is (verdict.level != before)
        assert not verdict.unknown
        assert verdict.until is None
        assert verdict.reason
        before = verdict.level


@STEADY
@given(configs, paths())
def test_switch_when_stopped_then_it_stays_so_until_a_reset(config, samples):
    state, verdicts = fold(config, samples)
    stopped = [v.blocked for v in verdicts]
    assert stopped == sorted(stopped)
    assert sum(v.changed and v.blocked for v in verdicts) == (1 if stopped[-1] else 0)
    time = clock(samples[-1])
    state = reset(state, config, Tick(time))
    _, (verdict,) = fold(config, [Tick(time)], state)
    assert (state.reset_time, verdict.level) == (time, FINE)


@STEADY
@given(configs, paths(), st.integers(1, 10**9))
def test_check_in_when_dated_in_the_future_then_it_is_as_if_only_time_passed(config, samples, ahead):
    state, _ = fold(config, samples)
    now = clock(samples[-1]) + 60
    assert step(state, config, CheckIn(now + ahead, "mallory", now)) == step(state, config, Tick(now))


@STEADY
@given(configs, paths(), st.integers(1, 10**6))
def test_check_in_when_it_extends_then_never_beyond_its_hours_from_now(config, samples, later):
    state, _ = fold(config, samples)
    now = clock(samples[-1]) + later
    state, _ = fold(config, [CheckIn(now, "anna", now)], state)
    _, (verdict,) = fold(config, [Tick(now + max(1, round(config.hours * HOUR)))], state)
    assert verdict.blocked


@STEADY
@given(configs, paths(), st.data())
def test_check_in_when_left_out_then_nothing_is_allowed_that_was_not(config, samples, data):
    dropped = data.draw(st.integers(1, len(samples)))
    without = [*samples[:dropped], *samples[dropped + 1 :]]
    if dropped < len(samples) and isinstance(samples[dropped], CheckIn):
        last = Tick(max(clock(s) for s in samples))
        assert fold(config, [*without, last])[1][-1].level >= fold(config, [*samples, last])[1][-1].level


@STEADY
@given(configs, paths(), st.data())
def test_switch_when_saved_and_loaded_at_any_split_then_the_future_is_the_same(config, samples, data):
    split = data.draw(st.integers(0, len(samples)))
    first, before = fold(config, samples[:split])
    loaded = State.from_json(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    last, after = fold(config, samples[split:], loaded)
    assert (last, before + after) == fold(config, samples)


@STEADY
@given(configs, paths())
def test_switch_when_time_runs_backwards_then_it_raises_and_equal_time_never_does(config, samples):
    last = max(clock(s) for s in samples)
    state, _ = fold(config, [*samples, Tick(last)])
    fold(config, [Tick(last), CheckIn(last - HOUR, "anna", last), CheckIn(last - HOUR, "anna")], state)
    with pytest.raises(ValueError, match="`time` must not run backwards"):
        step(state, config, Tick(last - 1))
