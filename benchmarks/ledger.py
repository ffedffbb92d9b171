"""Milliseconds of a bot's calls to the shared ledger, on SQLite and on PostgreSQL where it is installed.

Three bots hold five positions each. Each call is one transaction on disk and is given as a share of a transaction of Freqtrade's
own on the same kind of database in the same run: one changed trade, committed. Both databases wait for the disk as for a bot.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.measure import Record, record
from plimsoll.portfolio import Holding, Ledger, Limits

BENCHMARK = "ledger"
BOTS, POSITIONS = 3, 5
NOW = 1_800_000_000.0
NEW = "NEW/USDT:USDT"


def run(calls: int = 60, *, postgres: bool = True) -> list[Record]:
    """Measure everything and return the records."""
    records = []
    with TemporaryDirectory(prefix="plimsoll-ledger-") as directory:
        records += _on(
            "SQLite", str(Path(directory, "ledger.sqlite")), f"sqlite:///{directory}/trades.sqlite", calls
        )
    if not postgres:
        return records
    from tests.postgres import NoPostgres, Postgres

    try:
        with Postgres(fsync=True) as server:
            return records + _on("PostgreSQL", server.new_database(), server.new_database(), calls)
    except NoPostgres as reason:
        return [*records, record(BENCHMARK, "PostgreSQL: not measured", [0.0], "ms", note=str(reason))]


def _on(name: str, ledger_url: str, trades_url: str, calls: int) -> list[Record]:
    with freqtrade_commit(trades_url) as commit:
        own = _timed(commit, calls)
    against = (median(own), "Freqtrade's own commit of a trade")
    found = [record(BENCHMARK, f"{name}: Freqtrade's own commit of a trade", own, "ms")]
    # Positions far within the limits, so that every reservation is granted.
    ledger = Ledger(ledger_url, Limits(), "USDT")
    held = [Holding(f"COIN{number}/USDT:USDT", "long", 10.0, 0.5) for number in range(POSITIONS)]
    clock, keys = itertools.count(), itertools.count()
    try:
        for bot in range(BOTS):
            for _ in range(3):  # readings are confirmed before they count
                ledger.heartbeat(f"bot{bot}", NOW + next(clock), 10_000.0, 0.0, held)

        def reserve() -> None:
            key = f"new-{next(keys)}"
            decision = ledger.reserve("bot0", key, NEW, "long", 1.0, 0.1, NOW + next(clock))
            if not decision.granted:
                raise RuntimeError(f"a reservation was refused, so its time means nothing: {decision.reason}")

        steps: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "heartbeat": (lambda: ledger.heartbeat("bot0", NOW + next(clock), 10_000.0, 0.0, held), nothing),
            "preview": (lambda: ledger.preview("bot0", NEW, "long", 1.0, 0.1, NOW + next(clock)), nothing),
            "reserve": (reserve, lambda: ledger.release("bot0", f"new-{next(keys) - 1}", NOW + next(clock))),
        }
        for step, (call, after) in steps.items():
            spent = _timed(call, calls, after)
            found.append(record(BENCHMARK, f"{name}: {step}", spent, "ms", against=against))
    finally:
        ledger.close()
    return found


@contextmanager
def freqtrade_commit(url: str) -> Iterator[Callable[[], None]]:
    """Yield a change of an open trade's stop and its commit, as Freqtrade makes them."""
    from freqtrade.persistence import Trade, init_db

    init_db(url)
    engine = Trade.session.get_bind()
    try:
        trade = Trade(
            pair="BTC/USDT:USDT",
            exchange="binance",
            strategy="Bench",
            is_open=True,
            leverage=1.0,
            stake_amount=100.0,
            amount=1.0,
            open_rate=100.0,
            fee_open=0.0,
            fee_close=0.0,
            open_date=datetime.now(UTC),
        )
        Trade.session.add(trade)
        Trade.commit()
        stops = itertools.count(1)

        def commit() -> None:
            trade.stop_loss = 50.0 + next(stops) / 1000.0
            Trade.commit()

        yield commit
    finally:
        Trade.session.remove()
        engine.dispose()


def nothing() -> None:
    """Do nothing after a call."""


def _timed(call: Callable[[], object], calls: int, after: Callable[[], object] = nothing) -> list[float]:
    spent = []
    for _ in range(calls + 1):
        started = time.perf_counter_ns()
        call()
        spent.append((time.perf_counter_ns() - started) / 1e6)
        after()
    return spent[1:]  # the first warms up
