"""Throttle size and pause entries after consecutive losses, counted on every losing exit whatever its reason.

A streak carries next to no information on most strategies (it fires for every healthy one); it limits
nerves more than risk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

from plimsoll.rules.answer import is_number
from plimsoll.rules.breaker import (
    MINUTE,
    ClosedTrade,
    Tick,
    Verdict,
    allow,
    block,
    block_unknown,
    require,
    require_order,
    utc,
)
from plimsoll.rules.stored import Stored

RULE = "streak"


@dataclass(frozen=True, slots=True)
class Config:
    """Set the throttle and the cooldown.

    ``method`` "published": x0.5 from ``losses`` in a row on, halved again by each further one, never under
    ``floor``. "win_rate": x0.5 once, from the streak length that a strategy of ``win_rate`` shows in 200
    trades with a chance of at most 5 % (a floor, such as the published 0.25, binds only above 0.5).
    ``cooldown_losses`` in a row stop entries for ``cooldown_minutes``; 0 minutes turn that off.
    """

    method: Literal["published", "win_rate"] = "published"
    losses: int = 3
    floor: float = 0.10
    win_rate: float | None = None
    cooldown_losses: int = 3
    cooldown_minutes: float = 60.0

    def __post_init__(self) -> None:
        require("method", self.method, self.method in ("published", "win_rate"), "'published' or 'win_rate'")
        require("losses", self.losses, self.losses >= 1, "at least 1 trade")
        require("floor", self.floor, 0.0 < self.floor <= 1.0, "a factor in (0, 1]")
        rate = self.win_rate
        known = rate is not None and 0.0 < rate < 1.0
        require("win_rate", rate, known or (rate is None and self.method == "published"), "a ratio in (0, 1)")
        require("cooldown_losses", self.cooldown_losses, self.cooldown_losses >= 1, "at least 1 trade")
        minutes = self.cooldown_minutes
        require("cooldown_minutes", minutes, 0.0 <= minutes < math.inf, "0 minutes or more")


@dataclass(frozen=True, slots=True)
class State(Stored):
    """Remember the losses in a row and a running cooldown; the caller keeps one per bot, or per pair too."""

    time: int | None = None
    losses: int = 0
    until: int | None = None
    reset_time: int | None = None


def step(state: State, config: Config, sample: ClosedTrade | Tick) -> tuple[State, Verdict]:
    """Count a closed trade, or let time pass.

    Break-even (a profit of exactly 0) neither counts nor resets; a liquidation is a loss. From
    ``cooldown_losses`` on every further loss in a row starts the cooldown anew; a profitable close resets
    the count and never extends nor shortens a cooldown. A trade of unknown profit changes nothing and
    blocks. Raises ValueError when time runs backwards.
    """
    require_order(RULE, state.time, sample.time)
    losses, until = state.losses, state.until
    if isinstance(sample, ClosedTrade):
        if not sample.liquidated and not is_number(sample.profit_ratio):
            return state, block_unknown(RULE, f"losing streak: profit of {sample.pair} is unknown", until)
        if sample.is_loss:
            losses += 1
            if losses >= config.cooldown_losses and config.cooldown_minutes > 0.0:
                until = max(until or 0, sample.time + round(config.cooldown_minutes * MINUTE))
        elif sample.profit_ratio:
            losses = 0
    if until is not None and sample.time >= until:
        until = None
    factor = factor_after(losses, config)
    before = factor_after(state.losses, config)
    changed = factor != before or (until is None) != (state.until is None)
    state = State(sample.time, losses, until, state.reset_time)
    if until is not None:
        text = f"{_count(losses)}, no entries until {utc(until)}"
        return state, block(RULE, text, float(losses), changed, until)
    text = f"{_count(losses)}, size x{factor:g} until a win" if factor < 1.0 else "no losing streak"
    return state, allow(RULE, text, float(losses), changed, factor=factor)


def reset(state: State, config: Config, sample: ClosedTrade | Tick) -> State:
    """Re-arm on an operator's word: no losses counted, no cooldown."""
    return State(time=state.time, reset_time=sample.time)


def factor_after(losses: int, config: Config) -> float:
    """Compute the size factor after losses in a row."""
    if config.method == "win_rate":
        assert config.win_rate is not None
        return max(config.floor, 0.5) if losses >= streak_length(config.win_rate) else 1.0
    halvings = min(losses - config.losses + 1, 64)
    return max(config.floor, 0.5**halvings) if halvings > 0 else 1.0


def streak_probability(win_rate: float, length: int, trades: int = 200) -> float:
    """Compute the chance of at least ``length`` losses in a row within ``trades`` independent ones.

    Exact, by the recursion on the first completion (Feller 1968, XIII.7): p_n = p_(n-1) + (1 - p_(n-K-1)) w
    q^K.
    """
    loss = (1.0 - win_rate) ** length
    seen = [0.0] * length + [loss]
    while len(seen) <= trades:
        seen.append(seen[-1] + (1.0 - seen[-length - 1]) * win_rate * loss)
    return seen[trades]


@cache
def streak_length(win_rate: float, trades: int = 200, probability: float = 0.05) -> int:
    """Find the shortest losing streak that has at most ``probability`` within ``trades`` at a win rate."""
    length = 1
    while length <= trades and streak_probability(win_rate, length, trades) > probability:
        length += 1
    return length


def _count(losses: int) -> str:
    return f"{losses} {'loss' if losses == 1 else 'losses'} in a row"
