"""`plimsoll stress markets`: seeds, strategy sources, schedules, faults, statistics, without a backtest."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import CandleType, RunMode, TradingMode
from freqtrade.resolvers import StrategyResolver

from plimsoll import prepared_market
from plimsoll.cli import main
from plimsoll.compare import execute
from plimsoll.market.runner import CompletedRun, RunFailed
from plimsoll.stress import command, markets, schedule, strategy_source
from plimsoll.stress.errors import StressError
from plimsoll.stress.job import LONGEST_FAULT, Job, Record, failed, run_job
from plimsoll.stress.lowest_equity import lowest_equity
from plimsoll.stress.markets import SurvivalView, collect, parse_seeds
from plimsoll.stress.markets import document as markets_document
from plimsoll.stress.schedule import on_dask
from plimsoll.stress.strategy_source import StrategySource, read_strategy
from plimsoll.stress.survival import paired, survival, wilson_interval
from plimsoll.terminal import console


def complained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command where it has to end with 1, and return what it complained of."""
    assert main(["stress", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("plimsoll stress")
    return said.err


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


# -- Markets: arguments and sources --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "seeds"), [("1-3", [1, 2, 3]), ("7", [7]), ("9,1,2-3,3", [1, 2, 3, 9]), ("0", [0])]
)
def test_seeds_when_listed_then_ascend_and_come_once(given: str, seeds: list[int]) -> None:
    assert parse_seeds(given) == seeds


@pytest.mark.parametrize("given", ["", "x", "3-1", "-1", "1-", "1,,2", "0-10000", "1-99999999999"])
def test_seeds_when_they_make_no_sense_then_are_refused(given: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole numbers"):
        parse_seeds(given)
    assert len(parse_seeds("0-9999")) == 10_000


@pytest.mark.parametrize(
    ("given", "json_wanted"),
    [(["markets"], False), (["markets", "--json"], True), (["--json", "markets"], True)],
)
def test_markets_when_json_is_asked_for_before_or_behind_then_counts(
    given: list[str], json_wanted: bool
) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(["stress", *given])
    assert (arguments.json, arguments.run) == (json_wanted, markets.run)


def test_markets_when_both_jobs_and_scheduler_are_given_then_refuses(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["stress", "markets", "--jobs", "2", "--scheduler", "tcp://127.0.0.1:9"])
    assert "not allowed with" in capsys.readouterr().err


def test_markets_when_fewer_cpus_may_be_used_than_there_are_then_takes_as_many_workers_as_compare(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = []

    def locally(jobs: list[Job], count: int) -> Iterator[list[Record]]:
        workers.append(count)
        yield failed(jobs[0], "not run")

    monkeypatch.setattr(markets, "read_strategy", lambda *_: SOURCE)
    monkeypatch.setattr(markets, "locally", locally)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    assert main(["stress", "markets", "--seeds", "1"]) == 1
    assert workers == [3]
    assert execute.cpus() == 3


@pytest.fixture
def _unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy_source, "is_guarded", lambda *_: False)  # seconds of loading


@pytest.mark.usefixtures("_unguarded")
def test_strategy_when_it_imports_what_lies_beside_it_then_both_are_sent_and_nothing_else() -> None:
    Path("Base.py").write_text(
        "from freqtrade.strategy import IStrategy\n\nclass Base(IStrategy):\n    timeframe = '1h'\n"
        "    populate_entry_trend = populate_exit_trend = populate_indicators = lambda self, dataframe, metadata: dataframe\n"
    )
    Path("Own.py").write_text("from Base import Base\nimport json\n\nclass Own(Base):\n    pass\n")
    stored = {"strategy_name": "Own", "params": {"stoploss": {"stoploss": -0.2}}}
    Path("Own.json").write_text(json.dumps(stored))
    Path("Other.py").write_text("class Other:\n    pass\n")
    source = read_strategy("Own", Path.cwd())
    assert [name for name, _ in source.files] == [
        "Base.py", "Own.json", "Own.py", "guarded/GuardedOwn.json", "guarded/GuardedOwn.py",
    ]  # fmt: skip
    places = source.write(Path("there"))
    for guarded, name in ((False, "Own"), (True, "GuardedOwn")):
        # Freqtrade takes parameters only from beside the class's file and under its name.
        loaded = resolved(name, places[guarded])
        assert loaded.stoploss == -0.2
        assert any(base.__name__ == "Guarded" for base in type(loaded).__mro__) is guarded
    assert source.guarded == "GuardedOwn"


def resolved(name: str, place: Path) -> Any:
    config: Any = {"strategy": name, "strategy_path": str(place), "user_data_dir": Path.cwd()}
    config |= {
        "runmode": RunMode.BACKTEST,
        "trading_mode": TradingMode.FUTURES,
        "candle_type_def": CandleType.FUTURES,
    }
    return StrategyResolver.load_strategy(config)


@pytest.mark.usefixtures("_unguarded")
def test_strategy_when_it_is_shipped_with_its_guarded_class_then_that_is_built_upon() -> None:
    source = read_strategy("EmaCross")
    assert [name for name, _ in source.files] == ["EmaCross.py", "guarded/GuardedEmaCross.py"]
    loaded = resolved("GuardedEmaCross", source.write(Path("there"))[True])
    assert [base.__name__ for base in type(loaded).__mro__].count(
        "GuardedEmaCross"
    ) == 3  # and the guard's own


@pytest.mark.freqtrade
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Nobody", "there is no strategy Nobody in"),
        ("Below", "Below is guarded already"),
    ],
)
def test_strategy_when_it_cannot_be_compared_then_says_why(capsys, name: str, said: str) -> None:
    Path("user_data", "strategies").mkdir(parents=True)
    text = "from freqtrade.strategy import IStrategy\nfrom plimsoll import RiskSpace as Other\n"
    text += "class Above(Other, IStrategy):\n    pass\nclass Below(Above):\n    pass\n"
    Path("user_data", "strategies", "Below.py").write_text(text)
    assert said in complained(capsys, "markets", "--strategy", name)


