"""The fold of a rule's machine over what trades realised, and the lock that follows."""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any, ClassVar

from freqtrade.exceptions import OperationalException
from freqtrade.exchange import timeframe_to_minutes
from freqtrade.persistence.models import PairLock
from freqtrade.plugins.protections import IProtection, ProtectionReturn
from sqlalchemy import select

from plimsoll.host import internals
from plimsoll.host.boundary import Complaints, Unusable
from plimsoll.host.locks import LONGEST_REASON, WITHOUT_END
from plimsoll.host.machines import BOT_WIDE
from plimsoll.host.protections.parameters import Parameter, checked, stop_parameters
from plimsoll.host.protections.realised import Exits, Realised
from plimsoll.rules.breaker import MINUTE, Verdict, utc

logger = logging.getLogger("plimsoll")


@dataclass(slots=True)
class Watched:
    """Hold one machine's state and the lock that follows from it, for the bot or for a pair; times in epoch
    seconds.
    """

    state: Any
    end: int = 0
    reason: str = ""
    unknown_until: int = 0
    unknown_reason: str = ""


class Protection(IProtection):
    """Fold a rule's machine over the realised trades and answer with the lock that follows.

    ``rule`` is the module of the machine, ``parameters`` what a user may set besides the words of a stop,
    ``default_stop`` its length in minutes when nothing is said (None: as the rule says).
    """

    has_global_stop = True
    has_local_stop = False
    rule: ClassVar[Any]
    parameters: ClassVar[Mapping[str, Parameter]] = {}
    default_stop: ClassVar[int | None] = None

    def __init__(self, config: Any, protection_config: dict[str, Any]) -> None:
        self._bot_config = config
        self._timeframe = timeframe_to_minutes(config["timeframe"])
        known = {**self.known_parameters(self._timeframe), **stop_parameters(self._timeframe)}
        self.values = checked(type(self).__name__, known, protection_config)
        given = {key: value for key, value in protection_config.items() if value is not None}
        super().__init__(config, given)
        stop = self.values["stop_duration"]
        if (candles := self.values["stop_duration_candles"]) is not None:
            stop = int(candles) * self._timeframe
        self._stop: int | None = self.default_stop if stop is None else int(stop)
        clock = self.values["unlock_at"]
        self._clock: time | None = None if clock is None else datetime.strptime(clock, "%H:%M").time()
        try:
            self._machine = self.machine(self._minutes(0))
        except ValueError as error:
            raise OperationalException(f"Protection {self.name}: {error}") from error
        self._complaints = Complaints()
        self._balance: float | None = None
        self._forget()

    # -- What a drop-in says ---------------------------------------------------------------------------------

    @classmethod
    def known_parameters(cls, timeframe: int) -> dict[str, Parameter]:
        """Return the parameters besides the words of a stop; the timeframe is in minutes."""
        return dict(cls.parameters)

    @abstractmethod
    def machine(self, minutes: float | None) -> Any:
        """Return the rule's configuration; ``minutes`` is the length of the stop, None where nothing is said
        of it.
        """

    @property
    def stops_itself(self) -> bool:
        """Tell whether the machine already knows the length of the stop."""
        return False

    def words(self, verdict: Verdict, end: int) -> str:
        """Return the reason of a lock."""
        if verdict.until is None or verdict.until == end:
            return verdict.reason
        return f"{verdict.reason.rpartition(', until ')[0]}, until {utc(end)}"

    def stop_words(self, otherwise: str) -> str:
        """Say for a description how long a stop lasts."""
        if self._clock is not None:
            return f"until {self._clock:%H:%M} UTC"
        return otherwise if self._stop is None else f"for {self._stop} minutes"

    def window(self, otherwise: int) -> int:
        """Return the length of the window in minutes."""
        minutes, candles = self.values["lookback_period"], self.values["lookback_period_candles"]
        if candles is not None:
            return int(candles) * self._timeframe
        return otherwise if minutes is None else int(minutes)

    # -- What Freqtrade asks ---------------------------------------------------------------------------------

    def global_stop(self, date_now: datetime, side: str, starting_balance: float) -> ProtectionReturn | None:
        return self._answer(BOT_WIDE, date_now, starting_balance)

    def stop_per_pair(
        self, pair: str, date_now: datetime, side: str, starting_balance: float
    ) -> ProtectionReturn | None:
        return self._answer(pair, date_now, starting_balance)

    def _answer(self, key: str, date_now: datetime, starting_balance: float) -> ProtectionReturn | None:
        """Answer for the bot or a pair, whatever happens: what is unknown stops entries for the rest of this
        candle.
        """
        try:
            now = int(date_now.timestamp())
            self._update(now, starting_balance)
            self._complaints.settled(self.name)
            watched = self._watched.get(key)
            if watched is None:
                return None
            if watched.end > now:
                self.log_once(f"{self.name}: {watched.reason}", logger.info)
                # A second less: Freqtrade ends a lock with the candle of this moment, and 00:00 begins one.
                until = datetime.fromtimestamp(watched.end - 1, UTC)
                return self._lock(until, watched.reason)
            if watched.unknown_until > now:
                return self._unknown_lock(date_now, watched.unknown_reason)
        except Unusable as error:
            return self._unknown(date_now, str(error))
        except Exception as error:
            return self._unknown(date_now, f"could not be evaluated: {error!r}", error)
        return None

    def _lock(self, until: datetime, reason: str) -> ProtectionReturn:
        return ProtectionReturn(True, until, f"{self.name}: {reason}"[:LONGEST_REASON])

    def _unknown(
        self, date_now: Any, reason: str, error: BaseException | None = None
    ) -> ProtectionReturn | None:
        self._complaints.about(self.name, reason, error)
        until = date_now if isinstance(date_now, datetime) else datetime.now(UTC)
        return self._unknown_lock(until, reason)

    def _unknown_lock(self, until: datetime, reason: str) -> ProtectionReturn:
        # Begins otherwise than a trip: to remove this lock is no reset.
        text = f"{self.name} unknown: {reason}, no entries in this candle"
        return ProtectionReturn(True, until, text[:LONGEST_REASON])

    # -- The fold --------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._exits = Exits()
        self._waiting: list[Realised] = []  # to be taken up; with a database all of them, at each close
        self._begin()

    def _begin(self) -> None:
        self._time = 0
        self._profit = 0.0
        self._watched: dict[str, Watched] = {}

    def _update(self, now: int, starting_balance: float) -> None:
        if self._exits.token is not internals.run_token():
            self._forget()
        offline = internals.is_offline()
        self._waiting = sorted([*self._waiting, *self._exits.new(now)], key=_when)
        self._prepare(starting_balance, offline)
        if offline:
            while self._waiting and self._waiting[0].time <= now:
                self._take(self._waiting[0])
                del self._waiting[0]
            return
        self._begin()
        removed = self._removed_locks(now)
        for event in self._waiting:
            while removed and removed[0][0] <= event.time:
                self._reset(*removed.pop(0))
            self._take(event)
        for at, pair in removed:
            self._reset(at, pair)

    def _prepare(self, starting_balance: float, offline: bool) -> None:
        """Look at the starting balance; a protection that steps on trades does not need it."""

    def _take(self, event: Realised) -> None:
        self._time = max(self._time, event.time)
        config = self._machine if self._clock is None else self.machine(self._minutes(self._time))
        self.fold(event, self._time, config)

    @abstractmethod
    def fold(self, event: Realised, at: int, config: Any) -> None:
        """Step the machine on an exit."""

    @abstractmethod
    def sample(self, at: int) -> Any:
        """Return what the machine is re-armed with."""

    def watch(self, key: str) -> Watched:
        """Return what is known of the bot or a pair."""
        if key not in self._watched:
            self._watched[key] = Watched(self.rule.State())
        return self._watched[key]

    def judge(self, watched: Watched, at: int, verdict: Verdict, changed: bool, lost: bool) -> None:
        """Derive the lock from a verdict; only a trip or a further loss sets its end, and never an earlier
        one.
        """
        if verdict.unknown:
            watched.unknown_until = at + self._timeframe * MINUTE
            watched.unknown_reason = verdict.reason
        elif verdict.blocked and (lost or (changed and at >= watched.end)):
            end = self._end(at, verdict, changed)
            if end > watched.end:
                watched.end, watched.reason = end, self.words(verdict, end)

    def _end(self, at: int, verdict: Verdict, changed: bool) -> int:
        minutes = self._minutes(at)
        own = None if minutes is None else at + round(minutes * MINUTE)
        if verdict.until is not None:
            return verdict.until if own is None or self.stops_itself else own
        if not changed:
            return 0
        return at + int(WITHOUT_END.total_seconds()) if own is None else own

    def _minutes(self, at: int) -> float | None:
        if self._clock is None:
            return self._stop
        start = datetime.fromtimestamp(at, UTC)
        end = datetime.combine(start.date(), self._clock, UTC)
        if end <= start:
            end += timedelta(days=1)
        return (end - start).total_seconds() / MINUTE

    # -- An operator's resets --------------------------------------------------------------------------------

    def _removed_locks(self, now: int) -> list[tuple[int, str]]:
        """Return time and pair of our locks that an operator removed: Freqtrade keeps them, inactive, ended at that time."""
        ours = PairLock.reason.startswith(f"{self.name}: ")
        chosen = select(PairLock).filter(PairLock.active.is_(False), ours)
        found = []
        for lock in PairLock.session.scalars(chosen).all():
            at = lock.lock_end_time
            if not at.second and not at.microsecond:
                continue  # released by a strategy, which leaves the end at its candle: no operator's word
            seconds = math.ceil(at.replace(tzinfo=UTC).timestamp())
            found.append((min(seconds, now), lock.pair))
        return sorted(found)

    def _reset(self, at: int, pair: str) -> None:
        self._time = max(self._time, at)
        watched = self._watched.get(pair)
        if watched is not None:
            state = self.rule.reset(watched.state, self._machine, self.sample(self._time))
            self._watched[pair] = Watched(state)


def _when(event: Realised) -> int:
    return event.time
