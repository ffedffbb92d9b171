"""What a fire drill left behind, as anybody outside the bot finds it: Freqtrade's tables, the journal, the status, the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from plimsoll.figures import WHOLE_MARGIN

Record = Mapping[str, Any]
# The last is Freqtrade's where the price has passed a stop before it could be placed.
STOPS = ("stop_loss", "stoploss_on_exchange", "trailing_stop_loss", "emergency_exit")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Hold what the bot's database said at one moment of the run.

    Attributes:
        time: epoch seconds of the market.
        equity: as the drill itself reckons it from trades and prices, stake currency.
        status: the bot's status document, None where it has written none.
        stops: stop and liquidation price of each open trade by its id, as Freqtrade's table had them.
    """

    time: float
    equity: float
    status: Record | None = None
    stops: Mapping[int, tuple[float | None, float | None]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Happened:
    """Hold an event that was carried out: when, what, on what, and what came back; ``refused`` is of forced entries."""

    time: float
    do: str
    subject: str = ""
    answer: str = ""
    refused: bool = False
    until: float | None = None
    met: int = 0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Hold what is known of one run; times in rows are aware, in UTC, or epoch seconds."""

    began: float
    ended: float
    trades: list[Record] = field(default_factory=list)
    orders: list[Record] = field(default_factory=list)
    locks: list[Record] = field(default_factory=list)
    journal: list[Record] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    happened: list[Happened] = field(default_factory=list)
    prices: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    log: str = ""
    died: bool = False

    def at(self, hours: float) -> float:
        """Return a scenario's time in epoch seconds."""
        return self.began + hours * 3600.0

    # -- Trades ----------------------------------------------------------------------------------------------

    def open_at(self, time: float) -> list[Record]:
        """Return the trades that were open at a time."""
        return [
            trade
            for trade in self.trades
            if opened(trade) <= time and ((end := closed(trade)) is None or end > time)
        ]

    def opened_within(self, after: float, before: float) -> list[Record]:
        """Return the trades opened within a span of time, both ends included."""
        return [trade for trade in self.trades if after <= opened(trade) <= before]

    def losses_in_a_row(self) -> Iterator[tuple[float, int]]:
        """Yield the time of each close and how many losses in a row it makes; a trade without profit or loss counts neither way."""
        losses = 0
        done = [(end, trade) for trade in self.trades if (end := closed(trade)) is not None]
        for time, trade in sorted(done, key=lambda each: (each[0], each[1]["id"])):
            profit = trade.get("close_profit") or 0.0
            losses = losses + 1 if profit < 0.0 else 0 if profit > 0.0 else losses
            yield time, losses

    # -- Breakers --------------------------------------------------------------------------------------------

    def said_by(self, breaker: str) -> list[Record]:
        """Return what a breaker put in the journal, in order."""
        return [r for r in self.journal if r.get("kind") == "breaker" and r.get("breaker") == breaker]

    def changes(self, breaker: str) -> list[tuple[float, bool]]:
        """Return when a breaker tripped (True) and let go (False).

        Unknown equity blocks without a trip and has no statistic; a start that finds a breaker tripped says so again.
        """
        found, tripped = [], False
        for record in self.said_by(breaker):
            now = bool(record.get("blocked")) and (record.get("value") is not None or tripped)
            if now != tripped:
                found.append((float(record["time"]), now))
            tripped = now
        return found

    def trips(self, breaker: str) -> list[float]:
        """Return when a breaker tripped."""
        return [time for time, tripped in self.changes(breaker) if tripped]

    def releases(self, breaker: str) -> list[float]:
        """Return when a breaker let go."""
        return [time for time, tripped in self.changes(breaker) if not tripped]

    def state_of(self, breaker: str, sample: Sample) -> Record | None:
        """Return what the status says of a bot-wide breaker."""
        listed = () if sample.status is None else sample.status.get("breakers") or ()
        return next((b for b in listed if b.get("name") == breaker and b.get("pair") == "*"), None)

    def locks_of(self, breaker: str) -> list[Record]:
        """Return the pair locks that show a breaker."""
        return [
            lock for lock in self.locks if str(lock.get("reason") or "").startswith(f"Plimsoll {breaker}: ")
        ]

    def resets(self, breaker: str) -> list[float]:
        """Return when the operator reset a breaker."""
        return [event.time for event in self.happened if event.do == "reset" and event.subject == breaker]

    def kills(self) -> list[Happened]:
        """Return the kills; ``until`` is when the bot was back."""
        return [event for event in self.happened if event.do == "kill"]


# -- Rows ----------------------------------------------------------------------------------------------------


def seconds(value: Any) -> float | None:
    """Return epoch seconds of a time in a row, None where there is none."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    return float(value)


def opened(trade: Record) -> float:
    """Return when a trade was opened, epoch seconds."""
    return seconds(trade["open_date"]) or 0.0


def closed(trade: Record) -> float | None:
    """Return when a trade was closed, None while it is open."""
    return None if trade.get("is_open") else seconds(trade.get("close_date"))


def is_liquidated(trade: Record) -> bool:
    """Return whether a trade was liquidated, or lost its whole margin however that is called."""
    profit = trade.get("close_profit")
    return trade.get("exit_reason") == "liquidation" or (profit is not None and profit <= WHOLE_MARGIN)


def inside(trade: Record, stop: float | None, liquidation: float | None) -> bool:
    """Return whether there is a stop, and it would be reached before liquidation."""
    if liquidation is None or stop is None or not stop > 0.0:
        return False
    return bool(stop < liquidation if trade.get("is_short") else stop > liquidation)


def reckoned_equity(trades: Iterable[Record], price: Callable[[str], float | None], wallet: float) -> float:
    """Reckon equity from Freqtrade's rows and the market's prices: wallet, results, open profit after fees and funding."""
    total = wallet
    for trade in trades:
        total += trade.get("close_profit_abs") or 0.0 if not trade.get("is_open") else 0.0
        if not trade.get("is_open"):
            continue
        rate, amount = price(trade["pair"]), trade.get("amount") or 0.0
        opening = trade.get("open_rate") or 0.0
        moved = 0.0 if rate is None else (rate - opening) * (-1.0 if trade.get("is_short") else 1.0)
        fees = (trade.get("fee_open") or 0.0) * opening + (trade.get("fee_close") or 0.0) * (rate or opening)
        total += (
            (trade.get("realized_profit") or 0.0)
            + amount * (moved - fees)
            + (trade.get("funding_fees") or 0.0)
        )
    return total


# -- Verdicts ------------------------------------------------------------------------------------------------

Outcome = Literal["held", "failed", "did not arise"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one line of the result; ``when`` is in epoch seconds."""

    layer: str
    should: str
    did: str
    when: float | None
    outcome: Outcome


def callback_faults(evidence: Evidence) -> list[str]:
    """Return which callbacks of the guard failed."""
    faults = [str(r.get("callback")) for r in evidence.journal if r.get("kind") == "fault"]
    return faults + re.findall(r"loop check failed: [^\n]*", evidence.log)


@dataclass(frozen=True)
class Finding:
    """Hold what a check found."""

    did: str
    when: float | None
    outcome: Outcome


def held(did: str, when: float | None) -> Finding:
    """Say that a layer did what it had to."""
    return Finding(did, when, "held")


def failed(did: str, when: float | None) -> Finding:
    """Say that a layer did not do what it had to."""
    return Finding(did, when, "failed")


def not_arisen(did: str, when: float | None) -> Finding:
    """Say that there was no occasion to do it."""
    return Finding(did, when, "did not arise")


def name_of(trade: Record) -> str:
    """Return how a trade is called in a result."""
    return f"{'short' if trade.get('is_short') else 'long'} {trade['pair']}"
