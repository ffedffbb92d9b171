"""What a shock does to open positions, against numbers computed by hand, long and short."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.rules.answer import Answer, Outcome, Side
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.liquidation import MaintenanceTier
from plimsoll.rules.shock import (
    Held,
    Shock,
    in_order,
    liquidation_of,
    portfolio_volatility,
    settlements_to_liquidation,
    strike,
)
from plimsoll.rules.shock_limits import Before, Limits, answers

TIERS = (MaintenanceTier(0.0, None, 0.01, 0.0),)
EQUITY = 1_000.0


def held(side: str = "long", **values: Any) -> Held:
    """10 units at 100, so 1,000 of notional, on a margin of 200: 5x."""
    given: dict[str, Any] = {"pair": "BTC/USDT:USDT", "asset": "BTC", "side": side, "open_rate": 100.0}
    given |= {"rate": 100.0, "amount": 10.0, "margin": 200.0, "tiers": TIERS}
    return Held(**(given | values))


def struck(position: Held, fee: float = 0.0, **shock: Any) -> Any:
    return strike([position], equity=EQUITY, shock=Shock("a shock", **shock), buffer=0.0, fee=fee).hits[0]


# -- Gaps ----------------------------------------------------------------------------------------------------

# Long: (200 - 1000) / (10 x 0.01 - 10) = 80.8081; short: (200 + 1000) / (10 x 0.01 + 10) = 118.8119.
LIQUIDATION = {"long": 80.8081, "short": 118.8119}


@pytest.mark.parametrize("side", ["long", "short"])
def test_liquidation_when_unbuffered_then_is_the_exchanges_formula(side: str) -> None:
    assert liquidation_of(held(side), buffer=0.0) == pytest.approx(LIQUIDATION[side], abs=1e-4)


@pytest.mark.parametrize(
    ("side", "move", "outcome", "loss"),
    [
        ("long", -0.19, "open", 190.0),  # 81.0
        ("long", -0.192, "liquidated", 200.0),  # 80.8
        ("long", -0.60, "liquidated", 200.0),  # no more than the margin
        ("long", 0.30, "open", -300.0),
        ("short", 0.188, "open", 188.0),  # 118.8
        ("short", 0.1882, "liquidated", 200.0),  # 118.82
        ("short", 2.0, "liquidated", 200.0),
        ("short", -0.30, "open", -300.0),
    ],
)
def test_gap_when_just_inside_and_outside_liquidation_then_costs_the_move_or_the_margin(
    side: str, move: float, outcome: str, loss: float
) -> None:
    hit = struck(held(side), market_move=move)
    assert (hit.outcome, hit.loss) == (outcome, pytest.approx(loss))


@pytest.mark.parametrize(
    ("side", "stop", "move", "outcome", "loss"),
    [
        ("long", 95.0, -0.049, "open", 49.0),
        ("long", 95.0, -0.05, "stopped", 50.0 + 0.95),  # at the stop itself, 0.1 % of 950 in fees
        ("long", 95.0, -0.10, "stopped", 100.0 + 0.9),  # behind it: the gap's price, not the stop's
        ("long", 95.0, -0.20, "liquidated", 200.0),
        ("short", 105.0, 0.049, "open", 49.0),
        ("short", 105.0, 0.05, "stopped", 50.0 + 1.05),
        ("short", 105.0, 0.10, "stopped", 100.0 + 1.1),
        ("short", 105.0, 0.20, "liquidated", 200.0),
    ],
)
def test_gap_when_it_jumps_the_stop_then_fills_behind_it(
    side: str, stop: float, move: float, outcome: str, loss: float
) -> None:
    hit = struck(held(side, stop=stop), fee=0.001, market_move=move)
    assert (hit.outcome, hit.loss) == (outcome, pytest.approx(loss))


def test_gap_when_the_position_is_in_profit_then_liquidation_takes_the_profit_too() -> None:
    assert struck(held(rate=120.0), market_move=-0.5).loss == pytest.approx(400.0)


def test_against_when_sides_differ_then_every_position_loses() -> None:
    both = strike([held("long"), held("short")], equity=EQUITY, shock=Shock("", against=0.1), buffer=0.0)
    assert [hit.loss for hit in both.hits] == pytest.approx([100.0, 100.0])
    assert both.equity == pytest.approx(800.0)
    hedged = strike(
        [held("long"), held("short")], equity=EQUITY, shock=Shock("", market_move=0.1), buffer=0.0
    )
    assert hedged.equity == pytest.approx(EQUITY)


def test_buffer_when_given_then_liquidation_comes_5_percent_of_the_way_earlier() -> None:
    assert liquidation_of(held(), buffer=0.05) == pytest.approx(81.7677, abs=1e-4)


@pytest.mark.parametrize(
    ("side", "known", "nearer"), [("long", 85.0, 85.0), ("long", 70.0, 80.8081), ("short", 110.0, 110.0)]
)
def test_liquidation_when_known_elsewhere_then_the_nearer_counts(
    side: str, known: float, nearer: float
) -> None:
    position = held(side, known_liquidation=known)
    assert liquidation_of(position, buffer=0.0) == pytest.approx(nearer, abs=1e-4)
    # Without tiers it is all there is, and after more funding it is no longer true.
    blind = replace(position, tiers=None)
    assert liquidation_of(blind, buffer=0.0) == known
    assert math.isnan(liquidation_of(blind, buffer=0.0, funding_paid=1.0))


def test_shock_when_a_position_is_unknown_then_equity_is_unknown_and_nothing_is_called_fine() -> None:
    result = strike([held(), held(tiers=None)], equity=EQUITY, shock=Shock("", market_move=-0.01), buffer=0.0)
    assert [hit.outcome for hit in result.hits] == ["open", "unknown"]
    assert math.isnan(result.equity)
    losses = answers(result, Before(peak=EQUITY, day=EQUITY, week=EQUITY), Limits())
    assert {a.outcome for a in losses if a.rule in ("drawdown", "daily_loss")} == {Outcome.UNKNOWN}


@pytest.mark.parametrize(
    "wrong",
    [
        {"market_move": -1.0},
        {"market_move": math.nan},
        {"against": 1.0},
        {"against": -0.1},
        {"funding_rate": 0.11},
        {"settlements": -1},
        {"settlements": 10_001},
        {"volatility": 0.0},
    ],
)
def test_shock_when_out_of_range_then_names_parameter_value_and_range(wrong: dict[str, Any]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=rf"`{name}` must be .*, was {value!r}"):
        Shock("wrong", **wrong)


# -- Funding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["long", "short"])
def test_funding_when_it_spikes_then_every_side_pays_and_liquidation_comes_nearer(side: str) -> None:
    hit = struck(held(side), funding_rate=0.0075, settlements=9)
    assert (hit.outcome, hit.loss, hit.funding_paid) == ("open", pytest.approx(67.5), pytest.approx(67.5))
    # (200 - 67.5 - 1000) / -9.9 and (200 - 67.5 + 1000) / 10.1
    assert hit.liquidation == pytest.approx({"long": 87.6263, "short": 112.1287}[side], abs=1e-4)


@pytest.mark.parametrize("side", ["long", "short"])
def test_funding_when_190_of_200_are_paid_then_is_liquidated_with_the_price_standing_still(side: str) -> None:
    # Maintenance is 10 at a notional of 1,000: 25 settlements of 7.5 leave 12.5, 26 leave 5.
    assert settlements_to_liquidation(held(side), buffer=0.0, funding_rate=0.0075) == 26
    assert struck(held(side), funding_rate=0.0075, settlements=25).outcome == "open"
    gone = struck(held(side), funding_rate=0.0075, settlements=26)
    assert (gone.outcome, gone.loss) == ("liquidated", pytest.approx(200.0))


def test_settlements_when_there_is_no_funding_or_nothing_is_known_then_never_or_unknown() -> None:
    assert settlements_to_liquidation(held(), buffer=0.0, funding_rate=0.0) == math.inf
    assert math.isnan(settlements_to_liquidation(held(tiers=None), buffer=0.0, funding_rate=0.01))
    assert settlements_to_liquidation(held(rate=80.0), buffer=0.0, funding_rate=0.01) == 0


# -- Order ---------------------------------------------------------------------------------------------------


def test_order_when_leverages_differ_then_the_highest_goes_first_and_the_unknown_is_last() -> None:
    positions = [
        held(pair="A", tiers=None),
        held(pair="B", margin=500.0),
        held(pair="C", margin=100.0, stop=99.0),
        held("short", pair="D", margin=200.0, stop=130.0),
    ]
    order = in_order(positions, buffer=0.0, funding_rate=0.0075)
    assert [reach.position.pair for reach in order] == ["C", "D", "B", "A"]
    # C: (100 - 1000) / -9.9 = 90.909
    assert order[0].to_liquidation == pytest.approx(0.09091, abs=1e-5)
    assert order[0].to_stop == pytest.approx(0.01)
    assert (order[0].behind, order[1].behind) == (False, True)
    assert order[2].to_stop == math.inf
    assert math.isnan(order[3].to_liquidation)


def test_order_when_a_long_is_at_1x_then_is_never_liquidated_where_its_tier_takes_nothing() -> None:
    never = held(margin=1_000.0, tiers=(MaintenanceTier(0.0, None, 0.0, 0.0),))
    (reach,) = in_order([never], buffer=0.0, funding_rate=0.0)
    assert (reach.liquidation, reach.to_liquidation) == (0.0, math.inf)


# -- Correlation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "correlation", "toward_one", "expected"),
    [
        ("long", 0.0, 0.0, math.sqrt(2) * 0.01),
        ("long", 1.0, 0.0, 0.02),
        ("short", 1.0, 0.0, 0.0),  # a perfect hedge,
        ("short", 1.0, 1.0, 0.02),  # which is none at correlation 1 against us
        ("short", 0.0, 0.5, math.sqrt(3) * 0.01),
    ],
)
def test_portfolio_volatility_when_correlation_goes_to_one_then_no_hedge_counts(
    side: str, correlation: float, toward_one: float, expected: float
) -> None:
    # Each: 2 % a day on 500 of 1,000.
    two = [held(pair="A", amount=5.0, sigma_day=0.02), held(side, pair="B", amount=5.0, sigma_day=0.02)]
    found = portfolio_volatility(two, equity=EQUITY, correlation=correlation, toward_one=toward_one)
    assert found == pytest.approx(expected)


def test_portfolio_volatility_when_one_is_unknown_then_is_unknown_and_without_positions_nothing() -> None:
    assert math.isnan(portfolio_volatility([held(sigma_day=None)], equity=EQUITY, correlation=0.8))
    assert portfolio_volatility([], equity=EQUITY, correlation=0.8) == 0.0


# -- Limits --------------------------------------------------------------------------------------------------


def asked(
    position: Held, rule: str, limits: Limits | None = None, before: Before | None = None, **shock: Any
) -> Answer:
    result = strike([position], equity=EQUITY, shock=Shock("a shock", **shock), buffer=0.0)
    before = before or Before(peak=EQUITY, day=EQUITY, week=EQUITY)
    found = answers(result, before, limits or Limits(), buffer=0.0)
    return next(answer for answer in found if answer.rule == rule)


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [("daily_loss", -0.0499, -0.05), ("weekly_loss", -0.1499, -0.15)],
)
def test_loss_limit_when_the_gap_just_reaches_it_then_is_breached(
    rule: str, inside: float, outside: float
) -> None:
    assert asked(held(), rule, market_move=inside).outcome is Outcome.FINE
    assert asked(held(), rule, market_move=outside).outcome is Outcome.BREACHED


def test_drawdown_when_equity_was_higher_before_then_counts_from_the_peak() -> None:
    # 1,000 less 100 is 20 % under 1,125.
    at = {"before": Before(peak=1_125.0), "market_move": -0.10}
    assert asked(held(), "drawdown", **at).outcome is Outcome.BREACHED
    assert asked(held(), "drawdown", before=Before(peak=1_124.0), market_move=-0.10).outcome is Outcome.FINE
    assert asked(held(), "drawdown", before=Before(), market_move=-0.10).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("margin", "outcome"), [(142.4, Outcome.FINE), (142.6, Outcome.BREACHED)]
)  # 15 % of 950 is 142.5
def test_total_margin_when_equity_shrinks_then_what_was_within_is_beyond(
    margin: float, outcome: Outcome
) -> None:
    position = held(margin=margin, amount=5.0)
    assert asked(position, "total_margin", market_move=-0.10).outcome is outcome


@pytest.mark.parametrize(("risk", "outcome"), [(56.0, Outcome.FINE), (57.1, Outcome.BREACHED)])
def test_heat_when_equity_shrinks_then_counts_the_risk_of_what_is_open(risk: float, outcome: Outcome) -> None:
    # 6 % of 950 is 57.
    assert asked(held(risk=risk), "heat_limit", market_move=-0.05).outcome is outcome
    assert asked(held(risk=risk), "heat_limit", market_move=-0.5).outcome is Outcome.FINE  # none is open


@pytest.mark.parametrize(
    ("others", "rule", "outcome"),
    [
        ((29.0, 100.0, 9.0), "total_margin", Outcome.FINE),  # 120 and these of 15 %, 150
        ((30.1, 100.0, 9.0), "total_margin", Outcome.BREACHED),
        ((0.0, 1_999.0, 9.0), "gross_notional", Outcome.FINE),  # 1,000 and these of 3,000
        ((0.0, 2_001.0, 9.0), "gross_notional", Outcome.BREACHED),
        ((0.0, 100.0, 9.9), "heat_limit", Outcome.FINE),  # 50 and these of 6 %, 60
        ((0.0, 100.0, 10.1), "heat_limit", Outcome.BREACHED),
        ((math.nan, math.nan, math.nan), "total_margin", Outcome.UNKNOWN),
        ((math.nan, math.nan, math.nan), "gross_notional", Outcome.UNKNOWN),
        ((math.nan, math.nan, math.nan), "heat_limit", Outcome.UNKNOWN),
    ],
)
@pytest.mark.parametrize("side", ["long", "short"])
def test_exposure_when_others_count_then_they_take_room_and_are_not_moved(
    side: Side, others: tuple[float, float, float], rule: str, outcome: Outcome
) -> None:
    own = held(side, margin=120.0, risk=50.0)
    other = OpenPosition("ETH/USDT:USDT", "ETH", side, *others)
    now = strike([own], equity=EQUITY, shock=Shock("as it is"), buffer=0.0)
    found = {each.rule: each for each in answers(now, Before(), Limits(), others=[other])}
    assert found[rule].outcome is outcome


@pytest.mark.parametrize(("side", "move"), [("long", 0.1), ("short", 0.1), ("long", -0.1), ("short", -0.1)])
def test_gross_notional_when_prices_move_then_counts_the_entry_as_the_guard_does(
    side: str, move: float
) -> None:
    assert asked(held(side), "gross_notional", market_move=move).numbers["used"] == pytest.approx(1_000.0)


@pytest.mark.parametrize(
    ("move", "action"), [(-0.05, "none"), (-0.11, "reduce"), (-0.16, "close"), (-0.185, "close")]
)
def test_margin_health_when_liquidation_comes_near_then_says_what_it_would_do(
    move: float, action: str
) -> None:
    # 14.9 % away at 95, 9.2 % at 89, 3.8 % at 84, 0.8 % at 81.5.
    assert asked(held(), "margin_health", market_move=move).numbers["action"] == action


@pytest.mark.parametrize(
    ("sigma", "multiple", "outcome"),
    [
        (0.0099, 2.0, Outcome.FINE),  # under 2 % a day: up to 5x
        (0.01, 2.0, Outcome.BREACHED),  # 2 %: up to 3x
        (None, 2.0, Outcome.UNKNOWN),
    ],
)
def test_volatility_when_doubled_then_the_regime_asks_for_less_leverage(
    sigma: float | None, multiple: float, outcome: Outcome
) -> None:
    answer = asked(held(sigma_day=sigma), "volatility_regime", volatility=multiple)
    assert answer.outcome is outcome
    assert answer.numbers["pair"] == "BTC/USDT:USDT"


@pytest.mark.parametrize(("sigma", "outcome"), [(0.0099, Outcome.FINE), (0.0101, Outcome.BREACHED)])
def test_volatility_when_doubled_then_the_budget_asks_for_less_notional(
    sigma: float, outcome: Outcome
) -> None:
    # A budget of 2 % at 2 % a day is a notional of all equity.
    assert asked(held(sigma_day=sigma), "volatility_budget", volatility=2.0).outcome is outcome


@pytest.mark.parametrize(
    ("shock", "outcome", "value"),
    [
        ({"volatility": 2.0}, Outcome.FINE, 0.018),
        ({"against": 0.01, "correlated": True}, Outcome.BREACHED, 0.021),
        ({"volatility": 2.0, "correlated": True}, Outcome.BREACHED, 0.042),
    ],
)
def test_portfolio_volatility_when_shocked_then_is_held_against_its_budget(
    shock: dict[str, Any], outcome: Outcome, value: float
) -> None:
    before = Before(peak=EQUITY, day=EQUITY, week=EQUITY, volatility=0.009, volatility_at_one=0.021)
    answer = asked(held(), "portfolio_volatility", before=before, **shock)
    assert (answer.outcome, answer.numbers["value"]) == (outcome, pytest.approx(value))


def test_limits_when_layers_are_off_then_they_say_nothing() -> None:
    result = strike([held()], equity=EQUITY, shock=Shock("", volatility=2.0, correlated=True), buffer=0.0)
    off = frozenset({"drawdown", "loss_limit", "exposure", "margin_health", "volatility", "correlation"})
    assert answers(result, Before(), Limits(off=off)) == []


# -- Properties ----------------------------------------------------------------------------------------------

SIDES = st.sampled_from(["long", "short"])


@given(side=SIDES, margin=st.floats(50.0, 900.0), rate=st.floats(97.0, 103.0), moves=st.tuples(st.floats(0.0, 0.9), st.floats(0.0, 0.9)),
       stop=st.none() | st.floats(60.0, 140.0), settlements=st.integers(0, 30))  # fmt: skip
def test_shock_when_it_is_larger_then_never_costs_less_nor_more_than_the_position_is_worth(
    side: str, margin: float, rate: float, moves: tuple[float, float], stop: float | None, settlements: int
) -> None:
    position = held(side, margin=margin, rate=rate, stop=stop)
    paid = {"funding_rate": 0.0075, "settlements": settlements}
    small, large = (struck(position, fee=0.001, against=move, **paid) for move in sorted(moves))
    assert small.loss <= large.loss + 1e-9
    assert large.loss <= position.worth(rate) + 1e-9
    ranks = {"open": 0, "stopped": 1, "liquidated": 2}
    assert ranks[small.outcome] <= ranks[large.outcome]


@given(side=SIDES, margin=st.floats(50.0, 900.0), rate=st.floats(97.0, 103.0), move=st.floats(0.0, 0.9))
def test_order_when_a_move_is_beyond_it_then_liquidates_and_else_does_not(
    side: str, margin: float, rate: float, move: float
) -> None:
    position = held(side, margin=margin, rate=rate)
    (reach,) = in_order([position], buffer=0.0, funding_rate=0.0)
    if abs(move - reach.to_liquidation) > 1e-9:
        liquidated = struck(position, against=move).outcome == "liquidated"
        assert liquidated == (move > reach.to_liquidation)
