"""A setup on disk as a user has it: configuration, strategy, candles, a running bot. Sound until a test spoils it."""

from __future__ import annotations

import json
import shutil
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType
from pandas import DataFrame
from standin_bot import freqtrade_database, position, write_status

from plimsoll.doctor import command, gather
from plimsoll.doctor.finding import CHECKS, Finding, Severity
from plimsoll.doctor.gather import examine
from plimsoll.doctor.setup import Setup
from plimsoll.market.candle_files import write_market
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

REPOSITORY = Path(__file__).parents[2]
BTC, SUI = "BTC/USDT:USDT", "SUI/USDT:USDT"
STRATEGY = """
from freqtrade.strategy import IStrategy, IntParameter, stoploss_from_open
from plimsoll import Guarded

class Sound({bases}):
    timeframe = "1h"
    can_short = True
    stoploss = -0.25
    minimal_roi = {{}}
{body}
    def populate_indicators(self, dataframe, metadata): return dataframe
    def populate_entry_trend(self, dataframe, metadata): return dataframe
    def populate_exit_trend(self, dataframe, metadata): return dataframe
"""


def strategy(body: str = "", bases: str = "Guarded") -> str:
    """Write a strategy's source; every line of the body is a member."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return STRATEGY.format(bases=bases, body=indented)


def bare(body: str = "") -> str:
    """The same without the guard, with a protection so that nothing else is found."""
    return strategy('protections = [{"method": "MaxDrawdown"}]\n' + body, "IStrategy")


@dataclass
class World:
    """Hold what is written to disk when the doctor comes."""

    root: Path
    market: Path
    config: dict[str, Any]
    source: str = field(default_factory=strategy)
    status: dict[str, Any] | None = field(default_factory=dict)  # what differs from a fine one; None: no bot
    status_age: float = 0.0
    other_bots: tuple[str, ...] = ()
    parameters: Any = None
    clock_offset: float | None = 0.0
    environment: dict[str, str] = field(default_factory=dict)
    touch: list[Callable[[World], None]] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)

    @property
    def datadir(self) -> Path:
        return self.root / "candles"

    @property
    def futures(self) -> Path:
        return self.datadir / "futures"

    def frame(self, pair: str, timeframe: str, kind: str) -> DataFrame:
        return get_datahandler(self.datadir, "feather").ohlcv_load(
            pair, timeframe, CandleType.from_string(kind), fill_missing=False, warn_no_data=False
        )

    def store(self, pair: str, timeframe: str, kind: str, frame: DataFrame) -> None:
        if kind == "funding_rate":
            frame = frame[["date", "funding_rate"]]
        get_datahandler(self.datadir, "feather").ohlcv_store(
            pair, timeframe, frame.reset_index(drop=True), CandleType.from_string(kind)
        )

    def file(self, pair: str, timeframe: str, kind: str) -> Path:
        name = pair.replace("/", "_").replace(":", "_")
        return self.futures / f"{name}-{timeframe}-{kind}.feather"

    def write(self) -> list[str]:
        """Write it all, and return the arguments that point to it."""
        shutil.copytree(self.market, self.datadir, dirs_exist_ok=True)
        Path(self.root, "strategies").mkdir(exist_ok=True)
        Path(self.root, "strategies", "Sound.py").write_text(self.source, encoding="utf-8")
        if self.parameters is not None:
            text = self.parameters if isinstance(self.parameters, str) else json.dumps(self.parameters)
            Path(self.root, "strategies", "Sound.json").write_text(text, encoding="utf-8")
        Path(self.root, "config.json").write_text(json.dumps(self.config), encoding="utf-8")
        if self.status is not None:
            engine = freqtrade_database(self.root / "bot.sqlite")
            told = {"positions": [position(BTC, "long")]} | self.status
            for name in ("Sound", *self.other_bots):
                write_status(engine, time.time() - self.status_age, bot=name, **told)
            engine.dispose()
        for change in self.touch:
            change(self)
        return [
            *("-c", str(self.root / "config.json")),
            *("-s", "Sound", "--strategy-path", str(self.root / "strategies")),
            *("--userdir", str(self.root), "--datadir", str(self.datadir)),
            *("--db-url", f"sqlite:///{self.root}/bot.sqlite"),
        ]

    def examine(self, monkeypatch: pytest.MonkeyPatch, *more: str) -> Setup:
        """Have the doctor gather what there is; the exchange's time is what the world says, without a network."""

        def ask_time(setup: Setup) -> None:
            setup.clock_offset = self.clock_offset

        monkeypatch.setattr(gather, "_ask_time", ask_time)
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        self.arguments = self.write()
        return examine(parsed([*self.arguments, *more]))

    def mend(self, fix: str) -> Setup:
        """Do what a fix says, where it is a line of the configuration or of the strategy, and look again."""
        line, _, where = fix.partition("   # ")
        if line.startswith('"'):
            merge(self.config, json.loads("{" + line + "}"))
            Path(self.root, "config.json").write_text(json.dumps(self.config), encoding="utf-8")
        else:
            assert "in the strategy" in where
            Path(self.root, "strategies", "Sound.py").write_text(
                f"{self.source}\n    {line}\n", encoding="utf-8"
            )
        return examine(parsed(self.arguments))


def merge(config: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(config.get(name), dict):
            merge(config[name], value)
        else:
            config[name] = value


def parsed(arguments: list[str]) -> Namespace:
    parser = ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["doctor", *arguments])


def found(setup: Setup, check: str) -> list[Finding]:
    return CHECKS[check].run(setup)


def severities(findings: list[Finding]) -> set[Severity]:
    return {finding.severity for finding in findings}


def sound_config() -> dict[str, Any]:
    config: dict[str, Any] = json.loads((REPOSITORY / "config.json").read_text(encoding="utf-8"))
    config["exchange"]["pair_whitelist"] = [BTC, SUI]
    return config | {"max_open_trades": 3}


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs, 64 days, with mark prices and funding; 1h candles only."""
    place = tmp_path_factory.mktemp("doctor-market")
    models = [model for model in DEFAULT_PAIRS if model.pair in (BTC, SUI)]
    write_market(simulate_market(3, 64, datetime(2024, 1, 1, tzinfo=UTC), models, flash_crash=False), place)
    for file in (place / "futures").glob("*-5m-*"):
        file.unlink()
    return place


@pytest.fixture
def world(tmp_path: Path, market: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    for name in ("PLIMSOLL_LEDGER_URL", "PLIMSOLL_HEARTBEAT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return World(tmp_path, market, deepcopy(sound_config()))
