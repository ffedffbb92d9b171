"""What one run has learnt: plans of open trades, closed trades, the journal. A backtest's next run gets a new one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from freqtrade.enums import ExitType
from freqtrade.persistence import LocalTrade

from plimsoll.host import internals
from plimsoll.host.account import ClosedTrades
from plimsoll.host.breakers import Breakers
from plimsoll.journal import Journal, read
from plimsoll.plan import Plan
from plimsoll.rules.breaker import ClosedTrade
from plimsoll.rules.kelly import KellyEstimate, kelly_estimate, without_growth_after_loss
from plimsoll.settings import Settings

TRADE_DATA = "plimsoll-plan"
LIVE_CONFIRMATIONS = 2
LOST_MARGIN = -0.95  # a loss of this much of the margin is a liquidation, whatever its exit is called
# Exits that a backtest fills somewhere inside a candle and dates at its begin.
INSIDE_A_CANDLE = {"stop_loss", "trailing_stop_loss", "liquidation", "roi"}
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class TradePlan:
    """Hold what a trade was opened with: its stop distance on price, its R, and the funding its stop has made room for."""

    stop_price_ratio: float
    loss_at_stop_ratio: float
    risk: float
    leverage: float
    risk_granted: float = 0.0  # R of the whole after an addition that was granted
    funding_ahead: float = 0.0
    funding_counted: float = 0.0

    def as_data(self) -> dict[str, float]:
        return asdict(self)


class Edge:
    """Follow the returns on notional of closed trades and estimate the edge, folded as if after each trade, worked out when asked.

    Only losses after the last trade that did not lose can hold the estimate down, so it suffices to begin there.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.kelly
        self._values: list[float] = []
        self._pending = 0  # values not in the estimate yet
        self._estimate: KellyEstimate | None = None

    def add(self, trade: LocalTrade) -> None:
        """Take a closed trade; one without a result has nothing to tell."""
        if trade.close_profit is None:
            return
        # close_profit is on margin; the rules speak of notional.
        self._values.append(trade.close_profit / (trade.leverage or 1.0))
        self._pending += 1
        needed = self._settings.window_trades + self._pending
        if len(self._values) > 2 * needed:
            self._values = self._values[-needed:]

    def estimate(self) -> KellyEstimate:
        """Return the estimate after the last closed trade."""
        if self._estimate is not None and not self._pending:
            return self._estimate
        count = len(self._values)
        found, begin = self._estimate, count - self._pending
        for index in range(count - 1, begin - 1, -1):
            if not self._values[index] < 0.0:
                found, begin = self._plain(index + 1), index + 1
                break
        if found is None:
            begin = min(begin + 1, count)
            found = self._plain(begin)
        for end in range(begin + 1, count + 1):
            found = without_growth_after_loss(found, self._plain(end), self._values[end - 1])
        self._estimate, self._pending = found, 0
        return found

    def _plain(self, end: int) -> KellyEstimate:
        k = self._settings
        return kelly_estimate(
            self._values[max(0, end - k.window_trades) : end],
            method=k.method,
            multiple=k.multiple,
            shrink_trades=k.shrink_trades,
            min_trades=k.min_trades,
        )


