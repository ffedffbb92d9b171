"""Time of planning one entry in a guarded strategy, from 100 to 100,000 closed trades.

The callbacks that Freqtrade asks for an entry are called on a strategy that Freqtrade loaded and analysed:
`leverage()` alone, and the whole entry, `leverage()` + `custom_stake_amount()` + `confirm_trade_entry()`,
journal on. Every entry is granted; one that is not ends the benchmark, for a refusal is cheaper. Closed and
open trades are Freqtrade's own objects in Freqtrade's own lists.

- *known*: no trade closed since the plan before; *fresh*: one did, so Kelly's estimate and the breakers move
  on as part of the plan.
- *catch-up*: the first plan after the whole history was unknown, as after a restart.

Levels are taken in turn in many short rounds. Flatness is the median of the ratios between the most and the
fewest closed trades in the same round. ``python -m benchmarks.plan_latency --profile`` shows where the time
goes instead.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.freqtrade_alone import Alone, alone
from benchmarks.measure import Record, ratios, record
from benchmarks.stage import START, stage

BENCHMARK = "plan"
GOAL_US = 150.0
GOAL_FLAT = 1.2
CLOSED = (100, 1_000, 10_000, 100_000)
OPEN = (0, 5, 40)
MINIMUM_STAKE, MAXIMUM_STAKE = 5.0, 1e6


@dataclass
class Level:
    """A guarded strategy with a history of its own."""

    strategy: Any
    closed: list[Any]
    count: int


@contextmanager
def opened(closed: Sequence[int], days: int) -> Iterator[Desk]:
    """Open a desk on a market of its own."""
    with stage(days) as where, where.backtesting(*(f"Plan{count}" for count in closed)) as backtesting:
        yield Desk(backtesting, closed, days)


class Desk:
    """Stands where Freqtrade stands: asks strategies about entries and keeps the lists of trades."""

    def __init__(self, backtesting: Any, closed: Sequence[int], days: int) -> None:
        self._backtesting = backtesting
        self._pairs = self._backtesting.pairlists.whitelist
        data, _ = self._backtesting.load_bt_data()
        self._frames = data
        self.now = START + timedelta(days=days // 2)
        self.history_end = self.now - timedelta(hours=1)
        self._asked = 0
        self.levels = []
        for strategy, count in zip(self._backtesting.strategylist, closed, strict=True):
            self._backtesting._set_strategy(strategy)
            strategy.advise_all_indicators(data)
            self.levels.append(Level(strategy, self._history(count), count))
        self._returns = np.random.default_rng(7)
        self._rates = {pair: self._rate(pair) for pair in self._pairs}

    def set_up(self, level: Level, open_trades: int) -> None:
        """Make a level's history and a number of open trades what Freqtrade's tables say."""
        from freqtrade.persistence import LocalTrade

        LocalTrade.reset_trades()
        LocalTrade.bt_trades = level.closed
        for number in range(open_trades):
            LocalTrade.add_bt_trade(self._open_trade(-1 - number, self._pairs[number % len(self._pairs)]))
        self._backtesting.wallets.update()

    def close_one(self, level: Level) -> None:
        """Let one more trade have closed; not timed."""
        profit = float(self._returns.normal(0.002, 0.02))
        level.closed.append(self._closed_trade(len(level.closed), self.history_end, profit))

    def ask(self, level: Level) -> tuple[int, int]:
        """Plan one entry; return the nanoseconds of ``leverage()`` and of the whole entry."""
        self._asked += 1
        pair = self._pairs[self._asked % len(self._pairs)]
        side = "long" if self._asked % 2 else "short"
        # Whole minutes apart, so that each is an entry of its own to the journal.
        now = self.now + timedelta(minutes=self._asked % 59)
        rate, strategy = self._rates[pair], level.strategy
        common = {"pair": pair, "current_time": now, "entry_tag": None, "side": side}
        started = perf_counter_ns()
        leverage = strategy.leverage(current_rate=rate, proposed_leverage=1.0, max_leverage=20.0, **common)
        planned = perf_counter_ns()
        stake = strategy.custom_stake_amount(
            current_rate=rate,
            proposed_stake=MAXIMUM_STAKE,
            min_stake=MINIMUM_STAKE,
            max_stake=MAXIMUM_STAKE,
            leverage=leverage,
            **common,
        )
        amount = stake * leverage / rate
        granted = strategy.confirm_trade_entry(
            order_type="market", amount=amount, rate=rate, time_in_force="GTC", **common
        )
        ended = perf_counter_ns()
        if not granted:
            plan = strategy._planner.run().pending.get((pair, side))
            raise RuntimeError(
                f"an entry in {pair} was refused, so its time means nothing: {plan and plan.refusal}"
            )
        return planned - started, ended - started

    def _rate(self, pair: str) -> float:
        frame = self._frames[pair]
        return float(frame.loc[frame["date"] < self.now, "close"].iloc[-1])

    def _history(self, count: int) -> list[Any]:
        profits = np.random.default_rng(count).normal(0.002, 0.02, count)
        first = self.history_end - timedelta(hours=count // 50 + 1)
        return [
            self._closed_trade(number, first + timedelta(seconds=72 * number), float(profit))
            for number, profit in enumerate(profits)
        ]

    def _closed_trade(self, number: int, closed: datetime, profit: float) -> Any:
        from freqtrade.persistence import LocalTrade

        pair = self._pairs[number % len(self._pairs)]
        return LocalTrade(
            id=number + 1,
            pair=pair,
            is_open=False,
            stake_amount=100.0,
            open_rate=1.0,
            close_rate=1.0 + profit,
            amount=100.0,
            leverage=1.0,
            fee_open=0.0005,
            fee_close=0.0005,
            open_date=(closed - timedelta(hours=3)).replace(tzinfo=UTC),
            close_date=closed,
            close_profit=profit,
            close_profit_abs=100.0 * profit,
            exit_reason="exit_signal",
            exchange="binance",
        )

    def _open_trade(self, number: int, pair: str) -> Any:
        from freqtrade.persistence import LocalTrade, Order

        opened, rate = self.history_end, self._rates[pair]
        trade = LocalTrade(
            id=number,
            pair=pair,
            base_currency=pair.partition("/")[0],
            stake_currency="USDT",
            open_rate=rate,
            open_date=opened,
            stake_amount=100.0,
            amount=0.0,
            fee_open=0.0005,
            fee_close=0.0005,
            exchange="binance",
            leverage=1.0,
            contract_size=1.0,
            orders=[],
        )
        trade.orders.append(
            Order(
                id=number,
                ft_is_open=False,
                ft_pair=pair,
                order_id=str(number),
                symbol=pair,
                ft_order_side="buy",
                side="buy",
                order_type="market",
                status="closed",
                order_date=opened,
                order_filled_date=opened,
                ft_price=rate,
                ft_amount=100.0 / rate,
                price=rate,
                average=rate,
                amount=100.0 / rate,
                filled=100.0 / rate,
                remaining=0.0,
                cost=100.0,
            )
        )
        trade.recalc_trade_from_orders()
        trade.adjust_stop_loss(rate, -0.03, initial=True)
        return trade


def run(
    closed: Sequence[int] = CLOSED,
    open_trades: Sequence[int] = OPEN,
    rounds: int = 15,
    plans: int = 40,
    days: int = 40,
    steps: Alone | None = None,
) -> list[Record]:
    """Measure everything and return the records."""
    steps = steps or alone()
    with opened(closed, days) as desk:
        records = _catch_up(desk)
        for number in open_trades:
            for fresh in (False, True):
                records += _compare(desk, number, steps, fresh=fresh, rounds=rounds, plans=plans)
        return records


def _catch_up(desk: Desk) -> list[Record]:
    records = []
    for level in desk.levels:
        desk.set_up(level, 0)
        _, spent = desk.ask(level)
        name = f"catch-up with {level.count:,} closed trades"
        records.append(record(BENCHMARK, name, [spent / 1e6], "ms"))
    return records


def _compare(
    desk: Desk, open_trades: int, steps: Alone, *, fresh: bool, rounds: int, plans: int
) -> list[Record]:
    first: dict[int, list[float]] = {level.count: [] for level in desk.levels}
    whole: dict[int, list[float]] = {level.count: [] for level in desk.levels}
    for _ in range(rounds):
        for level in desk.levels:
            desk.set_up(level, open_trades)
            desk.ask(level)  # into the caches; the other levels were there
            spent = []
            for _ in range(plans):
                if fresh:
                    desk.close_one(level)
                spent.append(desk.ask(level))
            first[level.count].append(median(each[0] for each in spent) / 1000)
            whole[level.count].append(median(each[1] for each in spent) / 1000)
    setting = f"{open_trades} open, {'fresh' if fresh else 'known'}"
    records, own = [], (steps.entry_ns / 1000, "Freqtrade's own entry")
    for level in desk.levels:
        name = f"{setting}, {level.count:,} closed"
        records.append(record(BENCHMARK, f"leverage() alone, {name}", first[level.count], "us", against=own))
        spent = whole[level.count]
        records.append(record(BENCHMARK, f"entry, {name}", spent, "us", goal=GOAL_US, against=own))
    fewest, most = desk.levels[0].count, desk.levels[-1].count
    flat = ratios(whole[most], whole[fewest])
    name = f"entry, {setting}, {most:,} over {fewest:,} closed"
    return [*records, record(BENCHMARK, name, flat, "x", goal=GOAL_FLAT)]


def profile(open_trades: int, *, fresh: bool, plans: int = 2000) -> None:
    """Print where the time of planning goes."""
    with opened(CLOSED[:1], 40) as desk:
        level = desk.levels[0]
        desk.set_up(level, open_trades)
        desk.ask(level)
        profiler = cProfile.Profile()
        for _ in range(plans):
            if fresh:
                desk.close_one(level)
            profiler.enable()
            desk.ask(level)
            profiler.disable()
        print(f"{open_trades} open trades, {'fresh' if fresh else 'known'}, {plans} plans")
        pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


def main() -> None:
    """Profile on the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_latency")
    parser.add_argument("--profile", action="store_true", required=True)
    parser.add_argument("--open", type=int, default=5)
    parser.add_argument("--fresh", action="store_true")
    arguments = parser.parse_args()
    profile(arguments.open, fresh=arguments.fresh)


if __name__ == "__main__":
    main()
