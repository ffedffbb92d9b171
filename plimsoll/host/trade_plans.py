"""The plan of each open trade: from its first fill on, through restarts, until it is closed."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

from plimsoll.host import internals
from plimsoll.host.account import Book, loss_at_stop
from plimsoll.host.boundary import Unusable
from plimsoll.host.inputs import Inputs
from plimsoll.host.runlog import TRADE_DATA, RunLog, TradePlan, stored_plan
from plimsoll.plan import Plan
from plimsoll.rules import stops
from plimsoll.rules.answer import Side
from plimsoll.rules.sizing import loss_at_stop_ratio
from plimsoll.settings import Settings

FUNDING_WORTH_A_MOVE = 0.01  # of R: less does not move the stop
MOST_OVERFILLED = 1.02  # times the planned R: fills differ a little from the rate that was planned at


class TradePlans:
    """Keep each open trade's plan, and the trades whose stop Freqtrade shall ask for."""

    def __init__(
        self, strategy: IStrategy, settings: Settings, inputs: Inputs, book: Book, run: Callable[[], RunLog]
    ) -> None:
        self._stored: set[int] = set()  # trades whose plan is in Freqtrade's database
        self.stop_due: set[int] = set()  # trades whose stop Freqtrade shall ask for
        self._strategy = strategy
        self._settings = settings
        self._inputs = inputs
        self._book = book
        self._run = run

    def filled(self, trade: LocalTrade) -> None:
        """Tie the plan to the trade its entry opened, take R from what was really filled, and have the stop asked for."""
        run = self._run()
        plan = self.plan_of(trade) or self._new_plan(trade)
        if trade.nr_of_successful_entries <= 1:
            filled = trade.amount * trade.open_rate * plan.loss_at_stop_ratio
            # Filled with more than was planned, its stop has to move.
            most = plan.risk_granted * MOST_OVERFILLED if plan.risk_granted > 0.0 else math.inf
            plan.risk = min(filled, most)
        else:
            # What addition() granted; one that was forced gets no R of its own, so the stop has to move.
            plan.risk = max(
                plan.risk, min(plan.risk_granted, loss_at_stop(trade, self._settings.risk.slippage))
            )
        run.trades[trade.id] = plan
        self.stop_due.add(trade.id)
        if not internals.is_offline():
            trade.set_custom_data(TRADE_DATA, plan.as_data())

    def plan_of(self, trade: LocalTrade) -> TradePlan | None:
        """Return the plan a trade was opened with, from memory or, after a restart, from Freqtrade's database."""
        run = self._run()
        known = run.trades.get(trade.id)
        if known is None:
            known = stored_plan(trade)
            if known is not None:
                run.trades[trade.id] = known
        return known

    def _new_plan(self, trade: LocalTrade) -> TradePlan:
        pending = self._run().pending.get((trade.pair, side_of(trade)))
        if pending is not None and pending.granted:
            return _from_pending(pending)
        # Opened around us, before Plimsoll or by hand: it gets the stop that a plan would have given it.
        # A position older than the candles gets the present ATR.
        filled_at, now = int(trade.date_last_filled_utc.timestamp()), int(datetime.now(UTC).timestamp())
        reading = self._inputs.reading(trade.pair, filled_at)
        if reading is None and not internals.is_offline():
            reading = self._inputs.reading(trade.pair, now)
        stop = stops.atr_stop(
            atr=math.nan if reading is None else reading.atr,
            rate=trade.open_rate,
            multiple=self._settings.stop.atr_multiple,
            own_stop_price_ratio=abs(self._strategy.stoploss) / trade.leverage,
        )
        if stop.value is None or stop.blocks:
            raise Unusable(stop.reason)
        ratio = self.loss_ratio(trade, stop.value)
        return TradePlan(stop.value, ratio, trade.amount * trade.open_rate * ratio, trade.leverage)

    def loss_ratio(self, trade: LocalTrade, distance: float) -> float:
        """Return what a trade loses at a stop so far from its entry, fees and slippage included, as a ratio of its notional."""
        return loss_at_stop_ratio(
            side=side_of(trade),
            stop_price_ratio=distance,
            fee_open=trade.fee_open or 0.0,
            fee_close=trade.fee_close or 0.0,
            slippage=self._settings.risk.slippage,
        )

    def last_known_ratio(self, trade: LocalTrade) -> float | None:
        """Return the planned stop distance of a trade without additions, from whatever is at hand."""
        if not is_first_fill(trade):
            return None
        run = self._run()
        known = run.trades.get(trade.id)
        if known is not None:
            return known.stop_price_ratio
        pending = run.pending.get((trade.pair, side_of(trade)))
        return pending.stop_price_ratio if pending is not None and pending.granted else None

    def target_ratio(self, trade: LocalTrade) -> float | None:
        """Return the profit on margin at which ``take_profit_r`` closes a trade; None without a target."""
        multiple = self._settings.reward_risk.take_profit_r
        plan = self.plan_of(trade)
        if multiple is None or plan is None:
            return None
        return multiple * plan.loss_at_stop_ratio * trade.leverage

    def review(self, now: int) -> None:
        """Have the stop asked for where funding was or will be paid, which belongs to R; forget trades that closed.

        What is due next counts already: once the candle of the settlement has reached the stop it is too late to move it.
        """
        offline = internals.is_offline()
        if offline and not self.stop_due and not self._inputs.settlement_near(now):
            return
        trades = self._book.trades()
        if self.stop_due:
            self.stop_due.intersection_update({trade.id for trade in trades})
        if not offline:
            self._keep_stored(trades)
        if not trades or not self._inputs.settlement_near(now):
            return
        plans = self._run().trades
        for trade in trades:
            plan = plans.get(trade.id)
            if plan is None:
                continue
            rate = self._inputs.funding_ahead(trade.pair, now)
            cost = (-rate if trade.is_short else rate) * trade.amount * trade.open_rate
            plan.funding_ahead = max(0.0, cost)
            paid = plan.funding_ahead - (trade.funding_fees or 0.0)
            if paid - plan.funding_counted > FUNDING_WORTH_A_MOVE * plan.risk:
                self.stop_due.add(trade.id)

    def _keep_stored(self, trades: list[LocalTrade]) -> None:
        # As soon as a trade has a row, filled or not, and until it worked. A deleted trade's id may come back as another's.
        plans, alive = self._run().trades, {trade.id for trade in trades}
        for gone in plans.keys() - alive:
            del plans[gone]
        self._stored &= alive
        for trade in trades:
            if trade.id in self._stored:
                continue
            plan = self.plan_of(trade)
            if plan is None and not trade.has_open_position:
                pending = self._run().pending.get((trade.pair, side_of(trade)))
                plan = None if pending is None or not pending.granted else _from_pending(pending)
            if plan is not None:
                plans[trade.id] = plan
                trade.set_custom_data(TRADE_DATA, plan.as_data())
                self._stored.add(trade.id)


def _from_pending(plan: Plan) -> TradePlan:
    return TradePlan(
        plan.stop_price_ratio,
        plan.loss_at_stop_ratio,
        plan.risk,
        float(plan.leverage),
        risk_granted=plan.risk,
    )


def is_first_fill(trade: LocalTrade) -> bool:
    """Tell whether a trade is as its first fill left it, without additions and exits."""
    return trade.nr_of_successful_entries <= 1 and trade.nr_of_successful_exits == 0


def side_of(trade: LocalTrade) -> Side:
    """Return a trade's side."""
    return "short" if trade.is_short else "long"
