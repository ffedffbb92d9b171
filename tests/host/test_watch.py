"""A trading bot's breakers over time: confirmed equity, locks, messages, memory, restarts."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Any

import pytest
from freqtrade.enums import RunMode
from freqtrade.persistence import PairLocks, Trade
from host_database import STARTED, Bot, active_locks, close_trade, database, remove_lock
from sqlalchemy import text

from plimsoll.host.flows import Flows
from plimsoll.host.runlog import RunLog
from plimsoll.host.watch import Watch
from plimsoll.rules.liquidated import Signal
from plimsoll.settings import load

NOW = STARTED
MINUTE = timedelta(minutes=1)
SETTINGS: dict[str, Any] = {
    "journal": {"enabled": False},
    "drawdown": {"limit": 0.10},
    "loss_limit": {"daily": 0.98, "weekly": 0.99},
    "streak": {"cooldown_losses": 3, "cooldown_minutes": 600.0},
    "decay": {"method": "sharpe", "min_trades": 1000},
}


class Life:
    """One bot: loops a minute apart, and restarts that leave only the database."""

    def __init__(self, *, starting_balance: float | None = None, **changes: Any) -> None:
        self.settings = load(SETTINGS | changes)
        runmode = RunMode.DRY_RUN if starting_balance is None else RunMode.LIVE
        self.bot = Bot(runmode, starting_balance)
        self.minute = 0
        self.restart()

    @property
    def now(self):
        return NOW + self.minute * MINUTE

    def restart(self) -> None:
        self.run, self.watch = RunLog(self.settings, None), Watch(self.bot, self.settings)

    def loop(self, equity: float | None) -> None:
        """Do what the planner does each loop."""
        self.minute += 1
        self.run.collect(self.now)
        self.watch.step(self.run.breakers, self.now, equity, None)

    def loops(self, *equities: float | None) -> None:
        for equity in equities:
            self.loop(equity)

    def blocking(self) -> dict[str, str]:
        """Return what has tripped, and why."""
        return {
            name: machine.verdict.reason
            for name, machine in self.run.breakers.machines()
            if machine.verdict is not None and machine.verdict.blocked and not machine.verdict.unknown
        }

    def verdicts(self) -> dict[str, tuple[Any, ...]]:
        return {
            name: (v.blocked, v.unknown, v.factor, v.max_leverage, v.until, v.reason)
            for name, machine in self.run.breakers.machines()
            if (v := machine.verdict) is not None
        }

    def shut(self) -> list[str]:
        """Return what keeps a pair from being entered."""
        found = [] if self.watch.blocker is None else [self.watch.blocker]
        return found + [
            answer.reason for answer in self.run.breakers.answers("ETH/USDT:USDT") if answer.blocks
        ]


@pytest.fixture(autouse=True)
def _database():
    with database():
        yield


# -- Equity ---------------------------------------------------------------------------------------------------------------------


def test_watch_when_no_loop_was_run_then_entries_are_blocked():
    assert Life().shut() == ["equity was not read yet"]


def test_watch_when_equity_is_not_confirmed_yet_then_entries_are_blocked():
    life = Life()
    life.loop(10_000.0)
    assert life.shut()
    life.loops(10_000.0, 10_000.0)
    assert life.shut() == []


def test_drawdown_when_confirmed_then_trips_locks_and_says_so_once():
    life = Life()
    life.loops(*[10_000.0] * 5)
    life.bot.said.clear()
    life.loops(*[8_900.0] * 20)

    said = [message for message in life.bot.said if "limit 10 %" in message]
    assert said == [
        "Plimsoll: drawdown: drawdown 11.0 % from the peak of 10,000, limit 10 %, until an operator resets it"
    ]
    (lock,) = active_locks()
    assert lock.reason.startswith("Plimsoll drawdown: drawdown 11.0 % from the peak of 10,000, limit 10 %")
    assert PairLocks.is_pair_locked("ETH/USDT:USDT", life.now)
    assert life.shut()


BAD = [None, 0.0, -5.0, float("nan"), float("inf"), 1.0, 1_000.0, 8_000.0, 12_000.0, 1e9]


@pytest.mark.parametrize("bad", BAD)
def test_reading_when_one_is_bad_then_nothing_trips(bad):
    life = Life()
    life.loops(*[10_000.0] * 5)
    life.loop(bad)
    for _ in range(5):
        life.loop(10_000.0)
        assert life.blocking() == {}
        assert active_locks() == []
    assert life.shut() == []
    life.loops(*[9_100.0] * 5)  # 9 % under the true peak: the bad one is not the new one
    assert life.blocking() == {}


@pytest.mark.parametrize("bad", BAD)
def test_reading_when_one_is_bad_then_nothing_is_reset(bad):
    life = Life()
    life.loops(*[10_000.0] * 5, *[8_900.0] * 5)
    before = life.blocking()
    life.loop(bad)
    assert life.shut()
    for _ in range(5):
        life.loop(8_900.0)
        assert life.blocking() == before


@pytest.mark.parametrize("bad", BAD)
def test_reading_when_bad_during_a_trip_then_its_lock_and_message_stay_as_they_are(bad):
    life = Life()
    life.loops(*[10_000.0] * 5, *[8_900.0] * 5)
    lock = active_locks()[0].id
    life.bot.said.clear()
    life.loop(bad)
    assert [each.id for each in active_locks()] == [lock]
    life.loops(8_900.0, 8_900.0)

    assert [each.id for each in active_locks()] == [lock]
    assert not any("drawdown" in message for message in life.bot.said)


def test_equity_when_unknown_then_entries_are_blocked_and_it_is_said_once():
    life = Life()
    life.loops(*[10_000.0] * 5)
    life.bot.said.clear()
    life.loops(*[None] * 10)

    assert len(life.shut()) == 3
    assert sorted(life.bot.said) == [
        "Plimsoll: daily\\_loss: daily loss: equity is unknown",
        "Plimsoll: drawdown: drawdown: equity is unknown",
        "Plimsoll: weekly\\_loss: weekly loss: equity is unknown",
    ]
    assert active_locks() == []


# -- Closed trades --------------------------------------------------------------------------------------------------------------


def lose(life: Life, trades: int, profit: float = -0.01, **more: Any) -> None:
    for _ in range(trades):
        close_trade(life.now, profit, **more)
        life.loop(10_000.0)


def test_streak_when_trades_lose_then_cools_down_and_a_profitable_close_extends_nothing():
    life = Life()
    life.loops(*[10_000.0] * 3)
    lose(life, 3)
    (lock,) = active_locks()
    before = life.blocking()
    assert list(before) == ["streak"]

    lose(life, 3, profit=0.05)

    until = {name: machine.verdict.until for name, machine in life.run.breakers.machines()}["streak"]
    assert until == int(
        (NOW + (3 + 2) * MINUTE + 600 * MINUTE).timestamp()
    )  # from the third loss, not the wins
    assert [each.id for each in active_locks()] == [lock.id]
    assert lock.lock_end_time_utc.timestamp() - until <= 300


def test_streak_when_a_trade_is_seen_in_two_loops_then_counts_once():
    life = Life()
    life.loops(*[10_000.0] * 3)
    lose(life, 2)
    life.loops(*[10_000.0] * 5)

    assert life.blocking() == {}


@pytest.mark.parametrize(("profit", "leverage", "liquidated"), [(-0.96, 5.0, True), (-0.94, 5.0, False)])
def test_pair_when_a_trade_loses_its_margin_then_waits_for_a_new_signal(profit, leverage, liquidated):
    life = Life()
    life.loops(*[10_000.0] * 3)
    lose(life, 1, profit, leverage=leverage)

    assert ("liquidated BTC/USDT:USDT" in life.blocking()) == liquidated
    assert PairLocks.is_pair_locked("BTC/USDT:USDT", life.now) == liquidated
    assert not PairLocks.is_pair_locked("ETH/USDT:USDT", life.now)


# -- Resets ---------------------------------------------------------------------------------------------------------------------


def test_drawdown_when_its_lock_is_removed_then_starts_anew_from_here_and_remembers():
    life = Life()
    life.loops(*[10_000.0] * 5, *[8_900.0] * 5)
    remove_lock(active_locks()[0])
    life.bot.said.clear()
    life.loops(*[8_900.0] * 5)

    assert life.blocking() == {}
    assert life.shut() == []
    assert active_locks() == []
    assert life.bot.said[0] == "Plimsoll: drawdown: its lock was removed, it starts anew from here"
    assert sum("was removed" in message for message in life.bot.said) == 1

    life.restart()
    life.loops(*[8_900.0] * 5)
    assert life.shut() == []
    life.loops(*[8_100.0] * 5)  # 9 % from the new peak
    assert life.blocking() == {}
    life.loops(*[8_000.0] * 5)
    assert life.blocking()["drawdown"].startswith("drawdown 10.1 % from the peak of 8,900")


def test_drawdown_when_its_lock_is_removed_while_the_bot_is_down_then_starts_anew():
    life = Life()
    life.loops(*[10_000.0] * 5, *[8_900.0] * 5)
    remove_lock(active_locks()[0])
    life.restart()
    life.loops(*[8_900.0] * 5)

    assert life.shut() == []
    assert active_locks() == []


def test_streak_when_its_lock_is_removed_then_counts_anew():
    life = Life()
    life.loops(*[10_000.0] * 3)
    lose(life, 3)
    remove_lock(active_locks()[0])
    life.loops(10_000.0)
    assert life.blocking() == {}

    lose(life, 2)
    assert life.blocking() == {}
    lose(life, 1)
    assert list(life.blocking()) == ["streak"]


def test_streak_when_its_lock_was_removed_then_a_restart_remembers_it():
    life = Life()
    life.loops(*[10_000.0] * 3)
    lose(life, 3)
    remove_lock(active_locks()[0])
    life.loops(10_000.0)
    life.restart()
    life.loops(*[10_000.0] * 3)

    assert life.blocking() == {}
    assert active_locks() == []


# -- Memory ---------------------------------------------------------------------------------------------------------------------


def execute(statement: str, **values: Any) -> None:
    with Trade.session.get_bind().begin() as connection:
        connection.execute(text(statement), values)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE plimsoll_memory SET value = '{'",
        "UPDATE plimsoll_memory SET value = '{}'",
        "UPDATE plimsoll_memory SET value = replace(value, '\"peak\"', '\"paek\"')",
        "UPDATE plimsoll_memory SET value = replace(value, '10000.0', '\"many\"')",
        "UPDATE plimsoll_memory SET version = version + 1",
    ],
)
def test_memory_when_it_cannot_be_read_then_blocks_entries_says_so_once_and_is_kept(statement):
    life = Life()
    life.loops(*[10_000.0] * 5, *[8_900.0] * 5)
    with Trade.session.get_bind().connect() as connection:
        kept = connection.execute(text("SELECT value, version FROM plimsoll_memory")).one()
    execute(statement)
    life.restart()
    life.bot.said.clear()
    life.loops(*[8_900.0] * 5)

    assert life.watch.blocker is not None
    assert life.shut()
    assert sum("could not be evaluated" in message for message in life.bot.said) == 1

    execute(
        "UPDATE plimsoll_memory SET value = :value, version = :version",
        value=kept.value,
        version=kept.version,
    )
    life.loops(*[8_900.0] * 3)
    assert life.watch.blocker is None
    assert list(life.blocking()) == ["drawdown"]


def test_memory_when_it_cannot_be_written_then_blocks_entries_until_it_can():
    life = Life()
    life.loops(*[10_000.0] * 5)
    execute("CREATE TRIGGER full BEFORE INSERT ON plimsoll_memory BEGIN SELECT raise(FAIL, 'disk full'); END")
    life.loops(10_001.0, 10_002.0)
    assert "disk full" in life.watch.blocker

    execute("DROP TRIGGER full")
    life.loop(10_003.0)
    assert life.watch.blocker is None
    assert life.shut() == []


# -- Restarts -------------------------------------------------------------------------------------------------------------------

STORY: list[tuple[str, Any]] = [
    *[("equity", e) for e in (10_000.0, 10_000.0, 10_000.0, 10_400.0, 10_400.0)],
    ("trade", -0.02),
    *[("equity", e) for e in (10_100.0, None, 10_100.0, 9_900.0)],
    ("trade", -0.03),
    ("equity", 9_700.0),
    ("trade", -0.01),
    *[("equity", e) for e in (9_600.0, 9_300.0, 9_300.0, 9_300.0, 9_250.0)],
    ("trade", 0.02),
    *[("equity", e) for e in (9_400.0, 9_400.0, 100.0, 9_400.0, 9_800.0)],
    ("trade", -0.02),
    *[("equity", e) for e in (9_700.0, 9_700.0, 10_500.0, 10_500.0, 10_500.0, 9_300.0, 9_300.0, 9_300.0)],
]


def tell(split: int | None) -> list[tuple[dict[str, Any], list[tuple[str, Any]]]]:
    """Live through the story, with a restart before one of its events; return verdicts and locks of each loop."""
    seen = []
    with database():
        life = Life(
            drawdown={
                "limit": 0.10,
                "reset": "cooldown",
                "cooldown_minutes": 5.0,
                "ladder": ((0.05, 0.5, 2.0),),
            },
            loss_limit={"daily": 0.06, "weekly": 0.12, "rolling": True},
            streak={"cooldown_losses": 3, "cooldown_minutes": 4.0},
        )
        for number, (kind, value) in enumerate(STORY):
            if number == split:
                life.restart()
            if kind == "trade":
                close_trade(life.now, value)
            else:
                life.loop(value)
                seen.append(
                    (life.verdicts(), sorted((lock.reason, lock.lock_end_time) for lock in active_locks()))
                )
    return seen


def test_restart_when_at_any_instant_then_verdicts_and_locks_are_the_same():
    uninterrupted = tell(None)
    tripped = {
        name
        for verdicts, _ in uninterrupted
        for name, verdict in verdicts.items()
        if verdict[0] and not verdict[1]
    }
    assert tripped == {"drawdown", "streak", "daily_loss"}
    assert any(locks for _, locks in uninterrupted)

    for split in range(len(STORY)):
        for loop, (found, expected) in enumerate(zip(tell(split), uninterrupted, strict=True)):
            assert found == expected, (split, loop)


def test_restart_when_a_liquidated_pair_has_had_its_new_signal_then_it_stays_free():
    life = Life()
    life.loops(*[10_000.0] * 3)
    lose(life, 1, -0.99, leverage=5.0)
    second = int(life.now.timestamp())
    breakers = life.run.breakers
    breakers.signal("BTC/USDT:USDT", Signal(second, second + 1, None))
    breakers.signal("BTC/USDT:USDT", Signal(second, second + 301, "long"))
    life.loop(10_000.0)
    assert life.blocking() == {}

    life.restart()
    life.loop(10_000.0)
    assert life.blocking() == {}


# -- Deposits and withdrawals ---------------------------------------------------------------------------------------------------


def test_flows_when_the_starting_balance_moves_twice_alike_then_counts_once():
    flows = Flows()

    assert [flows.read(balance) for balance in (1_000.0, 1_500.0, 1_500.0, 1_500.0, 1_500.0)] == [
        0,
        0,
        500,
        500,
        500,
    ]
    assert [flows.read(balance) for balance in (900.0, 900.0, 900.0)] == [500, -100, -100]


@pytest.mark.parametrize("bad", [None, 0.0, -1.0, float("nan"), 1.0, 5_000.0])
def test_flows_when_one_reading_is_bad_then_is_not_believed(bad):
    flows = Flows()

    assert [flows.read(balance) for balance in (1_000.0, 1_000.0, bad, 1_000.0, bad, 1_000.0, 1_000.0)] == [
        0.0
    ] * 7


def test_flows_when_it_creeps_with_fees_and_funding_then_is_profit_and_loss():
    flows = Flows()

    assert {flows.read(1_000.0 + step % 3) for step in range(50)} == {0.0}


def test_flows_when_small_deposits_add_up_then_they_count():
    flows = Flows()
    for deposited in itertools.accumulate([4.0] * 10):
        flows.read(1_000.0 + deposited)
        total = flows.read(1_000.0 + deposited)

    assert total == pytest.approx(40.0, abs=10.0)


@pytest.mark.parametrize(
    ("tradable_balance_ratio", "deposit"),
    [
        (1.0, 5_000.0),
        (1.0, -9_000.0),
        (0.99, 5_000.0),
        (0.99, -9_000.0),
    ],
)
def test_deposit_when_made_then_is_neither_profit_nor_loss(tradable_balance_ratio, deposit):
    life = Life(starting_balance=10_000.0, loss_limit={"daily": 0.05, "weekly": 0.06})
    life.bot.config["tradable_balance_ratio"] = tradable_balance_ratio
    life.loops(*[10_000.0] * 5)
    life.bot.starting_balance += deposit
    after = 10_000.0 + deposit
    for _ in range(5):
        life.loop(after)
        assert life.blocking() == {}
    assert life.shut() == []
    what = f"{'deposit' if deposit > 0 else 'withdrawal'} of {abs(deposit):,.2f} USDT"
    assert [what in said for said in life.bot.said if "no trade explains" in said] == [True]

    life.loops(*[0.97 * after] * 5)
    assert life.shut() == []
    life.loops(*[0.94 * after] * 5)
    assert life.blocking()["daily_loss"].startswith("daily loss 6.0 %")


# -- The memory's forms -----------------------------------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    with Trade.session.get_bind().connect() as connection:
        return json.loads(connection.execute(text("SELECT value FROM plimsoll_memory")).scalar_one())


def test_memory_when_of_version_1_then_a_trip_and_its_lock_go_on_and_the_dead_mans_clock_begins():
    life = Life()
    life.loops(*[10_000.0] * 5, *[8_900.0] * 5)
    (lock,) = active_locks()
    new = document()
    del new["breakers"]["operator"]
    old = {key: new[key] for key in ("breakers", "locks", "flows")}
    execute("UPDATE plimsoll_memory SET version = 1, value = :value", value=json.dumps(old))
    execute("DELETE FROM plimsoll_requests")
    life.restart()
    life.bot.said.clear()
    life.loops(8_900.0)

    assert life.watch.blocker is None
    assert list(life.blocking()) == ["drawdown"]
    assert [each.id for each in active_locks()] == [lock.id]
    assert life.watch.misfit is None
    switch = life.run.breakers.by_operator["deadman"].state
    assert switch.checked_in == int(life.now.timestamp())
    assert document().keys() >= {"operator", "margin", "bot", "digest"}

    remove_lock(lock)
    life.loops(*[8_900.0] * 4)
    assert life.blocking() == {}


@pytest.mark.parametrize(
    ("block", "value"),
    [
        ("operator", {}),
        ("operator", {"seen": 1}),
        ("operator", [1]),
        ("operator", {"seen": 1, "removed": "yesterday"}),
        ("operator", {"seen": "many", "removed": 1}),
        ("margin", [1]),
        ("margin", {"states": {"1": {"time": 1}}}),
        ("margin", {"exits": {"1": {"share": 1.0, "tag": "x"}}}),
        ("margin", {"exits": {"1": {"share": "all", "tag": "x", "amount": 1.0}}}),
        ("margin", {"exits": [1]}),
        ("digest", {}),
        ("digest", {"day": 3, "opened": None}),
        ("digest", {"day": "someday", "opened": None}),
        ("digest", {"day": "2026-01-01", "opened": "much"}),
        ("bot", {}),
        ("bot", [1]),
        ("bot", {"stake_currency": "USDT", "runmode": "dry_run", "newest_trade": "x"}),
        ("flows", {"total": "x", "baseline": None}),
        ("flows", {"total": 0.0, "baseline": "x"}),
        ("locks", [1]),
        ("locks", {"drawdown": [1]}),
    ],
)
def test_memory_when_one_block_is_corrupt_then_entries_are_blocked_and_it_is_kept(block, value):
    life = Life()
    life.loops(*[10_000.0] * 5)
    good = document()
    stored = json.dumps(good | {block: value})
    execute("UPDATE plimsoll_memory SET value = :value", value=stored)
    life.restart()
    life.loops(*[10_000.0] * 4)

    assert life.watch.blocker is not None
    assert document() == good | {block: value}
    execute("UPDATE plimsoll_memory SET value = :value", value=json.dumps(good))
    life.loops(*[10_000.0] * 4)
    assert life.watch.blocker is None


def test_status_when_it_cannot_be_told_then_what_is_known_is_stored_all_the_same():
    life = Life()
    life.loops(*[10_000.0] * 5)
    before = document()

    def fails():
        raise RuntimeError("no status")

    life.minute += 1
    life.watch.step(life.run.breakers, life.now, 10_000.0, None, fails)
    assert life.watch.blocker is None
    assert document() != before


# -- Clock ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("seconds", "blocks"), [(60, False), (61, True)])
def test_clock_when_set_back_by_more_than_a_correction_then_entries_wait_until_it_was_reached_again(
    seconds, blocks, restarted, caplog
):
    life = Life()
    life.loops(*[10_000.0] * 10)
    life.minute -= 1 + seconds / 60
    if restarted:
        life.restart()
    life.bot.said.clear()
    life.loop(10_000.0)
    assert bool(life.watch.blocker) == blocks
    life.minute -= 0.5
    life.loop(10_000.0)
    told = [said for said in life.bot.said if "the clock went back" in said]
    assert len(told) == blocks
    assert not any(record.exc_info for record in caplog.records)

    life.minute = 10
    life.loops(*[10_000.0] * 5)
    assert life.shut() == []


@pytest.mark.parametrize("hours", [1, 24])
def test_streak_when_trades_lose_while_the_clock_is_set_back_then_they_count(hours):
    life = Life()
    life.loops(*[10_000.0] * 10)
    life.minute -= 60 * hours
    lose(life, 3)
    assert "the clock went back" in life.watch.blocker
    life.minute += 60 * hours
    life.loops(*[10_000.0] * 3)
    assert list(life.blocking()) == ["streak"]
    assert life.watch.blocker is None
