"""Breakers in stock backtests: each trips at the candle at which Freqtrade's own results say it must.

The reference recomputes every verdict from the exported trades and the candles, without anything of ``plimsoll.rules``. Funding is
zero on these markets, as an export only has its sum per trade.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType
from handmade import Market, at

from plimsoll.journal import read
from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import load_backtest, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, MarketData, simulate_market

pytestmark = pytest.mark.freqtrade

WALLET = 10_000.0
WARM_UP = timedelta(days=32)
CONFIG: dict[str, Any] = {
    "dry_run": True,
    "dry_run_wallet": WALLET,
    "stake_currency": "USDT",
    "stake_amount": "unlimited",
    "max_open_trades": 8,
    "trading_mode": "futures",
    "margin_mode": "isolated",
    "fee": 0.0005,
    "entry_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "pairlists": [{"method": "StaticPairList"}],
}
MINUTE = pd.Timedelta(minutes=1)
DAY = pd.Timedelta(days=1)

# -- Strategies and what each is limited to -------------------------------------------------------------------------------------

BASE = {
    "kelly": {"cold_start_risk": 0.01, "floor_risk": 0.01},
    "exposure": {"total_margin": 0.6},
    "streak": {"cooldown_losses": 50, "losses": 50},
    "drawdown": {"limit": 0.99},
    "loss_limit": {"daily": 0.98, "weekly": 0.99},
    "decay": {"method": "sharpe", "min_trades": 1000},
}
LADDER = ((0.01, 0.5, None), (0.02, 0.25, 1.0))
BASELINE = {"mean": 0.004, "deviation": 0.02, "trades": 300, "trades_per_day": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {
    "Daily": {"loss_limit": {"daily": 0.015, "weekly": 0.99}},
    "Weekly": {"loss_limit": {"daily": 0.024, "weekly": 0.025}},
    "Berlin": {"loss_limit": {"daily": 0.02, "weekly": 0.99, "timezone": "Europe/Berlin"}},
    "Latched": {"drawdown": {"limit": 0.05, "reset": "latched", "ladder": LADDER}},
    "Cooling": {"drawdown": {"limit": 0.04, "reset": "cooldown", "cooldown_minutes": 2000.0}},
    "Streaky": {
        "streak": {"losses": 2, "cooldown_losses": 4, "cooldown_minutes": 250.0},
    },
    "Decaying": {"decay": {"method": "cusum", "baseline": "BASELINE"}},
    "Sharpe": {"decay": {"method": "sharpe", "min_trades": 10}},
}


def strategies(baseline: Path, timeframe: str) -> str:
    source = f'''
from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class Reversing(IStrategy):
    """Always in the market, and late: it loses."""

    timeframe = "{timeframe}"
    can_short = True
    stoploss = -0.99
    minimal_roi = {{"0": 100}}
    startup_candle_count = 30

    def populate_indicators(self, dataframe, metadata):
        dataframe["mean"] = dataframe["close"].rolling(24).mean()
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        up = dataframe["close"] > dataframe["mean"]
        dataframe.loc[up, "enter_long"] = 1
        dataframe.loc[~up, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        up = dataframe["close"] > dataframe["mean"]
        dataframe.loc[~up, "exit_long"] = 1
        dataframe.loc[up, "exit_short"] = 1
        return dataframe

'''
    for name, settings in SETTINGS.items():
        text = repr(BASE | settings).replace("'BASELINE'", repr(str(baseline)))
        source += f"\nclass {name}(Guarded, Reversing):\n    plimsoll = {text}\n\n"
    return source


# -- Worlds ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Ran:
    """One strategy's backtest: Freqtrade's trades in the order they closed, its candles, and the journal."""

    trades: pd.DataFrame
    candles: dict[str, pd.Series]
    times: pd.DatetimeIndex
    journal: list[dict[str, Any]]
    stats: dict[str, Any]

    def breaker(self, name: str) -> list[tuple[pd.Timestamp, bool, float]]:
        """Return when the journal says that a breaker's word changed, and to what."""
        return [
            (pd.Timestamp(record["time"], unit="s", tz="UTC"), record["blocked"], record["factor"])
            for record in self.journal
            if record["kind"] == "breaker" and record["breaker"] == name
        ]

    def plans(self, **wanted: Any) -> list[dict[str, Any]]:
        return [
            record
            for record in self.journal
            if record["kind"] == "plan" and all(record[key] == value for key, value in wanted.items())
        ]


