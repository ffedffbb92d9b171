"""Laws of liquidation, leverage, stops and exposure."""

import math
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from plimsoll.rules.answer import Outcome
from plimsoll.rules.exposure import (
    OpenPosition,
    asset_margin,
    gross_notional,
    net_notional,
    side_cap,
    total_margin,
)
from plimsoll.rules.funding import expected_funding, funding_gate
from plimsoll.rules.heat import heat_limit
from plimsoll.rules.leverage import leverage_from_liquidation, leverage_from_stop
from plimsoll.rules.liquidation import (
    MaintenanceTier,
    buffered_distance_ratio,
    liquidation_distance,
    liquidation_price,
    tier_of,
)
from plimsoll.rules.sizing import loss_at_stop_ratio, planned_risk, risk_size
from plimsoll.rules.stops import (
    atr_stop,
    stop_inside_liquidation,
    stop_price,
    stop_ratio_for_freqtrade,
    tighten_inside,
    tighter,
)

quick = settings(derandomize=True, deadline=None, max_examples=100, database=None)

sides = st.sampled_from(["long", "short"])
rates = st.floats(1e-6, 1e6)
notionals = st.floats(1.0, 99_000.0)
leverages = st.integers(1, 5)
ratios = st.floats(0.0005, 0.9)
anything = st.one_of(st.floats(), st.none(), st.text(max_size=3), st.booleans(), st.integers())
TIERS = (
    MaintenanceTier(0.0, 5_000.0, 0.01, 0.0, 50.0),
    MaintenanceTier(5_000.0, 25_000.0, 0.025, 75.0, 20.0),
    MaintenanceTier(25_000.0, 100_000.0, 0.05, 700.0, 10.0),
)
positions = st.lists(
    st.builds(
        OpenPosition,
        pair=st.just("x"),
        asset=st.sampled_from(["BTC", "ETH"]),
        side=sides,
        margin=st.floats(0.0, 1e6),
        notional=st.floats(0.0, 1e6),
        risk=st.floats(-1e4, 1e5),
    ),
    max_size=8,
)


def limits(held, equity=10_000.0):
    """Answer every limit over the positions, except the net one, where the other side gives room."""
    return [
        total_margin(equity=equity, ratio=0.6, positions=held),
        gross_notional(equity=equity, ratio=3.0, positions=held),
        asset_margin(equity=equity, ratio=0.25, positions=held, asset="BTC"),
        heat_limit(equity=equity, positions=held, loss_at_stop_ratio=0.03),
    ]


def distance_of(side, notional, leverage, extra_ratio=0.0):
    """Return the distance by the closed form at the tier that hits first."""
    return min(
        buffered_distance_ratio(
            leverage=leverage,
            mmr=tier.mmr,
            side=side,
            maintenance_amount_ratio=tier.maintenance_amount / notional,
            extra_ratio=extra_ratio,
        )
        for tier in TIERS
    )


def price_of(side, rate, notional, leverage, buffer=0.05):
    return liquidation_price(
        side=side,
        open_rate=rate,
        amount=notional / rate,
        margin=notional / leverage,
        tiers=TIERS,
        buffer=buffer,
    )


@quick
@given(rates, notionals, leverages)
def test_liquidation_when_mirrored_then_the_margin_lasts_equally_on_both_sides(rate, notional, leverage):
    tier = MaintenanceTier(0.0, None, *tier_of(TIERS, notional)[2:4])
    trade = {"open_rate": rate, "amount": notional / rate, "margin": notional / leverage, "tiers": [tier]}
    ratio = {
        side: liquidation_distance(
            side=side, rate=rate, liquidation_price=liquidation_price(side=side, buffer=0.0, **trade)
        )
        for side in ("long", "short")
    }
    # The reflection of the formula: distance * (1 -/+ mmr) is what the margin covers, the same on both sides.
    covered = ratio["short"] * (1 + tier.mmr)
    assume(covered / (1 - tier.mmr) < 1.0)  # not floored at a price of 0

    assert math.isclose(ratio["long"] * (1 - tier.mmr), covered, rel_tol=1e-9, abs_tol=1e-12)


@quick
@given(rates, ratios, st.floats(0.01, 0.64), leverages)
def test_stops_when_mirrored_around_the_entry_then_the_same(rate, distance, share, leverage):
    reach = share * 1.5
    low, high = rate * (1 - distance), rate * (1 + distance)
    long_ = {"side": "long", "open_rate": rate, "liquidation_price": low}
    short = {"side": "short", "open_rate": rate, "liquidation_price": high}
    below, above = rate * (1 - reach * distance), rate * (1 + reach * distance)
    moved_long = tighten_inside(stop_price=below, **long_)
    moved_short = tighten_inside(stop_price=above, **short)

    assert math.isclose(rate - moved_long, moved_short - rate, rel_tol=1e-6, abs_tol=rate * 1e-12)
    if abs(reach - 0.65) > 1e-6:
        outcome = stop_inside_liquidation(stop_price=below, **long_).outcome
        assert outcome is stop_inside_liquidation(stop_price=above, **short).outcome
    ratio_long = stop_ratio_for_freqtrade(stop_price=below, current_rate=rate, side="long", leverage=leverage)
    ratio_short = stop_ratio_for_freqtrade(
        stop_price=above, current_rate=rate, side="short", leverage=leverage
    )
    assert math.isclose(ratio_long, ratio_short, rel_tol=1e-6)


