"""What a plan is made of, and the plan itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy.typing as npt

from plimsoll.rules import sizing
from plimsoll.rules.answer import Answer, Kind, Side, gate, limit
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.kelly import KellyEstimate
from plimsoll.rules.liquidation import MaintenanceTier


@dataclass(frozen=True, slots=True)
class Signal:
    """Hold what is asked: an entry at a rate, and what the strategy itself wants.

    ``own_leverage`` is None without an opinion; ``own_stop_margin_ratio`` is the strategy's stoploss, a ratio on margin.
    ``fixed_leverage`` is set where leverage is not ours to choose (a forced entry, spot, an addition): it is granted or refused.
    """

    time: int
    pair: str
    side: Side
    rate: float
    own_leverage: float | None = None
    own_stop_margin_ratio: float | None = None
    fixed_leverage: float | None = None
    target_price: float | None = None


@dataclass(frozen=True, slots=True)
class Market:
    """Hold what the market and the exchange say of a pair; NaN is unknown. No tiers: spot, without liquidation or funding."""

    atr: float
    sigma_day: float
    daily_range: float
    fee: float
    exchange_maximum: float
    liquidation_buffer: float
    tiers: Sequence[MaintenanceTier] | None
    funding_per_day: float = 0.0


@dataclass(frozen=True, slots=True)
class Held:
    """Hold what is held in terms of risk, k positions: daily volatility (sigma x notional / equity), side (+1, -1), correlations.

    ``toward`` (k,) is with the pair that is asked about, ``among`` (k, k) with each other; of prices, NaN where not known.
    """

    volatility: Sequence[float] = ()
    side: Sequence[int] = ()
    toward: npt.ArrayLike = ()
    among: npt.ArrayLike = ()


@dataclass(frozen=True, slots=True)
class Account:
    """Hold equity, open positions and what closed trades teach.

    ``correlation`` is what Kelly takes for the correlation of the positions; without ``held`` the correlation sizer is not asked.
    """

    equity: float
    positions: Sequence[OpenPosition]
    kelly: KellyEstimate
    correlation: float = 0.0
    held: Held | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the outcome for one signal.

    Notional, margin and ``risk`` (R, the loss at the stop with fees and slippage) are in stake currency, all 0 when refused.
    ``bound`` names the rules that decided leverage and size.
    """

    signal: Signal
    leverage: int
    notional: float
    margin: float
    stop_price_ratio: float
    loss_at_stop_ratio: float
    risk: float
    answers: tuple[Answer, ...]
    bound_leverage: str
    bound_size: str
    refusal: str | None

    @property
    def granted(self) -> bool:
        return self.refusal is None

    def refused(self, rule: str, reason: str) -> Plan:
        """Turn the plan into a refusal."""
        answers = (*self.answers, gate(rule, False, reason, {}))
        return replace(
            self,
            notional=0.0,
            margin=0.0,
            risk=0.0,
            answers=answers,
            bound_size=rule,
            refusal=f"{rule}: {reason}",
        )

    def limited(self, rule: str, margin: float, reason: str) -> Plan:
        """Lower the margin, never raise it."""
        if not self.granted or margin >= self.margin:
            return self
        if not margin > 0.0:
            return self.refused(rule, reason)
        notional = margin * self.leverage
        return replace(
            self,
            notional=notional,
            margin=margin,
            risk=sizing.planned_risk(notional=notional, loss_at_stop_ratio=self.loss_at_stop_ratio),
            answers=(*self.answers, limit(rule, Kind.MARGIN, margin, reason, {"margin": margin})),
            bound_size=rule,
        )
