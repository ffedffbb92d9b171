"""What the drop-in files of ``protections/`` share: parameters, the fold over Freqtrade's trades, locks, and
how they are found.

A Freqtrade protection is asked only after a trade closed (in a backtest also after a partial exit), is told
no price, and answers with the end of a lock. So it sees realised profit only. The mixin's breakers see open
loss in every loop; these cannot.

Nothing is stored: what a protection knows follows from Freqtrade's trades, and from locks that an operator
removed, which re-arm it with a new reference. Offline the trades are taken up one by one; with a database all
of them are folded anew at each close.
"""

from __future__ import annotations

import json
import logging
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar

from freqtrade.exceptions import OperationalException
from freqtrade.exchange import timeframe_to_minutes
from freqtrade.persistence import LocalTrade, Trade
from freqtrade.persistence.models import PairLock
from freqtrade.plugins.protections import IProtection, ProtectionReturn
from freqtrade.resolvers import ProtectionResolver
from sqlalchemy import select

import plimsoll
from plimsoll.host import internals
from plimsoll.host.account import ClosedTrades
from plimsoll.host.boundary import Complaints, Unusable, finite
from plimsoll.host.breakers import BOT_WIDE
from plimsoll.host.locks import LONGEST_REASON, WITHOUT_END
from plimsoll.host.runlog import END_OF_TIME, closed_trade
from plimsoll.rules import decay
from plimsoll.rules.breaker import (
    MINUTE,
    ClosedTrade,
    EquitySample,
    ReadingConfig,
    Tick,
    Verdict,
    require,
    utc,
)

logger = logging.getLogger("plimsoll")

LONGEST_STOP = 5_256_000  # minutes, ten years
BALANCE_JUMP = 0.20  # a starting balance further than this from the last one is taken once it repeats
LEAST_EQUITY = 1e-6  # of the starting balance: nothing left is a loss, not an unknown
CLOSED_ONLY = "Sees closed trades only, and only when one closes."
REALISED_READINGS = ReadingConfig(confirmations=1)

_ROOT = Path(plimsoll.__file__).parent
DIRECTORY = next(
    (path for path in (_ROOT / "protections", _ROOT.parent / "protections") if path.is_dir()),
    _ROOT / "protections",
)


# -- Finding the drop-in files -------------------------------------------------------------------------------


def use(protections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let Freqtrade find the drop-in protections, and return the list as it is.

    To be called inside the strategy's ``protections`` property: Freqtrade reads it right before it resolves
    them, in a hyperopt worker too, where no module code of the strategy runs. Freqtrade's own protections,
    and those in ``user_data/protections`` where that exists, are found as well.
    """
    ProtectionResolver.build_search_paths = classmethod(_search_paths)
    return protections


def _search_paths(
    cls: Any, config: Any, user_subdir: str | None = None, extra_dirs: list[str] | None = None
) -> list[Path]:
    # `user_subdir`, empty for protections, takes one directory only, and somebody else may have set it.
    paths = super(ProtectionResolver, cls).build_search_paths(
        config, user_subdir=user_subdir, extra_dirs=extra_dirs
    )
    own = Path(config["user_data_dir"], "protections")
    first = [own] if user_subdir is None and own.is_dir() else []
    return [*first, *paths, DIRECTORY]


# -- Parameters ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameter:
    """Describe a parameter: its default, what is allowed in words and as a test, and what is made of it."""

    default: Any
    allowed: str
    holds: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value  # may raise ValueError


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def ratio(default: float) -> Parameter:
    """Describe a ratio above 0 and under 1."""
    return Parameter(default, "a ratio in (0, 1)", lambda value: _number(value) and 0.0 < value < 1.0)


def number(default: float | None, least: float, most: float, unit: str) -> Parameter:
    """Describe a number within bounds, both allowed."""
    allowed = f"a number in [{least:g}, {most:g}] {unit}".strip()
    return Parameter(default, allowed, lambda value: _number(value) and least <= value <= most)


def count(default: int | None, least: int, most: int, unit: str) -> Parameter:
    """Describe a whole number within bounds, both allowed."""
    return Parameter(
        default,
        f"a whole number in [{least}, {most}] {unit}",
        lambda value: isinstance(value, Integral) and _number(value) and least <= int(value) <= most,
    )


def flag(default: bool) -> Parameter:
    """Describe a yes or no."""
    return Parameter(default, "True or False", lambda value: isinstance(value, bool))


def text(default: str | None, allowed: str) -> Parameter:
    """Describe a text; the rule's own configuration says whether it makes sense."""
    return Parameter(default, allowed, lambda value: isinstance(value, str))


def baseline() -> Parameter:
    """Describe the sequential test's baseline: the file that ``plimsoll calibrate`` wrote, or its numbers."""
    allowed = "a path, or a dict of mean, deviation, trades and trades_per_day"
    return Parameter(None, allowed, lambda value: isinstance(value, str | Path | dict), _read_baseline)


def _read_baseline(value: Any) -> decay.Baseline:
    try:
        numbers = value if isinstance(value, dict) else json.loads(Path(value).read_text())["decay"]
        found = decay.Baseline(**numbers)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"`baseline` cannot be read: {error!r}, was {value!r}") from error
    least = decay.FULL_BASELINE_TRADES
    require("baseline.trades", found.trades, found.trades >= least, f"at least {least}: fewer never pause")
    return found


