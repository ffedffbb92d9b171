"""Locks in Freqtrade's own table: they show what the breakers decided, and their removal is a reset."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest
from freqtrade.persistence import PairLocks
from host_database import STARTED, active_locks, database, remove_lock

from plimsoll.host.locks import LONGEST_REASON, Locks
from plimsoll.host.machines import BOT_WIDE, Machine
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


@pytest.mark.parametrize("pair", [BOT_WIDE, "BTC/USDT:USDT"])
def test_lock_when_the_strategy_releases_it_then_is_put_back_and_is_no_reset(pair):
    locks = Locks()
    tripped = [("drawdown", machine(blocked=True, hours=None, pair=pair))]
    locks.sync(tripped, NOW)
    (lock,) = active_locks()
    PairLocks.unlock_pair(pair, NOW)
    PairLocks.unlock_reason(lock.reason, NOW)
    assert active_locks() == []

    assert locks.sync(tripped, NOW + HOUR) == []
    assert [found.id for found in active_locks()] == [lock.id]
    assert locks.put_back == ["drawdown"]
    remove_lock(active_locks()[0])
    assert locks.sync(tripped, NOW + HOUR) == ["drawdown"]


def test_lock_when_the_strategy_releases_it_and_the_breaker_does_not_block_any_more_then_stays_released():
    locks = Locks()
    locks.sync([("streak", machine(blocked=True))], NOW)
    PairLocks.unlock_pair(BOT_WIDE, NOW)

    assert locks.sync([("streak", machine(blocked=False))], NOW) == []
    assert (active_locks(), locks.put_back) == ([], [])


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


# -- Locks that the memory does not know of: the bot was killed between a lock and the next save ---------------------------------


def restarted(before: Locks, stored: dict[str, list[int]] | None = None) -> Locks:
    after = Locks()
    after.restore(before.dump() if stored is None else stored)
    return after


def test_orphan_when_its_breaker_has_tripped_then_is_adopted_and_its_removal_is_a_reset():
    tripped = [("drawdown", machine(blocked=True, hours=None))]
    Locks().sync(tripped, NOW)
    (orphan,) = active_locks()

    after = Locks()
    assert after.sync(tripped, NOW + HOUR) == []
    assert [lock.id for lock in active_locks()] == [orphan.id]
    remove_lock(orphan)
    assert after.sync(tripped, NOW + HOUR) == ["drawdown"]


def test_orphan_when_its_breaker_has_not_tripped_then_is_ended_without_being_read_as_a_reset():
    Locks().sync([("drawdown", machine(blocked=True, hours=None))], NOW)

    after = Locks()
    for _ in range(3):
        assert after.sync([("drawdown", machine(blocked=False))], NOW + HOUR) == []
    assert active_locks() == []


def test_orphan_when_its_breaker_is_not_known_yet_then_waits_until_it_is():
    Locks().sync([("drawdown", machine(blocked=True, hours=None))], NOW)
    (orphan,) = active_locks()

    after = Locks()
    for unknown in (Machine(drawdown, drawdown.Config()), machine(blocked=True, unknown=True)):
        assert after.sync([("drawdown", unknown)], NOW + HOUR) == []
        assert [lock.id for lock in active_locks()] == [orphan.id]
    assert after.sync([("drawdown", machine(blocked=True, hours=None))], NOW + HOUR) == []
    assert [lock.id for lock in active_locks()] == [orphan.id]


def test_orphans_when_there_are_several_then_one_is_left():
    tripped = [("drawdown", machine(blocked=True, hours=None))]
    Locks().sync(tripped, NOW)
    Locks().sync([("drawdown", machine(blocked=True, hours=None, reason="other"))], NOW)
    PairLocks.lock_pair("*", NOW + 2 * HOUR, "Plimsoll drawdown: another", now=NOW)
    assert len(active_locks()) == 2  # the second adopted the first's

    after = Locks()
    assert after.sync(tripped, NOW + HOUR) == []
    assert len(active_locks()) == 1
    assert after.sync(tripped, NOW + HOUR) == []


def test_orphan_when_of_a_breaker_whose_name_begins_alike_then_is_left_alone():
    pair = ("streak BTC/USDT:USDT", machine(blocked=True, pair="BTC/USDT:USDT"))
    Locks().sync([pair], NOW)

    assert Locks().sync([("streak", machine(blocked=False)), pair], NOW) == []
    assert len(active_locks()) == 1


def test_orphan_when_left_by_an_extension_then_it_is_no_reset_and_holds():
    before = Locks()
    before.sync([("streak", machine(blocked=True, hours=1.0, reason="3 losses"))], NOW)
    stored = before.dump()
    longer = [("streak", machine(blocked=True, hours=2.0, reason="4 losses"))]
    before.sync(longer, NOW)  # and killed here

    after = restarted(before, stored)
    for _ in range(3):
        assert after.sync(longer, NOW + 0.1 * HOUR) == []
    (lock,) = active_locks()
    assert "4 losses" in lock.reason
    remove_lock(lock)
    assert after.sync(longer, NOW + 0.1 * HOUR) == ["streak"]


def test_lock_when_removed_while_its_breaker_is_unknown_then_is_a_reset_all_the_same():
    locks = Locks()
    locks.sync([("streak", machine(blocked=True))], NOW)
    remove_lock(active_locks()[0])

    removed = locks.sync([("streak", machine(blocked=True, unknown=True))], NOW)
    removed += locks.sync([("streak", machine(blocked=True))], NOW)
    assert removed == ["streak"]


def test_lock_when_removed_and_the_database_then_fails_then_the_reset_is_not_lost(monkeypatch):
    locks = Locks()
    both = [("daily_loss", machine(blocked=True)), ("streak", machine(blocked=True, reason="other"))]
    locks.sync(both[:1], NOW)
    remove_lock(active_locks()[0])

    def fails(*_, **__):
        raise ConnectionError("the database is gone")

    with monkeypatch.context() as patch:
        patch.setattr(PairLocks, "lock_pair", fails)
        with pytest.raises(ConnectionError):
            locks.sync(both, NOW)
    assert "daily_loss" in locks.sync(both, NOW)


def test_lock_when_its_breaker_was_reset_otherwise_then_its_end_is_no_second_reset():
    locks = Locks()
    tripped = [("drawdown", machine(blocked=True, hours=None))]
    locks.sync(tripped, NOW)
    locks.forget("drawdown")
    assert active_locks() == []

    assert locks.sync(tripped, NOW) == []  # tripped anew
    assert len(active_locks()) == 1
    locks.forget("never held")
    assert len(active_locks()) == 1
