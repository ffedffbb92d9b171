"""Freqtrade's own database in memory or in a file, and a bot's strategy as far as the host asks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from freqtrade.enums import RunMode
from freqtrade.persistence import PairLocks, Trade, init_db
from freqtrade.persistence.pairlock import PairLock
from sqlalchemy import select

from plimsoll.host.operator import CHECK_IN

# Locks end by the wall clock, so bots live now; what an operator does right after a full hour is later than their first loop too.
STARTED = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)


@contextmanager
def database(url: str = "sqlite://") -> Iterator[None]:
    """Open a database as ``freqtrade trade`` does, and leave no trace of it in this process."""
    owners = {owner: owner.__dict__.get("session") for owner in (Trade, PairLock)}
    timeframe, use_db = PairLocks.timeframe, PairLocks.use_db
    init_db(url)
    PairLocks.timeframe, PairLocks.use_db = "5m", True
    try:
        yield
    finally:
        engine = Trade.session.get_bind()
        Trade.session.remove()
        engine.dispose()
        PairLocks.timeframe, PairLocks.use_db = timeframe, use_db
        for owner, session in owners.items():
            if session is not None:
                owner.session = session


def active_locks() -> list[PairLock]:
    """Return what locks markets; the lock that a check-in removes is left out."""
    active = select(PairLock).where(PairLock.active.is_(True), PairLock.pair != CHECK_IN)
    return list(PairLock.session.scalars(active))


def remove_lock(lock: PairLock) -> None:
    """Remove a lock as FreqUI's and Telegram's commands do."""
    lock.active = False
    lock.lock_end_time = STARTED
    PairLock.session.commit()


class Bot:
    """A strategy of a trading bot: it keeps what it was asked to say."""

    def __init__(self, runmode: RunMode = RunMode.DRY_RUN, starting_balance: float | None = None) -> None:
        self.said: list[str] = []
        self.config: dict[str, Any] = {"runmode": runmode, "stake_currency": "USDT"}
        self.starting_balance = starting_balance
        self.wallets = None if starting_balance is None else self
        self.dp = SimpleNamespace(send_msg=lambda message, **_: self.said.append(message))

    def get_strategy_name(self) -> str:
        return "Steady"

    def get_starting_balance(self) -> float | None:
        # As Freqtrade's, which is why it is of no use for telling deposits.
        return None if self.starting_balance is None else 0.99 * self.starting_balance

    def get_total(self, currency: str) -> float:
        return (self.starting_balance or 0.0) + Trade.get_total_closed_profit()


def close_trade(at: datetime, profit: float, *, pair: str = "BTC/USDT:USDT", leverage: float = 1.0) -> Trade:
    """Store a closed trade; ``profit`` is a ratio of its margin."""
    trade = Trade(
        pair=pair,
        exchange="binance",
        strategy="Steady",
        is_open=False,
        is_short=False,
        leverage=leverage,
        stake_amount=100.0,
        amount=1.0,
        open_rate=100.0,
        close_rate=100.0 * (1 + profit),
        fee_open=0.0,
        fee_close=0.0,
        open_date=at.replace(tzinfo=None),
        close_date=at.replace(tzinfo=None),
        close_profit=profit,
        close_profit_abs=100.0 * profit,
        exit_reason="exit_signal",
    )
    Trade.session.add(trade)
    Trade.session.commit()
    return trade
