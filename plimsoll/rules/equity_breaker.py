"""What the breakers on equity share: their answers while equity is unknown, or a reading waits to be confirmed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from plimsoll.rules.breaker import (
    NO_READINGS,
    Confirmed,
    Readings,
    Verdict,
    block,
    block_unknown,
    loss_ratio,
    reaches,
)
from plimsoll.rules.stored import Stored


@dataclass(frozen=True, slots=True)
class EquityState(Stored):
    """Remember the readings of equity; each breaker adds what it measures them against."""

    readings: Readings = NO_READINGS


S = TypeVar("S", bound=EquityState)


def while_unknown(
    state: S,
    readings: Readings,
    rule: str,
    word: str,
    trip: tuple[str, int | None] | None,
    leverage: float | None = None,
) -> tuple[S, Verdict]:
    """Answer while equity is unknown: a trip, its reason and end, goes on; without one new risk is blocked as well."""
    state = state if readings is state.readings else replace(state, readings=readings)
    if trip is not None:
        reason, until = trip
        return state, block(rule, reason, None, False, until, leverage)
    return state, block_unknown(rule, f"{word}: equity is unknown", None, leverage)


def while_unconfirmed(
    known: Confirmed, reference: float, limit: float, rule: str, word: str, leverage: float | None = None
) -> Verdict | None:
    """Answer while equity jumped, or only its latest reading is over the limit; None where it is neither.

    ``reference`` is per unit, as the readings are; ``limit`` is a ratio of it.
    """
    if not known.agreed:
        what = "equity jumped"
    elif reaches(loss_ratio(reference, known.latest), limit):
        what = "over the limit"
    else:
        return None
    return block_unknown(rule, f"{word}: {what}, waiting for it to be confirmed", None, leverage)
