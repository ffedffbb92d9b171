"""Deposits and withdrawals, told from profit by the balance that the trades' results do not explain."""

from __future__ import annotations

from typing import Any

from freqtrade.enums import RunMode, TradingMode
from freqtrade.persistence import LocalTrade, Trade
from freqtrade.strategy import IStrategy

from plimsoll.host.account import paid_ahead
from plimsoll.host.positions import shares_held

FLOW_THRESHOLD = 0.01  # of the starting balance: less is funding and fees, which are profit and loss
FLOW_CONFIRMATIONS = 2


class Flows:
    """Tell deposits and withdrawals from profit: the balance without the trades' results moves with them only."""

    def __init__(self) -> None:
        self.total = 0.0
        self.baseline: float | None = None
        self._seen: tuple[float, int] = (0.0, 0)

    def read(self, starting_balance: float | None) -> float:
        """Take a reading, counted once it repeats; return the sum of deposits minus withdrawals so far."""
        if starting_balance is None or not starting_balance > 0.0:
            return self.total
        if self.baseline is None:
            self.baseline = starting_balance
        moved = starting_balance - self.baseline
        if abs(moved) <= FLOW_THRESHOLD * self.baseline:
            self._seen = (0.0, 0)
            return self.total
        last, times = self._seen
        times = times + 1 if abs(moved - last) <= FLOW_THRESHOLD * self.baseline else 1
        self._seen = (moved, times)
        if times >= FLOW_CONFIRMATIONS:
            self.total += moved
            self.baseline = starting_balance
            self._seen = (0.0, 0)
        return self.total


def starting_balance(strategy: IStrategy) -> float | None:
    """Return the balance of a live bot without the results of its trades; None where no money can come or go.

    None also while the exchange holds less than the trades say: it has closed something that is no result yet.
    """
    # Freqtrade's own starting balance is scaled, or fixed, by settings of the config.
    config: Any = strategy.config
    wallets = strategy.wallets
    if config.get("runmode") != RunMode.LIVE or wallets is None or "available_capital" in config:
        return None  # a dry-run wallet knows no deposits, nor does a stated capital
    spot = config.get("trading_mode", TradingMode.SPOT) == TradingMode.SPOT
    trades = Trade.get_trades_proxy(is_open=True)
    if shares_held(strategy, trades):
        return None
    results = Trade.get_total_closed_profit() + sum(
        trade.realized_profit + _paid_ahead(trade, spot=spot) for trade in trades
    )
    return float(wallets.get_total(config["stake_currency"])) - float(results)


def _paid_ahead(trade: LocalTrade, *, spot: bool) -> float:
    # What has left the wallet and is no result yet; a deposit that is noticed meanwhile must not take it along.
    if not trade.has_open_position:
        return 0.0
    if spot:
        return -trade.stake_amount
    return paid_ahead(trade)