def run(
    user_data: Path, names: Sequence[str], pairs: Sequence[str], timeframe: str, timerange: str, *more: str
) -> dict[str, Ran]:
    command = ["backtesting", "--cache", "none", "--timeframe", timeframe, "--timerange", timerange]
    with LoopbackExchange(pairs) as exchange:
        run_freqtrade(
            [*command, "--strategy-list", *names, *more],
            user_data=user_data,
            configs=[CONFIG],
            exchange_url=exchange.url,
            pairs=pairs,
            timeout=1800,
        ).check()
        assert exchange.unknown_requests == []
    handler = get_datahandler(user_data / "data" / "binance", "feather")
    candles = {}
    for pair in pairs:
        frame = handler.ohlcv_load(pair, timeframe, CandleType.FUTURES)
        candles[pair] = frame.set_index("date")["close"]
    ran = {}
    for name in names:
        journal = read(user_data / "plimsoll" / f"{name}-backtest.jsonl")
        assert not [record for record in journal if record["kind"] == "fault"]
        stats = load_backtest(user_data, name)["stats"]
        length = pd.Timedelta(timeframe)
        first = pd.Timestamp(stats["backtest_start_ts"], unit="ms", tz="UTC") + length
        last = pd.Timestamp(stats["backtest_end_ts"], unit="ms", tz="UTC")
        trades = pd.DataFrame(
            stats["trades"]
        )  # unlike Freqtrade's loader this keeps the order in which they closed
        for name_ in ("open", "close"):
            trades[f"{name_}_date"] = pd.to_datetime(trades[f"{name_}_timestamp"], unit="ms", utc=True)
        assert (trades["funding_fees"] == 0.0).all()
        ran[name] = Ran(trades, candles, pd.date_range(first, last, freq=length), journal, stats)
    return ran


