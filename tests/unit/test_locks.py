"""Locks in Freqtrade's own table: they show what the breakers decided, and their removal is a reset."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest
from freqtrade.persistence import PairLocks
from host_database import STARTED, active_locks, database, remove_lock

from plimsoll.host.breakers import BOT_WIDE, Machine
from plimsoll.host.locks import LONGEST_REASON, Locks
from plimsoll.rules import drawdown
from plimsoll.rules.breaker import Verdict

NOW = STARTED
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _database():
    with database():
        yield


def machine(
    *,
    blocked: bool,
    hours: float | None = 2.0,
    reason: str = "reason",
    unknown: bool = False,
    pair: str = BOT_WIDE,
):
    until = None if hours is None else int((NOW + hours * HOUR).timestamp())
    verdict = Verdict(
        "daily_loss",
        blocked,
        0.0 if blocked else 1.0,
        None,
        until if blocked else None,
        reason,
        False,
        unknown,
    )
    return Machine(drawdown, drawdown.Config(), pair, verdict=verdict)


def test_lock_when_a_breaker_trips_then_is_shown_with_its_reason():
    text = "daily loss 5.2 % of 10,000, limit 5 %, until 2026-01-02 00:00 UTC"
    assert Locks().sync([("daily_loss", machine(blocked=True, reason=text))], NOW) == []

    (lock,) = active_locks()
    assert lock.pair == "*"
    assert lock.side == "*"
    assert lock.reason == f"Plimsoll daily_loss: {text}"
    assert timedelta(0) <= lock.lock_end_time_utc - (NOW + 2 * HOUR) <= timedelta(minutes=5)
    assert PairLocks.is_pair_locked("ETH/USDT:USDT", NOW)


def test_lock_when_the_breaker_speaks_for_a_pair_then_only_that_pair_is_locked():
    Locks().sync([("liquidated BTC", machine(blocked=True, hours=None, pair="BTC/USDT:USDT"))], NOW)

    assert PairLocks.is_pair_locked("BTC/USDT:USDT", NOW)
    assert not PairLocks.is_pair_locked("ETH/USDT:USDT", NOW)


def test_lock_when_nothing_ends_the_block_then_lasts_for_years():
    Locks().sync([("drawdown", machine(blocked=True, hours=None))], NOW)

    assert PairLocks.is_pair_locked("ETH/USDT:USDT", NOW + timedelta(days=3000))


@pytest.mark.parametrize("kwargs", [{"blocked": False}, {"blocked": True, "unknown": True}])
def test_lock_when_the_breaker_has_not_tripped_then_there_is_none(kwargs):
    Locks().sync(
        [("daily_loss", machine(**kwargs)), ("weekly_loss", Machine(drawdown, drawdown.Config()))], NOW
    )

    assert active_locks() == []


def test_lock_when_the_verdict_stays_then_is_made_once():
    locks = Locks()
    for minute in range(0, 100, 7):
        assert locks.sync([("daily_loss", machine(blocked=True))], NOW + minute / 60 * HOUR) == []

    assert len(active_locks()) == 1


def test_lock_when_the_block_ends_then_is_released():
    locks = Locks()
    locks.sync(
        [("daily_loss", machine(blocked=True)), ("streak", machine(blocked=True, reason="other"))], NOW
    )

    assert (
        locks.sync(
            [("daily_loss", machine(blocked=False)), ("streak", machine(blocked=True, reason="other"))],
            NOW + HOUR,
        )
        == []
    )
    assert [lock.reason for lock in active_locks()] == ["Plimsoll streak: other"]


def test_lock_when_the_block_is_extended_then_reaches_as_far():
    locks = Locks()
    locks.sync([("streak", machine(blocked=True, hours=1.0, reason="3 losses"))], NOW)
    locks.sync([("streak", machine(blocked=True, hours=2.0, reason="4 losses"))], NOW)

    assert PairLocks.is_pair_locked("ETH/USDT:USDT", NOW + 1.9 * HOUR)
    assert (
        locks.sync([("streak", machine(blocked=True, hours=2.0, reason="4 losses"))], NOW + 1.5 * HOUR) == []
    )


def test_lock_when_extended_and_then_removed_by_hand_then_none_is_left():
    locks = Locks()
    locks.sync([("streak", machine(blocked=True, hours=1.0, reason="3 losses"))], NOW)
    locks.sync([("streak", machine(blocked=True, hours=2.0, reason="4 losses"))], NOW)
    remove_lock(next(lock for lock in active_locks() if "4 losses" in lock.reason))

    assert locks.sync([("streak", machine(blocked=True, hours=2.0, reason="4 losses"))], NOW) == ["streak"]
    assert not PairLocks.is_pair_locked("ETH/USDT:USDT", NOW)


def test_lock_when_removed_by_hand_then_its_breaker_is_named_once():
    locks = Locks()
    both = [("daily_loss", machine(blocked=True)), ("streak", machine(blocked=True, reason="other"))]
    locks.sync(both, NOW)
    remove_lock(next(lock for lock in active_locks() if "streak" in lock.reason))

    assert locks.sync(both, NOW + 0.5 * HOUR) == ["streak"]
    assert locks.sync([both[0], ("streak", machine(blocked=False))], NOW + 0.5 * HOUR) == []
    assert [lock.reason for lock in active_locks()] == ["Plimsoll daily_loss: reason"]


def test_lock_when_it_ran_out_then_is_no_reset():
    locks = Locks()
    locks.sync([("daily_loss", machine(blocked=True))], NOW)

    assert locks.sync([("daily_loss", machine(blocked=True))], NOW + 3 * HOUR) == []
    assert locks.sync([("daily_loss", machine(blocked=False))], NOW + 4 * HOUR) == []


def test_lock_when_anothers_is_removed_then_is_no_reset():
    PairLocks.lock_pair("*", NOW + 2 * HOUR, "the operator's", now=NOW)
    locks = Locks()
    locks.sync([("daily_loss", machine(blocked=True))], NOW)
    remove_lock(next(lock for lock in active_locks() if "operator" in lock.reason))

    assert locks.sync([("daily_loss", machine(blocked=True))], NOW) == []


@pytest.mark.parametrize("removed", [False, True])
def test_locks_when_the_bot_was_restarted_then_a_removal_meanwhile_is_a_reset(removed):
    before = Locks()
    before.sync([("drawdown", machine(blocked=True, hours=None))], NOW)
    if removed:
        remove_lock(active_locks()[0])

    after = Locks()
    after.restore(before.dump())
    assert after.sync([("drawdown", machine(blocked=True, hours=None))], NOW + HOUR) == ["drawdown"] * removed
    assert len(active_locks()) == 1 - removed


def test_reason_when_longer_than_the_column_then_is_cut():
    Locks().sync([("drawdown", machine(blocked=True, reason="x" * 400))], NOW)

    assert len(active_locks()[0].reason) == LONGEST_REASON
    assert active_locks()[0].lock_time.replace(tzinfo=UTC) == NOW
