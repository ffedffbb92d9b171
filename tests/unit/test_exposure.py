"""What the open positions leave: margin, notional, assets, sides."""

import math

import pytest

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.exposure import (
    OpenPosition,
    asset_margin,
    asset_of,
    gross_notional,
    net_notional,
    position_margin,
    side_cap,
    total_margin,
)

GARBAGE = [math.nan, math.inf, -math.inf, None, "5", [], 10**400]


def position(side="long", margin=100.0, notional=300.0, asset="BTC", risk=10.0):
    return OpenPosition(f"{asset}/USDT:USDT", asset, side, margin, notional, risk)


RULES = {
    "position_margin": lambda **ask: position_margin(**{k: v for k, v in ask.items() if k != "positions"}),
    "total_margin": total_margin,
    "gross_notional": gross_notional,
    "net_notional": lambda **ask: net_notional(side="long", **ask),
    "asset_margin": lambda **ask: asset_margin(asset="BTC", **ask),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["equity", "ratio"])
@pytest.mark.parametrize("value", [-1.0, True, *GARBAGE], ids=lambda value: str(value)[:8])
def test_limit_when_equity_or_ratio_is_garbage_then_unknown(rule, name, value):
    if name == "ratio" and value is True:
        value = False
    answer = RULES[rule](**{"equity": 1_000.0, "ratio": 0.5, "positions": [], name: value})

    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize("rule", RULES)
def test_limit_when_equity_is_zero_then_unknown(rule):
    assert RULES[rule](equity=0.0, ratio=0.5, positions=[]).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("rule", [name for name in RULES if name != "position_margin"])
@pytest.mark.parametrize("value", [-1.0, *GARBAGE], ids=lambda value: str(value)[:8])
def test_limit_when_a_position_is_garbage_then_unknown(rule, value):
    positions = [position(), position(margin=value, notional=value)]

    assert RULES[rule](equity=1_000.0, ratio=5.0, positions=positions).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("rule", [name for name in RULES if name != "position_margin"])
def test_limit_when_the_positions_are_not_known_then_unknown(rule):
    assert RULES[rule](equity=1_000.0, ratio=5.0, positions=None).outcome is Outcome.UNKNOWN


def test_position_margin_when_asked_then_the_share_of_equity():
    answer = position_margin(equity=1_000.0, ratio=0.2)

    assert (answer.kind, answer.outcome, answer.value) == (Kind.MARGIN, Outcome.FINE, 200.0)
    assert position_margin(equity=1_000.0, ratio=0.0).outcome is Outcome.BREACHED


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ("total_margin", "margin"),
        ("gross_notional", "notional"),
        ("net_notional", "notional"),
        ("asset_margin", "margin"),
    ],
)
@pytest.mark.parametrize(
    ("used", "outcome"), [(499.999, Outcome.FINE), (500.0, Outcome.BREACHED), (500.001, Outcome.BREACHED)]
)
def test_limit_when_used_just_inside_or_outside_then_fine_or_breached(rule, field, used, outcome):
    held = position()._replace(**{field: used})

    answer = RULES[rule](equity=1_000.0, ratio=0.5, positions=[held])

    assert answer.outcome is outcome
    assert answer.value == pytest.approx(max(500.0 - used, 0.0), abs=1e-9)


def test_total_margin_when_orders_are_pending_then_less_is_left():
    ask = {"equity": 1_000.0, "ratio": 0.5, "positions": [position(), position("short")]}

    assert total_margin(**ask).value == pytest.approx(300.0)
    assert total_margin(pending=100.0, **ask).value == pytest.approx(200.0)


@pytest.mark.parametrize("pending", [-1.0, True, *GARBAGE], ids=lambda value: str(value)[:8])
def test_total_margin_when_pending_is_garbage_then_unknown(pending):
    assert total_margin(equity=1_000.0, ratio=0.5, positions=[], pending=pending).outcome is Outcome.UNKNOWN


def test_gross_when_long_and_short_then_they_add_up():
    held = [position(notional=300.0), position("short", notional=400.0)]

    assert gross_notional(equity=1_000.0, ratio=3.0, positions=held).value == pytest.approx(2_300.0)


@pytest.mark.parametrize(
    ("longs", "shorts", "left_long", "left_short"),
    [(0, 0, 2_000, 2_000), (500, 0, 1_500, 2_500), (0, 500, 2_500, 1_500), (700, 300, 1_600, 2_400)],
)
def test_net_when_positions_offset_then_the_other_side_has_more_left(longs, shorts, left_long, left_short):
    held = [position(notional=float(longs)), position("short", notional=float(shorts))]

    assert net_notional(equity=1_000.0, ratio=2.0, positions=held, side="long").value == pytest.approx(
        left_long
    )
    assert net_notional(equity=1_000.0, ratio=2.0, positions=held, side="short").value == pytest.approx(
        left_short
    )


