"""Stock ``freqtrade trade`` with ``dry_run`` false, against the simulated account of a loopback exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from live_bot import LiveBot, running_live_bot

from plimsoll import journal

pytestmark = pytest.mark.freqtrade

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
PAIRS = [BTC, ETH]
SOURCE = '''
from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class Sided(IStrategy):
    timeframe = "1h"
    can_short = True
    stoploss = -0.30
    minimal_roi = {}
    order_types = {
        "entry": "limit", "exit": "market", "emergency_exit": "market", "stoploss": "market", "stoploss_on_exchange": True
    }

    def leverage(self, *args, **kwargs):
        return 3.0

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe["enter_short" if metadata["pair"].startswith("ETH") else "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe


class GuardedSided(Guarded, Sided):
    pass


class Waiting(Sided):
    """Enter by orders that wait, follow the price with the stop, leave at 12 %."""

    trailing_stop = True
    unfilledtimeout = {"entry": 3, "exit": 30, "unit": "seconds"}
    order_types = {**Sided.order_types, "stoploss": "limit", "stoploss_on_exchange_interval": 1}

    def custom_entry_price(self, pair, trade, current_time, proposed_rate, entry_tag, side, **kwargs):
        return proposed_rate * (0.995 if side == "long" else 1.015)

    def custom_exit(self, pair, trade, current_time, current_rate, current_profit, **kwargs):
        return "enough" if current_profit > 0.12 else None
'''


def trade_of(bot: LiveBot, pair: str) -> dict[str, Any]:
    (trade,) = [each for each in bot.trades() if each["pair"] == pair]
    return trade


def opened(bot: LiveBot, seconds: float = 60) -> bool:
    """Wait until both trades are booked as filled."""
    return bot.wait(lambda: [each["amount"] > 0 for each in bot.trades()] == [True, True], seconds)


def closed(bot: LiveBot, pair: str, seconds: float = 30) -> bool:
    return bot.wait(lambda: not trade_of(bot, pair)["is_open"], seconds)


def granted(directory: Path) -> list[dict[str, Any]]:
    """Return the plans of the journal that were granted."""
    records = journal.read(directory / "plimsoll" / "GuardedSided-live.jsonl")
    return [each for each in records if each["kind"] == "plan" and each["granted"]]


def paid(bot: LiveBot, symbol: str) -> float:
    """Return what the wallet gained by a symbol, fees and funding included."""
    return sum(each.amount for each in bot.account.incomes if each.symbol == symbol)


def test_live_bot_when_price_crosses_the_resting_stops_then_books_what_the_exchange_filled(
    tmp_path: Path,
) -> None:
    with running_live_bot(tmp_path / "bot", "GuardedSided", SOURCE, PAIRS) as bot:
        rests = bot.wait(
            lambda: all(len(bot.resting_stops(symbol)) == 1 for symbol in ("BTCUSDT", "ETHUSDT")), 90
        )
        assert rests, bot.last_words()
        assert opened(bot)
        # A loop writes its journal at its end.
        assert bot.wait(lambda: {each["pair"] for each in granted(tmp_path / "bot")} == set(PAIRS), 30)
        plans = granted(tmp_path / "bot")
        for plan in plans:
            (size,) = [each for each in plan["answers"] if each["rule"] == "risk_size"]
            assert size["numbers"]["equity"] == pytest.approx(10_000, rel=1e-3)
        for pair, symbol, sign in ((BTC, "BTCUSDT", 1.0), (ETH, "ETHUSDT", -1.0)):
            trade, position = trade_of(bot, pair), bot.account.positions[symbol]
            (stop,) = bot.resting_stops(symbol)
            assert position.amount == pytest.approx(sign * trade["amount"])
            assert trade["open_rate"] == pytest.approx(position.entry_price, rel=1e-12)
            assert position.leverage == trade["leverage"]
            assert stop.trigger_price == trade["stop_loss"]
            assert stop.quantity == trade["amount"]
            assert stop.reduce_only
            # Freqtrade keeps the exchange's own liquidation price, moved towards the entry by 5 % of the way.
            liquidation = position.liquidation_price(bot.account.tiers[symbol])
            buffered = liquidation + 0.05 * (trade["open_rate"] - liquidation)
            assert trade["liquidation_price"] == pytest.approx(buffered, rel=2e-3)

        for pair, symbol, sign in ((BTC, "BTCUSDT", 1.0), (ETH, "ETHUSDT", -1.0)):
            (stop,) = bot.resting_stops(symbol)
            with bot.account.lock:
                price = bot.account.quote(symbol).last
                bot.prices.factors[pair] = stop.trigger_price / price * (1 - sign * 0.002)
            assert closed(bot, pair), bot.last_words()
            trade, filled = trade_of(bot, pair), bot.account.orders[stop.order_id]
            assert stop.status == "FINISHED"
            assert trade["exit_reason"] == "stoploss_on_exchange"
            assert trade["close_rate"] == pytest.approx(filled.average)
            assert trade["close_profit_abs"] == pytest.approx(paid(bot, symbol), abs=1e-6)
            assert not bot.account.positions[symbol].is_open
        booked = sum(each["close_profit_abs"] for each in bot.trades())
        assert bot.account.wallet_balance == pytest.approx(10_000 + booked, abs=1e-6)
        assert bot.strangers() == []
        assert "Traceback" not in bot.log()


def test_live_bot_when_stops_are_refused_and_positions_vanish_then_finds_them_sold_on_the_exchange(
    tmp_path: Path,
) -> None:
    with running_live_bot(tmp_path / "bot", "Sided", SOURCE, PAIRS, {"stake_amount": 1_000}) as bot:
        bot.account.refuse_stops()
        assert opened(bot, 90), bot.last_words()
        assert bot.wait(lambda: "Unable to place a stoploss order on exchange" in bot.log(), 30)
        assert [each["is_open"] for each in bot.trades()] == [1, 1]
        margin = bot.account.positions["BTCUSDT"].isolated_wallet

        # The exchange liquidates the long, a person closes the short.
        liquidation = bot.account.positions["BTCUSDT"].liquidation_price(bot.account.tiers["BTCUSDT"])
        with bot.account.lock:
            bot.prices.factors[BTC] = 0.999 * liquidation / bot.account.quote("BTCUSDT").last
            bot.account.advance()
        assert not bot.account.positions["BTCUSDT"].is_open
        bot.account.close_position("ETHUSDT")

        assert closed(bot, BTC), bot.last_words()
        assert closed(bot, ETH), bot.last_words()
        assert [each["exit_reason"] for each in bot.trades()] == ["sold_on_exchange"] * 2
        long, short = trade_of(bot, BTC), trade_of(bot, ETH)
        fees = sum(each.fee for each in bot.account.fills if each.symbol == "BTCUSDT")
        # What the insurance fund took beyond the fill is in no fill, so Freqtrade cannot know of it.
        assert paid(bot, "BTCUSDT") == pytest.approx(-margin - fees, abs=1e-6)
        taken = sum(each.amount for each in bot.account.incomes if each.kind == "INSURANCE_CLEAR")
        assert taken < 0
        assert long["close_profit_abs"] == pytest.approx(paid(bot, "BTCUSDT") - taken, abs=1e-6)
        assert short["close_profit_abs"] == pytest.approx(paid(bot, "ETHUSDT"), abs=1e-6)
        assert bot.strangers() == []


def test_live_bot_when_price_jumps_past_stop_and_margin_then_finds_the_liquidation_and_nothing_else(
    tmp_path: Path,
) -> None:
    with running_live_bot(tmp_path / "bot", "Sided", SOURCE, PAIRS, {"stake_amount": 1_000}) as bot:
        assert bot.wait(lambda: len(bot.resting_stops("BTCUSDT")) == 1, 90), bot.last_words()
        assert opened(bot)
        (stop,) = bot.resting_stops("BTCUSDT")
        margin = bot.account.positions["BTCUSDT"].isolated_wallet
        bot.prices.factors[BTC] = 0.6  # 3x is bankrupt at 0.667
        assert closed(bot, BTC), bot.last_words()

        trade = trade_of(bot, BTC)
        assert stop.status == "CANCELED"
        # Freqtrade has no other name for what it finds at the exchange.
        assert trade["exit_reason"] == "sold_on_exchange"
        assert trade["close_rate"] == pytest.approx(trade["open_rate"] * 2 / 3, rel=1e-6)
        assert trade["close_profit_abs"] == pytest.approx(paid(bot, "BTCUSDT"), abs=1e-6)
        assert paid(bot, "BTCUSDT") == pytest.approx(-margin, rel=0.01)
        assert len(bot.bots_orders("BTCUSDT")) == 1
        assert trade_of(bot, ETH)["is_open"]
        assert bot.strangers() == []


def test_live_bot_when_orders_wait_time_out_trail_and_exit_then_leaves_nothing_at_the_exchange(
    tmp_path: Path,
) -> None:
    """The long is filled when the price comes to its order; the short's order times out each time."""
    config = {"stake_amount": 1_000}
    with running_live_bot(tmp_path / "bot", "Waiting", SOURCE, PAIRS, config, clock_stands=True) as bot:
        placed = bot.wait(
            lambda: all(len(bot.bots_orders(symbol)) == 1 for symbol in ("BTCUSDT", "ETHUSDT")), 90
        )
        assert placed, bot.last_words()
        (entry,) = bot.bots_orders("BTCUSDT")
        with bot.account.lock:
            assert (entry.status, entry.filled) == ("NEW", 0.0)
            bot.prices.factors[BTC] = 0.994
            bot.account.advance()
        assert (entry.status, entry.average) == ("FILLED", entry.price)
        bot.clock.run(1.0)  # it has stood: however slow the bot was, no order had timed out
        assert bot.wait(lambda: len(bot.resting_stops("BTCUSDT")) == 1, 30), bot.last_words()
        (first,) = bot.resting_stops("BTCUSDT")
        assert first.kind == "STOP"
        assert first.price < first.trigger_price

        bot.prices.factors[BTC] = 1.02
        assert bot.wait(lambda: first.status == "CANCELED", 30), bot.last_words()
        assert bot.wait(lambda: len(bot.resting_stops("BTCUSDT")) == 1, 30), bot.last_words()
        (second,) = bot.resting_stops("BTCUSDT")
        assert second.trigger_price > first.trigger_price

        bot.prices.factors[BTC] = 1.05
        closed_long = bot.wait(
            lambda: any(each["pair"] == BTC and not each["is_open"] for each in bot.trades()), 30
        )
        assert closed_long, bot.last_words()
        (trade,) = [each for each in bot.trades() if each["pair"] == BTC and not each["is_open"]]
        assert trade["exit_reason"] == "enough"
        assert trade["close_profit_abs"] == pytest.approx(paid(bot, "BTCUSDT"), abs=1e-6)
        assert bot.resting_stops("BTCUSDT") == []
        timed_out = bot.wait(lambda: bot.bots_orders("ETHUSDT")[0].status == "CANCELED", 30)
        assert timed_out, bot.last_words()
        shorts = bot.bots_orders("ETHUSDT")
        assert {each.filled for each in shorts} == {0.0}
        assert bot.strangers() == []
