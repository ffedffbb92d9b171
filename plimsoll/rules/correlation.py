"""Size by correlation with what is held."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plimsoll.rules.answer import Answer, Kind, is_positive, limit, unknown

RULE = "correlation"
LARGEST = 1.0 + 1e-9  # correlation, rounding included

FloatArray = npt.NDArray[np.float64]


def ewma_correlation(
    log_returns: npt.ArrayLike,
    *,
    half_life_hours: float = 168.0,
    window_hours: int = 720,
    min_hours: int = 168,
) -> FloatArray:
    """Measure the correlation of 1h log returns, newer hours weighing more.

    Exponentially weighted products of the last ``window_hours`` rows, zero mean. Hours in which one of two
    pairs has no finite return are left out for these two.

    ``log_returns`` has shape (n, k), rows oldest first, columns are pairs; the result (k, k), ones on the
    diagonal. An entry is NaN with fewer than ``min_hours`` common hours or a price that never moved. Raises
    ValueError for arguments out of range or returns that are not two-dimensional. Source: RiskMetrics (1996).
    """
    if not half_life_hours > 0.0:
        raise ValueError(f"`half_life_hours` is {half_life_hours}, must be above 0")
    if not 1 <= min_hours <= window_hours:
        raise ValueError(f"`min_hours` is {min_hours}, must be in [1, `window_hours` = {window_hours}]")
    recent = np.asarray(log_returns, dtype=np.float64)
    if recent.ndim != 2:
        raise ValueError(f"`log_returns` has {recent.ndim} dimensions, must have 2")
    recent = recent[-window_hours:]
    known = np.isfinite(recent)
    present = known.astype(np.float64)
    filled = np.where(known, recent, 0.0)  # adds nothing: the sums below count known hours only
    weights = 0.5 ** (np.arange(recent.shape[0])[::-1, None] / half_life_hours)
    weighted = weights * filled
    products = weighted.T @ filled
    variances = (weighted * filled).T @ present  # of the row's pair, over the hours the column's pair knows
    enough = (present.T @ present >= min_hours) & (variances > 0.0) & (variances.T > 0.0)
    scale = np.sqrt(np.where(enough, variances, 1.0)) * np.sqrt(np.where(enough, variances.T, 1.0))
    rho = np.where(enough, np.clip(products / scale, -1.0, 1.0), np.nan)
    np.fill_diagonal(rho, np.where(np.diag(enough), 1.0, np.nan))
    return np.asarray(rho, dtype=np.float64)


def shrink_to_one(rho: npt.ArrayLike, w: float) -> FloatArray:
    """Move correlations toward +1: (1 - w) x rho + w, in crashes everything falls together.

    Any shape, signed by side first so that a hedge is trusted less; NaN stays NaN. Raises ValueError for
    ``w`` outside [0, 1]. Source: shrinkage toward a constant target, Ledoit and Wolf (2004).
    """
    if not 0.0 <= w <= 1.0:
        raise ValueError(f"`w` is {w}, must be in [0, 1]")
    return np.asarray((1.0 - w) * np.asarray(rho, dtype=np.float64) + w, dtype=np.float64)


def marginal_variance_factor(
    *,
    held_volatility: npt.ArrayLike,
    held_side: npt.ArrayLike,
    held_correlation: npt.ArrayLike,
    new_correlation: npt.ArrayLike,
    new_side: int,
    new_volatility: float | None,
    budget: float,
    shrink: float = 0.25,
    skip_below: float = 0.25,
) -> float:
    """Solve for the share of a new position that keeps the portfolio's variance within budget.

    The largest g in [0, 1] with V + 2 g c + g^2 v <= ``budget``^2, where V is the variance held, c the
    covariance of the new position with it and v the new position's variance; correlations are signed by side,
    then shrunk toward +1. A share under ``skip_below`` is 0: skip the entry, a floor would leak risk with
    every further position.

    ``held_volatility`` (k,) and ``new_volatility`` are daily sigma x notional / equity, ratios of equity per
    day, as is ``budget``. ``held_side`` (k,) and ``new_side`` are +1 long, -1 short. ``held_correlation`` is
    (k, k) and ``new_correlation`` (k,), of the prices, not signed. NaN when an input is missing, not finite
    or out of range.
    Source: Markowitz (1952).
    """
    book = _book(
        held_volatility,
        held_side,
        held_correlation,
        new_correlation,
        new_side,
        new_volatility,
        shrink,
        missing_correlation=math.nan,
    )
    if book is None or not is_positive(budget) or not 0.0 <= skip_below <= 1.0:
        return math.nan
    share = _largest_share(book, budget**2)
    return share if share >= skip_below else 0.0


def correlation_factor(
    *,
    held_volatility: npt.ArrayLike,
    held_side: npt.ArrayLike,
    held_correlation: npt.ArrayLike,
    new_correlation: npt.ArrayLike,
    new_side: int,
    new_volatility: float | None,
    budget: float,
    shrink: float = 0.25,
    skip_below: float = 0.25,
    missing_correlation: float = 0.8,
) -> Answer:
    """Scale a new position so that the portfolio's variance stays within budget, or skip it.

    Arguments as in :func:`marginal_variance_factor`. A correlation that is not finite counts as
    ``missing_correlation`` *against* us whatever the sides are: no hedge credit for a pair without history.
    The value is a factor in (0, 1]; a breach means skip the entry. Unknown when another input is missing, not
    finite or out of range.
    """
    numbers: dict[str, float | int | None] = {
        "new_volatility": new_volatility,
        "budget": budget,
        "shrink": shrink,
    }
    book = _book(
        held_volatility,
        held_side,
        held_correlation,
        new_correlation,
        new_side,
        new_volatility,
        shrink,
        missing_correlation,
    )
    if book is None or not is_positive(budget) or not 0.0 <= skip_below <= 1.0:
        reason = f"portfolio risk cannot be measured: new volatility {new_volatility}, budget {budget}"
        return unknown(RULE, Kind.FACTOR, reason, numbers)
    share = _largest_share(book, budget**2)
    before, full = math.sqrt(book.variance(0.0)), math.sqrt(book.variance(1.0))
    numbers |= {
        "positions": book.positions,
        "missing_correlations": book.missing,
        "volatility_before": before,
        "volatility_full_size": full,
        "volatility_after": math.sqrt(book.variance(share)) if share >= skip_below else before,
        "share": share,
    }
    risk = f"portfolio volatility {100 * before:.3g} % a day, {100 * full:.3g} % with the new position"
    if share < skip_below:
        reason = f"{risk}, budget {100 * budget:.3g} %: only {share:.2f} of it fits, skip"
        return limit(RULE, Kind.FACTOR, 0.0, reason, numbers)
    return limit(
        RULE, Kind.FACTOR, share, f"{risk}, budget {100 * budget:.3g} %: size x {share:.2f}", numbers
    )


def mean_correlation_factor(
    *, correlations: npt.ArrayLike | None, floor: float = 0.25, missing_correlation: float = 0.8
) -> Answer:
    """Scale a new position by its mean correlation with what is held, as commonly published.

    Factor = 1 - (1 - ``floor``) x max(mean, 0): full size at mean 0 or with nothing held, ``floor`` at 1. It
    knows neither sides nor how much is held.

    ``correlations`` has shape (k,), one per position held; one that is not finite counts as
    ``missing_correlation``. The value is a factor in [``floor``, 1]. Unknown without an array or with a
    correlation outside [-1, 1].
    """
    numbers: dict[str, float | int] = {"floor": floor, "missing_correlation": missing_correlation}
    rho = np.asarray(np.nan if correlations is None else correlations, dtype=np.float64)
    missing = ~np.isfinite(rho)
    rho = np.where(missing, missing_correlation, rho)
    if rho.ndim != 1 or not (np.abs(rho) <= 1.0).all():
        return unknown(RULE, Kind.FACTOR, "correlations are missing or outside [-1, 1]", numbers)
    if not 0.0 <= floor <= 1.0:
        return unknown(RULE, Kind.FACTOR, f"floor is {floor}, must be in [0, 1]", numbers)
    mean = float(rho.mean()) if rho.size else 0.0
    factor = 1.0 - (1.0 - floor) * max(mean, 0.0)
    numbers |= {"positions": rho.size, "missing_correlations": int(missing.sum()), "mean": mean}
    reason = f"mean correlation {mean:.2f} with {rho.size} positions: size x {factor:.2f}"
    return limit(RULE, Kind.FACTOR, factor, reason, numbers)


def effective_bets(matrix: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Count how many independent bets a portfolio amounts to.

    (sum of |w_i| sigma_i)^2 / (w' C w), the squared diversification ratio: 1 if all move as one, k for k
    uncorrelated bets of equal risk, above k when positions hedge each other.

    ``matrix`` C is a covariance (k, k), or a correlation if ``weights`` (k,), signed by side, are
    volatilities already. NaN with an input that is not finite, shapes that differ, or a portfolio without
    variance.
    Source: Choueifaty and Coignard (2008).
    """
    covariance = np.asarray(matrix, dtype=np.float64)
    signed = np.asarray(weights, dtype=np.float64)
    if signed.ndim != 1 or covariance.shape != (signed.size, signed.size):
        return math.nan
    if not (
        np.isfinite(covariance).all() and np.isfinite(signed).all() and (np.diag(covariance) >= 0.0).all()
    ):
        return math.nan
    alone = float(np.abs(signed) @ np.sqrt(np.diag(covariance))) ** 2
    together = float(signed @ covariance @ signed)
    return alone / together if together > 1e-12 * alone else math.nan


