"""What the rules would grant on a typical day: each pair's median market of its last 30 days, and the plan for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from plimsoll.doctor.setup import Setup
from plimsoll.maintenance_tiers import binance_tiers, tier_of_freqtrade
from plimsoll.plan import Account, Market, Plan, Signal, make_plan
from plimsoll.rules.answer import Side
from plimsoll.rules.kelly import KellyEstimate
from plimsoll.rules.liquidation import MaintenanceTier

HOURS: Final = 720
FEE: Final = 0.0005  # Binance's taker fee on futures; the others' differ too little to matter here
STAND_IN: Final = 10_000.0  # stake currency
NO_TRADES: Final = KellyEstimate("cold_start", None, 0)
SIDES: Final[tuple[Side, Side]] = ("long", "short")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Hold a strategy's answer for its leverage: the value, or why there is none."""

    leverage: float | None
    fault: str | None = None


def tiers_of(setup: Setup, pair: str) -> tuple[MaintenanceTier, ...]:
    """Return a pair's maintenance tiers: the exchange's where it was asked, else those that Freqtrade brings for Binance.

    Binance's are Freqtrade's own in both cases: a dry run, as which the exchange is asked, reads no others.
    """
    if setup.exchange is not None:
        from plimsoll.host.internals import leverage_tiers_of

        raw: Any = leverage_tiers_of(setup.exchange, pair)
    elif _is_binance(setup):
        return binance_tiers().get(pair, ())
    else:
        raw = ()
    return tuple(map(tier_of_freqtrade, raw))


def why_no_tiers(setup: Setup, pairs: str) -> str:
    """Say why the maintenance tiers of these pairs are not known, and what would tell them."""
    if _is_binance(setup):
        why = "Binance's are taken from the installed Freqtrade, with --online too, and a newer one may have them"
    elif setup.exchange is None:
        why = "--online asks the exchange for them"
    else:
        why = "the exchange was asked, and told none"
    return f"the maintenance tiers of {pairs} are not known here; {why}"


def _is_binance(setup: Setup) -> bool:
    return str(setup.config["exchange"].get("name", "")).lower() == "binance"


def last_rate(setup: Setup, pair: str) -> float | None:
    """Return a pair's last close on file."""
    if setup.candles is None:
        return None
    timeframes = setup.candles.timeframes(pair, setup.kind)
    for timeframe in ("1h", setup.timeframe):
        if timeframe in timeframes:
            frame = setup.candles.frame(pair, timeframe, setup.kind)
            if not frame.empty:
                return float(frame["close"].iloc[-1])
    return None


def asked_leverage(setup: Setup, pair: str, side: Side) -> Asked:
    """Ask the strategy itself for its leverage, without the guard; 1 where it has no opinion, as Freqtrade takes it."""
    strategy = setup.strategy
    if not setup.futures or not setup.has_own("leverage"):
        return Asked(leverage=None if setup.guarded else 1.0)
    from plimsoll.host.guard_base import GuardBase

    own = super(GuardBase, strategy).leverage if setup.guarded else strategy.leverage
    tiers = tiers_of(setup, pair)
    most = (tiers[0].max_leverage if tiers else None) or 125.0
    try:
        answer = own(
            pair=pair,
            current_time=datetime.fromtimestamp(setup.now, UTC),
            current_rate=last_rate(setup, pair) or 1.0,
            proposed_leverage=1.0,
            max_leverage=most,
            entry_tag=None,
            side=side,
        )
        answered = float(answer)
    except Exception as fault:
        return Asked(leverage=None, fault=f"leverage() raised {fault!r} when it was asked for {pair}")
    if not math.isfinite(answered):
        return Asked(leverage=None, fault=f"leverage() answered {answered} for {pair}")
    return Asked(leverage=min(max(answered, 1.0), most))


def typical_plan(setup: Setup, pair: str, side: Side) -> Plan | None:
    """Plan an entry with nothing open and no trade made yet, at the median volatility and ATR of the last 30 days on file.

    None without 1h candles or maintenance tiers. Without a known wallet the size is that of ``STAND_IN``.
    """
    from plimsoll.host.candles import hourly

    settings = setup.limits
    frame = setup.store.frame(pair, "1h", setup.kind)
    tiers = tiers_of(setup, pair) if setup.futures else None
    if frame.empty or tiers == ():
        return None
    # The statistics need 31 days before the first of the last 30.
    candles = hourly(frame.iloc[-2 * HOURS - 48 :], settings)
    rate = float(candles.close[-1])
    stop = abs(float(setup.strategy.stoploss))
    asked = asked_leverage(setup, pair, side)
    market = Market(
        atr=_median(candles.atr / candles.close) * rate,
        sigma_day=_median(candles.sigma_day),
        daily_range=_median(candles.daily_range),
        fee=float(setup.config.get("fee") or FEE),
        exchange_maximum=(tiers[0].max_leverage if tiers else None) or 125.0,
        liquidation_buffer=float(setup.config.get("liquidation_buffer", 0.05)),
        tiers=tiers,
        funding_per_day=0.0003 if setup.futures else 0.0,
    )
    signal = Signal(
        time=int(setup.now),
        pair=pair,
        side=side,
        rate=rate,
        own_leverage=asked.leverage,
        own_stop_margin_ratio=stop if 0.0 < stop < math.inf else None,
    )
    return make_plan(
        signal, market, Account(equity=setup.wallet or STAND_IN, positions=(), kelly=NO_TRADES), settings
    )


def typical_plans(setup: Setup) -> dict[tuple[str, Side], Plan]:
    """Return the typical plan of every pair and side that can be planned; several checks ask, it is reckoned once."""
    if setup.typical is None:
        sides = SIDES if setup.futures and setup.strategy.can_short else SIDES[:1]
        plans = {(pair, side): typical_plan(setup, pair, side) for pair in setup.pairs for side in sides}
        setup.typical = {key: plan for key, plan in plans.items() if plan is not None}
    return setup.typical


def why_no_plans(setup: Setup) -> str:
    """Say why nothing could be planned."""
    if not any("1h" in setup.store.timeframes(pair, setup.kind) for pair in setup.pairs):
        return "there are no 1h candles of the whitelisted pairs"
    return why_no_tiers(setup, "the whitelisted pairs")


def proposed_margin(setup: Setup) -> float | None:
    """Return the margin that Freqtrade proposes per position, in stake currency; None where the wallet is not known."""
    stake = setup.config.get("stake_amount")
    if stake != "unlimited":
        return float(stake) if isinstance(stake, int | float) else None
    if setup.wallet is None or not math.isfinite(setup.slots) or setup.slots <= 0:
        return None
    return setup.wallet * float(setup.config.get("tradable_balance_ratio", 0.99)) / setup.slots


def _median(values: np.ndarray[Any, Any]) -> float:
    known = values[-HOURS:][np.isfinite(values[-HOURS:])]
    return float(np.median(known)) if known.size else math.nan