def without_funding(data: MarketData) -> MarketData:
    return replace(data, funding=data.funding.assign(open=0.0))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Six days of 5m candles, in two weeks."""
    user_data = tmp_path_factory.mktemp("simulated")
    start, days = datetime(2023, 1, 1, tzinfo=UTC), 6
    market = simulate_market(2, WARM_UP.days + 12, start, DEFAULT_PAIRS[:2])
    write_market(
        {pair: without_funding(data) for pair, data in market.items()}, user_data / "data" / "binance"
    )
    first = start + WARM_UP
    return with_strategies(
        user_data, list(market), "5m", f"{first:%Y%m%d}-{first + timedelta(days=days):%Y%m%d}"
    )


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, real_candles: Path) -> dict[str, Ran]:
    """Three months of real 1h candles."""
    user_data = tmp_path_factory.mktemp("real")
    target = user_data / "data" / "binance" / "futures"
    target.mkdir(parents=True)
    pairs = ["BTC/USDT:USDT", "ETH/USDT:USDT", "LTC/USDT:USDT"]
    for pair in pairs:
        name = pair.replace("/", "_").replace(":", "_")
        for kind in ("1h-futures", "1h-mark"):
            (target / f"{name}-{kind}.feather").symlink_to(
                real_candles / "futures" / f"{name}-{kind}.feather"
            )
        funding = pd.read_feather(real_candles / "futures" / f"{name}-1h-funding_rate.feather")
        funding.assign(open=0.0).to_feather(target / f"{name}-1h-funding_rate.feather")
    return with_strategies(user_data, pairs, "1h", "20230205-20230505")


def with_strategies(user_data: Path, pairs: Sequence[str], timeframe: str, timerange: str) -> dict[str, Ran]:
    baseline = user_data / "baseline.json"
    baseline.write_text(json.dumps({"decay": BASELINE}))
    (user_data / "strategies").mkdir()
    (user_data / "strategies" / "generated.py").write_text(strategies(baseline, timeframe))
    return run(user_data, list(SETTINGS), pairs, timeframe, timerange)


@pytest.fixture(scope="module", params=["simulated", pytest.param("real", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest) -> dict[str, Ran]:
    return request.getfixturevalue(request.param)


# -- The reference --------------------------------------------------------------------------------------------------------------


def equity_of(ran: Ran, *, open_profit: bool = True) -> pd.Series:
    """Recompute equity when each candle opens: closed profit, and open profit at the close of the candle before."""
    known = {pair: closes.shift(1).reindex(ran.times).to_numpy() for pair, closes in ran.candles.items()}
    equity = np.full(len(ran.times), WALLET)
    for trade in ran.trades.to_dict("records"):
        after = ran.times > trade["close_date"]
        equity[after] += trade["profit_abs"]
        held = (ran.times > trade["open_date"]) & ~after
        if not open_profit:
            continue
        value = trade["amount"] * known[trade["pair"]][held]
        opened = trade["amount"] * trade["open_rate"]
        if trade["is_short"]:
            equity[held] += opened * (1 - trade["fee_open"]) - value * (1 + trade["fee_close"])
        else:
            equity[held] += value * (1 - trade["fee_close"]) - opened * (1 + trade["fee_open"])
    assert np.isfinite(equity).all()
    return pd.Series(equity, index=ran.times)


Changes = list[tuple[pd.Timestamp, bool, float]]


class Noted:
    """Keep what was said last, and note when it changes."""

    def __init__(self) -> None:
        self.changes: Changes = []
        self._last = (False, 1.0)

    def say(self, time: pd.Timestamp, blocked: bool, factor: float = 1.0) -> None:
        said = (blocked, 0.0 if blocked else factor)
        if said != self._last:
            self.changes.append((time, *said))
            self._last = said


def period_losses(equity: pd.Series, limit: float, period: str, timezone: str = "UTC") -> Changes:
    local = equity.index.tz_convert(timezone)
    if period == "day":
        labels = local.strftime("%Y-%m-%d")
    else:
        labels = [f"{day.isocalendar().year}-{day.isocalendar().week}" for day in local]
    noted, current, opening, tripped = Noted(), None, math.nan, False
    for time, label, value in zip(equity.index, labels, equity, strict=True):
        if label != current:
            current, opening, tripped = label, value, False
        tripped = tripped or value <= opening * (1 - limit)
        noted.say(time, tripped)
    return noted.changes


def drawdowns(
    equity: pd.Series, limit: float, cooldown: float | None, ladder: Sequence[tuple] = ()
) -> Changes:
    noted, peak, until = Noted(), -math.inf, None
    for time, value in equity.items():
        if until is not None and until is not pd.NaT and time >= until:
            peak, until = value, None
        peak = max(peak, value)
        loss = 1 - value / peak
        if until is None and loss >= limit:
            until = pd.NaT if cooldown is None else time + cooldown * MINUTE
        factor = min([step for at, step, _ in ladder if loss >= at], default=1.0)
        noted.say(time, until is not None, factor)
    return noted.changes


def closed_before(ran: Ran):
    """Yield each candle's opening with the trades that closed since the one before, in the order they closed."""
    closed = ran.trades["close_date"]
    assert closed.is_monotonic_increasing
    trades, done = ran.trades.to_dict("records"), 0
    for time, upto in zip(ran.times, closed.searchsorted(ran.times, side="left"), strict=True):
        yield time, trades[done:upto]
        done = upto


