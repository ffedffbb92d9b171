"""`plimsoll stress markets` through stock Freqtrade: joblib and a Dask cluster of two workers come to the same, byte for byte."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import psutil
import pytest

from plimsoll.cli import main
from plimsoll.stress import schedule

pytestmark = pytest.mark.freqtrade

MARKETS = ["stress", "markets", "--seeds", "1,2", "--days", "5", "--json"]
BROKEN = """
from freqtrade.strategy import IStrategy


class Broken(IStrategy):
    timeframe = "1h"
    stoploss = -0.1

    def __init__(self, config):
        raise RuntimeError("nothing works")

    populate_entry_trend = populate_exit_trend = populate_indicators = lambda self, dataframe, metadata: dataframe
"""


@contextmanager
def cluster() -> Iterator[str]:
    """Start a Dask cluster of two worker processes on this machine; yield its scheduler's address."""
    import dask
    from distributed import LocalCluster

    patient = {"distributed.comm.timeouts.connect": "240s", "distributed.comm.timeouts.tcp": "240s"}
    with (
        dask.config.set(patient),
        pytest.MonkeyPatch.context() as patch,
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
    ):
        patch.setattr(schedule, "SECONDS_TO_CONNECT", 240.0)
        yield local.scheduler_address


def printed(*arguments: str) -> tuple[int, str]:
    output = io.StringIO()
    with redirect_stdout(output):
        status = main([*MARKETS, *arguments])
    return status, output.getvalue()


@pytest.fixture(scope="module")
def both() -> tuple[tuple[int, str], tuple[int, str]]:
    """Run the same markets on two local processes and on two Dask workers."""
    local = printed("--jobs", "2")
    with cluster() as address:
        return local, printed("--scheduler", address)


def test_markets_when_on_dask_then_equal_joblib_byte_for_byte(both: Any) -> None:
    (status, local), (dask_status, dask) = both
    assert status == dask_status == 0
    records, on_dask = json.loads(local)["records"], json.loads(dask)["records"]
    assert len(records) == 4
    for mine, theirs in zip(records, on_dask, strict=True):
        assert mine == theirs
    assert local == dask


def test_markets_when_they_ended_then_there_is_a_record_of_each_seed_raw_and_guarded(both: Any) -> None:
    document = json.loads(both[0][1])
    records = document["records"]
    assert [(r["seed"], r["guarded"]) for r in records] == [(1, False), (1, True), (2, False), (2, True)]
    for record in records:
        assert record["fault"] is None
        assert record["trades"] > 0
        assert record["final_balance"] == pytest.approx(10_000 * (1 + record["profit"]), abs=0.01)
        assert 0.0 < record["lowest_equity"] <= min(1.0, 1.0 + record["profit"]) + 1e-6
        assert record["survived"] == (record["lowest_equity"] >= 0.5)
        assert record["mean_leverage"] == 5.0 or record["guarded"]
    assert records[0]["final_balance"] != records[2]["final_balance"]  # two markets
    raw, guarded = document["survival"]
    assert (raw["markets"], guarded["markets"], raw["faults"]) == (2, 2, 0)
    assert guarded["liquidations"] == guarded["whole_margins_lost"] == 0
    assert max(r["max_margin"] for r in records if r["guarded"]) < 0.20


@pytest.mark.slow
def test_markets_when_a_strategy_fails_then_its_records_have_the_fault_either_way(tmp_path: Path) -> None:
    (tmp_path / "Broken.py").write_text(BROKEN)
    arguments = ["--strategy", "Broken", "--strategy-path", str(tmp_path)]
    status, local = printed("--jobs", "2", *arguments)
    with cluster() as address:
        on_dask = printed("--scheduler", address, *arguments)
    assert status == 1
    assert on_dask == (1, local)
    faults = [record["fault"] for record in json.loads(local)["records"]]
    assert faults == ["Fatal exception! RuntimeError: nothing works"] * 4


@pytest.mark.slow
def test_markets_when_interrupted_then_nothing_is_left_running(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "plimsoll.cli", *MARKETS, "--jobs", "2"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as run:
        mine = psutil.Process(run.pid)
        deadline = time.monotonic() + 480.0
        children: list[psutil.Process] = []
        while not any("backtesting" in argument for child in children for argument in _arguments(child)):
            assert time.monotonic() < deadline
            assert run.poll() is None
            time.sleep(0.2)
            children = mine.children(recursive=True)
        run.send_signal(signal.SIGINT)  # to the one process only, not to its group as a terminal does
        assert run.wait(timeout=240) == 130
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    assert not list(tmp_path.glob("plimsoll-stress-*"))


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
