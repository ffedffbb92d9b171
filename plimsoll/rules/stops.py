"""Where the stop goes: from the ATR, inside liquidation, and as Freqtrade wants to be told."""

from __future__ import annotations

import math

import numpy as np
import talib
from numpy.typing import ArrayLike, NDArray

from plimsoll.rules.answer import Answer, Kind, Outcome, Side, gate, limit, unknown
from plimsoll.rules.liquidation import all_finite, all_positive

FloatArray = NDArray[np.float64]

_ROUNDING = 1e-9  # a stop tightened to the border passes its own gate


def average_true_range(high: ArrayLike, low: ArrayLike, close: ArrayLike, *, period: int = 14) -> FloatArray:
    """Return Wilder's average true range per candle, in price; causal, as ``talib.ATR`` on clean candles.

    A candle with a value that is not finite or not positive, or with high, low and close out of order, has no
    ATR; the average starts anew after it, so the next ``period`` candles have none either. NaN throughout for
    a period under 1, columns of different length or columns that are no numbers.
    """
    try:
        columns = [np.ascontiguousarray(column, dtype=np.float64).ravel() for column in (high, low, close)]
    except (TypeError, ValueError):
        return np.full(np.size(np.asarray(close, dtype=object)), np.nan)
    highs, lows, closes = columns
    result: FloatArray = np.full(closes.size, np.nan)
    if not all_positive(period) or int(period) != period or not highs.size == lows.size == closes.size:
        return result
    with np.errstate(invalid="ignore", over="ignore"):
        good = np.isfinite(highs) & np.isfinite(closes) & (lows > 0.0) & (highs >= lows)
        good &= (closes <= highs * (1.0 + _ROUNDING)) & (closes >= lows * (1.0 - _ROUNDING))
    edges = np.flatnonzero(np.diff(good, prepend=False, append=False))
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - start > period:
            run = slice(start, end)
            result[run] = talib.ATR(highs[run], lows[run], closes[run], timeperiod=int(period))
    return result


def atr_stop(
    *, atr: float | None, rate: float, multiple: float = 2.0, own_stop_price_ratio: float | None = None
) -> Answer:
    """Answer with the stop distance ``multiple * atr / rate`` as a ratio of the price.

    ``atr`` and ``rate`` in price. The strategy's own stop (a positive ratio of the price, None for none)
    tightens it and never widens it. A missing, NaN or zero ATR is unknown. A distance of 1 or more is a
    breach: a long's price cannot get there, a short is liquidated before.
    """
    rule = "atr_stop"
    numbers = {"atr": atr, "rate": rate, "multiple": multiple, "own_stop_price_ratio": own_stop_price_ratio}
    if atr is None or not all_positive(atr, rate, multiple):
        return unknown(rule, Kind.STOP, "no ATR, no trade", numbers)
    distance = multiple * atr / rate
    if own_stop_price_ratio is not None:
        if not all_positive(own_stop_price_ratio):
            return unknown(rule, Kind.STOP, "the strategy's own stop is not a positive ratio", numbers)
        if own_stop_price_ratio < distance:
            distance = own_stop_price_ratio
    if distance >= 1.0:
        reason = f"a stop {distance:.0%} away is no stop"
        return Answer(rule, Kind.STOP, Outcome.BREACHED, 0.0, reason, numbers)
    return limit(rule, Kind.STOP, distance, f"stop {distance:.2%} from {rate:g}", numbers)


def stop_price(*, side: Side, rate: float, stop_price_ratio: float) -> float:
    """Return the price of a stop: ``rate * (1 -/+ ratio)`` for long/short; NaN for no valid stop."""
    if not all_positive(rate, stop_price_ratio):
        return math.nan
    if side == "long":
        return rate * (1.0 - stop_price_ratio) if stop_price_ratio < 1.0 else math.nan
    return rate * (1.0 + stop_price_ratio) if side == "short" else math.nan


