"""What must hold of margin health on any path of prices, with an adversary that adds whenever it may."""

from __future__ import annotations

import json
import math
from itertools import groupby

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plimsoll.rules.liquidation import MaintenanceTier
from plimsoll.rules.margin_health import MOST_REDUCTIONS, Config, Sample, State, measure, step

STEADY = settings(derandomize=True, deadline=None, max_examples=80, database=None)
TIERS = (
    MaintenanceTier(0.0, 5_000.0, 0.01, 0.0, 50.0),
    MaintenanceTier(5_000.0, 25_000.0, 0.025, 75.0, 20.0),
    MaintenanceTier(25_000.0, None, 0.05, 700.0, 10.0),
)
RANK = {"none": 0, "alert": 1, "reduce": 2, "close": 3}
sides = st.sampled_from(["long", "short"])
configs = st.sampled_from(
    [
        Config(confirmations=1),
        Config(),
        Config(confirmations=3, rearm=1.0, reduce_by=0.9),
        Config(confirmations=1, reduce_distance=0.14, close_distance=0.0, rearm=1.1, reduce_by=0.1),
    ]
)
distances = st.sampled_from(
    [-0.1, 0.02, 0.0499, 0.05, 0.06, 0.07, 0.0749, 0.09, 0.0999, 0.1, 0.12, 0.1251, 0.15, 0.4]
)
useds = st.sampled_from([0.0, 0.1, 0.5, 0.63, 0.65, 0.79, 0.8, 0.85, 0.89])
readings = st.tuples(distances, useds)
maybe_bad = st.one_of(readings, readings, st.sampled_from([(None, 0.1), (math.nan, math.nan), (0.01, None)]))
moves = st.sampled_from([-0.09, -0.04, -0.02, -0.01, -0.003, 0.003, 0.01, 0.02, 0.04, 0.09])


def fold(config, path, state=None, start=0):
    state, found = state or State(), []
    for index, reading in enumerate(path):
        state, health = step(state, config, Sample(start + index, *reading))
        found.append(health)
    return state, found


def trade(config, side, leverage, path, share, unknowns=()):
    """Hold a position along a path of prices; add whenever allowed, reduce and close when told."""
    rate, open_rate, amount, margin = 100.0, 100.0, 10.0, 1000.0 / leverage
    state, events = State(), []
    for index, move in enumerate(path):
        rate *= 1.0 + move
        known = index not in unknowns
        reading = measure(side=side, open_rate=open_rate, rate=rate, amount=amount, margin=margin, funding=0.0,
                          tiers=TIERS if known else None)  # fmt: skip
        state, health = step(state, config, Sample(index, *reading))
        events.append((reading.distance, health.action, health.allows_additions))
        if health.action == "close":
            break
        if health.action == "reduce":
            amount, margin = amount * (1.0 - health.reduce_by), margin * (1.0 - health.reduce_by)
        elif health.allows_additions:
            more = amount * share
            # What the position lost stays on its margin: the average entry moves, as Freqtrade counts it.
            open_rate = (open_rate * amount + rate * more) / (amount + more)
            amount, margin = amount + more, margin + more * rate / leverage
    return events


def check(config, events):
    """Assert the laws of each reading; return the crossings there can have been, and the runs of reductions and additions."""
    n = config.confirmations
    known = [event for event in events if math.isfinite(event[0])]
    lowest_since, crossings, far = None, 0, True
    for distance, _, _ in known:  # each reading by itself, the most crossings there can have been
        if far and distance < config.reduce_distance:
            crossings, far = crossings + 1, False
        far = far or distance > config.rearm_distance
    for index, (_, action, _) in enumerate(known):
        row = [d for d, _, _ in known[max(0, index + 1 - n) : index + 1]]
        if action == "reduce":
            assert len(row) == n
            assert all(d < config.reduce_distance for d in row)
            assert lowest_since is None or max(row) < (lowest_since + config.close_distance) / 2.0
            lowest_since = max(row)
        elif lowest_since is not None and len(row) == n and min(row) > config.rearm_distance:
            lowest_since = None
    reduced, far_in_a_row = False, 0
    for distance, action, allows in known:
        far_in_a_row = far_in_a_row + 1 if distance > config.rearm_distance else 0
        reduced = (reduced or action == "reduce") and far_in_a_row < n
        assert not (reduced and allows)
    done = ["reduce" if a == "reduce" else "add" for _, a, allows in known if a == "reduce" or allows]
    runs = [kind for kind, _ in groupby(done)]
    assert runs.count("reduce") <= crossings
    assert done.count("reduce") <= MOST_REDUCTIONS * crossings
    return crossings, runs


@STEADY
@given(
    configs,
    sides,
    st.integers(1, 10),
    st.lists(moves, min_size=1, max_size=120),
    st.sampled_from([0.05, 0.5, 5.0]),
    st.sets(st.integers(0, 119), max_size=10),
)
def test_adversary_when_it_adds_whenever_allowed_then_reduce_and_add_alternate_once_per_crossing_at_most(
    config, side, leverage, path, share, unknowns
):
    crossings, runs = check(config, trade(config, side, leverage, path, share, unknowns))
    assert runs.count("reduce") <= crossings


