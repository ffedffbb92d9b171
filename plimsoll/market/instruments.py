"""The rules of each market: its symbol, tick, lot and smallest order, as Binance publishes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

DEFAULT_PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT", "LTC/USDT:USDT", "SUI/USDT:USDT", "1000PEPE/USDT:USDT")

PERPETUAL_DELIVERY_MS = 4_133_404_800_000  # 2100-12-25: Binance's date for "never"
_ONBOARD_MS = 1_569_398_400_000
_RATE_LIMITS = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
]

# Price tick, lot and smallest notional by base asset, in Binance's own spelling of the numbers.
_FUTURES_RULES: dict[str, tuple[str, str, str]] = {
    "BTC": ("0.10", "0.001", "100"),
    "ETH": ("0.01", "0.001", "20"),
    "LTC": ("0.01", "0.001", "20"),
    "SUI": ("0.0001", "0.1", "5"),
    "1000PEPE": ("0.0000001", "1", "5"),
    "BNB": ("0.010", "0.01", "5"),
    "SOL": ("0.0100", "0.01", "5"),
    "XRP": ("0.0001", "0.1", "5"),
    "DOGE": ("0.000010", "1", "5"),
    "ADA": ("0.00010", "1", "5"),
    "LINK": ("0.001", "0.01", "20"),
}
_SPOT_RULES: dict[str, tuple[str, str, str]] = {
    "BTC": ("0.01", "0.00001", "5"),
    "ETH": ("0.01", "0.0001", "5"),
    "LTC": ("0.01", "0.001", "5"),
    "SUI": ("0.0001", "0.1", "5"),
    "PEPE": ("0.00000001", "1", "1"),
    "BNB": ("0.01", "0.001", "5"),
    "SOL": ("0.01", "0.001", "5"),
    "XRP": ("0.0001", "0.1", "5"),
    "DOGE": ("0.00001", "1", "1"),
    "ADA": ("0.0001", "0.1", "5"),
    "LINK": ("0.01", "0.01", "5"),
}
_OTHER_RULES = ("0.0001", "0.1", "5")


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """Describe one tradable pair.

    ``pair`` is Freqtrade's name: ``BTC/USDT:USDT`` is a linear perpetual, ``BTC/USDT`` is spot. The numbers
    are kept as text, because their trailing digits are the precision that clients read from them.
    ``tick_size`` and ``min_notional`` are in quote currency, ``lot_size`` and the largest quantities in base
    currency.
    """

    pair: str
    tick_size: str
    lot_size: str
    min_notional: str
    max_quantity: str = "10000000"
    max_market_quantity: str = "2000000"

    def __post_init__(self) -> None:
        base, slash, rest = self.pair.partition("/")
        quote, _, settle = rest.partition(":")
        if not (base and slash and quote) or (":" in rest and settle != quote):
            raise ValueError(f"`pair` must be BASE/QUOTE or BASE/QUOTE:QUOTE, was {self.pair!r}")

    @property
    def base(self) -> str:
        """Return the base currency."""
        return self.pair.partition("/")[0]

    @property
    def quote(self) -> str:
        """Return the quote currency."""
        return self.pair.partition("/")[2].partition(":")[0]

    @property
    def is_futures(self) -> bool:
        """Return whether the pair is a perpetual; otherwise it is spot."""
        return ":" in self.pair

    @property
    def symbol(self) -> str:
        """Return the exchange's name of the pair, such as ``BTCUSDT``."""
        return f"{self.base}{self.quote}"

    @property
    def decimals(self) -> int:
        """Return the number of decimal places of a price."""
        return len(self.tick_size.rstrip("0").partition(".")[2])


def instrument(pair: str) -> Instrument:
    """Return the rules of ``pair``: published ones where known, else those of a typical small coin."""
    base = pair.partition("/")[0]
    table = _FUTURES_RULES if ":" in pair else _SPOT_RULES
    tick_size, lot_size, min_notional = table.get(base, _OTHER_RULES)
    return Instrument(pair=pair, tick_size=tick_size, lot_size=lot_size, min_notional=min_notional)


def exchange_info(instruments: Iterable[Instrument], server_time_ms: int, *, futures: bool) -> dict[str, Any]:
    """Return the body of ``exchangeInfo`` for the spot or the USD-M market."""
    describe = _futures_symbol if futures else _spot_symbol
    return {
        "timezone": "UTC",
        "serverTime": server_time_ms,
        "rateLimits": _RATE_LIMITS,
        "exchangeFilters": [],
        "symbols": [describe(each) for each in instruments if each.is_futures == futures],
    }


def _futures_symbol(each: Instrument) -> dict[str, Any]:
    return {
        "symbol": each.symbol,
        "pair": each.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": PERPETUAL_DELIVERY_MS,
        "onboardDate": _ONBOARD_MS,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": each.base,
        "quoteAsset": each.quote,
        "marginAsset": each.quote,
        "pricePrecision": each.decimals,
        "quantityPrecision": len(each.lot_size.partition(".")[2]),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "filters": [
            *_shared_filters(each),
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
            {"filterType": "MIN_NOTIONAL", "notional": each.min_notional},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": "1.0500",
                "multiplierDown": "0.9500",
                "multiplierDecimal": "4",
            },
        ],
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }


def _spot_symbol(each: Instrument) -> dict[str, Any]:
    return {
        "symbol": each.symbol,
        "status": "TRADING",
        "baseAsset": each.base,
        "baseAssetPrecision": 8,
        "quoteAsset": each.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            *_shared_filters(each),
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
            {
                "filterType": "NOTIONAL",
                "minNotional": each.min_notional,
                "applyMinToMarket": True,
                "maxNotional": "9000000.00",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
        ],
        "permissions": ["SPOT"],
    }


def _shared_filters(each: Instrument) -> list[dict[str, str]]:
    lot = {"minQty": each.lot_size, "stepSize": each.lot_size}
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": each.tick_size,
            "maxPrice": "10000000",
            "tickSize": each.tick_size,
        },
        {"filterType": "LOT_SIZE", **lot, "maxQty": each.max_quantity},
        {"filterType": "MARKET_LOT_SIZE", **lot, "maxQty": each.max_market_quantity},
    ]
