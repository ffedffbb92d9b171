"""What a fire drill is: a market, a run, what happens in it, and what each layer must do. Read from a TOML file.

Times are hours after the bot's first loop; ratios are ratios, never percent.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, ValidationError

from plimsoll.drill.expectations import (
    BREAKERS,
    AnyExpectation,
    BreakerName,
    Hours,
    Minutes,
    Part,
    RefuseEntries,
    Remember,
    Trip,
)
from plimsoll.settings import Settings, SettingsError, load

Side = Literal["long", "short"]
EQUITY_LIMITS = {
    "daily_loss": "loss_limit.daily",
    "weekly_loss": "loss_limit.weekly",
    "drawdown": "drawdown.limit",
}
FaultKind = Literal[
    "timeout",
    "lost_answer",
    "server_error",
    "rate_limit",
    "banned",
    "stale_candles",
    "gap",
    "frozen_price",
]
LoopSeconds = Annotated[float, Field(ge=2.0, le=300.0)]
DEFAULT_STRATEGY = "GuardedEmaCross"


class ScenarioError(ValueError):
    """Report every fault of a scenario, one per line."""

    def __init__(self, name: str, faults: list[str]) -> None:
        self.faults = faults
        lines = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(f"the scenario {name} is not usable:\n{lines}")


# -- Market ------------------------------------------------------------------------------------------------


class Trend(Part):
    """Move the price by ``per_day``, a ratio with its sign, for some hours; it begins before the run where ``at`` is negative."""

    kind: Literal["trend"]
    at: float = Field(default=0.0, ge=-720.0, le=720.0)
    hours: float = Field(gt=0.0, le=1440.0)
    per_day: float = Field(gt=-1.0, le=2.0)
    pairs: tuple[str, ...] = ()


class FlashCrash(Part):
    """Move the price by ``move``, a ratio with its sign, within ``minutes``, and win back a share of it in four times as long."""

    kind: Literal["flash_crash"]
    at: Hours
    move: float = Field(gt=-1.0, le=2.0)
    minutes: Minutes = 10.0
    recovers: float = Field(default=0.5, ge=0.0, le=1.0)
    pairs: tuple[str, ...] = ()


class Whipsaw(Part):
    """Move one pair after the other by ``move`` and back, each ``every_minutes`` after the one before, ``times`` around."""

    kind: Literal["whipsaw"]
    at: Hours
    move: float = Field(gt=-1.0, le=2.0)
    every_minutes: float = Field(default=20.0, ge=10.0, le=1440.0)
    times: int = Field(default=1, ge=1, le=100)
    pairs: tuple[str, ...] = ()


Shape = Annotated[Trend | FlashCrash | Whipsaw, Field(discriminator="kind")]


class Simulated(Part):
    """A simulated market, bent by shapes; ``start`` is when the bot begins."""

    kind: Literal["simulated"]
    seed: int = Field(ge=0)
    start: AwareDatetime
    pairs: tuple[str, ...] = Field(min_length=1)
    shape: tuple[Shape, ...] = ()


class History(Part):
    """Candles on disk as Freqtrade keeps them, from a moment on; without ``pairs`` all there are."""

    kind: Literal["history"]
    data: Path
    moment: AwareDatetime
    pairs: tuple[str, ...] = ()


# -- Run and events ----------------------------------------------------------------------------------------


class Run(Part):
    """How long, and with which settings; ``plimsoll`` beats what the strategy itself sets.

    The clock runs at ``speed``, and slower where the bot would loop less often than each ``loop_seconds`` of the market.
    """

    hours: float = Field(gt=0.0, le=720.0)
    speed: float = Field(default=600.0, ge=1.0, le=2000.0)
    loop_seconds: LoopSeconds = 30.0
    strategy: str = DEFAULT_STRATEGY
    plimsoll: dict[str, Any] = Field(default_factory=dict)
    freqtrade: dict[str, Any] = Field(default_factory=dict)


class Event(Part):
    """Something that happens at a time."""

    at: Hours


class FaultEvent(Event):
    """The exchange fails in one way for some minutes; ``hold_seconds`` are real ones."""

    do: Literal["fault"]
    kind: FaultKind
    minutes: Minutes
    endpoints: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    probability: float = Field(default=1.0, gt=0.0, le=1.0)
    hold_seconds: float = Field(default=0.5, ge=0.0, le=60.0)
    status: int = Field(default=503, ge=500, le=599)


class Kill(Event):
    """The bot is killed as by a power failure, and started again after some minutes."""

    do: Literal["kill"]
    down_minutes: Minutes = 1.0


class CheckIn(Event):
    """The operator checks in."""

    do: Literal["checkin"]


class Reset(Event):
    """The operator resets a breaker."""

    do: Literal["reset"]
    breaker: BreakerName


class Enter(Event):
    """Somebody forces an entry through the REST API."""

    do: Literal["enter"]
    pair: str
    side: Side = "long"


class Exit(Event):
    """Somebody forces the exit of a pair's position through the REST API."""

    do: Literal["exit"]
    pair: str


