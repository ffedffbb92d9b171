"""`plimsoll compare --strategy` through stock backtests on a small market: killed, resumed, cached, audited."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from freqtrade.data.btanalysis import load_backtest_stats

from plimsoll.cli import main
from plimsoll.compare import comparing
from plimsoll.compare.execute import Job
from plimsoll.journal import read as read_journal
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import load_backtest, run_freqtrade
from plimsoll.prepared_market import simulated
from plimsoll.report.comparison import Comparison, read

pytestmark = pytest.mark.freqtrade

ROOT = Path(__file__).parents[2]
DAYS = 12
TIMEOUT = 960.0
LAYER = "streak"
RUNS = ["raw", "guarded", f"without {LAYER}", "raw at 20x"]
# Read by every Python process of the command: the guarded run goes no further than this, and is killed amid it however late.
HELD = """
import sys, time

def hold(event, arguments):
    while event == "import" and arguments[0] == "freqtrade.optimize.backtesting":
        time.sleep(60)

if any(".guarded-" in argument for argument in sys.orig_argv):
    sys.addaudithook(hold)
"""


class Compared:
    """A comparison that was killed once its first run had finished, and then taken up again."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.prepared = simulated(place, 7, DAYS)
        self.output = place / "compared"
        self.config = place / "config.json"
        shipped = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
        shipped["plimsoll"] = {"streak": {"cooldown_losses": 2, "losses": 2}}
        self.config.write_text(json.dumps(shipped))
        self.killed = self._killed()
        self.status, self.document = self.again("--jobs", "2")
        self.comparison = read(self.output)

    @property
    def arguments(self) -> list[str]:
        return [
            *(
                "compare",
                "--strategy",
                "EmaCross",
                "-c",
                str(self.config),
                "--offline",
                "--json",
                "--no-report",
            ),
            *("--strategy-path", str(ROOT / "strategies"), "--userdir", str(self.place / "user_data")),
            *("--data", str(self.prepared.datadir), "--timerange", self.prepared.timerange),
            *("--output", str(self.output), "--layers", LAYER, "--leverage", "20"),
        ]

    def again(self, *options: str) -> tuple[int, Any]:
        """Run it in this process and return the exit status and its document."""
        said = io.StringIO()
        with redirect_stdout(said):
            status = main([*self.arguments, *options, "--", "--max-open-trades", "3"])
        return status, json.loads(said.getvalue())

    def run(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(run for run in self.document["runs"] if run["name"] == name)
        return found

    def _killed(self) -> dict[str, Any]:
        """Kill the command without warning while its second run is on, and return what it left."""
        command = [
            sys.executable,
            "-m",
            "plimsoll.cli",
            *self.arguments,
            "--jobs",
            "1",
            "--",
            "--max-open-trades",
            "3",
        ]
        runs = self.output / "runs"
        (self.place / "held").mkdir()
        (self.place / "held" / "sitecustomize.py").write_text(HELD)
        path = [str(self.place / "held"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        ) as process:
            until = time.monotonic() + TIMEOUT
            children: list[int] = []
            while time.monotonic() < until and process.poll() is None:
                started = [path for path in runs.glob(".guarded-*/freqtrade.log") if path.stat().st_size]
                if list(runs.glob("raw-*")) and started:
                    children = _children(process.pid)
                    break
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        return {
            "status": process.returncode,
            "children": children,
            "finished": sorted(path.name for path in runs.glob("[a-z]*")),
            "unfinished": sorted(path.name for path in runs.glob(".*")),
        }


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
    return [int(each) for each in found.split()]


def _ends(process: int, within: float = 120.0) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return Compared(tmp_path_factory.mktemp("compared"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start no backtest, and note which would have been."""
    names: list[str] = []

    def note(jobs: list[Job], *_: Any) -> Iterator[Any]:
        names.extend(job.name for job in jobs)
        yield from ()

    monkeypatch.setattr(comparing.execute, "execute", note)
    return names


def trades(run: dict[str, Any]) -> pd.DataFrame:
    from freqtrade.data.btanalysis import load_backtest_data

    return load_backtest_data(Path(run["export"]))


# -- Killed and resumed ------------------------------------------------------------------------------------------------


def test_compare_when_killed_then_finished_runs_stay_and_half_a_run_is_none(compared: Compared) -> None:
    assert compared.killed["status"] == -signal.SIGKILL
    assert [name.rpartition("-")[0] for name in compared.killed["finished"]] == ["raw"]
    assert any(name.startswith(".guarded-") for name in compared.killed["unfinished"])
    assert compared.status == 0
    assert [run["name"] for run in compared.document["runs"]] == RUNS
    assert [run["cached"] for run in compared.document["runs"]] == [True, False, False, False]
    assert not list((compared.output / "runs").glob(".*"))


@pytest.mark.skipif(
    sys.platform != "linux", reason="processes end with the one that started them on Linux only"
)
def test_compare_when_killed_then_its_backtest_ends_too(compared: Compared) -> None:
    assert compared.killed["children"]
    assert all(_ends(process) for process in compared.killed["children"])
    assert not _ends(os.getpid(), 0.1)


# -- Cached ------------------------------------------------------------------------------------------------------------


def test_compare_when_run_again_then_no_backtest_is_started_and_the_figures_are_the_same(
    compared: Compared, started: list[str]
) -> None:
    status, document = compared.again()
    assert (status, started) == (0, [])
    assert all(run["cached"] for run in document["runs"])
    assert [run["figures"] for run in document["runs"]] == [
        run["figures"] for run in compared.document["runs"]
    ]


def test_compare_when_something_changed_then_everything_runs_again_until_it_is_taken_back(
    compared: Compared, started: list[str]
) -> None:
    candles = next((compared.prepared.datadir / "futures").glob("BTC*1h-futures.feather"))
    before = {file: file.read_bytes() for file in (compared.config, candles)}
    try:
        changed = pd.read_feather(candles)
        changed.loc[len(changed) - 100, "close"] *= 1.0001
        changed.to_feather(candles)
        compared.again()
        assert started == RUNS
        candles.write_bytes(before[candles])
        started.clear()
        config = json.loads(before[compared.config])
        compared.config.write_text(json.dumps(config | {"plimsoll": {"risk": {"per_trade": 0.009}}}))
        compared.again()
        assert started == RUNS
    finally:
        for file, content in before.items():
            file.write_bytes(content)
    started.clear()
    assert compared.again()[0] == 0
    assert started == []


# -- What was run ------------------------------------------------------------------------------------------------------


def test_compare_when_it_ran_then_the_guarded_run_is_the_backtest_run_by_hand(
    compared: Compared, tmp_path: Path
) -> None:
    prepared = compared.prepared
    command = [
        "backtesting",
        "--cache",
        "none",
        "--datadir",
        str(prepared.datadir),
        "--timerange",
        prepared.timerange,
    ]
    command += [
        "--strategy",
        "GuardedEmaCross",
        "--strategy-path",
        str(ROOT / "strategies"),
        "--max-open-trades",
        "3",
    ]
    with LoopbackExchange(prepared.pairs) as exchange:
        run_freqtrade(
            command,
            user_data=tmp_path,
            configs=[compared.config],
            exchange_url=exchange.url,
            pairs=prepared.pairs,
        ).check()
    by_hand = load_backtest(tmp_path, "GuardedEmaCross")["trades"]
    assert len(by_hand) > 5
    pd.testing.assert_frame_equal(trades(compared.run("guarded")), by_hand)


def test_compare_when_a_layer_is_off_then_its_rule_is_in_no_plan_and_the_others_are(
    compared: Compared,
) -> None:
    rules = {}
    for name in ("guarded", f"without {LAYER}"):
        records = read_journal(Path(compared.run(name)["journal"]))
        plans = [record for record in records if record["kind"] == "plan"]
        assert plans
        rules[name] = {answer["rule"] for plan in plans for answer in plan["answers"]}
        assert not any(record["kind"] == "fault" for record in records)
    guarded, without = rules.values()
    assert LAYER in guarded
    assert LAYER not in without
    # The smallest order an exchange takes is only spoken of where the size is under it.
    assert without >= guarded - {LAYER, "minimum_stake"}
    assert len(without) > 15


def test_compare_when_leverage_is_forced_then_every_trade_has_it_and_the_audit_tells_the_rest(
    compared: Compared,
) -> None:
    forced, audit = compared.run("raw at 20x"), compared.run("raw at 20x")["audit"]
    made = trades(forced)
    assert len(made) == audit["trades"] > 5
    assert (made["leverage"] == 20.0).all()
    assert (trades(compared.run("raw"))["leverage"] == 5.0).all()
    assert audit["clipped"] == 0
    assert audit["stops_beyond"] == len(made)  # at 99 % of the margin
    assert audit["liquidated"] == (made["exit_reason"] == "liquidation").sum()
    assert compared.run("guarded")["audit"] is None


def test_compare_when_it_ran_then_the_comparison_leads_to_every_export_and_journal(
    compared: Compared,
) -> None:
    known: Comparison = compared.comparison
    assert [run.name for run in known.runs] == RUNS
    assert known.timerange == compared.prepared.timerange
    assert known.pairs == compared.prepared.pairs
    assert known.settings["streak"]["cooldown_losses"] == 2
    for run in known.runs:
        assert (compared.output / run.export).is_file()
        assert (run.journal is not None) is (run.kind in ("guarded", "without"))
        assert run.journal is None or (compared.output / run.journal).is_file()
        assert run.seconds > 0.0


def test_compare_when_trades_left_at_an_open_then_their_worst_prices_leave_the_exits_candle_out(
    compared: Compared,
) -> None:
    better = 0
    for run in compared.comparison.runs:
        assert run.worst_prices is not None
        worst = json.loads((compared.output / run.worst_prices).read_text())
        [stats] = load_backtest_stats(compared.output / run.export)["strategy"].values()
        assert len(worst) == len(stats["trades"]) > 5
        for price, made in zip(worst, stats["trades"], strict=True):
            fills = (made["open_rate"], made["close_rate"])
            short, tick = made["is_short"], 1e-3 * made["open_rate"]
            if short:
                assert max(fills) <= price <= made["max_rate"] + tick
            else:
                assert min(fills) >= price >= made["min_rate"] - tick
            left_out = abs(price - made["max_rate" if short else "min_rate"]) > tick
            better += left_out and made["exit_reason"] == "exit_signal"
    assert better > 5
    assert compared.run("raw at 20x")["audit"]["by_export"] == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layers", "strike"), "--layers must be of leverage"),
        (("--strategy", "Nope"), "Impossible to load Strategy 'Nope'"),
    ],
)
def test_compare_when_freqtrade_or_a_layer_does_not_fit_then_says_why_and_ends_with_1(
    compared: Compared, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert main([*compared.arguments, *options]) == 1
    assert said in capsys.readouterr().err
