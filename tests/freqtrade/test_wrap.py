"""`plimsoll wrap` for real: a wrapped strategy loads and trades in stock Freqtrade, one that fails leaves nothing behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from plimsoll.cli import main
from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = pytest.mark.freqtrade

REPOSITORY = Path(__file__).parents[2]
STRATEGY = """
import talib.abstract as ta
from freqtrade.strategy import IntParameter, IStrategy


class Base(IStrategy):
    timeframe = "1h"
    stoploss = -0.1
    minimal_roi = {"0": 0.2}
    startup_candle_count = 30
    buy_fast = IntParameter(5, 12, default=8, space="buy")

    def populate_indicators(self, dataframe, metadata):
        for period in self.buy_fast.range:
            dataframe[f"fast_{period}"] = ta.EMA(dataframe, timeperiod=period)
        dataframe["slow"] = ta.EMA(dataframe, timeperiod=30)
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe[f"fast_{self.buy_fast.value}"] > dataframe["slow"], "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe[f"fast_{self.buy_fast.value}"] < dataframe["slow"], "exit_long"] = 1
        return dataframe


class Crossing(Base):
    plimsoll = {"journal": {"path": "mine.jsonl"}}
"""
PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")


@pytest.fixture
def userdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    directory = tmp_path / "user_data"
    (directory / "strategies" / "sub").mkdir(parents=True)
    (directory / "strategies" / "sub" / "my-crossings.py").write_text(STRATEGY)
    return directory


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*") if path.is_file()}


def test_wrap_when_there_are_no_candles_then_trades_on_a_simulated_market_and_leaves_one_file(
    userdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.jsonl").write_text("of another run")
    assert main(["wrap", "Crossing"]) == 0
    assert Path("mine.jsonl").read_text() == "of another run"
    said = capsys.readouterr().out
    assert "Loaded    GuardedCrossing, 1h" in said
    assert "a simulated market on the loopback exchange (no candles in" in said
    assert "no trade" not in said
    assert "failed" not in said
    assert names(userdir) == {"my-crossings.py", "GuardedCrossing.py"}
    assert main(["wrap", "Crossing"]) == 1
    assert "is there already" in capsys.readouterr().err


def test_wrap_when_the_strategy_does_not_load_then_says_why_and_leaves_no_file(
    userdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = userdir / "strategies" / "sub" / "my-crossings.py"
    broken.write_text(STRATEGY + "\nprint('{}')\nimport no_such_module\n")
    assert main(["wrap", "Crossing"]) == 1
    assert "No module named 'no_such_module', line 32" in capsys.readouterr().err
    assert names(userdir) == {"my-crossings.py"}


@pytest.mark.slow
def test_wrap_when_a_spot_user_has_candles_then_trades_on_them(
    userdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType

    market = simulate_market(5, 50, datetime(2024, 1, 1, tzinfo=UTC), DEFAULT_PAIRS[:2])
    datadir = userdir / "data" / "kraken"
    datadir.mkdir(parents=True)
    for pair, data in market.items():
        name = pair.partition(":")[0]
        get_datahandler(datadir, "feather").ohlcv_store(name, "1h", data.candles_1h, CandleType.SPOT)
    config = json.loads((REPOSITORY / "config.json").read_text())
    del config["margin_mode"], config["liquidation_buffer"]
    config["exchange"] |= {"name": "kraken", "pair_whitelist": ["BTC/USDT", ".*/USDT"]}
    (userdir / "config.json").write_text(json.dumps(config | {"trading_mode": "spot"}))
    assert main(["wrap", "Crossing"]) == 0
    said = capsys.readouterr().out
    assert "the last 14 days of 1 pair from" in said
    assert "at most 1x" in said


@pytest.mark.slow
def test_hyperopt_when_a_wrapped_file_has_no_importable_name_then_two_workers_run_it(userdir: Path) -> None:
    assert main(["wrap", "Crossing", "--no-backtest"]) == 0
    models = [model for model in DEFAULT_PAIRS if model.pair in PAIRS]
    write_market(
        simulate_market(5, 51, datetime(2024, 1, 1, tzinfo=UTC), models), userdir / "data" / "binance"
    )
    with LoopbackExchange(PAIRS) as exchange:
        run_freqtrade(
            [
                *("hyperopt", "--strategy", "GuardedCrossing", "--timerange", "20240205-20240220", "-e", "4"),
                *("--strategy-path", str(userdir / "strategies" / "sub"), "-j", "2", "--spaces", "buy"),
                *("--hyperopt-loss", "PlimsollLoss", "--hyperopt-path", str(REPOSITORY / "hyperopts")),
                *("--random-state", "3"),
            ],
            user_data=userdir,
            configs=[REPOSITORY / "config.json"],
            exchange_url=exchange.url,
            pairs=PAIRS,
        ).check()
    (results,) = (userdir / "hyperopt_results").glob("*.fthypt")
    epochs = [json.loads(line) for line in results.read_text().splitlines()]
    assert len({epoch["params_details"]["buy"]["buy_fast"] for epoch in epochs}) > 1
    assert all(epoch["results_metrics"]["total_trades"] > 3 for epoch in epochs)
