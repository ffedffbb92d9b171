"""What a fire drill is played on: the clock, the market and the configuration."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from plimsoll.drill.market import simulated
from plimsoll.drill.scenario import Enter, Exit, FaultEvent, History, Scenario, flat_keys
from plimsoll.market.clock import WallClock
from plimsoll.market.faults import MARKET_KINDS, Fault
from plimsoll.market.history import FileHistory
from plimsoll.market.replay import Replay, hours_to_shift
from plimsoll.prepared_market import given
from plimsoll.shipped import SetupError

WALLET: Final = 10_000.0


class DrillFault(Exception):
    """Say that the drill itself could not run, and why."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Hold how a drill is conducted: the strategy, where its file is, and the highest speed, 1 for the system's clock."""

    strategy: str
    strategy_path: Path
    speed: float | None = None


class Clock(Protocol):
    """Tell the market's time."""

    speed: float

    def now(self) -> datetime: ...
    def milliseconds(self) -> int: ...
    def step(self, at: datetime) -> None: ...
    def run(self, speed: float, until: datetime | None = None) -> None: ...


class RealClock:
    """Tell the system's time, at speed 1: it cannot be set, so a step waits."""

    speed = 1.0

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    def milliseconds(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def step(self, at: datetime) -> None:
        """Wait until a time."""
        time.sleep(max(0.0, (at - self.now()).total_seconds()))

    def run(self, speed: float, until: datetime | None = None) -> None:
        """Go on."""


class ToldClock:
    """Tell the time of a clock that the drill sets; its speed is known while it stands, too."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self.now, self.milliseconds, self.step = clock.now, clock.milliseconds, clock.step
        self.speed = 1.0

    def run(self, speed: float, until: datetime | None = None) -> None:
        """Run from where it is, and stand from a moment on."""
        self.speed = speed
        self._clock.run(speed, until=until)


def market_of(scenario: Scenario, clock: Clock, *, shifted: bool) -> tuple[Replay, tuple[str, ...]]:
    """Return the market of a scenario and its pairs; ``shifted`` moves history to the clock, which is the system's then.

    :raises DrillFault: where there is none for the whole run.
    """
    market, hours = scenario.market, scenario.run.hours
    if not isinstance(market, History):
        try:
            return Replay(simulated(market, clock.now(), hours)), market.pairs
        except ValueError as error:
            raise DrillFault(str(error)) from None
    try:
        prepared = given(market.data, "-")
    except SetupError as error:
        raise DrillFault(str(error)) from None
    pairs = market.pairs or prepared.pairs
    for event in scenario.events:
        if isinstance(event, Enter | Exit) and event.pair not in pairs:
            raise DrillFault(f"{prepared.datadir} has no {event.pair}, which the scenario speaks of")
    shift = hours_to_shift(market.moment, clock.milliseconds()) if shifted else 0
    source = Replay(FileHistory(prepared.datadir), shift_hours=shift)
    for pair in pairs:
        span = source.span_ms([pair])
        if span is None or not span[0] <= clock.milliseconds() < span[1] - hours * 3_600_000:
            raise DrillFault(
                f"{prepared.datadir} has no candles of {pair} for {hours:g} hours from {market.moment}"
            )
    return source, pairs


def config_of(scenario: Scenario, pairs: int, *, fast: bool) -> dict[str, Any]:
    """Return the configuration of a scenario over the one that Plimsoll ships; ``fast`` loops without a pause."""
    limits = dict(scenario.run.plimsoll)
    # The scenario's numbers are what is drilled, also where the strategy sets others.
    named = [key for key in flat_keys(limits) if "." in key]
    limits["override"] = sorted({*limits.get("override", ()), *named})
    return {
        "dry_run_wallet": WALLET,
        "max_open_trades": pairs,
        "internals": {"process_throttle_secs": 0 if fast else 5, "heartbeat_interval": 1},
        **scenario.run.freqtrade,
        "plimsoll": limits,
    }


def fault_of(event: FaultEvent) -> Fault:
    """Return the exchange's fault that an event stands for."""
    plain = Fault(kind=event.kind, pairs=event.pairs)
    if event.kind in MARKET_KINDS:
        return plain
    return replace(
        plain,
        endpoints=event.endpoints,
        probability=event.probability,
        hold_seconds=event.hold_seconds,
        status=event.status,
    )
