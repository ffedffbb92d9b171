"""`plimsoll status`: where it looks, what it prints, and its exit status."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sqlalchemy import Engine, make_url, text
from standin_bot import breaker, document, freqtrade_database, position, write_status

from plimsoll import status, terminal
from plimsoll.bot_database import Database, DatabaseFault, configured_url, open_database
from plimsoll.bridge import StoredStatus
from plimsoll.cli import main
from plimsoll.status_view import StatusView, is_silent

DRY_RUN = "tradesv3.dryrun.sqlite"
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    for name in os.environ:
        if name.startswith("FREQTRADE__"):
            monkeypatch.delenv(name)
    Path("config.json").write_text('{"dry_run": true}', encoding="utf-8")


@pytest.fixture
def engine() -> Engine:
    return freqtrade_database(Path(DRY_RUN))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the command and return its exit status and what it printed; nothing may go wrong on the way."""
    ended = main(["status", *arguments])
    said = capsys.readouterr()
    assert said.err == ""
    return ended, said.out


def complained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command where it has to end with 2 and one line, and return the line."""
    assert main(["status", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("plimsoll status: ")
    assert said.err.count("\n") == 1
    return said.err


def drawn(shown: dict[str, Any], width: int = 120, now: float = NOW, time: float = NOW) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(StatusView(StoredStatus(time=int(time), document=shown), now))
    return console.export_text()


def line(shown: str, begins: str) -> str:
    return next(line for line in shown.splitlines() if line.startswith(begins))


# -- Exit status and age -------------------------------------------------------------------------------------


def test_status_when_entries_are_open_then_ends_with_0(capsys, engine) -> None:
    write_status(engine, time.time())
    ended, shown = printed(capsys)
    assert ended == 0
    assert line(shown, "Entries").split() == ["Entries", "open"]
    assert line(shown, "MyGuarded").startswith("MyGuarded  dry run  plimsoll 0.1.0  loop 48,213  written ")


@pytest.mark.parametrize("entries", ["blocked", "unheard of", None])
def test_status_when_entries_are_not_open_then_ends_with_1_and_says_why(capsys, engine, entries) -> None:
    write_status(engine, time.time(), entries=entries, blocked_by=["drawdown: 20 %", "heat is unknown"])
    ended, shown = printed(capsys)
    assert ended == 1
    assert "drawdown: 20 %" in shown
    assert "heat is unknown" in shown


@pytest.mark.parametrize(
    ("age", "silent"), [(0, False), (60, False), (60.5, True), (86_400, True), (-60, False), (-60.5, True)]
)
def test_status_when_older_than_a_minute_or_as_far_ahead_then_is_silent(age: float, silent: bool) -> None:
    stored = StoredStatus(time=int(NOW), document=document(NOW))
    assert is_silent(stored, NOW + age) is silent
    assert status.exit_status(stored, NOW + age) == (2 if silent else 0)


def test_status_when_the_bot_is_silent_then_ends_with_2_and_says_since_when(capsys, engine) -> None:
    write_status(engine, time.time() - 662)  # eleven minutes for 58 seconds from now
    ended, shown = printed(capsys)
    assert ended == 2
    assert "silent since 20" in shown
    assert "(11 min); below is what it said then" in shown


def test_status_when_dated_ahead_then_blames_the_clocks() -> None:
    assert "dated 2 min ahead: one of the clocks is wrong" in drawn(document(NOW), now=NOW - 120)


def test_status_when_silent_then_is_red_and_entries_are_not_green() -> None:
    console = Console(width=120, force_terminal=True, color_system="standard", file=open(os.devnull, "w"))  # noqa: SIM115
    stored = StoredStatus(time=int(NOW), document=document(NOW))
    with console.capture() as fresh:
        console.print(StatusView(stored, NOW))
    with console.capture() as old:
        console.print(StatusView(stored, NOW + 61))
    assert "\x1b[32mopen" in fresh.get()
    assert "\x1b[32mopen" not in old.get()
    assert "\x1b[1;31msilent since 2027-01-15 08:00:00 UTC" in old.get()


# -- What is shown -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120, 200])
def test_status_when_drawn_then_nothing_is_cut_nor_wider_than_the_terminal(width: int) -> None:
    shown = drawn(document(NOW), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    for value in ("9,812.38 USDT", "10,012.50 USDT", "307.12", "1000PEPE/USDT:USDT", "short 5x", "58,991.2"):
        assert value in shown
    for value in ("42,345.6", "30.5%", "-0.07 R", "98.12", "601.22", "1.2%", "close"):
        assert value in shown
    assert ("1,803.66" in shown) is (width == 200)


def test_status_when_a_breaker_trips_then_shows_its_reason_and_a_full_bar() -> None:
    tripped = breaker("streak", "tripped", value=3, limit=3, until=NOW + 2700, reason="3 losses in a row")
    shown = drawn(document(NOW, breakers=[tripped, breaker("daily_loss", value=0.049, limit=0.05)]))
    assert line(shown, "streak ").split() == ["streak", "tripped", "3", "3", "██████████", "in", "45", "min"]
    assert line(shown, "daily_loss").split() == ["daily_loss", "armed", "4.9%", "5.0%", "█████████░"]
    assert "streak  3 losses in a row" in shown


def test_status_when_a_breaker_trips_below_its_limit_then_draws_no_bar() -> None:
    shown = drawn(document(NOW, breakers=[breaker("decay", value=1.2, limit=0.5)]))
    assert line(shown, "decay").split() == ["decay", "armed", "1.2", "0.5"]


@pytest.mark.parametrize("until", [None, 1 << 62])
def test_status_when_no_time_ends_a_block_then_says_reset(until: int | None) -> None:
    shown = drawn(document(NOW, breakers=[breaker("drawdown", "tripped", until=until)]))
    assert line(shown, "drawdown").split() == ["drawdown", "tripped", "██████████", "reset"]


def test_status_when_a_breaker_is_of_a_pair_then_names_it_once() -> None:
    both = [breaker("liquidated", pair="A/USDT"), breaker("streak B/USDT", pair="B/USDT")]
    shown = drawn(document(NOW, breakers=both))
    assert line(shown, "liquidated A/USDT ")
    assert line(shown, "streak B/USDT ").count("B/USDT") == 1


@pytest.mark.parametrize(
    ("deadman", "expected"),
    [
        ({"level": "off"}, "off"),
        (
            {"level": "fine", "checked_in": NOW - 7260, "by": "alice"},
            "fine, last check-in 2 h 1 min ago by alice",
        ),
        ({"level": "warning", "deadline": NOW + 90}, "(in 90 s)"),
        ({"level": "stopped", "checked_in": NOW - 90_000, "deadline": NOW - 3600}, "(1 h ago)"),
        ({}, "?, no check-in yet"),
        (None, "unknown"),
    ],
)
def test_status_when_drawn_then_tells_the_dead_mans_switch(deadman: Any, expected: str) -> None:
    assert expected in line(drawn(document(NOW, deadman=deadman)), "Dead man's switch")


@pytest.mark.parametrize(("satisfied", "expected"), [(True, "done"), (False, "not done"), (None, "?")])
def test_status_when_drawn_then_tells_the_proving(satisfied: bool | None, expected: str) -> None:
    shown = drawn(document(NOW, proving={"needed_days": 14, "days": 3.21, "satisfied": satisfied}))
    assert line(shown, "Proving").split(maxsplit=1)[1].startswith(f"{expected}, 3.21 of 14 days")


def test_status_when_texts_hold_markup_and_control_characters_then_prints_neither() -> None:
    evil = ":smile: [red]A\x1b[2J\x07\u202eB[/red]\nC[/]"
    shown = drawn(
        document(
            NOW,
            bot=evil,
            blocked_by=[evil],
            stake_currency=evil,
            breakers=[breaker(evil, "tripped", reason=evil)],
            positions=[position(evil, evil)],
            other_positions=[{"pair": evil, "side": evil, "kind": evil}],
            deadman={"level": evil, "checked_in": 1, "by": evil},
        ),
        width=400,
    )
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert shown.count(":smile: [red]A[2JB[/red] C[/]") >= 8


def test_status_when_a_document_is_empty_then_everything_is_unknown() -> None:
    shown = drawn({})
    for name in ("Breakers", "Exposure", "Positions", "Dead man's switch", "Proving"):
        assert line(shown, name).split()[-1] == "unknown"
    assert line(shown, "Equity").split() == ["Equity", "?,", "balance", "?"]


def test_status_when_there_are_no_positions_then_says_none() -> None:
    assert line(drawn(document(NOW, positions=[])), "Positions").split() == ["Positions", "none"]


def test_status_when_more_counts_in_the_limits_than_the_positions_then_it_is_listed() -> None:
    other = {"pair": "SUI/USDT:USDT", "side": "short", "kind": "foreign", "margin": 40.0, "notional": None}
    shown = drawn(document(NOW, other_positions=[other | {"risk": 40.0}]))
    assert "counted too: SUI/USDT:USDT short, foreign, margin 40.00, notional ?, risk 40.00" in shown
    assert "counted too" not in drawn(document(NOW, other_positions=[]))
    assert "counted too" not in drawn(document(NOW))  # a bot that does not tell


def test_status_when_numbers_do_not_fit_on_one_line_then_takes_two() -> None:
    long = position("BTC/USDT:USDT", "long", margin=123_456_789.01, risk=123_456_789.01)
    assert "123,456,789.01" in drawn(document(NOW, positions=[long]), width=115)
    assert "resting" in line(drawn(document(NOW, positions=[long]), width=115), "side")


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["[/]", "\ud800", "*"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _shaken(shape: Any) -> st.SearchStrategy[Any]:
    if isinstance(shape, dict):
        keys = {key: _shaken(value) | _values for key, value in shape.items()}
        return st.fixed_dictionaries({}, optional=keys)
    if isinstance(shape, list) and shape:
        return st.lists(_shaken(shape[0]) | _values, max_size=3)
    return st.just(shape) | _values


@settings(max_examples=150)
@given(shown=_shaken(document(NOW)), width=st.sampled_from([1, 20, 80, 120, 200]))
def test_status_when_anything_is_missing_or_of_another_kind_then_is_drawn(shown: Any, width: int) -> None:
    assert drawn(shown, width)


# -- JSON, live ----------------------------------------------------------------------------------------------


def test_status_when_json_then_prints_the_document_and_its_age(capsys, engine) -> None:
    begun = time.time()
    write_status(engine, begun - 5, entries="blocked", other="\x1b")
    ended, shown = printed(capsys, "--json")
    read = json.loads(shown)
    assert ended == 1
    assert "\x1b" not in shown
    assert 4.0 <= read.pop("age") <= 6.0 + time.time() - begun
    assert read == document(begun - 5, entries="blocked", other="\x1b")


def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)


def between_views(monkeypatch: pytest.MonkeyPatch, *happens: Callable[[], None]) -> None:
    """Let one thing happen after the other, each while the command waits before it draws again."""
    events = iter(happens)
    monkeypatch.setattr(status.time, "sleep", lambda _: next(events)())


def test_status_when_live_then_follows_the_bot_and_a_database_that_fails(
    capsys, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_status(engine, time.time(), blocked_by=["the first"])

    def change() -> None:
        write_status(engine, time.time(), blocked_by=["the second"], entries="blocked")

    def spoil() -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE plimsoll_status SET value = '{'"))

    between_views(monkeypatch, change, spoil, interrupted)
    ended, shown = printed(capsys, "--live", "0.1")
    assert ended == 2
    assert "the second" in shown  # the last that could be read
    assert "the status of MyGuarded cannot be read" in shown


def test_status_when_live_and_interrupted_then_ends_as_the_last_status_does(
    capsys, engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_status(engine, time.time(), entries="blocked")
    between_views(monkeypatch, lambda: None, interrupted)
    assert printed(capsys, "--live", "0.1")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--live", "0.05"), "must be seconds from 0.1 to 86400, was '0.05'"),
        (("--live", "x"), "must be seconds from 0.1 to 86400, was 'x'"),
        (("--live", "nan"), "must be seconds from 0.1 to 86400, was 'nan'"),
        (("--live", "--json"), "--json prints one document"),
    ],
)
def test_status_when_an_argument_is_wrong_then_ends_with_2(capsys, arguments, message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["status", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


# -- Where it looks ------------------------------------------------------------------------------------------


def test_status_when_the_database_is_missing_then_creates_none(capsys) -> None:
    before = sorted(Path().iterdir())
    assert f"there is no database {Path(DRY_RUN).absolute()}" in complained(capsys)
    assert "no database" in complained(capsys, "--db-url", "sqlite:///sub/other.sqlite")
    assert sorted(Path().iterdir()) == before


def test_status_when_several_bots_share_a_database_then_one_is_chosen(capsys, engine) -> None:
    write_status(engine, time.time(), bot="Alpha")
    write_status(engine, time.time(), bot="Beta\x1b")
    assert "choose with --bot: Alpha, Beta\n" in complained(capsys)
    assert "--bot must be one of Alpha, Beta in" in complained(capsys, "--bot", "Gamma")
    assert line(printed(capsys, "--bot", "Alpha")[1], "Alpha  dry run")


def test_status_when_no_bot_wrote_one_then_says_so(capsys, engine) -> None:
    assert "no bot has written a status into sqlite:///tradesv3.dryrun.sqlite yet" in complained(capsys)
    assert "Named has not written a status" in complained(capsys, "--bot", "Named")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE plimsoll_memory (name VARCHAR(100))"))
        connection.execute(text("INSERT INTO plimsoll_memory VALUES ('Remembered')"))
    assert "Remembered has not written a status" in complained(capsys)


def test_status_when_the_file_is_read_only_then_is_read(capsys, engine) -> None:
    write_status(engine, time.time())
    engine.dispose()
    Path(DRY_RUN).chmod(0o444)
    assert printed(capsys)[0] == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("me:s3cret", "the database URL must be like"),
        ("postgresql://me:s3cret@host:port/x", "the database URL must be like"),
        ("sqlite://", "in the bot's memory"),
        ("sqlite:///:memory:", "in the bot's memory"),
        ("sqlite:///config.json", "file is not a database"),
        ("nosuch://me:s3cret@host/x", "knows no database 'nosuch'"),
        ("oracle+nosuch://me:s3cret@host/x", "knows no database 'oracle+nosuch'"),
        ("postgresql+asyncpg://me:s3cret@host/x", "needs the package asyncpg"),
        (
            "postgresql+psycopg://me:s3cret@127.0.0.1:1/x?sslpassword=s3cret",
            "127.0.0.1:1/x: connection failed",
        ),
        ("postgresql+psycopg://me:s3cret@127.0.0.1:1/x?nosuch=s3cret", "postgresql+psycopg://me:***@"),
    ],
)
def test_status_when_the_url_cannot_be_used_then_says_so_in_one_line_without_the_password(
    capsys, url: str, message: str
) -> None:
    said = complained(capsys, "--db-url", url)
    assert message in said
    assert "s3cret" not in said


def test_database_when_its_driver_quotes_a_password_then_hides_it(engine) -> None:
    url = make_url("postgresql+psycopg://me:s3cret@host/x?sslpassword=other")
    with (
        pytest.raises(DatabaseFault) as raised,
        Database(url=url, engine=engine).explained(),
    ):
        raise OSError("no pg_hba entry for s3cret with other\nand a second line")
    assert str(raised.value) == "postgresql+psycopg://me:***@host/x: no pg_hba entry for *** with ***"


def test_database_when_its_file_vanishes_then_is_not_created_anew(engine) -> None:
    arguments = argparse.Namespace(db_url=f"sqlite:///{DRY_RUN}", config=None, user_data_dir=None)
    database = open_database(arguments)
    engine.dispose()
    Path(DRY_RUN).unlink()
    with pytest.raises(DatabaseFault, match="unable to open database file"), database.explained():
        database.engine.connect()
    assert not Path(DRY_RUN).exists()


def test_status_when_the_database_is_not_freqtrades_then_says_so(capsys, engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE trades"))
    assert "no table `trades`: it is no database of Freqtrade's" in complained(capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "plimsoll status: "),
        ('{"key": "s3cret", "secret": "s3cret" "x": 1}', "Parse error at offset"),
        ("[1]", "the configuration is no mapping"),
        ('"text"', "the configuration is no mapping"),
        ('{"add_config_files": ["none.json"]}', "none.json"),
    ],
)
def test_status_when_a_configuration_cannot_be_read_then_shows_none_of_it(capsys, content, message) -> None:
    Path("config.json").write_text(content, encoding="utf-8")
    said = complained(capsys)
    assert message in said
    assert "s3cret" not in said


def test_status_when_there_is_no_configuration_then_asks_for_one(capsys) -> None:
    Path("config.json").unlink()
    assert "give --config or --db-url" in complained(capsys)
    assert '"none.json" not found' in complained(capsys, "-c", "none.json")


def test_configuration_when_in_the_user_directory_then_comes_first() -> None:
    for directory, url in ((Path("user_data"), "sqlite:///a"), (Path("mine"), "sqlite:///b")):
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps({"db_url": url}), encoding="utf-8")
    assert configured_url(None, None) == "sqlite:///a"
    assert configured_url(None, "mine") == "sqlite:///b"
    assert configured_url(None, "none") == "sqlite:///tradesv3.dryrun.sqlite"
    with pytest.raises(DatabaseFault, match=r"none\.json"):
        configured_url(["none.json"], None)


@pytest.mark.freqtrade
def test_configured_url_when_compared_with_freqtrades_own_then_is_the_same() -> None:
    urls = [None, "sqlite:///tradesv3.sqlite", "sqlite:///other.sqlite", "postgresql://u@h/x"]
    configs = [{"dry_run": dry, **({"db_url": url} if url else {})} for dry in (True, False) for url in urls]
    environments = [
        {},
        {"FREQTRADE__DRY_RUN": "false"},
        {"FREQTRADE__DRY_RUN": "true"},
        {"FREQTRADE__DB_URL": "sqlite:///environment.sqlite"},
    ]
    Path("user_data").mkdir()
    cases = []
    for n, config in enumerate(configs):
        exchange = {"name": "binance", "pair_whitelist": []}
        Path(f"{n}.json").write_text(json.dumps({"exchange": exchange, **config}), encoding="utf-8")
        Path(f"over{n}.json").write_text(json.dumps({"dry_run": True}), encoding="utf-8")
        cases += [([f"{n}.json"], env) for env in environments] + [([f"{n}.json", f"over{n}.json"], {})]
    script = """
