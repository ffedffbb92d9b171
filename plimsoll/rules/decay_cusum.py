"""A sequential test (CUSUM, Page 1954) that a strategy still earns what its validation promised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from plimsoll.rules.breaker import DAY, ClosedTrade, Tick, Verdict, allow, block, require, utc
from plimsoll.rules.decay_model import (
    FULL_BASELINE_TRADES,
    LEARN_TRADES,
    RULE,
    Baseline,
    Config,
    Learned,
    State,
)

SHRINK_TRADES: Final = 100.0
NO_BASELINE: Final = "decay: no baseline, measured against zero profit, warning level only"
_CLIP: Final = 4.0
_OVERSHOOT: Final = 1.166  # 2 x 0.583, Siegmund's correction for the discreteness of trades


@dataclass(frozen=True, slots=True)
class Levels:
    """Hold allowance and thresholds in sigmas of one trade; no pause level without a full baseline."""

    allowance: float
    warn: float
    pause: float | None


def step_cusum(state: State, config: Config, sample: ClosedTrade | Tick) -> tuple[State, Verdict]:
    """Judge a closed trade, or let time pass.

    CUSUM (Page 1954) on z = clip(r / deviation, +-4): S <- max(0, S - (z - m)); half size from the warning
    level until S is under half of it; at the pause level no entries, then on from the warning level. Trades
    that close during the pause do not count. Without a baseline the first 30 trades give deviation and
    rate, m is 0 (S is then the drawdown in sigmas) and only the warning level is used.
    """
    level, score, until, learned = state.level, state.score, state.until, state.learned
    running, deviation = _running(config, learned)
    if until is not None and sample.time >= until:
        level, score, until = ("half", running.warn, None) if running else ("ok", 0.0, None)
    if isinstance(sample, ClosedTrade):
        profit = sample.profit_ratio
        assert profit is not None
        if running is None:
            learned = _learn(learned, sample.time, profit)
        elif level != "pause":
            score = max(0.0, score - (min(max(profit / deviation, -_CLIP), _CLIP) - running.allowance))
            if running.pause is not None and score >= running.pause:
                level, until = "pause", sample.time + round(config.pause_days * DAY)
            elif score >= running.warn:
                level = "half"
            elif score < running.warn / 2.0:
                level = "ok"
    changed = level != state.level
    state = State(sample.time, level, score, until, learned, reset_time=state.reset_time)
    if until is not None:
        text = f"results under the baseline: decay score {score:.1f}, no entries until {utc(until)}"
        return state, block(RULE, text, score, changed, until)
    if running is None:
        text = f"decay: no baseline, learning {learned.count} of {LEARN_TRADES} trades"
        return state, allow(RULE, text, None, changed)
    if level == "half":
        basis = "the baseline" if config.baseline else "zero (no baseline)"
        text = f"results under {basis}: decay score {score:.1f}, warning at {running.warn:.1f}, size x0.5"
        return state, allow(RULE, text, score, changed, factor=0.5)
    text = "decay score under its warning level" if config.baseline else NO_BASELINE
    return state, allow(RULE, text, score, changed)


def levels(config: Config) -> Levels | None:
    """Compute allowance and thresholds from the baseline, None without one.

    The validated edge s_v = mean / deviation is cut to s_e = s_v min(1/2, n/(n+100)); m = s_e / 2. Under
    100 trades there is only the warning level.
    """
    base = config.baseline
    if base is None:
        return None
    allowance = _expected_edge(base) / 2.0
    warn = siegmund_threshold(config.warn_days * base.trades_per_day, allowance)
    if base.trades < FULL_BASELINE_TRADES:
        return Levels(allowance, warn, None)
    pause = siegmund_threshold(config.false_pause_days * base.trades_per_day, allowance)
    return Levels(allowance, warn, pause)


_cached_levels = lru_cache(maxsize=64)(levels)


def average_run_length(drift: float, threshold: float) -> float:
    """Compute the mean number of trades until a CUSUM from 0 reaches a threshold, in sigmas of one trade.

    ``drift`` is the mean step away from the threshold: above 0 for a healthy strategy (false alarms), under
    0 for a broken one (delay). Siegmund 1985: (exp(2 d h') - 2 d h' - 1) / (2 d^2) with h' = h + 1.166.
    """
    corrected = threshold + _OVERSHOOT
    if abs(drift) * corrected < 1e-6:
        return corrected * corrected
    exponent = 2.0 * drift * corrected
    return math.inf if exponent > 700.0 else (math.expm1(exponent) - exponent) / (2.0 * drift * drift)


def siegmund_threshold(run_length: float, drift: float) -> float:
    """Find the threshold, in sigmas, whose mean run length is ``run_length`` trades at a drift of at least
    0 (Siegmund 1985).

    A run length too short for any threshold gives 0. Raises ValueError outside these ranges.
    """
    require("run_length", run_length, 0.0 < run_length < math.inf, "above 0 trades")
    require("drift", drift, 0.0 <= drift < math.inf, "0 or more")
    low, high = 0.0, math.sqrt(run_length)  # without drift the run length is h'^2, with drift it is longer
    if average_run_length(drift, 0.0) >= run_length:
        return 0.0
    for _ in range(200):
        middle = (low + high) / 2.0
        if not low < middle < high:
            break
        low, high = (middle, high) if average_run_length(drift, middle) < run_length else (low, middle)
    return high


@dataclass(frozen=True, slots=True)
class Expectation:
    """Hold, in days: mean time to a false alarm, and mean delay once the edge is gone or reversed."""

    false_alarm: float
    delay_when_gone: float
    delay_when_reversed: float


def expectation(config: Config, level: Literal["half", "pause"]) -> Expectation | None:
    """Compute what to expect of a level if the validated edge is true; None without level or baseline."""
    base, running = config.baseline, levels(config)
    if base is None or running is None:
        return None
    threshold = running.warn if level == "half" else running.pause
    if threshold is None:
        return None
    edge, rate, allowance = base.mean / base.deviation, base.trades_per_day, running.allowance
    gone, turned = average_run_length(-allowance, threshold), average_run_length(-edge - allowance, threshold)
    return Expectation(average_run_length(edge - allowance, threshold) / rate, gone / rate, turned / rate)


def _expected_edge(base: Baseline) -> float:
    return base.mean / base.deviation * min(0.5, base.trades / (base.trades + SHRINK_TRADES))


def _running(config: Config, learned: Learned) -> tuple[Levels | None, float]:
    if config.baseline is not None:
        return _cached_levels(config), config.baseline.deviation
    if not learned.settled or learned.first is None or learned.last is None:
        return None, math.nan
    rate = learned.count / max((learned.last - learned.first) / DAY, 1.0)
    warn = math.sqrt(config.warn_days * rate) - _OVERSHOOT  # Siegmund without drift
    return Levels(0.0, max(warn, 1.0), None), math.sqrt(learned.squares / (learned.count - 1))


def _learn(learned: Learned, time: int, profit: float) -> Learned:
    count = learned.count + 1
    away = profit - learned.mean
    mean = learned.mean + away / count
    first = time if learned.first is None else learned.first
    return Learned(count, mean, learned.squares + away * (profit - mean), first, time)
