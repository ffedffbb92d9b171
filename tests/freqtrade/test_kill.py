"""Kill -9 at random moments decides nothing: the same trades, plans, breakers, peaks and locks as without.

Only the test moves the clock, so a bot that is killed and started again finds the same prices and candles as one that was not. Some
kills come from outside after a random delay, some while the bot starts, and most right before a random write to its database: between
Freqtrade's statements, its commit and ours.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import MetaData, create_engine
from sqlalchemy.pool import NullPool
from stepped_bot import Died, SteppedBot, SteppingPrices

from plimsoll.host.runlog import TRADE_DATA
from plimsoll.journal import read
from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import WallClock, unavailable
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}"),
]

START = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN = START + timedelta(days=32, hours=17)
HOURS = 20
SECONDS = (-6, 2)  # prices have moved, candles have closed
STEPS = [BEGIN + timedelta(hours=hour, seconds=second) for hour in range(1, HOURS + 1) for second in SECONDS]
PAIRS = tuple(model.pair for model in DEFAULT_PAIRS[:3])
YOUNG = PAIRS[-1]  # listed lately: its entries are refused
EXACT = 1e-4
TOLERANCES = {"notional": 2e-3, "risk": 2e-3}
STRATEGY = '''
class Killed(Guarded, Reversing):
    """It enters and exits in turns: what is closed at one moment is counted before the next entry, however often it is killed."""

    plimsoll = {
        "stop": {"atr_multiple": 1.0},
        "leverage": {"cap": 2.0},
        "kelly": {"cold_start_risk": 0.015, "floor_risk": 0.015},
        "risk": {"per_trade": 0.02},
        "exposure": {"heat": 0.5, "total_margin": 1.0},
        "correlation": {"budget": 0.2},
        "loss_limit": {"daily": 0.005, "weekly": 0.2},
        "streak": {"losses": 2, "cooldown_losses": 2, "cooldown_minutes": 130.0},
        "drawdown": {"limit": 0.0107, "ladder": ((0.004, 0.9, None), (0.008, 0.6, 1.0))},
        "decay": {"method": "sharpe", "min_trades": 1000},
        "deadman": {"hours": 18.5},
    }
'''


@dataclass(frozen=True)
class Kill:
    """From one step on: right before the n-th write, or after some seconds; a start that was just made is killed in its midst then."""

    step: int
    how: Literal["write", "time"]
    amount: float


@dataclass
class Decided:
    """What a run decided, and what it knew at the end of each hour."""

    trades: list[dict[str, Any]] = field(default_factory=list)
    hours: list[dict[str, Any]] = field(default_factory=list)
    plans: dict[tuple[int, str, str], set[tuple[Any, ...]]] = field(default_factory=dict)
    breakers: dict[str, dict[int, tuple[bool, float]]] = field(default_factory=dict)
    outcomes: Counter[int] = field(default_factory=Counter)
    killed: list[int] = field(default_factory=list)  # the steps in which it was
    pending: bool = False  # a kill that has not come about yet


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("candles")
    old = simulate_market(8, 36, START, DEFAULT_PAIRS[:2], flash_crash=False)
    young = simulate_market(8, 12, START + timedelta(days=24), DEFAULT_PAIRS[2:3], flash_crash=False)
    market = {**old, **young}
    market = {pair: replace(data, funding=data.funding.assign(open=0.0)) for pair, data in market.items()}
    write_market(market, directory)
    return directory


@contextmanager
def standing_bot(candles: Path, directory: Path, db_url: str | None) -> Iterator[SteppedBot]:
    directory.mkdir(parents=True, exist_ok=True)
    with (
        WallClock(directory / "clock", BEGIN + timedelta(minutes=59, seconds=50)) as clock,
        LoopbackExchange(PAIRS, source=SteppingPrices(candles), now=clock.milliseconds) as exchange,
        SteppedBot(exchange, directory / "bot", "Killed", STRATEGY, clock, db_url=db_url) as bot,
    ):
        yield bot


class ExitedHalf(Exception):
    """Say that a kill fell where Freqtrade itself would exit a second time: there is nothing to compare then."""


def killed(
    candles: Path, directory: Path, seed: int, number: int, uninterrupted: Decided, db_url: str | None = None
) -> Decided:
    """Let a bot trade through so many kills, through others where one of them fell where Freqtrade cannot go on."""
    for attempt in range(5):
        kills = chosen(seed + 1_000 * attempt, number, busy_steps(uninterrupted))
        try:
            return traded(candles, directory / str(attempt), kills, db_url)
        except ExitedHalf:
            if db_url is not None:
                empty(db_url)
    pytest.fail("five times a kill fell where Freqtrade itself exits a second time")


def empty(db_url: str) -> None:
    engine, tables = create_engine(db_url, poolclass=NullPool), MetaData()
    tables.reflect(engine)
    tables.drop_all(engine)


def traded(candles: Path, directory: Path, kills: list[Kill], db_url: str | None = None) -> Decided:
    """Let a bot trade, killed as told and started again at the very moment it was killed."""
    found, queue = Decided(), list(kills)
    with standing_bot(candles, directory, db_url) as bot:
        bot.loop(3)
        for number, moment in enumerate(STEPS):
            while True:
                kill = queue.pop(0) if queue and queue[0].step <= number and not found.pending else None
                if kill is not None and kill.how == "write":
                    bot.die_at_write(int(kill.amount))
                    found.pending = True
                if bot.clock.now() != moment:
                    bot.clock.step(moment)
                if kill is not None and kill.how != "write":
                    time.sleep(kill.amount)
                    bot.kill()
                    found.pending = True
                try:
                    bot.loop(3)
                    break
                except Died:
                    assert found.pending, bot.last_words()
                found.killed.append(number)
                found.pending = False
                if bot.exited_half():
                    raise ExitedHalf
                bot.start()
            if moment.minute == 0:
                found.hours.append(known(bot))
        found.trades = [
            {
                "pair": trade["pair"],
                "short": bool(trade["is_short"]),
                "opened": trade["open_date"],
                "closed": trade["close_date"],
                "why": trade["exit_reason"],
                "leverage": trade["leverage"],
                "notional": trade["amount"] * trade["open_rate"],
                "orders": [
                    order["ft_order_side"] for order in bot.orders() if order["ft_trade_id"] == trade["id"]
                ],
            }
            for trade in bot.trades()
        ]
        # One killed between a fill and its stop finds what it left, says so, and mends it in the same loop.
        assert [line for line in bot.complaints() if "lies beyond its liquidation price" not in line] == []
        bot.stop()
    records = read(bot.directory / "plimsoll" / "Killed-dry_run.jsonl")
    assert not [record for record in records if record["kind"] == "fault"]
    for record in records:
        if record["kind"] == "plan":
            said = (
                record["granted"],
                (record["refusal"] or "").split(":")[0],
                record["leverage"],
                record["bound_size"],
            )
            found.plans.setdefault((record["time"], record["pair"], record["side"]), set()).add(said)
        elif record["kind"] == "breaker":  # within a moment the last word counts
            said = (record["blocked"], record["factor"])
            found.breakers.setdefault(record["breaker"], {})[record["time"]] = said
        elif record["kind"] == "outcome":
            found.outcomes[record["trade_id"]] += 1
    return found


def known(bot: SteppedBot) -> dict[str, Any]:
    """Return what a bot knows at this moment, told by its status, its memory and Freqtrade's tables."""
    status, memory, now = bot.status(), bot.memory(), bot.clock.now()
    plans = {
        row["ft_trade_id"]
        for row in bot.query("select ft_trade_id from trade_custom_data where cd_key = :key", key=TRADE_DATA)
    }
    standing = [lock for lock in bot.locks() if lock["active"] and lock["lock_end_time"] > now]
    ours = [lock for lock in standing if lock["reason"].startswith("Plimsoll ")]
    return {
        "now": now,
        "entries": status["entries"],
        "blocked by": sorted(reason.split(":")[0] for reason in status["blocked_by"]),
        "breakers": {b["name"]: (b["state"], b["factor"], b["until"]) for b in status["breakers"]},
        "locks": sorted((lock["pair"], lock["reason"].split(":")[0], lock["lock_end_time"]) for lock in ours),
        "check-ins": [lock["reason"] for lock in standing if lock["pair"] == "PLIMSOLL/CHECKIN"],
        "equity": status["equity"],
        "peak": memory["breakers"]["equity"]["drawdown"]["peak"],
        "openings": {
            name: state["opening"]
            for name, state in memory["breakers"]["equity"].items()
            if name != "drawdown"
        },
        "deadman": memory["breakers"]["operator"]["deadman"]["checked_in"],
        "positions": [
            {
                "pair": trade["pair"],
                "short": bool(trade["is_short"]),
                "stop": trade["stop_loss"],
                "filled": trade["amount"] > 0.0,
                "plan is stored": trade["id"] in plans,
            }
            for trade in bot.trades()
            if trade["is_open"]
        ],
        "risk": [position["risk"] for position in status["positions"]],
    }


