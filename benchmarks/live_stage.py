"""What the live loop is measured on: a raw and a guarded ``FreqtradeBot`` in this process, on one database and market."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

from benchmarks.meter import Meter
from benchmarks.stage import STRATEGIES, model, usual_pairs
from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.history import FileHistory
from plimsoll.market.simulate import simulate_market

TIMEFRAME = "5m"
DAYS = 36
RAW, GUARDED = "Live", "LiveGuarded"
STRATEGY_FILE = Path("BenchmarkStrategies.py")
QUIET, CANDLE, HOUR = "quiet", "new candle", "new hour"


@dataclass(frozen=True)
class Loop:
    """One loop in milliseconds: the whole, the guard's part of it by callback, and its processor time."""

    whole: float
    guard: dict[str, float]
    cpu: float

    @property
    def added(self) -> float:
        return sum(self.guard.values())

    @property
    def analysed(self) -> bool:
        return "populate_indicators" in self.guard


class Restless(FileHistory):
    """Tell the files' prices, a little different after each :meth:`move`, each pair in its own rhythm."""

    step = 0

    def move(self) -> None:
        """Move all prices by some hundredths of a percent."""
        self.step += 1

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        """Return the file's price times a factor."""
        price = super().last_price(pair, now_ms=now_ms)
        phase = self.step + len(pair) + ord(pair[0])
        return None if price is None else price * (1.0 + 5e-4 * math.sin(phase))


class Bots:
    """A raw and a guarded bot on one database, exchange and market."""

    def __init__(self, directory: Path, exchange: LoopbackExchange, prices: Restless, db_url: str) -> None:
        self._directory = directory
        self._exchange = exchange
        self._prices = prices
        self._db_url = db_url
        self.meter = Meter()
        self._bots: dict[str, Any] = {}

    def open(self, trades: int, closed: int) -> None:
        """Store the closed trades, and let the guarded bot open its own; both are ready then."""
        from freqtrade.persistence import Trade, init_db

        init_db(self._db_url)
        _store_closed(self._exchange.pairs, closed)
        guarded = self._bots[GUARDED] = self._bot(GUARDED, trades)
        self.meter.attach(guarded.strategy, STRATEGY_FILE.stem)
        for _ in range(4):
            self.loop(GUARDED)
        self._bots[RAW] = self._bot(RAW, trades)
        for name in (RAW, GUARDED) * 3:
            self.loop(name)
        found = [trade for trade in Trade.get_open_trades() if trade.has_open_position]
        if len(found) != trades:
            raise RuntimeError(f"{len(found)} trades are open instead of {trades}, so the times mean nothing")
        blocked = guarded.strategy._planner.gates.bot_wide_blocks()
        if blocked:
            raise RuntimeError(f"the guard does not work as it should, so the times mean nothing: {blocked}")
        self._count = trades

    def close(self) -> None:
        """End both bots."""
        from freqtrade.persistence import Trade

        for bot in self._bots.values():
            bot.cleanup()
        engine = Trade.session.get_bind()
        Trade.session.remove()
        engine.dispose()

    def loop(self, name: str, kind: str = QUIET, run: Callable[..., Any] = lambda process: process()) -> Loop:
        """Move the prices and run one loop of a bot, timed, through ``run`` where a profiler shall watch."""
        bot = self._bots[name]
        self._prices.move()
        if kind != QUIET:
            _stage_new_candle(bot, whole_hour=kind == HOUR)
        self.meter.take()
        self.meter.take_cpu()
        started = perf_counter_ns()
        run(bot.process)
        whole = (perf_counter_ns() - started) / 1e6
        return Loop(whole, self.meter.take(), self.meter.take_cpu())

    def pair_of_loops(self, kind: str) -> tuple[Loop, Loop]:
        """Return a raw and a guarded loop at about the same moment, of the kind that was asked for."""
        while True:
            raw, guarded = self.loop(RAW, kind), self.loop(GUARDED, kind)
            # A real candle may have begun; the raw bot sees it first, the guarded one an instant later.
            if guarded.analysed == (kind != QUIET):
                return raw, guarded

    def check(self) -> None:
        """Look whether the trades are still all open: an exit would have changed the loops."""
        from freqtrade.persistence import Trade

        if Trade.get_open_trade_count() != self._count:
            raise RuntimeError("a trade was closed in between, so the times mean nothing")

    def _bot(self, strategy: str, trades: int) -> Any:
        from freqtrade.commands import Arguments
        from freqtrade.configuration import Configuration
        from freqtrade.freqtradebot import FreqtradeBot

        path = self._directory / f"{strategy}.json"
        path.write_text(json.dumps(_config(self._exchange, self._db_url, trades)), "utf-8")
        command = ["trade", "--strategy", strategy, "-c", str(path), "--user-data-dir", str(self._directory)]
        bot = FreqtradeBot(Configuration(Arguments(command).get_parsed_arg(), None).get_config())
        bot.startup()
        return bot


