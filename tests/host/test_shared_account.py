"""Live bots of one ledger that trade on one account: each has to state its capital, or each would count the whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plimsoll.credentials import account_mark
from plimsoll.host.fleet import Fleet
from plimsoll.portfolio import Ledger, Limits
from plimsoll.rules.answer import Outcome
from plimsoll.settings import load

KEY = {"name": "binance", "key": "one-key"}
OTHER_KEY = {"name": "binance", "key": "another-key"}
STARTED = datetime(2024, 3, 1, tzinfo=UTC)


class Live:
    """A live bot with nothing but its place in the ledger."""

    def __init__(self, ledger: Path, name: str, exchange: dict[str, Any], **config: Any) -> None:
        own = {"bot_name": name, "stake_currency": "USDT", "dry_run": False, "exchange": exchange}
        strategy: Any = SimpleNamespace(config=own | config, get_strategy_name=lambda: "Steady", dp=None)
        self.fleet = Fleet(strategy, load({"portfolio": {"ledger": str(ledger)}}))

    def loop(self, seconds: float) -> list[str]:
        self.fleet.loop(STARTED + timedelta(seconds=seconds), "1", 1_000.0, 0.0, [], [])
        return self.fleet.news()

    @property
    def blocked(self) -> str | None:
        answer = self.fleet.answer()
        if answer is None:
            return None
        assert answer.outcome is Outcome.UNKNOWN
        return answer.reason


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_bots_when_they_use_one_key_then_neither_enters_and_each_says_it_once(ledger: Path) -> None:
    amy, bob = Live(ledger, "amy", KEY), Live(ledger, "bob", {**KEY, "key": " one-key "})
    amy.loop(0)
    assert amy.blocked is None
    said = bob.loop(1)
    assert bob.blocked is not None
    assert "on this bot's account trades amy Steady 1" in bob.blocked
    assert [text for text in said if "available_capital" in text] == [f"portfolio: no entries: {bob.blocked}"]
    assert bob.loop(2) == []
    assert any("bob Steady 1" in text for text in amy.loop(3))
    assert amy.blocked is not None


@pytest.mark.parametrize(
    ("exchange", "config"),
    [
        (OTHER_KEY, {}),
        ({**KEY, "name": "okx"}, {}),
        ({"name": "binance"}, {}),
        (KEY, {"dry_run": True}),
        (KEY, {"available_capital": 400.0}),
    ],
    ids=["another key", "another exchange", "no key", "dry-run", "capital stated"],
)
def test_bot_when_its_capital_is_its_own_then_it_enters(
    ledger: Path, exchange: dict[str, Any], config: dict[str, Any]
) -> None:
    amy, bob = Live(ledger, "amy", KEY), Live(ledger, "bob", exchange, **config)
    amy.loop(0)
    bob.loop(1)
    assert bob.blocked is None
    amy.loop(2)
    assert (amy.blocked is None) is (config.get("available_capital") is None)


def test_bot_when_the_other_one_is_silent_then_it_counts_until_it_has_no_positions(ledger: Path) -> None:
    silent = 60.0 * load({}).portfolio.silent_minutes
    amy, bob = Live(ledger, "amy", KEY), Live(ledger, "bob", KEY)
    shared = Ledger(str(ledger), Limits(), "USDT")
    for second in range(3):
        amy.loop(second)
    start = STARTED.timestamp() + 2
    assert shared.reserve("amy Steady 1", "1", "BTC/USDT:USDT", "long", 10.0, 1.0, start).granted
    assert shared.confirm("amy Steady 1", "1", start)
    bob.loop(2 + silent + 1)
    assert bob.fleet.standing is not None
    assert bob.fleet.standing.silent == ("amy Steady 1",)
    assert bob.blocked is not None
    shared.release("amy Steady 1", "1", start + silent + 1)
    said = bob.loop(2 + silent + 2)
    assert bob.blocked is None
    assert "portfolio: no other bot is on this account any more" in said


def test_bot_when_it_starts_again_then_what_it_learnt_is_in_the_ledger(ledger: Path) -> None:
    for name in ("amy", "bob"):
        Live(ledger, name, KEY).loop(0)
    again = Live(ledger, "amy", KEY)
    again.loop(5)
    assert again.blocked is not None


def test_mark_when_made_then_tells_accounts_apart_and_nothing_of_the_key() -> None:
    marks = [
        account_mark(exchange)
        for exchange in (
            KEY,
            OTHER_KEY,
            {**KEY, "name": "okx"},
            {"name": "hyperliquid", "wallet_address": "0xabc", "key": "one-key"},
            {"name": "hyperliquid", "walletAddress": "0xabd"},
        )
    ]
    assert len(set(marks)) == len(marks)
    assert all(len(mark) == 32 and "key" not in mark and "0x" not in mark for mark in marks)
    assert account_mark({**KEY, "secret": "x", "password": "y"}) == account_mark(KEY)
    assert account_mark({"name": "hyperliquid", "walletAddress": "0xabc"}) == marks[3]
    assert account_mark({"name": "binance", "key": ""}) == account_mark({}) == ""