# -- Markets: schedules and faults ---------------------------------------------------------------------------

SOURCE = StrategySource(name="Own", guarded="GuardedOwn", files=())
JOB = Job(seed=3, days=5, source=SOURCE)


def test_dask_when_it_is_not_installed_then_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(StressError, match=r"pip install 'freqtrade-plimsoll\[dask\]'"):
        list(on_dask([JOB], "tcp://127.0.0.1:8786"))


def test_dask_when_nobody_answers_then_names_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "SECONDS_TO_CONNECT", 0.3)
    with pytest.raises(StressError, match=r"--scheduler tcp://127\.0\.0\.1:9 cannot be reached"):
        list(on_dask([JOB], "tcp://127.0.0.1:9"))


def test_job_when_the_market_fails_then_both_records_have_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("no market today\nsecond line")

    monkeypatch.setattr(prepared_market, "simulated", breaks)
    raw, guarded = run_job(JOB)
    assert (raw.guarded, guarded.guarded) == (False, True)
    assert raw.fault == guarded.fault == "RuntimeError: no market today"
    assert (raw.survived, raw.profit) == (None, None)


def test_job_when_freqtrade_fails_then_the_fault_has_neither_time_nor_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(directory: Path, *_: Any) -> None:
        log = f"2026-11-21 20:00:00,123 - freqtrade - ERROR - Could not load {directory}/strategies/Own.py\n"
        log += "2026-11-21 20:00:00,124 - freqtrade - INFO - bye\n"
        raise RunFailed(CompletedRun(arguments=(), returncode=2, stdout="", stderr=log, seconds=1.0))

    monkeypatch.setattr("plimsoll.stress.job._backtest", lambda job, guarded, place, *_: breaks(place))
    monkeypatch.setattr(prepared_market, "simulated", lambda *_: argparse.Namespace(pairs=("BTC/USDT:USDT",)))
    assert {record.fault for record in run_job(JOB)} == {"Could not load strategies/Own.py"}


