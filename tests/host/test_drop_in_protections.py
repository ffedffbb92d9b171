"""The drop-in protections on trades made by hand; ``tests/freqtrade/test_protections.py`` has Freqtrade run them."""

from __future__ import annotations

import json
import logging
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import timeframe_to_next_date
from freqtrade.persistence import LocalTrade, PairLocks, Trade, enable_database_use, init_db
from freqtrade.resolvers import ProtectionResolver

from plimsoll.host.protections import DIRECTORY, exits, use
from plimsoll.host.runlog import closed_trade
from plimsoll.rules import decay

DAY = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
NAMES = ("DailyLoss", "WeeklyLoss", "DrawdownBreaker", "LossStreak", "StrategyDecay", "Liquidated")
BALANCE = 9_900.0  # of a wallet of 10,000
BASELINE = {"mean": 0.004, "deviation": 0.02, "trades": 300, "trades_per_day": 6.0}


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(Trade, "use_db", False)
    monkeypatch.setattr(LocalTrade, "use_db", False)
    monkeypatch.setattr(LocalTrade, "bt_trades", [])
    monkeypatch.setattr(LocalTrade, "bt_trades_open", [])


@pytest.fixture
def database():
    init_db("sqlite://")
    PairLocks.timeframe = "1h"
    yield
    Trade.rollback()
    enable_database_use()


def load(name: str, timeframe: str = "1h", user_data: Path = Path("nowhere"), **parameters: Any) -> Any:
    use([])
    config = {"timeframe": timeframe, "user_data_dir": user_data, "tradable_balance_ratio": 0.99}
    return ProtectionResolver.load_protection(name, config, {"method": name, **parameters})


def trade(at: datetime, profit: float | None, ratio: float | None = None, **other: Any) -> Any:
    """A closed trade; its profit ratio is on margin, at 3x."""
    if ratio is None:
        ratio = None if profit is None else profit / 1000.0
    fields = {
        "id": len(LocalTrade.bt_trades),
        "pair": "BTC/USDT:USDT",
        "is_open": False,
        "is_short": False,
        "close_date_utc": at,
        "close_profit_abs": profit,
        "close_profit": ratio,
        "realized_profit": profit,
        "leverage": 3.0,
        "exit_reason": "exit_signal",
        "exit_side": "sell",
        "entry_side": "buy",
        "orders": [],
    }
    return SimpleNamespace(**fields | other)


def close(protection: Any, at: datetime, profit: float | None, balance: float = BALANCE, **other: Any) -> Any:
    """Let a trade close, and ask the protection as Freqtrade does; answer what locks."""
    closed = trade(at, profit, **other)
    LocalTrade.bt_trades.append(closed)
    return ask(protection, closed.pair, at, balance)


def ask(protection: Any, pair: str, at: datetime, balance: float = BALANCE) -> Any:
    if protection.has_local_stop:
        return protection.stop_per_pair(pair, at, "long", balance)
    return protection.global_stop(at, "long", balance)


def hours(count: float) -> datetime:
    return DAY + timedelta(hours=count)


def end_of_lock(answer: Any, timeframe: str = "1h") -> datetime:
    """The moment from which Freqtrade lets entries pass again."""
    return timeframe_to_next_date(timeframe, answer.until)


# -- Each breaker --------------------------------------------------------------------------------------------------


def test_daily_loss_when_limit_is_reached_then_locks_to_the_minute_the_day_ends(offline):
    daily = load("DailyLoss")

    assert close(daily, hours(1), -300.0) is None
    answer = close(daily, hours(9), -200.0)

    assert end_of_lock(answer) == hours(24)
    assert end_of_lock(answer, "1d") == hours(24)
    assert answer.lock_side == "*"
    assert answer.reason == "DailyLoss: daily loss 5.0 % of 10,000, limit 5 %, until 2026-01-06 00:00 UTC"
    assert close(daily, hours(25), -100.0) is None


