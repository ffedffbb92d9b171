"""Make, keep and enforce the plans of one strategy: between Freqtrade's questions and the pure plan."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from threading import get_ident
from typing import Any

from freqtrade.enums import RunMode
from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

from plimsoll.host import internals
from plimsoll.host.account import Book
from plimsoll.host.boundary import Complaints, Unusable
from plimsoll.host.candles import HOUR
from plimsoll.host.inputs import Inputs
from plimsoll.host.open_trades import OpenTrades
from plimsoll.host.runlog import RunLog
from plimsoll.host.watch import Watch, offline_step
from plimsoll.journal import Journal
from plimsoll.plan import Account, Plan, Signal, make_plan
from plimsoll.rules.answer import Answer, Kind, Side, gate, unknown
from plimsoll.settings import Settings

FRESH_SECONDS = 60  # between leverage(), custom_stake_amount() and confirm_trade_entry() of one entry
TOLERANCE = 1e-6
JOURNALED = (RunMode.BACKTEST, RunMode.DRY_RUN, RunMode.LIVE)


class Planner:
    """Answer Freqtrade's callbacks from plans; methods may raise, the mixin's callbacks are the boundary."""

    def __init__(self, strategy: IStrategy, settings: Settings) -> None:
        self.settings = settings
        self.complaints = Complaints()
        self.blockers: dict[str, str] = {}  # subject -> why no pair may be entered
        self.starting = True
        self.inputs = Inputs(strategy, settings, self.complaints)
        self.book = Book(strategy, settings.risk.slippage)
        self.trades = OpenTrades(strategy, settings, self.inputs, self.book, self.run)
        self._strategy = strategy
        self._pair_blockers: dict[str, dict[str, str]] = {}  # pair -> subject -> why it may not be entered
        self._planned: set[tuple[str, Side]] = set()  # asked for by leverage(), not yet sized
        self._run: RunLog | None = None
        self._watch: Watch | None = None
        self._thread: int | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Parallel hyperopt pickles the strategy with every task; a run's trades and files stay behind.
        return self.__dict__ | {"_run": None, "_planned": set(), "_finalizer": None}

    def run(self) -> RunLog:
        """Return this run's log; a backtest or epoch that begins gets its own."""
        run = self._run
        if run is None or (internals.is_offline() and run.token is not internals.run_token()):
            if run is not None:
                run.finish()
            if self._finalizer is not None:
                self._finalizer.detach()
            run = self._run = RunLog(self.settings, self._open_journal())
            self._planned.clear()
            self.trades.stop_due.clear()
            self._finalizer = weakref.finalize(self, run.finish)
        return run

    def _open_journal(self) -> Journal | None:
        config: Any = self._strategy.config
        runmode = config.get("runmode")
        if not self.settings.journal.enabled or runmode not in JOURNALED:
            return None
        name = f"{type(self._strategy).__name__}-{runmode.value}.jsonl"
        chosen = self.settings.journal.path
        path = Path(chosen) if chosen else Path(config["user_data_dir"]) / "plimsoll" / name
        return Journal(path, truncate=internals.is_offline())

    def loop(self, now: datetime) -> None:
        """Review open trades and step the breakers, each loop live and each candle in a backtest.

        A loop that fails leaves the breakers behind, so it blocks entries until one succeeds.
        """
        try:
            self._loop(now)
        except Exception as error:
            if self._watch is not None:
                self._watch.blocker = f"the last loop failed: {error!r}"
            raise

    def is_own_thread(self) -> bool:
        """Tell whether the bot's own loop is asking; force commands come in the threads of the API and of Telegram."""
        return self._thread is None or internals.is_offline() or self._thread == get_ident()

    def _loop(self, now: datetime) -> None:
        self._thread = get_ident()
        run = self.run()
        second = int(now.timestamp())
        if not internals.is_offline():
            if self._watch is None:
                self._watch = Watch(self._strategy)
            # What is remembered comes first: an operator's reset counts for the trades before it.
            self._watch.restore(run.breakers)
        run.collect(now)
        self.trades.review(second)
        self._show_signals(run, second)
        if internals.is_offline():
            offline_step(run.breakers, now, self._equity(second), run.journal)
            return
        assert self._watch is not None
        self._watch.step(run.breakers, now, self._equity(second), run.journal)
        if run.journal is not None:
            run.journal.flush()

    def _collect(self, run: RunLog, now: datetime) -> None:
        # A trading bot does so each loop, after its memory was read; a backtest's trades close inside the candle too.
        if internals.is_offline():
            run.collect(now)

    def _equity(self, now: int) -> float | None:
        return self.book.equity(lambda pair: self.inputs.current_rate(pair, now))

    def _show_signals(self, run: RunLog, now: int) -> None:
        for pair in run.breakers.waits_for_signal():
            signal = self.inputs.signal(pair, now)
            if signal is not None:
                run.breakers.signal(pair, signal)

    # -- Entries -------------------------------------------------------------------------------------------------------

    def plan(
        self,
        *,
        pair: str,
        side: Side,
        now: datetime,
        rate: float,
        exchange_maximum: float,
        own_leverage: float | None = None,
        fixed_leverage: float | None = None,
        unusable: str | None = None,
    ) -> Plan:
        """Make the plan for one signal and keep it until it is sized and confirmed.

        :param unusable: why the strategy's own answer cannot be used, which refuses the entry.
        """
        run = self.run()
        self._collect(run, now)
        second = int(now.timestamp())
        own_stop = abs(float(self._strategy.stoploss))
        signal = Signal(
            time=second,
            pair=pair,
            side=side,
            rate=rate,
            own_leverage=own_leverage,
            own_stop_margin_ratio=own_stop if 0.0 < own_stop < math.inf else None,
            fixed_leverage=fixed_leverage,
            target_price=self._target(pair, side, now, rate),
        )
        extra = list(self.gates(pair))
        if unusable is not None:
            extra.append(gate("strategy", False, unusable, {}))
        market = self.inputs.market(pair, second, exchange_maximum)
        plan = make_plan(signal, market, self.account(second), self.settings, extra)
        self._keep(plan)
        return plan

    def waits_for_size(self, plan: Plan) -> None:
        """Remember that ``leverage()`` made this plan; a forced entry that brings its own leverage finds none waiting."""
        self._planned.add((plan.signal.pair, plan.signal.side))

    def waiting(self, pair: str, side: Side, now: datetime, leverage: float) -> Plan | None:
        """Take the plan that ``leverage()`` made a moment ago, if it is for this leverage.

        :raises Unusable: where ``leverage()`` failed.
        """
        if (pair, side) not in self._planned:
            return None
        self._planned.discard((pair, side))
        plan = self.run().pending.get((pair, side))
        if plan is None:
            raise Unusable("its leverage could not be planned")
        if now.timestamp() - plan.signal.time > FRESH_SECONDS:
            return None
        if plan.granted and not math.isclose(plan.leverage, leverage):
            return None
        return plan

    def size(
        self, plan: Plan, *, proposed: float, own: float | None, minimum: float | None, maximum: float
    ) -> Plan:
        """Lower the plan's margin to what Freqtrade and the strategy ask for, and refuse what Freqtrade would raise."""
        plan = plan.limited("proposed_stake", proposed, f"Freqtrade proposes {proposed:.2f}")
        plan = plan.limited("available", maximum, f"{maximum:.2f} is available")
        if own is not None:
            plan = plan.limited("strategy_stake", own, f"the strategy asks for {own:.2f}")
        if plan.granted and minimum is not None and plan.margin < minimum:
            reason = f"margin {plan.margin:.2f} is under the exchange's minimum of {minimum:.2f}"
            plan = plan.refused("minimum_stake", reason)
        self._keep(plan)
        return plan

    def confirm(self, *, pair: str, side: Side, amount: float, rate: float, now: datetime) -> str | None:
        """Look once more at the amount and the gates; answer why not, or None."""
        plan = self.run().pending.get((pair, side))
        if plan is None:
            return "no plan was made"
        if plan.refusal is not None:
            return plan.refusal
        age = now.timestamp() - plan.signal.time
        if age > FRESH_SECONDS and not self._is_replacement(pair, side):
            return f"the plan is {age:.0f} seconds old"
        notional = amount * rate
        if not notional <= plan.notional * (1 + TOLERANCE):
            return f"notional {notional:.2f} is above the planned {plan.notional:.2f}"
        closed = next((answer for answer in self.gates(pair) if answer.blocks), None)
        return None if closed is None else f"{closed.rule}: {closed.reason}"

    def refuse(self, pair: str, side: Side, rule: str, reason: str) -> None:
        """Turn the pending plan into a refusal."""
        plan = self.run().pending.get((pair, side))
        if plan is not None and plan.granted:
            self._keep(plan.refused(rule, reason))

    def fail(self, pair: str, side: Side, callback: str, error: Exception) -> None:
        """Drop the pending plan after an error, so that nothing can be entered with it."""
        self.complaints.about(f"{callback} {pair}", f"entry refused: {error!r}", error)
        if isinstance(error, Unusable):
            self.refuse(pair, side, "strategy", str(error))
            return
        run = self.run()
        run.pending.pop((pair, side), None)
        if callback == "leverage":
            self._planned.add((pair, side))
        if run.journal is not None:
            run.journal.record(
                "fault", {"callback": callback, "pair": pair, "side": side, "error": repr(error)}
            )

    def addition(
        self, trade: LocalTrade, asked: float, *, now: datetime, rate: float, profit: float
    ) -> float | None:
        """Lower an addition to what the whole position's limits leave; None refuses it."""
        run = self.run()
        self._collect(run, now)
        second = int(now.timestamp())
        try:
            return self.trades.addition(
                trade,
                asked,
                now=now,
                rate=rate,
                profit=profit,
                gates=self.gates(trade.pair),
                account=lambda without: self.account(second, without=without),
            )
        except Unusable as refusal:
            if (
                self.complaints.about(f"addition {trade.pair}", f"addition refused: {refusal}")
                and run.journal
            ):
                run.journal.record(
                    "addition",
                    {
                        "time": second,
                        "pair": trade.pair,
                        "trade_id": trade.id,
                        "asked": asked,
                        "refusal": str(refusal),
                    },
                )
            return None

    def account(self, now: int, *, without: int | None = None) -> Account:
        """Return equity, positions and Kelly's estimate; equity that cannot be told is NaN."""
        run = self.run()
        positions = self.book.positions(lambda trade: self._pending_risk(run, trade), without=without)
        equity = self._equity(now)
        return Account(
            equity=math.nan if equity is None else equity,
            positions=positions,
            kelly=run.kelly(),
            correlation=self.settings.correlation.missing,
        )

    # -- Gates ---------------------------------------------------------------------------------------------------------

    def gates(self, pair: str) -> Iterator[Answer]:
        """Yield what the host itself knows against entering a pair."""
        for subject, reason in self.blockers.items():
            yield gate(subject, False, reason, {})
        for subject, reason in self._pair_blockers.get(pair, {}).items():
            yield gate(subject, False, reason, {})
        if not internals.is_offline():
            reason_ = "no loop was run yet" if self._watch is None else self._watch.blocker
            if reason_ is not None:
                yield unknown("breakers", Kind.GATE, reason_)
        yield from self.run().breakers.answers(pair)

    def unusable(self, pair: str, callback: str, error: Exception, *, blocks: bool) -> None:
        """Report a strategy's unusable answer; where it belongs to an entry it blocks the pair until it is usable again."""
        self.complaints.about(f"{callback} {pair}", str(error), error)
        if blocks:
            self._pair_blockers.setdefault(pair, {})[callback] = str(error)

    def usable(self, pair: str, callback: str) -> None:
        """Take back what :meth:`unusable` said."""
        self.complaints.settled(f"{callback} {pair}")
        self._pair_blockers.get(pair, {}).pop(callback, None)

    @contextmanager
    def analysing(self, pair: str, step: str) -> Iterator[None]:
        """Block a pair whose analysis failed: a trading bot would go on with the last signal it found."""
        try:
            yield
        except Exception as error:
            self._pair_blockers.setdefault(pair, {})[step] = f"{step} raised {error!r}"
            raise
        self._pair_blockers.get(pair, {}).pop(step, None)

    def _keep(self, plan: Plan) -> None:
        run = self.run()
        run.pending[plan.signal.pair, plan.signal.side] = plan
        run.record(plan, plan.signal.time - plan.signal.time % HOUR)

    def _pending_risk(self, run: RunLog, trade: LocalTrade) -> float | None:
        plan = run.pending.get((trade.pair, "short" if trade.is_short else "long"))
        return plan.risk if plan is not None and plan.granted else None

    def _target(self, pair: str, side: Side, now: datetime, rate: float) -> float | None:
        stated = getattr(self._strategy, "take_profit_price", None)
        if stated is None:
            return None
        try:
            return stated(pair=pair, side=side, current_time=now, current_rate=rate)
        except Exception as error:
            self.complaints.about(f"target {pair}", f"take_profit_price raised {error!r}", error)
            return math.nan

    def _is_replacement(self, pair: str, side: Side) -> bool:
        return any(
            trade.pair == pair and trade.is_short == (side == "short") and trade.has_open_orders
            for trade in self.book.trades()
        )
