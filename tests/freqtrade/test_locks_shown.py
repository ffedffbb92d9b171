"""A tripped breaker in a running bot: seen and removed through Freqtrade's own REST locks, and holding for forced entries."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from boundary_bot import PATIENCE
from test_boundary import CONTROL_PAIR, QUIET_PAIRS, Bot, bot, settle

pytestmark = pytest.mark.freqtrade


def ask(running: Bot, path: str, method: str = "GET") -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{running._api['listen_port']}/api/v1/{path}",
        method=method,
        headers={"Authorization": f"Basic {running._credentials()}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE * 40) as answer:
        return json.load(answer)


def ours(running: Bot) -> list[dict[str, Any]]:
    return [
        lock for lock in ask(running, "locks")["locks"] if lock["reason"].startswith("Plimsoll daily_loss")
    ]


def test_daily_loss_when_open_positions_lose_then_its_lock_is_shown_and_removing_it_is_a_reset(
    tmp_path: Path,
) -> None:
    limits = {"FREQTRADE__PLIMSOLL__LOSS_LIMIT__DAILY": "0.0001"}
    with bot(tmp_path, {}, global_fault="none", env=limits) as running:
        settle(running, {CONTROL_PAIR})
        assert ours(running) == []
        running.prices.factor = 0.998  # short of the stop: nothing closes
        assert running.wait(lambda: bool(ours(running)), 30), running.last_words()
        (lock,) = ours(running)
        assert lock["pair"] == "*"
        assert "daily loss 0." in lock["reason"]
        assert "limit 0.01 %, until 20" in lock["reason"]
        assert all(trade["is_open"] for trade in running.trades())

        status, _ = running.post("forceenter", {"pair": QUIET_PAIRS[0], "side": "long"})
        assert status >= 400
        assert {trade["pair"] for trade in running.trades()} == {CONTROL_PAIR}

        ask(running, f"locks/{lock['id']}", "DELETE")
        assert running.wait(lambda: "its lock was removed" in running.log(), 30), running.last_words()
        assert running.wait_loops(3)
        assert ours(running) == []
        assert running.alive()
