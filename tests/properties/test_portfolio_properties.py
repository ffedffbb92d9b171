"""Several bots on one ledger in any order of events, against a model of few lines; and what must hold of each rule."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.portfolio import Holding, Ledger, Limits
from plimsoll.rules import drawdown, portfolio, portfolio_drawdown
from plimsoll.rules.answer import Outcome
from plimsoll.rules.breaker import NO_READINGS, ReadingConfig
from plimsoll.rules.exposure import asset_of
from plimsoll.rules.portfolio import Capital, Claim, Wanted, decide
from plimsoll.rules.portfolio_claims import reconcile
from plimsoll.rules.portfolio_drawdown import tell

ONE = ReadingConfig(confirmations=1)
STEADY = settings(derandomize=True, deadline=None, max_examples=60)
PAIRS = ("BTC/USDT:USDT", "BTC/USDC:USDC", "1000PEPE/USDT:USDT", "PEPE/USDT", "ETH/USDT:USDT")
NOW, GRACE, EQUITY = 1_800_000_000.0, 60.0, 1_000.0
LIMITS = Limits()

bots = st.sampled_from(["a", "b", "c"])
places = st.tuples(st.sampled_from(PAIRS), st.sampled_from(["long", "short"]))
margins = st.sampled_from([50.0, 100.0 / 3.0, 120.0, 250.0, 400.0])
events = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "reserve", "reserve", "fill", "confirm", "close", "release", "heartbeat", "wait"]),
        bots, places, margins, st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    ),
    min_size=5, max_size=50,
)  # fmt: skip


class Model:
    """What the ledger should hold: by bot and key the margin, risk, asset, state and time; a key is a pair and side."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, tuple[str, str]], list] = {}

    def fits(self, place: tuple[str, str], margin: float, risk: float) -> bool:
        capital = 3 * EQUITY
        asset = asset_of(place[0])
        in_asset = sum(c[0] for key, c in self.claims.items() if asset_of(key[1][0]) == asset)
        sums = (
            (sum(c[0] for c in self.claims.values()) + margin, LIMITS.exposure),
            (in_asset + margin, LIMITS.asset),
            (sum(c[1] for c in self.claims.values()) + risk, LIMITS.heat),
        )
        return all(used <= ratio * capital + 1e-6 for used, ratio in sums)

    def heard(self, bot: str, real: dict, now: float) -> None:
        for key in [key for key in self.claims if key[0] == bot]:
            claim = self.claims[key]
            if key in real:
                claim[:3] = [*real[key], "confirmed"]
            elif claim[2] == "confirmed" or now - claim[3] > GRACE:
                del self.claims[key]


