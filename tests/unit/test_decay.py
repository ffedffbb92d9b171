"""Decay: two-level sequential test and rolling Sharpe ratio."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path

import pytest

from plimsoll.rules.breaker import ClosedTrade, Tick
from plimsoll.rules.decay import (
    LEARN_TRADES,
    Baseline,
    Config,
    State,
    average_run_length,
    expectation,
    levels,
    reset,
    sharpe_ratio,
    siegmund_threshold,
    statement,
    step,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "quant.json").read_text())
DECAY = VECTORS["decay"]
DAY = 86_400
BASELINE = Baseline(DECAY["mu0"], DECAY["sd0"], DECAY["n_val"], DECAY["trades_per_day"])
CUSUM = Config(baseline=BASELINE)
SHARPE = Config(method="sharpe")


def run(config, profits, state=None, start=0, every=8 * 3600):
    state, verdicts = state or State(), []
    for index, profit in enumerate(profits):
        state, verdict = step(state, config, ClosedTrade(start + index * every, "BTC/USDT", profit))
        verdicts.append(verdict)
    return state, verdicts


@pytest.mark.parametrize("case", VECTORS["cusum_threshold"]["cases"], ids=lambda c: f"{c['arl']}-{c['d']}")
def test_siegmund_threshold_when_given_a_vector_then_it_agrees(case):
    assert siegmund_threshold(case["arl"], case["d"]) == pytest.approx(case["expected_h"], rel=1e-9)


@pytest.mark.parametrize("run_length", [2.0, 10.0, 1e4, 1e6])
@pytest.mark.parametrize("drift", [0.0, 1e-9, 1e-5, 0.02, 1.0])
def test_siegmund_threshold_when_put_back_then_the_run_length_is_the_one_asked(run_length, drift):
    threshold = siegmund_threshold(run_length, drift)
    expected = max(run_length, average_run_length(drift, 0.0))
    assert average_run_length(drift, threshold) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("run_length", "drift"), [(0.0, 0.1), (-1.0, 0.1), (100.0, -0.1), (math.inf, 0.1)])
def test_siegmund_threshold_when_out_of_range_then_it_raises(run_length, drift):
    with pytest.raises(ValueError, match="must be"):
        siegmund_threshold(run_length, drift)


def test_average_run_length_when_simulated_then_it_agrees():
    generator, lengths = random.Random(3), []
    for _ in range(300):
        score = count = 0.0
        while score < 8.0:
            score, count = max(0.0, score - generator.gauss(0.05, 1.0)), count + 1
        lengths.append(count)
    assert statistics.fmean(lengths) == pytest.approx(average_run_length(0.05, 8.0), rel=0.2)


def test_levels_when_given_the_vector_then_they_agree():
    running = levels(CUSUM)
    assert running.warn == pytest.approx(DECAY["h_warn"], rel=1e-9)
    assert running.pause == pytest.approx(DECAY["h_pause"], rel=1e-9)


def test_cusum_when_given_the_vector_then_every_state_agrees():
    state, time, seen = State(), 0, []
    for profit in DECAY["returns"]:
        time = state.until or time + 8 * 3600
        state, _ = step(state, CUSUM, ClosedTrade(time, "BTC/USDT", profit))
        seen.append(state.level)
    assert seen == DECAY["expected"]


def after_score(score, target, level="ok"):
    allowance = levels(CUSUM).allowance
    profit = (score - target + allowance) * BASELINE.deviation
    return step(State(0, level, score), CUSUM, ClosedTrade(1, "BTC/USDT", profit))


@pytest.mark.parametrize(
    ("level", "share", "threshold", "expected"),
    [
        ("ok", 0.999, "warn", "ok"),
        ("ok", 1.001, "warn", "half"),
        ("half", 0.499, "warn", "ok"),
        ("half", 0.501, "warn", "half"),
        ("half", 0.999, "pause", "half"),
        ("half", 1.001, "pause", "pause"),
    ],
)
def test_cusum_when_the_score_is_just_at_a_threshold_then_the_level_follows(
    level, share, threshold, expected
):
    target = share * getattr(levels(CUSUM), threshold)
    state, verdict = after_score(target, target, level)
    assert state.level == expected
    assert verdict.changed is (level != expected)
    assert verdict.factor == {"ok": 1.0, "half": 0.5, "pause": 0.0}[expected]
    assert verdict.blocked is (expected == "pause")


def test_cusum_when_paused_then_it_lasts_thirty_days_and_restarts_at_half_size():
    pause = levels(CUSUM).pause
    state, verdict = after_score(pause, pause + 1.0, "half")
    assert verdict.until == 1 + 30 * DAY
    assert "no entries until 1970-01-31 00:00 UTC" in verdict.reason
    state, verdict = step(state, CUSUM, ClosedTrade(100, "BTC/USDT", -0.5))
    assert not verdict.changed
    state, verdict = step(state, CUSUM, Tick(30 * DAY))
    assert verdict.blocked
    state, verdict = step(state, CUSUM, Tick(30 * DAY + 1))
    assert (verdict.blocked, verdict.factor, verdict.changed) == (False, 0.5, True)
    assert state.score == levels(CUSUM).warn


def test_cusum_when_one_trade_is_extreme_then_it_is_clipped_at_four_sigmas():
    state, _ = step(State(), CUSUM, ClosedTrade(1, "BTC/USDT", -10.0))
    assert state.score == pytest.approx(4.0 + levels(CUSUM).allowance)


@pytest.mark.parametrize(("trades", "pauses"), [(99, False), (100, True)])
def test_cusum_when_the_baseline_is_small_then_there_is_only_the_warning_level(trades, pauses):
    config = Config(baseline=Baseline(0.002, 0.02, trades, 3.0))
    assert (levels(config).pause is not None) is pauses
    assert levels(config).allowance == pytest.approx(0.1 * min(0.5, trades / (trades + 100)) / 2)
    _, verdicts = run(config, [-0.05] * 50)
    assert any(v.blocked for v in verdicts) is pauses
    assert any(v.factor == 0.5 for v in verdicts)
    assert ("no pause level" in statement(config)) is not pauses


def test_cusum_when_there_is_no_baseline_then_it_says_so_and_never_pauses():
    config = Config()
    generator = random.Random(5)
    state, verdicts = run(config, [generator.gauss(0.001, 0.02) for _ in range(LEARN_TRADES)])
    assert all(v.factor == 1.0 and "no baseline" in v.reason for v in verdicts)
    state, verdicts = run(config, [-0.02] * 200, state, start=10**9)
    assert not any(v.blocked for v in verdicts)
    assert verdicts[-1].factor == 0.5
    assert "no baseline" in verdicts[-1].reason
    assert "no baseline" in statement(config)
    assert expectation(config, "half") is None


def test_cusum_when_learning_sees_equal_results_then_it_goes_on_learning():
    state, verdicts = run(Config(), [0.01] * 60)
    assert not state.learned.settled
    assert verdicts[-1].factor == 1.0


def test_cusum_when_paused_and_the_baseline_is_taken_away_then_the_pause_still_ends():
    state = State(0, "pause", 99.0, 10)
    state, verdict = step(state, Config(), Tick(9))
    assert verdict.blocked
    _, verdict = step(state, Config(), Tick(10))
    assert not verdict.blocked


def test_expectation_when_stated_then_it_has_false_alarms_and_delays_in_days():
    warn, pause = expectation(CUSUM, "half"), expectation(CUSUM, "pause")
    assert warn.false_alarm > 180.0
    assert pause.false_alarm > 730.0
    assert warn.delay_when_reversed < warn.delay_when_gone < pause.delay_when_gone
    assert f"one false alarm in {pause.false_alarm:.0f} days" in statement(CUSUM)


@pytest.mark.parametrize(
    ("sharpe", "rate", "warn", "pause"),
    [(1, 3, 20.8, 40.7), (2, 1, 10.8, 20.7), (2, 3, 19.6, 36.8), (4, 5, 23.2, 40.2)],
)
def test_levels_when_compared_with_the_published_table_then_they_agree(sharpe, rate, warn, pause):
    running = levels(Config(baseline=Baseline(sharpe / math.sqrt(365 * rate), 1.0, 10**6, rate)))
    assert (running.warn, running.pause) == pytest.approx((warn, pause), abs=0.06)


# --- rolling Sharpe ratio -------------------------------------------------------------------------


def with_sharpe(target, count=12):
    base = [0.01, -0.01] * (count // 2)
    per_trade = target / math.sqrt(count * 365 / 30)
    # mean / deviation = per_trade, with the deviation of the base
    return [ratio + per_trade * statistics.stdev(base) for ratio in base]


@pytest.mark.parametrize(("sharpe", "blocked"), [(0.499, True), (0.501, False)])
def test_sharpe_when_just_at_the_limit_then_it_pauses_only_under_it(sharpe, blocked):
    assert sharpe_ratio(with_sharpe(sharpe), 30.0) == pytest.approx(sharpe)
    _, verdicts = run(SHARPE, with_sharpe(sharpe), every=60)
    assert verdicts[-1].blocked is blocked


@pytest.mark.parametrize(("count", "blocked"), [(9, False), (10, True)])
def test_sharpe_when_there_are_few_trades_then_it_tells_nothing(count, blocked):
    _, verdicts = run(SHARPE, [-0.01, -0.02] * (count // 2) + [-0.01] * (count % 2), every=60)
    assert verdicts[-1].blocked is blocked


def test_sharpe_when_trades_leave_the_window_then_the_pause_ends_at_the_time_it_said():
    state, verdicts = run(SHARPE, [-0.01, -0.02] * 6, every=DAY)
    until = verdicts[-1].until
    assert until == 2 * DAY + 30 * DAY
    assert verdicts[-1].reason.endswith("of 12 trades, limit 0.5, until 1970-02-02 00:00 UTC")
    state, verdict = step(state, SHARPE, Tick(until - 1))
    assert verdict.blocked
    assert not verdict.changed
    state, verdict = step(state, SHARPE, Tick(until))
    assert not verdict.blocked
    assert verdict.changed


@pytest.mark.parametrize(("profit", "blocked"), [(-0.01, True), (0.0, True), (0.01, False)])
def test_sharpe_when_all_trades_are_equal_then_the_sign_decides(profit, blocked):
    _, verdicts = run(SHARPE, [profit] * 12, every=60)
    assert verdicts[-1].blocked is blocked


def test_sharpe_statement_when_asked_then_it_tells_how_uncertain_the_ratio_is():
    assert "standard error is 3.5" in statement(SHARPE)


# --- both ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [CUSUM, SHARPE, Config()])
@pytest.mark.parametrize("profit", [None, math.nan, -math.inf])
def test_decay_when_profit_is_unknown_then_it_blocks_and_changes_nothing(config, profit):
    state, _ = run(config, [-0.01])
    after, verdict = step(state, config, ClosedTrade(999, "BTC/USDT", profit))
    assert after is state
    assert (verdict.blocked, verdict.unknown) == (True, True)


@pytest.mark.parametrize("config", [CUSUM, SHARPE, Config()])
def test_decay_when_an_operator_resets_it_then_it_starts_again_and_remembers(config):
    state, _ = run(config, [-0.05, -0.04] * 40)
    state = reset(state, config, Tick(10**8))
    assert state.reset_time == 10**8
    _, verdict = step(state, config, Tick(10**8))
    assert (verdict.blocked, verdict.factor) == (False, 1.0)


@pytest.mark.parametrize("config", [CUSUM, SHARPE])
def test_decay_when_time_runs_backwards_then_it_raises(config):
    state, _ = run(config, [-0.01], start=100)
    step(state, config, Tick(100))
    with pytest.raises(ValueError, match="`time`"):
        step(state, config, Tick(99))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"method": "other"}, "method"),
        ({"warn_days": 0.0}, "warn_days"),
        ({"warn_days": 800.0}, "warn_days"),
        ({"false_pause_days": math.inf}, "false_pause_days"),
        ({"pause_days": 0.0}, "pause_days"),
        ({"window_days": 0.0}, "window_days"),
        ({"min_trades": 1}, "min_trades"),
        ({"min_sharpe": math.nan}, "min_sharpe"),
    ],
)
def test_config_when_out_of_range_then_the_error_names_the_parameter(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Config(**arguments)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.0, 0.1, 100, 1.0), "mean"),
        ((0.1, 0.0, 100, 1.0), "deviation"),
        ((0.1, 0.1, 1, 1.0), "trades"),
        ((0.1, 0.1, 100, 0.0), "trades_per_day"),
    ],
)
def test_baseline_when_out_of_range_then_the_error_names_the_parameter(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        Baseline(*arguments)
