"""The same candles through a backtest and through a dry-run bot: the same decisions.

The bot is stock ``freqtrade trade``; its wall clock is told by a file (``stepped_clock.c``, preloaded), which the test moves from a
few seconds before each hour to two seconds after it. Prices only move at the hour, so that both see the same ones.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plimsoll.journal import read
from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.history import FileHistory
from plimsoll.market.runner import load_backtest, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(
        sys.platform != "linux" or shutil.which("cc") is None,
        reason="needs Linux and a C compiler for the clock",
    ),
]

HERE = Path(__file__).parent
START = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN = START + timedelta(days=32)
HOURS = 48
END = BEGIN + timedelta(hours=HOURS)
PAIRS = tuple(model.pair for model in DEFAULT_PAIRS[:2])
CONFIG: dict[str, Any] = {
    "dry_run": True,
    "dry_run_wallet": 10_000.0,
    "stake_currency": "USDT",
    "stake_amount": "unlimited",
    "max_open_trades": 4,
    "trading_mode": "futures",
    "margin_mode": "isolated",
    "fee": 0.0005,
    "timeframe": "1h",
    "entry_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "order_types": {"entry": "market", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False},
    "pairlists": [{"method": "StaticPairList"}],
    "ignore_buying_expired_candle_after": 60,
    "initial_state": "running",
    "internals": {"process_throttle_secs": 0},
}
STRATEGY = f'''
import os
import pandas as pd
from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class Reversing(IStrategy):
    timeframe = "1h"
    can_short = True
    stoploss = -0.99
    minimal_roi = {{"0": 100}}

    def bot_loop_start(self, current_time, **kwargs):
        if "LOOPS" in os.environ:
            with open(os.environ["LOOPS"], "ab") as file:
                file.write(b".")

    def populate_indicators(self, dataframe, metadata):
        dataframe["mean"] = dataframe["close"].rolling(6).mean()
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        due = (dataframe["date"] >= pd.Timestamp("{BEGIN:%Y-%m-%d %H:%M}", tz="UTC")) & (dataframe["date"].dt.hour % 2 == 0)
        up = dataframe["close"] > dataframe["mean"]
        dataframe.loc[due & up, "enter_long"] = 1
        dataframe.loc[due & ~up, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        due = dataframe["date"].dt.hour % 2 == 1
        up = dataframe["close"] > dataframe["mean"]
        dataframe.loc[due & ~up, "exit_long"] = 1
        dataframe.loc[due & up, "exit_short"] = 1
        return dataframe


class Guarding(Guarded, Reversing):
    """Its stops are too far to be hit within a candle, where a bot and a backtest see different prices.

    It enters and exits in turns: a backtest does not know of an exit in the same candle whether it came before the entry.
    """

    plimsoll = {{
        "stop": {{"atr_multiple": 10.0}},
        "leverage": {{"cap": 2.0}},
        "kelly": {{"cold_start_risk": 0.015, "floor_risk": 0.015}},
        "risk": {{"per_trade": 0.02}},
        "exposure": {{"heat": 0.5, "total_margin": 1.0}},
        "correlation": {{"budget": 0.2}},
        "loss_limit": {{"daily": 0.005, "weekly": 0.2}},
        "streak": {{"losses": 2, "cooldown_losses": 4, "cooldown_minutes": 170.0}},
        "drawdown": {{"limit": 0.19, "ladder": ((0.005, 0.9, None), (0.01, 0.6, 1.0))}},
        "decay": {{"method": "sharpe", "min_trades": 1000}},
    }}
'''


class SteppingPrices(FileHistory):
    """Tell the price at which the next candle opens from a minute before it does."""

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        return super().last_price(pair, now_ms=now_ms + 60_000)


class Clock:
    """The bot's and the exchange's time."""

    def __init__(self, file: Path, at: datetime) -> None:
        file.write_bytes(bytes(8))
        with file.open("r+b") as opened:
            self._told = mmap.mmap(opened.fileno(), 8)
        self.set(at)

    def set(self, at: datetime) -> None:
        self._nanoseconds = int(at.timestamp()) * 1_000_000_000
        self._told[:8] = struct.pack("q", self._nanoseconds)

    def milliseconds(self) -> int:
        return self._nanoseconds // 1_000_000


@dataclass
class Run:
    """What one run decided, by the hour."""

    trades: list[tuple[str, bool, pd.Timestamp, pd.Timestamp | None]]
    notional: list[float]
    plans: dict[tuple[pd.Timestamp, str, str], dict[str, Any]]
    breakers: dict[str, list[tuple[pd.Timestamp, bool, float]]]


def hour_of(second: float) -> pd.Timestamp:
    """Return the candle that a moment belongs to; what a bot learns just before a candle counts for it, as in a backtest."""
    return pd.Timestamp(second + 10, unit="s", tz="UTC").floor("h")


def decided(records: list[dict[str, Any]], trades: list[dict[str, Any]]) -> Run:
    assert not [record for record in records if record["kind"] == "fault"]
    plans = {
        (hour_of(record["time"]), record["pair"], record["side"]): record
        for record in records
        if record["kind"] == "plan"
    }
    breakers: dict[str, list[tuple[pd.Timestamp, bool, float]]] = {}
    for record in records:
        if record["kind"] != "breaker" or "unknown" in record["reason"] or "waiting" in record["reason"]:
            continue  # a bot confirms its readings
        name, said = record["breaker"], (record["blocked"], record["factor"])
        changes = breakers.setdefault(name, [])
        before = changes[-1][1:] if changes else (False, 1.0)
        if said == before:
            continue
        # What the trades of a candle bring (a close, the costs of an entry) a bot sees two seconds into it, a backtest when the
        # next one opens.
        brought = name == "streak" or said[1] < before[1]
        time = (
            pd.Timestamp(record["time"], unit="s", tz="UTC").ceil("h") if brought else hour_of(record["time"])
        )
        if time <= END:  # where the backtest's last candle opens
            changes.append((time, *said))
    trades = sorted(trades, key=lambda trade: (hour_of(trade["opened"]), trade["pair"]))
    return Run(
        [
            (
                t["pair"],
                t["short"],
                hour_of(t["opened"]),
                None if t["closed"] is None else hour_of(t["closed"]),
            )
            for t in trades
        ],
        [t["notional"] for t in trades],
        plans,
        {name: changes for name, changes in breakers.items() if changes},
    )


@pytest.fixture(scope="module")
def user_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("identity")
    market = simulate_market(4, 35, START, DEFAULT_PAIRS[: len(PAIRS)], flash_crash=False)
    market = {pair: replace(data, funding=data.funding.assign(open=0.0)) for pair, data in market.items()}
    write_market(market, directory / "data" / "binance")
    (directory / "strategies").mkdir()
    (directory / "strategies" / "generated.py").write_text(STRATEGY)
    return directory


@pytest.fixture(scope="module")
def backtested(user_data: Path) -> Run:
    timerange = f"{int(BEGIN.timestamp())}-{int(END.timestamp())}"
    with LoopbackExchange(PAIRS) as exchange:
        run_freqtrade(
            ["backtesting", "--cache", "none", "-s", "Guarding", "--timerange", timerange],
            user_data=user_data,
            configs=[CONFIG],
            exchange_url=exchange.url,
            pairs=PAIRS,
            timeout=120,
        ).check()
    trades = [
        {
            "pair": trade["pair"],
            "short": trade["is_short"],
            "opened": trade["open_timestamp"] / 1000,
            "closed": None if trade["exit_reason"] == "force_exit" else trade["close_timestamp"] / 1000,
            "notional": trade["amount"] * trade["open_rate"],
        }
        for trade in load_backtest(user_data, "Guarding")["stats"]["trades"]
    ]
    return decided(read(user_data / "plimsoll" / "Guarding-backtest.jsonl"), trades)


@pytest.fixture(scope="module")
def traded(user_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    import sqlite3

    directory = tmp_path_factory.mktemp("bot")
    library = directory / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "stepped_clock.c"], check=True)
    clock = Clock(directory / "clock", BEGIN + timedelta(minutes=59, seconds=50))
    loops, database = directory / "loops", directory / "trades.sqlite"
    loops.touch()
    prices = SteppingPrices(user_data / "data" / "binance")
    with ExitStack() as stack:
        exchange = stack.enter_context(LoopbackExchange(PAIRS, source=prices, now=clock.milliseconds))
        own = {"db_url": f"sqlite:///{database}"}
        command = [
            sys.executable,
            "-m",
            "freqtrade",
            "trade",
            "-s",
            "Guarding",
            "--user-data-dir",
            str(user_data),
        ]
        for number, layer in enumerate((CONFIG, own, exchange_config(exchange.url, PAIRS))):
            path = directory / f"config-{number}.json"
            path.write_text(json.dumps(layer))
            command += ["-c", str(path)]
        log = stack.enter_context((directory / "bot.log").open("wb"))
        told = {
            "LD_PRELOAD": str(library),
            "STEPPED_CLOCK": str(directory / "clock"),
            "LOOPS": str(loops),
            "TZ": "UTC",
        }
        bot = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **told})
        stack.callback(bot.wait)
        stack.callback(bot.kill)

        def loop(times: int, seconds: float = 60.0) -> None:
            goal, deadline = loops.stat().st_size + times, time.monotonic() + seconds
            while loops.stat().st_size < goal:
                lines = (directory / "bot.log").read_text(errors="replace").splitlines()[-25:]
                assert bot.poll() is None and time.monotonic() < deadline, "\n".join(lines)  # noqa: PT018
                time.sleep(0.02)

        loop(4, 90.0)
        for hour in range(1, HOURS + 1):
            begins = BEGIN + timedelta(hours=hour)
            for seconds, times in ((-6, 2), (-3, 2), (2, 3)):
                clock.set(begins + timedelta(seconds=seconds))
                loop(times)
        bot.send_signal(signal.SIGINT)
        bot.wait(timeout=30)
    with sqlite3.connect(database) as connection:
        rows = pd.read_sql_query("SELECT * FROM trades", connection).to_dict("records")
    trades = [
        {
            "pair": row["pair"],
            "short": bool(row["is_short"]),
            "opened": pd.Timestamp(row["open_date"], tz="UTC").timestamp(),
            "closed": None if row["is_open"] else pd.Timestamp(row["close_date"], tz="UTC").timestamp(),
            "notional": row["amount"] * row["open_rate"],
        }
        for row in rows
    ]
    return decided(read(user_data / "plimsoll" / "Guarding-dry_run.jsonl"), trades)


def test_trades_when_fed_the_same_candles_then_are_the_same(backtested, traded):
    assert len(backtested.trades) >= 10
    assert traded.trades == backtested.trades
    assert traded.notional == pytest.approx(backtested.notional, rel=2e-3)


def test_plans_when_fed_the_same_candles_then_are_the_same(backtested, traded):
    def words(run: Run) -> dict[Any, Any]:
        return {
            key: (
                plan["granted"],
                plan["leverage"],
                (plan["refusal"] or "").split(":")[0],
                plan["bound_size"],
            )
            for key, plan in run.plans.items()
        }

    live, offline = words(traded), words(backtested)
    assert set(live) <= set(offline)
    assert live == {key: offline[key] for key in live}
    # A tripped breaker has locked the pairs, and of a locked pair Freqtrade does not ask a bot's strategy.
    unasked = [plan for key, plan in offline.items() if key not in live]
    assert {refusal for granted, _, refusal, _ in unasked} <= set(backtested.breakers)
    assert not any(granted for granted, *_ in unasked)
    assert len(live) >= 10


def test_breakers_when_fed_the_same_candles_then_trip_in_the_same_hour(backtested, traded):
    assert traded.breakers == backtested.breakers
    tripped = {name for name, changes in backtested.breakers.items() for _, blocked, _ in changes if blocked}
    assert tripped == {"streak", "daily_loss"}
    assert any(factor == 0.6 for _, _, factor in backtested.breakers["drawdown"])
