"""A guarded strategy made on the spot, with whatever a test puts into the class below it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freqtrade.enums import RunMode
from freqtrade.strategy import IStrategy

from plimsoll import Guarded

PAIR = "BTC/USDT:USDT"


class Plain(IStrategy):
    """Nothing of its own."""

    timeframe = "1h"
    stoploss = -0.1
    minimal_roi = {"0": 1.0}  # noqa: RUF012

    def populate_indicators(self, dataframe: Any, metadata: Any) -> Any:
        return dataframe

    populate_entry_trend = populate_exit_trend = populate_indicators


def guarded(
    body: dict[str, Any],
    directory: Path,
    *,
    runmode: RunMode = RunMode.DRY_RUN,
    blocked: str | None = None,
    **config: Any,
) -> Any:
    """Return a guarded strategy with these in its class, whose gates are open or not."""
    theirs = type("Theirs", (Plain,), body)
    known = {"runmode": runmode, "user_data_dir": directory, "stake_currency": "USDT"}
    made: Any = type("Mine", (Guarded, theirs), {})(known | config)
    made._planner.gates.closed = lambda pair: blocked
    return made
