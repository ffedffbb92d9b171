"""The operator of a running bot: the dead man's ladder, check-ins and resets on every channel, and forced entries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stepped_bot import SteppedBot, SteppingPrices
from telegram_stand_in import PATIENT, TelegramStandIn

from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import WallClock, unavailable
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}"),
]

START = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN = START + timedelta(days=32, hours=12, minutes=59, seconds=30)
PAIRS = tuple(model.pair for model in DEFAULT_PAIRS)
FIRST, SECOND, THIRD, *_ = PAIRS
HOURS = 2.0
PATIENCE = 200.0  # seconds that an answer may take on a machine that is slow or does other things
STRATEGY = f"""
{PATIENT}

class Attended(Guarded, Told):
    can_short = True
    stoploss = -0.5
    plimsoll = {{
        "stop": {{"atr_multiple": 8.0}},
        "risk": {{"per_trade": 0.02}},
        "loss_limit": {{"daily": 0.5, "weekly": 0.6}},
        "drawdown": {{"limit": 0.7}},
        "deadman": {{"hours": 2.0}},
    }}
"""


@dataclass
class Attended:
    """A bot and its operator's means."""

    bot: SteppedBot
    telegram: TelegramStandIn | None

    def move(self, **by: float) -> datetime:
        """Let time pass and the bot see it; return what time it is then."""
        at = self.bot.clock.now() + timedelta(**by)
        self.bot.step(at)
        return at

    def enter_at_the_next_hour(self, *pairs: str) -> None:
        """Give the entry signals of one candle."""
        named = self.bot.directory / "enter"
        named.write_text(" ".join(pairs))
        hour = self.bot.clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        if self.bot.clock.now() < hour + timedelta(seconds=-6):
            self.bot.step(hour + timedelta(seconds=-6))
        self.bot.step(hour + timedelta(seconds=2), 4)
        named.unlink()

    def plimsoll(self, *arguments: str) -> tuple[int, str]:
        """Run the command line beside the bot, by the same clock; return its exit status and what it printed."""
        return self.bot.plimsoll(*arguments, "--db-url", self.bot.db_url)

    def switch(self) -> dict[str, Any]:
        return dict(self.bot.status()["deadman"])

    def entries(self) -> str:
        return str(self.bot.status()["entries"])

    def locks(self, pair: str) -> list[dict[str, Any]]:
        now = self.bot.clock.now()
        return [
            lock
            for lock in self.bot.locks()
            if lock["pair"] == pair and lock["active"] and lock["lock_end_time"] > now
        ]

    def trip(self) -> dict[str, Any]:
        """Let the hours pass; return the lock of the switch."""
        self.move(hours=HOURS)
        assert self.switch()["level"] == "stopped"
        assert self.entries() == "blocked"
        (lock,) = self.locks("*")
        assert lock["reason"].startswith("Plimsoll deadman: ")
        return lock

    def post_lock(self, pair: str, reason: str) -> None:
        until = f"{self.bot.clock.now() + timedelta(hours=3):%Y-%m-%dT%H:%M:%SZ}"
        body = [{"pair": pair, "until": until, "side": "*", "reason": reason}]
        status, answer = self.bot.rest("POST", "locks", body, seconds=PATIENCE)  # type: ignore[arg-type]
        assert status == 200, answer

    def delete_lock(self, number: int) -> None:
        status, answer = self.bot.rest("DELETE", f"locks/{number}", seconds=PATIENCE)
        assert status == 200, answer

    def write(self, command: str) -> None:
        """Write to the bot's chat, and wait until it shows the locks that are left."""
        assert self.telegram is not None
        telegram, before = self.telegram, self.telegram.say(command)

        def answered() -> bool:
            return any(
                "Until" in sent.text or "No active locks" in sent.text for sent in telegram.messages[before:]
            )

        assert self.bot.wait(answered, PATIENCE), self.bot.last_words()


