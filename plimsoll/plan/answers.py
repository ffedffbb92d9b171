"""What each rule answers to a signal; which of them binds is decided in :mod:`plimsoll.plan.compose`."""

from __future__ import annotations

from collections.abc import Iterable

from plimsoll.plan.model import Account, Market, Signal
from plimsoll.rules import exposure, funding, leverage
from plimsoll.rules.answer import Answer, Kind, is_positive, limit, unknown
from plimsoll.rules.heat import heat_limit
from plimsoll.rules.kelly import kelly_limit
from plimsoll.rules.regime import volatility_regime
from plimsoll.rules.reward_risk import reward_to_risk
from plimsoll.rules.sizing import risk_size
from plimsoll.rules.volatility_budget import volatility_budget
from plimsoll.settings import Settings

SMALLEST = 1e-12


def leverage_caps(signal: Signal, market: Market, settings: Settings) -> list[Answer]:
    """Return what caps leverage whatever the size: settings, exchange, strategy and the volatility regime."""
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


def leverage_limits(
    signal: Signal, market: Market, settings: Settings, *, stop_price_ratio: float, notional: float
) -> list[Answer]:
    """Return what the stop and liquidation allow for leverage, at a size."""
    if market.tiers is None or "leverage" in settings.off:
        return [limit("no_liquidation", Kind.LEVERAGE, 5.0, "no liquidation to keep away from", {})]
    s = settings.leverage
    notional = notional or SMALLEST  # nothing was granted: the first tier will do
    return [
        leverage.leverage_from_stop(
            stop_price_ratio=stop_price_ratio,
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
            minimum=_least_distance(settings),
            daily_range=market.daily_range,
            daily_range_multiple=s.daily_ranges_to_liquidation,
            buffer=market.liquidation_buffer,
            cap=s.cap,
        ),
    ]


def _least_distance(settings: Settings) -> float:
    # No entry where margin health would reduce it at once, or not let it grow: entering and reducing would take turns.
    health = settings.margin_health
    if "margin_health" in settings.off:
        return settings.leverage.min_liquidation_distance
    return max(settings.leverage.min_liquidation_distance, health.rearm * health.reduce_distance)


def notional_limits(
    signal: Signal, market: Market, account: Account, settings: Settings, loss_ratio: float
) -> Iterable[Answer]:
    """Yield what limits the notional."""
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


def margin_limits(signal: Signal, account: Account, settings: Settings) -> Iterable[Answer]:
    """Yield what limits the margin."""
    # These bound what can be lost at all; not even an ablation switches them off together with the sizing by risk.
    e, equity, positions = settings.exposure, account.equity, account.positions
    yield exposure.position_margin(equity=equity, ratio=e.position_margin)
    if "exposure" not in settings.off:
        yield exposure.total_margin(equity=equity, ratio=e.total_margin, positions=positions)
        asset = exposure.asset_of(signal.pair)
        yield exposure.asset_margin(equity=equity, ratio=e.asset_margin, positions=positions, asset=asset)


def gates(
    signal: Signal, market: Market, account: Account, settings: Settings, loss_ratio: float
) -> Iterable[Answer]:
    """Yield the gates: yes or no, whatever the size."""
    if "exposure" not in settings.off:
        e = settings.exposure
        yield exposure.side_cap(
            side=signal.side, positions=account.positions, max_long=e.max_long, max_short=e.max_short
        )
    if "reward_risk" not in settings.off:
        yield reward_to_risk(
            side=signal.side,
            rate=signal.rate,
            target_price=_target(signal, settings, loss_ratio, market.fee),
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


def _target(signal: Signal, settings: Settings, loss_ratio: float, fee: float) -> float | None:
    multiple = settings.reward_risk.take_profit_r
    if signal.target_price is not None or multiple is None:
        return signal.target_price
    # Where the profit after fees of both ways is the multiple of R: that is where the trade will be closed.
    sign = 1.0 if signal.side == "long" else -1.0
    return signal.rate * (1.0 + sign * (multiple * loss_ratio + 2.0 * fee) / (1.0 - sign * fee))
