"""What must hold before the first entry: settings and margin mode.

A fault ends the start with a message. Once the bot has traded in this process, as after ``/reload_config``, it must not: Freqtrade
would exit and leave open positions to nobody. Then entries are blocked and exits go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from freqtrade.enums import MarginMode, TradingMode
from freqtrade.exceptions import OperationalException
from freqtrade.strategy import IStrategy

from plimsoll.host import internals
from plimsoll.host.breakers import decay_config
from plimsoll.rules import decay
from plimsoll.settings import Settings, SettingsError, load
from plimsoll.settings.load import CLASSIC

# Settings that this version takes and checks, and does not act on yet.
NOT_ENFORCED = ("correlation", "margin_health", "deadman", "portfolio", "gates.proving")

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


def without_effect(settings: Settings) -> list[str]:
    """Return the settings that somebody set and that this version does not act on: silence would be a promise."""
    found = []
    for section, values in settings.model_dump(exclude_unset=True).items():
        if not isinstance(values, dict):
            continue
        for name, value in values.items():
            key = f"{section}.{name}"
            from_profile = settings.profile == "classic" and CLASSIC.get(key) == value
            if key.startswith(NOT_ENFORCED) and not from_profile:
                found.append(key)
    return found


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
    try:
        decay_config(settings)
    except (OSError, KeyError, TypeError, ValueError) as error:
        yield (
            "decay",
            f"decay.baseline = {settings.decay.baseline!r} cannot be used ({error!r}); plimsoll calibrate writes one",
        )


def statements(settings: Settings) -> list[str]:
    """Return what a user has to know of the settings before the first trade: how often the decay test cries wolf, and how late."""
    if "decay" in settings.off:
        return []
    return [decay.statement(decay_config(settings))]
