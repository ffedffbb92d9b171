"""How many simulated markets a strategy survived, and how well: statistics over records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from plimsoll.stress.job import Record

CONFIDENCE: Final = 0.95
QUANTILES: Final = (0.05, 0.25, 0.50, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class Survival:
    """Hold the statistics of one strategy, raw or guarded, over the markets whose backtests came to an end.

    ``interval`` is Wilson's for the share that survived; the quantiles of profit, Freqtrade's drawdown and the lowest equity are
    those of :data:`QUANTILES`; None and empty where no backtest came to an end.
    """

    strategy: str
    guarded: bool
    markets: int
    faults: int
    survived: int
    share: float | None
    interval: tuple[float, float] | None
    profit: tuple[float, ...]
    max_drawdown: tuple[float, ...]
    lowest_equity: tuple[float, ...]
    liquidations: int
    whole_margins_lost: int
    worst_trade: float | None

    def as_data(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self) | {"confidence": CONFIDENCE, "quantiles": QUANTILES}


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Compare the guarded strategy with the raw one market by market; None where no market has both.

    Shares of markets, and the median difference of the profits, guarded less raw, a ratio of the starting balance.
    """

    strategy: str
    markets: int
    better: float | None
    shallower: float | None
    profit_difference: float | None
    saved: int
    lost: int


def wilson_interval(successes: int, count: int, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return Wilson's score interval (1927) for a share; None for a count of 0.

    :raises ValueError: for successes outside [0, count] or a confidence outside (0, 1).
    """
    if not 0 <= successes <= max(count, 0):
        raise ValueError(f"`successes` must be in [0, {count}], was {successes}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"`confidence` must be in (0, 1), was {confidence}")
    if count == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share, scale = successes / count, 1.0 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    reach = z / scale * math.sqrt(share * (1.0 - share) / count + z * z / (4 * count * count))
    # At the ends the bound is 0 or 1, which rounding misses.
    return (
        0.0 if successes == 0 else max(middle - reach, 0.0),
        1.0 if successes == count else min(middle + reach, 1.0),
    )


def survival(records: Sequence[Record]) -> list[Survival]:
    """Return the statistics of each strategy, raw before guarded."""
    groups = sorted({(record.strategy, record.guarded) for record in records})
    return [_survival([r for r in records if (r.strategy, r.guarded) == group], *group) for group in groups]


def paired(records: Sequence[Record]) -> list[Paired]:
    """Return each strategy's comparison over the markets that it ended raw and guarded."""
    return [_paired(records, strategy) for strategy in sorted({record.strategy for record in records})]


def _survival(records: Sequence[Record], strategy: str, guarded: bool) -> Survival:
    known = [record for record in records if record.fault is None]
    survived = sum(record.survived is True for record in known)
    worst = [record.worst_trade for record in known if record.worst_trade is not None]
    return Survival(
        strategy=strategy,
        guarded=guarded,
        markets=len(known),
        faults=len(records) - len(known),
        survived=survived,
        share=survived / len(known) if known else None,
        interval=wilson_interval(survived, len(known)),
        profit=_quantiles([record.profit for record in known]),
        max_drawdown=_quantiles([record.max_drawdown for record in known]),
        lowest_equity=_quantiles([record.lowest_equity for record in known]),
        liquidations=sum(record.liquidations or 0 for record in known),
        whole_margins_lost=sum(record.whole_margins_lost or 0 for record in known),
        worst_trade=min(worst, default=None),
    )


def _paired(records: Sequence[Record], strategy: str) -> Paired:
    raw, guarded = (
        {r.seed: r for r in records if r.strategy == strategy and r.guarded is which and r.fault is None}
        for which in (False, True)
    )
    seeds = sorted(raw.keys() & guarded.keys())
    gains = [(guarded[seed].profit or 0.0) - (raw[seed].profit or 0.0) for seed in seeds]
    falls = [(guarded[seed].max_drawdown or 0.0) - (raw[seed].max_drawdown or 0.0) for seed in seeds]
    count = len(seeds)
    return Paired(
        strategy=strategy,
        markets=count,
        better=sum(gain > 0.0 for gain in gains) / count if count else None,
        shallower=sum(fall < 0.0 for fall in falls) / count if count else None,
        profit_difference=float(np.median(gains)) if count else None,
        saved=sum(bool(guarded[seed].survived) and not raw[seed].survived for seed in seeds),
        lost=sum(bool(raw[seed].survived) and not guarded[seed].survived for seed in seeds),
    )


def _quantiles(values: Sequence[float | None]) -> tuple[float, ...]:
    known = [value for value in values if value is not None]
    return tuple(np.quantile(known, QUANTILES).tolist()) if known else ()
