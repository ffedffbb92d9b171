"""`plimsoll doctor` as a user calls it: what it prints, its exit status, and that a sound setup is left in peace."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from doctor_world import BTC, REPOSITORY, SUI, World, bare, parsed, strategy
from doctor_world import market as market
from doctor_world import world as world

from plimsoll.cli import main
from plimsoll.doctor import gather
from plimsoll.doctor.command import GROUPS, diagnose
from plimsoll.doctor.finding import CHECKS, Part, Severity
from plimsoll.doctor.gather import examine
from plimsoll.doctor.secrets import hide, looks_secret
from plimsoll.doctor.setup import Setup
from plimsoll.doctor.typical import tiers_of
from plimsoll.maintenance_tiers import binance_tiers
from plimsoll.market.exchange import LoopbackExchange, exchange_config

DROP_INS = ("Breakout1h", "GuardedEmaCross", "MeanReversion5m", "TrendFollowing1h")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_time(setup: Setup) -> None:
        setup.clock_offset = 0.0

    monkeypatch.setattr(gather, "_ask_time", ask_time)


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    ended = main(["doctor", *arguments])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return ended, said.out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    ended, out = doctor(capsys, *arguments, "--json")
    return ended, json.loads(out)


# -- What is sound is left in peace ----------------------------------------------------------------------------------------


def test_doctor_when_everything_is_sound_then_it_finds_nothing_and_ends_with_0(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, told = as_json(capsys, *world.write())
    assert (ended, told["status"], told["guarded"]) == (0, 0, True)
    assert told["findings"] == []
    assert told["not_checked"] == []
    assert told["checks"] == len(CHECKS) >= 38


@pytest.mark.parametrize("name", DROP_INS)
def test_doctor_when_a_drop_in_strategy_meets_the_repositorys_config_then_there_is_no_error_or_warning(
    name: str, world: World
) -> None:
    world.write()
    arguments = ["-c", str(REPOSITORY / "config.json"), "-s", name]
    arguments += ["--strategy-path", str(REPOSITORY / "strategies"), "--userdir", str(world.root)]
    if name != "MeanReversion5m":  # there are no 5m candles here
        arguments += ["--datadir", str(world.datadir)]
    setup = examine(parsed(arguments))
    setup.stated["exchange"]["pair_whitelist"] = setup.config["exchange"]["pair_whitelist"] = [BTC, SUI]
    findings = diagnose(setup)
    assert {one.severity for one in findings} <= {Severity.NOTE, Severity.UNKNOWN}, findings
    assert setup.guarded


def test_doctor_when_the_demos_raw_strategy_is_asked_about_then_it_says_what_would_happen(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write()
    arguments = ["-c", str(REPOSITORY / "config.json"), "-s", "EmaCross", "--userdir", str(world.root)]
    arguments += ["--strategy-path", str(REPOSITORY / "strategies"), "--datadir", str(world.datadir)]
    ended, out = doctor(capsys, *arguments)
    assert ended == 1
    assert "EmaCross is not guarded" in out
    assert "class MyEmaCross(Guarded, EmaCross): pass" in out
    assert "[stop_behind_liquidation]" in out
    assert "[whole_margin_stop_on_exchange]" in out


# -- Exit status and print -------------------------------------------------------------------------------------------------


def test_doctor_when_there_are_errors_and_warnings_then_errors_come_first_and_it_ends_with_1(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.config |= {"liquidation_buffer": 0.0, "margin_mode": "cross", "max_open_trades": 30}
    world.status = None
    ended, out = doctor(capsys, *world.write())
    labels = [
        line.split()[0] for line in out.splitlines() if line.split(" ")[0] in ("error", "warning", "note")
    ]
    assert ended == 1
    assert labels == ["error", "warning", "note", "note"]
    lines = out.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("error"))
    assert lines[place].endswith("[margin_mode]")
    assert lines[place + 1].split()[0] == "why"
    assert lines[place + 2].strip() == 'fix   "margin_mode": "isolated"'
    assert "not checked: bot_blocks_entries, bot_stops_resting, bot_is_this_one: there is no database" in out
    assert "1 error, 1 warning, 2 notes" in lines[-1]


def test_doctor_when_there_are_only_warnings_then_it_ends_with_3(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.config["liquidation_buffer"] = 0.0
    ended, told = as_json(capsys, *world.write())
    assert (ended, told["status"]) == (3, 3)
    (only,) = told["findings"]
    assert (only["check"], only["severity"]) == ("liquidation_buffer", "warning")
    assert all(only[part] for part in ("what", "why", "fix"))


def test_doctor_when_there_are_only_notes_then_it_ends_with_0(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.config["max_open_trades"] = 30
    ended, told = as_json(capsys, *world.write())
    assert ended == 0
    assert {one["severity"] for one in told["findings"]} == {"note"}


def test_doctor_when_there_is_no_configuration_then_it_ends_with_2(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "-c", "nowhere.json"]) == 2
    assert "nowhere.json" in capsys.readouterr().err
    Path("broken.json").write_text('{"dry_run": tru', encoding="utf-8")
    assert main(["doctor", "-c", "broken.json"]) == 2
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", "--nothing"])
    assert stopped.value.code == 2


def test_doctor_when_neither_strategy_nor_candles_nor_bot_are_there_then_it_says_what_was_not_checked(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.status = None
    world.write()
    ended, told = as_json(capsys, "-c", "config.json", "--userdir", "elsewhere")
    assert ended == 0
    reasons = {one["check"]: one["reason"] for one in told["not_checked"]}
    assert reasons["not_guarded"] == "no strategy was named (-s)"
    assert "there is no data directory" in reasons["candle_gaps"]
    assert "there is no database" in reasons["bot_blocks_entries"]
    assert told["guarded"] is None
    assert not Path("elsewhere").exists()  # Freqtrade would have made it


def test_doctor_when_the_settings_have_faults_then_it_names_all_and_looks_at_the_strategy_all_the_same(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.config |= {"liquidation_buffer": 0.0}
    world.config["plimsoll"] = {"risk": {"per_trade": 0.5}, "leverage": {"cap": 9.0}, "nothing": 1}
    ended, told = as_json(capsys, *world.write())
    assert ended == 1
    said = [one["what"] for one in told["findings"] if one["check"] == "settings_faults"]
    assert len(said) == 3
    assert told["guarded"] is True
    assert "liquidation_buffer" in {one["check"] for one in told["findings"]}


def test_doctor_when_the_environment_sets_a_key_then_it_counts_as_in_freqtrade(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREQTRADE__LIQUIDATION_BUFFER", "0.001")
    monkeypatch.setenv("FREQTRADE__PLIMSOLL__RISK__PER_TRADE", "0.03")
    _, told = as_json(capsys, *world.write())
    found = {one["check"]: one["what"] for one in told["findings"]}
    assert "0.001" in found["liquidation_buffer"]
    assert "0.03" in found["settings_faults"]


def test_doctor_when_the_strategy_prints_and_logs_then_the_document_stays_whole_and_handlers_are_put_back(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.source = 'print("hello")\nimport logging; logging.getLogger("x").warning("noise")\n' + strategy()
    before = list(logging.getLogger().handlers)
    ended, told = as_json(capsys, *world.write())
    assert (ended, told["findings"]) == (0, [])
    assert logging.getLogger().handlers == before


GARBAGE: list[tuple[str, Any]] = [
    ("trading_mode", "sideways"),
    ("margin_mode", 3),
    ("exchange", "binance"),
    ("exchange", {}),
    ("exchange", {"name": "binance", "pair_whitelist": "BTC"}),
    ("max_open_trades", "many"),
    ("stake_amount", None),
    ("dry_run_wallet", {"EUR": 5}),
    ("order_types", None),
    ("plimsoll", ["risk"]),
    ("liquidation_buffer", "a lot"),
    ("dataformat_ohlcv", "stone"),
    ("pairlists", {}),
    ("timeframe", "soon"),
    ("stoploss", "far"),
]


@pytest.mark.parametrize(("key", "value"), GARBAGE)
def test_doctor_when_the_configuration_holds_garbage_then_it_is_told_and_nothing_is_raised(
    key: str, value: Any, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.config[key] = value
    world.status = None
    ended, told = as_json(capsys, *world.write())
    assert told["findings"] or told["not_checked"]
    if (key, value) != ("dry_run_wallet", {"EUR": 5}):
        assert ended == 1
        assert "error" in {one["severity"] for one in told["findings"]}


def test_doctor_when_the_wallet_of_a_live_account_is_not_known_then_stops_are_checked_all_the_same(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.config |= {"dry_run": False, "stoploss": -0.01}
    world.status = None
    _, told = as_json(capsys, *world.write())
    assert "base_stop_against_guard" in {one["check"] for one in told["findings"]}
    unknown = {one["check"]: one["reason"] for one in told["not_checked"]}
    assert {"stake_against_rules", "minimum_stake"} <= unknown.keys()
    assert "available_capital" in unknown["minimum_stake"]


def test_doctor_when_several_bots_left_a_status_then_the_named_one_is_looked_at(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.other_bots, world.status = ("Other",), {"entries": "blocked", "blocked_by": ["drawdown: deep"]}
    arguments = world.write()
    _, told = as_json(capsys, *arguments, "--bot", "Other")
    assert "drawdown: deep" in next(o["what"] for o in told["findings"] if o["check"] == "bot_blocks_entries")
    _, told = as_json(capsys, *arguments, "--bot", "Nobody")
    assert (
        "--bot must be one of" in {o["check"]: o["reason"] for o in told["not_checked"]}["bot_blocks_entries"]
    )


def test_doctor_when_secrets_are_about_then_none_is_printed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.config["exchange"] |= {"key": "K" * 30 + "17", "secret": "S" * 30 + "28"}
    world.config["plimsoll"] = {
        "portfolio": {"ledger": "postgresql+psycopg://ann:hunter2@host/db"},
        "risk": {"per_trade": "https://bob:hunter3@host"},
        "decay": {"baseline": "K" * 30 + "17"},
    }
    world.source = f'raise RuntimeError("{"S" * 30}28 is not accepted")'
    ended, out = doctor(capsys, *world.write())
    assert ended == 1
    assert "secrets_in_settings" in out
    assert "is not accepted" not in out or "***" in out
    for secret in ("hunter2", "hunter3", "K" * 30, "S" * 30):
        assert secret not in out


def test_doctor_when_run_then_it_writes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = world.write()

    def files() -> dict[str, float]:
        every = (file for file in world.root.rglob("*") if "__pycache__" not in file.parts)
        return {
            str(file): file.stat().st_mtime for file in every if file.is_file() and "sqlite-" not in file.name
        }

    before = files()
    doctor(capsys, *arguments)
    assert files() == before


def test_checks_when_registered_then_each_belongs_to_a_group_that_is_printed() -> None:
    assert {check.group for check in CHECKS.values()} == set(GROUPS)


# -- Online ----------------------------------------------------------------------------------------------------------------


def test_doctor_when_online_then_markets_and_time_are_the_exchanges_and_tiers_still_freqtrades_for_binance(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # its own question for the time
    monkeypatch.chdir(world.root)
    world.status = None
    at = time.time()  # both clocks stand: how long the answer takes is not what is looked at
    monkeypatch.setattr(gather, "time", SimpleNamespace(time=lambda: at))
    with LoopbackExchange([BTC, SUI], now=lambda: int((at - 3.0) * 1000)) as exchange:
        reached = exchange_config(exchange.url, [BTC, SUI])
        world.config["exchange"] |= reached["exchange"]
        for each in ("ccxt_config", "ccxt_async_config"):
            world.config["exchange"][each]["timeout"] = 120_000
        setup = examine(parsed([*world.write(), "--online"]))
    assert setup.exchange is not None, setup.missing
    assert tiers_of(setup, BTC) == binance_tiers()[BTC]
    assert setup.clock_offset == pytest.approx(3.0, abs=0.01)
    findings = diagnose(setup)
    assert [one.check for one in findings if one.severity is Severity.WARNING] == ["clock"]
    assert Part.EXCHANGE not in setup.missing


def test_doctor_when_online_and_the_exchange_is_unreachable_then_that_is_said(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(world.root)
    reached = exchange_config("http://127.0.0.1:9", [BTC, SUI])
    world.config["exchange"] |= reached["exchange"]
    world.status = None
    with contextlib.suppress(KeyError):
        world.config["exchange"]["ccxt_config"]["timeout"] = 500
    setup = examine(parsed([*world.write(), "--online"]))
    assert "could not be asked" in setup.why_no_clock
    assert setup.clock_offset is None
    (clock,) = CHECKS["clock"].run(setup)
    assert clock.severity is Severity.UNKNOWN


# -- Secrets ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ledger", "postgresql+psycopg://ann:word@host/db", True),
        ("ledger", "postgresql+psycopg://ann@host/db", False),
        ("ledger", "/srv/bots/ledger-of-all-the-bots-of-the-house.sqlite", False),
        ("url", "https://host/ping?token=1", True),
        ("url", "https://host/ping?page=1", False),
        ("url", "https://hc-ping.com/0d3c9c1e-8a4b-4e62-9f8d-1f2a3b4c5d6e", True),
        ("url", "https://example.org/documentation/handbook", False),
        ("value", "a1" * 16, True),
        ("value", "a1" * 15 + "a", False),
        ("value", "a" * 40, False),
        ("api_key", "x", True),
        ("password", "", False),
        ("risk", 0.01, False),
        ("timezone", "Europe/Berlin", False),
    ],
)
def test_looks_secret_when_given_a_setting_then_only_secrets_do(
    name: str, value: Any, expected: bool
) -> None:
    assert looks_secret(name, value) is expected


def test_hide_when_a_text_holds_a_password_then_it_is_starred() -> None:
    assert hide("postgresql://ann:word@host and abcd", ["abcd"]) == "postgresql://ann:***@host and ***"


def test_not_guarded_when_the_strategy_is_bare_then_the_status_is_that_of_a_warning(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.source = bare()
    ended, told = as_json(capsys, *world.write())
    assert ended in (1, 3)
    assert told["guarded"] is False
    assert "not_guarded" in {one["check"] for one in told["findings"] if one["severity"] == "warning"}