@pytest.fixture(scope="module")
def uninterrupted(candles: Path, tmp_path_factory: pytest.TempPathFactory) -> Decided:
    return traded(candles, tmp_path_factory.mktemp("uninterrupted"), [])


def chosen(seed: int, number: int, busy: list[int]) -> list[Kill]:
    """Choose kills: two thirds where something was decided, two thirds right before a write."""
    chance = random.Random(seed)
    kills = []
    for _ in range(number):
        step = chance.choice(busy if chance.random() < 0.67 else range(len(STEPS)))
        if chance.random() < 0.67:
            kills.append(Kill(step, "write", chance.randint(1, 25)))
        else:
            kills.append(Kill(step, "time", chance.uniform(0.0, 0.4)))
            if chance.random() < 0.3:
                kills.append(Kill(step, "time", chance.uniform(0.2, 4.0)))
    return sorted(kills, key=lambda kill: kill.step)[:number]


def busy_steps(run: Decided) -> list[int]:
    """Return the steps in which trades opened or closed, or a breaker spoke."""
    moments = {trade[when] for trade in run.trades for when in ("opened", "closed") if trade[when]}
    moments |= {datetime.fromtimestamp(at, UTC) for said in run.breakers.values() for at in said}
    return [
        number for number, moment in enumerate(STEPS) if moment in {m.replace(microsecond=0) for m in moments}
    ]


