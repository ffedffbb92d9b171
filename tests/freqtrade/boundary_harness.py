"""Run generated strategies in one stock ``freqtrade`` process and judge what they traded."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from plimsoll import journal
from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import CompletedRun, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, MarketData, simulate_market

HERE = Path(__file__).parent
PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
WALLET = 10_000.0
START = datetime(2024, 1, 1, tzinfo=UTC)
WARM_UP_DAYS = 32  # the first day of trading has 745 hours before it

# An exchange that is kept from its work answers late: without an answer an order would be lost.
PATIENT_EXCHANGE: dict[str, Any] = {
    "ccxt_config": {"timeout": 120_000},
    "ccxt_async_config": {"timeout": 120_000},
}
CONFIG: dict[str, Any] = {
    "dry_run": True,
    "dry_run_wallet": WALLET,
    "stake_currency": "USDT",
    "stake_amount": "unlimited",
    "max_open_trades": 4,
    "trading_mode": "futures",
    "margin_mode": "isolated",
    "fee": 0.0005,
    "entry_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "pairlists": [{"method": "StaticPairList"}],
    "exchange": PATIENT_EXCHANGE,
    # Always a cold start, so that the same share of equity is at risk in every trade.
    "plimsoll": {"kelly": {"min_trades": 1000}},
}
RISK = 0.0025  # of equity, in the cold start
PREAMBLE = """
import math
from freqtrade.strategy import *
from plimsoll import Guarded
from boundary_strategies import *
"""


def small_market(days: int, *, seed: int = 5) -> dict[str, MarketData]:
    """Simulate two pairs without a flash crash: no candle gaps through a stop."""
    models = [model for model in DEFAULT_PAIRS if model.pair in PAIRS]
    return simulate_market(seed, WARM_UP_DAYS + days, START, models, flash_crash=False)


def write_user_data(user_data: Path, market: Mapping[str, MarketData], strategies: str = "") -> Path:
    """Make a user directory with a market and one strategy file."""
    write_market(market, user_data / "data" / "binance")
    (user_data / "strategies").mkdir(parents=True, exist_ok=True)
    (user_data / "strategies" / "generated.py").write_text(PREAMBLE + strategies)
    return user_data


@dataclass
class Traded:
    """What one strategy did: its trades as Freqtrade exports them, the notes of fills and closes, the journal."""

    name: str
    trades: pd.DataFrame
    fills: list[dict[str, Any]]
    closes: list[dict[str, Any]]
    journal: list[dict[str, Any]]

    def reasons(self) -> set[str]:
        return set(self.trades["exit_reason"]) if len(self.trades) else set()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.journal if record["kind"] == kind]


@dataclass
class Outcome:
    """A finished process and what its strategies did."""

    run: CompletedRun
    user_data: Path
    by_name: dict[str, Traded] = field(default_factory=dict)


def backtest(
    user_data: Path,
    strategies: Sequence[str],
    *,
    configs: Iterable[Mapping[str, Any]] = (),
    arguments: Sequence[str] = ("--timeframe", "1h"),
    days: int | None = None,
    pairs: Sequence[str] = PAIRS,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> Outcome:
    """Run strategies of the user directory's generated file in one ``freqtrade backtesting``."""
    first = START + pd.Timedelta(days=WARM_UP_DAYS)
    last = "" if days is None else f"{first + pd.Timedelta(days=days):%Y%m%d}"
    period = ("--timerange", f"{first:%Y%m%d}-{last}", "--cache", "none")
    notes = user_data / "notes.jsonl"
    notes.unlink(missing_ok=True)
    with LoopbackExchange(pairs=pairs) as exchange:
        run = run_freqtrade(
            ["backtesting", "--strategy-list", *strategies, *period, *arguments],
            user_data=user_data,
            configs=[CONFIG, *configs],
            exchange_url=exchange.url,
            pairs=pairs,
            env={"PYTHONPATH": str(HERE), "TRADE_NOTES": str(notes), "NO_REPORTS": "1", **(env or {})},
            timeout=1800,
        )
    if check:
        assert run.succeeded, run.output[-6000:]
    outcome = Outcome(run, user_data)
    _load(outcome, notes, strategies)
    return outcome


def _load(outcome: Outcome, notes: Path, strategies: Sequence[str]) -> None:
    noted: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in notes.read_text().splitlines() if notes.exists() else ():
        note = json.loads(line)
        noted.setdefault((note["strategy"], note["kind"]), []).append(note)
    for name in strategies:
        file = outcome.user_data / "plimsoll" / f"{name}-backtest.jsonl"
        closes = noted.get((name, "close"), [])
        outcome.by_name[name] = Traded(
            name,
            pd.DataFrame([note["exported"] for note in closes]),
            noted.get((name, "fill"), []),
            closes,
            journal.read(file) if file.exists() else [],
        )


