"""The throw-away PostgreSQL server of the tests, and Freqtrade's own tables on it."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import postgres
import pytest
from freqtrade.persistence import PairLocks, Trade
from host_database import STARTED, active_locks, close_trade, database
from postgres import NoPostgres, Postgres
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import OperationalError


def test_postgres_when_freqtrade_opens_it_then_its_tables_hold_trades_and_locks(postgres_url: str) -> None:
    with database(postgres_url):
        tables = set(inspect(Trade.session.get_bind()).get_table_names())
        assert {"trades", "orders", "pairlocks", "KeyValueStore"} <= tables
        close_trade(STARTED, 0.1)
        PairLocks.lock_pair("*", STARTED + timedelta(days=365), "held")
    with database(postgres_url):
        assert Trade.get_total_closed_profit() == pytest.approx(10.0)
        assert [lock.reason for lock in active_locks()] == ["held"]


def test_postgres_url_when_asked_again_then_the_database_is_another_and_empty(
    postgres_server: Postgres, postgres_url: str
) -> None:
    with create_engine(postgres_url).begin() as connection:
        connection.execute(text("create table mark (number integer)"))
    fresh = postgres_server.new_database()
    assert fresh != postgres_url
    assert inspect(create_engine(fresh)).get_table_names() == []


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_postgres_when_ended_and_started_again_then_what_was_committed_is_there(
    postgres_server: Postgres, postgres_url: str, end: str
) -> None:
    engine = create_engine(postgres_url, pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(text("create table mark as select 7 as number"))
    getattr(postgres_server, end)()
    with pytest.raises(OperationalError), engine.connect():
        pass
    postgres_server.start()
    with engine.connect() as connection:
        assert connection.scalar(text("select number from mark")) == 7
    engine.dispose()


def test_postgres_when_frozen_then_connecting_hangs_until_its_time_limit(
    postgres_server: Postgres, postgres_url: str
) -> None:
    engine = create_engine(postgres_url, connect_args={"connect_timeout": 2})
    postgres_server.freeze()
    began = time.monotonic()
    with pytest.raises(OperationalError), engine.connect():
        pass
    assert time.monotonic() - began > 1.5
    engine.dispose()
    postgres_server.thaw()
    patient = create_engine(postgres_url)
    with patient.connect() as connection:
        assert connection.scalar(text("select 1")) == 1
    patient.dispose()


def test_postgres_when_not_installed_then_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "INSTALLED_IN", (str(tmp_path / "*" / "bin"),))
    with pytest.raises(NoPostgres, match="PostgreSQL is not installed"):
        postgres.find_binaries()
