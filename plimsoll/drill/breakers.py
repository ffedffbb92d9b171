"""Checks of a fire drill on breakers: when they tripped against when they had to, by the drill's own reckoning of equity."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from plimsoll.drill.evidence import Evidence, Finding, Happened, Sample, failed, held, not_arisen
from plimsoll.drill.expectations import Cooldown, NotTrip, Release, Remember, StayTripped, Trip, Warn
from plimsoll.drill.scenario import Scenario

# The drill looks at equity at other moments than the bot, and does not know the spread it would pay.
SURE, POSSIBLE = 1.05, 0.90
LOOK_SECONDS = 60.0
PEAK_TOLERANCE = 0.005


def find_trip(expected: Trip, evidence: Evidence, scenario: Scenario) -> Finding:
    """Find the trip of a breaker and hold it against its occasion."""
    trips = evidence.trips(expected.breaker)
    due, possible = _occasion(expected.breaker, evidence, scenario)
    if not trips:
        if due is None:
            return not_arisen(_worst(expected.breaker, evidence, scenario), None)
        return failed(f"never tripped, and had to at {_clock(due)}", due)
    first = trips[0]
    if possible is None or first < possible - LOOK_SECONDS:
        return failed("tripped without an occasion", first)
    if due is not None and first > due + expected.within_minutes * 60.0:
        return failed(f"tripped {(first - due) / 60.0:.0f} min late", first)
    if not evidence.locks_of(expected.breaker):
        return failed("tripped, but no pair lock shows it", first)
    said = next(r for r in evidence.said_by(expected.breaker) if float(r["time"]) == first)
    return held(f"tripped: {said.get('reason')}", first)


def never_trips(expected: NotTrip, evidence: Evidence, scenario: Scenario) -> Finding:
    """Find that a breaker never tripped, in a bot that has it."""
    trips = evidence.trips(expected.breaker)
    if trips:
        return failed("tripped", trips[0])
    if not any(evidence.state_of(expected.breaker, sample) for sample in evidence.samples):
        return failed("the bot's status knows no such breaker", None)
    return held("did not trip", None)


def stays_tripped(expected: StayTripped, evidence: Evidence, scenario: Scenario) -> Finding:
    """Find that a trip lasts: in the journal, in every status, as a pair lock."""
    trips = evidence.trips(expected.breaker)
    until = evidence.ended if expected.until is None else evidence.at(expected.until)
    if not trips or trips[0] >= until:
        return not_arisen("it never tripped", None)
    first = trips[0]
    released = [time for time in evidence.releases(expected.breaker) if first < time < until]
    if released:
        return failed("let go", released[0])
    seen = 0
    for sample in _told(evidence, first + 1.0, until):
        state = evidence.state_of(expected.breaker, sample)
        if state is None or state.get("state") != "tripped":
            return failed(f"its state was {'not told' if state is None else state.get('state')}", sample.time)
        seen += 1
    if not seen:
        return failed("no status was written after the trip", None)
    if not evidence.locks_of(expected.breaker):
        return failed("no pair lock shows it", first)
    kills = [kill for kill in evidence.kills() if first < kill.time < until]
    return held(f"tripped in {seen} of {seen} looks{', through kill -9' if kills else ''}", first)


def find_release(expected: Release, evidence: Evidence, scenario: Scenario) -> Finding:
    """Find when a breaker let go."""
    if not evidence.trips(expected.breaker):
        return not_arisen("it never tripped", None)
    after, before = evidence.at(expected.after), evidence.at(expected.before)
    released = evidence.releases(expected.breaker)
    if early := [time for time in released if time < after]:
        return failed("let go early", early[0])
    found = [time for time in released if time <= before]
    return held("let go", found[0]) if found else failed("did not let go", None)


def find_pause(expected: Cooldown, evidence: Evidence, scenario: Scenario) -> Finding:
    """Find how long the streak breaker paused entries, and whether it let go or the drill ended before."""
    trips = evidence.trips(expected.breaker)
    if not trips:
        return not_arisen("no pause began", None)
    settings = scenario.settings().streak
    losing = [time for time, losses in evidence.losses_in_a_row() if losses >= settings.cooldown_losses]
    last = max((time for time in losing if time <= _ends(evidence, expected.breaker)), default=trips[0])
    wanted, slack = settings.cooldown_minutes, expected.tolerance_minutes
    released = [time for time in evidence.releases(expected.breaker) if time > trips[0]]
    if not released:
        if (evidence.ended - last) / 60.0 > wanted + slack:
            return failed(f"still paused after {(evidence.ended - last) / 60.0:.0f} min", evidence.ended)
        return not_arisen(f"the drill ended before the {wanted:g} minutes did", evidence.ended)
    paused = (released[0] - last) / 60.0
    within = abs(paused - wanted) <= slack
    return (held if within else failed)(f"paused {paused:.0f} min of {wanted:g}", released[0])


def find_warnings(expected: Warn, evidence: Evidence, scenario: Scenario) -> Finding:
    """Find the levels of the dead man's switch in the status, each against the last check-in."""
    settings, slack = scenario.settings().deadman, expected.tolerance_minutes * 60.0
    said = [e.time for e in evidence.happened if e.do == "checkin"]
    reset = min(evidence.resets("deadman"), default=evidence.ended)
    whole = settings.hours * 3600.0
    last = evidence.began
    for time in said:
        if time - last < whole:
            last = time
    reached: dict[str, float] = {}
    for sample in _told(evidence, last + slack, reset):
        assert sample.status is not None
        level = str((sample.status.get("deadman") or {}).get("level"))
        reached.setdefault(level, float(sample.status.get("time") or sample.time))
    times = []
    for level, ratio in (("warning", settings.warning), ("critical", settings.critical), ("stopped", 1.0)):
        due = last + whole * ratio
        if due + slack > reset:
            return not_arisen(f"the drill ended before {level} was due", None)
        if level not in reached:
            return failed(f"never said {level}", due)
        if not -slack <= reached[level] - due <= slack:
            return failed(
                f"said {level} {(reached[level] - due) / 60.0:+.0f} min from its time", reached[level]
            )
        times.append(f"{level} {_clock(reached[level])}")
    return held(", ".join(times), reached["stopped"])


