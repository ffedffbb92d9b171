"""The shared ledger on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres
from sqlalchemy import create_engine, inspect, select, text

from plimsoll.portfolio import Holding, Ledger, LedgerFault, Limits, address, limits_of, schema
from plimsoll.portfolio.book import Book
from plimsoll.rules.answer import Outcome
from plimsoll.rules.breaker import ReadingConfig
from plimsoll.rules.portfolio import Claim
from plimsoll.settings import load

NOW = 1_800_000_000.0
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
ONE = ReadingConfig(confirmations=1)
PATIENT = 120.0  # seconds: a server or a process that stands still for a while is no fault
Open = Callable[..., Ledger]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "made" / "ledger.sqlite")


@pytest.fixture
def opened(url: str) -> Iterator[Open]:
    ledgers: list[Ledger] = []

    def open_(limits: Limits | None = None, currency: str | None = "USDT", **more: Any) -> Ledger:
        more = {"readings": ONE, "timeout": PATIENT} | more
        ledgers.append(Ledger(url, limits or Limits(), currency, **more))
        return ledgers[-1]

    yield open_
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened: Open) -> Ledger:
    """A ledger with two bots of 1,000: 1,000 of margin, 500 in one asset, 120 of risk."""
    ledger = opened()
    ledger.heartbeat("a", NOW, 1_000.0, 0.0, [])
    ledger.heartbeat("b", NOW, 1_000.0, 0.0, [])
    return ledger


def rows(url: str, query: Any) -> list[Any]:
    engine = create_engine(url if "://" in url else f"sqlite:///{url}")
    with engine.connect() as connection:
        found = list(connection.execute(query))
    engine.dispose()
    return found


def events(url: str) -> list[str]:
    return [row.event for row in rows(url, select(schema.history).order_by(schema.history.c.sequence))]


def answered(ask: Callable[[], Any]) -> Any:
    """Ask until there is an answer: a server that starts needs a moment, and a ledger with few seconds may miss them."""
    ends = time.monotonic() + PATIENT
    while True:
        try:
            return ask()
        except LedgerFault:
            assert time.monotonic() < ends
            time.sleep(0.05)


# -- Reserving ---------------------------------------------------------------------------------------------


def test_reserve_when_two_bots_want_the_last_of_an_asset_then_one_gets_it(ledger: Ledger) -> None:
    assert ledger.reserve("a", "1", BTC, "long", 400.0, 10.0, NOW).granted
    refused = ledger.reserve("b", "1", "BTC/USDC:USDC", "short", 101.0, 1.0, NOW)
    assert (refused.outcome, refused.most_margin) == (Outcome.BREACHED, pytest.approx(100.0))
    assert ledger.reserve("b", "1", "BTC/USDC:USDC", "short", 100.0, 1.0, NOW).granted
    standing = ledger.standing(NOW)
    assert (standing.margin, standing.risk, standing.margin_left) == (500.0, 11.0, 500.0)
    (asset,) = standing.assets
    assert (asset.asset, asset.long, asset.short, asset.left) == ("BTC", 400.0, 100.0, 0.0)


def test_reserve_when_heat_is_used_up_then_refused_by_it(ledger: Ledger) -> None:
    assert ledger.reserve("a", "1", BTC, "long", 100.0, 119.0, NOW).granted
    assert "open risk" in ledger.reserve("b", "1", ETH, "long", 100.0, 1.01, NOW).reason
    assert ledger.reserve("b", "1", ETH, "long", 100.0, 1.0, NOW).granted


def test_reserve_when_the_key_comes_again_then_it_is_one_reservation(ledger: Ledger, url: str) -> None:
    for _ in range(3):
        assert ledger.reserve("a", "1", BTC, "long", 100.0, 1.0, NOW).granted
    assert ledger.reserve("a", "1", BTC, "long", 90.0, 1.0, NOW).granted
    assert ledger.standing(NOW).margin == 100.0
    assert events(url).count("reserved") == 1
    assert ledger.reserve(
        "a", "1", BTC, "long", 500.0, 1.0, NOW
    ).granted  # decided anew, its own claim left out
    assert not ledger.reserve("a", "1", BTC, "long", 501.0, 1.0, NOW).granted
    assert ledger.standing(NOW).margin == 500.0


def test_reserve_when_the_key_is_anothers_then_both_have_theirs_and_another_pair_is_refused(
    ledger: Ledger,
) -> None:
    assert ledger.reserve("a", "1", BTC, "long", 100.0, 1.0, NOW).granted
    assert ledger.reserve("b", "1", BTC, "long", 100.0, 1.0, NOW).granted
    assert ledger.standing(NOW).margin == 200.0
    taken = ledger.reserve("a", "1", ETH, "long", 1.0, 0.0, NOW)
    assert (taken.outcome, "is taken by BTC" in taken.reason) == (Outcome.UNKNOWN, True)


def test_reserve_when_the_bot_never_told_its_capital_then_unknown(ledger: Ledger) -> None:
    decision = ledger.reserve("c", "1", BTC, "long", 1.0, 0.1, NOW)
    assert (decision.outcome, decision.reason) == (Outcome.UNKNOWN, "c has not told its capital yet")


def test_reserve_when_readings_have_to_agree_then_a_bot_reserves_after_its_third(opened: Open) -> None:
    ledger = opened(readings=ReadingConfig())
    for second in range(2):
        ledger.heartbeat("a", NOW + second, 1_000.0, 0.0, [])
        assert ledger.reserve("a", "1", BTC, "long", 10.0, 0.1, NOW).outcome is Outcome.UNKNOWN
    assert ledger.heartbeat("a", NOW + 2, 1_000.0, 0.0, []).capital == 1_000.0
    assert ledger.reserve("a", "1", BTC, "long", 10.0, 0.1, NOW + 2).granted


def test_preview_when_asked_then_decides_as_reserve_and_stores_nothing(ledger: Ledger, url: str) -> None:
    before = len(events(url))
    assert ledger.preview("a", BTC, "long", 500.0, 1.0, NOW).granted
    assert ledger.preview("a", BTC, "long", 501.0, 1.0, NOW).most_margin == pytest.approx(500.0)
    assert ledger.standing(NOW).margin == 0.0
    assert len(events(url)) == before


def test_confirm_and_release_when_told_what_it_took_then_that_counts(ledger: Ledger) -> None:
    ledger.reserve("a", "1", BTC, "long", 100.0, 1.0, NOW)
    assert ledger.confirm("a", "1", NOW, margin=101.0, risk=1.5)
    assert ledger.confirm("a", "1", NOW, margin=101.0, risk=1.5)
    standing = ledger.standing(NOW)
    assert (standing.margin, standing.risk, standing.bots[0].reserved) == (101.0, 1.5, 0.0)
    assert ledger.release("a", "1", NOW)
    assert not ledger.release("a", "1", NOW)
    assert not ledger.confirm("a", "1", NOW)
    assert ledger.standing(NOW).margin == 0.0


# -- Heartbeats --------------------------------------------------------------------------------------------


def test_heartbeat_when_claims_differ_from_positions_then_they_become_them_and_are_named(
    ledger: Ledger,
) -> None:
    ledger.reserve("a", "gone", BTC, "long", 100.0, 1.0, NOW)
    ledger.confirm("a", "gone", NOW)
    ledger.reserve("a", "filled", ETH, "short", 50.0, 0.5, NOW)
    ledger.reserve("a", "never", "SOL/USDT:USDT", "long", 10.0, 0.1, NOW)
    ledger.reserve("b", "other", BTC, "long", 7.0, 0.1, NOW)
    holdings = [Holding(ETH, "short", 50.0, 0.5), Holding("XRP/USDT:USDT", "long", 20.0, None)]
    standing = ledger.heartbeat("a", NOW + 61.0, 1_000.0, 0.0, holdings)
    assert {(change.event, change.claim.pair) for change in standing.changes} == {
        ("released", BTC),
        ("filled", ETH),
        ("expired", "SOL/USDT:USDT"),
        ("found", "XRP/USDT:USDT"),
    }
    assert standing.margin == 50.0 + 20.0 + 7.0
    assert standing.risk == pytest.approx(0.5 + 20.0 + 0.1)
    assert ledger.heartbeat("a", NOW + 62.0, 1_000.0, 0.0, holdings).changes == ()


def test_heartbeat_when_a_bot_is_silent_then_it_is_named_and_all_of_it_counts(ledger: Ledger) -> None:
    ledger.reserve("b", "1", BTC, "long", 450.0, 1.0, NOW)
    later = NOW + 7 * 86_400.0
    standing = ledger.heartbeat("a", later, 1_000.0, 0.0, [])
    assert (standing.silent, standing.capital, standing.margin) == (("b",), 2_000.0, 450.0)
    assert ledger.reserve("a", "1", BTC, "short", 51.0, 0.1, later).outcome is Outcome.BREACHED
    assert ledger.reserve("b", "2", ETH, "short", 1.0, 0.1, later).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("age", "silent"), [(600.0, ()), (600.1, ("b",))])
def test_standing_when_a_bot_was_just_heard_or_not_then_it_is_silent_or_not(
    ledger: Ledger, age, silent
) -> None:
    ledger.heartbeat("a", NOW + age, 1_000.0, 0.0, [])
    assert ledger.standing(NOW + age).silent == silent


def test_heartbeat_when_equity_is_not_known_then_the_last_counts_and_the_bot_reserves_nothing(
    ledger: Ledger,
) -> None:
    assert ledger.heartbeat("a", NOW, None, 0.0, []).capital == 2_000.0
    assert ledger.reserve("a", "1", BTC, "long", 1.0, 0.1, NOW).outcome is Outcome.UNKNOWN
    assert ledger.reserve("b", "1", BTC, "long", 1.0, 0.1, NOW).granted
    ledger.heartbeat("a", NOW, 1_000.0, 0.0, [])
    assert ledger.reserve("a", "1", BTC, "long", 1.0, 0.1, NOW).granted


def test_heartbeat_when_positions_are_not_known_then_claims_stay(ledger: Ledger) -> None:
    ledger.reserve("a", "1", BTC, "long", 100.0, 1.0, NOW)
    ledger.confirm("a", "1", NOW)
    standing = ledger.heartbeat("a", NOW + 3_600.0, 1_000.0, 0.0, None)
    assert (standing.margin, standing.changes) == (100.0, ())


def test_heartbeat_when_a_position_cannot_be_counted_then_everybodys_reservations_are_unknown(
    ledger: Ledger,
) -> None:
    standing = ledger.heartbeat("a", NOW, 1_000.0, 0.0, [Holding(BTC, "long", float("nan"), 1.0)])
    assert (standing.outcome, standing.unclear) == (Outcome.UNKNOWN, ("a: the margin of BTC/USDT:USDT long",))
    assert ledger.reserve("b", "1", ETH, "long", 1.0, 0.1, NOW).outcome is Outcome.UNKNOWN
    ledger.heartbeat("a", NOW, 1_000.0, 0.0, [Holding(BTC, "long", 5.0, 1.0)])
    assert ledger.reserve("b", "1", ETH, "long", 1.0, 0.1, NOW).granted


def test_heartbeat_when_found_positions_exceed_a_limit_then_it_is_said_and_nothing_more_fits(
    ledger: Ledger, url: str
) -> None:
    standing = ledger.heartbeat("a", NOW, 1_000.0, 0.0, [Holding(BTC, "long", 600.0, 1.0)])
    assert standing.outcome is Outcome.BREACHED
    assert standing.over == ("margin in BTC: 600.00 used of 500.00",)
    assert not ledger.reserve("b", "1", BTC, "long", 1.0, 0.1, NOW).granted
    assert ledger.reserve("b", "1", ETH, "long", 1.0, 0.1, NOW).granted
    ledger.heartbeat("a", NOW, 1_000.0, 0.0, [])
    assert events(url)[2:] == ["found", "over", "reserved", "released", "within"]


def test_heartbeat_when_the_limits_of_bots_differ_then_the_tightest_hold(
    ledger: Ledger, opened: Open, url: str
) -> None:
    opened(Limits(asset=0.1)).heartbeat("b", NOW, 1_000.0, 0.0, [])
    assert not ledger.reserve("a", "1", BTC, "long", 201.0, 1.0, NOW).granted
    assert ledger.reserve("a", "1", BTC, "long", 200.0, 1.0, NOW).granted
    assert events(url) == ["joined", "joined", "limits", "reserved"]
    assert (
        not opened(Limits(heat=0.0001)).preview("a", ETH, "long", 1.0, 1.0, NOW).granted
    )  # its own, told or not


def test_heartbeat_when_equity_hardly_moves_then_no_line_of_history(ledger: Ledger, url: str) -> None:
    before = len(events(url))
    for equity in (1_001.0, 1_004.9, 996.0, 1_000.0):
        ledger.heartbeat("a", NOW, equity, 0.0, [])
    assert len(events(url)) == before
    assert ledger.heartbeat("a", NOW, 1_005.1, 0.0, []).capital == 2_005.1
    assert events(url)[before:] == ["equity"]


# -- Drawdown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("equity", "halted"), [(701.0, False), (700.0, True)])
def test_drawdown_when_all_bots_lost_a_share_then_every_bot_is_halted(
    ledger: Ledger, opened: Open, equity, halted
) -> None:
    standing = ledger.heartbeat("a", NOW + 1, equity, 0.0, [])
    assert (standing.halted is not None) is halted
    assert ledger.reserve("b", "1", BTC, "long", 1.0, 0.1, NOW).granted is not halted
    assert (opened().standing(NOW).halted is not None) is halted


def test_drawdown_when_halted_then_only_a_reset_ends_it_and_counts_from_there(
    ledger: Ledger, url: str
) -> None:
    ledger.heartbeat("a", NOW + 1, 500.0, 0.0, [])
    ledger.heartbeat("a", NOW + 2, 5_000.0, 0.0, [])
    decision = ledger.reserve("b", "1", BTC, "long", 1.0, 0.1, NOW)
    assert decision.outcome is Outcome.BREACHED
    assert decision.reason.startswith("drawdown 25.0 % from the peak of 2,000, limit 15 %")
    ledger.heartbeat("a", NOW + 3, 500.0, 0.0, [])
    standing = ledger.reset(NOW + 4, "captain")
    assert (standing.halted, standing.drawdown, standing.peak) == (None, 0.0, 1_500.0)
    assert ledger.reserve("b", "1", BTC, "long", 1.0, 0.1, NOW).granted
    assert ledger.heartbeat("a", NOW + 5, 270.0, 0.0, []).halted is not None
    assert [event for event in events(url) if event in ("halted", "reset")] == ["halted", "reset", "halted"]
    (reset,) = rows(url, select(schema.history).where(schema.history.c.event == "reset"))
    assert reset.note == "by captain"


def test_drawdown_when_bots_join_deposit_or_leave_then_it_stays(ledger: Ledger) -> None:
    assert ledger.heartbeat("a", NOW + 1, 900.0, 0.0, []).drawdown == pytest.approx(0.05)
    assert ledger.heartbeat("c", NOW + 2, 9_000.0, 500.0, []).drawdown == pytest.approx(0.05)
    assert ledger.heartbeat("b", NOW + 3, 3_000.0, 2_000.0, []).drawdown == pytest.approx(0.05)
    assert ledger.heartbeat("b", NOW + 4, 1_000.0, 0.0, []).drawdown == pytest.approx(0.05)
    standing = ledger.release_bot("c", NOW + 5, "captain", force=True)
    assert standing.drawdown == pytest.approx(0.05)
    assert standing.capital == 1_900.0


def test_drawdown_when_a_deposit_comes_while_equity_is_not_known_then_it_is_taken_up_later(
    ledger: Ledger,
) -> None:
    ledger.heartbeat("a", NOW + 1, None, 4_000.0, [])
    standing = ledger.heartbeat("a", NOW + 2, 5_000.0, 4_000.0, [])
    assert (standing.capital, standing.peak) == (6_000.0, pytest.approx(6_000.0))
    assert ledger.heartbeat("a", NOW + 3, 4_400.0, 4_000.0, []).drawdown == pytest.approx(0.1)


# -- Operators ---------------------------------------------------------------------------------------------


def test_release_bot_when_silent_then_it_leaves_with_all_it_had(ledger: Ledger) -> None:
    ledger.reserve("b", "1", BTC, "long", 100.0, 1.0, NOW)
    later = NOW + 601.0
    ledger.heartbeat("a", later, 1_000.0, 0.0, [])
    standing = ledger.release_bot("b", later, "captain")
    assert (standing.margin, standing.capital, [bot.bot for bot in standing.bots]) == (0.0, 1_000.0, ["a"])
    back = ledger.heartbeat("b", later, 1_000.0, 0.0, [Holding(BTC, "long", 100.0, 1.0)])
    assert (back.margin, back.capital, back.drawdown) == (100.0, 2_000.0, 0.0)


def test_release_bot_when_it_was_heard_or_is_not_there_then_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerFault, match="b was heard 600 s ago; stop it first"):
        ledger.release_bot("b", NOW + 600.0, "captain")
    with pytest.raises(LedgerFault, match="BOT must be one of a, b; was 'x'"):
        ledger.release_bot("x", NOW, "captain")
    assert len(ledger.standing(NOW).bots) == 2


def test_standing_when_written_as_data_then_it_is_json(ledger: Ledger) -> None:
    ledger.reserve("a", "1", BTC, "long", 100.0, 1.0, NOW)
    data = json.loads(json.dumps(ledger.standing(NOW).as_data()))
    assert (data["outcome"], data["margin"], data["margin_left"], data["assets"][0]["left"]) == (
        "fine",
        100.0,
        900.0,
        400.0,
    )


# -- Currencies --------------------------------------------------------------------------------------------


def test_currency_when_a_bot_has_another_then_all_is_converted_at_its_rate(
    ledger: Ledger, opened: Open
) -> None:
    euro = opened(currency="EUR")
    assert euro.currency() == "USDT"
    standing = euro.heartbeat("e", NOW, 1_000.0, 0.0, [Holding(ETH, "long", 50.0, 1.0, 0.0)], rate=1.2)
    assert (standing.capital, standing.margin, standing.risk) == (3_200.0, 60.0, 1.2)
    decision = euro.reserve("e", "1", BTC, "long", 1_000.0, 1.0, NOW, rate=1.2)
    assert decision.most_margin == pytest.approx(800.0 / 1.2)
    assert euro.reserve("e", "1", BTC, "long", 100.0, 1.0, NOW, rate=1.2).granted
    assert ledger.standing(NOW).margin == 180.0
    standing = euro.heartbeat(
        "e", NOW + 1, 2_000.0, 1_000.0, None, rate=1.1
    )  # 1,100 deposited, 100 lost by the rate
    assert standing.capital == pytest.approx(4_200.0)
    assert standing.drawdown == pytest.approx(100.0 / 4_300.0)


@pytest.mark.parametrize("rate", [None, 0.0, -1.0, float("nan")])
def test_currency_when_no_rate_is_known_then_refused_and_positions_stay_claimed(
    ledger: Ledger, opened: Open, rate
) -> None:
    euro = opened(currency="EUR")
    euro.heartbeat("e", NOW, 1_000.0, 0.0, [Holding(ETH, "long", 50.0, 1.0)], rate=1.2)
    standing = euro.heartbeat("e", NOW, 1_000.0, 0.0, [Holding(ETH, "long", 50.0, 1.0)], rate=rate)
    assert (standing.capital, standing.margin, standing.unclear) == (3_200.0, 60.0, ())
    decision = euro.reserve("e", "1", BTC, "long", 1.0, 0.1, NOW, rate=rate)
    assert decision.outcome is Outcome.UNKNOWN
    assert decision.reason == "no rate is known from EUR to the ledger's USDT"
    assert euro.heartbeat("e", NOW, 1_000.0, 0.0, [Holding(BTC, "long", 5.0, 1.0)], rate=rate).unclear != ()


# -- What goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda ledger: ledger.heartbeat("", NOW, 1.0, 0.0, []),
        lambda ledger: ledger.heartbeat("a" * 101, NOW, 1.0, 0.0, []),
        lambda ledger: ledger.heartbeat("a", float("nan"), 1.0, 0.0, []),
        lambda ledger: ledger.heartbeat("a", NOW, 1.0, float("nan"), []),
        lambda ledger: ledger.heartbeat("a", NOW, 1.0, 0.0, [None]),
        lambda ledger: ledger.reserve("a", "k\0", BTC, "long", 1.0, 1.0, NOW),
        lambda ledger: ledger.reserve("a", "k", "X" * 101, "long", 1.0, 1.0, NOW),
        lambda ledger: ledger.standing(None),
    ],
)
def test_ledger_when_called_with_garbage_then_a_fault_and_nothing_stored(
    ledger: Ledger, url: str, call
) -> None:
    before = len(events(url))
    with pytest.raises(LedgerFault):
        call(ledger)
    assert len(events(url)) == before
    assert ledger.standing(NOW).margin == 0.0


def test_ledger_when_a_row_is_corrupt_then_a_fault(ledger: Ledger, url: str) -> None:
    with create_engine(url if "://" in url else f"sqlite:///{url}").begin() as connection:
        connection.execute(text("update plimsoll_ledger set drawdown = '{}'"))
    with pytest.raises(LedgerFault, match="cannot be used"):
        ledger.reserve("a", "1", BTC, "long", 1.0, 0.1, NOW)


def test_ledger_when_somebody_holds_the_lock_then_a_fault_within_the_timeout(
    ledger: Ledger, opened: Open, url: str
) -> None:
    quick, patient = opened(timeout=4.0), opened()  # longer than the seconds it has where none are told
    for each in (quick, patient):
        answered(lambda each=each: each.standing(NOW))
    blocker = create_engine(
        url if "://" in url else f"sqlite:///{url}", isolation_level=None if "://" in url else "AUTOCOMMIT"
    )
    with blocker.connect() as connection:
        if "://" in url:
            schema.lock(connection)
        else:
            connection.exec_driver_sql("begin immediate")
        begun = time.monotonic()
        with pytest.raises(LedgerFault):
            quick.reserve("a", "1", BTC, "long", 1.0, 0.1, NOW)
        assert 3.9 < time.monotonic() - begun < 60.0
        assert patient.standing(NOW).margin == 0.0  # reading waits for nobody
        connection.rollback() if "://" in url else connection.exec_driver_sql("rollback")
    assert answered(lambda: quick.reserve("a", "1", BTC, "long", 1.0, 0.1, NOW)).granted


def test_book_when_two_read_the_same_without_the_lock_then_the_second_is_refused(postgres_url: str) -> None:
    Ledger(postgres_url, Limits(), "USDT", PATIENT, readings=ONE).heartbeat("a", NOW, 1_000.0, 0.0, [])
    engine = create_engine(postgres_url)
    claims = [Claim("a", key, BTC, "BTC", "long", 200.0, 1.0, "reserved", NOW) for key in "12"]
    with engine.connect() as first, engine.connect() as second:
        books = [Book(connection, NOW, lock=False) for connection in (first, second)]
        for book, claim in zip(books, claims, strict=True):
            book.put(claim, "reserved")
        books[0].save()
        first.commit()
        with pytest.raises(LedgerFault, match="did not wait for its lock"):
            books[1].save()
    engine.dispose()
    assert len(rows(postgres_url, select(schema.claims))) == 1


def test_ledger_when_used_in_a_forked_process_then_both_go_on(ledger: Ledger) -> None:
    child = multiprocessing.get_context("fork").Process(
        target=lambda: os._exit(0 if ledger.reserve("a", "child", BTC, "long", 10.0, 0.1, NOW).granted else 1)
    )
    child.start()
    child.join(PATIENT)
    assert child.exitcode == 0
    assert ledger.reserve("a", "parent", BTC, "long", 10.0, 0.1, NOW).granted
    assert ledger.standing(NOW).margin == 20.0


def test_ledger_when_created_by_many_at_once_then_there_is_one(url: str) -> None:
    results: list[Any] = []

    def join(number: int) -> None:
        ledger = Ledger(url, Limits(), "USDT", PATIENT, readings=ONE)
        try:
            results.append(ledger.heartbeat(f"bot {number}", NOW, 100.0, 0.0, []).capital)
        except LedgerFault as fault:
            results.append(fault)
        ledger.close()

    threads = [threading.Thread(target=join, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [100.0 * number for number in range(1, 9)]


def test_ledger_when_opened_by_an_operator_and_there_is_none_then_none_is_made(url: str) -> None:
    with pytest.raises(LedgerFault, match="there is no ledger"):
        Ledger(url, None, None, PATIENT).standing(NOW)
    if "://" not in url:
        assert not Path(url).exists()
    else:
        assert inspect(create_engine(url)).get_table_names() == []


def test_ledger_when_imported_then_freqtrade_is_not() -> None:
    code = "import sys, plimsoll.portfolio; sys.exit('freqtrade' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=600).returncode == 0


# -- Versions ----------------------------------------------------------------------------------------------

VERSION_1 = """
create table plimsoll_ledger (id integer not null primary key, version integer not null, currency varchar(100) not null,
    sequence bigint not null, flow double precision not null, drawdown text);
