"""The liquidation audit, on trades made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plimsoll.audit import Audit, audit
from plimsoll.market.runner import Backtest

# 10x with a maintenance margin of 0.4 %: a long is liquidated 9.6386 % under its entry, buffered by 5 % at 90.8434; a short
# 9.5618 % above it, buffered at 109.0837.
LONG, SHORT = 90.8434, 109.0837


def trade(**values: Any) -> dict[str, Any]:
    """Describe a trade of 100 USDT margin at 10x that moved nowhere, its stop 2 % away."""
    short = bool(values.get("is_short"))
    made: dict[str, Any] = {
        "pair": "BTC/USDT:USDT",
        "is_short": False,
        "open_rate": 100.0,
        "amount": 10.0,
        "stake_amount": 100.0,
        "leverage": 10.0,
        "profit_ratio": 0.0,
        "exit_reason": "exit_signal",
        "initial_stop_loss_abs": 102.0 if short else 98.0,
        "stop_loss_abs": 102.0 if short else 98.0,
        "min_rate": 100.0,
        "max_rate": 100.0,
        "worst_rate": None,
    }
    return made | values


def audited(*trades: dict[str, Any], leverage: float | None = 10.0) -> Audit:
    frame = pd.DataFrame(trades, columns=list(trade()))
    return audit(Backtest(strategy="Any", stats={}, trades=frame, path=Path("any.zip")), 0.05, leverage)


@pytest.mark.parametrize(
    ("short", "worst", "reached"),
    [(False, LONG + 0.01, 0), (False, LONG - 0.01, 1), (True, SHORT - 0.01, 0), (True, SHORT + 0.01, 1)],
)
def test_audit_when_the_price_came_near_liquidation_then_counts_only_those_it_reached(
    short: bool, worst: float, reached: int
) -> None:
    found = audited(trade(is_short=short, **{"max_rate" if short else "min_rate": worst}))
    assert found.reached == reached
    assert found.nearest == pytest.approx((-1 if reached else 1) * 0.01 / worst, abs=2e-6)


@pytest.mark.parametrize("short", [False, True])
def test_audit_when_the_price_went_the_good_way_then_only_the_bad_one_counts(short: bool) -> None:
    found = audited(
        trade(is_short=short, min_rate=50.0 if short else 99.0, max_rate=101.0 if short else 200.0)
    )
    assert found.reached == 0
    line, worst = (SHORT, 101.0) if short else (LONG, 99.0)
    assert found.nearest == pytest.approx(abs(line - worst) / worst, abs=2e-6)


@pytest.mark.parametrize(
    ("short", "stop", "beyond"),
    [(False, LONG + 0.01, 0), (False, LONG - 0.01, 1), (True, SHORT - 0.01, 0), (True, SHORT + 0.01, 1)],
)
def test_audit_when_a_stop_lay_beyond_liquidation_then_counts_it(
    short: bool, stop: float, beyond: int
) -> None:
    found = audited(trade(is_short=short, initial_stop_loss_abs=stop, stop_loss_abs=stop))
    assert found.stops_beyond == beyond


@pytest.mark.parametrize(
    ("ratio", "whole", "over"), [(-0.9499, 0, 0), (-0.95, 1, 0), (-1.0, 1, 0), (-1.0001, 1, 1)]
)
def test_audit_when_a_trade_loses_its_margin_then_counts_it_and_what_is_over_it(
    ratio: float, whole: int, over: int
) -> None:
    found = audited(trade(profit_ratio=ratio))
    assert (found.whole_margins, found.over_margin) == (whole, over)


def test_audit_when_trades_were_lost_then_distances_are_those_of_the_others() -> None:
    lost = trade(min_rate=80.0, profit_ratio=-0.97)
    liquidated = trade(min_rate=90.0, profit_ratio=-0.92, exit_reason="liquidation")
    found = audited(lost, liquidated, *(trade(min_rate=rate) for rate in (95.0, 96.0, 97.0)))
    assert (found.trades, found.liquidated, found.reached, found.whole_margins) == (5, 1, 2, 1)
    distances = [(rate - LONG) / rate for rate in (95.0, 96.0, 97.0)]
    assert found.nearest == pytest.approx(distances[0], abs=2e-6)
    assert found.fifth_percentile == pytest.approx(distances[0] * 0.9 + distances[1] * 0.1, abs=2e-6)
    assert found.median == pytest.approx(distances[1], abs=2e-6)


@pytest.mark.parametrize(("short", "line"), [(False, LONG), (True, SHORT)])
def test_audit_when_the_candles_know_the_worst_price_then_the_exports_is_not_asked(
    short: bool, line: float
) -> None:
    rates = {"is_short": short, "min_rate": 50.0, "max_rate": 200.0}
    outside, inside = (line - 0.01, line + 0.01) if short else (line + 0.01, line - 0.01)
    assert audited(trade(**rates), trade(**rates, worst_rate=outside)).by_export == 1
    for worst, reached in ((outside, 0), (inside, 1)):
        found = audited(trade(**rates, worst_rate=worst))
        assert (found.reached, found.by_export) == (reached, 0)
        assert found.nearest == pytest.approx((-1 if reached else 1) * 0.01 / worst, abs=2e-6)


@pytest.mark.parametrize("rounded", [LONG + 0.01, LONG - 0.01])
def test_audit_when_a_trade_was_liquidated_then_rounding_its_exit_does_not_take_it_from_those_that_reached(
    rounded: float,
) -> None:
    found = audited(trade(worst_rate=rounded, profit_ratio=-0.92, exit_reason="liquidation"))
    assert (found.liquidated, found.reached, found.nearest) == (1, 1, None)


def test_audit_when_leverage_was_clipped_then_counts_the_trades_that_got_less() -> None:
    assert audited(trade(), trade(leverage=5.0)).clipped == 1
    assert audited(trade(), trade(leverage=5.0), leverage=5.0).clipped == 0
    assert audited(trade(leverage=5.0), leverage=None).clipped == 0


def test_audit_when_there_is_no_tier_then_liquidation_is_unknown_and_nothing_is_guessed() -> None:
    found = audited(trade(pair="NOPE/USDT:USDT", min_rate=1.0))
    assert (found.unknown, found.reached, found.stops_beyond, found.nearest) == (1, 0, 0, None)


def test_audit_when_there_was_no_trade_then_tells_none() -> None:
    found = audited()
    assert (found.trades, found.reached, found.nearest, found.median) == (0, 0, None, None)
