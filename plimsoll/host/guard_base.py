"""What every part of the guard stands on: its planner, and the attributes that Freqtrade reads of a strategy.

Pickled by value in parallel hyperopt, as every module with a base class of a strategy: no lock, no file, no mutable state.
"""

from __future__ import annotations

import logging
from typing import Any

from freqtrade.strategy import IStrategy

from plimsoll.host import internals
from plimsoll.host.optional import MAKERS
from plimsoll.host.planner import Planner
from plimsoll.host.protections import use
from plimsoll.host.start import alone_in_portfolio, load_settings

logger = logging.getLogger("plimsoll")

GUARDED = frozenset(MAKERS) | {
    *(
        "bot_start",
        "bot_loop_start",
        "informative_pairs",
        "populate_indicators",
        "analyze_ticker",
        "plot_annotations",
    ),
    *("leverage", "custom_stake_amount", "confirm_trade_entry", "order_filled"),
    *("custom_stoploss", "custom_roi", "adjust_trade_position"),
}


class GuardBase(IStrategy):
    """Hold the planner; the last class of the guard: what comes past it is the strategy's own."""

    _planner: Planner
    _own_use_custom_stoploss: bool | None = None
    _own_use_custom_roi: bool | None = None
    _own_startup: int | None = None
    _own_order_types: Any = None
    _own_protections: list[dict[str, Any]] | None = None

    def __init__(self, config: Any) -> None:
        own_startup = config.get("startup_candle_count")
        self._own_custom_stoploss = config.get("use_custom_stoploss")
        self._class_wants_stoploss = bool(
            internals.own_class_attribute(self, GuardBase, "use_custom_stoploss")
        )
        self.config = config
        own_adjusts = internals.own_class_attribute(self, GuardBase, "position_adjustment_enable")
        self._own_adjusts = bool(config.get("position_adjustment_enable", own_adjusts))
        self._class_wants_roi = bool(internals.own_class_attribute(self, GuardBase, "use_custom_roi"))
        settings, fault = load_settings(config, type(self))
        if not internals.is_live_or_dry(config):
            settings = alone_in_portfolio(settings)
        self._planner = Planner(self, settings)
        if fault is not None:
            self._planner.gates.blockers["settings"] = fault
        super().__init__(config)
        if own_startup is not None:
            self._own_startup = int(own_startup)

    def __setattr__(self, name: str, value: Any) -> None:
        reason = None
        if name in GUARDED and callable(value):
            # It would step in front of the guard, for entries and for exits.
            reason = f"{name} was set on the strategy's instance, where it cannot be guarded: define it in the class"
        elif name == "_planner" and name in self.__dict__:
            reason = (
                "_planner was set on the strategy's instance, which is where its guard is: use another name"
            )
        if reason is not None:
            self._planner.gates.blockers[f"own {name}"] = reason
            logger.error("no entries: %s", reason)
            return
        super().__setattr__(name, value)

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
    def order_types(self) -> Any:
        # An exit of ours must not wait for its price: Freqtrade takes the strategy's, by default a limit order at the better side.
        own = self._own_order_types
        if own is None:  # the config's word beats the strategy's; over a property Freqtrade leaves that to us
            stated, name = self.config, "order_types"
            own = stated[name] if name in stated else internals.own_class_attribute(self, GuardBase, name)
        planner = self.__dict__.get("_planner")
        if planner is None or not planner.margin.wants_exits or not internals.has_market_orders(self):
            return own
        return {**own, "exit": "market"}

    @order_types.setter
    def order_types(self, value: Any) -> None:
        self._own_order_types = value

    @property
    def position_adjustment_enable(self) -> bool:
        # A forced addition would pass every rule: Freqtrade asks no callback about it. But it asks this first, in the thread of
        # the API or Telegram, and answers that the position is open already.
        # Exits of our own come through adjustments too, whether the strategy makes any or not.
        planner = self._planner
        return (self._own_adjusts or planner.margin.wants_exits) and planner.is_own_thread()

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
            own = int(internals.own_class_attribute(self, GuardBase, "startup_candle_count") or 0)
        return max(own, self._planner.inputs.required_startup())

    @startup_candle_count.setter
    def startup_candle_count(self, value: int) -> None:
        self._own_startup = int(value)

    def _complain(self, subject: str, message: str, error: Exception) -> None:
        # Said from within an error's handling: it must not raise another one.
        try:
            self._planner.complaints.about(subject, message, error)
        except Exception:
            logger.exception("%s: %s", subject, message)
