"""A bot as far as the operator's commands see one: Freqtrade's database, a status, and answers to requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, text

from plimsoll import bridge

BOT = "MyGuarded"


def breaker(name: str, state: str = "armed", **values: Any) -> dict[str, Any]:
    given = {"name": name, "pair": "*", "state": state, "factor": 1.0, "value": None, "limit": None}
    return given | {"headroom": None, "until": None, "reason": f"{name} is {state}"} | values


def position(pair: str, side: str, **values: Any) -> dict[str, Any]:
    given = {
        "trade_id": 1,
        "pair": pair,
        "side": side,
        "leverage": 3.0,
        "margin": 601.22,
        "notional": 1803.66,
    }
    given |= {
        "open_rate": 61234.5,
        "rate": 61010.1,
        "profit": -7.2,
        "risk": 98.12,
        "r": -0.07,
        "stop": 58991.2,
    }
    given |= {"stop_on_exchange": True, "liquidation": 42345.6, "liquidation_distance": 0.305}
    return given | {"margin_used": 0.012, "health": "fine"} | values


def document(now: float, **values: Any) -> dict[str, Any]:
    """A status in which everything is fine but for what is given."""
    fine = {
        "version": 1,
        "plimsoll": "0.1.0",
        "time": int(now),
        "bot": BOT,
        "runmode": "dry_run",
        "loop": 48213,
        "equity": 9812.375,
        "balance": 10012.5,
        "stake_currency": "USDT",
        "entries": "open",
        "blocked_by": [],
        "breakers": [
            breaker("daily_loss", value=0.0187, limit=0.05, headroom=307.12),
            breaker("drawdown", "reduced", factor=0.5, value=0.123, limit=0.2, headroom=861.2),
        ],
        "exposure": {
            "margin": 0.123,
            "margin_limit": 0.15,
            "heat": 0.021,
            "heat_limit": 0.06,
            "gross": 1.25,
            "gross_limit": 3.0,
            "net": -0.35,
            "net_limit": 2.0,
        },
        "positions": [
            position("BTC/USDT:USDT", "long"),
            position("1000PEPE/USDT:USDT", "short", leverage=5.0, stop_on_exchange=False, health="close"),
        ],
        "deadman": {
            "level": "fine",
            "checked_in": int(now) - 7260,
            "deadline": int(now) + 7500,
            "by": "alice",
        },
        "proving": {"needed_days": 14.0, "days": 3.21, "satisfied": False},
    }
    return fine | values


def freqtrade_database(path: Path) -> Engine:
    """A file as Freqtrade leaves it, as far as the commands look: in WAL mode, with a table of trades."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 120.0})
    with engine.begin() as connection:
        connection.execute(text("PRAGMA journal_mode=wal"))
        connection.execute(text("CREATE TABLE trades (id INTEGER PRIMARY KEY)"))
    return engine


def write_status(engine: Engine, now: float, bot: str = BOT, **values: Any) -> None:
    bridge.create_tables(engine)
    with engine.begin() as connection:
        bridge.write_status(connection, bot, int(now), document(now, bot=bot, **values))


class StandIn:
    """Answer requests each loop in a thread of its own, as a running bot does; a context manager."""

    def __init__(self, engine: Engine, reply: Callable[[bridge.Request], str]) -> None:
        self.seen: list[bridge.Request] = []
        self._engine, self._reply = engine, reply
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> StandIn:
        bridge.create_tables(self._engine)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=120)

    def _run(self) -> None:
        while not self._over.wait(0.05):
            with self._engine.begin() as connection:
                for request in bridge.open_requests(connection, BOT):
                    self.seen.append(request)
                    bridge.answer(connection, request.id, int(time.time()), self._reply(request))
