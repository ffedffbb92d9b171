"""A loss for ``freqtrade hyperopt`` under which no profit makes up for a liquidation; ``hyperopts/PlimsollLoss.py`` is its drop-in.

Smaller is better. Epochs fall into three classes, each wholly worse than the one before:

1. neither of the below: minus what the account grew in a year, as a logarithm, plus the logarithmic depth of its worst drawdown;
   squeezed into [-50, 50];
2. ruined: the balance fell to half of its peak or less (from 200,000 on);
3. liquidated, or told in numbers that are none (from 300,000 on): the more trades, the worse.

Freqtrade gives 100,000 to an epoch with fewer trades than ``--min-trades`` and prints or exports none from 100 on: so neither a
ruined nor a liquidated epoch is ever its best.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from freqtrade.optimize.hyperopt_loss.hyperopt_loss_interface import IHyperOptLoss
from pandas import DataFrame

from plimsoll.host.runlog import LOST_MARGIN

ORDINARY: Final = 50.0
RUINED, LIQUIDATED = 200_000.0, 300_000.0
RUIN_RATIO: Final = 0.5  # of the highest balance
_YEAR: Final = timedelta(days=365)
_SHORTEST: Final = timedelta(days=1)
_ROOM: Final = 10_000.0  # between two classes


class PlimsollLoss(IHyperOptLoss):
    """Prefer growth over drawdown, anything over ruin, and ruin over liquidation."""

    @staticmethod
    def hyperopt_loss_function(
        *,
        results: DataFrame,
        min_date: datetime,
        max_date: datetime,
        starting_balance: float,
        **kwargs: Any,
    ) -> float:
        return loss(results, min_date, max_date, starting_balance)


def loss(results: DataFrame, begin: datetime, end: datetime, starting_balance: float) -> float:
    """Judge the closed trades of one epoch, finite whatever they hold.

    :param results: Freqtrade's columns profit_abs (stake currency), profit_ratio (of margin), close_date and exit_reason.
    :param starting_balance: stake currency.
    """
    if not (math.isfinite(starting_balance) and starting_balance > 0.0):
        return LIQUIDATED + _ROOM
    if results.empty:
        return 0.0
    lost = liquidations(results)
    if lost:
        return LIQUIDATED + min(float(lost), _ROOM - 1.0)
    profits = results.sort_values("close_date", kind="stable")["profit_abs"].to_numpy(dtype=np.float64)
    if not np.isfinite(profits).all():
        return LIQUIDATED + _ROOM
    balances = np.concatenate(([starting_balance], starting_balance + np.cumsum(profits)))
    left = float((balances / np.maximum.accumulate(balances)).min())  # of the peak, at the deepest
    if left <= RUIN_RATIO:
        return RUINED + _ROOM * (RUIN_RATIO - max(left, 0.0))
    years = max(end - begin, _SHORTEST) / _YEAR
    growth = math.log(float(balances[-1]) / starting_balance) / years
    return ORDINARY * math.tanh((-growth - math.log(left)) / ORDINARY)


def liquidations(results: DataFrame) -> int:
    """Count the trades that were liquidated or lost as much as if; what a trade lost must be known, or it counts as well."""
    ratios = results["profit_ratio"].to_numpy(dtype=np.float64)
    whole = ~np.isfinite(ratios) | (ratios <= LOST_MARGIN)
    return int((whole | (results["exit_reason"] == "liquidation").to_numpy()).sum())
