"""Gather a setup: configuration and strategy as Freqtrade takes them, without its directories, its logging and its network."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from plimsoll import bridge
from plimsoll.bot_database import DatabaseFault, choose_bot, configuration, open_database
from plimsoll.credentials import without_credentials
from plimsoll.doctor.candle_store import CandleStore
from plimsoll.doctor.finding import Part
from plimsoll.doctor.setup import Setup
from plimsoll.settings import SettingsError, load
from plimsoll.status_view import is_silent
from plimsoll.terminal import moment

NO_STRATEGY: Final = "no strategy was named (-s)"


def examine(arguments: argparse.Namespace) -> Setup:
    """Gather what there is; what there is not is said in ``missing``, what is broken in the faults.

    :raises DatabaseFault: where there is no configuration to read.
    """
    stated = configuration(arguments.config, arguments.user_data_dir)
    setup = Setup(stated=stated, config=deepcopy(stated))
    setup.files = tuple(Path(name) for name in arguments.config or _default_files(arguments.user_data_dir))
    with quiet() as heard:
        _complete(setup, arguments)
        if Part.CONFIG in setup.missing:
            return setup
        steps: tuple[tuple[Part, Callable[[], None]], ...] = (
            (Part.STRATEGY, lambda: _load_strategy(setup, heard)),
            (Part.SETTINGS, lambda: _load_settings(setup)),
            (Part.CANDLES, lambda: _open_candles(setup, arguments.datadir)),
            (Part.BOT, lambda: _find_bot(setup, arguments)),
            (Part.EXCHANGE, lambda: _ask_exchange(setup, arguments.online)),
        )
        for part, step in steps:
            try:
                step()
            except Exception as fault:  # a configuration may hold anything anywhere
                setup.missing[part] = f"{part.value} could not be examined: {_line(fault)}"
        _check_config(setup)
    return setup


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep Freqtrade's and the strategy's log lines off the terminal, and hand them on from warnings upwards."""
    heard: list[str] = []

    class _Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    root = logging.getLogger()
    before, listener = list(root.handlers), _Listener(logging.WARNING)
    root.handlers[:] = [listener]
    try:
        yield heard
    finally:
        root.handlers[:] = before


def _default_files(user_data_dir: str | None) -> list[str]:
    places = [Path(user_data_dir or "user_data") / "config.json", Path("config.json")]
    return [str(place) for place in places if place.is_file()][:1]


def _complete(setup: Setup, arguments: argparse.Namespace) -> None:
    """Do what Freqtrade's ``Configuration`` does to what was merged, without its directories and its logging."""
    from freqtrade.configuration.config_validation import validate_config_schema
    from freqtrade.enums import CandleType, MarginMode, RunMode, TradingMode
    from freqtrade.exceptions import ConfigurationError

    config = setup.config
    if arguments.strategy or not config.get("strategy"):
        config["strategy"] = arguments.strategy
    if arguments.strategy_path:
        config["strategy_path"] = arguments.strategy_path
    if arguments.db_url:
        config["db_url"] = arguments.db_url
    if arguments.timeframe:
        config["timeframe"] = setup.stated["timeframe"] = arguments.timeframe
    config.setdefault("internals", {})
    try:
        config["user_data_dir"] = Path(
            arguments.user_data_dir or config.get("user_data_dir") or Path.cwd() / "user_data"
        )
        config["candle_type_def"] = CandleType.get_default(config.get("trading_mode") or "spot")
        config["trading_mode"] = TradingMode(config.get("trading_mode") or "spot")
        config["margin_mode"] = MarginMode(config.get("margin_mode") or "")
        if not isinstance(config.get("exchange", {}), dict):
            raise TypeError("exchange must be a mapping")
        config.setdefault("exchange", {})
    except (TypeError, ValueError, AttributeError) as fault:
        setup.config_faults.append(str(fault))
        setup.missing = dict.fromkeys(Part, "the configuration cannot be used")
        return
    # It fills in the defaults. Without a run mode it asks for little; what the bot needs is asked for once the strategy is there.
    with suppress(ConfigurationError, TypeError, ValueError, AttributeError):
        validate_config_schema(config)
    config["runmode"] = RunMode.DRY_RUN if config.get("dry_run", True) else RunMode.LIVE


def _check_config(setup: Setup) -> None:
    from freqtrade.configuration.config_validation import validate_config_consistency
    from freqtrade.configuration.deprecated_settings import process_temporary_deprecated_settings
    from freqtrade.exceptions import OperationalException
    from freqtrade.exchange.check_exchange import check_exchange

    looked: Any = (process_temporary_deprecated_settings, check_exchange, validate_config_consistency)
    for look in looked:
        try:
            look(deepcopy(setup.config))
        except OperationalException as fault:
            said = str(fault).splitlines()[0]
            # A strategy may add what is missing, so without one nobody can tell.
            if setup.strategy is not None or "is a required property" not in said:
                setup.config_faults.append(said)
        except Exception as fault:
            setup.config_faults.append(f"{look.__name__} failed: {fault!r}")


