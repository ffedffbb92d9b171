"""Whether a stated target pays for the risk."""

from __future__ import annotations

from plimsoll.rules.answer import Answer, Kind, Side, gate, unknown
from plimsoll.rules.liquidation import all_finite, all_positive

ROUNDING = 1e-9


def reward_to_risk(
    *,
    side: Side,
    rate: float,
    target_price: float | None,
    loss_at_stop_ratio: float,
    fees: float,
    minimum: float = 1.5,
) -> Answer:
    """Answer whether the reward at the target, net of fees, is at least ``minimum`` times R.

    Per unit of notional: ``(g - fees * (1 +/- g/2)) / loss_at_stop_ratio`` for long/short, g the gain on
    price and ``fees`` those of both sides together, half on the entry and half on the exit value. Fine
    without a target (None); a target at or on the wrong side of the rate is a breach; NaN, or one that is not
    positive, is unknown.
    """
    rule = "reward_to_risk"
    if target_price is None:
        return gate(rule, True, "no target stated", {})
    numbers = {"rate": rate, "target_price": target_price, "loss_at_stop_ratio": loss_at_stop_ratio}
    if not all_positive(rate, target_price, loss_at_stop_ratio) or side not in ("long", "short"):
        return unknown(rule, Kind.GATE, "rate, target or the loss at the stop is not known", numbers)
    if not all_finite(fees, minimum) or fees < 0.0 or minimum < 0.0:
        return unknown(rule, Kind.GATE, "fees or the minimum are not usable", numbers)
    change = target_price / rate - 1.0
    gain = change if side == "long" else -change
    if gain <= 0.0:
        return gate(rule, False, f"target {target_price:g} is on the wrong side of {rate:g}", numbers)
    reward = (gain - fees * (1.0 + change / 2.0)) / loss_at_stop_ratio
    numbers["reward_to_risk"] = reward
    reason = f"reward is {reward:.2f} of R after fees, at least {minimum:g} required"
    return gate(rule, reward >= minimum * (1.0 - ROUNDING), reason, numbers)
