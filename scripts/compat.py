"""Run the quick suite on the supported Freqtrade releases and Pythons, one after the other, and print one table.

The newest Python meets every release and every Python the newest release; ``--all`` takes every combination. Each Python has a
virtual environment under ``.venv-compat/``, in which one release after the other is installed, each with the newest of what it
depends on. A Python that this machine does not have is left out, and the table says so. The exit status is 0 when all that ran
passed and something ran.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".venv-compat"
PYTHONS = ("3.11", "3.12", "3.13")
RELEASES = ("2026.7", "2026.8", "2026.9")
# Up to 2026.8 hyperopt imports the cloudpickle that joblib brought along until 1.5; they ask for any joblib, so a new installation
# of them alone breaks in the same way. A dependency cannot be bounded for some versions of another, so pyproject.toml has no bound.
BESIDE = {"2026.7": ("joblib<1.6",), "2026.8": ("joblib<1.6",)}
BUILDERS = ("build", "hatchling")  # a test builds the wheel
QUIETLY = (
    "--quiet",
    "--disable-pip-version-check",
    "--no-compile",
    "--upgrade",
    "--upgrade-strategy",
    "eager",
)
QUICK = ("tests/unit", "tests/properties")
COMMANDS = ("tests/freqtrade/test_guarded_commands.py", "tests/freqtrade/test_plot.py")


@dataclass(frozen=True)
class Outcome:
    """What came of one combination; ``passed`` is None where it did not run."""

    python: str
    release: str
    passed: bool | None
    said: str
    seconds: float = 0.0


def main() -> int:
    """Run what is asked for and return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/compat.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", action="append", choices=PYTHONS, help="only this one; may be repeated")
    parser.add_argument("--release", action="append", choices=RELEASES, help="only this one; may be repeated")
    parser.add_argument("--all", action="store_true", help="every Python with every release")
    parser.add_argument(
        "--commands", action="store_true", help="real freqtrade commands of guarded strategies too"
    )
    parser.add_argument("--jobs", type=int, default=2, help="test processes at once, default 2")
    asked = parser.parse_args()
    tests = [*QUICK, *(COMMANDS if asked.commands else ())]
    outcomes = []
    for python, release in combinations(asked.python or PYTHONS, asked.release or RELEASES, every=asked.all):
        outcome = run(python, release, tests, asked.jobs)
        print(line(outcome), flush=True)
        outcomes.append(outcome)
    print(f"\n{table(outcomes)}")
    ran = [each.passed for each in outcomes if each.passed is not None]
    return 0 if ran and all(ran) else 1


def combinations(
    pythons: Sequence[str], releases: Sequence[str], *, every: bool = False
) -> list[tuple[str, str]]:
    """Return Python and release of each run: the newest of the one with all of the other, or ``every`` one with every other."""
    newest_python, newest_release = max(pythons, key=_version), max(releases, key=_version)
    return [
        (python, release)
        for python in pythons
        for release in sorted(releases, key=_version, reverse=True)
        if every or python == newest_python or release == newest_release
    ]


def run(python: str, release: str, tests: Sequence[str], jobs: int) -> Outcome:
    """Install and test one combination; what the tests said is in a log beside the environment."""
    interpreter = find_python(python)
    if interpreter is None:
        return Outcome(python, release, None, f"skipped: no python{python} in PATH or under pyenv")
    name = f"python{python}-freqtrade{release}"
    log = ENVIRONMENTS / f"{name}.log"
    started = time.monotonic()
    try:
        own = environment(interpreter, ENVIRONMENTS / f"python{python}", release, log)
    except subprocess.CalledProcessError as error:
        return Outcome(
            python, release, False, f"not installed: {error}; see {log}", time.monotonic() - started
        )
    started = time.monotonic()
    command = [own, "-m", "pytest", "-q", "-n", str(jobs), "-m", "not slow and not postgres", *tests]
    with log.open("a") as stream:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"], cwd=ROOT, stdout=stream, stderr=stream, check=False
        )
    return Outcome(
        python, release, done.returncode == 0, summary(log.read_text()), time.monotonic() - started
    )


def environment(interpreter: str, directory: Path, release: str, log: Path) -> str:
    """Return the interpreter of a virtual environment in which the release is installed; nothing is done where it is already.

    :raises subprocess.CalledProcessError: where something cannot be installed.
    """
    wanted = ["-e", ".[test]", *BUILDERS, f"freqtrade[hyperopt]=={release}", *BESIDE.get(release, ())]
    stamp, mark = directory / ".installed", json.dumps([wanted, _dependencies()])
    own = directory / "bin" / "python"
    ENVIRONMENTS.mkdir(exist_ok=True)
    with log.open("w") as stream:
        if not own.exists():
            _run([interpreter, "-m", "venv", str(directory)], stream)
        if not stamp.exists() or stamp.read_text() != mark:
            stamp.unlink(missing_ok=True)
            _run([str(own), "-m", "pip", "install", *QUIETLY, *wanted], stream)
            stamp.write_text(mark)
    return str(own)


def _run(command: Sequence[str], stream: TextIO) -> None:
    subprocess.run(command, cwd=ROOT, stdout=stream, stderr=stream, check=True)


def _dependencies() -> dict[str, Any]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {name: project[name] for name in ("requires-python", "dependencies", "optional-dependencies")}


def find_python(version: str) -> str | None:
    """Return an interpreter of a version: one that answers in PATH, else the newest under pyenv, else None."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    under_pyenv = sorted(
        root.glob(f"versions/{version}.*/bin/python"), key=lambda path: _version(path.parts[-3])
    )
    for candidate in (shutil.which(f"python{version}"), *map(str, reversed(under_pyenv))):
        if candidate is not None and _answers(candidate, version):
            return candidate
    return None


def _answers(candidate: str, version: str) -> bool:
    # A shim of pyenv is there for versions that are not active, and fails.
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([candidate, "-c", question], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def summary(said: str) -> str:
    """Return pytest's last line without its time, or what there is instead."""
    lines = [each for each in said.splitlines() if re.search(r"\d+ (passed|failed|error)", each)]
    if not lines:
        return "no summary: " + (said.strip().splitlines() or ["nothing was said"])[-1]
    return re.sub(r" in [\d.]+s.*", "", lines[-1].strip("= "))


def line(outcome: Outcome) -> str:
    """Return an outcome in one line."""
    verdict = {None: "-", True: "passed", False: "FAILED"}[outcome.passed]
    return f"Python {outcome.python:<5} Freqtrade {outcome.release:<7} {verdict:<7} {outcome.seconds:5.0f} s  {outcome.said}"


def table(outcomes: Sequence[Outcome]) -> str:
    """Lay the outcomes out: a line for each Python, a column for each release."""
    releases = sorted({each.release for each in outcomes}, key=_version)
    found = {
        (each.python, each.release): {None: "skipped", True: "passed", False: "FAILED"}[each.passed]
        for each in outcomes
    }
    lines = [f"{'':<12}" + "".join(f"{'Freqtrade ' + release:<18}" for release in releases)]
    for python in sorted({each.python for each in outcomes}, key=_version):
        cells = "".join(f"{found.get((python, release), '.'):<18}" for release in releases)
        lines.append(f"Python {python:<5}{cells}".rstrip())
    return "\n".join(lines)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


if __name__ == "__main__":
    sys.exit(main())
