"""The operator's bridge on SQLite and PostgreSQL: requests, answers, status, and writers that meet or die."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine, inspect, text

from plimsoll import bridge
from plimsoll.bridge import BridgeFault, StoredStatus

PATIENCE = 600.0
WRITER = """
import sys, time
from sqlalchemy import create_engine
from plimsoll import bridge

url, first, last, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
engine = create_engine(url, connect_args={"timeout": 600.0} if url.startswith("sqlite") else {})
asked = None
for n in range(first, last):
    while pause == "asking" and n == last - 1 and bridge.answer_of(engine, asked) is None:
        time.sleep(0.01)
    with engine.begin() as connection:
        bridge.write_status(connection, "bot", n, {"n": n, "pad": [n] * 20_000})
        if pause == "before":
            print("written", flush=True)
            sys.stdin.readline()
    print("committed", flush=True)
    if pause == "after":
        sys.stdin.readline()
    if pause == "asking":
        request = bridge.ask(engine, "bot", "checkin", "", n, "writer")
        asked = asked or request
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'bot.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def bare(url: str) -> Iterator[Engine]:
    # Longer than SQLite waits by itself: whoever holds the lock may stand still for a while.
    engine = create_engine(url, connect_args={"timeout": PATIENCE} if url.startswith("sqlite") else {})
    if engine.name == "sqlite":
        with engine.begin() as connection:
            connection.execute(text("PRAGMA journal_mode=wal"))
    yield engine
    engine.dispose()


@pytest.fixture
def engine(bare: Engine) -> Engine:
    bridge.create_tables(bare)
    return bare


@pytest.fixture
def writer(url: str) -> Iterator[object]:
    started: list[subprocess.Popen[str]] = []

    def start(first: int, last: int, pause: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WRITER, url, str(first), str(last), pause]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE)


def write(engine: Engine, time: int, document: dict, bot: str = "bot") -> None:
    with engine.begin() as connection:
        bridge.write_status(connection, bot, time, document)


def whole(engine: Engine) -> int:
    """The number of the stored document, which has to be of one piece."""
    stored = bridge.read_status(engine, "bot")
    assert stored is not None
    number = stored.document["n"]
    assert stored == StoredStatus(time=number, document={"n": number, "pad": [number] * 20_000})
    return int(number)


# -- Requests ------------------------------------------------------------------------------------------------


def test_requests_when_asked_then_are_open_in_their_order_and_of_their_bot(engine: Engine) -> None:
    first = bridge.ask(engine, "bot", "reset", "drawdown", 2_000_000_000_000, "alice")
    bridge.ask(engine, "other", "checkin", "", 2, "bob")
    second = bridge.ask(engine, "bot", "checkin", "", 1, "")

    with engine.connect() as connection:
        found = bridge.open_requests(connection, "bot")
    assert found == [
        bridge.Request(
            id=first, time=2_000_000_000_000, bot="bot", command="reset", argument="drawdown", by="alice"
        ),
        bridge.Request(id=second, time=1, bot="bot", command="checkin", argument="", by=""),
    ]
    assert first < second


def test_request_when_answered_then_is_open_no_more_and_its_first_answer_stands(engine: Engine) -> None:
    request = bridge.ask(engine, "bot", "checkin", "", 1, "alice")
    other = bridge.ask(engine, "bot", "checkin", "", 1, "alice")
    assert bridge.answer_of(engine, request) is None
    for text_ in ("done", "refused: twice"):
        with engine.begin() as connection:
            bridge.answer(connection, request, 5, text_)

    assert bridge.answer_of(engine, request) == "done"
    assert bridge.answer_of(engine, other) is None
    with engine.connect() as connection:
        assert [found.id for found in bridge.open_requests(connection, "bot")] == [other]


