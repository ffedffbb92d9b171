"""Stock Freqtrade finds the drop-in protections, asks them, and locks what an independent count of its trades says."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from boundary_bot import MovablePrices
from dry_run_config import DRY_RUN
from interrupt import interrupt

from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.runner import CompletedRun, load_backtest, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = pytest.mark.freqtrade

PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
DAYS = 28
WALLET = 10_000.0
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

STRATEGIES = '''
from freqtrade.strategy import IntParameter, IStrategy
from plimsoll.host.protections import use as plimsoll_protections


class Coin(IStrategy):
    """Long or short for some hours, whatever the market does."""

    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = True
    stoploss = -0.99
    minimal_roi = {"0": 100}
    buy_hours = IntParameter(3, 5, default=4, space="buy")
    x = 5.0
    chosen = []

    @property
    def protections(self):
        return plimsoll_protections(self.chosen)

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        turn = dataframe.index + (metadata["pair"] == "ETH/USDT:USDT")
        hours = 2 * self.buy_hours.value
        dataframe.loc[turn % hours == 0, "enter_long"] = 1
        dataframe.loc[turn % hours == hours // 2, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        turn = dataframe.index + (metadata["pair"] == "ETH/USDT:USDT")
        dataframe.loc[turn % 2 == 1, ["exit_long", "exit_short"]] = 1
        return dataframe

    def leverage(self, pair, max_leverage, **kwargs):
        return min(self.x, max_leverage)


class Daily(Coin):
    chosen = [{"method": "DailyLoss", "limit": 0.02}]

class Weekly(Coin):
    chosen = [{"method": "WeeklyLoss", "limit": 0.02}]

class Latched(Coin):
    chosen = [{"method": "DrawdownBreaker", "limit": 0.05}]

class Cooling(Coin):
    chosen = [{"method": "DrawdownBreaker", "limit": 0.03, "stop_duration": 1440}]

class Streak(Coin):
    chosen = [{"method": "LossStreak", "trade_limit": 3, "stop_duration_candles": 7}]

class Decay(Coin):
    chosen = [{"method": "StrategyDecay", "lookback_period": 2 * 1440, "trade_limit": 8}]

class Wiped(Coin):
    x = 100.0
    chosen = [{"method": "Liquidated", "stop_duration": 2000}]

class All(Coin):
    chosen = [{"method": name} for name in
              ("DailyLoss", "WeeklyLoss", "DrawdownBreaker", "LossStreak", "StrategyDecay", "Liquidated")]

class Wrong(Coin):
    chosen = [{"method": "DailyLoss", "limit": 5, "stop_duration": 0}]


class Layer(IStrategy):
    """What a mixin does that leaves the strategy its own protections: it comes first, and asks it."""

    _own_protections = None

    @property
    def protections(self):
        own = self._own_protections
        return plimsoll_protections(super().protections if own is None else own)

    @protections.setter
    def protections(self, value):
        self._own_protections = value

class TheirOwn(Coin):
    protections = [
        {"method": "MaxDrawdown", "lookback_period": 1440, "max_allowed_drawdown": 0.02, "stop_duration": 120},
        {"method": "Mine"},
        {"method": "LossStreak", "trade_limit": 2},
    ]

class Layered(Layer, TheirOwn):
    pass

class Assigned(Layer, Coin):
    def bot_start(self, **kwargs):
        self.protections = [{"method": "LossStreak", "trade_limit": 2}]

class Restless(Coin):
    """Enters every candle and leaves at once, at the loss of its fees."""
    minimal_roi = {"0": -0.9}
    chosen = [{"method": "DailyLoss", "limit": 1e-6}, {"method": "LossStreak", "trade_limit": 1}]

    def populate_entry_trend(self, dataframe, metadata):
        return dataframe.assign(enter_long=1)

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
'''

MINE = """
from datetime import timedelta
from freqtrade.plugins.protections import IProtection, ProtectionReturn


