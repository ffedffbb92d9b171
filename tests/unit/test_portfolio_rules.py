"""The shared limits: what fits, what does not, what cannot be told; capital, drawdown, and claims against holdings."""

from __future__ import annotations

import math

import pytest

from plimsoll.rules import drawdown, portfolio_drawdown
from plimsoll.rules.answer import Outcome
from plimsoll.rules.breaker import NO_READINGS, ReadingConfig
from plimsoll.rules.exposure import asset_of
from plimsoll.rules.portfolio import Capital, Claim, Limits, Wanted, decide, tightest, totals
from plimsoll.rules.portfolio_claims import Holding, reconcile
from plimsoll.rules.portfolio_drawdown import tell

NOW = 1_800_000_000.0
BTC, BTC_USDC, ETH = "BTC/USDT:USDT", "BTC/USDC:USDC", "ETH/USDT:USDT"
ONE, TWO = ReadingConfig(confirmations=1), ReadingConfig()
LIMITS = Limits()


def claim(
    pair=BTC, side="long", margin=100.0, risk=1.0, bot="a", key="k", state="confirmed", time=NOW - 600.0
):
    return Claim(bot, key, pair, asset_of(pair), side, margin, risk, state, time)


def capital(bot="a", amount=1_000.0, age=0.0, **more):
    return Capital(bot, amount, NOW - age, 600.0, **more)


def ask(
    margin, risk=0.0, pair=ETH, side="long", claims=(), capitals=None, halted=None, key="new", limits=LIMITS
):
    return decide(
        wanted=Wanted("a", key, pair, side, margin, risk),
        claims=list(claims),
        capitals=[capital(), capital("b")] if capitals is None else capitals,
        limits=limits,
        halted=halted,
        now=NOW,
    )


# -- Limits: 2,000 of capital, so 1,000 of margin, 500 in one asset, 120 of risk -------------------------------


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("other_side", ["long", "short"])
@pytest.mark.parametrize(
    ("margin", "outcome"),
    [(399.99, Outcome.FINE), (400.0, Outcome.FINE), (400.01, Outcome.BREACHED), (1_000.0, Outcome.BREACHED)],
)
def test_exposure_when_just_inside_or_outside_then_fine_or_breached(
    side, other_side, margin, outcome
) -> None:
    held = [claim(f"{name}/USDT:USDT", other_side, 300.0, key=name) for name in ("BTC", "SOL")]
    decision = ask(margin, side=side, claims=held)
    assert decision.outcome is outcome
    assert decision.most_margin == pytest.approx(400.0)
    assert decision.reason.startswith("margin of all bots: 600.00 used of 1,000.00")


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("other", ["BTC/USDC:USDC", "BTC/USDT", BTC])
@pytest.mark.parametrize(("margin", "outcome"), [(100.0, Outcome.FINE), (100.01, Outcome.BREACHED)])
def test_asset_when_another_bot_holds_it_in_any_quote_then_its_margin_counts(
    side, other, margin, outcome
) -> None:
    decision = ask(margin, pair=BTC, side=side, claims=[claim(other, "short", 400.0, bot="b")])
    assert decision.outcome is outcome
    assert decision.most_margin == pytest.approx(100.0)
    assert "margin in BTC" in decision.reason


def test_asset_when_a_multiplier_is_in_the_name_then_it_is_the_same_asset() -> None:
    held = [claim("1000PEPE/USDT:USDT", margin=450.0)]
    assert ask(51.0, pair="PEPE/USDT", claims=held).outcome is Outcome.BREACHED
    assert ask(51.0, pair="PEOPLE/USDT", claims=held).outcome is Outcome.FINE


@pytest.mark.parametrize(("risk", "outcome"), [(20.0, Outcome.FINE), (20.01, Outcome.BREACHED)])
def test_heat_when_just_inside_or_outside_then_fine_or_breached(risk, outcome) -> None:
    decision = ask(200.0, risk, claims=[claim(risk=100.0, bot="b"), claim(ETH, risk=-50.0, key="in profit")])
    assert decision.outcome is outcome
    assert "open risk of all bots: 100.00 used of 120.00" in decision.reason
    assert decision.most_margin == pytest.approx(200.0 * 20.0 / risk)


