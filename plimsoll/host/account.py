"""Equity, open positions and closed trades, read from Freqtrade incrementally."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from freqtrade.enums import RunMode, TradingMode
from freqtrade.persistence import LocalTrade, Trade
from freqtrade.strategy import IStrategy
from sqlalchemy import select

from plimsoll.host import internals
from plimsoll.host.positions import shares_held
from plimsoll.rules.exposure import OpenPosition, asset_of

LOOK_BACK = timedelta(days=1)
FEW = 100  # trades to be asked for by their ids


class ClosedTrades:
    """Follow the closed trades in the order they closed, each seen once.

    Offline the list only grows at its end, so an index suffices and the cost does not grow with it. With a database the trades
    closed since shortly before the last one seen are asked for.
    """

    def __init__(self) -> None:
        self._offline = internals.is_offline()
        self._run = internals.run_token()
        self._index = 0
        self._seen: dict[int, datetime] = {}
        self._since: datetime | None = None

    @property
    def waiting(self) -> bool:
        """Tell whether a backtest's list has trades not seen yet."""
        return len(self._run) > self._index

    def new(self, now: datetime) -> Iterator[LocalTrade]:
        """Yield trades closed before ``now``: in a backtest another pair's exit inside this candle is not yet known."""
        if not self._offline:
            yield from self._new_in_database()
            return
        while self._index < len(self._run):
            trade = self._run[self._index]
            if trade.close_date_utc >= now:
                return
            self._index += 1
            yield trade

    def _new_in_database(self) -> Iterator[LocalTrade]:
        since = None if self._since is None else self._since - LOOK_BACK
        trades = self._unseen(since)
        dated = [trade for trade in trades if trade.close_date is not None]
        for trade in sorted(dated, key=lambda t: (t.close_date_utc, t.id)):
            if trade.id in self._seen:
                continue
            self._seen[trade.id] = trade.close_date_utc
            self._since = max(trade.close_date_utc, self._since or trade.close_date_utc)
            yield trade
        if since is not None:
            self._seen = {key: closed for key, closed in self._seen.items() if closed >= since}

    def _unseen(self, since: datetime | None) -> Iterable[LocalTrade]:
        if since is None:
            return Trade.get_trades_proxy(is_open=False)
        # Nearly always there is none: their ids tell so for a fraction of what a day's trades with their orders cost.
        closed = select(Trade.id).where(Trade.is_open.is_(False), Trade.close_date > since)
        unseen = [key for key in Trade.session.scalars(closed) if key not in self._seen]
        if len(unseen) > FEW:
            return Trade.get_trades_proxy(is_open=False, close_date=since)
        return Trade.get_trades(Trade.id.in_(unseen)).all() if unseen else ()


def unrealised_profit(trade: LocalTrade, rate: float) -> float:
    """Return a position's open profit, fees of both ways and funding included, as ``Trade.calculate_profit`` does."""
    value = trade.amount * rate
    fee = value * (trade.fee_close or 0.0)
    funding = trade.funding_fees or 0.0
    if trade.is_short:
        return trade.open_trade_value - (value + fee - funding)
    return value - fee + funding - trade.open_trade_value


def paid_ahead(trade: LocalTrade) -> float:
    """Return what a position's fee and funding have moved in the exchange's balance, and are no result yet: paid is below 0."""
    funding = trade.funding_fee_running if trade.nr_of_successful_exits else trade.funding_fees
    return (funding or 0.0) - trade.amount * trade.open_rate * (trade.fee_open or 0.0)


def own_capital(config: Any, trades: Iterable[LocalTrade]) -> float | None:
    """Return what a bot's ``available_capital`` has become by its trades' results; None where it has the whole account."""
    stated = config.get("available_capital")
    if stated is None or internals.is_offline():
        return None
    return (
        float(stated) + Trade.get_total_closed_profit() + math.fsum(trade.realized_profit for trade in trades)
    )


