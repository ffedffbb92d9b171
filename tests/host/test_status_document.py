"""The document for `plimsoll status`: what it says is what the bot decides by."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from attended import bot_database as bot_database
from attended import reused_postgres as reused_postgres
from freqtrade.persistence import Order, Trade
from planned_bot import EQUITY, RATE, PlannedBot, open_position
from sqlalchemy import event, text

from plimsoll import __version__, bridge
from plimsoll.host.status import DOCUMENT_VERSION, status_document
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.shock import Shock, strike
from plimsoll.rules.shock_limits import Limits, answers
from plimsoll.stress.book import from_status

pytestmark = pytest.mark.usefixtures("bot_database")
PAIR, ENTERED, FOREIGN = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"


@pytest.fixture
def bot(tmp_path: Path) -> PlannedBot:
    return PlannedBot(tmp_path)


def document(bot: PlannedBot) -> dict[str, Any]:
    """Return what the last loop stored, as another process reads it."""
    stored = bridge.read_status(Trade.session.get_bind(), "Steady")
    assert stored is not None
    assert stored.time == int(bot.now.timestamp())
    return stored.document


def breaker(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [each for each in found["breakers"] if each["name"] == name]
    return one


def test_status_when_the_bot_runs_then_each_loop_leaves_one(bot: PlannedBot) -> None:
    bot.loop(4)
    found = document(bot)

    assert (found["version"], found["plimsoll"]) == (DOCUMENT_VERSION, __version__)
    assert (found["bot"], found["runmode"], found["loop"]) == ("Steady", "dry_run", 4)
    assert (found["equity"], found["balance"], found["stake_currency"]) == (EQUITY, EQUITY, "USDT")
    assert (found["entries"], found["blocked_by"]) == ("open", [])
    assert found["positions"] == []
    with Trade.session.get_bind().connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM plimsoll_status")).scalar() == 1


def test_status_when_equity_is_not_confirmed_yet_then_entries_are_blocked_and_it_says_by_what(
    bot: PlannedBot,
) -> None:
    bot.loop()
    found = document(bot)
    assert found["entries"] == "blocked"
    assert any("equity is unknown" in reason for reason in found["blocked_by"])
    assert breaker(found, "drawdown")["state"] == "unknown"
    assert breaker(found, "drawdown")["headroom"] is None


def test_status_when_the_bot_is_fine_then_headroom_is_what_may_be_lost(bot: PlannedBot) -> None:
    bot.loop(5)
    limits = bot.settings
    found = document(bot)
    for name, limit in (
        ("drawdown", limits.drawdown.limit),
        ("daily_loss", limits.loss_limit.daily),
        ("weekly_loss", limits.loss_limit.weekly),
    ):
        one = breaker(found, name)
        assert (one["state"], one["limit"]) == ("armed", limit)
        assert one["headroom"] == pytest.approx(EQUITY * limit)

    bot.bot.starting_balance = 9_700.0
    bot.loop(3)
    assert breaker(document(bot), "daily_loss")["headroom"] == pytest.approx(9_700.0 - 9_500.0)


def test_status_when_a_breaker_tripped_then_it_says_so_without_headroom(bot: PlannedBot) -> None:
    bot.loop(5)
    bot.bot.starting_balance = 9_400.0
    bot.loop(4)
    found = document(bot)
    one = breaker(found, "daily_loss")

    assert (one["state"], one["factor"], one["headroom"]) == ("tripped", 0.0, 0.0)
    assert one["until"] > int(bot.now.timestamp())
    assert found["entries"] == "blocked"
    assert any(reason.startswith("daily_loss: daily loss 6.0 %") for reason in found["blocked_by"])


@pytest.mark.parametrize(("side", "rate"), [("long", 103.0), ("short", 97.0)])
def test_status_when_positions_are_open_then_each_is_described(
    bot: PlannedBot, side: str, rate: float
) -> None:
    trade = open_position(bot.now, PAIR, side)
    bot.planner.filled(trade)
    bot.rates[PAIR] = rate
    bot.loop(5)
    found = document(bot)
    (one,) = found["positions"]

    assert (one["trade_id"], one["pair"], one["side"]) == (trade.id, PAIR, side)
    assert (one["leverage"], one["margin"], one["notional"]) == (4.0, 100.0, 400.0)
    assert (one["open_rate"], one["rate"]) == (100.0, rate)
    assert one["profit"] == pytest.approx(12.0, abs=0.5)  # 3 % of 400, less fees
    assert one["risk"] > 0.0
    assert one["r"] == pytest.approx(one["profit"] / one["risk"])
    assert one["stop"] == pytest.approx(97.0 if side == "long" else 103.0)
    assert one["stop_on_exchange"] is None
    assert one["sigma_day"] == 0.02
    assert one["health"] == "none"
    assert (one["liquidation"] < rate) == (side == "long")
    assert one["liquidation_distance"] == pytest.approx(abs(rate - one["liquidation"]) / rate)
    assert 0.0 < one["margin_used"] < 0.1
    assert found["equity"] == pytest.approx(EQUITY + one["profit"])
    exposure = found["exposure"]
    assert exposure["margin"] == pytest.approx(100.0 / found["equity"])
    assert exposure["gross"] == exposure["net"] == pytest.approx(400.0 / found["equity"])
    assert exposure["heat"] > 0.0
    assert exposure["margin_limit"] == bot.settings.exposure.total_margin


@pytest.mark.parametrize("side", ["long", "short"])
def test_status_when_the_stop_has_moved_then_the_risk_is_that_at_the_present_stop(
    bot: PlannedBot, side: str
) -> None:
    trade = open_position(bot.now, PAIR, side)
    bot.planner.filled(trade)
    bot.loop(4)
    trade.stop_loss = 99.0 if side == "long" else 101.0
    trade.funding_fees = -1.25
    Trade.session.commit()
    bot.loop()
    found = document(bot)
    (one,) = found["positions"]

    # 1 % of 400, fees of 0.05 % at both ends, slippage at the stop.
    closed = 4.0 * trade.stop_loss
    at_stop = 4.0 + 400.0 * 0.0005 + closed * (0.0005 + bot.settings.risk.slippage)
    assert one["risk_at_stop"] == pytest.approx(at_stop)
    assert one["risk_at_stop"] < 0.6 * one["risk"]
    assert one["funding"] == -1.25
    assert found["exposure"]["heat"] * found["equity"] == pytest.approx(at_stop)
    assert found["other_positions"] == []


@pytest.mark.parametrize("side", ["long", "short"])
def test_status_when_entries_additions_and_foreign_positions_count_then_both_lists_add_up_to_the_exposure(
    bot: PlannedBot, side: str
) -> None:
    filled = open_position(bot.now, PAIR, side)
    add = Order(
        ft_order_side=filled.entry_side,
        ft_pair=PAIR,
        ft_is_open=True,
        order_id="addition",
        ft_amount=2.0,
        ft_price=RATE,
        amount=2.0,
        price=RATE,
        filled=0.0,
        status="open",
        side=filled.entry_side,
    )
    filled.orders.append(add)
    entry = open_position(bot.now, ENTERED, side, margin=50.0)
    entry.amount = 0.0
    Trade.session.commit()
    bot.loop(5)
    bot.planner.trading.foreign = [OpenPosition(FOREIGN, "SOL", "short", 30.0, 90.0, 30.0)]
    found = status_document(bot.planner, bot.now, 5)
    told = {each["pair"]: each for each in found["other_positions"]}

    assert [each["pair"] for each in found["positions"]] == [PAIR]
    assert set(told) == {PAIR, ENTERED, FOREIGN}
    addition = told[PAIR]
    assert (addition["kind"], addition["side"]) == ("addition", side)
    assert (addition["margin"], addition["notional"]) == (50.0, 200.0)  # 2 units at 4x
    assert addition["risk"] == pytest.approx(found["positions"][0]["risk_at_stop"] / 2)
    assert told[ENTERED] == {
        "pair": ENTERED,
        "side": side,
        "kind": "entry",
        "margin": 50.0,
        "notional": 200.0,
        "risk": 50.0,  # no plan is known: the whole margin
    }
    assert told[FOREIGN] == {
        "pair": FOREIGN,
        "side": "short",
        "kind": "foreign",
        "margin": 30.0,
        "notional": 90.0,
        "risk": 30.0,
    }
    listed = [*found["positions"], *told.values()]
    for exposure, name in (("margin", "margin"), ("gross", "notional")):
        counted = sum(each[name] for each in listed) / found["equity"]
        assert found["exposure"][exposure] == pytest.approx(counted)
    risk = sum(each.get("risk_at_stop", each["risk"]) for each in listed)
    assert found["exposure"]["heat"] == pytest.approx(risk / found["equity"])
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("side", ["long", "short"])
def test_stress_when_it_reads_a_status_then_as_it_is_agrees_with_the_exposure_in_it(
    bot: PlannedBot, side: str
) -> None:
    trade = open_position(bot.now, PAIR, side)
    entry = open_position(bot.now, ENTERED, side, margin=50.0)
    entry.amount, trade.funding_fees = 0.0, -2.0
    bot.rates[PAIR] = 102.0  # on this side of either stop
    Trade.session.commit()
    bot.loop(5)
    bot.planner.trading.foreign = [OpenPosition(FOREIGN, "SOL", "short", 30.0, 90.0, 30.0)]
    found = status_document(bot.planner, bot.now, 5)
    book = from_status(found, "Steady")
    now = strike(book.positions, equity=book.equity, shock=Shock("as it is"))
    used = {each.rule: each.numbers for each in answers(now, book.before, Limits(), others=book.others)}

    told = {name: found["exposure"][name] * found["equity"] for name in ("heat", "margin", "gross")}
    assert used["heat_limit"]["open_risk"] == pytest.approx(told["heat"])
    assert used["total_margin"]["used"] == pytest.approx(told["margin"])
    assert used["gross_notional"]["used"] == pytest.approx(told["gross"])
    assert [position.funding for position in book.positions] == [-2.0]


def test_status_when_written_then_it_asks_the_database_for_nothing(bot: PlannedBot) -> None:
    bot.planner.filled(open_position(bot.now, PAIR))
    bot.loop(5)
    asked = []
    engine = Trade.session.get_bind()

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    planner: Any = bot.planner
    planner.equity = lambda second: EQUITY  # known from the loop

    with bot.planner.book.held() as trades:
        assert [trade.stake_amount for trade in trades] == [100.0]  # read after the last commit
        status_document(bot.planner, bot.now, 5)  # what is read once
        event.listen(engine, "before_cursor_execute", note)
        try:
            found = status_document(bot.planner, bot.now, 5)
        finally:
            event.remove(engine, "before_cursor_execute", note)
    assert len(found["positions"]) == 1
    # The stand-in for a wallet reckons its balance from closed trades.
    assert [statement for statement in asked if "sum(trades.close_profit_abs)" not in statement] == []


def test_status_when_long_and_short_are_open_then_net_is_their_difference(bot: PlannedBot) -> None:
    open_position(bot.now, PAIR, "long", margin=100.0)
    open_position(bot.now, "ETH/USDT:USDT", "short", margin=60.0)
    bot.loop(5)
    exposure = document(bot)["exposure"]
    equity = document(bot)["equity"]

    assert exposure["gross"] * equity == pytest.approx(640.0)
    assert exposure["net"] * equity == pytest.approx(160.0)


def test_status_when_a_rate_is_unknown_then_what_follows_from_it_is_null_and_the_rest_is_told(
    bot: PlannedBot,
) -> None:
    bot.loop(5)
    open_position(bot.now, PAIR)
    bot.rates[PAIR] = None
    bot.loop(2)
    found = document(bot)
    (one,) = found["positions"]

    assert found["equity"] is None
    assert found["exposure"] is None
    assert found["entries"] == "blocked"
    assert (one["rate"], one["profit"], one["r"], one["margin_used"]) == (None, None, None, None)
    assert one["health"] == "unknown"
    assert one["margin"] == 100.0


@pytest.mark.parametrize("rate", [math.nan, math.inf])
def test_status_when_a_number_is_not_finite_then_the_document_is_still_json(
    bot: PlannedBot, rate: float
) -> None:
    bot.loop(5)
    open_position(bot.now, PAIR)
    bot.rates[PAIR] = rate
    bot.loop(2)
    with Trade.session.get_bind().connect() as connection:
        value = connection.execute(text("SELECT value FROM plimsoll_status")).scalar_one()

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    assert json.loads(value, parse_constant=refuse)["entries"] == "blocked"


def test_status_when_the_entry_is_not_filled_then_it_is_no_position(bot: PlannedBot) -> None:
    trade = open_position(bot.now, PAIR)
    trade.amount = 0.0
    Trade.session.commit()
    bot.loop(5)
    assert document(bot)["positions"] == []


def test_status_when_a_stop_should_rest_on_the_exchange_then_it_is_told(bot: PlannedBot) -> None:
    bot.bot.order_types = {"stoploss_on_exchange": True}
    open_position(bot.now, PAIR)
    bot.loop(5)
    found = document(bot)

    assert found["positions"][0]["stop_on_exchange"] is False
    assert any("has not rested on the exchange" in reason for reason in found["blocked_by"])


@pytest.mark.parametrize(
    ("hours", "level"),
    [(0.0, "fine"), (19.8, "fine"), (20.0, "warning"), (23.1, "critical"), (24.1, "stopped")],
)
def test_status_when_the_dead_mans_clock_runs_then_level_and_deadline_are_told(
    bot: PlannedBot, hours: float, level: str
) -> None:
    bot.loop(4)
    began = document(bot)["deadman"]["checked_in"]
    bot.minute += round(hours * 60)
    bot.loop()
    found = document(bot)["deadman"]

    assert found["level"] == level
    assert found["checked_in"] == began
    assert found["deadline"] == (None if level == "stopped" else began + 24 * 3600)


def test_status_when_the_switch_is_off_then_it_says_so(tmp_path: Path) -> None:
    bot = PlannedBot(tmp_path, off=["deadman"])
    bot.loop(4)
    assert document(bot)["deadman"] == {"level": "off", "checked_in": None, "deadline": None, "by": None}


def test_status_when_nothing_was_read_yet_then_it_can_be_made_all_the_same(bot: PlannedBot) -> None:
    found = status_document(bot.planner, bot.now, 0)
    assert found["entries"] == "blocked"
    assert found["blocked_by"] == ["breakers: no loop was run yet"]
    assert {each["state"] for each in found["breakers"]} == {"unknown"}
    assert json.loads(json.dumps(found)) == found


def test_status_when_what_is_remembered_does_not_fit_then_the_command_line_may_reset_it(
    bot: PlannedBot,
) -> None:
    bot.loop(4)
    bot.bot.config["stake_currency"] = "BTC"
    bot.restart()
    bot.loop(4)
    found = document(bot)

    assert any(reason.startswith("memory: ") for reason in found["blocked_by"])
    # `plimsoll reset` takes the names of these only.
    assert breaker(found, "memory")["state"] == "tripped"
    assert "plimsoll reset memory" in breaker(found, "memory")["reason"]


# -- The dead man's close -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close", [True, False])
def test_deadman_when_it_stops_entries_then_positions_are_closed_where_that_is_set(
    tmp_path: Path, close: bool
) -> None:
    bot = PlannedBot(tmp_path, deadman={"close_positions": close})
    trade = open_position(bot.now, PAIR)
    bot.loop(4)
    bot.minute += 24 * 60 - 10
    bot.loop()
    assert bot.planner.margin.exit(trade, 100.0) is None
    bot.minute += 10
    bot.loop()
    wanted = (-100.0, "plimsoll_deadman") if close else None
    assert bot.planner.margin.exit(trade, 100.0) == wanted
    bot.restart()
    bot.loop()
    assert bot.planner.margin.exit(trade, 100.0) == wanted


def test_exit_when_the_database_was_away_at_the_restart_then_it_is_taken_up_once_it_is_back(
    bot: PlannedBot, monkeypatch: Any
) -> None:
    trade = open_position(bot.now, PAIR)
    bot.loop(3)
    bot.planner.margin.close_all([trade], "plimsoll_deadman")
    bot.loop()
    bot.restart()
    from plimsoll.host import memory

    load = memory.Memory.load
    calls = []

    def away_at_first(self: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise memory.MemoryFault("the database is away")
        return load(self)

    monkeypatch.setattr(memory.Memory, "load", away_at_first)
    bot.loop(2)
    assert len(calls) == 2
    assert bot.planner.margin.exit(trade, 100.0) == (-100.0, "plimsoll_deadman")