@pytest.mark.parametrize(("side", "other"), [("long", "short"), ("short", "long")])
def test_net_when_over_the_limit_then_a_reducing_order_is_not_refused(side, other):
    held = [position(side, notional=3_000.0)]

    assert net_notional(equity=1_000.0, ratio=2.0, positions=held, side=side).outcome is Outcome.BREACHED
    assert net_notional(equity=1_000.0, ratio=2.0, positions=held, side=other).value == pytest.approx(5_000.0)


@pytest.mark.parametrize(("side", "held"), [("up", "long"), (None, "long"), ("long", "up"), ("long", None)])
def test_net_and_side_cap_when_a_side_is_not_known_then_unknown(side, held):
    positions = [position(held)]

    assert net_notional(equity=1_000.0, ratio=2.0, positions=positions, side=side).outcome is Outcome.UNKNOWN
    assert side_cap(side=side, positions=positions, max_long=3, max_short=3).outcome is Outcome.UNKNOWN


def test_asset_margin_when_other_assets_are_held_then_only_this_one_counts():
    held = [position(margin=100.0), position("short", margin=50.0), position(asset="ETH", margin=70.0)]
    ask = {"equity": 1_000.0, "ratio": 0.25, "positions": held}

    assert asset_margin(asset="BTC", **ask).value == pytest.approx(100.0)
    assert asset_margin(asset="ETH", **ask).value == pytest.approx(180.0)
    assert asset_margin(asset="SOL", **ask).value == pytest.approx(250.0)


@pytest.mark.parametrize(("asset", "held"), [("", "BTC"), (None, "BTC"), ("BTC", ""), ("BTC", None)])
def test_asset_margin_when_an_asset_is_not_known_then_unknown(asset, held):
    answer = asset_margin(equity=1_000.0, ratio=0.25, positions=[position(asset=held)], asset=asset)

    assert answer.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("side", "caps"), [("long", (2, None)), ("short", (None, 2))])
@pytest.mark.parametrize(
    ("count", "outcome"), [(0, Outcome.FINE), (1, Outcome.FINE), (2, Outcome.BREACHED), (3, Outcome.BREACHED)]
)
def test_side_cap_when_count_is_just_inside_or_outside_then_fine_or_breached(side, caps, count, outcome):
    other = "short" if side == "long" else "long"
    positions = [position(side)] * count + [position(other)] * 5

    answer = side_cap(side=side, positions=positions, max_long=caps[0], max_short=caps[1])

    assert (answer.kind, answer.outcome) == (Kind.GATE, outcome)
    assert (
        side_cap(side=other, positions=positions, max_long=caps[0], max_short=caps[1]).outcome is Outcome.FINE
    )


@pytest.mark.parametrize("cap", [-1, math.nan, math.inf, "2", True])
def test_side_cap_when_the_cap_is_garbage_then_unknown(cap):
    assert side_cap(side="long", positions=[], max_long=cap, max_short=None).outcome is Outcome.UNKNOWN


def test_side_cap_when_zero_or_positions_unknown_then_no_new_one():
    assert side_cap(side="short", positions=[], max_long=None, max_short=0).outcome is Outcome.BREACHED
    assert side_cap(side="short", positions=None, max_long=None, max_short=3).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("pair", "asset"),
    [
        ("BTC/USDT:USDT", "BTC"),
        ("BTC/USDC:USDC", "BTC"),
        ("BTC/USDT", "BTC"),
        ("BTC/USDT:USDT-250328", "BTC"),
        ("1000PEPE/USDT:USDT", "PEPE"),
        ("1000000MOG/USDT:USDT", "MOG"),
        ("10000LADYS/USDT:USDT", "LADYS"),
        ("1MBABYDOGE/USDT:USDT", "BABYDOGE"),
        ("1000X/USDT:USDT", "X"),
        ("kPEPE/USDC:USDC", "PEPE"),
        ("SHIB1000/USDT:USDT", "SHIB"),
        ("1INCH/USDT:USDT", "1INCH"),
        ("0G/USDT:USDT", "0G"),
        ("2Z/USDT:USDT", "2Z"),
        ("42/USDT:USDT", "42"),
        ("4/USDT:USDT", "4"),
        ("C98/USDT:USDT", "C98"),
        ("KODEX200/USDT:USDT", "KODEX200"),
        ("KAITO/USDT:USDT", "KAITO"),
        ("1000/USDT:USDT", "1000"),
        ("币安人生/USDT:USDT", "币安人生"),
        ("", ""),
        (None, ""),
        (5, ""),
    ],
)
def test_asset_when_named_with_a_quote_or_multiplier_then_the_asset_alone(pair, asset):
    assert asset_of(pair) == asset
