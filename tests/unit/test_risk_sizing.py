"""Notional from risk, and that a trade which exits at its stop loses R in Freqtrade's own books."""

import math

import pytest
from freqtrade.persistence import LocalTrade

from plimsoll.rules.answer import Kind, Outcome
from plimsoll.rules.sizing import loss_at_stop_ratio, planned_risk, risk_size
from plimsoll.rules.stops import stop_price

GARBAGE = [math.nan, math.inf, -math.inf, None, "5", True, [], 10**400]
SIDES = ["long", "short"]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("leverage", [1.0, 2.0, 3.0, 5.0])
@pytest.mark.parametrize("distance", [0.005, 0.04, 0.15])
@pytest.mark.parametrize("fees", [(0.0005, 0.0005), (0.0002, 0.001), (0.0, 0.0)])
def test_loss_when_a_trade_exits_at_its_stop_then_r_at_any_leverage_and_side(side, leverage, distance, fees):
    equity, rate = 10_000.0, 43.21
    loss = loss_at_stop_ratio(
        side=side, stop_price_ratio=distance, fee_open=fees[0], fee_close=fees[1], slippage=0.0
    )
    notional = risk_size(equity=equity, risk_per_trade=0.01, loss_at_stop_ratio=loss).value
    trade = LocalTrade(
        pair="BTC/USDT:USDT",
        open_rate=rate,
        stake_amount=notional / leverage,
        amount=notional / rate,
        fee_open=fees[0],
        fee_close=fees[1],
        leverage=leverage,
        is_short=side == "short",
        exchange="binance",
    )
    trade.recalc_open_trade_value()

    profit = trade.calculate_profit(stop_price(side=side, rate=rate, stop_price_ratio=distance))

    assert profit.profit_abs == pytest.approx(-100.0, abs=1e-7)
    assert planned_risk(notional=notional, loss_at_stop_ratio=loss) == pytest.approx(100.0)


@pytest.mark.parametrize(("side", "exit_value"), [("long", 0.9), ("short", 1.1)])
def test_loss_when_stated_then_fees_once_each_side_and_slippage_on_the_exit_value(side, exit_value):
    loss = loss_at_stop_ratio(
        side=side, stop_price_ratio=0.1, fee_open=0.001, fee_close=0.002, slippage=0.003
    )

    assert loss == pytest.approx(0.1 + 0.001 + 0.005 * exit_value)


@pytest.mark.parametrize("name", ["side", "stop_price_ratio", "fee_open", "fee_close", "slippage"])
@pytest.mark.parametrize("value", [-0.001, *GARBAGE], ids=lambda value: str(value)[:8])
def test_loss_when_an_input_is_garbage_then_nan(name, value):
    known = {"side": "long", "stop_price_ratio": 0.1, "fee_open": 0.001, "fee_close": 0.001, "slippage": 0.0}

    assert math.isnan(loss_at_stop_ratio(**{**known, name: value}))


@pytest.mark.parametrize(
    ("side", "ratio", "known"),
    [("long", 0.999, True), ("long", 1.0, False), ("short", 1.0, True), ("short", 0.0, False)],
)
def test_loss_when_the_stop_is_all_of_the_price_away_then_nan_for_a_long(side, ratio, known):
    loss = loss_at_stop_ratio(side=side, stop_price_ratio=ratio, fee_open=0.0, fee_close=0.0, slippage=0.0)

    assert math.isfinite(loss) is known


def test_size_when_inputs_are_known_then_equity_times_risk_over_loss():
    answer = risk_size(equity=10_000.0, risk_per_trade=0.01, loss_at_stop_ratio=0.05)

    assert (answer.kind, answer.outcome, answer.value) == (
        Kind.NOTIONAL,
        Outcome.FINE,
        pytest.approx(2_000.0),
    )
    assert "100" not in answer.reason or "2000.00" in answer.reason


@pytest.mark.parametrize(
    ("risk", "outcome"),
    [
        (0.0, Outcome.BREACHED),
        (1e-9, Outcome.FINE),
        (1.0, Outcome.FINE),
        (1.0001, Outcome.UNKNOWN),
        (-0.01, Outcome.UNKNOWN),
    ],
)
def test_size_when_risk_is_at_a_bound_then_refused_or_allowed(risk, outcome):
    assert risk_size(equity=10_000.0, risk_per_trade=risk, loss_at_stop_ratio=0.05).outcome is outcome


@pytest.mark.parametrize("name", ["equity", "risk_per_trade", "loss_at_stop_ratio"])
@pytest.mark.parametrize("value", [-1.0, *GARBAGE], ids=lambda value: str(value)[:8])
def test_size_when_an_input_is_garbage_then_unknown(name, value):
    answer = risk_size(
        **{"equity": 10_000.0, "risk_per_trade": 0.01, "loss_at_stop_ratio": 0.05, name: value}
    )

    assert (answer.outcome, answer.value) == (Outcome.UNKNOWN, None)


@pytest.mark.parametrize(
    ("notional", "loss"), [(math.nan, 0.05), (-1.0, 0.05), (100.0, 0.0), (100.0, None), ("a", 0.05)]
)
def test_planned_risk_when_an_input_is_garbage_then_nan(notional, loss):
    assert math.isnan(planned_risk(notional=notional, loss_at_stop_ratio=loss))


def test_planned_risk_when_nothing_is_held_then_zero():
    assert planned_risk(notional=0.0, loss_at_stop_ratio=0.05) == 0.0
