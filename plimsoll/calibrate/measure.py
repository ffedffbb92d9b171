"""The drawdown that luck alone brings, the size that fits, and the decay baseline."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from plimsoll.calibrate.history import CalibrationError, History
from plimsoll.rules import decay
from plimsoll.rules.bootstrap import MIN_DAYS, bootstrap_drawdown, size_that_fits

PATHS: Final = 10_000
HORIZON_DAYS: Final = 180
BLOCK_DAYS: Final = 5
LIMIT: Final = 0.20


@dataclass(frozen=True, kw_only=True)
class Drawdown:
    """Hold what the bootstrap found: quantiles of the deepest drawdown, and the size at which it fits."""

    limit: float
    median: float
    q95: float
    q99: float
    exceed_probability: float
    size_factor: float
    q95_at_size: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Hold a calibration; what the history is too short or too poor for is None, and ``notes`` says why."""

    history: History
    days: int
    drawdown: Drawdown | None
    baseline: decay.Baseline | None
    statement: str
    notes: tuple[str, ...]


def daily_returns(history: History) -> npt.NDArray[np.float64]:
    """Compute profit of each UTC day / equity at its start, days without a closed trade included as 0.

    Profit counts on the day its trade closes: exports and databases do not know the open profit of past days.

    :raises CalibrationError: where a day begins without equity.
    """
    first, last = history.begins.floor("D"), history.ends.floor("D")
    days = pd.date_range(first, max(first, last), freq="D")
    # A position that is left open closes at the very end of a backtest, which may be the next day's midnight.
    closed = history.trades["closed"].dt.floor("D").clip(days[0], days[-1])
    profit = (
        history.trades["profit"].groupby(closed).sum().reindex(days, fill_value=0.0).to_numpy(dtype=float)
    )
    equity = history.balance + np.concatenate(([0.0], np.cumsum(profit)[:-1]))
    if not (equity > 0.0).all():
        gone = days[int(np.argmin(equity > 0.0))]
        raise CalibrationError(f"{history.strategy} had lost everything by {gone:%Y-%m-%d}: no size fits")
    returns: npt.NDArray[np.float64] = profit / equity
    return returns


def calibrate(history: History, *, limit: float = LIMIT, paths: int = PATHS, seed: int = 0) -> Calibration:
    """Bootstrap the drawdown of a strategy's own daily profit, and measure its trades for the decay."""
    returns, notes = daily_returns(history), []
    found = None
    if len(returns) >= MIN_DAYS:
        found = _drawdown(returns, limit, paths, seed)
    else:
        notes.append(
            f"{len(returns)} days, {MIN_DAYS} are needed: the drawdown is not calibrated, the breaker at"
            f" {limit:.6g} of the peak alone holds"
        )
    baseline, reason = _baseline(history)
    if reason:
        notes.append(reason)
    elif baseline is not None and baseline.trades < decay.FULL_BASELINE_TRADES:
        notes.append(
            f"{baseline.trades} trades, {decay.FULL_BASELINE_TRADES} are needed for the decay breaker to"
            " pause: it only halves the size"
        )
    statement = decay.statement(decay.Config(baseline=baseline))
    return Calibration(
        history=history,
        days=len(returns),
        drawdown=found,
        baseline=baseline,
        statement=statement,
        notes=tuple(notes),
    )


def _drawdown(returns: npt.NDArray[np.float64], limit: float, paths: int, seed: int) -> Drawdown:
    common = {"block": BLOCK_DAYS, "paths": paths, "horizon": HORIZON_DAYS, "seed": seed}
    full = bootstrap_drawdown(returns, **common)
    fit = size_that_fits(returns, limit=limit, **common)
    return Drawdown(
        limit=limit,
        median=full.q50,
        q95=full.q95,
        q99=full.q99,
        exceed_probability=full.exceed_probability(limit),
        size_factor=fit.factor,
        q95_at_size=full.q95 if fit.drawdown is None else fit.drawdown,
    )


def _baseline(history: History) -> tuple[decay.Baseline | None, str]:
    ratios = history.trades["profit_ratio"]
    if len(ratios) < 2:
        return None, f"{len(ratios)} trades: no decay baseline"
    mean, deviation = float(ratios.mean()), float(ratios.std(ddof=1))
    if not mean > 0.0:
        return None, f"the mean trade earns {mean:+.3%} of its notional: no edge, so no decay baseline"
    if not deviation > 1e-9 * mean:  # equal but for rounding
        return None, "all trades earn the same: no decay baseline"
    rate = len(ratios) / history.days
    return decay.Baseline(mean=mean, deviation=deviation, trades=len(ratios), trades_per_day=rate), ""


def document(calibration: Calibration) -> dict[str, Any]:
    """Return what is written; ``plimsoll.decay.baseline`` in Freqtrade's config names the file."""
    history, found, baseline = calibration.history, calibration.drawdown, calibration.baseline
    written: dict[str, Any] = {} if baseline is None else {"decay": asdict(baseline)}
    bootstrap = {"paths": PATHS, "horizon_days": HORIZON_DAYS, "block_days": BLOCK_DAYS}
    return written | {
        "decay_statement": calibration.statement,
        "drawdown": None if found is None else asdict(found) | bootstrap,
        "notes": list(calibration.notes),
        "of": {
            "strategy": history.strategy,
            "source": history.source,
            "begins": history.begins.isoformat(),
            "ends": history.ends.isoformat(),
            "days": calibration.days,
            "trades": len(history.trades),
        },
    }
