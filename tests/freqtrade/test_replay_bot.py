"""A stock dry-run bot on a replayed market, faster than real time: it trades, it survives faults, and the command that starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dry_run_config import DRY_RUN
from interrupt import interrupt

from plimsoll.cli import main
from plimsoll.market.bot import TradingBot
from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import WallClock, unavailable
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.faults import Fault, Faults
from plimsoll.market.history import FileHistory, Window
from plimsoll.market.replay import Replay
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market
from plimsoll.replay import command as replay_command

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}"),
]

START = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN = START + timedelta(days=3, minutes=59, seconds=40)
PAIRS = [model.pair for model in DEFAULT_PAIRS[:2]]
SPEED = 300.0
FIVE = timedelta(minutes=5)
LAG = timedelta(minutes=4)  # what an entry may be late by, as below, is more
TICK = 0.11
DAYS = 10  # at this speed they last longer than any wait here
CONFIG: dict[str, Any] = {
    **DRY_RUN,
    "stake_amount": 1000,
    "timeframe": "5m",
    "exchange": {**DRY_RUN["exchange"], "name": "binance", "key": "", "secret": "", "pair_whitelist": PAIRS},
}
STRATEGY = """
from freqtrade.strategy import IStrategy


class Turning(IStrategy):
    timeframe = "5m"
    can_short = True
    stoploss = -0.5
    minimal_roi = {"0": 100}
    startup_candle_count = 20

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["date"].dt.minute % 30 == 0, "enter_long"] = 1
        dataframe["enter_tag"] = dataframe["date"].map(lambda date: date.isoformat())
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["date"].dt.minute % 30 == 15, "exit_long"] = 1
        return dataframe
