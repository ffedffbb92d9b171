"""Drawdown breaker and ladder."""

from __future__ import annotations

import pytest

from plimsoll.rules.breaker import EquitySample, ReadingConfig
from plimsoll.rules.drawdown import Config, State, reset, step

ONE = ReadingConfig(confirmations=1)
LADDER = ((0.05, 0.75, 3.0), (0.10, 0.5, None), (0.15, 0.25, 1.0))


def run(config, equities, state=None, start=0, every=60):
    state, verdicts = state or State(), []
    for index, equity in enumerate(equities):
        state, verdict = step(state, config, EquitySample(start + index * every, equity))
        verdicts.append(verdict)
    return state, verdicts


@pytest.mark.parametrize(("equity", "blocked"), [(8_000.01, False), (8_000.0, True), (7_999.99, True)])
def test_drawdown_when_at_the_limit_then_it_trips_and_just_inside_it_does_not(equity, blocked):
    _, verdicts = run(Config(readings=ONE), [9_000.0, 10_000.0, equity])
    assert verdicts[-1].blocked is blocked
    assert verdicts[-1].changed is blocked


def test_drawdown_when_measured_then_it_is_from_the_peak_and_not_from_the_start():
    _, verdicts = run(Config(readings=ONE), [5_000.0, 10_000.0, 7_900.0])
    assert (
        verdicts[-1].reason
        == "drawdown 21.0 % from the peak of 10,000, limit 20 %, until an operator resets it"
    )
    assert verdicts[-1].until is None


def test_drawdown_when_latched_then_only_a_reset_re_arms_it():
    config = Config(readings=ONE)
    state, verdicts = run(config, [100.0, 75.0, 200.0, 190.0], every=10**7)
    assert [v.blocked for v in verdicts] == [False, True, True, True]
    assert [v.changed for v in verdicts] == [False, True, False, False]
    state = reset(state, config, EquitySample(4 * 10**7, 150.0))
    assert state.reset_time == 4 * 10**7
    _, verdicts = run(config, [125.0, 119.0], state, start=4 * 10**7)
    assert [v.blocked for v in verdicts] == [False, True]


def test_drawdown_when_the_cooldown_ends_then_equity_is_the_new_peak():
    config = Config(reset="cooldown", cooldown_minutes=60.0, readings=ONE)
    state, verdicts = run(config, [100.0, 80.0])
    assert verdicts[-1].until == 60 + 3600
    assert (
        verdicts[-1].reason == "drawdown 20.0 % from the peak of 100, limit 20 %, until 1970-01-01 01:01 UTC"
    )
    state, verdicts = run(config, [70.0, 70.0, 57.0, 56.0], state, start=3659, every=1)
    assert [v.blocked for v in verdicts] == [True, False, False, True]
    assert [v.changed for v in verdicts] == [False, True, False, True]


def test_drawdown_when_the_cooldown_ends_while_equity_is_unknown_then_it_waits():
    config = Config(reset="cooldown", cooldown_minutes=60.0, readings=ONE)
    state, _ = run(config, [100.0, 80.0])
    after, verdicts = run(config, [None], state, start=99_999)
    assert after is state
    assert verdicts[0].blocked


@pytest.mark.parametrize(
    ("equity", "factor", "leverage"),
    [
        (95.01, 1.0, None),
        (95.0, 0.75, 3.0),
        (90.01, 0.75, 3.0),
        (90.0, 0.5, 3.0),
        (85.01, 0.5, 3.0),
        (85.0, 0.25, 1.0),
        (80.01, 0.25, 1.0),
    ],
)
def test_ladder_when_under_the_peak_then_size_and_leverage_step_down(equity, factor, leverage):
    _, verdicts = run(Config(ladder=LADDER, readings=ONE), [100.0, equity])
    assert (verdicts[-1].factor, verdicts[-1].max_leverage) == (factor, leverage)
    assert verdicts[-1].changed is (factor < 1.0)


