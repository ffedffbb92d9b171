"""What a second review found: risk that nothing watches, exits that wait, capital that counts twice, latches that get lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.enums import RunMode, TradingMode
from freqtrade.persistence import Trade
from freqtrade.wallets import PositionWallet
from guarded_strategy import PAIR, Plain, guarded
from host_database import database
from planned_bot import RATE, PlannedBot, open_position

from plimsoll.host import internals
from plimsoll.host.breakers import Breakers
from plimsoll.host.fleet import Fleet
from plimsoll.host.margin import Exit
from plimsoll.host.positions import pairs_of_others
from plimsoll.rules.breaker import EquitySample
from plimsoll.settings import load

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


# -- An entry that is filled in part ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filled", "age", "cancelled"),
    [(0.0, 3_600.0, False), (0.1, 59.0, False), (0.1, 60.0, True), (None, 99.0, False)],
)
def test_entry_when_filled_in_part_for_a_minute_then_its_rest_is_cancelled(
    tmp_path: Path, filled: float | None, age: float, cancelled: bool
) -> None:
    made = guarded({}, tmp_path)
    order = SimpleNamespace(filled=filled, order_date_utc=NOW - timedelta(seconds=age))
    trade = SimpleNamespace(pair=PAIR)
    assert made.check_entry_timeout(pair=PAIR, trade=trade, order=order, current_time=NOW) is cancelled


# -- A short that is added to at any price ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "adds", "expected"), [(True, True, 98.0), (False, True, 60.0), (True, False, 60.0)]
)
def test_addition_when_priced_far_under_the_market_then_a_short_is_kept_near_it(
    tmp_path: Path, short: bool, adds: bool, expected: float
) -> None:
    made = guarded({"custom_entry_price": lambda self, **_: 60.0}, tmp_path)
    trade = (
        SimpleNamespace(pair=PAIR, is_short=short, entry_side="sell" if short else "buy") if adds else None
    )
    asked = {"pair": PAIR, "trade": trade, "current_time": NOW, "proposed_rate": 100.0, "entry_tag": None}
    assert made.custom_entry_price(**asked, side="short" if short else "long") == expected


# -- Exits of our own do not wait for their price ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "markets", "expected"),
    [(True, True, "market"), (False, True, "limit"), (True, False, "limit")],
)
def test_exit_when_it_is_the_guards_own_then_is_a_market_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool, markets: bool, expected: str
) -> None:
    made = guarded({}, tmp_path)
    exchange = SimpleNamespace(exchange_has=lambda name: markets and name == "createMarketOrder")
    monkeypatch.setattr(internals, "exchange_of", lambda strategy: exchange)
    if wanted:
        made._planner.margin._ordered[1] = Exit(1.0, "plimsoll_stop", 1.0)
    with database():
        assert made.order_types["exit"] == expected
    assert made.order_types["entry"] == "limit"


def test_order_types_when_the_config_or_the_strategy_states_them_then_they_are_those(tmp_path: Path) -> None:
    own = {"entry": "limit", "exit": "limit", "stoploss": "market", "stoploss_on_exchange": True}
    assert guarded({"order_types": own}, tmp_path).order_types == own
    assert guarded({}, tmp_path).order_types == Plain.order_types
    stated = own | {"stoploss": "limit"}
    assert guarded({"order_types": own}, tmp_path, order_types=stated).order_types == stated


# -- An entry that a backtest replaces -------------------------------------------------------------------------------------------


def test_replacement_when_its_order_is_gone_already_then_its_plan_may_be_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database():
        bot = PlannedBot(tmp_path, off=["correlation"])
        bot.loop(5)
        entries = bot.planner.entries
        plan = entries.plan(pair=PAIR, side="long", now=bot.now, rate=RATE, exchange_maximum=20.0)
        monkeypatch.setattr(internals, "is_offline", lambda: True)
        asked: dict[str, Any] = {"pair": PAIR, "side": "long", "amount": plan.notional / RATE, "rate": RATE}
        late = bot.now + timedelta(hours=1)
        waiting = SimpleNamespace(pair=PAIR, is_short=False, has_open_orders=False, has_open_position=False)
        for trades, refused in (([], True), ([waiting], False)):
            monkeypatch.setattr(bot.planner.book, "trades", lambda found=trades: found)
            monkeypatch.setattr(bot.planner.gates, "closed", lambda pair: None)
            answer = entries.confirm(**asked, now=late)
            assert (answer is not None and "seconds old" in answer) is refused


# -- A breaker that is switched off and on again -----------------------------------------------------------------------------------


def test_breaker_when_switched_off_and_on_again_then_it_is_as_it_was() -> None:
    def made(**changes: Any) -> Breakers:
        return Breakers(load(changes), confirmations=1, attended=True)

    first = made()
    for second, equity in enumerate((10_000.0, 7_000.0)):
        first.equity(EquitySample(1_000_000 + second, equity))
    before = first.dump()
    assert first.by_equity["drawdown"].verdict.blocked  # type: ignore[union-attr]

    without = made(off=["drawdown", "loss_limit", "deadman"])
    without.restore(before)
    assert "drawdown" not in without.by_equity
    again = made()
    again.restore(without.dump())
    assert again.dump() == before
    again.equity(EquitySample(1_000_010, 7_000.0))
    assert again.by_equity["drawdown"].verdict.blocked  # type: ignore[union-attr]


# -- Several bots on one account ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stated", [False, True])
def test_entries_when_another_bot_trades_on_the_account_then_each_has_to_state_its_capital(
    tmp_path: Path, stated: bool
) -> None:
    with database():
        bot = PlannedBot(tmp_path, portfolio={"ledger": str(tmp_path / "ledger.sqlite")})
        bot.bot.config |= {"available_capital": 5_000.0} if stated else {}
        fleet = Fleet(bot.bot, bot.settings)
        fleet._fault = None
        fleet.see_account(set())
        assert fleet.answer() is None
        fleet.see_account({"ETH/USDT:USDT"})
        fleet.see_account(set())  # seen once it stays
        answer = fleet.answer()
        assert (answer is None) is stated
        assert [("available_capital" in said) for said in fleet.news()] == [True] * (not stated)


def test_account_when_it_holds_what_another_bot_claimed_then_it_is_shared() -> None:
    held = {PAIR: PositionWallet(PAIR, position=2.0, leverage=4.0, collateral=50.0, side="long")}
    live: Any = SimpleNamespace(
        config={"runmode": RunMode.LIVE, "trading_mode": TradingMode.FUTURES},
        wallets=SimpleNamespace(get_all_positions=lambda: held),
    )
    assert pairs_of_others(live, [], {PAIR, "ETH/USDT:USDT"}) == {PAIR}
    assert pairs_of_others(live, [], {"ETH/USDT:USDT"}) == set()
    with database():
        own = open_position(NOW, PAIR)
        assert isinstance(own, Trade)
        assert pairs_of_others(live, [own], {PAIR}) == set()
    live.config["runmode"] = RunMode.DRY_RUN
    assert pairs_of_others(live, [], {PAIR}) == set()