def test_daily_loss_when_only_trade_of_the_day_loses_then_is_measured_from_before_it(offline):
    daily = load("DailyLoss")
    close(daily, hours(1), -400.0)

    assert close(daily, hours(30), -470.0) is None
    assert close(daily, hours(31), -10.0) is not None


def test_daily_loss_when_rolling_then_looks_across_midnight_and_locks_for_a_day(offline):
    daily = load("DailyLoss", rolling=True)

    assert close(daily, hours(20), -300.0) is None
    assert end_of_lock(close(daily, hours(30), -250.0)) == hours(54)


def test_daily_loss_when_stop_duration_is_given_then_only_further_losses_lock_anew(offline):
    daily = load("DailyLoss", stop_duration_candles=2)

    first = close(daily, hours(3), -500.0)
    assert end_of_lock(first) == hours(5)
    assert first.reason.endswith("limit 5 %, until 2026-01-05 05:00 UTC")
    assert end_of_lock(close(daily, hours(4), 100.0)) == hours(5)
    assert close(daily, hours(6), 50.0) is None
    assert end_of_lock(close(daily, hours(7), -10.0)) == hours(9)


def test_daily_loss_when_unlock_at_is_given_then_locks_until_that_time_of_day(offline):
    daily = load("DailyLoss", unlock_at="06:30")

    assert close(daily, hours(3), -500.0).until == hours(6.5) - timedelta(seconds=1)
    assert "06:30 UTC" in daily.short_desc()


def test_weekly_loss_when_losses_add_up_over_days_then_locks_until_monday(offline):
    weekly = load("WeeklyLoss")

    assert close(weekly, hours(10), -800.0) is None
    assert end_of_lock(close(weekly, hours(60), -700.0)) == hours(7 * 24)


def test_drawdown_when_no_stop_is_given_then_is_latched_with_one_lock(offline):
    breaker = load("DrawdownBreaker")

    close(breaker, hours(1), 1_000.0)
    first = close(breaker, hours(2), -2_200.0)
    again = close(breaker, hours(900), -100.0)

    assert first.until > hours(24 * 3000)
    assert (again.until, again.reason) == (first.until, first.reason)
    assert "drawdown 20.0 % from the peak of 11,000" in first.reason


def test_drawdown_when_stop_is_over_then_measures_from_there(offline):
    breaker = load("DrawdownBreaker", stop_duration=600)

    assert end_of_lock(close(breaker, hours(2), -2_000.0)) == hours(12)
    assert close(breaker, hours(13), -1_500.0) is None
    assert end_of_lock(close(breaker, hours(14), -100.0)) == hours(24)


def test_loss_streak_when_three_lose_then_locks_and_each_further_loss_starts_anew(offline):
    streak = load("LossStreak")

    assert [close(streak, hours(n), -1.0) for n in (1, 2)] == [None, None]
    assert end_of_lock(close(streak, hours(3), -1.0)) == hours(4)
    assert end_of_lock(close(streak, hours(3.5), -1.0)) == hours(5)
    assert end_of_lock(close(streak, hours(4), 5.0)) == hours(5)
    assert close(streak, hours(6), -1.0) is None


def test_loss_streak_when_counted_per_pair_then_locks_that_pair_only(offline):
    streak = load("LossStreak", trade_limit=2, only_per_pair=True)
    eth = {"pair": "ETH/USDT:USDT"}

    assert (streak.has_local_stop, streak.has_global_stop) == (True, False)
    assert close(streak, hours(1), -1.0) is None
    assert close(streak, hours(2), -1.0, **eth) is None
    assert close(streak, hours(3), -1.0) is not None
    assert ask(streak, "ETH/USDT:USDT", hours(3)) is None


def test_liquidated_when_margin_is_lost_then_locks_that_pair_for_a_day(offline):
    liquidated = load("Liquidated")

    assert (liquidated.has_local_stop, liquidated.has_global_stop) == (True, False)
    assert close(liquidated, hours(1), -300.0) is None
    answer = close(liquidated, hours(2), -300.0, exit_reason="liquidation", pair="ETH/USDT:USDT")
    assert end_of_lock(answer) == hours(26)
    assert answer.reason.endswith("no entries on this pair until 2026-01-06 02:00 UTC")
    assert close(liquidated, hours(3), -10.0) is None
    assert end_of_lock(close(liquidated, hours(4), -10.0, pair="ETH/USDT:USDT")) == hours(26)
    assert end_of_lock(close(liquidated, hours(5), -960.0, ratio=-0.96)) == hours(29)


