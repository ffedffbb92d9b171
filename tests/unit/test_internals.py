"""Freqtrade's private parts that we reach into: one test each, which fails when Freqtrade changes it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from inspect import getfullargspec, getsource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import freqtrade
import pytest
from freqtrade.data.dataprovider import DataProvider
from freqtrade.enums import RunMode
from freqtrade.exchange import Exchange
from freqtrade.exchange.exchange import Exchange as ExchangeClass
from freqtrade.optimize.backtesting import Backtesting
from freqtrade.optimize.hyperopt.hyperopt_optimizer import HyperOptimizer
from freqtrade.persistence import LocalTrade, Trade, disable_database_use, enable_database_use
from freqtrade.resolvers.strategy_resolver import StrategyResolver
from freqtrade.strategy import IStrategy
from freqtrade.strategy.strategy_wrapper import strategy_safe_wrapper

from plimsoll.host import internals


def test_exchange_of_when_the_data_provider_has_one_then_it_is_that() -> None:
    exchange = SimpleNamespace()
    provider = DataProvider({}, exchange)
    assert internals.exchange_of(SimpleNamespace(dp=provider)) is exchange  # type: ignore[arg-type]


def test_exchange_of_when_there_is_no_data_provider_then_none() -> None:
    assert internals.exchange_of(SimpleNamespace(dp=None)) is None  # type: ignore[arg-type]


def test_leverage_tiers_when_parsed_by_freqtrade_then_they_have_the_keys_we_read() -> None:
    tier = {
        "minNotional": 0.0,
        "maxNotional": 5000.0,
        "maintenanceMarginRate": 0.01,
        "maxLeverage": 50.0,
        "info": {"cum": "0.0"},
    }
    parsed = ExchangeClass.parse_leverage_tier(SimpleNamespace(), tier)  # type: ignore[arg-type]
    assert set(parsed) >= {"minNotional", "maxNotional", "maintenanceMarginRate", "maxLeverage", "maintAmt"}
    assert "_leverage_tiers" in getsource(Exchange)
    exchange = SimpleNamespace(_leverage_tiers={"BTC/USDT:USDT": [parsed]})
    assert internals.leverage_tiers_of(exchange, "BTC/USDT:USDT") == [parsed]
    assert internals.leverage_tiers_of(exchange, "ETH/USDT:USDT") == []


def test_is_offline_when_a_backtest_disables_the_database_then_true() -> None:
    assert not internals.is_offline()
    disable_database_use("1h")
    try:
        assert internals.is_offline()
    finally:
        enable_database_use()
    assert Trade.use_db


def test_run_token_when_a_run_begins_then_it_is_another_object() -> None:
    before = internals.run_token()
    assert internals.run_token() is before
    LocalTrade.reset_trades()
    assert internals.run_token() is not before


def test_backtest_when_a_strategy_is_reset_then_it_resets_the_trades() -> None:
    assert "Trade.reset_trades()" in getsource(Backtesting.reset_backtest)


@pytest.mark.parametrize(
    ("runmode", "expected"),
    [(RunMode.LIVE, True), (RunMode.DRY_RUN, True), (RunMode.BACKTEST, False), (None, False)],
)
def test_is_live_or_dry_when_asked_then_the_runmode_tells(runmode: Any, expected: bool) -> None:
    assert internals.is_live_or_dry({"runmode": runmode}) is expected


def test_cached_exit_rate_when_freqtrade_asked_a_moment_ago_then_its_rate_and_else_none() -> None:
    assert "_exit_rate_cache" in getsource(Exchange.get_rate)
    exchange = SimpleNamespace(_exit_rate_cache={"BTC/USDT:USDT": 100.0})
    strategy: Any = SimpleNamespace(dp=SimpleNamespace(_exchange=exchange))
    assert internals.cached_exit_rate(strategy, "BTC/USDT:USDT") == 100.0
    assert internals.cached_exit_rate(strategy, "ETH/USDT:USDT") is None


def test_properties_when_the_config_sets_them_too_then_freqtrade_leaves_them_alone() -> None:
    class WithProperty:
        @property
        def use_custom_stoploss(self) -> bool:
            return True

    config: Any = {"use_custom_stoploss": False}
    strategy: Any = WithProperty()
    StrategyResolver._override_attribute_helper(strategy, config, "use_custom_stoploss", None)
    assert strategy.use_custom_stoploss is True
    assert config["use_custom_stoploss"] is True


def test_after_fill_when_it_is_positional_then_freqtrade_recognises_it() -> None:
    assert '"after_fill" in getfullargspec' in getsource(StrategyResolver.validate_strategy)
    from plimsoll.host.guarded import _Guard

    assert "after_fill" in getfullargspec(_Guard.custom_stoploss).args


def test_wrapper_when_a_method_is_istrategys_own_then_the_trade_is_not_copied() -> None:
    seen = []

    def callback(trade: object) -> None:
        seen.append(trade)

    trade = LocalTrade()
    strategy_safe_wrapper(callback, supress_error=True)(trade=trade)
    callback.__qualname__ = "IStrategy.callback"
    strategy_safe_wrapper(callback, supress_error=True)(trade=trade)
    assert seen[0] is not trade
    assert seen[1] is trade


def test_hyperopt_when_it_pickles_a_strategy_then_it_walks_the_bases_up_to_istrategy() -> None:
    source = getsource(HyperOptimizer.hyperopt_pickle_magic)
    assert '!= "IStrategy"' in source
    assert "register_pickle_by_value" in source


def test_stop_call_when_after_a_fill_then_it_depends_on_use_custom_stoploss() -> None:
    source = getsource(IStrategy.ft_stoploss_adjust)
    assert "if self.use_custom_stoploss and dir_correct" in source
    assert "allow_refresh=after_fill" in source


def test_parameters_from_file_when_a_strategy_is_loaded_then_they_are_those_of_the_space(
    tmp_path: Path,
) -> None:
    class Searched(IStrategy):
        timeframe = "1h"

        def populate_indicators(self, dataframe: Any, metadata: Any) -> Any:
            return dataframe

    beside = tmp_path / "searched.json"
    beside.write_text(json.dumps({"strategy_name": "Searched", "params": {"risk": {"x": 1}, "buy": {}}}))
    Searched.__file__ = str(tmp_path / "searched.py")  # type: ignore[attr-defined]
    strategy = Searched({"runmode": RunMode.BACKTEST})
    assert internals.parameters_from_file(strategy, "risk") == {"x": 1}
    assert internals.parameters_from_file(strategy, "sell") == {}


@pytest.mark.parametrize(
    ("runmode", "expected"),
    [(RunMode.WEBSERVER, True), (RunMode.PLOT, True), (RunMode.BACKTEST, False), (RunMode.DRY_RUN, False)],
)
def test_is_for_charts_when_asked_then_the_runmode_tells(runmode: RunMode, expected: bool) -> None:
    assert internals.is_for_charts({"runmode": runmode}) is expected


def test_history_of_the_webserver_when_analysed_then_it_goes_through_analyze_ticker_and_backtests_do_not() -> (
    None
):
    from freqtrade.rpc.rpc import RPC

    assert "strategy.analyze_ticker(" in getsource(RPC._rpc_analysed_history_full)
    assert "self.analyze_ticker" in getsource(IStrategy._analyze_ticker_internal)
    assert "analyze_ticker" not in getsource(Backtesting)


def test_leverage_tiers_file_when_freqtrade_brings_it_then_it_has_the_keys_that_figures_and_exchange_read() -> (
    None
):
    path = Path(freqtrade.__file__).parent / "exchange" / "binance_leverage_tiers.json"
    tier = json.loads(path.read_text(encoding="utf-8"))["BTC/USDT:USDT"][0]
    assert set(tier) >= {"minNotional", "maxNotional", "maintenanceMarginRate", "maxLeverage", "info"}
    assert float(tier["info"]["cum"]) == 0.0


# -- No other place ----------------------------------------------------------------------------------------------------

REPOSITORY = Path(__file__).parents[2]
ALLOWED = "plimsoll/host/internals.py"
# What is handed to us or derived from: whose private names these are.
HANDED = (
    *(
        "exchange.exchange",
        "exchange.binance",
        "data.dataprovider",
        "wallets",
        "freqtradebot",
        "rpc.rpc",
        "worker",
    ),
    *(
        "persistence.trade_model",
        "persistence.pairlock",
        "persistence.pairlock_middleware",
        "persistence.models",
    ),
    *("optimize.backtesting", "optimize.hyperopt.hyperopt", "optimize.hyperopt.hyperopt_optimizer"),
)
DERIVED = {
    "IStrategy": ("strategy.interface", "strategy.hyper"),
    "IProtection": ("plugins.protections.iprotection", "mixins.logging_mixin"),
    "IHyperOptLoss": ("optimize.hyperopt_loss.hyperopt_loss_interface",),
}
DERIVED |= dict.fromkeys(
    ("Guarded", "_Guard", "GuardBase", "TradeCallbacks", "ChartCallbacks"), DERIVED["IStrategy"]
)
KNOWN = {
    "_exchange",
    "_leverage_tiers",
    "_exit_rate_cache",
    "_ft_params_from_file",
    "_config",
    "_lookback_period",
}


def private_names(modules: tuple[str, ...]) -> set[str]:
    """Return every single-underscore name that modules of Freqtrade define or set on themselves."""
    found = set()
    for name in modules:
        path = Path(freqtrade.__file__).parent / f"{name.replace('.', '/')}.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                found.add(node.attr)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return {name for name in found if re.match("_[a-z]", name)}


@pytest.fixture(scope="module")
def theirs() -> dict[str, set[str]]:
    """The private names of what we derive from, by its name, and under ``handed`` those of what we are handed."""
    found = {base: private_names(modules) for base, modules in DERIVED.items()}
    return found | {"handed": private_names(HANDED) | found["IStrategy"] | found["IProtection"]}


def reaches(source: str, theirs: dict[str, set[str]]) -> Iterator[str]:
    """Yield each reach of a module into Freqtrade's private parts, in words."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "freqtrade":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (f"{node.lineno}: import of {name}" for name in names if re.match("_[^_]", name))
        elif isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if (node.attr in theirs["handed"] and not own) or re.match(r"_[A-Z]\w*__", node.attr):
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            name = node.args[1] if len(node.args) > 1 else None
            if isinstance(name, ast.Constant) and str(name.value) in theirs["handed"]:
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            names = set().union(*(theirs[base] for base in bases & set(theirs)))
            for part in ast.walk(node):
                if isinstance(part, ast.Attribute) and ast.unparse(part.value) in ("self", "cls", "super()"):
                    if part.attr in names:
                        yield f"{part.lineno}: {ast.unparse(part)}, private to a base of {node.name}"
                elif isinstance(part, ast.FunctionDef) and part.name in names:
                    yield f"{part.lineno}: {node.name} overrides {part.name}"