create table plimsoll_ledger_bots (bot varchar(100) not null primary key, time double precision not null,
    capital double precision not null, equity double precision not null, known boolean not null, flow double precision not null,
    readings text not null, recorded double precision not null);
create table plimsoll_ledger_claims (bot varchar(100) not null, "key" varchar(200) not null, pair varchar(100) not null,
    asset varchar(100) not null, side varchar(5) not null, margin double precision not null, risk double precision not null,
    state varchar(9) not null, time double precision not null, primary key (bot, "key"));
create table plimsoll_ledger_history (sequence bigint not null primary key, time double precision not null,
    event varchar(20) not null, bot varchar(100) not null, "key" varchar(200) not null, pair varchar(100) not null,
    asset varchar(100) not null, side varchar(5) not null, margin double precision not null, risk double precision not null,
    equity double precision, total_capital double precision not null, total_margin double precision not null,
    total_risk double precision not null, asset_margin double precision not null, margin_cap double precision not null,
    asset_cap double precision not null, risk_cap double precision not null, "over" boolean not null, halted boolean not null);
insert into plimsoll_ledger values (1, 1, 'USDT', 1, 1000.0, null);
insert into plimsoll_ledger_bots values ('a', 1800000000.0, 1000.0, 1000.0, true, 0.0,
    '{"time": 1800000000, "flow": 0.0, "units": 1.0, "recent": [1000.0], "value": 1000.0}', 1000.0);
