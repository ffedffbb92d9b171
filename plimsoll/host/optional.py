"""Callbacks that are guarded only where the strategy has them: their answers are made safe, their meaning is left alone.

Installing them otherwise would make Freqtrade copy the trade for a method that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from freqtrade.strategy import IStrategy
from pandas import DataFrame

from plimsoll.host import internals
from plimsoll.host.boundary import Unusable, ask, finite, yes

# Exits that stand for a stop: no strategy may veto them.
PROTECTIVE_EXITS = {
    "stop_loss",
    "trailing_stop_loss",
    "stoploss_on_exchange",
    "liquidation",
    "emergency_exit",
    "force_exit",
}

OWN_EXITS = "plimsoll_"
LONGEST_PART_FILL = 60.0  # seconds an entry order may rest that is filled in part
# A replaced short is sold for less: with the same margin, for more coins. Freqtrade asks nobody about the size again.
CHEAPEST_SHORT = 0.98

FARTHEST = 10.0  # times the price: anything beyond is a mistake, and some of it ends Freqtrade's process


def optional_callbacks(cls: type, guard: type) -> dict[str, Callable[..., Any]]:
    """Return the callbacks to install for a strategy class, by name."""
    return {
        name: make(guard, name)
        for name, make in MAKERS.items()
        if name in ALWAYS or getattr(cls, name) is not getattr(IStrategy, name)
    }


def _own(strategy: Any, guard: type, name: str) -> Callable[..., Any]:
    return getattr(super(guard, strategy), name)


def _price(guard: type, name: str) -> Callable[..., Any]:
    fallback = {"custom_entry_price": "proposed_rate", "custom_exit_price": "proposed_rate"}.get(
        name, "current_order_rate"
    )

    def price(self: Any, **kwargs: Any) -> float | None:
        pair = kwargs.get("pair") or kwargs["trade"].pair
        try:
            if name == "custom_exit_price" and _is_protective(kwargs.get("exit_tag")):
                return kwargs[fallback]  # a stop that waits for a better price is none
            order = kwargs.get("order") if name.startswith("adjust_") else None
            entry = order is not None and order.ft_order_side == kwargs["trade"].entry_side
            if order is not None and not entry and _is_protective(order.ft_order_tag):
                return kwargs["proposed_rate"]
            if entry and self._planner.gates.closed(pair) is not None:
                return None  # cancels the order
            answer = ask(_own(self, guard, name), name, **kwargs)
            if answer is None and fallback == "current_order_rate":
                return None  # cancels the order
            proposed = kwargs[fallback]
            rate = proposed if answer is None else finite(answer, name)
            if not proposed / FARTHEST < rate < proposed * FARTHEST:
                raise Unusable(f"{name} answered {rate:g} where {proposed:g} is the price")
            trade = kwargs.get("trade")
            adds = name == "custom_entry_price"  # to a position: no callback confirms that
            if trade is not None and trade.is_short and (entry or adds):
                rate = max(rate, CHEAPEST_SHORT * kwargs["proposed_rate"])
            self._planner.gates.usable(pair, name)
            return rate
        except Exception as error:
            self._planner.gates.unusable(
                pair, name, error, blocks=name == "custom_entry_price" and kwargs.get("trade") is None
            )
            return kwargs[fallback]

    return _named(price, name)


def _is_protective(tag: Any) -> bool:
    return tag in PROTECTIVE_EXITS or str(tag).startswith(OWN_EXITS)


def _exit(guard: type, name: str) -> Callable[..., Any]:
    def custom_exit(self: Any, **kwargs: Any) -> str | bool | None:
        try:
            answer = ask(_own(self, guard, name), name, **kwargs)
            # Freqtrade takes whatever is true; a column of a dataframe is neither, and would end its process.
            return (answer if isinstance(answer, str) else True) if answer else None
        except Exception as error:
            self._planner.gates.unusable(kwargs["pair"], name, error, blocks=False)
            return None

    return _named(custom_exit, name)


def _is_filled_in_part(order: Any, now: Any) -> bool:
    # As long as the order is open Freqtrade counts none of it: what was filled has no stop, and nothing watches it.
    if internals.is_offline() or not (order.filled or 0.0) > 0.0:
        return False
    return bool((now - order.order_date_utc).total_seconds() >= LONGEST_PART_FILL)


def _timeout(guard: type, name: str) -> Callable[..., Any]:
    def timeout(self: Any, **kwargs: Any) -> bool:
        pair = kwargs["pair"]
        try:
            if name == "check_entry_timeout" and self._planner.gates.closed(pair) is not None:
                return True  # what is not filled yet is new risk
            if name == "check_entry_timeout" and _is_filled_in_part(kwargs["order"], kwargs["current_time"]):
                return True
            return yes(ask(_own(self, guard, name), name, **kwargs))
        except Exception as error:
            self._planner.gates.unusable(pair, name, error, blocks=False)
            return False

    return _named(timeout, name)


def _confirm_trade_exit(guard: type, name: str) -> Callable[..., Any]:
    def confirm_trade_exit(self: Any, **kwargs: Any) -> bool:
        try:
            answer = ask(_own(self, guard, name), name, **kwargs)
        except Unusable as error:
            self._planner.gates.unusable(kwargs["pair"], name, error, blocks=False)
            return True
        if kwargs.get("exit_reason") in PROTECTIVE_EXITS:
            return True
        # Only a plain no stops an exit; None and other non-answers do not.
        return yes(answer) or not (answer is False or (hasattr(answer, "dtype") and answer == False))  # noqa: E712

    return _named(confirm_trade_exit, name)


def own_adjustment(strategy: Any, guard: type, trade: Any, kwargs: dict[str, Any]) -> Any:
    """Ask the strategy whether it wants to adjust a position; what it adds is lowered to what the whole position's limits leave."""
    name = "adjust_trade_position"
    try:
        answer = ask(_own(strategy, guard, name), name, trade=deepcopy(trade), **kwargs)
        tag = None
        if isinstance(answer, tuple):
            answer, tag = answer
        if answer is None:
            return None
        stake = finite(answer, name)
        if stake < 0.0:
            # More than the whole would be dropped without a word.
            stake = max(stake, -trade.stake_amount)
        elif stake > 0.0:
            granted = strategy._planner.entries.addition(
                trade,
                stake,
                now=kwargs["current_time"],
                rate=kwargs["current_entry_rate"],
                profit=kwargs["current_entry_profit"],
            )
            if granted is None:
                return None
            stake = granted
        return stake if tag is None else (stake, str(tag))
    except Exception as error:
        strategy._planner.gates.unusable(trade.pair, name, error, blocks=False)
        return None


