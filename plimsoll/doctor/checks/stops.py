"""Margin mode, stops and liquidation."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import getfullargspec, signature
from typing import Any, Final

from plimsoll.doctor.finding import Finding, Part, check, error, note, unknown, warning
from plimsoll.doctor.setup import Setup
from plimsoll.doctor.typical import (
    SIDES,
    asked_leverage,
    proposed_margin,
    tiers_of,
    typical_plans,
    why_no_plans,
    why_no_tiers,
)
from plimsoll.plan import Plan
from plimsoll.rules.answer import Side
from plimsoll.rules.liquidation import buffered_distance_ratio, liquidation_price

WHOLE_MARGIN: Final = 0.95
LEAST_BUFFER: Final = 0.02
GUARD_IT: Final = "class My{name}(Guarded, {name}): pass   # with: from plimsoll import Guarded"


@check()
def margin_mode(setup: Setup) -> Iterator[Finding]:
    """Report cross margin."""
    if not setup.futures or str(setup.config.get("margin_mode")) != "cross":
        return
    why = "one position that goes wrong can take the whole account with it"
    fix = '"margin_mode": "isolated"'
    allowed = setup.settings is not None and setup.settings.gates.allow_cross_margin
    if setup.guarded is not False and allowed:
        yield note("margin_mode is cross, and gates.allow_cross_margin allows it", why, fix)
    elif setup.guarded:
        yield error("margin_mode is cross, with which the guard does not start", why, fix)
    else:
        yield error("margin_mode is cross", why, fix)


@check(Part.STRATEGY)
def stop_behind_liquidation(setup: Setup) -> Iterator[Finding]:
    """Report a stop of an unguarded strategy that lies behind liquidation at its own leverage."""
    if not setup.futures:
        return
    if setup.guarded:
        yield from _guarded_whole_margin(setup)
        return
    stop = abs(float(setup.strategy.stoploss))
    behind: dict[float, list[tuple[str, float]]] = {}
    for pair in setup.pairs:
        found: dict[float, float] = {}
        for side in SIDES if setup.strategy.can_short else SIDES[:1]:
            asked = asked_leverage(setup, pair, side)
            if asked.leverage is None:
                yield unknown(f"the stop against liquidation: {asked.fault}")
                return
            distance = _liquidation_distance(setup, pair, side, asked.leverage)
            if distance != distance:
                yield unknown(f"the stop against liquidation: {pair} has no tier for a position of that size")
                return
            if stop / asked.leverage >= distance:
                found[asked.leverage] = min(distance, found.get(asked.leverage, distance))
        for leverage, distance in found.items():
            behind.setdefault(leverage, []).append((pair, distance))
    for leverage, pairs in sorted(behind.items()):
        nearest = min(distance for _, distance in pairs)
        yield error(
            f"stoploss {-stop:g} is {stop / leverage:.2%} of the price at {leverage:g}x, liquidation {nearest:.2%}"
            f" ({_some([pair for pair, _ in pairs])})",
            "the position is liquidated before its stop; backtests book the stop and hide it",
            f'"stoploss": {-min(0.25, nearest * leverage / 2):.2f}',
        )


def _guarded_whole_margin(setup: Setup) -> Iterator[Finding]:
    stop = abs(float(setup.strategy.stoploss))
    if stop >= WHOLE_MARGIN:
        yield note(
            f"stoploss is {-stop:g}; the guard's stops are far inside it",
            "it is the only stop left when the guard is taken away, and then liquidation comes first",
            '"stoploss": -0.25',
        )


def _liquidation_distance(setup: Setup, pair: str, side: Side, leverage: float) -> float:
    buffer = float(setup.config.get("liquidation_buffer", 0.05))
    tiers = tiers_of(setup, pair)
    if not tiers:
        # Without maintenance margin it is further away than it can be, so what lies behind it lies behind the true one.
        return buffered_distance_ratio(leverage=leverage, mmr=0.0, side=side, buffer=buffer)
    margin = proposed_margin(setup) or tiers[0].min_notional + 1.0
    price = liquidation_price(
        side=side, open_rate=1.0, amount=margin * leverage, margin=margin, tiers=tiers, buffer=buffer
    )
    return 1.0 - price if side == "long" else price - 1.0


@check(Part.STRATEGY)
def liquidation_tiers(setup: Setup) -> Iterator[Finding]:
    """Say which pairs' maintenance margin is not known."""
    lacking = [pair for pair in setup.pairs if not tiers_of(setup, pair)] if setup.futures else []
    if lacking:
        yield unknown(why_no_tiers(setup, _some(lacking)))


