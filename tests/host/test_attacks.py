"""What a review found that got past the guard, or kept a position from its exit: each by what a strategy may well contain."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from freqtrade.enums import RunMode
from freqtrade.exceptions import OperationalException
from freqtrade.strategy import IStrategy
from guarded_strategy import PAIR, Plain, guarded
from host_database import database
from planned_bot import RATE, PlannedBot, open_position

from plimsoll import Guarded
from plimsoll.host import start
from plimsoll.host.boundary import Unusable, ask, usable_pairs
from plimsoll.host.optional import same_candles

BLOCKED = "drawdown: tripped"


def order(side: str, tag: str | None = None) -> Any:
    return SimpleNamespace(ft_order_side=side, ft_order_tag=tag)


def trade(short: bool = False) -> Any:
    return SimpleNamespace(pair=PAIR, is_short=short, entry_side="sell" if short else "buy")


# -- Exits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "rate"),
    [
        ("stop_loss", 90.0),
        ("trailing_stop_loss", 90.0),
        ("plimsoll_margin_close", 90.0),
        ("plimsoll_deadman", 90.0),
        ("exit_signal", 91.0),
        ("roi", 91.0),
        (None, 91.0),
    ],
)
def test_exit_price_when_it_waits_for_a_better_one_then_no_protective_exit_does(
    tmp_path: Path, tag: str | None, rate: float
) -> None:
    made = guarded({"custom_exit_price": lambda self, **asked: asked["proposed_rate"] + 1.0}, tmp_path)
    assert made.custom_exit_price(pair=PAIR, trade=trade(), proposed_rate=90.0, exit_tag=tag) == rate


@pytest.mark.parametrize("name", ["adjust_exit_price", "adjust_order_price"])
@pytest.mark.parametrize(
    ("tag", "rate"), [("stop_loss", 90.0), ("plimsoll_stop", 90.0), ("exit_signal", 95.0)]
)
def test_resting_exit_when_it_stands_for_a_stop_then_follows_the_price(
    tmp_path: Path, name: str, tag: str, rate: float
) -> None:
    made = guarded({name: lambda self, **asked: 95.0}, tmp_path)
    asked = {"order": order("sell", tag), "proposed_rate": 90.0, "current_order_rate": 95.0}
    assert getattr(made, name)(pair=PAIR, trade=trade(), **asked) == rate


@pytest.mark.parametrize(
    ("answer", "exits"),
    [
        ("why", "why"),
        (True, True),
        (1, True),
        (math.nan, True),  # as Freqtrade takes it
        ("", None),
        (False, None),
        (None, None),
        (0, None),
        (pd.Series([True, False]), None),
        (pd.DataFrame({"a": [1, 2]}), None),
    ],
)
def test_custom_exit_when_its_answer_is_a_column_then_the_bot_lives(
    tmp_path: Path, answer: Any, exits: Any
) -> None:
    made = guarded({"custom_exit": lambda self, **asked: answer}, tmp_path)
    assert made.custom_exit(pair=PAIR, trade=trade()) == exits


def test_custom_exit_when_it_raises_then_there_is_none(tmp_path: Path) -> None:
    made = guarded({"custom_exit": lambda self, **asked: 1 / 0}, tmp_path)
    assert made.custom_exit(pair=PAIR, trade=trade()) is None


@pytest.mark.parametrize("answer", [pd.Series([True, True]), None, math.nan, "yes", 1])
@pytest.mark.parametrize("name", ["check_entry_timeout", "check_exit_timeout"])
def test_timeout_when_its_answer_is_no_plain_yes_then_the_order_rests(
    tmp_path: Path, name: str, answer: Any
) -> None:
    made = guarded({name: lambda self, **asked: answer}, tmp_path)
    assert getattr(made, name)(pair=PAIR, trade=trade(), order=order("buy")) is False


# -- Orders that rest --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False])
def test_resting_entry_when_a_gate_closes_then_is_cancelled_and_a_resting_exit_is_not(
    tmp_path: Path, own: bool
) -> None:
    names = ("check_entry_timeout", "check_exit_timeout")
    body: dict[str, Any] = dict.fromkeys(names, lambda self, **asked: False) if own else {}
    asked = {"pair": PAIR, "trade": trade(), "order": order("buy"), "current_time": datetime.now(UTC)}
    assert guarded(body, tmp_path).check_entry_timeout(**asked) is False
    made = guarded(body, tmp_path, blocked=BLOCKED)
    assert made.check_entry_timeout(**asked) is True
    assert not own or made.check_exit_timeout(**asked) is False


@pytest.mark.parametrize("name", ["adjust_entry_price", "adjust_order_price"])
@pytest.mark.parametrize(("blocked", "answer"), [(None, 99.0), (BLOCKED, None)])
def test_replaced_entry_when_a_gate_is_closed_then_is_cancelled(
    tmp_path: Path, name: str, blocked: str | None, answer: float | None
) -> None:
    made = guarded({name: lambda self, **asked: 99.0}, tmp_path, blocked=blocked)
    asked = {"order": order("buy"), "proposed_rate": 100.0, "current_order_rate": 98.0}
    assert getattr(made, name)(pair=PAIR, trade=trade(), **asked) == answer
    assert getattr(made, name)(pair=PAIR, trade=trade(), **asked | {"order": order("sell", "roi")}) == 99.0


@pytest.mark.parametrize(("asked", "answer"), [(12.5, 98.0), (97.99, 98.0), (98.01, 98.01), (105.0, 105.0)])
def test_replaced_short_when_it_would_sell_far_under_the_price_then_does_not(
    tmp_path: Path, asked: float, answer: float
) -> None:
    made = guarded({"adjust_entry_price": lambda self, **_: asked}, tmp_path)
    given = {"order": order("sell"), "proposed_rate": 100.0, "current_order_rate": 100.0}
    assert made.adjust_entry_price(pair=PAIR, trade=trade(short=True), **given) == answer


@pytest.mark.parametrize(("rate", "refused"), [(97.9, True), (98.1, False), (20.0, True), (math.nan, True)])
def test_forced_short_when_its_price_is_far_under_the_market_then_is_refused(
    tmp_path: Path, rate: float, refused: bool
) -> None:
    with database():
        bot = PlannedBot(tmp_path)
        bot.loop(5)
        plan = bot.planner.entries.plan(
            pair=PAIR, side="short", now=bot.now, rate=RATE, exchange_maximum=20.0
        )
        assert plan.granted, plan.refusal
        amount = 0.5 * plan.notional / RATE
        reason = bot.planner.entries.confirm(pair=PAIR, side="short", amount=amount, rate=rate, now=bot.now)
    assert (reason is not None) is refused, reason
    assert not refused or "far under the price" in str(reason)


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize(("filled", "kept"), [(1.0, 1.0), (0.5, 0.5), (1.01, 1.01), (5.0, 1.02)])
def test_fill_when_it_is_larger_than_planned_then_r_stays_and_the_stop_moves(
    tmp_path: Path, side: Any, filled: float, kept: float
) -> None:
    with database():
        bot = PlannedBot(tmp_path)
        bot.loop(5)
        plan = bot.planner.entries.plan(pair=PAIR, side=side, now=bot.now, rate=RATE, exchange_maximum=20.0)
        margin = filled * plan.notional / plan.leverage
        position = open_position(bot.now, PAIR, side, leverage=float(plan.leverage), margin=margin)
        bot.planner.filled(position)
        known = bot.planner.trades.plan_of(position)
    assert known is not None
    assert known.risk == pytest.approx(kept * plan.risk, rel=1e-6)


# -- What the guard stands on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stoploss", [math.nan, -math.inf, math.inf, 0.0, None, "x"])
def test_stoploss_when_it_is_none_then_nothing_starts_and_nothing_is_entered(
    tmp_path: Path, stoploss: Any
) -> None:
    strategy: Any = SimpleNamespace(config={}, stoploss=stoploss)
    made = guarded({}, tmp_path)
    assert [subject for subject, _ in start.start_faults(strategy, made._planner.settings)] == ["stoploss"]
    with database():
        bot = PlannedBot(tmp_path)
        bot.loop(5)
        bot.bot.stoploss = stoploss
        plan = bot.planner.entries.plan(pair=PAIR, side="long", now=bot.now, rate=RATE, exchange_maximum=20.0)
    assert not plan.granted
    assert "the strategy's stoploss is" in str(plan.refusal)


def test_stoploss_when_it_is_nan_after_a_reload_then_open_trades_keep_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = guarded({"stoploss": math.nan}, tmp_path)
    with pytest.raises(OperationalException, match="stoploss must be a number, not 0, was nan"):
        made.bot_start()
    monkeypatch.setattr(start, "_process", {"has_traded": True})
    made.bot_start()
    assert made.stoploss == -0.99  # Freqtrade sets stops of open trades by it next
    assert "stoploss" in made._planner.gates.blockers


@pytest.mark.parametrize(
    "name", ["leverage", "custom_stake_amount", "confirm_trade_entry", "custom_stoploss", "custom_exit"]
)
def test_callback_when_it_is_set_on_the_instance_then_the_guards_stands_and_entries_wait(
    tmp_path: Path, name: str
) -> None:
    made = guarded({}, tmp_path)
    before = getattr(made, name, None)
    setattr(made, name, lambda *_, **__: 50.0)
    assert getattr(made, name, None) == before
    assert "define it in the class" in made._planner.gates.blockers[f"own {name}"]
    made.leverage_wanted = lambda: 3.0  # whatever else a strategy keeps is its own affair
    assert made.leverage_wanted() == 3.0


def test_guard_when_a_strategy_replaces_its_planner_then_it_stays_and_entries_wait(tmp_path: Path) -> None:
    made = guarded({}, tmp_path)
    before = made._planner
    made._planner = None
    assert made._planner is before
    assert "use another name" in before.gates.blockers["own _planner"]


@pytest.mark.parametrize("where", ["own", "inherited"])
def test_guard_when_a_strategy_has_a_new_of_its_own_then_it_is_no_strategy(where: str) -> None:
    body = {"__new__": lambda cls, *_, **__: object.__new__(cls)}
    theirs = type("Theirs", (Plain,), body)
    with pytest.raises(OperationalException, match="Mine has a __new__ of its own"):
        type("Mine", (Guarded, Plain), body) if where == "own" else type("Mine", (theirs, Guarded), {})


@pytest.mark.parametrize(
    ("runmode", "is_guarded"),
    [(RunMode.LIVE, True), (RunMode.DRY_RUN, True), (RunMode.BACKTEST, False), (RunMode.HYPEROPT, False)],
)
def test_guard_when_a_strategy_asks_for_none_then_a_trading_bot_has_it_all_the_same(
    tmp_path: Path, runmode: RunMode, is_guarded: bool
) -> None:
    mine: Any = type("Mine", (Guarded, Plain), {"plimsoll_raw": True})
    made = mine({"runmode": runmode, "user_data_dir": tmp_path, "stake_currency": "USDT"})
    assert hasattr(made, "_planner") is is_guarded


class Panic(BaseException):
    """As an extension module's."""


