"""Callbacks that are guarded only where the strategy has them: their answers are made safe, their meaning is left alone.

Installing them otherwise would make Freqtrade copy the trade for a method that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from freqtrade.strategy import IStrategy
from pandas import DataFrame

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

FARTHEST = 10.0  # times the price: anything beyond is a mistake, and some of it ends Freqtrade's process


def optional_callbacks(cls: type, guard: type) -> dict[str, Callable[..., Any]]:
    """Return the callbacks to install for a strategy class, by name."""
    return {
        name: make(guard, name)
        for name, make in _MAKERS.items()
        if getattr(cls, name) is not getattr(IStrategy, name)
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
            answer = ask(_own(self, guard, name), name, **kwargs)
            if answer is None and fallback == "current_order_rate":
                return None  # cancels the order
            proposed = kwargs[fallback]
            rate = proposed if answer is None else finite(answer, name)
            if not proposed / FARTHEST < rate < proposed * FARTHEST:
                raise Unusable(f"{name} answered {rate:g} where {proposed:g} is the price")
            self._planner.usable(pair, name)
            return rate
        except Exception as error:
            self._planner.unusable(
                pair, name, error, blocks=name == "custom_entry_price" and kwargs.get("trade") is None
            )
            return kwargs[fallback]

    return _named(price, name)


def _confirm_trade_exit(guard: type, name: str) -> Callable[..., Any]:
    def confirm_trade_exit(self: Any, **kwargs: Any) -> bool:
        try:
            answer = ask(_own(self, guard, name), name, **kwargs)
        except Unusable as error:
            self._planner.unusable(kwargs["pair"], name, error, blocks=False)
            return True
        if kwargs.get("exit_reason") in PROTECTIVE_EXITS:
            return True
        # Only a plain no stops an exit; None and other non-answers do not.
        return yes(answer) or not (answer is False or (hasattr(answer, "dtype") and answer == False))  # noqa: E712

    return _named(confirm_trade_exit, name)


def _adjust_trade_position(guard: type, name: str) -> Callable[..., Any]:
    def adjust_trade_position(self: Any, **kwargs: Any) -> Any:
        trade = kwargs["trade"]
        try:
            answer = ask(_own(self, guard, name), name, **kwargs)
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
                granted = self._planner.addition(
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
            self._planner.unusable(trade.pair, name, error, blocks=False)
            return None

    return _named(adjust_trade_position, name)


def same_candles(dataframe: DataFrame, populate: Callable[..., Any], metadata: dict[str, Any]) -> Any:
    """Call a populate method and check that it kept the candles; Freqtrade would notice, and trade the last good signal."""
    length, last = len(dataframe), dataframe["date"].iloc[-1] if len(dataframe) else None
    frame = populate(dataframe, metadata)
    if not isinstance(frame, DataFrame) or "date" not in frame:
        raise Unusable(f"{populate.__name__} answered no dataframe of candles")
    if len(frame) != length or (length and frame["date"].iloc[-1] != last):
        raise Unusable(f"{populate.__name__} answered {len(frame)} candles of {length}, or another last one")
    return frame


def _populate(guard: type, name: str) -> Callable[..., Any]:
    def populate(self: Any, dataframe: Any, metadata: dict[str, Any]) -> Any:
        with self._planner.analysing(metadata["pair"], name):
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


_MAKERS: dict[str, Callable[[type, str], Callable[..., Any]]] = {
    "custom_entry_price": _price,
    "custom_exit_price": _price,
    "adjust_entry_price": _price,
    "adjust_exit_price": _price,
    "adjust_order_price": _price,
    "confirm_trade_exit": _confirm_trade_exit,
    "adjust_trade_position": _adjust_trade_position,
    "populate_entry_trend": _populate,
    "populate_exit_trend": _populate,
    "version": _quiet,
}
