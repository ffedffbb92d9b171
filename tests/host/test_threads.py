"""Force commands run in threads of their own beside the bot's loop: nothing is lost, nothing raises, nobody waits for ever."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from inspect import getsource
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from attended import bot_database as bot_database
from attended import reused_postgres as reused_postgres
from freqtrade.enums import RunMode
from freqtrade.freqtradebot import FreqtradeBot
from freqtrade.persistence import Trade
from freqtrade.persistence.custom_data import _CustomData
from freqtrade.strategy import IStrategy
from host_database import database
from planned_bot import RATE, PlannedBot, open_position

from plimsoll import Guarded
from plimsoll.host import threads
from plimsoll.host.threads import Busy, alone, one_at_a_time

ROUNDS = 6
COMMANDERS = 4
PATIENCE = 300.0  # seconds: whoever is at work may stand still for a while


class Owner:
    """Has something to protect."""

    def __init__(self) -> None:
        self.count = 0

    @alone
    def slowly(self) -> int:
        """Add one in a way that loses updates where two do it at once."""
        known = self.count
        time.sleep(0.0005)
        self.count = known + 1
        return self.count

    @alone
    def twice(self) -> int:
        """Enter again from within."""
        self.slowly()
        return self.slowly()


@pytest.fixture
def trading() -> Any:
    with database():
        yield


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE", PATIENCE)


def run_all(*bodies: Any, seconds: float = 2 * PATIENCE) -> list[BaseException]:
    """Run each body in a thread; return what they raised, and fail where one does not end."""
    raised: list[BaseException] = []

    def guarded(body: Any) -> None:
        try:
            body()
        except BaseException as error:
            raised.append(error)
        finally:
            for session in (getattr(Trade, "session", None), getattr(_CustomData, "session", None)):
                if session is not None:
                    session.remove()

    started = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    for thread in started:
        thread.start()
    ends = time.monotonic() + seconds
    for thread in started:
        thread.join(max(0.0, ends - time.monotonic()))
        assert not thread.is_alive(), "deadlock"
    return raised


@pytest.mark.usefixtures("trading")
def test_method_when_many_threads_enter_then_one_at_a_time_does() -> None:
    owner = Owner()

    def enter() -> None:
        for _ in range(50):
            owner.slowly()

    assert run_all(*[enter] * 8) == []
    assert owner.count == 400


@pytest.mark.usefixtures("trading")
def test_method_when_entered_from_within_then_does_not_wait_for_itself() -> None:
    owner = Owner()
    assert run_all(owner.twice) == []
    assert owner.count == 2


@pytest.mark.usefixtures("trading")
def test_method_when_another_thread_hangs_then_gives_up_after_its_patience(monkeypatch: Any) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.1)
    owner, held, done = Owner(), threading.Event(), threading.Event()

    def hang() -> None:
        with one_at_a_time(owner):
            held.set()
            done.wait(PATIENCE)

    hanging = threading.Thread(target=hang, daemon=True)
    hanging.start()
    assert held.wait(PATIENCE)
    begin = time.monotonic()
    with pytest.raises(Busy):
        owner.slowly()
    assert time.monotonic() - begin < PATIENCE / 2
    assert Owner().slowly() == 1  # another owner has nothing to do with it
    done.set()
    hanging.join(PATIENCE)
    assert owner.slowly() == 1


@pytest.mark.usefixtures("trading")
def test_method_when_it_raises_then_the_next_may_enter() -> None:
    owner = Owner()
    with pytest.raises(RuntimeError), one_at_a_time(owner):
        raise RuntimeError("inside")
    assert run_all(owner.slowly) == []


@pytest.mark.usefixtures("trading")
def test_lock_when_its_owner_is_gone_then_is_gone_too() -> None:
    gc.collect()
    owner = Owner()
    owner.slowly()
    known = len(threads._locks)
    gone = weakref.ref(owner)
    del owner
    gc.collect()
    assert gone() is None
    assert len(threads._locks) == known - 1


# -- A bot and its force commands -----------------------------------------------------------------------------------------------------


def enter(bot: PlannedBot, pair: str, side: Any, notes: dict[str, Any]) -> None:
    """Do what Freqtrade does for one forced entry, from the question for leverage to the fill."""
    planner = bot.planner
    now = bot.now
    plan = planner.entries.plan(pair=pair, side=side, now=now, rate=RATE, exchange_maximum=20.0)
    planner.entries.waits_for_size(plan)
    waiting = planner.entries.waiting(pair, side, now, plan.leverage)
    if waiting is None:  # a minute of the bot's loops has passed since
        waiting = planner.entries.plan(
            pair=pair, side=side, now=bot.now, rate=RATE, exchange_maximum=20.0, fixed_leverage=plan.leverage
        )
    sized = planner.entries.size(waiting, proposed=1e9, own=None, minimum=5.0, maximum=1e9)
    if not sized.granted:
        notes.setdefault("refused", []).append(sized.refusal)
        return
    amount = sized.notional / RATE
    reason = planner.entries.confirm(pair=pair, side=side, amount=amount, rate=RATE, now=now)
    if reason is not None:
        notes.setdefault("unconfirmed", []).append(reason)
        return
    trade = open_position(bot.now, pair, side, leverage=float(sized.leverage), margin=sized.margin)
    planner.filled(trade)
    notes[pair] = (trade.id, sized.risk)
    Trade.session.commit()
    Trade.session.remove()


@pytest.mark.usefixtures("bot_database")
def test_planner_when_force_commands_hammer_it_beside_the_loop_then_nothing_raises_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    limits = {"total_margin": 1.0, "heat": 0.5, "gross_notional": 25.0, "net_notional": 25.0}
    # Each loop is a minute: there may be days of them, without anybody who checks in.
    bot = PlannedBot(tmp_path, exposure=limits, off=["correlation", "deadman"])
    bot.loop(5)
    notes: list[dict[str, Any]] = [{} for _ in range(COMMANDERS)]
    ended, looped = threading.Event(), threading.Event()
    loops = 0

    def command(number: int) -> Any:
        def commands() -> None:
            for entry in range(ROUNDS):
                if entry == ROUNDS - 1:
                    looped.wait(PATIENCE)  # the loop has had its turns meanwhile
                side = ("long", "short")[entry % 2]
                enter(bot, f"C{number}E{entry}/USDT:USDT", side, notes[number])
                bot.planner.entries.refuse("NONE/USDT:USDT", "long", "test", "nothing pending")
                bot.planner.is_own_thread()

        return commands

    def commanders() -> None:
        try:
            raised = run_all(*[command(number) for number in range(COMMANDERS)])
            assert raised == []
        finally:
            ended.set()

    outcome: list[BaseException] = []

    def commanding() -> None:
        try:
            commanders()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=commanding, daemon=True)
    thread.start()
    while not ended.wait(0.001):  # a lock that is taken again at once leaves nobody else a turn
        bot.loop()
        Trade.session.rollback()
        loops += 1
        if loops >= 3:
            looped.set()
        assert bot.planner.trading.watch is not None
        assert bot.planner.trading.watch.blocker is None
    thread.join(PATIENCE)
    assert outcome == []
    assert loops >= 3

    entered = {pair: note for one in notes for pair, note in one.items() if "/" in pair}
    assert len(entered) == COMMANDERS * ROUNDS, [
        (one.get("refused"), one.get("unconfirmed")) for one in notes
    ]
    plans = bot.planner.run().trades
    for number, risk in entered.values():
        assert plans[number].risk == pytest.approx(risk, rel=1e-6)
    assert len({number for number, _ in entered.values()}) == len(entered)
    bot.restart()
    bot.loop(3)
    for number, risk in entered.values():  # and each is stored
        assert bot.planner.run().trades[number].risk == pytest.approx(risk, rel=1e-6)


@pytest.mark.usefixtures("bot_database")
def test_planner_when_commands_enter_at_once_then_each_stays_within_its_own_limit(tmp_path: Path) -> None:
    bot = PlannedBot(tmp_path, off=["correlation"])
    bot.loop(5)
    notes: dict[str, Any] = {}
    bodies = [lambda n=n: enter(bot, f"P{n}/USDT:USDT", "long", notes) for n in range(8)]  # type: ignore[misc]
    assert run_all(*bodies) == []
    positions = bot.planner.entries.positions()
    equity = 10_000.0

    # Each may be planned before the others are in the database: the limits on all together can be overshot by that much.
    assert len(positions) == len([pair for pair in notes if "/" in pair])
    assert max(position.margin for position in positions) <= bot.settings.exposure.position_margin * equity


@pytest.mark.usefixtures("trading")
def test_loop_when_a_command_hangs_then_the_loop_says_so_and_goes_on_afterwards(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 0.1)
    bot = PlannedBot(tmp_path)
    bot.loop(4)
    held, done = threading.Event(), threading.Event()

    def hang() -> None:
        with one_at_a_time(bot.planner):
            held.set()
            done.wait(PATIENCE)

    hanging = threading.Thread(target=hang, daemon=True)
    hanging.start()
    assert held.wait(PATIENCE)
    with pytest.raises(Busy):
        bot.loop()
    with pytest.raises(Busy):
        bot.planner.entries.confirm(pair="X/USDT:USDT", side="long", amount=1.0, rate=1.0, now=bot.now)
    done.set()
    hanging.join(PATIENCE)
    bot.loop()
    assert bot.planner.trading.watch is not None
    assert bot.planner.trading.watch.blocker is None


# -- Parallel hyperopt pickles the strategy ---------------------------------------------------------------------------------------------


class Own(IStrategy):
    """A strategy as a user writes it."""

    timeframe = "1h"
    stoploss = -0.1
    minimal_roi = {"0": 1.0}  # noqa: RUF012

    def populate_indicators(self, dataframe: Any, metadata: Any) -> Any:
        return dataframe

    def populate_entry_trend(self, dataframe: Any, metadata: Any) -> Any:
        return dataframe

    def populate_exit_trend(self, dataframe: Any, metadata: Any) -> Any:
        return dataframe


class Mine(Guarded, Own):
    """The same, guarded."""


@pytest.mark.parametrize("runmode", [RunMode.HYPEROPT, RunMode.BACKTEST])
def test_strategy_when_pickled_by_value_after_its_lock_was_used_then_comes_back_and_works(
    runmode: RunMode, tmp_path: Path
) -> None:
    config: Any = {"runmode": runmode, "user_data_dir": tmp_path, "stake_currency": "USDT"}
    strategy: Any = Mine(config)
    with one_at_a_time(strategy._planner):
        pass
    again = cloudpickle.loads(cloudpickle.dumps(strategy))

    assert type(again).__name__ == "Mine"
    with one_at_a_time(again._planner):
        assert run_all(lambda: again._planner.is_own_thread()) == []
    assert again.position_adjustment_enable is False
    assert again._planner.settings == strategy._planner.settings


@pytest.mark.parametrize("stated", [False, True, None])
@pytest.mark.parametrize("runmode", [RunMode.DRY_RUN, RunMode.BACKTEST])
def test_start_when_the_config_switches_custom_stops_off_then_stops_on_an_exchange_are_moved_all_the_same(
    runmode: RunMode, stated: bool | None, tmp_path: Path
) -> None:
    # Freqtrade asks this key of the config, not the strategy, whether it moves a stop that rests on the exchange.
    assert 'self.config.get("use_custom_stoploss"' in getsource(FreqtradeBot.manage_trade_stoploss_orders)
    config: Any = {"runmode": runmode, "user_data_dir": tmp_path, "stake_currency": "USDT"}
    config |= {} if stated is None else {"use_custom_stoploss": stated}
    strategy: Any = Mine(config)
    strategy.bot_start()

    assert config.get("use_custom_stoploss") is (True if runmode is RunMode.DRY_RUN else stated)
    assert strategy._own_wants_stoploss() is bool(stated)  # the strategy's own stays as it was
