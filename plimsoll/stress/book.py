"""The positions to put under stress: those of a running bot, from its status, or hypothetical ones, from a file."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from plimsoll.market.positions import leverage_tiers
from plimsoll.rules.answer import Side
from plimsoll.rules.exposure import OpenPosition, asset_of
from plimsoll.rules.liquidation import MaintenanceTier
from plimsoll.rules.shock import Held, portfolio_volatility
from plimsoll.rules.shock_limits import Before
from plimsoll.rules.sizing import loss_at_stop_ratio, planned_risk
from plimsoll.settings import Settings
from plimsoll.stress.errors import StressError
from plimsoll.terminal import clean, items, number

FEE: Final = 0.0005  # Binance's for takers
REFERENCES: Final = {"drawdown": "peak", "daily_loss": "day", "weekly_loss": "week"}
BOT_WIDE: Final = "*"


@dataclass(frozen=True, kw_only=True)
class Book:
    """Hold equity and positions, what was before the shock, and where it all comes from.

    ``others`` count in the limits and are not put under shocks: entries and additions under way, positions in no bot's books.
    """

    source: str
    currency: str
    equity: float
    positions: tuple[Held, ...]
    before: Before
    others: tuple[OpenPosition, ...] = ()


# -- A running bot -------------------------------------------------------------------------------------------


def from_status(document: Mapping[str, Any], source: str) -> Book:
    """Read a bot's status document; what it does not know stays unknown.

    :raises StressError: where it lacks equity or positions.
    """
    equity, listed = number(document.get("equity")), document.get("positions")
    if equity is None or not isinstance(listed, list):
        raise StressError(f"the status of {source} has no equity or no positions: they are unknown to it")
    if "other_positions" not in document:
        raise StressError(f"the status of {source} is that of an older Plimsoll: restart the bot")
    return Book(
        source=source,
        currency=clean(document.get("stake_currency") or ""),
        equity=equity,
        positions=tuple(_from_status(item) for item in listed if isinstance(item, Mapping)),
        before=_before(document, equity),
        others=tuple(_other(item) for item in items(document.get("other_positions"))),
    )


def _from_status(item: Mapping[str, Any]) -> Held:
    pair, side = clean(item.get("pair")), item.get("side")
    open_rate, notional, margin = (number(item.get(key)) for key in ("open_rate", "notional", "margin"))
    rate = number(item.get("rate"))
    if side not in ("long", "short") or not open_rate or not notional or not margin:
        raise StressError(f"the status of {pair} lacks its side, entry, notional or margin")
    risk, funding = number(item.get("risk_at_stop")), number(item.get("funding"))
    known_side: Side = side
    return Held(
        pair=pair,
        asset=asset_of(pair),
        side=known_side,
        open_rate=open_rate,
        rate=math.nan if rate is None else rate,
        amount=notional / open_rate,
        margin=margin,
        tiers=leverage_tiers(pair),
        stop=number(item.get("stop")),
        funding=math.nan if funding is None else funding,
        risk=math.nan if risk is None else risk,
        known_liquidation=number(item.get("liquidation")),  # funding paid so far inside
        sigma_day=number(item.get("sigma_day")),
    )


def _other(item: Any) -> OpenPosition:
    told = item if isinstance(item, Mapping) else {}
    pair, side = clean(told.get("pair")), told.get("side")
    if side not in ("long", "short"):
        raise StressError(f"the status of {pair} lacks its side")
    margin, notional, risk = (number(told.get(key)) for key in ("margin", "notional", "risk"))
    known_side: Side = side
    return OpenPosition(
        pair=pair,
        asset=asset_of(pair),
        side=known_side,
        margin=math.nan if margin is None else margin,
        notional=math.nan if notional is None else notional,
        risk=math.nan if risk is None else risk,
    )


def _before(document: Mapping[str, Any], equity: float) -> Before:
    found: dict[str, float | None] = {}
    for breaker in items(document.get("breakers")):
        name = REFERENCES.get(str(breaker.get("name"))) if isinstance(breaker, Mapping) else None
        if name is not None and breaker.get("pair") in (None, "", BOT_WIDE):
            found[name] = _reference(breaker, equity)
    exposure = document.get("exposure")
    exposure = exposure if isinstance(exposure, Mapping) else {}
    volatility, bets = number(exposure.get("volatility")), number(exposure.get("effective_bets"))
    # Independent bets are (sum of volatilities / volatility together)^2: at correlation 1 volatilities add up.
    at_one = None if volatility is None or bets is None else volatility * math.sqrt(max(bets, 0.0))
    if volatility == 0.0:
        at_one = 0.0
    return Before(**found, volatility=volatility, volatility_at_one=at_one)


def _reference(breaker: Mapping[str, Any], equity: float) -> float | None:
    """Return the peak or opening behind a breaker's headroom, or behind its loss where none is left."""
    value, limit, headroom = (number(breaker.get(key)) for key in ("value", "limit", "headroom"))
    if headroom is not None and headroom > 0.0 and limit is not None and 0.0 < limit < 1.0:
        return (equity - headroom) / (1.0 - limit)
    return equity / (1.0 - value) if value is not None and 0.0 <= value < 1.0 else None