def test_decay_when_no_baseline_then_is_the_rolling_sharpe_ratio(offline):
    protection = load("StrategyDecay", trade_limit=5, lookback_period=2880)

    answers = [close(protection, hours(n), -10.0 - n) for n in range(1, 6)]

    assert answers[:4] == [None] * 4
    assert end_of_lock(answers[4]) == hours(1 + 48)
    assert "2-day Sharpe ratio" in answers[4].reason


def test_decay_when_baseline_is_given_then_is_the_sequential_test(offline, tmp_path):
    stored = tmp_path / "baseline.json"
    stored.write_text(json.dumps({"decay": BASELINE}))
    protection = load("StrategyDecay", baseline=str(stored))
    config = decay.Config(baseline=decay.Baseline(**BASELINE))
    state, expected, answer, count = decay.State(), None, None, 0

    while answer is None:
        count += 1
        answer = close(protection, hours(count), -60.0)  # 2 % of the notional, at 3x
        sample = closed_trade(LocalTrade.bt_trades[-1])
        state, expected = decay.step(state, config, sample)

    assert expected.blocked
    assert count > 5
    assert end_of_lock(answer) == hours(count + 30 * 24)


# -- What holds for all of them ---------------------------------------------------------------------------------------

VARIANTS = [
    ("DailyLoss", {}),
    ("DailyLoss", {"rolling": True, "limit": 0.02}),
    ("DailyLoss", {"stop_duration": 300}),
    ("WeeklyLoss", {"limit": 0.06, "unlock_at": "08:00"}),
    ("DrawdownBreaker", {"limit": 0.08}),
    ("DrawdownBreaker", {"limit": 0.08, "stop_duration": 1200}),
    ("LossStreak", {"stop_duration": 600}),
    ("LossStreak", {"only_per_pair": True, "unlock_at": "12:00"}),
    ("StrategyDecay", {"lookback_period": 2880, "trade_limit": 4}),
    ("StrategyDecay", {"lookback_period": 2880, "trade_limit": 4, "stop_duration": 90}),
    ("StrategyDecay", {"baseline": BASELINE, "false_pause_days": 3, "stop_duration": 2000}),
    ("Liquidated", {"stop_duration": 400}),
]


def random_trades(seed: int, count: int = 120) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    at, found = DAY, []
    for _ in range(count):
        at += timedelta(minutes=dice.choice((0, 5, 60, 240, 900)))
        profit = dice.choice((-300.0, -120.0, -40.0, 0.0, 60.0, 250.0))
        pair = dice.choice(("BTC/USDT:USDT", "ETH/USDT:USDT"))
        reason = "liquidation" if profit == -300.0 and dice.random() < 0.2 else "exit_signal"
        found.append({"at": at, "profit": profit, "pair": pair, "exit_reason": reason})
    return found


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_locks_when_a_close_is_profitable_then_none_ends_later(offline, name, parameters):
    locked = 0
    for seed in range(12):
        LocalTrade.bt_trades, ends = [], {}
        protection = load(name, "5m", **parameters)
        for each in random_trades(seed):
            answer = close(protection, **each)
            key = each["pair"] if protection.has_local_stop else "*"
            end, before = answer.until if answer else each["at"], ends.get(key, DAY)
            if each["profit"] > 0.0 and before > each["at"]:
                assert end <= before, (seed, each)
            if answer:
                assert end > each["at"]
                assert end >= before, "a lock is never shortened either"
                locked += 1
                ends[key] = end
    assert locked > 20


