"""Streak throttle and cooldown."""

from __future__ import annotations

import math
import random

import pytest

from plimsoll.rules.breaker import ClosedTrade, Tick
from plimsoll.rules.streak import Config, State, factor_after, reset, step, streak_length, streak_probability


def run(config, profits, state=None, start=0, every=60):
    state, verdicts = state or State(), []
    for index, profit in enumerate(profits):
        state, verdict = step(state, config, ClosedTrade(start + index * every, "BTC/USDT", profit))
        verdicts.append(verdict)
    return state, verdicts


NO_COOLDOWN = Config(cooldown_minutes=0.0)


def test_throttle_when_losses_follow_each_other_then_size_halves_from_the_third_to_the_floor():
    _, verdicts = run(NO_COOLDOWN, [-0.01] * 8)
    assert [v.factor for v in verdicts] == [1.0, 1.0, 0.5, 0.25, 0.125, 0.1, 0.1, 0.1]
    assert [v.changed for v in verdicts] == [False, False, True, True, True, True, False, False]
    assert verdicts[2].reason == "3 losses in a row, size x0.5 until a win"


def test_throttle_when_a_trade_wins_then_it_resets():
    _, verdicts = run(NO_COOLDOWN, [-0.01] * 4 + [0.0001, -0.01, -0.01])
    assert [v.factor for v in verdicts[4:]] == [1.0, 1.0, 1.0]
    assert verdicts[4].changed


def test_throttle_when_a_trade_breaks_even_then_it_neither_counts_nor_resets():
    _, verdicts = run(NO_COOLDOWN, [-0.01, -0.01, 0.0, -0.01, 0.0])
    assert [v.factor for v in verdicts] == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_throttle_when_a_trade_is_liquidated_then_it_is_a_loss_whatever_its_profit():
    state = State(losses=2)
    state, verdict = step(state, NO_COOLDOWN, ClosedTrade(0, "BTC/USDT", None, liquidated=True))
    assert verdict.factor == 0.5


def test_cooldown_when_three_losses_follow_each_other_then_entries_stop_for_an_hour():
    state, verdicts = run(Config(), [-0.01] * 3)
    assert [v.blocked for v in verdicts] == [False, False, True]
    assert verdicts[-1].until == 120 + 3600
    assert verdicts[-1].reason == "3 losses in a row, no entries until 1970-01-01 01:02 UTC"
    state, verdict = step(state, Config(), Tick(120 + 3599))
    assert verdict.blocked
    assert not verdict.changed
    state, verdict = step(state, Config(), Tick(120 + 3600))
    assert not verdict.blocked
    assert verdict.changed
    assert verdict.factor == 0.5


def test_cooldown_when_a_trade_wins_during_it_then_it_is_neither_extended_nor_shortened():
    state, verdicts = run(Config(), [-0.01] * 3)
    until = verdicts[-1].until
    state, verdict = step(state, Config(), ClosedTrade(1000, "BTC/USDT", 0.05))
    assert verdict.until == until
    assert verdict.blocked


def test_cooldown_when_a_further_loss_follows_then_it_starts_anew_without_a_second_trip():
    state, _ = run(Config(), [-0.01] * 3)
    state, verdict = step(state, Config(), ClosedTrade(1000, "BTC/USDT", -0.01))
    assert verdict.until == 1000 + 3600
    state, verdict = step(state, Config(), Tick(4600))
    assert not verdict.blocked
    state, verdict = step(state, Config(), ClosedTrade(5000, "BTC/USDT", -0.01))
    assert verdict.blocked
    assert verdict.changed


@pytest.mark.parametrize("profit", [None, math.nan, math.inf])
def test_streak_when_profit_is_unknown_then_it_blocks_and_changes_nothing(profit):
    state, _ = run(Config(), [-0.01])
    after, verdict = step(state, Config(), ClosedTrade(999, "BTC/USDT", profit))
    assert after is state
    assert verdict.blocked
    assert verdict.unknown


def test_streak_when_time_runs_backwards_then_it_raises_and_equal_time_is_allowed():
    state, _ = run(Config(), [-0.01], start=100)
    step(state, Config(), Tick(100))
    with pytest.raises(ValueError, match="`time`"):
        step(state, Config(), Tick(99))


def test_streak_when_an_operator_resets_it_then_nothing_is_counted_and_it_remembers():
    state, _ = run(Config(), [-0.01] * 5)
    state = reset(state, Config(), Tick(999))
    assert state.reset_time == 999
    _, verdicts = run(Config(), [-0.01] * 3, state, start=1000)
    assert [v.blocked for v in verdicts] == [False, False, True]


TABLE = [
    (0.35, 17),
    (0.40, 15),
    (0.45, 13),
    (0.50, 11),
    (0.55, 10),
    (0.60, 9),
    (0.65, 8),
    (0.70, 7),
    (0.80, 5),
]


@pytest.mark.parametrize(("win_rate", "length"), TABLE)
def test_streak_length_when_from_the_win_rate_then_it_is_that_of_the_table(win_rate, length):
    assert streak_length(win_rate) == length
    assert streak_probability(win_rate, length) <= 0.05 < streak_probability(win_rate, length - 1)


@pytest.mark.parametrize(("win_rate", "length"), TABLE)
def test_win_rate_method_when_the_streak_is_long_enough_then_size_is_halved_once(win_rate, length):
    config = Config(method="win_rate", win_rate=win_rate, floor=0.25)
    assert factor_after(length - 1, config) == 1.0
    assert factor_after(length, config) == 0.5
    assert factor_after(10 * length, config) == 0.5


@pytest.mark.parametrize(("losses", "trades"), [(3, 2), (3, 3), (3, 4), (2, 10), (4, 12)])
def test_streak_probability_when_enumerated_over_all_outcomes_then_it_is_exact(losses, trades):
    win, total = 0.6, 0.0
    for outcome in range(2**trades):
        text = f"{outcome:0{trades}b}"
        if "1" * losses in text:
            total += (1 - win) ** text.count("1") * win ** text.count("0")
    assert streak_probability(win, losses, trades) == pytest.approx(total, abs=1e-14)


def test_streak_probability_when_simulated_then_it_agrees():
    generator, hits = random.Random(1), 0
    for _ in range(2000):
        run_length = longest = 0
        for _ in range(200):
            run_length = 0 if generator.random() < 0.5 else run_length + 1
            longest = max(longest, run_length)
        hits += longest >= 8
    assert hits / 2000 == pytest.approx(streak_probability(0.5, 8), abs=0.04)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"method": "other"}, "method"),
        ({"losses": 0}, "losses"),
        ({"floor": 0.0}, "floor"),
        ({"floor": 1.1}, "floor"),
        ({"method": "win_rate"}, "win_rate"),
        ({"win_rate": 1.0}, "win_rate"),
        ({"cooldown_losses": 0}, "cooldown_losses"),
        ({"cooldown_minutes": -1.0}, "cooldown_minutes"),
        ({"cooldown_minutes": math.inf}, "cooldown_minutes"),
    ],
)
def test_config_when_out_of_range_then_the_error_names_the_parameter(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Config(**arguments)
