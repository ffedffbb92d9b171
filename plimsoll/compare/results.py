"""The results that one run of a comparison left behind."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plimsoll.market.runner import Backtest


def load(results: Path) -> Backtest:
    """Return the one backtest in a directory of results.

    :raises ValueError: where there is none, or more than one strategy in it
    """
    from freqtrade.data.btanalysis import (
        get_latest_backtest_filename,
        load_backtest_data,
        load_backtest_stats,
    )

    path = results / get_latest_backtest_filename(results)
    [(strategy, stats)] = load_backtest_stats(path)["strategy"].items()
    return Backtest(strategy=strategy, stats=stats, trades=load_backtest_data(path, strategy), path=path)


def as_data(values: Any) -> dict[str, Any]:
    """Return a dataclass of plain values fit for JSON; None stands for a number that there was not."""
    return {key: _finite_or_none(value) for key, value in asdict(values).items()}


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
