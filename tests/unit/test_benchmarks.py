"""That the benchmarks run; what they measure is for `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPECTED = {
    "rules": ("make_plan, none open", "hourly() of 800 candles"),
    "plan_latency": (
        "leverage() alone, 2 open, fresh, 100 closed",
        "entry, 0 open, known, 1,000 over 100 closed",
    ),
    "backtest_overhead": ("Few: guarded / raw", "Few: indicators added, all pairs"),
}


# In a process of their own: Freqtrade's backtesting and its logging are set for a whole process.
@pytest.mark.parametrize("name", EXPECTED)
def test_benchmark_runs_at_a_tiny_size_and_returns_its_records(name: str, tmp_path: Path) -> None:
    report = tmp_path / "records.json"
    command = [sys.executable, "-m", "benchmarks", name, "--tiny", "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    records = {record["name"]: record for record in json.loads(report.read_text(encoding="utf-8"))["records"]}
    assert set(EXPECTED[name]) <= set(records)
    assert all(record["low"] <= record["value"] <= record["high"] for record in records.values())
    assert "Plimsoll benchmarks" in done.stdout


def test_child_runs_the_command_and_writes_its_cost(tmp_path: Path) -> None:
    report = tmp_path / "cost.json"
    command = [sys.executable, "-m", "benchmarks.child", str(report), "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert "Freqtrade Version" in done.stdout
    cost = json.loads(report.read_text(encoding="ascii"))
    assert cost["peak"] > 20 * 2**20
    assert cost["cpu"] > 0.0
