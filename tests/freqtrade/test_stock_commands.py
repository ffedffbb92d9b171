"""The stock ``freqtrade`` command against the loopback exchange."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dry_run_config import DRY_RUN
from interrupt import interrupt

from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.history import FileHistory
from plimsoll.market.runner import CompletedRun, RunFailed, RunTimeout, load_backtest, run_freqtrade

pytestmark = pytest.mark.freqtrade

ROOT = Path(__file__).parents[2]
PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
SPOT_PAIRS = ("BTC/USDT", "ETH/USDT")
DAYS = 40
START = pd.Timestamp("2024-01-01", tz="UTC")
INFO = ("GET /api/v3/exchangeInfo", "GET /fapi/v1/exchangeInfo", "GET /dapi/v1/exchangeInfo")

STRATEGY = """
import talib.abstract as ta
from freqtrade.strategy import IntParameter, IStrategy


class Crossing(IStrategy):
    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = {can_short}
    stoploss = -0.2
    minimal_roi = {{"0": 0.05}}
    startup_candle_count = 60
    buy_fast = IntParameter(5, 15, default=8, space="buy")

    def populate_indicators(self, dataframe, metadata):
        for period in self.buy_fast.range:
            dataframe[f"fast_{{period}}"] = ta.EMA(dataframe, timeperiod=period)
        dataframe["slow"] = ta.EMA(dataframe, timeperiod=21)
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        fast = dataframe[f"fast_{{self.buy_fast.value}}"]
        above = fast > dataframe["slow"]
        dataframe.loc[above & ~above.shift(1, fill_value=True), "enter_long"] = 1
        if self.can_short:
            dataframe.loc[~above & above.shift(1, fill_value=False), "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        fast = dataframe[f"fast_{{self.buy_fast.value}}"]
        dataframe.loc[fast < dataframe["slow"], "exit_long"] = 1
        if self.can_short:
            dataframe.loc[fast > dataframe["slow"], "exit_short"] = 1
        return dataframe

    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return 3.0


class Eager(Crossing):
    minimal_roi = {{"0": -0.9}}

    def populate_entry_trend(self, dataframe, metadata):
        return dataframe.assign(enter_long=1)

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
"""

# Read by every Python process of a run before anything else: writes down who is spoken to.
WATCH = """
import os, sys

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        with open(os.environ["WATCHED"], "a") as file:
            print(arguments[1][0], file=file)
    elif event == "socket.getaddrinfo":
        with open(os.environ["WATCHED"], "a") as file:
            print(arguments[0], file=file)

sys.addaudithook(watch)
"""

CONFIG = {
    "dry_run": True,
    "dry_run_wallet": 10_000,
    "stake_currency": "USDT",
    "stake_amount": 1_000,
    "max_open_trades": 2,
    "trading_mode": "futures",
    "margin_mode": "isolated",
    "entry_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "pairlists": [{"method": "StaticPairList"}],
    "exchange": DRY_RUN["exchange"],
}
SPOT_CONFIG = {**CONFIG, "trading_mode": "spot", "margin_mode": ""}


def write_market(datadir: Path, pairs: tuple[str, ...], end: pd.Timestamp, days: int = DAYS) -> None:
    """Write hourly candles of a seeded random walk that end at ``end``, with mark prices and funding."""
    from freqtrade.data.history.datahandlers import get_datahandler
    from freqtrade.enums import CandleType

    (datadir / "futures").mkdir(parents=True, exist_ok=True)
    handler = get_datahandler(datadir, "feather")
    dates = pd.date_range(end=end, periods=days * 24, freq="1h").as_unit("ms")
    for seed, pair in enumerate(pairs):
        random = np.random.default_rng(seed)
        close = (40_000.0 if pair.startswith("BTC") else 2_000.0) * np.exp(
            np.cumsum(random.normal(0, 0.008, len(dates)))
        )
        opened = np.concatenate(([close[0]], close[:-1]))
        reach = 1 + np.abs(random.normal(0, 0.002, (2, len(dates))))
        frame = pd.DataFrame(
            {
                "date": dates,
                "open": opened,
                "high": np.maximum(opened, close) * reach[0],
                "low": np.minimum(opened, close) / reach[1],
                "close": close,
                "volume": 1_000.0,
            }
        )
        if ":" not in pair:
            handler.ohlcv_store(pair, "1h", frame, CandleType.SPOT)
            continue
        handler.ohlcv_store(pair, "1h", frame, CandleType.FUTURES)
        handler.ohlcv_store(pair, "1h", frame, CandleType.MARK)
        paid = frame.loc[frame["date"].dt.hour % 8 == 0, ["date"]].assign(funding_rate=0.0001)
        handler.ohlcv_store(pair, "1h", paid.reset_index(drop=True), CandleType.FUNDING_RATE)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    user_data = tmp_path_factory.mktemp("stock")
    (user_data / "strategies").mkdir()
    (user_data / "strategies" / "crossing.py").write_text(STRATEGY.format(can_short=True))
    write_market(user_data / "data" / "binance", (*PAIRS, *SPOT_PAIRS), START + pd.Timedelta(days=DAYS))
    return user_data


@pytest.fixture
def user_data(market: Path, tmp_path: Path) -> Path:
    return shutil.copytree(market, tmp_path / "user_data")


@pytest.fixture
def exchange() -> Iterator[LoopbackExchange]:
    with LoopbackExchange(pairs=(*PAIRS, *SPOT_PAIRS)) as exchange:
        yield exchange


def watched(user_data: Path) -> dict[str, str]:
    (user_data / "watch").mkdir()
    (user_data / "watch" / "sitecustomize.py").write_text(WATCH)
    return {"PYTHONPATH": str(user_data / "watch"), "WATCHED": str(user_data / "watched.log")}


def spoken_to(user_data: Path) -> set[str]:
    return set((user_data / "watched.log").read_text().split())


def run(exchange: LoopbackExchange, user_data: Path, *arguments: str, **options) -> CompletedRun:
    options = {"configs": [CONFIG], "pairs": PAIRS, "env": watched(user_data), "timeout": 600.0, **options}
    finished = run_freqtrade(arguments, user_data=user_data, exchange_url=exchange.url, **options)
    print(f"{finished.seconds:.1f} s: freqtrade {' '.join(arguments)}")
    assert finished.succeeded, finished.output
    assert "Traceback" not in finished.output, finished.output
    assert exchange.unknown_requests == []
    assert exchange.failed_requests == []
    assert all(exchange.requests[each] for each in INFO)
    assert spoken_to(user_data) == {"127.0.0.1"}
    return finished


def test_backtesting_when_futures_then_trades_both_sides_with_leverage_and_funding(exchange, user_data):
    finished = run(exchange, user_data, "backtesting", "--strategy", "Crossing")

    assert "STRATEGY SUMMARY" in finished.stdout
    result = load_backtest(user_data)
    trades = result["trades"]
    assert result["strategy"] == "Crossing"
    assert result["stats"]["total_trades"] == len(trades) > 20
    assert set(trades["pair"]) == set(PAIRS)
    assert set(trades["is_short"]) == {True, False}
    assert set(trades["leverage"]) == {3.0}
    assert trades["funding_fees"].abs().sum() > 0


def test_backtesting_when_spot_then_trades_spot_pairs(exchange, user_data):
    strategy = user_data / "strategies" / "crossing.py"
    strategy.write_text(STRATEGY.format(can_short=False))

    run(exchange, user_data, "backtesting", "--strategy", "Crossing", configs=[SPOT_CONFIG], pairs=SPOT_PAIRS)

    trades = load_backtest(user_data)["trades"]
    assert len(trades) > 10
    assert set(trades["pair"]) == set(SPOT_PAIRS)
    assert set(trades["leverage"]) == {1.0}


def test_backtesting_when_given_the_shipped_config_then_runs(exchange, user_data):
    run(
        *(exchange, user_data, "backtesting", "--strategy", "Crossing"),
        configs=[ROOT / "config.json"],
    )

    assert len(load_backtest(user_data)["trades"]) > 20


def test_show_config_when_given_the_shipped_config_then_it_is_valid_and_secret_free(user_data, monkeypatch):
    monkeypatch.setenv("FREQTRADE__MAX_OPEN_TRADES", "3")  # of whoever runs the tests: not handed on

    finished = run_freqtrade(["show-config"], user_data=user_data, configs=[ROOT / "config.json"])

    shown = json.loads(finished.check().stdout.partition("{")[1] + finished.stdout.partition("{")[2])
    shipped = json.loads((ROOT / "config.json").read_text())
    assert shown["plimsoll"] == {"profile": "calibrated"}
    assert shown["dry_run"] is True
    assert shown["max_open_trades"] == 8
    assert "protections" not in shipped
    assert shipped["exchange"]["key"] == shipped["exchange"]["secret"] == ""
    assert shipped["api_server"]["enabled"] is False


def test_backtesting_when_config_is_refused_then_the_run_failed_despite_exit_code_zero(exchange, user_data):
    finished = run_freqtrade(
        ["backtesting", "--strategy", "Crossing"],
        user_data=user_data,
        configs=[CONFIG, {"stake_amount": "lots"}],
        exchange_url=exchange.url,
    )

    assert not finished.succeeded
    with pytest.raises(RunFailed, match="Configuration error"):
        finished.check()


def test_run_when_it_takes_too_long_then_is_ended(user_data):
    with pytest.raises(RunTimeout, match=r"list-strategies took over 0\.3 s"):
        run_freqtrade(["list-strategies"], user_data=user_data, timeout=0.3)


@pytest.mark.slow  # test_guarded_commands.py runs the same command, guarded
def test_hyperopt_when_two_workers_then_reports_every_epoch(exchange, user_data):
    finished = run(
        exchange,
        user_data,
        *("hyperopt", "--strategy", "Crossing", "--hyperopt-loss", "SharpeHyperOptLossDaily"),
        *("--spaces", "buy", "-e", "3", "-j", "2", "--random-state", "1", "--min-trades", "1"),
    )

    results = list((user_data / "hyperopt_results").glob("*.fthypt"))
    assert len(results) == 1
    assert len(results[0].read_text().splitlines()) == 3
    assert "Best result:" in finished.stdout
    assert "buy_fast" in finished.output


def test_lookahead_analysis_when_strategy_is_clean_then_finds_no_bias(exchange, user_data):
    finished = run(
        exchange,
        user_data,
        *("lookahead-analysis", "--strategy", "Crossing", "--timerange", "20240105-20240125"),
        *("--minimum-trade-amount", "2", "--targeted-trade-amount", "3"),
        "--lookahead-analysis-exportfilename",
        str(user_data / "lookahead.csv"),
    )

    assert "Crossing" in finished.stdout
    found = pd.read_csv(user_data / "lookahead.csv").iloc[0]
    assert not bool(found["has_bias"])
    assert found["total_signals"] >= 2


def test_recursive_analysis_when_startup_is_long_then_lists_indicators(exchange, user_data):
    finished = run(
        exchange,
        user_data,
        *("recursive-analysis", "--strategy", "Crossing", "--startup-candle", "60", "120"),
        *("--timerange", "20240110-20240205"),
    )

    assert "slow" in finished.stdout
    assert "No lookahead bias on indicators found." in finished.output


def test_list_pairs_when_futures_then_prints_the_pairs_and_no_spot(exchange, user_data):
    finished = run(exchange, user_data, "list-pairs", "--print-json")

    assert json.loads(finished.stdout.strip().splitlines()[-1]) == list(PAIRS)


def test_list_markets_when_spot_and_terminal_is_narrow_then_prints_spot_pairs(
    exchange, user_data, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "40")

    finished = run(exchange, user_data, "list-markets", configs=[SPOT_CONFIG], pairs=SPOT_PAIRS)

    assert all(re.search(rf"{pair}\s", finished.stdout) for pair in SPOT_PAIRS)
    assert "Binance has 4 active markets" in finished.output


def test_trade_when_dry_run_then_opens_and_closes_trades_and_reaches_nothing_else(user_data):
    # The bot's own clock is the system's, so the market has to reach up to now, and to the test's end.
    tomorrow = pd.Timestamp.now(tz="UTC").floor("1h") + pd.Timedelta(days=1)
    datadir = user_data / "live"
    write_market(datadir, PAIRS, tomorrow, days=31)
    with LoopbackExchange(pairs=PAIRS, source=FileHistory(datadir)) as exchange:
        overlay, patient = user_data / "overlay.json", user_data / "patient.json"
        patient.write_text(json.dumps({"exchange": DRY_RUN["exchange"]}))
        stock = exchange_config(exchange.url, PAIRS)
        overlay.write_text(json.dumps({**stock, "db_url": "sqlite://"}))
        command = [sys.executable, "-m", "freqtrade", "trade", "--strategy", "Eager"]
        command += ["--user-data-dir", str(user_data), "-c", str(ROOT / "config.json")]
        command += ["-c", str(patient), "-c", str(overlay)]
        log = user_data / "trade.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command, stdout=stream, stderr=stream, env=os.environ | watched(user_data)
            )
            try:
                deadline = time.monotonic() + 400
                while log.read_text().count("'type': exit_fill") < len(PAIRS):
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.2)
                assert interrupt(process) == 130, log.read_text()
            finally:
                process.kill()
        assert exchange.unknown_requests == []
        assert exchange.failed_requests == []
        assert "Traceback" not in log.read_text()
        assert " - ERROR - " not in log.read_text()
        assert exchange.requests["GET /fapi/v1/klines"] >= len(PAIRS)
        assert exchange.requests["GET /fapi/v1/depth"] >= len(PAIRS)
        assert exchange.requests["GET /fapi/v1/fundingRate"] >= 1
        assert exchange.requests["GET /fapi/v1/markPriceKlines"] >= 1
        assert spoken_to(user_data) == {"127.0.0.1"}