@check(Part.STRATEGY)
def whole_margin_stop_on_exchange(setup: Setup) -> Iterator[Finding]:
    """Report a stop at the whole margin that an unguarded bot would place on the exchange."""
    stop = abs(float(setup.strategy.stoploss))
    if setup.guarded or not setup.stops_on_exchange or stop < WHOLE_MARGIN:
        return
    yield error(
        f"stoploss is {-stop:g} and stops rest on the exchange",
        "an order that far away is refused or stands behind liquidation; where it is refused, Freqtrade exits at market at once",
        '"stoploss": -0.25',
    )


@check(Part.STRATEGY)
def stops_on_exchange(setup: Setup) -> Iterator[Finding]:
    """Report stops that only the running bot watches."""
    if setup.stops_on_exchange:
        return
    types = dict(setup.strategy.order_types) | {"stoploss_on_exchange": True}
    shown = ", ".join(f'"{name}": {_json(value)}' for name, value in types.items())
    yield warning(
        "stops do not rest on the exchange (stoploss_on_exchange is off)",
        "while the bot is down, reloading or cut off, nothing stops a loss"
        + (" but liquidation" if setup.futures else ""),
        f'"order_types": {{{shown}}}',
    )


@check(Part.STRATEGY, Part.SETTINGS, Part.CANDLES, guarded_only=True)
def base_stop_against_guard(setup: Setup) -> Iterator[Finding]:
    """Report a stoploss that is tighter than the guard's ATR stop, and so takes its place."""
    plans = typical_plans(setup)
    if not plans:
        yield unknown(why_no_plans(setup))
        return
    stop = abs(float(setup.strategy.stoploss))
    capped = {}
    for (pair, _), plan in plans.items():
        wanted = _atr_stop(plan)
        if plan.granted and wanted is not None and plan.stop_price_ratio < wanted * (1 - 1e-9):
            capped[pair] = (wanted * plan.leverage, plan.leverage)
    if capped:
        pair, (margin, leverage) = max(capped.items(), key=lambda item: item[1][0])
        yield warning(
            f"stoploss {-stop:g} is tighter than the guard's stop: {pair} would get {-margin:.2f} on margin at {leverage}x"
            f" ({len(capped)} of {len({pair for pair, _ in plans})} pairs)",
            "it cuts trades inside their normal movement, and sizes grow because less is at risk",
            f'"stoploss": {-min(0.9, margin * 1.5):.2f}   # the guard still chooses the tighter',
        )


def _atr_stop(plan: Plan) -> float | None:
    answers = [answer.numbers for answer in plan.answers if answer.rule == "atr_stop"]
    if not answers or answers[-1].get("atr") is None:
        return None
    atr, rate, multiple = (float(answers[-1][name] or 0.0) for name in ("atr", "rate", "multiple"))
    return multiple * atr / rate


@check()
def liquidation_buffer(setup: Setup) -> Iterator[Finding]:
    """Report a buffer towards liquidation that is next to nothing."""
    buffer = float(setup.config.get("liquidation_buffer", 0.05))
    if setup.futures and buffer < LEAST_BUFFER:
        yield warning(
            f"liquidation_buffer is {buffer:g}",
            "Freqtrade then leaves a position only where the exchange liquidates it; mark price and fees come before",
            '"liquidation_buffer": 0.05',
        )


@check(Part.STRATEGY)
def after_fill_argument(setup: Setup) -> Iterator[Finding]:
    """Report a custom_stoploss that takes ``after_fill`` in a way that Freqtrade does not see."""
    own = setup.class_value("custom_stoploss")
    if not setup.has_own("custom_stoploss"):
        return
    if "after_fill" in signature(own).parameters and "after_fill" not in getfullargspec(own).args:
        yield warning(
            "custom_stoploss takes after_fill as a keyword or behind a decorator",
            "Freqtrade looks at positional arguments only: the stop is never set anew after a fill",
            "def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):",
        )


@check(Part.STRATEGY)
def not_guarded(setup: Setup) -> Iterator[Finding]:
    """Say what happens without the guard."""
    if setup.guarded:
        return
    name = type(setup.strategy).__name__
    leverage = [asked_leverage(setup, pair, "long").leverage for pair in setup.pairs[:1]]
    at = f" at {leverage[0]:g}x" if leverage and leverage[0] is not None and setup.futures else ""
    yield warning(
        f"{name} is not guarded; it trades with its own stop of {float(setup.strategy.stoploss):g} on margin{at}",
        "no rule bounds leverage, size, open risk, drawdown or the loss of a day",
        GUARD_IT.format(name=name),
    )


def _some(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")


def _json(value: Any) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value).replace("'", '"')
