"""Dead man's switch: levels, the latch, check-ins and their dates."""

from __future__ import annotations

import json

import pytest

from plimsoll.rules.breaker import Tick
from plimsoll.rules.deadman import CRITICAL, FINE, STOPPED, WARNING, CheckIn, Config, State, due, reset, step
from plimsoll.settings import SettingsError, load

START, HOUR = 1_767_225_600, 3600  # 2026-01-01 00:00 UTC
CONFIG = Config()
WARNING_AT, CRITICAL_AT, STOP_AT = 71_712, 82_944, 86_400  # 83 %, 96 % and all of 24 h


def run(samples, state=None, config=CONFIG):
    state, verdicts = state or State(), []
    for sample in samples:
        state, verdict = step(state, config, sample)
        verdicts.append(verdict)
    return state, verdicts


def checked_in():
    return run([CheckIn(START, "anna")])[0]


@pytest.mark.parametrize("by_operator", [True, False])
@pytest.mark.parametrize(
    ("elapsed", "level"),
    [
        (0, FINE),
        (WARNING_AT - 1, FINE),
        (WARNING_AT, WARNING),
        (CRITICAL_AT - 1, WARNING),
        (CRITICAL_AT, CRITICAL),
        (STOP_AT - 1, CRITICAL),
        (STOP_AT, STOPPED),
        (30 * STOP_AT, STOPPED),
    ],
)
def test_switch_when_at_a_threshold_then_its_level_holds_and_just_before_it_the_one_below(
    elapsed, level, by_operator
):
    state = checked_in() if by_operator else run([Tick(START)])[0]
    _, (verdict,) = run([Tick(START + elapsed)], state)
    assert (verdict.level, verdict.changed) == (level, level != FINE)
    assert (verdict.blocked, verdict.factor) == ((True, 0.0) if level == STOPPED else (False, 1.0))
    assert not verdict.unknown
    assert verdict.value == elapsed / HOUR


def test_switch_when_the_level_stays_then_it_changes_once():
    times = [START, START + WARNING_AT, START + WARNING_AT + 60, START + CRITICAL_AT, START + STOP_AT]
    _, verdicts = run([Tick(time) for time in (*times, START + 9 * STOP_AT)])
    assert [v.changed for v in verdicts] == [False, True, False, True, True, False]
    assert [v.level for v in verdicts] == [0, 1, 1, 2, 3, 3]


def test_switch_when_warning_then_the_reasons_say_what_comes_next_and_how_to_check_in():
    start = checked_in()
    ticks = [Tick(START + HOUR), Tick(START + 20 * HOUR + 360), Tick(START + CRITICAL_AT + 60)]
    _, verdicts = run([*ticks, Tick(START + STOP_AT + 3 * HOUR)], start)
    assert [v.reason for v in verdicts] == [
        "checked in by anna at 2026-01-01 00:00 UTC (1.0 h of 24 h): warning at 2026-01-01 19:55 UTC, "
        "entries stop at 2026-01-02 00:00 UTC; check in with `plimsoll checkin`",
        "no check-in since 2026-01-01 00:00 UTC (20.1 h of 24 h): critical at 2026-01-01 23:02 UTC, "
        "entries stop at 2026-01-02 00:00 UTC; check in with `plimsoll checkin`",
        "no check-in since 2026-01-01 00:00 UTC (23.1 h of 24 h): "
        "entries stop at 2026-01-02 00:00 UTC; check in with `plimsoll checkin`",
        "no check-in for 24 h: entries stopped at 2026-01-02 00:00 UTC, until an operator resets it "
        "(`plimsoll reset deadman`)",
    ]


def test_switch_when_nobody_ever_checked_in_then_the_reason_says_when_counting_began():
    _, (verdict,) = run([Tick(START)])
    assert verdict.reason.startswith(
        "no check-in since counting began at 2026-01-01 00:00 UTC (0.0 h of 24 h)"
    )


@pytest.mark.parametrize(("hours", "elapsed"), [(24.0, WARNING_AT), (24.0, CRITICAL_AT), (1.0, 3599)])
def test_check_in_when_in_time_then_the_count_begins_anew_and_the_level_change_is_told(hours, elapsed):
    config = Config(hours=hours)
    now = START + elapsed
    state, verdicts = run([CheckIn(START, "anna"), Tick(now), CheckIn(now, "bob", now)], config=config)
    assert [(v.level, v.changed) for v in verdicts][-1] == (FINE, True)
    assert (state.checked_in, state.by) == (now, "bob")
    _, verdicts = run([Tick(now + round(hours * HOUR) - 1), Tick(now + round(hours * HOUR))], state, config)
    assert [v.blocked for v in verdicts] == [False, True]


def test_check_in_when_stopped_then_it_is_remembered_and_does_not_unblock():
    later = START + STOP_AT + HOUR
    state, verdicts = run(
        [Tick(START + STOP_AT), CheckIn(later, "anna", later), Tick(later + 1)], checked_in()
    )
    assert [(v.blocked, v.changed, v.level) for v in verdicts] == [(True, c, 3) for c in (True, False, False)]
    assert (state.checked_in, state.by, state.tripped_at) == (later, "anna", START + STOP_AT)
    assert "the check-in by anna at 2026-01-02 01:00 UTC does not undo it" in verdicts[-1].reason


@pytest.mark.parametrize(("late", "blocked"), [(-1, False), (0, True), (HOUR, True)])
def test_check_in_when_made_after_the_hours_were_over_then_it_is_too_late_though_no_tick_saw_that(
    late, blocked
):
    now = START + STOP_AT + 2 * HOUR  # the bot was down meanwhile
    state, verdicts = run([CheckIn(START + STOP_AT + late, "anna", now), Tick(now)], checked_in())
    assert [v.blocked for v in verdicts] == [blocked, blocked]
    assert state.tripped_at == (START + STOP_AT if blocked else None)