# -- Judgement ------------------------------------------------------------------------------------------------------------


def faults_of(
    traded: Traded, market: Mapping[str, MarketData], *, timeframe: str = "1h", risk: float = RISK
) -> list[str]:
    """Return everything that must not be, in words: risk beyond the plan, stops out of place or not honoured."""
    found = [*_stop_faults(traded, market, timeframe)]
    for trade in traded.trades.to_dict("records"):
        found += _size_faults(trade, traded, risk)
    return found


def _size_faults(trade: dict[str, Any], traded: Traded, risk: float) -> Iterable[str]:
    name = f"{trade['pair']} {trade['open_date']}"
    if trade["exit_reason"] == "liquidation":
        yield f"{name} was liquidated"
    if trade["leverage"] != int(trade["leverage"]) or not 1 <= trade["leverage"] <= 5:
        yield f"{name} has leverage {trade['leverage']}"
    equity = WALLET * 1.1  # more than any of these runs reaches
    if trade["stake_amount"] > 0.2 * equity:
        yield f"{name} has a margin of {trade['stake_amount']}"
    if trade["profit_abs"] < -1.05 * risk * equity:
        yield f"{name} lost {trade['profit_abs']:.2f}, more than {risk:.2%} of equity ({trade['exit_reason']})"
    outcome = next((o for o in traded.of("outcome") if o["opened"] * 1000 == trade["open_timestamp"]
                    and o["pair"] == trade["pair"]), None)  # fmt: skip
    if outcome is not None and outcome["planned_risk"]:
        realised = trade["profit_abs"] / outcome["planned_risk"]
        if realised < -1.05:
            yield f"{name} lost {-realised:.3f} R ({trade['exit_reason']})"
    plan = plan_of(trade, traded)
    if plan is None:
        if traded.of("plan"):
            yield f"{name} has no granted plan"
        return
    entries = [order for order in trade["orders"] if order["ft_is_entry"]]
    if trade["leverage"] != plan["leverage"]:
        yield f"{name} has leverage {trade['leverage']}, planned {plan['leverage']}"
    if len(entries) == 1 and trade["stake_amount"] > plan["margin"] * 1.001:
        yield f"{name} has a margin of {trade['stake_amount']}, planned {plan['margin']}"


def plan_of(trade: dict[str, Any], traded: Traded) -> dict[str, Any] | None:
    """Return the granted plan a trade was opened with: the last one before its entry was filled."""
    side = "short" if trade["is_short"] else "long"
    plans = [
        plan
        for plan in traded.of("plan")
        if plan["pair"] == trade["pair"]
        and plan["side"] == side
        and plan["time"] * 1000 <= trade["open_timestamp"]
    ]
    return plans[-1] if plans and plans[-1]["granted"] else None


def _stop_faults(traded: Traded, market: Mapping[str, MarketData], timeframe: str) -> Iterable[str]:
    closes = {note["id"]: note for note in traded.closes}
    candles = {
        pair: (data.candles_5m if timeframe == "5m" else data.candles_1h).set_index("date")
        for pair, data in market.items()
    }
    for fill in traded.fills:
        sign = -1.0 if fill["short"] else 1.0
        name = f"{fill['pair']} {datetime.fromtimestamp(fill['time'], UTC)}"
        if fill["liquidation"] is not None and fill["liquidation"] > 0:
            way = (
                sign * (fill["open_rate"] - fill["stop"]) / (sign * (fill["open_rate"] - fill["liquidation"]))
            )
            if way > 0.66:
                yield f"{name}: the stop {fill['stop']} is {way:.0%} of the way to liquidation"
        if fill["leverage"] > 1 and fill["liquidation"] is None:
            yield f"{name}: no liquidation price"
        close = closes.get(fill["id"])
        if close is None:
            yield f"{name}: never closed"
            continue
        # No price beyond the stop between the fill and the close, the candles of both left out.
        length = pd.Timedelta(timeframe)
        first = pd.Timestamp(fill["time"], unit="s", tz="UTC").floor(length) + length
        last = pd.Timestamp(close["time"], unit="s", tz="UTC").floor(length) - length
        held = candles[fill["pair"]].loc[first:last] if fill["pair"] in candles else pd.DataFrame()
        if len(held):
            worst = float(held["high"].max() if fill["short"] else held["low"].min())
            if sign * (fill["stop"] - worst) > 1e-4 * fill["stop"]:
                yield f"{name}: price went to {worst} through the stop {fill['stop']}, which did not exit"
        if math.isfinite(close["stop"]) and sign * (fill["stop"] - close["stop"]) > 1e-4 * fill["stop"]:
            yield f"{name}: the stop was loosened from {fill['stop']} to {close['stop']}"
