"""What Binance refuses before an order reaches the book; every refusal with its code and words."""

from __future__ import annotations

from plimsoll.market.endpoints import BinanceError
from plimsoll.market.instruments import Instrument
from plimsoll.market.orders import OrderSide
from plimsoll.market.positions import NOTHING, Position, Tiers

MAX_STOPS = 10  # MAX_NUM_ALGO_ORDERS of exchangeInfo
_PERCENT_PRICE = 0.05  # multiplierUp and multiplierDown of exchangeInfo
_ROUNDING = 1e-6


def check_quantity(each: Instrument, quantity: float, *, market: bool) -> None:
    """Refuse a quantity that is no multiple of the lot, or out of range."""
    if quantity <= 0.0:
        raise BinanceError(-4003, "Quantity less than or equal to zero.")
    if quantity > float(each.max_market_quantity if market else each.max_quantity):
        raise BinanceError(-4005, "Quantity greater than max quantity.")
    if not _is_multiple(quantity, float(each.lot_size)):
        raise BinanceError(-1111, "Precision is over the maximum defined for this asset.")


def check_price(each: Instrument, price: float) -> None:
    """Refuse a price that is not positive or no multiple of the tick."""
    if price <= 0.0:
        raise BinanceError(-4001, "Price less than 0.")
    if not _is_multiple(price, float(each.tick_size)):
        raise BinanceError(-4014, "Price not increased by tick size.")


def check_limit_price(side: OrderSide, price: float, mark: float) -> None:
    """Refuse a limit price too far on the costly side of the mark price."""
    if side == "BUY" and price > mark * (1 + _PERCENT_PRICE):
        raise BinanceError(-4016, f"Limit price can't be higher than {mark * (1 + _PERCENT_PRICE):.8g}.")
    if side == "SELL" and price < mark * (1 - _PERCENT_PRICE):
        raise BinanceError(-4024, f"Limit price can't be lower than {mark * (1 - _PERCENT_PRICE):.8g}.")


def check_notional(each: Instrument, notional: float) -> None:
    """Refuse an order smaller than the market's least; orders that only reduce are not asked."""
    if notional < float(each.min_notional) - NOTHING:
        words = (
            f"Order's notional must be no smaller than {each.min_notional} (unless you choose reduce only)."
        )
        raise BinanceError(-4164, words)


def check_opening(
    position: Position,
    *,
    added: float,
    price: float,
    mark: float,
    available: float,
    tiers: Tiers,
) -> None:
    """Refuse what would add risk beyond the margin at hand or the leverage's tier.

    ``added`` is in base currency, what merely closes left out; ``available`` in stake currency.
    """
    if not position.isolated:
        raise BinanceError(
            -1000, "plimsoll loopback exchange: only isolated margin is simulated, set marginType"
        )
    if added * price / position.leverage > available:
        raise BinanceError(-2019, "Margin is insufficient.")
    if abs(position.amount) * mark + added * price > max_notional(position.leverage, tiers):
        raise BinanceError(-2027, "Exceeded the maximum allowable position at current leverage.")


def check_leverage(position: Position, leverage: int, tiers: Tiers) -> None:
    """Refuse a leverage that the symbol does not have, or a lower one while a position is open."""
    if not 1 <= leverage <= (tiers[0].max_leverage or 1):
        raise BinanceError(-4028, f"Leverage {leverage} is not valid")
    if position.is_open and leverage < position.leverage:
        words = "Leverage reduction is not supported in Isolated Margin Mode with open positions."
        raise BinanceError(-4161, words)


def max_notional(leverage: int, tiers: Tiers) -> float:
    """Return the largest notional that may be held at a leverage."""
    allowed = [tier.max_notional or 0.0 for tier in tiers if (tier.max_leverage or 0.0) >= leverage]
    return max(allowed, default=0.0)


def _is_multiple(value: float, step: float) -> bool:
    return abs(round(value / step) * step - value) <= step * _ROUNDING