@dataclass(frozen=True, slots=True)
class _Book:
    held: float  # variance of what is held
    cross: float  # covariance of the new position with it
    own: float  # variance of the new position
    positions: int
    missing: int

    def variance(self, share: float) -> float:
        return max(self.held + 2.0 * share * self.cross + share * share * self.own, 0.0)


def _book(
    held_volatility: npt.ArrayLike,
    held_side: npt.ArrayLike,
    held_correlation: npt.ArrayLike,
    new_correlation: npt.ArrayLike,
    new_side: int,
    new_volatility: float | None,
    shrink: float,
    missing_correlation: float,
) -> _Book | None:
    held = np.asarray(held_volatility, dtype=np.float64)
    sides = np.asarray(held_side, dtype=np.float64)
    among = np.asarray(held_correlation, dtype=np.float64)
    toward = np.asarray(new_correlation, dtype=np.float64)
    count = held.size
    if held.ndim != 1 or sides.shape != held.shape or toward.shape != held.shape:
        return None
    if among.shape != (count, count) and among.size + count > 0:
        return None
    if new_volatility is None or not is_positive(new_volatility) or not 0.0 <= shrink <= 1.0:
        return None
    if count == 0:
        return _Book(0.0, 0.0, new_volatility**2, 0, 0) if new_side in (1, -1) else None
    usable = (held > 0.0) & (held < math.inf) & (np.abs(sides) == 1.0)
    if new_side not in (1, -1) or not usable.all():
        return None
    among = sides[:, None] * sides * among.reshape(count, count)
    toward = new_side * sides * toward
    among.flat[:: count + 1] = 1.0  # the diagonal
    missing = 0
    if not _all_finite(among):
        unmeasured = ~np.isfinite(among)
        among[unmeasured] = missing_correlation
        missing += int(np.triu(unmeasured).sum())
    if not _all_finite(toward):
        unmeasured = ~np.isfinite(toward)
        toward[unmeasured] = missing_correlation
        missing += int(unmeasured.sum())
    # Not the other way around: whatever is compared with NaN is False.
    if not (np.abs(among).max() <= LARGEST and np.abs(toward).max() <= LARGEST):
        return None
    return _Book(
        held=max(float(held @ shrink_to_one(among, shrink) @ held), 0.0),
        cross=new_volatility * float(held @ shrink_to_one(toward, shrink)),
        own=new_volatility**2,
        positions=count,
        missing=missing,
    )


def _all_finite(values: FloatArray) -> bool:
    # In one pass: what is finite throughout has a finite sum; one that is too large for a float is looked at closer.
    return math.isfinite(values.sum())


def _largest_share(book: _Book, most: float) -> float:
    if book.variance(1.0) <= most:
        return 1.0
    inside = book.cross**2 - book.own * (book.held - most)
    if inside < 0.0:
        return 0.0
    root = math.sqrt(inside)
    # Both forms are the greater root; each avoids the difference of nearly equal numbers on its side.
    share = (most - book.held) / (book.cross + root) if book.cross > 0.0 else (root - book.cross) / book.own
    # A full position breaks the budget, so a root beyond it has the whole of [0, 1] outside.
    return share if 0.0 < share < 1.0 else 0.0