@quick
@given(st.floats(-0.1, 0.1), st.floats(0.0, 500.0), st.floats(0.001, 0.5))
def test_funding_when_rate_and_side_are_mirrored_then_the_same(rate, hours, loss):
    long_ = {"funding_per_day": rate, "hold_hours": hours, "side": "long"}
    short = {"funding_per_day": -rate, "hold_hours": hours, "side": "short"}

    assert expected_funding(**long_) == expected_funding(**short)
    assert (
        funding_gate(loss_at_stop_ratio=loss, **long_).outcome
        is funding_gate(loss_at_stop_ratio=loss, **short).outcome
    )


@quick
@given(sides, rates, st.floats(0.0001, 0.6), notionals, leverages)
def test_stop_when_tightened_then_between_liquidation_and_entry(side, rate, atr_ratio, notional, leverage):
    answer = atr_stop(atr=atr_ratio * rate, rate=rate)
    assume(answer.outcome is Outcome.FINE)
    liquidation = price_of(side, rate, notional, leverage)
    where = {"side": side, "open_rate": rate, "liquidation_price": liquidation}

    stop = tighten_inside(stop_price=stop_price(side=side, rate=rate, stop_price_ratio=answer.value), **where)

    if side == "long":
        assert 0.0 <= liquidation < stop < rate
    else:
        assert liquidation > stop > rate
    assert stop_inside_liquidation(stop_price=stop, **where).outcome is Outcome.FINE


@quick
@given(sides, rates, ratios, notionals)
def test_stop_when_leverage_rises_then_never_further_out_and_the_loss_never_rises(
    side, rate, distance, notional
):
    stops, losses = [], []
    for leverage in range(1, 11):
        liquidation = price_of(side, rate, notional, leverage)
        wanted = stop_price(side=side, rate=rate, stop_price_ratio=distance)
        stop = tighten_inside(side=side, stop_price=wanted, open_rate=rate, liquidation_price=liquidation)
        ratio = abs(rate - stop) / rate
        loss = loss_at_stop_ratio(
            side=side, stop_price_ratio=ratio, fee_open=0.0005, fee_close=0.0005, slippage=0.001
        )
        stops.append(ratio)
        losses.append(planned_risk(notional=notional, loss_at_stop_ratio=loss))

    assert all(after <= before + 1e-12 for before, after in pairwise(stops))
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(losses))


@quick
@given(sides, st.floats(0.0005, 1.2), notionals, st.floats(-0.02, 0.02), st.floats(0.2, 0.8))
def test_leverage_when_allowed_by_the_stop_then_exact_and_the_largest_below_the_closed_form(
    side, distance, notional, funding, phi
):
    answer = leverage_from_stop(
        stop_price_ratio=distance,
        side=side,
        tiers=TIERS,
        notional=notional,
        stop_to_liquidation_ratio=phi,
        fee=0.0005,
        funding_per_day=funding,
    )
    paid = 3.0 * max(funding if side == "long" else -funding, 0.0)

    assert answer.outcome is not Outcome.UNKNOWN
    assert 0.0 <= answer.value <= 5.0
    assert answer.value == int(answer.value)
    if answer.value:
        assert distance <= phi * distance_of(side, notional, answer.value, -paid) + 1e-12
    else:
        assert distance > phi * distance_of(side, notional, 1.0, -paid) - 1e-12


@quick
@given(sides, notionals, st.floats(0.0001, 1.2), st.integers(1, 20))
def test_leverage_when_searched_by_hand_then_the_same(side, notional, daily_range, cap):
    tier = tier_of(TIERS, notional)
    enough = [
        leverage
        for leverage in range(1, min(cap, int(tier.max_leverage)) + 1)
        if distance_of(side, notional, leverage) >= max(0.15, daily_range)
    ]

    answer = leverage_from_liquidation(
        side=side, tiers=TIERS, notional=notional, cap=cap, daily_range=daily_range
    )

    assert answer.value == max(enough, default=0)


@quick
@given(sides, ratios, st.tuples(notionals, notionals).map(sorted))
def test_leverage_when_the_notional_grows_then_never_higher(side, distance, both):
    small, large = (
        leverage_from_stop(stop_price_ratio=distance, side=side, tiers=TIERS, notional=notional, fee=0.0005)
        for notional in both
    )

    assert large.value <= small.value