def test_answer_when_it_is_empty_or_holds_nul_then_is_stored_all_the_same(engine: Engine) -> None:
    for given, expected in (("", ""), ("a\0b", "ab")):
        request = bridge.ask(engine, "bot", "checkin", "", 1, "alice")
        with engine.begin() as connection:
            bridge.answer(connection, request, 5, given)
        assert bridge.answer_of(engine, request) == expected


def test_answer_when_rolled_back_then_leaves_the_request_open(engine: Engine) -> None:
    request = bridge.ask(engine, "bot", "checkin", "", 1, "alice")
    with engine.connect() as connection:
        bridge.answer(connection, request, 5, "done")
        connection.rollback()

    assert bridge.answer_of(engine, request) is None


def test_request_when_an_earlier_one_was_deleted_then_never_has_its_id(engine: Engine) -> None:
    first = bridge.ask(engine, "bot", "checkin", "", 1, "alice")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM plimsoll_requests"))

    assert bridge.ask(engine, "bot", "checkin", "", 1, "alice") > first


@pytest.mark.parametrize(("name", "longest"), [("bot", 100), ("command", 20), ("argument", 100), ("by", 50)])
def test_request_when_a_text_is_too_long_then_is_refused_by_name(
    engine: Engine, name: str, longest: int
) -> None:
    fitting = {"bot": "bot", "command": "reset", "argument": "", "by": "me", "time": 1}
    bridge.ask(engine, **(fitting | {name: "x" * longest}))
    with pytest.raises(ValueError, match=f"{name} must have at most {longest} characters"):
        bridge.ask(engine, **(fitting | {name: "x" * (longest + 1)}))
    with pytest.raises(ValueError, match=f"{name} .* no NUL"):
        bridge.ask(engine, **(fitting | {name: "a\0"}))


# -- Status --------------------------------------------------------------------------------------------------


def test_status_when_written_again_then_the_last_stands_for_each_bot(engine: Engine) -> None:
    write(engine, 1, {"a": 1})
    write(engine, 2, {"a": "ü\0"})
    write(engine, 3, {"a": 3}, bot="other")

    assert bridge.read_status(engine, "bot") == StoredStatus(time=2, document={"a": "ü\0"})
    assert bridge.read_status(engine, "other") == StoredStatus(time=3, document={"a": 3})
    assert bridge.read_status(engine, "none") is None


def test_status_when_numbers_are_not_finite_or_numpys_then_are_null_or_plain(engine: Engine) -> None:
    given = {"nan": float("nan"), "inf": [np.float64("-inf"), np.float64(0.5)], "int": np.int64(3)}
    write(engine, 1, given | {"bool": np.bool_(True), "path": Path("a"), "tuple": (1, None)})

    stored = bridge.read_status(engine, "bot")
    assert stored is not None
    assert stored.document == {
        "nan": None,
        "inf": [None, 0.5],
        "int": 3,
        "bool": True,
        "path": "a",
        "tuple": [1, None],
    }
    assert stored.document["bool"] is True


@pytest.mark.parametrize("value", ["", "{", "[1]", "null"])
def test_status_when_what_is_stored_is_no_mapping_then_says_so(engine: Engine, value: str) -> None:
    write(engine, 1, {})
    with engine.begin() as connection:
        connection.execute(text("UPDATE plimsoll_status SET value = :v"), {"v": value})

    with pytest.raises(BridgeFault, match="status of bot"):
        bridge.read_status(engine, "bot")


def test_bridge_when_there_are_no_tables_then_knows_nothing_and_creates_none(bare: Engine) -> None:
    assert bridge.read_status(bare, "bot") is None
    assert bridge.bots(bare) == []
    assert inspect(bare).get_table_names() == []


def test_bots_when_status_and_memory_are_stored_then_are_both_named_once(engine: Engine) -> None:
    write(engine, 1, {}, bot="beta")
    assert bridge.bots(engine) == ["beta"]
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE plimsoll_memory (name VARCHAR(100))"))
        connection.execute(text("INSERT INTO plimsoll_memory VALUES ('alpha'), ('beta')"))

    assert bridge.bots(engine) == ["alpha", "beta"]


