"""What the user asks of a comparison, and where Freqtrade finds it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plimsoll.shipped import config_file, shipped

# Ours in every run; the environment would have the last word on them.
_OURS: Final = ("OFF", "OVERRIDE", "JOURNAL__PATH", "JOURNAL__ENABLED")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to compare: the strategy, Freqtrade's options, the layers and leverages; ``offline`` None leaves the choice."""

    strategy: str
    configs: tuple[Path, ...] = ()
    timerange: str | None = None
    pairs: tuple[str, ...] = ()
    data: Path | None = None
    strategy_path: Path | None = None
    user_data: Path | None = None
    options: tuple[str, ...] = ()
    offline: bool | None = None
    layers: tuple[str, ...] | None = None
    leverages: tuple[float, ...] = ()
    jobs: int | None = None
    output: Path | None = None


def configs(request: Request, user_data: Path) -> list[Path]:
    """Return the configurations: those given, else those that Freqtrade would take, else the one that Plimsoll ships."""
    if request.configs:
        return [path.resolve() for path in request.configs]
    usual = [path for path in (user_data / "config.json", Path("config.json")) if path.is_file()]
    return [(usual or [config_file()])[0].resolve()]


def lookup(request: Request, user_data: Path) -> list[str]:
    """Return the arguments that say what is traded, and where strategy and candles are."""
    arguments = ["--strategy", request.strategy]
    place = request.strategy_path
    own = user_data / "strategies" / f"{request.strategy}.py"
    if place is None and not own.is_file() and (shipped("strategies") / own.name).is_file():
        place = shipped("strategies")
    if place is not None:
        arguments += ["--strategy-path", str(place)]
    if request.data is not None:
        data = request.data
        nested = data / "binance"
        arguments += [
            "--datadir",
            str(nested if not (data / "futures").is_dir() and nested.is_dir() else data),
        ]
    if request.timerange is not None:
        arguments += ["--timerange", request.timerange]
    return arguments


def environment(offline: bool) -> dict[str, str]:
    """Return this process's environment without what the comparison decides itself."""
    ours = tuple(f"FREQTRADE__PLIMSOLL__{name}" for name in _OURS)
    left_out = (*ours, "FREQTRADE__EXCHANGE__") if offline else ours
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(left_out)}