def streaks(ran: Ran, losses: int, pause_losses: int, cooldown: float, floor: float = 0.1) -> Changes:
    noted, row, until, last = Noted(), 0, None, None
    for time, trades in closed_before(ran):
        for trade in trades:
            # A stop fills inside the candle that it is dated at, so it counts from when that is over.
            inside = trade["exit_reason"] in ("stop_loss", "trailing_stop_loss", "liquidation", "roi")
            at = time if inside else trade["close_date"]
            last = at if last is None else max(at, last)
            row = row + 1 if trade["profit_ratio"] < 0 else row if trade["profit_ratio"] == 0 else 0
            if trade["profit_ratio"] < 0 and row >= pause_losses:
                until = last + cooldown * MINUTE
        until = None if until is not None and time >= until else until
        noted.say(time, until is not None, max(floor, 0.5 ** max(0, row - losses + 1)))
    return noted.changes


def cusum(ran: Ran, mean: float, deviation: float, trades: int, trades_per_day: float) -> Changes:
    """The two-level test of quant-methods 3: half size after 180 days' run length, a pause of 30 days after 730."""
    edge = mean / deviation * min(0.5, trades / (trades + 100))

    def threshold(run_length: float, drift: float) -> float:
        heights = np.linspace(0.0, 100.0, 1_000_001) + 1.166
        lengths = (np.exp(2 * drift * heights) - 2 * drift * heights - 1) / (2 * drift**2)
        return float(heights[np.searchsorted(lengths, run_length)]) - 1.166

    warn, pause = (threshold(days * trades_per_day, edge / 2) for days in (180, 730))
    noted, score, level, until = Noted(), 0.0, "ok", None
    for time, closed in closed_before(ran):
        for trade in closed:
            if until is not None and trade["close_date"] >= until:
                score, level, until = warn, "half", None
            if until is not None:
                continue
            z = np.clip(trade["profit_ratio"] / trade["leverage"] / deviation, -4, 4)
            score = max(0.0, score - (z - edge / 2))
            if score >= pause:
                level, until = "pause", trade["close_date"] + 30 * DAY
            elif score >= warn:
                level = "half"
            elif score < warn / 2:
                level = "ok"
        if until is not None and time >= until:
            score, level, until = warn, "half", None
        noted.say(time, level == "pause", 0.5 if level == "half" else 1.0)
    return noted.changes


def rolling_sharpe(ran: Ran, days: float = 30, least: int = 10, limit: float = 0.5) -> Changes:
    noted, seen, window = Noted(), [], days * DAY
    for time, closed in closed_before(ran):
        seen += [(trade["close_date"], trade["profit_ratio"] / trade["leverage"]) for trade in closed]
        ratios = [ratio for at, ratio in seen if at > time - window]
        paused = False
        if len(ratios) >= least:
            per_trade = np.mean(ratios) / np.std(ratios, ddof=1)
            paused = per_trade * math.sqrt(len(ratios) * 365 / days) < limit
        noted.say(time, paused)
    return noted.changes


def blocked_times(changes: Changes) -> list[pd.Timestamp]:
    return [time for time, blocked, _ in changes if blocked]


def check(ran: Ran, name: str, expected: Changes) -> None:
    """Compare to the minute; while it is tripped nothing is entered, though exits go on, and every plan says why."""
    assert ran.breaker(name) == expected
    assert blocked_times(expected)
    ends = [*(time for time, _, _ in expected[1:]), ran.times[-1] + DAY]
    refused = 0
    for (begin, blocked, _), end in zip(expected, ends, strict=True):
        if not blocked:
            continue
        entered = ran.trades["open_date"]
        assert not ((entered >= begin) & (entered < end)).any()
        plans = [
            plan for plan in ran.plans() if begin <= pd.Timestamp(plan["time"], unit="s", tz="UTC") < end
        ]
        assert all(not plan["granted"] for plan in plans)
        refused += sum(plan["refusal"].startswith(f"{name}:") for plan in plans)
    assert refused > 0


