"""Every reach into a private part of Freqtrade, each with the reason; ``tests/unit/test_internals.py`` fails when one moves."""

from __future__ import annotations

from collections.abc import Callable
from inspect import getfullargspec
from typing import Any

from freqtrade.enums import RunMode
from freqtrade.persistence import LocalTrade, Trade
from freqtrade.strategy import IStrategy


def exchange_of(strategy: IStrategy) -> Any | None:
    """Return the exchange object; DataProvider offers market data but neither leverage tiers nor the liquidation price."""
    return getattr(getattr(strategy, "dp", None), "_exchange", None)


def leverage_tiers_of(exchange: Any, pair: str) -> list[dict[str, Any]]:
    """Return the pair's tiers; the public lookup answers for one notional at a time and raises where a pair has none."""
    return list(exchange._leverage_tiers.get(pair, ()))


def cached_exit_rate(strategy: IStrategy, pair: str) -> float | None:
    """Return the rate Freqtrade asked for when it last checked the pair's exit, without a request of our own.

    DataProvider has no such value, and a ticker per pair and loop would be a request each.
    """
    exchange = exchange_of(strategy)
    rate = None if exchange is None else exchange._exit_rate_cache.get(pair)
    return float(rate) if isinstance(rate, int | float) and rate > 0.0 else None


def has_market_orders(strategy: IStrategy) -> bool:
    """Tell whether a trading bot's exchange takes market orders."""
    exchange = None if is_offline() else exchange_of(strategy)
    return exchange is not None and bool(exchange.exchange_has("createMarketOrder"))


def is_offline() -> bool:
    """Tell whether trades live in memory: runmode does not say so (lookahead-analysis runs as ``util_no_exchange``)."""
    return not Trade.use_db


def run_token() -> list[LocalTrade]:
    """Return the list of closed trades of this backtest; each run starts a new one, the only sign of a fresh run."""
    return LocalTrade.bt_trades


def is_live_or_dry(config: Any) -> bool:
    """Tell whether the bot trades, live or dry, from the config alone (usable before a database exists)."""
    return config.get("runmode") in (RunMode.LIVE, RunMode.DRY_RUN)


def is_for_charts(config: Any) -> bool:
    """Tell whether candles are analysed to be drawn only; a backtest that the webserver runs has the runmode of a backtest."""
    return config.get("runmode") in (RunMode.WEBSERVER, RunMode.PLOT)


def parameters_from_file(strategy: IStrategy, space: str) -> dict[str, Any]:
    """Return a hyperopt space's parameters from the file beside the strategy, before Freqtrade gives them to its parameters."""
    return dict(strategy._ft_params_from_file.get(space, {}))


def own_class_attribute(strategy: IStrategy, after: type, name: str) -> Any:
    """Look up ``name`` past class ``after`` in the MRO, as ``super()`` would, without binding it; a property is asked."""
    mro = type(strategy).__mro__
    for cls in mro[mro.index(after) + 1 :]:
        if name in cls.__dict__:
            found = cls.__dict__[name]
            return found.__get__(strategy) if isinstance(found, property) else found
    return None


def has_own(strategy: IStrategy, after: type, name: str) -> bool:
    """Tell whether the strategy itself defines a callback, past class ``after``."""
    # Asked several times for each entry: what `super()` finds costs a tenth of a walk over the classes.
    try:
        found = getattr(super(after, strategy), name, None)
    except Exception:  # a property of the strategy's
        return True
    return found is not None and getattr(found, "__func__", found) is not IStrategy.__dict__.get(name)


def own_takes_after_fill(strategy: IStrategy, after: type) -> bool:
    """Tell whether the strategy's custom_stoploss takes ``after_fill`` the only way Freqtrade recognises: positionally."""
    function = own_class_attribute(strategy, after, "custom_stoploss")
    return "after_fill" in getfullargspec(function).args


def without_copies(*callbacks: Callable[..., Any]) -> None:
    """Have Freqtrade call our callbacks with the trade itself: it copies it for all that are not IStrategy's own, by name.

    The copy costs more than all our work on a candle. Ours do not change the trade, and copy it for the strategy's own callback.
    """
    for callback in callbacks:
        callback.__qualname__ = f"IStrategy.{callback.__name__}"
