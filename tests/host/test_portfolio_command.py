"""`plimsoll portfolio`: where it looks, what it shows, its exit status, and what an operator can do with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from plimsoll import portfolio_command
from plimsoll.cli import main
from plimsoll.portfolio import Holding, Ledger, Limits
from plimsoll.portfolio_view import PortfolioView
from plimsoll.rules.breaker import ReadingConfig

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
FILE = "ledger.sqlite"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LOGNAME", "captain")
    monkeypatch.delenv("PLIMSOLL_LEDGER_URL", raising=False)
    for name in os.environ:
        if name.startswith("FREQTRADE__"):
            monkeypatch.delenv(name)
    Path("config.json").write_text(
        '{"plimsoll": {"portfolio": {"ledger": "ledger.sqlite"}}}', encoding="utf-8"
    )


@pytest.fixture
def ledger() -> Ledger:
    """Two bots of 1,000, heard just now; one holds 400 in BTC."""
    ledger = Ledger(FILE, Limits(), "USDT", readings=ReadingConfig(confirmations=1))
    ledger.heartbeat("alpha", time.time(), 1_000.0, 0.0, [Holding(BTC, "long", 400.0, 10.0)])
    ledger.heartbeat("beta", time.time(), 1_000.0, 0.0, [])
    return ledger


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    def go(*arguments: str) -> tuple[int, str, str]:
        ended = main(arguments)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return ended, said.out, said.err

    return go


def drawn(ledger: Ledger, now: float | None = None) -> tuple[str, str]:
    """What is shown, plain and with its colours."""
    shown = []
    for colours in (False, True):
        console = Console(width=120, record=True, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
        console.print(PortfolioView(ledger.standing(time.time() if now is None else now)))
        shown.append(console.export_text(styles=colours))
    return shown[0], shown[1]


def line(shown: str, begins: str) -> str:
    return next(line for line in shown.splitlines() if line.startswith(begins))


def test_portfolio_when_all_is_fine_then_shows_bots_assets_and_headroom_and_ends_with_0(run, ledger) -> None:
    ended, out, err = run("portfolio")
    assert (ended, err) == (0, "")
    assert line(out, "Capital").split(maxsplit=1)[1] == "2,000.00 USDT"
    assert line(out, "Entries").split()[1] == "open"
    assert line(out, "margin").split() == ["margin", "20.0%", "50.0%", "████░░░░░░", "600.00", "USDT"]
    assert line(out, "open risk").split()[2:] == ["0.5%", "6.0%", "░░░░░░░░░░", "110.00", "USDT"]
    assert line(out, "drawdown").split() == ["drawdown", "0.0%", "15.0%", "░░░░░░░░░░", "300.00", "USDT"]
    assert line(out, "BTC").split() == ["BTC", "400.00", "400.00", "0.00", "████████░░", "100.00"]
    assert line(out, "alpha").split()[-2:] == [BTC, "long"]
    assert "silent for" not in out


def test_portfolio_when_a_bot_is_silent_then_it_is_red_and_still_counted(ledger) -> None:
    plain, coloured = drawn(ledger, time.time() + 900.0)
    assert "silent for 15 min" in line(plain, "alpha")
    assert "\x1b[1;31malpha" in coloured
    assert line(plain, "margin").split()[1] == "20.0%"
    assert "\x1b[1;31malpha" not in drawn(ledger)[1]


def test_portfolio_when_halted_then_ends_with_1_until_a_reset_which_both_commands_do(run, ledger) -> None:
    commands = (("portfolio", "reset"), ("reset", "portfolio"), ("reset", "portfolio", "--by", "me"))
    for equity, command in zip((500.0, 200.0, 1.0), commands, strict=True):
        ledger.heartbeat("alpha", time.time(), equity, 0.0, [])
        ended, out, _ = run("portfolio")
        assert ended == 1
        assert "halted" in line(out, "Entries")
        assert run("portfolio", "--json")[0] == 1
        ended, out, err = run(*command)
        assert (ended, err) == (0, "")
        assert out.startswith("the halt is over")
        assert run("portfolio")[0] == 0


def test_portfolio_when_over_a_limit_then_ends_with_1_and_names_it(run, ledger) -> None:
    ledger.heartbeat("beta", time.time(), 1_000.0, 0.0, [Holding(BTC, "short", 101.0, 1.0)])
    ended, out, _ = run("portfolio")
    assert ended == 1
    assert "margin in BTC: 501.00 used of 500.00" in out


def test_portfolio_when_a_limit_is_full_and_the_fee_came_on_top_then_ends_with_0(run, ledger) -> None:
    ledger.heartbeat("beta", time.time(), 1_000.0, 0.0, [Holding(BTC, "short", 100.7, 1.0)])
    ended, out, _ = run("portfolio")
    assert ended == 0
    assert "over a limit" not in out


def test_portfolio_when_something_cannot_be_counted_then_ends_with_1_and_names_it(run, ledger) -> None:
    ledger.heartbeat("beta", time.time(), 1_000.0, 0.0, [Holding(ETH, "short", float("nan"), 1.0)])
    ended, out, _ = run("portfolio")
    assert ended == 1
    assert "cannot be counted: beta: the margin of ETH/USDT:USDT short" in out


def test_portfolio_when_json_then_one_document(run, ledger) -> None:
    ended, out, _ = run("portfolio", "--json", "--ledger", FILE)
    document = json.loads(out)
    assert ended == 0
    assert [bot["bot"] for bot in document["bots"]] == ["alpha", "beta"]
    assert (document["margin"], document["outcome"], document["currency"]) == (400.0, "fine", "USDT")


def test_portfolio_when_the_ledger_is_empty_then_says_so(run) -> None:
    Ledger(FILE, Limits(), "USDT").standing(time.time())
    ended, out, _ = run("portfolio")
    assert ended == 0
    assert line(out, "Bots").split() == ["Bots", "none"]


def test_release_when_a_bot_is_silent_then_it_leaves_and_otherwise_it_is_refused(
    run, ledger, monkeypatch
) -> None:
    now = time.time()
    ledger.heartbeat("alpha", now, 1_000.0, 0.0, [Holding(BTC, "long", 400.0, 10.0)])
    monkeypatch.setattr(portfolio_command, "time", SimpleNamespace(time=lambda: now))
    ended, _, err = run("portfolio", "release", "alpha")
    assert ended == 2
    assert "alpha was heard 0 s ago; stop it first" in err
    assert run("portfolio", "release", "alpha", "--force")[0] == 0
    assert [bot.bot for bot in ledger.standing(time.time()).bots] == ["beta"]
    ended, _, err = run("portfolio", "release", "alpha")
    assert (ended, "BOT must be one of beta; was 'alpha'" in err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("release",),
        ("reset", "alpha"),
        ("alpha",),
        ("--json", "--live"),
        ("reset", "--json"),
        ("--live", "0"),
    ],
)
def test_portfolio_when_arguments_make_no_sense_then_ends_with_2(capsys, ledger, arguments) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["portfolio", *arguments])
    assert ended.value.code == 2
    assert "plimsoll portfolio: error" in capsys.readouterr().err


def test_portfolio_when_the_environment_names_the_ledger_then_the_configuration_is_not_asked(
    run, ledger, monkeypatch, tmp_path
) -> None:
    Path("config.json").unlink()
    ended, _, err = run("portfolio")
    assert (ended, "give --ledger or PLIMSOLL_LEDGER_URL" in err) == (2, True)
    monkeypatch.setenv("PLIMSOLL_LEDGER_URL", str(tmp_path / FILE))
    assert run("portfolio")[0] == 0


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('{"plimsoll": {"portfolio": {"ledger": "postgresql://u:secret@h/x"}}}', "must be a path"),
        ('{"plimsoll": {"portfolio": {}}}', "no ledger is configured"),
        ('{"plimsoll": 5}', "no ledger is configured"),
        ("{", "plimsoll portfolio: "),
        ('{"plimsoll": {"portfolio": {"ledger": "none.sqlite"}}}', "there is no ledger"),
    ],
)
def test_portfolio_when_there_is_no_ledger_to_ask_then_ends_with_2_and_one_line(run, config, says) -> None:
    Path("config.json").write_text(config, encoding="utf-8")
    ended, out, err = run("portfolio")
    assert (ended, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert "secret" not in err
    assert not Path("none.sqlite").exists()


def test_portfolio_when_names_hold_markup_and_control_characters_then_prints_neither(ledger) -> None:
    ledger.heartbeat("[red]x\x1b[2J", time.time(), 5.0, 0.0, [Holding("[bold]Y\x07/USDT", "long", 1.0, 0.0)])
    plain, _ = drawn(ledger)
    assert "[red]x[2J" in plain
    assert "[bold]Y/USDT" in plain
    assert "\x07" not in plain
    assert "\x1b" not in plain


def test_portfolio_when_live_and_interrupted_then_ends_with_the_last_status(ledger) -> None:
    command = [sys.executable, "-m", "plimsoll.cli", "portfolio", "--live", "1", "--ledger", FILE]
    shown, said = Path("shown"), Path("said")

    def until_shown(text: str) -> None:
        ends = time.monotonic() + 300
        while text not in shown.read_text(errors="ignore"):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < ends
            time.sleep(0.05)

    # To a terminal, or so it believes, each view is written as it is drawn.
    terminal = os.environ | {"FORCE_COLOR": "1"}
    with shown.open("w") as out, said.open("w") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=terminal)
    try:
        until_shown("alpha")
        ledger.heartbeat("beta", time.time(), 1_000.0, 0.0, [Holding(BTC, "short", 101.0, 1.0)])
        until_shown("501.00 used of 500.00")
        process.send_signal(signal.SIGINT)
        process.wait(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said.read_text()) == (1, "")
    assert "alpha" in shown.read_text()