@STEADY
@given(configs, st.lists(readings, min_size=1, max_size=80))
def test_adversary_when_additions_themselves_move_the_distance_then_reduce_and_add_alternate_as_little(
    config, path
):
    _, found = fold(config, path)
    crossings, runs = check(
        config, [(d, h.action, h.allows_additions) for (d, _), h in zip(path, found, strict=True)]
    )
    assert runs.count("reduce") <= crossings


def test_adversary_when_the_price_swings_across_the_whole_band_then_it_does_alternate_once_per_crossing():
    # A check of the check: without crossings and alternations the laws above would say nothing.
    config = Config(confirmations=1)
    path = [(0.2, 0.1), (0.09, 0.1)] * 10
    _, found = fold(config, path)
    crossings, runs = check(
        config, [(d, h.action, h.allows_additions) for (d, _), h in zip(path, found, strict=True)]
    )
    assert (crossings, runs) == (10, ["add", "reduce"] * 10)


def test_adversary_when_the_price_swings_within_the_band_then_one_reduction_and_no_addition_follow():
    for confirmations in (1, 2):
        low, high = (0.0999, 0.1), (0.1249, 0.1)
        path = [(0.2, 0.1)] * 3 + [*[low] * 2, *[high] * 2] * 25
        _, found = fold(Config(confirmations=confirmations), path)
        assert [h.action for h in found].count("reduce") == 1
        assert not any(h.allows_additions for h in found[3:])


@pytest.mark.parametrize(("side", "steps"), [("long", 6), ("short", 5)])
def test_adversary_when_a_real_position_swings_then_the_law_is_not_empty(side, steps):
    step_, config = (-0.02 if side == "long" else 0.02), Config(confirmations=1)
    path = [*[step_] * steps, *[-step_] * steps] * 8
    crossings, runs = check(config, trade(config, side, 5, path, 0.001))
    assert crossings >= 2
    assert runs.count("reduce") >= 2
    assert runs.count("add") >= 2


@STEADY
@given(configs, st.lists(maybe_bad, max_size=30), readings, st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_step_when_the_reading_is_worse_then_no_less_is_done_and_no_more_allowed(
    config, path, last, nearer, more
):
    state, _ = fold(config, path)
    _, good = step(state, config, Sample(99, *last))
    _, bad = step(state, config, Sample(99, last[0] - nearer, last[1] + more))
    assert RANK[bad.action] >= RANK[good.action]
    assert bad.allows_additions <= good.allows_additions


@STEADY
@given(configs, st.lists(readings, max_size=30), st.lists(st.integers(0, 30), max_size=10))
def test_step_when_bad_readings_come_between_then_everything_else_is_as_without_them(config, path, places):
    marked = [(index, reading) for index, reading in enumerate(path)]
    for place in places:
        marked.insert(min(place, len(marked)), (None, (math.nan, None)))
    _, found = fold(config, [reading for _, reading in marked])
    _, plain = fold(config, path)
    assert [h for h, (index, _) in zip(found, marked, strict=True) if index is not None] == plain
    for health, (index, _) in zip(found, marked, strict=True):
        assert index is not None or (health.action in ("unknown", "close") and not health.allows_additions)
        assert index is not None or not health.changed


@STEADY
@given(configs, st.lists(maybe_bad, max_size=40), st.data())
def test_step_when_saved_and_loaded_at_any_split_then_the_future_is_the_same(config, path, data):
    split = data.draw(st.integers(0, len(path)))
    first, before = fold(config, path[:split])
    loaded = State.from_json(json.loads(json.dumps(first.to_json(), allow_nan=False)))
    last, after = fold(config, path[split:], loaded, start=split)
    assert (last, before + after) == fold(config, path)


@STEADY
@given(configs, st.lists(maybe_bad, max_size=40))
def test_step_when_closing_then_it_stays_so(config, path):
    closing = [h.action == "close" for h in fold(config, path)[1]]
    assert closing == sorted(closing)


@STEADY
@given(sides, st.floats(1.0, 15.0), st.floats(10.0, 1_000.0), st.floats(0.3, 3.0), st.floats(-0.1, 0.1))
def test_measure_when_all_margin_is_used_then_the_unbuffered_liquidation_price_is_passed_and_only_then(
    side, leverage, amount, moved, funding
):
    notional = amount * 100.0
    distance, used = measure(side=side, open_rate=100.0, rate=100.0 * moved, amount=amount, margin=notional / leverage,
                             funding=funding * notional / leverage, tiers=TIERS, buffer=0.0)  # fmt: skip
    assume(abs(used - 1.0) > 1e-9)
    assert (used > 1.0) == (distance < 0.0)


@STEADY
@given(sides, st.floats(1.0, 10.0), st.floats(10.0, 1_000.0), st.floats(0.5, 1.5), st.floats(0.001, 0.2))
def test_measure_when_the_price_moves_against_a_loser_or_funding_is_paid_then_both_get_worse(
    side, leverage, amount, moved, by
):
    loss = moved < 1.0 if side == "long" else moved > 1.0
    assume(loss)
    margin = amount * 100.0 / leverage
    at = {"side": side, "open_rate": 100.0, "amount": amount, "margin": margin, "tiers": TIERS}
    here = measure(rate=100.0 * moved, funding=0.0, **at)
    further = measure(rate=100.0 * moved * (1.0 - by if side == "long" else 1.0 + by), funding=0.0, **at)
    paid = measure(rate=100.0 * moved, funding=-by * margin, **at)
    for worse in (further, paid):
        assert worse.distance <= here.distance
        assert worse.margin_used > here.margin_used
