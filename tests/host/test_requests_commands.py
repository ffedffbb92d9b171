"""`plimsoll checkin` and `plimsoll reset` against a bot that answers, one that refuses and one that is not there."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect, text
from standin_bot import BOT, StandIn, breaker, freqtrade_database, write_status

from plimsoll import bridge, requests_to_bot
from plimsoll.bridge import Request
from plimsoll.cli import main

DATABASE = "tradesv3.dryrun.sqlite"
BREAKERS = [
    breaker("drawdown", "tripped"),
    breaker("streak BTC/USDT:USDT", pair="BTC/USDT:USDT"),
    breaker("liquidated", pair="ETH/USDT:USDT"),
]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("FREQTRADE__"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LOGNAME", "captain")
    monkeypatch.setattr(
        requests_to_bot, "WAIT_SECONDS", 300.0
    )  # a stand-in that stands still for a while is no silent bot
    Path("config.json").write_text('{"dry_run": true}', encoding="utf-8")


@pytest.fixture
def engine() -> Engine:
    engine = freqtrade_database(Path(DATABASE))
    write_status(engine, time.time(), breakers=BREAKERS)
    return engine


def did(request: Request) -> str:
    return f"{request.command} {request.argument} done for {request.by}".replace("  ", " ")


def stored(engine: Engine) -> list[Request]:
    with engine.connect() as connection:
        return bridge.open_requests(connection, BOT)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def go(*arguments: str) -> tuple[int, str, str]:
        ended = main(arguments)
        said = capsys.readouterr()
        assert said.out.count("\n") + said.err.count("\n") >= 1
        assert "Traceback" not in said.err
        return ended, said.out, said.err

    return go


# -- Answers -------------------------------------------------------------------------------------------------


def test_checkin_when_the_bot_runs_then_prints_its_answer_and_ends_with_0(run: Run, engine: Engine) -> None:
    begun = int(time.time())
    with StandIn(engine, did) as bot:
        assert run("checkin") == (0, "checkin done for captain\n", "")
    (seen,) = bot.seen
    assert (seen.bot, seen.command, seen.argument, seen.by) == (BOT, "checkin", "", "captain")
    assert begun <= seen.time <= time.time()


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        (("drawdown",), "drawdown"),
        (("streak", "BTC/USDT:USDT"), "streak BTC/USDT:USDT"),
        (("streak BTC/USDT:USDT",), "streak BTC/USDT:USDT"),
        (("liquidated", "ETH/USDT:USDT"), "liquidated ETH/USDT:USDT"),
        (("unheard of", "--force"), "unheard of"),
    ],
)
def test_reset_when_the_bot_runs_then_asks_for_that_breaker(run, engine, arguments, argument) -> None:
    with StandIn(engine, did) as bot:
        assert run("reset", *arguments, "--by", "Zoë") == (0, f"reset {argument} done for Zoë\n", "")
    assert [(seen.command, seen.argument) for seen in bot.seen] == [("reset", argument)]


@pytest.mark.parametrize(
    ("answer", "ends"),
    [("refused: it is not tripped", 1), ("refused:", 1), ("Not refused: done", 0), ("", 0)],
)
def test_reset_when_the_bot_refuses_then_ends_with_1(run, engine, answer: str, ends: int) -> None:
    with StandIn(engine, lambda _: answer):
        assert run("reset", "drawdown") == (ends, f"{answer}\n", "")


def test_checkin_when_the_answer_holds_control_characters_and_markup_then_prints_them_plain(
    run: Run, engine: Engine
) -> None:
    with StandIn(engine, lambda _: "done\x1b[2J [red]now[/]\nsecond"):
        assert run("checkin")[1] == "done[2J [red]now[/] second\n"


def test_checkin_when_the_answer_is_late_then_waits_no_longer_than_told(run: Run, engine: Engine) -> None:
    asked_again = threading.Event()

    def late(request: Request) -> str:
        asked_again.wait(120)
        return did(request)

    with StandIn(engine, late) as bot:
        begun = time.monotonic()
        assert run("checkin", "--wait", "0.3")[0] == 3
        assert 0.3 <= time.monotonic() - begun < 60.0
        asked_again.set()
        assert run("checkin", "--wait", "120")[0] == 0
    assert len(bot.seen) == 2


def test_checkin_when_the_database_fails_while_waiting_then_goes_on_waiting(
    run: Run, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, failures = bridge.answer_of, iter([True, True])

    def flaky(engine: Engine, request_id: int) -> str | None:
        if next(failures, False):
            engine.connect().execute(text("SELECT * FROM gone"))
        return asked(engine, request_id)

    monkeypatch.setattr(bridge, "answer_of", flaky)
    with StandIn(engine, did):
        assert run("checkin")[0] == 0
    assert next(failures, None) is None


# -- A bot that is not there ---------------------------------------------------------------------------------


def test_checkin_when_the_bot_is_silent_then_stores_it_for_the_next_start(run: Run, engine: Engine) -> None:
    write_status(engine, time.time() - 7200)
    ended, said, error = run("checkin", "--wait", "0.1")
    assert (ended, error) == (3, "")
    assert said.startswith("Stored as request 1; MyGuarded has not answered within 0.1 s (silent since 20")
    assert said.endswith("It takes the request up in its next loop, or at its next start.\n")

    with StandIn(engine, did) as bot:  # it starts
        ends = time.monotonic() + 120
        while not bot.seen and time.monotonic() < ends:
            time.sleep(0.02)
    assert [seen.command for seen in bot.seen] == ["checkin"]
    assert bridge.answer_of(engine, 1) == "checkin done for captain"


def test_checkin_when_no_bot_ever_ran_then_needs_its_name(run: Run) -> None:
    engine = freqtrade_database(Path(DATABASE))
    ended, said, error = run("checkin", "--wait", "0")
    assert (ended, said) == (2, "")
    assert "no bot with Plimsoll ran on sqlite:///tradesv3.dryrun.sqlite yet" in error
    assert inspect(engine).get_table_names() == ["trades"]

    ended, said, _ = run("checkin", "--wait", "0", "--bot", BOT)
    assert ended == 3
    assert "it never wrote a status" in said
    assert [request.command for request in stored(engine)] == ["checkin"]


def test_requests_when_the_database_is_missing_then_none_is_created(run: Run) -> None:
    before = sorted(Path().iterdir())
    for arguments in (("checkin",), ("reset", "drawdown"), ("reset",)):
        ended, said, error = run(*arguments)
        assert (ended, said) == (2, "")
        assert error.startswith(f"plimsoll {arguments[0]}: there is no database")
        assert error.count("\n") == 1
    assert sorted(Path().iterdir()) == before


def test_checkin_when_the_database_refuses_to_store_it_then_says_so_in_one_line(
    run: Run, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TRIGGER no BEFORE INSERT ON plimsoll_requests BEGIN SELECT RAISE(ABORT, 'no\ntwo'); END"
            )
        )
    assert run("checkin") == (2, "", "plimsoll checkin: sqlite:///tradesv3.dryrun.sqlite: no\n")


def test_checkin_when_another_holds_the_write_lock_then_waits_for_it(run: Run, engine: Engine) -> None:
    locked = threading.Event()

    def hold() -> None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO trades DEFAULT VALUES"))
            locked.set()
            time.sleep(1.0)

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(120)
    assert run("checkin", "--wait", "0")[0] == 3
    thread.join(timeout=120)
    assert len(stored(engine)) == 1


# -- Names ---------------------------------------------------------------------------------------------------


def test_reset_when_the_breaker_is_unknown_then_names_those_there_are_and_asks_nothing(
    run: Run, engine: Engine
) -> None:
    ended, said, error = run("reset", "drawdwon")
    assert (ended, said) == (2, "")
    known = "drawdown, liquidated ETH/USDT:USDT, streak BTC/USDT:USDT"
    assert error == (
        f"plimsoll reset: BREAKER must be one of {known}; was drawdwon (--force asks all the same)\n"
    )
    assert stored(engine) == []


def test_reset_when_no_breaker_is_given_then_lists_them(run: Run, engine: Engine) -> None:
    ended, said, _ = run("reset")
    assert ended == 0
    first, *rest = said.splitlines()
    assert first.startswith("Breakers of MyGuarded, its last status is ")
    assert rest == [
        "  drawdown  tripped",
        "  streak BTC/USDT:USDT  armed",
        "  liquidated ETH/USDT:USDT  armed",
    ]
    assert stored(engine) == []


@pytest.mark.parametrize("breakers", [None, [], "text", [1, {}], [{"name": 3}]])
def test_reset_when_the_status_names_no_breaker_then_needs_force(run, engine, breakers) -> None:
    write_status(engine, time.time(), breakers=breakers)
    assert run("reset")[0] == 2
    assert "must be one of none, as the bot" in run("reset", "drawdown")[2]
    assert stored(engine) == []
    assert run("reset", "drawdown", "--force", "--wait", "0")[0] == 3
    assert [request.argument for request in stored(engine)] == ["drawdown"]


def test_requests_when_several_bots_share_a_database_then_only_the_chosen_is_asked(run, engine) -> None:
    write_status(engine, time.time(), bot="Other")
    ended, _, error = run("checkin")
    assert ended == 2
    assert "choose with --bot: MyGuarded, Other\n" in error
    assert "--bot must be one of MyGuarded, Other" in run("checkin", "--bot", "Nobody")[2]
    assert run("checkin", "--bot", "Other", "--wait", "0")[0] == 3
    assert stored(engine) == []


def test_reset_when_a_name_is_longer_than_its_column_then_is_refused(run: Run, engine: Engine) -> None:
    assert run("reset", "x" * 100, "--force", "--wait", "0")[0] == 3
    ended, _, error = run("reset", "x" * 101, "--force", "--wait", "0")
    assert ended == 2
    assert "argument must have at most 100 characters" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--wait", "-1"), "must be seconds from 0 to 86400, was '-1'"),
        (("--wait", "nan"), "must be seconds from 0 to 86400, was 'nan'"),
        (("--wait", "soon"), "must be seconds from 0 to 86400, was 'soon'"),
        (("--by", ""), "must be 1 to 50 printable characters"),
        (("--by", "x" * 51), "must be 1 to 50 printable characters"),
        (("--by", "a\x1bb"), "must be 1 to 50 printable characters"),
    ],
)
def test_checkin_when_an_argument_is_wrong_then_ends_with_2(capsys, engine, arguments, message) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["checkin", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert stored(engine) == []


# -- PostgreSQL ----------------------------------------------------------------------------------------------


def test_requests_when_on_postgresql_then_work_as_on_sqlite(run: Run, postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE trades (id INTEGER PRIMARY KEY)"))
    write_status(engine, time.time(), breakers=BREAKERS)
    address = ("--db-url", postgres_url)
    with StandIn(engine, did):
        assert run("checkin", *address) == (0, "checkin done for captain\n", "")
        assert run("reset", "drawdown", *address)[0] == 0
    assert run("reset", *address)[0] == 0
    ended, shown, _ = run("status", *address)
    assert ended == 0
    assert "58,991.2" in shown
    engine.dispose()
