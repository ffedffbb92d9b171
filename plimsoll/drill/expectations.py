"""What a layer must do in a fire drill; `plimsoll.drill.checks` holds it against the evidence."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Hours = Annotated[float, Field(ge=0.0, le=720.0)]
Minutes = Annotated[float, Field(gt=0.0, le=43_200.0)]
Ratio = Annotated[float, Field(gt=0.0, lt=1.0)]
BreakerName = Literal["daily_loss", "weekly_loss", "drawdown", "streak", "deadman"]
BREAKERS = ("daily_loss", "weekly_loss", "drawdown", "streak", "deadman")


class Part(BaseModel):
    """Refuse unknown keys, changes after creation and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Expectation(Part):
    """What one layer must do; one that is not ``required`` says nothing where its occasion never arises."""

    layer: str = Field(min_length=1, max_length=40)
    required: bool = True


class ExitAtStop(Expectation):
    """Every position open at ``at`` leaves at its stop within some minutes, ``worst_r`` R lost at most."""

    must: Literal["exit_at_stop"]
    at: Hours
    within_minutes: Minutes
    at_least: int = Field(default=1, ge=1)
    worst_r: float = Field(default=1.5, gt=0.0, le=100.0)


class NeverLiquidated(Expectation):
    """No trade is liquidated, or loses its whole margin."""

    must: Literal["never_be_liquidated"]


class StopsInside(Expectation):
    """Every stop lies between entry and liquidation, from the fill on."""

    must: Literal["keep_stops_inside_liquidation"]


class Trip(Expectation):
    """A breaker trips within some minutes of its occasion, and not before."""

    must: Literal["trip"]
    breaker: BreakerName
    within_minutes: Minutes = 10.0


class NotTrip(Expectation):
    """A breaker never trips."""

    must: Literal["not_trip"]
    breaker: BreakerName


class StayTripped(Expectation):
    """A breaker that tripped stays so until a time, default the end."""

    must: Literal["stay_tripped"]
    breaker: BreakerName
    until: Hours | None = None


class Release(Expectation):
    """A breaker that tripped lets go within a span of time."""

    must: Literal["release"]
    breaker: BreakerName
    after: Hours
    before: Hours


class Cooldown(Expectation):
    """The pause after a losing streak is as long as it is set, to a few minutes."""

    must: Literal["pause"]
    breaker: Literal["streak"] = "streak"
    tolerance_minutes: Minutes = 5.0


class RefuseEntries(Expectation):
    """Nothing is opened from ``after`` (default: since ``rule`` tripped) to ``until``, and attempts are refused by ``rule``."""

    must: Literal["refuse_entries"]
    rule: str
    after: Hours | None = None
    until: Hours | None = None
    attempts: int = Field(default=1, ge=1)


class AllowEntries(Expectation):
    """Something is opened within a span of time."""

    must: Literal["allow_entries"]
    after: Hours
    before: Hours


class ReduceSize(Expectation):
    """R of every plan granted after ``after`` is at most a factor of R of those before, as ratios of the same equity."""

    must: Literal["reduce_size"]
    after: Hours
    factor: Ratio


class Warn(Expectation):
    """The dead man's switch says warning, critical and stopped, each at its time to some minutes."""

    must: Literal["warn_in_time"]
    tolerance_minutes: Minutes = 3.0


class ExitAgain(Expectation):
    """Positions open at ``after`` whose stop the price has passed leave within some minutes."""

    must: Literal["exit_again"]
    after: Hours
    within_minutes: Minutes
    at_least: int = Field(default=1, ge=1)


class Remember(Expectation):
    """State and size factor of the breakers, and the peak of equity, are the same after a kill as before."""

    must: Literal["remember"]
    breakers: tuple[BreakerName, ...] = Field(min_length=1)


AnyExpectation = Annotated[
    ExitAtStop
    | NeverLiquidated
    | StopsInside
    | Trip
    | NotTrip
    | StayTripped
    | Release
    | Cooldown
    | RefuseEntries
    | AllowEntries
    | ReduceSize
    | Warn
    | ExitAgain
    | Remember,
    Field(discriminator="must"),
]
