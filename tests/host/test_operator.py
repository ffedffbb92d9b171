"""The operator's words on every channel: each heard, heard once, whenever the bot is killed."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from attended import CHECK_INS, RESETS, Attended, Killed, commits_of, killed_after
from attended import bot_database as bot_database
from attended import reused_postgres as reused_postgres
from freqtrade.persistence import PairLocks, Trade
from freqtrade.persistence.pairlock import PairLock
from host_database import active_locks, remove_lock
from sqlalchemy import select, text

from plimsoll.host.operator import CHECK_IN, RESET

pytestmark = pytest.mark.usefixtures("bot_database")
HOURS = 24
REMOVALS = CHECK_INS[2:]  # of the sentinel lock


def named(function: Any) -> str:
    return str(function.__name__)


# -- Check-ins ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check_in", CHECK_INS, ids=named)
def test_check_in_when_made_on_any_channel_then_is_heard_once_and_dated_when_it_was_made(
    check_in: Any,
) -> None:
    life = Attended().started()
    life.pass_hours(3)
    life.steady()
    # Freqtrade dates a removal by the wall clock.
    now = time.time if check_in in REMOVALS else lambda: life.seconds
    begin = int(now())
    check_in(life)
    end = now()
    life.bot.said.clear()
    life.steady(3)

    assert life.heard("checked in at") == 1
    assert begin <= life.switch.checked_in <= end
    assert life.switch.by
    checked_in = life.switch.checked_in
    life.again()
    life.bot.said.clear()
    life.steady(3)
    assert life.heard("checked in") == 0
    assert life.switch.checked_in == checked_in


@pytest.mark.parametrize("check_in", CHECK_INS, ids=named)
def test_check_in_when_made_while_the_bot_is_down_then_is_heard_at_its_start(check_in: Any) -> None:
    life = Attended().started()
    life.pass_hours(1)
    check_in(life)
    life.again()
    life.bot.said.clear()
    life.steady(2)

    assert life.heard("checked in at") == 1


@pytest.mark.parametrize("check_in", CHECK_INS, ids=named)
def test_check_in_when_it_comes_after_the_switch_tripped_then_entries_stay_blocked(check_in: Any) -> None:
    life = Attended().started()
    if check_in in REMOVALS:  # a lock that is gone once it tripped: removed just too late
        sentinel = life.sentinels()[0].id
        life.pass_hours(HOURS + 1)
        life.unlock(lock=sentinel, at=life.now - timedelta(minutes=1))
    else:
        life.pass_hours(HOURS + 1)
        life.steady()
        assert list(life.blocking()) == ["deadman"]
        check_in(life)
    life.steady(3)

    assert list(life.blocking()) == ["deadman"]
    assert life.heard("stays so until it is reset: plimsoll reset deadman") == 1
    life.again()
    life.steady(2)
    assert list(life.blocking()) == ["deadman"]


@pytest.mark.parametrize("hours_down", [0.0, 30.0])
@pytest.mark.parametrize("channel", ["request", "post", "removal"])
def test_check_in_when_made_in_time_but_heard_after_the_deadline_then_nothing_trips(
    channel: str, hours_down: float
) -> None:
    life = Attended().started()
    last = life.switch.checked_in
    life.minute += HOURS * 60 - life.minute - 3  # the loop before the deadline
    life.steady()
    made = last + HOURS * 3600 - 30
    if channel == "request":
        life.ask("checkin", time=made)
    else:
        when = life.now + timedelta(seconds=made - life.seconds)
        if channel == "post":
            life.post(CHECK_IN, time=when)
        else:
            life.unlock(CHECK_IN, at=when)
    life.again()
    life.pass_hours(hours_down / 2)
    life.minute += 5
    life.steady(2)

    assert life.switch.checked_in == made
    assert life.blocking() == {}


def test_check_in_when_dated_in_the_future_then_counts_as_made_now() -> None:
    life = Attended().started()
    life.pass_hours(2)
    life.steady()
    life.ask("checkin", time=life.seconds + 90 * 3600)
    life.steady(2)
    assert life.switch.checked_in <= life.seconds

    life.post(CHECK_IN, time=life.now + timedelta(days=9))
    life.steady(2)
    assert life.switch.checked_in <= life.seconds
    life.pass_hours(HOURS)
    life.steady()
    assert list(life.blocking()) == ["deadman"]


def test_check_in_when_a_removal_is_dated_in_the_future_then_waits_for_that_moment() -> None:
    life = Attended().started()
    life.unlock(CHECK_IN, at=life.now + timedelta(minutes=5))
    life.bot.said.clear()
    life.steady(3)
    assert life.heard("checked in") == 0
    assert len(life.sentinels()) == 1
    life.steady(5)
    assert life.heard("checked in") == 1


def test_check_in_when_the_switch_is_off_then_the_answer_says_so() -> None:
    life = Attended(off=["deadman"]).started()
    request = life.ask("checkin")
    life.steady()

    assert life.answer(request) == "the dead man's switch is off; nothing waits for a check-in"
    assert life.sentinels() == []


# -- The lock that is a button ------------------------------------------------------------------------------------------------------


def test_sentinel_when_the_bot_runs_then_there_is_one_that_blocks_no_market_and_says_when_it_is_due() -> None:
    life = Attended().started()
    (sentinel,) = life.sentinels()

    assert not PairLocks.is_pair_locked("BTC/USDT:USDT", life.now)
    assert not PairLocks.is_global_lock(life.now)
    assert "removing this lock (/unlock PLIMSOLL/CHECKIN)" in sentinel.reason
    assert len(sentinel.reason) <= 255
    life.steady(5)
    life.again()
    life.steady(5)
    assert [each.id for each in life.sentinels()] == [sentinel.id]


def test_sentinel_when_we_replace_it_ourselves_then_that_is_no_check_in() -> None:
    life = Attended().started()
    for _ in range(4):
        life.pass_hours(1)
        life.ask("checkin")
        life.steady(3)
    checked_in = life.switch.checked_in
    every = select(PairLock).where(PairLock.pair == CHECK_IN)
    assert len(PairLock.session.scalars(every).all()) == 5
    life.bot.said.clear()
    for _ in range(3):
        life.again()
        life.steady(2)
        life.pass_hours(1)
        life.steady(2)

    assert life.heard("checked in") == 0
    assert life.switch.checked_in == checked_in
    assert len(life.sentinels()) == 1


def test_sentinel_when_the_switch_trips_then_it_goes_and_that_is_no_check_in() -> None:
    life = Attended().started()
    life.pass_hours(HOURS)
    life.steady(3)
    assert life.sentinels() == []
    life.again()
    life.steady(3)

    assert life.heard("checked in") == 0
    assert list(life.blocking()) == ["deadman"]


def test_sentinel_when_removed_again_and_again_then_each_is_heard() -> None:
    life = Attended().started()
    for _ in range(5):
        life.pass_hours(0.5)
        life.unlock(CHECK_IN, at=life.now + timedelta(seconds=7, microseconds=900_000))
        life.steady(2)
    assert life.heard("checked in") == 5


def test_sentinel_when_somebody_in_our_process_still_holds_it_then_its_removal_is_dated_right() -> None:
    life = Attended().started()
    held = life.sentinels()  # a strategy that looked at the locks
    assert held[0].lock_end_time_utc > life.now  # loaded, and not expired by a commit
    at = life.now + timedelta(seconds=20)
    with Trade.session.get_bind().begin() as connection:  # another thread's session
        connection.execute(
            text("UPDATE pairlocks SET active = :no, lock_end_time = :at WHERE id = :id"),
            {"no": False, "at": at.replace(tzinfo=None), "id": held[0].id},
        )
    life.steady(2)
    assert life.switch.checked_in == int(at.timestamp())

    life.pass_hours(1)
    life.steady()
    life.unlock(CHECK_IN, at=life.now)
    life.steady()
    assert life.heard("checked in") == 2


def test_sentinel_when_removed_while_a_loop_runs_then_is_heard_in_the_next(monkeypatch: Any) -> None:
    life = Attended().started()
    saved = type(life.watch._operator).saved

    def removed_just_before(self: Any, now: Any, due: Any) -> None:
        monkeypatch.undo()
        life.unlock(CHECK_IN, at=now + timedelta(seconds=1))
        saved(self, now, due)

    monkeypatch.setattr(type(life.watch._operator), "saved", removed_just_before)
    life.steady(3)

    assert life.heard("checked in") == 1
    assert len(life.sentinels()) == 1


# -- Resets -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", RESETS, ids=named)
@pytest.mark.parametrize("breaker", ["drawdown", "deadman"])
def test_reset_when_asked_for_on_any_channel_then_the_breaker_starts_anew_once(
    reset: Any, breaker: str
) -> None:
    life = Attended().started()
    if breaker == "drawdown":
        life.trip()
    else:
        life.pass_hours(HOURS + 1)
        life.steady(2)
    assert breaker in life.blocking()
    life.bot.said.clear()
    reset(life, breaker)
    life.steady(4)

    assert life.blocking() == {}
    assert life.shut() == []
    assert active_locks() == []
    assert life.heard("starts anew from here") == 1
    if breaker == "drawdown":
        life.trip()
    else:
        life.pass_hours(HOURS + 1)
        life.steady(2)
    life.again()
    life.steady(3)
    assert breaker in life.blocking()  # the word of then is no word for now
    assert life.heard("starts anew from here") == 1


@pytest.mark.parametrize("reset", RESETS, ids=named)
def test_reset_when_asked_for_while_the_bot_is_down_then_the_breaker_starts_anew(reset: Any) -> None:
    life = Attended().started()
    life.trip()
    reset(life, "drawdown")
    life.again()
    life.steady(4)

    assert life.blocking() == {}
    assert active_locks() == []


def test_reset_when_the_breaker_is_not_known_then_it_is_refused_with_those_that_are() -> None:
    life = Attended().started()
    life.trip()
    request = life.ask("reset", "drawdwon")
    life.post(RESET, "nonsense")
    life.steady(2)

    answer = life.answer(request)
    assert answer is not None
    assert answer.startswith("refused: there is no breaker 'drawdwon', there are ")
    assert "drawdown" in answer
    assert list(life.blocking()) == ["drawdown"]
    assert [lock for lock in active_locks() if lock.pair == RESET] == []


def test_reset_when_the_breaker_has_not_tripped_then_only_its_reference_is_new() -> None:
    life = Attended().started()
    life.equity = 9_500.0
    life.steady(5)
    life.ask("reset", "drawdown")
    life.steady(5)
    life.equity = 8_700.0  # 13 % under the old peak, 8.4 % under the new one
    life.steady(5)

    assert life.blocking() == {}


def test_command_when_not_known_then_it_is_refused_and_others_are_heard() -> None:
    life = Attended().started()
    strange, good = life.ask("frobnicate"), life.ask("checkin")
    life.steady()

    assert life.answer(strange) == "refused: this Plimsoll knows no command 'frobnicate'"
    assert str(life.answer(good)).startswith("checked in at")


def test_request_when_for_another_bot_then_is_left_alone() -> None:
    life = Attended().started()
    request = life.ask("checkin", bot="Other")
    life.steady(3)

    assert life.answer(request) is None
    assert life.heard("checked in") == 0


def test_lock_when_posted_before_plimsoll_ever_ran_then_is_not_meant_for_us() -> None:
    life = Attended()
    life.post(CHECK_IN)
    life.post(RESET, "drawdown")
    life.started()

    assert life.heard("checked in") == 0
    assert life.heard("starts anew") == 0


# -- Killed, or without a database, at any instant ------------------------------------------------------------------------------------


def speak(life: Attended, case: str) -> None:
    if case == "all at once":
        life.ask("reset", "drawdown")
        life.ask("checkin")
        life.post(CHECK_IN, "posted")
        life.ask("frobnicate")
    elif case == "posted":
        life.post(RESET, "drawdown")
        life.unlock(CHECK_IN, at=life.now)
    else:
        remove_lock(active_locks()[0])
        life.ask("checkin")


CASES = ["all at once", "posted", "lock removed"]


@pytest.mark.parametrize("case", CASES)
def test_words_when_the_bot_is_killed_after_any_commit_then_none_is_lost_and_none_is_heard_again(
    case: str,
) -> None:
    def prepared() -> Attended:
        life = Attended().started()
        life.equity = Attended.equity
        life.trip()
        life.pass_hours(2)
        life.steady()
        speak(life, case)
        life.bot.said.clear()
        return life

    with_all = prepared()
    commits = commits_of(with_all.steady)
    assert commits >= 2
    for number in range(1, commits + 1):
        for table in ("plimsoll_memory", "plimsoll_requests", "plimsoll_status", "pairlocks"):
            with Trade.session.get_bind().begin() as connection:
                connection.execute(text(f"DELETE FROM {table}"))
        life = prepared()
        spoken = life.seconds
        with pytest.raises(Killed), killed_after(number):
            life.steady()
        life.restart()
        life.steady(3)

        assert life.blocking() == {}, number
        assert life.switch.checked_in == spoken, number
        assert life.heard("checked in at") >= 1, number
        with Trade.session.get_bind().connect() as connection:
            left = connection.execute(text("SELECT count(*) FROM plimsoll_requests WHERE handled IS NULL"))
            assert left.scalar() == 0, number
        assert len(life.sentinels()) == 1, number
        assert active_locks() == [], number
        life.trip()
        life.bot.said.clear()
        life.again()
        life.steady(3)
        assert list(life.blocking()) == ["drawdown"], number
        assert life.heard("checked in") == life.heard("anew") == 0, number


@pytest.mark.parametrize("failing", ["_posted", "_sentinel_removed", "_asked"])
def test_words_when_the_database_fails_while_they_are_read_then_none_is_lost(
    failing: str, monkeypatch: Any
) -> None:
    life = Attended().started()
    life.trip()
    life.post(RESET, "drawdown")
    life.unlock(CHECK_IN, at=life.now)
    request = life.ask("checkin")

    def fails(*_: Any) -> Any:
        raise ConnectionError("the database is gone")

    monkeypatch.setattr(type(life.watch._operator), failing, fails)
    life.steady()
    assert "the database is gone" in str(life.watch.blocker)
    monkeypatch.undo()
    life.steady(3)

    assert life.watch.blocker is None
    assert life.blocking() == {}
    assert life.heard("by a removed lock") == 1
    assert str(life.answer(request)).startswith("checked in")


def test_words_when_one_cannot_be_acted_on_then_the_others_are_not_lost(monkeypatch: Any) -> None:
    life = Attended().started()
    life.trip()
    life.unlock(CHECK_IN, at=life.now)
    life.post(RESET, "drawdown", time=life.now + timedelta(seconds=30))

    def fails(*_: Any) -> Any:
        raise RuntimeError("no check-in")

    monkeypatch.setattr(type(life.run.breakers), "check_in", fails)
    life.steady(2)
    assert life.watch.blocker is not None
    monkeypatch.undo()
    life.steady(4)

    assert life.blocking() == {}
    assert life.heard("checked in at") == 1


def test_words_when_they_cannot_be_stored_then_are_answered_once_they_can(monkeypatch: Any) -> None:
    life = Attended().started()
    request = life.ask("checkin")

    def fails(*_: Any) -> Any:
        raise ConnectionError("the database is gone")

    monkeypatch.setattr(type(life.watch._operator), "write_answers", fails)
    life.steady(2)
    assert life.answer(request) is None
    assert life.watch.blocker is not None
    monkeypatch.undo()
    life.steady(2)

    assert str(life.answer(request)).startswith("checked in")
    assert life.heard("checked in at") == 1


def test_answer_when_the_memory_cannot_be_written_then_nothing_of_the_loop_is(monkeypatch: Any) -> None:
    life = Attended().started()
    request = life.ask("checkin")

    def status() -> dict[str, Any]:
        return {"loop": life.watch.loops}

    def fails(*_: Any) -> Any:
        raise ConnectionError("the database is gone")

    def stored() -> tuple[Any, ...]:
        with Trade.session.get_bind().connect() as connection:
            memory = connection.execute(text("SELECT value FROM plimsoll_memory")).scalar()
            told = connection.execute(text("SELECT value FROM plimsoll_status")).scalar()
        return memory, told, life.answer(request)

    def loop() -> None:
        life.minute += 1
        life.run.collect(life.now)
        life.watch.step(life.run.breakers, life.now, life.equity, None, status)

    before = stored()
    monkeypatch.setattr("plimsoll.bridge.write_status", fails)  # the last write of the transaction
    loop()
    assert stored() == before
    monkeypatch.undo()
    loop()
    memory, told, answer = stored()
    assert memory != before[0]
    assert told is not None
    assert answer is not None


# -- The dead man's clock -------------------------------------------------------------------------------------------------------------


def test_deadman_when_the_bot_restarts_again_and_again_then_its_clock_goes_on() -> None:
    life = Attended().started()
    began = life.switch.checked_in
    for _ in range(HOURS - 2):
        life.again()
        life.pass_hours(1)
        life.steady()
        assert life.switch.checked_in == began
    assert life.blocking() == {}
    life.again()
    life.minute = HOURS * 60  # one minute short of what the first loop began
    life.loop(life.equity)
    assert ("deadman" in life.blocking()) == (life.seconds - began >= HOURS * 3600)
    life.steady(2)
    assert list(life.blocking()) == ["deadman"]


def test_deadman_when_time_passes_then_each_level_is_said_once_with_the_way_to_check_in() -> None:
    life = Attended().started()
    life.bot.said.clear()
    for _ in range(26 * 4):
        life.minute += 14
        life.steady()
    said = [message for message in life.bot.said if message.startswith("Plimsoll: deadman: ")]
    assert len(said) == 3
    assert all("/unlock PLIMSOLL/CHECKIN" in message for message in said[:2])
    assert "entries stopped at" in said[2]
    assert "unlock" not in said[2]
