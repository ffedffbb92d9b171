"""What leverage did to the trades of a backtest: trades liquidated, and how near the others came."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plimsoll.figures import WHOLE_MARGIN, maintenance_tiers, stop_and_liquidation
from plimsoll.market.runner import Backtest
from plimsoll.worst_prices import worst_rate


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Count what leverage did to the trades of a backtest.

    Liquidation is Freqtrade's buffered price, nearer to the entry than the exchange's by ``liquidation_buffer`` of the way, at the
    true maintenance tier (of Freqtrade's Binance table). ``liquidated`` is what Freqtrade calls so; ``reached`` are these and the
    trades during which the price touched it, whatever the backtest made of it. Distances are of the trades that
    neither were liquidated nor lost their margin: from the worst price during the trade to liquidation, ratios of that price,
    below 0 where it was passed; None without such trades. The worst price is the trades' ``worst_rate``; for ``by_export`` ones,
    which have none, Freqtrade's own, which counts the whole candle of the exit. ``clipped`` trades got less leverage than was
    forced, as the exchange allows no more; for ``unknown`` ones there is no maintenance tier.
    """

    trades: int
    liquidated: int
    reached: int
    whole_margins: int
    stops_beyond: int
    over_margin: int
    clipped: int
    unknown: int
    by_export: int
    nearest: float | None
    fifth_percentile: float | None
    median: float | None


def audit(backtest: Backtest, liquidation_buffer: float, leverage: float | None = None) -> Audit:
    """Audit a backtest; ``leverage`` is the one that was forced, if any."""
    tiers = maintenance_tiers()
    trades = backtest["trades"].to_dict("records")
    lines = [stop_and_liquidation(trade, None, tiers, liquidation_buffer) for trade in trades]
    margins = [float(trade["profit_ratio"]) for trade in trades]
    liquidated = [str(trade["exit_reason"]) == "liquidation" for trade in trades]
    distances = [_distance(trade, line) for trade, (_, line) in zip(trades, lines, strict=True)]
    survived = [
        distance
        for distance, gone, made in zip(distances, liquidated, margins, strict=True)
        if not gone and made > WHOLE_MARGIN and math.isfinite(distance)
    ]
    nearest, fifth, median = (
        (float(value) for value in np.quantile(survived, (0.0, 0.05, 0.5))) if survived else (None,) * 3
    )
    return Audit(
        trades=len(trades),
        liquidated=sum(liquidated),
        # The exit price of a liquidation is that very line, rounded to a tick on either side.
        reached=sum(
            distance <= 0.0 or (gone and math.isfinite(distance))
            for distance, gone in zip(distances, liquidated, strict=True)
        ),
        whole_margins=sum(made <= WHOLE_MARGIN for made in margins),
        stops_beyond=sum(_beyond(trade, *both) for trade, both in zip(trades, lines, strict=True)),
        over_margin=sum(made < -1.0 for made in margins),
        clipped=0 if leverage is None else sum(float(trade["leverage"]) < leverage for trade in trades),
        unknown=sum(math.isnan(line) for _, line in lines),
        by_export=sum(not worst_rate(trade)[1] for trade in trades),
        nearest=nearest,
        fifth_percentile=fifth,
        median=median,
    )


def _beyond(trade: Mapping[Hashable, Any], stop: float, liquidation: float) -> bool:
    return stop >= liquidation if trade["is_short"] else stop <= liquidation


def _distance(trade: Mapping[Hashable, Any], liquidation: float) -> float:
    worst, _ = worst_rate(trade)
    return (liquidation - worst if trade["is_short"] else worst - liquidation) / worst
