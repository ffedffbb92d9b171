"""The mixin: ``class My(Guarded, TheirStrategy)`` or ``class My(Guarded)``.

An instance of a guarded class is made of a class derived from it, with the guard's callbacks in front: so they come before
whatever the strategy defines, in its own body too, while ``super()`` inside the strategy works as written. The guard asks the
strategy through ``super()`` and only tightens its answers.

This module is pickled by value in parallel hyperopt: it may hold no lock, no file and no mutable state.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from freqtrade.exceptions import OperationalException
from freqtrade.strategy import IStrategy
from pandas import DataFrame

from plimsoll.host import internals
from plimsoll.host.boundary import Unusable, ask, finite, usable_pairs, yes
from plimsoll.host.guard_base import GuardBase
from plimsoll.host.guard_charts import ChartCallbacks
from plimsoll.host.guard_trades import TradeCallbacks
from plimsoll.host.optional import optional_callbacks, same_candles
from plimsoll.host.start import (
    may_only_block,
    note_started,
    start_faults,
    statements,
)
from plimsoll.rules.answer import Side

logger = logging.getLogger("plimsoll")
FARTHEST_STOP = -0.99


class Guarded(IStrategy):
    """Guard the strategy that is mixed in: sizes, leverage and stops within the limits of the config section ``plimsoll``.

    A strategy may set the same limits as a class attribute ``plimsoll = {...}``, and may state a target by a method
    ``take_profit_price(pair, side, current_time, current_rate)``.
    """

    plimsoll_raw = False  # `plimsoll compare` backtests a guarded strategy without its guard by this

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__new__ is not Guarded.__new__:
            raise OperationalException(
                f"Plimsoll: {cls.__name__} has a __new__ of its own, which would make it without its guard; remove it"
            )

    def __new__(cls, *args: Any, **kwargs: Any) -> Guarded:
        if not issubclass(cls, _Guard) and not (cls.plimsoll_raw and _is_offline(*args, **kwargs)):
            body = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
            namespace = body | optional_callbacks(cls, GuardBase)
            made: Any = type(cls)(cls.__name__, (_Guard, cls), namespace)  # type: ignore[misc]
            return object.__new__(made)
        return object.__new__(cls)


def _is_offline(config: Any = None) -> bool:
    return config is not None and not internals.is_live_or_dry(config)


class _Guard(TradeCallbacks, ChartCallbacks):
    # -- Start and data ------------------------------------------------------------------------------------------------

    def bot_start(self, **kwargs: Any) -> None:
        planner = self._planner
        if internals.is_live_or_dry(self.config):
            # Whether a stop that rests on the exchange is moved, Freqtrade asks the config and not the strategy.
            self.config["use_custom_stoploss"] = True
        for subject, reason in start_faults(self, planner.settings):
            if not may_only_block(self.config):
                raise OperationalException(f"Plimsoll: {reason}")
            planner.gates.blockers[subject] = reason
            logger.error("no entries: %s", reason)
            if subject == "stoploss":
                self.stoploss = (
                    FARTHEST_STOP  # Freqtrade is about to set the stops of open trades anew, by this
                )
        if planner.settings.off:
            logger.warning("switched off, to measure what they do: %s", ", ".join(planner.settings.off))
        if "decay" not in planner.gates.blockers:
            for statement in statements(planner.settings):
                logger.info("%s", statement)
        try:
            super().bot_start(**kwargs)
        except Exception as error:
            # On /reload_config Freqtrade would end the process here and leave open positions to nobody.
            if not may_only_block(self.config):
                raise
            planner.gates.blockers["bot_start"] = f"the strategy's bot_start raised {error!r}"
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
        with self._planner.gates.analysing(metadata["pair"], "populate_indicators"):
            try:
                self._planner.inputs.prepare(metadata["pair"], dataframe)
            except OperationalException as error:
                if not internals.is_for_charts(self.config):
                    raise
                self._complain(f"chart {metadata['pair']}", str(error), error)
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
            if internals.has_own(self, GuardBase, "leverage"):
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
            plan = planner.entries.plan(
                pair=pair,
                side=side,
                now=current_time,
                rate=current_rate,
                exchange_maximum=max_leverage,
                own_leverage=own,
                unusable=unusable,
            )
            planner.entries.waits_for_size(plan)
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
            plan = planner.entries.waiting(pair, side, current_time, leverage)
            if plan is None:
                plan = planner.entries.plan(
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
            if internals.has_own(self, GuardBase, "custom_stake_amount"):
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
            plan = planner.entries.size(
                plan, proposed=proposed_stake, own=own, minimum=min_stake, maximum=max_stake
            )
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
            reason = planner.entries.confirm(pair=pair, side=side, amount=amount, rate=rate, now=current_time)
            if reason is None and internals.has_own(self, GuardBase, "confirm_trade_entry"):
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
                planner.entries.refuse(pair, side, "confirm", reason)
            return reason is None
        except Exception as error:
            self._fail(pair, side, "confirm_trade_entry", error)
            return False

    def _fail(self, pair: str, side: Side, callback: str, error: Exception) -> None:
        try:
            self._planner.entries.fail(pair, side, callback, error)
        except Exception:
            logger.exception("%s %s: entry refused: %r", callback, pair, error)
