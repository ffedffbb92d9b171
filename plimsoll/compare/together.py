"""Backtests of several bots in one ledger: what the limits of a portfolio would have refused, and what that cost or saved."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from plimsoll.compare.together_tally import Course, Tally
from plimsoll.portfolio import Decision, Ledger, Limits
from plimsoll.rules.answer import Outcome, Side
from plimsoll.rules.breaker import ReadingConfig
from plimsoll.rules.portfolio import exceeds

Reason = Literal["margin of all bots", "one asset", "heat", "halt", "unknown"]
REASONS: Final[tuple[Reason, ...]] = ("margin of all bots", "one asset", "heat", "halt", "unknown")
# At one instant: who begins joins, exits make room, entries ask for it; a trade that ends where it began ends after that.
_JOIN, _EXIT, _ENTRY, _LATE_EXIT, _LEAVE = range(5)
_NEVER_SILENT: Final = 1e12
_CERTAIN: Final = ReadingConfig(confirmations=1)  # no reading of a backtest is bad


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold one filled entry order: epoch seconds, margin, R, and the part of the trade's profit that it made."""

    time: float
    margin: float
    risk: float
    profit: float


@dataclass(frozen=True, slots=True)
class Trade:
    """Hold a closed trade, its first entry first; ``reductions`` are times and the ratio of the position that was left."""

    pair: str
    side: Side
    closed: float
    entries: tuple[Entry, ...]
    reductions: tuple[tuple[float, float], ...] = ()

    @property
    def profit(self) -> float:
        return math.fsum(entry.profit for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Bot:
    """Hold one bot's backtest, from ``begins`` to ``ends`` in epoch seconds; ``planned`` trades have their R from its journal."""

    name: str
    source: str
    currency: str
    balance: float
    begins: float
    ends: float
    trades: tuple[Trade, ...]
    planned: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Hold a refused entry and what it made in the backtest; one that opens a trade takes the whole trade with it.

    ``fits`` is the margin that would have been granted.
    """

    time: float
    bot: str
    pair: str
    side: Side
    reason: Reason
    detail: str
    margin: float
    fits: float
    profit: float
    addition: bool


@dataclass(frozen=True, slots=True)
class Together:
    """Hold what came out; ``halt`` is when and why the limits would have halted all bots, None where never."""

    bots: tuple[Bot, ...]
    limits: Limits
    without: Course
    limited: Course
    refusals: tuple[Refusal, ...]
    halt: tuple[float, str] | None

    def refused(self, bot: str | None = None, reason: Reason | None = None) -> tuple[Refusal, ...]:
        """Return the refusals of a bot and for a reason; None is any."""
        return tuple(r for r in self.refusals if bot in (None, r.bot) and reason in (None, r.reason))


def replay(bots: Sequence[Bot], limits: Limits) -> Together:
    """Take the trades of all bots through a ledger of their own, in time order, exits before entries of the same moment.

    Sizes stay as the backtests had them; a bot's equity is its balance and the profit of its closed trades, those refused left
    out. Entries of the same moment ask in the order of the bots. A bot counts from its begin to its end; a halt stays.

    :raises LedgerFault: where the ledger cannot be used.
    """
    heard = replace(limits, silent_seconds=_NEVER_SILENT)  # a bot of a backtest is there all the time
    ledger = Ledger("sqlite://", heard, bots[0].currency if bots else None, readings=_CERTAIN)
    try:
        run = _Replay(ledger)
        for event in sorted(_events(bots), key=lambda event: event.order):
            run.take(event)
    finally:
        ledger.close()
    return Together(
        tuple(bots), limits, run.without.course(), run.limited.course(), tuple(run.refusals), run.halt
    )


@dataclass(frozen=True, slots=True)
class _Event:
    order: tuple[float, int, int, int, int]  # time, rank, bot, trade, entry or reduction
    bot: Bot
    trade: Trade | None = None

    @property
    def key(self) -> str:
        return str(self.order[3])


def _events(bots: Sequence[Bot]) -> Iterable[_Event]:
    for place, bot in enumerate(bots):
        first = min((trade.entries[0].time for trade in bot.trades), default=bot.begins)
        last = max((trade.closed for trade in bot.trades), default=bot.ends)
        yield _Event((min(bot.begins, first), _JOIN, place, 0, 0), bot)
        yield _Event((max(bot.ends, last), _LEAVE, place, 0, 0), bot)
        for number, trade in enumerate(bot.trades):
            entered = {entry.time for entry in trade.entries}
            for part, entry in enumerate(trade.entries):
                yield _Event((entry.time, _ENTRY, place, number, part), bot, trade)
            for part, (time, _) in enumerate(trade.reductions):
                yield _Event(
                    (time, _LATE_EXIT if time in entered else _EXIT, place, number, part), bot, trade
                )
            rank = _LATE_EXIT if trade.closed <= max(entered) else _EXIT
            yield _Event((trade.closed, rank, place, number, len(trade.reductions)), bot, trade)


class _Replay:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.without, self.limited = Tally(), Tally()
        self.refusals: list[Refusal] = []
        self.halt: tuple[float, str] | None = None
        self._granted: dict[tuple[str, str], list[tuple[str, Entry]]] = {}

    def take(self, event: _Event) -> None:
        time, rank, _, _, part = event.order
        if rank == _JOIN:
            self.without.join(event.bot.name, event.bot.balance)
            self.limited.join(event.bot.name, event.bot.balance)
            self._tell(event.bot, time)
        elif rank == _LEAVE:
            self.without.leave(event.bot.name)
            self.limited.leave(event.bot.name)
            self._ledger.release_bot(event.bot.name, time, "its backtest", force=True)
        elif event.trade is not None and rank == _ENTRY:
            self._enter(event, event.trade, part)
        elif event.trade is not None and part < len(event.trade.reductions):
            self._reduce(event, event.trade.reductions[part][1])
        elif event.trade is not None:
            self._close(event, event.trade)

    def _enter(self, event: _Event, trade: Trade, part: int) -> None:
        time, bot, entry = event.order[0], event.bot, trade.entries[part]
        place = (bot.name, event.key)
        claim = f"{event.key}.{part}"
        self.without.hold(bot.name, claim, trade.pair, entry.margin, entry.risk)
        if part > 0 and place not in self._granted:
            return  # the trade was never opened
        decision = self._ledger.reserve(
            bot.name, claim, trade.pair, trade.side, entry.margin, entry.risk, time
        )
        if decision.granted:
            self._granted.setdefault(place, []).append((claim, entry))
            self.limited.hold(bot.name, claim, trade.pair, entry.margin, entry.risk)
            return
        self.refusals.append(
            Refusal(
                time=time,
                bot=bot.name,
                pair=trade.pair,
                side=trade.side,
                reason=_reason(decision),
                detail=decision.reason,
                margin=entry.margin,
                fits=min(decision.most_margin or 0.0, entry.margin),
                profit=entry.profit if part else trade.profit,
                addition=part > 0,
            )
        )

    def _reduce(self, event: _Event, left: float) -> None:
        self.without.reduce(event.bot.name, f"{event.key}.", left)
        self.limited.reduce(event.bot.name, f"{event.key}.", left)
        for claim, _ in self._granted.get((event.bot.name, event.key), ()):
            margin, risk = self.limited.held(event.bot.name, claim)
            self._ledger.confirm(event.bot.name, claim, event.order[0], margin=margin, risk=risk)

    def _close(self, event: _Event, trade: Trade) -> None:
        time, name = event.order[0], event.bot.name
        self.without.close(time, name, f"{event.key}.", trade.profit)
        granted = self._granted.pop((name, event.key), None)
        if granted is None:
            return
        for claim, _ in granted:
            self._ledger.release(name, claim, time)
        self.limited.close(time, name, f"{event.key}.", math.fsum(entry.profit for _, entry in granted))
        self._tell(event.bot, time)

    def _tell(self, bot: Bot, time: float) -> None:
        standing = self._ledger.heartbeat(bot.name, time, self.limited.equity[bot.name], 0.0, None)
        if standing.halted is not None and self.halt is None:
            self.halt = (time, standing.halted)


def _reason(decision: Decision) -> Reason:
    if decision.outcome is Outcome.UNKNOWN:
        return "unknown"
    if not decision.numbers:
        return "halt"
    numbers = {
        name: float(value) for name, value in decision.numbers.items() if isinstance(value, int | float)
    }
    rooms: list[tuple[float, int, Reason]] = []
    for place, (reason, used, cap, wanted) in enumerate(
        (
            (REASONS[0], "margin", "margin_cap", "wanted_margin"),
            (REASONS[1], "asset_margin", "asset_cap", "wanted_margin"),
            (REASONS[2], "risk", "risk_cap", "wanted_risk"),
        )
    ):
        if exceeds(numbers[used] + numbers[wanted], numbers[cap]):
            rooms.append(
                (
                    (numbers[cap] - numbers[used]) / numbers[wanted] if numbers[wanted] > 0.0 else 0.0,
                    place,
                    reason,
                )
            )
    return min(rooms)[2]
