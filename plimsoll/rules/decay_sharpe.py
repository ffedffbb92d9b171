"""A rolling Sharpe ratio that pauses a strategy under its limit; it pauses healthy ones often."""

from __future__ import annotations

import math
from typing import Final

from plimsoll.rules.breaker import DAY, ClosedTrade, Tick, Verdict, allow, block, utc
from plimsoll.rules.decay_model import RULE, YEAR_DAYS, Config, Level, State

_SHARPE_BOUND: Final = 1e6


def step_sharpe(state: State, config: Config, sample: ClosedTrade | Tick) -> tuple[State, Verdict]:
    """Judge a closed trade, or let time pass: trades leave the window, and those that are left are judged."""
    length = round(config.window_days * DAY)
    closes, sharpe = state.closes, state.sharpe
    kept = closes
    while kept and kept[0][0] <= sample.time - length:
        kept = kept[1:]
    if isinstance(sample, ClosedTrade):
        assert sample.profit_ratio is not None
        kept = (*kept, (sample.time, sample.profit_ratio))
    if kept is not closes:
        ratios = [ratio for _, ratio in kept]
        sharpe = sharpe_ratio(ratios, config.window_days) if len(ratios) >= config.min_trades else None
    paused = sharpe is not None and sharpe < config.min_sharpe
    level: Level = "pause" if paused else "ok"
    changed = level != state.level
    # If nothing else closes, too few trades are left by then.
    until = kept[len(kept) - config.min_trades][0] + length if paused else None
    state = State(sample.time, level, 0.0, until, state.learned, kept, sharpe, state.reset_time)
    if until is None:
        return state, allow(RULE, "Sharpe ratio not under its limit", sharpe, changed)
    reason = (
        f"{config.window_days:g}-day Sharpe ratio {sharpe:.2f} of {len(kept)} trades, "
        f"limit {config.min_sharpe:g}, until {utc(until)}"
    )
    return state, block(RULE, reason, sharpe, changed, until)


def sharpe_ratio(ratios: list[float], days: float) -> float:
    """Compute mean / standard deviation of trades, times the root of trades per year at the window's rate."""
    count = len(ratios)
    mean = math.fsum(ratios) / count
    variance = math.fsum((ratio - mean) ** 2 for ratio in ratios) / (count - 1)
    if variance <= 0.0:
        return math.copysign(_SHARPE_BOUND, mean) if mean else 0.0
    value = mean / math.sqrt(variance) * math.sqrt(count * YEAR_DAYS / days)
    return min(max(value, -_SHARPE_BOUND), _SHARPE_BOUND)
