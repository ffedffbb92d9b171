"""Show tripped breakers as Freqtrade's own pair locks; a lock that an operator removes is a reset of its breaker."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from freqtrade.persistence import PairLocks

from plimsoll.host.breakers import Machine

WITHOUT_END = timedelta(days=3650)
LONGEST_REASON = 255


class Locks:
    """Keep one lock per blocking breaker. Only a trading bot has locks: in a backtest nobody looks at them."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, int]] = {}  # breaker -> lock id, end

    def sync(self, machines: Iterable[tuple[str, Machine]], now: datetime) -> list[str]:
        """Make the locks match the verdicts; return the breakers whose lock was removed by hand."""
        active: dict[int, Any] = {lock.id: lock for lock in PairLocks.get_pair_locks(None, now)}
        removed = []
        for name, machine in machines:
            verdict = machine.verdict
            blocked = verdict is not None and verdict.blocked and not verdict.unknown
            held = self._held.get(name)
            if held is not None and held[0] not in active and now.timestamp() < held[1]:
                del self._held[name]
                if blocked:
                    removed.append(name)
                continue
            if verdict is None or not blocked:
                if held is not None:
                    self._release(name, active, now)
                continue
            until = None if verdict.until is None else datetime.fromtimestamp(verdict.until, UTC)
            if held is not None and (until is None or until.timestamp() <= held[1]):
                continue
            end = until or now + WITHOUT_END
            if end <= now:
                continue
            if held is not None:
                self._release(name, active, now)
            reason = f"Plimsoll {name}: {verdict.reason}"[:LONGEST_REASON]
            lock = PairLocks.lock_pair(machine.pair, end, reason, now=now)
            self._held[name] = (lock.id, int(lock.lock_end_time_utc.timestamp()))
        return removed

    def dump(self) -> dict[str, list[int]]:
        """Return the locks held, as plain JSON: one removed while the bot was down is a reset as well."""
        return {name: list(held) for name, held in self._held.items()}

    def restore(self, stored: dict[str, list[int]]) -> None:
        """Take up what :meth:`dump` returned."""
        self._held = {name: (int(lock), int(end)) for name, (lock, end) in stored.items()}

    def _release(self, name: str, active: dict[int, Any], now: datetime) -> None:
        lock = active.get(self._held.pop(name)[0])
        if lock is not None:
            PairLocks.unlock_reason(lock.reason, now)