def alike(value: Any, rel: float = EXACT) -> Any:
    """Return something that equals a value whose floats are a little different."""
    if isinstance(value, dict):
        return {key: alike(item, TOLERANCES.get(key, rel)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(alike(item, rel) for item in value)
    return pytest.approx(value, rel=rel) if isinstance(value, float) else value


def same_decisions(run: Decided, without: Decided) -> None:
    for hour, expected in zip(run.hours, without.hours, strict=True):
        assert hour == alike(expected)
        assert all(position["plan is stored"] and position["filled"] for position in hour["positions"])
        assert len({reason for _, reason, _ in hour["locks"]}) == len(hour["locks"]), "a lock is doubled"
        assert len(hour["check-ins"]) <= 1
    assert run.trades == alike(without.trades)
    # What the journal has of the loop in which it is killed is lost; a plan may be made twice then, and one that starts says again
    # which breakers stand tripped. The hours above have them all.
    hit = {int(STEPS[number].timestamp()) for number in run.killed}
    for name, expected in without.breakers.items():
        said = run.breakers.get(name, {})
        assert {at: word for at, word in said.items() if at not in hit} == {
            at: word for at, word in expected.items() if at not in hit
        }
    assert run.breakers.keys() <= without.breakers.keys()
    assert run.plans.keys() <= without.plans.keys()
    # Of the young pair Freqtrade takes the first candle after a start for known: its history comes in two overlapping answers.
    for key, said in without.plans.items():
        if key[0] not in hit and key[1] != YOUNG:
            assert run.plans.get(key) == said
    # The first loop after a start may not value its positions yet, and refuses what the next one grants.
    for key, said in run.plans.items():
        assert {word for word in said if word[0] or key[0] not in hit} <= without.plans[key]
    assert run.outcomes == without.outcomes


def everything_happened(uninterrupted: Decided) -> None:
    tripped = {
        name for name, said in uninterrupted.breakers.items() for blocked, _ in said.values() if blocked
    }
    assert tripped == {"streak", "daily_loss", "drawdown", "deadman"}
    assert {factor for _, factor in uninterrupted.breakers["drawdown"].values()} >= {0.6, 0.0}
    assert {trade["short"] for trade in uninterrupted.trades} == {True, False}
    assert {trade["why"] for trade in uninterrupted.trades} >= {"exit_signal", "stop_loss"}
    assert {said[0] for plans in uninterrupted.plans.values() for said in plans} == {True, False}
    assert set(uninterrupted.outcomes.values()) == {1}
    last = uninterrupted.hours[-1]
    assert last["breakers"]["drawdown"][0] == last["breakers"]["deadman"][0] == "tripped"
    same_decisions(uninterrupted, uninterrupted)


def test_killed_bot_when_started_again_then_it_decides_the_same(
    candles: Path, uninterrupted: Decided, tmp_path: Path
) -> None:
    everything_happened(uninterrupted)
    run = killed(candles, tmp_path, 1, 4, uninterrupted)
    assert len(run.killed) == 4
    same_decisions(run, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_killed_bot_when_it_happens_fifty_times_then_it_decides_the_same(
    candles: Path, uninterrupted: Decided, tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    everything_happened(uninterrupted)
    url = request.getfixturevalue("postgres_url") if database == "postgres" else None
    # A few kills find no write left in their step.
    run = killed(candles, tmp_path, 50, 58, uninterrupted, url)
    assert len(run.killed) >= 50, run.pending
    same_decisions(run, uninterrupted)
