"""The tutorial, word for word, with a strategy that we did not write, from an old user directory to a guarded dry-run."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from interrupt import interrupt
from markdown_blocks import DOCS, REPOSITORY, Block, blocks, commands
from readers_own import CONFIG, STRATEGY

pytestmark = pytest.mark.freqtrade

TUTORIAL = DOCS / "tutorial.md"
OWN_CONFIG, OFFLINE_CONFIG = " -c user_data/config.json", " -c offline/replay.json"
# What the page says itself: with errors mended, warnings remain; and entries may be blocked at this moment.
OTHER_STATUS = {"plimsoll doctor": {3}, "plimsoll status": {1}}
LOOPS = 2
SECONDS = 1200.0  # for anything, on a busy machine


class Reader:
    """Do what the page says, in one directory and one shell whose variables stay."""

    def __init__(self, directory: Path, path: str) -> None:
        self.directory = directory
        self.environment = {
            "PATH": path,
            "HOME": str(directory / "home"),
            "COLUMNS": "160",
            "PYTHONUNBUFFERED": "1",
        }
        (directory / "home").mkdir()
        (directory / "home" / "plimsoll").symlink_to(REPOSITORY)
        (directory / "user_data" / "strategies").mkdir(parents=True)
        (directory / "user_data" / "strategies" / "bbrsi.py").write_text(STRATEGY)
        (directory / "user_data" / "config.json").write_text(json.dumps(CONFIG, indent=4))

    def do(self, text: str) -> str:
        """Run a block to its end and return what it said; an exit status that the page does not mention is a failure."""
        script = f"set -e\n{text}\nenv -0 > home/environment\n"
        others = set().union(*(status for start, status in OTHER_STATUS.items() if start in text), {0})
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert ended.returncode in others, f"{text}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
        stored = self.directory / "home" / "environment"
        if ended.returncode == 0:
            pairs = (entry.split("=", 1) for entry in stored.read_text().split("\0") if "=" in entry)
            self.environment = {
                name: value for name, value in pairs if name not in ("_", "SHLVL", "PWD", "OLDPWD")
            }
        return ended.stdout + ended.stderr

    @contextmanager
    def beside(self, text: str, log: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a block in a terminal of its own, and press Ctrl-C there in the end."""
        with (self.directory / "home" / log).open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {text}"],
                cwd=self.directory,
                env=self.environment,
                stdout=stream,
                stderr=stream,
                process_group=0,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=240)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def said(self, log: str) -> str:
        return (self.directory / "home" / log).read_text()

    def until(self, process: subprocess.Popen[bytes], log: str, holds: Any) -> None:
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert process.poll() is None, self.said(log)[-4000:]
            assert time.monotonic() < deadline, self.said(log)[-4000:]
            time.sleep(0.2)


def with_my_names(text: str) -> str:
    """Change the two lines that the page tells to change."""
    changed, count = re.subn(
        r"^export (STRATEGY|TIMEFRAME)=.*$", lambda m: f"export {m[1]}={MINE[m[1]]}", text, flags=re.M
    )
    assert count in (0, 2)
    return changed


MINE: Mapping[str, str] = {"STRATEGY": "BollingerRsi", "TIMEFRAME": "15m"}


def offline(text: str) -> str:
    """Put the second configuration where the page says it belongs."""
    return text.replace(OWN_CONFIG, OWN_CONFIG + OFFLINE_CONFIG)


def name_of(block: Block) -> str:
    """Return what a shell block is about: the beginning of its last command."""
    last = commands(block)[-1]
    return (
        "replay market"
        if "--keep offline" in last
        else " ".join(last.split()[: 1 if last.startswith("export") else 2])
    )


def steps() -> dict[str, str]:
    """Return the page's commands in their order, by a name for each block."""
    return {name_of(block): with_my_names(block.text.strip()) for block in blocks(TUTORIAL, "bash")}


LINES = {name_of(block): block.line for block in blocks(TUTORIAL, "bash")}
ORDER = [
    "export", "pip install", "plimsoll init", "freqtrade download-data", "plimsoll wrap", "plimsoll doctor",
    "plimsoll compare", "freqtrade trade", "plimsoll status", "plimsoll checkin", "plimsoll replay", "replay market",
]  # fmt: skip