# -- Each breaker ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "name", "limit", "period", "timezone"),
    [
        ("Daily", "daily_loss", 0.015, "day", "UTC"),
        ("Weekly", "weekly_loss", 0.025, "week", "UTC"),
        ("Weekly", "daily_loss", 0.024, "day", "UTC"),
        ("Berlin", "daily_loss", 0.02, "day", "Europe/Berlin"),
    ],
)
def test_loss_limit_when_recomputed_from_the_export_then_trips_at_that_candle(
    world, strategy, name, limit, period, timezone
):
    ran = world[strategy]
    expected = period_losses(equity_of(ran), limit, period, timezone)

    assert len(blocked_times(expected)) >= 2
    assert ran.breaker(name) == expected
    if strategy != "Weekly":  # where the other of the two may be the one that refuses
        check(ran, name, expected)


def test_loss_limit_when_only_closed_trades_were_seen_then_would_trip_later_or_never(world):
    ran = world["Daily"]
    seen = blocked_times(period_losses(equity_of(ran), 0.015, "day"))
    blind = blocked_times(period_losses(equity_of(ran, open_profit=False), 0.015, "day"))

    by_day = {time.floor("D"): time for time in blind}
    assert any(time.floor("D") not in by_day or by_day[time.floor("D")] > time for time in seen)


def test_drawdown_when_latched_then_trips_at_that_candle_and_stays(world):
    ran = world["Latched"]
    equity = equity_of(ran)
    expected = drawdowns(equity, 0.05, None, LADDER)

    check(ran, "drawdown", expected)
    assert len(blocked_times(expected)) == 1
    assert expected[-1][1]
    assert {0.25, 0.5} <= {factor for _, _, factor in expected}
    below = equity[equity <= equity.cummax() * 0.98].index
    late = ran.trades[ran.trades["open_date"].isin(below)]
    assert (late["leverage"] == 1.0).all()


def test_drawdown_when_cooling_down_then_trips_again_from_the_new_peak(world):
    ran = world["Cooling"]
    expected = drawdowns(equity_of(ran), 0.04, 2000.0)

    check(ran, "drawdown", expected)
    assert len(blocked_times(expected)) >= 2


def test_streak_when_recomputed_from_the_export_then_throttles_and_cools_down_at_that_candle(world):
    ran = world["Streaky"]
    expected = streaks(ran, 2, 4, 250.0)

    check(ran, "streak", expected)
    assert len(blocked_times(expected)) >= 5
    assert {1.0, 0.5, 0.25} <= {factor for _, blocked, factor in expected if not blocked}


def test_decay_when_recomputed_from_the_export_then_halves_and_pauses_at_that_trade(world):
    ran = world["Decaying"]
    expected = cusum(ran, **BASELINE)

    check(ran, "decay", expected)
    assert (expected[0][1], expected[0][2]) == (False, 0.5)
    assert blocked_times(expected)


def test_decay_when_by_sharpe_ratio_then_pauses_at_that_candle(world):
    ran = world["Sharpe"]

    expected = rolling_sharpe(ran)

    check(ran, "decay", expected)
    assert blocked_times(expected)


def test_breakers_when_loose_then_are_silent(world):
    for strategy, ran in world.items():
        own = {"Daily": "daily_loss", "Weekly": "loss", "Berlin": "daily_loss", "Latched": "drawdown",
               "Cooling": "drawdown", "Streaky": "streak", "Decaying": "decay", "Sharpe": "decay"}[strategy]  # fmt: skip
        spoke = {record["breaker"] for record in ran.journal if record["kind"] == "breaker"}
        assert all(own in name for name in spoke), strategy


# -- A crash candle -------------------------------------------------------------------------------------------------------------