@pytest.mark.parametrize(
    "error", [SystemExit, GeneratorExit, asyncio.CancelledError, Panic, RecursionError, ValueError]
)
def test_strategy_when_it_raises_anything_but_an_operators_interrupt_then_it_is_unusable(error: Any) -> None:
    def strategy() -> None:
        raise error

    with pytest.raises(Unusable):
        ask(strategy, "it")


def test_strategy_when_an_operator_interrupts_it_then_the_bot_ends() -> None:
    def strategy() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(strategy, "it")


def test_thread_when_no_loop_was_run_yet_then_only_who_made_the_bot_is_its_own(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with database():
        planner = PlannedBot(tmp_path).planner
        assert planner.is_own_thread()
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(planner.is_own_thread).result(120)


# -- Analysis -------------------------------------------------------------------------------------------------------


CANDLES = pd.DataFrame(
    {"date": pd.date_range("2024-01-01", periods=3, freq="h", tz="UTC"), "close": [1.0, 2.0, 3.0]}
)


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: pd.concat([frame, frame["close"]], axis=1),
        lambda frame: frame.assign(close=[1.0, 2.0, 3.1]),
        lambda frame: frame.iloc[:-1],
    ],
    ids=["a column twice", "another close", "a candle less"],
)
def test_populate_when_it_does_not_keep_the_candles_then_it_is_unusable(change: Any) -> None:
    def populate(frame: pd.DataFrame, metadata: Any) -> pd.DataFrame:
        return change(frame)  # type: ignore[no-any-return]

    with pytest.raises(Unusable):
        same_candles(CANDLES, populate, {})
    assert same_candles(CANDLES, lambda frame, _: frame.assign(x=1), {}) is not None