@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_answers_when_started_anew_after_any_trade_then_stay_the_same(offline, name, parameters):
    given = 0
    for seed in (3, 4, 5):
        LocalTrade.bt_trades = []
        running = load(name, "5m", **parameters)
        for each in random_trades(seed, 80):
            answer = close(running, **each)
            anew = type(running)(running._config, running._protection_config)
            assert ask(anew, each["pair"], each["at"]) == answer
            given += answer is not None
    assert given


def test_state_when_another_run_begins_then_is_forgotten(offline):
    streak = load("LossStreak", trade_limit=2)
    close(streak, hours(1), -1.0)

    LocalTrade.bt_trades = []

    assert close(streak, hours(1), -1.0) is None


def test_trades_when_one_closes_later_than_asked_then_waits_for_its_time(offline):
    # As where an intrabar exit of one pair is run before the same candle of another.
    streak = load("LossStreak", trade_limit=2)
    close(streak, hours(1), -1.0)
    LocalTrade.bt_trades.append(trade(hours(3), -1.0))

    assert close(streak, hours(2), 1.0) is None
    assert ask(streak, "*", hours(3)) is None
    assert close(streak, hours(4), -1.0) is not None


# -- Never raise ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_answer_when_profit_is_unknown_then_never_raises_and_blocks_this_candle(offline, name):
    protection = load(name)

    answer = close(protection, hours(1.25), None)

    if name == "Liquidated":  # it does not depend on it
        assert answer is None
    else:
        assert end_of_lock(answer) == hours(2)
        assert answer.reason.startswith(f"{name} unknown: ")
    assert close(protection, hours(3), 1.0) is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("broken", [{"close_date_utc": None}, {"leverage": "three"}, {"orders": None}])
def test_answer_when_a_trade_cannot_be_read_then_never_raises_and_is_logged_once(
    offline, name, broken, caplog
):
    protection = load(name)
    LocalTrade.bt_trades.append(trade(hours(1), -1.0, **broken))

    with caplog.at_level(logging.WARNING):
        answers = [ask(protection, "BTC/USDT:USDT", hours(1.5)) for _ in range(3)]

    assert answers[0] is not None or name == "Liquidated"
    assert all(each is None or end_of_lock(each) == hours(2) for each in answers)
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1


@pytest.mark.parametrize("balance", [None, float("nan"), float("inf"), 0.0, -1.0, "much"])
@pytest.mark.parametrize("name", NAMES)
def test_answer_when_starting_balance_is_bad_then_only_the_equity_breakers_block(offline, name, balance):
    answer = close(load(name), hours(1), -1.0, balance)

    assert (answer is not None) == (name in NAMES[:3])
    assert answer is None or end_of_lock(answer) == hours(2)


@pytest.mark.parametrize("name", NAMES)
def test_answer_when_freqtrade_fails_then_never_raises_and_blocks_this_candle(offline, name, monkeypatch):
    def fail(**_: Any) -> None:
        raise RuntimeError("database is gone")

    protection = load(name)
    monkeypatch.setattr(Trade, "get_trades_proxy", fail)

    answer = ask(protection, "BTC/USDT:USDT", hours(1))
    assert end_of_lock(answer) == hours(2)
    assert "database is gone" in answer.reason
    assert ask(protection, "BTC/USDT:USDT", None).until.tzinfo is UTC  # type: ignore[arg-type]

    monkeypatch.undo()


def test_equity_when_all_is_lost_then_trips_and_is_not_unknown(offline):
    answer = close(load("DailyLoss"), hours(1), -12_000.0)

    assert end_of_lock(answer) == hours(24)


# -- Partial exits ----------------------------------------------------------------------------------------------------


def order(side: str, amount: float, price: float, at: datetime, funding: float = 0.0) -> Any:
    return SimpleNamespace(
        ft_order_side=side,
        ft_is_open=False,
        filled=amount,
        safe_amount_after_fee=amount,
        safe_price=price,
        funding_fee=funding,
        order_filled_utc=at,
    )


