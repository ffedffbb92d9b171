"""The compatibility script: what it runs, what it says of what it cannot run, and when it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts import compat
from scripts.compat import Outcome

HERE = "{}.{}".format(*sys.version_info[:2])


def test_combinations_when_not_every_one_is_wanted_then_the_newest_of_each_meets_all_of_the_other() -> None:
    found = compat.combinations(compat.PYTHONS, compat.RELEASES)
    assert sorted(found) == [
        ("3.11", "2026.9"),
        ("3.12", "2026.9"),
        ("3.13", "2026.7"),
        ("3.13", "2026.8"),
        ("3.13", "2026.9"),
    ]
    assert len(compat.combinations(compat.PYTHONS, compat.RELEASES, every=True)) == 9
    assert compat.combinations(["3.9", "3.10"], ["2026.9", "2026.10"])[0] == ("3.9", "2026.10")


def test_find_python_when_it_is_not_there_or_answers_otherwise_then_none_and_else_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim, installed = (
        tmp_path / "shims" / "python3.98",
        tmp_path / "versions" / f"{HERE}.10" / "bin" / "python",
    )
    for path, script in ((shim, "exit 127"), (installed, f'exec {sys.executable} "$@"')):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", f"{shim.parent}:/usr/bin:/bin")
    assert compat.find_python("3.98") is None  # a shim of pyenv whose version is not active
    assert compat.find_python("3.99") is None
    monkeypatch.setattr(compat.shutil, "which", lambda _: None)
    assert compat.find_python(HERE) == str(installed)


def test_run_when_a_python_is_missing_then_it_is_skipped_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compat, "find_python", lambda _: None)
    outcome = compat.run("3.12", "2026.9", ["tests/unit"], 2)
    assert (outcome.passed, outcome.said) == (None, "skipped: no python3.12 in PATH or under pyenv")


@pytest.mark.parametrize(
    ("results", "status"), [([True, None], 0), ([True, False], 1), ([None, None], 1), ([True, True], 0)]
)
def test_status_when_nothing_ran_or_something_failed_then_not_zero(
    results: list[bool | None],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    left = list(results)
    monkeypatch.setattr(
        compat, "run", lambda python, release, *_: Outcome(python, release, left.pop(0), "said")
    )
    monkeypatch.setattr(
        sys, "argv", ["compat.py", "--release", "2026.9", "--python", "3.11", "--python", "3.12"]
    )
    assert compat.main() == status
    assert capsys.readouterr().out.count("said") == 2


def test_summary_when_pytest_ended_or_did_not_then_its_last_line_or_that_there_is_none() -> None:
    assert compat.summary("..\n== 3 failed, 9 passed, 1 skipped in 4.50s (0:00:04) ==\n") == (
        "3 failed, 9 passed, 1 skipped"
    )
    assert compat.summary("12 passed in 1.00s") == "12 passed"
    assert compat.summary("ImportError: x\n") == "no summary: ImportError: x"
    assert compat.summary("") == "no summary: nothing was said"


def test_table_when_some_did_not_run_then_every_cell_says_what_became_of_it() -> None:
    outcomes = [
        Outcome("3.11", "2026.9", True, ""),
        Outcome("3.12", "2026.9", None, ""),
        Outcome("3.13", "2026.10", False, ""),
    ]
    assert [line.split() for line in compat.table(outcomes).splitlines()] == [
        ["Freqtrade", "2026.9", "Freqtrade", "2026.10"],
        ["Python", "3.11", "passed", "."],
        ["Python", "3.12", "skipped", "."],
        ["Python", "3.13", ".", "FAILED"],
    ]
