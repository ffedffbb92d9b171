"""Compose limits, factors and gates into a plan; the only place where "the smallest wins" is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from plimsoll.plan import answers as asked
from plimsoll.plan.model import Account, Market, Plan, Signal
from plimsoll.rules import correlation, sizing, stops
from plimsoll.rules.answer import Answer, Kind, Outcome, gate
from plimsoll.settings import Settings

NAN = math.nan


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
    caps = [*asked.leverage_caps(signal, market, settings), *(a for a in extra if a.kind is Kind.LEVERAGE)]
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
        limits = asked.leverage_limits(
            signal, market, settings, stop_price_ratio=sized.stop_price_ratio, notional=sized.notional
        )
        tightest = _smallest(limits)
        if tightest is None or any(answer.blocks for answer in limits):
            allowed = 0 if tightest is None or tightest.value is None else int(tightest.value)
        else:
            allowed = int(tightest.value or 0)
        if allowed >= chosen or allowed < 1 or signal.fixed_leverage is not None:
            break
        chosen, bound_leverage = allowed, tightest.rule if tightest else bound_leverage

    sized = _correlated(signal, market, account, settings, sized)
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
        risk=sizing.planned_risk(notional=sized.notional, loss_at_stop_ratio=sized.loss_ratio),
        answers=tuple(answers),
        bound_leverage=bound_leverage,
        bound_size=sized.bound,
        refusal=None,
    )


class _Sized(NamedTuple):
    stop: Answer
    stop_price_ratio: float
    loss_ratio: float
    notional: float
    bound: str
    answers: list[Answer]


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
    loss_ratio = sizing.loss_at_stop_ratio(
        side=signal.side,
        stop_price_ratio=distance,
        fee_open=market.fee,
        fee_close=market.fee,
        slippage=settings.risk.slippage,
    )
    limits = list(asked.notional_limits(signal, market, account, settings, loss_ratio))
    margins = list(asked.margin_limits(signal, account, settings))
    gates = list(asked.gates(signal, market, account, settings, loss_ratio))
    # An estimate of the edge shrinks after losses as the factors do: the smaller of the two counts, not their product. Fixed
    # numbers, as in a cold start, do not.
    learns = account.kelly.stage == "edge"
    factor, factor_rule = min(
        ((a.value, a.rule) for a in extra if a.kind is Kind.FACTOR and a.value is not None), default=(1.0, "")
    )
    bounds = []
    for answer in (*limits, *margins):
        if answer.value is None:
            continue
        bound = answer.value * chosen if answer.kind is Kind.MARGIN else answer.value
        if factor < 1.0 and not (learns and answer.rule == "kelly"):
            bounds.append((bound * factor, f"{answer.rule} and {factor_rule}"))
        else:
            bounds.append((bound, answer.rule))
    notional, bound_by = min(bounds, default=(0.0, "nothing"))
    return _Sized(stop, distance, loss_ratio, notional, bound_by, [*limits, *margins, *gates])


def _correlated(
    signal: Signal, market: Market, account: Account, settings: Settings, sized: _Sized
) -> _Sized:
    """Scale the size to what the portfolio's variance leaves; last, because it depends on the size that the limits leave."""
    held, c = account.held, settings.correlation
    if held is None or "correlation" in settings.off or not sized.notional > 0.0 or not account.equity > 0.0:
        return sized
    if c.method == "mean":
        answer = correlation.mean_correlation_factor(
            correlations=held.toward, floor=c.floor, missing_correlation=c.missing
        )
    else:
        answer = correlation.correlation_factor(
            held_volatility=held.volatility,
            held_side=held.side,
            held_correlation=held.among,
            new_correlation=held.toward,
            new_side=1 if signal.side == "long" else -1,
            new_volatility=market.sigma_day * sized.notional / account.equity,
            budget=c.budget,
            shrink=c.shrink_to_one,
            skip_below=c.skip_below,
            missing_correlation=c.missing,
        )
    answers = [*sized.answers, answer]
    if answer.value is None or not answer.value < 1.0:
        return sized._replace(answers=answers)
    return sized._replace(answers=answers, notional=sized.notional * answer.value, bound=answer.rule)


def _smallest(answers: Sequence[Answer]) -> Answer | None:
    known = [answer for answer in answers if answer.kind is Kind.LEVERAGE and answer.value is not None]
    return min(known, key=lambda answer: answer.value or 0.0, default=None)


def _refusal(signal: Signal, answers: Sequence[Answer]) -> Plan:
    blocking = [answer for answer in answers if answer.blocks]
    first = min(blocking, key=lambda answer: answer.outcome is not Outcome.UNKNOWN)
    return Plan(
        signal, 1, 0.0, 0.0, NAN, NAN, 0.0, tuple(answers), "", first.rule, f"{first.rule}: {first.reason}"
    )
