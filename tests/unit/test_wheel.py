"""The wheel: its file list, and (slow) a clean environment in which it works beside Freqtrade."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from plimsoll import __version__

REPOSITORY = Path(__file__).parents[2]
SHIPPED = ("strategies", "protections", "hyperopts")
STRATEGY = """
import talib.abstract as ta
from freqtrade.strategy import IStrategy


class Plain(IStrategy):
    timeframe = "1h"
    can_short = True
    stoploss = -0.2
    minimal_roi = {}
    startup_candle_count = 30

    def populate_indicators(self, dataframe, metadata):
        dataframe["fast"] = ta.EMA(dataframe, timeperiod=8)
        dataframe["slow"] = ta.EMA(dataframe, timeperiod=30)
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["fast"] > dataframe["slow"], "enter_long"] = 1
        dataframe.loc[dataframe["fast"] < dataframe["slow"], "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["fast"] < dataframe["slow"], "exit_long"] = 1
        dataframe.loc[dataframe["fast"] > dataframe["slow"], "exit_short"] = 1
        return dataframe
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    # Without an environment of its own, which would be fetched from the index first.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory)]
    done = subprocess.run([*command, str(REPOSITORY)], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = directory.glob("*.whl")
    return built


def python_files(directory: Path) -> set[str]:
    return {
        str(path.relative_to(REPOSITORY))
        for path in directory.rglob("*.py")
        if "__pycache__" not in path.parts
    }


def test_wheel_when_built_then_holds_the_package_and_what_it_ships_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert len(names) == len(set(names))
    assert all(
        name.startswith(("plimsoll/", f"freqtrade_plimsoll-{__version__}.dist-info/")) for name in names
    )
    code = {name for name in names if name.endswith(".py")}
    shipped = {f"plimsoll/{name}" for kind in SHIPPED for name in python_files(REPOSITORY / kind)}
    assert code == python_files(REPOSITORY / "plimsoll") | shipped
    assert "plimsoll/config.json" in names
    assert not [name for name in names if "user_data" in name or name.endswith((".pyc", ".sqlite", ".log"))]


def test_wheel_when_its_metadata_is_read_then_has_the_command_the_version_and_freqtrade(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    about = f"freqtrade_plimsoll-{__version__}.dist-info"
    assert "plimsoll = plimsoll.cli:main" in archive.read(f"{about}/entry_points.txt").decode()
    metadata = archive.read(f"{about}/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in metadata
    assert "Requires-Dist: freqtrade>=" in metadata


@pytest.mark.slow
@pytest.mark.freqtrade
def test_wheel_when_installed_into_a_clean_environment_then_works_from_there(
    wheel: Path, tmp_path: Path
) -> None:
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    home, work = tmp_path / "venv", tmp_path / "work"
    work.mkdir()
    venv.create(home, with_pip=True)

    def run(*command: str, **more: str) -> str:
        done = subprocess.run(
            [str(home / "bin" / command[0]), *command[1:]],
            capture_output=True,
            text=True,
            cwd=work,
            env=environment | {"COLUMNS": "200"} | more,
            timeout=1800,
        )
        assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout

    run("python", "-m", "pip", "install", "--quiet", f"{wheel}", "freqtrade[hyperopt]")
    assert run("plimsoll", "--version") == f"plimsoll {__version__}\n"
    where = run("python", "-c", "import plimsoll; print(plimsoll.__file__)").strip()
    assert Path(where).is_relative_to(home)
    assert "Liquidations" in run("plimsoll", "demo", "--days", "10", "--keep", "demo")

    run("freqtrade", "create-userdir", "--userdir", "user_data")
    (work / "user_data" / "strategies" / "my-plain.py").write_text(STRATEGY)
    wrapped = run("plimsoll", "wrap", "Plain")
    assert "simulated market on the loopback exchange" in wrapped
    assert (work / "user_data" / "strategies" / "GuardedPlain.py").is_file()

    assert "config-plimsoll.json" in run("plimsoll", "init")
    for kind in SHIPPED:
        for source in (REPOSITORY / kind).glob("*.py"):
            assert (work / "user_data" / kind / source.name).read_bytes() == source.read_bytes()
    assert "unchanged" in run("plimsoll", "init")
    listed = run("freqtrade", "list-strategies", "--userdir", "user_data", "-1")
    assert {"GuardedPlain", "TrendFollowing1h", "GuardedEmaCross"} <= set(listed.split())
