"""The stop distance that keeps a trade's whole loss, funding paid included, at its planned R."""

from __future__ import annotations

from plimsoll.rules.answer import Side, is_number, is_positive

LEAST_SHARE_OF_DISTANCE = 0.1
ROUNDING = 1e-9  # an unchanged stop must come back unchanged, or it walks a tick at a time


def stop_ratio_within_risk(
    *,
    side: Side,
    stop_price_ratio: float,
    risk_ratio: float,
    paid_ratio: float,
    fee_open: float,
    fee_close: float,
    slippage: float,
) -> float:
    """Return the stop distance at which loss plus funding paid equals the planned risk, never beyond the planned distance.

    The inverse of :func:`plimsoll.rules.sizing.loss_at_stop_ratio`: ``d = (risk - paid - fee_open - c) / (1 -/+ c)`` for
    long/short, ``c = fee_close + slippage``. All are ratios of entry notional or entry price; funding received (negative) does
    not widen the stop. Funding cannot move the stop to the entry: a tenth of the distance always stays. An unusable input
    leaves the planned distance.
    """
    if not (is_positive(risk_ratio) and is_number(paid_ratio) and is_positive(stop_price_ratio)):
        return stop_price_ratio
    closing = fee_close + slippage
    sign = 1.0 if side == "long" else -1.0
    distance = (risk_ratio - max(paid_ratio, 0.0) - fee_open - closing) / (1.0 - sign * closing)
    if not is_number(distance) or distance >= stop_price_ratio * (1.0 - ROUNDING):
        return stop_price_ratio
    return max(distance, LEAST_SHARE_OF_DISTANCE * stop_price_ratio)
