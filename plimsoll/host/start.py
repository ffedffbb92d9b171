"""What must hold before the first entry: settings and margin mode.

A fault ends the start with a message. Once the bot has traded in this process, as after ``/reload_config``, it must not: Freqtrade
would exit and leave open positions to nobody. Then entries are blocked and exits go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from freqtrade.enums import MarginMode, TradingMode
from freqtrade.exceptions import OperationalException
from freqtrade.strategy import IStrategy

from plimsoll.host import internals
from plimsoll.host.machines import decay_config, shares_ledger
from plimsoll.rules import decay
from plimsoll.settings import Settings, SettingsError, load

_process = {"has_traded": False}


def may_only_block(config: Any) -> bool:
    """Tell whether a fault may no longer end the process."""
    return internals.is_live_or_dry(config) and _process["has_traded"]


def note_started(config: Any) -> None:
    """Remember that the bot has started once in this process."""
    _process["has_traded"] = _process["has_traded"] or internals.is_live_or_dry(config)


def load_settings(config: Any, strategy_class: type) -> tuple[Settings, str | None]:
    """Load the settings of the config and of the strategy class.

    :returns: the settings, and a fault that blocks entries where it may not end the process (then the defaults hold).
    :raises OperationalException: with all faults of the settings.
    """
    try:
        return load(config.get("plimsoll"), getattr(strategy_class, "plimsoll", None)), None
    except SettingsError as error:
        if may_only_block(config):
            return load(), str(error)
        raise OperationalException(str(error)) from error


def alone_in_portfolio(settings: Settings) -> Settings:
    """Return the settings for a backtest of a bot that shares a ledger: its own limits, the portfolio's where those are tighter."""
    shared, own = settings.portfolio, settings.exposure
    if not shares_ledger(settings):
        return settings
    tighter = {
        "total_margin": min(own.total_margin, shared.exposure),
        "asset_margin": min(own.asset_margin, shared.asset),
        "heat": min(own.heat, shared.heat),
    }
    return settings.model_copy(update={"exposure": own.model_copy(update=tighter)})


def start_faults(strategy: IStrategy, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield subject and reason of everything that forbids entries from the start."""
    config: Any = strategy.config
    futures = config.get("trading_mode", TradingMode.SPOT) == TradingMode.FUTURES
    if futures and config.get("margin_mode") == MarginMode.CROSS and not settings.gates.allow_cross_margin:
        yield (
            "margin_mode",
            "cross margin puts the whole account behind every position; set margin_mode to isolated,"
            " or plimsoll.gates.allow_cross_margin to true",
        )
    if not is_stop(strategy.stoploss):
        yield (
            "stoploss",
            f"stoploss must be a number, not 0, was {strategy.stoploss!r}: Freqtrade would set no stop at all",
        )
    try:
        decay_config(settings)
    except (OSError, KeyError, TypeError, ValueError) as error:
        yield (
            "decay",
            f"decay.baseline = {settings.decay.baseline!r} cannot be used ({error!r}); plimsoll calibrate writes one",
        )


def is_stop(stoploss: Any) -> bool:
    """Tell whether Freqtrade makes a stop of it: it takes the number without its sign, and none where there is none."""
    try:
        return 0.0 < abs(float(stoploss)) < math.inf
    except (TypeError, ValueError):
        return False


def statements(settings: Settings) -> list[str]:
    """Return what a user has to know of the settings before the first trade: how often the decay test cries wolf, and how late."""
    if "decay" in settings.off:
        return []
    return [decay.statement(decay_config(settings))]