def test_decide_when_most_margin_is_asked_for_then_it_fits_and_hardly_more_does() -> None:
    held = [claim(margin=1.0 / 3.0, risk=0.1, bot="b"), claim(ETH, margin=333.3, risk=7.7)]
    most = ask(900.0, 90.0, claims=held).most_margin
    assert most is not None
    assert ask(most, most / 10.0, claims=held).granted
    assert not ask(most * 1.0001, most * 1.0001 / 10.0, claims=held).granted


def test_decide_when_the_key_is_the_same_then_it_replaces_its_own_claim() -> None:
    held = [claim(ETH, margin=450.0, key="new", state="reserved")]
    assert ask(500.0, claims=held).granted
    assert not ask(500.0, claims=held, key="other").granted


def test_decide_when_reservations_are_pending_then_they_count_like_positions() -> None:
    pending = [claim(ETH, margin=450.0, bot="b", state="reserved")]
    assert ask(50.0, claims=pending).granted
    assert not ask(51.0, claims=pending).granted


def test_decide_when_a_bot_is_silent_then_its_positions_and_capital_count_on() -> None:
    capitals = [capital(), capital("b", age=86_400.0)]
    assert ask(500.0, capitals=capitals).granted
    assert not ask(101.0, capitals=capitals, claims=[claim(ETH, margin=400.0, bot="b")]).granted


@pytest.mark.parametrize(
    ("age", "outcome"), [(600.0, Outcome.FINE), (600.1, Outcome.UNKNOWN), (-600.1, Outcome.UNKNOWN)]
)
def test_decide_when_the_bot_itself_was_not_heard_then_unknown(age, outcome) -> None:
    assert ask(1.0, capitals=[capital(age=age), capital("b")]).outcome is outcome


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"capitals": []}, "has not told its capital"),
        ({"capitals": [capital("b")]}, "has not told its capital"),
        ({"capitals": [capital(known=False)]}, "equity of a is not known"),
        ({"capitals": [capital(amount=0.0)]}, "nothing to measure by"),
        ({"capitals": [capital(), capital("b", unclear="the margin of X")]}, "b: the margin of X"),
        ({"margin": 0.0}, "margin of 0.0"),
        ({"margin": math.nan}, "margin of nan"),
        ({"risk": math.inf}, "risk of inf"),
        ({"risk": -1.0}, "risk of -1.0"),
        ({"side": "both"}, "neither long nor short"),
        ({"pair": ""}, "no pair"),
    ],
)
def test_decide_when_something_is_not_known_then_unknown_and_it_is_named(change, says) -> None:
    decision = ask(**{"margin": 10.0, "risk": 1.0} | change)
    assert (decision.outcome, decision.most_margin) == (Outcome.UNKNOWN, None)
    assert says in decision.reason


def test_decide_when_halted_then_breached_with_its_reason() -> None:
    decision = ask(1.0, halted="drawdown 15.0 %")
    assert (decision.outcome, decision.reason, decision.most_margin) == (
        Outcome.BREACHED,
        "drawdown 15.0 %",
        0.0,
    )


def test_decide_when_capital_shrank_under_what_is_held_then_nothing_fits() -> None:
    decision = ask(1.0, claims=[claim(margin=400.0)], capitals=[capital(amount=500.0)])
    assert (decision.outcome, decision.most_margin) == (Outcome.BREACHED, 0.0)


def test_limits_when_bots_differ_then_the_tightest_of_each_hold() -> None:
    assert tightest([Limits(exposure=0.4), Limits(heat=0.02, drawdown=0.1)]) == Limits(
        0.4, 0.25, 0.02, 0.1, 600.0
    )


@pytest.mark.parametrize("name", ["exposure", "asset", "heat", "drawdown", "silent_seconds"])
@pytest.mark.parametrize("value", [0.0, -0.1, math.nan])
def test_limits_when_out_of_range_then_refused_by_name(name, value) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