def remembers(expected: Remember, evidence: Evidence, scenario: Scenario) -> Finding:
    """Find that breakers and peak of equity are after a kill what they were before."""
    kills = evidence.kills()
    if not kills:
        return not_arisen("nothing was killed", None)
    for kill in kills:
        fault = _forgotten(expected, evidence, kill)
        if fault is not None:
            return failed(fault, kill.until)
    said = ", ".join(f"{name} {_state(evidence, name, kills[-1])}" for name in expected.breakers)
    return held(f"{said}; same peak", kills[-1].until)


def _forgotten(expected: Remember, evidence: Evidence, kill: Happened) -> str | None:
    before, after = _around(evidence, kill)
    if before is None or after is None:
        return "no status was written before it, or none after it"
    for name in expected.breakers:
        was, now = evidence.state_of(name, before), evidence.state_of(name, after)
        if was is None or now is None:
            return f"the status knows no {name}"
        if (was.get("state"), was.get("factor")) != (now.get("state"), now.get("factor")):
            return f"{name} was {was.get('state')} x{was.get('factor')}, then {now.get('state')} x{now.get('factor')}"
    resets = [time for time in evidence.resets("drawdown") if time < kill.time]
    since = max(resets, default=evidence.began)
    peak = max((s.equity for s in evidence.samples if since <= s.time <= kill.time), default=None)
    drawdown = evidence.state_of("drawdown", after)
    told = None if after.status is None else after.status.get("equity")
    if drawdown is None or drawdown.get("value") is None or told is None or peak is None:
        return "drawdown is not told after it"
    implied = float(told) / (1.0 - float(drawdown["value"]))
    if abs(implied / peak - 1.0) > PEAK_TOLERANCE:
        return f"the peak was {peak:,.0f}, and {implied:,.0f} after it"
    return None