@pytest.mark.parametrize("is_short", [False, True])
def test_exits_when_partial_then_each_has_its_time_and_profit_as_freqtrade_counts(is_short):
    entry, exit_ = ("sell", "buy") if is_short else ("buy", "sell")
    real = LocalTrade(
        pair="BTC/USDT:USDT",
        stake_amount=1_000.0,
        amount=30.0,
        open_rate=100.0,
        fee_open=0.001,
        fee_close=0.001,
        open_date=DAY,
        is_short=is_short,
        leverage=3.0,
        exchange="binance",
        trading_mode="futures",
    )
    from freqtrade.persistence import Order

    totals = []
    fills = [
        (entry, 20.0, 100.0),
        (entry, 10.0, 130.0),
        (exit_, 12.0, 90.0),
        (entry, 5.0, 80.0),
        (exit_, 23.0, 95.0),
    ]
    for number, (side, amount, price) in enumerate(fills):
        real.orders.append(
            Order(
                ft_order_side=side,
                ft_is_open=False,
                side=side,
                filled=amount,
                amount=amount,
                price=price,
                average=price,
                funding_fee=float(number),
                order_filled_date=hours(number),
            )
        )
        real.recalc_trade_from_orders()
        totals.append(real.realized_profit)
    real.close_date, real.is_open = hours(4), False
    real.recalc_trade_from_orders(is_closing=True)

    legs = exits(real)

    assert [leg.time for leg in legs] == [int(hours(2).timestamp()), int(hours(4).timestamp())]
    assert legs[0].profit == pytest.approx(totals[2], abs=1e-6)
    assert sum(leg.profit for leg in legs) == pytest.approx(real.close_profit_abs)
    assert [leg.closed is None for leg in legs] == [True, False]


def test_daily_loss_when_an_open_trade_realised_a_loss_then_it_counts_once_and_at_its_time(offline):
    daily = load("DailyLoss")
    orders = [order("buy", 2.0, 1_000.0, hours(0)), order("sell", 1.0, 400.0, hours(23))]
    held = trade(hours(26), -600.0, is_open=True, fee_open=0.0, fee_close=0.0, orders=orders)
    LocalTrade.bt_trades_open.append(held)

    answer = ask(daily, held.pair, hours(23))
    assert end_of_lock(answer) == hours(24)
    LocalTrade.bt_trades_open.clear()
    held.is_open = False
    held.close_profit_abs = held.realized_profit = -590.0
    orders.append(order("sell", 1.0, 1_010.0, hours(26)))
    LocalTrade.bt_trades.append(held)

    assert ask(daily, held.pair, hours(26)) is None
    assert ask(load("DailyLoss"), held.pair, hours(26)) is None


# -- Parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("DailyLoss", {"limit": 5}, "`limit` must be a ratio in (0, 1), was 5"),
        ("DailyLoss", {"limit": "much"}, "`limit` must be a ratio in (0, 1), was 'much'"),
        ("DailyLoss", {"limit": True}, "`limit` must be a ratio in (0, 1), was True"),
        ("DailyLoss", {"limit": float("nan")}, "`limit` must be a ratio in (0, 1), was nan"),
        ("DailyLoss", {"timezone": "Mars/Base"}, "`timezone` must be an IANA name, was 'Mars/Base'"),
        ("DailyLoss", {"lookback_period": 60}, "`lookback_period` is unknown, has limit, rolling"),
        ("DailyLoss", {"rolling": 1}, "`rolling` must be True or False, was 1"),
        ("WeeklyLoss", {"limit": 0}, "`limit` must be a ratio in (0, 1), was 0"),
        ("WeeklyLoss", {"stop_duration": -5}, "`stop_duration` must be a whole number in [1, 5256000] minutes, was -5"),
        ("WeeklyLoss", {"stop_duration_candles": "x"}, "`stop_duration_candles` must be a whole number in [1, 87600]"),
        ("WeeklyLoss", {"unlock_at": "25:00"}, "`unlock_at` must be a time of day HH:MM, UTC, was '25:00'"),
        ("WeeklyLoss", {"unlock_at": "5:00", "stop_duration": 5}, "only one of unlock_at, stop_duration may be set"),
        ("DrawdownBreaker", {"limit": -0.2}, "`limit` must be a ratio in (0, 1), was -0.2"),
        ("LossStreak", {"trade_limit": 0}, "`trade_limit` must be a whole number in [1, 50] trades, was 0"),
        ("LossStreak", {"trade_limit": 2.5}, "`trade_limit` must be a whole number in [1, 50] trades, was 2.5"),
        ("StrategyDecay", {"min_sharpe": 99}, "`min_sharpe` must be a number in [-10, 10], was 99"),
        ("StrategyDecay", {"baseline": "no/such/file"}, "`baseline` cannot be read: FileNotFoundError"),
        ("StrategyDecay", {"baseline": {"mean": 1}}, "`baseline` cannot be read: TypeError"),
        ("StrategyDecay", {"baseline": BASELINE | {"trades": 50}}, "`baseline.trades` must be at least 100"),
        ("StrategyDecay", {"baseline": BASELINE, "min_sharpe": 1}, "`min_sharpe` must be unset with a baseline"),
        ("StrategyDecay", {"false_pause_days": 9}, "`false_pause_days` must be unset without a baseline"),
        ("Liquidated", {"stop": 5}, "`stop` is unknown, has stop_duration, stop_duration_candles, unlock_at"),
    ],
)  # fmt: skip
def test_start_when_a_parameter_is_invalid_then_one_error_names_it(name, parameters, words):
    with pytest.raises(OperationalException) as raised:
        load(name, **parameters)

    assert str(raised.value).startswith(f"Protection {name}: ")
    assert words in str(raised.value)


