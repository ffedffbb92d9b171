"""Freqtrade's private parts that we reach into: one test each, which fails when Freqtrade changes it."""

from __future__ import annotations

from inspect import getfullargspec, getsource
from types import SimpleNamespace
from typing import Any

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