"""


@pytest.fixture(scope="module")
def user_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("replay")
    market = simulate_market(4, DAYS, START, DEFAULT_PAIRS[:2], flash_crash=False)
    write_market(market, directory / "data" / "binance")
    (directory / "strategies").mkdir()
    (directory / "strategies" / "turning.py").write_text(STRATEGY)
    return directory


@contextmanager
def running(
    user_data: Path, directory: Path, faults: Faults | None = None, **own: Any
) -> Iterator[tuple[Any, ...]]:
    """Start a bot on a standing clock, and let it run when the bot is up."""
    directory.mkdir(exist_ok=True)
    # Freqtrade gives up a lock that another process has for five seconds, and a reader may stand for longer.
    own |= {"db_url": f"sqlite:///{directory.resolve() / 'trades.sqlite'}?timeout=120"}
    replay = Replay(FileHistory(user_data / "data" / "binance"))
    with (
        WallClock(directory / "clock", BEGIN) as clock,
        LoopbackExchange(PAIRS, source=replay, now=clock.milliseconds, faults=faults) as exchange,
        TradingBot(
            exchange, directory, "Turning", configs=[CONFIG], user_data=user_data, clock=clock, **own
        ) as bot,
    ):
        assert bot.ready(240), bot.last_words()
        clock.run(SPEED)
        yield bot, clock, exchange, replay


class Pace:
    """The clock at full speed as long as the bot loops, and at real time until it does again.

    A bot that other processes hold up for seconds would miss hours, and enter on what was said before them.
    """

    def __init__(self, bot: TradingBot, clock: WallClock) -> None:
        self._bot, self._clock = bot, clock
        self._loops, self._looped = 0, clock.now()
        self._fast_since, self._fast_before = time.monotonic(), 0.0

    def keep(self) -> None:
        loops = self._bot.log(latest=True).count("Bot heartbeat")
        if loops > self._loops:
            self._loops, self._looped = loops, self._clock.now()
        speed = SPEED if self._clock.now() - self._looped < LAG else 1.0
        if speed == self._clock.speed:
            return
        self._fast_before = self.fast_seconds()
        self._clock.run(speed)
        self._fast_since = time.monotonic()

    def fast_seconds(self) -> float:
        """Return how many real seconds it has run at full speed, at least."""
        now = time.monotonic() - self._fast_since if self._clock.speed == SPEED else 0.0
        return self._fast_before + now


def closed(bot: TradingBot) -> list[dict[str, Any]]:
    return [trade for trade in bot.trades() if not trade["is_open"]]


def test_bot_when_hours_are_replayed_then_trades_in_their_time_at_their_prices(user_data, tmp_path):
    with running(user_data, tmp_path, api=True) as (bot, clock, exchange, replay):
        pace = Pace(bot, clock)

        def traded() -> bool:
            pace.keep()
            return len(closed(bot)) >= 4 and clock.now() > BEGIN + timedelta(hours=1)

        assert bot.wait(traded, 400), bot.last_words()
        fast = pace.fast_seconds()
        assert clock.now() - BEGIN > 0.9 * SPEED * timedelta(seconds=fast)
        clock.run(1.0)
        status, count = bot.rest("GET", "count", seconds=120)
        assert (status, count["max"]) == (200, 4)
        bot.kill()
        assert not bot.alive()
        assert bot.rest("GET", "ping")[0] == 0
        before = bot.trades()
        clock.step(clock.now())
        bot.start()
        assert bot.ready(240), bot.last_words()
        assert {trade["id"] for trade in before} <= {trade["id"] for trade in bot.trades()}
        assert bot.rest("GET", "ping", seconds=120) == (200, {"status": "pong"})
        trades = closed(bot)
        # One that it closed on its return was closed at the very moment at which the clock stands.
        clock.step(clock.now() + timedelta(seconds=1))
        passed = clock.now()
        assert bot.stop(240) == 130  # as Freqtrade ends after SIGINT
    assert passed > BEGIN + timedelta(hours=1)
    assert exchange.unknown_requests == exchange.failed_requests == []
    for trade in trades:
        assert BEGIN < trade["open_date"] < trade["close_date"] < passed
        # The candle with the signal had closed, and it was the last one or nearly so.
        signal_closed = datetime.fromisoformat(trade["enter_tag"]) + FIVE
        assert signal_closed <= trade["open_date"] < signal_closed + timedelta(minutes=20)
        assert trade["exit_reason"] == "exit_signal"
        for moment, rate in (("open_date", "open_rate"), ("close_date", "close_rate")):
            at = round(trade[moment].timestamp() * 1000)
            # The last look at the book was some seconds before, perhaps some candles before on a busy machine.
            around = replay.candles(trade["pair"], "5m", Window(at + 300_000, end_ms=at, limit=5))
            assert (
                min(row.low for row in around) - TICK <= trade[rate] <= max(row.high for row in around) + TICK
            )
    orders = [order for order in bot.orders() if order["status"] == "closed"]
    assert len(orders) >= 2 * len(trades)
    assert any(lock["pair"] in PAIRS for lock in bot.locks())


@pytest.mark.slow  # test_faults_bot.py has its short form, with a control beside it
def test_bot_when_anything_goes_wrong_at_the_exchange_then_survives_and_goes_on(user_data, tmp_path):
    book = ("depth",)
    every = [
        Fault(kind="timeout", endpoints=book, hold_seconds=2.0),
        Fault(kind="lost_answer", endpoints=book, hold_seconds=2.0),
        Fault(kind="server_error", status=500),
        Fault(kind="server_error", status=502, endpoints=("klines", "depth")),
        # Where candles are asked for, Freqtrade waits real seconds after a rate limit.
        Fault(kind="rate_limit", endpoints=book),
        Fault(kind="banned", endpoints=book),
        Fault(kind="stale_candles"),
        Fault(kind="gap"),
        Fault(kind="frozen_price", pairs=(PAIRS[0],)),
        Fault(kind="clock_offset", offset_seconds=-20.0),
        Fault(kind="server_error", probability=0.3),
    ]
    quick = {"exchange": {"ccxt_config": {"timeout": 400}, "ccxt_async_config": {"timeout": 400}}}
    faults = Faults(seed=2)
    with running(user_data, tmp_path, faults, overrides=quick) as (bot, clock, exchange, _):
        assert bot.wait(lambda: bool(bot.trades()), 240), bot.last_words()  # now books are asked for
        for fault in every:
            met, told = faults.counts[fault.kind], len(bot.log())
            faults.on(fault)
            began = clock.now()
            happened = bot.wait(
                lambda f=fault, m=met, b=began: (
                    faults.counts[f.kind] >= m + 3 and clock.now() > b + timedelta(minutes=6)
                ),
                160,
            )
            faults.off(fault)
            assert happened, f"{fault}: met {faults.counts[fault.kind] - met} times\n{bot.last_words()}"
            answered = exchange.requests.total()
            assert bot.wait(lambda a=answered: exchange.requests.total() > a + 5, 120), (
                f"{fault}\n{bot.last_words()}"
            )
            if fault.kind in ("timeout", "lost_answer", "server_error", "rate_limit", "banned"):
                assert bot.wait(lambda t=told: "returned exception" in bot.log()[t:], 60), fault
        assert bot.alive(), bot.last_words()
        before = {trade["id"] for trade in bot.trades()}
        new = bot.wait(lambda: any(trade["id"] not in before for trade in bot.trades()), 240)
        assert new, bot.last_words()
        assert bot.stop(240) == 130
    assert "OperationalException" not in bot.log()


# -- COMMAND ---------------------------------------------------------------------------------------------


@contextmanager
def replaying(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command as a user would, in a directory with a configuration and a strategy."""
    (directory / "user_data" / "strategies").mkdir(parents=True)
    (directory / "user_data" / "strategies" / "turning.py").write_text(STRATEGY)
    (directory / "config.json").write_text(json.dumps({**CONFIG, "initial_state": "stopped"}))
    command = [sys.executable, "-m", "plimsoll.cli", "replay", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    with (directory / "said").open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=directory, stdout=stream, stderr=stream, env=environment, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(timeout=60)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait(timeout=60)


def until(process: subprocess.Popen[bytes], condition: Any, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return True
        time.sleep(0.1)
    return bool(condition())


def interrupt_restless(process: subprocess.Popen[bytes]) -> int | None:
    # At this speed a bot is never idle, so there is no better moment to wait for; Python may drop an interrupt.
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=60)
    return None


def this_hour() -> int:
    return int(time.time()) // 3600 * 3600_000


def test_command_when_it_starts_the_bot_then_trades_apart_from_the_users_records(user_data, tmp_path):
    given = ["--data", str(user_data / "data"), "--from", "2024-01-04T00:59:50", "--speed", "300"]
    kept = tmp_path / "user_data" / "replay"

    def count() -> int:
        for path in kept.glob("*/trades.sqlite"):
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
                try:
                    return int(
                        connection.execute("select count(*) from trades where is_open = 0").fetchone()[0]
                    )
                except sqlite3.OperationalError:
                    return 0
        return 0

    said = tmp_path / "said"
    # No `-c`: Freqtrade's own default has to be found all the same.
    with replaying(tmp_path, *given, "--", "trade", "-s", "Turning") as process:
        assert until(process, lambda: count() >= 1, 400), said.read_text()[-3000:]
        assert interrupt_restless(process) == 130
    words = said.read_text()
    assert "the bot's clock begins at 2024-01-04 00:59 UTC, speed 300" in words
    assert "2024-01-04 01:" in words  # Freqtrade's log is in its time
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "said", "user_data"]
    assert sorted(path.name for path in (tmp_path / "user_data").iterdir()) == ["replay", "strategies"]


