"""What stands between Freqtrade's questions to one strategy and the pure plan: runs, loops, and the parts that answer."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import get_ident
from typing import Any

from freqtrade.enums import RunMode
from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

from plimsoll.host import internals
from plimsoll.host.account import Book
from plimsoll.host.boundary import Complaints
from plimsoll.host.breaker_changes import offline_step
from plimsoll.host.entries import Entries
from plimsoll.host.gates import Gates
from plimsoll.host.inputs import Inputs
from plimsoll.host.margin import Margin
from plimsoll.host.open_trades import OpenTrades
from plimsoll.host.runlog import RunLog
from plimsoll.host.status import status_document
from plimsoll.host.threads import alone
from plimsoll.host.trading_loop import TradingLoop
from plimsoll.journal import Journal
from plimsoll.settings import Settings

JOURNALED = (RunMode.BACKTEST, RunMode.DRY_RUN, RunMode.LIVE)


class Planner:
    """Hold the parts of one strategy's guard; methods may raise, the mixin's callbacks are the boundary."""

    def __init__(self, strategy: IStrategy, settings: Settings) -> None:
        self.limits: Callable[[], Settings] | None = None  # what a space of limits says at this moment
        self.complaints = Complaints()
        self.starting = True
        self.inputs = Inputs(strategy, settings, self.complaints)
        self.book = Book(strategy, settings.risk.slippage)
        self.strategy = strategy
        self._by(settings)
        self.gates = Gates(self)
        self.entries = Entries(self)
        self._run: RunLog | None = None
        # Until the first loop it is who made the bot: a forced entry may come before.
        self._thread: int | None = get_ident()
        self._equity_known: tuple[int, float | None] | None = None  # within one loop
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Parallel hyperopt pickles the strategy with every task; a run's trades and files stay behind.
        return self.__dict__ | {"_run": None, "_finalizer": None}

    def run(self) -> RunLog:
        """Return this run's log; a backtest or epoch that begins gets its own."""
        run = self._run
        if run is None or (internals.is_offline() and run.token is not internals.run_token()):
            if run is not None:
                run.finish()
            if self._finalizer is not None:
                self._finalizer.detach()
            if self.limits is not None and internals.is_offline():
                self.take(self.limits())
            run = self._run = RunLog(self.settings, self._open_journal())
            self.entries.begin()
            self.trades.stop_due.clear()
            self.margin.begin()
            self._finalizer = weakref.finalize(self, run.finish)
        return run

    def take(self, settings: Settings) -> None:
        """Plan the run that begins by other limits; what the candles told stays, so no setting of theirs may differ."""
        if settings != self.settings:
            self._by(settings)

    def _by(self, settings: Settings) -> None:
        self.settings = settings
        self.trades = OpenTrades(self.strategy, settings, self.inputs, self.book, self.run)
        self.margin = Margin(settings, self.inputs, self.trades)
        self.trading = TradingLoop(self.strategy, settings, self.inputs, self.trades, self.margin)

    def _open_journal(self) -> Journal | None:
        config: Any = self.strategy.config
        runmode = config.get("runmode")
        if not self.settings.journal.enabled or runmode not in JOURNALED:
            return None
        name = f"{type(self.strategy).__name__}-{runmode.value}.jsonl"
        chosen = self.settings.journal.path
        path = Path(chosen) if chosen else Path(config["user_data_dir"]) / "plimsoll" / name
        return Journal(path, truncate=internals.is_offline())

    @alone
    def loop(self, now: datetime) -> None:
        """Review open trades and step the breakers, each loop live and each candle in a backtest.

        A loop that fails leaves the breakers behind, so it blocks entries until one succeeds.
        """
        try:
            self._loop(now)
        except Exception as error:
            self._equity_known = None
            self.trading.failed(error)
            raise

    def is_own_thread(self) -> bool:
        """Tell whether the bot's own loop is asking; force commands come in the threads of the API and of Telegram."""
        return self._thread is None or internals.is_offline() or self._thread == get_ident()

    def _loop(self, now: datetime) -> None:
        self._thread = get_ident()
        run, second = self.run(), int(now.timestamp())
        if internals.is_offline():
            self._review(run, self.book.trades(), now)
            offline_step(run.breakers, now, self.equity(second), run.journal)
            return
        self.trading.begin(run, second)
        with self.book.held() as trades:
            self._review(run, trades, now)
            self.trading.review(trades, now)
            equity = self.equity(second)
            self._equity_known = (second, equity)
            self.trading.step(run, now, equity, trades, lambda loops: status_document(self, now, loops))
            self._equity_known = None
        self.trading.end(run)

    def _review(self, run: RunLog, trades: list[LocalTrade], now: datetime) -> None:
        second = int(now.timestamp())
        run.collect(now)
        self.trades.review(second)
        self._review_margin(run, trades, second)
        self._show_signals(run, second)

    def _review_margin(self, run: RunLog, trades: list[LocalTrade], now: int) -> None:
        for trade, health in self.margin.review(trades, now):
            if run.journal is not None:
                record = {"time": now, "pair": trade.pair, "trade_id": trade.id, "action": health.action}
                numbers = {"distance": health.distance, "margin_used": health.margin_used}
                run.journal.record("margin_health", record | numbers | {"reason": health.reason})
            self.trading.say(f"margin health of {trade.pair}: {health.reason}")

    def collect(self, run: RunLog, now: datetime) -> None:
        """Take up the trades that closed inside a backtest's candle; a trading bot does so each loop, after its memory was read."""
        if internals.is_offline():
            run.collect(now)

    def equity(self, now: int) -> float | None:
        """Return equity in stake currency, open profit included; None where it cannot be told."""
        if self._equity_known is not None and self._equity_known[0] == now:
            return self._equity_known[1]
        return self.book.equity(lambda pair: self.inputs.current_rate(pair, now))

    def _show_signals(self, run: RunLog, now: int) -> None:
        for pair in run.breakers.waits_for_signal() if run.breakers.by_pair else ():
            signal = self.inputs.signal(pair, now)
            if signal is not None:
                run.breakers.signal(pair, signal)

    @alone
    def filled(self, trade: LocalTrade) -> None:
        """Tie the plan to the trade whose entry was filled, and have its stop asked for."""
        self.trades.stop_due.add(trade.id)
        self.trades.filled(trade)