@pytest.mark.parametrize(("ahead", "believed"), [(0, True), (1, False), (10**9, False)])
def test_check_in_when_dated_in_the_future_then_it_is_not_believed(ahead, believed):
    now = START + WARNING_AT
    state, (verdict,) = run([CheckIn(now + ahead, "mallory", now)], checked_in())
    assert (state.checked_in, state.by) == ((now, "mallory") if believed else (START, "anna"))
    assert verdict.level == (FINE if believed else WARNING)
    ticked, _ = run([Tick(now)], checked_in())
    assert believed or state == ticked


def test_check_in_when_dated_after_the_next_tick_then_it_counts_as_of_that_tick():
    ahead = CheckIn(START + HOUR, "anna")
    state, _ = run([ahead, Tick(START + 60)], checked_in())
    assert (state.checked_in, state.time) == (START + 60, START + 60)


@pytest.mark.parametrize(("offset", "by"), [(-1, "anna"), (0, "bob"), (1, "bob")])
def test_check_in_when_older_than_the_last_then_it_changes_nothing(offset, by):
    state, _ = run([Tick(START + 600)], checked_in())
    state, _ = run([CheckIn(START + offset, "bob")], state)
    assert (state.checked_in, state.by, state.time) == (max(START, START + offset), by, START + 600)


def test_check_in_when_it_is_the_first_of_all_and_old_then_counting_begins_now():
    state, (verdict,) = run([CheckIn(START - 90 * STOP_AT, "anna", START)])
    assert (state.checked_in, state.by, verdict.level) == (START, "", FINE)


def test_switch_when_restarted_then_counting_goes_on_from_where_it_began():
    state, _ = run([Tick(START)])
    loaded = State.from_json(json.loads(json.dumps(state.to_json())))
    _, verdicts = run([Tick(START + STOP_AT - 1), Tick(START + STOP_AT)], loaded)
    assert [v.blocked for v in verdicts] == [False, True]


def test_reset_when_stopped_then_it_re_arms_counts_as_a_check_in_and_is_remembered():
    state, _ = run([Tick(START + 2 * STOP_AT)], checked_in())
    at = START + 2 * STOP_AT + HOUR
    state = reset(state, CONFIG, Tick(at))
    assert (state.checked_in, state.tripped_at, state.reset_time) == (at, None, at)
    _, verdicts = run([Tick(at), Tick(at + STOP_AT - 1), Tick(at + STOP_AT)], state)
    assert [v.level for v in verdicts] == [FINE, CRITICAL, STOPPED]


def test_reset_when_dated_in_the_future_then_it_extends_nothing():
    state = reset(checked_in(), CONFIG, Tick(START + 99 * STOP_AT))
    _, verdicts = run([Tick(START + 60), Tick(START + 60 + STOP_AT)], state)
    assert [v.level for v in verdicts] == [FINE, STOPPED]


def test_due_when_asked_then_it_is_the_second_that_entries_stop_and_none_without_a_count():
    state = checked_in()
    assert due(state, CONFIG) == START + STOP_AT
    assert due(State(), CONFIG) is None
    assert due(run([Tick(START + STOP_AT)], state)[0], CONFIG) is None


@pytest.mark.parametrize("sample", [Tick, lambda time: CheckIn(time - 5, "anna", time)], ids=["tick", "now"])
def test_switch_when_time_runs_backwards_then_it_raises_and_equal_time_never_does(sample):
    state, _ = run([Tick(START)])
    step(state, CONFIG, sample(START))
    with pytest.raises(ValueError, match="`time` must not run backwards"):
        step(state, CONFIG, sample(START - 1))


STORED = State(START + 5, START, "anna", START + STOP_AT, STOPPED, START - 9).to_json()


def test_state_when_saved_and_loaded_then_it_is_equal():
    text = json.dumps(STORED, allow_nan=False)
    assert State.from_json(json.loads(text)).to_json() == STORED
    assert State.from_json(json.loads(json.dumps(State().to_json()))) == State()


@pytest.mark.parametrize(
    "change",
    [{"time": 1.5}, {"checked_in": "now"}, {"by": None}, {"tripped_at": True}, {"level": 1.0}, {"more": 1}],
    ids=str,
)
def test_state_when_corrupt_then_loading_raises(change):
    with pytest.raises(ValueError):
        State.from_json({**STORED, **change})
    with pytest.raises(ValueError):
        State.from_json(
            {key: STORED[key] for key in STORED if key not in change} if "more" not in change else {}
        )


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"hours": 0.0}, "hours"),
        ({"hours": 8760.1}, "hours"),
        ({"hours": float("nan")}, "hours"),
        ({"warning": 0.0}, "warning"),
        ({"warning": 0.96}, "warning"),
        ({"warning": float("nan")}, "warning"),
        ({"critical": 1.01}, "critical"),
        ({"critical": 0.83}, "warning"),
    ],
)
def test_config_when_out_of_range_then_the_error_names_the_parameter(arguments, name):
    Config(hours=8760.0, warning=0.999, critical=1.0)
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Config(**arguments)


def test_settings_when_warning_is_critical_then_refused_and_just_under_it_taken():
    load({"deadman": {"warning": 0.9599}})
    with pytest.raises(SettingsError, match=r"warning = 0\.96: must be under"):
        load({"deadman": {"warning": 0.96}})


def test_settings_when_they_are_the_defaults_then_they_are_the_rules():
    settings = load().deadman
    assert Config(settings.hours, settings.warning, settings.critical) == Config()
