"""What live bots showed: money that has left the wallet without a result, lost answers, candles not analysed yet."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from freqtrade.enums import RunMode
from freqtrade.persistence import Order, Trade
from host_database import STARTED, Bot, database
from test_margin_host import SIDES, World, at_distance

from plimsoll.host.account import Book, paid_ahead, unrealised_profit
from plimsoll.host.boundary import Complaints
from plimsoll.host.flows import Flows, starting_balance
from plimsoll.host.inputs import Inputs
from plimsoll.settings import load

HOUR = 3600


@pytest.fixture
def trades() -> Iterator[None]:
    with database():
        yield


class Wallet(Bot):
    """A live bot that holds what its wallet is told to."""

    held = 10_000.0

    def __init__(self, trading_mode: str) -> None:
        super().__init__(RunMode.LIVE, starting_balance=self.held)
        self.config["trading_mode"] = trading_mode
        self.taken: dict[str, float] = {}  # pair -> share of the position that the exchange holds no more

    def get_total(self, currency: str) -> float:
        return self.held

    def get_all_positions(self) -> dict[str, Any]:
        return {
            trade.pair: SimpleNamespace(
                side=trade.trade_direction, position=trade.amount * (1.0 - self.taken.get(trade.pair, 0.0))
            )
            for trade in Trade.get_trades_proxy(is_open=True)
            if self.taken.get(trade.pair) != 1.0
        }


def open_trade(*, leverage: float, amount: float, funding: float = 0.0) -> Trade:
    trade = Trade(
        pair="BTC/USDT:USDT",
        exchange="binance",
        strategy="Steady",
        is_open=True,
        is_short=False,
        leverage=leverage,
        stake_amount=amount * 100.0 / leverage,
        amount=amount,
        open_rate=100.0,
        fee_open=0.0005,
        fee_close=0.0005,
        funding_fees=funding,
        open_date=STARTED.replace(tzinfo=None),
    )
    trade.orders.append(
        Order(
            ft_order_side="buy",
            ft_pair=trade.pair,
            ft_is_open=False,
            ft_amount=amount,
            ft_price=100.0,
            order_id="1",
            status="closed",
            side="buy",
            price=100.0,
            average=100.0,
            amount=amount,
            filled=amount,
            remaining=0.0,
        )
    )
    Trade.session.add(trade)
    Trade.session.commit()
    return trade


def flows_of(bot: Any, held: list[float]) -> list[float]:
    flows = Flows()
    found = []
    for amount in held:
        bot.held = amount
        found.append(flows.read(starting_balance(bot)))
    return found


@pytest.mark.parametrize("deposit", [3_000.0, -3_000.0])
def test_flows_when_fees_and_funding_of_an_open_trade_are_paid_then_a_deposit_does_not_take_them_along(
    trades: None, deposit: float
) -> None:
    bot = Wallet("futures")
    before = flows_of(bot, [10_000.0])
    open_trade(leverage=2.0, amount=80.0, funding=-60.0)
    paid = 10_000.0 - 80.0 * 100.0 * 0.0005 - 60.0
    found = flows_of(bot, [paid, paid, paid + deposit, paid + deposit])

    assert before == [0.0]
    assert found == pytest.approx([0.0, 0.0, 0.0, deposit], abs=1e-6)


@pytest.mark.parametrize("taken", [0.5, 1.0])
def test_flows_when_the_exchange_closed_what_freqtrade_has_not_noticed_then_nothing_was_withdrawn(
    trades: None, taken: float
) -> None:
    bot, flows = Wallet("futures"), Flows()
    trade = open_trade(leverage=2.0, amount=80.0)
    bot.held = paid = 10_000.0 - 4.0
    read = [flows.read(starting_balance(bot))]
    bot.taken, bot.held = {trade.pair: taken}, paid - 4_000.0 * taken
    read += [flows.read(starting_balance(bot)) for _ in range(4)]
    bot.held -= 500.0  # money does leave meanwhile: it is told once the books are right
    read += [flows.read(starting_balance(bot)) for _ in range(4)]
    trade.is_open, trade.close_profit_abs = False, -4_000.0 * taken - 4.0
    Trade.session.commit()
    read += [flows.read(starting_balance(bot)) for _ in range(3)]

    assert read == pytest.approx([0.0] * 10 + [-500.0, -500.0], abs=1e-6)


@pytest.mark.parametrize("funding", [-12.0, 0.0, 12.0])
def test_equity_when_fee_and_funding_have_moved_the_balance_then_they_count_once(
    trades: None, funding: float
) -> None:
    bot = Wallet("futures")
    trade = open_trade(leverage=2.0, amount=80.0, funding=funding)
    bot.held = 10_000.0 - 0.0005 * 8_000.0 + funding  # as the exchange has it
    way_out = 0.0005 * 80.0 * 90.0

    found = Book(bot, slippage=0.0).equity(lambda pair: 90.0)  # type: ignore[arg-type]
    assert found == pytest.approx(bot.held + 80.0 * (90.0 - 100.0) - way_out)
    assert trade.funding_fees == funding


@pytest.mark.parametrize(
    ("available", "held", "expected"), [(2_000.0, 10_000.0, 2_000.0), (9_500.0, 8_000.0, 8_000.0)]
)
def test_equity_when_the_bot_has_a_part_of_the_account_then_it_is_that_part_or_what_is_left(
    trades: None, available: float, held: float, expected: float
) -> None:
    bot = Wallet("futures")
    bot.config["available_capital"] = available
    bot.held = held
    book = Book(bot, slippage=0.0)  # type: ignore[arg-type]
    assert book.equity(lambda pair: None) == pytest.approx(expected)
    trade = open_trade(leverage=2.0, amount=8.0)
    profit = unrealised_profit(trade, 90.0)
    assert profit < -80.0
    least = min(available + profit, held + profit - paid_ahead(trade))
    assert book.equity(lambda pair: 90.0) == pytest.approx(least)
    assert starting_balance(bot) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("taken", "left"), [(0.0, 1.0), (0.01, 1.0), (0.5, 0.5), (1.0, 0.0)])
def test_equity_when_the_exchange_closed_what_freqtrade_has_not_noticed_then_the_loss_counts_once(
    trades: None, taken: float, left: float
) -> None:
    bot = Wallet("futures")
    book = Book(bot, slippage=0.0)  # type: ignore[arg-type]
    trade = open_trade(leverage=2.0, amount=80.0)
    open_profit = unrealised_profit(trade, 90.0) - paid_ahead(trade)  # the balance has paid that already
    assert book.equity(lambda pair: 90.0) == pytest.approx(10_000.0 + open_profit)
    bot.taken = {trade.pair: taken}
    bot.held = 10_000.0 - 800.0 * taken

    assert book.equity(lambda pair: 90.0) == pytest.approx(bot.held + open_profit * left)
    # A position that was never seen may be filled later than positions were read: its loss counts.
    fresh = Book(bot, slippage=0.0)  # type: ignore[arg-type]
    assert fresh.equity(lambda pair: 90.0) == pytest.approx(bot.held + open_profit)


def test_flows_when_coins_are_bought_in_spot_then_nothing_was_withdrawn(trades: None) -> None:
    bot, flows = Wallet("spot"), Flows()
    read = [flows.read(starting_balance(bot))]
    open_trade(leverage=1.0, amount=50.0)
    bot.held = 5_000.0
    read += [flows.read(starting_balance(bot)) for _ in range(3)]
    bot.held = 5_500.0
    read += [flows.read(starting_balance(bot)) for _ in range(3)]

    assert read == [0.0, 0.0, 0.0, 0.0, 0.0, 500.0, 500.0]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("minimum", [None, 20.0])
def test_reduction_when_its_lost_order_is_found_right_before_the_next_then_nothing_more_goes(
    side: str, minimum: float | None
) -> None:
    world = World()
    world.minimum = minimum
    trade = world.open(side, leverage=2.0)
    world.loop(at_distance(world, trade, 0.095), times=2)
    assert world.asked(trade) == (0.5, "plimsoll_margin_reduce")
    # Freqtrade books it between our review and its question; a lot is left over.
    trade.amount, trade.stake_amount = 5.1, 255.0

    asked = world.asked(trade)
    assert asked is None if minimum else asked == (pytest.approx(0.1 / 5.1), "plimsoll_margin_reduce")
    trade.amount, trade.stake_amount = 5.0, 250.0
    assert world.asked(trade) is None
    assert not world.margin.wants_exits


def test_health_when_one_reading_is_missing_then_it_is_no_news_and_two_are() -> None:
    world = World()
    world.open()
    world.loop(None)
    world.loop(100.0, times=3)
    world.loop(None)
    world.loop(100.0, times=3)
    assert world.said == []
    world.loop(None, times=3)
    assert world.said == [(1, "unknown")]


def test_signal_when_the_last_candle_was_not_analysed_yet_then_the_one_before_does_not_speak_for_it() -> None:
    strategy: Any = SimpleNamespace(timeframe="1h", config={})
    inputs = Inputs(strategy, load(), Complaints())
    begin = pd.Timestamp("2024-01-01", tz="UTC")
    dates = pd.date_range(begin, periods=3, freq="1h")
    inputs.note_signals("BTC/USDT:USDT", pd.DataFrame({"date": dates, "enter_long": [0, 0, 1]}))
    closed = int(begin.timestamp()) + 3 * HOUR

    known = inputs.signal("BTC/USDT:USDT", closed)
    assert known is not None
    assert (known.candle, known.side) == (closed - HOUR, "long")
    assert inputs.signal("BTC/USDT:USDT", closed + HOUR - 1) is not None
    assert inputs.signal("BTC/USDT:USDT", closed + HOUR) is None
