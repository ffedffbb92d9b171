"""The ledger under many processes and kill -9; and that the check of its history finds what it has to find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HAMMER = Path(__file__).with_name("hammer.py")
CHECK = "import sys; sys.path.insert(0, sys.argv[1]); import json, hammer; print(json.dumps(hammer.check_lines(json.load(sys.stdin), {})))"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "ledger.sqlite")


def hammer(url: str, *, processes: int, seconds: float) -> dict[str, Any]:
    command = [sys.executable, str(HAMMER), url, "--processes", str(processes), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 900.0)
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    print(json.dumps(report, indent=1))
    assert done.stderr == ""
    return report


@pytest.mark.parametrize(
    ("processes", "seconds"), [(16, 6.0), pytest.param(64, 60.0, marks=pytest.mark.slow)]
)
def test_hammer_when_processes_fight_and_some_are_killed_then_no_cap_is_exceeded_and_nothing_leaks(
    url: str, processes: int, seconds: float
) -> None:
    report = hammer(url, processes=processes, seconds=seconds)

    # No cap was exceeded at any sequence number, every total was right, and nothing leaked.
    assert not report["knows_freqtrade"]
    assert report["violations"] == []
    assert report["wrong_totals"] == []
    assert report["gaps"] == 0
    assert report["rebuilt_equals_claims"]
    assert report["crashed"] == 0
    assert (report["mismatches"], report["left_margin"], report["left_claims"]) == (0, 0.0, 0)
    assert "over" not in report["events"]
    assert "found" not in report["events"]  # no position that nobody reserved
    # It only tells something where there was a fight for the last free unit.
    assert report["killed"] > 0
    assert report["events"]["expired"] > 0
    assert report["events"]["reserved"] > 20
    assert max(report["fullest"].values()) > 0.95


def checked(*changes: dict[str, Any]) -> dict[str, Any]:
    caps = {"margin_cap": 500.0, "asset_cap": 250.0, "risk_cap": 60.0}
    lines = [
        {"sequence": number, "bot": "a", "asset": "BTC", "risk": 1.0} | caps | change
        for number, change in enumerate(changes, 1)
    ]
    command = [sys.executable, "-c", CHECK, str(HAMMER.parent)]
    done = subprocess.run(
        command, input=json.dumps(lines), capture_output=True, text=True, check=True, timeout=600
    )
    return dict(json.loads(done.stdout))


def claimed(key: str, margin: float, total: float, risk: float, **more: Any) -> dict[str, Any]:
    return {
        "event": "reserved",
        "key": key,
        "margin": margin,
        "total_margin": total,
        "total_risk": risk,
    } | more


def ended(key: str, total: float, risk: float) -> dict[str, Any]:
    return claimed(key, 0.0, total, risk, event="released")


def test_check_when_all_is_within_its_caps_then_finds_nothing() -> None:
    report = checked(claimed("1", 200.0, 200.0, 1.0), claimed("2", 50.0, 250.0, 2.0), ended("1", 50.0, 1.0))
    assert (report["violations"], report["wrong_totals"], report["gaps"]) == ([], [], 0)
    assert not report["rebuilt_equals_claims"]


def test_check_when_a_cap_was_exceeded_for_one_line_then_finds_it() -> None:
    report = checked(claimed("1", 200.0, 200.0, 1.0), claimed("2", 51.0, 251.0, 2.0), ended("1", 51.0, 1.0))
    assert report["violations"] == [[2, "asset", 251.0, 250.0]]


def test_check_when_the_totals_hide_a_violation_then_finds_both() -> None:
    report = checked(
        claimed("1", 200.0, 200.0, 1.0),
        claimed("2", 200.0, 200.0, 1.0, asset="ETH"),
        claimed("3", 200.0, 200.0, 1.0, asset="SOL"),
    )
    assert report["violations"] == [[3, "margin", 600.0, 500.0]]
    assert report["wrong_totals"] == [2, 3]


def test_check_when_a_line_is_missing_or_ends_what_was_not_there_then_finds_it() -> None:
    report = checked(ended("1", 0.0, 0.0), claimed("2", 1.0, 1.0, 1.0, sequence=3))
    assert report["wrong_totals"] == [1]
    assert report["gaps"] == 1
