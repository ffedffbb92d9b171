"""The same candles through a backtest and through a dry-run bot: the same decisions.

The bot is stock ``freqtrade trade``; its wall clock is a `WallClock` (preloaded), which the test moves from a
few seconds before each hour to two seconds after it. Prices only move at the hour, so that both see the same ones.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from stepped_bot import CONFIG, COUNTING, SteppedBot, SteppingPrices

from plimsoll.journal import read
from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import WallClock, unavailable
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import load_backtest, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}"),
]

START = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN = START + timedelta(days=32)
HOURS = 48
END = BEGIN + timedelta(hours=HOURS)
PAIRS = tuple(model.pair for model in DEFAULT_PAIRS[:2])
STRATEGY = f'''
class Guarding(Guarded, Reversing):
    """Its stops are too far to be hit within a candle, where a bot and a backtest see different prices.

    It enters and exits in turns: a backtest does not know of an exit in the same candle whether it came before the entry.
    """

    enters_from = "{BEGIN:%Y-%m-%d %H:%M}"
    plimsoll = {{
        "stop": {{"atr_multiple": 10.0}},
        "leverage": {{"cap": 2.0}},
        "kelly": {{"cold_start_risk": 0.015, "floor_risk": 0.015}},
        "risk": {{"per_trade": 0.02}},
        "exposure": {{"heat": 0.5, "total_margin": 1.0}},
        "correlation": {{"budget": 0.2}},
        "loss_limit": {{"daily": 0.004, "weekly": 0.2}},
        "streak": {{"losses": 2, "cooldown_losses": 4, "cooldown_minutes": 170.0}},
        "drawdown": {{"limit": 0.19, "ladder": ((0.005, 0.9, None), (0.01, 0.6, 1.0))}},
        "decay": {{"method": "sharpe", "min_trades": 1000}},
        "deadman": {{"hours": 1000.0}},
    }}
'''


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
    (directory / "strategies" / "generated.py").write_text(COUNTING + STRATEGY)
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
            env={"STEPPED_BOT": str(user_data)},
            timeout=900,
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
    directory = tmp_path_factory.mktemp("bot")
    prices = SteppingPrices(user_data / "data" / "binance")
    with ExitStack() as stack:
        clock = stack.enter_context(WallClock(directory / "clock", BEGIN + timedelta(minutes=59, seconds=50)))
        exchange = stack.enter_context(LoopbackExchange(PAIRS, source=prices, now=clock.milliseconds))
        bot = SteppedBot(exchange, directory, "Guarding", STRATEGY, clock)
        stack.enter_context(bot)
        bot.loop(4)
        for hour in range(1, HOURS + 1):
            begins = BEGIN + timedelta(hours=hour)
            for seconds, times in ((-6, 1), (-3, 1), (2, 2)):
                bot.step(begins + timedelta(seconds=seconds), times)
        bot.kill()  # an orderly end takes seconds
    trades = [
        {
            "pair": row["pair"],
            "short": bool(row["is_short"]),
            "opened": row["open_date"].timestamp(),
            "closed": None if row["is_open"] else row["close_date"].timestamp(),
            "notional": row["amount"] * row["open_rate"],
        }
        for row in bot.trades()
    ]
    return decided(read(directory / "plimsoll" / "Guarding-dry_run.jsonl"), trades)


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
