"""The ledger's tables, and how those of an earlier version become these."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.types import TypeEngine

from plimsoll.portfolio.connection import LedgerFault
from plimsoll.rules.portfolio import Limits

VERSION: Final = 3
NAME_LENGTH: Final = 100
KEY_LENGTH: Final = 200
_LOCK: Final = text(
    "select pg_advisory_xact_lock(hashtextextended(current_schema() || '.plimsoll_ledger', 0))"
)

metadata = MetaData()


def _required(
    name: str, kind: type[TypeEngine[Any]] | TypeEngine[Any], *, quote: bool | None = None
) -> Column[Any]:
    return Column(name, kind, nullable=False, quote=quote)


def _taken() -> tuple[Column[Any], ...]:
    # What a claim takes of the limits; its history tells the same.
    return (
        _required("pair", String(NAME_LENGTH)),
        _required("asset", String(NAME_LENGTH)),
        _required("side", String(5)),
        _required("margin", Double),
        _required("risk", Double),
    )


# One row: what all share.
ledger = Table(
    "plimsoll_ledger",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _required("version", Integer),
    _required("currency", String(NAME_LENGTH)),
    _required("sequence", BigInteger),
    _required("flow", Double),
    Column("drawdown", Text),
)
bots = Table(
    "plimsoll_ledger_bots",
    metadata,
    Column("bot", String(NAME_LENGTH), primary_key=True),
    _required("time", Double),
    _required("capital", Double),
    _required("equity", Double),
    _required("known", Boolean),
    _required("flow", Double),
    _required("readings", Text),
    _required("recorded", Double),
    _required("limits", Text),
    _required("unclear", Text),
    _required("account", String(NAME_LENGTH)),
)
claims = Table(
    "plimsoll_ledger_claims",
    metadata,
    Column("bot", String(NAME_LENGTH), primary_key=True),
    Column("key", String(KEY_LENGTH), primary_key=True, quote=True),
    *_taken(),
    _required("state", String(9)),
    _required("time", Double),
)
# What changed, and all that the limits speak of as it was from then on: `margin` and `risk` are the claim's after the change, 0
# where it ended; `total_*` are those of all bots, `*_cap` what they may reach.
history = Table(
    "plimsoll_ledger_history",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _required("time", Double),
    _required("event", String(20)),
    _required("bot", String(NAME_LENGTH)),
    _required("key", String(KEY_LENGTH), quote=True),
    *_taken(),
    Column("equity", Double),
    _required("total_capital", Double),
    _required("total_margin", Double),
    _required("total_risk", Double),
    _required("asset_margin", Double),
    _required("margin_cap", Double),
    _required("asset_cap", Double),
    _required("risk_cap", Double),
    _required("over", Boolean, quote=True),
    _required("halted", Boolean),
    _required("note", Text),
)

# From each version to the next. Version 1 knew one set of limits for all, and no positions that cannot be counted; version 2 no
# accounts.
_DEFAULT_LIMITS = json.dumps(Limits().to_json())
MIGRATIONS: Final[dict[int, tuple[str, ...]]] = {
    1: (
        f"alter table plimsoll_ledger_bots add column limits text not null default '{_DEFAULT_LIMITS}'",
        "alter table plimsoll_ledger_bots add column unclear text not null default ''",
        "alter table plimsoll_ledger_history add column note text not null default ''",
    ),
    2: (f"alter table plimsoll_ledger_bots add column account varchar({NAME_LENGTH}) not null default ''",),
}


def prepare(connection: Connection, currency: str | None) -> None:
    """Create the tables where they are missing, and bring those of an earlier version up to date, in the caller's transaction.

    :param currency: the ledger's, where it is created by this; None creates and migrates nothing.
    :raises LedgerFault: where there is no ledger, or one of a version that this one cannot use.
    """
    if currency is None:
        if not inspect(connection).has_table(ledger.name):
            raise LedgerFault("there is no ledger in this database: no bot has written to it yet")
        require_version(connection.execute(select(ledger.c.version)).scalar_one())
        return
    lock(connection)
    if not inspect(connection).has_table(ledger.name):
        metadata.create_all(connection)
        connection.execute(
            insert(ledger).values(
                id=1, version=VERSION, currency=currency, sequence=0, flow=0.0, drawdown=None
            )
        )
        return
    version = connection.execute(select(ledger.c.version)).scalar_one()
    if version > VERSION:
        require_version(version)
    while version < VERSION:
        for statement in MIGRATIONS[version]:
            connection.exec_driver_sql(statement)
        version += 1
        connection.execute(update(ledger).values(version=version))


def lock(connection: Connection) -> None:
    """Become the only one who writes to the ledger until the caller's transaction ends; what is read after this, holds.

    SQLite's ``BEGIN IMMEDIATE`` has done so already. On PostgreSQL it is an advisory lock of the transaction. It ends with it,
    however a process ends, and obeys ``lock_timeout``, as ``SELECT ... FOR UPDATE`` of one row would; but those who wait for a row
    that each holder changes are let in out of turn, and some starve. Serialisable transactions would have to be begun anew, of 64
    at once nearly all.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK)


def require_version(version: int) -> None:
    """Refuse a ledger of another version.

    :raises LedgerFault: naming both versions.
    """
    if version > VERSION:
        raise LedgerFault(
            f"the ledger was written by a newer Plimsoll (version {version}, this one knows {VERSION})"
        )
    if version < VERSION:
        raise LedgerFault(
            f"the ledger is of version {version}, this Plimsoll needs {VERSION}: a bot of this version migrates it"
        )
