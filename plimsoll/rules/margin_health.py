"""Margin health of one open position: alert, reduce, close, as its margin is used up and liquidation comes near.

Isolated margin only: under cross margin the whole account stands behind a position, and neither number is one of the position's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from plimsoll.rules.answer import Side
from plimsoll.rules.breaker import limit_percent, percent, reaches, require, require_order
from plimsoll.rules.liquidation import (
    MaintenanceTier,
    all_finite,
    all_positive,
    liquidation_distance,
    liquidation_price,
    tier_of,
)
from plimsoll.rules.stored import Stored

RULE = "margin_health"
MOST_REDUCTIONS: Final = 3
Action = Literal["none", "alert", "reduce", "close", "unknown"]


class Measured(NamedTuple):
    """Hold the liquidation distance (ratio of the price) and the margin used (ratio of the margin); NaN when unknown."""

    distance: float
    margin_used: float


def measure(
    *,
    side: Side,
    open_rate: float,
    rate: float,
    amount: float,
    margin: float,
    funding: float,
    tiers: Sequence[MaintenanceTier] | None,
    buffer: float = 0.05,
    liquidation: float | None = None,
) -> Measured:
    """Measure how far a position is from its buffered liquidation price, and how much of its margin is used.

    Distance: ``|rate - liquidation| / rate``, negative once past it; the nearer of our own liquidation price (funding and the true
    tier inside) and ``liquidation``, a buffered price known elsewhere, None for none. Margin used: ``(maintenance margin at the
    tier of amount * rate + loss) / margin``, where the loss is ``-(price move * amount + funding)``; a profit joins the margin, or
    the growing maintenance margin of a large winner would look like danger. 1 is liquidation, without a buffer. Rates in stake
    currency per unit, ``amount`` in base units with leverage inside, ``margin`` and ``funding`` in stake currency; funding paid is
    negative. Both NaN when an input is unknown.
    """
    nothing = Measured(math.nan, math.nan)
    if side not in ("long", "short") or not all_positive(open_rate, rate, amount, margin):
        return nothing
    if not all_finite(funding):
        return nothing
    own = liquidation_price(
        side=side,
        open_rate=open_rate,
        amount=amount,
        margin=margin,
        tiers=tiers,
        extra=funding,
        buffer=buffer,
    )
    distance = liquidation_distance(side=side, rate=rate, liquidation_price=own)
    if liquidation is not None:
        known = liquidation_distance(side=side, rate=rate, liquidation_price=liquidation)
        distance = min(distance, known) if known == known else math.nan
    notional = amount * rate
    tier = tier_of(tiers, notional)
    if tier is None or not math.isfinite(distance):
        return nothing
    maintenance = max(0.0, notional * tier.mmr - tier.maintenance_amount)
    move = rate - open_rate if side == "long" else open_rate - rate
    profit = move * amount + funding
    used = (maintenance + max(0.0, -profit)) / (margin + max(0.0, profit))
    return Measured(distance, used) if math.isfinite(used) else nothing


@dataclass(frozen=True, slots=True)
class Sample:
    """Hold one reading: time in epoch seconds, the two ratios of :func:`measure`, None or NaN when unknown."""

    time: int
    distance: float | None
    margin_used: float | None


@dataclass(frozen=True, slots=True)
class Config:
    """Set the actions.

    ``alert``, ``close``: ratios of margin used. ``reduce_distance``, ``close_distance``: ratios of the price. ``reduce_by``: ratio
    of the position; 1 closes it. ``rearm``: additions, and a first reduction again, only after the distance was above this many
    times ``reduce_distance``; an alert ends where margin used is under ``alert / rearm``. ``confirmations``: readings in a row that
    must agree, 1 in backtests.
    """

    alert: float = 0.80
    close: float = 0.90
    reduce_distance: float = 0.10
    close_distance: float = 0.05
    reduce_by: float = 0.5
    rearm: float = 1.25
    confirmations: int = 2

    def __post_init__(self) -> None:
        require("close", self.close, 0.0 < self.close <= 1.0, "a ratio in (0, 1]")
        below = f"a ratio in (0, {self.close}), under `close`"
        require("alert", self.alert, 0.0 < self.alert < self.close, below)
        far = self.reduce_distance
        require("reduce_distance", far, 0.0 < far < 1.0, "a ratio in (0, 1)")
        below = f"a ratio in [0, {far}), under `reduce_distance`"
        require("close_distance", self.close_distance, 0.0 <= self.close_distance < far, below)
        require("reduce_by", self.reduce_by, 0.0 < self.reduce_by <= 1.0, "a ratio in (0, 1]")
        require("rearm", self.rearm, 1.0 <= self.rearm <= 10.0, "a multiple in [1, 10]")
        require("confirmations", self.confirmations, 1 <= self.confirmations <= 10, "in [1, 10] readings")

    @property
    def rearm_distance(self) -> float:
        return self.rearm * self.reduce_distance


@dataclass(frozen=True, slots=True)
class State(Stored):
    """Remember the latest readings (distance, margin used), an alert, the reductions since the last re-arming, and a close.

    ``reduced_at`` is the distance that the last reduction was decided at. The caller keeps one per position.
    """

    time: int | None = None
    recent: tuple[tuple[float, float], ...] = ()
    alerted: bool = False
    reductions: int = 0
    reduced_at: float | None = None
    closing: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        require(
            "reductions",
            self.reductions,
            0 <= self.reductions <= MOST_REDUCTIONS,
            f"in [0, {MOST_REDUCTIONS}]",
        )
        known = (self.reduced_at is None) == (self.reductions == 0)
        require("reduced_at", self.reduced_at, known, "known after a reduction, and only then")


@dataclass(frozen=True, slots=True)
class Health:
    """Hold what to do about a position, and whether it may be added to.

    ``action`` "reduce" lasts one step and takes off ``reduce_by``, a ratio of the position; "close" stays until the position is
    gone. ``changed`` is True in the one step in which an alert begins or ends, a reduction or a close is decided, or additions are
    allowed again after a reduction. An unknown reading is no change.
    """

    action: Action
    allows_additions: bool
    reason: str
    changed: bool
    reduce_by: float = 0.0
    distance: float | None = None
    margin_used: float | None = None


def step(state: State, config: Config, sample: Sample) -> tuple[State, Health]:
    """Judge one reading of a position.

    An action needs ``confirmations`` readings in a row that each ask for it or for more. One reading is enough to refuse
    additions; allowing them takes as many as an action. A first reduction comes under ``reduce_distance``, a further one each time
    the distance has fallen by half of what then lay between it and ``close_distance``, at most three until re-armed. A close is
    never withdrawn. An unknown reading changes nothing, begins nothing and refuses additions; it is no part of a row. Raises
    ValueError when time runs backwards.
    """
    require_order(RULE, state.time, sample.time)
    distance, used = sample.distance, sample.margin_used
    if distance is None or used is None or not all_finite(distance, used):
        if state.closing:
            return state, Health("close", False, state.reason, False)
        return state, Health("unknown", False, "margin health: the reading is unknown", False)
    recent = (*state.recent, (distance, used))[-config.confirmations :]
    state = replace(state, time=sample.time, recent=recent)
    if state.closing:
        return state, Health("close", False, state.reason, False, 0.0, distance, used)

    def confirmed(holds: Callable[[float, float], bool]) -> bool:
        return len(recent) == config.confirmations and all(holds(d, u) for d, u in recent)

    threshold = _next_reduction(state, config)
    reduces = confirmed(lambda d, _: d < threshold)
    if confirmed(lambda d, u: _asks_to_close(config, d, u)) or (reduces and config.reduce_by == 1.0):
        reason = f"{_numbers(distance, used)}: close the position"
        state = replace(state, closing=True, reason=reason)
        return state, Health("close", False, reason, True, 0.0, distance, used)

    before = state
    if confirmed(lambda _, u: reaches(u, config.alert)):
        state = replace(state, alerted=True)
    elif confirmed(lambda _, u: u < config.alert / config.rearm):
        state = replace(state, alerted=False)
    if reduces:
        # What all readings of the row agree on: a single bad one does not move the next threshold.
        farthest = max(d for d, _ in recent)
        state = replace(state, reductions=state.reductions + 1, reduced_at=farthest)
        reason = f"{_numbers(distance, used)}: reduce by {limit_percent(config.reduce_by)} of the position"
        reason += f" ({state.reductions} of at most {MOST_REDUCTIONS})"
        return state, Health("reduce", False, reason, True, config.reduce_by, distance, used)
    if confirmed(lambda d, _: d > config.rearm_distance):
        state = replace(state, reductions=0, reduced_at=None)
    changed = (state.alerted, state.reductions) != (before.alerted, before.reductions)
    calm = confirmed(lambda d, u: d >= config.reduce_distance and not reaches(u, config.alert))
    allows = calm and not state.alerted and not state.reductions
    action: Action = "alert" if state.alerted else "none"
    reason = _numbers(distance, used) + _why_no_additions(state, config, calm)
    return state, Health(action, allows, reason, changed, 0.0, distance, used)


def _next_reduction(state: State, config: Config) -> float:
    if state.reduced_at is None:
        return config.reduce_distance
    return (
        -math.inf if state.reductions >= MOST_REDUCTIONS else (state.reduced_at + config.close_distance) / 2.0
    )


def _asks_to_close(config: Config, distance: float, used: float) -> bool:
    return distance < config.close_distance or reaches(used, config.close)


def _numbers(distance: float, used: float) -> str:
    where = f"liquidation is {percent(distance)} away" if distance >= 0.0 else "the price is past liquidation"
    return f"{where}, {percent(used)} of the margin used"


def _why_no_additions(state: State, config: Config, calm: bool) -> str:
    reasons = []
    if state.alerted:
        reasons.append(f"until under {percent(config.alert / config.rearm)} of the margin is used")
    if state.reductions:
        reasons.append(f"after a reduction until liquidation is over {percent(config.rearm_distance)} away")
    if not reasons and not calm:
        reasons.append("until this is confirmed or over")
    return f": no additions {' and '.join(reasons)}" if reasons else ""
