"""Limits as a hyperopt space of their own: searched only where asked for, only ever tighter, the same in a later backtest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import CompletedRun, load_backtest, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = pytest.mark.freqtrade

REPOSITORY = Path(__file__).parents[2]
PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
PERIOD = "20240205-20240220"
EPOCHS = 3
STRATEGY = """
import talib.abstract as ta
from freqtrade.strategy import IntParameter, IStrategy
from plimsoll import RiskSpace


class Crossing(IStrategy):
    timeframe = "1h"
    can_short = True
    stoploss = -0.3
    minimal_roi = {}
    startup_candle_count = 60
    buy_slow = IntParameter(25, 35, default=30, space="buy")

    def populate_indicators(self, dataframe, metadata):
        dataframe["fast"] = ta.EMA(dataframe, timeperiod=8)
        for period in self.buy_slow.range:
            dataframe[f"slow_{period}"] = ta.EMA(dataframe, timeperiod=period)
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        above = dataframe["fast"] > dataframe[f"slow_{self.buy_slow.value}"]
        dataframe.loc[above, "enter_long"] = 1
        dataframe.loc[~above, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        above = dataframe["fast"] > dataframe[f"slow_{self.buy_slow.value}"]
        dataframe.loc[~above, "exit_long"] = 1
        dataframe.loc[above, "exit_short"] = 1
        return dataframe


class Searched(RiskSpace, Crossing):
    plimsoll = {"kelly": {"cold_start_risk": 0.01}}
"""


@pytest.fixture(scope="module")
def user_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("searched")
    (directory / "strategies").mkdir()
    (directory / "strategies" / "Searched.py").write_text(STRATEGY)
    models = [model for model in DEFAULT_PAIRS if model.pair in PAIRS]
    market = simulate_market(5, 51, datetime(2024, 1, 1, tzinfo=UTC), models, flash_crash=False)
    write_market(market, directory / "data" / "binance")
    return directory


@pytest.fixture(scope="module")
def exchange() -> Iterator[LoopbackExchange]:
    with LoopbackExchange(PAIRS) as server:
        yield server


def run(user_data: Path, exchange: LoopbackExchange, *arguments: str) -> CompletedRun:
    finished = run_freqtrade(
        [*arguments, "--strategy", "Searched", "--timerange", PERIOD],
        user_data=user_data,
        configs=[REPOSITORY / "config.json"],
        exchange_url=exchange.url,
        pairs=PAIRS,
    ).check()
    assert "Traceback" not in finished.output
    assert "static start value" not in finished.output
    return finished


def hyperopt(user_data: Path, exchange: LoopbackExchange, *arguments: str) -> list[dict[str, Any]]:
    """Run a hyperopt with our loss and return its epochs."""
    results = user_data / "hyperopt_results"
    before = set(results.glob("*.fthypt"))
    run(
        *(user_data, exchange, "hyperopt", "--hyperopt-loss", "PlimsollLoss", "--random-state", "3"),
        *("--hyperopt-path", str(REPOSITORY / "hyperopts"), *arguments),
    )
    (written,) = set(results.glob("*.fthypt")) - before
    return [json.loads(line) for line in written.read_text().splitlines()]


@pytest.fixture(scope="module")
def searched(user_data: Path, exchange: LoopbackExchange) -> list[dict[str, Any]]:
    return hyperopt(user_data, exchange, "--spaces", "risk", "-e", str(EPOCHS), "-j", "2")


def results_of(epoch: dict[str, Any]) -> list[float]:
    return [trade["profit_abs"] for trade in epoch["results_metrics"]["trades"]]


def test_hyperopt_when_the_space_is_named_then_epochs_differ_and_keep_their_own_limits(
    searched: list[dict[str, Any]],
) -> None:
    assert len(searched) == EPOCHS
    assert all(set(epoch["params_details"]) == {"risk"} for epoch in searched)
    assert len({tuple(results_of(epoch)) for epoch in searched}) == EPOCHS
    for epoch in searched:
        chosen = epoch["params_details"]["risk"]
        assert chosen["plimsoll_risk_per_trade"] <= 0.01
        assert chosen["plimsoll_exposure_position_margin"] <= 0.2
        assert 1 <= chosen["plimsoll_leverage_cap"] <= 5
        trades = epoch["results_metrics"]["trades"]
        assert len(trades) > 3
        # The most an account of 10,000 had in this period; every ratio below is of equity.
        equity = 10_000.0 + sum(max(value, 0.0) for value in results_of(epoch)) + 200.0
        for trade in trades:
            assert trade["leverage"] <= chosen["plimsoll_leverage_cap"]
            assert trade["stake_amount"] <= equity * chosen["plimsoll_exposure_position_margin"]
            assert -trade["profit_abs"] <= equity * chosen["plimsoll_risk_per_trade"] * 1.01


def test_backtest_when_a_hyperopt_exported_limits_then_has_the_same_trades(
    user_data: Path, exchange: LoopbackExchange, searched: list[dict[str, Any]]
) -> None:
    best = min(searched, key=lambda epoch: epoch["loss"])
    exported = json.loads((user_data / "strategies" / "Searched.json").read_text())
    assert exported["params"]["risk"] == best["params_details"]["risk"]
    run(user_data, exchange, "backtesting", "--cache", "none")
    found = load_backtest(user_data, "Searched")["trades"][
        ["open_timestamp", "pair", "leverage", "profit_abs"]
    ]
    trades = [
        (t["open_timestamp"], t["pair"], t["leverage"], t["profit_abs"])
        for t in best["results_metrics"]["trades"]
    ]
    assert sorted(found.itertuples(index=False, name=None)) == sorted(trades)


def test_hyperopt_when_the_space_is_not_named_then_has_no_limit_among_its_parameters_and_keeps_the_exported(
    user_data: Path, exchange: LoopbackExchange, searched: list[dict[str, Any]]
) -> None:
    exported = json.loads((user_data / "strategies" / "Searched.json").read_text())["params"]["risk"]
    # `all` takes in whatever `default` does.
    (epoch,) = hyperopt(
        user_data, exchange, "--spaces", "all", "--ignore-missing-spaces", "-e", "1", "-j", "1"
    )
    assert {"buy", "roi", "stoploss", "trailing"} <= set(epoch["params_details"])
    assert "risk" not in epoch["params_details"]
    assert not [name for name in epoch["params_dict"] if "plimsoll" in name]
    assert epoch["params_not_optimized"]["risk"] == exported
    cap = exported["plimsoll_leverage_cap"]
    assert all(trade["leverage"] <= cap for trade in epoch["results_metrics"]["trades"])