CRASHING = ("BTC/USDT:USDT", "ETH/USDT:USDT", "LTC/USDT:USDT", "SUI/USDT:USDT", "SOL/USDT:USDT")
CALM = "XRP/USDT:USDT"
OPENED, CRASH, CLOSED = 790, 800, 806  # hours: signals of the five, the crash, the five exit signals

CRASH_STRATEGIES = f'''
import pandas as pd
from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class Crashing(IStrategy):
    """Opens five positions, and signals a sixth each hour from the crash on."""

    timeframe = "1h"
    stoploss = -0.99
    minimal_roi = {{"0": 100}}
    protections = [
        {{"method": "MaxDrawdown", "lookback_period_candles": 48, "trade_limit": 1, "stop_duration_candles": 24,
          "max_allowed_drawdown": 0.02, "calculation_mode": "equity"}},
    ]

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        hour = (dataframe["date"] - pd.Timestamp("2024-01-01", tz="UTC")) // pd.Timedelta(hours=1)
        wanted = hour >= {CRASH} if metadata["pair"] == "{CALM}" else hour == {OPENED}
        dataframe.loc[wanted, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        hour = (dataframe["date"] - pd.Timestamp("2024-01-01", tz="UTC")) // pd.Timedelta(hours=1)
        dataframe.loc[hour == {CLOSED}, "exit_long"] = 1
        return dataframe


WIDE = {{"stop": {{"atr_multiple": 10.0}}, "kelly": {{"cold_start_risk": 0.01}}, "leverage": {{"cap": 1.0}},
        "correlation": {{"budget": 0.2}}, "exposure": {{"total_margin": 1.0, "heat": 0.5}},
        "streak": {{"cooldown_losses": 50, "losses": 50}}, "off": ["decay"]}}


class Protected(Guarded, Crashing):
    """Freqtrade's own protection, without our breakers."""

    plimsoll = WIDE | {{"off": ["decay", "drawdown", "loss_limit"]}}


class ByDrawdown(Guarded, Crashing):
    plimsoll = WIDE | {{"drawdown": {{"limit": 0.02}}, "loss_limit": {{"daily": 0.9, "weekly": 0.99}}}}


class ByDay(Guarded, Crashing):
    plimsoll = WIDE | {{"drawdown": {{"limit": 0.99}}, "loss_limit": {{"daily": 0.02, "weekly": 0.99}}}}
'''