def test_ladder_when_equity_recovers_then_leverage_stays_down_until_a_new_peak():
    _, verdicts = run(Config(ladder=LADDER, readings=ONE), [100.0, 84.0, 92.0, 99.0, 100.0, 100.1])
    assert [v.factor for v in verdicts] == [1.0, 0.25, 0.75, 1.0, 1.0, 1.0]
    assert [v.max_leverage for v in verdicts] == [None, 1.0, 1.0, 1.0, 1.0, None]
    assert [v.changed for v in verdicts] == [False, True, False, False, False, True]


def test_ladder_when_equity_swings_around_a_rung_then_there_is_one_message():
    _, verdicts = run(Config(ladder=LADDER, readings=ONE), [100.0] + [94.9, 95.1] * 20)
    assert sum(v.changed for v in verdicts) == 1


def test_drawdown_when_one_reading_is_bad_then_neither_trip_nor_peak_follow():
    state, _ = run(Config(), [100.0, 100.0, 100.0, 1.0, 100.0, 119.0, 100.0])
    assert not state.tripped
    assert state.peak == 100.0


def test_drawdown_when_a_low_reading_is_not_confirmed_then_it_blocks_without_tripping():
    state, verdicts = run(Config(0.10), [100.0, 100.0, 100.0, 89.0])
    assert verdicts[-1].blocked
    assert verdicts[-1].unknown
    assert not state.tripped
    state, verdicts = run(Config(0.10), [89.0], state, start=999)
    assert state.tripped
    assert verdicts[-1].changed


def test_drawdown_when_a_reading_jumps_up_then_it_blocks_until_confirmed():
    state, verdicts = run(Config(), [100.0, 100.0, 100.0, 130.0, 130.0])
    assert [v.blocked for v in verdicts] == [True, True, False, True, False]
    assert state.peak == 130.0


def test_drawdown_when_money_is_withdrawn_then_the_drawdown_does_not_move():
    config = Config(readings=ONE)
    state, _ = run(config, [100.0, 85.0])
    state, verdict = step(state, config, EquitySample(120, 25.0, -60.0))
    assert not verdict.blocked
    assert verdict.value == pytest.approx(0.15)


def test_drawdown_when_money_is_deposited_then_a_trip_is_not_undone_and_the_drawdown_does_not_move():
    config = Config(readings=ONE)
    state, _ = run(config, [100.0, 81.0])
    state, verdict = step(state, config, EquitySample(120, 1081.0, 1000.0))
    assert verdict.value == pytest.approx(0.19)
    _, verdict = step(state, config, EquitySample(180, 1081.0 * 80 / 81 - 0.001, 1000.0))
    assert verdict.blocked


def test_drawdown_when_equity_is_unknown_then_the_ladders_leverage_still_holds():
    config = Config(ladder=LADDER, readings=ONE)
    state, _ = run(config, [100.0, 94.0])
    after, verdicts = run(config, [float("nan")], state, start=999)
    assert after is state
    assert (verdicts[0].blocked, verdicts[0].unknown, verdicts[0].max_leverage) == (True, True, 3.0)


def test_drawdown_when_reset_while_equity_is_unknown_then_the_next_known_is_the_peak():
    config = Config(readings=ONE)
    state, _ = run(config, [100.0, 70.0])
    state = reset(state, config, EquitySample(999, None))
    state, verdicts = run(config, [60.0], state, start=1000)
    assert not verdicts[0].blocked
    assert state.peak == 60.0


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"limit": 0.0}, "limit"),
        ({"limit": 1.0}, "limit"),
        ({"reset": "never"}, "reset"),
        ({"cooldown_minutes": 0.0}, "cooldown_minutes"),
        ({"ladder": ((0.1, 0.5, None), (0.1, 0.4, None))}, "ladder"),
        ({"ladder": ((0.1, 0.5, None), (0.2, 0.6, None))}, "ladder"),
        ({"ladder": ((0.1, 0.5, 2.0), (0.2, 0.5, 3.0))}, "ladder"),
        ({"ladder": ((0.1, 0.5, 0.5),)}, "ladder"),
        ({"ladder": ((1.0, 0.5, None),)}, "ladder"),
    ],
)
def test_config_when_out_of_range_then_the_error_names_the_parameter(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Config(**arguments)
