"""The figures of a backtest, from trades and journal records made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plimsoll.figures import bound, figures
from plimsoll.market.runner import Backtest

HOUR = 3_600_000


def trade(**values: Any) -> dict[str, Any]:
    """Describe a long of 100 USDT margin at 5x, closed after an hour without profit."""
    made: dict[str, Any] = {
        "pair": "BTC/USDT:USDT",
        "is_short": False,
        "open_timestamp": 0,
        "close_timestamp": HOUR,
        "open_rate": 100.0,
        "amount": 5.0,
        "stake_amount": 100.0,
        "max_stake_amount": 100.0,
        "leverage": 5.0,
        "profit_ratio": 0.0,
        "profit_abs": 0.0,
        "exit_reason": "exit_signal",
        "initial_stop_loss_abs": 95.0,
        "stop_loss_abs": 95.0,
    }
    return made | values


def backtest(*trades: dict[str, Any]) -> Backtest:
    stats = {
        "final_balance": 1000.0,
        "profit_total": 0.0,
        "max_drawdown_account": 0.0,
        "starting_balance": 1000.0,
    }
    frame = pd.DataFrame(trades, columns=list(trade()))
    return Backtest(strategy="Any", stats=stats, trades=frame, path=Path("any.zip"))


def outcome(realised_r: float, stop: float | None = 0.05) -> dict[str, Any]:
    return {
        "kind": "outcome",
        "pair": "BTC/USDT:USDT",
        "opened": 0,
        "realised_r": realised_r,
        "stop_price_ratio": stop,
    }


def plan(second: int, refusal: str | None = None, size: str = "kelly") -> dict[str, Any]:
    return {
        "kind": "plan",
        "time": second,
        "pair": "BTC/USDT:USDT",
        "side": "long",
        "granted": refusal is None,
        "refusal": refusal,
        "bound_leverage": "leverage_cap",
        "bound_size": size,
    }


# 5x with a maintenance margin of 0.4 % is liquidated 19.68 % under a long's entry, buffered by 5 %: at 81.31;
# a short at 118.57 (0.1952 / 1.004 above, buffered: 118.47).
@pytest.mark.parametrize(
    ("short", "stop", "outside"), [(False, 81.4, 0), (False, 81.2, 1), (True, 118.4, 0), (True, 118.6, 1)]
)
def test_figures_when_a_stop_is_near_liquidation_then_count_those_behind_it(
    short: bool, stop: float, outside: int
) -> None:
    found = figures(backtest(trade(is_short=short, initial_stop_loss_abs=stop, stop_loss_abs=stop)), [], 0.05)
    assert found.stops_outside == outside


def test_figures_when_the_planned_stop_was_never_set_then_count_the_stop_that_stood() -> None:
    unset = backtest(trade(initial_stop_loss_abs=80.0, stop_loss_abs=80.0))
    tightened = backtest(trade(initial_stop_loss_abs=80.0, stop_loss_abs=96.0))
    assert figures(unset, [outcome(-1.0)], 0.05).stops_outside == 1
    assert figures(tightened, [outcome(-1.0)], 0.05).stops_outside == 0


@pytest.mark.parametrize(("realised", "beyond"), [(-1.05, 0), (-1.0501, 1)])
def test_figures_when_a_trade_loses_over_its_r_then_count_it(realised: float, beyond: int) -> None:
    found = figures(backtest(trade()), [outcome(realised)], 0.05)
    assert found.worst_r == realised
    assert found.beyond_r == beyond


@pytest.mark.parametrize(("ratio", "whole"), [(-0.949, 0), (-0.95, 1)])
def test_figures_when_a_trade_loses_its_margin_then_count_it(ratio: float, whole: int) -> None:
    found = figures(backtest(trade(profit_ratio=ratio, exit_reason="liquidation")), [], 0.05)
    assert found.whole_margin_losses == whole
    assert found.liquidations == 1
    assert found.worst_margin == ratio


def test_figures_when_trades_overlap_then_margin_is_of_the_balance_of_that_time() -> None:
    first = trade(profit_abs=-500.0)
    second = trade(open_timestamp=0, close_timestamp=2 * HOUR)
    # Opens as the first one closes: 200 of the 500 that are left.
    third = trade(open_timestamp=HOUR, close_timestamp=2 * HOUR)
    assert figures(backtest(first, second), [], 0.05).max_margin == pytest.approx(0.2)
    assert figures(backtest(first, second, third), [], 0.05).max_margin == pytest.approx(0.4)


def test_figures_when_there_was_no_trade_then_tell_none() -> None:
    found = figures(backtest(), [], 0.05)
    assert (found.trades, found.liquidations, found.stops_outside, found.max_margin) == (0, 0, 0, 0.0)
    assert (found.worst_margin, found.worst_r, found.beyond_r, found.mean_leverage) == (None,) * 4


def test_bound_when_a_plan_was_lowered_then_counts_it_once_as_it_ended() -> None:
    found = bound([plan(0), plan(0, size="available"), plan(1, "total_margin: full"), {"kind": "fault"}])
    assert found.granted == 1
    assert found.size == {"available": 1}
    assert found.leverage == {"leverage_cap": 1}
    assert found.refused == {"total_margin": 1}
    assert found.faults == 1


def test_bound_when_a_breaker_reports_twice_while_tripped_then_counts_one_trip() -> None:
    states = [False, True, True, False, True]
    records = [{"kind": "breaker", "breaker": "streak", "pair": "*", "blocked": state} for state in states]
    calm = [{"kind": "breaker", "breaker": "decay", "pair": "*", "blocked": False}]
    assert bound(records + calm).tripped == {"streak": 2}