class RunLog:
    """Follow one run from its first trade to its last."""

    def __init__(self, settings: Settings, journal: Journal | None) -> None:
        self._offline = internals.is_offline()
        self.token = internals.run_token()
        self.pending: dict[tuple[str, str], Plan] = {}
        self.trades: dict[int, TradePlan] = {}
        self.journal = journal
        self._settings = settings
        self._closed = ClosedTrades()
        self._edge = Edge(settings)
        # A restarted bot sees its old trades again; their outcomes are in its journal already.
        known = () if journal is None or self._offline else read(journal.path)
        self._recorded = {(r.get("trade_id"), r.get("opened")) for r in known if r.get("kind") == "outcome"}
        self.breakers = Breakers(
            settings, confirmations=1 if self._offline else LIVE_CONFIRMATIONS, attended=not self._offline
        )
        self._last_recorded: dict[tuple[str, str], tuple[int, set[tuple[Any, ...]]]] = {}

    def collect(self, now: datetime) -> None:
        """Take note of the trades closed before ``now``."""
        if self._offline and not self._closed.waiting:
            return
        for trade in self._closed.new(now):
            self._edge.add(trade)
            inside = self._offline and now is not END_OF_TIME and trade.exit_reason in INSIDE_A_CANDLE
            known = int(now.timestamp()) if inside else None
            self.breakers.closed(closed_trade(trade), known)
            plan = self.trades.pop(trade.id, None)
            opened = int(trade.open_date_utc.timestamp())
            if self.journal is not None and (trade.id, opened) not in self._recorded:
                self.journal.record("outcome", outcome(trade, plan or stored_plan(trade)))

    def kelly(self) -> KellyEstimate:
        """Return the estimate of the edge after the last closed trade."""
        return self._edge.estimate()

    def record(self, plan: Plan, candle: int) -> None:
        """Journal a plan, each outcome once per candle: a live bot asks every loop, and may be refused what it was granted."""
        if self.journal is None:
            return
        key = (plan.signal.pair, plan.signal.side)
        outcome_ = (plan.refusal and plan.refusal.split(":")[0], plan.leverage, plan.bound_size)
        at, said = self._last_recorded.get(key, (None, set()))
        if at != candle:
            said = set()
            self._last_recorded[key] = (candle, said)
        if outcome_ not in said:
            said.add(outcome_)
            self.journal.plan(plan)

    def finish(self) -> None:
        """Record what closed since and write the journal."""
        if self._offline:
            self.collect(END_OF_TIME)
        if self.journal is not None:
            self.journal.flush()


def closed_trade(trade: LocalTrade) -> ClosedTrade:
    """Describe a closed trade to the breakers; its profit is a ratio of notional."""
    ratio = trade.close_profit
    return ClosedTrade(
        time=int(trade.close_date_utc.timestamp()),
        pair=trade.pair,
        profit_ratio=None if ratio is None else ratio / (trade.leverage or 1.0),
        liquidated=_was_liquidated(trade),
        side="short" if trade.is_short else "long",
    )


def _was_liquidated(trade: LocalTrade) -> bool:
    # What an exchange liquidates, Freqtrade finds gone and books as sold there, at the price of the exchange's own order.
    if trade.exit_reason == ExitType.LIQUIDATION.value:
        return True
    if trade.close_profit is not None and trade.close_profit <= LOST_MARGIN:
        return True
    if trade.exit_reason != ExitType.SOLD_ON_EXCHANGE.value:
        return False
    liquidation, closed = trade.liquidation_price, trade.close_rate
    if not liquidation or not closed:
        return False
    return closed >= liquidation if trade.is_short else closed <= liquidation


def stored_plan(trade: LocalTrade) -> TradePlan | None:
    """Read the plan a trade was opened with from Freqtrade's database."""
    if internals.is_offline():
        return None
    stored = trade.get_custom_data(TRADE_DATA)
    return None if stored is None else TradePlan(**stored)


def outcome(trade: LocalTrade, plan: TradePlan | None) -> dict[str, Any]:
    """Compare what a closed trade lost or won with its planned R."""
    risk = plan.risk if plan is not None else None
    profit = trade.close_profit_abs or 0.0
    return {
        "version": 1,
        "trade_id": trade.id,
        "pair": trade.pair,
        "side": trade.trade_direction,
        "opened": int(trade.open_date_utc.timestamp()),
        "closed": int(trade.close_date_utc.timestamp()),
        "exit_reason": trade.exit_reason,
        "leverage": trade.leverage,
        "margin": trade.stake_amount,
        "profit": profit,
        "funding": trade.funding_fees,
        "planned_risk": risk,
        "realised_r": profit / risk if risk else None,
        "stop_price_ratio": plan.stop_price_ratio if plan is not None else None,
    }