@STEADY
@given(events)
def test_ledger_when_bots_act_in_any_order_then_it_holds_what_the_model_holds_and_no_cap_is_exceeded(
    happening,
) -> None:
    ledger = Ledger("sqlite://", LIMITS, "USDT", readings=ONE, grace=GRACE)
    model, real, now = Model(), {}, NOW
    holdings = lambda bot: [Holding(*key[1], *real[key]) for key in real if key[0] == bot]  # noqa: E731
    for bot in "abc":
        ledger.heartbeat(bot, now, EQUITY, 0.0, [])
    for event, bot, place, margin, ratio in happening:
        key, name = (bot, place), "|".join(place)
        now += 1.0
        match event:
            case "reserve" if key not in model.claims:
                decision = ledger.reserve(bot, name, *place, margin, margin * ratio, now)
                assert decision.granted == model.fits(place, margin, margin * ratio)
                if decision.granted:
                    model.claims[key] = [margin, margin * ratio, "reserved", now]
            case "fill" if key in model.claims and key not in real:
                real[key] = tuple(
                    model.claims[key][:2]
                )  # a bot opens what was granted to it, and nothing else
            case "confirm" if key in real:
                assert ledger.confirm(bot, name, now)
                model.claims[key][2] = "confirmed"
            case "close" if key in real:
                del real[key]
            case "release" if key not in real:
                assert ledger.release(bot, name, now) == (model.claims.pop(key, None) is not None)
            case "heartbeat":
                ledger.heartbeat(bot, now, EQUITY, 0.0, holdings(bot))
                model.heard(bot, real, now)
            case "wait":
                now += GRACE
                if now - NOW > 500.0:  # nobody falls silent
                    now -= GRACE
        standing = ledger.standing(now)
        held = {(c.bot, (c.pair, c.side)): (c.margin, c.state) for b in standing.bots for c in b.claims}
        assert held == {key: (pytest.approx(c[0]), c[2]) for key, c in model.claims.items()}
        assert standing.margin <= standing.margin_cap * (1 + 1e-9)
        assert standing.risk <= standing.risk_cap * (1 + 1e-9)
        assert all(asset.margin <= asset.cap * (1 + 1e-9) for asset in standing.assets)
        assert standing.over == ()
        assert set(real) <= set(held)
    for bot in "abc":
        standing = ledger.heartbeat(bot, now + GRACE + 1.0, EQUITY, 0.0, holdings(bot))
    assert standing.margin == pytest.approx(sum(margin for margin, _ in real.values()))
    for bot in "abc":
        standing = ledger.heartbeat(bot, now + GRACE + 2.0, EQUITY, 0.0, [])
    assert (standing.margin, standing.risk, standing.assets) == (0.0, 0.0, ())
    ledger.close()


amounts = st.floats(0.01, 1e6)


@st.composite
def some_claims(draw):
    drawn = draw(
        st.lists(
            st.tuples(
                places,
                amounts,
                st.floats(-10.0, 1e5),
                st.sampled_from(["reserved", "confirmed"]),
                st.floats(0.0, 200.0),
            ),
            max_size=8,
        )
    )
    return [
        Claim("a", str(number), pair, asset_of(pair), side, margin, risk, state, NOW - age)
        for number, ((pair, side), margin, risk, state, age) in enumerate(drawn)
    ]


some_holdings = st.lists(
    st.builds(
        lambda place, margin, risk, resting: Holding(*place, margin, risk, resting),
        places,
        st.one_of(st.just(0.0), amounts),
        st.one_of(st.none(), st.floats(-10.0, 1e5)),
        st.one_of(st.just(0.0), st.just(0.0), amounts),
    ),
    max_size=5,
)


def after(claims, holdings, now):
    current = {claim.key: claim for claim in claims}
    for change in reconcile(bot="a", claims=claims, holdings=holdings, now=now, grace=GRACE).changes:
        if change.ends:
            del current[change.claim.key]
        else:
            current[change.claim.key] = change.claim
    return list(current.values())


@settings(STEADY, max_examples=300)
@given(some_claims(), some_holdings, st.sampled_from([0.0, 300.0]))
def test_reconcile_when_claims_and_holdings_are_any_then_all_that_is_held_is_claimed_and_again_changes_nothing(
    claims, holdings, later
) -> None:
    once = after(claims, holdings, NOW + later)
    for place in {(item.pair, item.side) for item in (*holdings, *once)}:
        held = [item for item in holdings if (item.pair, item.side) == place]
        mine = [claim for claim in once if (claim.pair, claim.side) == place]
        margin, resting = math.fsum(i.margin for i in held), math.fsum(i.resting for i in held)
        claimed = math.fsum(claim.margin for claim in mine)
        largest = max(claimed, margin + resting, *(c.margin for c in claims), 1.0)
        assert claimed >= margin + resting - 1e-5 * largest
        if not any(claim.state == "reserved" for claim in mine):
            assert claimed == pytest.approx(margin, rel=1e-5, abs=1e-5 * largest)
            if margin > 1e-3 * largest:
                known = math.fsum(i.margin if i.risk is None else max(i.risk, 0.0) for i in held)
                assert math.fsum(max(c.risk, 0.0) for c in mine) == pytest.approx(known, rel=1e-3, abs=1e-3)
    twice = after(once, holdings, NOW + later)
    sums = [math.fsum(claim.margin for claim in some) for some in (once, twice)]
    assert sums[1] == pytest.approx(sums[0], rel=1e-5)