def _load_strategy(setup: Setup, heard: list[str]) -> None:
    if not setup.config.get("strategy"):
        setup.missing[Part.STRATEGY] = NO_STRATEGY
        return
    try:
        setup.strategy, setup.config = _resolve(setup.config)
    except SettingsError as unusable:
        # Its faults are findings of their own; the strategy can still be looked at, unless it states them itself.
        try:
            setup.strategy, setup.config = _resolve(setup.config, without_settings=True)
        except Exception:
            setup.settings_faults = list(unusable.faults)
            setup.missing[Part.STRATEGY] = "the strategy does not start with these settings"
    except Exception as fault:
        setup.strategy_fault = _reason(fault, heard, str(setup.config["strategy"]))
        setup.missing[Part.STRATEGY] = "the strategy could not be loaded"


def _resolve(config: dict[str, Any], *, without_settings: bool = False) -> tuple[Any, dict[str, Any]]:
    from freqtrade.exceptions import OperationalException
    from freqtrade.resolvers import StrategyResolver

    own = deepcopy(config)
    own["exchange"] = without_credentials(own.get("exchange", {}))
    section = own.pop("plimsoll", None) if without_settings else None
    try:
        strategy = StrategyResolver.load_strategy(own)
    except OperationalException as fault:
        if isinstance(fault.__cause__, SettingsError):
            raise fault.__cause__ from None
        raise
    except SystemExit as fault:
        raise RuntimeError(f"it ended the process with {fault.code!r}") from None
    if section is not None:
        own["plimsoll"] = section
    return strategy, own


def _reason(fault: Exception, heard: list[str], name: str) -> str:
    said = [line for line in heard if "Could not import" in line or "does not exist" in line]
    text = str(fault) or type(fault).__name__
    if "Impossible to load Strategy" in text:
        return said[-1] if said else f"there is no class {name} in the strategy directories"
    return text if type(fault).__module__.startswith("freqtrade") else f"{type(fault).__name__}: {text}"


def _load_settings(setup: Setup) -> None:
    own = None if setup.strategy is None else getattr(type(setup.strategy), "plimsoll", None)
    try:
        settings = load(setup.stated.get("plimsoll"), own)
    except SettingsError as fault:
        setup.settings_faults = list(fault.faults)
    if setup.settings_faults:
        setup.missing[Part.SETTINGS] = "the settings of Plimsoll have faults"
    else:
        setup.settings = settings


def _open_candles(setup: Setup, datadir: str | None) -> None:
    config = setup.config
    exchange = str(config.get("exchange", {}).get("name", "")).lower()
    place = Path(datadir or config.get("datadir") or config["user_data_dir"] / "data" / exchange)
    if not place.is_dir():
        setup.missing[Part.CANDLES] = f"there is no data directory {place}"
        return
    store = CandleStore(place, str(config.get("dataformat_ohlcv", "feather")), config["trading_mode"])
    if not store.files:
        kind = "/futures" if setup.futures else ""
        setup.missing[Part.CANDLES] = f"there are no candles in {place}{kind}"
        return
    setup.candles = store


def _find_bot(setup: Setup, arguments: argparse.Namespace) -> None:
    try:
        database = open_database(arguments)
        strategy = setup.config.get("strategy")
        with database.explained():
            names = bridge.bots(database.engine)
            told = {name: bridge.read_status(database.engine, name) for name in names}
        setup.bots = [name for name, status in told.items() if status and not is_silent(status, setup.now)]
        wanted = arguments.bot or (strategy if strategy in names else None)
        chosen = choose_bot(database, wanted, must_be_known=True)
    except DatabaseFault as fault:
        setup.missing[Part.BOT] = str(fault)
        return
    status = told.get(chosen or "")
    if status is None:
        setup.missing[Part.BOT] = f"the bot does not run: {database.shown} has no status of one"
    elif is_silent(status, setup.now):
        setup.missing[Part.BOT] = f"the bot does not run: {chosen} was last heard of at {moment(status.time)}"
    else:
        setup.bot = status


def _ask_exchange(setup: Setup, online: bool) -> None:
    if online or setup.bot is not None:
        _ask_time(setup)
    if not online:
        setup.missing[Part.EXCHANGE] = "the exchange is only asked with --online"
        return
    from freqtrade.resolvers import ExchangeResolver

    # Public data only: without credentials, and as a dry run.
    config = deepcopy(setup.config) | {
        "dry_run": True,
        "exchange": without_credentials(setup.config["exchange"]),
    }
    try:
        setup.exchange = ExchangeResolver.load_exchange(config, validate=False, load_leverage_tiers=True)
    except Exception as fault:
        setup.missing[Part.EXCHANGE] = f"the exchange could not be asked: {_line(fault)}"


def _ask_time(setup: Setup) -> None:
    import ccxt

    exchange = setup.config["exchange"]
    name = str(exchange.get("name", "")).lower()
    try:
        stated = without_credentials(exchange.get("ccxt_config") or {})
        kind = {"defaultType": "swap" if setup.futures else "spot"}
        options = {"timeout": 5000} | stated | {"options": kind | (stated.get("options") or {})}
        client = getattr(ccxt, name)(options)
        before = time.time()
        answered = float(client.fetch_time()) / 1000.0
        setup.clock_offset = (before + time.time()) / 2.0 - answered
    except Exception as fault:
        setup.why_no_clock = f"the exchange could not be asked for its time: {_line(fault)}"


def _line(fault: Exception) -> str:
    lines = str(fault).splitlines() or [""]
    return f"{type(fault).__name__} {lines[0]}".strip()[:200]