def test_reaches_when_freqtrades_private_names_are_touched_then_each_way_is_noticed(
    theirs: dict[str, set[str]],
) -> None:
    assert theirs["handed"] >= KNOWN
    noticed = (
        "from freqtrade.persistence.models import _request_id_ctx_var",
        "from freqtrade._anything import name",
        "self._strategy.dp._exchange.markets",
        "exchange._leverage_tiers",
        "getattr(provider, '_exchange', None)",
        "strategy._IStrategy__last_candle_seen_per_pair",
        "class Mine(IProtection):\n    def f(self): return self._config",
        "class Mine(IStrategy):\n    def f(self): return self._ft_params_from_file",
        "class Mine(Guarded):\n    def _analyze_ticker_internal(self): pass",
    )
    for source in noticed:
        assert list(reaches(source, theirs)), source
    quiet = (
        "from freqtrade.persistence import Trade",
        "class Mine(IStrategy):\n    def f(self): return self._planner",
        "class Mine:\n    def f(self): return self._config",
        "strategy._planner.settings",
        "from plimsoll.host.guarded import _Guard",
    )
    for source in quiet:
        assert list(reaches(source, theirs)) == [], source


def test_source_when_it_reaches_into_freqtrade_then_only_in_the_one_module(
    theirs: dict[str, set[str]],
) -> None:
    found = {
        f"{path.relative_to(REPOSITORY).as_posix()}:{reach}"
        for directory in ("plimsoll", "strategies", "protections", "hyperopts")
        for path in sorted((REPOSITORY / directory).rglob("*.py"))
        for reach in reaches(path.read_text(encoding="utf-8"), theirs)
    }
    assert {each for each in found if not each.startswith(f"{ALLOWED}:")} == set()
    assert len([each for each in found if each.startswith(f"{ALLOWED}:")]) >= 4


def test_has_own_when_a_callback_is_a_property_that_fails_then_it_is_the_strategys() -> None:
    class Failing(IStrategy):
        @property
        def custom_exit(self) -> None:
            raise RuntimeError("on purpose")

    class Guard(IStrategy):
        pass

    class Both(Guard, Failing):
        pass

    Both.__abstractmethods__ = frozenset()
    both = object.__new__(Both)
    assert internals.has_own(both, Guard, "custom_exit")
    assert not internals.has_own(both, Guard, "custom_roi")
