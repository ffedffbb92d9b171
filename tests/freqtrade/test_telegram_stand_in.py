"""A stock dry-run bot with telegram enabled is talked to through the stand-in of Telegram's Bot API."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from boundary_bot import LOCKED_SECONDS, market_until_now, pair_of
from boundary_harness import CONFIG
from telegram_stand_in import CHAT_ID, PATIENT, TOKEN, TelegramStandIn, refusal

from plimsoll.market.bot import TradingBot
from plimsoll.market.exchange import LoopbackExchange

PAIRS = [pair_of(0), pair_of(1)]
SOURCE = """
from freqtrade.strategy import IStrategy


class Quiet(IStrategy):
    timeframe = "5m"
    can_short = True
    stoploss = -0.1

    def bot_loop_start(self, current_time, **kwargs):
        if not hasattr(self, "told"):
            self.told = self.dp.send_msg("one lone daily_loss is broken Markdown") or True

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
"""


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TradingBot, TelegramStandIn]]:
    directory = tmp_path_factory.mktemp("telegram")
    (directory / "strategies").mkdir()
    (directory / "strategies" / "quiet.py").write_text(PATIENT + SOURCE)
    with (
        TelegramStandIn() as telegram,
        LoopbackExchange(pairs=PAIRS, source=market_until_now(directory / "live", PAIRS)) as exchange,
        TradingBot(
            exchange,
            directory,
            "Quiet",
            configs=[CONFIG],
            db_url=f"sqlite:///{directory / 'trades.sqlite'}?timeout={LOCKED_SECONDS:g}",
            api=True,
            env=telegram.environment,
        ) as bot,
    ):
        assert bot.ready(300), bot.last_words()
        # What it says at its start comes when it likes, and answers are counted.
        for words in ("running", "Dry run is enabled", "Exchange:", "Searching for"):
            telegram.wait(words)
        yield bot, telegram


def lock(bot: TradingBot, pair: str, reason: str) -> int:
    until = f"{datetime.now(UTC) + timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}"
    status, answer = bot.rest(
        "POST", "locks", [{"pair": pair, "until": until, "side": "*", "reason": reason}], seconds=200
    )
    assert status == 200, answer
    return next(entry["id"] for entry in answer["locks"] if entry["reason"] == reason)


@pytest.mark.freqtrade
def test_telegram_when_an_operator_unlocks_then_the_lock_is_gone(
    talking: tuple[TradingBot, TelegramStandIn],
) -> None:
    bot, telegram = talking
    first, second = lock(bot, PAIRS[0], "held first"), lock(bot, PAIRS[1], "held second")
    shown = telegram.ask("/locks", "held first")
    assert "held second" in shown
    left = telegram.ask(f"/unlock {first}", "held second")
    assert "held first" not in left
    telegram.ask(f"/unlock {PAIRS[1]}", "No active locks")
    assert {row["id"]: row["active"] for row in bot.locks()} == {first: False, second: False}
    assert {sent.chat_id for sent in telegram.messages} == {CHAT_ID}


@pytest.mark.freqtrade
def test_telegram_when_status_is_asked_then_the_bot_answers(
    talking: tuple[TradingBot, TelegramStandIn],
) -> None:
    _, telegram = talking
    assert telegram.ask("/status", "no active trade") == "no active trade"


@pytest.mark.freqtrade
def test_telegram_when_another_chat_writes_then_the_bot_stays_silent(
    talking: tuple[TradingBot, TelegramStandIn],
) -> None:
    bot, telegram = talking
    before = telegram.say("/status", chat_id=CHAT_ID + 1)
    assert bot.wait(lambda: f"Rejected unauthorized message from: {CHAT_ID + 1}" in bot.log(), 150)
    telegram.ask("/version", "Version")
    assert len(telegram.messages) == before + 1


@pytest.mark.freqtrade
def test_telegram_when_a_strategy_sends_broken_markdown_then_it_is_refused_and_lost(
    talking: tuple[TradingBot, TelegramStandIn],
) -> None:
    bot, telegram = talking
    assert bot.wait(lambda: bool(telegram.rejected), 150), bot.last_words()
    assert {text for text, _ in telegram.rejected} == {"one lone daily_loss is broken Markdown"}
    assert bot.wait(lambda: "Giving up on that message" in bot.log(), 150)


@pytest.mark.freqtrade
def test_telegram_when_a_bot_runs_then_nothing_else_goes_through_the_proxy(
    talking: tuple[TradingBot, TelegramStandIn],
) -> None:
    _, telegram = talking
    assert "sendMessage" in telegram.calls
    assert telegram.other_hosts == []
    assert telegram.unknown_methods == []


@pytest.mark.parametrize(
    ("text", "parse_mode", "taken"),
    [
        ("*bold* and _italic_ and `code_` and ```pre *``` and [a](http://b)", "Markdown", True),
        (r"daily\_loss", "Markdown", True),
        ("daily_loss", "Markdown", False),
        ("daily_loss", "HTML", True),
        ("daily_loss", None, True),
        ("2 * 3", "Markdown", False),
        ("`open", "Markdown", False),
        ("```open``", "Markdown", False),
        ("[pair", "Markdown", False),
        ("x" * 4096, None, True),
        ("x" * 4097, None, False),
        (" ", None, False),
    ],
)
def test_refusal_when_text_is_sent_then_as_telegram_takes_it(
    text: str, parse_mode: str | None, taken: bool
) -> None:
    assert (refusal(text, parse_mode) is None) is taken


def call(telegram: TelegramStandIn, method: str, token: str = TOKEN, **parameters: Any) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=telegram.environment["SSL_CERT_FILE"])
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": telegram.environment["HTTPS_PROXY"]}),
        urllib.request.HTTPSHandler(context=context),
    )
    request = urllib.request.Request(
        f"https://api.telegram.org/bot{token}/{method}",
        data=json.dumps(parameters).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with opener.open(request, timeout=100) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def test_stand_in_when_updates_are_confirmed_or_dropped_then_they_do_not_come_again() -> None:
    with TelegramStandIn() as telegram:
        assert call(telegram, "getUpdates")["result"] == []
        telegram.say("/one")
        telegram.say("two")
        one, two = call(telegram, "getUpdates")["result"]
        assert one["message"]["entities"] == [{"type": "bot_command", "offset": 0, "length": 4}]
        assert call(telegram, "getUpdates", offset=two["update_id"])["result"] == [two]
        call(telegram, "deleteWebhook", drop_pending_updates=True)
        assert call(telegram, "getUpdates")["result"] == []


def test_stand_in_when_token_method_or_host_is_another_then_refuses() -> None:
    with TelegramStandIn() as telegram:
        assert call(telegram, "getMe")["ok"] is True
        assert call(telegram, "getMe", token="1:other")["error_code"] == 401
        assert call(telegram, "launchRocket")["error_code"] == 404
        assert telegram.unknown_methods == ["launchRocket"]
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({"https": telegram.environment["HTTPS_PROXY"]})
        )
        with pytest.raises(OSError, match="403"):
            opener.open("https://api.example.org/", timeout=100)
        assert telegram.other_hosts == ["api.example.org:443"]


def test_stand_in_when_the_bot_never_listens_then_say_gives_up() -> None:
    with TelegramStandIn() as telegram, pytest.raises(TimeoutError, match="did not listen"):
        telegram.say("/status", seconds=0.05)
