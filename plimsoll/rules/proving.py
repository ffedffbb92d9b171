"""Proving: live entries only after a time of dry-run that was seen, not claimed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

from plimsoll.rules.answer import Answer, Kind, gate, unknown
from plimsoll.rules.breaker import DAY
from plimsoll.rules.stored import Stored

RULE = "proving"
MAX_GAP: Final = 900
_HOW = "keep the dry-run running, or set plimsoll.gates.proving_override to true"


@dataclass(frozen=True, slots=True)
class Record(Stored):
    """Hold what is on record of a dry-run: its first and last loop in epoch seconds, and the seconds seen running."""

    first: int | None = None
    last: int | None = None
    seconds: int = 0


def observe(record: Record | None, now: int, max_gap: int = MAX_GAP) -> Record:
    """Add the seconds since the last loop, unless there are more than ``max_gap`` of them or time ran backwards.

    A bot that was down proves nothing, nor does a clock that jumps; from there on it is counted anew. ``now`` is in epoch seconds.
    """
    if record is None or record.first is None or record.last is None:
        return Record(now, now, 0 if record is None else record.seconds)
    gap = now - record.last
    return replace(record, last=now, seconds=record.seconds + (gap if 0 <= gap <= max_gap else 0))


def proven(record: Record | None, days: float) -> Answer:
    """Answer whether a dry-run of ``days`` days is on record; 0 asks for none, None is no record, garbage is unknown."""
    numbers = {"required_days": days}
    if not isinstance(days, float | int) or not math.isfinite(days) or days < 0.0:
        return unknown(
            RULE, Kind.GATE, f"the days of dry-run required are no number from 0 on: {days!r}", numbers
        )
    if days == 0.0:
        return gate(RULE, True, "no dry-run required", numbers)
    if record is not None and not _is_usable(record):
        return unknown(RULE, Kind.GATE, f"the record of the dry-run is unusable: {record!r}; {_HOW}", numbers)
    seconds = 0 if record is None else record.seconds
    numbers |= {"observed_days": seconds / DAY}
    if seconds >= days * DAY:
        return gate(RULE, True, f"{seconds / DAY:.1f} days of dry-run on record, {days:g} required", numbers)
    # Downwards, so that a record just short never reads as complete.
    seen = f"{math.floor(10.0 * seconds / DAY) / 10.0:.1f} days"
    missing = _span(math.ceil(days * DAY - seconds))
    reason = f"live entries need {days:g} days of dry-run on record, {seen} seen, {missing} missing: {_HOW}"
    return gate(RULE, False, reason, numbers)


def _is_usable(record: object) -> bool:
    if not isinstance(record, Record) or type(record.seconds) is not int or record.seconds < 0:
        return False
    ends = (record.first, record.last)
    return ends == (None, None) or all(type(end) is int for end in ends)


def _span(seconds: int) -> str:
    if seconds < 3600:
        return f"{math.ceil(seconds / 60)} min"
    return (
        f"{math.ceil(seconds / 360) / 10.0:.1f} h"
        if seconds < DAY
        else f"{math.ceil(10 * seconds / DAY) / 10.0:.1f} days"
    )
