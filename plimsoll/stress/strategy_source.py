"""A strategy as text: its file, the files beside it that it imports, and the guarded class in a directory below."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plimsoll.guarded_source import SourceError, find, guarded_files, is_guarded
from plimsoll.shipped import SetupError, strategy_places
from plimsoll.stress.errors import StressError

# Freqtrade searches one directory, in which two files could have a class of one name.
GUARDED: Final = "guarded"


@dataclass(frozen=True, kw_only=True)
class StrategySource:
    """Hold a strategy's name, that of the guarded one, and every file that both need: (name, text)."""

    name: str
    guarded: str
    files: tuple[tuple[str, str], ...]

    def write(self, directory: Path) -> dict[bool, Path]:
        """Write the files; return what Freqtrade may be given as ``--strategy-path``, by whether guarded."""
        places = {False: directory, True: directory / GUARDED}
        for place in places.values():
            place.mkdir(parents=True, exist_ok=True)
        for name, text in self.files:
            (directory / name).write_text(text, encoding="utf-8")
        return places


def read_strategy(strategy: str, directory: Path | None = None) -> StrategySource:
    """Read an unguarded strategy by its class name, from a directory or from where Plimsoll and Freqtrade keep them.

    Modules of the same directory that it imports come along, and ``.json`` parameters of Freqtrade's beside them; packages and
    data files do not. It is loaded once, in a process of its own.

    :raises StressError: where it is not found, or is guarded already.
    """
    try:
        path = find(strategy, [directory] if directory else strategy_places())[0].resolve()
    except (SetupError, SourceError) as error:
        raise StressError(str(error)) from error
    if is_guarded(strategy, path):
        raise StressError(f"{strategy} is guarded already; give the strategy below it, to compare both")
    files = {file.name: file.read_text(encoding="utf-8") for file in _with_imports(path)}
    ours = guarded_files(strategy, path, f"../{path.name}")
    files |= {f"{GUARDED}/{name}": text for name, text in ours.items()}
    return StrategySource(name=strategy, guarded=f"Guarded{strategy}", files=tuple(sorted(files.items())))


def _with_imports(path: Path) -> list[Path]:
    found, waiting = {path}, [path]
    while waiting:
        for module in _imported(waiting.pop()):
            beside = path.parent / f"{module}.py"
            if beside.is_file() and beside not in found:
                found.add(beside)
                waiting.append(beside)
    parameters = [file.with_suffix(".json") for file in found]
    return sorted(found) + [file for file in parameters if file.is_file()]


def _imported(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module.split(".")[0])
    return modules


def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return ast.Module(body=[], type_ignores=[])
