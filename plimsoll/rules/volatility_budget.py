"""Notional from a volatility budget."""

from __future__ import annotations

import math
from itertools import pairwise

from plimsoll.rules.answer import Answer, Kind, is_number, is_positive, limit, unknown

RULE = "volatility_budget"

# Probability that the loss of the next 24 hours exceeds z sigma -> z. Measured on 445 086 hours of 32
# perpetuals from 2023-01 to 2026-05 with the blended forecast; the tails are much fatter than a normal
# distribution's (1.28 ... 3.09).
LOSS_QUANTILES = ((0.10, 1.15), (0.05, 1.60), (0.01, 2.75), (0.005, 3.36), (0.001, 5.6))


def volatility_budget(
    *, equity: float | None, sigma_day: float | None, budget: float = 0.02, exceedance: float | None = None
) -> Answer:
    """Limit notional so that a day's loss of z sigma costs the budget.

    Notional = equity x ``budget`` / (z x ``sigma_day``). Without ``exceedance`` z is 1, a one-sigma budget,
    which is what the common "2 % a day" is: a loss beyond it comes about every eighth day. With
    ``exceedance``, the probability that a day's loss exceeds the budget, z is the measured quantile for it,
    interpolated in log probability. No z foresees a jump.

    ``equity`` is in stake currency and so is the value; ``sigma_day``, ``budget`` and ``exceedance`` are
    ratios. Unknown when an input is missing, not finite, or a volatility or budget not above zero; a breach
    when no equity is left. Raises ValueError for an ``exceedance`` outside [0.001, 0.10], where nothing was
    measured.
    """
    z = 1.0 if exceedance is None else _quantile(exceedance)
    numbers = {
        "equity": equity,
        "sigma_day": sigma_day,
        "budget": budget,
        "exceedance": exceedance,
        "z": z,
    }
    if equity is None or not is_number(equity):
        return unknown(RULE, Kind.NOTIONAL, f"equity is {equity}: no size without it", numbers)
    if sigma_day is None or not is_positive(sigma_day):
        return unknown(RULE, Kind.NOTIONAL, f"volatility is {sigma_day}: no size without it", numbers)
    if not is_positive(budget):
        return unknown(RULE, Kind.NOTIONAL, f"volatility budget is {budget}, must be above 0", numbers)
    ratio = budget / (z * sigma_day)
    if equity <= 0.0:
        return limit(RULE, Kind.NOTIONAL, 0.0, f"equity is {equity:g}: nothing left to risk", numbers)
    if exceedance is None:
        name = "one-sigma budget"
    else:
        name = f"budget (exceeded on {100 * exceedance:.3g} % of days, {z:.3g} sigma)"
    reason = (
        f"{name} of {100 * budget:.3g} % at volatility {100 * sigma_day:.3g} % a day: "
        f"at most {ratio:.3g} of equity in notional"
    )
    return limit(RULE, Kind.NOTIONAL, equity * ratio, reason, {**numbers, "notional_to_equity": ratio})


def _quantile(exceedance: float) -> float:
    most, least = LOSS_QUANTILES[0][0], LOSS_QUANTILES[-1][0]
    if not least <= exceedance <= most:
        raise ValueError(f"`exceedance` is {exceedance}, must be in [{least}, {most}]")
    for (p_high, z_low), (p_low, z_high) in pairwise(LOSS_QUANTILES):
        if exceedance == p_high:
            return z_low
        if exceedance > p_low:
            share = math.log(p_high / exceedance) / math.log(p_high / p_low)
            return z_low + share * (z_high - z_low)
    return LOSS_QUANTILES[-1][1]
