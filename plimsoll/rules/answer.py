"""What a rule answers: a value, a reason and the numbers it used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, NamedTuple

Side = Literal["long", "short"]
Number = float | int | str | bool | None


class Outcome(StrEnum):
    """Name the three outcomes of a rule; unknown blocks new risk and never an exit."""

    FINE = "fine"
    BREACHED = "breached"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """Name what the value of an answer bounds."""

    LEVERAGE = "leverage"  # most leverage allowed
    NOTIONAL = "notional"  # most notional allowed, stake currency
    MARGIN = "margin"  # most margin allowed, stake currency
    FACTOR = "factor"  # multiplies the notional, in [0, 1]
    STOP = "stop"  # stop distance on price, a ratio
    GATE = "gate"  # no value: yes, no or unknown


class Answer(NamedTuple):
    """Hold one rule's answer to one question.

    ``value`` is the most the rule allows (see :class:`Kind`); it is None for gates and for unknown answers. A breached answer
    refuses new risk. ``numbers`` are the inputs and intermediates that the reason speaks of. A named tuple, because each plan makes
    some twenty and a frozen dataclass takes twice as long to make.
    """

    rule: str
    kind: Kind
    outcome: Outcome
    value: float | None
    reason: str
    numbers: Mapping[str, Number]

    @property
    def blocks(self) -> bool:
        return self.outcome is not _FINE


# A member of an enum is looked up anew each time; these two are asked for with every answer.
_FINE, _GATE = Outcome.FINE, Kind.GATE


def limit(rule: str, kind: Kind, value: float, reason: str, numbers: Mapping[str, Number]) -> Answer:
    """Answer with the most allowed; a value that is not finite is unknown, one that leaves nothing is a breach."""
    if not math.isfinite(value):
        return Answer(rule, kind, Outcome.UNKNOWN, None, f"{rule}: result {value} is not finite", numbers)
    if value <= 0.0:
        return Answer(rule, kind, Outcome.BREACHED, 0.0, reason, numbers)
    return Answer(rule, kind, _FINE, value, reason, numbers)


def gate(rule: str, open_: bool, reason: str, numbers: Mapping[str, Number]) -> Answer:
    """Answer yes or no to new risk."""
    return Answer(rule, _GATE, _FINE if open_ else Outcome.BREACHED, None, reason, numbers)


def unknown(rule: str, kind: Kind, reason: str, numbers: Mapping[str, Number] | None = None) -> Answer:
    """Answer that the question cannot be answered, which blocks new risk."""
    return Answer(rule, kind, Outcome.UNKNOWN, None, reason, numbers or {})


def is_positive(value: float | None) -> bool:
    """Tell whether a required input is a finite number above zero (False for None and NaN)."""
    return value is not None and math.isfinite(value) and value > 0.0


def is_number(value: float | None) -> bool:
    """Tell whether a required input is a finite number (False for None and NaN)."""
    return value is not None and math.isfinite(value)
