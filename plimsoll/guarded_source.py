"""Strategies as files: where one is, whether it is guarded already, and the guarded class and parameters to write for it."""

from __future__ import annotations

import ast
import importlib.util
import json
import keyword
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from plimsoll.terminal import clean

LOADING_SECONDS: Final = 300.0


class SourceError(Exception):
    """What the user can put right; the message says how."""


# -- Finding -------------------------------------------------------------------------------------------------


def find(strategy: str, places: Sequence[Path]) -> list[Path]:
    """Return the files below ``places`` that define the strategy, in their order and from the top down.

    :raises SourceError: where there is none, or where the one that seems to cannot be parsed.
    """
    found, broken, names = [], [], set[str]()
    for path in _files(places):
        try:
            classes = _classes(path)
        except (SyntaxError, ValueError) as error:
            if f"class {strategy}(" in path.read_text(encoding="utf-8", errors="replace"):
                broken.append(SourceError(f"{path} does not load: {error}"))
            continue
        names |= {name for name, has_base in classes.items() if has_base}
        if strategy in classes:
            found.append(path)
    if found:
        return found
    if broken:
        raise broken[0]
    there = f"; there are {', '.join(sorted(names))}" if names else ""
    raise SourceError(
        f"there is no strategy {strategy} in {' or '.join(map(str, places))}{there}; see --strategy-path"
    )


def _files(places: Sequence[Path]) -> Iterator[Path]:
    # As Freqtrade's own recursive search: hidden directories and those of caches are left out.
    seen = set()
    for place in places:
        for path in sorted(place.rglob("*.py"), key=lambda path: (len(path.parts), path)):
            hidden = any(part.startswith((".", "__")) for part in path.relative_to(place).parts)
            if not hidden and path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _classes(path: Path) -> dict[str, bool]:
    # Name -> whether it has a base.
    nodes = ast.parse(path.read_bytes()).body
    return {node.name: bool(node.bases) for node in nodes if isinstance(node, ast.ClassDef)}


# -- Loading -------------------------------------------------------------------------------------------------


def is_guarded(strategy: str, source: Path) -> bool:
    """Load a strategy in a process of its own and tell whether it has the guard.

    What does not load is taken for unguarded: Freqtrade will say what is wrong with it.
    """
    try:
        return bool(facts_of(strategy, source).get("guarded"))
    except SourceError:
        return False


def facts_of(
    strategy: str, source: Path, guarded: Path | None = None, userdir: Path | None = None
) -> dict[str, Any]:
    """Load a strategy, and its guarded form where its file is given, in a process of its own; return what it found.

    :raises SourceError: where one of them does not load, or the strategy is guarded already and a guarded form is given.
    """
    with tempfile.TemporaryDirectory(prefix="plimsoll-loading-") as directory:
        answer = Path(directory, "answer.json")
        request = {"source": str(source.resolve()), "name": strategy, "answer": str(answer)}
        if guarded is not None:
            request |= {
                "guarded": str(guarded.resolve()),
                "userdir": str((userdir or Path(directory)).resolve()),
            }
        command = [sys.executable, "-m", "plimsoll.host.wrap_check", json.dumps(request)]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        try:
            ended = subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=LOADING_SECONDS, env=environment
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SourceError(f"{source} was not loaded within {LOADING_SECONDS:g} s") from None
        if not answer.is_file():
            last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise SourceError(f"{source} ended the process while it was loaded: {clean(''.join(last))}")
        facts: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "fault" in facts:
        raise SourceError(clean(facts["fault"]))
    return facts


# -- Writing -------------------------------------------------------------------------------------------------


def guarded_files(strategy: str, source: Path, file: str, *, by_hand: bool = False) -> dict[str, str]:
    """Return by name the files of the guarded class: its module and, where the strategy has parameters, those.

    A guarded class of that name beside the strategy is built upon, so that what it states holds.

    :param file: the strategy's file, relative to the directory they will be in, or absolute.
    :param by_hand: import it as one would write it, where an import can name it; only for the strategy's own directory.
    """
    name = f"Guarded{strategy}"
    if by_hand and _importable(source.stem):
        text = (
            f"from {source.stem} import {strategy}\nfrom plimsoll import Guarded\n\n\n"
            f"class {name}(Guarded, {strategy}):\n    pass\n"
        )
    elif name in _classes(source):
        text = class_text(name, name, file, guard=False)
    else:
        text = class_text(name, strategy, file, guard=True)
    parameters = parameters_for(name, strategy, source)
    return {f"{name}.py": text} | ({} if parameters is None else {f"{name}.json": parameters})


def class_text(name: str, base: str, file: str, *, guard: bool, body: str = "") -> str:
    """Return a module with class ``name`` below class ``base`` of a file that need not have a name that can be imported."""
    imported = "from plimsoll import Guarded\n" if guard else ""
    return (
        f"{imported}from plimsoll.host.beside import strategy_in\n\n"
        f'{base} = strategy_in({json.dumps(file, ensure_ascii=False)}, "{base}", beside=__file__)\n\n\n'
        f"class {name}({'Guarded, ' if guard else ''}{base}):\n{body or '    pass' + chr(10)}"
    )


def parameters_for(name: str, strategy: str, source: Path) -> str | None:
    """Return what a hyperopt stored beside a strategy as parameters of class ``name``; None where Freqtrade takes none there."""
    stored = source.with_suffix(".json")
    try:
        content = json.loads(stored.read_text(encoding="utf-8"))
        if content["strategy_name"] != strategy:
            return None
    except (FileNotFoundError, IsADirectoryError, ValueError, KeyError, TypeError):
        return None
    return json.dumps(content | {"strategy_name": name}, indent=2)


def _importable(module: str) -> bool:
    # By no other name than a module of its own would have.
    if not module.isidentifier() or keyword.iskeyword(module):
        return False
    if module in sys.stdlib_module_names or module in sys.modules:
        return False
    try:
        return importlib.util.find_spec(module) is None
    except (ImportError, ValueError):
        return False
