"""What a bot has claimed against what it really has: the differences, as changes to its claims."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from plimsoll.rules.answer import Side
from plimsoll.rules.exposure import asset_of
from plimsoll.rules.liquidation import all_finite
from plimsoll.rules.portfolio import GROWTH, SIDES, Claim

Event = Literal["filled", "changed", "found", "released", "expired"]
EXACT: Final = 1e-6  # of an amount: less is no change
FEW = 8  # claims of one pair and side that are tried together
FOUND: Final = "found"


@dataclass(frozen=True, slots=True)
class Holding:
    """Hold what a bot really has in one pair and side: margin, and margin in entry orders that rest on the exchange.

    ``risk`` is R of the position; None where it is not known: then all its margin is at risk. A margin that is not known (NaN)
    keeps what was claimed.
    """

    pair: str
    side: Side
    margin: float
    risk: float | None
    resting: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """Hold one difference: the claim as it is from now on, or as it was where it is released or expired.

    ``growth`` and ``risk_growth`` are the margin and risk it takes more than before, below zero where it takes less.
    """

    event: Event
    claim: Claim
    growth: float
    risk_growth: float

    @property
    def ends(self) -> bool:
        return self.event in ("released", "expired")

    @property
    def grows(self) -> bool:
        return self.growth > 0.0 or self.risk_growth > 0.0


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Hold the changes, and which holdings cannot be counted."""

    changes: tuple[Change, ...]
    unclear: str


def reconcile(
    *,
    bot: str,
    claims: Sequence[Claim],
    holdings: Sequence[Holding],
    now: float,
    grace: float,
    tolerance: float = EXACT,
) -> Reconciled:
    """Compare a bot's claims with its holdings, pair by pair and side by side.

    What it no longer has is released; what it has and nobody reserved is found and claimed; a reservation that filled becomes a
    position; one that neither filled nor rests on the exchange expires after ``grace`` seconds. A reservation that filled in part
    counts whole as long as it may still fill. What shrinks comes first.

    :param claims: those of this bot.
    :param tolerance: ratio of an amount within which it counts as unchanged.
    """
    unclear, known, skipped = [], list[Holding](), set[tuple[str, str]]()
    for holding in holdings:
        place = (holding.pair, holding.side)
        if not asset_of(holding.pair) or holding.side not in SIDES:
            unclear.append(f"a position in {holding.pair!r} {holding.side!r}")
        elif not all_finite(holding.margin, holding.resting) or min(holding.margin, holding.resting) < 0.0:
            skipped.add(place)
            if not any((claim.pair, claim.side) == place for claim in claims):
                unclear.append(f"the margin of {holding.pair} {holding.side}")
        else:
            known.append(holding)
    places = {(claim.pair, claim.side) for claim in claims} | {(item.pair, item.side) for item in known}
    changes: list[Change] = []
    for pair, side in sorted(places - skipped):
        group = _Group(bot, pair, side, now, grace, tolerance)
        group.take([claim for claim in claims if (claim.pair, claim.side) == (pair, side)])
        changes += group.meet([item for item in known if (item.pair, item.side) == (pair, side)])
    changes.sort(key=lambda change: (change.grows, change.growth))
    return Reconciled(tuple(changes), ", ".join(unclear))


