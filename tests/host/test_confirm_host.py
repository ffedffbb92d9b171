"""The last look before an entry: a pair has one position, also where two commands found it free; and what is journaled of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from host_database import database
from planned_bot import RATE, PlannedBot, open_position

from plimsoll.journal import read

PAIR, OTHER = "BTC/USDT:USDT", "ETH/USDT:USDT"


@pytest.fixture
def bot(tmp_path: Path) -> Any:
    with database():
        bot = PlannedBot(tmp_path, off=["correlation"])
        bot.loop(5)
        yield bot


def confirmed(bot: PlannedBot, side: Any) -> str | None:
    plan = bot.planner.entries.plan(pair=PAIR, side=side, now=bot.now, rate=RATE, exchange_maximum=20.0)
    assert plan.granted, plan.refusal
    return bot.planner.entries.confirm(
        pair=PAIR, side=side, amount=plan.notional / RATE, rate=RATE, now=bot.now
    )


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("held", ["long", "short"])
def test_confirm_when_the_pair_has_a_position_by_now_then_is_refused(
    bot: PlannedBot, side: str, held: str
) -> None:
    assert confirmed(bot, side) is None
    open_position(bot.now, PAIR, held)
    assert confirmed(bot, side) == f"a position in {PAIR} is open already"


@pytest.mark.parametrize("side", ["long", "short"])
def test_confirm_when_another_pair_has_a_position_then_is_granted(bot: PlannedBot, side: str) -> None:
    open_position(bot.now, OTHER, side)
    assert confirmed(bot, side) is None


def test_journal_when_what_was_granted_is_refused_each_loop_then_has_both_once_per_candle(
    tmp_path: Path,
) -> None:
    with database():
        bot = PlannedBot(tmp_path, off=["correlation"], journal={"enabled": True})
        bot.loop(5)
        asked: dict[str, Any] = {"pair": PAIR, "side": "long", "rate": RATE, "exchange_maximum": 20.0}
        for _ in range(20):
            plan = bot.planner.entries.plan(now=bot.now, **asked)
            bot.planner.entries.size(plan, proposed=1e9, own=None, minimum=1e6, maximum=1e9)
            bot.planner.loop(bot.now)
        bot.minute += 60
        bot.planner.entries.plan(now=bot.now, **asked)
        bot.planner.loop(bot.now)
    (journal,) = tmp_path.rglob("*.jsonl")
    assert [record["granted"] for record in read(journal) if record["kind"] == "plan"] == [True, False, True]
