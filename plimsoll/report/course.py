"""How a run went over time: balance, drawdown and daily results, from its closed trades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from plimsoll.calibrate import BLOCK_DAYS, HORIZON_DAYS, PATHS, CalibrationError, History, daily_returns
from plimsoll.report.evidence import Evidence
from plimsoll.rules.bootstrap import MIN_DAYS, DrawdownDistribution, bootstrap_drawdown

MOST_POINTS: Final = 3_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """Hold the balance after each closed trade, as a series by time with the start and the end, and its drawdown.

    Drawdowns are ratios of the peak until then; ``thinned`` tells that the curve was reduced to each day's highest, lowest and
    last value, the figures are those of the whole.
    """

    balance: pd.Series
    drawdown: pd.Series
    deepest_ratio: float
    deepest_amount: float
    ratio_at_deepest_amount: float
    thinned: bool


def course(evidence: Evidence) -> Course:
    """Follow the balance through the closed trades, in the order Freqtrade takes them in."""
    # The same sort as Freqtrade's: trades that close at one moment keep its order, on which the drawdown depends.
    trades = evidence.trades.sort_values("closed").reset_index(drop=True)
    profit = np.concatenate(([0.0], np.cumsum(trades["profit_abs"].to_numpy(dtype=float))))
    peak = np.maximum(np.maximum.accumulate(profit), 0.0)
    balance, amount = evidence.balance + profit, peak - profit
    ratio = amount / (evidence.balance + peak)
    worst = int(np.argmax(amount))
    # A flat end up to where the backtest ends.
    times = pd.DatetimeIndex(
        [evidence.begins, *trades["closed"], max([evidence.ends, *trades["closed"][-1:]])]
    )
    balances = pd.Series(np.append(balance, balance[-1]), index=times)
    drawdowns = pd.Series(np.append(ratio, ratio[-1]), index=times)
    thinned = len(balances) > MOST_POINTS
    return Course(
        balance=_thin(balances, times) if thinned else balances,
        drawdown=_thin(drawdowns, times) if thinned else drawdowns,
        deepest_ratio=float(ratio.max()),
        deepest_amount=float(amount[worst]),
        ratio_at_deepest_amount=float(ratio[worst]),
        thinned=thinned,
    )


def _thin(series: pd.Series, times: pd.DatetimeIndex) -> pd.Series:
    by_day = series.reset_index(drop=True).groupby(times.floor("D"))
    kept = {0, len(series) - 1}
    for positions in (by_day.idxmax(), by_day.idxmin(), by_day.tail(1).index):
        kept.update(int(position) for position in positions)
    return series.iloc[sorted(kept)]


def daily(evidence: Evidence) -> pd.DataFrame:
    """Return each day's closed ``profit``, and as ``ratio`` of the balance it began with (NaN where nothing was left)."""
    trades = evidence.trades
    last = max([evidence.ends, *trades["closed"]])
    days = pd.date_range(evidence.begins.floor("D"), last.floor("D"), freq="D")
    profit = trades.groupby(trades["closed"].dt.floor("D"))["profit_abs"].sum().reindex(days, fill_value=0.0)
    before = evidence.balance + profit.cumsum().shift(fill_value=0.0)
    return pd.DataFrame({"profit": profit, "ratio": (profit / before.where(before > 0.0))})


def drawdown_by_chance(evidence: Evidence) -> DrawdownDistribution | str:
    """Bootstrap the drawdown as `plimsoll calibrate` does, or say why it cannot be."""
    trades = evidence.trades.sort_values("closed")
    history = History(
        strategy=evidence.run.strategy,
        source=str(evidence.path),
        begins=evidence.begins,
        ends=evidence.ends,
        balance=evidence.balance,
        trades=pd.DataFrame(
            {
                "closed": trades["closed"],
                "profit": trades["profit_abs"],
                "profit_ratio": trades["profit_ratio"] / trades["leverage"],
            }
        ),
    )
    if trades.empty:
        return "no trades"
    try:
        returns = daily_returns(history)
    except CalibrationError as error:
        return str(error)
    if len(returns) < MIN_DAYS:
        return f"{len(returns)} days, {MIN_DAYS} are needed"
    settings: dict[str, Any] = {"block": BLOCK_DAYS, "paths": PATHS, "horizon": HORIZON_DAYS}
    return bootstrap_drawdown(returns, **settings)
