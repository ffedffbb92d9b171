"""What a user may set of a drop-in protection: each parameter with its default and what is allowed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from freqtrade.exceptions import OperationalException

from plimsoll.rules import decay
from plimsoll.rules.breaker import require

LONGEST_STOP = 5_256_000  # minutes, ten years


@dataclass(frozen=True, slots=True)
class Parameter:
    """Describe a parameter: its default, what is allowed in words and as a test, and what is made of it."""

    default: Any
    allowed: str
    holds: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value  # may raise ValueError


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def ratio(default: float) -> Parameter:
    """Describe a ratio above 0 and under 1."""
    return Parameter(default, "a ratio in (0, 1)", lambda value: _number(value) and 0.0 < value < 1.0)


def number(default: float | None, least: float, most: float, unit: str) -> Parameter:
    """Describe a number within bounds, both allowed."""
    allowed = f"a number in [{least:g}, {most:g}] {unit}".strip()
    return Parameter(default, allowed, lambda value: _number(value) and least <= value <= most)


def count(default: int | None, least: int, most: int, unit: str) -> Parameter:
    """Describe a whole number within bounds, both allowed."""
    return Parameter(
        default,
        f"a whole number in [{least}, {most}] {unit}",
        lambda value: isinstance(value, Integral) and _number(value) and least <= int(value) <= most,
    )


def flag(default: bool) -> Parameter:
    """Describe a yes or no."""
    return Parameter(default, "True or False", lambda value: isinstance(value, bool))


def text(default: str | None, allowed: str) -> Parameter:
    """Describe a text; the rule's own configuration says whether it makes sense."""
    return Parameter(default, allowed, lambda value: isinstance(value, str))


def baseline() -> Parameter:
    """Describe the sequential test's baseline: the file that ``plimsoll calibrate`` wrote, or its numbers."""
    allowed = "a path, or a dict of mean, deviation, trades and trades_per_day"
    return Parameter(None, allowed, lambda value: isinstance(value, str | Path | dict), _read_baseline)


def _read_baseline(value: Any) -> decay.Baseline:
    try:
        numbers = value if isinstance(value, dict) else json.loads(Path(value).read_text())["decay"]
        found = decay.Baseline(**numbers)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"`baseline` cannot be read: {error!r}, was {value!r}") from error
    least = decay.FULL_BASELINE_TRADES
    require("baseline.trades", found.trades, found.trades >= least, f"at least {least}: fewer never pause")
    return found


def _is_time_of_day(value: Any) -> bool:
    try:
        return bool(datetime.strptime(value, "%H:%M"))
    except (TypeError, ValueError):
        return False


def stop_parameters(timeframe: int) -> dict[str, Parameter]:
    """Describe the words of a stop; the timeframe is in minutes."""
    return {
        "stop_duration": count(None, 1, LONGEST_STOP, "minutes"),
        "stop_duration_candles": count(None, 1, LONGEST_STOP // timeframe, "candles"),
        "unlock_at": Parameter(None, "a time of day HH:MM, UTC", _is_time_of_day),
    }


def lookback(timeframe: int, most: int) -> dict[str, Parameter]:
    """Describe Freqtrade's two words for a window, at most so many minutes long."""
    return {
        "lookback_period": count(None, 1, most, "minutes"),
        "lookback_period_candles": count(None, 1, max(1, most // timeframe), "candles"),
    }


def checked(name: str, known: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return every known parameter's value, or raise one error that names all faults."""
    given = {key: value for key, value in given.items() if key != "method" and value is not None}
    faults = [
        f"`{key}` must be {known[key].allowed}, was {value!r}"
        if key in known
        else f"`{key}` is unknown, has {', '.join(sorted(known))}"
        for key, value in given.items()
        if key not in known or not known[key].holds(value)
    ]
    faults += [
        f"only one of {', '.join(together)} may be set"
        for family in ("stop_duration unlock_at", "lookback_period")
        if len(together := [key for key in given if key.removesuffix("_candles") in family.split()]) > 1
    ]
    if faults:
        raise OperationalException(f"Protection {name}: {'; '.join(faults)}")
    try:
        read = {key: known[key].read(value) for key, value in given.items()}
    except ValueError as error:
        raise OperationalException(f"Protection {name}: {error}") from error
    return {key: parameter.default for key, parameter in known.items()} | read