def loss_at_stop(trade: LocalTrade, slippage: float) -> float:
    """Return what an open position still loses if it exits at its present stop, fees and slippage included; at least 0.

    Its whole margin where that cannot be told.
    """
    stop, amount = trade.stop_loss, trade.amount
    if not stop or not amount:
        return trade.stake_amount
    fee_close = trade.fee_close or 0.0
    opened = amount * trade.open_rate
    closed = amount * stop
    moved = closed - opened if trade.is_short else opened - closed
    loss = moved + opened * (trade.fee_open or 0.0) + closed * (fee_close + slippage)
    return max(0.0, loss) if math.isfinite(loss) else trade.stake_amount


def _resting_additions(trade: LocalTrade) -> float:
    resting = trade.open_orders
    if not resting:  # as nearly always, and each plan asks it of every trade
        return 0.0
    return sum(
        (order.safe_amount or 0.0) * (order.ft_price or 0.0)
        for order in resting
        if order.ft_order_side == trade.entry_side
    )


class Book:
    """Value the account: the wallet's total plus the open profit that Freqtrade's wallets leave out."""

    def __init__(self, strategy: IStrategy, slippage: float) -> None:
        self._strategy = strategy
        self._slippage = slippage
        self._held: list[LocalTrade] | None = None
        self._seen: set[int] = set()  # trades whose position the exchange was seen to hold

    def trades(self) -> list[LocalTrade]:
        """Return the open trades."""
        return Trade.get_trades_proxy(is_open=True) if self._held is None else self._held

    @contextmanager
    def held(self) -> Iterator[list[LocalTrade]]:
        """Ask for the open trades once, for one loop of a trading bot: each question is a query."""
        self._held = Trade.get_trades_proxy(is_open=True)
        try:
            yield self._held
        finally:
            self._held = None

    def positions(
        self, pending_risk: Callable[[LocalTrade], float | None], *, without: int | None = None
    ) -> list[OpenPosition]:
        """Return the open trades as positions; one whose entry is not filled yet counts in full, at its planned risk."""
        found = []
        for trade in self.trades():
            if trade.id == without:
                continue
            filled, pair, margin = trade.has_open_position, trade.pair, trade.stake_amount
            notional = trade.amount * trade.open_rate if filled else margin * (trade.leverage or 1.0)
            risk = loss_at_stop(trade, self._slippage) if filled else pending_risk(trade)
            resting = _resting_additions(trade) if filled else 0.0
            if resting and risk is not None:
                # Its loss at the stop is in proportion to what is filled; Freqtrade's trade leaves it out until then.
                risk += resting * (risk / notional if notional else 1.0)
                margin, notional = margin + resting / (trade.leverage or 1.0), notional + resting
            found.append(
                OpenPosition(
                    pair,
                    asset_of(pair),
                    "short" if trade.is_short else "long",
                    margin,
                    notional,
                    margin if risk is None else risk,
                )
            )
        return found

    def equity(self, last_rate: Callable[[str], float | None]) -> float | None:
        """Return equity in stake currency; None where a position cannot be valued.

        What the exchange took from a position is in the balance already, before Freqtrade notices: it is not counted twice. Nor is
        what a position has paid so far, where the balance is the exchange's.
        """
        config: Any = self._strategy.config
        wallets = self._strategy.wallets
        if wallets is None:
            return None
        total = float(wallets.get_total(config["stake_currency"]))
        spot = config.get("trading_mode", TradingMode.SPOT) == TradingMode.SPOT
        live = not spot and config.get("runmode") == RunMode.LIVE
        trades = self.trades()
        open_profit = 0.0
        less = shares_held(self._strategy, trades)
        for trade in trades:
            if not trade.has_open_position:
                continue
            share = less.get(trade.id)
            if share is None:
                self._seen.add(trade.id)
            elif share == 0.0 and trade.id in self._seen:
                continue
            rate = last_rate(trade.pair)
            if rate is None:
                return None
            # One that was never there may be filled later than positions were read.
            held = share if share is not None and trade.id in self._seen else 1.0
            profit = unrealised_profit(trade, rate)
            open_profit += profit * held
            total += (profit - (paid_ahead(trade) if live else 0.0)) * held
            if spot:
                # Bought coins have left the stake currency's total.
                total += trade.stake_amount
        own = own_capital(config, trades)
        return total if own is None else min(total, own + open_profit)
