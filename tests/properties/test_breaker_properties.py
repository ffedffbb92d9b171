"""What must hold of every breaker, whatever happens to it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.rules import decay, drawdown, liquidated, loss_limit, streak
from plimsoll.rules.breaker import ClosedTrade, EquitySample, ReadingConfig, Tick

ONE, TWO = ReadingConfig(confirmations=1), ReadingConfig()
HOUR, DAY = 3600, 86_400
LADDER = ((0.05, 0.75, 3.0), (0.10, 0.5, 2.0), (0.15, 0.25, 1.0))
STEADY = settings(derandomize=True, deadline=None, max_examples=60)

EQUITY_MACHINES = {
    "day": (loss_limit, loss_limit.Config(readings=ONE)),
    "day, two readings": (loss_limit, loss_limit.Config(readings=TWO)),
    "week in Tokyo": (loss_limit, loss_limit.Config(0.15, "week", "Asia/Tokyo", readings=ONE)),
    "rolling day": (loss_limit, loss_limit.Config(rolling=True, readings=ONE)),
    "rolling week": (loss_limit, loss_limit.Config(0.15, "week", rolling=True, readings=TWO)),
    "latched": (drawdown, drawdown.Config(ladder=LADDER, readings=ONE)),
    "cooldown": (
        drawdown,
        drawdown.Config(reset="cooldown", cooldown_minutes=600.0, ladder=LADDER, readings=TWO),
    ),
}
TRADE_MACHINES = {
    "streak": (streak, streak.Config()),
    "streak by win rate": (streak, streak.Config(method="win_rate", win_rate=0.8)),
    "cusum": (decay, decay.Config(baseline=decay.Baseline(0.004, 0.02, 300, 0.1), pause_days=2.0)),
    "cusum without a baseline": (decay, decay.Config()),
    "sharpe": (decay, decay.Config(method="sharpe", min_trades=5)),
    "liquidated": (liquidated, liquidated.Config()),
}
equity_machine = pytest.mark.parametrize(("machine", "config"), EQUITY_MACHINES.values(), ids=EQUITY_MACHINES)
trade_machine = pytest.mark.parametrize(("machine", "config"), TRADE_MACHINES.values(), ids=TRADE_MACHINES)
every_machine = pytest.mark.parametrize(
    ("machine", "config"),
    [*EQUITY_MACHINES.values(), *TRADE_MACHINES.values()],
    ids=[*EQUITY_MACHINES, *TRADE_MACHINES],
)

gaps = st.sampled_from([0, 60, 300, HOUR, 6 * HOUR, DAY])
moves = st.sampled_from([-0.4, -0.12, -0.06, -0.03, -0.01, 0.0, 0.01, 0.03, 0.08, 0.5])
profits = st.sampled_from([-0.09, -0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.04])


@st.composite
def equity_paths(draw, unknowns=True):
    time, equity, samples = 1_767_225_000, 10_000.0, []
    for gap, move in draw(st.lists(st.tuples(gaps, moves), min_size=1, max_size=40)):
        time, equity = time + gap, max(equity * (1.0 + move), 1.0)
        missing = unknowns and draw(st.integers(0, 9)) == 0
        samples.append(EquitySample(time, None if missing else equity))
    return samples


@st.composite
def trade_paths(draw, machine=streak):
    time, samples = 1_767_225_000, []
    for gap, profit, kind in draw(
        st.lists(st.tuples(gaps, profits, st.integers(0, 9)), min_size=1, max_size=60)
    ):
        time += gap
        if kind == 0:
            samples.append(Tick(time))
        elif machine is liquidated and kind <= 5:
            samples.append(
                liquidated.Signal(time, time - time % HOUR, draw(st.sampled_from(["long", "short", None])))
            )
        else:
            samples.append(
                ClosedTrade(time, "BTC/USDT", profit, kind == 9, draw(st.sampled_from(["long", "short"])))
            )
    return samples


def paths(machine):
    return equity_paths() if machine in (loss_limit, drawdown) else trade_paths(machine)


def fold(machine, config, samples, state=None):
    state, verdicts = state or machine.State(), []
    for sample in samples:
        state, verdict = machine.step(state, config, sample)
        verdicts.append(verdict)
    return state, verdicts


@every_machine
@STEADY
@given(data=st.data())
def test_machine_when_saved_and_loaded_at_any_split_then_the_future_is_the_same(machine, config, data):
    samples = data.draw(paths(machine))
    split = data.draw(st.integers(0, len(samples)))
    whole, verdicts = fold(machine, config, samples)
    first, before = fold(machine, config, samples[:split])
    loaded = machine.State.from_json(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    last, after = fold(machine, config, samples[split:], loaded)
    assert last == whole
    assert before + after == verdicts


@every_machine
@STEADY
@given(data=st.data())
def test_machine_when_it_answers_then_the_verdict_is_well_formed(machine, config, data):
    samples = data.draw(paths(machine))
    for sample, verdict in zip(samples, fold(machine, config, samples)[1], strict=True):
        assert 0.0 <= verdict.factor <= 1.0
        assert (verdict.factor == 0.0) == verdict.blocked
        assert verdict.reason
        assert verdict.value is None or math.isfinite(verdict.value)
        assert verdict.until is None or verdict.blocked
        assert verdict.until is None or verdict.unknown or verdict.until > sample.time
        assert not (verdict.unknown and verdict.changed)


@every_machine
@STEADY
@given(data=st.data())
def test_machine_when_time_runs_backwards_then_it_raises_and_equal_time_never_does(machine, config, data):
    samples = data.draw(paths(machine))
    state, _ = fold(machine, config, samples)
    last = samples[-1].time
    stamp = (lambda time: EquitySample(time, 9_000.0)) if machine in (loss_limit, drawdown) else Tick
    state, _ = machine.step(state, config, stamp(last))
    with pytest.raises(ValueError, match="`time` must not run backwards"):
        machine.step(state, config, stamp(last - 1))


@every_machine
@STEADY
@given(data=st.data())
def test_machine_when_an_operator_resets_it_then_it_is_armed_and_the_reset_remembered(machine, config, data):
    samples = data.draw(paths(machine))
    state, _ = fold(machine, config, samples)
    time = samples[-1].time + 1
    if machine in (loss_limit, drawdown):
        state = machine.reset(state, config, EquitySample(time, 9_000.0))
        _, verdicts = fold(machine, config, [EquitySample(time + i, 9_000.0) for i in range(3)], state)
    else:
        state = machine.reset(state, config, Tick(time))
        _, verdicts = fold(machine, config, [Tick(time)], state)
    assert state.reset_time == time
    assert (verdicts[-1].blocked, verdicts[-1].factor) == (False, 1.0)


# --- on equity ------------------------------------------------------------------------------------


@equity_machine
@STEADY
@given(data=st.data())
def test_equity_machine_when_equity_is_unknown_then_it_blocks_and_changes_nothing(machine, config, data):
    samples = data.draw(equity_paths())
    unknown = data.draw(st.sampled_from([None, math.nan, math.inf, 0.0, -1.0]))
    state, _ = fold(machine, config, samples)
    time = samples[-1].time + data.draw(st.sampled_from([0, HOUR, 10 * DAY]))
    after, verdict = machine.step(state, config, EquitySample(time, unknown))
    assert after is state
    assert (verdict.blocked, verdict.changed) == (True, False)
    # A breaker that has tripped stays tripped for its time, whatever is read meanwhile.
    tripped = (state.until is not None and time < state.until) or (
        getattr(state, "tripped", False) and state.until is None
    )
    assert verdict.unknown is not tripped
    assert verdict.until == (state.until if tripped else None)


@equity_machine
@STEADY
@given(data=st.data())
def test_equity_machine_when_equity_is_lower_then_it_allows_no_more(machine, config, data):
    samples = data.draw(equity_paths(unknowns=False))
    lower = data.draw(st.floats(0.01, 1.0))
    state, _ = fold(machine, config, samples[:-1])
    last = samples[-1]
    _, high = machine.step(state, config, last)
    _, low = machine.step(state, config, EquitySample(last.time, last.equity * lower))
    if high.unknown:
        return  # an unconfirmed jump upwards blocks as well
    assert low.blocked >= high.blocked
    assert low.factor <= high.factor
    assert (low.max_leverage or math.inf) <= (high.max_leverage or math.inf)


@equity_machine
@STEADY
@given(data=st.data())
def test_equity_machine_when_one_reading_is_bad_then_it_neither_trips_nor_re_arms(machine, config, data):
    if config.readings.confirmations == 1:
        return
    steady = [EquitySample(1_767_225_000 + i, 10_000.0) for i in range(8)]
    position, bad = data.draw(st.integers(0, 6)), data.draw(st.floats(0.01, 1e9))
    disturbed = [*steady]
    disturbed[position] = EquitySample(steady[position].time, bad)
    state, verdicts = fold(machine, config, disturbed)
    assert not any(v.changed for v in verdicts)
    assert state.until is None
    tripped, verdicts = fold(machine, config, [EquitySample(steady[-1].time + 1, 5_000.0)] * 2, state)
    assert [v.changed for v in verdicts] == [False, True]
    after, verdicts = fold(machine, config, [EquitySample(steady[-1].time + 1, bad)], tripped)
    assert verdicts[-1].blocked
    assert after.until == tripped.until


@equity_machine
@STEADY
@given(data=st.data())
def test_equity_machine_when_money_comes_and_goes_then_no_verdict_changes(machine, config, data):
    if config.readings.confirmations > 1:
        return  # exact only where the confirmed value is the latest one
    samples = data.draw(equity_paths(unknowns=False))
    units, flow, value, moved = 1.0, 0.0, None, []
    for sample in samples:
        bought = data.draw(st.sampled_from([0.0, 0.0, 0.5, 3.0, -0.3]))
        if value is not None and bought and units + bought > 0.2:
            # A deposit buys at the value before the move, a withdrawal sells after it.
            price = value if bought > 0.0 else sample.equity
            if bought > 0.0 or abs(sample.equity / value - 1.0) <= config.readings.jump:
                units, flow = units + bought, flow + bought * price
        value = sample.equity
        moved.append(EquitySample(sample.time, value * units, flow))
    plain = fold(machine, config, samples)[1]
    for left, right in zip(plain, fold(machine, config, moved)[1], strict=True):
        if left.value is not None and min(abs(left.value - x) for x in (0.05, 0.1, 0.15, 0.2)) < 1e-9:
            return
        assert (left.blocked, left.factor, left.max_leverage, left.until, left.changed) == (
            right.blocked, right.factor, right.max_leverage, right.until, right.changed)  # fmt: skip


@STEADY
@given(equity_paths())
def test_drawdown_when_measured_then_it_is_in_zero_to_one(samples):
    _, verdicts = fold(*EQUITY_MACHINES["latched"], samples)
    assert all(0.0 <= v.value < 1.0 for v in verdicts if v.value is not None)


@STEADY
@given(equity_paths())
def test_drawdown_when_latched_then_it_stays_so_until_a_reset(samples):
    _, verdicts = fold(*EQUITY_MACHINES["latched"], samples)
    tripped = next((i for i, v in enumerate(verdicts) if v.blocked and not v.unknown), len(verdicts))
    assert all(v.blocked for v in verdicts[tripped:])
    assert sum(v.changed for v in verdicts[tripped:]) <= 1


@STEADY
@given(equity_paths(unknowns=False))
def test_ladder_when_losses_accumulate_then_leverage_never_rises_before_a_new_peak(samples):
    machine, config = EQUITY_MACHINES["latched"]
    state, cap = machine.State(), math.inf
    for sample in samples:
        peak = state.peak
        state, verdict = machine.step(state, config, sample)
        leverage = verdict.max_leverage or math.inf
        assert leverage <= cap or state.peak > peak
        cap = leverage


@pytest.mark.parametrize("period", ["day", "week"])
@STEADY
@given(old=equity_paths(), new=equity_paths(unknowns=False), extra=st.integers(0, 3 * DAY))
def test_rolling_when_samples_are_older_than_the_window_then_they_never_change_a_decision(
    period, old, new, extra
):
    config = loss_limit.Config(0.05, period, rolling=True, readings=ONE)
    length = DAY if period == "day" else 7 * DAY
    state, _ = fold(loss_limit, config, old)
    # The trip itself lasts as long as the window, so a sample older than that has no say through it either.
    shift = old[-1].time + length + 1 + extra - new[0].time
    later = [EquitySample(s.time + shift, s.equity) for s in new]
    with_old, without = fold(loss_limit, config, later, state)[1], fold(loss_limit, config, later)[1]
    assert [(v.blocked, v.until, v.factor) for v in with_old] == [
        (v.blocked, v.until, v.factor) for v in without
    ]


# --- on closed trades -----------------------------------------------------------------------------


@trade_machine
@STEADY
@given(data=st.data())
def test_trade_machine_when_a_trade_is_profitable_then_it_never_extends_a_block(machine, config, data):
    samples = data.draw(trade_paths(machine))
    state, _ = fold(machine, config, samples)
    time = samples[-1].time + data.draw(gaps)
    _, idle = machine.step(state, config, Tick(time))
    _, won = machine.step(state, config, ClosedTrade(time, "BTC/USDT", 0.5))
    if machine is decay and config.method == "sharpe":
        return  # one outlier can lower a Sharpe ratio: see the next test
    assert won.blocked <= idle.blocked
    assert (won.until or 0) <= (idle.until or 0)
    assert won.factor >= idle.factor


@STEADY
@given(data=st.data())
def test_sharpe_when_the_best_trade_repeats_its_average_then_it_does_not_pause_an_unpaused_bot(data):
    config = decay.Config(method="sharpe", min_trades=5, min_sharpe=0.0)
    samples = data.draw(trade_paths())
    state, _ = fold(decay, config, samples)
    _, idle = decay.step(state, config, Tick(samples[-1].time))
    _, won = decay.step(state, config, ClosedTrade(samples[-1].time, "BTC/USDT", 0.01))
    if state.sharpe is not None:
        assert won.blocked <= idle.blocked


@trade_machine
@STEADY
@given(data=st.data())
def test_trade_machine_when_the_last_trade_is_worse_then_it_allows_no_more(machine, config, data):
    if machine is decay and config.method == "sharpe":
        return  # a Sharpe ratio is not monotone in one trade
    samples = data.draw(trade_paths(machine))
    better, worse = sorted(data.draw(st.tuples(profits, profits)), reverse=True)
    state, _ = fold(machine, config, samples)
    _, high = machine.step(state, config, ClosedTrade(samples[-1].time, "BTC/USDT", better))
    _, low = machine.step(state, config, ClosedTrade(samples[-1].time, "BTC/USDT", worse))
    assert low.blocked >= high.blocked
    assert low.factor <= high.factor


@STEADY
@given(old=trade_paths(), new=trade_paths(), extra=st.integers(0, DAY))
def test_sharpe_when_trades_are_older_than_the_window_then_they_never_change_a_decision(old, new, extra):
    machine, config = TRADE_MACHINES["sharpe"]
    shift = old[-1].time + 30 * DAY + extra - new[0].time
    later = [
        Tick(s.time + shift) if isinstance(s, Tick) else ClosedTrade(s.time + shift, s.pair, s.profit_ratio)
        for s in new
    ]
    with_old = fold(machine, config, later, fold(machine, config, old)[0])[1]
    without = fold(machine, config, later)[1]
    assert [(v.blocked, v.until, v.value) for v in with_old] == [
        (v.blocked, v.until, v.value) for v in without
    ]


@STEADY
@given(st.lists(profits, min_size=1, max_size=60))
def test_streak_when_mirrored_between_long_and_short_then_nothing_differs(results):
    long = [ClosedTrade(i, "BTC/USDT", p, side="long") for i, p in enumerate(results)]
    short = [ClosedTrade(i, "BTC/USDT", p, side="short") for i, p in enumerate(results)]
    for machine, config in TRADE_MACHINES.values():
        assert fold(machine, config, long)[1] == fold(machine, config, short)[1]
