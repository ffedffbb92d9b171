"""A guarded bot whose database is PostgreSQL: killed, started again, asked from outside, and left without its server."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres
from test_operator_bot import FIRST, SECOND, attended, unavailable

from plimsoll.host.runlog import TRADE_DATA

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}"),
]


def remembered(memory: dict[str, Any]) -> dict[str, Any]:
    equity = memory["breakers"]["equity"]
    return {
        "peak": equity["drawdown"]["peak"],
        "openings": [equity[name]["opening"] for name in ("daily_loss", "weekly_loss")],
        "checked in": memory["breakers"]["operator"]["deadman"]["checked_in"],
        "newest trade": memory["bot"]["newest_trade"],
    }


def test_bot_on_postgres_when_killed_or_left_without_its_server_then_goes_on_from_what_it_knew(
    postgres_server: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    with attended(tmp_path, db_url=postgres_url) as running:
        bot = running.bot
        running.enter_at_the_next_hour(FIRST)
        (trade,) = bot.trades()
        before, memory = bot.status(), bot.memory()
        assert before["positions"][0]["risk"] > 0.0

        bot.kill()
        bot.clock.step(bot.clock.now() + timedelta(seconds=61))
        code, shown = running.plimsoll("status")
        assert (code, "silent since" in shown) == (2, True), shown
        bot.start()
        bot.loop(3)
        after = bot.status()
        assert after["positions"] == before["positions"]
        assert after["deadman"] == before["deadman"]
        assert remembered(bot.memory()) == remembered(memory)
        assert len(bot.query("select id from trade_custom_data where cd_key = :key", key=TRADE_DATA)) == 1
        code, shown = running.plimsoll("status")
        assert code == 0, shown
        assert "BTC/USDT" in shown
        assert running.plimsoll("checkin", "--by", "ann")[0] == 0
        assert running.switch()["by"] == "ann"

        # A server that hangs makes the bot wait, and no more.
        postgres_server.freeze()
        loops = bot.loops()
        time.sleep(2.0)
        assert bot.loops() <= loops + 1  # what was on its way to its next query
        loops = bot.loops()
        time.sleep(1.0)
        assert bot.loops() == loops
        postgres_server.thaw()
        bot.loop(3)
        assert bot.complaints() == []

        # Without its server Freqtrade ends, and does not come up before the server does: nothing is entered and nothing exits.
        postgres_server.stop()
        assert bot.wait(lambda: not bot.alive(), 240), bot.last_words()
        assert bot.process is not None
        assert bot.process.returncode == 1
        bot.start()
        assert bot.wait(lambda: not bot.alive(), 300), bot.last_words()
        assert bot.process.returncode == 1

        postgres_server.start()
        bot.start()
        bot.loop(3)
        assert bot.status()["positions"] == before["positions"]
        assert running.switch()["by"] == "ann"
        assert running.entries() == "open"
        (bot.directory / "exit").touch()
        running.enter_at_the_next_hour(SECOND)
        (trade, *_) = bot.trades()
        assert (trade["is_open"], trade["exit_reason"]) == (False, "told")
        assert [each["pair"] for each in bot.trades()] == [FIRST, SECOND]