def test_analysis_when_it_fails_outside_our_methods_then_the_pair_is_not_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = guarded({}, tmp_path)
    failing = [True]

    def analyze(self: Any, dataframe: Any, metadata: Any) -> Any:
        if failing:
            raise KeyError("sma_1h")
        return dataframe

    monkeypatch.setattr(IStrategy, "analyze_ticker", analyze)
    with pytest.raises(KeyError):
        made.analyze_ticker(CANDLES, {"pair": PAIR})
    assert any("sma_1h" in answer.reason for answer in made._planner.gates.answers(PAIR))
    failing.clear()
    made.analyze_ticker(CANDLES, {"pair": PAIR})
    assert not any("sma_1h" in answer.reason for answer in made._planner.gates.answers(PAIR))


@pytest.mark.parametrize(("entry", "fine"), [("futures", True), ("", True), ("future", False)])
def test_informative_pairs_when_the_candle_type_is_unknown_then_they_are_unusable(
    entry: str, fine: bool
) -> None:
    if fine:
        assert usable_pairs([(PAIR, "1h", entry)]) == [(PAIR, "1h", entry)]
    else:
        with pytest.raises(Unusable, match="future"):
            usable_pairs([(PAIR, "1h", entry)])


# -- What the wrapped strategy states -----------------------------------------------------------------------------------


def test_limits_when_the_wrapped_strategy_states_them_then_they_hold(tmp_path: Path) -> None:
    made = guarded({"plimsoll": {"risk": {"per_trade": 0.001}}}, tmp_path)
    assert made._planner.settings.risk.per_trade == 0.001


def test_startup_when_the_wrapped_strategy_has_a_property_then_it_is_asked(tmp_path: Path) -> None:
    made = guarded({"startup_candle_count": property(lambda self: 5_000)}, tmp_path)
    assert made.startup_candle_count == 5_000
