"""Stake, slots and the smallest order, against what the rules grant."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Final

from plimsoll.doctor.finding import Finding, Part, check, error, note, unknown, warning
from plimsoll.doctor.setup import Setup
from plimsoll.doctor.typical import (
    SIDES,
    asked_leverage,
    last_rate,
    proposed_margin,
    typical_plans,
    why_no_plans,
)
from plimsoll.rules.answer import Side
from plimsoll.settings import describe

MOST_AT_STOPS: Final = 0.20  # ratio of the wallet: the drawdown at which the guard would stop entries


@check()
def settings_faults(setup: Setup) -> Iterator[Finding]:
    """Report every setting of Plimsoll that cannot be used."""
    ranges = {key: allowed for key, _, allowed in describe()}
    for fault in setup.settings_faults:
        key = fault.split(" ")[0].strip("`")
        fix = (
            f"set {key} within {ranges[key]}" if key in ranges else f"take {key} out of the section plimsoll"
        )
        why = "a bot with the guard does not start; after /reload_config it blocks every entry"
        yield error(f"plimsoll: {fault}", why, fix)


@check(Part.STRATEGY)
def unlimited_stake(setup: Setup) -> Iterator[Finding]:
    """Report an unlimited stake, alone or beside the caps of the guard."""
    if setup.config.get("stake_amount") != "unlimited":
        return
    if not math.isfinite(setup.slots):
        yield error(
            "stake_amount is unlimited and so is max_open_trades",
            "Freqtrade refuses to start: there is nothing to divide the wallet by",
            '"max_open_trades": 8',
        )
        return
    if setup.guarded or not setup.futures:
        return
    highest = max(
        (asked_leverage(setup, pair, "long").leverage or 1.0 for pair in setup.pairs[:5]), default=1.0
    )
    ratio = float(setup.config.get("tradable_balance_ratio", 0.99)) * highest
    if ratio > 1.0:
        yield warning(
            f"stake_amount is unlimited and leverage {highest:g}x: positions of {ratio:.1f} times the wallet, nothing caps them",
            "the stake is margin before leverage; every gain makes the next positions larger",
            f'"tradable_balance_ratio": {max(min(0.15, math.floor(100.0 / highest) / 100.0), 0.01):g}',
        )


@check(Part.STRATEGY, Part.SETTINGS, Part.CANDLES, guarded_only=True)
def stake_against_rules(setup: Setup) -> Iterator[Finding]:
    """Report a stake that is smaller than what the rules grant, and so decides the size in their place."""
    proposed, plans = proposed_margin(setup), _granted(setup)
    if proposed is None:
        if setup.config.get("stake_amount") != "unlimited" or math.isfinite(setup.slots):
            yield unknown(_no_wallet(setup))
        return
    if not plans:
        yield unknown(_no_wallet(setup) if setup.wallet is None else why_no_plans(setup))
        return
    margins = sorted(margin for _, _, margin in plans)
    typical = margins[len(margins) // 2]
    if proposed < typical:
        stake = setup.config.get("stake_amount")
        divided = f" over {setup.slots:g} slots" if stake == "unlimited" else ""
        yield note(
            f"stake_amount {stake}{divided} proposes {proposed:,.2f} per position, the rules grant {typical:,.2f}",
            "the stake is an upper bound, so it sizes the positions and the risk per trade is never reached",
            f'"max_open_trades": {max(1, int(setup.slots * proposed / typical))}'
            if stake == "unlimited"
            else f'"stake_amount": {math.ceil(margins[-1])}',
        )


@check(Part.STRATEGY, Part.SETTINGS)
def slots_against_limits(setup: Setup) -> Iterator[Finding]:
    """Report more slots than total margin and heat can fill, or slots whose stops together cost too much."""
    if setup.guarded:
        yield from _slots_of_guard(setup)
    else:
        yield from _slots_without_guard(setup)


def _slots_of_guard(setup: Setup) -> Iterator[Finding]:
    limits, slots = setup.limits, setup.slots
    if not math.isfinite(slots) or "exposure" in limits.off:
        return
    # The smallest size the rules begin with fills the most slots.
    risk = limits.risk.per_trade
    if "kelly" not in limits.off:
        risk = min(risk, limits.kelly.cold_start_risk)
    most, reason = int(limits.exposure.heat / risk + 1e-9), f"heat {limits.exposure.heat:.0%}"
    plans = _granted(setup) if setup.candles is not None else []
    if plans and setup.wallet is not None:
        smallest = min(margin for _, _, margin in plans)
        by_margin = int(limits.exposure.total_margin * setup.wallet / smallest + 1e-9)
        if by_margin < most:
            most, reason = by_margin, f"total margin {limits.exposure.total_margin:.0%}"
    if slots > most:
        yield note(
            f"max_open_trades is {slots:g}; {reason} is used up by {most} positions of the size that the rules begin with",
            "while those are open the other slots stay empty, and an unlimited stake is divided by all of them",
            f'"max_open_trades": {max(most, 1)}',
        )


def _slots_without_guard(setup: Setup) -> Iterator[Finding]:
    proposed, wallet = proposed_margin(setup), setup.wallet
    if proposed is None or wallet is None or not math.isfinite(setup.slots):
        yield unknown("all stops together: neither stake nor wallet and slots say how much is at risk")
        return
    margin = min(proposed * setup.slots / wallet, 1.0)
    lost = margin * min(abs(float(setup.strategy.stoploss)), 1.0)
    if lost > MOST_AT_STOPS:
        allowed = int(setup.slots * MOST_AT_STOPS / lost)
        ratio = margin * MOST_AT_STOPS / lost
        fix = f'"tradable_balance_ratio": {math.floor(ratio * 100) / 100:g}'
        if setup.config.get("stake_amount") != "unlimited":
            fix = f'"max_open_trades": {max(allowed, 1)}'
        yield warning(
            f"{setup.slots:g} positions hold {margin:.0%} of the wallet as margin; all stops together cost {lost:.0%} of it",
            "in a crash pairs fall together, and every stop is hit in the same minutes",
            fix,
        )


@check(Part.STRATEGY, Part.SETTINGS, Part.CANDLES)
def minimum_stake(setup: Setup) -> Iterator[Finding]:
    """Report pairs whose smallest order is above what rules and wallet grant."""
    proposed = proposed_margin(setup)
    granted = _granted(setup) if setup.guarded else _proposed(setup)
    if proposed is not None:
        granted = [(pair, leverage, min(margin, proposed)) for pair, leverage, margin in granted]
    if not granted:
        yield unknown(_no_wallet(setup) if setup.wallet is None else why_no_plans(setup))
        return
    small: dict[str, tuple[float, float]] = {}
    not_known = []
    for pair, leverage, margin in granted:
        least = _least_margin(setup, pair, leverage)
        if least is None:
            not_known.append(pair)
        elif margin < least:
            small[pair] = (margin, least)
    if not_known:
        yield unknown(
            f"the smallest order of {_some(not_known)} is only known to the exchange; --online asks it"
        )
    if small:
        pairs = {pair for pair, _, _ in granted}
        shown = ", ".join(
            f"{pair} {m:,.2f} under {least:,.2f}" for pair, (m, least) in list(small.items())[:3]
        )
        needed = (setup.wallet or 0.0) * max(least / m for m, least in small.values() if m > 0.0)
        what = f"the margin granted is under the exchange's smallest in {len(small)} of {len(pairs)} pairs: {shown}"
        why = (
            "every entry there is refused"
            if setup.guarded
            else "Freqtrade skips the entry, or raises it by up to 30 %"
        )
        name = "dry_run_wallet" if not setup.live else "available_capital"
        stake = setup.config.get("stake_amount")
        largest = max(least for _, least in small.values())
        if isinstance(stake, int | float) and stake < largest:
            name, needed = "stake_amount", largest
        fix = f'"{name}": {math.ceil(needed)}   # or take these pairs off the whitelist'
        yield (error if len(small) == len(pairs) else warning)(what, why, fix)


@check(Part.STRATEGY, Part.SETTINGS, Part.CANDLES, guarded_only=True)
def no_entry_granted(setup: Setup) -> Iterator[Finding]:
    """Report pairs in which the rules grant nothing on a typical day, or nothing on one side."""
    plans = typical_plans(setup)
    if not plans:
        yield unknown(why_no_plans(setup))
        return
    refused: dict[str, dict[Side, str]] = {}
    for (pair, side), plan in plans.items():
        if plan.refusal is not None:
            refused.setdefault(pair, {})[side] = plan.refusal
    sides = Counter(pair for pair, _ in plans)
    wholly = [pair for pair, reasons in refused.items() if len(reasons) == sides[pair]]
    typical = "at the median volatility of the last 30 days on file"
    if wholly:
        reason = next(iter(refused[wholly[0]].values()))
        yield (error if len(wholly) == len(sides) else warning)(
            f"{typical} entries are refused in {_some(wholly)}: {reason}",
            "the bot runs and trades nothing there",
            f"take {wholly[0]} off the whitelist, or loosen the setting that the reason names",
        )
    for side in SIDES:
        partly = [pair for pair, reasons in refused.items() if pair not in wholly and side in reasons]
        if partly:
            yield note(
                f"{typical} {side}s are refused in {_some(partly)}: {refused[partly[0]][side]}",
                "the bot trades the other side only there",
                "nothing, where that is meant; else loosen the setting that the reason names",
            )


def _no_wallet(setup: Setup) -> str:
    if setup.live:
        return "the wallet of a live account is only known while the bot runs; available_capital states it"
    return f"dry_run_wallet holds no {setup.stake_currency}"


def _granted(setup: Setup) -> list[tuple[str, float, float]]:
    """Return pair, leverage and margin of what the rules grant on a typical day."""
    if setup.wallet is None:
        return []
    plans = typical_plans(setup)
    return [(pair, float(plan.leverage), plan.margin) for (pair, _), plan in plans.items() if plan.granted]


def _proposed(setup: Setup) -> list[tuple[str, float, float]]:
    margin = proposed_margin(setup)
    if margin is None:
        return []
    asked = [(pair, asked_leverage(setup, pair, "long").leverage) for pair in setup.pairs]
    return [(pair, leverage, margin) for pair, leverage in asked if leverage is not None]


def _least_margin(setup: Setup, pair: str, leverage: float) -> float | None:
    rate = last_rate(setup, pair)
    stop = float(setup.strategy.stoploss)
    if rate is None:
        return None
    if setup.exchange is not None:
        try:
            found = setup.exchange.get_min_pair_stake_amount(pair, rate, stop, leverage=leverage)
        except ValueError:  # it has no such market
            return None
        return 0.0 if found is None else float(found)
    if str(setup.config["exchange"].get("name", "")).lower() != "binance":
        return None
    from plimsoll.market.instruments import instrument

    # As Freqtrade reckons it, from the rules that Binance publishes.
    rules, reserve = instrument(pair), 1.0 + float(setup.config.get("amount_reserve_percent", 0.05))
    stop_reserve = min(max(reserve / (1.0 - abs(stop)), 1.0), 1.5) if abs(stop) < 1.0 else 1.5
    least = max(float(rules.min_notional) * stop_reserve, float(rules.lot_size) * rate * reserve)
    return least / leverage


def _some(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:3]) + (f" and {len(unique) - 3} more" if len(unique) > 3 else "")
