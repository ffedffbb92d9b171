"""The boundary to the wrapped strategy: whatever it raises or returns comes out as a usable value or as Unusable.

What Freqtrade does with an exception, None, NaN or infinity differs per callback and often opens risk or ends the process.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from freqtrade.enums import CandleType

logger = logging.getLogger("plimsoll")


class Unusable(Exception):
    """Say why an answer of the wrapped strategy cannot be used."""


def finite(value: Any, of: str) -> float:
    """Return a finite number as a float; anything else, booleans and text included, is Unusable."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real) or not math.isfinite(value):
        raise Unusable(f"{of} answered {value!r}, which is not a finite number")
    return float(value)


def yes(value: Any) -> bool:
    """Tell whether an answer is a true boolean; Freqtrade takes any truthy value, NaN included, for a yes."""
    return isinstance(value, bool | np.bool_) and bool(value)


def usable_pairs(answer: Any) -> list[Any]:
    """Return informative pairs; Freqtrade takes their form for granted and its process ends where it is another."""
    if not isinstance(answer, list | tuple) or isinstance(answer, str):
        raise Unusable(f"informative_pairs answered {answer!r}, which is no list")
    for entry in answer:
        if (
            not isinstance(entry, tuple | list)
            or not 2 <= len(entry) <= 3
            or not all(isinstance(x, str) for x in entry)
        ):
            raise Unusable(
                f"informative_pairs holds {entry!r}, which is no (pair, timeframe) or (pair, timeframe, type)"
            )
        if len(entry) == 3 and entry[2]:
            try:
                CandleType.from_string(entry[2])
            except ValueError as error:
                raise Unusable(f"informative_pairs holds {entry!r}: {error}") from error
    return list(answer)


def ask(function: Callable[..., Any], of: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call the wrapped strategy; what it raises becomes Unusable, chained to its cause.

    Only an operator ends a bot: neither a cancelled task, nor SystemExit, nor a panic of an extension module does.
    """
    try:
        return function(*args, **kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise Unusable(f"{of} raised {error!r}") from error


class Complaints:
    """Log the same complaint once, not every loop, and again only after it went away."""

    def __init__(self) -> None:
        self._current: dict[str, str] = {}

    def about(self, subject: str, message: str, error: BaseException | None = None) -> bool:
        """Log a new complaint about a subject; answer whether it was new."""
        if self._current.get(subject) == message:
            return False
        self._current[subject] = message
        logger.warning("%s: %s", subject, message, exc_info=error)
        return True

    def settled(self, subject: str) -> None:
        """Forget a complaint, so that its return is news."""
        self._current.pop(subject, None)
