"""Bootstrap the drawdown that luck alone brings from daily returns, and the size at which it fits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from plimsoll.rules.breaker import limit_percent, percent, require

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int32]
MIN_DAYS: Final = 60
_RUIN: Final = 1e-6  # equity left after a day that loses everything; keeps its logarithm finite


@dataclass(frozen=True, slots=True, eq=False)
class DrawdownDistribution:
    """Hold, per path, the deepest drawdown from peak and the terminal return, as ratios."""

    drawdowns: Floats
    terminal: Floats

    def quantile(self, probability: float) -> float:
        """Return the drawdown that a path exceeds with a chance of 1 - ``probability``."""
        return float(np.quantile(self.drawdowns, probability))

    @property
    def q50(self) -> float:
        return self.quantile(0.50)

    @property
    def q95(self) -> float:
        return self.quantile(0.95)

    @property
    def q99(self) -> float:
        return self.quantile(0.99)

    def exceed_probability(self, limit: float) -> float:
        """Return the chance that the drawdown is deeper than ``limit`` within the horizon."""
        return float(np.mean(self.drawdowns > limit))


@dataclass(frozen=True, slots=True)
class SizeFit:
    """Hold the size factor in [0, 1] and the drawdown quantile at it; not calibrated on too few days."""

    factor: float
    drawdown: float | None
    calibrated: bool
    reason: str


def bootstrap_drawdown(
    daily_returns: npt.ArrayLike,
    *,
    block: int = 5,
    paths: int = 2_000,
    horizon: int = 180,
    shrink_days: float = 100.0,
    seed: int = 0,
    scale: float = 1.0,
) -> DrawdownDistribution:
    """Resample daily returns on equity in circular blocks with replacement (Politis & Romano 1992).

    ``daily_returns``: profit of a day / equity at its start, days without trades included. ``block`` and
    ``horizon`` in days. A positive mean is shrunk by n / (n + shrink_days); a negative one is left as it
    is. ``scale`` multiplies every return: two calls with the same seed share their random numbers. Raises
    ValueError on returns that are not finite or fewer than 2.
    """
    returns = _returns(daily_returns)
    require("block", block, block >= 1, "at least 1 day")
    require("paths", paths, paths >= 1, "at least 1")
    require("horizon", horizon, horizon >= 1, "at least 1 day")
    require("shrink_days", shrink_days, 0.0 <= shrink_days < math.inf, "0 days or more")
    starts = _starts(len(returns), block, paths, horizon, seed)
    return _paths(_shrunk(returns, shrink_days) * scale, starts, block, horizon)


def size_that_fits(
    daily_returns: npt.ArrayLike,
    *,
    limit: float = 0.20,
    quantile: float = 0.95,
    block: int = 5,
    paths: int = 2_000,
    horizon: int = 180,
    shrink_days: float = 100.0,
    seed: int = 0,
) -> SizeFit:
    """Find the largest size factor, at most 1, whose drawdown quantile stays within ``limit``.

    Bisection with common random numbers. Under 60 days nothing is calibrated and the factor is 1: the
    breaker alone holds.
    """
    returns = _returns(daily_returns)
    require("limit", limit, 0.0 < limit < 1.0, "a ratio in (0, 1)")
    require("quantile", quantile, 0.0 < quantile < 1.0, "a probability in (0, 1)")
    if len(returns) < MIN_DAYS:
        return SizeFit(1.0, None, False, f"{len(returns)} days of returns, {MIN_DAYS} needed: not calibrated")
    starts = _starts(len(returns), block, paths, horizon, seed)
    shrunk = _shrunk(returns, shrink_days)

    def drawdown_at(factor: float) -> float:
        return _paths(shrunk * factor, starts, block, horizon).quantile(quantile)

    low, high, fitted = 0.0, 1.0, 0.0
    full = drawdown_at(1.0)
    text = f"drawdown {percent(full)} at full size, limit {limit_percent(limit)}"
    if full <= limit:
        return SizeFit(1.0, full, True, text)
    while high - low > 1e-3 * high and high > 1e-6:
        middle = (low + high) / 2.0
        drawdown = drawdown_at(middle)
        if drawdown <= limit:
            low, fitted = middle, drawdown
        else:
            high = middle
    return SizeFit(low, fitted, True, f"{text}, {percent(fitted)} at x{low:.3f}")


def _returns(daily_returns: npt.ArrayLike) -> Doubles:
    returns: Doubles = np.asarray(daily_returns, dtype=np.float64)
    require("daily_returns", returns.shape, returns.ndim == 1 and returns.size >= 2, "at least 2 days")
    require("daily_returns", "a value that is not finite", bool(np.isfinite(returns).all()), "finite ratios")
    return returns


def _shrunk(returns: Doubles, days: float) -> Doubles:
    mean = max(0.0, float(returns.mean()))  # a loss is not believed less for being measured briefly
    return returns - mean * days / (len(returns) + days)


def _starts(days: int, block: int, paths: int, horizon: int, seed: int) -> Indices:
    return np.random.default_rng(seed).integers(0, days, size=(-(-horizon // block), paths), dtype=np.int32)


def _paths(returns: Doubles, starts: Indices, block: int, horizon: int) -> DrawdownDistribution:
    growth = np.log(np.maximum(1.0 + returns, _RUIN)).astype(np.float32)
    shifted = [np.roll(growth, -day) for day in range(block)]  # shifted[j][i] is day i + j of the circle
    paths = starts.shape[1]
    level, peak = np.zeros(paths, dtype=np.float32), np.zeros(paths, dtype=np.float32)
    deepest, gap = np.zeros(paths, dtype=np.float32), np.empty(paths, dtype=np.float32)
    for day in range(horizon):
        level += shifted[day % block][starts[day // block]]
        np.maximum(peak, level, out=peak)
        np.maximum(deepest, np.subtract(peak, level, out=gap), out=deepest)
    return DrawdownDistribution(-np.expm1(-deepest), np.expm1(level))
