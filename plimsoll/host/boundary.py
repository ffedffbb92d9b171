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


def ask(function: Callable[..., Any], of: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call the wrapped strategy; what it raises becomes Unusable, chained to its cause."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
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
