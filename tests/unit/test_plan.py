"""The plan: the smallest limit wins, unknown refuses, and nothing is ever raised."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plimsoll.plan import Account, Held, Market, Plan, Signal, make_plan
from plimsoll.rules.answer import Answer, Kind, gate, limit, unknown
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.kelly import KellyEstimate
from plimsoll.rules.liquidation import MaintenanceTier
from plimsoll.settings import load

TIERS = (
    MaintenanceTier(0.0, 50_000.0, 0.004, 0.0, 125.0),
    MaintenanceTier(50_000.0, 250_000.0, 0.005, 50.0, 100.0),
    MaintenanceTier(250_000.0, 3_000_000.0, 0.01, 1300.0, 50.0),
)
SIGNAL = Signal(time=1_700_000_000, pair="BTC/USDT:USDT", side="long", rate=100.0)
MARKET = Market(
    atr=1.0,
    sigma_day=0.015,
    daily_range=0.03,
    fee=0.0005,
    exchange_maximum=100.0,
    liquidation_buffer=0.05,
    tiers=TIERS,
    funding_per_day=0.0003,
)
EDGE = KellyEstimate("edge", 5.0, 200)
ACCOUNT = Account(equity=10_000.0, positions=(), kelly=EDGE)
SETTINGS = load()
WIDE = load(
    {
        "exposure": {"total_margin": 1.0, "net_notional": 25.0, "gross_notional": 25.0},
        "volatility": {"budget": 0.1},
    }
)


def plan(
    signal: Signal = SIGNAL,
    market: Market = MARKET,
    account: Account = ACCOUNT,
    settings: Any = SETTINGS,
    extra: Any = (),
) -> Plan:
    return make_plan(signal, market, account, settings, extra)


def rules(made: Plan) -> dict[str, Answer]:
    return {answer.rule: answer for answer in made.answers}


@pytest.mark.parametrize("side", ["long", "short"])
def test_plan_when_all_is_known_then_the_smallest_leverage_and_size_win(side: Any) -> None:
    made = plan(replace(SIGNAL, side=side))
    assert made.granted
    leverages = [a.value for a in made.answers if a.kind is Kind.LEVERAGE]
    assert made.leverage == min(leverages)
    bounds = [a.value for a in made.answers if a.kind is Kind.NOTIONAL]
    bounds += [a.value * made.leverage for a in made.answers if a.kind is Kind.MARGIN]
    assert made.notional == pytest.approx(min(bounds))
    assert made.margin == pytest.approx(made.notional / made.leverage)
    assert made.risk == pytest.approx(made.notional * made.loss_at_stop_ratio)
    assert made.risk <= 0.01 * ACCOUNT.equity * (1 + 1e-12)
    assert made.bound_leverage in rules(made)
    assert made.bound_size in rules(made)


@pytest.mark.parametrize("leverage", [1.0, 2.0, 3.0, 5.0])
def test_plan_when_leverage_changes_then_r_does_not(leverage: float) -> None:
    made = plan(replace(SIGNAL, own_leverage=leverage), replace(MARKET, atr=3.0), settings=WIDE)
    assert made.granted
    assert made.leverage == leverage
    assert made.bound_size == "risk_size"
    assert made.risk == pytest.approx(100.0)


def test_plan_when_the_strategy_asks_for_less_then_it_gets_less_and_for_more_then_no_more() -> None:
    assert plan(replace(SIGNAL, own_leverage=2.9)).leverage == 2
    assert plan(replace(SIGNAL, own_leverage=50.0)).leverage == 5
    assert plan(replace(SIGNAL, own_leverage=None)).leverage == 5


def test_plan_when_the_strategys_own_stop_is_tighter_then_it_sizes_the_trade() -> None:
    made = plan(replace(SIGNAL, own_stop_margin_ratio=0.05, own_leverage=5.0), settings=WIDE)
    assert made.stop_price_ratio == pytest.approx(0.01)
    assert plan(replace(SIGNAL, own_stop_margin_ratio=0.99), settings=WIDE).stop_price_ratio == pytest.approx(
        0.02
    )


def test_plan_when_the_stop_is_wide_then_leverage_is_lowered_until_it_is_inside_liquidation() -> None:
    made = plan(market=replace(MARKET, atr=8.0))
    assert made.granted
    assert made.leverage < 5
    assert made.bound_leverage == "leverage_from_stop"
    distance = rules(made)["leverage_from_stop"].numbers["distance_ratio"]
    assert made.stop_price_ratio <= 0.5 * float(distance)  # type: ignore[arg-type]


def test_plan_when_not_even_1x_keeps_the_stop_inside_then_refused() -> None:
    made = plan(market=replace(MARKET, atr=30.0))
    assert not made.granted
    assert (made.notional, made.margin, made.risk) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("leverage", "granted"), [(1.0, True), (5.0, True), (5.0001, False), (6.0, False), (50.0, False)]
)
def test_plan_when_leverage_is_brought_along_then_granted_within_the_cap_and_refused_above(
    leverage: float, granted: bool
) -> None:
    made = plan(replace(SIGNAL, fixed_leverage=leverage))
    assert made.granted is granted
    assert made.granted or "leverage" in (made.refusal or "")


def test_plan_when_leverage_is_brought_along_above_what_the_stop_allows_then_refused() -> None:
    assert not plan(replace(SIGNAL, fixed_leverage=5.0), replace(MARKET, atr=8.0)).granted


@pytest.mark.parametrize(
    "field", ["atr", "sigma_day", "daily_range", "fee", "exchange_maximum", "funding_per_day"]
)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_plan_when_a_market_input_is_unknown_then_refused(field: str, bad: Any) -> None:
    made = plan(market=replace(MARKET, **{field: bad}))
    assert not made.granted
    assert made.margin == 0.0
    assert made.refusal


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -5.0])
def test_plan_when_equity_is_unknown_then_refused(bad: float) -> None:
    assert not plan(account=replace(ACCOUNT, equity=bad)).granted


def test_plan_when_there_are_no_tiers_then_refused_and_in_spot_not_needed() -> None:
    assert not plan(market=replace(MARKET, tiers=())).granted
    made = plan(replace(SIGNAL, fixed_leverage=1.0), replace(MARKET, tiers=None, funding_per_day=0.0))
    assert made.granted
    assert made.leverage == 1


def test_plan_when_kelly_is_unknown_then_refused() -> None:
    assert not plan(account=replace(ACCOUNT, kelly=KellyEstimate("unknown", None, 40))).granted


def test_plan_when_a_gate_outside_is_closed_or_unknown_then_refused_with_its_reason() -> None:
    assert (
        plan(extra=[gate("daily_loss", False, "daily loss 5 %", {})]).refusal == "daily_loss: daily loss 5 %"
    )
    made = plan(extra=[gate("a", False, "closed", {}), unknown("ledger", Kind.GATE, "unreachable")])
    assert (
        made.refusal == "ledger: unreachable"
    )  # unknown is named first: it says that the rest may be wrong too


def test_plan_when_two_factors_react_to_losses_then_the_smaller_counts_and_kelly_is_not_cut_twice() -> None:
    factors = [limit("streak", Kind.FACTOR, 0.5, "", {}), limit("decay", Kind.FACTOR, 0.25, "", {})]
    full, cut = plan(settings=WIDE), plan(settings=WIDE, extra=factors)
    assert full.bound_size == "risk_size"
    assert cut.notional == pytest.approx(0.25 * full.notional)
    assert cut.bound_size == "risk_size and decay"
    small = replace(ACCOUNT, kelly=KellyEstimate("edge", 0.1, 200))
    assert plan(account=small, settings=WIDE).bound_size == "kelly"
    assert plan(account=small, settings=WIDE, extra=factors).notional == pytest.approx(0.1 * 10_000)


def test_plan_when_a_breaker_caps_leverage_then_it_holds() -> None:
    made = plan(extra=[limit("drawdown", Kind.LEVERAGE, 2.0, "", {})])
    assert (made.leverage, made.bound_leverage) == (2, "drawdown")


def test_plan_when_margin_is_lowered_then_r_follows_and_never_rises() -> None:
    made = plan()
    assert made.limited("x", made.margin * 2, "more").margin == made.margin
    half = made.limited("x", made.margin / 2, "half")
    assert half.risk == pytest.approx(made.risk / 2)
    assert half.notional == pytest.approx(half.margin * half.leverage)
    assert half.bound_size == "x"


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_plan_when_margin_is_lowered_to_nothing_then_refused(bad: float) -> None:
    assert not plan().limited("x", bad, "none").granted


POSITION = st.builds(
    OpenPosition,
    pair=st.sampled_from(["BTC/USDT:USDT", "ETH/USDT:USDT"]),
    asset=st.sampled_from(["BTC", "ETH"]),
    side=st.sampled_from(["long", "short"]),
    margin=st.floats(0.0, 2_000.0),
    notional=st.floats(0.0, 10_000.0),
    risk=st.floats(0.0, 300.0),
)


@given(
    side=st.sampled_from(["long", "short"]),
    atr=st.floats(0.01, 40.0),
    sigma=st.floats(0.001, 0.3),
    equity=st.floats(50.0, 5_000_000.0),
    positions=st.lists(POSITION, max_size=6),
    own=st.one_of(st.none(), st.floats(1.0, 125.0)),
    own_stop=st.one_of(st.none(), st.floats(0.001, 3.0)),
    stage=st.sampled_from(["cold_start", "no_edge", "edge"]),
    profile=st.sampled_from(["calibrated", "classic"]),
)
@hypothesis_settings(derandomize=True, max_examples=300, deadline=None)
def test_plan_when_granted_then_every_limit_holds(
    side: Any,
    atr: float,
    sigma: float,
    equity: float,
    positions: Any,
    own: Any,
    own_stop: Any,
    stage: Any,
    profile: str,
) -> None:
    settings = load({"profile": profile})
    account = Account(equity, positions, KellyEstimate(stage, 1.0 if stage == "edge" else None, 40))
    signal = replace(SIGNAL, side=side, own_leverage=own, own_stop_margin_ratio=own_stop)
    made = make_plan(signal, replace(MARKET, atr=atr, sigma_day=sigma), account, settings)
    if not made.granted:
        assert made.margin == made.notional == made.risk == 0.0
        return
    slack = 1 + 1e-9
    exposure = settings.exposure
    assert 1 <= made.leverage <= min(settings.leverage.cap, own or 5.0)
    assert made.risk <= settings.risk.per_trade * equity * slack
    assert made.margin <= exposure.position_margin * equity * slack
    assert made.margin + sum(p.margin for p in positions) <= exposure.total_margin * equity * slack
    assert made.notional + sum(p.notional for p in positions) <= exposure.gross_notional * equity * slack
    assert made.risk + sum(max(p.risk, 0.0) for p in positions) <= exposure.heat * equity * slack
    if own_stop is not None:
        assert made.stop_price_ratio <= own_stop / made.leverage * slack
    assert made.stop_price_ratio <= 2.0 * atr / signal.rate * slack
    assert made.stop_price_ratio < 1 / made.leverage


@given(scale=st.floats(0.1, 1000.0))
@hypothesis_settings(derandomize=True, max_examples=50)
def test_plan_when_the_unit_of_price_changes_then_the_plan_does_not(scale: float) -> None:
    base = plan()
    scaled = plan(replace(SIGNAL, rate=100.0 * scale), replace(MARKET, atr=scale))
    assert scaled.leverage == base.leverage
    assert scaled.notional == pytest.approx(base.notional)
    assert scaled.stop_price_ratio == pytest.approx(base.stop_price_ratio)


@pytest.mark.parametrize("side", ["long", "short"])
def test_plan_when_margin_health_would_reduce_the_entry_at_once_then_leverage_is_lowered(side: Any) -> None:
    free = {"leverage": {"cap": 5.0, "min_liquidation_distance": 0.0, "daily_ranges_to_liquidation": 0.0}}
    calm = replace(MARKET, atr=0.05, sigma_day=0.005)
    signal = replace(SIGNAL, side=side)

    def leverage(**health: float) -> float:
        made = make_plan(signal, calm, ACCOUNT, load(free | {"margin_health": health}), ())
        assert made.granted
        return made.leverage

    assert leverage(reduce_distance=0.10, rearm=1.25) == 5
    lowered = leverage(reduce_distance=0.20, rearm=1.25)
    assert lowered == 3  # at 4x liquidation is 24 % away, within 25 %
    off = load(free | {"margin_health": {"reduce_distance": 0.20}, "off": ("margin_health",)})
    assert make_plan(signal, calm, ACCOUNT, off, ()).leverage == 5


def held(*positions: tuple[float, int, float]) -> Held:
    """Hold positions of a daily volatility, a side and a correlation with the pair asked about; 0.7 with each other."""
    count = len(positions)
    among = np.full((count, count), 0.7)
    np.fill_diagonal(among, 1.0)
    return Held(
        [vol for vol, _, _ in positions],
        [side for _, side, _ in positions],
        [rho for *_, rho in positions],
        among,
    )


def test_plan_when_correlated_positions_use_the_budget_then_the_size_shrinks_and_a_hedge_does_not() -> None:
    alone = plan(account=replace(ACCOUNT, held=Held()))
    assert alone.granted
    assert alone.notional == plan().notional
    same = plan(account=replace(ACCOUNT, held=held((0.017, 1, 0.9))))
    hedge = plan(account=replace(ACCOUNT, held=held((0.017, -1, 0.9))))
    assert 0.0 < same.notional < alone.notional
    assert same.bound_size == "correlation"
    assert same.risk == pytest.approx(alone.risk * same.notional / alone.notional)
    assert same.margin == pytest.approx(same.notional / same.leverage)
    assert hedge.notional == alone.notional


def test_plan_when_the_budget_is_used_up_then_skipped_and_off_means_off() -> None:
    full = replace(ACCOUNT, held=held((0.0199, 1, 0.9)))
    refused = plan(account=full)
    assert refused.refusal is not None
    assert refused.refusal.startswith("correlation: ")
    assert plan(account=full, settings=load({"off": ("correlation",)})).granted


def test_plan_when_a_held_volatility_is_unknown_then_refused() -> None:
    made = plan(account=replace(ACCOUNT, held=held((math.nan, 1, 0.5))))
    assert made.refusal is not None
    assert made.refusal.startswith("correlation: ")


def test_plan_when_the_published_rule_is_chosen_then_mean_correlation_scales() -> None:
    settings = load({"correlation": {"method": "mean"}})
    alone = plan(settings=settings, account=replace(ACCOUNT, held=Held()))
    scaled = plan(settings=settings, account=replace(ACCOUNT, held=held((0.001, 1, 0.6), (0.001, 1, 0.2))))
    assert scaled.notional == pytest.approx(alone.notional * (1 - 0.75 * 0.4))


@pytest.mark.parametrize("stage", ["cold_start", "no_edge"])
def test_plan_when_kelly_is_a_fixed_number_then_a_factor_shrinks_it_too(stage: Any) -> None:
    account = replace(ACCOUNT, kelly=KellyEstimate(stage, None if stage == "cold_start" else 0.0, 5))
    alone = plan(account=account)
    assert alone.bound_size == "kelly"
    halved = plan(account=account, extra=[limit("streak", Kind.FACTOR, 0.5, "3 losses", {})])
    assert halved.notional == pytest.approx(alone.notional / 2)
    assert halved.bound_size == "kelly and streak"


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize(("multiple", "granted"), [(1.5, True), (1.499, False), (3.0, True)])
def test_plan_when_the_target_is_a_multiple_of_r_then_that_is_its_reward_after_fees(
    side: Any, multiple: float, granted: bool
) -> None:
    made = plan(
        replace(SIGNAL, side=side),
        settings=load({"reward_risk": {"take_profit_r": multiple, "minimum": 1.5}}),
    )
    assert made.granted is granted
    assert rules(made)["reward_to_risk"].numbers["reward_to_risk"] == pytest.approx(multiple, rel=1e-9)
