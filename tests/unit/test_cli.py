"""The command line: arguments, messages and exit status, without a backtest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plimsoll import __version__, demo
from plimsoll.cli import main
from plimsoll.market.runner import CompletedRun
from plimsoll.prepared_market import Prepared

PREPARED = Prepared(datadir=Path("nowhere"), pairs=("BTC/USDT:USDT",), timerange="20230202-20230212")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that argparse refuses and return what it said."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_cli_when_asked_for_its_version_then_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"plimsoll {__version__}\n"


def test_cli_when_no_command_is_given_then_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert "COMMAND" in refused(capsys)


def test_cli_when_the_command_is_unknown_then_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert "invalid choice: 'sail'" in refused(capsys, "sail")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", "-1"), "--seed: must be a whole number from 0 on, was '-1'"),
        (("--seed", "x"), "--seed: must be a whole number from 0 on, was 'x'"),
        (("--days", "4"), "--days: must be a whole number from 5 on, was '4'"),
        (("--days", "5.5"), "--days: must be a whole number from 5 on, was '5.5'"),
        (("--data", "nowhere"), "--data: there is no directory nowhere"),
        (("--strategy-path", "nowhere"), "--strategy-path: there is no directory nowhere"),
        (("--data", ".", "--seed", "1"), "--seed and --days are of the simulated market"),
        (("--data", ".", "--days", "9"), "--seed and --days are of the simulated market"),
        (("--timerange", "20230101-20230201"), "--timerange is a part of --data"),
        (("--data", ".", "--timerange", "20230201-20230101"), "--timerange: must be like"),
        (("--data", ".", "--timerange", "20230201"), "--timerange: must be like"),
    ],
)
def test_demo_when_an_argument_is_wrong_then_says_which_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(capsys, "demo", *arguments)


def test_demo_when_the_strategy_is_unknown_then_says_where_it_looked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--strategy", "Nope"]) == 1
    assert "there is no strategy Nope in" in capsys.readouterr().err


@pytest.mark.freqtrade
def test_demo_when_the_strategy_is_guarded_already_then_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--strategy", "Breakout1h"]) == 1
    assert "Breakout1h is guarded already" in capsys.readouterr().err


@pytest.mark.freqtrade
def test_demo_when_the_data_directory_holds_no_futures_then_says_what_it_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["demo", "--data", ".", "--keep", "kept"]) == 1
    assert "there is no directory `futures`" in capsys.readouterr().err


@pytest.mark.freqtrade
def test_demo_when_the_data_directory_is_empty_then_says_how_to_fill_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "binance" / "futures").mkdir(parents=True)
    assert main(["demo", "--data", ".", "--keep", "kept"]) == 1
    assert "freqtrade download-data" in capsys.readouterr().err


@pytest.mark.freqtrade
@pytest.mark.parametrize("failing", ["raw", "guarded"])
def test_demo_when_one_backtest_fails_then_shows_its_last_lines_and_ends_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def runs(*_: Any) -> list[CompletedRun]:
        return [
            CompletedRun(
                arguments=("backtesting",),
                returncode=int(name == failing),
                stdout="",
                stderr=f"the last line of {name}",
                seconds=1.0,
            )
            for name in ("raw", "guarded")
        ]

    monkeypatch.setattr(demo, "simulated", lambda *_: PREPARED)
    monkeypatch.setattr(demo, "backtest_both", runs)
    assert main(["demo", "--keep", "kept"]) == 1
    said = capsys.readouterr()
    assert f"the last line of {failing}" in said.err
    assert "Final balance" not in said.out


@pytest.mark.freqtrade
def test_demo_when_interrupted_then_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Prepared:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "simulated", interrupted)
    assert main(["demo", "--keep", "kept"]) == 130
