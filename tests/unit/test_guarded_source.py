"""Strategies as files: which one it is, what the guarded class is made of, whether a strategy has the guard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plimsoll import guarded_source
from plimsoll.guarded_source import (
    SourceError,
    class_text,
    facts_of,
    find,
    guarded_files,
    is_guarded,
    parameters_for,
)
from plimsoll.host.wrap_check import has_guard

PLAIN = """
from freqtrade.strategy import IStrategy


class My(IStrategy):
    pass
"""
SEARCHED = (
    PLAIN
    + """
from plimsoll import RiskSpace


class Above(RiskSpace, My):
    pass


class Below(Above):
    pass
"""
)


def test_find_when_several_files_have_the_class_then_places_come_in_order_and_the_top_first(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "b", tmp_path / "a"
    there = (first / "sub" / "A.py", first / "Z.py", second / "A.py")
    for path in (*there, first / ".hidden" / "A.py", first / "__pycache__" / "A.py"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PLAIN)
    (second / "broken.py").write_text("class My(\n")
    assert find("My", [first, second]) == [there[1], there[0], there[2]]


def test_find_when_there_is_none_then_says_what_there_is_and_what_cannot_be_parsed(tmp_path: Path) -> None:
    (tmp_path / "A.py").write_bytes(b"\xef\xbb\xbf" + SEARCHED.encode())  # with a byte order mark
    with pytest.raises(
        SourceError, match=r"no strategy Mine in .*; there are Above, Below, My; see --strategy-path"
    ):
        find("Mine", [tmp_path, tmp_path / "nowhere"])
    (tmp_path / "B.py").write_text("class Mine(object):\n  (\n")
    with pytest.raises(SourceError, match=r"B\.py does not load"):
        find("Mine", [tmp_path])


@pytest.mark.parametrize("stored", [None, "{", "[]", '{"strategy_name": "Other"}', '{"params": {}}'])
def test_parameters_when_freqtrade_would_take_none_then_there_are_none(
    tmp_path: Path, stored: str | None
) -> None:
    source = tmp_path / "my-file.py"
    source.write_text(PLAIN)
    if stored is not None:
        source.with_suffix(".json").write_text(stored)
    assert parameters_for("GuardedMy", "My", source) is None
    assert set(guarded_files("My", source, str(source))) == {"GuardedMy.py"}


def test_guarded_files_when_the_strategy_has_parameters_then_they_come_under_the_new_name(
    tmp_path: Path,
) -> None:
    source = tmp_path / "my-file.py"
    source.write_text(PLAIN)
    source.with_suffix(".json").write_text('{"strategy_name": "My", "params": {"buy": {"n": 3}}}')
    files = guarded_files("My", source, str(source))
    assert json.loads(files["GuardedMy.json"]) == {"strategy_name": "GuardedMy", "params": {"buy": {"n": 3}}}
    assert files["GuardedMy.py"] == class_text("GuardedMy", "My", str(source), guard=True)


def test_guarded_files_when_a_guarded_class_is_beside_the_strategy_then_it_is_built_upon(
    tmp_path: Path,
) -> None:
    source = tmp_path / "My.py"
    source.write_text(PLAIN + "\n\nclass GuardedMy(My):\n    pass\n")
    assert guarded_files("My", source, "../My.py")["GuardedMy.py"].endswith(
        "class GuardedMy(GuardedMy):\n    pass\n"
    )


@pytest.mark.parametrize(("name", "guarded"), [("My", False), ("Above", True), ("Below", True)])
def test_strategy_when_the_guard_is_only_inherited_then_it_is_noticed_all_the_same(
    tmp_path: Path, name: str, guarded: bool
) -> None:
    source = tmp_path / "my-file.py"
    source.write_text(SEARCHED)
    assert has_guard(source, name) == {"guarded": guarded}


def test_strategy_when_nobody_can_tell_then_is_not_taken_for_guarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "My.py"
    source.write_text("raise RuntimeError('not today')\n")
    assert "RuntimeError: not today, line 1" in has_guard(source, "My")["fault"]

    def refuses(*_: Any) -> Any:
        raise SourceError("not today")

    monkeypatch.setattr(guarded_source, "facts_of", refuses)
    assert not is_guarded("My", source)


@pytest.mark.freqtrade
def test_loading_when_the_strategy_ends_the_process_then_says_so_with_its_last_words(tmp_path: Path) -> None:
    source = tmp_path / "My.py"
    source.write_text("import os, sys\nprint('my last words', file=sys.stderr, flush=True)\nos._exit(3)\n")
    with pytest.raises(SourceError, match="ended the process while it was loaded: my last words"):
        facts_of("My", source)
