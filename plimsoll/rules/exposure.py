"""How much margin and notional the open positions leave."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from plimsoll.rules.answer import Answer, Kind, Side, gate, limit, unknown
from plimsoll.rules.liquidation import all_finite, all_positive

# 1000PEPE, 1MBABYDOGE (Binance), kPEPE (Hyperliquid), SHIB1000 (Bybit); but 1INCH, 0G, 2Z, 42 are names.
_MULTIPLIER = re.compile(r"^(?:10{3,}(?=\D)|1M(?=[A-Z]{2})|k(?=[A-Z]))(?P<after>.+)$|^(?P<before>\D+)10{3,}$")
_SIDES = ("long", "short")
_MARGIN: Callable[[OpenPosition], float] = attrgetter("margin")
_NOTIONAL: Callable[[OpenPosition], float] = attrgetter("notional")


class OpenPosition(NamedTuple):
    """Hold one open position: margin, notional and risk (R) in stake currency.

    ``asset`` as :func:`asset_of` names it. A risk below zero is a stop in profit. A named tuple, because each plan makes one of
    every open trade.
    """

    pair: str
    asset: str
    side: Side
    margin: float
    notional: float
    risk: float


def asset_of(pair: str) -> str:
    """Return the asset behind a pair: the base, without a multiplier such as 1000 or 1M; "" for no pair.

    BTC/USDT:USDT and BTC/USDC:USDC are one asset, so are 1000PEPE/USDT:USDT and PEPE/USDT.
    """
    return _asset_of(pair) if isinstance(pair, str) else ""


def position_margin(*, equity: float, ratio: float) -> Answer:
    """Answer with the most margin of one position, ``equity * ratio``, in stake currency."""
    return _left("position_margin", Kind.MARGIN, equity, ratio, 0.0, "margin in one position")


def total_margin(
    *, equity: float, ratio: float, positions: Sequence[OpenPosition] | None, pending: float = 0.0
) -> Answer:
    """Answer with the margin that open positions and ``pending`` orders leave of ``equity * ratio``."""
    used = total(positions, _MARGIN) + pending if all_finite(pending) and pending >= 0.0 else math.nan
    return _left("total_margin", Kind.MARGIN, equity, ratio, used, "total margin")


def gross_notional(*, equity: float, ratio: float, positions: Sequence[OpenPosition] | None) -> Answer:
    """Answer with the notional that longs and shorts, added up, leave of ``equity * ratio``."""
    return _left(
        "gross_notional", Kind.NOTIONAL, equity, ratio, total(positions, _NOTIONAL), "gross notional"
    )


def net_notional(
    *, equity: float, ratio: float, positions: Sequence[OpenPosition] | None, side: Side
) -> Answer:
    """Answer with the notional left on a side when longs less shorts may reach ``equity * ratio`` either way.

    What the other side holds is added: an order that brings the net closer to zero is never refused, and one
    that turns it around may go as far as the limit on its own side. Stake currency.
    """
    used = math.nan
    if side in _SIDES and positions is not None:
        same = [position for position in positions if position.side == side]
        other = [position for position in positions if position.side != side]
        if all(position.side in _SIDES for position in other):
            used = total(same, _NOTIONAL) - total(other, _NOTIONAL)
    return _left("net_notional", Kind.NOTIONAL, equity, ratio, used, f"net notional {side}")


def asset_margin(
    *, equity: float, ratio: float, positions: Sequence[OpenPosition] | None, asset: str
) -> Answer:
    """Answer with the margin that open positions in one asset leave of ``equity * ratio``.

    Both sides and any quote count. A position whose asset is not known makes the answer unknown. Stake
    currency.
    """
    used = math.nan
    if asset and positions is not None and all(position.asset for position in positions):
        used = total([position for position in positions if position.asset == asset], _MARGIN)
    return _left("asset_margin", Kind.MARGIN, equity, ratio, used, f"margin in {asset}")


def side_cap(
    *,
    side: Side,
    positions: Sequence[OpenPosition] | None,
    max_long: int | None,
    max_short: int | None,
) -> Answer:
    """Answer whether one more position fits on a side; None switches the cap of that side off."""
    rule = "side_cap"
    most = max_long if side == "long" else max_short
    if side not in _SIDES:
        return unknown(rule, Kind.GATE, f"side {side} is neither long nor short")
    if most is None:
        return gate(rule, True, f"no cap on {side} positions", {})
    if not all_finite(most) or most < 0:
        return unknown(rule, Kind.GATE, f"a cap of {most} {side} positions makes no sense", {"cap": most})
    if positions is None or any(position.side not in _SIDES for position in positions):
        return unknown(rule, Kind.GATE, "the open positions are not known", {"cap": most})
    count = sum([position.side == side for position in positions])
    reason = f"{count} of at most {most} {side} positions open"
    return gate(rule, count + 1 <= most, reason, {"count": count, "cap": most})


def total(positions: Sequence[OpenPosition] | None, value: Callable[[OpenPosition], float]) -> float:
    """Return the exact sum of a value over positions, the same in any order.

    NaN when the positions (None) or one of the values are not known, or one is negative.
    """
    if positions is None:
        return math.nan
    if not positions:
        return 0.0
    try:
        values = [value(position) for position in positions]
        result = math.fsum(values)
        return result if min(values) >= 0.0 and math.isfinite(result) else math.nan
    except (TypeError, ValueError, OverflowError, AttributeError):
        return math.nan


def _left(rule: str, kind: Kind, equity: float, ratio: float, used: float, what: str) -> Answer:
    numbers = {"equity": equity, "ratio": ratio, "used": used}
    if not all_positive(equity) or not all_finite(ratio) or ratio < 0.0:
        return unknown(rule, kind, f"{what}: equity {equity} or ratio {ratio} is not usable", numbers)
    if not all_finite(used):
        return unknown(rule, kind, f"{what}: an open position is not known", numbers)
    most = equity * ratio
    return limit(rule, kind, most - used, f"{what}: {used:.2f} used of {most:.2f}", numbers)


@lru_cache(maxsize=4096)
def _asset_of(pair: str) -> str:
    base = pair.partition("/")[0].strip()
    match = _MULTIPLIER.match(base)
    return (match["after"] or match["before"]) if match else base
