"""Each loop, or each candle of a backtest: equity to the breakers, locks and memory in step with them, one message per change."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Any

from freqtrade.strategy import IStrategy
from sqlalchemy import Connection

from plimsoll import bridge
from plimsoll.host.boundary import Complaints
from plimsoll.host.breaker_changes import record_change
from plimsoll.host.breakers import Breakers
from plimsoll.host.digest import Digest
from plimsoll.host.flows import Flows, starting_balance
from plimsoll.host.locks import Locks
from plimsoll.host.machines import deadline
from plimsoll.host.margin import remembered
from plimsoll.host.memory import Memory, MemoryFault
from plimsoll.host.operator import CHECK_IN, Operator, Word
from plimsoll.host.reconcile import MEMORY, bot_facts, newest_trade, what_does_not_fit
from plimsoll.journal import Journal
from plimsoll.rules.breaker import EquitySample, utc
from plimsoll.settings import Settings

logger = logging.getLogger("plimsoll")
CLOCK_CORRECTION = 60  # seconds that a clock may be set back unnoticed: time stands still meanwhile


class ClockWentBack(Exception):
    """Say that the clock shows an earlier time than it did; what the breakers know lies in its future."""


class Watch:
    """Step the breakers of a trading bot, hear its operator, and keep what both said through restarts."""

    def __init__(self, strategy: IStrategy, settings: Settings) -> None:
        self.blocker: str | None = "equity was not read yet"
        self.misfit: str | None = None  # what of the memory does not fit this bot
        self.loops = 0
        self.identity = secrets.token_hex(3)  # tells bots of one strategy apart
        self.margin: dict[str, Any] = {}  # what `plimsoll.host.margin` keeps
        self._strategy = strategy
        self._settings = settings
        self._name = strategy.get_strategy_name()
        self._locks = Locks()
        self._flows = Flows()
        self._memory = Memory(self._name)
        self._operator = Operator(self._name)
        self._digest = Digest(settings)
        self._complaints = Complaints()
        self._newest_trade = 0
        self._unfit: dict[str, Any] = {}  # what is remembered of another bot, until it is given up
        self._restored = self._handed_over = False
        self._memory_fault = ""
        self._failing = False

    def step(
        self,
        breakers: Breakers,
        now: datetime,
        equity: float | None,
        journal: Journal | None,
        status: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """Let the breakers see equity and the operator's words, then bring messages, locks and memory in step.

        Memory that cannot be read blocks entries until it can; memory that cannot be written is tried again next loop.
        """
        try:
            self._try_to_restore(breakers)
            if not self._restored:
                raise MemoryFault(self._memory_fault)
            self.loops += 1
            time = _not_backwards(int(now.timestamp()), breakers.latest)
            sample = EquitySample(time, equity, self._read_flow(journal, time))
            # Check-ins before the clock moves on: one made in time counts, however late it is heard of.
            words = self._operator.words(self._memory.engine(), now)
            self._hear_all([word for word in words if word.what == "checkin"], breakers, sample)
            breakers.equity(sample)
            if any(m.verdict is not None and m.verdict.changed for _, m in breakers.machines()):
                # Before its lock is set: a bot killed in between has tripped all the same.
                self._memory.save(self._document(breakers))
            self._sync_locks(breakers, now, sample)
            resets = [word for word in words if word.what == "reset"]
            if resets:
                self._hear_all(resets, breakers, sample)
                self._sync_locks(breakers, now, sample)
            self.report(breakers, int(now.timestamp()), journal)
            self.blocker, self._failing = None, False
            self._say_digest(now, equity, breakers)
            self._save(breakers, now, status)
        except ClockWentBack as fault:
            self.blocker = str(fault)
            if not self._failing:
                self.say(f"no entries: {self.blocker}")
            self._failing = True
        except Exception as error:
            self.blocker = f"breakers could not be evaluated: {error}"
            if not self._failing:
                logger.exception("breakers could not be evaluated, no entries")
                self.say(self.blocker)
            self._failing = True

    def _read_flow(self, journal: Journal | None, time: int) -> float:
        before = self._flows.total
        after = self._flows.read(starting_balance(self._strategy))
        if after != before:
            moved, currency = after - before, self._strategy.config["stake_currency"]
            what = f"{'deposit' if moved > 0.0 else 'withdrawal'} of {abs(moved):,.2f} {currency}"
            self.say(
                f"the balance moved by what no trade explains: counted as a {what}, neither profit nor loss"
            )
            if journal is not None:
                journal.record("flow", {"time": time, "amount": moved, "total": after})
        return after

    def _sync_locks(self, breakers: Breakers, now: datetime, sample: EquitySample) -> None:
        for name in self._locks.sync(breakers.machines(), now):
            breakers.reset(name, sample)
            self.say(f"{name}: its lock was removed, it starts anew from here")
        for name in self._locks.put_back:
            self.say(
                f"{name}: the strategy released its lock, which is put back; only an operator's word resets a breaker"
            )
        self._locks.put_back.clear()

    def _hear_all(self, words: list[Word], breakers: Breakers, sample: EquitySample) -> None:
        for word in words:
            self._hear(word, breakers, sample)
            self._operator.heard(word)

    def _hear(self, word: Word, breakers: Breakers, sample: EquitySample) -> None:
        if word.what == "checkin":
            verdict = breakers.check_in(word.time, word.by)
            if verdict is None:
                self._operator.answer(word, "the dead man's switch is off; nothing waits for a check-in")
                return
            said = f"checked in at {utc(word.time)} by {word.by}"
            if verdict.blocked:
                said += "; the dead man's switch has tripped and stays so until it is reset: plimsoll reset deadman"
            self._operator.answer(word, said)
            self.say(said)
        elif word.breaker == MEMORY and self.misfit is not None:
            for name in breakers.by_equity:
                breakers.reset(name, sample)
            self.misfit, self._unfit = None, {}
            self._newest_trade, self._flows.baseline = newest_trade(), None
            self._operator.answer(word, "what was remembered is given up; peaks and openings start anew")
            self.say(f"memory: given up on the word of {word.by}, peaks and openings start anew")
        elif breakers.reset(word.breaker, sample):
            self._locks.forget(word.breaker)
            self._operator.answer(word, f"{word.breaker} starts anew from here")
            self.say(f"{word.breaker}: reset by {word.by}, it starts anew from here")
        else:
            known = ", ".join(sorted(name for name, _ in breakers.machines()))
            self._operator.answer(word, f"refused: there is no breaker {word.breaker!r}, there are {known}")

    def _document(self, breakers: Breakers) -> dict[str, Any]:
        self._newest_trade = max(self._newest_trade, newest_trade())
        document: dict[str, Any] = {
            "breakers": breakers.dump(),
            "locks": self._locks.dump(),
            "flows": {"total": self._flows.total, "baseline": self._flows.baseline},
            "operator": self._operator.dump(),
            "margin": self.margin,
            "digest": self._digest.dump(),
            "identity": self.identity,
            "bot": bot_facts(self._strategy, self._newest_trade),
        }
        if self._unfit:  # stays as it was: the bot that it fits may come back
            document |= {"flows": self._unfit["flows"], "bot": self._unfit["bot"]}
            document["breakers"]["equity"] = self._unfit["breakers"]["equity"]
        return document

    def _save(self, breakers: Breakers, now: datetime, status: Callable[[], dict[str, Any]]) -> None:
        told = self._told(status)

        def also(connection: Connection) -> None:
            self._operator.write_answers(connection, now)
            if told is not None:
                bridge.write_status(connection, self._name, int(now.timestamp()), told)

        self._memory.save(self._document(breakers), also)
        switch = breakers.by_operator.get("deadman")
        due = None if switch is None else deadline(switch)
        self._operator.saved(now, due)

    def _say_digest(self, now: datetime, equity: float | None, breakers: Breakers) -> None:
        try:
            message = self._digest.due(now, equity, breakers)
        except Exception as error:  # no reason to keep anybody from trading
            self._complaints.about("digest", f"the day's message could not be made: {error!r}", error)
            return
        if message is not None:
            self.say(message)

    def _told(self, status: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        try:
            return status()
        except Exception as error:  # what cannot be shown must not keep what is known from being stored
            self._complaints.about("status", f"the status could not be told: {error!r}", error)
            return None

    @property
    def flow(self) -> float:
        """Return deposits minus withdrawals so far."""
        return self._flows.total

    def report(self, breakers: Breakers, now: int, journal: Journal | None) -> None:
        """Say what changed since the last time, once."""
        for name, machine, verdict in breakers.news():
            record_change(journal, now, name, machine, verdict)
            by_phone = name == "deadman" and verdict.level and not verdict.blocked
            self.say(f"{name}: {verdict.reason}{f', or /unlock {CHECK_IN}' if by_phone else ''}")

    def say(self, message: str) -> None:
        """Send a message to the operator."""
        logger.warning("%s", message)
        if self._strategy.dp is not None:
            self._strategy.dp.send_msg(f"Plimsoll: {_for_telegram(message)}", always_send=True)

    def restore(self, breakers: Breakers) -> bool:
        """Give the breakers what they knew before a restart, once; what cannot be read is tried again next loop.

        :returns: True once, when :attr:`margin` is there to be taken up.
        """
        self._try_to_restore(breakers)
        first = self._restored and not self._handed_over
        self._handed_over = self._restored
        return first

    def _try_to_restore(self, breakers: Breakers) -> None:
        if self._restored:
            return
        try:
            self._restore(breakers)
        except MemoryFault as fault:
            self._memory_fault = str(fault)

    def _restore(self, breakers: Breakers) -> None:
        stored = self._memory.load()
        if stored is not None:
            try:
                breakers.restore(stored["breakers"])
                self._locks.restore(stored["locks"])
                self._flows.total = float(stored["flows"]["total"])
                baseline = stored["flows"]["baseline"]
                self._flows.baseline = None if baseline is None else float(baseline)
                self._operator.restore(stored["operator"])
                self.identity = str(stored.get("identity") or self.identity)
                self._digest.restore(stored.get("digest"))
                self.margin = dict(stored["margin"])
                remembered(self.margin)
                self.misfit = what_does_not_fit(stored["bot"], self._strategy)
                self._newest_trade = int((stored["bot"] or {}).get("newest_trade", 0))
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise MemoryFault(f"the memory in Freqtrade's database does not fit: {error!r}") from error
            if self.misfit is not None:
                self._unfit = stored
                self.say(f"no entries: {self.misfit}")
        self._restored = True


def _not_backwards(time: int, latest: int) -> int:
    if latest - time > CLOCK_CORRECTION:
        raise ClockWentBack(f"the clock went back; it was {utc(latest)} before, and entries wait until then")
    return max(time, latest)


def _for_telegram(message: str) -> str:
    # Freqtrade sends it as Markdown, of which Telegram refuses what it cannot parse: the message would be lost.
    return re.sub(r"([_*\[])", r"\\\1", message.replace("`", "'"))