@contextmanager
def attended(
    directory: Path, telegram: TelegramStandIn | None = None, db_url: str | None = None, **env: str
) -> Iterator[Attended]:
    directory.mkdir(parents=True, exist_ok=True)
    write_market(simulate_market(4, 36, START, DEFAULT_PAIRS, flash_crash=False), directory / "candles")
    env |= telegram.environment if telegram else {}
    with (
        WallClock(directory / "clock", BEGIN) as clock,
        LoopbackExchange(
            PAIRS, source=SteppingPrices(directory / "candles"), now=clock.milliseconds
        ) as exchange,
        SteppedBot(
            exchange,
            directory / "bot",
            "Attended",
            STRATEGY,
            clock,
            api=True,
            env=env,
            db_url=db_url,
            overrides={"max_open_trades": 10},
        ) as bot,
    ):
        bot.loop(3)
        if telegram is not None:
            telegram.listened_to()  # what it says before is lost
        yield Attended(bot, telegram)
        assert bot.alive(), bot.last_words()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attended]:
    with TelegramStandIn() as telegram, attended(tmp_path_factory.mktemp("attended"), telegram) as found:
        yield found


@pytest.fixture
def running(shared: Attended) -> Iterator[Attended]:
    """A bot that was checked in just now, without positions; nothing it says is refused or a complaint."""
    telegram = shared.telegram
    assert telegram is not None
    from_here, said = len(shared.bot.log()), len(telegram.messages)

    def all_arrived() -> bool:
        logged = shared.bot.log()[from_here:].count(" - plimsoll - WARNING - deadman: ")
        return sum("Plimsoll: deadman: " in sent.text for sent in telegram.messages[said:]) >= logged > 0

    shared.post_lock("PLIMSOLL/RESET", "deadman")
    (shared.bot.directory / "exit").touch()
    shared.move(seconds=5)
    assert shared.bot.wait(all_arrived, PATIENCE), shared.bot.last_words()
    (shared.bot.directory / "exit").unlink()
    assert shared.switch()["level"] == "fine"
    assert not any(trade["is_open"] for trade in shared.bot.trades())
    yield shared
    assert shared.bot.complaints() == []
    assert telegram.rejected == []


def test_deadman_when_nobody_checks_in_then_warns_stops_entries_and_lets_exits_go_on(
    running: Attended,
) -> None:
    bot, telegram = running.bot, running.telegram
    assert telegram is not None
    said = len(telegram.messages)
    began = running.switch()["checked_in"]
    since = datetime.fromtimestamp(began, UTC)
    opened = {trade["id"] for trade in bot.trades()}
    running.enter_at_the_next_hour(FIRST)
    (trade,) = [trade for trade in bot.trades() if trade["id"] not in opened]
    assert trade["is_open"]

    bot.step(since + timedelta(hours=0.83 * HOURS, seconds=-2))
    assert running.switch()["level"] == "fine"
    assert not [sent for sent in telegram.messages[said:] if "deadman" in sent.text]
    bot.step(since + timedelta(hours=0.83 * HOURS, seconds=1))
    assert running.switch()["level"] == "warning"
    warned = telegram.wait("critical at", after=said)
    assert "deadman" in warned
    assert "/unlock PLIMSOLL/CHECKIN" in warned
    assert running.entries() == "open"

    # Counting goes on where it was: a restart is no check-in.
    bot.stop()
    telegram.bot_ended()
    bot.start()
    bot.loop(3)
    telegram.listened_to()
    assert running.switch() == {
        "level": "warning",
        "checked_in": began,
        "deadline": began + 7200,
        "by": "a reset",
    }
    said = len(telegram.messages)
    bot.step(since + timedelta(hours=0.96 * HOURS, seconds=1))
    assert running.switch()["level"] == "critical"
    telegram.wait("entries stop at", after=said)
    bot.step(since + timedelta(hours=HOURS, seconds=-1))
    assert running.entries() == "open"
    assert running.plimsoll("status")[0] == 0
    bot.step(since + timedelta(hours=HOURS))
    assert running.switch()["level"] == "stopped"
    assert running.entries() == "blocked"
    telegram.wait("entries stopped at", after=said)
    code, shown = running.plimsoll("status")
    assert (code, "deadman" in shown) == (1, True)

    (bot.directory / "exit").touch()
    running.enter_at_the_next_hour(SECOND)
    trades = [trade for trade in bot.trades() if trade["id"] not in opened]
    assert [(trade["pair"], trade["is_open"], trade["exit_reason"]) for trade in trades] == [
        (FIRST, False, "told")
    ]


def by_command(running: Attended) -> None:
    code, said = running.plimsoll("checkin", "--by", "ann")
    assert (code, "by ann" in said) == (0, True), said


def by_posted_lock(running: Attended) -> None:
    running.post_lock("PLIMSOLL/CHECKIN", "here I am")


def by_deleted_lock(running: Attended) -> None:
    for lock in running.locks("PLIMSOLL/CHECKIN"):
        running.delete_lock(lock["id"])


