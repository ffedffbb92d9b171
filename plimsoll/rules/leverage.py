"""How much leverage the cap, the stop and the distance to liquidation allow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plimsoll.rules.answer import Answer, Kind, Side, limit, unknown
from plimsoll.rules.funding import funding_reserve
from plimsoll.rules.liquidation import (
    MaintenanceTier,
    all_finite,
    all_positive,
    largest_leverage,
    required_distance,
    tier_of,
)

HARD_MAXIMUM_LEVERAGE = 5.0  # whatever any configuration says


def leverage_cap(*, cap: float, exchange_maximum: float, proposed: float | None) -> Answer:
    """Answer with the integer floor of the smallest of cap, 5, the exchange's maximum and the proposal.

    ``proposed`` None means that the strategy has no own opinion. A value in [0, 1) is a breach: whole
    leverage can only go up from there, and no rule raises what was proposed. A negative, NaN or infinite
    value is unknown.
    """
    rule = "leverage_cap"
    numbers = {"cap": cap, "exchange_maximum": exchange_maximum, "proposed": proposed}
    if not all_finite(cap, exchange_maximum) or (proposed is not None and not all_finite(proposed)):
        return unknown(rule, Kind.LEVERAGE, "a leverage is no finite number", numbers)
    most = min(cap, exchange_maximum, HARD_MAXIMUM_LEVERAGE)
    if proposed is not None and proposed < most:
        most = proposed
    if most < 0.0:
        return unknown(rule, Kind.LEVERAGE, f"a leverage of {most:g} makes no sense", numbers)
    leverage = float(math.floor(most))
    reason = f"at most {leverage:g}x" if leverage else f"{most:g}x is under 1x"
    return limit(rule, Kind.LEVERAGE, leverage, reason, numbers)


def leverage_closed_form(
    *,
    stop_price_ratio: float,
    mmr: float,
    stop_to_liquidation_ratio: float = 0.5,
    fee: float,
    funding_cost_per_day: float = 0.0,
    funding_days: float = 3.0,
    cap: float = HARD_MAXIMUM_LEVERAGE,
) -> float:
    """Return the leverage that keeps a stop at a given share of the way to liquidation, before any rounding.

    ``clip(1/(stop/phi + mmr + fee + max(funding, 0)*days), 1, cap)``, phi being
    ``stop_to_liquidation_ratio``; ratios of the price or the notional, ``funding_cost_per_day`` positive when
    this side pays. An approximation: it clips to 1x even where 1x is too much. NaN when an input is unknown.
    """
    if not all_positive(stop_price_ratio, stop_to_liquidation_ratio) or not all_finite(
        mmr, fee, funding_cost_per_day, funding_days, cap
    ):
        return math.nan
    if mmr < 0.0 or fee < 0.0 or funding_days < 0.0 or cap < 1.0:
        return math.nan
    funding = max(funding_cost_per_day, 0.0) * funding_days
    need = stop_price_ratio / stop_to_liquidation_ratio + mmr + fee + funding
    if need <= 0.0:  # underflow of a stop next to nothing
        return cap
    return min(max(1.0 / need, 1.0), cap)


def leverage_from_stop(
    *,
    stop_price_ratio: float,
    side: Side,
    tiers: Sequence[MaintenanceTier] | None,
    notional: float,
    stop_to_liquidation_ratio: float = 0.5,
    fee: float,
    funding_per_day: float | None = 0.0,
    funding_days: float = 3.0,
    buffer: float = 0.05,
    cap: float = HARD_MAXIMUM_LEVERAGE,
) -> Answer:
    """Answer with the largest integer leverage that keeps the stop at most phi of the way to liquidation.

    Starts from :func:`leverage_closed_form`, floors, and lowers until the stop distance is at most phi times
    the buffered liquidation distance at the tier of ``notional`` (stake currency; pass the largest under
    consideration), the funding of ``funding_days`` taken off the margin. ``funding_per_day`` is the
    exchange's rate, positive when longs pay. Never above 5, nor above the tier's own maximum. Breached when
    1x does not do; unknown past the last tier, without tiers, or when an input is.
    """
    rule = "leverage_from_stop"
    phi = stop_to_liquidation_ratio
    numbers = {"stop_price_ratio": stop_price_ratio, "notional": notional, "cap": cap}
    if not all_positive(stop_price_ratio, phi) or phi >= 1.0:
        return unknown(
            rule, Kind.LEVERAGE, f"a stop of {stop_price_ratio} at phi {phi} is not usable", numbers
        )
    tier = tier_of(tiers, notional)
    if tier is None:
        return unknown(rule, Kind.LEVERAGE, f"no maintenance tier for a notional of {notional}", numbers)
    reserve = funding_reserve(funding_per_day=funding_per_day, days=funding_days, side=side)
    closed = leverage_closed_form(
        stop_price_ratio=stop_price_ratio,
        mmr=tier.mmr,
        stop_to_liquidation_ratio=phi,
        fee=fee,
        funding_cost_per_day=reserve,
        funding_days=1.0,
        cap=min(cap, HARD_MAXIMUM_LEVERAGE) if all_finite(cap) else cap,
    )
    leverage, distance = largest_leverage(
        side=side,
        tiers=tiers,
        notional=notional,
        cap=closed,
        required=stop_price_ratio / phi,
        buffer=buffer,
        extra_ratio=-reserve,
    )
    if leverage < 0:
        return unknown(rule, Kind.LEVERAGE, "side, cap, fee, funding or buffer is not usable", numbers)
    numbers.update(distance_ratio=distance, funding_reserve=reserve, mmr=tier.mmr)
    word = f"{leverage}x" if leverage else "not even 1x"
    reason = f"{word}: stop {stop_price_ratio:.2%} away, at most {phi:.0%} of {distance:.2%} to liquidation"
    return limit(rule, Kind.LEVERAGE, float(leverage), reason, numbers)


def leverage_from_liquidation(
    *,
    side: Side,
    tiers: Sequence[MaintenanceTier] | None,
    notional: float,
    cap: float,
    minimum: float = 0.15,
    daily_range: float | None,
    daily_range_multiple: float = 1.0,
    buffer: float = 0.05,
    extra_ratio: float = 0.0,
) -> Answer:
    """Answer with the largest integer leverage up to ``cap`` that keeps liquidation far enough away.

    Far enough as in :func:`~plimsoll.rules.liquidation.minimum_liquidation_distance`. The margin is
    ``notional / leverage``, the tier is that of ``notional`` (stake currency), followed to liquidation as in
    :func:`~plimsoll.rules.liquidation.liquidation_price`: pass the largest notional under consideration while
    it is open. The tier's own maximum leverage holds too. Breached when 1x is not far enough; unknown past
    the last tier, without tiers or a daily range.
    """
    rule = "leverage_from_liquidation"
    required = required_distance(minimum, daily_range, daily_range_multiple)
    numbers = {"notional": notional, "cap": cap, "required": required}
    if required != required:
        return unknown(rule, Kind.LEVERAGE, "minimum liquidation distance needs the daily range", numbers)
    if tier_of(tiers, notional) is None:
        return unknown(rule, Kind.LEVERAGE, f"no maintenance tier for a notional of {notional}", numbers)
    leverage, distance = largest_leverage(
        side=side,
        tiers=tiers,
        notional=notional,
        cap=cap,
        required=required,
        buffer=buffer,
        extra_ratio=extra_ratio,
    )
    if leverage < 0:
        return unknown(rule, Kind.LEVERAGE, "side, cap, buffer or funding reserve is not usable", numbers)
    numbers["distance_ratio"] = distance
    word = f"{leverage}x" if leverage else "not even 1x"
    reason = f"{word}: liquidation {distance:.2%} away, at least {required:.2%} required"
    return limit(rule, Kind.LEVERAGE, float(leverage), reason, numbers)