def _state(evidence: Evidence, name: str, kill: Happened) -> str:
    _, after = _around(evidence, kill)
    state = None if after is None else evidence.state_of(name, after)
    return "" if state is None else f"{state.get('state')} x{state.get('factor'):g}"


def _around(evidence: Evidence, kill: Happened) -> tuple[Sample | None, Sample | None]:
    told = [sample for sample in evidence.samples if sample.status is not None]
    before = [sample for sample in told if sample.time <= kill.time]
    # Equity is unknown until it was read a few times.
    after = [
        sample
        for sample in told
        if kill.until is not None
        and float((sample.status or {}).get("time") or 0.0) >= kill.until
        and (evidence.state_of("drawdown", sample) or {}).get("value") is not None
    ]
    return (before[-1] if before else None, after[0] if after else None)


def _told(evidence: Evidence, after: float, until: float) -> Iterator[Sample]:
    for sample in evidence.samples:
        if sample.status is not None and after <= float(sample.status.get("time") or 0.0) < until:
            yield sample


def _ends(evidence: Evidence, breaker: str) -> float:
    return min(evidence.releases(breaker), default=evidence.ended)


# -- The drill's own reckoning -------------------------------------------------------------------------------


def _occasion(breaker: str, evidence: Evidence, scenario: Scenario) -> tuple[float | None, float | None]:
    """Return when a breaker had to trip, and from when it may have."""
    settings = scenario.settings()
    if breaker == "streak":
        needed = settings.streak.cooldown_losses
        found = next((time for time, losses in evidence.losses_in_a_row() if losses >= needed), None)
        return found, found
    if breaker == "deadman":
        whole, last = settings.deadman.hours * 3600.0, evidence.began
        for event in evidence.happened:
            if event.do == "checkin" and event.time - last < whole:
                last = event.time
        due = last + whole
        return (due, due) if due <= evidence.ended else (None, None)
    limit = _limit(breaker, scenario)
    losses = list(_losses(breaker, evidence))
    sure = next((time for time, loss in losses if loss >= limit * SURE), None)
    return sure, next((time for time, loss in losses if loss >= limit * POSSIBLE), None)


def _limit(breaker: str, scenario: Scenario) -> float:
    settings = scenario.settings()
    if breaker == "drawdown":
        return settings.drawdown.limit
    return settings.loss_limit.daily if breaker == "daily_loss" else settings.loss_limit.weekly


def _losses(breaker: str, evidence: Evidence) -> Iterator[tuple[float, float]]:
    """Yield time and loss against the peak, or against the opening of the UTC day or week."""
    reference: float | None = None
    period: object = None
    resets = iter(sorted(evidence.resets(breaker)))
    reset = next(resets, None)
    for sample in evidence.samples:
        began = _period(breaker, sample.time)
        if reset is not None and sample.time >= reset:
            reference, reset = None, next(resets, None)
        if reference is None or began != period:
            reference, period = sample.equity, began
        if breaker == "drawdown":
            reference = max(reference, sample.equity)
        yield sample.time, 1.0 - sample.equity / reference if reference > 0.0 else 1.0


def _period(breaker: str, time: float) -> object:
    day = datetime.fromtimestamp(time, UTC).date()
    if breaker == "drawdown":
        return None
    return day if breaker == "daily_loss" else day - timedelta(days=day.weekday())


def _worst(breaker: str, evidence: Evidence, scenario: Scenario) -> str:
    if breaker == "streak":
        most = max((losses for _, losses in evidence.losses_in_a_row()), default=0)
        return f"{most} losses in a row at most"
    if breaker == "deadman":
        return "the hours without a check-in were never over"
    worst = max((loss for _, loss in _losses(breaker, evidence)), default=0.0)
    return f"the worst loss was {worst:.2%} of {_limit(breaker, scenario):.2%}"


def _clock(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%H:%M}"