def by_unlock(running: Attended) -> None:
    running.write("/unlock PLIMSOLL/CHECKIN")


def by_unlock_number(running: Attended) -> None:
    for lock in running.locks("PLIMSOLL/CHECKIN"):
        running.write(f"/unlock {lock['id']}")


def reset_by_command(running: Attended) -> None:
    code, said = running.plimsoll("reset", "deadman")
    assert (code, "starts anew" in said) == (0, True), said


def reset_by_posted_lock(running: Attended) -> None:
    running.post_lock("PLIMSOLL/RESET", "deadman")


def reset_by_deleted_lock(running: Attended) -> None:
    (lock,) = running.locks("*")
    running.delete_lock(lock["id"])


def reset_by_unlock(running: Attended) -> None:
    running.write("/unlock *")


def reset_by_unlock_number(running: Attended) -> None:
    (lock,) = running.locks("*")
    running.write(f"/unlock {lock['id']}")


@pytest.mark.parametrize(
    ("check_in", "reset"),
    [
        (by_command, reset_by_command),
        (by_posted_lock, reset_by_posted_lock),
        (by_deleted_lock, reset_by_deleted_lock),
        (by_unlock, reset_by_unlock),
        (by_unlock_number, reset_by_unlock_number),
    ],
)
def test_check_in_and_reset_when_made_through_a_channel_then_are_heard_once(
    running: Attended, check_in: Callable[[Attended], None], reset: Callable[[Attended], None]
) -> None:
    bot = running.bot
    now = int(running.move(minutes=105).timestamp())
    assert running.switch()["level"] == "warning"
    check_in(running)
    bot.loop(2)
    told = running.switch()
    assert (told["level"], told["checked_in"], told["deadline"]) == ("fine", now, now + 7200)
    (lock,) = running.locks("PLIMSOLL/CHECKIN")
    assert f"{datetime.fromtimestamp(now + 7200, UTC):%Y-%m-%d %H:%M}" in lock["reason"]
    running.move(minutes=10)
    assert running.switch()["checked_in"] == now

    running.trip()
    check_in(running)
    running.move(seconds=5)
    assert running.switch()["level"] == "stopped"
    assert running.entries() == "blocked"
    reset(running)
    now = int(running.move(seconds=5).timestamp())
    told = running.switch()
    assert told["level"] == "fine"
    assert now - 5 <= told["checked_in"] <= now
    assert running.entries() == "open"
    assert running.locks("*") == []
    assert len(running.locks("PLIMSOLL/CHECKIN")) == 1


def test_reset_when_there_is_no_such_breaker_then_is_refused(running: Attended) -> None:
    code, said = running.plimsoll("reset", "captain", "--force")
    assert (code, "there is no breaker 'captain'" in said) == (1, True), said


def test_reload_config_when_everything_is_in_use_then_keeps_it(running: Attended) -> None:
    bot = running.bot
    running.enter_at_the_next_hour(FIRST)
    lock = running.trip()
    running.move(seconds=5)
    before, memory = bot.status(), bot.memory()
    from_here = len(bot.log())
    status, answer = bot.rest("POST", "reload_config", seconds=PATIENCE)
    assert status == 200, answer
    assert bot.wait(lambda: "config reloaded" in bot.log()[from_here:], PATIENCE), bot.last_words()
    running.move(seconds=5)
    after = bot.status()
    assert running.switch() == before["deadman"]
    assert [each["id"] for each in running.locks("*")] == [lock["id"]]
    assert {b["name"]: b["state"] for b in after["breakers"]} == {
        b["name"]: b["state"] for b in before["breakers"]
    }
    for kept in ("pair", "risk", "stop", "margin"):
        assert [p[kept] for p in after["positions"]] == [p[kept] for p in before["positions"]]
    assert [p["pair"] for p in after["positions"]] == [FIRST]
    kept = bot.memory()["breakers"]
    assert (
        kept["operator"]["deadman"]["tripped_at"] == memory["breakers"]["operator"]["deadman"]["tripped_at"]
    )
    assert kept["equity"]["drawdown"]["peak"] == pytest.approx(
        memory["breakers"]["equity"]["drawdown"]["peak"]
    )
    running.enter_at_the_next_hour(SECOND)
    assert [p["pair"] for p in bot.status()["positions"]] == [FIRST]


