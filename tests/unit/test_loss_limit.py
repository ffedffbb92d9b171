"""Daily and weekly loss limits, calendar and rolling."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from plimsoll.rules.breaker import EquitySample, ReadingConfig
from plimsoll.rules.loss_limit import Config, State, next_start, reset, step

ONE = ReadingConfig(confirmations=1)
DAY = 86_400
MIDNIGHT = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())  # a Thursday


def run(config, samples, state=None):
    state, verdicts = state or State(), []
    for time, equity in samples:
        state, verdict = step(state, config, EquitySample(time, equity))
        verdicts.append(verdict)
    return state, verdicts


@pytest.mark.parametrize(
    ("period", "limit", "inside", "outside"),
    [("day", 0.05, 9500.01, 9500.0), ("week", 0.15, 8500.01, 8500.0), ("day", 0.20, 8000.01, 8000.0)],
)
def test_loss_limit_when_the_loss_is_at_the_limit_then_it_trips_and_just_inside_it_does_not(
    period, limit, inside, outside
):
    config = Config(limit, period, readings=ONE)
    _, verdicts = run(config, [(MIDNIGHT, 10_000.0), (MIDNIGHT + 60, inside)])
    assert not verdicts[-1].blocked
    _, verdicts = run(config, [(MIDNIGHT, 10_000.0), (MIDNIGHT + 60, outside)])
    assert verdicts[-1].blocked
    assert verdicts[-1].changed
    assert verdicts[-1].factor == 0.0


def test_daily_loss_when_tripped_then_the_reason_is_one_a_person_understands():
    _, verdicts = run(Config(readings=ONE), [(MIDNIGHT, 10_000.0), (MIDNIGHT + 60, 9_480.0)])
    assert verdicts[-1].reason == "daily loss 5.2 % of 10,000, limit 5 %, until 2026-01-02 00:00 UTC"
    assert verdicts[-1].until == MIDNIGHT + DAY


def test_daily_loss_when_equity_recovers_then_it_stays_tripped_with_one_message_until_the_next_day():
    samples = [
        (MIDNIGHT, 10_000.0),
        (MIDNIGHT + 60, 9_400.0),
        (MIDNIGHT + 120, 11_000.0),
        (MIDNIGHT + DAY - 1, 11_000.0),
    ]
    state, verdicts = run(Config(readings=ONE), samples)
    assert [v.blocked for v in verdicts] == [False, True, True, True]
    assert [v.changed for v in verdicts] == [False, True, False, False]
    assert len({v.reason for v in verdicts[1:]}) == 1
    state, verdicts = run(
        Config(readings=ONE), [(MIDNIGHT + DAY, 10_900.0), (MIDNIGHT + DAY + 60, 10_400.0)], state
    )
    assert [v.blocked for v in verdicts] == [False, False]
    assert [v.changed for v in verdicts] == [True, False]
    assert state.opening == 10_900.0


def test_daily_loss_when_a_new_day_opens_lower_then_yesterdays_loss_is_not_counted_again():
    _, verdicts = run(
        Config(readings=ONE),
        [
            (MIDNIGHT, 10_000.0),
            (MIDNIGHT + DAY - 60, 9_600.0),
            (MIDNIGHT + DAY, 9_400.0),
            (MIDNIGHT + DAY + 60, 8_931.0),
        ],
    )
    assert [v.blocked for v in verdicts] == [False, False, False, False]


def test_weekly_loss_when_tripped_on_a_thursday_then_it_lasts_until_monday():
    _, verdicts = run(Config(0.15, "week", readings=ONE), [(MIDNIGHT, 100.0), (MIDNIGHT + 60, 80.0)])
    assert verdicts[-1].until == int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
    assert verdicts[-1].reason == "weekly loss 20.0 % of 100, limit 15 %, until 2026-01-05 00:00 UTC"


@pytest.mark.parametrize(
    ("zone", "moment", "expected"),
    [
        ("UTC", (2026, 1, 1, 23, 59), (2026, 1, 2)),
        ("America/New_York", (2026, 1, 1, 23, 59), (2026, 1, 2)),
        ("America/New_York", (2026, 3, 8, 12, 0), (2026, 3, 9)),  # a day of 23 hours
        ("America/New_York", (2026, 11, 1, 1, 30), (2026, 11, 2)),  # a day of 25 hours
        ("Asia/Tokyo", (2026, 1, 2, 0, 0), (2026, 1, 3)),
    ],
)
def test_next_start_when_in_a_time_zone_then_it_is_that_zones_midnight(zone, moment, expected):
    time = int(datetime(*moment, tzinfo=ZoneInfo(zone)).timestamp())
    assert next_start(time, "day", zone) == int(datetime(*expected, tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    "zone", ["America/Havana", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Apia", "Asia/Beirut"]
)
def test_next_start_when_midnights_are_skipped_or_repeated_then_it_is_always_later(zone):
    time = int(datetime(2010, 1, 1, tzinfo=UTC).timestamp())
    for _ in range(3000):
        start = next_start(time, "day", zone)
        assert time < start <= time + 2 * DAY
        assert next_start(start, "day", zone) > start
        time += 43_200 + 1_800


def test_next_start_when_in_a_week_then_it_is_the_next_iso_monday():
    monday = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp())
    assert next_start(monday - 1, "week", "UTC") == monday
    assert next_start(monday, "week", "UTC") == monday + 7 * DAY


@pytest.mark.parametrize(("period", "length"), [("day", DAY), ("week", 7 * DAY)])
def test_rolling_when_a_loss_spreads_over_midnight_then_it_trips_for_the_window(period, length):
    config = Config(0.05, period, rolling=True, readings=ONE)
    start = MIDNIGHT + 7 * DAY - 3600
    state, verdicts = run(config, [(start, 100.0), (start + 7200, 94.0)])
    assert verdicts[-1].blocked
    assert verdicts[-1].until == start + 7200 + length
    assert ("24-hour" if period == "day" else "7-day") in verdicts[-1].reason
    _, verdicts = run(config, [(start + 7199 + length, 94.0), (start + 7200 + length, 94.0)], state)
    assert [v.blocked for v in verdicts] == [True, False]


@pytest.mark.parametrize(("hours", "blocked"), [(23, True), (24, True), (25, False)])
def test_rolling_when_the_reference_leaves_the_window_then_it_has_no_say(hours, blocked):
    config = Config(0.05, rolling=True, readings=ONE)
    state, _ = run(config, [(MIDNIGHT, 100.0), (MIDNIGHT + 600, 97.0)])
    _, verdicts = run(config, [(MIDNIGHT + hours * 3600, 94.5)], state)
    assert verdicts[-1].blocked is blocked


def test_rolling_when_run_for_long_then_the_window_is_bounded():
    config = Config(0.05, "week", rolling=True, readings=ONE)
    state, _ = run(config, [(MIDNIGHT + 600 * i, 100.0) for i in range(5000)])
    assert len(state.window) <= 289


def test_daily_loss_when_one_reading_is_bad_then_it_neither_trips_nor_resets():
    good = [(MIDNIGHT + i, 10_000.0) for i in range(3)]
    state, verdicts = run(Config(), [*good, (MIDNIGHT + 3, 9_400.0)])
    assert verdicts[-1].blocked
    assert verdicts[-1].unknown
    assert state.until is None
    state, verdicts = run(
        Config(), [(MIDNIGHT + 4, 10_000.0), (MIDNIGHT + 5, 9_400.0), (MIDNIGHT + 6, 9_400.0)], state
    )
    assert [v.blocked for v in verdicts] == [False, True, True]
    assert [v.changed for v in verdicts] == [False, False, True]
    tripped = state
    state, verdicts = run(Config(), [(MIDNIGHT + 7, 20_000.0)], state)
    assert verdicts[-1].blocked
    assert state.until == tripped.until


@pytest.mark.parametrize("bad", [9_000.0, 15_000.0])
def test_daily_loss_when_the_first_reading_of_a_day_is_bad_then_the_opening_is_not(bad):
    good = [(MIDNIGHT + i, 10_000.0) for i in range(3)]
    state, _ = run(Config(), [*good, (MIDNIGHT + DAY, bad), (MIDNIGHT + DAY + 5, 10_000.0)])
    assert state.opening == 10_000.0


def test_daily_loss_when_equity_is_unknown_then_it_blocks_and_changes_nothing():
    state, _ = run(Config(readings=ONE), [(MIDNIGHT, 10_000.0)])
    after, verdicts = run(Config(readings=ONE), [(MIDNIGHT + 2 * DAY, None)], state)
    assert after is state
    assert verdicts[0].blocked
    assert verdicts[0].unknown
    assert not verdicts[0].changed


def test_daily_loss_when_equity_is_unknown_during_a_trip_then_it_says_why_it_was_tripped():
    state, _ = run(Config(readings=ONE), [(MIDNIGHT, 10_000.0), (MIDNIGHT + 1, 9_000.0)])
    _, verdicts = run(Config(readings=ONE), [(MIDNIGHT + 2, None)], state)
    assert "daily loss 10.0 %" in verdicts[0].reason
    assert verdicts[0].until == MIDNIGHT + DAY


def test_daily_loss_when_money_is_withdrawn_then_that_is_no_loss():
    state, _ = run(Config(readings=ONE), [(MIDNIGHT, 10_000.0)])
    state, verdict = step(state, Config(readings=ONE), EquitySample(MIDNIGHT + 60, 4_000.0, -6_000.0))
    assert not verdict.blocked
    _, verdict = step(state, Config(readings=ONE), EquitySample(MIDNIGHT + 120, 3_800.0, -6_000.0))
    assert verdict.reason == "daily loss 5.0 % of 4,000, limit 5 %, until 2026-01-02 00:00 UTC"


@pytest.mark.parametrize("rolling", [False, True])
def test_daily_loss_when_an_operator_resets_it_then_it_measures_from_there_and_remembers(rolling):
    config = Config(rolling=rolling, readings=ONE)
    state, _ = run(config, [(MIDNIGHT, 10_000.0), (MIDNIGHT + 1, 9_000.0)])
    state = reset(state, config, EquitySample(MIDNIGHT + 2, 9_000.0))
    assert state.reset_time == MIDNIGHT + 2
    _, verdicts = run(config, [(MIDNIGHT + 3, 8_600.0), (MIDNIGHT + 4, 8_550.0)], state)
    assert [v.blocked for v in verdicts] == [False, True]


@pytest.mark.parametrize("rolling", [False, True])
def test_daily_loss_when_reset_while_equity_is_unknown_then_the_next_known_is_the_opening(rolling):
    config = Config(rolling=rolling, readings=ONE)
    state, _ = run(config, [(MIDNIGHT, 10_000.0), (MIDNIGHT + 1, 9_000.0)])
    state = reset(state, config, EquitySample(MIDNIGHT + 2, None))
    state, verdicts = run(config, [(MIDNIGHT + 3, 8_000.0), (MIDNIGHT + 4, 7_700.0)], state)
    assert not any(v.blocked for v in verdicts)
    assert state.reset_time == MIDNIGHT + 2


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"limit": 0.0}, "limit"),
        ({"limit": 1.0}, "limit"),
        ({"period": "month"}, "period"),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"timezone": ""}, "timezone"),
    ],
)
def test_config_when_out_of_range_then_the_error_names_the_parameter(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Config(**arguments)