@pytest.fixture(scope="module")
def crash(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    user_data = tmp_path_factory.mktemp("crash")
    market = Market((*CRASHING, CALM), CLOSED + 30)
    for pair in CRASHING:
        market.move(pair, CRASH, 92.0)
    market.write(user_data / "data" / "binance")
    (user_data / "strategies").mkdir()
    (user_data / "strategies" / "generated.py").write_text(CRASH_STRATEGIES)
    names = ["Protected", "ByDrawdown", "ByDay"]
    timerange = f"{at(768):%Y%m%d}-"
    return run(user_data, names, (*CRASHING, CALM), "1h", timerange, "--enable-protections")


def test_crash_when_nothing_has_closed_then_freqtrades_own_protection_is_silent(crash):
    ran = crash["Protected"]
    five, calm = ran.trades[ran.trades["pair"] != CALM], ran.trades[ran.trades["pair"] == CALM]

    assert len(five) == 5
    assert (five["open_date"] == at(OPENED + 1)).all()
    assert (five["close_date"] == at(CLOSED + 1)).all()
    equity = equity_of(ran)
    assert equity[at(CRASH + 1)] < 0.98 * WALLET < equity[at(CRASH)]
    assert calm["open_date"].iloc[0] == at(CRASH + 1)  # into the crash
    locked = [pd.Timestamp(lock["lock_timestamp"], unit="ms", tz="UTC") for lock in ran.stats["locks"]]
    assert locked
    assert min(locked) >= at(CLOSED + 1)  # only once they had closed


@pytest.mark.parametrize(("strategy", "name"), [("ByDrawdown", "drawdown"), ("ByDay", "daily_loss")])
def test_crash_when_five_positions_are_open_then_ours_stops_entries_at_its_close(crash, strategy, name):
    ran = crash[strategy]
    five = ran.trades[ran.trades["pair"] != CALM]

    assert len(five) == 5
    assert (five["close_date"] == at(CLOSED + 1)).all()  # all still open when it tripped
    assert ran.breaker(name)[0] == (at(CRASH + 1), True, 0.0)
    refused = [plan for plan in ran.plans(pair=CALM) if plan["time"] == at(CRASH + 1).timestamp()]
    assert [plan["refusal"].split(":")[0] for plan in refused] == [name]
    assert not ((ran.trades["pair"] == CALM) & (ran.trades["open_date"] < at(CLOSED + 1))).any()


# -- A liquidated pair ----------------------------------------------------------------------------------------------------------

GAPPED, STOPPED = "BTC/USDT:USDT", "ETH/USDT:USDT"
GAP, SILENT = 800, 820  # hours: the gap, and the one hour without a signal

LIQUIDATED_STRATEGY = f'''
import pandas as pd
from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class Insisting(Guarded, IStrategy):
    """Signals a long each hour but one."""

    timeframe = "1h"
    stoploss = -0.99
    minimal_roi = {{"0": 100}}
    plimsoll = {{"streak": {{"cooldown_losses": 50, "losses": 50}}, "off": ["decay", "drawdown", "loss_limit"],
                "volatility": {{"high_leverage": 5.0, "mid_leverage": 5.0}}, "correlation": {{"budget": 0.2}},
                "leverage": {{"min_liquidation_distance": 0.0, "daily_ranges_to_liquidation": 0.0}}}}

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        hour = (dataframe["date"] - pd.Timestamp("2024-01-01", tz="UTC")) // pd.Timedelta(hours=1)
        dataframe.loc[hour != {SILENT}, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
'''


@pytest.fixture(scope="module")
def liquidated(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    user_data = tmp_path_factory.mktemp("liquidated")
    market = Market((GAPPED, STOPPED), SILENT + 30)
    market.move(GAPPED, GAP, 70.0, gap=True)
    market.move(STOPPED, GAP, 95.0)
    market.write(user_data / "data" / "binance")
    (user_data / "strategies").mkdir()
    (user_data / "strategies" / "generated.py").write_text(LIQUIDATED_STRATEGY)
    return run(user_data, ["Insisting"], (GAPPED, STOPPED), "1h", f"{at(768):%Y%m%d}-")["Insisting"]


def test_pair_when_liquidated_then_is_not_entered_before_a_new_signal(liquidated):
    trades = liquidated.trades[liquidated.trades["pair"] == GAPPED].sort_values("open_date")
    gone, again = trades.iloc[0], trades.iloc[1]

    assert gone["close_date"] == at(GAP)
    assert gone["profit_ratio"] < -0.95
    # The signal never ended until SILENT; the first one after it is new, and is acted upon an hour later.
    assert again["open_date"] == at(SILENT + 2)
    assert liquidated.breaker(f"liquidated {GAPPED}") == [
        (at(GAP + 1), True, 0.0),
        (at(SILENT + 2), False, 1.0),
    ]
    refused = {plan["refusal"].split(":")[0] for plan in liquidated.plans(pair=GAPPED, granted=False)}
    assert f"liquidated {GAPPED.split(':')[0]}" in {reason.split(":")[0] for reason in refused}


def test_pair_when_merely_stopped_out_then_may_be_entered_with_the_same_signal(liquidated):
    trades = liquidated.trades[liquidated.trades["pair"] == STOPPED].sort_values("open_date")

    assert trades.iloc[0]["close_date"] == at(GAP)
    assert trades.iloc[0]["exit_reason"] == "stop_loss"
    assert trades.iloc[1]["open_date"] == at(GAP + 1)
