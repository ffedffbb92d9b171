"""Notice that a strategy no longer earns what its validation promised: sequential test, or rolling Sharpe
ratio.

Profit ratios are per trade on notional (unlevered), as in the baseline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from plimsoll.rules.answer import is_number
from plimsoll.rules.breaker import (
    DAY,
    ClosedTrade,
    Stored,
    Tick,
    Verdict,
    allow,
    block,
    block_unknown,
    require,
    require_order,
    utc,
)

RULE = "decay"
YEAR_DAYS: Final = 365.0
SHRINK_TRADES: Final = 100.0
FULL_BASELINE_TRADES: Final = 100
LEARN_TRADES: Final = 30
NO_BASELINE: Final = "decay: no baseline, measured against zero profit, warning level only"
_CLIP: Final = 4.0
_OVERSHOOT: Final = 1.166  # 2 x 0.583, Siegmund's correction for the discreteness of trades
_SHARPE_BOUND: Final = 1e6

Level = Literal["ok", "half", "pause"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Hold what validation measured: mean and deviation of the profit ratio, trades, trades per day."""

    mean: float
    deviation: float
    trades: int
    trades_per_day: float

    def __post_init__(self) -> None:
        require("mean", self.mean, 0.0 < self.mean < math.inf, "above 0: there is no edge to lose otherwise")
        require("deviation", self.deviation, 0.0 < self.deviation < math.inf, "above 0")
        require("trades", self.trades, self.trades >= 2, "at least 2 trades")
        require("trades_per_day", self.trades_per_day, 0.0 < self.trades_per_day < math.inf, "above 0")


@dataclass(frozen=True, slots=True)
class Config:
    """Set the test: days are calendar days, ``min_sharpe`` is per year.

    "cusum": half size at ``warn_days`` between false alarms, a pause of ``pause_days`` at
    ``false_pause_days`` between them. "sharpe": pause while at least ``min_trades`` of the last
    ``window_days`` have a Sharpe ratio under ``min_sharpe``.
    """

    method: Literal["cusum", "sharpe"] = "cusum"
    baseline: Baseline | None = None
    warn_days: float = 180.0
    false_pause_days: float = 730.0
    pause_days: float = 30.0
    window_days: float = 30.0
    min_trades: int = 10
    min_sharpe: float = 0.5

    def __post_init__(self) -> None:
        require("method", self.method, self.method in ("cusum", "sharpe"), "'cusum' or 'sharpe'")
        days = self.false_pause_days
        require("false_pause_days", days, 0.0 < days < math.inf, "above 0 days")
        require("warn_days", self.warn_days, 0.0 < self.warn_days <= days, "in (0, false_pause_days]")
        require("pause_days", self.pause_days, 0.0 < self.pause_days < math.inf, "above 0 days")
        require("window_days", self.window_days, 0.0 < self.window_days < math.inf, "above 0 days")
        require("min_trades", self.min_trades, self.min_trades >= 2, "at least 2 trades")
        require("min_sharpe", self.min_sharpe, math.isfinite(self.min_sharpe), "a finite number")


@dataclass(frozen=True, slots=True)
class Learned(Stored):
    """Remember the first trades of a bot without a baseline (Welford 1962)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    first: int | None = None
    last: int | None = None

    @property
    def settled(self) -> bool:
        return self.count >= LEARN_TRADES and self.squares > 0.0


@dataclass(frozen=True, slots=True)
class State(Stored):
    """Remember the score and level of the sequential test, or the trades and Sharpe ratio of the window."""

    time: int | None = None
    level: Level = "ok"
    score: float = 0.0
    until: int | None = None
    learned: Learned = Learned()
    closes: tuple[tuple[int, float], ...] = ()
    sharpe: float | None = None
    reset_time: int | None = None


@dataclass(frozen=True, slots=True)
class Levels:
    """Hold allowance and thresholds in sigmas of one trade; no pause level without a full baseline."""

    allowance: float
    warn: float
    pause: float | None


def step(state: State, config: Config, sample: ClosedTrade | Tick) -> tuple[State, Verdict]:
    """Judge a closed trade, or let time pass.

    CUSUM (Page 1954) on z = clip(r / deviation, +-4): S <- max(0, S - (z - m)); half size from the warning
    level until S is under half of it; at the pause level no entries, then on from the warning level. Trades
    that close during the pause do not count. Without a baseline the first 30 trades give deviation and
    rate, m is 0 (S is then the drawdown in sigmas) and only the warning level is used. A trade of unknown
    profit changes nothing and blocks. Raises ValueError when time runs backwards.
    """
    require_order(RULE, state.time, sample.time)
    if isinstance(sample, ClosedTrade) and not is_number(sample.profit_ratio):
        return state, block_unknown(RULE, f"decay: profit of {sample.pair} is unknown", state.until)
    run = _step_sharpe if config.method == "sharpe" else _step_cusum
    return run(state, config, sample)


def reset(state: State, config: Config, sample: ClosedTrade | Tick) -> State:
    """Re-arm on an operator's word: score 0, an empty window; what was learned of the strategy stays."""
    return State(time=state.time, learned=state.learned, reset_time=sample.time)


# --- sequential test ------------------------------------------------------------------------------


def _step_cusum(state: State, config: Config, sample: ClosedTrade | Tick) -> tuple[State, Verdict]:
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


# --- rolling Sharpe ratio -------------------------------------------------------------------------


def _step_sharpe(state: State, config: Config, sample: ClosedTrade | Tick) -> tuple[State, Verdict]:
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