def limits_in_force(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits that a running bot reports, as settings: a strategy may have tightened what the configuration says."""
    known: dict[str, dict[str, float]] = {}

    def take(section: str, name: str, value: Any) -> None:
        limit = number(value)
        if limit is not None and limit > 0.0:
            known.setdefault(section, {})[name] = limit

    keys = {"drawdown": ("drawdown", "limit"), "daily_loss": ("loss_limit", "daily"),
            "weekly_loss": ("loss_limit", "weekly")}  # fmt: skip
    for breaker in items(document.get("breakers")):
        if isinstance(breaker, Mapping) and breaker.get("name") in keys:
            take(*keys[breaker["name"]], breaker.get("limit"))
    exposure = document.get("exposure")
    if isinstance(exposure, Mapping):
        for name, key in (("total_margin", "margin"), ("heat", "heat"), ("gross_notional", "gross")):
            take("exposure", name, exposure.get(f"{key}_limit"))
        take("correlation", "budget", exposure.get("volatility_limit"))
    return known


# -- A file --------------------------------------------------------------------------------------------------


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Tier(_Section):
    min_notional: float = Field(ge=0.0)
    max_notional: float | None = Field(default=None, gt=0.0)
    mmr: float = Field(ge=0.0, lt=1.0)
    maintenance_amount: float = Field(default=0.0, ge=0.0)


class _Position(_Section):
    pair: str = Field(min_length=1, max_length=100)
    side: Literal["long", "short"]
    leverage: float = Field(ge=1.0, le=125.0)
    margin: float = Field(gt=0.0)
    open_rate: float = Field(gt=0.0)
    rate: float | None = Field(default=None, gt=0.0)
    stop: float | None = Field(default=None, gt=0.0)
    funding: float = 0.0
    volatility: float | None = Field(default=None, gt=0.0, le=10.0)
    tiers: list[_Tier] | None = Field(default=None, min_length=1)


class _File(_Section):
    equity: float = Field(gt=0.0)
    stake_currency: str = Field(default="", max_length=20)
    peak: float | None = Field(default=None, gt=0.0)
    day_opening: float | None = Field(default=None, gt=0.0)
    week_opening: float | None = Field(default=None, gt=0.0)
    correlation: float | None = Field(default=None, ge=-1.0, le=1.0)
    positions: list[_Position] = Field(max_length=1000)


def from_file(path: Path, settings: Settings, fee: float = FEE) -> Book:
    """Read hypothetical positions from JSON or TOML; rates left out are the entries, peak and openings the equity.

    Without a stop R is the margin.

    :raises StressError: where the file cannot be read, with every fault in one message.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loaded: Any = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
        given = _File.model_validate(loaded)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}, was {clean(repr(e['input']))[:60]}"
            for e in error.errors()
        ]
        raise StressError(
            f"{path} cannot be used:\n" + "\n".join(f"  - {fault}" for fault in faults)
        ) from error
    except (OSError, ValueError) as error:
        raise StressError(f"{path} cannot be read: {error}") from error
    held = tuple(_from_file(item, settings, fee) for item in given.positions)
    correlation = settings.correlation.missing if given.correlation is None else given.correlation
    volatilities = [
        portfolio_volatility(held, equity=given.equity, correlation=correlation, toward_one=toward)
        for toward in (0.0, 1.0)
    ]
    now, at_one = (value if value == value else None for value in volatilities)
    return Book(
        source=str(path),
        currency=clean(given.stake_currency),
        equity=given.equity,
        positions=held,
        before=Before(
            peak=max(given.peak or given.equity, given.equity),
            day=given.day_opening or given.equity,
            week=given.week_opening or given.day_opening or given.equity,
            volatility=now,
            volatility_at_one=at_one,
        ),
    )


def _from_file(item: _Position, settings: Settings, fee: float) -> Held:
    notional = item.margin * item.leverage
    tiers = leverage_tiers(item.pair) if item.tiers is None else tuple(map(_tier, item.tiers))
    sign = -1.0 if item.side == "short" else 1.0
    risk = item.margin  # without a stop, or with one behind liquidation, all of it is at risk
    if item.stop is not None:
        distance = sign * (item.open_rate - item.stop) / item.open_rate
        at_stop = loss_at_stop_ratio(
            side=item.side,
            stop_price_ratio=distance,
            fee_open=fee,
            fee_close=fee,
            slippage=settings.risk.slippage,
        )
        planned = planned_risk(notional=notional, loss_at_stop_ratio=at_stop)
        risk = 0.0 if distance <= 0.0 else min(planned, item.margin)
    return Held(
        pair=item.pair,
        asset=asset_of(item.pair),
        side=item.side,
        open_rate=item.open_rate,
        rate=item.rate or item.open_rate,
        amount=notional / item.open_rate,
        margin=item.margin,
        tiers=tiers,
        stop=item.stop,
        funding=item.funding,
        risk=risk,
        sigma_day=item.volatility,
    )


def _tier(tier: _Tier) -> MaintenanceTier:
    return MaintenanceTier(tier.min_notional, tier.max_notional, tier.mmr, tier.maintenance_amount)