class _Group:
    """One pair and side of one bot."""

    def __init__(self, bot: str, pair: str, side: Side, now: float, grace: float, tolerance: float) -> None:
        self._bot, self._pair, self._side = bot, pair, side
        self._now, self._grace, self._tolerance = now, grace, tolerance
        self._before: dict[str, Claim] = {}
        self._held: list[Claim] = []
        self._reserved: list[Claim] = []
        self._events: dict[str, Event] = {}
        self._slack = self._risk_per_margin = 0.0

    def take(self, claims: Sequence[Claim]) -> None:
        ordered = sorted(claims, key=lambda claim: (claim.time, claim.key))
        self._before = {claim.key: claim for claim in ordered}
        self._held = [claim for claim in ordered if claim.state == "confirmed"]
        self._reserved = [claim for claim in ordered if claim.state == "reserved"]

    def meet(self, holdings: Sequence[Holding]) -> list[Change]:
        margin = math.fsum(holding.margin for holding in holdings)
        resting = math.fsum(holding.resting for holding in holdings)
        self._slack = self._tolerance * max(margin, resting)
        self._risk_per_margin = math.fsum(map(_risk, holdings)) / margin if margin > 0.0 else 0.0
        partly = self._match(margin)
        self._settle_reservations(partly, resting)
        self._set_risk()
        return self._changes()

    def _changes(self) -> list[Change]:
        after = {claim.key: claim for claim in (*self._held, *self._reserved)}
        changes = [
            Change(self._events.get(key, "released"), claim, -claim.margin, -claim.risk)
            for key, claim in self._before.items()
            if key not in after
        ]
        for key, claim in after.items():
            before = self._before.get(key, replace(claim, margin=0.0, risk=0.0))
            if key not in self._before or self._differs(before, claim):
                growth, more_risk = claim.margin - before.margin, claim.risk - before.risk
                changes.append(Change(self._events.get(key, "changed"), claim, growth, more_risk))
        return changes

    def _match(self, margin: float) -> float:
        """Bring the confirmed claims to the margin held; return how much of it a reservation covers that filled in part."""
        # What was confirmed after the bot looked at its positions is not in what it saw.
        new = [claim for claim in self._held if self._is_newer(claim)]
        old = [claim for claim in self._held if not self._is_newer(claim)]
        if margin <= 0.0:
            self._held = new
            return 0.0
        missing = margin - math.fsum(claim.margin for claim in old)
        last: Claim | None = None
        while old and missing < -self._slack:
            gone_risk = math.fsum(claim.risk for claim in old) - self._risk_per_margin * margin
            last = next(iter(self._fitting(old, -missing, gone_risk)), old[-1])
            old.remove(last)
            missing += last.margin
        self._held = [*old, *new]
        if missing <= self._slack:
            return 0.0
        if last is not None:  # a part of it was closed
            left = missing / last.margin
            self._held.append(replace(last, margin=missing, risk=last.risk * left))
            return 0.0
        return self._filled(missing, margin)

    def _fitting(
        self, claims: Sequence[Claim], margin: float, risk: float, most: int = 1
    ) -> tuple[Claim, ...]:
        """Return the claims, at most so many, whose margins together are this one; of several the one nearest in risk."""
        few = claims[:FEW]
        found = (
            chosen
            for count in range(1, most + 1)
            for chosen in itertools.combinations(few, count)
            if abs(math.fsum(claim.margin for claim in chosen) - margin) <= GROWTH * margin
        )
        return min(found, key=lambda chosen: abs(math.fsum(c.risk for c in chosen) - risk), default=())

    def _filled(self, missing: float, margin: float) -> float:
        risk = self._risk_per_margin * margin - math.fsum(claim.risk for claim in self._held)
        # One that was never placed waits beside those that filled: taken for one of them, its place would count twice.
        fitting = list(self._fitting(self._reserved, missing, risk, most=3))
        while self._reserved and missing > self._slack:
            first = fitting.pop(0) if fitting else self._reserved[0]
            if first.margin > missing * (1.0 + GROWTH):
                return missing
            self._reserved.remove(first)
            took = min(first.margin, missing)
            self._held.append(replace(first, margin=took, state="confirmed", time=self._now))
            self._events[first.key] = "filled"
            missing -= took
        if missing > GROWTH * margin:
            self._find(missing, self._risk_per_margin * missing, "confirmed")
        elif missing > self._slack and self._held:
            grown = self._held.pop()
            self._held.append(replace(grown, margin=grown.margin + missing))
        return 0.0

    def _settle_reservations(self, partly: float, resting: float) -> None:
        kept: list[Claim] = []
        for place, claim in enumerate(self._reserved):
            alive = abs(self._now - claim.time) <= self._grace or resting > 0.0
            if alive:
                kept.append(claim)
            elif place == 0 and partly > 0.0:  # the rest of it was cancelled
                self._held.append(replace(claim, margin=partly, state="confirmed", time=self._now))
                self._events[claim.key] = "filled"
                partly = 0.0
            else:
                self._events[claim.key] = "expired"
        self._reserved = kept
        uncovered = resting - (math.fsum(claim.margin for claim in kept) - partly)
        if uncovered > self._slack:
            self._find(uncovered, uncovered, "reserved")

    def _find(self, margin: float, risk: float, state: Literal["reserved", "confirmed"]) -> None:
        claims = self._held if state == "confirmed" else self._reserved
        taken = {claim.key for claim in (*self._held, *self._reserved)} | set(self._before)
        numbered = (f"{FOUND}:{self._pair}:{self._side}:{number}" for number in itertools.count(1))
        key = next(key for key in numbered if key not in taken)
        claims.append(
            Claim(
                self._bot, key, self._pair, asset_of(self._pair), self._side, margin, risk, state, self._now
            )
        )
        self._events[key] = "found"

    def _set_risk(self) -> None:
        """Scale the risk of what is held to what it really is, all in the same direction."""
        old = [claim for claim in self._held if not self._is_newer(claim)]
        margin, told = math.fsum(claim.margin for claim in old), math.fsum(claim.risk for claim in old)
        real = self._risk_per_margin * margin
        if abs(told - real) <= self._tolerance * max(told, real):
            return
        self._held = [
            claim
            if self._is_newer(claim)
            else replace(
                claim, risk=claim.risk * real / told if told > 0.0 else self._risk_per_margin * claim.margin
            )
            for claim in self._held
        ]

    def _is_newer(self, claim: Claim) -> bool:
        return 0.0 < claim.time - self._now <= self._grace

    def _differs(self, before: Claim, after: Claim) -> bool:
        if before.state != after.state:
            return True
        pairs = ((before.margin, after.margin), (before.risk, after.risk))
        return any(abs(a - b) > self._tolerance * max(abs(a), abs(b)) for a, b in pairs)


def _risk(holding: Holding) -> float:
    if not all_finite(holding.risk):
        return holding.margin
    assert holding.risk is not None
    return max(holding.risk, 0.0)