def test_job_when_freqtrade_breaks_then_the_fault_ends_with_the_exception(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(*_: Any) -> None:
        log = "2026-11-21 20:00:00,123 - freqtrade - ERROR - Fatal exception!\nTraceback (most recent call last):\n"
        log += '  File "/somewhere/Own.py", line 9, in __init__\nRuntimeError: nothing works\n'
        raise RunFailed(CompletedRun(arguments=(), returncode=1, stdout="", stderr=log, seconds=1.0))

    monkeypatch.setattr("plimsoll.stress.job._backtest", breaks)
    monkeypatch.setattr(prepared_market, "simulated", lambda *_: argparse.Namespace(pairs=("BTC/USDT:USDT",)))
    assert {record.fault for record in run_job(JOB)} == {"Fatal exception! RuntimeError: nothing works"}


def test_job_when_a_fault_is_long_then_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("x" * 1000)

    monkeypatch.setattr(prepared_market, "simulated", breaks)
    assert len(run_job(JOB)[0].fault or "") == LONGEST_FAULT


def test_records_when_jobs_end_in_any_order_then_are_sorted() -> None:
    def ended(*seeds: int) -> Iterator[list[Record]]:
        for seed in seeds:
            yield list(reversed(failed(replace(JOB, seed=seed), "gone")))

    records = collect(ended(10, 2, 1))
    assert [(r.seed, r.guarded) for r in records] == [
        (1, False), (1, True), (2, False), (2, True), (10, False), (10, True)]  # fmt: skip


# -- Markets: statistics -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "count", "interval"),
    [
        (8, 10, (0.490162, 0.943318)),
        (0, 10, (0.0, 0.277533)),
        (10, 10, (0.722467, 1.0)),
        (1, 1, (0.206549, 1.0)),
    ],
)
def test_wilson_interval_when_asked_then_is_the_published_one(
    successes: int, count: int, interval: tuple[float, float]
) -> None:
    assert wilson_interval(successes, count) == pytest.approx(interval, abs=1e-6)


def test_wilson_interval_when_there_is_nothing_then_none_and_when_wrong_then_raises() -> None:
    assert wilson_interval(0, 0) is None
    for wrong in ((-1, 3), (4, 3), (1, 0)):
        with pytest.raises(ValueError, match="`successes`"):
            wilson_interval(*wrong)
    with pytest.raises(ValueError, match="`confidence`"):
        wilson_interval(1, 2, 1.0)


def record(seed: int, guarded: bool, profit: float, lowest: float, **values: Any) -> Record:
    known: dict[str, Any] = {"survived": lowest >= 0.5, "final_balance": 1e4 * (1 + profit), "profit": profit}
    known |= {
        "max_drawdown": 1 - lowest,
        "lowest_equity": lowest,
        "trades": 9,
        "liquidations": int(lowest < 0.5),
    }
    known |= {"whole_margins_lost": 0, "worst_trade": -0.3, "mean_leverage": 5.0, "max_margin": 0.9}
    return Record(strategy="Own", seed=seed, guarded=guarded, days=5, **(known | values))


RECORDS = [
    record(1, False, -0.8, 0.2),
    record(1, True, -0.1, 0.9),
    record(2, False, 0.6, 0.7),
    record(2, True, 0.1, 0.95),
    *failed(replace(JOB, seed=3), "Freqtrade went away"),
]


def test_survival_when_some_failed_then_counts_those_that_ended() -> None:
    raw, guarded = survival(RECORDS)
    assert (raw.markets, raw.faults, raw.survived, raw.share) == (2, 1, 1, 0.5)
    assert (guarded.survived, guarded.liquidations, raw.liquidations) == (2, 0, 1)
    assert raw.profit[2] == pytest.approx(-0.1)
    assert raw.interval == pytest.approx((0.094531, 0.905469), abs=1e-6)


def test_paired_when_both_ended_then_compares_market_by_market() -> None:
    (pair,) = paired(RECORDS)
    assert asdict(pair) == {"strategy": "Own", "markets": 2, "better": 0.5, "shallower": 1.0,
                            "profit_difference": pytest.approx(0.1), "saved": 1, "lost": 0}  # fmt: skip


