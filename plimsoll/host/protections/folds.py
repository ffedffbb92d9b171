"""The two kinds of drop-in protections: one steps on realised equity, one on closed trades."""

from __future__ import annotations

import math
from typing import Any

from freqtrade.persistence import Trade

from plimsoll.host.boundary import Unusable, finite
from plimsoll.host.machines import BOT_WIDE
from plimsoll.host.protections.protection import Protection
from plimsoll.host.protections.realised import Realised
from plimsoll.rules.breaker import ClosedTrade, EquitySample, ReadingConfig, Tick

BALANCE_JUMP = 0.20  # a starting balance further than this from the last one is taken once it repeats
LEAST_EQUITY = 1e-6  # of the starting balance: nothing left is a loss, not an unknown
CLOSED_ONLY = "Sees closed trades only, and only when one closes."
REALISED_READINGS = ReadingConfig(confirmations=1)


class EquityProtection(Protection):
    """Step the machine on realised equity: the starting balance plus what exits realised since."""

    def _prepare(self, starting_balance: float, offline: bool) -> None:
        balance = finite(starting_balance, "the starting balance")
        if balance <= 0.0:
            raise Unusable(f"the starting balance is {balance:g}")
        last, self._balance = self._balance, balance
        if last is not None and abs(balance / last - 1.0) > BALANCE_JUMP:
            raise Unusable(f"the starting balance went from {last:g} to {balance:g}, to be confirmed")
        if "available_capital" not in self._bot_config:
            balance /= self._bot_config["tradable_balance_ratio"]
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
