"""Open trades: their plans, their stops, additions to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime

from freqtrade.persistence import LocalTrade

from plimsoll.host.account import loss_at_stop
from plimsoll.host.boundary import Unusable
from plimsoll.host.last_resort import through_the_rate
from plimsoll.host.trade_plans import TradePlans, is_first_fill, side_of
from plimsoll.plan import Account, Signal, make_plan
from plimsoll.rules import stops
from plimsoll.rules.answer import Answer
from plimsoll.rules.liquidation import liquidation_price
from plimsoll.rules.risk_budget_stop import stop_ratio_within_risk


class OpenTrades(TradePlans):
    """Keep each open trade's plan, say where its stop has to be, and how much may be added to it."""

    # -- Stops ---------------------------------------------------------------------------------------------------------

    def stop_price(self, trade: LocalTrade) -> float | None:
        """Return where a trade's stop has to be at least: as planned, with the funding paid so far inside R and liquidation."""
        plan = self.plan_of(trade)
        if plan is None:
            self.filled(trade)
            plan = self._run().trades[trade.id]
        plan.funding_counted = paid = max(0.0, plan.funding_ahead - (trade.funding_fees or 0.0))
        # After an addition or a partial exit the stop stays where it is, as long as the whole loses no more than R there.
        distance = plan.stop_price_ratio if is_first_fill(trade) else _stop_distance(trade)
        wanted = trade.stop_loss
        if distance > 0.0:
            opened = trade.amount * trade.open_rate
            distance = stop_ratio_within_risk(
                side=side_of(trade),
                stop_price_ratio=distance,
                risk_ratio=plan.risk / opened,
                paid_ratio=paid / opened,
                fee_open=trade.fee_open or 0.0,
                fee_close=trade.fee_close or 0.0,
                slippage=self._settings.risk.slippage,
            )
            wanted = stops.stop_price(side=side_of(trade), rate=trade.open_rate, stop_price_ratio=distance)
        return self.inside_liquidation(trade, wanted)

    def inside_liquidation(self, trade: LocalTrade, wanted: float) -> float:
        """Return a stop price moved inside the hard share of the way to liquidation, where liquidation is known."""
        liquidation = self.liquidation(trade)
        if liquidation is None:
            return wanted
        inside = stops.tighten_inside(
            side=side_of(trade),
            stop_price=wanted,
            open_rate=trade.open_rate,
            liquidation_price=liquidation,
            hard_ratio=self._settings.leverage.hard_stop_to_liquidation,
        )
        return stops.tighter(side_of(trade), wanted, inside)

    def liquidation(self, trade: LocalTrade) -> float | None:
        """Return the nearer of Freqtrade's liquidation price and ours: true tier of the notional, funding paid deducted."""
        if self._inputs.spot or not trade.has_open_position:
            return None
        ours = liquidation_price(
            side=side_of(trade),
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
        side = side_of(trade)
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

    def stops_that_do_not_fit(self, trades: Iterable[LocalTrade]) -> dict[str, str]:
        """Return pair and reason of each position that has no stop, or one beyond liquidation; the next exit check mends it."""
        found = {}
        for trade in trades:
            if not trade.has_open_position or self._inputs.spot:
                continue
            liquidation = self.liquidation(trade)
            if not trade.stop_loss:
                found[trade.pair] = f"the position in {trade.pair} has no stop"
            elif liquidation is not None and (trade.stop_loss > liquidation) == trade.is_short:
                found[trade.pair] = f"the stop of {trade.pair} lies beyond its liquidation price"
        return found

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
        account: Callable[[Signal], Account],
    ) -> float:
        """Return the margin that may be added so that the whole position still satisfies every limit and its R.

        :param asked: margin the strategy wants to add. :param profit: the position's profit ratio at ``rate``.
        :param account: the account without this trade. :raises Unusable: with the reason of a refusal.
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
            side=side_of(trade),
            rate=rate,
            own_stop_margin_ratio=distance * trade.leverage,
            fixed_leverage=trade.leverage,
        )
        market = self._inputs.market(trade.pair, signal.time, trade.leverage)
        whole = make_plan(signal, market, account(signal), self._settings, gates)
        if not whole.granted:
            raise Unusable(whole.refusal or "refused")
        # The stop stays where it is, so R is measured to it, even where the plan would place it nearer.
        by_risk = (whole.risk - loss_at_stop(trade, self._settings.risk.slippage)) / self.loss_ratio(
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


def _stop_distance(trade: LocalTrade) -> float:
    way = trade.stop_loss - trade.open_rate if trade.is_short else trade.open_rate - trade.stop_loss
    return way / trade.open_rate
