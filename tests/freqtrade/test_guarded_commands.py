"""Guarded strategies in every stock command that runs strategies: two workers, several strategies, the analyses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plimsoll.journal import read
from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import CompletedRun, load_backtest, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = pytest.mark.freqtrade

CONFIG = Path(__file__).parents[2] / "config.json"
PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
PERIOD = "20240205-20240410"
STRATEGIES = """
import talib.abstract as ta
from freqtrade.strategy import IntParameter, IStrategy
from plimsoll import Guarded


class Crossing(IStrategy):
    timeframe = "1h"
    can_short = True
    stoploss = -0.3
    minimal_roi = {}
    startup_candle_count = 60
    buy_fast = IntParameter(5, 15, default=8, space="buy")

    def populate_indicators(self, dataframe, metadata):
        for period in self.buy_fast.range:
            dataframe[f"fast_{period}"] = ta.EMA(dataframe, timeperiod=period)
        dataframe["slow"] = ta.EMA(dataframe, timeperiod=30)
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        above = dataframe[f"fast_{self.buy_fast.value}"] > dataframe["slow"]
        dataframe.loc[above & ~above.shift(1, fill_value=True), "enter_long"] = 1
        dataframe.loc[~above & above.shift(1, fill_value=False), "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        above = dataframe[f"fast_{self.buy_fast.value}"] > dataframe["slow"]
        dataframe.loc[~above, "exit_long"] = 1
        dataframe.loc[above, "exit_short"] = 1
        return dataframe

    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return 20.0


class GuardedCrossing(Guarded, Crossing):
    protections = [{"method": "DailyLoss", "limit": 0.001}]


class GuardedSlow(Guarded, Crossing):
    plimsoll = {"leverage": {"cap": 2.0}}
    buy_fast = IntParameter(5, 15, default=13, space="buy")
"""


@pytest.fixture(scope="module")
def user_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "strategies").mkdir()
    (directory / "strategies" / "Crossings.py").write_text(STRATEGIES)
    models = [model for model in DEFAULT_PAIRS if model.pair in PAIRS]
    write_market(
        simulate_market(5, 101, datetime(2024, 1, 1, tzinfo=UTC), models), directory / "data" / "binance"
    )
    return directory


@pytest.fixture(scope="module")
def exchange() -> Iterator[LoopbackExchange]:
    with LoopbackExchange(PAIRS) as server:
        yield server


def run(user_data: Path, exchange: LoopbackExchange, *arguments: str) -> CompletedRun:
    finished = run_freqtrade(
        [*arguments, "--timerange", PERIOD],
        user_data=user_data,
        configs=[CONFIG],
        exchange_url=exchange.url,
        pairs=PAIRS,
    ).check()
    assert exchange.unknown_requests == []
    assert "Traceback" not in finished.output
    assert "entry refused" not in finished.output
    return finished


def test_hyperopt_when_two_workers_then_epochs_trade_within_the_limits(
    user_data: Path, exchange: LoopbackExchange
) -> None:
    run(
        *(user_data, exchange, "hyperopt", "-s", "GuardedCrossing", "--spaces", "buy", "-e", "4", "-j", "2"),
        *("--hyperopt-loss", "SharpeHyperOptLossDaily", "--random-state", "3", "--min-trades", "1"),
        *("--disable-param-export", "--enable-protections"),
    )
    (results,) = (user_data / "hyperopt_results").glob("*.fthypt")
    epochs = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(epochs) == 4
    for epoch in epochs:
        trades = epoch["results_metrics"]["trades"]
        assert len(trades) > 10
        assert all(trade["leverage"] in (1.0, 2.0, 3.0, 4.0, 5.0) for trade in trades)
    assert len({epoch["params_details"]["buy"]["buy_fast"] for epoch in epochs}) > 1
    assert any(epoch["results_metrics"]["locks"] for epoch in epochs)  # our protection loaded in the workers
    assert (
        not list((user_data / "plimsoll").glob("*hyperopt*")) if (user_data / "plimsoll").exists() else True
    )


def test_strategy_list_when_two_are_guarded_then_each_keeps_its_own_limits_and_parameters(
    user_data: Path, exchange: LoopbackExchange
) -> None:
    names = ("GuardedCrossing", "GuardedSlow")
    run(user_data, exchange, "backtesting", "--cache", "none", "--timeframe", "1h", "--strategy-list", *names)
    found = {name: load_backtest(user_data, name)["trades"] for name in names}
    assert all(len(trades) > 10 for trades in found.values())
    assert found["GuardedSlow"]["leverage"].max() == 2.0
    assert found["GuardedCrossing"]["leverage"].max() > 2.0
    assert len(found["GuardedSlow"]) != len(found["GuardedCrossing"])
    for name in names:
        journal = read(user_data / "plimsoll" / f"{name}-backtest.jsonl")
        assert sum(record["kind"] == "outcome" for record in journal) == len(found[name])

    alone = run(user_data, exchange, "backtesting", "--cache", "none", "-s", "GuardedSlow")
    assert alone.succeeded
    again = load_backtest(user_data, "GuardedSlow")["trades"]
    assert again["profit_abs"].tolist() == found["GuardedSlow"]["profit_abs"].tolist()


def test_lookahead_analysis_when_guarded_then_finds_no_bias(
    user_data: Path, exchange: LoopbackExchange
) -> None:
    finished = run(
        *(user_data, exchange, "lookahead-analysis", "-s", "GuardedCrossing", "--allow-limit-orders"),
        *(
            "--minimum-trade-amount",
            "5",
            "--targeted-trade-amount",
            "8",
            "--lookahead-analysis-exportfilename",
        ),
        str(user_data / "lookahead.csv"),
    )
    row = (user_data / "lookahead.csv").read_text().splitlines()[1].split(",")
    assert "GuardedCrossing" in row
    assert "False" in row, finished.output[-3000:]


def test_recursive_analysis_when_guarded_then_indicators_are_the_strategys_own(
    user_data: Path, exchange: LoopbackExchange
) -> None:
    finished = run(user_data, exchange, "recursive-analysis", "-s", "GuardedCrossing", "-p", PAIRS[0])
    assert "Recursive Analysis" in finished.output or "No variance on indicator(s) found" in finished.output
    assert "745" in finished.output
