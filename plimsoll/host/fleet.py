"""One bot's place in the ledger that several bots share: it tells what it has each loop, and reserves before it enters.

A ledger that cannot be reached blocks entries and nothing else; it is tried again after a pause that grows, so that exits wait
seconds at most.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Container, Iterable, Sequence
from datetime import datetime
from typing import Any

from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

from plimsoll.credentials import account_mark
from plimsoll.host import internals
from plimsoll.host.account import loss_at_stop
from plimsoll.portfolio import Decision, Holding, Ledger, LedgerFault, Standing, address, limits_of
from plimsoll.rules.answer import Answer, Kind, Side, gate, unknown
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.portfolio_claims import FOUND
from plimsoll.settings import Settings

RULE = "portfolio"
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0  # seconds between attempts to reach a ledger that failed
RATE_SECONDS = 600.0


class Fleet:
    """Speak with the ledger for one trading bot; without a ledger it allows everything and says nothing."""

    def __init__(self, strategy: IStrategy, settings: Settings) -> None:
        self.standing: Standing | None = None
        self._strategy = strategy
        self._slippage = settings.risk.slippage
        self._name = strategy.get_strategy_name()
        self._ledger: Ledger | None = None
        self._fault: str | None = None
        self._pause = FIRST_PAUSE
        self._retry_at = 0.0
        self._rate: tuple[float, float | None] = (-math.inf, None)
        self._news: list[str] = []
        self._told: dict[str, Any] = {}
        self._reached: bool | None = None
        self._account_shared: str | None = None  # seen once, it holds until a start with other settings
        # The wallet of a dry-run is its own, whatever the key.
        dry = strategy.config.get("dry_run", True)
        self._account = "" if dry else account_mark(strategy.config.get("exchange", {}))
        try:
            where = None if RULE in settings.off else address(settings.portfolio.ledger, os.environ)
            if where is not None:
                self._ledger = Ledger(where, limits_of(settings.portfolio), strategy.config["stake_currency"])
                self._fault = "the ledger was not asked yet"
        except LedgerFault as fault:
            self._fault = str(fault)
            self._news.append(f"portfolio: {fault}; no entries until it is set right")

    @property
    def shared(self) -> bool:
        """Tell whether there is a ledger, or should be one."""
        return self._ledger is not None or self._fault is not None

    def loop(
        self,
        now: datetime,
        identity: str,
        equity: float | None,
        flow: float,
        trades: Iterable[LocalTrade],
        foreign: Sequence[OpenPosition],
    ) -> None:
        """Tell the ledger what the bot has, and keep how all bots stand."""
        if self._ledger is None or time.monotonic() < self._retry_at:
            return
        self._name = f"{self._strategy.config.get('bot_name', 'freqtrade')} {self._strategy.get_strategy_name()} {identity}"
        second = now.timestamp()
        try:
            holdings = [
                *self._holdings(trades),
                *(Holding(p.pair, p.side, p.margin, p.risk) for p in foreign),
            ]
            self.standing = self._ledger.heartbeat(
                self._name, second, equity, flow, holdings, rate=self._conversion(), account=self._account
            )
            if not self._reached:
                self._news.append(f"portfolio: the ledger {self._ledger.shown} is reached")
            self._fault, self._reached, self._pause = None, True, FIRST_PAUSE
            self._report(self.standing)
        except LedgerFault as fault:
            self._failed(fault)

    def see_account(self, pairs: set[str]) -> None:
        """Take note of pairs that this account holds and other bots have claimed: its whole balance is not this bot's."""
        if self._account_shared is None and pairs and "available_capital" not in self._strategy.config:
            self._account_shared = _shared(f"another bot trades on this account ({', '.join(sorted(pairs))})")
            self._news.append(f"portfolio: no entries: {self._account_shared}")

    @property
    def shares_account(self) -> str | None:
        """Say which bots of the ledger use this bot's key while it counts the whole account as its capital; None where none does.

        One that is silent and has no positions has left.
        """
        standing = self.standing
        if standing is None or not self._account or "available_capital" in self._strategy.config:
            return None
        others = [
            bot.bot
            for bot in standing.bots
            if bot.bot != self._name and bot.account == self._account and (bot.claims or not bot.silent)
        ]
        return _shared(f"on this bot's account trades {', '.join(others)}") if others else None

    def answer(self) -> Answer | None:
        """Return what stands against any entry; None where nothing does."""
        if self._fault is not None:
            return unknown(RULE, Kind.GATE, self._fault)
        shared = self._account_shared or self.shares_account
        if shared is not None:
            return unknown(RULE, Kind.GATE, shared)
        standing = self.standing
        if standing is None:
            return None
        if standing.halted is not None:
            return gate(RULE, False, standing.halted, {})
        if standing.unclear:
            return unknown(RULE, Kind.GATE, "; ".join(standing.unclear))
        return None

    def most(self, pair: str, side: Side, margin: float, risk: float, now: datetime) -> Decision | None:
        """Ask how much would be granted, without taking it; None without a ledger.

        :raises LedgerFault: where the ledger cannot be used.
        """
        return self._ask(lambda ledger: ledger.preview(
            self._name, pair, side, margin, risk, now.timestamp(), rate=self._conversion()
        ))  # fmt: skip

    def reserve(
        self, key: str, pair: str, side: Side, margin: float, risk: float, now: datetime
    ) -> Decision | None:
        """Take margin and risk of the shared limits for an order; None without a ledger.

        :raises LedgerFault: where the ledger cannot be used.
        """
        return self._ask(lambda ledger: ledger.reserve(
            self._name, key, pair, side, margin, risk, now.timestamp(), rate=self._conversion()
        ))  # fmt: skip

    def claimed_by_others(self, counted: Container[str] = ()) -> set[str]:
        """Return the pairs that other bots have positions in, or orders for.

        :param counted: pairs that this bot counts as foreign already. Where two bots of an account found the same position, the
            first by name keeps it; else each would leave it to the other.
        """
        bots = () if self.standing is None else self.standing.bots
        return {
            claim.pair
            for bot in bots
            if bot.bot != self._name
            for claim in bot.claims
            if claim.pair not in counted or bot.bot < self._name or not claim.key.startswith(f"{FOUND}:")
        }

    def news(self) -> list[str]:
        """Return what is new since the last call, for the operator."""
        said, self._news = self._news, []
        return said

    def as_data(self) -> dict[str, Any] | None:
        """Describe how all bots stand; None without a ledger."""
        if not self.shared:
            return None
        if self.standing is None or self._fault is not None:
            return {"outcome": "unknown", "reason": self._fault}
        data = self.standing.as_data()
        return {
            key: data[key]
            for key in ("outcome", "halted", "margin_left", "risk_left", "capital", "silent", "drawdown")
        }

    def _ask(self, question: Any) -> Decision | None:
        if self._ledger is None:
            if self._fault is not None:
                raise LedgerFault(self._fault)
            return None
        try:
            return question(self._ledger)
        except LedgerFault as fault:
            self._failed(fault)
            raise

    def _failed(self, fault: LedgerFault) -> None:
        self._fault = f"the ledger cannot be used: {fault}"
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2.0 * self._pause, LONGEST_PAUSE)
        # What it fails with changes from one attempt to the next; that it fails is the news.
        if self._reached is not False:
            self._news.append(f"portfolio: {self._fault}; no entries until it can")
        self._reached = False

    def _report(self, standing: Standing) -> None:
        for change in standing.changes:
            if change.event == "found":
                claim = change.claim
                self._news.append(f"portfolio: a position in {claim.pair} was found that nobody had reserved")
        halt = standing.halted
        over = standing.over if standing.capital > 0.0 else ()  # nobody's equity is confirmed yet
        self._say("halt", halt, halt, "the halt is over")
        # The amounts move each loop; which limits they exceed is the news.
        exceeded = tuple(text.split(":")[0] for text in over)
        self._say("over", exceeded, f"over its limits: {', '.join(over)}", "within its limits again")
        silent = f"silent bots, whose positions count on: {', '.join(standing.silent)}"
        self._say("silent", standing.silent, silent, "every bot is heard again")
        account = self.shares_account
        self._say("account", account, f"no entries: {account}", "no other bot is on this account any more")
        unclear = "; ".join(standing.unclear)
        self._say("unclear", unclear, f"cannot be counted: {unclear}", "everything can be counted again")

    def _say(self, subject: str, state: Any, text: str | None, over: str) -> None:
        if (self._told.get(subject) or None) != (state or None):
            self._told[subject] = state
            self._news.append(f"portfolio: {text if state else over}")

    def _holdings(self, trades: Iterable[LocalTrade]) -> list[Holding]:
        found = []
        for trade in trades:
            filled = trade.has_open_position
            resting = sum(
                (order.safe_amount or 0.0) * (order.ft_price or 0.0) / (trade.leverage or 1.0)
                for order in trade.open_orders
                if order.ft_order_side == trade.entry_side
            )
            risk = loss_at_stop(trade, self._slippage) if filled else None
            margin = trade.stake_amount if filled else 0.0
            side: Side = "short" if trade.is_short else "long"
            found.append(
                Holding(
                    trade.pair, side, margin, risk, resting if filled else max(resting, trade.stake_amount)
                )
            )
        return found

    def _conversion(self) -> float | None:
        """Return the ledger's units for one of the bot's currency; None where it is not known."""
        assert self._ledger is not None
        own = self._strategy.config["stake_currency"]
        standing = self.standing
        currency = own if standing is None else standing.currency
        if currency == own:
            return None  # the ledger asks for none then
        at, rate = self._rate
        if time.monotonic() - at > (LONGEST_PAUSE if rate is None else RATE_SECONDS):
            exchange = internals.exchange_of(self._strategy)
            try:
                found = None if exchange is None else exchange.get_conversion_rate(own, currency)
            except Exception:
                found = None
            rate = float(found) if isinstance(found, int | float) and 0.0 < found < math.inf else None
            self._rate = (time.monotonic(), rate)
        return rate


def _shared(what: str) -> str:
    told = "state the `available_capital` of each in its configuration"
    return f"{what}, and each counts the whole of it as its capital: {told}"
