"""Show tripped breakers as Freqtrade's own pair locks; a lock that an operator removes is a reset of its breaker.

A strategy that releases locks (``unlock_pair``) is no operator: what it releases of ours is put back.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from freqtrade.persistence import PairLocks
from freqtrade.persistence.pairlock import PairLock
from sqlalchemy import select, update

from plimsoll.host.machines import Machine

WITHOUT_END = timedelta(days=3650)
LONGEST_REASON = 255


class Locks:
    """Keep one lock per blocking breaker. Only a trading bot has locks: in a backtest nobody looks at them."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, int]] = {}  # breaker -> lock id, end
        self._adopted = False
        self._removed: list[str] = []  # not returned yet: what follows may fail
        self.put_back: list[
            str
        ] = []  # breakers whose lock was released by code, until somebody takes the names

    def sync(self, machines: Iterable[tuple[str, Machine]], now: datetime) -> list[str]:
        """Make the locks match the verdicts; return the breakers whose lock was removed by hand."""
        active: dict[int, Any] = {lock.id: lock for lock in PairLocks.get_pair_locks(None, now)}
        machines = list(machines)
        if not self._adopted:
            self._adopt(machines, active)
        for name, machine in machines:
            verdict = machine.verdict
            blocked = verdict is not None and verdict.blocked and not verdict.unknown
            held = self._held.get(name)
            if held is not None and held[0] not in active and now.timestamp() < held[1]:
                if verdict is not None and verdict.blocked and self._put_back(*held):
                    self.put_back.append(name)
                    continue
                del self._held[name]
                if verdict is not None and verdict.blocked:
                    self._removed.append(name)
                continue
            if verdict is None or not blocked:
                if held is not None:
                    self._release(name, active)
                continue
            until = None if verdict.until is None else datetime.fromtimestamp(verdict.until, UTC)
            if held is not None and (until is None or until.timestamp() <= held[1]):
                continue
            end = until or now + WITHOUT_END
            if end <= now:
                continue
            reason = f"{_mark(name)}{verdict.reason}"[:LONGEST_REASON]
            lock = PairLocks.lock_pair(machine.pair, end, reason, now=now)
            self._held[name] = (lock.id, int(lock.lock_end_time_utc.timestamp()))
            # The longer one is there first: a bot killed in between must not find that its lock is gone.
            if held is not None and held[0] in active and held[0] != lock.id:
                _end(active[held[0]])
        removed, self._removed = self._removed, []
        return removed

    def forget(self, name: str) -> None:
        """End the lock of a breaker that was reset otherwise, so that its end is no second reset."""
        held = self._held.pop(name, None)
        for lock in PairLocks.get_pair_locks(None) if held is not None else ():
            if held is not None and lock.id == held[0]:
                _end(lock)

    def dump(self) -> dict[str, list[int]]:
        """Return the locks held, as plain JSON: one removed while the bot was down is a reset as well."""
        return {name: list(held) for name, held in self._held.items()}

    def restore(self, stored: dict[str, list[int]]) -> None:
        """Take up what :meth:`dump` returned."""
        self._held = {name: (int(lock), int(end)) for name, (lock, end) in stored.items()}

    def _adopt(self, machines: list[tuple[str, Machine]], active: dict[int, Any]) -> None:
        # A bot killed between setting a lock and remembering it left one that nobody holds: it is the breaker's, or nobody's.
        held = {lock for lock, _ in self._held.values()}
        for name, machine in machines:
            verdict = machine.verdict
            if verdict is None:
                continue
            for lock in [lock for lock in active.values() if (lock.reason or "").startswith(_mark(name))]:
                if lock.id in held:
                    continue
                known = self._held.get(name)
                extended = known is not None and known[0] not in active and known[0] < lock.id
                if verdict.blocked and (extended or (known is None and not verdict.unknown)):
                    self._held[name] = (lock.id, int(lock.lock_end_time_utc.timestamp()))
                elif not verdict.unknown:
                    _end(active.pop(lock.id))
        self._adopted = not any(m.verdict is None or m.verdict.unknown for _, m in machines)

    def _put_back(self, number: int, end: int) -> bool:
        # An operator's removal ends a lock early; strategies' `unlock_pair` leaves its end. Columns: another thread's change.
        found = PairLock.session.execute(select(PairLock.lock_end_time).where(PairLock.id == number)).first()
        if found is None or int(found[0].replace(tzinfo=UTC).timestamp()) < end:
            return False
        PairLock.session.execute(update(PairLock).where(PairLock.id == number).values(active=True))
        PairLock.session.commit()
        return True

    def _release(self, name: str, active: dict[int, Any]) -> None:
        lock = active.get(self._held.pop(name)[0])
        if lock is not None:
            _end(lock)


def _end(lock: Any) -> None:
    lock.active = False
    PairLock.session.commit()


def _mark(name: str) -> str:
    return f"Plimsoll {name}: "