# -- Writers that meet ---------------------------------------------------------------------------------------


def test_first_status_when_two_write_it_at_once_then_the_later_commit_stands(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as connection:
            bridge.write_status(connection, "bot", 1, {"a": 1})
            other = pool.submit(write, engine, 2, {"a": 2})
            with pytest.raises(TimeoutError):
                other.result(timeout=0.5)  # it waits for the first
        other.result(timeout=PATIENCE)

    assert bridge.read_status(engine, "bot") == StoredStatus(time=2, document={"a": 2})


def test_tables_when_two_create_them_at_once_then_both_go_on(bare: Engine) -> None:
    with ThreadPoolExecutor(1) as pool:
        with bare.begin() as connection:
            bridge._metadata.create_all(connection)
            other = pool.submit(bridge.create_tables, bare)
            time.sleep(0.3)
        other.result(timeout=PATIENCE)

    assert bridge.ask(bare, "bot", "checkin", "", 1, "alice") == 1
    bridge.create_tables(bare)


def test_tables_when_views_have_their_names_then_asking_raises(bare: Engine) -> None:
    with bare.begin() as connection:
        connection.execute(text("CREATE VIEW plimsoll_status AS SELECT 1 AS bot"))
        connection.execute(text("CREATE VIEW plimsoll_requests AS SELECT 1 AS bot"))

    bridge.create_tables(bare)  # something of that name is there
    with pytest.raises(Exception, match="plimsoll_requests"):
        bridge.ask(bare, "bot", "checkin", "", 1, "alice")


def test_two_processes_when_they_write_and_ask_at_once_then_nothing_is_lost(engine: Engine, writer) -> None:
    processes = [writer(0, 40, "asking"), writer(1000, 1040, "asking")]
    answered: set[int] = set()
    ends = time.monotonic() + PATIENCE
    while any(process.poll() is None for process in processes) and time.monotonic() < ends:
        with engine.begin() as connection:
            for request in bridge.open_requests(connection, "bot"):
                bridge.answer(connection, request.id, 1, f"n {request.time}")
                answered.add(request.id)
        time.sleep(0.01)
    for process in processes:
        out, _ = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out.count("committed")) == (0, 40)

    assert whole(engine) in (39, 1039)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, time, answer FROM plimsoll_requests")).all()
    assert sorted(row.time for row in rows) == [*range(40), *range(1000, 1040)]
    assert answered
    assert all(row.answer == f"n {row.time}" for row in rows if row.id in answered)


# -- Writers that die ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pause", "left"), [("before", 7), ("after", 8)])
def test_writer_when_killed_around_its_commit_then_the_old_or_the_new_status_stands(
    engine: Engine, writer, pause: str, left: int
) -> None:
    write(engine, 7, {"n": 7, "pad": [7] * 20_000})
    process = writer(8, 9, pause)
    assert process.stdout.readline() == ("written\n" if pause == "before" else "committed\n")
    process.kill()
    process.wait(timeout=PATIENCE)

    assert whole(engine) == left
    write(engine, 9, {"n": 9, "pad": [9] * 20_000})  # nothing of the dead stands in the way
    assert whole(engine) == 9


def test_writer_when_killed_anywhere_then_the_status_is_of_one_piece(engine: Engine, writer) -> None:
    chance = random.Random(1)
    write(engine, 0, {"n": 0, "pad": [0] * 20_000})
    last = 0
    for _ in range(4):
        process = writer(last + 1, last + 1_000_000, "never")
        assert process.stdout.readline() == "committed\n"
        threading.Event().wait(chance.uniform(0.0, 0.1))
        process.kill()
        told = process.communicate(timeout=PATIENCE)[0].count("committed") + 1
        number = whole(engine)
        assert number in (last + told, last + told + 1)  # it may die between its commit and its word
        last = number
    if engine.name == "sqlite":
        with engine.connect() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
