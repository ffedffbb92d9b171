"""What both ways to notice decay share: configuration, stored state, and the baseline of a strategy that was validated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from plimsoll.rules.breaker import require
from plimsoll.rules.stored import Stored

RULE = "decay"
YEAR_DAYS: Final = 365.0
FULL_BASELINE_TRADES: Final = 100
LEARN_TRADES: Final = 30
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
