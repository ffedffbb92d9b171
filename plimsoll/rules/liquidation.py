"""Where a position is liquidated, and how far from the price that must be."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import NamedTuple

from plimsoll.rules.answer import Answer, Kind, Side, gate, unknown

_LARGEST = sys.float_info.max
_LEAST = -_LARGEST
_ROUNDING = 1e-9  # a leverage that should be 5 and comes out as 4.9999999999 is 5; it is verified anyway


class MaintenanceTier(NamedTuple):
    """Hold one maintenance margin tier.

    Notionals and the maintenance amount (Binance "cum") in stake currency. ``max_notional`` None means no
    upper bound, ``max_leverage`` None that the exchange states none.
    """

    min_notional: float
    max_notional: float | None
    mmr: float
    maintenance_amount: float
    max_leverage: float | None = None


def all_finite(*values: object) -> bool:
    """Tell whether every value is a finite float or int; False for None, NaN, infinities, bool, text."""
    for value in values:
        # Asked dozens of times for one plan, nearly always of plain floats: the exact type first, it is told at once.
        if type(value) is not float and (not isinstance(value, (float, int)) or isinstance(value, bool)):
            return False
        if not _LEAST <= value <= _LARGEST:
            return False
    return True


def all_positive(*values: object) -> bool:
    """Tell whether every value is a finite float or int above zero."""
    for value in values:
        if type(value) is not float and (not isinstance(value, (float, int)) or isinstance(value, bool)):
            return False
        if not 0.0 < value <= _LARGEST:
            return False
    return True


def tier_of(tiers: Sequence[MaintenanceTier] | None, notional: float) -> MaintenanceTier | None:
    """Return the tier that a notional (never the margin) falls into.

    ``tiers`` ascend by ``min_notional``; a notional on a border belongs to the upper tier, as in Freqtrade's
    ``get_maintenance_ratio_and_amt``. Unlike there, a notional beyond the last tier has none: the exchange
    would refuse it. None for no tiers, a notional that is not a positive number, or a tier with garbage in
    it.
    """
    index = _index_of(tiers, notional)
    return tiers[index] if tiers and index >= 0 else None


def liquidation_price(
    *,
    side: Side,
    open_rate: float,
    amount: float,
    margin: float,
    tiers: Sequence[MaintenanceTier] | None,
    extra: float = 0.0,
    buffer: float = 0.05,
) -> float:
    """Return the buffered price at which an isolated position is liquidated.

    Rates in stake currency per unit, ``amount`` in base units with leverage inside, ``margin`` and ``extra``
    in stake currency; ``extra`` is what the margin gained or lost since, so funding paid is negative. Binance
    USD-M: ``(margin + extra + cum - s*amount*open) / (amount*mmr - s*amount)``, s = 1 long, -1 short; moved
    towards the entry by ``buffer`` of the way and floored at 0, as Freqtrade's ``get_liquidation_price``
    does. The tier is that of the notional, at first ``amount * open_rate``, then followed down (long) or up
    (short) while the notional at the price found lies in another one: Binance takes maintenance margin on the
    notional at the mark price, so the entry's tier alone is too optimistic near its borders. 0 means that a
    long is never liquidated. NaN when an input is unknown or the notional lies past the last tier.
    """
    if (
        not all_positive(open_rate, amount, margin)
        or not all_finite(extra, buffer)
        or not 0.0 <= buffer < 1.0
    ):
        return math.nan
    if side != "long" and side != "short":
        return math.nan
    notional = amount * open_rate
    index = _index_of(tiers, notional)
    if index < 0 or not tiers:
        return math.nan
    distance = _distance(tiers, index, notional, (margin + extra) / notional, buffer, side == "long")
    return open_rate * (1.0 - distance if side == "long" else 1.0 + distance)


def liquidation_distance_ratio(*, leverage: float, mmr: float, side: Side) -> float:
    """Return the unbuffered distance from entry to liquidation as a ratio of the entry price.

    Long ``1 - (1 - 1/L)/(1 - mmr)``, short ``(1 + 1/L)/(1 + mmr) - 1``: the Binance formula without a
    maintenance amount. NaN when an input is unknown.
    """
    return buffered_distance_ratio(leverage=leverage, mmr=mmr, side=side, buffer=0.0)


def buffered_distance_ratio(
    *,
    leverage: float,
    mmr: float,
    side: Side,
    buffer: float = 0.05,
    maintenance_amount_ratio: float = 0.0,
    extra_ratio: float = 0.0,
) -> float:
    """Return the distance from entry to the buffered liquidation price as a ratio of the entry price.

    ``maintenance_amount_ratio`` and ``extra_ratio`` (negative for funding paid) are ratios of the notional.
    ``(1/L + extra + cum - mmr) / (1 -/+ mmr)`` for long/short, shortened by ``buffer``: the same as
    :func:`liquidation_price`. At most 1 for a long; negative when the margin is already used up. NaN when an
    input is unknown.
    """
    if not all_positive(leverage) or not all_finite(mmr, buffer, maintenance_amount_ratio, extra_ratio):
        return math.nan
    if not 0.0 <= mmr < 1.0 or not 0.0 <= buffer < 1.0 or (side != "long" and side != "short"):
        return math.nan
    shortfall = 1.0 / leverage + maintenance_amount_ratio + extra_ratio - mmr
    return _shorten(shortfall / (1.0 - mmr if side == "long" else 1.0 + mmr), buffer, side == "long")


def liquidation_distance(*, side: Side, rate: float, liquidation_price: float | None) -> float:
    """Return how far liquidation is from a rate, as a ratio of that rate.

    Negative once past it; NaN when an input is unknown.
    """
    if not all_positive(rate) or not all_finite(liquidation_price) or liquidation_price is None:
        return math.nan
    if liquidation_price < 0.0 or (side == "short" and liquidation_price == 0.0):
        return math.nan
    if side == "long":
        return (rate - liquidation_price) / rate
    return (liquidation_price - rate) / rate if side == "short" else math.nan


def required_distance(minimum: float, daily_range: float | None, multiple: float) -> float:
    """Return ``max(minimum, multiple * daily_range)``, a ratio of the price; NaN when an input is unknown."""
    if daily_range is None or not all_positive(daily_range) or not all_finite(minimum, multiple):
        return math.nan
    return max(minimum, multiple * daily_range) if minimum >= 0.0 and multiple >= 0.0 else math.nan


def minimum_liquidation_distance(
    *,
    distance_ratio: float | None,
    minimum: float = 0.15,
    daily_range: float | None,
    daily_range_multiple: float = 1.0,
) -> Answer:
    """Answer whether liquidation is at least ``max(minimum, multiple * daily_range)`` of the price away.

    All ratios of the price. A missing, NaN or zero daily range is unknown, so is a missing distance. Spot has
    no liquidation: do not ask.
    """
    rule = "minimum_liquidation_distance"
    required = required_distance(minimum, daily_range, daily_range_multiple)
    numbers = {"distance_ratio": distance_ratio, "required": required, "daily_range": daily_range}
    if distance_ratio is None or not all_finite(distance_ratio):
        return unknown(rule, Kind.GATE, "liquidation distance is not known", numbers)
    if required != required:
        return unknown(rule, Kind.GATE, "minimum liquidation distance needs the daily range", numbers)
    reason = f"liquidation is {distance_ratio:.2%} away, at least {required:.2%} required"
    return gate(rule, distance_ratio >= required, reason, numbers)


def largest_leverage(
    *,
    side: Side,
    tiers: Sequence[MaintenanceTier] | None,
    notional: float,
    cap: float,
    required: float,
    buffer: float,
    extra_ratio: float,
) -> tuple[int, float]:
    """Return the largest integer leverage whose liquidation distance is ``required``, and that distance.

    The distance is buffered. Leverage 0 comes with the distance at 1x: not even that is enough. Leverage -1
    comes with NaN: an input is unknown.
    """
    index = _index_of(tiers, notional)
    if index < 0 or not tiers or not all_positive(cap) or not all_finite(required, buffer, extra_ratio):
        return -1, math.nan
    if not 0.0 <= buffer < 1.0 or (side != "long" and side != "short"):
        return -1, math.nan
    is_long = side == "long"
    tier = tiers[index]
    leverage = math.floor(cap if tier.max_leverage is None else min(cap, tier.max_leverage))
    # Solve the distance at the entry's tier for 1/L, an upper bound; what counts is the check below.
    needed = required / (1.0 - buffer) * (1.0 - tier.mmr if is_long else 1.0 + tier.mmr) + tier.mmr
    needed -= tier.maintenance_amount / notional + extra_ratio
    if needed > 0.0 and leverage > 1:
        leverage = max(math.floor(min(1.0 / needed, leverage) + _ROUNDING), 1)
    distance = _distance(tiers, index, notional, 1.0 / max(leverage, 1) + extra_ratio, buffer, is_long)
    while leverage > 0 and distance < required:
        leverage -= 1
        distance = _distance(tiers, index, notional, 1.0 / max(leverage, 1) + extra_ratio, buffer, is_long)
    return (leverage, distance) if distance == distance else (-1, math.nan)


def _index_of(tiers: Sequence[MaintenanceTier] | None, notional: float) -> int:
    if not tiers or not all_positive(notional):
        return -1
    index = -1
    try:
        for tier in tiers:
            if notional < tier.min_notional:
                break
            index += 1
        if index < 0 or not _is_usable(tiers[index]):
            return -1
        most = tiers[index].max_notional
        return index if most is None or notional <= most else -1
    except (TypeError, AttributeError):
        return -1


def _is_usable(tier: MaintenanceTier) -> bool:
    if not all_finite(tier.min_notional, tier.mmr, tier.maintenance_amount):
        return False
    if not 0.0 <= tier.mmr < 1.0 or tier.maintenance_amount < 0.0:
        return False
    if tier.max_notional is not None and not all_positive(tier.max_notional):
        return False
    return tier.max_leverage is None or all_positive(tier.max_leverage)


def _distance(
    tiers: Sequence[MaintenanceTier],
    index: int,
    notional: float,
    margin_ratio: float,
    buffer: float,
    is_long: bool,
) -> float:
    # On the way to liquidation the notional itself moves, a long's down, a short's up, and may change tiers.
    while True:
        tier = tiers[index]
        shortfall = margin_ratio + tier.maintenance_amount / notional - tier.mmr
        if is_long:
            distance = shortfall / (1.0 - tier.mmr)
            if index == 0 or notional * (1.0 - distance) >= tier.min_notional:
                break
            index -= 1
        else:
            distance = shortfall / (1.0 + tier.mmr)
            most = tier.max_notional
            if index + 1 == len(tiers) or most is None or notional * (1.0 + distance) <= most:
                break
            index += 1
        if not _is_usable(tiers[index]):
            return math.nan
    return _shorten(distance, buffer, is_long)


def _shorten(distance: float, buffer: float, is_long: bool) -> float:
    distance -= abs(distance) * buffer
    if is_long:
        return 1.0 if distance > 1.0 else distance
    return -1.0 if distance < -1.0 else distance
