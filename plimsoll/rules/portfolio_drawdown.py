"""The capital of all bots of one owner, each bot's reading after the other, and the drawdown that halts them all.

Equity and flows are in the ledger's currency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from plimsoll.rules import drawdown
from plimsoll.rules.breaker import EquitySample, ReadingConfig, Readings, Verdict, confirm
from plimsoll.rules.portfolio import Limits

# The aggregate is made of confirmed equities, so it needs no confirmation of its own.
_CERTAIN: Final = ReadingConfig(confirmations=1, jump=0.99)


@dataclass(frozen=True, slots=True)
class Told:
    """Hold what one bot's equity reading says.

    ``equity`` is its confirmed equity, 0 before one is confirmed; ``capital`` is what counts for the limits: never more than it
    just told. ``flow`` is what came into the capital of all bots with this reading that is no profit, or left it and is no loss.
    """

    readings: Readings
    equity: float
    capital: float
    flow: float
    known: bool


def tell(before: Readings, config: ReadingConfig, time: float, equity: float | None, flow: float) -> Told:
    """Take up a bot's equity reading, in units as a fund counts: joining with its first equity and deposits buy units.

    :param equity: None where it is not known.
    :param flow: cumulative deposits minus withdrawals, from any fixed origin.
    """
    second = max(int(time), before.time or 0)
    after, latest = confirm(before, config, EquitySample(second, equity, flow))
    told = equity if equity is not None and math.isfinite(equity) else None
    if after.value is None:
        return Told(after, 0.0, 0.0, 0.0, False)
    now_equity = after.value * after.units
    if before.value is None:
        moved = now_equity
    else:
        more = after.units - before.units
        moved = more * (before.value if more > 0.0 else after.value)
    capital = now_equity if told is None else min(now_equity, max(told, 0.0))
    return Told(after, now_equity, capital, moved, latest is not None)


def judge(
    state: drawdown.State, limits: Limits, time: float, equity: float, flow: float
) -> tuple[drawdown.State, Verdict]:
    """Judge the confirmed equity of all bots against its peak per unit; a halt stays until :func:`reset`.

    :param flow: cumulative sum of every :attr:`Told.flow`, less the equity of bots that left.
    """
    return drawdown.step(state, _config(limits), _sample(state, time, equity, flow))


def reset(state: drawdown.State, limits: Limits, time: float, equity: float, flow: float) -> drawdown.State:
    """End a halt on an operator's word: the equity of now is the new peak."""
    return drawdown.reset(state, _config(limits), _sample(state, time, equity, flow))


def depth(state: drawdown.State) -> float | None:
    """Return how far the equity per unit is under its peak, as a ratio; None before there is one."""
    value = state.readings.value
    return None if state.peak is None or value is None else max(0.0, 1.0 - value / state.peak)


def peak_equity(state: drawdown.State) -> float | None:
    """Return the peak, in today's units."""
    return None if state.peak is None else state.peak * state.readings.units


def stored_state(data: Mapping[str, Any] | None) -> drawdown.State:
    """Rebuild the drawdown's state; none stored is a fresh one, a corrupt one raises ValueError."""
    return drawdown.State() if data is None else drawdown.State.from_json(data)


def _config(limits: Limits) -> drawdown.Config:
    return drawdown.Config(limit=limits.drawdown, reset="latched", readings=_CERTAIN)


def _sample(state: drawdown.State, time: float, equity: float, flow: float) -> EquitySample:
    # Clocks of several machines differ: time stands still rather than run backwards.
    return EquitySample(max(int(time), state.readings.time or 0), equity, flow)
