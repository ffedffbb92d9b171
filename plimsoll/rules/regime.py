"""Leverage by volatility regime."""

from __future__ import annotations

from plimsoll.rules.answer import Answer, Kind, is_positive, limit, unknown

RULE = "volatility_regime"


def volatility_regime(
    *,
    sigma_day: float | None,
    high: float = 0.05,
    mid: float = 0.02,
    high_leverage: float = 1.0,
    mid_leverage: float = 3.0,
    low_leverage: float = 5.0,
) -> Answer:
    """Limit leverage to what the volatility of a day allows.

    Above ``high``: ``high_leverage``. From ``mid`` to ``high``, both included: ``mid_leverage``. Under
    ``mid``: ``low_leverage``. So exactly 5 % a day allows 3x, and exactly 2 % allows 3x.

    ``sigma_day``, ``high`` and ``mid`` are ratios per day (0.05 is 5 %). The value is a leverage. Unknown
    without a volatility above zero (candles that never move are no measurement), or when the bands are not in
    order.
    Source: the bands as commonly published.
    """
    numbers = {"sigma_day": sigma_day, "high": high, "mid": mid}
    if sigma_day is None or not is_positive(sigma_day):
        return unknown(RULE, Kind.LEVERAGE, f"volatility is {sigma_day}: no leverage without it", numbers)
    bands_in_order = is_positive(mid) and is_positive(high) and mid < high
    if not (bands_in_order and high_leverage <= mid_leverage <= low_leverage):
        return unknown(RULE, Kind.LEVERAGE, "volatility bands or their leverages are not in order", numbers)
    if sigma_day > high:
        leverage, place = high_leverage, f"above {100 * high:.3g} %"
    elif sigma_day >= mid:
        leverage, place = mid_leverage, f"from {100 * mid:.3g} % to {100 * high:.3g} %"
    else:
        leverage, place = low_leverage, f"under {100 * mid:.3g} %"
    reason = f"volatility {100 * sigma_day:.3g} % a day is {place}: at most {leverage:g}x"
    return limit(RULE, Kind.LEVERAGE, leverage, reason, {**numbers, "leverage": leverage})
