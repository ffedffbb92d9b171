"""What funding is expected to cost over the hold."""

from __future__ import annotations

import math

from plimsoll.rules.answer import Answer, Kind, Side, gate, unknown
from plimsoll.rules.liquidation import all_finite, all_positive

_HOURS_PER_DAY = 24.0


def expected_funding(*, funding_per_day: float | None, hold_hours: float, side: Side) -> float:
    """Return the expected funding of a hold as a ratio of the notional; positive is paid, negative received.

    ``funding_per_day`` is the exchange's rate summed over a day: positive means that longs pay shorts. Pro
    rata, settlement times are ignored. NaN when an input is unknown.
    """
    if funding_per_day is None or not all_finite(funding_per_day, hold_hours) or hold_hours < 0.0:
        return math.nan
    paid_by_long = funding_per_day * hold_hours / _HOURS_PER_DAY
    if side == "long":
        return paid_by_long
    return -paid_by_long if side == "short" else math.nan


def funding_reserve(*, funding_per_day: float | None, days: float = 3.0, side: Side) -> float:
    """Return the ratio of the notional that funding may take out of the margin in ``days``; never below 0.

    Funding that would be received is not counted on. NaN when an input is unknown.
    """
    if not all_finite(days):
        return math.nan
    cost = expected_funding(funding_per_day=funding_per_day, hold_hours=days * _HOURS_PER_DAY, side=side)
    return 0.0 if cost <= 0.0 else cost


def funding_gate(
    *,
    funding_per_day: float | None,
    side: Side,
    hold_hours: float,
    loss_at_stop_ratio: float,
    max_share_of_risk: float = 0.25,
    required: bool = True,
) -> Answer:
    """Answer whether expected funding over the expected hold stays within ``max_share_of_risk`` of R.

    Ratios of the notional, R being ``loss_at_stop_ratio``. A missing rate (None) is unknown where funding
    exists and fine where it does not (``required=False``, spot); NaN is unknown in both.
    """
    rule = "funding"
    if funding_per_day is None and required is False:
        return gate(rule, True, "no funding on this market", {})
    cost = expected_funding(funding_per_day=funding_per_day, hold_hours=hold_hours, side=side)
    numbers = {"funding_per_day": funding_per_day, "hold_hours": hold_hours, "cost": cost}
    if cost != cost or not all_finite(cost):
        return unknown(rule, Kind.GATE, "funding over the hold is not known", numbers)
    if not all_positive(loss_at_stop_ratio) or not all_finite(max_share_of_risk) or max_share_of_risk < 0.0:
        return unknown(rule, Kind.GATE, "the loss at the stop is not known", numbers)
    share = (cost if cost > 0.0 else 0.0) / loss_at_stop_ratio
    numbers["share_of_risk"] = share
    reason = f"funding takes {share:.1%} of R in {hold_hours:g} h, at most {max_share_of_risk:.1%} allowed"
    return gate(rule, share <= max_share_of_risk, reason, numbers)