class Mine(IProtection):
    has_local_stop = True

    def short_desc(self):
        return "Mine"

    def global_stop(self, date_now, side, starting_balance):
        return None

    def stop_per_pair(self, pair, date_now, side, starting_balance):
        return ProtectionReturn(True, date_now + timedelta(hours=1), "mine")
"""

CONFIG: dict[str, Any] = {
    "dry_run": True,
    "timeframe": "1h",
    "dry_run_wallet": WALLET,
    "stake_currency": "USDT",
    "stake_amount": 2_500,
    "max_open_trades": 2,
    "trading_mode": "futures",
    "margin_mode": "isolated",
    "fee": 0.0001,
    "exchange": DRY_RUN["exchange"],
    "entry_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "pairlists": [{"method": "StaticPairList"}],
}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    user_data = tmp_path_factory.mktemp("protections")
    for name, content in (("strategies/coin.py", STRATEGIES), ("protections/mine.py", MINE)):
        (user_data / name).parent.mkdir()
        (user_data / name).write_text(content)
    models = [model for model in DEFAULT_PAIRS if model.pair in PAIRS]
    write_market(simulate_market(7, DAYS, START, models), user_data / "data" / "binance")
    return user_data


@pytest.fixture
def user_data(market: Path, tmp_path: Path) -> Path:
    return shutil.copytree(market, tmp_path / "user_data")


@pytest.fixture(scope="module")
def exchange() -> Iterator[LoopbackExchange]:
    with LoopbackExchange(pairs=PAIRS) as exchange:
        yield exchange


def run(exchange: LoopbackExchange, user_data: Path, *arguments: str) -> CompletedRun:
    finished = run_freqtrade(
        arguments,
        user_data=user_data,
        configs=[CONFIG],
        exchange_url=exchange.url,
        pairs=PAIRS,
        timeout=600,
    )
    print(f"{finished.seconds:.1f} s: freqtrade {' '.join(arguments)}")
    return finished


# -- Backtesting: every breaker against a count of our own --------------------------------------------------------

CLASSES = ("Daily", "Weekly", "Latched", "Cooling", "Streak", "Decay", "Wiped", "All", "Layered", "Assigned")


@pytest.fixture(scope="module")
def backtests(exchange: LoopbackExchange, market: Path) -> dict[str, Any]:
    finished = run(
        *(exchange, market, "backtesting", "--enable-protections", "--cache", "none"),
        *("--strategy-list", *CLASSES),
    )
    assert finished.succeeded, finished.output[-6000:]
    assert "Traceback" not in finished.output, finished.output
    found = {name: load_backtest(market, name)["stats"] for name in CLASSES}
    return found | {"output": finished.output}


def moment(text: str) -> datetime:
    return pd.Timestamp(text).tz_localize("UTC").to_pydatetime()


def locks_of(stats: dict[str, Any]) -> list[tuple[datetime, datetime, str]]:
    return [
        (moment(each["lock_time"]), moment(each["lock_end_time"]), each["pair"]) for each in stats["locks"]
    ]


def trades_of(stats: dict[str, Any]) -> list[dict[str, Any]]:
    """The trades in the order they closed; at the end of a backtest Freqtrade asks no protection."""
    trades = [each for each in stats["trades"] if each["exit_reason"] != "force_exit"]
    for each in trades:
        each["opened"], each["closed"] = pd.Timestamp(each["open_date"]), pd.Timestamp(each["close_date"])
    assert [each["closed"] for each in trades] == sorted(each["closed"] for each in trades)
    return trades


def assert_no_entries_while_locked(stats: dict[str, Any], *, most_per_lock: int = 0) -> None:
    """In the very candle of the close another pair may have entered before it."""
    for since, until, pair in locks_of(stats):
        entered = [
            each
            for each in trades_of(stats)
            if since < each["opened"] < until and pair in ("*", each["pair"])
        ]
        assert len(entered) <= most_per_lock, (since, until, entered)


def covered(found: list[tuple[datetime, datetime, str]], end: datetime, pair: str = "*") -> bool:
    return any(until >= end and each == pair for _, until, each in found)


def period_losses(stats: dict[str, Any], limit: float, length: timedelta) -> list[Any]:
    found, equity, opening, period = [], WALLET, WALLET, None
    for each in trades_of(stats):
        begun = START + math.floor((each["closed"] - START) / length) * length
        if begun != period:
            period, opening = begun, equity
        equity += each["profit_abs"]
        if equity <= opening * (1 - limit) + 1e-9 and not covered(found, begun + length):
            found.append((each["closed"], begun + length, "*"))
    return found


def test_daily_loss_when_backtested_then_locks_at_the_trade_an_own_count_says(backtests):
    stats = backtests["Daily"]

    expected = period_losses(stats, 0.02, DAY)
    assert len(expected) > 5
    assert locks_of(stats) == expected
    assert_no_entries_while_locked(stats)


def test_weekly_loss_when_backtested_then_locks_at_the_trade_an_own_count_says(backtests):
    stats = backtests["Weekly"]

    expected = period_losses(stats, 0.02, 7 * DAY)
    assert len(expected) >= 2
    assert locks_of(stats) == expected
    assert_no_entries_while_locked(stats)


def drawdowns(stats: dict[str, Any], limit: float, stop: timedelta) -> list[Any]:
    found, equity, peak, until = [], WALLET, WALLET, None
    for each in trades_of(stats):
        if until is not None and each["closed"] >= until:
            peak, until = equity, None
        peak = max(peak, equity)
        equity += each["profit_abs"]
        peak = max(peak, equity)
        if until is None and equity <= peak * (1 - limit) + 1e-9:
            until = each["closed"] + stop
            found.append((each["closed"], until, "*"))
    return found


def test_drawdown_when_backtested_and_cooling_then_locks_at_the_trade_an_own_count_says(backtests):
    stats = backtests["Cooling"]

    expected = drawdowns(stats, 0.03, DAY)
    assert len(expected) >= 2
    assert locks_of(stats) == expected
    assert_no_entries_while_locked(stats)


def test_drawdown_when_backtested_and_latched_then_nothing_is_entered_after_it(backtests):
    stats = backtests["Latched"]

    expected = drawdowns(stats, 0.05, timedelta(days=3650))
    assert locks_of(stats) == expected
    assert len(expected) == 1
    assert_no_entries_while_locked(stats)


def test_streak_when_backtested_then_locks_at_the_trade_an_own_count_says(backtests):
    stats, losses, expected = backtests["Streak"], 0, []
    for each in trades_of(stats):
        losses = losses + 1 if each["profit_ratio"] < 0 else 0 if each["profit_ratio"] > 0 else losses
        end = each["closed"] + 7 * HOUR
        if losses >= 3 and each["profit_ratio"] < 0 and not covered(expected, end):
            expected.append((each["closed"], end, "*"))

    assert len(expected) > 5
    assert locks_of(stats) == expected
    assert_no_entries_while_locked(stats)


def test_decay_when_backtested_then_locks_only_where_an_own_sharpe_ratio_is_low(backtests):
    stats = backtests["Decay"]
    trades, days, limit = trades_of(stats), 2, 8
    expected: list[Any] = []
    last_end = START
    blocked = False
    for count, each in enumerate(trades, 1):
        window = [t for t in trades[:count] if t["closed"] > each["closed"] - days * DAY]
        ratios = pd.Series([t["profit_ratio"] / t["leverage"] for t in window])
        low = (
            len(ratios) >= limit and ratios.mean() / ratios.std() * math.sqrt(len(ratios) * 365 / days) < 0.5
        )
        if low and (each["profit_ratio"] < 0 or (not blocked and each["closed"] >= last_end)):
            end = window[-limit]["closed"] + days * DAY
            if end > last_end:
                last_end = end
                expected.append((each["closed"], end, "*"))
        blocked = low

    assert len(expected) > 2
    assert locks_of(stats) == expected
    assert_no_entries_while_locked(stats)


def test_liquidated_when_backtested_then_locks_the_pair_only(backtests):
    stats = backtests["Wiped"]
    expected: list[Any] = []
    for each in trades_of(stats):
        gone = each["exit_reason"] == "liquidation" or each["profit_ratio"] <= -0.95
        end = each["closed"] + timedelta(minutes=2000) + timedelta(minutes=40)  # to the full hour
        if gone and not covered(expected, end, each["pair"]):
            expected.append((each["closed"], end, each["pair"]))

    assert len(expected) >= 2
    assert locks_of(stats) == expected
    assert_no_entries_while_locked(stats)


def test_all_when_backtested_together_then_reasons_name_breaker_value_and_end(backtests):
    reasons = [each["reason"] for each in backtests["All"]["locks"]]

    assert reasons
    assert {each.split(":")[0] for each in reasons} <= {
        *("DailyLoss", "WeeklyLoss", "DrawdownBreaker", "LossStreak", "StrategyDecay", "Liquidated")
    }
    assert all(" until " in each for each in reasons)


def test_protections_when_a_layer_comes_first_then_the_strategys_own_still_act(backtests):
    reasons = {each["reason"] for each in backtests["Layered"]["locks"]}

    assert "mine" in reasons
    assert any("passed 0.02" in each for each in reasons)  # MaxDrawdown
    assert any(each.startswith("LossStreak: 2 losses") for each in reasons)
    assert any(each["reason"].startswith("LossStreak: ") for each in backtests["Assigned"]["locks"])
    assert "does not exist" not in backtests["output"]


def test_backtesting_when_a_parameter_is_invalid_then_one_error_names_all(exchange, user_data):
    finished = run(exchange, user_data, "backtesting", "--enable-protections", "--strategy", "Wrong")

    assert not finished.succeeded
    assert "Traceback" not in finished.output
    assert (
        "Protection DailyLoss: `limit` must be a ratio in (0, 1), was 5;"
        " `stop_duration` must be a whole number in [1, 5256000] minutes, was 0" in finished.output
    )


# -- Hyperopt, trade, webserver -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_hyperopt_when_two_workers_then_protections_load_and_act(exchange, user_data):
    finished = run(
        *(exchange, user_data, "hyperopt", "--strategy", "Daily", "--enable-protections", "--spaces", "buy"),
        *("--hyperopt-loss", "SharpeHyperOptLossDaily", "-e", "2", "-j", "2", "--random-state", "1"),
        *("--min-trades", "1"),
    )

    assert finished.succeeded, finished.output[-6000:]
    assert "Traceback" not in finished.output, finished.output
    (results,) = (user_data / "hyperopt_results").glob("*.fthypt")
    epochs = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(epochs) == 2
    for epoch in epochs:
        assert any(each["reason"].startswith("DailyLoss: ") for each in epoch["results_metrics"]["locks"])


def process(
    user_data: Path, log: Path, *arguments: str, configs: list[dict[str, Any]]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "freqtrade", *arguments, "--user-data-dir", str(user_data)]
    for number, layer in enumerate([CONFIG, *configs]):
        path = user_data / f"config-{number}.json"
        path.write_text(json.dumps(layer))
        command += ["-c", str(path)]
    with log.open("w") as stream:
        return subprocess.Popen(
            command, stdout=stream, stderr=stream, env=os.environ | {"NO_COLOR": "1", "COLUMNS": "400"}
        )


def let_midnight_pass() -> None:
    now = pd.Timestamp.now(tz="UTC")
    left = (now.ceil("1d") - now).total_seconds()
    if left < 300.0:
        time.sleep(left + 1.0)


def test_trade_when_dry_run_then_protections_load_and_lock_after_the_first_close(user_data):
    let_midnight_pass()  # a loss is of the day that it was made on, and no other day's
    today = pd.Timestamp.now(tz="UTC").floor("1d").to_pydatetime()
    models = [model for model in DEFAULT_PAIRS if model.pair in PAIRS]
    write_market(simulate_market(7, 11, today - 10 * DAY, models), user_data / "live")
    log = user_data / "trade.log"
    prices = MovablePrices(user_data / "live")
    prices.stand_at = pd.Timestamp.now(tz="UTC").to_pydatetime()  # a trade loses its fees, and no more
    with LoopbackExchange(pairs=PAIRS, source=prices) as exchange:
        overlay = {**exchange_config(exchange.url, PAIRS), "db_url": "sqlite://", "initial_state": "running"}
        overlay["internals"] = {"process_throttle_secs": 5}  # so that it sleeps, when it is interrupted
        overlay["entry_pricing"] = CONFIG["entry_pricing"] | {"price_side": "other"}
        overlay["exit_pricing"] = CONFIG["exit_pricing"] | {"price_side": "other"}
        bot = process(user_data, log, "trade", "--strategy", "Restless", configs=[overlay])
        try:
            deadline = time.monotonic() + 400
            while "'type': protection_trigger_global" not in log.read_text():
                assert bot.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            assert interrupt(bot) == 130, log.read_text()
        finally:
            bot.kill()
    said = log.read_text()
    assert "Using resolved protection DailyLoss from " in said
    assert "DailyLoss - Stops entries until the next day after losing 0.0001 %" in said
    assert "DailyLoss: daily loss 0.0 % of" in said
    assert "Traceback" not in said
    assert " - ERROR - " not in said


@contextmanager
def reserved_port() -> Iterator[int]:
    # Bound and never listening: nobody else is given it, and a server that may reuse an address still can listen there.
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@pytest.fixture
def port() -> Iterator[int]:
    with reserved_port() as port:
        yield port


def test_webserver_when_backtests_run_through_rest_then_protections_load_and_act(exchange, user_data, port):
    log = user_data / "webserver.log"
    server = {
        "enabled": True,
        "listen_ip_address": "127.0.0.1",
        "listen_port": port,
        "username": "u",
        "password": "p",
    }
    keys = {"jwt_secret_key": "a" * 40, "ws_token": "b" * 40, "CORS_origins": []}
    overlay = {**exchange_config(exchange.url, PAIRS), "api_server": {**server, **keys}}
    web = process(user_data, log, "webserver", configs=[overlay])

    def ask(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": "Basic " + b64encode(b"u:p").decode(),
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(asked, timeout=120) as answer:
            return json.load(answer)

    def wait_for(done: Any) -> Any:
        deadline = time.monotonic() + 400
        while True:
            assert web.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if found := done():
                    return found
            except OSError:
                pass
            time.sleep(0.2)

    def ended() -> dict[str, Any] | None:
        state = ask("GET", "backtest")
        assert state["status"] != "error", log.read_text()
        return None if state["running"] else state["backtest_result"]

    try:
        wait_for(lambda: ask("GET", "ping"))
        counts = []
        for protected in (False, True, True):  # the server keeps its Backtesting object
            body = {"strategy": "Daily", "enable_protections": protected, "timerange": "20240103-20240113"}
            ask("POST", "backtest", body | {"backtest_cache": "none"})
            stats = wait_for(ended)["strategy"]["Daily"]
            reasons = [each["reason"] for each in stats["locks"]]
            assert all(each.startswith("DailyLoss: ") for each in reasons)
            counts.append((stats["total_trades"], len(reasons)))
    finally:
        web.send_signal(signal.SIGINT)
        try:
            web.wait(timeout=10)
        except subprocess.TimeoutExpired:
            web.kill()
    (free, none), first, second = counts
    assert none == 0
    assert first == second
    assert first[0] < free
    assert first[1] > 0
    assert "Traceback" not in log.read_text()
