"""Checks of fire drills: each holds on evidence of a drill that went well, and fails when that evidence is doctored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from plimsoll.drill.checks import judge, passed
from plimsoll.drill.evidence import Evidence, Happened, Row, Sample, inside, reckoned_equity
from plimsoll.drill.scenario import scenario_from

START = datetime(2024, 3, 6, 10, 0, tzinfo=UTC)
BEGAN = START.timestamp()
PAIR, OTHER = "BTC/USDT:USDT", "ETH/USDT:USDT"
SIDES = pytest.mark.parametrize("short", [False, True], ids=["long", "short"])


def at(hours: float) -> float:
    return BEGAN + hours * 3600.0


def judged(evidence: Evidence, expected: dict[str, Any], **run: Any) -> Row:
    """Return the row of one expectation."""
    events = [{"at": 0.1, "do": "kill"}] if expected["must"] == "remember" else []
    raw = {
        "title": "A title",
        "teaches": "What it teaches.",
        "market": {"kind": "simulated", "seed": 1, "start": START, "pairs": [PAIR, OTHER]},
        "run": {"hours": 4.0, "plimsoll": run},
        "events": events,
        "expect": [{"layer": "it", **expected}],
    }
    return judge(scenario_from(raw, "it"), evidence)[0]


def evidence(**parts: Any) -> Evidence:
    return Evidence(**({"began": BEGAN, "ended": at(4.0)} | parts))


def trade(number: int = 1, *, short: bool = False, **changed: Any) -> dict[str, Any]:
    """Return a row of a trade at 100, stopped 2 % away, liquidated 30 % away."""
    side = 1.0 if short else -1.0
    return {
        "id": number,
        "pair": PAIR,
        "is_short": short,
        "is_open": False,
        "open_date": datetime.fromtimestamp(at(0.1), UTC),
        "close_date": datetime.fromtimestamp(at(0.6), UTC),
        "open_rate": 100.0,
        "amount": 10.0,
        "stop_loss": 100.0 + side * 2.0,
        "liquidation_price": 100.0 + side * 30.0,
        "exit_reason": "stoploss_on_exchange",
        "close_profit": -0.06,
        "close_profit_abs": -20.0,
    } | changed


def open_trade(**changed: Any) -> dict[str, Any]:
    nothing = {
        "is_open": True,
        "close_date": None,
        "exit_reason": None,
        "close_profit": None,
        "close_profit_abs": None,
    }
    return trade(**(nothing | changed))


def outcome(number: int = 1, risk: float = 20.0) -> dict[str, Any]:
    return {"kind": "outcome", "trade_id": number, "planned_risk": risk}


def said(breaker: str, hours: float, blocked: bool, value: float | None = 0.1, **more: Any) -> dict[str, Any]:
    record = {"kind": "breaker", "time": int(at(hours)), "breaker": breaker, "pair": "*", "blocked": blocked}
    return record | {"value": value, "reason": "a reason", "factor": 0.0 if blocked else 1.0} | more


def lock(breaker: str) -> dict[str, Any]:
    return {"pair": "*", "reason": f"Plimsoll {breaker}: a reason"}


def sample(hours: float, equity: float = 10_000.0, *, level: str = "fine", **breakers: Any) -> Sample:
    listed = [{"name": name, "pair": "*", **values} for name, values in breakers.items()]
    status = {"time": int(at(hours)), "equity": equity, "breakers": listed, "deadman": {"level": level}}
    return Sample(time=at(hours), equity=equity, status=status)


def plan(
    hours: float, *, granted: bool = True, rule: str = "", risk: float = 50.0, pair: str = PAIR
) -> dict[str, Any]:
    answers = [] if granted else [{"rule": rule, "outcome": "breached"}]
    refusal = None if granted else f"{rule}: a reason"
    return {"kind": "plan", "time": int(at(hours)), "pair": pair, "granted": granted, "refusal": refusal,
            "answers": answers, "risk": risk if granted else 0.0}  # fmt: skip


def enter(hours: float, *, refused: bool) -> Happened:
    return Happened(time=at(hours), do="enter", subject=PAIR, refused=refused)


# -- Stops and exits -----------------------------------------------------------------------------------------

AT_STOP = {"must": "exit_at_stop", "at": 0.5, "within_minutes": 10.0, "at_least": 1, "worst_r": 1.2}


@SIDES
def test_exit_at_stop_when_all_left_at_their_stops_then_holds(short: bool) -> None:
    row = judged(evidence(trades=[trade(short=short)], journal=[outcome()]), AT_STOP)
    assert (row.outcome, row.when) == ("held", at(0.6))
    assert row.did == "1 of 1 left at their stops, 1.00 R lost at most"


@pytest.mark.parametrize(
    ("changed", "journal", "words"),
    [
        ({"exit_reason": "exit_signal"}, [outcome()], "left by exit_signal"),
        ({"exit_reason": "liquidation"}, [outcome()], "left by liquidation"),
        ({"close_profit": -0.96}, [outcome()], "lost its whole margin"),
        (
            {"close_date": datetime.fromtimestamp(at(0.5) + 601, UTC)},
            [outcome()],
            "still open after 10 minutes",
        ),
        ({"is_open": True, "close_date": None}, [outcome()], "still open"),
        ({"close_profit_abs": -24.2}, [outcome()], "lost 1.21 R"),
        ({}, [], "nobody knows what R"),
        (
            {"close_date": datetime.fromtimestamp(at(0.5), UTC)},
            [outcome()],
            "the occasion never arose: 0 positions",
        ),
        (
            {"open_date": datetime.fromtimestamp(at(0.51), UTC)},
            [outcome()],
            "the occasion never arose: 0 positions",
        ),
    ],
)
def test_exit_at_stop_when_one_did_not_then_fails(changed: Any, journal: Any, words: str) -> None:
    row = judged(evidence(trades=[trade(**changed)], journal=journal), AT_STOP)
    assert row.outcome == "failed"
    assert words in row.did


@pytest.mark.parametrize("changed", [{"close_profit": -0.94}, {"close_profit_abs": -23.9},
                                     {"close_date": datetime.fromtimestamp(at(0.5) + 599, UTC)}])  # fmt: skip
def test_exit_at_stop_when_just_within_then_holds(changed: Any) -> None:
    assert judged(evidence(trades=[trade(**changed)], journal=[outcome()]), AT_STOP).outcome == "held"


def test_expectation_when_it_is_not_required_then_no_occasion_is_no_fault() -> None:
    assert judged(evidence(), AT_STOP | {"required": False}).outcome == "did not arise"


NEVER = {"must": "never_be_liquidated"}


@SIDES
def test_liquidation_when_none_happened_then_holds_and_else_fails(short: bool) -> None:
    fine = [trade(short=short), open_trade(number=2, short=short)]
    assert judged(evidence(trades=fine), NEVER).outcome == "held"
    assert judged(evidence(trades=[trade(short=short, exit_reason="liquidation")]), NEVER).outcome == "failed"
    assert judged(evidence(trades=[trade(short=short, close_profit=-0.95)]), NEVER).outcome == "failed"
    assert judged(evidence(), NEVER).outcome == "failed"


@SIDES
@pytest.mark.parametrize("build", [trade, open_trade], ids=["closed", "open"])
def test_liquidation_when_the_price_passed_it_while_a_trade_was_open_then_fails(
    build: Any, short: bool
) -> None:
    beyond, before = (130.0, 129.9) if short else (70.0, 70.1)
    seen = {PAIR: [(at(0.05), beyond), (at(0.5), before)]}
    if build is trade:
        seen[PAIR].append((at(0.61), beyond))  # after its close
    assert judged(evidence(trades=[build(short=short)], prices=seen), NEVER).outcome == "held"
    seen[PAIR].append((at(0.55), beyond))
    row = judged(evidence(trades=[build(short=short)], prices=seen), NEVER)
    assert (row.outcome, row.when) == ("failed", at(0.55))


@SIDES
def test_liquidation_when_the_price_jumped_past_it_and_the_stop_then_the_stops_name_does_not_excuse(
    short: bool,
) -> None:
    beyond, before = (130.0, 129.9) if short else (70.0, 70.1)
    stopped = {"short": short, "exit_reason": "stop_loss"}
    assert judged(evidence(trades=[trade(**stopped, close_rate=before)]), NEVER).outcome == "held"
    row = judged(evidence(trades=[trade(**stopped, close_rate=beyond)]), NEVER)
    assert (row.outcome, row.when) == ("failed", at(0.6))


INSIDE = {"must": "keep_stops_inside_liquidation"}


@SIDES
def test_stops_when_one_lies_beyond_liquidation_then_fails_wherever_it_is_written(short: bool) -> None:
    beyond, barely = (130.0, 129.9) if short else (70.0, 70.1)
    good = trade(short=short, stop_loss=barely)
    order = {"ft_trade_id": 1, "ft_order_side": "stoploss", "stop_price": barely}
    told = Sample(time=at(0.2), equity=1.0, stops={1: (barely, good["liquidation_price"])})
    fine = evidence(trades=[good], orders=[order], samples=[told])
    assert judged(fine, INSIDE).did == "1 trades, 3 looks at their stops"
    assert judged(replace(fine, trades=[trade(short=short, stop_loss=beyond)]), INSIDE).outcome == "failed"
    assert judged(replace(fine, orders=[order | {"stop_price": beyond}]), INSIDE).outcome == "failed"
    late = replace(told, stops={1: (beyond, good["liquidation_price"])})
    assert judged(replace(fine, samples=[late]), INSIDE).outcome == "failed"
    assert judged(replace(fine, samples=[replace(late, time=at(0.1) + 89.0)]), INSIDE).outcome == "held"
    assert judged(replace(fine, trades=[trade(short=short, stop_loss=None)]), INSIDE).outcome == "failed"
    assert judged(replace(fine, trades=[]), INSIDE).outcome == "failed"


@SIDES
def test_stop_when_liquidation_is_unknown_then_it_is_not_inside(short: bool) -> None:
    row = trade(short=short)
    assert inside(row, row["stop_loss"], row["liquidation_price"])
    assert not inside(row, row["stop_loss"], None)
    assert not inside(row, None, row["liquidation_price"])


AGAIN = {"must": "exit_again", "after": 0.5, "within_minutes": 10.0}


@SIDES
def test_exits_when_a_position_behind_its_stop_stays_then_fails(short: bool) -> None:
    behind, before = (102.1, 101.9) if short else (97.9, 98.1)
    seen = {PAIR: [(at(0.4), before), (at(0.5), behind)]}
    fine = evidence(trades=[trade(short=short)], prices=seen)
    assert judged(fine, AGAIN).outcome == "held"
    assert judged(replace(fine, trades=[open_trade(short=short)]), AGAIN).outcome == "failed"
    slow = trade(short=short, close_date=datetime.fromtimestamp(at(0.5) + 601, UTC))
    assert judged(replace(fine, trades=[slow]), AGAIN).outcome == "failed"
    row = judged(replace(fine, prices={PAIR: [(at(0.5), before)]}), AGAIN)
    assert "the occasion never arose: 0 positions were behind" in row.did


# -- Entries -------------------------------------------------------------------------------------------------

REFUSE = {"must": "refuse_entries", "rule": "drawdown"}
REFUSED = evidence(
    trades=[trade()],
    journal=[said("drawdown", 0.5, True), plan(0.8, granted=False, rule="drawdown")],
    happened=[enter(0.8, refused=True)],
)


def test_refusals_when_nothing_was_opened_and_the_rule_refused_then_holds() -> None:
    row = judged(REFUSED, REFUSE)
    assert (row.outcome, row.did, row.when) == ("held", "nothing opened; 1 forced entry refused", at(0.8))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"trades": [trade(open_date=datetime.fromtimestamp(at(0.5) + 91, UTC))]},
            "long BTC/USDT:USDT was opened",
        ),
        ({"happened": [enter(0.8, refused=False)]}, "was not refused"),
        ({"happened": []}, "the occasion never arose: 0 entries were tried"),
        ({"journal": [said("drawdown", 0.5, True)]}, "not by drawdown: no plan"),
        (
            {"journal": [said("drawdown", 0.5, True), plan(0.8, granted=False, rule="heat")]},
            "not by drawdown: heat",
        ),
        ({"journal": [said("drawdown", 0.5, True), plan(0.8)]}, "not by drawdown"),
        (
            {"journal": [plan(0.8, granted=False, rule="drawdown")]},
            "the occasion never arose: drawdown never tripped",
        ),
    ],
)
def test_refusals_when_the_evidence_is_doctored_then_fails(changed: dict[str, Any], words: str) -> None:
    row = judged(replace(REFUSED, **changed), REFUSE)
    assert row.outcome == "failed"
    assert words in row.did


def test_refusals_when_an_entry_was_under_way_or_came_after_the_time_then_holds() -> None:
    early = trade(2, open_date=datetime.fromtimestamp(at(0.5) + 89, UTC))
    late = trade(3, open_date=datetime.fromtimestamp(at(2.1), UTC))
    both = replace(REFUSED, trades=[early, late])
    assert judged(both, REFUSE | {"until": 2.0}).outcome == "held"
    assert judged(both, REFUSE).outcome == "failed"
    assert judged(both, REFUSE | {"until": 2.0, "attempts": 2}).outcome == "failed"


def test_entries_when_one_is_opened_in_time_then_holds_and_else_fails() -> None:
    expected = {"must": "allow_entries", "after": 1.0, "before": 2.0}

    def opened(hours: float) -> str:
        return judged(
            evidence(trades=[trade(open_date=datetime.fromtimestamp(at(hours), UTC))]), expected
        ).outcome

    assert [opened(hours) for hours in (0.99, 1.0, 2.0, 2.01)] == ["failed", "held", "held", "failed"]


@pytest.mark.parametrize(("risk", "wanted"), [(52.0, "held"), (53.0, "failed"), (100.0, "failed")])
def test_size_when_r_is_not_reduced_as_far_then_fails(risk: float, wanted: str) -> None:
    later = trade(
        2, open_date=datetime.fromtimestamp(at(2.0), UTC), close_date=datetime.fromtimestamp(at(3.0), UTC)
    )
    journal = [plan(0.1, risk=100.0), plan(2.0, risk=risk)]
    expected = {"must": "reduce_size", "after": 1.0, "factor": 0.5}
    assert judged(evidence(trades=[trade(), later], journal=journal), expected).outcome == wanted
    assert judged(evidence(trades=[trade()], journal=journal), expected).outcome == "failed"


# -- Breakers ------------------------------------------------------------------------------------------------

LIMITS: dict[str, Any] = {"drawdown": {"limit": 0.1}, "loss_limit": {"daily": 0.1, "weekly": 0.1}}
EQUITY = [sample(0.0), sample(0.5, 9_500.0), sample(1.0, 8_900.0), sample(2.0, 8_900.0)]


@pytest.mark.parametrize("breaker", ["drawdown", "daily_loss", "weekly_loss"])
def test_trip_of_an_equity_breaker_when_it_comes_in_time_then_holds_and_else_fails(breaker: str) -> None:
    expected = {"must": "trip", "breaker": breaker, "within_minutes": 10.0}

    def tripped(*hours: float, samples: Sequence[Sample] = tuple(EQUITY), locks: Any = None) -> Row:
        journal = [said(breaker, hour, True) for hour in hours]
        shown = [lock(breaker)] if locks is None else locks
        return judged(evidence(journal=journal, samples=list(samples), locks=shown), expected, **LIMITS)

    assert tripped(1.0).outcome == "held"
    assert tripped(1.16).outcome == "held"
    assert "tripped 11 min late" in tripped(1.18).did
    assert "never tripped, and had to at 11:00" in tripped().did
    assert "without an occasion" in tripped(0.5).did
    assert "no pair lock shows it" in tripped(1.0, locks=[]).did
    row = tripped(samples=EQUITY[:2])
    assert (row.outcome, row.did) == (
        "failed",
        "the occasion never arose: the worst loss was 5.00% of 10.00%",
    )


def test_trip_when_only_equity_was_unknown_then_it_is_none() -> None:
    expected = {"must": "trip", "breaker": "drawdown", "within_minutes": 10.0}
    unknown = [said("drawdown", 1.0, True, value=None), said("drawdown", 1.1, False)]
    row = judged(evidence(journal=unknown, samples=EQUITY, locks=[lock("drawdown")]), expected, **LIMITS)
    assert (row.outcome, row.did) == ("failed", "never tripped, and had to at 11:00")


@pytest.mark.parametrize(
    ("profits", "tripped", "wanted"),
    [
        ((-1.0, -1.0, -1.0), 0.63, "held"),
        ((-1.0, -1.0, -1.0), 0.9, "failed"),
        ((-1.0, -1.0, -1.0), None, "failed"),
        ((-1.0, 1.0, -1.0), 0.63, "failed"),
        ((-1.0, 1.0, -1.0), None, "failed"),
    ],
)
def test_trip_of_the_streak_when_trades_say_otherwise_then_fails(
    profits: tuple[float, ...], tripped: float | None, wanted: str
) -> None:
    trades = [
        trade(number, close_profit=profit, close_date=datetime.fromtimestamp(at(0.6 + number / 100), UTC))
        for number, profit in enumerate(profits, 1)
    ]
    journal = [] if tripped is None else [said("streak", tripped, True, 3.0)]
    expected = {"must": "trip", "breaker": "streak", "within_minutes": 10.0}
    found = judged(evidence(trades=trades, journal=journal, locks=[lock("streak")]), expected)
    assert found.outcome == wanted


@pytest.mark.parametrize(
    ("tripped", "wanted"), [(1.2, "held"), (1.3, "held"), (1.4, "failed"), (1.15, "failed")]
)
def test_trip_of_the_dead_man_when_it_is_not_counted_from_the_check_in_then_fails(
    tripped: float, wanted: str
) -> None:
    expected = {"must": "trip", "breaker": "deadman", "within_minutes": 10.0}
    happened = [Happened(time=at(0.2), do="checkin"), Happened(time=at(1.25), do="checkin")]
    found = evidence(journal=[said("deadman", tripped, True)], happened=happened, locks=[lock("deadman")])
    assert judged(found, expected, deadman={"hours": 1.0}).outcome == wanted


def test_breaker_that_must_not_trip_when_it_trips_or_is_not_there_then_fails() -> None:
    expected = {"must": "not_trip", "breaker": "daily_loss"}
    there = [sample(1.0, daily_loss={"state": "armed"})]
    assert judged(evidence(samples=there), expected).outcome == "held"
    assert (
        judged(evidence(samples=there, journal=[said("daily_loss", 1.0, True)]), expected).outcome == "failed"
    )
    assert judged(evidence(samples=[sample(1.0)]), expected).outcome == "failed"


TRIPPED, ARMED = {"state": "tripped", "factor": 0.0}, {"state": "armed", "factor": 1.0}
LATCHED = evidence(
    journal=[said("drawdown", 1.0, True), said("drawdown", 2.0, True, None)],
    samples=[sample(0.9, drawdown=ARMED), sample(1.1, drawdown=TRIPPED), sample(2.5, drawdown=TRIPPED)],
    locks=[lock("drawdown")],
    happened=[Happened(time=at(1.5), do="kill", until=at(1.6))],
)


def test_latch_when_it_lasts_then_holds_through_a_kill() -> None:
    row = judged(LATCHED, {"must": "stay_tripped", "breaker": "drawdown"})
    assert (row.outcome, row.did) == ("held", "tripped in 2 of 2 looks, through kill -9")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"journal": [said("drawdown", 1.0, True), said("drawdown", 2.0, False)]}, "let go"),
        ({"samples": [sample(1.1, drawdown=TRIPPED), sample(2.5, drawdown=ARMED)]}, "its state was armed"),
        ({"samples": [sample(1.1)]}, "its state was not told"),
        ({"samples": []}, "no status was written"),
        ({"locks": []}, "no pair lock"),
        ({"journal": []}, "the occasion never arose: it never tripped"),
    ],
)
def test_latch_when_the_evidence_is_doctored_then_fails(changed: dict[str, Any], words: str) -> None:
    row = judged(replace(LATCHED, **changed), {"must": "stay_tripped", "breaker": "drawdown"})
    assert row.outcome == "failed"
    assert words in row.did


@pytest.mark.parametrize(
    ("hours", "wanted"), [(1.9, "failed"), (2.1, "held"), (2.9, "held"), (3.1, "failed")]
)
def test_release_when_it_comes_early_or_late_then_fails(hours: float, wanted: str) -> None:
    expected = {"must": "release", "breaker": "daily_loss", "after": 2.0, "before": 3.0}
    journal = [said("daily_loss", 1.0, True), said("daily_loss", hours, False)]
    assert judged(evidence(journal=journal), expected).outcome == wanted
    assert judged(evidence(journal=journal[:1]), expected).outcome == "failed"
    assert judged(evidence(), expected).outcome == "failed"


@pytest.mark.parametrize(
    ("hours", "wanted"), [(1.5, "failed"), (1.6, "held"), (1.68, "held"), (1.7, "failed")]
)
def test_pause_when_it_is_longer_or_shorter_than_set_then_fails(hours: float, wanted: str) -> None:
    losing = [trade(1), trade(2), trade(3)]
    journal = [said("streak", 0.61, True, 3.0), said("streak", hours, False, 3.0)]
    found = evidence(trades=losing, journal=journal)
    assert judged(found, {"must": "pause"}, streak={"cooldown_minutes": 60.0}).outcome == wanted
    assert judged(replace(found, journal=journal[:1]), {"must": "pause"}).outcome == "failed"


def _levels(warning: float, critical: float, stopped: float) -> Evidence:
    told = [(0.5, "fine"), (warning, "warning"), (critical, "critical"), (stopped, "stopped")]
    samples = [sample(hours, level=level) for hours, level in told]
    return evidence(samples=samples, happened=[Happened(time=at(0.2), do="checkin")])


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ((1.03, 1.16, 1.2), "held"),
        ((1.07, 1.2, 1.24), "held"),
        ((1.09, 1.2, 1.24), "failed"),
        ((0.97, 1.16, 1.2), "failed"),
        ((1.03, 1.16, 1.3), "failed"),
    ],
)
def test_ladder_when_a_level_comes_at_another_time_then_fails(
    times: tuple[float, float, float], wanted: str
) -> None:
    assert judged(_levels(*times), {"must": "warn_in_time"}, deadman={"hours": 1.0}).outcome == wanted


def test_ladder_when_a_level_is_never_said_then_fails() -> None:
    found = _levels(1.03, 1.16, 1.2)
    without = replace(found, samples=[found.samples[0], found.samples[1], found.samples[3]])
    row = judged(without, {"must": "warn_in_time"}, deadman={"hours": 1.0})
    assert (row.outcome, row.did) == ("failed", "never said critical")


REDUCED = {"state": "reduced", "factor": 0.5}
REMEMBER = {"must": "remember", "breakers": ["drawdown", "streak"]}
KILLED = evidence(
    samples=[
        sample(0.1, 10_000.0, drawdown=ARMED | {"value": 0.0}, streak=ARMED),
        sample(0.9, 9_000.0, drawdown=TRIPPED | {"value": 0.1}, streak=REDUCED),
        sample(1.2, 9_000.0, drawdown=TRIPPED | {"value": None}, streak=REDUCED),
        sample(1.3, 9_000.0, drawdown=TRIPPED | {"value": 0.1}, streak=REDUCED),
    ],
    happened=[Happened(time=at(1.0), do="kill", until=at(1.1))],
)


def test_memory_when_all_is_as_before_then_holds() -> None:
    row = judged(KILLED, REMEMBER)
    assert (row.outcome, row.did) == ("held", "drawdown tripped x0, streak reduced x0.5; same peak")


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (
            sample(1.3, 9_000.0, drawdown=ARMED | {"value": 0.1}, streak=REDUCED),
            "drawdown was tripped x0.0, then armed",
        ),
        (
            sample(1.3, 9_000.0, drawdown=TRIPPED | {"value": 0.1}, streak=ARMED),
            "streak was reduced x0.5, then armed",
        ),
        (
            sample(1.3, 9_000.0, drawdown=TRIPPED | {"value": 0.0}, streak=REDUCED),
            "the peak was 10,000, and 9,000",
        ),
        (sample(1.3, 9_000.0, drawdown=TRIPPED | {"value": 0.1}), "the status knows no streak"),
        (sample(1.05, 9_000.0, drawdown=TRIPPED | {"value": 0.1}, streak=REDUCED), "none after it"),
    ],
)
def test_memory_when_something_was_forgotten_then_fails(last: Sample, words: str) -> None:
    row = judged(replace(KILLED, samples=[*KILLED.samples[:3], last]), REMEMBER)
    assert row.outcome == "failed"
    assert words in row.did


# -- In every drill ------------------------------------------------------------------------------------------


def _all_rows(found: Evidence) -> list[Row]:
    raw = {
        "title": "A title",
        "teaches": "What it teaches.",
        "market": {"kind": "simulated", "seed": 1, "start": START, "pairs": [PAIR]},
        "run": {"hours": 4.0},
        "expect": [{"layer": "it", "must": "never_be_liquidated", "required": False}],
    }
    return judge(scenario_from(raw, "it"), found)


def test_drill_when_all_is_well_then_it_passes() -> None:
    assert passed(_all_rows(evidence(trades=[trade()])))


@pytest.mark.parametrize(
    "changed",
    [
        {"died": True},
        {"journal": [{"kind": "fault", "callback": "leverage"}]},
        {"log": "... loop check failed: ValueError('x')\n"},
        {"happened": [Happened(time=at(1.0), do="fault", subject="timeout", met=0)]},
        {"trades": []},
    ],
    ids=["bot died", "callback failed", "loop failed", "fault not met", "nothing tested"],
)
def test_drill_when_something_is_not_well_then_it_does_not_pass(changed: dict[str, Any]) -> None:
    assert not passed(_all_rows(replace(evidence(trades=[trade()]), **changed)))


def test_drill_when_a_fault_was_met_then_it_passes() -> None:
    met = Happened(time=at(1.0), do="fault", subject="timeout", met=3)
    assert passed(_all_rows(evidence(trades=[trade()], happened=[met])))


@SIDES
def test_equity_when_a_position_is_open_then_its_profit_after_fees_and_funding_counts(short: bool) -> None:
    rows = [
        trade(short=short),
        open_trade(
            number=2, short=short, fee_open=0.001, fee_close=0.002, realized_profit=5.0, funding_fees=-1.0
        ),
    ]
    # -20 closed; 10 x (10 - 0.1 - 0.22), or for the short 10 x (-10 - 0.32); 5 realised, -1 funding.
    wanted = 10_000.0 - 20.0 + (-103.2 if short else 96.8) + 4.0
    assert reckoned_equity(rows, lambda pair: 110.0, 10_000.0) == pytest.approx(wanted)
