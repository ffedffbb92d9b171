"""Finished backtests, found again by what they were made of; a half-written one is never found."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import plimsoll

RUN: Final = "run.json"
FORMAT: Final = 2  # since the worst prices of the trades are kept with a run
KEY_LENGTH: Final = 16
KEPT: Final = 4  # finished runs of one name: a setting tried and taken back finds the earlier one
_PACKAGES: Final = ("freqtrade", "ccxt", "numpy", "pandas", "TA-Lib")
# What shows results and does not make them.
_NO_MATTER: Final = ("report", "drill", "stress", "doctor")


def digest(value: Any) -> str:
    """Return the SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """Return one hash of the names and contents of files."""
    return digest([(path.name, _content(path)) for path in sorted(paths)])


def hash_code() -> str:
    """Return one hash of Plimsoll's own code, as far as a backtest can depend on it."""
    package = Path(plimsoll.__file__).parent
    own = [path.relative_to(package) for path in package.rglob("*.py")]
    return digest(
        [(str(path), _content(package / path)) for path in sorted(own) if path.parts[0] not in _NO_MATTER]
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a backtest computes with."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = ""
    return found


def hash_data(directory: Path, remembered: Path) -> str:
    """Return one hash of all data files below a directory.

    All, because a strategy may read pairs that it does not trade. A file whose size and time have not changed since its hash was
    written to ``remembered`` is not read again.
    """
    known = _read(remembered)
    hashes: dict[str, list[Any]] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        stat, name = path.stat(), str(path.resolve())
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        old = known.get(name)
        same = isinstance(old, list) and old[:-1] == stamp
        hashes[name] = old if same and old is not None else [*stamp, _content(path)]
    if hashes != known:
        _replace(remembered, json.dumps(hashes))
    begin = len(str(directory.resolve()))
    return digest([(name[begin:], values[-1]) for name, values in hashes.items()])


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


# -- Runs --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished backtest: where its files are, what it took in seconds, and its figures as plain values."""

    directory: Path
    seconds: float
    taken: Mapping[str, Any]
    cached: bool

    @property
    def export(self) -> Path:
        """Return Freqtrade's own zip."""
        return self.directory / "results" / str(self.taken["export"])

    @property
    def journal(self) -> Path | None:
        """Return the guard's journal, None without one."""
        return self._kept("journal.jsonl")

    @property
    def worst_prices(self) -> Path | None:
        """Return the worst price of each trade in the order of the export, None without them."""
        return self._kept("worst-prices.json")

    def _kept(self, name: str) -> Path | None:
        path = self.directory / name
        return path if path.is_file() else None


class Runs:
    """Keep finished backtests below a directory, each in one of its own that carries its name and key."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, name: str, key: str) -> Finished | None:
        """Return the finished backtest of this very key, None where there is none or its files are not as they were left."""
        directory = self._place(name, key)
        stored = _read(directory / RUN)
        try:
            whole = stored["key"] == key and all(
                _content(directory / file) == content for file, content in stored["files"].items()
            )
            found = Finished(
                directory=directory, seconds=float(stored["seconds"]), taken=stored["taken"], cached=True
            )
        except (KeyError, TypeError, ValueError, OSError):
            return None
        if whole:
            os.utime(directory)  # the oldest go first
        return found if whole else None

    def begin(self, name: str, key: str) -> Path:
        """Make a directory for a run that has not finished; nobody will take it for one that has."""
        directory = self._directory / f".{name}-{key[:KEY_LENGTH]}.{os.getpid()}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        return directory

    def finish(
        self, unfinished: Path, name: str, key: str, parts: Mapping[str, str], seconds: float, taken: Mapping[str, Any]
    ) -> Finished:  # fmt: skip
        """Keep a finished run: its last file is written and on disk before it gets its name."""
        files = {
            str(path.relative_to(unfinished)): _content(path)
            for path in sorted(unfinished.rglob("*"))
            if path.is_file()
        }
        stored = {
            "format": FORMAT, "name": name, "key": key, "parts": dict(parts), "seconds": seconds, "files": files, "taken": taken,
        }  # fmt: skip
        with (unfinished / RUN).open("w", encoding="utf-8") as file:
            json.dump(stored, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        directory = self._place(name, key)
        if directory.exists():
            shutil.rmtree(directory)
        unfinished.rename(directory)
        self._prune(name, directory)
        return Finished(directory=directory, seconds=seconds, taken=taken, cached=False)

    def changed(self, name: str, parts: Mapping[str, str]) -> list[str] | None:
        """Return the parts in which the latest finished run of a name differs, None where there is none."""
        latest = _read(self._latest(name)[0] / RUN) if self._latest(name) else {}
        known = latest.get("parts")
        if not isinstance(known, dict):
            return None
        return [part for part, value in parts.items() if known.get(part) != value]

    def sweep(self) -> None:
        """Remove what runs left behind that were ended: those of this process, and those whose process is gone."""
        for path in self._directory.glob(".*.*"):
            owner = path.name.rpartition(".")[2]
            if owner.isdigit() and (int(owner) == os.getpid() or not _alive(int(owner))):
                shutil.rmtree(path, ignore_errors=True)

    def _place(self, name: str, key: str) -> Path:
        return self._directory / f"{name}-{key[:KEY_LENGTH]}"

    def _latest(self, name: str) -> Sequence[Path]:
        places = [
            path
            for path in self._directory.glob(f"{name}-*")
            if len(path.name) == len(name) + 1 + KEY_LENGTH and path.is_dir()
        ]
        return sorted(places, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def _prune(self, name: str, newest: Path) -> None:
        for path in [path for path in self._latest(name) if path != newest][KEPT - 1 :]:
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
