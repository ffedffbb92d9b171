"""What one run has learnt: plans of open trades, closed trades, the journal. A backtest's next run gets a new one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from freqtrade.enums import ExitType
from freqtrade.persistence import LocalTrade

from plimsoll.host import internals
from plimsoll.host.account import ClosedTrades, RecentReturns
from plimsoll.host.breakers import Breakers
from plimsoll.journal import Journal
from plimsoll.plan import Plan
from plimsoll.rules.breaker import ClosedTrade
from plimsoll.rules.kelly import KellyEstimate, kelly_estimate, without_growth_after_loss
from plimsoll.settings import Settings

LIVE_CONFIRMATIONS = 2
LOST_MARGIN = -0.95  # a loss of this much of the margin is a liquidation, whatever its exit is called
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


class RunLog:
    """Follow one run from its first trade to its last."""

    def __init__(self, settings: Settings, journal: Journal | None) -> None:
        self.token = internals.run_token()
        self.pending: dict[tuple[str, str], Plan] = {}
        self.trades: dict[int, TradePlan] = {}
        self.journal = journal
        self._settings = settings
        self._closed = ClosedTrades()
        self._returns = RecentReturns(settings.kelly.window_trades)
        self.breakers = Breakers(settings, confirmations=1 if internals.is_offline() else LIVE_CONFIRMATIONS)
        self._kelly: KellyEstimate | None = None
        self._last_recorded: dict[tuple[str, str], tuple[Any, ...]] = {}

    def collect(self, now: datetime) -> None:
        """Take note of the trades closed before ``now``."""
        for trade in self._closed.new(now):
            if self._returns.add(trade):
                self._estimate_after(self._returns.values[-1])
            self.breakers.closed(closed_trade(trade))
            plan = self.trades.pop(trade.id, None)
            if self.journal is not None:
                self.journal.record("outcome", outcome(trade, plan))

    def kelly(self) -> KellyEstimate:
        """Return the estimate of the edge after the last closed trade."""
        if self._kelly is None:
            self._kelly = self._estimate()
        return self._kelly

    def _estimate_after(self, last_return: float) -> None:
        self._kelly = without_growth_after_loss(self._kelly, self._estimate(), last_return)

    def _estimate(self) -> KellyEstimate:
        k = self._settings.kelly
        return kelly_estimate(
            list(self._returns.values),
            method=k.method,
            multiple=k.multiple,
            shrink_trades=k.shrink_trades,
            min_trades=k.min_trades,
        )

    def record(self, plan: Plan, candle: int) -> None:
        """Journal a plan, once per candle as long as its outcome stays the same: a live bot asks every loop."""
        if self.journal is None:
            return
        key = (plan.signal.pair, plan.signal.side)
        outcome_ = (candle, plan.refusal and plan.refusal.split(":")[0], plan.leverage, plan.bound_size)
        if self._last_recorded.get(key) != outcome_:
            self._last_recorded[key] = outcome_
            self.journal.plan(plan)

    def finish(self) -> None:
        """Record what closed since and write the journal."""
        if internals.is_offline():
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
        liquidated=trade.exit_reason == ExitType.LIQUIDATION.value
        or (ratio is not None and ratio <= LOST_MARGIN),
        side="short" if trade.is_short else "long",
    )


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
