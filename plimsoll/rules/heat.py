"""How much may be lost at once when every stop is hit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from plimsoll.rules.answer import Answer, Kind, limit, unknown
from plimsoll.rules.exposure import OpenPosition, total
from plimsoll.rules.liquidation import all_finite, all_positive


def heat(*, positions: Sequence[OpenPosition] | None, equity: float) -> float:
    """Return the sum of R over open positions as a ratio of equity; NaN when an R or the equity is unknown.

    A stop in profit (R below zero) counts as 0: a profit that is not taken makes no room for new risk.
    """
    return _open_risk(positions) / equity if all_positive(equity) else math.nan


def heat_limit(
    *,
    equity: float,
    max_heat: float = 0.06,
    positions: Sequence[OpenPosition] | None,
    loss_at_stop_ratio: float,
) -> Answer:
    """Answer with the notional whose R still fits: ``(max_heat * equity - sum of R) / loss_at_stop_ratio``.

    Stake currency, ratios of equity and of the notional. Unknown when any open position's R is.
    """
    rule = "heat_limit"
    risk = _open_risk(positions)
    numbers = {"equity": equity, "open_risk": risk, "loss_at_stop_ratio": loss_at_stop_ratio}
    if not all_positive(equity, loss_at_stop_ratio):
        return unknown(rule, Kind.NOTIONAL, "equity or the loss at the stop is not known", numbers)
    if not all_finite(max_heat) or max_heat < 0.0:
        return unknown(rule, Kind.NOTIONAL, f"a heat of {max_heat} is not usable", numbers)
    if risk != risk:
        return unknown(rule, Kind.NOTIONAL, "the risk of an open position is not known", numbers)
    reason = f"heat is {risk / equity:.2%} of at most {max_heat:.2%}"
    return limit(rule, Kind.NOTIONAL, (max_heat * equity - risk) / loss_at_stop_ratio, reason, numbers)


def _open_risk(positions: Sequence[OpenPosition] | None) -> float:
    return total(positions, _risk)


def _risk(position: OpenPosition) -> float:
    risk = position.risk
    return 0.0 if -math.inf < risk < 0.0 else risk