def test_start_when_several_parameters_are_invalid_then_one_error_names_all():
    with pytest.raises(OperationalException, match=r"`limit` must .*; `colour` is unknown"):
        load("DailyLoss", limit=9, colour="red")


def test_start_when_parameters_are_none_then_they_are_not_given():
    assert load("DailyLoss", stop_duration=None, unlock_at=None, limit=None).values["limit"] == 0.05


@pytest.mark.parametrize("name", NAMES)
def test_short_desc_when_shown_then_names_itself_and_is_honest(name):
    description = load(name).short_desc()

    assert description.startswith(f"{name} - Stops entries ")
    if name in NAMES[:3]:
        assert "Sees closed trades only, and only when one closes." in description


# -- Finding ----------------------------------------------------------------------------------------------------------


def test_directory_when_listed_then_holds_one_class_per_breaker():
    assert DIRECTORY.is_absolute()
    names = [
        each for path in DIRECTORY.glob("*.py") for each in NAMES if f"class {each}(" in path.read_text()
    ]
    assert sorted(names) == sorted(NAMES)
    assert len(list(DIRECTORY.glob("*.py"))) == len(NAMES)
    assert all(len(path.read_text().splitlines()) <= 65 for path in DIRECTORY.glob("*.py"))


def test_use_when_called_then_returns_the_list_and_finds_ours_theirs_and_freqtrades(tmp_path, monkeypatch):
    (tmp_path / "protections").mkdir()
    (tmp_path / "protections" / "mine.py").write_text(
        "from freqtrade.plugins.protections import IProtection\n"
        "class Mine(IProtection):\n"
        "    def short_desc(self): return 'mine'\n"
        "    def global_stop(self, *a, **k): return None\n"
        "    def stop_per_pair(self, *a, **k): return None\n"
    )
    chosen = [{"method": "DailyLoss"}]
    assert use(chosen) is use(chosen) is chosen
    for name in ("Mine", "DailyLoss", "MaxDrawdown"):
        assert load(name, user_data=tmp_path).name == name
    monkeypatch.setattr(ProtectionResolver, "user_subdir", "elsewhere")
    (tmp_path / "protections").rename(tmp_path / "elsewhere")
    for name in ("Mine", "DailyLoss", "MaxDrawdown"):
        assert load(name, user_data=tmp_path).name == name


# -- A trading bot: trades and locks in a database --------------------------------------------------------------------


