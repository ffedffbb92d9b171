"""The ablation of one strategy by ``plimsoll compare``: two backtests at once against one after the other.

The whole command, each time from an empty directory: asking Freqtrade, raw, guarded and each layer off, figures. On the shared
real candles where they are, else on a simulated market. The report is left out: it is drawn after the runs, either way.
CPU time of all processes stands beside wall time: where it differs between the two, they did not do the same work.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Record, ratios, record

BENCHMARK = "ablation"
SPEED_UP = 1.6
ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "data" / "binance"
TIMERANGE = "20230201-20240501"
LAYERS = ("volatility", "kelly", "risk", "exposure", "correlation", "streak", "drawdown", "margin_health")


def run(layers: Sequence[str] = LAYERS, rounds: int = 1, days: int | None = None) -> list[Record]:
    """Measure and return the records; ``days`` asks for a simulated market of that length."""
    with TemporaryDirectory(prefix="plimsoll-ablation-") as directory:
        place = Path(directory)
        data, timerange = (REAL, TIMERANGE)
        if days is not None or not (REAL / "futures").is_dir():
            data, timerange = _simulated(place, days or 270)
        walls: dict[int, list[float]] = {1: [], 2: []}
        cpus: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(rounds):
            for jobs in (2, 1) if turn % 2 else (1, 2):
                wall, cpu = _compare(place / f"{turn}-{jobs}", data, timerange, layers, jobs)
                walls[jobs].append(wall)
                cpus[jobs].append(cpu)
    note = f"{len(layers) + 2} backtests, {timerange}, {len(os.sched_getaffinity(0))} CPUs"
    times = ratios(walls[2], walls[1])
    speed_ups = ", ".join(f"{1 / each:.2f}" for each in times)
    return [
        record(BENCHMARK, "in sequence", walls[1], "s", note=note),
        record(BENCHMARK, "2 at once", walls[2], "s"),
        record(
            BENCHMARK,
            "2 at once / in sequence",
            times,
            "x",
            goal=1 / SPEED_UP,
            note=f"{speed_ups} times as fast, goal {SPEED_UP}",
        ),
        record(BENCHMARK, "in sequence, CPU", cpus[1], "s"),
        record(BENCHMARK, "2 at once / in sequence, CPU", ratios(cpus[2], cpus[1]), "x"),
    ]


def _compare(
    place: Path, data: Path, timerange: str, layers: Sequence[str], jobs: int
) -> tuple[float, float]:
    place.mkdir()
    command = [
        *(sys.executable, "-m", "plimsoll.cli", "compare", "--strategy", "EmaCross", "--json", "--no-report"),
        *("--strategy-path", str(ROOT / "strategies"), "-c", str(ROOT / "config.json"), "--offline"),
        *("--data", str(data), "--timerange", timerange, "--userdir", str(place), "--jobs", str(jobs)),
        *("--layers", *layers, "--", "--max-open-trades", "5"),
    ]
    cpu, started = _children_seconds(), time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    wall, cpu = time.perf_counter() - started, _children_seconds() - cpu
    if done.returncode != 0:
        raise RuntimeError(f"plimsoll compare did not run:\n{done.stderr[-4000:]}")
    runs = json.loads(done.stdout)["runs"]
    if len(runs) != len(layers) + 2 or any(each["cached"] for each in runs):
        raise RuntimeError(f"{len(runs)} backtests were not all run anew")
    return wall, cpu


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _simulated(place: Path, days: int) -> tuple[Path, str]:
    from benchmarks.stage import START
    from plimsoll.market.candle_files import write_market
    from plimsoll.market.simulate import simulate_market

    data, warm_up = place / "data", timedelta(days=32)
    write_market(simulate_market(7, warm_up.days + days, START - warm_up), data)
    end: datetime = START + timedelta(days=days)
    return data, f"{START:%Y%m%d}-{end:%Y%m%d}"