def test_survival_when_all_failed_then_claims_nothing(capsys) -> None:
    faults = failed(JOB, "Freqtrade went away")
    assert {each.share for each in survival(faults)} == {None}
    assert paired(faults)[0].better is None
    console().print(SurvivalView(faults))
    assert "Own guarded, seed 3: Freqtrade went away" in capsys.readouterr().out
    assert json.loads(json.dumps(markets_document(faults), allow_nan=False))["records"][0]["fault"]


def test_survival_when_drawn_in_80_columns_then_raw_stands_beside_guarded(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    console().print(SurvivalView(RECORDS))
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines() if line.startswith("Own ")]
    assert rows[0][:6] == ["Own", "raw", "1", "of", "2,", "50%"]
    assert rows[1][:6] == ["Own", "guarded", "2", "of", "2,", "100%"]
    assert "1 survived guarded only, 0 raw only" in shown
    assert "at least 50% of the starting balance" in " ".join(shown.split())


# -- Markets: lowest equity ----------------------------------------------------------------------------------

HOUR = 3_600_000
START = pd.Timestamp("2024-01-01", tz="UTC")


def candles(*closes: float) -> dict[str, pd.DataFrame]:
    dates = pd.date_range(START, periods=len(closes), freq="1h")
    return {"BTC": pd.DataFrame({"date": dates, "close": np.array(closes)})}


def trade(*, opened: int, closed: int, short: bool = False, profit: float, orders: list[tuple[int, bool, float, float]],
          margin: float = 200.0) -> dict[str, Any]:  # fmt: skip
    start = int(START.timestamp() * 1000)
    filled = [
        {"order_filled_timestamp": start + h * HOUR, "ft_is_entry": e, "amount": a, "safe_price": p}
        for h, e, a, p in orders
    ]
    return {"pair": "BTC", "open_timestamp": start + opened * HOUR, "close_timestamp": start + closed * HOUR,
            "is_short": short, "profit_abs": profit, "max_stake_amount": margin, "fee_open": 0.0, "fee_close": 0.0,
            "orders": filled}  # fmt: skip


@pytest.mark.parametrize(
    ("short", "closes", "profit", "lowest"),
    [
        (False, (100.0, 100.0, 95.0, 100.0, 100.0), 0.0, 0.95),  # 10 units, 5 down, of 1,000
        (True, (100.0, 100.0, 105.0, 100.0, 100.0), 0.0, 0.95),
        (False, (100.0, 100.0, 70.0, 100.0, 100.0), 0.0, 0.8),  # no more than its margin
        (False, (100.0, 100.0, 100.0, 100.0, 100.0), -100.0, 0.9),
        (False, (100.0, 105.0, 110.0, 110.0, 110.0), 100.0, 1.0),
    ],
)
def test_lowest_equity_when_a_position_is_under_water_then_counts_it(
    short: bool, closes: tuple[float, ...], profit: float, lowest: float
) -> None:
    one = trade(
        opened=1,
        closed=4,
        short=short,
        profit=profit,
        orders=[(1, True, 10.0, 100.0), (4, False, 10.0, 100.0)],
    )
    assert lowest_equity(pd.DataFrame([one]), 1000.0, candles(*closes)) == pytest.approx(lowest)


def test_lowest_equity_when_half_was_sold_then_only_the_rest_falls() -> None:
    # 5 of 10 sold at 90 lose 50, the other 5 fall on to 80 and lose 100; all come back in the end.
    orders = [(1, True, 10.0, 100.0), (2, False, 5.0, 90.0), (5, False, 5.0, 110.0)]
    one = trade(opened=1, closed=5, profit=0.0, orders=orders)
    found = lowest_equity(pd.DataFrame([one]), 1000.0, candles(100.0, 90.0, 80.0, 110.0, 110.0, 110.0))
    assert found == pytest.approx(0.85)


def test_lowest_equity_when_nothing_was_traded_then_is_all_of_it() -> None:
    assert lowest_equity(pd.DataFrame(), 1000.0, candles(100.0)) == 1.0