def store(at: datetime, profit: float) -> None:
    closed = Trade(
        pair="BTC/USDT:USDT",
        stake_amount=1_000.0,
        amount=1.0,
        open_rate=3_000.0,
        fee_open=0.0,
        fee_close=0.0,
        open_date=at - timedelta(hours=1),
        close_date=at,
        is_open=False,
        leverage=3.0,
        close_profit=profit / 1000.0,
        close_profit_abs=profit,
        exchange="binance",
    )
    Trade.session.add(closed)
    Trade.commit()


def remove(lock: Any, at: datetime) -> None:
    """As Freqtrade's `/unlock` does."""
    lock.active = False
    lock.lock_end_time = at
    Trade.commit()


def test_drawdown_when_its_lock_is_removed_then_measures_from_there_after_a_restart_too(database):
    breaker = load("DrawdownBreaker")
    store(hours(1), -2_000.0)
    answer = breaker.global_stop(hours(1), "long", BALANCE)
    lock = PairLocks.lock_pair("*", answer.until, answer.reason, now=hours(1))

    remove(lock, hours(5) + timedelta(seconds=17))
    store(hours(6), -1_500.0)

    for each in (breaker, load("DrawdownBreaker")):
        assert each.global_stop(hours(6), "long", BALANCE) is None
    store(hours(7), -100.0)
    for each in (breaker, load("DrawdownBreaker")):
        assert "drawdown 20.0 % from the peak of 8,000" in each.global_stop(hours(7), "long", BALANCE).reason


def test_drawdown_when_a_strategy_releases_its_lock_then_is_no_reset(database):
    breaker = load("DrawdownBreaker")
    store(hours(1), -2_000.0)
    answer = breaker.global_stop(hours(1), "long", BALANCE)
    PairLocks.lock_pair("*", answer.until, answer.reason, now=hours(1))
    PairLocks.unlock_pair("*", hours(2))
    store(hours(6), -100.0)

    for each in (breaker, load("DrawdownBreaker")):
        assert "drawdown 20.0 % from the peak of 10,000" in each.global_stop(hours(6), "long", BALANCE).reason


def test_daily_loss_when_a_lock_of_unknown_cause_is_removed_then_is_no_reset(database):
    daily = load("DailyLoss")
    answer = daily.global_stop(hours(1), "long", float("nan"))
    remove(PairLocks.lock_pair("*", answer.until, answer.reason, now=hours(1)), hours(1.01))
    store(hours(0.5), -300.0)
    store(hours(2), -200.0)

    assert daily.global_stop(hours(2), "long", BALANCE) is not None


def test_lock_when_it_ended_by_itself_then_is_no_reset(database):
    daily = load("DailyLoss", stop_duration=30)
    store(hours(1), -500.0)
    answer = daily.global_stop(hours(1), "long", BALANCE)
    PairLocks.lock_pair("*", answer.until, answer.reason, now=hours(1))
    store(hours(4), -1.0)

    assert "daily loss 5.0 %" in daily.global_stop(hours(4), "long", BALANCE).reason


def test_daily_loss_when_a_deposit_arrives_then_it_is_neither_profit_nor_loss(database):
    daily = load("DailyLoss")
    store(hours(1), -450.0)
    assert daily.global_stop(hours(1), "long", BALANCE) is None
    store(hours(2), -100.0)  # 5.5 % of 10,000, 5 % of 11,000

    answer = daily.global_stop(hours(2), "long", 11_000 * 0.99)

    assert "5.0 % of 11,000" in answer.reason


def test_daily_loss_when_one_balance_reading_is_far_off_then_neither_trips_nor_resets(database):
    daily = load("DailyLoss")
    store(hours(1), -20.0)
    assert daily.global_stop(hours(1), "long", BALANCE) is None
    store(hours(2), -20.0)

    bad = daily.global_stop(hours(2), "long", 400.0)
    store(hours(3), -20.0)
    daily.global_stop(hours(3), "long", BALANCE)
    store(hours(4), -20.0)

    assert bad.reason.startswith("DailyLoss unknown: the starting balance went from 9900 to 400")
    assert daily.global_stop(hours(4), "long", BALANCE) is None