class Pace(Event):
    """The bot looks at the market more or less often from here on."""

    do: Literal["pace"]
    loop_seconds: LoopSeconds


AnyEvent = Annotated[FaultEvent | Kill | CheckIn | Reset | Enter | Exit | Pace, Field(discriminator="do")]


class Scenario(Part):
    """Hold one fire drill."""

    title: str = Field(min_length=1, max_length=80)
    teaches: str = Field(min_length=1, max_length=500)
    market: Annotated[Simulated | History, Field(discriminator="kind")]
    run: Run
    events: tuple[AnyEvent, ...] = ()
    expect: tuple[AnyExpectation, ...] = Field(min_length=1)

    def settings(self) -> Settings:
        """Return the settings that the run has."""
        return load(self.run.plimsoll)


def read_scenario(path: Path) -> Scenario:
    """Read a scenario from a TOML file.

    :raises ScenarioError: with every unknown key, every value out of bounds, everything that does not fit together.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(path.name, [str(error)]) from None
    return scenario_from(raw, path.name)


def scenario_from(raw: Mapping[str, Any], name: str) -> Scenario:
    """Build a scenario from plain data.

    :raises ScenarioError: with all faults.
    """
    faults: list[str] = []
    run = raw.get("run")
    try:
        load(run.get("plimsoll") if isinstance(run, Mapping) else None)
    except SettingsError as error:
        faults += [f"run.plimsoll: {fault}" for fault in error.faults]
    scenario = None
    try:
        scenario = Scenario.model_validate(raw)
        faults += _misfits(scenario)
    except ValidationError as error:
        faults += [_fault(item) for item in error.errors()]
    if faults or scenario is None:
        raise ScenarioError(name, faults)
    return scenario


def flat_keys(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the keys of nested settings as ``section.name``."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _misfits(scenario: Scenario) -> Iterator[str]:
    end = scenario.run.hours
    for number, event in enumerate(scenario.events):
        if event.at >= end:
            yield f"events.{number}.at must be under run.hours ({end:g}), was {event.at:g}"
    pairs = scenario.market.pairs
    for where, wanted in _pairs_named(scenario):
        if pairs and wanted not in pairs:
            yield f"{where} must be one of {', '.join(pairs)}, was {wanted!r}"
    named = set(flat_keys(scenario.run.plimsoll))
    for number, expected in enumerate(scenario.expect):
        for key in ("at", "after", "before", "until"):
            time = getattr(expected, key, None)
            if time is not None and time > end:
                yield f"expect.{number}.{key} must be at most run.hours ({end:g}), was {time:g}"
        after, before = getattr(expected, "after", None), getattr(expected, "before", None)
        if after is not None and before is not None and not after < before:
            yield f"expect.{number}.before must be above after ({after:g}), was {before:g}"
        key = EQUITY_LIMITS.get(getattr(expected, "breaker", ""), "")
        if isinstance(expected, Trip) and key and key not in named:
            yield f"expect.{number}: run.plimsoll must set {key}, or nobody knows when {expected.breaker} has to trip"
        if isinstance(expected, Remember) and not any(isinstance(event, Kill) for event in scenario.events):
            yield f"expect.{number}: nothing is killed in this scenario"
        if isinstance(expected, RefuseEntries) and expected.after is None and expected.rule not in BREAKERS:
            yield f"expect.{number}.after must be given, as {expected.rule} is no breaker that trips"


def _pairs_named(scenario: Scenario) -> Iterator[tuple[str, str]]:
    for number, event in enumerate(scenario.events):
        if isinstance(event, Enter | Exit):
            yield f"events.{number}.pair", event.pair
        elif isinstance(event, FaultEvent):
            yield from ((f"events.{number}.pairs", pair) for pair in event.pairs)
    if isinstance(scenario.market, Simulated):
        for number, shape in enumerate(scenario.market.shape):
            yield from ((f"market.shape.{number}.pairs", pair) for pair in shape.pairs)


def _fault(item: Any) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "scenario"
    if item["type"] == "extra_forbidden":
        return f"{where}: there is no such key"
    if item["type"] == "missing":
        return f"{where}: is missing"
    given = item["input"]
    shown = f", was {given!r}" if isinstance(given, str | int | float | datetime) else ""
    return f"{where}: {item['msg'].removeprefix('Value error, ')}{shown}"
