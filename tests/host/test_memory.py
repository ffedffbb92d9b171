"""What is remembered in Freqtrade's database, and what happens when it cannot be read."""

from __future__ import annotations

import json

import pytest
from freqtrade.persistence import Trade
from host_database import database
from sqlalchemy import text

from plimsoll.host.memory import VERSION, Memory, MemoryFault

DOCUMENT = {"peak": 10_000.5, "resets": {"drawdown": 1}, "nothing": None}


def execute(statement: str, **values) -> None:
    with Trade.session.get_bind().begin() as connection:
        connection.execute(text(statement), values)


def test_memory_when_nothing_was_stored_then_is_none():
    with database():
        assert Memory("Steady").load() is None


def test_memory_when_stored_then_survives_the_process(tmp_path):
    url = f"sqlite:///{tmp_path / 'bot.sqlite'}"
    with database(url):
        Memory("Steady").save(DOCUMENT)
    with database(url):
        assert Memory("Steady").load() == DOCUMENT


def test_memory_when_of_another_bot_then_is_apart():
    with database():
        Memory("Steady").save({"a": 1})
        Memory("Other").save({"a": 2})

        assert Memory("Steady").load() == {"a": 1}
        assert Memory("Other").load() == {"a": 2}


def test_memory_when_unchanged_then_is_not_written_again():
    with database():
        memory = Memory("Steady")
        memory.save(DOCUMENT)
        execute("DELETE FROM plimsoll_memory")
        memory.save(dict(reversed(DOCUMENT.items())))
        assert Memory("Steady").load() is None

        memory.save(DOCUMENT | {"peak": 1.0})
        assert Memory("Steady").load() == DOCUMENT | {"peak": 1.0}


def test_memory_when_freqtrades_own_transaction_is_rolled_back_then_stays(tmp_path):
    with database(f"sqlite:///{tmp_path / 'bot.sqlite'}"):
        memory = Memory("Steady")
        memory.save(DOCUMENT)
        Trade.session.rollback()

        assert Memory("Steady").load() == DOCUMENT


def test_memory_when_of_a_newer_version_then_is_refused_and_left_alone():
    with database():
        Memory("Steady").save(DOCUMENT)
        execute("UPDATE plimsoll_memory SET version = :v", v=VERSION + 1)

        with pytest.raises(MemoryFault, match=f"newer Plimsoll .version {VERSION + 1}"):
            Memory("Steady").load()
        execute("UPDATE plimsoll_memory SET version = :v", v=VERSION)
        assert Memory("Steady").load() == DOCUMENT


@pytest.mark.parametrize("value", ["", "{", "nonsense", "[1, 2]", "null", '"text"'])
def test_memory_when_corrupt_then_is_refused(value):
    with database():
        Memory("Steady").save(DOCUMENT)
        execute("UPDATE plimsoll_memory SET value = :v", v=value)

        with pytest.raises(MemoryFault):
            Memory("Steady").load()


def test_memory_when_the_table_is_anothers_then_is_refused():
    with database():
        Memory("Steady").save(DOCUMENT)
        execute("DROP TABLE plimsoll_memory")
        execute("CREATE VIEW plimsoll_memory AS SELECT 1 AS other")

        with pytest.raises(MemoryFault, match="cannot be read"):
            Memory("Steady").load()


# -- Version 1: as Plimsoll wrote it before there were check-ins ------------------------------------------------------------------

VERSION_1 = {
    "breakers": {
        "equity": {
            "drawdown": {
                "readings": {
                    "time": 1_700_000_000,
                    "flow": 0.0,
                    "units": 1.0,
                    "recent": [8_900.0, 8_900.0, 8_900.0],
                    "value": 8_900.0,
                },
                "peak": 10_000.0,
                "deepest": 0,
                "tripped": True,
                "until": None,
                "reason": "drawdown 11.0 % from the peak of 10,000, limit 10 %, until an operator resets it",
                "reset_time": None,
            }
        },
        "liquidated": {},
        "resets": {"streak": 1_699_999_000},
    },
    "locks": {"drawdown": [1, 2_000_000_000]},
    "flows": {"total": 250.0, "baseline": 10_000.0},
}


def store(value: str, version: int) -> None:
    Memory("Steady").save({})
    execute("UPDATE plimsoll_memory SET value = :v, version = :n", v=value, n=version)


def test_memory_when_of_version_1_then_it_is_taken_up_and_what_it_could_not_know_begins_anew():
    with database():
        store(json.dumps(VERSION_1, sort_keys=True), 1)
        loaded = Memory("Steady").load()

        assert loaded == VERSION_1 | {"operator": None, "margin": {}, "bot": None}


def test_memory_when_of_version_1_then_the_next_save_writes_the_present_one():
    with database():
        store(json.dumps(VERSION_1, sort_keys=True), 1)
        memory = Memory("Steady")
        loaded = memory.load()
        assert loaded is not None
        memory.save(loaded)
        with Trade.session.get_bind().connect() as connection:
            row = connection.execute(text("SELECT version, value FROM plimsoll_memory")).one()

        assert row.version == VERSION == 2
        assert json.loads(row.value) == loaded


def test_memory_when_what_belongs_to_it_cannot_be_written_then_neither_is_it():
    with database():
        memory = Memory("Steady")
        memory.save(DOCUMENT)

        def fails(connection):
            connection.execute(text("INSERT INTO plimsoll_status VALUES ('Steady', 1, '{}')"))
            raise ConnectionError("gone")

        with pytest.raises(ConnectionError):
            memory.save(DOCUMENT | {"peak": 1.0}, fails)
        assert Memory("Steady").load() == DOCUMENT
        with Trade.session.get_bind().connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM plimsoll_status")).scalar() == 0

        memory.save(DOCUMENT | {"peak": 1.0})  # not taken for written
        assert Memory("Steady").load() == DOCUMENT | {"peak": 1.0}


def test_memory_when_unchanged_then_what_belongs_to_it_is_written_all_the_same():
    with database():
        memory = Memory("Steady")
        told = []
        for _ in range(2):
            memory.save(DOCUMENT, lambda connection: told.append(connection))
        assert len(told) == 2