def test_totals_when_a_limit_is_exceeded_then_it_is_named() -> None:
    held = totals([claim(margin=501.0), claim(ETH, margin=500.0, risk=121.0)], [capital(amount=2_000.0)])
    assert [text.partition(":")[0] for text in held.over(LIMITS)] == [
        "margin of all bots",
        "margin in BTC",
        "open risk of all bots",
    ]
    inside = totals([claim(margin=500.0), claim(ETH, margin=500.0, risk=119.0)], [capital(amount=2_000.0)])
    assert inside.over(LIMITS) == ()


@pytest.mark.parametrize(
    ("margin", "named"), [(505.0, []), (505.1, ["margin of all bots", "margin in BTC", "margin in ETH"])]
)
def test_totals_when_over_by_what_a_fill_adds_then_it_is_named_beyond_the_slack_only(margin, named) -> None:
    held = totals([claim(margin=margin), claim(ETH, margin=margin)], [capital(amount=2_000.0)])
    assert [text.partition(":")[0] for text in held.over(LIMITS, slack=0.01)] == named
    assert len(held.over(LIMITS)) == 3


# -- Capital and drawdown ----------------------------------------------------------------------------------


class Fund:
    """All bots' equities as the ledger adds them up."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits, self.state, self.flow, self.time = limits, drawdown.State(), 0.0, NOW
        self.readings: dict[str, object] = {}
        self.equity: dict[str, float] = {}
        self.verdict = None

    def tell(self, bot: str, equity: float, flow: float = 0.0) -> None:
        told = tell(self.readings.get(bot, NO_READINGS), ONE, self.time, equity, flow)  # type: ignore[arg-type]
        self.readings[bot], self.equity[bot] = told.readings, told.equity
        self.flow += told.flow
        self.judge()

    def leave(self, bot: str) -> None:
        self.flow -= self.equity.pop(bot)
        del self.readings[bot]
        self.judge()

    def judge(self) -> None:
        self.time += 60.0
        total = math.fsum(self.equity.values())
        self.state, self.verdict = portfolio_drawdown.judge(
            self.state, self.limits, self.time, total, self.flow
        )

    @property
    def depth(self) -> float:
        depth = portfolio_drawdown.depth(self.state)
        assert depth is not None
        return depth


@pytest.fixture
def fund() -> Fund:
    fund = Fund()
    fund.tell("a", 1_000.0)
    fund.tell("b", 3_000.0)
    return fund


def test_drawdown_when_bots_join_deposit_withdraw_or_leave_then_it_is_neither_profit_nor_loss(
    fund: Fund,
) -> None:
    assert fund.depth == 0.0
    fund.tell("a", 900.0)  # 100 of 4,000
    assert fund.depth == pytest.approx(0.025)
    for act in (
        lambda: fund.tell("c", 5_000.0),
        lambda: fund.tell("b", 4_000.0, flow=1_000.0),
        lambda: fund.tell("b", 1_500.0, flow=-1_500.0),
        lambda: fund.leave("b"),
        lambda: fund.leave("c"),
    ):
        act()
        assert fund.depth == pytest.approx(0.025)
    fund.tell("a", 900.0 / 0.975 * 1.1)
    assert fund.depth == 0.0


def test_drawdown_when_a_bot_deposits_while_it_loses_then_the_loss_alone_counts(fund: Fund) -> None:
    fund.tell("a", 1_800.0, flow=1_000.0)  # 200 of 5,000
    assert fund.depth == pytest.approx(0.04)


@pytest.mark.parametrize(("equity", "halted"), [(2_400.5, False), (2_400.0, True), (2_399.0, True)])
def test_drawdown_when_just_inside_or_at_the_limit_then_halted_or_not(fund: Fund, equity, halted) -> None:
    fund.tell("b", equity)  # 600 of 4,000 is the limit
    assert fund.state.tripped is halted


def test_drawdown_when_halted_then_it_stays_until_reset_and_counts_from_there(fund: Fund) -> None:
    fund.tell("b", 2_000.0)
    fund.tell("b", 5_000.0)
    assert fund.state.tripped
    fund.tell("b", 2_000.0)
    fund.state = portfolio_drawdown.reset(fund.state, LIMITS, fund.time, 3_000.0, fund.flow)
    fund.judge()
    assert not fund.state.tripped
    assert fund.depth == 0.0
    fund.tell("b", 1_551.0)
    assert not fund.state.tripped
    fund.tell("b", 1_549.0)
    assert fund.state.tripped


def test_drawdown_when_every_bot_left_and_another_joins_then_the_value_per_unit_goes_on(fund: Fund) -> None:
    fund.tell("a", 800.0)
    fund.leave("a")
    fund.leave("b")
    fund.tell("d", 70.0)
    assert fund.depth == pytest.approx(0.05)


def test_tell_when_readings_must_agree_then_one_bad_reading_moves_no_equity_but_counts_against_the_limits() -> (
    None
):
    readings = NO_READINGS
    seen = []
    for equity in (1_000.0, 1_000.0, 1_000.0, 10.0, 1_000.0, 5_000.0, 1_001.0):
        told = tell(readings, TWO, NOW, equity, 0.0)
        readings = told.readings
        seen.append((told.equity, told.capital, told.known))
    assert seen[:2] == [(0.0, 0.0, False)] * 2
    assert seen[2] == (1_000.0, 1_000.0, True)
    assert seen[3] == (1_000.0, 10.0, True)
    assert seen[5] == (1_000.0, 1_000.0, True)
    assert seen[6][0] == 1_001.0


@pytest.mark.parametrize("equity", [None, math.nan, math.inf])
def test_tell_when_equity_is_not_known_then_the_last_one_stands_and_is_not_known(equity) -> None:
    first = tell(NO_READINGS, ONE, NOW, 1_000.0, 0.0)
    told = tell(first.readings, ONE, NOW + 1.0, equity, 0.0)
    assert (told.equity, told.capital, told.flow, told.known) == (1_000.0, 1_000.0, 0.0, False)


def test_tell_when_the_equity_is_gone_then_it_counts_as_nothing() -> None:
    first = tell(NO_READINGS, ONE, NOW, 1_000.0, 0.0)
    told = tell(first.readings, ONE, NOW + 1.0, -5.0, 0.0)
    assert (told.capital, told.known) == (0.0, False)


def test_tell_when_a_clock_runs_backwards_then_time_stands_still() -> None:
    first = tell(NO_READINGS, ONE, NOW, 1_000.0, 0.0)
    assert tell(first.readings, ONE, NOW - 3_600.0, 900.0, 0.0).equity == 900.0


# -- Claims against holdings -------------------------------------------------------------------------------


def met(claims, holdings, now=NOW):
    """What is claimed after reconciling, by key, and the events."""
    result = reconcile(bot="a", claims=claims, holdings=holdings, now=now, grace=60.0)
    after = {item.key: item for item in claims}
    for change in result.changes:
        if change.ends:
            del after[change.claim.key]
        else:
            after[change.claim.key] = change.claim
    events = [change.event for change in result.changes]
    return (
        {
            key: (item.state, pytest.approx(item.margin), pytest.approx(item.risk))
            for key, item in after.items()
        },
        events,
        result,
    )


def long_btc(margin, risk=5.0, resting=0.0):
    return [Holding(BTC, "long", margin, risk, resting)]


def test_reconcile_when_all_is_as_claimed_then_nothing_changes() -> None:
    assert met([claim(risk=5.0)], long_btc(100.0))[1] == []


def test_reconcile_when_a_position_is_gone_then_it_is_released() -> None:
    assert met([claim()], [])[:2] == ({}, ["released"])
    assert met([claim(), claim(ETH, "short", key="s")], [Holding(ETH, "short", 100.0, 1.0)])[1] == [
        "released"
    ]


def test_reconcile_when_nobody_reserved_a_position_then_it_is_found_with_all_its_risk() -> None:
    after, events, _ = met([], [Holding(ETH, "short", 70.0, None)])
    assert events == ["found"]
    assert after == {"found:ETH/USDT:USDT:short:1": ("confirmed", 70.0, 70.0)}


def test_reconcile_when_the_other_side_is_held_then_that_is_no_fill_of_this_one() -> None:
    _, events, _ = met([claim()], [Holding(BTC, "short", 100.0, 1.0)])
    assert sorted(events) == ["found", "released"]


def test_reconcile_when_part_is_closed_then_the_claim_shrinks() -> None:
    after, events, _ = met(
        [claim(risk=2.0), claim(key="m", margin=50.0, risk=1.0, time=NOW - 500.0)], long_btc(120.0, 4.8)
    )
    assert events == ["changed", "changed"]
    assert after == {"k": ("confirmed", 100.0, 4.0), "m": ("confirmed", 20.0, 0.8)}


def test_reconcile_when_one_of_several_claims_was_closed_then_that_one_is_released() -> None:
    claims = [claim(key="old", margin=70.0, risk=2.0, time=NOW - 900.0), claim(margin=100.0, risk=7.0)]
    after, events, _ = met(claims, long_btc(100.0, 7.0))
    assert (after, events) == ({"k": ("confirmed", 100.0, 7.0)}, ["released"])


def test_reconcile_when_risks_are_scaled_then_they_all_move_the_same_way() -> None:
    claims = [claim(key="x", margin=100.0, risk=20.0), claim(margin=100.0, risk=5.0)]
    _, events, result = met(claims, long_btc(200.0, 30.0))
    assert events == ["changed", "changed"]
    assert all(change.risk_growth > 0.0 for change in result.changes)
    assert met(claims, long_btc(200.0, 25.0))[1] == []


def test_reconcile_when_a_reservation_filled_unnoticed_then_it_is_the_position() -> None:
    after, events, _ = met([claim(state="reserved", time=NOW - 5.0)], long_btc(100.0, 2.0))
    assert events == ["filled"]
    assert after == {"k": ("confirmed", 100.0, 2.0)}


def test_reconcile_when_one_reservation_was_never_placed_then_the_fill_is_not_taken_for_it() -> None:
    # Both of 100; taken for the older one, the younger one's risk would count twice.
    waiting = [
        claim(key="never placed", risk=5.0, state="reserved", time=NOW - 5.0),
        claim(key="filled", risk=20.0, state="reserved", time=NOW - 2.0),
        claim(key="filled too", margin=50.0, risk=6.0, state="reserved", time=NOW - 1.0),
    ]
    after, events, _ = met(waiting, long_btc(100.0, 20.0))
    assert events == ["filled"]
    assert after["filled"] == ("confirmed", 100.0, 20.0)
    assert after["never placed"] == ("reserved", 100.0, 5.0)
    after, events, _ = met(waiting, long_btc(150.0, 26.0))
    assert events == ["filled", "filled"]
    assert after["never placed"] == ("reserved", 100.0, 5.0)
    assert after["filled"] == ("confirmed", 100.0, 20.0)
    assert after["filled too"] == ("confirmed", 50.0, 6.0)


@pytest.mark.parametrize("took", [99.5, 100.5])
def test_reconcile_when_a_fill_took_a_little_more_or_less_then_it_is_no_find(took) -> None:
    after, events, _ = met([claim(state="reserved", time=NOW - 5.0)], long_btc(took))
    assert events == ["filled"]
    assert after["k"][1] == took


def test_reconcile_when_more_is_held_than_was_reserved_then_the_rest_is_found() -> None:
    after, events, _ = met([claim()], long_btc(150.0, 7.5))
    assert "found" in events
    assert sum(item[1].expected for item in after.values()) == pytest.approx(150.0)
    assert sum(item[2].expected for item in after.values()) == pytest.approx(7.5)


@pytest.mark.parametrize(("age", "events"), [(60.0, []), (60.1, ["expired"])])
def test_reconcile_when_a_reservation_never_filled_then_it_expires_after_the_grace(age, events) -> None:
    assert met([claim(state="reserved", time=NOW - age)], [])[1] == events


def test_reconcile_when_the_order_rests_on_the_exchange_then_its_reservation_lasts() -> None:
    old = claim(state="reserved", time=NOW - 3_600.0)
    assert met([old], long_btc(0.0, resting=100.0))[1] == []


def test_reconcile_when_an_order_rests_that_nobody_reserved_then_it_is_found() -> None:
    after, events, _ = met([], long_btc(0.0, resting=80.0))
    assert events == ["found"]
    assert after == {"found:BTC/USDT:USDT:long:1": ("reserved", 80.0, 80.0)}


def test_reconcile_when_an_order_filled_in_part_then_it_counts_whole_until_the_rest_is_gone() -> None:
    half = claim(state="reserved", time=NOW - 30.0)
    assert met([half], long_btc(40.0, resting=60.0))[1] == []
    after, events, _ = met([half], long_btc(40.0, 2.0), now=NOW + 100.0)
    assert events == ["filled"]
    assert after == {"k": ("confirmed", 40.0, 2.0)}


def test_reconcile_when_an_addition_fills_then_it_is_taken_from_its_own_reservation() -> None:
    claims = [claim(risk=5.0), claim(key="more", margin=50.0, risk=2.5, state="reserved", time=NOW - 5.0)]
    assert met(claims, long_btc(100.0, 5.0))[1] == []
    after, events, _ = met(claims, long_btc(150.0, 7.5))
    assert events == ["filled"]
    assert after == {"k": ("confirmed", 100.0, 5.0), "more": ("confirmed", 50.0, 2.5)}


def test_reconcile_when_a_fill_was_confirmed_after_the_positions_were_read_then_it_stays() -> None:
    assert met([claim(time=NOW + 1.0)], [])[1] == []
    assert met([claim(time=NOW + 61.0)], [])[1] == ["released"]  # a clock that was set back


@pytest.mark.parametrize("margin", [math.nan, -1.0, None])
def test_reconcile_when_a_margin_is_not_known_then_what_was_claimed_stays_or_it_is_unclear(margin) -> None:
    _, events, result = met([claim()], [Holding(BTC, "long", margin, 1.0)])
    assert (events, result.unclear) == ([], "")
    _, events, result = met([], [Holding(BTC, "long", margin, 1.0)])
    assert (events, result.unclear) == ([], "the margin of BTC/USDT:USDT long")


@pytest.mark.parametrize("holding", [Holding("", "long", 1.0, 1.0), Holding(BTC, "both", 1.0, 1.0)])  # type: ignore[arg-type]
def test_reconcile_when_a_holding_is_no_position_then_unclear(holding) -> None:
    assert met([], [holding])[2].unclear.startswith("a position in")


def test_reconcile_when_a_stop_is_in_profit_then_its_risk_is_nothing() -> None:
    after, _, _ = met([claim(risk=5.0)], long_btc(100.0, -7.0))
    assert after["k"][2] == 0.0


def test_reconcile_when_several_thirds_close_then_no_crumb_is_left() -> None:
    thirds = [claim(key=str(i), margin=100.0 / 3.0, time=NOW - 600.0 + i) for i in range(3)]
    assert met([*thirds, claim(key="x", margin=250.0)], [])[0] == {}


def test_reconcile_when_changes_are_listed_then_what_shrinks_comes_first() -> None:
    _, _, result = met([claim(margin=10.0)], [Holding(ETH, "long", 10.0, 1.0)])
    assert [change.growth for change in result.changes] == [-10.0, 10.0]


def test_claim_when_a_find_is_there_already_then_another_gets_its_own_name() -> None:
    first = claim(key="found:BTC/USDT:USDT:long:1")
    after, _, _ = met([first], long_btc(300.0))
    assert set(after) == {"found:BTC/USDT:USDT:long:1", "found:BTC/USDT:USDT:long:2"}
