"""How much notional a fixed loss at the stop allows."""

from __future__ import annotations

import math

from plimsoll.rules.answer import Answer, Kind, Side, limit, unknown
from plimsoll.rules.liquidation import all_finite, all_positive


def loss_at_stop_ratio(
    *, side: Side, stop_price_ratio: float, fee_open: float, fee_close: float, slippage: float
) -> float:
    """Return what one unit of entry notional loses when the trade exits at its stop.

    ``d + fee_open + (fee_close + slippage) * (1 -/+ d)`` for long/short, d being ``stop_price_ratio``: the
    closing fee and the slippage are charged on the value at the stop. All ratios; without slippage and
    funding this is the loss in Freqtrade's ``Trade.calculate_profit`` at any leverage. NaN when an input is
    unknown, a fee or the slippage is negative or 100 %, or a long's stop is 100 % away.
    """
    if not all_positive(stop_price_ratio) or not all_finite(fee_open, fee_close, slippage):
        return math.nan
    if not 0.0 <= fee_open < 1.0 or not 0.0 <= fee_close < 1.0 or not 0.0 <= slippage < 1.0:
        return math.nan
    if side == "long":
        exit_value = 1.0 - stop_price_ratio
        if exit_value <= 0.0:
            return math.nan
    elif side == "short":
        exit_value = 1.0 + stop_price_ratio
    else:
        return math.nan
    return stop_price_ratio + fee_open + (fee_close + slippage) * exit_value


def risk_size(*, equity: float, risk_per_trade: float, loss_at_stop_ratio: float) -> Answer:
    """Answer with the notional that loses ``risk_per_trade`` of equity at the stop: ``equity * risk / loss``.

    Stake currency; ``risk_per_trade`` a ratio of equity up to 1. No risk allowed (0) is a breach; equity or
    loss that is not positive is unknown.
    """
    rule = "risk_size"
    numbers = {"equity": equity, "risk_per_trade": risk_per_trade, "loss_at_stop_ratio": loss_at_stop_ratio}
    if not all_positive(equity, loss_at_stop_ratio):
        return unknown(rule, Kind.NOTIONAL, "equity or the loss at the stop is not known", numbers)
    if not all_finite(risk_per_trade) or not 0.0 <= risk_per_trade <= 1.0:
        return unknown(rule, Kind.NOTIONAL, f"a risk of {risk_per_trade} of equity is not usable", numbers)
    notional = equity * risk_per_trade / loss_at_stop_ratio
    reason = f"{notional:.2f} loses {risk_per_trade:.2%} of {equity:.2f} at the stop"
    return limit(rule, Kind.NOTIONAL, notional, reason, numbers)


def planned_risk(*, notional: float, loss_at_stop_ratio: float) -> float:
    """Return R, what the trade loses at its stop, in stake currency; NaN when an input is unknown."""
    if not all_positive(loss_at_stop_ratio) or not all_finite(notional) or notional < 0.0:
        return math.nan
    return notional * loss_at_stop_ratio
