"""A planner of a trading bot on Freqtrade's own database, with a market that is always known."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from freqtrade.enums import MarginMode, TradingMode
from freqtrade.persistence import Order, Trade
from host_database import STARTED, Bot

from plimsoll.host.planner import Planner
from plimsoll.plan import Market
from plimsoll.rules.liquidation import MaintenanceTier
from plimsoll.settings import load

RATE = 100.0
EQUITY = 10_000.0
TIERS = (MaintenanceTier(0.0, 1e9, 0.004, 0.0, 125.0),)
LIMITS: dict[str, Any] = {"journal": {"enabled": False}, "correlation": {"missing": 0.0}}
PLANNED = Market(
    atr=1.0,
    sigma_day=0.02,
    daily_range=0.03,
    fee=0.0005,
    exchange_maximum=20.0,
    liquidation_buffer=0.05,
    tiers=TIERS,
)


class PlannedBot:
    """A bot that loops a minute at a time."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.bot: Any = Bot(starting_balance=EQUITY)
        self.bot.config |= {
            "user_data_dir": directory,
            "trading_mode": TradingMode.FUTURES,
            "margin_mode": MarginMode.ISOLATED,
            "runmode": Bot().config["runmode"],
        }
        self.bot.timeframe, self.bot.stoploss, self.bot.order_types = "1h", -0.99, {}
        self.settings = load(LIMITS | changes)
        self.rates: dict[str, float | None] = {}
        self.minute = 0
        self.restart()

    def restart(self) -> None:
        self.planner = Planner(self.bot, self.settings)
        inputs: Any = self.planner.inputs
        inputs.market = lambda pair, now, maximum: PLANNED
        inputs.current_rate = lambda pair, now: self.rates.get(pair, RATE)
        inputs.tiers = lambda pair: TIERS
        inputs.reading = lambda pair, at: SimpleNamespace(atr=1.0, sigma_day=0.02, daily_range=0.03)
        inputs.minimum_stake = lambda pair, rate, leverage: 5.0

    @property
    def now(self) -> Any:
        return STARTED + timedelta(minutes=self.minute)

    def loop(self, times: int = 1) -> None:
        for _ in range(times):
            self.minute += 1
            self.planner.loop(self.now)


def open_position(
    at: Any, pair: str, side: str = "long", *, leverage: float = 4.0, margin: float = 100.0
) -> Trade:
    """Store a filled position at 100, its stop 3 % away, and the order that opened it."""
    short = side == "short"
    amount = margin * leverage / RATE
    stop = RATE * (1.03 if short else 0.97)
    trade = Trade(
        pair=pair,
        exchange="binance",
        strategy="Steady",
        is_open=True,
        is_short=short,
        leverage=leverage,
        trading_mode=TradingMode.FUTURES,
        stake_amount=margin,
        amount=amount,
        amount_requested=amount,
        open_rate=RATE,
        open_trade_value=amount * RATE,
        fee_open=0.0005,
        fee_close=0.0005,
        funding_fees=0.0,
        stop_loss=stop,
        initial_stop_loss=stop,
        open_date=at.replace(tzinfo=None),
    )
    order = Order(
        ft_order_side=trade.entry_side,
        ft_pair=pair,
        ft_is_open=False,
        order_id=f"{pair}-1",
        ft_amount=amount,
        ft_price=RATE,
        price=RATE,
        average=RATE,
        amount=amount,
        filled=amount,
        status="closed",
        side=trade.entry_side,
        order_filled_date=at.replace(tzinfo=None),
    )
    trade.orders.append(order)
    Trade.session.add(trade)
    Trade.session.commit()
    return trade
