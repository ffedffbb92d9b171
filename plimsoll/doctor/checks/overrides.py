"""What overrides what: configuration, parameter file, strategy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from plimsoll.doctor.finding import Finding, Part, check, error, note, warning
from plimsoll.doctor.setup import Setup

# What a configuration sets over the strategy without a word; the two callbacks' switches have a check of their own.
OVERRIDDEN: Final = (
    "minimal_roi",
    "timeframe",
    "stoploss",
    "trailing_stop",
    "trailing_stop_positive",
    "trailing_stop_positive_offset",
    "trailing_only_offset_is_reached",
    "process_only_new_candles",
    "order_types",
    "order_time_in_force",
    "startup_candle_count",
    "exit_profit_only",
    "ignore_roi_if_entry_signal",
    "position_adjustment_enable",
    "max_entry_position_adjustment",
    "max_open_trades",
)

# Layers that an operator may do without; the others bound what can be lost.
DISPENSABLE: Final = {"deadman", "funding", "decay", "reward_risk", "portfolio", "kelly"}


@check(always=True)
def freqtrade_refuses(setup: Setup) -> Iterator[Finding]:
    """Report what Freqtrade itself does not start with."""
    for fault in dict.fromkeys(setup.config_faults):
        yield error(
            f"Freqtrade refuses this configuration: {fault}", "the bot does not start", _named_key(fault)
        )


def _named_key(fault: str) -> str:
    if "cannot both be unlimited" in fault:
        return '"max_open_trades": 8'
    if 'price_side = "other"' in fault:
        return '"entry_pricing": {"price_side": "other"}, "exit_pricing": {"price_side": "other"}'
    return "freqtrade show-config -c CONFIG   # repeats it, with the values as merged"


@check()
def strategy_loads(setup: Setup) -> Iterator[Finding]:
    """Report a strategy that cannot be loaded."""
    if setup.strategy_fault is not None:
        name = setup.config.get("strategy")
        yield error(
            f"the strategy {name} cannot be loaded: {setup.strategy_fault}",
            "neither bot nor backtest starts",
            "freqtrade list-strategies --strategy-path DIR   # names what loads and what does not",
        )


@check(Part.STRATEGY, Part.SETTINGS, guarded_only=True)
def guard_refuses(setup: Setup) -> Iterator[Finding]:
    """Report what the guard itself does not start with."""
    from plimsoll.host.start import start_faults

    for subject, reason in start_faults(setup.strategy, setup.limits):
        if subject != "margin_mode":  # has a check of its own
            fix = '"plimsoll": {"decay": {"baseline": null}}' if subject == "decay" else subject
            yield error(f"the guard refuses to start: {reason}", "a bot with the guard does not start", fix)


@check(Part.STRATEGY)
def custom_stoploss_off(setup: Setup) -> Iterator[Finding]:
    """Report a configuration that switches custom stops off."""
    if setup.stated.get("use_custom_stoploss") is not False:
        if setup.has_own("custom_stoploss") and not _wants(setup, "use_custom_stoploss"):
            yield warning(
                "the strategy has a custom_stoploss and use_custom_stoploss is not on",
                "it is never asked",
                "use_custom_stoploss = True   # in the strategy",
            )
        return
    fix = '"use_custom_stoploss": true   # or take the line out of the configuration'
    own = setup.has_own("custom_stoploss") and _wants(setup, "use_custom_stoploss")
    if own:
        yield (warning if setup.guarded else error)(
            "the configuration says use_custom_stoploss: false, the strategy true",
            "the configuration wins: the strategy's custom_stoploss is never asked"
            + (", only the guard's stop holds" if setup.guarded else ""),
            fix,
        )


@check(Part.STRATEGY)
def exit_signal_off(setup: Setup) -> Iterator[Finding]:
    """Report a configuration that switches exit signals off."""
    if setup.stated.get("use_exit_signal") is False and _wants(setup, "use_exit_signal"):
        yield warning(
            "the configuration says use_exit_signal: false, the strategy true",
            "the configuration wins: neither exit signals nor custom_exit close anything; only ROI, stop and liquidation do",
            '"use_exit_signal": true   # or take the line out of the configuration',
        )


@check(Part.STRATEGY)
def config_overrides(setup: Setup) -> Iterator[Finding]:
    """List what else the configuration sets over the strategy."""
    parameters = _stated_parameters(_parameters(setup))
    found = []
    for name in OVERRIDDEN:
        own = parameters.get(name, setup.class_value(name))
        stated = setup.stated.get(name)
        if (
            name in setup.stated
            and own is not None
            and not _same(stated, own)
            and not _from_interface(setup, name)
        ):
            found.append(f"{name} {_short(stated)} instead of {_short(own)}")
    if found:
        yield note(
            f"the configuration overrides the strategy: {'; '.join(found)}",
            "a backtest with another configuration tests another strategy",
            "take the line out of the configuration to have the strategy's",
        )


@check(Part.STRATEGY)
def parameter_file(setup: Setup) -> Iterator[Finding]:
    """Report a parameter file that sets the stoploss and more over the class, or that cannot be read."""
    place = _parameter_file(setup)
    if place is None:
        return
    content = _parameters(setup)
    if content is None:
        yield warning(
            f"{place.name} beside the strategy cannot be read",
            "Freqtrade ignores it, with one line in the log, and trades with the defaults",
            shlex.join(["mv", str(place), f"{place}.broken"]),
        )
        return
    changed = []
    for name, value in _stated_parameters(content).items():
        own = setup.class_value(name)
        if name not in setup.stated and own is not None and not _same(value, own):
            changed.append((name, f"{name} {_short(value)} instead of {_short(own)}"))
    if changed:
        names = [name for name, _ in changed]
        shown = "; ".join(text for _, text in changed)
        yield (warning if "stoploss" in names else note)(
            f"{place.name} overrides the strategy: {shown}",
            "hyperopt writes every section into it, whatever it optimised; what the class says does not hold",
            f"{_lines(setup, names)}   # in the configuration, which wins; or take the sections out of {place.name}",
        )


@check(Part.STRATEGY)
def protections_off(setup: Setup) -> Iterator[Finding]:
    """Report that nothing stops entries after losses: no protections, or layers of the guard switched off."""
    try:
        own = list(setup.strategy.protections or [])
    except Exception as fault:
        yield error(
            f"the strategy's protections raised {fault!r}",
            "neither bot nor backtest starts",
            "protections = []   # in the strategy",
        )
        return
    if setup.guarded:
        off = setup.settings.off if setup.settings is not None else ()
        if off:
            yield (note if set(off) <= DISPENSABLE else warning)(
                f"layers of the guard are switched off: {', '.join(off)}",
                "their rules do not hold"
                if set(off) <= DISPENSABLE
                else "what they bound is bounded by nothing",
                '"plimsoll": {"off": []}',
            )
    elif not own:
        yield warning(
            "there are no protections",
            "after a run of losses, or a drawdown, the bot enters on as before",
            'protections = [{"method": "MaxDrawdown", "lookback_period": 1440, "trade_limit": 10,'
            ' "stop_duration": 720, "max_allowed_drawdown": 0.2, "calculation_mode": "equity"}]   # in the strategy',
        )
    if own and not setup.config.get("enable_protections"):
        yield note(
            f"backtests leave the strategy's {len(own)} protections out",
            "a bot has them, so the backtest is of another strategy",
            '"enable_protections": true   # or freqtrade backtesting --enable-protections',
        )


def _wants(setup: Setup, name: str) -> bool:
    own = setup.class_value(name)
    return name == "use_exit_signal" if own is None else bool(own)  # Freqtrade's default of it is True


def _from_interface(setup: Setup, name: str) -> bool:
    from freqtrade.strategy import IStrategy

    return setup.class_value(name) is IStrategy.__dict__.get(name, setup)


def _parameter_file(setup: Setup) -> Path | None:
    source = getattr(type(setup.strategy), "__file__", None)
    place = Path(source).with_suffix(".json") if source else None
    return place if place is not None and place.is_file() else None


def _parameters(setup: Setup) -> dict[str, Any] | None:
    place = _parameter_file(setup)
    if place is None:
        return {}
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _stated_parameters(content: dict[str, Any] | None) -> dict[str, Any]:
    params = (content or {}).get("params") or {}
    found: dict[str, Any] = {}
    if "stoploss" in params:
        found["stoploss"] = params["stoploss"].get("stoploss")
    if "roi" in params:
        found["minimal_roi"] = params["roi"]
    found |= params.get("trailing") or {}
    found |= {
        name: value
        for name, value in (params.get("max_open_trades") or {}).items()
        if name == "max_open_trades"
    }
    return {name: value for name, value in found.items() if value is not None}


def _lines(setup: Setup, names: list[str]) -> str:
    return ", ".join(f'"{name}": {json.dumps(setup.class_value(name), default=str)}' for name in names)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return {str(key): value for key, value in one.items()} == {
            str(key): value for key, value in other.items()
        }
    if isinstance(other, float) and other == float("inf"):
        return bool(one == -1)
    return bool(one == other)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."
