"""`plimsoll drill` as a user runs it: every scenario, a strategy without the guard, candles on disk, wrong arguments."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from plimsoll.cli import main
from plimsoll.drill import command as drill
from plimsoll.drill.command import shipped_scenarios
from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import unavailable
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

pytestmark = pytest.mark.freqtrade
with_a_clock = pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}")
NAMES = [file.stem for file in shipped_scenarios()]
LONG = {
    "exchange_outage",
    "kill_in_between",
    "losing_streak",
    "operator_absent",
    "slow_bleed",
}  # what they drill has tests of its own in the suite
# A strategy of the user's own: short at once, and guarded.
OWN = """
from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class OwnShort(Guarded, IStrategy):
    timeframe = "1h"
    can_short = True
    stoploss = -0.5
    minimal_roi = {}

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe["enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
"""
SHORT_DRILL = """
title = "Mine"
teaches = "A drill of the user's own."
market = { kind = "simulated", seed = 1, start = 2024-02-10T10:00:00Z, pairs = ["BTC/USDT:USDT"] }
run = { hours = HOURS }

[[expect]]
layer = "liquidation"
must = "never_be_liquidated"

[[expect]]
layer = "stop"
must = "keep_stops_inside_liquidation"

[[expect]]
layer = "streak"
must = "trip"
breaker = "streak"
"""


def drilled(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Run drills and return the exit status and the results."""
    status = main(["drill", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def last_words(directory: Path) -> str:
    return "\n".join(
        line for log in directory.glob("*/bot.log") for line in log.read_text().splitlines()[-40:]
    )


@with_a_clock
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in NAMES]
)
def test_drill_when_the_strategy_is_guarded_then_every_layer_does_what_it_must(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (result,) = drilled(capsys, name, "--keep", str(tmp_path))
    assert result["fault"] is None, result["fault"]
    wrong = [row for row in result["rows"] if row["outcome"] != "held"]
    assert not wrong, f"{wrong}\n{last_words(tmp_path)}"
    assert status == 0
    assert (tmp_path / name / "plimsoll" / "GuardedEmaCross-dry_run.jsonl").is_file()


@with_a_clock
def test_drill_when_the_strategy_is_not_guarded_then_its_layers_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, (result,) = drilled(capsys, "flash_crash", "--strategy", "EmaCross", "--keep", str(tmp_path))
    assert (status, result["fault"]) == (1, None)
    failed = {row["should"] for row in result["rows"] if row["outcome"] == "failed"}
    assert {"no position is liquidated", "every stop lies inside liquidation"} <= failed
    assert "daily_loss trips within 5 min of its occasion" in failed
    assert {row["layer"] for row in result["rows"] if row["outcome"] == "held"} <= {"bot", "guard"}


@with_a_clock
def test_drill_when_it_has_candles_and_a_strategy_of_the_users_own_then_what_does_not_arise_is_no_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    write_market(simulate_market(5, 42, start, DEFAULT_PAIRS[:2], flash_crash=False), tmp_path / "data")
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "mine.toml").write_text(SHORT_DRILL.replace("HOURS", "0.2"), encoding="utf-8")
    moment = (start + timedelta(days=38)).isoformat()
    own = ["--strategy", "OwnShort", "--strategy-path", str(tmp_path)]
    candles = ["--data", str(tmp_path / "data"), "--from", moment]
    status, (result,) = drilled(
        capsys, str(tmp_path / "mine.toml"), *own, *candles, "--keep", str(tmp_path / "kept")
    )
    assert (status, result["fault"]) == (0, None), last_words(tmp_path / "kept")
    found = {(row["layer"], row["outcome"]) for row in result["rows"]}
    assert found == {
        ("liquidation", "held"),
        ("stop", "held"),
        ("streak", "did not arise"),
        ("bot", "held"),
        ("guard", "held"),
    }
    assert next(row for row in result["rows"] if row["layer"] == "stop")["did"].startswith("2 trades, ")


@with_a_clock
def test_drill_when_the_candles_end_before_it_does_then_it_could_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    write_market(simulate_market(5, 34, start, DEFAULT_PAIRS[:1], flash_crash=False), tmp_path / "data")
    (tmp_path / "mine.toml").write_text(SHORT_DRILL.replace("HOURS", "2.0"), encoding="utf-8")
    late = (start + timedelta(days=33, hours=23)).isoformat()
    arguments = [str(tmp_path / "mine.toml"), "--data", str(tmp_path / "data"), "--from", late]
    status, (result,) = drilled(capsys, *arguments)
    assert status == 3
    assert "has no candles of BTC/USDT:USDT for 2 hours" in result["fault"]


@with_a_clock
def test_drill_when_the_bot_does_not_start_then_says_why_and_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = OWN.replace("minimal_roi = {}", "plimsoll = {'risk': {'per_trade': 0.5}}")
    (tmp_path / "own.py").write_text(broken, encoding="utf-8")
    own = ["--strategy", "OwnShort", "--strategy-path", str(tmp_path)]
    status, (result,) = drilled(capsys, "flash_crash", *own, "--keep", str(tmp_path / "kept"))
    assert status == 3
    assert "the bot did not come up" in result["fault"]
    assert "risk.per_trade" in result["fault"]


@pytest.mark.slow
def test_drill_when_it_runs_at_the_systems_clock_then_it_needs_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "unavailable", lambda: "this is a test")
    (tmp_path / "mine.toml").write_text(SHORT_DRILL.replace("HOURS", "0.02"), encoding="utf-8")
    status, (result,) = drilled(
        capsys, str(tmp_path / "mine.toml"), "--speed", "1", "--keep", str(tmp_path / "kept")
    )
    assert (status, result["fault"]) == (1, None), last_words(tmp_path / "kept")
    found = {row["layer"]: row["outcome"] for row in result["rows"]}
    assert found == {
        "liquidation": "held",
        "stop": "held",
        "streak": "failed",
        "bot": "held",
        "guard": "held",
    }


