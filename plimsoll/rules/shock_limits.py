"""What the limits would do after a shock: each limit's own rule, asked with what is left of equity and positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from plimsoll.rules import margin_health
from plimsoll.rules.answer import Answer, Kind, gate, unknown
from plimsoll.rules.breaker import limit_percent, loss_ratio, money, percent, reaches
from plimsoll.rules.exposure import OpenPosition, gross_notional, total_margin
from plimsoll.rules.heat import heat_limit
from plimsoll.rules.liquidation import all_finite, all_positive
from plimsoll.rules.regime import volatility_regime
from plimsoll.rules.shock import Held, Hit, Struck
from plimsoll.rules.volatility_budget import volatility_budget

ACTION = "action"


@dataclass(frozen=True, slots=True)
class Bands:
    """Set the volatility regime: daily volatilities and the most leverage above, between and below them."""

    high: float = 0.05
    mid: float = 0.02
    high_leverage: float = 1.0
    mid_leverage: float = 3.0
    low_leverage: float = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Set the limits: ratios of the peak, of the day's and week's opening, of equity; per day for the last two.

    ``off`` names layers that are switched off.
    """

    drawdown: float = 0.20
    daily_loss: float = 0.05
    weekly_loss: float = 0.15
    heat: float = 0.06
    total_margin: float = 0.15
    gross_notional: float = 3.0
    bands: Bands = field(default_factory=Bands)
    volatility_budget: float = 0.02
    exceedance: float | None = None
    portfolio_volatility: float = 0.02
    health: margin_health.Config = field(default_factory=lambda: margin_health.Config(confirmations=1))
    off: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Before:
    """Hold what was before the shock: peak and openings in stake currency, portfolio volatility per day as a ratio of equity.

    ``volatility_at_one`` is with every correlation at 1, against us. None is unknown.
    """

    peak: float | None = None
    day: float | None = None
    week: float | None = None
    volatility: float | None = None
    volatility_at_one: float | None = None


def answers(
    struck: Struck,
    before: Before,
    limits: Limits,
    *,
    buffer: float = 0.05,
    others: Sequence[OpenPosition] = (),
) -> list[Answer]:
    """Ask every limit after a shock; a breached answer is what the limit would do then.

    ``others`` count in the exposure and are not moved. The answers of positions carry ``pair`` among their numbers. Portfolio
    volatility is that of what was held before.
    """
    found = [*_losses(struck, before, limits), *_exposure(struck, limits, others)]
    if "margin_health" not in limits.off:
        found += [_health(hit, limits, buffer) for hit in struck.still_open]
    if "volatility" not in limits.off and struck.shock.volatility != 1.0:
        for hit in struck.still_open:
            found += _volatility(hit, struck, limits)
    if "correlation" not in limits.off and (struck.shock.volatility != 1.0 or struck.shock.correlated):
        found.append(_together(struck, before, limits))
    return found


def _losses(struck: Struck, before: Before, limits: Limits) -> Iterator[Answer]:
    for layer, rule, reference, limit, base in (
        ("drawdown", "drawdown", before.peak, limits.drawdown, "the peak"),
        ("loss_limit", "daily_loss", before.day, limits.daily_loss, "the day's opening"),
        ("loss_limit", "weekly_loss", before.week, limits.weekly_loss, "the week's opening"),
    ):
        if layer in limits.off:
            continue
        if reference is None or not all_positive(reference) or not all_finite(struck.equity):
            yield unknown(rule, Kind.GATE, f"equity or {base} is not known")
            continue
        # What is left may be more than there was at the reference, or nothing.
        loss = loss_ratio(reference, struck.equity)
        reason = f"{percent(loss)} under {base} of {money(reference)}, limit {limit_percent(limit)}"
        numbers = {"value": loss, "limit": limit}
        yield gate(rule, not reaches(loss, limit), reason, numbers)


