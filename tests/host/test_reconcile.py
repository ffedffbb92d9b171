"""What is remembered against the bot that starts: another currency, another mode, missing losses; and giving it up."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from attended import Attended
from attended import bot_database as bot_database
from attended import reused_postgres as reused_postgres
from freqtrade.enums import RunMode
from freqtrade.persistence import Trade
from host_database import STARTED, Bot, close_trade
from sqlalchemy import text

from plimsoll.host.planner import Planner
from plimsoll.host.reconcile import bot_facts, newest_trade, what_does_not_fit

pytestmark = pytest.mark.usefixtures("bot_database")


def open_trade() -> Trade:
    trade = close_trade(STARTED, 0.0, pair="ETH/USDT:USDT")
    trade.is_open, trade.close_date, trade.close_rate = True, None, None
    Trade.session.commit()
    return trade


def another(life: Attended, what: str) -> None:
    if what == "currency":
        life.bot.config["stake_currency"] = "BTC"
    elif what == "mode":
        life.bot.config["runmode"] = RunMode.LIVE
    else:
        Trade.session.delete(Trade.session.get(Trade, newest_trade()))
        Trade.session.commit()


SAYS = {
    "currency": "remembered from stake_currency USDT, the bot has BTC",
    "mode": "remembered from runmode dry_run, the bot has live",
    "trades": "trades up to 2 were seen, the database ends at 1: losses are missing",
}


def with_trades() -> Attended:
    with Trade.session.get_bind().begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("ALTER SEQUENCE trades_id_seq RESTART WITH 1"))
    life = Attended().started()
    for _ in range(2):
        close_trade(life.now, 0.01)
        life.steady()
    return life


def test_facts_when_the_bot_is_the_same_then_everything_fits() -> None:
    close_trade(STARTED, 0.01)
    bot: Any = Bot()
    facts = json.loads(json.dumps(bot_facts(bot, newest_trade())))

    assert what_does_not_fit(facts, bot) is None
    assert what_does_not_fit(None, bot) is None
    close_trade(STARTED, 0.01)
    assert what_does_not_fit(facts, bot) is None


@pytest.mark.parametrize("what", sorted(SAYS))
def test_start_when_it_does_not_fit_then_it_is_said_and_stays_so_through_restarts(what: str) -> None:
    life = with_trades()
    another(life, what)
    for start in range(3):
        life.again()
        life.bot.said.clear()
        life.steady(3)
        assert SAYS[what] in str(life.watch.misfit), start
        assert "plimsoll reset memory" in str(life.watch.misfit)
        assert life.heard("no entries: ") == 1, start


@pytest.mark.parametrize("what", sorted(SAYS))
def test_start_when_what_did_not_fit_is_put_right_then_it_fits_with_all_that_was_remembered(
    what: str,
) -> None:
    life = with_trades()
    another(life, what)
    life.again()
    life.steady(3)
    life.bot.config |= {"stake_currency": "USDT", "runmode": RunMode.DRY_RUN}
    if what == "trades":
        close_trade(life.now, 0.01).id = 2
        Trade.session.commit()
    life.again()
    life.steady(3)

    assert life.watch.misfit is None


@pytest.mark.parametrize("what", sorted(SAYS))
def test_memory_when_given_up_then_peaks_start_anew_and_a_restart_does_not_bring_it_back(what: str) -> None:
    life = with_trades()
    life.trip()
    another(life, what)
    life.again()
    life.steady(3)
    request = life.ask("reset", "memory")
    life.steady(4)

    assert life.watch.misfit is None
    assert life.blocking() == {}
    assert life.answer(request) == "what was remembered is given up; peaks and openings start anew"
    for _ in range(2):
        life.again()
        life.steady(3)
        assert life.watch.misfit is None
        assert life.blocking() == {}
        assert life.shut() == []


def test_memory_when_given_up_in_another_currency_then_the_balance_of_before_is_no_withdrawal() -> None:
    life = Attended(starting_balance=10_000.0).started()
    life.bot.config["stake_currency"] = "BTC"
    life.bot.starting_balance = life.equity = 2.0
    life.again()
    life.ask("reset", "memory")
    life.steady(6)
    assert life.shut() == []
    life.equity = 1.7
    life.steady(4)
    assert list(life.blocking()) == ["drawdown"]


def test_memory_when_it_fits_then_giving_it_up_is_refused() -> None:
    life = with_trades()
    request = life.ask("reset", "memory")
    life.steady()

    assert str(life.answer(request)).startswith("refused: there is no breaker 'memory'")


def test_trades_when_an_entry_was_cancelled_and_its_trade_deleted_then_no_loss_is_missing() -> None:
    life = with_trades()
    unfilled = open_trade()
    life.steady(2)
    Trade.session.delete(unfilled)  # as Freqtrade does when an entry times out
    Trade.session.commit()
    life.again()
    life.steady(3)

    assert life.watch.misfit is None


def test_trades_when_all_are_gone_then_it_is_said() -> None:
    life = with_trades()
    for trade in Trade.session.query(Trade).all():
        Trade.session.delete(trade)
    Trade.session.commit()
    life.again()
    life.steady()

    assert "the database ends at 0" in str(life.watch.misfit)


def test_misfit_when_there_is_one_then_entries_are_unknown_until_it_is_given_up() -> None:
    life = with_trades()
    life.bot.config |= {"stake_currency": "BTC", "user_data_dir": "/nowhere"}
    life.again()
    life.steady(3)
    bot: Any = life.bot
    planner = Planner(bot, life.settings)
    planner.trading.watch, planner._run = life.watch, life.run
    found = [answer for answer in planner.gates.answers("BTC/USDT:USDT") if answer.blocks]
    assert [answer.rule for answer in found] == ["memory"]
    assert "plimsoll reset memory" in found[0].reason

    life.ask("reset", "memory")
    life.steady(4)
    assert [answer.rule for answer in planner.gates.answers("BTC/USDT:USDT") if answer.blocks] == []


def test_document_when_it_is_of_before_reconciling_then_everything_fits() -> None:
    life = with_trades()
    with Trade.session.get_bind().begin() as connection:
        value = json.loads(connection.execute(text("SELECT value FROM plimsoll_memory")).scalar_one())
        value["bot"] = None
        connection.execute(text("UPDATE plimsoll_memory SET value = :value"), {"value": json.dumps(value)})
    life.bot.config["stake_currency"] = "BTC"
    life.again()
    life.minute += round(timedelta(minutes=1).total_seconds() / 60)
    life.steady(2)

    assert life.watch.misfit is None
