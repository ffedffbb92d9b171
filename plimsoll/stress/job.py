"""One job: simulate a market, run stock ``freqtrade backtesting`` raw and guarded on it, return a flat record of each.

A job is a value and so is what it returns; it needs this package on the machine that runs it, and nothing else of the project.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from plimsoll.stress.strategy_source import StrategySource

SURVIVAL: Final = 0.5
SURVIVED: Final = f"equity at every closed 1h candle, open positions counted, at least {SURVIVAL:.0%} of the starting balance"
TIMEOUT_SECONDS: Final = 3600.0
LONGEST_FAULT: Final = 300
_LOG_LINE: Final = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ - ")
_LOGGED: Final = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ - \S+ - (?:ERROR|CRITICAL) - (.+)$")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Ask for one seed's market with one strategy; ``days`` are those traded, a warm-up comes before.

    ``scratch`` is a directory for its files, None for the system's; no result depends on it.
    """

    seed: int
    days: int
    source: StrategySource
    scratch: str | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """Hold what one backtest came to, or the ``fault`` that kept it from coming to anything; then all figures are None.

    Balances in stake currency; ``profit``, ``lowest_equity`` and ``max_margin`` are ratios of the balance, ``max_drawdown`` is
    Freqtrade's own, of closed trades, ``worst_trade`` is a ratio of its margin.
    """

    strategy: str
    seed: int
    guarded: bool
    days: int
    fault: str | None = None
    survived: bool | None = None
    final_balance: float | None = None
    profit: float | None = None
    max_drawdown: float | None = None
    lowest_equity: float | None = None
    trades: int | None = None
    liquidations: int | None = None
    whole_margins_lost: int | None = None
    worst_trade: float | None = None
    mean_leverage: float | None = None
    max_margin: float | None = None

    def as_data(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @property
    def order(self) -> tuple[str, int, bool]:
        """Return what records are sorted by."""
        return self.strategy, self.seed, self.guarded


def run_job(job: Job) -> list[Record]:
    """Run a job and return two records, raw and guarded; whatever goes wrong is a record with its fault."""
    scratch = None if job.scratch is None or not Path(job.scratch).is_dir() else job.scratch
    try:
        with tempfile.TemporaryDirectory(
            prefix="plimsoll-stress-", dir=scratch, ignore_cleanup_errors=True
        ) as place:
            return _both(job, Path(place))
    except Exception as error:
        return failed(job, _described(error))


def failed(job: Job, fault: str) -> list[Record]:
    """Return the records of a job that did not come to an end."""
    return [_record(job, guarded, fault=fault) for guarded in (False, True)]


def _both(job: Job, place: Path) -> list[Record]:
    # Freqtrade takes seconds to import, which whoever only asks for records need not wait for.
    from plimsoll.market.exchange import LoopbackExchange
    from plimsoll.prepared_market import simulated

    strategies = job.source.write(place / "strategies")
    prepared = simulated(place, job.seed, job.days)
    records = []
    with LoopbackExchange(prepared.pairs) as exchange:
        for guarded in (False, True):
            try:
                figures = _backtest(job, guarded, place, strategies[guarded], prepared, exchange.url)
                records.append(_record(job, guarded, **figures))
            except Exception as error:
                records.append(_record(job, guarded, fault=_described(error, place)))
    return records


def _backtest(
    job: Job, guarded: bool, place: Path, strategies: Path, prepared: Any, url: str
) -> Mapping[str, Any]:
    from plimsoll.figures import figures
    from plimsoll.market.runner import load_backtest, run_freqtrade
    from plimsoll.prepared_market import MAX_OPEN_TRADES
    from plimsoll.shipped import config_file

    strategy = job.source.guarded if guarded else job.source.name
    user_data = place / ("guarded" if guarded else "raw")
    user_data.mkdir()
    command = ["backtesting", "--cache", "none", "--datadir", str(prepared.datadir)]
    command += ["--timerange", prepared.timerange]
    command += ["--strategy", strategy, "--strategy-path", str(strategies)]
    run_freqtrade(
        command,
        user_data=user_data,
        configs=[config_file(), {"max_open_trades": MAX_OPEN_TRADES}],
        exchange_url=url,
        pairs=prepared.pairs,
        timeout=TIMEOUT_SECONDS,
    ).check()
    result = load_backtest(user_data, strategy)
    found = figures(result, [], 0.0)
    lowest = _lowest(result["trades"], float(result["stats"]["starting_balance"]), prepared)
    return {
        "survived": lowest >= SURVIVAL,
        "final_balance": found.final_balance,
        "profit": found.profit,
        "max_drawdown": found.max_drawdown,
        "lowest_equity": lowest,
        "trades": found.trades,
        "liquidations": found.liquidations,
        "whole_margins_lost": found.whole_margin_losses,
        "worst_trade": found.worst_margin,
        "mean_leverage": found.mean_leverage,
        "max_margin": found.max_margin,
    }


def _lowest(trades: Any, balance: float, prepared: Any) -> float:
    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType

    from plimsoll.stress.lowest_equity import lowest_equity

    handler = get_datahandler(prepared.datadir, "feather")
    candles = {
        pair: handler.ohlcv_load(
            pair, "1h", candle_type=CandleType.FUTURES, fill_missing=False, drop_incomplete=False
        )
        for pair in prepared.pairs
    }
    return lowest_equity(trades, balance, candles)


def _record(job: Job, guarded: bool, **values: Any) -> Record:
    return Record(strategy=job.source.name, seed=job.seed, guarded=guarded, days=job.days, **values)


def _described(error: Exception, place: Path | None = None) -> str:
    """Return a fault in one line that is the same wherever and whenever the job runs: without paths of this run and times."""
    run = getattr(error, "run", None)
    if run is not None:  # RunFailed's, whose message holds a command line and a log
        text = _logged_fault(run.stderr) or f"freqtrade ended with {run.returncode}"
    else:
        text = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if place is not None:
        text = text.replace(f"{place}/", "")
    return text[:LONGEST_FAULT]


def _logged_fault(log: str) -> str:
    """Return the last error that Freqtrade logged, with the last line of its traceback where it has one."""
    said, behind, belongs = "", "", False
    for line in log.splitlines():
        if found := _LOGGED.match(line):
            said, behind, belongs = found[1].strip(), "", True
        elif _LOG_LINE.match(line):
            belongs = False
        elif belongs and line.strip():
            behind = line.strip()
    return f"{said} {behind}".strip()