def exposed(struck: Struck, others: Sequence[OpenPosition] = ()) -> list[OpenPosition]:
    """Return what counts in the exposure after a shock, notionals at the entry, as the guard counts them."""
    held = (hit.position for hit in struck.still_open)
    left = [OpenPosition(p.pair, p.asset, p.side, p.margin, p.amount * p.open_rate, p.risk) for p in held]
    return [*left, *others]


def _exposure(struck: Struck, limits: Limits, others: Sequence[OpenPosition]) -> Iterator[Answer]:
    if "exposure" in limits.off:
        return
    left = exposed(struck, others)
    equity = struck.equity
    # A notional of 1 at risk of 1: what counts is whether anything is left.
    yield heat_limit(equity=equity, max_heat=limits.heat, positions=left, loss_at_stop_ratio=1.0)
    yield total_margin(equity=equity, ratio=limits.total_margin, positions=left)
    yield gross_notional(equity=equity, ratio=limits.gross_notional, positions=left)


def _health(hit: Hit, limits: Limits, buffer: float) -> Answer:
    p = hit.position
    measured = margin_health.measure(
        side=p.side,
        open_rate=p.open_rate,
        rate=hit.price,
        amount=p.amount,
        margin=p.margin,
        funding=p.funding - hit.funding_paid,
        tiers=p.tiers,
        buffer=buffer,
        liquidation=p.known_liquidation,
    )
    sample = margin_health.Sample(0, measured.distance, measured.margin_used)
    _, health = margin_health.step(margin_health.State(), limits.health, sample)
    numbers = {
        "pair": p.pair,
        ACTION: health.action,
        "distance": health.distance,
        "margin_used": health.margin_used,
    }
    reason = f"{p.pair}: {health.reason}"
    if health.action == "unknown":
        return unknown(margin_health.RULE, Kind.GATE, reason, numbers)
    return gate(margin_health.RULE, health.action == "none", reason, numbers)


def _volatility(hit: Hit, struck: Struck, limits: Limits) -> Iterator[Answer]:
    p, bands = hit.position, limits.bands
    sigma = None if p.sigma_day is None else p.sigma_day * struck.shock.volatility
    regime = volatility_regime(
        sigma_day=sigma,
        high=bands.high,
        mid=bands.mid,
        high_leverage=bands.high_leverage,
        mid_leverage=bands.mid_leverage,
        low_leverage=bands.low_leverage,
    )
    yield _against(regime, p, p.leverage, "leverage")
    budget = volatility_budget(
        equity=struck.equity,
        sigma_day=sigma,
        budget=limits.volatility_budget,
        exceedance=limits.exceedance,
    )
    yield _against(budget, p, p.amount * hit.price, "notional")


def _against(answer: Answer, position: Held, value: float, what: str) -> Answer:
    numbers = {**answer.numbers, "pair": position.pair, "value": value, "limit": answer.value}
    if answer.value is None:
        return unknown(answer.rule, Kind.GATE, f"{position.pair}: {answer.reason}", numbers)
    shown = f"{value:.3g}x" if what == "leverage" else money(value)
    reason = f"{position.pair}: {answer.reason}; its {what} is {shown}"
    return gate(answer.rule, value <= answer.value * (1.0 + 1e-9), reason, numbers)


def _together(struck: Struck, before: Before, limits: Limits) -> Answer:
    rule = "portfolio_volatility"
    measured = before.volatility_at_one if struck.shock.correlated else before.volatility
    value = math.nan if measured is None else measured * struck.shock.volatility
    budget = limits.portfolio_volatility
    numbers = {"value": value if value == value else None, "limit": budget}
    if not all_finite(value):
        return unknown(rule, Kind.GATE, "portfolio volatility is not known", numbers)
    reason = f"portfolio volatility {percent(value)} a day, budget {limit_percent(budget)}"
    return gate(rule, value <= budget * (1.0 + 1e-9), reason, numbers)
