"""What a shock does to open positions: which are stopped, which liquidated and in what order, what is left of equity.

A price shock is a gap: the price jumps, and nothing fills in between. A stop that lies within the gap fills at the price behind it,
not at its own. A position whose buffered liquidation price lies within the gap is liquidated, and loses what its isolated margin
and its open profit are worth, no more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from plimsoll.rules.answer import Side
from plimsoll.rules.breaker import require
from plimsoll.rules.correlation import shrink_to_one
from plimsoll.rules.liquidation import (
    MaintenanceTier,
    all_finite,
    all_positive,
    liquidation_distance,
    liquidation_price,
)
from plimsoll.rules.stops import tighter

Outcome = Literal["open", "stopped", "liquidated", "unknown"]
MOST_SETTLEMENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Held:
    """Hold one open position under isolated margin.

    Rates in stake currency per unit, ``amount`` in base units with leverage inside, ``margin``, ``funding`` (paid so far is
    negative) and ``risk`` (the loss at the present stop) in stake currency, ``sigma_day`` a ratio per day. ``known_liquidation`` is
    a buffered liquidation price known elsewhere, which counts where it is nearer than our own, or there are no ``tiers``. None is
    unknown; no ``stop`` is none.
    """

    pair: str
    asset: str
    side: Side
    open_rate: float
    rate: float
    amount: float
    margin: float
    tiers: Sequence[MaintenanceTier] | None = None
    stop: float | None = None
    funding: float = 0.0
    risk: float = math.nan
    known_liquidation: float | None = None
    sigma_day: float | None = None

    @property
    def sign(self) -> int:
        return -1 if self.side == "short" else 1

    @property
    def leverage(self) -> float:
        return self.amount * self.open_rate / self.margin

    def worth(self, rate: float, funding_paid: float = 0.0) -> float:
        """Return margin, funding and open profit at a rate, in stake currency; never below 0, margin is isolated."""
        profit = self.sign * self.amount * (rate - self.open_rate)
        return max(self.margin + self.funding - funding_paid + profit, 0.0)


@dataclass(frozen=True, slots=True)
class Shock:
    """Describe what happens at once: funding is paid first, then prices jump.

    ``market_move``: every price moves by this ratio, -0.2 is a fall of 20 %. ``against``: every price moves against the position in
    it by this ratio, correlation to one. ``funding_rate``: what each position pays at each of ``settlements``, a ratio of its
    notional, whatever its side. ``volatility``: volatilities are multiplied by this. ``correlated``: portfolio volatility counts
    every correlation as 1, against us.
    """

    name: str
    market_move: float = 0.0
    against: float = 0.0
    funding_rate: float = 0.0
    settlements: int = 0
    volatility: float = 1.0
    correlated: bool = False

    def __post_init__(self) -> None:
        require("market_move", self.market_move, -1.0 < self.market_move <= 10.0, "a ratio in (-1, 10]")
        require("against", self.against, 0.0 <= self.against < 1.0, "a ratio in [0, 1)")
        require("funding_rate", self.funding_rate, 0.0 <= self.funding_rate <= 0.1, "a ratio in [0, 0.1]")
        count = self.settlements
        require("settlements", count, 0 <= count <= MOST_SETTLEMENTS, f"in [0, {MOST_SETTLEMENTS}]")
        require("volatility", self.volatility, 0.0 < self.volatility <= 100.0, "a multiple in (0, 100]")

    def price(self, position: Held) -> float:
        """Return the price behind the gap."""
        return position.rate * (1.0 + self.market_move) * (1.0 - position.sign * self.against)

    def funding_paid(self, position: Held) -> float:
        """Return the funding that a position pays, in stake currency, on the notional at the rate before the gap."""
        return self.funding_rate * self.settlements * position.amount * position.rate


class Hit(NamedTuple):
    """Hold what a shock does to one position: prices, and the funding paid and the whole loss in stake currency.

    A loss below zero is a gain; NaN is unknown.
    """

    position: Held
    outcome: Outcome
    price: float
    liquidation: float
    funding_paid: float
    loss: float


@dataclass(frozen=True, slots=True)
class Struck:
    """Hold what a shock does to all positions; ``equity`` is what is left, NaN where a position's loss is unknown."""

    shock: Shock
    hits: tuple[Hit, ...]
    equity: float

    @property
    def loss(self) -> float:
        return math.fsum(hit.loss for hit in self.hits)

    @property
    def still_open(self) -> tuple[Hit, ...]:
        return tuple(hit for hit in self.hits if hit.outcome in ("open", "unknown"))


class Reach(NamedTuple):
    """Hold how far a position is from its end: moves against it as ratios of the rate, settlements as a count.

    NaN is unknown, infinity never. ``behind``: liquidation comes before the stop, or there is no stop.
    """

    position: Held
    liquidation: float
    to_liquidation: float
    to_stop: float
    settlements: float
    behind: bool


