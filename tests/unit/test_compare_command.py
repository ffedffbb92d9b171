"""`plimsoll compare`: its arguments, and what it makes of runs, without a backtest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plimsoll.cli import main
from plimsoll.compare import command
from plimsoll.compare.cache import Finished
from plimsoll.compare.comparing import Outcome
from plimsoll.compare.request import Request, configs, environment, lookup
from plimsoll.compare.variants import Variant
from plimsoll.report.comparison import Comparison
from plimsoll.shipped import config_file

FIGURES = {
    "profit": 0.1, "max_drawdown": 0.2, "trades": 3, "liquidations": 1, "whole_margin_losses": 0, "worst_margin": -0.5,
    "worst_r": None, "mean_leverage": 3.0,
}  # fmt: skip
AUDIT = {
    "trades": 3, "liquidated": 1, "reached": 2, "whole_margins": 0, "stops_beyond": 3, "over_margin": 0, "clipped": 2, "unknown": 0,
    "by_export": 1,
    "nearest": -0.011, "fifth_percentile": 0.01, "median": None,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of the arguments -s/--strategy --together is required"),
        (("-s", "X", "--together", "a"), "not allowed with argument"),
        (("-s", "X", "--settings", "a"), "--settings is of --together"),
        (("-s", "X", "--leverage", "0.9"), "must be a number from 1 to 125, was '0.9'"),
        (("-s", "X", "--leverage", "126"), "must be a number from 1 to 125, was '126'"),
        (("-s", "X", "--leverage", "nan"), "must be a number from 1 to 125, was 'nan'"),
        (("-s", "X", "--jobs", "0"), "must be a whole number from 1 on, was '0'"),
        (("-s", "X", "-c", "nowhere.json"), "there is no file nowhere.json"),
        (("-s", "X", "--data", "nowhere"), "there is no directory nowhere"),
        (("-s", "X", "stray"), "options of freqtrade come after `--`, was stray"),
        (("-s", "X", "--", "--cache", "day"), "--cache cannot come after `--`"),
        (("-s", "X", "--", "--export=none"), "--export cannot come after `--`"),
        (("--together", "a", "b", "--", "--fee", "0"), "--together runs no backtest"),
    ],
)
def test_compare_when_an_argument_is_wrong_then_says_which_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_compare_when_options_come_after_dashes_then_freqtrade_gets_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Request] = []

    def remember(request: Request, shown: Any) -> Outcome:
        asked.append(request)
        return outcome(Path())

    monkeypatch.setattr(command, "compare", remember)
    arguments = [
        "-s",
        "X",
        "--layers",
        "--leverage",
        "10",
        "3x",
        "3",
        "--no-report",
        "--",
        "--fee",
        "0",
        "-i",
        "5m",
    ]
    assert main(["compare", *arguments]) == 0
    [request] = asked
    assert (request.strategy, request.options) == ("X", ("--fee", "0", "-i", "5m"))
    assert (request.layers, request.leverages, request.offline) == ((), (3.0, 10.0), None)
    assert "raw at 10x" in capsys.readouterr().out


def outcome(directory: Path, **failed: str) -> Outcome:
    taken = {"figures": FIGURES, "audit": AUDIT, "export": "export.zip"}
    runs = {
        Variant(name="raw", kind="raw", strategy="X"): False,
        Variant(name="raw at 10x", kind="leverage", strategy="XAt10x", leverage=10.0): True,
    }
    comparison = Comparison(
        strategy="X", timerange="20230101-20230201", pairs=("BTC/USDT:USDT",), liquidation_buffer=0.05, settings={},
        freqtrade="", plimsoll="", runs=(),
    )  # fmt: skip
    return Outcome(
        directory=directory,
        comparison=comparison,
        finished={
            each: Finished(directory=directory, seconds=1.0, taken=taken, cached=cached)
            for each, cached in runs.items()
        },
        failed=failed,
        left_out={"deadman": "does nothing in a backtest"},
    )


@pytest.mark.parametrize("failed", [{}, {"guarded": "ended with status 2\nthe last line"}])
def test_compare_when_a_run_failed_then_it_is_named_the_others_are_shown_and_the_status_is_1(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    failed: dict[str, str],
) -> None:
    monkeypatch.setattr(command, "compare", lambda *_: outcome(tmp_path, **failed))
    assert main(["compare", "-s", "X", "--no-report"]) == int(bool(failed))
    said = capsys.readouterr()
    assert ("'guarded' ended with status 2\nthe last line" in said.err) is bool(failed)
    for text in (
        "+10.0%",
        "-50%",
        "3.00x",
        "1 of them cached",
        "-1.1%",
        "2 of 3 trades got less",
        "deadman does",
    ):
        assert text in said.out
    assert (
        "buffered liquidation price at the true maintenance tier, nearer to the entry than the exchange's by 5 % of the way"
        in " ".join(said.out.split())
    )
    assert main(["compare", "-s", "X", "--no-report", "--json"]) == int(bool(failed))
    document = json.loads(capsys.readouterr().out)
    assert document["failed"] == failed
    assert [run["figures"] for run in document["runs"]] == [FIGURES, FIGURES]
    assert document["runs"][1]["audit"] == AUDIT


# -- What Freqtrade is asked -------------------------------------------------------------------------------------------


def test_configs_when_none_is_given_then_takes_freqtrades_usual_one_and_else_the_shipped(
    tmp_path: Path,
) -> None:
    request, user_data = Request(strategy="X"), tmp_path / "user_data"
    user_data.mkdir()
    assert configs(request, user_data) == [config_file().resolve()]
    for place in (tmp_path, user_data):
        (place / "config.json").write_text("{}")
        assert configs(request, user_data) == [place / "config.json"]
    given = tmp_path / "given.json"
    assert configs(Request(strategy="X", configs=(given,)), user_data) == [given]


def test_lookup_when_the_strategy_is_a_shipped_one_then_its_directory_is_named_unless_the_user_has_his_own(
    tmp_path: Path,
) -> None:
    request = Request(strategy="EmaCross")
    assert "--strategy-path" in lookup(request, tmp_path)
    (tmp_path / "strategies").mkdir()
    (tmp_path / "strategies" / "EmaCross.py").write_text("")
    assert "--strategy-path" not in lookup(request, tmp_path)
    assert "--strategy-path" not in lookup(Request(strategy="Other"), tmp_path)


@pytest.mark.parametrize(
    ("made", "named"), [("data/futures", "data"), ("data/binance/futures", "data/binance"), ("data", "data")]
)
def test_lookup_when_data_is_given_then_the_exchanges_directory_is_found_in_it(
    tmp_path: Path, made: str, named: str
) -> None:
    (tmp_path / made).mkdir(parents=True)
    found = lookup(Request(strategy="X", data=tmp_path / "data"), tmp_path)
    assert found[found.index("--datadir") + 1] == str(tmp_path / named)


@pytest.mark.parametrize("offline", [False, True])
def test_environment_when_it_would_overrule_the_comparison_then_is_left_out(
    monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    for name in ("PLIMSOLL__OFF", "PLIMSOLL__JOURNAL__PATH", "PLIMSOLL__RISK__PER_TRADE", "EXCHANGE__KEY"):
        monkeypatch.setenv(f"FREQTRADE__{name}", "1")
    kept = {name for name in environment(offline) if name.startswith("FREQTRADE__")}
    assert kept >= {"FREQTRADE__PLIMSOLL__RISK__PER_TRADE"}
    assert not kept & {"FREQTRADE__PLIMSOLL__OFF", "FREQTRADE__PLIMSOLL__JOURNAL__PATH"}
    assert ("FREQTRADE__EXCHANGE__KEY" in kept) is not offline
