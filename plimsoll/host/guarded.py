"""The mixin: ``class My(Guarded, TheirStrategy)`` or ``class My(Guarded)``.

An instance of a guarded class is made of a class derived from it, with the guard's callbacks in front: so they come before
whatever the strategy defines, in its own body too, while ``super()`` inside the strategy works as written. The guard asks the
strategy through ``super()`` and only tightens its answers.

This module is pickled by value in parallel hyperopt: it may hold no lock, no file and no mutable state.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from datetime import datetime
from typing import Any

from freqtrade.exceptions import OperationalException
from freqtrade.persistence import LocalTrade, Order, Trade
from freqtrade.strategy import IStrategy
from pandas import DataFrame

from plimsoll.host import internals
from plimsoll.host.boundary import Unusable, ask, finite, usable_pairs, yes
from plimsoll.host.last_resort import planned_stop_at_least
from plimsoll.host.optional import optional_callbacks, same_candles
from plimsoll.host.planner import Planner
from plimsoll.host.protections import use
from plimsoll.host.start import (
    load_settings,
    may_only_block,
    note_started,
    start_faults,
    statements,
    without_effect,
)
from plimsoll.rules.answer import Side

logger = logging.getLogger("plimsoll")


class Guarded(IStrategy):
    """Guard the strategy that is mixed in: sizes, leverage and stops within the limits of the config section ``plimsoll``.

    A strategy may set the same limits as a class attribute ``plimsoll = {...}``, and may state a target by a method
    ``take_profit_price(pair, side, current_time, current_rate)``.
    """

    plimsoll: Any = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Guarded:
        if not issubclass(cls, _Guard):
            body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
            namespace = body | optional_callbacks(cls, _Guard)
            made: Any = type(cls)(cls.__name__, (_Guard, cls), namespace)  # type: ignore[misc]
            return object.__new__(made)
        return object.__new__(cls)


class _Guard(IStrategy):
    _planner: Planner
    _own_use_custom_stoploss: bool | None = None
    _own_use_custom_roi: bool | None = None
    _own_startup: int | None = None
    _own_protections: list[dict[str, Any]] | None = None

    def __init__(self, config: Any) -> None:
        own_startup = config.get("startup_candle_count")
        self._own_custom_stoploss = config.get("use_custom_stoploss")
        self._class_wants_stoploss = bool(internals.own_class_attribute(self, _Guard, "use_custom_stoploss"))
        self.config = config
        own_adjusts = internals.own_class_attribute(self, _Guard, "position_adjustment_enable")
        self._own_adjusts = bool(config.get("position_adjustment_enable", own_adjusts))
        self._class_wants_roi = bool(internals.own_class_attribute(self, _Guard, "use_custom_roi"))
        settings, fault = load_settings(config, type(self))
        self._planner = Planner(self, settings)
        if fault is not None:
            self._planner.blockers["settings"] = fault
        super().__init__(config)
        if own_startup is not None:
            self._own_startup = int(own_startup)

    # -- Attributes that Freqtrade reads; as properties they survive the config's overrides -----------------------------

    @property
    def use_custom_stoploss(self) -> bool:
        # Freqtrade copies the trade each time it asks for the stop. Offline ours changes only after a fill, so it is asked
        # for then, and every candle only where the strategy has a stop of its own.
        planner = getattr(self, "_planner", None)
        if planner is None or not internals.is_offline():
            return True
        return bool(planner.trades.stop_due) or planner.starting or self._own_wants_stoploss()

    @use_custom_stoploss.setter
    def use_custom_stoploss(self, value: bool) -> None:
        self._own_use_custom_stoploss = bool(value)

    def _own_wants_stoploss(self) -> bool:
        if self._own_custom_stoploss is not None:  # the config's word beats the strategy's, as without us
            return bool(self._own_custom_stoploss)
        if self._own_use_custom_stoploss is not None:
            return self._own_use_custom_stoploss
        return self._class_wants_stoploss

    @property
    def use_custom_roi(self) -> bool:
        own = self._own_use_custom_roi
        if own is None:
            own = self._class_wants_roi
        return own or self._planner.settings.reward_risk.take_profit_r is not None

    @use_custom_roi.setter
    def use_custom_roi(self, value: bool) -> None:
        self._own_use_custom_roi = bool(value)

    @property
    def position_adjustment_enable(self) -> bool:
        # A forced addition would pass every rule: Freqtrade asks no callback about it. But it asks this first, in the thread of
        # the API or Telegram, and answers that the position is open already.
        return self._own_adjusts and self._planner.is_own_thread()

    @position_adjustment_enable.setter
    def position_adjustment_enable(self, value: bool) -> None:
        self._own_adjusts = bool(value)

    @property
    def protections(self) -> list[dict[str, Any]]:
        # Asked for right before Freqtrade loads them, in a hyperopt worker too: so it learns here where ours are.
        own = self._own_protections
        return use(super().protections if own is None else own)

    @protections.setter
    def protections(self, value: list[dict[str, Any]]) -> None:
        self._own_protections = value

    @property
    def startup_candle_count(self) -> int:
        own = self._own_startup
        if own is None:
            own = int(internals.own_class_attribute(self, _Guard, "startup_candle_count") or 0)
        return max(own, self._planner.inputs.required_startup())

    @startup_candle_count.setter
    def startup_candle_count(self, value: int) -> None:
        self._own_startup = int(value)

    # -- Start and data ------------------------------------------------------------------------------------------------

    def bot_start(self, **kwargs: Any) -> None:
        planner = self._planner
        for key in without_effect(planner.settings):
            logger.warning("plimsoll.%s is set, but this version does not act on it yet", key)
        for subject, reason in start_faults(self, planner.settings):
            if not may_only_block(self.config):
                raise OperationalException(f"Plimsoll: {reason}")
            planner.blockers[subject] = reason
            logger.error("no entries: %s", reason)
        if "decay" not in planner.blockers:
            for statement in statements(planner.settings):
                logger.info("%s", statement)
        try:
            super().bot_start(**kwargs)
        except Exception as error:
            # On /reload_config Freqtrade would end the process here and leave open positions to nobody.
            if not may_only_block(self.config):
                raise
            planner.blockers["bot_start"] = f"the strategy's bot_start raised {error!r}"
            logger.exception("no entries until the strategy starts")
        planner.starting = False
        note_started(self.config)

    def informative_pairs(self) -> list[Any]:
        try:
            own = usable_pairs(ask(super().informative_pairs, "informative_pairs"))
        except Exception as error:
            self._complain("informative_pairs", str(error), error)
            own = []
        try:
            return [*own, *self._planner.inputs.informative_pairs()]
        except Exception as error:
            self._complain("own informative_pairs", repr(error), error)
            return own

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        with self._planner.analysing(metadata["pair"], "populate_indicators"):
            self._planner.inputs.prepare(metadata["pair"], dataframe)
            return same_candles(dataframe, super().populate_indicators, metadata)

    def bot_loop_start(self, current_time: datetime, **kwargs: Any) -> None:
        try:
            self._planner.loop(current_time)
        except Exception as error:
            self._complain("loop", f"loop check failed: {error!r}", error)
        super().bot_loop_start(current_time=current_time, **kwargs)

    # -- Entries -------------------------------------------------------------------------------------------------------

    def leverage(
        self,
        pair: str,
        current_time: datetime,
        current_rate: float,
        proposed_leverage: float,
        max_leverage: float,
        entry_tag: str | None,
        side: Side,
        **kwargs: Any,
    ) -> float:
        planner = self._planner
        try:
            own, unusable = None, None
            if internals.has_own(self, _Guard, "leverage"):
                try:
                    own = finite(
                        ask(
                            super().leverage,
                            "leverage",
                            pair=pair,
                            current_time=current_time,
                            current_rate=current_rate,
                            proposed_leverage=proposed_leverage,
                            max_leverage=max_leverage,
                            entry_tag=entry_tag,
                            side=side,
                            **kwargs,
                        ),
                        "leverage",
                    )
                    if own < 0.0:
                        raise Unusable(f"leverage answered {own:g}")
                    own = max(own, 1.0)  # as Freqtrade does
                except Unusable as error:
                    own, unusable = None, str(error)
            plan = planner.plan(
                pair=pair,
                side=side,
                now=current_time,
                rate=current_rate,
                exchange_maximum=max_leverage,
                own_leverage=own,
                unusable=unusable,
            )
            planner.waits_for_size(plan)
            return float(plan.leverage)
        except Exception as error:
            self._fail(pair, side, "leverage", error)
            return 1.0

    def custom_stake_amount(
        self,
        pair: str,
        current_time: datetime,
        current_rate: float,
        proposed_stake: float,
        min_stake: float | None,
        max_stake: float,
        leverage: float,
        entry_tag: str | None,
        side: Side,
        **kwargs: Any,
    ) -> float:
        planner = self._planner
        try:
            plan = planner.waiting(pair, side, current_time, leverage)
            if plan is None:
                plan = planner.plan(
                    pair=pair,
                    side=side,
                    now=current_time,
                    rate=current_rate,
                    exchange_maximum=leverage,
                    fixed_leverage=leverage,
                )
            if not plan.granted:
                return 0.0
            own = None
            if internals.has_own(self, _Guard, "custom_stake_amount"):
                own = finite(
                    ask(
                        super().custom_stake_amount,
                        "custom_stake_amount",
                        pair=pair,
                        current_time=current_time,
                        current_rate=current_rate,
                        proposed_stake=proposed_stake,
                        min_stake=min_stake,
                        max_stake=max_stake,
                        leverage=leverage,
                        entry_tag=entry_tag,
                        side=side,
                        **kwargs,
                    ),
                    "custom_stake_amount",
                )
            plan = planner.size(plan, proposed=proposed_stake, own=own, minimum=min_stake, maximum=max_stake)
            return plan.margin
        except Exception as error:
            self._fail(pair, side, "custom_stake_amount", error)
            return 0.0

    def confirm_trade_entry(
        self,
        pair: str,
        order_type: str,
        amount: float,
        rate: float,
        time_in_force: str,
        current_time: datetime,
        entry_tag: str | None,
        side: Side,
        **kwargs: Any,
    ) -> bool:
        planner = self._planner
        try:
            reason = planner.confirm(pair=pair, side=side, amount=amount, rate=rate, now=current_time)
            if reason is None and internals.has_own(self, _Guard, "confirm_trade_entry"):
                answer = ask(
                    super().confirm_trade_entry,
                    "confirm_trade_entry",
                    pair=pair,
                    order_type=order_type,
                    amount=amount,
                    rate=rate,
                    time_in_force=time_in_force,
                    current_time=current_time,
                    entry_tag=entry_tag,
                    side=side,
                    **kwargs,
                )
                if not yes(answer):
                    reason = f"the strategy's confirm_trade_entry answered {answer!r}"
            if reason is not None:
                planner.refuse(pair, side, "confirm", reason)
            return reason is None
        except Exception as error:
            self._fail(pair, side, "confirm_trade_entry", error)
            return False

    # -- Trades --------------------------------------------------------------------------------------------------------

    def order_filled(
        self, pair: str, trade: Trade, order: Order, current_time: datetime, **kwargs: Any
    ) -> None:
        try:
            if order.ft_order_side == trade.entry_side:
                self._planner.trades.stop_due.add(trade.id)
                self._planner.trades.filled(trade)
        except Exception as error:
            self._complain(f"fill {pair}", f"a fill was not tied to its plan: {error!r}", error)
        if internals.has_own(self, _Guard, "order_filled"):
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
            asks_own = self._own_wants_stoploss() and internals.has_own(self, _Guard, "custom_stoploss")
            if asks_own and (not after_fill or internals.own_takes_after_fill(self, _Guard)):
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

    def _complain(self, subject: str, message: str, error: Exception) -> None:
        # Said from within an error's handling: it must not raise another one.
        try:
            self._planner.complaints.about(subject, message, error)
        except Exception:
            logger.exception("%s: %s", subject, message)

    def _fail(self, pair: str, side: Side, callback: str, error: Exception) -> None:
        try:
            self._planner.fail(pair, side, callback, error)
        except Exception:
            logger.exception("%s %s: entry refused: %r", callback, pair, error)

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
        if internals.own_takes_after_fill(self, _Guard):
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
            if internals.has_own(self, _Guard, "custom_roi"):
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


internals.without_copies(_Guard.order_filled, _Guard.custom_stoploss)
