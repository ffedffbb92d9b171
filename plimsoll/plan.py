"""Compose limits, factors and gates into a plan; the only place where "the smallest wins" is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from plimsoll.rules import exposure, funding, leverage, stops
from plimsoll.rules.answer import Answer, Kind, Outcome, Side, gate, is_positive, limit, unknown
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.heat import heat_limit
from plimsoll.rules.kelly import KellyEstimate, kelly_limit
from plimsoll.rules.liquidation import MaintenanceTier
from plimsoll.rules.regime import volatility_regime
from plimsoll.rules.reward_risk import reward_to_risk
from plimsoll.rules.sizing import loss_at_stop_ratio, planned_risk, risk_size
from plimsoll.rules.volatility_budget import volatility_budget
from plimsoll.settings import Settings

NAN = math.nan
SMALLEST = 1e-12


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
class Account:
    """Hold equity, open positions and what closed trades teach."""

    equity: float
    positions: Sequence[OpenPosition]
    kelly: KellyEstimate
    correlation: float = 0.0


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
            risk=planned_risk(notional=notional, loss_at_stop_ratio=self.loss_at_stop_ratio),
            answers=(*self.answers, limit(rule, Kind.MARGIN, margin, reason, {"margin": margin})),
            bound_size=rule,
        )


def make_plan(
    signal: Signal,
    market: Market,
    account: Account,
    settings: Settings,
    extra: Iterable[Answer] = (),
) -> Plan:
    """Plan one entry: the smallest leverage, then the smallest size, and every gate open.

    Leverage is tried from the highest the caps allow, downwards, because the strategy's own stop is a ratio on margin: a lower
    leverage widens it, which changes the size and so the maintenance tier. The first leverage at which all limits hold is taken.

    :param extra: answers of rules with memory, made by the host: gates, caps on leverage, and factors that react to losses.
    """
    extra = tuple(extra)
    caps = [*_leverage_caps(signal, market, settings), *(a for a in extra if a.kind is Kind.LEVERAGE)]
    extra = tuple(a for a in extra if a.kind is not Kind.LEVERAGE)
    top = _smallest(caps)
    stop = stops.atr_stop(
        atr=market.atr, rate=signal.rate, multiple=settings.stop.atr_multiple, own_stop_price_ratio=None
    )
    early = [*caps, stop, *extra]
    if top is None or top.value is None or stop.value is None or any(answer.blocks for answer in early):
        return _refusal(signal, early)

    highest = int(top.value)
    if signal.fixed_leverage is not None:
        if signal.fixed_leverage > highest:
            reason = f"leverage {signal.fixed_leverage:g}x was brought along, at most {highest}x is allowed"
            return _refusal(
                signal, [*early, gate("fixed_leverage", False, reason, {"asked": signal.fixed_leverage})]
            )
        highest = int(signal.fixed_leverage)
    chosen = highest
    bound_leverage = top.rule if signal.fixed_leverage is None else "fixed_leverage"
    while True:
        sized = _size(signal, market, account, settings, stop.value, chosen, extra)
        limits = _leverage_limits(signal, market, settings, sized)
        tightest = _smallest(limits)
        if tightest is None or any(answer.blocks for answer in limits):
            allowed = 0 if tightest is None or tightest.value is None else int(tightest.value)
        else:
            allowed = int(tightest.value or 0)
        if allowed >= chosen or allowed < 1 or signal.fixed_leverage is not None:
            break
        chosen, bound_leverage = allowed, tightest.rule if tightest else bound_leverage

    answers = [*caps, sized.stop, *limits, *sized.answers, *extra]
    if allowed < chosen and not any(answer.blocks for answer in limits):
        reason = f"leverage {chosen}x was brought along, at most {allowed}x is allowed"
        answers.append(gate("fixed_leverage", False, reason, {"asked": float(chosen)}))
    if any(answer.blocks for answer in answers):
        return _refusal(signal, answers)
    return Plan(
        signal=signal,
        leverage=chosen,
        notional=sized.notional,
        margin=sized.notional / chosen,
        stop_price_ratio=sized.stop_price_ratio,
        loss_at_stop_ratio=sized.loss_ratio,
        risk=planned_risk(notional=sized.notional, loss_at_stop_ratio=sized.loss_ratio),
        answers=tuple(answers),
        bound_leverage=bound_leverage,
        bound_size=sized.bound,
        refusal=None,
    )


@dataclass(frozen=True, slots=True)
class _Sized:
    stop: Answer
    stop_price_ratio: float
    loss_ratio: float
    notional: float
    bound: str
    answers: list[Answer]


def _leverage_caps(signal: Signal, market: Market, settings: Settings) -> list[Answer]:
    if market.tiers is None:
        return [limit("spot", Kind.LEVERAGE, 1.0, "spot has no leverage", {})]
    answers = [
        leverage.leverage_cap(
            cap=settings.leverage.cap, exchange_maximum=market.exchange_maximum, proposed=signal.own_leverage
        )
    ]
    if "volatility" not in settings.off:
        v = settings.volatility
        answers.append(
            volatility_regime(
                sigma_day=market.sigma_day,
                high=v.high,
                mid=v.mid,
                high_leverage=v.high_leverage,
                mid_leverage=v.mid_leverage,
                low_leverage=v.low_leverage,
            )
        )
    return answers


def _leverage_limits(signal: Signal, market: Market, settings: Settings, sized: _Sized) -> list[Answer]:
    if market.tiers is None or "leverage" in settings.off:
        return [limit("no_liquidation", Kind.LEVERAGE, 5.0, "no liquidation to keep away from", {})]
    s = settings.leverage
    notional = sized.notional or SMALLEST  # nothing was granted: the first tier will do
    return [
        leverage.leverage_from_stop(
            stop_price_ratio=sized.stop_price_ratio,
            side=signal.side,
            tiers=market.tiers,
            notional=notional,
            stop_to_liquidation_ratio=s.stop_to_liquidation,
            fee=market.fee,
            funding_per_day=market.funding_per_day,
            funding_days=settings.funding.reserve_days,
            buffer=market.liquidation_buffer,
            cap=s.cap,
        ),
        leverage.leverage_from_liquidation(
            side=signal.side,
            tiers=market.tiers,
            notional=notional,
            minimum=s.min_liquidation_distance,
            daily_range=market.daily_range,
            daily_range_multiple=s.daily_ranges_to_liquidation,
            buffer=market.liquidation_buffer,
            cap=s.cap,
        ),
    ]


def _size(
    signal: Signal,
    market: Market,
    account: Account,
    settings: Settings,
    atr_stop_ratio: float,
    chosen: int,
    extra: Sequence[Answer],
) -> _Sized:
    own = signal.own_stop_margin_ratio
    stop = stops.atr_stop(
        atr=atr_stop_ratio * signal.rate / settings.stop.atr_multiple,
        rate=signal.rate,
        multiple=settings.stop.atr_multiple,
        own_stop_price_ratio=None if own is None else own / chosen,
    )
    distance = stop.value if stop.value is not None else NAN
    loss_ratio = loss_at_stop_ratio(
        side=signal.side,
        stop_price_ratio=distance,
        fee_open=market.fee,
        fee_close=market.fee,
        slippage=settings.risk.slippage,
    )
    limits = list(_notional_limits(signal, market, account, settings, loss_ratio))
    margins = list(_margin_limits(signal, account, settings))
    gates = list(_gates(signal, market, account, settings, loss_ratio))
    # Kelly shrinks after losses as the factors do: the smaller of the two counts, not their product.
    factor, factor_rule = min(
        ((a.value, a.rule) for a in extra if a.kind is Kind.FACTOR and a.value is not None), default=(1.0, "")
    )
    bounds = []
    for answer in (*limits, *margins):
        if answer.value is None:
            continue
        bound = answer.value * chosen if answer.kind is Kind.MARGIN else answer.value
        if factor < 1.0 and answer.rule != "kelly":
            bounds.append((bound * factor, f"{answer.rule} and {factor_rule}"))
        else:
            bounds.append((bound, answer.rule))
    notional, bound_by = min(bounds, default=(0.0, "nothing"))
    return _Sized(stop, distance, loss_ratio, notional, bound_by, [*limits, *margins, *gates])


def _notional_limits(
    signal: Signal, market: Market, account: Account, settings: Settings, loss_ratio: float
) -> Iterable[Answer]:
    equity, positions, off = account.equity, account.positions, settings.off
    if "risk" not in off:
        yield risk_size(equity=equity, risk_per_trade=settings.risk.per_trade, loss_at_stop_ratio=loss_ratio)
    if "volatility" not in off:
        v = settings.volatility
        yield volatility_budget(
            equity=equity, sigma_day=market.sigma_day, budget=v.budget, exceedance=v.exceedance
        )
    if "kelly" not in off:
        yield kelly_limit(
            estimate=account.kelly,
            equity=equity,
            loss_at_stop_ratio=loss_ratio,
            cold_start_risk=settings.kelly.cold_start_risk,
            floor_risk=settings.kelly.floor_risk,
            open_trades=len(positions),
            correlation=account.correlation,
        )
    if "exposure" not in off:
        e = settings.exposure
        yield exposure.gross_notional(equity=equity, ratio=e.gross_notional, positions=positions)
        yield exposure.net_notional(
            equity=equity, ratio=e.net_notional, positions=positions, side=signal.side
        )
        yield heat_limit(equity=equity, max_heat=e.heat, positions=positions, loss_at_stop_ratio=loss_ratio)
    if not is_positive(equity):
        yield unknown("equity", Kind.NOTIONAL, f"equity is {equity}", {"equity": equity})


def _margin_limits(signal: Signal, account: Account, settings: Settings) -> Iterable[Answer]:
    # These bound what can be lost at all; not even an ablation switches them off together with the sizing by risk.
    e, equity, positions = settings.exposure, account.equity, account.positions
    yield exposure.position_margin(equity=equity, ratio=e.position_margin)
    if "exposure" not in settings.off:
        yield exposure.total_margin(equity=equity, ratio=e.total_margin, positions=positions)
        asset = exposure.asset_of(signal.pair)
        yield exposure.asset_margin(equity=equity, ratio=e.asset_margin, positions=positions, asset=asset)


def _gates(
    signal: Signal, market: Market, account: Account, settings: Settings, loss_ratio: float
) -> Iterable[Answer]:
    if "exposure" not in settings.off:
        e = settings.exposure
        yield exposure.side_cap(
            side=signal.side, positions=account.positions, max_long=e.max_long, max_short=e.max_short
        )
    if "reward_risk" not in settings.off:
        yield reward_to_risk(
            side=signal.side,
            rate=signal.rate,
            target_price=_target(signal, settings, loss_ratio),
            loss_at_stop_ratio=loss_ratio,
            fees=2 * market.fee,
            minimum=settings.reward_risk.minimum,
        )
    if "funding" not in settings.off and market.tiers is not None:
        yield funding.funding_gate(
            funding_per_day=market.funding_per_day,
            side=signal.side,
            hold_hours=settings.funding.hold_hours,
            loss_at_stop_ratio=loss_ratio,
            max_share_of_risk=settings.funding.max_share_of_risk,
        )


def _target(signal: Signal, settings: Settings, loss_ratio: float) -> float | None:
    multiple = settings.reward_risk.take_profit_r
    if signal.target_price is not None or multiple is None:
        return signal.target_price
    way = multiple * loss_ratio * signal.rate
    return signal.rate + way if signal.side == "long" else signal.rate - way


def _smallest(answers: Sequence[Answer]) -> Answer | None:
    known = [answer for answer in answers if answer.kind is Kind.LEVERAGE and answer.value is not None]
    return min(known, key=lambda answer: answer.value or 0.0, default=None)


def _refusal(signal: Signal, answers: Sequence[Answer]) -> Plan:
    blocking = [answer for answer in answers if answer.blocks]
    first = min(blocking, key=lambda answer: answer.outcome is not Outcome.UNKNOWN)
    return Plan(
        signal, 1, 0.0, 0.0, NAN, NAN, 0.0, tuple(answers), "", first.rule, f"{first.rule}: {first.reason}"
    )