def test_forced_entry_when_leverage_or_a_breaker_forbids_it_then_is_refused(running: Attended) -> None:
    def force(**more: Any) -> int:
        entry = {"pair": THIRD, "side": "long", **more}
        return running.bot.rest("POST", "forceenter", entry, seconds=PATIENCE)[0]

    known = len(running.bot.trades())
    running.trip()
    assert force(leverage=50) >= 400
    assert force(leverage=1) >= 400
    assert force() >= 400
    running.post_lock("PLIMSOLL/RESET", "deadman")
    running.move(seconds=5)
    assert force(leverage=50) >= 400
    assert len(running.bot.trades()) == known
    assert force(leverage=1) == 200
    assert len(running.bot.trades()) == known + 1


def test_forced_entries_when_hammered_from_many_threads_then_stay_within_limits(running: Attended) -> None:
    bot = running.bot
    # Whatever the tests before have left: no position, no tripped breaker.
    for trade in bot.trades():
        if trade["is_open"]:
            bot.rest("POST", "forceexit", {"tradeid": str(trade["id"])}, seconds=PATIENCE)
    running.move(seconds=5)
    for breaker in bot.status()["breakers"]:
        if breaker["state"] == "tripped":
            running.post_lock("PLIMSOLL/RESET", breaker["name"])
    running.move(seconds=5)
    known = {trade["id"] for trade in bot.trades()}
    answers: list[tuple[int, Any]] = []

    def hammer(number: int) -> None:
        for turn in range(6):
            body: dict[str, Any] = {
                "pair": PAIRS[(number + turn) % len(PAIRS)],
                "side": ("long", "short")[number % 2],
            }
            if turn % 3:
                body["leverage"] = (1, 3, 50)[(number + turn) % 3]
            answers.append(bot.rest("POST", "forceenter", body, seconds=3 * PATIENCE))

    threads = [threading.Thread(target=hammer, args=(number,)) for number in range(6)]
    before = bot.loops()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6 * PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert bot.loops() > before
    bot.loop(3)
    assert {status for status, _ in answers} <= {200, 502}, answers
    status = bot.status()
    exposure = status["exposure"]
    for measure in ("margin", "heat", "gross", "net"):
        assert exposure[measure] <= exposure[f"{measure}_limit"] * 1.01, exposure
    opened = [trade for trade in bot.trades() if trade["id"] not in known]
    assert len(opened) == sum(status == 200 for status, _ in answers)
    assert len(opened) >= 2, (status["blocked_by"], answers)
    assert len({trade["pair"] for trade in opened}) == len(opened)
    assert max(trade["leverage"] for trade in opened) <= 5.0
    assert all(position["risk"] <= 0.0025 * 10_000.0 * 1.02 for position in status["positions"])
    assert len(status["positions"]) == len(opened)
    running.move(seconds=5)


@pytest.mark.slow  # tests/host/test_margin_host.py and test_operator.py have its short forms
def test_deadman_when_it_shall_close_positions_then_closes_them_and_a_check_in_made_while_the_bot_was_down_counts(
    tmp_path: Path,
) -> None:
    with attended(tmp_path, FREQTRADE__PLIMSOLL__DEADMAN__CLOSE_POSITIONS="true") as running:
        bot = running.bot
        running.enter_at_the_next_hour(FIRST, SECOND)
        assert [trade["is_open"] for trade in bot.trades()] == [True, True]

        bot.kill()
        bot.clock.step(bot.clock.now() + timedelta(hours=HOURS - 0.1))
        code, said = running.plimsoll("checkin", "--by", "ann", "--wait", "0")
        assert (code, "Stored" in said) == (3, True), said
        checked_in = int(bot.clock.now().timestamp())
        bot.clock.step(bot.clock.now() + timedelta(hours=0.5))
        bot.start()
        bot.loop(3)
        told = running.switch()
        assert (told["level"], told["checked_in"], told["by"]) == ("fine", checked_in, "ann")
        assert [trade["is_open"] for trade in bot.trades()] == [True, True]

        bot.step(datetime.fromtimestamp(checked_in, UTC) + timedelta(hours=HOURS, seconds=-1))
        assert [trade["is_open"] for trade in bot.trades()] == [True, True]
        bot.step(datetime.fromtimestamp(checked_in, UTC) + timedelta(hours=HOURS), 6)
        assert [trade["is_open"] for trade in bot.trades()] == [False, False]
        sold = [order for order in bot.orders() if order["ft_order_side"] == "sell"]
        assert {order["ft_order_tag"] for order in sold} == {"plimsoll_deadman"}
        assert bot.complaints() == []
