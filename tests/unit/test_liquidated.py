"""No re-entry on a pair after a liquidation before a new signal."""

from __future__ import annotations

import pytest

from plimsoll.rules import streak
from plimsoll.rules.breaker import ClosedTrade, Tick
from plimsoll.rules.liquidated import Config, Signal, State, reset, step

HOUR = 3600
AT = 10 * HOUR + 1800


CONFIG = Config()


def liquidate(side="long", config=CONFIG):
    return step(State(), config, ClosedTrade(AT, "BTC/USDT", -0.99, True, side))


def signals(state, candles, config=CONFIG):
    verdicts = []
    for candle, side in candles:
        state, verdict = step(state, config, Signal((candle + 1) * HOUR, candle * HOUR, side))
        verdicts.append(verdict)
    return state, verdicts


def test_liquidated_when_a_position_was_liquidated_then_the_pair_is_blocked_without_end():
    _, verdict = liquidate()
    assert (verdict.blocked, verdict.changed, verdict.until) == (True, True, None)
    assert verdict.reason == "liquidated at 1970-01-01 10:30 UTC, no entries on this pair until a new signal"


@pytest.mark.parametrize("side", ["long", "short"])
def test_liquidated_when_the_signal_merely_persists_then_it_stays_blocked(side):
    state, _ = liquidate(side)
    _, verdicts = signals(state, [(c, side) for c in range(10, 20)])
    assert all(v.blocked for v in verdicts)


@pytest.mark.parametrize("side", ["long", "short"])
def test_liquidated_when_the_signal_was_absent_and_comes_back_then_it_is_new(side):
    state, _ = liquidate(side)
    _, verdicts = signals(state, [(11, side), (12, None), (13, None), (14, side), (15, side)])
    assert [v.blocked for v in verdicts] == [True, True, True, False, False]
    assert [v.changed for v in verdicts] == [False, False, False, True, False]


@pytest.mark.parametrize(("side", "other"), [("long", "short"), ("short", "long")])
def test_liquidated_when_the_other_side_signals_then_that_is_new(side, other):
    state, _ = liquidate(side)
    _, verdicts = signals(state, [(11, other)])
    assert not verdicts[-1].blocked


def test_liquidated_when_the_candle_opened_before_the_liquidation_then_it_does_not_count():
    state, _ = liquidate()
    _, verdicts = signals(state, [(10, None), (11, "long")])
    assert verdicts[-1].blocked


def test_liquidated_when_a_candle_is_seen_twice_then_it_counts_once():
    config = Config(absent_candles=2)
    state, _ = liquidate(config=config)
    state, verdicts = signals(state, [(11, None), (11, None), (12, "long")], config)
    assert verdicts[-1].blocked
    _, verdicts = signals(state, [(13, None), (14, "long")], config)
    assert [v.blocked for v in verdicts] == [True, False]


def test_liquidated_when_the_side_is_unknown_then_any_signal_must_be_absent_first():
    state, _ = liquidate(side=None)
    _, verdicts = signals(state, [(11, "short"), (12, None), (13, "short")])
    assert [v.blocked for v in verdicts] == [True, True, False]


def test_liquidated_when_time_passes_or_other_trades_close_then_it_stays_blocked():
    state, _ = liquidate()
    state, verdict = step(state, Config(), Tick(AT + 10**8))
    assert verdict.blocked
    _, verdict = step(state, Config(), ClosedTrade(AT + 10**8, "BTC/USDT", 0.5))
    assert verdict.blocked
    assert not verdict.changed


def test_liquidated_when_no_liquidation_happened_then_nothing_is_blocked():
    _, verdict = step(State(), Config(), ClosedTrade(AT, "BTC/USDT", -0.9))
    assert not verdict.blocked
    _, verdict = step(State(), Config(), Signal(AT, AT, "long"))
    assert not verdict.blocked


def test_liquidated_when_an_operator_resets_it_then_it_is_forgotten_and_the_reset_remembered():
    state, _ = liquidate()
    state = reset(state, Config(), Tick(AT + 1))
    assert state.reset_time == AT + 1
    _, verdict = step(state, Config(), Tick(AT + 2))
    assert not verdict.blocked


def test_liquidated_when_counted_by_the_streak_then_it_is_a_loss():
    state, _ = streak.step(streak.State(), streak.Config(), ClosedTrade(AT, "BTC/USDT", 0.0, True))
    assert state.losses == 1


def test_liquidated_when_time_runs_backwards_then_it_raises():
    state, _ = liquidate()
    with pytest.raises(ValueError, match="`time`"):
        step(state, Config(), Tick(AT - 1))


def test_config_when_out_of_range_then_the_error_names_the_parameter():
    with pytest.raises(ValueError, match="`absent_candles` must be"):
        Config(absent_candles=0)