def liquidation_of(position: Held, *, buffer: float, funding_paid: float = 0.0) -> float:
    """Return the buffered liquidation price after more funding was paid; 0 where a long is never liquidated, NaN unknown."""
    own = liquidation_price(
        side=position.side,
        open_rate=position.open_rate,
        amount=position.amount,
        margin=position.margin,
        tiers=position.tiers,
        extra=position.funding - funding_paid,
        buffer=buffer,
    )
    known = position.known_liquidation
    if known is None or not all_positive(known):
        return own
    if own != own:
        return known if funding_paid == 0.0 and position.side in ("long", "short") else math.nan
    return tighter(position.side, own, known)


def strike(
    positions: Sequence[Held], *, equity: float, shock: Shock, buffer: float = 0.05, fee: float = 0.0
) -> Struck:
    """Apply a shock to all positions and return what each loses and what is left of ``equity``.

    ``fee`` is a ratio of the value at which a stop fills; that of a liquidation is within the margin.
    """
    hits = tuple(_hit(position, shock, buffer, fee) for position in positions)
    loss = math.fsum(hit.loss for hit in hits)
    return Struck(shock, hits, equity - loss if all_finite(equity) else math.nan)


def _hit(position: Held, shock: Shock, buffer: float, fee: float) -> Hit:
    paid, price = shock.funding_paid(position), shock.price(position)
    liquidation = liquidation_of(position, buffer=buffer, funding_paid=paid)
    if not all_finite(price, paid, liquidation):
        return Hit(position, "unknown", price, liquidation, paid, math.nan)
    before, after = position.worth(position.rate), position.worth(price, paid)
    outcome: Outcome = "open"
    if _reached(position.side, price, liquidation):
        outcome, after = "liquidated", 0.0
    elif position.stop is not None and _reached(position.side, price, position.stop):
        outcome, after = "stopped", max(after - fee * position.amount * price, 0.0)
    return Hit(position, outcome, price, liquidation, paid, before - after)


def _reached(side: Side, price: float, level: float) -> bool:
    return price <= level if side == "long" else price >= level


# -- Order ---------------------------------------------------------------------------------------------------


def in_order(positions: Sequence[Held], *, buffer: float = 0.05, funding_rate: float) -> list[Reach]:
    """Return how far each position is from its end, the one that the smallest move against it liquidates first.

    ``funding_rate`` is what it pays per settlement, a ratio of its notional. Unknown ones come last.
    """
    reaches = [_reach(position, buffer, funding_rate) for position in positions]
    return sorted(
        reaches, key=lambda r: (r.to_liquidation != r.to_liquidation, r.to_liquidation, r.position.pair)
    )


def _reach(position: Held, buffer: float, funding_rate: float) -> Reach:
    liquidation = liquidation_of(position, buffer=buffer)
    distance = liquidation_distance(side=position.side, rate=position.rate, liquidation_price=liquidation)
    distance = math.inf if position.side == "long" and liquidation == 0.0 else distance
    to_stop = math.inf
    if position.stop is not None:
        to_stop = position.sign * (position.rate - position.stop) / position.rate
    settlements = settlements_to_liquidation(position, buffer=buffer, funding_rate=funding_rate)
    return Reach(position, liquidation, distance, to_stop, settlements, distance <= to_stop)


def settlements_to_liquidation(position: Held, *, buffer: float, funding_rate: float) -> float:
    """Return after how many settlements of funding the position is liquidated while its price stands still.

    0 where it is past liquidation already; infinity beyond 10,000; NaN when an input is unknown.
    """

    def is_over(count: int) -> bool:
        paid = count * funding_rate * position.amount * position.rate
        level = liquidation_of(position, buffer=buffer, funding_paid=paid)
        if level != level:
            raise ValueError
        return _reached(position.side, position.rate, level)

    if not all_finite(funding_rate) or funding_rate < 0.0:
        return math.nan
    try:
        if not is_over(MOST_SETTLEMENTS):
            return math.inf
        low, high = -1, MOST_SETTLEMENTS  # over at `high`, not at `low`
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if is_over(middle) else (middle, high)
    except ValueError:
        return math.nan
    return float(high)


# -- Correlation ---------------------------------------------------------------------------------------------


def portfolio_volatility(
    positions: Sequence[Held], *, equity: float, correlation: npt.ArrayLike, toward_one: float = 0.0
) -> float:
    """Return the volatility of all positions together per day, a ratio of equity; NaN when a volatility is unknown.

    ``correlation`` is that of the prices, one number for every two pairs or a matrix (k, k); signed by side, then moved this far
    toward 1 by :func:`plimsoll.rules.correlation.shrink_to_one`: at 1 no hedge counts.
    """
    if not positions:
        return 0.0
    if not all_positive(equity):
        return math.nan
    sides = np.array([position.sign for position in positions], dtype=np.float64)
    sigma = np.array([p.sigma_day if p.sigma_day is not None else math.nan for p in positions])
    held = sigma * np.array([p.amount * p.rate for p in positions]) / equity
    count = len(positions)
    rho = np.array(np.broadcast_to(np.asarray(correlation, dtype=np.float64), (count, count)))
    same = np.array([p.pair for p in positions])
    rho[same[:, None] == same[None, :]] = 1.0
    variance = float(held @ shrink_to_one(np.outer(sides, sides) * rho, toward_one) @ held)
    return math.sqrt(max(variance, 0.0)) if math.isfinite(variance) else math.nan
