"""What the strategy files of the boundary and composition tests are made of; imported by the bot's own process.

A fault is named by what a callback does instead of its work. `Steady` trades by the clock, so that a run has entries, stops and
targets in any market, and notes what Freqtrade holds of a trade when an order was filled and when it closed.
"""

from __future__ import annotations

import atexit
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from freqtrade.optimize import backtesting
from freqtrade.optimize.backtesting import Backtesting
from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

FAULTS: dict[str, Any] = {
    "no": False,
    "none": None,
    "nan": math.nan,
    "inf": math.inf,
    "minus_inf": -math.inf,
    "negative": -1.0,
    "text": "text",
    "pair_of_text": ("text", "text"),
    "huge": 1e300,
}


def result_of(fault: str) -> Any:
    """Do what a fault does: raise or answer."""
    if fault == "raises":
        raise RuntimeError("fault on purpose")
    return FAULTS[fault]


def faulty(fault: str) -> Callable[..., Any]:
    """Return a callback that does what a fault does."""

    def callback(self: IStrategy, *args: Any, **kwargs: Any) -> Any:
        return result_of(fault)

    return callback


def faulty_stop(fault: str, *, after_fill: bool) -> Callable[..., Any]:
    """Return a custom_stoploss that does what a fault does, asked after fills or not."""
    if after_fill:

        def asked(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
            return result_of(fault)

        return asked
    return faulty(fault)


class Steady(IStrategy):
    """Go long the first pair and short the second every few hours; leave by target or stop."""

    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = True
    stoploss = -0.3
    minimal_roi: ClassVar = {"0": 0.02}
    startup_candle_count = 0
    process_only_new_candles = True
    every = 4

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        column = "enter_short" if self.can_short and metadata["pair"].startswith("ETH") else "enter_long"
        seconds = dataframe["date"].astype("datetime64[s, UTC]").astype("int64")
        dataframe.loc[seconds % (self.every * 3600) == 0, column] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe


class Delayed(Steady):
    """Place orders away from the price, so that they wait and may be adjusted or time out."""

    def custom_entry_price(self, pair, trade, current_time, proposed_rate, entry_tag, side, **kwargs):
        return proposed_rate * (0.996 if side == "long" else 1.004)

    def custom_exit_price(self, pair, trade, current_time, proposed_rate, current_profit, exit_tag, **kwargs):
        return proposed_rate * (0.998 if trade.is_short else 1.002)


# -- What strategies do with their say --------------------------------------------------------------------------------------


class Signalling(Steady):
    """Ask to leave two hours after each entry."""

    def populate_exit_trend(self, dataframe, metadata):
        seconds = dataframe["date"].astype("datetime64[s, UTC]").astype("int64")
        dataframe.loc[seconds % (self.every * 3600) == 2 * 3600, ["exit_long", "exit_short"]] = 1
        return dataframe


class Adding(Steady):
    """Start small and add up to three times, to losers or to winners."""

    position_adjustment_enable = True
    minimal_roi: ClassVar = {"0": 0.05}
    adds_to = "losers"

    def custom_stake_amount(
        self,
        pair,
        current_time,
        current_rate,
        proposed_stake,
        min_stake,
        max_stake,
        leverage,
        entry_tag,
        side,
        **kwargs,
    ):
        return 120.0

    def adjust_trade_position(
        self, trade, current_time, current_rate, current_profit, min_stake, max_stake, current_entry_rate,
        current_exit_rate, current_entry_profit, current_exit_profit, **kwargs,
    ):  # fmt: skip
        right = current_profit < -0.005 if self.adds_to == "losers" else current_profit > 0.005
        return 120.0 if right and trade.nr_of_successful_entries < 4 else None


# -- Faults of our own rules ----------------------------------------------------------------------------------------------

_active: dict[str, str] = {}
_breakable: set[str] = set()


class OwnFault(Steady):
    """Let one of Plimsoll's own functions do what a fault does from the start of this strategy's run on."""

    own_fault: tuple[str, str] | None = None

    def bot_start(self, **kwargs):
        _active.clear()
        if self.own_fault is not None:
            assert _breakable.issuperset(self.own_fault[0].split("+")), (
                f"no longer there: {self.own_fault[0]}"
            )
            _active.update(dict.fromkeys(self.own_fault[0].split("+"), self.own_fault[1]))


def breakable(owner: Any, *names: str) -> None:
    """Have functions of a module or class do what the running strategy's fault says."""
    for name in names:
        _break(owner, name)


def _break(owner: Any, name: str) -> None:
    key, original = f"{owner.__name__.removeprefix('plimsoll.')}.{name}", getattr(owner, name)

    def dispatched(*args: Any, **kwargs: Any) -> Any:
        fault = _active.get(key) or _pair_fault(key, args, kwargs)
        return original(*args, **kwargs) if fault is None else result_of(fault)

    setattr(owner, name, dispatched)
    _breakable.add(key)


def _break_our_own() -> None:
    from plimsoll import journal
    from plimsoll.host import (
        account,
        boundary,
        entries,
        gates,
        inputs,
        internals,
        open_trades,
        planner,
        runlog,
    )
    from plimsoll.plan import answers
    from plimsoll.rules import exposure, funding, leverage, liquidation, sizing, stops

    breakable(answers, "volatility_regime", "volatility_budget", "kelly_limit", "heat_limit", "risk_size")
    breakable(answers, "reward_to_risk")
    breakable(sizing, "loss_at_stop_ratio", "planned_risk")
    breakable(leverage, "leverage_cap", "leverage_from_stop", "leverage_from_liquidation")
    breakable(
        exposure,
        "position_margin",
        "total_margin",
        "asset_margin",
        "gross_notional",
        "net_notional",
        "side_cap",
    )
    breakable(funding, "funding_gate")
    breakable(stops, "atr_stop", "stop_price", "tighten_inside", "stop_ratio_for_freqtrade")
    breakable(liquidation, "tier_of")
    breakable(entries, "make_plan")
    breakable(
        entries.Entries,
        "plan",
        "waiting",
        "size",
        "confirm",
        "account",
        "waits_for_size",
        "fail",
        "positions",
    )
    breakable(gates.Gates, "answers")
    breakable(planner.Planner, "loop")
    breakable(open_trades, "liquidation_price", "stop_ratio_within_risk")
    breakable(
        open_trades.OpenTrades, "filled", "plan_of", "stop_price", "liquidation", "freqtrade_stop", "review"
    )
    breakable(inputs.Inputs, "reading", "market", "last_rate", "tiers", "fee", "buffer")
    breakable(account.Book, "trades", "positions", "equity")
    breakable(runlog.RunLog, "collect", "kelly", "record")
    breakable(journal.Journal, "plan", "record", "_add")
    breakable(boundary.Complaints, "about")
    breakable(internals, "has_own", "own_takes_after_fill")


# -- A trading bot's faults, by pair ---------------------------------------------------------------------------------------


class PerPair(IStrategy):
    """Enter every pair long; each pair's callbacks have the faults that `cells` gives it: ``{pair: (callback, fault)}``."""

    INTERFACE_VERSION = 3
    timeframe = "1h"
    can_short = True
    stoploss = -0.3
    minimal_roi: ClassVar = {"0": 10.0}
    process_only_new_candles = False
    use_custom_stoploss = True
    position_adjustment_enable = True
    order_types: ClassVar = {
        "entry": "limit",
        "exit": "limit",
        "stoploss": "limit",
        "stoploss_on_exchange": False,
    }
    cells: ClassVar[dict[str, tuple[str, str]]] = {}
    quiet: ClassVar[tuple[str, ...]] = ()  # pairs without a signal
    global_fault = "raises"

    def _answer(self, pair: str, callback: str, otherwise: Any) -> Any:
        subject, fault = self.cells.get(pair, ("", ""))
        return result_of(fault) if subject == callback else otherwise

    # Asked once for all pairs.

    def informative_pairs(self):
        return result_of(self.global_fault)

    def version(self):
        return result_of(self.global_fault)

    def bot_loop_start(self, current_time, **kwargs):
        with Path(os.environ["LOOPS"]).open("a") as file:
            file.write(".")
        result_of(self.global_fault)

    # Analysis: good the first time, when a stale pair's own veto still keeps its signal from being traded.

    def _analysis(self, step, dataframe, pair):
        counts = self.__dict__.setdefault("counts", {})
        counts[step, pair] = counts.get((step, pair), 0) + 1
        subject, fault = self.cells.get(pair, ("", ""))
        if subject != step or counts[step, pair] == 1:
            return dataframe
        counts["spoilt", pair] = True
        return dataframe.iloc[:-1] if fault == "cut" else result_of(fault)

    def populate_indicators(self, dataframe, metadata):
        return self._analysis("populate_indicators", dataframe, metadata["pair"])

    def populate_entry_trend(self, dataframe, metadata):
        signal = 0 if metadata["pair"] in self.quiet else 1
        return self._analysis("populate_entry_trend", dataframe.assign(enter_long=signal), metadata["pair"])

    def populate_exit_trend(self, dataframe, metadata):
        return self._analysis("populate_exit_trend", dataframe, metadata["pair"])

    def confirm_trade_entry(
        self, pair, order_type, amount, rate, time_in_force, current_time, entry_tag, side, **kwargs
    ):
        waits = self.cells.get(pair, ("", ""))[0].startswith("populate_")
        if waits and not self.__dict__.get("counts", {}).get(("spoilt", pair)):
            return False
        return self._answer(pair, "confirm_trade_entry", True)

    def leverage(
        self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs
    ):
        return self._answer(pair, "leverage", 3.0)

    def custom_stake_amount(
        self,
        pair,
        current_time,
        current_rate,
        proposed_stake,
        min_stake,
        max_stake,
        leverage,
        entry_tag,
        side,
        **kwargs,
    ):
        return self._answer(pair, "custom_stake_amount", proposed_stake)

    def custom_entry_price(self, pair, trade, current_time, proposed_rate, entry_tag, side, **kwargs):
        return self._answer(pair, "custom_entry_price", proposed_rate)

    def custom_exit_price(self, pair, trade, current_time, proposed_rate, current_profit, exit_tag, **kwargs):
        return self._answer(pair, "custom_exit_price", proposed_rate)

    def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
        return self._answer(pair, "custom_stoploss", None)

    def custom_exit(self, pair, trade, current_time, current_rate, current_profit, **kwargs):
        return self._answer(pair, "custom_exit", None)

    def confirm_trade_exit(
        self, pair, trade, order_type, amount, rate, time_in_force, exit_reason, current_time, **kwargs
    ):
        return self._answer(pair, "confirm_trade_exit", True)

    def order_filled(self, pair, trade, order, current_time, **kwargs):
        return self._answer(pair, "order_filled", None)

    def check_exit_timeout(self, pair, trade, order, current_time, **kwargs):
        return self._answer(pair, "check_exit_timeout", False)

    def adjust_trade_position(self, trade, *args, **kwargs):
        return self._answer(trade.pair, "adjust_trade_position", None)


def break_for_pairs(faults: dict[str, tuple[str, str]]) -> None:
    """Have our own functions fail where an argument speaks of a pair: ``{pair: (function, fault)}``."""
    for pair, (name, fault) in faults.items():
        assert name in _breakable, f"no longer there: {name}"
        _pair_faults.setdefault(name, {})[pair] = fault


_pair_faults: dict[str, dict[str, str]] = {}


def _pair_fault(key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    by_pair = _pair_faults.get(key)
    if by_pair is None:
        return None
    for argument in (*args, *kwargs.values()):
        pair = argument if isinstance(argument, str) else getattr(argument, "pair", None)
        if pair is None:
            pair = getattr(getattr(argument, "signal", None), "pair", None)
        if isinstance(pair, str) and pair in by_pair:
            return by_pair[pair]
    return None


# -- Notes ----------------------------------------------------------------------------------------------------------------

_notes: list[dict[str, Any]] = []


def _note(kind: str, trade: LocalTrade, strategy: str, **values: Any) -> None:
    _notes.append(
        {
            "kind": kind,
            "strategy": strategy,
            "id": trade.id,
            "pair": trade.pair,
            "short": trade.is_short,
            "entries": trade.nr_of_successful_entries,
            "exits": trade.nr_of_successful_exits,
            "open_rate": trade.open_rate,
            "amount": trade.amount,
            "stake": trade.stake_amount,
            "leverage": trade.leverage,
            "stop": trade.stop_loss,
            "liquidation": trade.liquidation_price,
            "reason": trade.exit_reason,
        }
        | values
    )


def _follow_trades() -> None:
    adjust_stop, close_trade = Backtesting._call_adjust_stop, LocalTrade.close_bt_trade
    current: dict[str, str] = {}

    def noted_adjust(self, current_date, trade, current_rate):
        before = trade.stop_loss
        adjust_stop(self, current_date, trade, current_rate)
        current["strategy"] = name = type(self.strategy).__name__
        _note("fill", trade, name, time=current_date.timestamp(), rate=current_rate, stop_before=before)

    def noted_close(trade):
        exported = trade.to_json(minified=True)
        _note(
            "close",
            trade,
            current.get("strategy", ""),
            time=trade.close_date_utc.timestamp(),
            exported=exported,
        )
        close_trade(trade)

    Backtesting._call_adjust_stop = noted_adjust
    LocalTrade.close_bt_trade = staticmethod(noted_close)


@atexit.register
def _write_notes() -> None:
    target = os.environ.get("TRADE_NOTES")
    if target and _notes:
        with Path(target).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(note) + "\n" for note in _notes)


def _leave_out_reports() -> None:
    # They take longer than a short backtest, and there are hundreds of them.
    backtesting.generate_backtest_stats = lambda *args, **kwargs: {
        "metadata": {},
        "strategy": {},
        "strategy_comparison": [],
    }
    backtesting.show_backtest_results = lambda *args, **kwargs: None
    backtesting.store_backtest_results = lambda *args, **kwargs: None


if os.environ.get("TRADE_NOTES"):
    _follow_trades()
if os.environ.get("NO_REPORTS"):
    _leave_out_reports()
if os.environ.get("BREAKABLE"):
    _break_our_own()
