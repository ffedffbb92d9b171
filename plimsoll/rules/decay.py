"""Notice that a strategy no longer earns what its validation promised: sequential test, or rolling Sharpe
ratio.

Profit ratios are per trade on notional (unlevered), as in the baseline.
"""

from __future__ import annotations

import math

from plimsoll.rules.answer import is_number
from plimsoll.rules.breaker import ClosedTrade, Tick, Verdict, block_unknown, require_order
from plimsoll.rules.decay_cusum import (
    NO_BASELINE,
    Expectation,
    Levels,
    average_run_length,
    expectation,
    levels,
    siegmund_threshold,
    step_cusum,
)
from plimsoll.rules.decay_model import (
    FULL_BASELINE_TRADES,
    LEARN_TRADES,
    RULE,
    YEAR_DAYS,
    Baseline,
    Config,
    Learned,
    State,
)
from plimsoll.rules.decay_sharpe import sharpe_ratio, step_sharpe

__all__ = [
    "FULL_BASELINE_TRADES",
    "LEARN_TRADES",
    "NO_BASELINE",
    "RULE",
    "Baseline",
    "Config",
    "Expectation",
    "Learned",
    "Levels",
    "State",
    "average_run_length",
    "expectation",
    "levels",
    "reset",
    "sharpe_ratio",
    "siegmund_threshold",
    "statement",
    "step",
]


def step(state: State, config: Config, sample: ClosedTrade | Tick) -> tuple[State, Verdict]:
    """Judge a closed trade, or let time pass.

    A trade of unknown profit changes nothing and blocks. Raises ValueError when time runs backwards.
    """
    require_order(RULE, state.time, sample.time)
    if isinstance(sample, ClosedTrade) and not is_number(sample.profit_ratio):
        return state, block_unknown(RULE, f"decay: profit of {sample.pair} is unknown", state.until)
    run = step_sharpe if config.method == "sharpe" else step_cusum
    return run(state, config, sample)


def reset(state: State, config: Config, sample: ClosedTrade | Tick) -> State:
    """Re-arm on an operator's word: score 0, an empty window; what was learned of the strategy stays."""
    return State(time=state.time, learned=state.learned, reset_time=sample.time)


def statement(config: Config) -> str:
    """Say at start-up what the test can and cannot do with this configuration."""
    if config.method == "sharpe":
        error = math.sqrt(YEAR_DAYS / config.window_days)
        return (
            f"decay: pauses while a {config.window_days:g}-day Sharpe ratio is under {config.min_sharpe:g}; "
            f"its standard error is {error:.1f}, so healthy strategies are paused often"
        )
    warn, pause = expectation(config, "half"), expectation(config, "pause")
    if warn is None:
        return (
            f"{NO_BASELINE}: half size, one false alarm in {config.warn_days:g} days for a strategy that "
            f"earns nothing, after {LEARN_TRADES} trades to learn their deviation and rate"
        )
    text = f"decay: half size, one false alarm in {warn.false_alarm:.0f} days, {_delays(warn)}"
    if pause is None:
        return f"{text}; under {FULL_BASELINE_TRADES} baseline trades, so no pause level"
    return f"{text}; pause, one false alarm in {pause.false_alarm:.0f} days, {_delays(pause)}"


def _delays(expected: Expectation) -> str:
    return (
        f"{expected.delay_when_gone:.0f} days until noticed if the edge is gone, "
        f"{expected.delay_when_reversed:.0f} if it is reversed"
    )
