"""Proving: what counts as dry-run on record, and what the gate says of it."""

from __future__ import annotations

import json
import math

import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.proving import MAX_GAP, Record, observe, proven

START, DAY = 1_767_225_600, 86_400


def watched(times, record=None, max_gap=MAX_GAP):
    for time in times:
        record = observe(record, time, max_gap)
    return record


def test_observe_when_first_then_the_record_begins_empty():
    assert observe(None, START) == observe(Record(), START) == Record(START, START, 0)


@pytest.mark.parametrize(
    ("gap", "counted"), [(0, 0), (1, 1), (900, 900), (901, 0), (10 * DAY, 0), (-1, 0), (-DAY, 0)]
)
def test_observe_when_the_gap_is_within_the_most_then_it_counts_and_beyond_it_does_not(gap, counted):
    assert watched([START, START + gap]) == Record(START, START + gap, counted)


def test_observe_when_another_gap_is_allowed_then_it_decides():
    assert watched([START, START + 61], max_gap=60).seconds == 0
    assert watched([START, START + 60], max_gap=60).seconds == 60


def test_observe_when_the_bot_was_down_then_what_was_seen_before_and_after_counts():
    before = watched(range(START, START + 6001, 60))
    after = watched(range(START + 5 * DAY, START + 5 * DAY + 3001, 60), before)
    assert after == Record(START, START + 5 * DAY + 3000, 9000)


def test_observe_when_the_clock_jumps_far_ahead_and_back_then_neither_counts_and_it_goes_on():
    record = watched([START, START + 60, START + 10**9, START + 120, START + 180])
    assert record.seconds == 60 + 60
    assert record.last == START + 180


@pytest.mark.parametrize(
    ("seconds", "outcome"),
    [
        (0, Outcome.BREACHED),
        (14 * DAY - 1, Outcome.BREACHED),
        (14 * DAY, Outcome.FINE),
        (99 * DAY, Outcome.FINE),
    ],
)
def test_proven_when_just_enough_is_on_record_then_fine_and_just_short_of_it_breached(seconds, outcome):
    answer = proven(Record(START, START + 100 * DAY, seconds), 14.0)
    assert (answer.rule, answer.kind, answer.outcome) == ("proving", Kind.GATE, outcome)
    assert answer.numbers == {"required_days": 14.0, "observed_days": seconds / DAY}


@pytest.mark.parametrize(
    ("seconds", "seen", "missing"),
    [
        (0, "0.0 days", "14.0 days"),
        (9 * DAY, "9.0 days", "5.0 days"),
        (14 * DAY - 7200, "13.9 days", "2.0 h"),
        (14 * DAY - 1, "13.9 days", "1 min"),
    ],
)
def test_proven_when_short_then_the_reason_says_how_much_is_missing_and_how_to_go_on(seconds, seen, missing):
    assert proven(Record(START, START, seconds), 14.0).reason == (
        f"live entries need 14 days of dry-run on record, {seen} seen, {missing} missing: "
        "keep the dry-run running, or set plimsoll.gates.proving_override to true"
    )


def test_proven_when_there_is_no_record_then_breached_as_if_nothing_was_seen():
    assert proven(None, 14.0) == proven(Record(), 14.0)
    assert proven(None, 14.0).outcome is Outcome.BREACHED


@pytest.mark.parametrize("record", [None, Record(), Record(START, START, 1), "garbage"])
def test_proven_when_no_days_are_required_then_fine_whatever_the_record(record):
    assert proven(record, 0.0).outcome is Outcome.FINE
    assert proven(record, 1e-3).outcome is not Outcome.FINE


@pytest.mark.parametrize(
    ("record", "days"),
    [
        ("garbage", 14.0),
        ({"seconds": 99 * DAY}, 14.0),
        (Record(START, START, -1), 14.0),
        (Record(START, START, math.nan), 14.0),
        (Record(START, START, "1"), 14.0),
        (Record(START, None, 99 * DAY), 14.0),
        (Record(math.inf, START, 99 * DAY), 14.0),
        (Record(START, START, 99 * DAY), math.nan),
        (Record(START, START, 99 * DAY), math.inf),
        (Record(START, START, 99 * DAY), -1.0),
        (Record(START, START, 99 * DAY), None),
    ],
    ids=str,
)
def test_proven_when_given_garbage_then_unknown(record, days):
    answer = proven(record, days)
    assert answer.outcome is Outcome.UNKNOWN
    assert answer.reason


def test_record_when_saved_and_loaded_at_any_moment_then_counting_goes_on():
    whole = watched(range(START, START + 7200, 300))
    first = watched(range(START, START + 3600, 300))
    loaded = Record.from_json(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    assert watched(range(START + 3600, START + 7200, 300), loaded) == whole


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"first": 1, "last": 2},
        {"first": 1, "last": 2, "seconds": 1.5},
        {"first": 1, "last": 2, "seconds": None},
        {"first": "1", "last": 2, "seconds": 1},
        {"first": 1, "last": 2, "seconds": 1, "more": 1},
    ],
    ids=str,
)
def test_record_when_corrupt_then_loading_raises(data):
    with pytest.raises(ValueError):
        Record.from_json(data)
