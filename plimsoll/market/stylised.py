"""Stylised facts of hourly candles, to hold a simulated market against a real one (Cont 2001)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class PairFacts:
    """Hold the facts of one pair's hourly log returns.

    `daily_volatility` is a ratio per square root of a day; the autocorrelations are of the returns
    (`return_`) and of their absolute values (`absolute_`); `worst_hour_ratio` is the lowest simple return,
    negative.
    """

    daily_volatility: float
    excess_kurtosis: float
    return_autocorrelation_1h: float
    absolute_autocorrelation_1h: float
    absolute_autocorrelation_24h: float
    worst_hour_ratio: float


@dataclass(frozen=True)
class StylisedFacts:
    """Hold the facts of a market: one record per pair, and the mean correlation over all pairs of pairs."""

    pairs: dict[str, PairFacts]
    mean_cross_correlation: float

    def median(self, fact: str) -> float:
        """Return the median over the pairs of the `PairFacts` field named `fact`."""
        return float(np.median([getattr(facts, fact) for facts in self.pairs.values()]))


def stylised_facts(
    candles_1h: Mapping[str, pd.DataFrame], exclude: tuple[datetime, datetime] | None = None
) -> StylisedFacts:
    """Measure the stylised facts of hourly candles.

    Args:
        candles_1h: pair -> frame with `date` (UTC) and `close`; the frames may cover different spans.
        exclude: hours with start <= date < end are left out, e.g. a crash that would swamp every moment.

    Each cross-correlation uses the hours that its two pairs share; with one pair the mean is NaN.
    """
    returns = pd.DataFrame(
        {pair: np.log(frame.set_index("date")["close"]).diff().iloc[1:] for pair, frame in candles_1h.items()}
    )
    if exclude is not None:
        returns = returns[(returns.index < exclude[0]) | (returns.index >= exclude[1])]
    correlation = returns.corr().to_numpy()
    upper = correlation[np.triu_indices_from(correlation, k=1)]
    return StylisedFacts(
        pairs={str(pair): _pair_facts(returns[pair].dropna()) for pair in returns},
        mean_cross_correlation=float(upper.mean()) if upper.size else float("nan"),
    )


def _pair_facts(returns: "pd.Series[float]") -> PairFacts:
    magnitude = returns.abs()
    return PairFacts(
        daily_volatility=float(returns.std() * np.sqrt(24)),
        excess_kurtosis=float(returns.kurt()),  # type: ignore[arg-type]
        return_autocorrelation_1h=float(returns.autocorr(1)),
        absolute_autocorrelation_1h=float(magnitude.autocorr(1)),
        absolute_autocorrelation_24h=float(magnitude.autocorr(24)),
        worst_hour_ratio=float(np.expm1(returns.min())),
    )
