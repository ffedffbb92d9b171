"""Live: do the exchange's positions and Freqtrade's trades agree? A position that nobody keeps books of is nobody's risk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from freqtrade.enums import RunMode, TradingMode
from freqtrade.persistence import LocalTrade
from freqtrade.strategy import IStrategy

from plimsoll.rules.answer import Side
from plimsoll.rules.exposure import OpenPosition, asset_of
from plimsoll.rules.leverage import HARD_MAXIMUM_LEVERAGE

logger = logging.getLogger("plimsoll")

REFRESH = 300  # seconds: Freqtrade itself reads balance and positions after fills and each half hour
PATIENCE = 120  # seconds: orders fill in between
READINGS = 3
TOLERANCE = 0.02  # of the amount: fees and lots


def refresh(strategy: IStrategy, last: int, now: int) -> int:
    """Have a live bot's balance and positions read anew every few minutes; return when that was tried last.

    Equity and what the exchange still holds would be up to half an hour old otherwise. A failure is tried again next time.
    """
    if strategy.config.get("runmode") != RunMode.LIVE or 0 <= now - last < REFRESH:
        return last
    try:
        strategy.wallets.update()
    except Exception as error:
        logger.warning("the balance could not be read: %r", error)
    return now


def shares_held(strategy: IStrategy, trades: Iterable[LocalTrade]) -> dict[int, float]:
    """Return by id which share of a trade's amount the exchange still holds, for each trade of which it holds less.

    Balance and positions are read together: what is gone has moved into the balance, although the trade is open still.
    """
    config: Any = strategy.config
    if config.get("runmode") != RunMode.LIVE or config.get("trading_mode") != TradingMode.FUTURES:
        return {}
    wallets: Any = strategy.wallets
    held, found = wallets.get_all_positions(), {}
    for trade in trades:
        if not trade.has_open_position:
            continue
        position = held.get(trade.pair)
        same = position is not None and position.side == trade.trade_direction
        share = abs(float(position.position)) / trade.amount if same else 0.0
        if not share >= 1.0 - TOLERANCE:
            found[trade.id] = share
    return found


def positions_that_do_not_fit(
    strategy: IStrategy, trades: Iterable[LocalTrade], now: int, seen: dict[str, tuple[int, int]]
) -> dict[str, str]:
    """Return pair and reason of each trade whose position on the exchange has been gone, or of another side or size, for a while.

    :param seen: pair -> since when and how often, kept by the caller between calls.
    """
    config: Any = strategy.config
    if config.get("runmode") != RunMode.LIVE or config.get("trading_mode") != TradingMode.FUTURES:
        seen.clear()
        return {}
    wallets: Any = strategy.wallets
    held = wallets.get_all_positions()
    reasons: dict[str, str] = {}
    for trade in trades:
        if not trade.has_open_position or trade.open_orders:
            continue
        position = held.get(trade.pair)
        amount = 0.0 if position is None else abs(float(position.position))
        if amount == 0.0:
            reasons[trade.pair] = (
                f"the position in {trade.pair} is gone from the exchange, the trade is still open"
            )
        elif position is not None and position.side != trade.trade_direction:
            reasons[trade.pair] = (
                f"the exchange holds a {position.side} in {trade.pair}, the trade is {trade.trade_direction}"
            )
        elif abs(amount / trade.amount - 1.0) > TOLERANCE:
            reasons[trade.pair] = f"the exchange holds {amount:g} of {trade.pair}, the trade {trade.amount:g}"
    for pair in seen.keys() - reasons.keys():
        del seen[pair]
    found = {}
    for pair, reason in reasons.items():
        since, times = seen.get(pair, (now, 0))
        seen[pair] = (since, times + 1)
        if times + 1 >= READINGS and now - since >= PATIENCE:
            found[pair] = reason
    return found


def pairs_of_others(strategy: IStrategy, trades: Iterable[LocalTrade], claimed: set[str]) -> set[str]:
    """Return the pairs in which this account holds what another bot of the ledger has claimed: they trade the same account."""
    config: Any = strategy.config
    if (
        config.get("runmode") != RunMode.LIVE
        or config.get("trading_mode") != TradingMode.FUTURES
        or not claimed
    ):
        return set()
    wallets: Any = strategy.wallets
    held = {pair for pair, p in wallets.get_all_positions().items() if abs(float(p.position)) > 0.0}
    return (held & claimed) - {trade.pair for trade in trades}


def foreign_positions(
    strategy: IStrategy,
    trades: Iterable[LocalTrade],
    claimed: set[str],
    now: int,
    seen: dict[str, tuple[int, int]],
    rate: Callable[[str], float | None] = lambda pair: None,
) -> list[OpenPosition]:
    """Return the account's positions that are in no bot's books, after a while: in no trade of ours and not claimed in the ledger.

    The exchange may leave their leverage out, so the notional is size times rate. Without a rate the margin is taken at the highest
    leverage that we would ever use.

    :param claimed: pairs of other bots on the same account. :param seen: as for :func:`positions_that_do_not_fit`.
    """
    config: Any = strategy.config
    if config.get("runmode") != RunMode.LIVE or config.get("trading_mode") != TradingMode.FUTURES:
        seen.clear()
        return []
    own = {trade.pair for trade in trades} | claimed
    wallets: Any = strategy.wallets
    held = {
        pair: p
        for pair, p in wallets.get_all_positions().items()
        if pair not in own and abs(float(p.position)) > 0.0
    }
    for pair in seen.keys() - held.keys():
        del seen[pair]
    found = []
    for pair, position in held.items():
        since, times = seen.get(pair, (now, 0))
        seen[pair] = (since, times + 1)
        if times + 1 < READINGS or now - since < PATIENCE:
            continue
        margin = abs(float(position.collateral or 0.0))
        price = rate(pair)
        size = abs(float(position.position))
        leverage = float(position.leverage or 1.0)
        if leverage <= 1.0 and price is None:
            leverage = HARD_MAXIMUM_LEVERAGE
        notional = max(margin * leverage, 0.0 if price is None else size * price)
        side: Side = "short" if position.side == "short" else "long"
        found.append(OpenPosition(pair, asset_of(pair), side, margin, notional, margin))
    return found