def same_candles(dataframe: DataFrame, populate: Callable[..., Any], metadata: dict[str, Any]) -> Any:
    """Call a populate method and check that it kept the candles; Freqtrade would notice, and trade the last good signal."""
    length = len(dataframe)
    last = (dataframe["date"].iloc[-1], dataframe["close"].iloc[-1]) if length else None
    frame = populate(dataframe, metadata)
    if not isinstance(frame, DataFrame) or "date" not in frame:
        raise Unusable(f"{populate.__name__} answered no dataframe of candles")
    if not frame.columns.is_unique:
        raise Unusable(f"{populate.__name__} answered a dataframe with a column twice")
    if len(frame) != length or (length and (frame["date"].iloc[-1], frame["close"].iloc[-1]) != last):
        raise Unusable(f"{populate.__name__} answered {len(frame)} candles of {length}, or another last one")
    return frame


def _populate(guard: type, name: str) -> Callable[..., Any]:
    def populate(self: Any, dataframe: Any, metadata: dict[str, Any]) -> Any:
        with self._planner.gates.analysing(metadata["pair"], name):
            frame = same_candles(dataframe, _own(self, guard, name), metadata)
            if name == "populate_entry_trend":
                self._planner.inputs.note_signals(metadata["pair"], frame)
            return frame

    return _named(populate, name)


def _quiet(guard: type, name: str) -> Callable[..., Any]:
    def quiet(self: Any) -> Any:
        try:
            answer = _own(self, guard, name)()
        except Exception as error:
            self._planner.complaints.about(name, repr(error), error)
            return None
        return answer if isinstance(answer, str) else None

    return _named(quiet, name)


def _named(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    function.__name__ = name
    function.__qualname__ = f"Guarded.{name}"
    return function


ALWAYS = {"check_entry_timeout"}  # asked about resting orders only
MAKERS: dict[str, Callable[[type, str], Callable[..., Any]]] = {
    "custom_entry_price": _price,
    "custom_exit_price": _price,
    "adjust_entry_price": _price,
    "adjust_exit_price": _price,
    "adjust_order_price": _price,
    "confirm_trade_exit": _confirm_trade_exit,
    "custom_exit": _exit,
    "check_entry_timeout": _timeout,
    "check_exit_timeout": _timeout,
    "populate_entry_trend": _populate,
    "populate_exit_trend": _populate,
    "version": _quiet,
}
