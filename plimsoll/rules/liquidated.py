"""Refuse re-entry on a pair after a liquidation until a new signal; the streak counts it as a loss."""

from __future__ import annotations

from dataclasses import dataclass

from plimsoll.rules.answer import Side
from plimsoll.rules.breaker import ClosedTrade, Tick, Verdict, allow, block, require, require_order, utc
from plimsoll.rules.stored import Stored

RULE = "liquidated"


@dataclass(frozen=True, slots=True)
class Signal:
    """Hold what a candle signals: its open time in epoch seconds, and the side to enter or None."""

    time: int
    candle: int
    side: Side | None


@dataclass(frozen=True, slots=True)
class Config:
    """Set ``absent_candles``: candles without the liquidated side's signal before one counts as new."""

    absent_candles: int = 1

    def __post_init__(self) -> None:
        require("absent_candles", self.absent_candles, self.absent_candles >= 1, "at least 1 candle")


@dataclass(frozen=True, slots=True)
class State(Stored):
    """Remember the liquidation and the candles seen since; the caller keeps one per pair."""

    time: int | None = None
    liquidated_at: int | None = None
    side: Side | None = None
    candle: int | None = None
    absent: int = 0
    reset_time: int | None = None


def step(state: State, config: Config, sample: ClosedTrade | Signal | Tick) -> tuple[State, Verdict]:
    """Remember a liquidation, and look at the signals of later candles.

    Only candles that opened at or after the liquidation count, each once. The block ends with the first
    entry signal after enough of them without a signal on the liquidated side; the other side's signal is
    both. A trade of unknown side counts for any side. Raises ValueError when time runs backwards.
    """
    require_order(RULE, state.time, sample.time)
    at, side, candle, absent = state.liquidated_at, state.side, state.candle, state.absent
    changed = False
    if isinstance(sample, ClosedTrade) and sample.liquidated:
        at, side, candle, absent, changed = sample.time, sample.side, None, 0, True
    elif isinstance(sample, Signal) and at is not None and sample.candle >= at:
        if candle is None or sample.candle > candle:
            candle = sample.candle
            absent += sample.side is None or (side is not None and sample.side != side)
        if sample.side is not None and absent >= config.absent_candles and sample.candle == candle:
            at, side, candle, absent, changed = None, None, None, 0, True
    state = State(sample.time, at, side, candle, absent, state.reset_time)
    if at is None:
        return state, allow(RULE, "not liquidated since the last signal", None, changed)
    reason = f"liquidated at {utc(at)}, no entries on this pair until a new signal"
    return state, block(RULE, reason, float(absent), changed, None)


def reset(state: State, config: Config, sample: ClosedTrade | Signal | Tick) -> State:
    """Re-arm on an operator's word: the liquidation is forgotten."""
    return State(time=state.time, reset_time=sample.time)
