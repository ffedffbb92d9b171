"""Limits as parameters: what they may become, where they are there at all, and that no strategy sees another's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from freqtrade.enums import CandleType, RunMode, TradingMode
from freqtrade.exceptions import OperationalException
from freqtrade.resolvers import StrategyResolver
from freqtrade.strategy import IStrategy

from plimsoll.host.risk_space import KEYS, SEARCHED, name_of, parameters
from plimsoll.settings import load

TEXT = """
from freqtrade.strategy import IStrategy
from plimsoll import RiskSpace


class Plain(IStrategy):
    timeframe = "1h"
    stoploss = -0.1
    minimal_roi = {}

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe


class Mine(RiskSpace, Plain):
    pass


class Narrow(RiskSpace, Plain):
    plimsoll = {"risk": {"per_trade": 0.004}}
    risk_space = {"risk.per_trade": (0.002, 0.02)}
"""


def made(
    directory: Path,
    name: str = "Mine",
    *,
    stored: dict[str, Any] | None = None,
    runmode: RunMode = RunMode.BACKTEST,
    spaces: list[str] | None = None,
    text: str = TEXT,
) -> IStrategy:
    """Load a strategy as Freqtrade does, and have it load its parameters."""
    (directory / "strategies").mkdir(exist_ok=True)
    (directory / "strategies" / "Mine.py").write_text(text)
    if stored is not None:
        content = {"strategy_name": name, "params": {"risk": stored}}
        (directory / "strategies" / "Mine.json").write_text(json.dumps(content))
    config: Any = {
        "strategy": name,
        "user_data_dir": directory,
        "runmode": runmode,
        "trading_mode": TradingMode.SPOT,
        "candle_type_def": CandleType.SPOT,
        "spaces": ["default"] if spaces is None else spaces,
    }
    strategy: Any = StrategyResolver.load_strategy(config)
    strategy.ft_load_hyper_params(runmode == RunMode.HYPEROPT)
    return strategy


def settings_of(strategy: Any) -> Any:
    return strategy._planner.settings


def test_parameters_when_made_of_the_defaults_then_reach_from_a_share_of_each_setting_up_to_it() -> None:
    found = parameters(dict.fromkeys(SEARCHED), load())
    assert {name: KEYS[name] for name in found} == KEYS
    for name, (parameter, setting) in found.items():
        section, _, field = KEYS[name].partition(".")
        assert parameter.high == setting == getattr(getattr(load(), section), field)
        assert 0 < parameter.low < parameter.high
        assert parameter.value == setting
        assert parameter.space == "risk"


def test_parameters_when_a_range_goes_beyond_the_setting_then_ends_at_it() -> None:
    found, setting = parameters({"risk.per_trade": (0.002, 0.02)}, load())[name_of("risk.per_trade")]
    assert (found.low, found.high, setting) == (0.002, 0.01, 0.01)


@pytest.mark.parametrize(("cap", "there"), [(1.0, False), (1.9, False), (2.0, True)])
def test_parameters_when_a_setting_leaves_no_room_then_there_is_none(cap: float, there: bool) -> None:
    found = parameters({"leverage.cap": None}, load({"leverage": {"cap": cap}}))
    assert bool(found) is there


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"risk.slippage": None}, "`risk.slippage` cannot be searched"),
        ({"risk.per_trade": (0.01, 0.002)}, r"risk.per_trade = \(0.01, 0.002\): must be \(low, high\)"),
        ({"risk.per_trade": (0.0, 0.002)}, "with 0 < low < high"),
        ({"risk.per_trade": (float("nan"), 0.002)}, "with 0 < low < high"),
        ({"risk.per_trade": 0.002}, "with 0 < low < high"),
        (("risk.per_trade",), "must be a mapping"),
    ],
)
def test_parameters_when_a_range_is_none_then_says_what_is_allowed(ranges: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parameters(ranges, load())


def test_strategy_when_its_ranges_cannot_be_used_then_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(OperationalException, match=r"`risk\.nothing` cannot be searched"):
        made(tmp_path, "Narrow", text=TEXT.replace('{"risk.per_trade": (', '{"risk.nothing": ('))


@pytest.mark.parametrize(
    ("runmode", "spaces", "there"),
    [
        (RunMode.HYPEROPT, ["risk"], True),
        (RunMode.HYPEROPT, ["buy", "risk"], True),
        (RunMode.HYPEROPT, ["default"], False),
        (RunMode.HYPEROPT, ["all"], False),
        (RunMode.HYPEROPT, ["buy"], False),
        (RunMode.BACKTEST, ["default"], True),
        (RunMode.DRY_RUN, ["default"], True),
    ],
)
def test_space_when_a_hyperopt_does_not_name_it_then_is_not_there(
    tmp_path: Path, runmode: RunMode, spaces: list[str], there: bool
) -> None:
    strategy: Any = made(tmp_path, runmode=runmode, spaces=spaces)
    found = [name for name, _ in strategy.enumerate_parameters() if name.startswith("plimsoll_")]
    assert bool(found) is there
    assert ("risk" in strategy._ft_hyper_params) is there
    assert settings_of(strategy) == load()


@pytest.mark.parametrize("spaces", [["risk"], ["default"]])
def test_stored_value_when_tighter_then_counts_and_when_looser_then_the_setting_stands(
    tmp_path: Path, spaces: list[str]
) -> None:
    stored = {
        name_of("risk.per_trade"): 0.0099,
        name_of("leverage.cap"): 2,
        name_of("exposure.heat"): 0.07,
        name_of("drawdown.limit"): 0.2,
    }
    strategy: Any = made(tmp_path, stored=stored, runmode=RunMode.HYPEROPT, spaces=spaces)
    assert settings_of(strategy) == load({"risk": {"per_trade": 0.0099}, "leverage": {"cap": 2.0}})
    exported = strategy.get_no_optimize_params().get("risk", {})
    assert exported == (stored if spaces == ["default"] else {})


def test_setting_when_it_has_more_digits_than_the_parameter_then_is_not_changed(tmp_path: Path) -> None:
    text = TEXT.replace('"per_trade": 0.004', '"per_trade": 0.00346')
    assert settings_of(made(tmp_path, "Narrow", text=text)).risk.per_trade == 0.00346


@pytest.mark.parametrize("value", [-0.001, "a lot", None])
def test_stored_value_when_it_is_no_limit_then_the_start_ends_with_what_it_is(
    tmp_path: Path, value: Any
) -> None:
    with pytest.raises(OperationalException, match="the space `risk` cannot be used"):
        made(tmp_path, stored={name_of("risk.per_trade"): value})


def test_two_strategies_when_each_has_the_space_then_share_no_parameter(tmp_path: Path) -> None:
    first: Any = made(tmp_path)
    second: Any = made(tmp_path, "Narrow")
    getattr(first, name_of("risk.per_trade")).value = 0.003
    assert getattr(second, name_of("risk.per_trade")).value == 0.004
    assert first.chosen_limits().risk.per_trade == 0.003
    assert second.chosen_limits().risk.per_trade == 0.004
    assert not hasattr(second, name_of("leverage.cap"))


def test_chosen_limits_when_a_parameter_is_loosened_then_stay_the_settings(tmp_path: Path) -> None:
    strategy: Any = made(tmp_path, "Narrow")
    getattr(strategy, name_of("risk.per_trade")).value = 0.02
    assert strategy.chosen_limits().risk.per_trade == 0.004


def test_strategy_when_made_without_the_guard_then_loads_and_has_no_limits_among_its_parameters(
    tmp_path: Path,
) -> None:
    bare = "\n\nclass Bare(Mine):\n    plimsoll_raw = True\n"
    strategy: Any = made(tmp_path, "Bare", text=TEXT + bare, stored={name_of("leverage.cap"): 3})
    assert not hasattr(strategy, "_planner")
    assert not [name for name, _ in strategy.enumerate_parameters() if name.startswith("plimsoll_")]
    assert "risk" not in strategy.get_no_optimize_params()
