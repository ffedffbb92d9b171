"""Many simulated markets, each with its flash crash: `make soak`. One of them is part of the suite, in test_demo.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from plimsoll.cli import main
from plimsoll.journal import read

pytestmark = [pytest.mark.freqtrade, pytest.mark.slow]


@pytest.mark.parametrize("seed", range(100, 120))
def test_guarded_strategy_when_the_market_crashes_then_no_trade_loses_more_than_r(
    seed: int, tmp_path: Path
) -> None:
    assert main(["demo", "--seed", str(seed), "--days", "150", "--keep", str(tmp_path)]) == 0
    (journal,) = tmp_path.rglob("GuardedEmaCross-backtest.jsonl")
    records = read(journal)
    assert not [record for record in records if record["kind"] == "fault"]
    outcomes = [record for record in records if record["kind"] == "outcome"]
    assert len(outcomes) > 50
    assert not [outcome for outcome in outcomes if outcome["exit_reason"] == "liquidation"]
    worst = min(outcomes, key=lambda outcome: outcome["realised_r"])
    assert worst["realised_r"] >= -1.05, worst
