"""The last check of a stop, in plain arithmetic that needs nothing else of us: whatever failed before, a trade gets its stop."""

from __future__ import annotations

from freqtrade.persistence import LocalTrade

from plimsoll.host import internals

ROUNDING = 1e-9
HAIR = 1e-9  # rounded to the tick, towards the entry


def planned_stop_at_least(
    trade: LocalTrade, planned_ratio: float, current_rate: float, answer: float | None, *, after_fill: bool
) -> float | None:
    """Return the answer for custom_stoploss if it leaves the stop at least as near as planned, else one that does.

    :param planned_ratio: the planned stop distance on price. :param answer: the ratio on margin we are about to answer.
    """
    sign = -1.0 if trade.is_short else 1.0
    leverage = trade.leverage or 1.0
    planned = trade.open_rate * (1.0 - sign * planned_ratio)
    resulting = sign * trade.stop_loss if trade.stop_loss else -float("inf")
    if answer is not None:
        asked = sign * current_rate * (1.0 - sign * abs(answer) / leverage)
        # After a fill Freqtrade takes whatever is asked, otherwise only what is tighter.
        resulting = asked if after_fill else max(asked, resulting)
    if sign * planned - resulting <= ROUNDING * trade.open_rate:
        return answer
    way = sign * (current_rate - planned) / current_rate * leverage
    return way if way > 0.0 else through_the_rate(trade)


def through_the_rate(trade: LocalTrade) -> float | None:
    """Return the answer for a stop that the price has passed: one at the rate itself, which Freqtrade exits at.

    Its helpers answer 0 or None there, and then nothing moves and nothing exits. A backtest asks with the best rate of its candle,
    at which nothing can be sold: there the standing stop decides.
    """
    return None if internals.is_offline() else HAIR * (trade.leverage or 1.0)
