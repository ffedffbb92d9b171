"""The guard's callbacks about an open trade: its stop, its adjustments, its target.

Pickled by value in parallel hyperopt, as every module with a base class of a strategy: no lock, no file, no mutable state.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime
from typing import Any

from freqtrade.persistence import LocalTrade, Order, Trade

from plimsoll.host import internals
from plimsoll.host.boundary import Unusable, ask, finite
from plimsoll.host.guard_base import GuardBase
from plimsoll.host.last_resort import planned_stop_at_least
from plimsoll.host.optional import own_adjustment


class TradeCallbacks(GuardBase):
    """Answer for open trades: the planned stop holds whatever the strategy answers or raises."""

    def order_filled(
        self, pair: str, trade: Trade, order: Order, current_time: datetime, **kwargs: Any
    ) -> None:
        try:
            if order.ft_order_side == trade.entry_side:
                self._planner.filled(trade)
        except Exception as error:
            self._complain(f"fill {pair}", f"a fill was not tied to its plan: {error!r}", error)
        if internals.has_own(self, GuardBase, "order_filled"):
            own_trade = deepcopy(trade)
            super().order_filled(pair=pair, trade=own_trade, order=order, current_time=current_time, **kwargs)

    def custom_stoploss(
        self,
        pair: str,
        trade: Trade,
        current_time: datetime,
        current_rate: float,
        current_profit: float,
        after_fill: bool,
        **kwargs: Any,
    ) -> float | None:
        trades = self._planner.trades
        due = after_fill or not internals.is_offline()
        answer = None
        try:
            due = due or trade.id in trades.stop_due
            trades.stop_due.discard(trade.id)
            own = None
            asks_own = self._own_wants_stoploss() and internals.has_own(self, GuardBase, "custom_stoploss")
            if asks_own and (not after_fill or internals.own_takes_after_fill(self, GuardBase)):
                own = self._own_stop(
                    pair, trade, current_time, current_rate, current_profit, after_fill, kwargs
                )
            wanted = self._wanted_stop(pair, trade) if due else None
            found = trades.freqtrade_stop(trade, own, wanted, current_rate, after_fill)
            answer = None if found is None else finite(found, "the stop")
        except Exception as error:
            self._complain(f"stop {pair}", f"the stop stays as it was planned: {error!r}", error)
        try:
            planned = trades.last_known_ratio(trade) if due else None
            if planned is not None:
                return planned_stop_at_least(trade, planned, current_rate, answer, after_fill=after_fill)
        except Exception as error:
            self._complain(f"last stop {pair}", f"the stop stays where it is: {error!r}", error)
        return answer

    def adjust_trade_position(
        self, trade: Trade, current_time: datetime, current_exit_rate: float, **kwargs: Any
    ) -> Any:
        try:
            wanted = self._planner.margin.exit(trade, current_exit_rate)
            if wanted is not None:
                return wanted
        except Exception as error:
            self._complain(f"margin health {trade.pair}", f"no exit could be asked for: {error!r}", error)
        if not self._own_adjusts or not internals.has_own(self, GuardBase, "adjust_trade_position"):
            return None
        return own_adjustment(
            self,
            GuardBase,
            trade,
            {"current_time": current_time, "current_exit_rate": current_exit_rate, **kwargs},
        )

    def _wanted_stop(self, pair: str, trade: Trade) -> float | None:
        trades = self._planner.trades
        try:
            return finite(trades.stop_price(trade), "the planned stop")
        except Exception as error:
            self._complain(f"stop {pair}", f"the stop stays as it was planned: {error!r}", error)
        try:  # the strategy's own stop, and liquidation, still count
            return finite(trades.inside_liquidation(trade, trade.stop_loss), "the stop inside liquidation")
        except Exception as error:
            self._complain(f"liquidation {pair}", f"liquidation is not known: {error!r}", error)
            return None

    def _own_stop(
        self,
        pair: str,
        trade: LocalTrade,
        current_time: datetime,
        current_rate: float,
        current_profit: float,
        after_fill: bool,
        kwargs: dict[str, Any],
    ) -> float | None:
        if internals.own_takes_after_fill(self, GuardBase):
            kwargs = kwargs | {"after_fill": after_fill}
        try:
            answer = ask(
                super().custom_stoploss,
                "custom_stoploss",
                pair=pair,
                trade=deepcopy(trade),
                current_time=current_time,
                current_rate=current_rate,
                current_profit=current_profit,
                **kwargs,
            )
            return None if answer is None else finite(answer, "custom_stoploss")
        except Unusable as error:
            self._complain(f"own stop {pair}", str(error), error)
            return None

    def custom_roi(
        self,
        pair: str,
        trade: Trade,
        current_time: datetime,
        trade_duration: int,
        entry_tag: str | None,
        side: str,
        **kwargs: Any,
    ) -> float | None:
        planner = self._planner
        found = []
        try:
            target = planner.trades.target_ratio(trade)
            if target is not None:
                found.append(target)
            if internals.has_own(self, GuardBase, "custom_roi"):
                answer = ask(
                    super().custom_roi,
                    "custom_roi",
                    pair=pair,
                    trade=trade,
                    current_time=current_time,
                    trade_duration=trade_duration,
                    entry_tag=entry_tag,
                    side=side,
                    **kwargs,
                )
                if answer is not None:
                    found.append(finite(answer, "custom_roi"))
        except Exception as error:
            self._complain(f"roi {pair}", str(error), error)
        return min(found, default=None)


internals.without_copies(
    TradeCallbacks.order_filled, TradeCallbacks.custom_stoploss, TradeCallbacks.adjust_trade_position
)