@quick
@given(positions, st.data())
def test_limits_when_a_position_is_added_then_never_looser(held, data):
    more = [*held, data.draw(positions.filter(bool))[0]]

    for before, after in zip(limits(held), limits(more), strict=True):
        assert after.value <= before.value
        assert not (before.outcome is Outcome.BREACHED and after.outcome is Outcome.FINE)
    side = more[-1].side
    ask = {"equity": 10_000.0, "ratio": 2.0, "side": side}
    assert net_notional(positions=more, **ask).value <= net_notional(positions=held, **ask).value + 1e-9
    for most in (0, 1, 3):
        caps = {"side": side, "max_long": most, "max_short": most}
        assert side_cap(positions=held, **caps).blocks <= side_cap(positions=more, **caps).blocks


@quick
@given(positions, st.randoms(use_true_random=False))
def test_limits_when_positions_are_permuted_then_identical(held, random):
    shuffled = random.sample(held, len(held))

    assert [answer.value for answer in limits(held)] == [answer.value for answer in limits(shuffled)]
    for side in ("long", "short"):
        ask = {"equity": 10_000.0, "ratio": 2.0, "side": side}
        assert net_notional(positions=held, **ask) == net_notional(positions=shuffled, **ask)


@quick
@given(positions, sides, st.sampled_from([2.0**k for k in range(-20, 21)]))
def test_limits_when_the_unit_of_money_changes_then_scale_with_it(held, side, unit):
    scaled = [
        OpenPosition(p.pair, p.asset, p.side, p.margin * unit, p.notional * unit, p.risk * unit) for p in held
    ]

    for one, other in zip(limits(held), limits(scaled, 10_000.0 * unit), strict=True):
        assert math.isclose(one.value * unit, other.value, rel_tol=1e-9)
        assert one.outcome is other.outcome
    size = risk_size(equity=10_000.0, risk_per_trade=0.01, loss_at_stop_ratio=0.03).value
    assert risk_size(
        equity=10_000.0 * unit, risk_per_trade=0.01, loss_at_stop_ratio=0.03
    ).value == math.ldexp(size, round(math.log2(unit)))
    one = net_notional(equity=10_000.0, ratio=2.0, positions=held, side=side)
    other = net_notional(equity=10_000.0 * unit, ratio=2.0, positions=scaled, side=side)
    assert math.isclose(one.value * unit, other.value, rel_tol=1e-9)


@quick
@given(sides, notionals, leverages, rates, st.floats(1e-3, 1e3))
def test_liquidation_when_the_unit_of_price_changes_then_scales_with_it(side, notional, leverage, rate, unit):
    one, other = price_of(side, rate, notional, leverage), price_of(side, rate * unit, notional, leverage)

    assert math.isclose(one * unit, other, rel_tol=1e-6, abs_tol=rate * unit * 1e-9)


@quick
@given(sides, *(st.one_of(st.none(), st.floats()) for _ in range(2)))
def test_tighter_when_swapped_then_the_same(side, a, b):
    one, other = tighter(side, a, b), tighter(side, b, a)

    assert one == other or (math.isnan(one) and math.isnan(other))


@quick
@given(st.data())
def test_rules_when_given_anything_then_answer_finite_or_nothing(data):
    def a():
        return data.draw(anything)

    side = data.draw(st.one_of(sides, anything))
    held = [OpenPosition("x", "BTC", side, a(), a(), a())]
    answers = [
        leverage_from_stop(
            stop_price_ratio=a(), side=side, tiers=TIERS, notional=a(), fee=a(), funding_per_day=a(), cap=a()
        ),
        leverage_from_liquidation(
            side=side, tiers=TIERS, notional=a(), cap=a(), daily_range=a(), extra_ratio=a()
        ),
        atr_stop(atr=a(), rate=a(), multiple=a(), own_stop_price_ratio=a()),
        stop_inside_liquidation(side=side, stop_price=a(), open_rate=a(), liquidation_price=a()),
        risk_size(equity=a(), risk_per_trade=a(), loss_at_stop_ratio=a()),
        total_margin(equity=a(), ratio=a(), positions=held, pending=a()),
        net_notional(equity=a(), ratio=a(), positions=held, side=side),
        heat_limit(equity=a(), max_heat=a(), positions=held, loss_at_stop_ratio=a()),
        funding_gate(funding_per_day=a(), side=side, hold_hours=a(), loss_at_stop_ratio=a(), required=a()),
    ]

    for answer in answers:
        assert answer.reason
        assert answer.value is None or math.isfinite(answer.value)
        assert (answer.outcome is Outcome.UNKNOWN) <= (answer.value is None)
