"""Nanoseconds per call of every rule that a plan asks, of the whole plan, and of preparing a pair's candles.

The arguments are those of an ordinary entry that is granted, with five positions open. A rule has no counterpart in Freqtrade, so
it is given as a share of the time that Freqtrade alone takes to enter a trade in a backtest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.freqtrade_alone import Alone, alone
from benchmarks.measure import Record, nanoseconds_per_call, record
from benchmarks.stage import START
from plimsoll.host.candles import hourly
from plimsoll.plan import Account, Market, Signal, make_plan
from plimsoll.rules import exposure, funding, leverage, stops
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.heat import heat_limit
from plimsoll.rules.kelly import kelly_estimate, kelly_limit
from plimsoll.rules.liquidation import MaintenanceTier, liquidation_price
from plimsoll.rules.regime import volatility_regime
from plimsoll.rules.reward_risk import reward_to_risk
from plimsoll.rules.risk_budget_stop import stop_ratio_within_risk
from plimsoll.rules.sizing import loss_at_stop_ratio, risk_size
from plimsoll.rules.volatility_budget import volatility_budget
from plimsoll.settings import load

BENCHMARK = "rules"
EQUITY, NOTIONAL, RATE, STOP, LOSS, FEE = 100_000.0, 5_000.0, 100.0, 0.02, 0.0215, 0.0005
TIERS = tuple(
    MaintenanceTier(low, high, mmr, amount, most)
    for low, high, mmr, amount, most in (
        (0.0, 50_000.0, 0.004, 0.0, 125.0),
        (50_000.0, 600_000.0, 0.005, 50.0, 100.0),
        (600_000.0, 3_000_000.0, 0.01, 3_050.0, 50.0),
        (3_000_000.0, 12_000_000.0, 0.025, 48_050.0, 20.0),
        (12_000_000.0, 70_000_000.0, 0.05, 348_050.0, 10.0),
    )
)
POSITIONS = [
    OpenPosition(f"A{number}/USDT:USDT", f"A{number}", "short" if number % 2 else "long", 500.0, 500.0, 10.0)
    for number in range(5)
]


def run(
    repeats: int = 31, rows: int = 12_000, at_least_ns: int = 500_000, steps: Alone | None = None
) -> list[Record]:
    """Measure everything and return the records."""
    records, steps = [], steps or alone()
    entry = (steps.entry_ns, "Freqtrade's own entry")
    for name, function in cases().items():
        spent = nanoseconds_per_call(function, repeats=repeats, at_least_ns=at_least_ns)
        records.append(record(BENCHMARK, name, spent, "ns", against=entry))
    frame, settings = candles(rows), load()
    spent = nanoseconds_per_call(lambda: hourly(frame, settings), repeats=repeats, at_least_ns=at_least_ns)
    name = f"hourly() of {rows:,} candles"
    walked = (steps.candle_ns * rows / 1e6, "Freqtrade's own walk over them")
    return [*records, record(BENCHMARK, name, [each / 1e6 for each in spent], "ms", against=walked)]


def cases() -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name."""
    settings = load()
    returns = list(np.random.default_rng(3).normal(0.002, 0.02, 200))
    estimate = kelly_estimate(returns, multiple=0.25, shrink_trades=100.0, min_trades=30)
    signal = Signal(time=0, pair="BTC/USDT:USDT", side="long", rate=RATE, own_leverage=3.0)
    forced = Signal(time=0, pair="BTC/USDT:USDT", side="long", rate=RATE, fixed_leverage=1.0)
    market = Market(
        atr=1.0,
        sigma_day=0.03,
        daily_range=0.05,
        fee=FEE,
        exchange_maximum=50.0,
        liquidation_buffer=0.05,
        tiers=TIERS,
        funding_per_day=0.0003,
    )
    account = Account(equity=EQUITY, positions=POSITIONS, kelly=estimate, correlation=0.8)
    alone = Account(equity=EQUITY, positions=[], kelly=estimate)
    return {
        "leverage_cap": lambda: leverage.leverage_cap(cap=5.0, exchange_maximum=50.0, proposed=3.0),
        "volatility_regime": lambda: volatility_regime(sigma_day=0.03),
        "atr_stop": lambda: stops.atr_stop(atr=1.0, rate=RATE, own_stop_price_ratio=0.05),
        "loss_at_stop_ratio": lambda: loss_at_stop_ratio(
            side="long", stop_price_ratio=STOP, fee_open=FEE, fee_close=FEE, slippage=0.0005
        ),
        "leverage_from_stop": lambda: leverage.leverage_from_stop(
            stop_price_ratio=STOP,
            side="long",
            tiers=TIERS,
            notional=NOTIONAL,
            fee=FEE,
            funding_per_day=0.0003,
        ),
        "leverage_from_liquidation": lambda: leverage.leverage_from_liquidation(
            side="long", tiers=TIERS, notional=NOTIONAL, cap=5.0, daily_range=0.05
        ),
        "risk_size": lambda: risk_size(equity=EQUITY, risk_per_trade=0.01, loss_at_stop_ratio=LOSS),
        "volatility_budget": lambda: volatility_budget(equity=EQUITY, sigma_day=0.03),
        "kelly_limit": lambda: kelly_limit(
            estimate=estimate, equity=EQUITY, loss_at_stop_ratio=LOSS, open_trades=5, correlation=0.8
        ),
        "position_margin": lambda: exposure.position_margin(equity=EQUITY, ratio=0.2),
        "total_margin": lambda: exposure.total_margin(equity=EQUITY, ratio=0.15, positions=POSITIONS),
        "asset_margin": lambda: exposure.asset_margin(
            equity=EQUITY, ratio=0.25, positions=POSITIONS, asset="BTC"
        ),
        "gross_notional": lambda: exposure.gross_notional(equity=EQUITY, ratio=3.0, positions=POSITIONS),
        "net_notional": lambda: exposure.net_notional(
            equity=EQUITY, ratio=2.0, positions=POSITIONS, side="long"
        ),
        "heat_limit": lambda: heat_limit(equity=EQUITY, positions=POSITIONS, loss_at_stop_ratio=LOSS),
        "side_cap": lambda: exposure.side_cap(
            side="long", positions=POSITIONS, max_long=None, max_short=None
        ),
        "reward_to_risk": lambda: reward_to_risk(
            side="long", rate=RATE, target_price=110.0, loss_at_stop_ratio=LOSS, fees=2 * FEE
        ),
        "funding_gate": lambda: funding.funding_gate(
            funding_per_day=0.0003, side="long", hold_hours=24.0, loss_at_stop_ratio=LOSS
        ),
        "stop_ratio_within_risk": lambda: stop_ratio_within_risk(
            side="long",
            stop_price_ratio=STOP,
            risk_ratio=LOSS,
            paid_ratio=0.0002,
            fee_open=FEE,
            fee_close=FEE,
            slippage=0.0005,
        ),
        "liquidation_price": lambda: liquidation_price(
            side="long", open_rate=RATE, amount=50.0, margin=2_500.0, tiers=TIERS, buffer=0.05
        ),
        "kelly_estimate of 200 trades": lambda: kelly_estimate(
            returns, multiple=0.25, shrink_trades=100.0, min_trades=30
        ),
        "make_plan, none open": lambda: make_plan(signal, market, alone, settings),
        "make_plan, 5 open": lambda: make_plan(signal, market, account, settings),
        "make_plan, 5 open, leverage given": lambda: make_plan(forced, market, account, settings),
    }


def candles(rows: int) -> pd.DataFrame:
    """Return 1h candles of a random walk."""
    steps = np.random.default_rng(5).normal(0.0, 0.006, (rows, 4))
    close = 100.0 * np.exp(np.cumsum(steps[:, 0]))
    opened = np.concatenate(([100.0], close[:-1]))
    high = np.maximum(opened, close) * np.exp(np.abs(steps[:, 1]))
    low = np.minimum(opened, close) * np.exp(-np.abs(steps[:, 2]))
    dates = pd.date_range(START, periods=rows, freq="1h", unit="ms")
    return pd.DataFrame(
        {"date": dates, "open": opened, "high": high, "low": low, "close": close, "volume": 1.0}
    )
