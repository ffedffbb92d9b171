"""Notional from the Kelly criterion, shrunk for small samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from plimsoll.rules.answer import Answer, Kind, is_number, is_positive, limit, unknown

RULE = "kelly"

# The most leverage that exchanges grant. Full Kelly is capped here: without a loss on record it is unbounded.
MOST_NOTIONAL_TO_EQUITY = 125.0

FloatArray = npt.NDArray[np.float64]
Method = Literal["exact", "binary"]
Stage = Literal["unknown", "cold_start", "no_edge", "edge"]


@dataclass(frozen=True, slots=True)
class KellyEstimate:
    """Hold what closed trades say about the size that grows equity fastest.

    ``notional_to_equity`` is the multiple of full Kelly to use, as notional / equity: None in cold start and
    when unknown, 0 without an edge. ``mean`` and ``shrunk_mean`` are returns on notional. ``payoff`` is mean
    win / mean loss. ``published_fraction`` is f* = p - q/b, a fraction of equity **at risk**: never compare
    it with a leverage.
    """

    stage: Stage
    notional_to_equity: float | None
    trades: int
    mean: float | None = None
    shrunk_mean: float | None = None
    win_rate: float | None = None
    payoff: float | None = None
    published_fraction: float | None = None


def kelly_estimate(
    returns_on_notional: npt.ArrayLike | None,
    *,
    method: Method = "exact",
    multiple: float,
    shrink_trades: float,
    min_trades: int,
) -> KellyEstimate:
    """Estimate the notional per equity that grows equity fastest, times ``multiple``.

    Exact: multiple x argmax of mean log(1 + F r'), where r' are the returns with their mean shrunk by n/(n +
    K), K = ``shrink_trades``. Binary: the published f* = p - q/b converted to notional, multiple x f*/mean
    loss x n/(n + K); right only if every win and every loss is the same. It counts a trade that breaks even
    against the win rate.

    ``returns_on_notional`` has shape (n,): profit after fees and funding / notional, so a leveraged return /
    leverage; losses beyond -100 % are taken as they are. Under ``min_trades`` of them: cold start. No edge
    when the shrunk mean (exact) or f* (binary) is not above zero. Full Kelly is capped at 125 x equity, also
    where it has no bound because r' (binary: the returns) holds no loss. Unknown with a return that is not
    finite, or parameters out of range.
    Raises ValueError for another ``method``.
    Sources: Kelly (1956); Baker and McHale (2013) for the need to shrink.
    """
    if method not in ("exact", "binary"):
        raise ValueError(f"`method` is {method!r}, must be 'exact' or 'binary'")
    returns = np.asarray([np.nan] if returns_on_notional is None else returns_on_notional, dtype=np.float64)
    count = returns.size
    valid = (
        is_positive(multiple) and is_number(shrink_trades) and shrink_trades >= 0.0 and is_number(min_trades)
    )
    if not valid or returns.ndim != 1 or not np.isfinite(returns).all():
        return KellyEstimate("unknown", None, count)
    if count < max(min_trades, 1):
        return KellyEstimate("cold_start", None, count)
    with np.errstate(all="ignore"):
        return _estimate(returns, method, multiple, count / (count + shrink_trades))


def _estimate(returns: FloatArray, method: Method, multiple: float, trust: float) -> KellyEstimate:
    count = returns.size
    wins, losses = returns[returns > 0.0], returns[returns < 0.0]
    mean = float(returns.sum()) / count
    win_rate = wins.size / count
    mean_loss = -float(losses.sum()) / losses.size if losses.size else 0.0
    mean_win = float(wins.sum()) / wins.size if wins.size else 0.0
    payoff = mean_win / mean_loss if mean_win > 0.0 and mean_loss > 0.0 else None
    fraction = None if mean_win == 0.0 else win_rate - (1.0 - win_rate) * mean_loss / mean_win
    full = _exact(returns, mean, mean * trust) if method == "exact" else trust * _binary(fraction, mean_loss)
    if not np.isfinite(full):
        return KellyEstimate("unknown", None, count)
    stage: Stage = "edge" if full > 0.0 else "no_edge"
    return KellyEstimate(stage, multiple * full, count, mean, mean * trust, win_rate, payoff, fraction)


def _binary(fraction: float | None, mean_loss: float) -> float:
    if fraction is None or fraction <= 0.0:
        return 0.0
    if fraction >= mean_loss * MOST_NOTIONAL_TO_EQUITY:
        return MOST_NOTIONAL_TO_EQUITY
    return fraction / mean_loss


def _exact(returns: FloatArray, mean: float, shrunk: float) -> float:
    if shrunk <= 0.0:
        return 0.0
    shifted = returns - mean + shrunk
    worst = float(shifted.min())
    low, high = 0.0, MOST_NOTIONAL_TO_EQUITY
    if worst * high > -1.0:
        if float((shifted / (1.0 + high * shifted)).sum()) >= 0.0:
            return high
    else:
        high = -1.0 / worst  # ruin: growth falls without bound on the way there
    # Newton on the slope of mean log growth, which only falls; a step that leaves the bracket is a bisection
    # instead.
    guess = shrunk * shifted.size / float(shifted @ shifted)
    for _ in range(200):
        if not low < guess < high:
            guess = 0.5 * (low + high)
        terms = shifted / (1.0 + guess * shifted)
        slope = float(terms.sum())
        if slope > 0.0:
            low = guess
        else:
            high = guess
        step = slope / float(terms @ terms)
        guess += step
        if abs(step) <= 1e-14 * guess or high - low <= 1e-14 * high:
            break
    return guess if low <= guess <= high else 0.5 * (low + high)


def without_growth_after_loss(
    previous: KellyEstimate | None, estimate: KellyEstimate, last_return: float
) -> KellyEstimate:
    """Return the estimate after one more closed trade, never a larger size than before it if that trade lost.

    On its own the estimate may rise after a loss: n/(n + K) grows with every trade, the window drops an older loss, the cold start
    ends. Fold it over the closed trades in the order they closed.
    """
    if previous is None or previous.stage == "unknown" or not last_return < 0.0 or estimate.stage != "edge":
        return estimate
    if previous.stage == "edge":
        if (previous.notional_to_equity or 0.0) < (estimate.notional_to_equity or 0.0):
            return replace(estimate, notional_to_equity=previous.notional_to_equity)
        return estimate
    return replace(previous, trades=estimate.trades)


def kelly_limit(
    *,
    estimate: KellyEstimate,
    equity: float | None,
    loss_at_stop_ratio: float | None,
    cold_start_risk: float = 0.0025,
    floor_risk: float = 0.001,
    open_trades: int = 0,
    correlation: float = 0.0,
) -> Answer:
    """Limit notional to the Kelly estimate; never to nothing, or the estimate could not recover.

    Cold start: ``cold_start_risk`` x equity / ``loss_at_stop_ratio``. No edge: the floor, ``floor_risk`` x
    equity / ``loss_at_stop_ratio``. Edge: estimate x equity / (1 + (m - 1) rho), at least the floor, where m
    = ``open_trades`` + 1 counts the new trade too and rho is ``correlation``; a negative one counts as 0.

    ``equity`` is in stake currency and so is the value; ``loss_at_stop_ratio`` is the loss per unit of
    notional at the stop, fees and slippage inside; the risks are ratios of equity. Unknown when an input is
    missing, not finite or out of range; a breach when no equity is left.
    Sources: Kelly (1956); the divisor is full Kelly for m equal bets of equal correlation.
    """
    numbers = {
        "stage": estimate.stage,
        "trades": estimate.trades,
        "estimate": estimate.notional_to_equity,
        "mean": estimate.mean,
        "shrunk_mean": estimate.shrunk_mean,
        "win_rate": estimate.win_rate,
        "payoff": estimate.payoff,
        "published_fraction": estimate.published_fraction,
        "equity": equity,
        "loss_at_stop_ratio": loss_at_stop_ratio,
        "open_trades": open_trades,
        "correlation": correlation,
    }
    if estimate.stage == "unknown":
        return unknown(
            RULE, Kind.NOTIONAL, f"Kelly is unknown: {estimate.trades} returns, not all valid", numbers
        )
    if equity is None or not is_number(equity):
        return unknown(RULE, Kind.NOTIONAL, f"equity is {equity}: no size without it", numbers)
    if loss_at_stop_ratio is None or not is_positive(loss_at_stop_ratio):
        reason = f"loss at the stop is {loss_at_stop_ratio}: no size without it"
        return unknown(RULE, Kind.NOTIONAL, reason, numbers)
    if not (is_positive(cold_start_risk) and is_positive(floor_risk)):
        reason = f"cold start risk {cold_start_risk} and floor risk {floor_risk} must be above 0"
        return unknown(RULE, Kind.NOTIONAL, reason, numbers)
    if not (
        is_number(open_trades) and open_trades >= 0 and is_number(correlation) and abs(correlation) <= 1.0
    ):
        reason = f"{open_trades} open trades of correlation {correlation} is not possible"
        return unknown(RULE, Kind.NOTIONAL, reason, numbers)
    if equity <= 0.0:
        return limit(RULE, Kind.NOTIONAL, 0.0, f"equity is {equity:g}: nothing left to risk", numbers)
    floor = floor_risk / loss_at_stop_ratio
    if estimate.stage == "cold_start":
        ratio = cold_start_risk / loss_at_stop_ratio
        why = f"cold start with {estimate.trades} trades, {100 * cold_start_risk:.3g} % of equity at the stop"
    elif estimate.stage == "no_edge" or estimate.notional_to_equity is None:
        ratio = floor
        why = f"no edge in {estimate.trades} trades, floor of {100 * floor_risk:.3g} % of equity at the stop"
    else:
        shared = estimate.notional_to_equity / (1.0 + open_trades * max(correlation, 0.0))
        ratio = max(shared, floor)
        why = f"Kelly from {estimate.trades} trades is {shared:.3g}"
        if shared < floor:
            why += f", under the floor of {100 * floor_risk:.3g} % of equity at the stop"
    reason = f"{why}: at most {ratio:.3g} of equity in notional"
    return limit(RULE, Kind.NOTIONAL, equity * ratio, reason, {**numbers, "notional_to_equity": ratio})
