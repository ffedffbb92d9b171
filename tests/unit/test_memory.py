"""What is remembered in Freqtrade's database, and what happens when it cannot be read."""

from __future__ import annotations

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
