"""Finished runs are found again by what they were made of, and half of one never is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from plimsoll.compare import cache
from plimsoll.compare.cache import Runs, hash_data, hash_files

KEY, OTHER = "a" * 64, "b" * 64
PARTS = {"settings": "1", "data": "2"}


def finish(runs: Runs, key: str = KEY, parts: dict[str, str] = PARTS) -> Path:
    place = runs.begin("raw", key)
    (place / "results").mkdir()
    (place / "results" / "export.zip").write_bytes(b"export")
    return runs.finish(place, "raw", key, parts, 2.5, {"export": "export.zip"}).directory


def test_runs_when_one_finished_then_it_is_found_by_its_key_only(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    directory = finish(runs)
    found = runs.find("raw", KEY)
    assert found is not None
    assert (found.seconds, found.cached, found.export.read_bytes(), found.journal) == (
        2.5,
        True,
        b"export",
        None,
    )
    assert found.directory == directory
    assert runs.find("raw", OTHER) is None
    assert runs.find("guarded", KEY) is None
    # The name carries only a part of the key.
    assert runs.find("raw", KEY[:16] + "c" * 48) is None


@pytest.mark.parametrize("damage", ["changed", "missing", "no run", "half a run"])
def test_runs_when_a_finished_one_was_damaged_then_it_is_not_found(tmp_path: Path, damage: str) -> None:
    runs = Runs(tmp_path)
    directory = finish(runs)
    match damage:
        case "changed":
            (directory / "results" / "export.zip").write_bytes(b"exporT")
        case "missing":
            (directory / "results" / "export.zip").unlink()
        case "no run":
            (directory / cache.RUN).unlink()
        case _:
            text = (directory / cache.RUN).read_text()
            (directory / cache.RUN).write_text(text[: len(text) // 2])
    assert runs.find("raw", KEY) is None
    assert finish(runs) == directory
    assert runs.find("raw", KEY) is not None


def test_runs_when_one_did_not_finish_then_it_is_not_found_and_swept_once_its_process_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(tmp_path)
    place = runs.begin("raw", KEY)
    (place / "journal.jsonl").write_text("{}")
    assert runs.find("raw", KEY) is None
    others = place.rename(place.with_name(f"{place.name.rpartition('.')[0]}.{os.getppid()}"))
    runs.sweep()
    assert others.is_dir()  # its process lives
    monkeypatch.setattr(cache, "_alive", lambda process: False)
    runs.sweep()
    assert not others.exists()


def test_runs_when_there_are_many_of_one_name_then_the_oldest_go(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    keys = [letter * 64 for letter in "abcdef"]
    for number, key in enumerate(keys):
        os.utime(finish(runs, key), (number, number))
    assert [runs.find("raw", key) is not None for key in keys] == [False, False, True, True, True, True]


def test_runs_when_asked_what_changed_then_compares_with_the_latest_of_that_name(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    assert runs.changed("raw", PARTS) is None
    finish(runs)
    assert runs.changed("raw", PARTS) == []
    assert runs.changed("raw", PARTS | {"data": "3"}) == ["data"]


def test_hash_data_when_a_candle_changes_then_differs_and_is_the_same_wherever_the_files_are(
    tmp_path: Path,
) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "futures").mkdir(parents=True)
        (tmp_path / name / "futures" / "BTC.feather").write_bytes(b"candles")
    first = hash_data(tmp_path / "one", tmp_path / "hashes.json")
    assert hash_data(tmp_path / "two", tmp_path / "other.json") == first
    (tmp_path / "one" / "futures" / "BTC.feather").write_bytes(b"candleS")
    changed = hash_data(tmp_path / "one", tmp_path / "hashes.json")
    assert changed != first
    (tmp_path / "one" / "futures" / "ETH.feather").write_bytes(b"")
    assert hash_data(tmp_path / "one", tmp_path / "hashes.json") not in (first, changed)


def test_hash_data_when_a_file_is_as_it_was_then_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "BTC.feather").write_bytes(b"candles")
    read: list[Path] = []
    content = cache._content

    def counted(path: Path) -> str:
        read.append(path)
        return content(path)

    monkeypatch.setattr(cache, "_content", counted)
    first = hash_data(tmp_path / "data", tmp_path / "hashes.json")
    assert hash_data(tmp_path / "data", tmp_path / "hashes.json") == first
    assert len(read) == 1
    (tmp_path / "hashes.json").write_text("{")
    assert hash_data(tmp_path / "data", tmp_path / "hashes.json") == first
    assert len(read) == 2


def test_hash_code_when_the_report_changes_then_stays_and_when_a_rule_does_then_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rules", "report"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "any.py").write_text("1")
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(cache.plimsoll, "__file__", str(tmp_path / "__init__.py"))
    first = cache.hash_code()
    (tmp_path / "report" / "any.py").write_text("2")
    assert cache.hash_code() == first
    (tmp_path / "rules" / "any.py").write_text("2")
    assert cache.hash_code() != first


def test_hash_files_when_names_or_contents_change_then_differs(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("a")
    two.write_text("b")
    both = hash_files([one, two])
    assert hash_files([two, one]) == both
    assert hash_files([one]) != both
    two.write_text("c")
    assert hash_files([one, two]) != both


def test_digest_when_keys_come_in_another_order_then_is_the_same() -> None:
    assert cache.digest({"a": 1, "b": [2]}) == cache.digest(json.loads('{"b": [2], "a": 1}'))
    assert cache.digest({"a": 1}) != cache.digest({"a": 1.5})
