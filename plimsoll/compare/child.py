"""Run one stock ``freqtrade`` command and take its figures.

``python -m plimsoll.compare.child PARENT DIRECTORY BUFFER LEVERAGE DATADIR FORMAT ARGUMENTS``, with ``-`` where no leverage is
forced; DATADIR and FORMAT are those of the candles.

The process ends with the one that started it, also where that was killed; what it then leaves behind is half a run.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FIGURES: Final = "figures.json"
JOURNAL: Final = "journal.jsonl"
RESULTS: Final = "results"
WORST_PRICES: Final = "worst-prices.json"
_PR_SET_PDEATHSIG: Final = 1


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before
            os.kill(os.getpid(), signal.SIGKILL)


def _take_figures(
    directory: Path, buffer: float, leverage: float | None, datadir: Path, data_format: str
) -> None:
    if not (directory / RESULTS / ".last_result.json").is_file():
        return  # Freqtrade has said why
    # Here and not in the comparing process: reading trades and journal takes seconds, and these run in parallel.
    from pandas import DataFrame

    from plimsoll import journal
    from plimsoll.audit import audit
    from plimsoll.compare.results import as_data, load
    from plimsoll.figures import figures
    from plimsoll.market.runner import Backtest
    from plimsoll.worst_prices import COLUMN

    try:
        backtest = load(directory / RESULTS)
        records = journal.read(directory / JOURNAL)
        stats = backtest["stats"]
        worst = _worst_prices(stats, datadir, data_format)
        (directory / WORST_PRICES).write_text(json.dumps(worst), encoding="utf-8")
        exported = DataFrame(stats["trades"])
        exported[COLUMN] = worst
        audited = Backtest(strategy=backtest["strategy"], stats=stats, trades=exported, path=backtest["path"])
        taken = {
            "figures": as_data(figures(backtest, records, buffer)),
            "audit": as_data(audit(audited, buffer, leverage)),
            "pairs": list(stats["pairlist"]),
            "begins": stats["backtest_start"],
            "ends": stats["backtest_end"],
            "export": backtest["path"].name,
        }
        (directory / FIGURES).write_text(json.dumps(taken), encoding="utf-8")
    except Exception as error:
        print(f"plimsoll compare: no figures could be taken: {error!r}", file=sys.stderr)


def _worst_prices(stats: Mapping[str, Any], datadir: Path, data_format: str) -> list[float | None]:
    from plimsoll.compare.price_paths import worst_prices

    try:
        return worst_prices(stats, datadir, data_format)
    except Exception as error:
        print(f"plimsoll compare: the candles of the trades could not be read: {error!r}", file=sys.stderr)
        return [None] * len(stats["trades"])


if __name__ == "__main__":
    _end_with(int(sys.argv[1]))
    # Registered first, so it runs last: Freqtrade has stored its results by then, and the journal is written at exit.
    forced = None if sys.argv[4] == "-" else float(sys.argv[4])
    atexit.register(
        _take_figures, Path(sys.argv[2]), float(sys.argv[3]), forced, Path(sys.argv[5]), sys.argv[6]
    )
    from freqtrade.main import main

    main(sys.argv[7:])