# -- Arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "SCENARIO must be a TOML file or one of exchange_outage, "),
        (("--speed", "0.9"), "--speed: must be from 1 to"),
        (("--speed", "x"), "--speed: must be from 1 to"),
        (("--data", "."), "--data and --from belong together"),
        (("--from", "2024-01-01"), "--data and --from belong together"),
        (("--from", "now"), "--from: must be like 2024-08-05T00:00"),
        (("--strategy-path", "nowhere"), "--strategy-path: there is no directory nowhere"),
    ],
)
def test_drill_when_an_argument_is_wrong_then_says_which_and_ends_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["drill", *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_drill_when_a_scenario_is_wrong_then_tells_all_faults_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.toml").write_text('title = "x"\nsurprise = 1\n', encoding="utf-8")
    assert main(["drill", str(tmp_path / "mine.toml")]) == 2
    said = capsys.readouterr().err
    assert "surprise: there is no such key" in said
    assert "market: is missing" in said


def test_drill_when_there_is_no_clock_then_says_so_and_ends_with_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drill, "unavailable", lambda: "it needs a C compiler (`cc`)")
    monkeypatch.setattr(drill, "conduct", lambda *_: pytest.fail("it ran all the same"))
    assert main(["drill", "flash_crash"]) == 3
    said = capsys.readouterr().err
    assert "it needs a C compiler (`cc`)" in said
    assert "--speed 1 takes 1.0 hours" in said


@with_a_clock
def test_drill_when_the_strategy_is_unknown_then_says_where_it_looked_and_ends_with_3(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["drill", "flash_crash", "--strategy", "Nope"]) == 3
    assert "there is no strategy Nope in" in " ".join(capsys.readouterr().out.split())


def test_drill_when_asked_for_the_list_then_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drill", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in NAMES)
