"""Limits that several bots of one owner share: exposure, one asset, heat, and how deep a drawdown may be.

Margin, risk (R) and capital are in the ledger's currency, ratios are of the capital of all bots.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from plimsoll.rules.answer import Number, Outcome, Side
from plimsoll.rules.breaker import require
from plimsoll.rules.exposure import asset_of
from plimsoll.rules.liquidation import all_finite, all_positive
from plimsoll.rules.stored import Stored

ROUNDING: Final = 1e-9  # of a cap: sums of floats that fill it exactly are within it
FILLED: Final = (
    0.0015  # of a cap: what filling it exactly may leave over it, by the price of the fill and its fee
)
GROWTH: Final = 0.01  # of an amount: what fills, fees and rounding add to what was reserved
SIDES: Final = ("long", "short")


@dataclass(frozen=True, slots=True)
class Limits(Stored):
    """Set the shared limits: ratios of the capital of all bots, and the age from which a bot counts as silent, in seconds."""

    exposure: float = 0.50
    asset: float = 0.25
    heat: float = 0.06
    drawdown: float = 0.15
    silent_seconds: float = 600.0

    def __post_init__(self) -> None:
        for name in ("exposure", "asset", "heat", "drawdown"):
            value = getattr(self, name)
            require(name, value, all_positive(value) and value <= 1.0, "a ratio in (0, 1]")
        require("drawdown", self.drawdown, self.drawdown < 1.0, "a ratio in (0, 1)")
        seconds = self.silent_seconds
        require("silent_seconds", seconds, all_positive(seconds), "above 0 seconds")


def tightest(several: Iterable[Limits]) -> Limits:
    """Return the tightest of several bots' limits, one by one: what one owner's bots agree on. Silence stays each bot's own."""
    known = tuple(several)
    if not known:
        return Limits()
    return Limits(
        exposure=min(limits.exposure for limits in known),
        asset=min(limits.asset for limits in known),
        heat=min(limits.heat for limits in known),
        drawdown=min(limits.drawdown for limits in known),
        silent_seconds=min(limits.silent_seconds for limits in known),
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """Hold what one bot takes of the shared limits: reserved for an order, or confirmed as a position.

    ``time`` is when it got its state, in epoch seconds. A risk below zero is a stop in profit and counts as 0.
    """

    bot: str
    key: str
    pair: str
    asset: str
    side: Side
    margin: float
    risk: float
    state: Literal["reserved", "confirmed"]
    time: float


@dataclass(frozen=True, slots=True)
class Capital:
    """Hold what one bot brings: its capital as it counts for the limits, and when it was heard, in epoch seconds.

    ``known`` is False where its last reading told no equity, or none is confirmed yet; the last one counts on. ``unclear`` says
    which of its positions cannot be counted, empty where all can.
    """

    bot: str
    capital: float
    time: float
    silent_seconds: float
    known: bool = True
    unclear: str = ""

    def age(self, now: float) -> float:
        """Return how long ago it was heard; one dated ahead of us has a wrong clock, and is as old as it is ahead."""
        return abs(now - self.time)

    def silent(self, now: float) -> bool:
        return self.age(now) > self.silent_seconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hold what a bot wants to take: margin and risk (R)."""

    bot: str
    key: str
    pair: str
    side: Side
    margin: float
    risk: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Hold whether a reservation is granted, why, and the most margin that would be, at the same risk per margin.

    ``most_margin`` is None where it cannot be told.
    """

    outcome: Outcome
    reason: str
    most_margin: float | None
    numbers: Mapping[str, Number] = field(default_factory=dict)

    @property
    def granted(self) -> bool:
        return self.outcome is Outcome.FINE


@dataclass(frozen=True, slots=True)
class Totals:
    """Hold what all bots take together, and their capital."""

    capital: float
    margin: float
    risk: float
    assets: Mapping[str, float]

    def over(self, limits: Limits, slack: float = 0.0) -> tuple[str, ...]:
        """Say which limits are exceeded, if any: by positions that grew or were not reserved, or by capital that shrank.

        :param slack: ratio of a cap that does not count. Reservations may fill a cap exactly; the fee of the fill shrinks it.
        """
        uses = [
            ("margin of all bots", self.margin, limits.exposure * self.capital),
            *(
                (f"margin in {asset}", margin, limits.asset * self.capital)
                for asset, margin in sorted(self.assets.items())
            ),
            ("open risk of all bots", self.risk, limits.heat * self.capital),
        ]
        return tuple(_used(name, used, cap) for name, used, cap in uses if exceeds(used, cap * (1.0 + slack)))


def totals(claims: Iterable[Claim], capitals: Iterable[Capital]) -> Totals:
    """Add up what is claimed, long and short alike, and the capital of every bot, silent ones too."""
    known = tuple(claims)
    by_asset: dict[str, list[float]] = {}
    for claim in known:
        by_asset.setdefault(claim.asset, []).append(claim.margin)
    return Totals(
        capital=math.fsum(capital.capital for capital in capitals),
        margin=math.fsum(claim.margin for claim in known),
        risk=math.fsum(max(claim.risk, 0.0) for claim in known),
        assets={asset: math.fsum(margins) for asset, margins in by_asset.items()},
    )


def exceeds(used: float, cap: float) -> bool:
    """Tell whether a sum is over its cap, rounding aside."""
    return not used <= cap * (1.0 + ROUNDING)


def decide(
    *,
    wanted: Wanted,
    claims: Sequence[Claim],
    capitals: Sequence[Capital],
    limits: Limits,
    halted: str | None,
    now: float,
) -> Decision:
    """Decide on a reservation beside all that is claimed already; a claim of the same bot and key is what it replaces.

    :param halted: why all bots are halted, None where they are not.
    :param now: epoch seconds; a bot that was not heard of lately may reserve nothing, while its claims and capital count on.
    """
    reason = _unusable(wanted) or _not_known(wanted, capitals, now)
    if reason is not None:
        return Decision(Outcome.UNKNOWN, reason, None)
    if halted is not None:
        return Decision(Outcome.BREACHED, halted, 0.0)
    others = [claim for claim in claims if (claim.bot, claim.key) != (wanted.bot, wanted.key)]
    used = totals(others, capitals)
    if not all_positive(used.capital) or not all_finite(used.margin, used.risk):
        return Decision(
            Outcome.UNKNOWN, f"the capital of all bots is {used.capital:g}, nothing to measure by", None
        )
    asset = asset_of(wanted.pair)
    in_asset = used.assets.get(asset, 0.0)
    uses = (
        ("margin of all bots", used.margin, limits.exposure, wanted.margin),
        (f"margin in {asset}", in_asset, limits.asset, wanted.margin),
        ("open risk of all bots", used.risk, limits.heat, wanted.risk),
    )
    rooms = []
    for name, taken, ratio, more in uses:
        cap = ratio * used.capital
        fits = not exceeds(taken + more, cap)
        room = wanted.margin * max(0.0, cap - taken) / more if more > 0.0 else math.inf if fits else 0.0
        rooms.append((fits, room, f"{_used(name, taken, cap)}, {more:,.2f} wanted"))
    fits, most, reason = min(rooms)  # one that does not fit, else the tightest
    numbers: dict[str, Number] = {
        "capital": used.capital,
        "margin": used.margin,
        "margin_cap": limits.exposure * used.capital,
        "asset": asset,
        "asset_margin": in_asset,
        "asset_cap": limits.asset * used.capital,
        "risk": used.risk,
        "risk_cap": limits.heat * used.capital,
        "wanted_margin": wanted.margin,
        "wanted_risk": wanted.risk,
    }
    if not fits:
        return Decision(Outcome.BREACHED, reason, most, numbers)
    return Decision(Outcome.FINE, reason, max(most, wanted.margin), numbers)


def _unusable(wanted: Wanted) -> str | None:
    if not all_positive(wanted.margin):
        return f"a margin of {wanted.margin} cannot be reserved"
    if not all_finite(wanted.risk) or wanted.risk < 0.0:
        return f"a risk of {wanted.risk} cannot be reserved"
    if wanted.side not in SIDES:
        return f"side {wanted.side} is neither long nor short"
    return None if asset_of(wanted.pair) else f"{wanted.pair!r} is no pair"


def _not_known(wanted: Wanted, capitals: Sequence[Capital], now: float) -> str | None:
    own = next((capital for capital in capitals if capital.bot == wanted.bot), None)
    if own is None:
        return f"{wanted.bot} has not told its capital yet"
    if own.silent(now):
        return f"{wanted.bot} was last heard {own.age(now):.0f} s ago"
    if not own.known:
        return f"the equity of {wanted.bot} is not known"
    unclear = [f"{capital.bot}: {capital.unclear}" for capital in capitals if capital.unclear]
    return "; ".join(unclear) or None


def _used(name: str, used: float, cap: float) -> str:
    return f"{name}: {used:,.2f} used of {cap:,.2f}"
