"""One entry from Freqtrade's first question to its last: planned at ``leverage()``, sized, looked at once more, reserved."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from freqtrade.persistence import LocalTrade

from plimsoll.host import internals
from plimsoll.host.boundary import Unusable
from plimsoll.host.candles import HOUR
from plimsoll.host.optional import CHEAPEST_SHORT
from plimsoll.host.runlog import RunLog
from plimsoll.host.start import is_stop
from plimsoll.host.threads import alone
from plimsoll.plan import Account, Held, Plan, Signal, make_plan
from plimsoll.rules.answer import Side, gate
from plimsoll.rules.exposure import OpenPosition

if TYPE_CHECKING:
    from plimsoll.host.planner import Planner

FRESH_SECONDS = 60  # between leverage(), custom_stake_amount() and confirm_trade_entry() of one entry
TOLERANCE = 1e-6


class Entries:
    """Make, keep and enforce the plans of entries and additions; methods may raise."""

    def __init__(self, planner: Planner) -> None:
        self._planner = self.lock_of = planner
        self._planned: set[tuple[str, Side]] = set()  # asked for by leverage(), not yet sized

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_planned": set()}

    def begin(self) -> None:
        """Forget what was asked before this run."""
        self._planned.clear()

    @alone
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
        run = self._planner.run()
        self._planner.collect(run, now)
        second = int(now.timestamp())
        own_stop = self._planner.strategy.stoploss
        if not is_stop(own_stop):
            unusable = unusable or f"the strategy's stoploss is {own_stop!r}"
        signal = Signal(
            time=second,
            pair=pair,
            side=side,
            rate=rate,
            own_leverage=own_leverage,
            own_stop_margin_ratio=abs(float(own_stop)) if is_stop(own_stop) else None,
            fixed_leverage=fixed_leverage,
            target_price=self._target(pair, side, now, rate),
        )
        extra = list(self._planner.gates.answers(pair))
        if unusable is not None:
            extra.append(gate("strategy", False, unusable, {}))
        market = self._planner.inputs.market(pair, second, exchange_maximum)
        plan = make_plan(signal, market, self.account(second, signal), self._planner.settings, extra)
        self._keep(plan)
        return plan

    def waits_for_size(self, plan: Plan) -> None:
        """Remember that ``leverage()`` made this plan; a forced entry that brings its own leverage finds none waiting."""
        self._planned.add((plan.signal.pair, plan.signal.side))

    @alone
    def waiting(self, pair: str, side: Side, now: datetime, leverage: float) -> Plan | None:
        """Take the plan that ``leverage()`` made a moment ago, if it is for this leverage.

        :raises Unusable: where ``leverage()`` failed.
        """
        if (pair, side) not in self._planned:
            return None
        self._planned.discard((pair, side))
        plan = self._planner.run().pending.get((pair, side))
        if plan is None:
            raise Unusable("its leverage could not be planned")
        if now.timestamp() - plan.signal.time > FRESH_SECONDS:
            return None
        if plan.granted and not math.isclose(plan.leverage, leverage):
            return None
        return plan

    @alone
    def size(
        self, plan: Plan, *, proposed: float, own: float | None, minimum: float | None, maximum: float
    ) -> Plan:
        """Lower the plan's margin to what Freqtrade and the strategy ask for, and refuse what Freqtrade would raise."""
        plan = plan.limited("proposed_stake", proposed, f"Freqtrade proposes {proposed:.2f}")
        plan = plan.limited("available", maximum, f"{maximum:.2f} is available")
        if own is not None:
            plan = plan.limited("strategy_stake", own, f"the strategy asks for {own:.2f}")
        plan = self._within_fleet(plan)
        if plan.granted and minimum is not None and plan.margin < minimum:
            least = f"the exchange's minimum of {minimum:.2f}"
            reason = f"margin {plan.margin:.2f}, bound by {plan.bound_size}, is under {least}"
            plan = plan.refused("minimum_stake", reason)
        self._keep(plan)
        return plan

    @alone
    def confirm(self, *, pair: str, side: Side, amount: float, rate: float, now: datetime) -> str | None:
        """Look once more at the amount and the gates; answer why not, or None."""
        plan = self._planner.run().pending.get((pair, side))
        if plan is None:
            return "no plan was made"
        if plan.refusal is not None:
            return plan.refusal
        if not internals.is_offline() and any(trade.pair == pair for trade in self._planner.book.trades()):
            # Of forced entries at the same time each finds the pair free; at the exchange they are one position.
            return f"a position in {pair} is open already"
        age = now.timestamp() - plan.signal.time
        if age > FRESH_SECONDS and not self._is_replacement(pair, side):
            return f"the plan is {age:.0f} seconds old"
        current = (
            None
            if internals.is_offline() or side == "long"
            else self._planner.inputs.current_rate(pair, int(now.timestamp()))
        )
        if current is not None and not rate >= CHEAPEST_SHORT * current:
            return f"a short at {rate:g} is far under the price of {current:g}, and would be filled with more than planned"
        notional = amount * rate
        if not notional <= plan.notional * (1 + TOLERANCE):
            return f"notional {notional:.2f} is above the planned {plan.notional:.2f}"
        closed = self._planner.gates.closed(pair)
        if closed is not None:
            return closed
        # Last, because what is reserved and then refused would hold its place until it expires.
        return self._reserve(f"{pair} {side} {plan.signal.time}", pair, side, plan.margin, plan.risk, now)

    @alone
    def _reserve(
        self, key: str, pair: str, side: Side, margin: float, risk: float, now: datetime
    ) -> str | None:
        if self._planner.trading.fleet is None:
            return None
        decision = self._planner.trading.fleet.reserve(key, pair, side, margin, risk, now)
        return None if decision is None or decision.granted else f"portfolio: {decision.reason}"

    def _within_fleet(self, plan: Plan) -> Plan:
        if self._planner.trading.fleet is None or not plan.granted:
            return plan
        signal = plan.signal
        now = datetime.fromtimestamp(signal.time, UTC)
        decision = self._planner.trading.fleet.most(signal.pair, signal.side, plan.margin, plan.risk, now)
        if decision is None or decision.granted:
            return plan
        if decision.most_margin is None or not decision.most_margin > 0.0:
            return plan.refused("portfolio", decision.reason)
        return plan.limited("portfolio", decision.most_margin, decision.reason)

    def refuse(self, pair: str, side: Side, rule: str, reason: str) -> None:
        """Turn the pending plan into a refusal."""
        plan = self._planner.run().pending.get((pair, side))
        if plan is not None and plan.granted:
            self._keep(plan.refused(rule, reason))

    @alone
    def fail(self, pair: str, side: Side, callback: str, error: Exception) -> None:
        """Drop the pending plan after an error, so that nothing can be entered with it."""
        self._planner.complaints.about(f"{callback} {pair}", f"entry refused: {error!r}", error)
        if isinstance(error, Unusable):
            self.refuse(pair, side, "strategy", str(error))
            return
        run = self._planner.run()
        run.pending.pop((pair, side), None)
        if callback == "leverage":
            self._planned.add((pair, side))
        if run.journal is not None:
            run.journal.record(
                "fault", {"callback": callback, "pair": pair, "side": side, "error": repr(error)}
            )

    @alone
    def addition(
        self, trade: LocalTrade, asked: float, *, now: datetime, rate: float, profit: float
    ) -> float | None:
        """Lower an addition to what the whole position's limits leave; None refuses it."""
        run = self._planner.run()
        self._planner.collect(run, now)
        second = int(now.timestamp())
        try:
            unhealthy = self._planner.margin.allows_addition(trade)
            if unhealthy is not None:
                raise Unusable(unhealthy)
            granted = self._planner.trades.addition(
                trade,
                asked,
                now=now,
                rate=rate,
                profit=profit,
                gates=self._planner.gates.answers(trade.pair),
                account=lambda signal: self.account(second, signal, without=trade.id),
            )
            plan = self._planner.trades.plan_of(trade)
            risk = granted if plan is None else max(0.0, plan.risk_granted - plan.risk)
            side: Side = "short" if trade.is_short else "long"
            refused = self._reserve(f"add {trade.id} {second}", trade.pair, side, granted, risk, now)
            if refused is not None:
                raise Unusable(refused)
            return granted
        except Unusable as refusal:
            if (
                self._planner.complaints.about(f"addition {trade.pair}", f"addition refused: {refusal}")
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

    def account(self, now: int, signal: Signal, *, without: int | None = None) -> Account:
        """Return equity, positions and Kelly's estimate; equity that cannot be told is NaN."""
        run = self._planner.run()
        positions = self.positions(without=without)
        known = self._planner.equity(now)
        equity = math.nan if known is None else known
        held = self._planner.inputs.held(signal.pair, positions, equity, now)
        return Account(
            equity=equity,
            positions=positions,
            kelly=run.kelly(),
            correlation=self._mean_correlation(held, signal.side),
            held=held,
        )

    def _mean_correlation(self, held: Held | None, side: Side) -> float:
        missing = self._planner.settings.correlation.missing
        if held is None or not len(held.side):
            return missing
        sign = 1.0 if side == "long" else -1.0
        signed = sign * np.asarray(held.side) * np.asarray(held.toward)
        return float(np.where(np.isfinite(signed), signed, missing).mean())

    def positions(self, *, without: int | None = None) -> list[OpenPosition]:
        """Return the open positions, entries under way included."""
        run = self._planner.run()
        return [
            *self._planner.book.positions(lambda trade: self._pending_risk(run, trade), without=without),
            *self._planner.trading.foreign,
        ]

    def _keep(self, plan: Plan) -> None:
        run = self._planner.run()
        run.pending[plan.signal.pair, plan.signal.side] = plan
        run.record(plan, plan.signal.time - plan.signal.time % HOUR)

    def _pending_risk(self, run: RunLog, trade: LocalTrade) -> float | None:
        plan = run.pending.get((trade.pair, "short" if trade.is_short else "long"))
        return plan.risk if plan is not None and plan.granted else None

    def _target(self, pair: str, side: Side, now: datetime, rate: float) -> float | None:
        stated = getattr(self._planner.strategy, "take_profit_price", None)
        if stated is None:
            return None
        try:
            return stated(pair=pair, side=side, current_time=now, current_rate=rate)
        except Exception as error:
            self._planner.complaints.about(f"target {pair}", f"take_profit_price raised {error!r}", error)
            return math.nan

    def _is_replacement(self, pair: str, side: Side) -> bool:
        return any(
            trade.pair == pair
            and trade.is_short == (side == "short")
            # A backtest takes the order away before it asks for the one in its place.
            and (trade.has_open_orders or not trade.has_open_position)
            for trade in self._planner.book.trades()
        )