import json, os, sys
from freqtrade.configuration import Configuration
from plimsoll.bot_database import configured_url
for files, environment in json.loads(sys.argv[1]):
    os.environ.update(environment)
    # Its run mode follows the configuration where none is given, as `freqtrade trade` gives none.
    theirs = Configuration({"config": files, "command": "trade"}).get_config()["db_url"]
    print(json.dumps([theirs, configured_url(files, None)]))
    for name in environment:
        del os.environ[name]
"""
    command = [sys.executable, "-c", script, json.dumps(cases)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    pairs = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(pairs) == len(cases), run.stderr
    assert [theirs for theirs, _ in pairs] == [ours for _, ours in pairs]
    assert len({ours for _, ours in pairs}) == 5


# -- Numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (61234.5, "61,234.5"),
        (1234567.891, "1,234,568"),
        (0.00812345, "0.00812345"),
        (0.000008123, "0.000008123"),
        (100.0, "100"),
        (0, "0"),
        (-3.5, "-3.5"),
        (1e300, "1e+300"),
        (float("inf"), "?"),
        (True, "?"),
        ("1", "?"),
        (None, "?"),
    ],
)
def test_price_when_of_any_size_then_keeps_six_digits(value: Any, expected: str) -> None:
    assert terminal.price(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1234.567, "1,234.57"),
        (1.0, "1.00"),
        (0.99, "0.99"),
        (0.0001234, "0.0001234"),
        (0, "0.00"),
        (None, "?"),
    ],
)
def test_money_when_small_then_keeps_its_digits(value: Any, expected: str) -> None:
    assert terminal.money(value) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (119.9, "119 s"),
        (120, "2 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (86_399, "23 h 59 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration_when_long_then_has_two_units(seconds: float, expected: str) -> None:
    assert terminal.duration(seconds) == expected
