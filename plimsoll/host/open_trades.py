"""Open trades: their plans, their stops, additions to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

from plimsoll.host import internals
from plimsoll.host.account import Book, loss_at_stop
from plimsoll.host.boundary import Unusable
from plimsoll.host.inputs import Inputs
from plimsoll.host.last_resort import through_the_rate
from plimsoll.host.runlog import TRADE_DATA, RunLog, TradePlan, stored_plan
from plimsoll.plan import Account, Plan, Signal, make_plan
from plimsoll.rules import stops
from plimsoll.rules.answer import Answer, Side
from plimsoll.rules.liquidation import liquidation_price
from plimsoll.rules.risk_budget_stop import stop_ratio_within_risk
from plimsoll.rules.sizing import loss_at_stop_ratio
from plimsoll.settings import Settings

FUNDING_WORTH_A_MOVE = 0.01  # of R: less does not move the stop


class OpenTrades:
    """Keep each open trade's plan and say where its stop has to be."""

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
            plan.risk = trade.amount * trade.open_rate * plan.loss_at_stop_ratio
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
        pending = self._run().pending.get((trade.pair, _side(trade)))
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
        ratio = self._loss_ratio(trade, stop.value)
        return TradePlan(stop.value, ratio, trade.amount * trade.open_rate * ratio, trade.leverage)

    def _loss_ratio(self, trade: LocalTrade, distance: float) -> float:
        return loss_at_stop_ratio(
            side=_side(trade),
            stop_price_ratio=distance,
            fee_open=trade.fee_open or 0.0,
            fee_close=trade.fee_close or 0.0,
            slippage=self._settings.risk.slippage,
        )

    # -- Stops ---------------------------------------------------------------------------------------------------------

    def stop_price(self, trade: LocalTrade) -> float | None:
        """Return where a trade's stop has to be at least: as planned, with the funding paid so far inside R and liquidation."""
        plan = self.plan_of(trade)
        if plan is None:
            self.filled(trade)
            plan = self._run().trades[trade.id]
        plan.funding_counted = paid = max(0.0, plan.funding_ahead - (trade.funding_fees or 0.0))
        # After an addition or a partial exit the stop stays where it is, as long as the whole loses no more than R there.
        distance = plan.stop_price_ratio if _is_first_fill(trade) else _stop_distance(trade)
        wanted = trade.stop_loss
        if distance > 0.0:
            opened = trade.amount * trade.open_rate
            distance = stop_ratio_within_risk(
                side=_side(trade),
                stop_price_ratio=distance,
                risk_ratio=plan.risk / opened,
                paid_ratio=paid / opened,
                fee_open=trade.fee_open or 0.0,
                fee_close=trade.fee_close or 0.0,
                slippage=self._settings.risk.slippage,
            )
            wanted = stops.stop_price(side=_side(trade), rate=trade.open_rate, stop_price_ratio=distance)
        return self.inside_liquidation(trade, wanted)

    def inside_liquidation(self, trade: LocalTrade, wanted: float) -> float:
        """Return a stop price moved inside the hard share of the way to liquidation, where liquidation is known."""
        liquidation = self.liquidation(trade)
        if liquidation is None:
            return wanted
        inside = stops.tighten_inside(
            side=_side(trade),
            stop_price=wanted,
            open_rate=trade.open_rate,
            liquidation_price=liquidation,
            hard_ratio=self._settings.leverage.hard_stop_to_liquidation,
        )
        return stops.tighter(_side(trade), wanted, inside)

    def last_known_ratio(self, trade: LocalTrade) -> float | None:
        """Return the planned stop distance of a trade without additions, from whatever is at hand."""
        if not _is_first_fill(trade):
            return None
        run = self._run()
        known = run.trades.get(trade.id)
        if known is not None:
            return known.stop_price_ratio
        pending = run.pending.get((trade.pair, _side(trade)))
        return pending.stop_price_ratio if pending is not None and pending.granted else None

    def liquidation(self, trade: LocalTrade) -> float | None:
        """Return the nearer of Freqtrade's liquidation price and ours: true tier of the notional, funding paid deducted."""
        if self._inputs.spot or not trade.has_open_position:
            return None
        ours = liquidation_price(
            side=_side(trade),
            open_rate=trade.open_rate,
            amount=trade.amount,
            margin=trade.stake_amount,
            tiers=self._inputs.tiers(trade.pair),
            extra=min(0.0, trade.funding_fees or 0.0),
            buffer=self._inputs.buffer(),
        )
        known = [x for x in (ours, trade.liquidation_price) if x is not None and math.isfinite(x) and x > 0.0]
        if not known:
            return None
        return min(known) if trade.is_short else max(known)

    def freqtrade_stop(
        self,
        trade: LocalTrade,
        own: float | None,
        wanted: float | None,
        current_rate: float,
        after_fill: bool,
    ) -> float | None:
        """Return what custom_stoploss has to answer: the tightest of ours, the strategy's and the stop that stands.

        :param own: the strategy's answer, a ratio on margin at ``current_rate``.
        :param wanted: our stop price.
        """
        if wanted is None and not after_fill:
            return own  # Freqtrade itself only tightens outside of after_fill
        side = _side(trade)
        candidates = [trade.stop_loss] if trade.stop_loss else []
        standing = trade.stop_loss or None
        if wanted is not None and wanted > 0.0:
            candidates.append(wanted)
        if own:
            way = current_rate * abs(own) / trade.leverage
            candidates.append(current_rate + way if trade.is_short else current_rate - way)
        if not candidates:
            return None
        tightest = min(candidates) if trade.is_short else max(candidates)
        if tightest == standing:
            return None
        ratio = stops.stop_ratio_for_freqtrade(
            stop_price=tightest, current_rate=current_rate, side=side, leverage=trade.leverage
        )
        through = tightest <= current_rate if trade.is_short else tightest >= current_rate
        return through_the_rate(trade) if ratio is None and through else ratio

    def review(self, now: int) -> None:
        """Have the stop asked for where funding was or will be paid, which belongs to R; forget trades that closed.

        What is due next counts already: once the candle of the settlement has reached the stop it is too late to move it.
        """
        trades = self._book.trades()
        if self.stop_due:
            self.stop_due.intersection_update({trade.id for trade in trades})
        if not internals.is_offline():
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
                pending = self._run().pending.get((trade.pair, _side(trade)))
                plan = None if pending is None or not pending.granted else _from_pending(pending)
            if plan is not None:
                plans[trade.id] = plan
                trade.set_custom_data(TRADE_DATA, plan.as_data())
                self._stored.add(trade.id)

    def target_ratio(self, trade: LocalTrade) -> float | None:
        """Return the profit on margin at which ``take_profit_r`` closes a trade; None without a target."""
        multiple = self._settings.reward_risk.take_profit_r
        plan = self.plan_of(trade)
        if multiple is None or plan is None:
            return None
        return multiple * plan.loss_at_stop_ratio * trade.leverage

    # -- Additions -----------------------------------------------------------------------------------------------------

    def addition(
        self,
        trade: LocalTrade,
        asked: float,
        *,
        now: datetime,
        rate: float,
        profit: float,
        gates: Iterable[Answer],
        account: Callable[[int], Account],
    ) -> float:
        """Return the margin that may be added so that the whole position still satisfies every limit and its R.

        :param asked: margin the strategy wants to add. :param profit: the position's profit ratio at ``rate``.
        :param account: the account without the trade of an id. :raises Unusable: with the reason of a refusal.
        """
        if any(order.ft_order_side == trade.entry_side for order in trade.open_orders):
            raise Unusable("an entry order is still open")
        if profit < 0.0 and not self._settings.exposure.add_to_losers:
            raise Unusable("the position is losing and exposure.add_to_losers is off")
        distance = (trade.stop_loss - rate if trade.is_short else rate - trade.stop_loss) / rate
        if not trade.stop_loss or not distance > 0.0:
            raise Unusable("the stop is at or through the price")
        signal = Signal(
            time=int(now.timestamp()),
            pair=trade.pair,
            side=_side(trade),
            rate=rate,
            own_stop_margin_ratio=distance * trade.leverage,
            fixed_leverage=trade.leverage,
        )
        market = self._inputs.market(trade.pair, signal.time, trade.leverage)
        whole = make_plan(signal, market, account(trade.id), self._settings, gates)
        if not whole.granted:
            raise Unusable(whole.refusal or "refused")
        # The stop stays where it is, so R is measured to it, even where the plan would place it nearer.
        by_risk = (whole.risk - loss_at_stop(trade, self._settings.risk.slippage)) / self._loss_ratio(
            trade, distance
        )
        by_notional = whole.notional - trade.amount * rate
        margin = min(asked, by_risk / trade.leverage, by_notional / trade.leverage)
        minimum = self._inputs.minimum_stake(trade.pair, rate, trade.leverage)
        if not margin > 0.0 or (minimum is not None and margin < minimum):
            raise Unusable(f"the position already uses its limits ({whole.bound_size})")
        plan = self.plan_of(trade)
        if plan is not None:
            plan.risk_granted = max(plan.risk_granted, whole.risk)
        return margin


def _from_pending(plan: Plan) -> TradePlan:
    return TradePlan(plan.stop_price_ratio, plan.loss_at_stop_ratio, plan.risk, float(plan.leverage))


def _is_first_fill(trade: LocalTrade) -> bool:
    return trade.nr_of_successful_entries <= 1 and trade.nr_of_successful_exits == 0


def _stop_distance(trade: LocalTrade) -> float:
    way = trade.stop_loss - trade.open_rate if trade.is_short else trade.open_rate - trade.stop_loss
    return way / trade.open_rate


def _side(trade: LocalTrade) -> Side:
    return "short" if trade.is_short else "long"
