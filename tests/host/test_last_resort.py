"""Stops that must not be lost: the price already past them, a failing rule, a reused id, a loop that fails."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.persistence import disable_database_use, enable_database_use
from host_database import database

from plimsoll.host.account import Book, loss_at_stop
from plimsoll.host.breakers import Breakers
from plimsoll.host.last_resort import planned_stop_at_least, through_the_rate
from plimsoll.host.planner import Planner
from plimsoll.journal import read
from plimsoll.settings import load


@pytest.fixture
def offline() -> Any:
    disable_database_use("1h")
    yield
    enable_database_use()


def trade(side: str = "long", stop: float | None = 80.0, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "is_short": side == "short",
        "open_rate": 100.0,
        "leverage": 5.0,
        "stop_loss": stop,
        "id": 1,
    }
    return SimpleNamespace(**(values | changes))


def stop_at(side: str, rate: float, ratio: float) -> float:
    return rate * (1 - ratio / 5.0) if side == "long" else rate * (1 + ratio / 5.0)


@pytest.mark.parametrize(("side", "rate", "base"), [("long", 97.0, 80.0), ("short", 103.0, 120.0)])
def test_stop_when_the_price_has_passed_it_then_it_is_set_at_the_rate_and_exits(
    side: str, rate: float, base: float
) -> None:
    answer = planned_stop_at_least(trade(side, base), 0.02, rate, None, after_fill=False)
    assert answer is not None
    assert stop_at(side, rate, answer) == pytest.approx(rate, rel=1e-8)
    assert answer > 0.0  # Freqtrade takes 0 for "keep the stop"


def test_stop_when_the_price_has_passed_it_in_a_backtest_then_the_standing_stop_decides(offline: Any) -> None:
    assert through_the_rate(trade()) is None


@pytest.mark.parametrize(
    ("side", "rate", "base", "planned"), [("long", 101.0, 80.0, 98.0), ("short", 99.0, 120.0, 102.0)]
)
def test_stop_when_nothing_was_answered_then_the_planned_one_is(
    side: str, rate: float, base: float, planned: float
) -> None:
    answer = planned_stop_at_least(trade(side, base), 0.02, rate, None, after_fill=True)
    assert answer is not None
    assert stop_at(side, rate, answer) == pytest.approx(planned)


@pytest.mark.parametrize("after_fill", [True, False])
def test_stop_when_the_answer_is_tighter_than_planned_then_it_is_kept_and_wider_then_not(
    after_fill: bool,
) -> None:
    tighter, wider = 0.05, 0.5  # 99 and 90 at a rate of 100
    assert planned_stop_at_least(trade(), 0.02, 100.0, tighter, after_fill=after_fill) == tighter
    answer = planned_stop_at_least(trade(), 0.02, 100.0, wider, after_fill=after_fill)
    assert stop_at("long", 100.0, answer or 0.0) == pytest.approx(98.0)


def test_positions_when_an_addition_rests_then_it_counts_with_its_margin_notional_and_risk() -> None:
    order = SimpleNamespace(ft_order_side="buy", safe_amount=1.0, ft_price=100.0)
    filled = trade(
        stop=98.0,
        pair="BTC/USDT:USDT",
        amount=2.0,
        has_open_position=True,
        stake_amount=40.0,
        fee_open=0.0,
        fee_close=0.0,
        entry_side="buy",
        open_orders=[],
    )
    book = Book(SimpleNamespace(config={}), slippage=0.0)  # type: ignore[arg-type]
    book.trades = lambda: [filled]  # type: ignore[method-assign]
    (before,) = book.positions(lambda _: None)
    assert (before.notional, before.margin) == (200.0, 40.0)
    assert before.risk == pytest.approx(4.0)
    filled.open_orders = [order, SimpleNamespace(ft_order_side="sell", safe_amount=9.0, ft_price=100.0)]
    (after,) = book.positions(lambda _: None)
    assert (after.notional, after.margin) == (300.0, 60.0)
    assert after.risk == pytest.approx(6.0)


@pytest.mark.parametrize("name", ["stop_loss", "amount", "open_rate", "fee_close"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["long", "short"])
def test_risk_when_a_trades_numbers_are_unusable_then_it_is_the_whole_margin(
    name: str, value: float, side: str
) -> None:
    held = trade(side, 98.0, amount=2.0, stake_amount=40.0, fee_open=0.0, fee_close=0.0)
    setattr(held, name, value)
    assert loss_at_stop(held, slippage=0.0) == 40.0


def planner() -> Planner:
    config: dict[str, Any] = {"user_data_dir": "/nowhere", "runmode": None}
    strategy: Any = SimpleNamespace(config=config, timeframe="1h", stoploss=-0.1, dp=None, wallets=None)
    return Planner(strategy, load())


def test_loop_when_it_fails_then_entries_are_blocked_until_one_succeeds() -> None:
    made = planner()
    made.trading.watch = SimpleNamespace(blocker=None, misfit=None, restore=lambda breakers: False)  # type: ignore[assignment]
    made.run().collect = lambda now: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with database(), pytest.raises(ZeroDivisionError):
        made.loop(datetime.now(UTC))
    blocking = [answer for answer in made.gates.answers("BTC/USDT:USDT") if answer.blocks]
    assert [answer.rule for answer in blocking] == ["breakers"]
    assert "the last loop failed" in blocking[0].reason


def test_thread_when_it_is_not_the_loops_then_it_is_told_apart() -> None:
    made = planner()
    assert made.is_own_thread()
    made._thread = -1
    assert not made.is_own_thread()


def test_breakers_when_the_baseline_cannot_be_read_then_a_run_exists_all_the_same() -> None:
    breakers = Breakers(load({"decay": {"baseline": "/nowhere.json"}}), confirmations=2)
    assert "decay" not in breakers.by_trade
    assert "drawdown" in breakers.by_equity


def test_journal_when_it_cannot_be_read_then_it_is_empty_and_nothing_is_raised(tmp_path: Path) -> None:
    assert read(tmp_path) == []  # a directory
    (tmp_path / "bytes").write_bytes(b'\xff\xfe{"kind":"a"}\n[1]\n{"kind":"b"}\n')
    assert read(tmp_path / "bytes") == [{"kind": "b"}]


def test_analysis_when_our_own_preparation_fails_then_the_pair_is_blocked() -> None:
    from pandas import DataFrame

    from plimsoll.host.guarded import _Guard

    made = planner()
    made.starting = False
    made.inputs.prepare = lambda pair, frame: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    strategy: Any = SimpleNamespace(_planner=made)
    with pytest.raises(ZeroDivisionError):
        _Guard.populate_indicators(strategy, DataFrame(), {"pair": "BTC/USDT:USDT"})
    assert "populate_indicators" in {
        answer.rule for answer in made.gates.answers("BTC/USDT:USDT") if answer.blocks
    }
    assert "populate_indicators" not in {answer.rule for answer in made.gates.answers("ETH/USDT:USDT")}
