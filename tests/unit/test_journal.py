"""The journal: what is written can be read back, and losing it loses no trade."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from test_plan import ACCOUNT, MARKET, SETTINGS, SIGNAL

from plimsoll.journal import Journal, plan_record, read
from plimsoll.plan import Plan, make_plan


def granted_plan() -> Plan:
    return make_plan(SIGNAL, MARKET, ACCOUNT, SETTINGS)


def refused_plan() -> Plan:
    return make_plan(SIGNAL, replace(MARKET, atr=math.nan), ACCOUNT, SETTINGS)


def journal(tmp_path: Path, *, truncate: bool = True, buffered: int = 1000) -> Journal:
    return Journal(tmp_path / "deep" / "journal.jsonl", truncate=truncate, buffered=buffered)


def test_journal_when_flushed_then_plans_come_back_with_every_rules_answer(tmp_path: Path) -> None:
    written, made = journal(tmp_path), granted_plan()
    written.plan(made)
    written.flush()
    (record,) = read(written.path)
    assert record == plan_record(made)
    assert record["granted"] is True
    assert {answer["rule"] for answer in record["answers"]} == {answer.rule for answer in made.answers}
    assert record["bound_size"] in {answer["rule"] for answer in record["answers"]}


def test_journal_when_a_plan_was_refused_then_its_reason_is_kept_and_nan_becomes_null(tmp_path: Path) -> None:
    written, made = journal(tmp_path), refused_plan()
    assert math.isnan(made.stop_price_ratio)
    written.plan(made)
    written.flush()
    (record,) = read(written.path)
    assert record["refusal"] == made.refusal
    assert record["stop_price_ratio"] is None


def test_journal_when_the_buffer_is_full_then_it_is_written_and_before_not(tmp_path: Path) -> None:
    written = journal(tmp_path, buffered=3)
    for number in range(2):
        written.record("x", {"number": number})
    assert not written.path.exists()
    written.record("x", {"number": 2})
    assert [record["number"] for record in read(written.path)] == [0, 1, 2]


def test_journal_when_a_backtest_runs_again_then_it_starts_anew_and_a_bot_appends(tmp_path: Path) -> None:
    for _ in range(2):
        written = journal(tmp_path)
        written.record("x", {})
        written.flush()
    assert len(read(written.path)) == 1
    appended = journal(tmp_path, truncate=False)
    appended.record("y", {})
    appended.flush()
    assert [record["kind"] for record in read(written.path)] == ["x", "y"]


def test_journal_when_the_last_line_is_torn_then_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl"
    path.write_text('{"kind":"a"}\n{"kind":"b","va')
    assert read(path) == [{"kind": "a"}]


def test_journal_when_the_last_line_is_torn_then_what_is_appended_is_not_lost_with_it(tmp_path: Path) -> None:
    path = tmp_path / "torn.jsonl"
    path.write_text('{"kind":"a"}\n{"kind":"b","va')
    again = Journal(path, truncate=False)
    for kind in ("c", "d"):
        again.record(kind, {})
        again.flush()
    assert [record["kind"] for record in read(path)] == ["a", "c", "d"]
    assert path.read_text().count("\n") == 4


def test_journal_when_its_file_cannot_be_written_then_nothing_is_raised_and_the_fault_is_kept(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("")
    broken = Journal(tmp_path / "file" / "journal.jsonl", truncate=True)
    broken.record("x", {})
    broken.flush()
    assert isinstance(broken.fault, OSError)


def test_journal_when_the_same_is_recorded_twice_then_the_bytes_are_the_same(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        written = Journal(tmp_path / name, truncate=True)
        written.plan(granted_plan())
        written.record("outcome", {"profit": 1.25})
        written.flush()
        contents.append(written.path.read_bytes())
    assert contents[0] == contents[1]
    assert isinstance(granted_plan(), Plan)