def _is_time_of_day(value: Any) -> bool:
    try:
        return bool(datetime.strptime(value, "%H:%M"))
    except (TypeError, ValueError):
        return False


def _stop_parameters(timeframe: int) -> dict[str, Parameter]:
    return {
        "stop_duration": count(None, 1, LONGEST_STOP, "minutes"),
        "stop_duration_candles": count(None, 1, LONGEST_STOP // timeframe, "candles"),
        "unlock_at": Parameter(None, "a time of day HH:MM, UTC", _is_time_of_day),
    }


def lookback(timeframe: int, most: int) -> dict[str, Parameter]:
    """Describe Freqtrade's two words for a window, at most so many minutes long."""
    return {
        "lookback_period": count(None, 1, most, "minutes"),
        "lookback_period_candles": count(None, 1, max(1, most // timeframe), "candles"),
    }


def _checked(name: str, known: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every known parameter's value, or raise one error that names all faults."""
    given = {key: value for key, value in given.items() if key != "method" and value is not None}
    faults = [
        f"`{key}` must be {known[key].allowed}, was {value!r}"
        if key in known
        else f"`{key}` is unknown, has {', '.join(sorted(known))}"
        for key, value in given.items()
        if key not in known or not known[key].holds(value)
    ]
    faults += [
        f"only one of {', '.join(together)} may be set"
        for family in ("stop_duration unlock_at", "lookback_period")
        if len(together := [key for key in given if key.removesuffix("_candles") in family.split()]) > 1
    ]
    if faults:
        raise OperationalException(f"Protection {name}: {'; '.join(faults)}")
    try:
        read = {key: known[key].read(value) for key, value in given.items()}
    except ValueError as error:
        raise OperationalException(f"Protection {name}: {error}") from error
    return {key: parameter.default for key, parameter in known.items()} | read


# -- Trades --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Realised:
    """Hold one exit: when, its profit in stake currency (None: unknown), and the closed trade where it closed
    one.
    """

    time: int
    profit: float | None
    closed: ClosedTrade | None = None


def exits(trade: LocalTrade) -> list[Realised]:
    """Return a trade's exits in order; their profits add up to what Freqtrade says the trade realised."""
    orders = [order for order in trade.orders if order.filled and not order.ft_is_open]
    legs: list[tuple[int, float]] = []
    if sum(order.ft_order_side == trade.exit_side for order in orders) > (0 if trade.is_open else 1):
        legs = _leg_profits(trade, orders)
    total = trade.realized_profit if trade.is_open else trade.close_profit_abs
    before = math.fsum(profit for _, profit in legs[:-1])
    last = None if total is None or not math.isfinite(total) else total - before
    found = [Realised(at, profit) for at, profit in legs[:-1]]
    if not trade.is_open:
        closed = closed_trade(trade)
        found.append(Realised(closed.time, last, closed))
    elif legs:
        found.append(Realised(legs[-1][0], last))
    return found


def _leg_profits(trade: LocalTrade, orders: list[Any]) -> list[tuple[int, float]]:
    # As `Trade.recalc_trade_from_orders` does, which keeps the sum only.
    legs, amount, cost, funding = [], 0.0, 0.0, 0.0
    sign = -1.0 if trade.is_short else 1.0
    fee_open, fee_close = trade.fee_open or 0.0, trade.fee_close or 0.0
    for order in orders:
        size = order.safe_amount_after_fee
        value = size * order.safe_price
        funding += order.funding_fee or 0.0
        if order.ft_order_side == trade.entry_side:
            amount, cost = amount + size, cost + value
            continue
        opened = size * cost / amount if amount else value
        profit = sign * (value - opened) - value * fee_close - opened * fee_open + funding
        legs.append((int(order.order_filled_utc.timestamp()), profit))
        amount, cost, funding = amount - size, cost - opened, 0.0
    return legs


class Exits:
    """Follow the exits of all trades, each seen once; of open trades those that were partial."""

    def __init__(self) -> None:
        self.token = internals.run_token()
        self._closed = ClosedTrades()
        self._taken: dict[int, int] = {}
        self._complaints = Complaints()

    def new(self, now: int) -> list[Realised]:
        """Return what was realised since the last call; a trade that cannot be read has an unknown profit."""
        found: list[Realised] = []
        for trade in self._closed.new(END_OF_TIME):
            found += self._read(trade, self._taken.pop(trade.id, 0), now)
        for trade in Trade.get_trades_proxy(is_open=True):
            if trade.realized_profit:
                taken = self._taken.get(trade.id, 0)
                partial = self._read(trade, taken, now)
                self._taken[trade.id] = taken + sum(each.closed is None for each in partial)
                found += partial
        return found

    def _read(self, trade: LocalTrade, taken: int, now: int) -> list[Realised]:
        try:
            return exits(trade)[taken:]
        except Exception as error:
            pair = str(getattr(trade, "pair", "?"))
            self._complaints.about(f"{pair} {trade.id}", f"the trade cannot be read: {error!r}", error)
            return [Realised(now, None, ClosedTrade(now, pair, None))]


# -- Protections ---------------------------------------------------------------------------------------------


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
        self._timeframe = timeframe_to_minutes(config["timeframe"])
        known = {**self.known_parameters(self._timeframe), **_stop_parameters(self._timeframe)}
        self.values = _checked(type(self).__name__, known, protection_config)
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
        given = (
            self.values["lookback_period"] is not None or self.values["lookback_period_candles"] is not None
        )
        return self._lookback_period if given else otherwise

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
        """Return time and pair of our locks that were removed: Freqtrade keeps them, inactive."""
        ours = PairLock.reason.startswith(f"{self.name}: ")
        chosen = select(PairLock).filter(PairLock.active.is_(False), ours)
        found = []
        for lock in PairLock.session.scalars(chosen).all():
            at = lock.lock_end_time
            if not at.second and not at.microsecond:
                # Removed by a strategy, which leaves the end at its candle; when is not known.
                at = lock.lock_time
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


class EquityProtection(Protection):
    """Step the machine on realised equity: the starting balance plus what exits realised since."""

    def _prepare(self, starting_balance: float, offline: bool) -> None:
        balance = finite(starting_balance, "the starting balance")
        if balance <= 0.0:
            raise Unusable(f"the starting balance is {balance:g}")
        last, self._balance = self._balance, balance
        if last is not None and abs(balance / last - 1.0) > BALANCE_JUMP:
            raise Unusable(f"the starting balance went from {last:g} to {balance:g}, to be confirmed")
        if "available_capital" not in self._config:
            balance /= self._config["tradable_balance_ratio"]
            if not offline:  # there it holds what open trades have realised
                balance -= math.fsum(t.realized_profit or 0.0 for t in Trade.get_trades_proxy(is_open=True))
        self._start = balance

    def _equity(self) -> float:
        return max(self._start + self._profit, LEAST_EQUITY * self._start)

    def sample(self, at: int) -> EquitySample:
        return EquitySample(at, self._equity())

    def fold(self, event: Realised, at: int, config: Any) -> None:
        watched = self.watch(BOT_WIDE)
        # Realised equity moves in steps: up to this exit it was what it was after the last one.
        state, before = self.rule.step(watched.state, config, self.sample(at))
        if event.profit is None:
            sample = EquitySample(at, None)
        else:
            self._profit += event.profit
            sample = self.sample(at)
        watched.state, verdict = self.rule.step(state, config, sample)
        # The last exit of a trade that won is no loss, even if it was.
        lost = (event.profit or 0.0) < 0.0 and (event.closed is None or event.closed.is_loss)
        self.judge(watched, at, verdict, before.changed or verdict.changed, lost)


class TradeProtection(Protection):
    """Step the machine on closed trades, for the bot or for each pair."""

    def __init__(self, config: Any, protection_config: dict[str, Any]) -> None:
        super().__init__(config, protection_config)
        self.has_local_stop = self.per_pair
        self.has_global_stop = not self.per_pair

    @property
    def per_pair(self) -> bool:
        """Tell whether every pair is judged by itself."""
        return bool(self.values.get("only_per_pair", False))

    def sample(self, at: int) -> Tick:
        return Tick(at)

    def fold(self, event: Realised, at: int, config: Any) -> None:
        closed = event.closed
        if closed is None:
            return
        if at != closed.time:
            closed = ClosedTrade(at, closed.pair, closed.profit_ratio, closed.liquidated, closed.side)
        watched = self.watch(closed.pair if self.per_pair else BOT_WIDE)
        watched.state, verdict = self.rule.step(watched.state, config, closed)
        self.judge(watched, at, verdict, verdict.changed, closed.is_loss)