@settings(STEADY, max_examples=300)
@given(
    st.lists(st.tuples(bots, places, amounts, st.floats(0.0, 1e5)), max_size=8),
    st.lists(st.floats(1.0, 1e7), min_size=3, max_size=3),
    places, amounts, st.floats(0.0, 1.0),
)  # fmt: skip
def test_decide_when_anything_is_wanted_then_a_grant_keeps_every_cap_and_the_most_that_fits_is_granted(
    held, equities, place, margin, ratio
) -> None:
    claims = [
        Claim(bot, str(n), *p[:1], asset_of(p[0]), p[1], m, r, "confirmed", NOW)
        for n, (bot, p, m, r) in enumerate(held)
    ]
    capitals = [Capital(bot, equity, NOW, 600.0) for bot, equity in zip("abc", equities, strict=True)]

    def ask(margin):
        wanted = Wanted("a", "new", *place, margin, margin * ratio)
        return decide(wanted=wanted, claims=claims, capitals=capitals, limits=LIMITS, halted=None, now=NOW)

    decision = ask(margin)
    assert decision.outcome is not Outcome.UNKNOWN
    assert decision.most_margin is not None
    if decision.granted:
        new = Claim(
            "a", "new", place[0], asset_of(place[0]), place[1], margin, margin * ratio, "reserved", NOW
        )
        whole, before = portfolio.totals([*claims, new], capitals), portfolio.totals(claims, capitals)
        assert not portfolio.exceeds(whole.margin, LIMITS.exposure * whole.capital)
        assert not portfolio.exceeds(whole.risk, LIMITS.heat * whole.capital)
        assert not portfolio.exceeds(whole.assets[new.asset], LIMITS.asset * whole.capital)
        assert before.margin < whole.margin
    else:
        assert decision.most_margin < margin
    if decision.most_margin > 0.01:
        assert ask(decision.most_margin).granted


flows = st.lists(
    st.tuples(bots, st.sampled_from(["move", "deposit", "withdraw", "leave"]), st.floats(0.5, 1.5)),
    min_size=1,
    max_size=40,
)


@STEADY
@given(flows)
def test_drawdown_when_bots_come_go_deposit_and_withdraw_then_only_performance_moves_it(happening) -> None:
    """Against the product of the returns on the capital that was there, as a fund reports them."""
    state, total_flow, time = drawdown.State(), 0.0, NOW
    readings, equity, flow = {}, {}, dict.fromkeys("abc", 0.0)
    index, peak = 1.0, 1.0
    for bot, event, factor in happening:
        time += 60.0
        if event == "leave":
            total_flow -= equity.pop(bot, 0.0)
            readings.pop(bot, None)
        else:
            joins = bot not in equity
            before = math.fsum(equity.values())
            now = 1_000.0 if joins else equity[bot]
            if not joins and event == "move":
                index *= 1.0 + now * (factor - 1.0) / before
                now *= factor
            elif not joins:
                amount = now * (factor if event == "deposit" else -factor / 2.0)
                now, flow[bot] = now + amount, flow[bot] + amount
            told = tell(readings.get(bot, NO_READINGS), ONE, time, now, flow[bot])
            readings[bot], equity[bot] = told.readings, told.equity
            total_flow += told.flow
            assert told.equity == pytest.approx(now)
        state, _ = portfolio_drawdown.judge(state, LIMITS, time, math.fsum(equity.values()), total_flow)
        peak = max(peak, index)
        if equity:
            assert portfolio_drawdown.depth(state) == pytest.approx(1.0 - index / peak, abs=1e-6)
            assert state.tripped or portfolio_drawdown.depth(state) < LIMITS.drawdown
