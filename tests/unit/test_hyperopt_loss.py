"""The loss function on hand-made results: liquidation and ruin are worse than anything else."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from freqtrade.optimize.hyperopt.hyperopt_optimizer import MAX_LOSS
from freqtrade.resolvers.hyperopt_resolver import HyperOptLossResolver
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.host.hyperopt_loss import LIQUIDATED, ORDINARY, RUINED, PlimsollLoss, loss

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
START = 10_000.0


def results(*trades: tuple[float, float, str], reverse: bool = False) -> pd.DataFrame:
    """Make Freqtrade's frame of closed trades from (profit, profit ratio, exit reason), one a day."""
    rows = [
        {
            "profit_abs": profit,
            "profit_ratio": ratio,
            "exit_reason": reason,
            "close_date": BEGIN + timedelta(days=day),
        }
        for day, (profit, ratio, reason) in enumerate(trades)
    ]
    return pd.DataFrame(rows[::-1] if reverse else rows)


def of(*profits: float, reverse: bool = False) -> float:
    return loss(
        results(*((profit, 0.01, "roi") for profit in profits), reverse=reverse), BEGIN, BEGIN + YEAR, START
    )


WORST_ORDINARY = of(-4_999.0)
LIQUIDATION = (-1.0, -0.5, "liquidation")


def test_loss_when_one_trade_of_many_good_ones_was_liquidated_then_loses_against_the_worst_without() -> None:
    rich = loss(results(*[(50_000.0, 5.0, "roi")] * 20, LIQUIDATION), BEGIN, BEGIN + YEAR, START)
    assert rich > of(-9_999.0) > WORST_ORDINARY
    assert rich == LIQUIDATED + 1.0


@pytest.mark.parametrize(("ratio", "counts"), [(-0.95, True), (-0.9499, False)])
def test_loss_when_a_stop_lost_the_whole_margin_then_counts_as_liquidated(ratio: float, counts: bool) -> None:
    found = loss(results((-100.0, ratio, "stop_loss")), BEGIN, BEGIN + YEAR, START)
    assert (found >= LIQUIDATED) is counts


def test_loss_when_more_trades_were_liquidated_then_is_worse() -> None:
    once, twice = (loss(results(*[LIQUIDATION] * n), BEGIN, BEGIN + YEAR, START) for n in (1, 2))
    assert twice > once > MAX_LOSS


@pytest.mark.parametrize(("lost", "ruined"), [(5_000.0, True), (4_999.0, False)])
def test_loss_when_half_of_the_peak_is_lost_then_is_ruined_though_it_came_back(
    lost: float, ruined: bool
) -> None:
    found = of(-lost, 1_000_000.0)
    assert (RUINED <= found < LIQUIDATED) is ruined
    assert (found < ORDINARY) is not ruined


def test_loss_when_the_peak_was_won_first_then_ruin_is_measured_from_it() -> None:
    assert of(30_000.0, -19_999.0) < RUINED
    assert of(30_000.0, -20_000.0) >= RUINED


@given(
    good=st.lists(st.floats(-4_000.0, 50_000.0), max_size=8),
    bad=st.lists(st.floats(-4_000.0, 50_000.0), max_size=8),
    at=st.integers(0, 8),
)
def test_loss_when_any_epoch_has_a_liquidation_then_loses_against_any_without(
    good: list[float], bad: list[float], at: int
) -> None:
    trades = [(profit, 0.01, "roi") for profit in bad]
    trades.insert(min(at, len(trades)), LIQUIDATION)
    with_one = loss(results(*trades), BEGIN, BEGIN + YEAR, START)
    without = of(*good)
    assert math.isfinite(without)
    assert with_one > without
    assert with_one > MAX_LOSS


def test_loss_when_growth_is_higher_or_drawdown_smaller_then_is_smaller() -> None:
    assert of(2_000.0) < of(1_000.0) < of() == 0.0 < of(-1_000.0) < of(-2_000.0)
    steady, rough = of(500.0, 500.0), of(-2_000.0, 3_000.0)
    assert steady < rough


def test_loss_when_a_year_grew_without_drawdown_then_is_its_logarithm() -> None:
    assert of(2_000.0) == pytest.approx(-ORDINARY * math.tanh(math.log(1.2) / ORDINARY))


def test_loss_when_trades_come_in_another_order_then_is_the_same() -> None:
    assert of(-3_000.0, 5_000.0, -1_000.0) == of(-3_000.0, 5_000.0, -1_000.0, reverse=True)


def test_loss_when_the_period_is_shorter_than_a_day_then_stays_ordinary() -> None:
    frame = results((-4_000.0, -0.1, "stop_loss"))
    assert loss(frame, BEGIN, BEGIN, START) <= ORDINARY
    assert loss(results((90_000.0, 1.0, "roi")), BEGIN, BEGIN, START) >= -ORDINARY


@pytest.mark.parametrize("unknown", [math.nan, math.inf])
def test_loss_when_a_profit_is_no_number_then_is_as_bad_as_liquidation(unknown: float) -> None:
    assert loss(results((unknown, 0.1, "roi")), BEGIN, BEGIN + YEAR, START) >= LIQUIDATED
    assert loss(results((1.0, math.nan, "roi")), BEGIN, BEGIN + YEAR, START) >= LIQUIDATED
    assert loss(results((1.0, 0.1, "roi")), BEGIN, BEGIN + YEAR, unknown) >= LIQUIDATED


def test_loss_when_freqtrade_looks_for_the_drop_in_then_finds_and_asks_it() -> None:
    directory = Path(__file__).parents[2] / "hyperopts"
    config: Any = {"hyperopt_loss": "PlimsollLoss", "hyperopt_path": str(directory), "timeframe": "1h"}
    config["user_data_dir"] = directory
    found = HyperOptLossResolver.load_hyperoptloss(config)
    assert isinstance(found, PlimsollLoss)
    answer = found.hyperopt_loss_function(
        results=results(LIQUIDATION),
        trade_count=1,
        min_date=BEGIN,
        max_date=BEGIN + YEAR,
        config=config,
        processed={},
        backtest_stats={},
        starting_balance=START,
    )
    assert answer == LIQUIDATED + 1.0
