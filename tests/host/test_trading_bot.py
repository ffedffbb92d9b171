"""What a `TradingBot` says of a bot that is not running: its database, and the configuration it would get."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, insert

from plimsoll.market.bot import TradingBot
from plimsoll.market.exchange import LoopbackExchange

PAIR = "BTC/USDT:USDT"
LOCKED = datetime(2024, 3, 5, 12)


@pytest.fixture
def exchange():
    with LoopbackExchange([PAIR]) as exchange:
        yield exchange


def lock(url: str, pairs: list[str]) -> None:
    """Make Freqtrade's tables and lock pairs."""
    from freqtrade.persistence.base import ModelBase
    from freqtrade.persistence.pairlock import PairLock

    engine = create_engine(url)
    ModelBase.metadata.create_all(engine)
    rows = [
        {"pair": pair, "side": "*", "lock_time": LOCKED, "lock_end_time": LOCKED, "active": True}
        for pair in pairs
    ]
    with engine.begin() as connection:
        connection.execute(insert(PairLock.__table__), rows)
    engine.dispose()


def test_rows_when_there_is_no_database_or_table_then_are_none_and_nothing_is_made(exchange, tmp_path):
    bot = TradingBot(exchange, tmp_path, "Any")
    assert bot.trades() == bot.orders() == bot.locks() == []
    assert not (tmp_path / "trades.sqlite").exists()
    sqlite3.connect(tmp_path / "trades.sqlite").close()
    assert bot.trades() == []


def test_rows_when_of_sqlite_then_are_in_order_with_aware_times(exchange, tmp_path):
    bot = TradingBot(exchange, tmp_path, "Any")
    lock(bot.db_url, [PAIR, "ETH/USDT:USDT"])
    assert [(row["id"], row["pair"]) for row in bot.locks()] == [(1, PAIR), (2, "ETH/USDT:USDT")]
    assert bot.locks()[0]["lock_time"] == LOCKED.replace(tzinfo=UTC)
    assert bot.trades() == []


def test_rows_when_of_postgresql_then_are_the_same(exchange, tmp_path, postgres_url):
    bot = TradingBot(exchange, tmp_path, "Any", db_url=postgres_url)
    assert bot.locks() == []
    lock(postgres_url, [PAIR, "ETH/USDT:USDT"])
    assert [(row["id"], row["pair"]) for row in bot.locks()] == [(1, PAIR), (2, "ETH/USDT:USDT")]
    assert bot.locks()[0]["lock_time"] == LOCKED.replace(tzinfo=UTC)


def test_rows_when_somebody_is_writing_then_are_what_was_committed_and_do_not_hold_the_writer(
    exchange, tmp_path
):
    bot = TradingBot(exchange, tmp_path, "Any")
    lock(bot.db_url, [PAIR])
    with sqlite3.connect(tmp_path / "trades.sqlite", timeout=0.1, isolation_level=None) as writer:
        writer.execute("begin immediate")
        writer.execute("update pairlocks set pair = 'OTHER'")
        assert [row["pair"] for row in bot.locks()] == [PAIR]
        writer.execute("commit")
    writer.close()
    assert [row["pair"] for row in bot.locks()] == ["OTHER"]


@pytest.mark.parametrize("started_again", [False, True])
def test_rows_when_the_writer_was_killed_half_way_then_are_what_was_committed(
    exchange, tmp_path, monkeypatch, started_again
):
    bot = TradingBot(exchange, tmp_path, "Any")
    monkeypatch.setattr(bot, "alive", lambda: started_again)
    lock(bot.db_url, [PAIR] * 2000)
    code = (
        "import sqlite3, time; c = sqlite3.connect('trades.sqlite', isolation_level=None);"
        "c.execute('pragma cache_size = 1'); c.execute('begin immediate');"
        "c.execute('update pairlocks set pair = ?', ('HALF' * 50,)); print('written', flush=True); time.sleep(600)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"written\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait(timeout=120)
    writer.stdout.close()
    assert (tmp_path / "trades.sqlite-journal").stat().st_size > 0
    assert {row["pair"] for row in bot.locks()} == {PAIR}


def test_bot_when_made_then_its_configurations_are_in_order_and_the_last_wins(exchange, tmp_path):
    from freqtrade.configuration.load_config import load_from_files

    theirs = tmp_path / "theirs.json"
    theirs.write_text(json.dumps({"db_url": "theirs", "max_open_trades": 3, "exchange": {"key": "theirs"}}))
    bot = TradingBot(
        exchange,
        tmp_path,
        "Any",
        configs=[theirs],
        api=True,
        overrides={"max_open_trades": 9},
        arguments=["-v"],
    )
    files = [after for before, after in zip(bot._command, bot._command[1:], strict=False) if before == "-c"]
    config = load_from_files(files)
    assert files[0] == str(theirs)
    assert (config["max_open_trades"], config["dry_run"], config["initial_state"]) == (9, True, "running")
    assert config["db_url"] == f"sqlite:///{tmp_path / 'trades.sqlite'}"
    assert config["exchange"]["key"] == ""
    assert config["exchange"]["pair_whitelist"] == [PAIR]
    assert len(config["api_server"]["password"]) == 32
    assert bot._command[3:7] == ["trade", "--strategy", "Any", "-v"]


def test_bot_when_not_started_then_is_dead_and_takes_orders_to_end(exchange, tmp_path):
    bot = TradingBot(exchange, tmp_path, "Any", api=True)
    bot.kill()
    assert bot.stop() is None
    assert (bot.alive(), bot.ready(1.0), bot.log(), bot.last_words()) == (False, False, "", "")
    with socket.socket() as held:  # nobody else may serve at its port meanwhile
        held.bind(("127.0.0.1", bot._port))
        assert bot.rest("GET", "ping")[0] == 0
    with pytest.raises(RuntimeError, match="made without `api`"):
        TradingBot(exchange, tmp_path, "Any").rest("GET", "ping")