def follow(reader: Reader, *, install: bool) -> dict[str, Any]:
    """Follow the page to its end; return what its commands said, and how often the bot looped."""
    todo: dict[str, str] = steps()
    said: dict[str, Any] = {}
    said["export"] = reader.do(todo["export"])
    if install:
        reader.do(todo["pip install"])
    said["plimsoll init"] = reader.do(todo["plimsoll init"])
    market = reader.directory / "offline" / "replay.json"
    with reader.beside(todo["replay market"], "market") as replay:
        reader.until(
            replay, "market", lambda: market.is_file() and "Ctrl-C ends it." in reader.said("market")
        )
        for name in ORDER[3:7]:
            said[name] = reader.do(offline(todo[name]))
        with reader.beside(offline(todo["freqtrade trade"]), "bot") as bot:
            # A status is written each loop; the bot has looped when its time moves.
            seen: set[float] = set()

            def looped() -> bool:
                seen.update(last_status(reader.directory))
                return len(seen) > LOOPS

            reader.until(bot, "bot", looped)
            second = (
                todo["plimsoll status"]
                if install
                else todo["plimsoll status"].replace(". .venv/bin/activate\n", "")
            )
            said["plimsoll status"] = reader.do(offline(second))
            said["plimsoll checkin"] = reader.do(offline(todo["plimsoll checkin"]))
            said["ended with"] = interrupt(bot)
            (reader.directory / "home" / "said.json").write_text(json.dumps(said))
        said["freqtrade trade"] = reader.said("bot")
    return said


def last_status(directory: Path) -> set[float]:
    try:
        with sqlite3.connect(
            f"file:{directory / 'offline' / 'trades.sqlite'}?mode=ro", uri=True
        ) as connection:
            return {row[0] for row in connection.execute("select time from plimsoll_status")}
    except sqlite3.OperationalError:
        return set()


def shape(line: str) -> str:
    """Return a line of output without its numbers and its layout, which differ from one market to the next."""
    return re.sub(r"[-+]?\d[\d,.]*", "#", " ".join(line.split()))


def check_shown(said: Mapping[str, str]) -> None:
    """Assert that what the page shows of the output is what the command before it said."""
    shown = blocks(TUTORIAL, "text")
    assert shown
    for block in shown:
        name = [name for name, line in LINES.items() if line < block.line][-1]
        spoken = {shape(line) for line in said[name].splitlines()}
        for line in block.text.splitlines():
            mine = line.replace("MyStrategy", MINE["STRATEGY"]).replace("5m", MINE["TIMEFRAME"])
            assert shape(mine) in spoken, f"{block}: {line}\n{said[name]}"


def check(reader: Reader, said: dict[str, Any]) -> None:
    """Assert that it ended where the page promises: a guarded dry-run of the reader's own, untouched strategy."""
    user_data = reader.directory / "user_data"
    assert (user_data / "strategies" / "bbrsi.py").read_text() == STRATEGY
    assert (user_data / "strategies" / "GuardedBollingerRsi.py").is_file()
    config = json.loads((user_data / "config.json").read_text())
    assert config == {**CONFIG, "plimsoll": {"profile": "calibrated"}}
    check_shown(said)
    assert re.search(r"^raw .*\nguarded ", said["plimsoll compare"], re.M), said["plimsoll compare"]
    assert (user_data / "plimsoll" / "compare" / "BollingerRsi" / "report.html").is_file()
    assert said["ended with"] == 130  # as Freqtrade ends after Ctrl-C
    assert "Strategy:* `GuardedBollingerRsi`" in " ".join(said["freqtrade trade"].split())
    assert "Dry run is enabled" in said["freqtrade trade"]
    assert "state='RUNNING'" in said["freqtrade trade"]
    assert said["plimsoll checkin"].startswith("checked in at ")
    assert "Traceback" not in said["freqtrade trade"]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reader, dict[str, Any]]:
    # In an environment that has Plimsoll already: installing needs a network, see `make soak`.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
    reader = Reader(tmp_path_factory.mktemp("tutorial"), path)
    return reader, follow(reader, install=False)


def test_tutorial_when_its_blocks_are_listed_then_they_are_the_steps_of_this_test() -> None:
    assert list(steps()) == ORDER
    assert len(blocks(TUTORIAL, "bash")) == len(ORDER)
    assert f"`{OFFLINE_CONFIG}`" in TUTORIAL.read_text()
    assert f"`{OWN_CONFIG.strip()}`" in TUTORIAL.read_text()
    for block in blocks(TUTORIAL, "json"):
        shown = json.loads(block.text)
        assert shown == {key: CONFIG[key] for key in shown}


def test_tutorial_when_followed_word_for_word_then_ends_in_a_guarded_dry_run(followed: Any) -> None:
    reader, seen = followed
    assert seen
    check(reader, seen)


@pytest.mark.slow
def test_tutorial_when_followed_in_a_clean_environment_then_installs_and_ends_there_too(
    tmp_path: Path,
) -> None:
    reader = Reader(tmp_path, f"{Path(sys.base_prefix) / 'bin'}{os.pathsep}{os.defpath}")
    network = re.compile(r"(PIP_|SSL_CERT_|REQUESTS_CA_BUNDLE|https?_proxy|no_proxy)", re.I)
    reader.environment |= {name: value for name, value in os.environ.items() if network.match(name)}
    check(reader, follow(reader, install=True))
    assert (tmp_path / ".venv" / "bin" / "plimsoll").is_file()