insert into plimsoll_ledger_claims values ('a', 'k', 'BTC/USDT:USDT', 'BTC', 'long', 200.0, 2.0, 'confirmed', 1800000000.0);
insert into plimsoll_ledger_history values (1, 1800000000.0, 'reserved', 'a', 'k', 'BTC/USDT:USDT', 'BTC', 'long', 200.0, 2.0, null,
    1000.0, 200.0, 2.0, 200.0, 500.0, 250.0, 60.0, false, false);
"""


@pytest.fixture
def version_1(url: str) -> str:
    if "://" not in url:
        Path(url).parent.mkdir()
    with create_engine(url if "://" in url else f"sqlite:///{url}").begin() as connection:
        for statement in VERSION_1.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    return url


def test_migration_when_the_ledger_is_of_version_1_then_a_bot_migrates_it_and_all_is_there(
    version_1: str, opened: Open
) -> None:
    ledger = opened()
    standing = ledger.standing(NOW)
    assert (standing.margin, standing.capital, standing.limits) == (200.0, 1_000.0, Limits())
    assert not ledger.reserve("a", "2", BTC, "long", 51.0, 1.0, NOW).granted
    assert ledger.reserve("a", "2", BTC, "long", 50.0, 1.0, NOW).granted
    assert ledger.heartbeat("a", NOW, 1_000.0, 0.0, None).outcome is Outcome.FINE
    assert events(version_1)[:2] == ["reserved", "reserved"]
    assert rows(version_1, select(schema.ledger.c.version))[0].version == schema.VERSION
    engine = create_engine(version_1 if "://" in version_1 else f"sqlite:///{version_1}")
    for table in schema.metadata.tables.values():
        found = {column["name"] for column in inspect(engine).get_columns(table.name)}
        assert found == {column.name for column in table.columns}, table.name


def test_migration_when_only_an_operator_looks_then_nothing_is_migrated(version_1: str) -> None:
    with pytest.raises(LedgerFault, match=f"version 1, this Plimsoll needs {schema.VERSION}"):
        Ledger(version_1, None, None, PATIENT).standing(NOW)
    assert rows(version_1, select(schema.ledger.c.version))[0].version == 1


def test_migration_when_the_ledger_becomes_newer_while_a_bot_runs_then_a_fault_that_says_so(
    ledger: Ledger, url: str
) -> None:
    with create_engine(url if "://" in url else f"sqlite:///{url}").begin() as connection:
        connection.execute(text("update plimsoll_ledger set version = 99"))
    with pytest.raises(LedgerFault, match=rf"newer Plimsoll \(version 99, this one knows {schema.VERSION}\)"):
        ledger.reserve("a", "1", BTC, "long", 1.0, 0.1, NOW)
    with pytest.raises(LedgerFault, match="newer Plimsoll"):
        Ledger(url, Limits(), "USDT", PATIENT).standing(NOW)


# -- A server that is not there ----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["freeze", "stop", "kill"])
def test_ledger_when_the_network_to_postgres_is_cut_then_a_fault_in_time_and_it_works_again_afterwards(
    postgres_server: Postgres, postgres_url: str, end: str
) -> None:
    Ledger(postgres_url, Limits(), "USDT", PATIENT, readings=ONE).heartbeat("a", NOW, 1_000.0, 0.0, [])
    ledger = Ledger(postgres_url, Limits(), "USDT", 2.0, readings=ONE)
    assert answered(lambda: ledger.reserve("a", "before", BTC, "long", 10.0, 0.1, NOW)).granted
    getattr(postgres_server, end)()
    for _ in range(2):  # on the connection it had, and on a new one
        begun = time.monotonic()
        with pytest.raises(LedgerFault) as caught:
            ledger.reserve("a", "during", BTC, "long", 10.0, 0.1, NOW)
        assert time.monotonic() - begun < 30.0
        assert "\n" not in str(caught.value)
    postgres_server.thaw() if end == "freeze" else postgres_server.start()
    assert answered(lambda: ledger.reserve("a", "after", BTC, "long", 10.0, 0.1, NOW)).granted
    held = [Holding(BTC, "long", 20.0, 0.2)]
    assert answered(lambda: ledger.heartbeat("a", NOW + 100.0, 1_000.0, 0.0, held)).margin == 20.0
    ledger.close()


def test_ledger_when_frozen_within_a_transaction_then_a_fault_in_time_and_nobody_waits_for_it_later(
    postgres_server: Postgres, postgres_url: str
) -> None:
    Ledger(postgres_url, Limits(), "USDT", PATIENT, readings=ONE).heartbeat("a", NOW, 1_000.0, 0.0, [])
    ledger = Ledger(postgres_url, Limits(), "USDT", 2.0, readings=ONE)
    faults: list[float] = []
    granted, stop = [], threading.Event()

    def go_on() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            begun = time.monotonic()
            try:
                granted.append(ledger.reserve("a", str(number), BTC, "long", 0.001, 0.0, NOW).granted)
            except LedgerFault:
                faults.append(time.monotonic() - begun)

    thread = threading.Thread(target=go_on)
    thread.start()

    def until(there: Callable[[], bool]) -> None:
        ends = time.monotonic() + PATIENT
        while not there():
            assert time.monotonic() < ends
            time.sleep(0.01)

    try:
        until(lambda: len(granted) >= 3)
        postgres_server.freeze()
        before = len(faults)
        until(lambda: len(faults) >= before + 2)  # on the connection it had, and on a new one
        postgres_server.thaw()
        after = len(granted)
        until(lambda: len(granted) > after)
    finally:
        postgres_server.thaw()
        stop.set()
        thread.join(PATIENT)
    assert not thread.is_alive()
    assert max(faults) < 30.0
    assert (
        Ledger(postgres_url, Limits(), "USDT", 20.0, readings=ONE)
        .reserve("a", "x", BTC, "long", 1.0, 0.0, NOW)
        .granted
    )


def test_ledger_when_postgres_is_not_there_then_a_fault_without_the_password() -> None:
    ledger = Ledger("postgresql+psycopg://u:se%40cret@127.0.0.1:9/x?password=other", Limits(), "USDT")
    with pytest.raises(LedgerFault) as caught:
        ledger.standing(NOW)
    assert "127.0.0.1" in str(caught.value)
    for secret in ("se@cret", "se%40cret", "other"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/x", "postgresql+nothing://u:secret@h/x", "no url://secret"]
)
def test_ledger_when_its_url_cannot_be_used_then_a_fault_without_the_password(url: str) -> None:
    with pytest.raises(LedgerFault) as caught:
        Ledger(url, Limits(), "USDT").standing(NOW)
    assert "secret" not in str(caught.value)


def test_ledger_when_its_file_is_none_then_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("no database" * 1_000, encoding="utf-8")
    for place in (path, tmp_path, path / "below"):
        with pytest.raises(LedgerFault):
            Ledger(str(place), Limits(), "USDT").standing(NOW)


def test_ledger_when_in_memory_then_it_lives_as_long_as_it(tmp_path: Path) -> None:
    ledger = Ledger("sqlite://", Limits(), "USDT", readings=ONE)
    ledger.heartbeat("a", NOW, 1_000.0, 0.0, [])
    assert ledger.reserve("a", "1", BTC, "long", 250.0, 1.0, NOW).granted
    assert not ledger.reserve("a", "2", BTC, "long", 1.0, 1.0, NOW).granted


# -- Settings ----------------------------------------------------------------------------------------------


def test_limits_when_configured_then_they_are_the_ledgers() -> None:
    section = load({"portfolio": {"heat": 0.03, "silent_minutes": 2.0, "ledger": "x.sqlite"}}).portfolio
    assert limits_of(section) == Limits(heat=0.03, silent_seconds=120.0)
    assert limits_of(load().portfolio) == Limits()


def test_address_when_the_environment_has_one_then_it_wins() -> None:
    assert address("x.sqlite", {"PLIMSOLL_LEDGER_URL": "postgresql://h/x"}) == "postgresql://h/x"
    assert address("x.sqlite", {}) == "x.sqlite"
    assert address("~/x.sqlite", {}) == str(Path.home() / "x.sqlite")
    assert address(None, {}) is None
    with pytest.raises(LedgerFault, match="must be a path") as caught:
        address("postgresql://u:secret@h/x", {})
    assert "secret" not in str(caught.value)
