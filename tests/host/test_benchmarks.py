"""That the benchmarks run; what they measure is for `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.measure import record
from benchmarks.page import COMMAND, page

ROOT = Path(__file__).parents[2]
EXPECTED = {
    "rules breakers bootstrap ledger": (
        *("make_plan, none open", "hourly() of 800 candles"),
        *("daily_loss: a step", "deadman: a step", "all: a reading of equity"),
        "size that fits, 365 days, 20 paths",
        *("SQLite: Freqtrade's own commit of a trade", "SQLite: heartbeat", "SQLite: reserve"),
    ),
    "plan_latency": (
        "leverage() alone, 2 open, fresh, 100 closed",
        "entry, 0 open, known, 1,000 over 100 closed",
    ),
    "backtest_overhead": (
        "Few, 1 pairs: guarded / raw",
        "Few, 1 pairs: indicators added, all pairs",
        "Few, 7 pairs: guarded / guarded without breakers",
    ),
    "live_loop": (
        "4 pairs, 2 open, quiet: guard, 95th percentile",
        "4 pairs, 2 open, quiet: of it custom_stoploss",
        "4 pairs, 2 open, new candle: of it populate_indicators",
        "4 pairs, 2 open, new hour: whole loop, guarded / raw",
    ),
}


# In a process of their own: Freqtrade's backtesting and its logging are set for a whole process.
@pytest.mark.parametrize("names", EXPECTED)
def test_benchmark_runs_at_a_tiny_size_and_returns_its_records(names: str, tmp_path: Path) -> None:
    report, written = tmp_path / "records.json", tmp_path / "performance.md"
    command = [sys.executable, "-m", "benchmarks", *names.split(), "--tiny", "--json", str(report)]
    command += ["--markdown", str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    records = {record["name"]: record for record in json.loads(report.read_text(encoding="utf-8"))["records"]}
    assert set(EXPECTED[names]) <= set(records)
    assert all(record["low"] <= record["value"] <= record["high"] for record in records.values())
    assert "Plimsoll benchmarks" in done.stdout
    rows = written.read_text(encoding="utf-8").splitlines()
    assert {name for name in records if any(row.startswith(f"| {name} |") for row in rows)} == set(records)


def test_page_when_there_are_figures_then_it_has_share_goal_and_verdict_and_else_how_to_get_them() -> None:
    own = (200.0, "Freqtrade's own entry")
    held = record("rules", "a|b", [10.0, 30.0, 20.0], "ns", goal=20.0, against=own, note="n")
    missed = record("live loop", "c", [20.1], "ms", goal=20.0)
    rows = page([held, missed], "2 CPUs").splitlines()
    assert "| a/b | 20.0 ns | 10.0 to 30.0 | 10 % of Freqtrade's own entry | 20, holds | n |" in rows
    assert "| c | 20.1 ms |  |  | 20, **missed** |  |" in rows
    assert [row for row in rows if row.startswith("### ")] == ["### Rules", "### Live loop"]
    assert f"No figures yet. Run `{COMMAND}`" in page([], "")


def test_child_runs_the_command_and_writes_its_cost(tmp_path: Path) -> None:
    report = tmp_path / "cost.json"
    command = [sys.executable, "-m", "benchmarks.child", str(report), "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False)
    assert "Freqtrade Version" in done.stdout
    cost = json.loads(report.read_text(encoding="ascii"))
    assert cost["peak"] > 20 * 2**20
    assert cost["cpu"] > 0.0
