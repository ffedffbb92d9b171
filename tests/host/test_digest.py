"""One message a day: once, with the right day's trades, also over restarts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attended import Attended, Killed, commits_of, killed_after
from attended import bot_database as bot_database
from attended import reused_postgres as reused_postgres
from freqtrade.persistence import Trade
from host_database import close_trade

from plimsoll.host.breakers import Breakers
from plimsoll.host.digest import Digest
from plimsoll.host.runlog import TRADE_DATA, TradePlan
from plimsoll.settings import load

pytestmark = pytest.mark.usefixtures("bot_database")
DAY = timedelta(days=1)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def digest(**changes: Any) -> tuple[Digest, Breakers]:
    settings = load(changes)
    return Digest(settings), Breakers(settings, confirmations=1)


def said(life: Attended) -> list[str]:
    return [message for message in life.bot.said if "since the day began" in message]


def to_next_day(life: Attended) -> None:
    """Stop right before midnight."""
    today = life.now.date()
    while (life.now + timedelta(minutes=1)).date() == today:
        life.minute += 1


def test_digest_when_the_day_goes_on_then_nothing_is_said() -> None:
    found, breakers = digest()
    assert found.due(NOON, 100.0, breakers) is None
    assert found.due(NOON.replace(hour=23, minute=59, second=59), 110.0, breakers) is None


def test_digest_when_the_day_is_over_then_equity_and_trades_of_that_day_are_said() -> None:
    found, breakers = digest()
    found.due(NOON, 10_000.0, breakers)
    midnight = NOON.replace(hour=0)
    for at in (midnight - timedelta(seconds=1), midnight + timedelta(seconds=1), NOON, midnight + DAY):
        close_trade(at, 0.01)
    message = found.due(midnight + DAY + timedelta(seconds=1), 9_900.0, breakers)

    assert (
        message == "2026-03-10: equity 9,900 (-1.0 % since the day began); 2 trades closed; nothing tripped"
    )
    assert found.due(midnight + DAY + timedelta(minutes=1), 9_900.0, breakers) is None


def test_digest_when_trades_have_plans_then_their_sum_is_in_r() -> None:
    found, breakers = digest()
    found.due(NOON, 10_000.0, breakers)
    for profit, risk in ((0.10, 5.0), (-0.05, 5.0)):
        trade = close_trade(NOON, profit)
        trade.set_custom_data(TRADE_DATA, TradePlan(0.02, 0.022, risk, 3.0).as_data())
    message = found.due(NOON + DAY, 10_100.0, breakers)

    assert message is not None
    assert "2 trades closed (+1.00 R)" in message  # 2 R won, 1 R lost


def test_digest_when_the_time_zone_is_another_then_its_midnight_counts() -> None:
    found, breakers = digest(loss_limit={"timezone": "America/New_York"})
    zone = ZoneInfo("America/New_York")
    found.due(datetime(2026, 3, 10, 22, tzinfo=zone), 100.0, breakers)
    assert found.due(datetime(2026, 3, 10, 23, 59, tzinfo=zone), 100.0, breakers) is None
    close_trade(datetime(2026, 3, 10, 23, 30, tzinfo=zone).astimezone(UTC), 0.01)
    close_trade(datetime(2026, 3, 11, 0, 0, 1, tzinfo=zone).astimezone(UTC), 0.01)
    message = found.due(datetime(2026, 3, 11, 0, 1, tzinfo=zone), 100.0, breakers)

    assert message is not None
    assert message.startswith("2026-03-10: equity 100 ")
    assert "1 trades closed" in message


@pytest.mark.parametrize(("opened", "closed"), [(None, 100.0), (100.0, None), (None, None)])
def test_digest_when_equity_is_not_known_then_no_change_is_claimed(
    opened: float | None, closed: float | None
) -> None:
    found, breakers = digest()
    found.due(NOON, opened, breakers)
    message = found.due(NOON + DAY, closed, breakers)

    assert message is not None
    assert "since the day began" not in message
    assert ("equity unknown" in message) == (closed is None)


def test_digest_when_equity_becomes_known_later_then_the_day_counts_from_there() -> None:
    found, breakers = digest()
    found.due(NOON, None, breakers)
    found.due(NOON + timedelta(hours=1), 200.0, breakers)
    message = found.due(NOON + DAY, 210.0, breakers)
    assert message is not None
    assert "(+5.0 % since the day began)" in message


def test_digest_when_the_bot_runs_over_midnight_then_is_said_once() -> None:
    life = Attended(deadman={"hours": 8000.0}).started()
    to_next_day(life)
    life.steady(10)
    assert len(said(life)) == 1


def test_digest_when_the_bot_restarts_after_midnight_then_is_not_said_again() -> None:
    life = Attended().started()
    to_next_day(life)
    life.steady(1)
    assert len(said(life)) == 1
    for _ in range(3):
        life.again()
        life.steady(2)
    assert len(said(life)) == 1


def test_digest_when_the_bot_was_down_over_midnight_then_is_said_at_the_start() -> None:
    life = Attended(deadman={"hours": 8000.0}).started()
    day = life.now.date().isoformat()
    life.minute += 2 * 24 * 60
    life.again()
    life.steady(4)
    (message,) = said(life)
    assert message.startswith(f"Plimsoll: {day}: ")


def test_digest_when_the_bot_is_killed_after_any_commit_then_is_said_and_twice_only_if_not_yet_stored() -> (
    None
):
    life = Attended(deadman={"hours": 8000.0}).started()
    to_next_day(life)
    commits = commits_of(life.steady)
    for number in range(1, commits + 1):
        to_next_day(life)
        life.bot.said.clear()
        with pytest.raises(Killed), killed_after(number):
            life.steady()
        life.restart()
        life.steady(3)
        assert len(said(life)) == 1, number


@pytest.mark.parametrize("plan", [{"of": "another version"}, [1, 2], "text"])
def test_digest_when_it_cannot_be_made_then_entries_stay_open(plan: Any) -> None:
    life = Attended(deadman={"hours": 8000.0}).started()
    close_trade(life.now, 0.01).set_custom_data(TRADE_DATA, plan)
    Trade.session.commit()
    to_next_day(life)
    life.steady(3)

    assert life.watch.blocker is None
    assert life.shut() == []