def stop_inside_liquidation(
    *,
    side: Side,
    stop_price: float,
    open_rate: float,
    liquidation_price: float | None,
    hard_ratio: float = 0.65,
) -> Answer:
    """Answer whether the stop sits at most ``hard_ratio`` of the way from the entry to liquidation.

    Prices; ``liquidation_price`` is buffered already, 0 for a long that is never liquidated. Breached when
    liquidation is at or past the entry (funding ate the margin). Unknown without a liquidation price; spot
    does not ask.
    """
    rule = "stop_inside_liquidation"
    numbers = {"stop_price": stop_price, "open_rate": open_rate, "liquidation_price": liquidation_price}
    distance = _to_liquidation(side, open_rate, liquidation_price)
    if distance != distance or not all_positive(stop_price, hard_ratio) or hard_ratio >= 1.0:
        return unknown(rule, Kind.GATE, "stop, entry or liquidation price is not known", numbers)
    if distance <= 0.0:
        reason = f"liquidation at {liquidation_price:g} is past the entry {open_rate:g}"
        return gate(rule, False, reason, numbers)
    share = (open_rate - stop_price if side == "long" else stop_price - open_rate) / distance
    numbers["share"] = share
    reason = f"stop is {share:.1%} of the way to liquidation, at most {hard_ratio:.0%} allowed"
    return gate(rule, share <= hard_ratio + _ROUNDING, reason, numbers)


def tighten_inside(
    *,
    side: Side,
    stop_price: float | None,
    open_rate: float,
    liquidation_price: float | None,
    hard_ratio: float = 0.65,
) -> float:
    """Return the stop price, moved to ``hard_ratio`` of the way to liquidation if it lies beyond.

    A stop that is not known becomes that bound. Where liquidation is at or past the entry the bound is the
    liquidation price itself. NaN when the bound is not known: keep the stop that there is.
    """
    distance = _to_liquidation(side, open_rate, liquidation_price)
    if distance != distance or not all_positive(hard_ratio) or hard_ratio >= 1.0 or liquidation_price is None:
        return math.nan
    if distance <= 0.0:
        bound = liquidation_price
    else:
        bound = open_rate - hard_ratio * distance if side == "long" else open_rate + hard_ratio * distance
    return tighter(side, stop_price, bound)


def tighter(side: Side, a: float | None, b: float | None) -> float:
    """Return the stop price that is nearer to being hit: the higher for a long, the lower for a short.

    A price that is not a positive number loses to one that is; NaN when neither is, or the side is neither.
    """
    if side != "long" and side != "short":
        return math.nan
    if a is None or not all_positive(a):
        return b if b is not None and all_positive(b) else math.nan
    if b is None or not all_positive(b):
        return a
    return max(a, b) if side == "long" else min(a, b)


def stop_ratio_for_freqtrade(
    *, stop_price: float | None, current_rate: float, side: Side, leverage: float
) -> float | None:
    """Return what ``custom_stoploss`` must return so that Freqtrade's stop becomes ``stop_price``.

    A positive ratio r on leveraged profit: Freqtrade sets ``current_rate * (1 -/+ r/leverage)`` for
    long/short and then rounds to the price precision. None (leave the stop as it is) when the stop is at or
    through the current rate or an input is unknown: Freqtrade would ignore a 0 and take NaN for no stop.
    """
    if stop_price is None or not all_positive(stop_price, current_rate, leverage):
        return None
    if side == "long":
        ratio = (1.0 - stop_price / current_rate) * leverage
    elif side == "short":
        ratio = (stop_price / current_rate - 1.0) * leverage
    else:
        return None
    return ratio if all_positive(ratio) else None


def _to_liquidation(side: Side, open_rate: float, liquidation_price: float | None) -> float:
    if liquidation_price is None or not all_positive(open_rate) or not all_finite(liquidation_price):
        return math.nan
    if side == "long" and liquidation_price >= 0.0:
        return open_rate - liquidation_price
    return liquidation_price - open_rate if side == "short" and liquidation_price > 0.0 else math.nan