@contextmanager
def bots(pairs: int, trades: int, closed: int, db_url: str | None = None) -> Iterator[Bots]:
    """Set the market up, start both bots and have the trades opened."""
    from freqtrade.system import gc_set_threshold

    logging.disable(logging.WARNING)
    gc_set_threshold()  # as the command does
    with TemporaryDirectory(prefix="plimsoll-live-") as name:
        directory = Path(name)
        (directory / "strategies").mkdir()
        (directory / "strategies" / STRATEGY_FILE).write_text(STRATEGIES.read_text("utf-8"), "utf-8")
        names = usual_pairs(pairs)
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        begin = midnight - timedelta(days=DAYS - 2)
        market = simulate_market(3, DAYS, begin, [model(pair) for pair in names], flash_crash=False)
        write_market(market, directory / "market")
        prices = Restless(directory / "market")
        with LoopbackExchange(names, prices) as exchange:
            both = Bots(directory, exchange, prices, db_url or f"sqlite:///{directory / 'trades.sqlite'}")
            try:
                both.open(trades, closed)
                yield both
            finally:
                both.close()


def _config(exchange: LoopbackExchange, db_url: str, trades: int) -> dict[str, Any]:
    order_types = {"entry": "market", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False}
    pricing = {"price_side": "other", "use_order_book": True}
    own = {
        "timeframe": TIMEFRAME,
        "trading_mode": "futures",
        "margin_mode": "isolated",
        "stake_currency": "USDT",
        "stake_amount": 1000,
        "dry_run_wallet": 1_000_000,
        "max_open_trades": trades,
        "entry_pricing": pricing,
        "exit_pricing": pricing,
        "order_types": order_types,
        "initial_state": "running",
        "db_url": db_url,
    }
    return own | exchange_config(exchange.url, exchange.pairs)


def _stage_new_candle(bot: Any, *, whole_hour: bool) -> None:
    from freqtrade.exchange import timeframe_to_msecs

    last = bot.exchange._pairs_last_refresh_time
    for key in last:
        if whole_hour or key[1] == TIMEFRAME:
            last[key] -= timeframe_to_msecs(key[1])
    bot.exchange._pairs_last_poll_time.clear()
    bot.strategy._IStrategy__last_candle_seen_per_pair.clear()


def _store_closed(pairs: list[str], count: int) -> None:
    # Within the last day, as many won as lost, each with its two orders and the lock that Freqtrade sets.
    from freqtrade.persistence import Order, PairLocks, Trade

    PairLocks.timeframe = TIMEFRAME
    now = datetime.now(UTC)
    for number in range(count):
        pair, profit = pairs[number % len(pairs)], 0.001 * (-1) ** number
        opened = now - timedelta(hours=23, minutes=-number * 22 * 60 / max(1, count))
        shut = opened + timedelta(minutes=30)
        trade = Trade(
            pair=pair,
            base_currency=pair.partition("/")[0],
            stake_currency="USDT",
            exchange="binance",
            strategy=GUARDED,
            timeframe=5,
            is_open=False,
            is_short=False,
            trading_mode="futures",
            leverage=1.0,
            stake_amount=100.0,
            amount=1.0,
            open_rate=100.0,
            close_rate=100.0 * (1.0 + profit),
            fee_open=0.0005,
            fee_close=0.0005,
            fee_open_currency="USDT",
            fee_close_currency="USDT",
            open_date=opened,
            close_date=shut,
            close_profit=profit,
            close_profit_abs=100.0 * profit,
            exit_reason="exit_signal",
        )
        for side, at, rate in (("buy", opened, 100.0), ("sell", shut, trade.close_rate)):
            trade.orders.append(
                Order(
                    ft_is_open=False,
                    ft_pair=pair,
                    order_id=f"closed-{number}-{side}",
                    symbol=pair,
                    ft_order_side=side,
                    side=side,
                    order_type="market",
                    status="closed",
                    order_date=at,
                    order_filled_date=at,
                    ft_price=rate,
                    ft_amount=1.0,
                    price=rate,
                    average=rate,
                    amount=1.0,
                    filled=1.0,
                    remaining=0.0,
                    cost=rate,
                )
            )
        Trade.session.add(trade)
        PairLocks.lock_pair(pair, shut, "Auto lock", now=shut)
    Trade.commit()
