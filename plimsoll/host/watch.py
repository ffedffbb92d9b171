"""Each loop, or each candle of a backtest: equity to the breakers, locks and memory in step with them, one message per change."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from freqtrade.enums import RunMode
from freqtrade.persistence import Trade
from freqtrade.strategy import IStrategy

from plimsoll.host.breakers import Breakers, Machine
from plimsoll.host.locks import Locks
from plimsoll.host.memory import Memory, MemoryFault
from plimsoll.journal import Journal
from plimsoll.rules.breaker import EquitySample, Verdict

logger = logging.getLogger("plimsoll")

FLOW_THRESHOLD = 0.01  # of the starting balance: less is funding and fees, which are profit and loss
FLOW_CONFIRMATIONS = 2


class Flows:
    """Tell deposits and withdrawals from profit: the balance without the trades' results moves with them only."""

    def __init__(self) -> None:
        self.total = 0.0
        self.baseline: float | None = None
        self._seen: tuple[float, int] = (0.0, 0)

    def read(self, starting_balance: float | None) -> float:
        """Take a reading, counted once it repeats; return the sum of deposits minus withdrawals so far."""
        if starting_balance is None or not starting_balance > 0.0:
            return self.total
        if self.baseline is None:
            self.baseline = starting_balance
        moved = starting_balance - self.baseline
        if abs(moved) <= FLOW_THRESHOLD * self.baseline:
            self._seen = (0.0, 0)
            return self.total
        last, times = self._seen
        times = times + 1 if abs(moved - last) <= FLOW_THRESHOLD * self.baseline else 1
        self._seen = (moved, times)
        if times >= FLOW_CONFIRMATIONS:
            self.total += moved
            self.baseline = starting_balance
            self._seen = (0.0, 0)
        return self.total


class Watch:
    """Step the breakers of a trading bot and keep what they know through restarts."""

    def __init__(self, strategy: IStrategy) -> None:
        self.blocker: str | None = "equity was not read yet"
        self._strategy = strategy
        self._locks = Locks()
        self._flows = Flows()
        self._memory = Memory(f"{strategy.get_strategy_name()}")
        self._restored = False
        self._memory_fault = ""
        self._failing = False

    def step(self, breakers: Breakers, now: datetime, equity: float | None, journal: Journal | None) -> None:
        """Let the breakers see equity, then bring messages, locks and memory in step.

        Memory that cannot be read blocks entries until it can; memory that cannot be written is tried again next loop.
        """
        try:
            self.restore(breakers)
            if not self._restored:
                raise MemoryFault(self._memory_fault)
            sample = EquitySample(int(now.timestamp()), equity, self._flows.read(self._starting_balance()))
            breakers.equity(sample)
            for name in self._locks.sync(breakers.machines(), now):
                breakers.reset(name, sample)
                self.say(f"{name}: its lock was removed, it starts anew from here")
            self.report(breakers, int(now.timestamp()), journal)
            self._memory.save(
                {
                    "breakers": breakers.dump(),
                    "locks": self._locks.dump(),
                    "flows": {"total": self._flows.total, "baseline": self._flows.baseline},
                }
            )
            self.blocker, self._failing = None, False
        except Exception as error:
            self.blocker = f"breakers could not be evaluated: {error}"
            if not self._failing:
                logger.exception("breakers could not be evaluated, no entries")
                self.say(self.blocker)
            self._failing = True

    def report(self, breakers: Breakers, now: int, journal: Journal | None) -> None:
        """Say what changed since the last time, once."""
        for name, machine, verdict in breakers.news():
            record_change(journal, now, name, machine, verdict)
            self.say(f"{name}: {verdict.reason}")

    def say(self, message: str) -> None:
        """Send a message to the operator."""
        logger.warning("%s", message)
        if self._strategy.dp is not None:
            self._strategy.dp.send_msg(f"Plimsoll: {message}", always_send=True)

    def restore(self, breakers: Breakers) -> None:
        """Give the breakers what they knew before a restart, once; what cannot be read is tried again next loop."""
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
                self._flows.baseline = stored["flows"]["baseline"]
            except (KeyError, TypeError, ValueError) as error:
                raise MemoryFault(f"the memory in Freqtrade's database does not fit: {error!r}") from error
        self._restored = True

    def _starting_balance(self) -> float | None:
        # Freqtrade's own starting balance is scaled, or fixed, by settings of the config.
        config: Any = self._strategy.config
        wallets = self._strategy.wallets
        if config.get("runmode") != RunMode.LIVE or wallets is None:
            return None  # a dry-run wallet knows no deposits
        results = Trade.get_total_closed_profit() + sum(
            trade.realized_profit for trade in Trade.get_trades_proxy(is_open=True)
        )
        return float(wallets.get_total(config["stake_currency"])) - float(results)


def record_change(journal: Journal | None, now: int, name: str, machine: Machine, verdict: Verdict) -> None:
    """Journal a breaker's change."""
    if journal is not None:
        journal.record(
            "breaker",
            {
                "time": now,
                "breaker": name,
                "pair": machine.pair,
                "blocked": verdict.blocked,
                "factor": verdict.factor,
                "until": verdict.until,
                "value": verdict.value,
                "reason": verdict.reason,
            },
        )


def offline_step(breakers: Breakers, now: datetime, equity: float | None, journal: Journal | None) -> None:
    """Let the breakers of a backtest see equity, and journal their changes."""
    time = int(now.timestamp())
    breakers.equity(EquitySample(time, equity))
    for name, machine, verdict in breakers.news():
        record_change(journal, time, name, machine, verdict)