def test_command_when_the_history_ends_then_ends_the_bot_and_succeeds(user_data, tmp_path):
    late = f"{START + timedelta(days=DAYS, minutes=-2):%Y-%m-%dT%H:%M}"
    given = ["--data", str(user_data / "data" / "binance"), "--from", late, "--speed", "300"]
    with replaying(
        tmp_path, *given, "--pairs", PAIRS[0], "--", "trade", "-s", "Turning", "-c", "config.json"
    ) as process:
        assert process.wait(timeout=800) == 0, (tmp_path / "said").read_text()[-3000:]
    assert "The history has ended; ending the bot." in (tmp_path / "said").read_text()


def test_command_when_it_starts_no_bot_then_serves_history_as_of_now_and_writes_the_configuration(tmp_path):
    import urllib.request

    said = tmp_path / "said"
    given = [
        "--seed",
        "3",
        "--days",
        "2",
        "--pairs",
        PAIRS[0],
        "--from",
        "2023-02-03T06:00",
        "--keep",
        "kept",
    ]
    begun = this_hour()
    with replaying(tmp_path, *given) as process:
        assert until(process, lambda: "Ctrl-C ends it." in said.read_text(), 240), said.read_text()
        config = json.loads((tmp_path / "kept" / "replay.json").read_text())
        url = re.search(r"http://127\.0\.0\.1:\d+", said.read_text())[0]
        asked = this_hour()
        with urllib.request.urlopen(
            f"{url}/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=900", timeout=60
        ) as answer:
            rows = json.load(answer)
        answered = this_hour()
        stock = [
            sys.executable,
            "-m",
            "freqtrade",
            "trade",
            "-s",
            "Turning",
            "-c",
            "config.json",
            "-c",
            "kept/replay.json",
        ]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(stock, cwd=tmp_path, stderr=log) as bot:
            try:
                assert until(bot, lambda: "Bot heartbeat" in (tmp_path / "log").read_text(), 240)
                assert interrupt(bot) == 130
            finally:
                bot.kill()
        assert interrupt(process) == 130
    log_text = " ".join((tmp_path / "log").read_text().split())
    assert "state='RUNNING'" in log_text
    assert "Whitelist with 1 pairs: ['BTC/USDT:USDT']" in log_text
    assert rows[-1][0] in (asked, answered)
    # An hour that ends after it has moved history and before it is asked is one candle more.
    ended = (rows[-1][0] - begun) // 3600_000
    assert len(rows) - (33 * 24 + 7) in range(ended + 1)
    assert config["exchange"]["pair_whitelist"] == [PAIRS[0]]
    assert config["exchange"]["ccxt_config"]["urls"]["api"]["fapiPublic"] == f"{url}/fapi/v1"
    assert config["dry_run"] is True
    assert config["user_data_dir"] == str(tmp_path / "kept")
    assert config["db_url"] == f"sqlite:///{tmp_path / 'kept' / 'trades.sqlite'}"
    assert (tmp_path / "kept" / "strategies" / "turning.py").read_text() == STRATEGY


def test_command_when_no_clock_can_be_told_then_runs_at_speed_1_or_says_why(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(replay_command, "unavailable", lambda: "it needs a C compiler")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    given = ["replay", "--days", "1", "--pairs", PAIRS[0], "--keep", "kept"]
    stock = ["--", "test-pairlist", "-c", "config.json", "--print-json"]
    assert main([*given, *stock]) == 0
    said = capfd.readouterr().out
    assert "happens now, speed 1, history moved by whole hours" in said
    assert f'["{PAIRS[0]}"]' in said.replace("'", '"')
    assert not (tmp_path / "kept" / "clock").exists()
    assert main([*given, "--speed", "2", *stock]) == 1
    assert "--speed must be 1 on this machine" in " ".join(capfd.readouterr().err.split())
