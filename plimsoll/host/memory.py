"""What trades and locks cannot tell, kept in Freqtrade's own database: peaks, period openings, latches, resets, check-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from freqtrade.persistence import Trade
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
)

from plimsoll import bridge

VERSION = 2
_metadata = MetaData()
_table = Table(
    "plimsoll_memory",
    _metadata,
    Column("name", String(100), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
)


class MemoryFault(Exception):
    """Say that what was remembered cannot be read; nothing is known then."""


class Memory:
    """Store one JSON document per bot, each time it changed, in one transaction with what has to be told at the same instant."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._written: str | None = None
        self._ready = False

    def load(self) -> dict[str, Any] | None:
        """Return what was stored, in the form of this version, None when nothing was.

        :raises MemoryFault: where the database or the document cannot be read, or comes from a newer Plimsoll.
        """
        try:
            with self.engine().connect() as connection:
                row = connection.execute(select(_table).where(_table.c.name == self._name)).one_or_none()
            if row is None:
                return None
            if row.version > VERSION:
                raise MemoryFault(
                    f"it was written by a newer Plimsoll (version {row.version}, this one reads {VERSION})"
                )
            stored = json.loads(row.value)
        except MemoryFault:
            raise
        except Exception as error:
            raise MemoryFault(f"the memory in Freqtrade's database cannot be read: {error!r}") from error
        if not isinstance(stored, dict):
            raise MemoryFault("the memory in Freqtrade's database is no mapping")
        if row.version == VERSION:
            self._written = row.value
        return upgraded(stored, int(row.version))

    def save(
        self, document: dict[str, Any], also: Callable[[Connection], None] = lambda connection: None
    ) -> None:
        """Write the document if it differs from what is stored, and whatever else belongs to the same transaction."""
        text = json.dumps(document, sort_keys=True)
        with self.engine().begin() as connection:
            if text != self._written:
                connection.execute(delete(_table).where(_table.c.name == self._name))
                connection.execute(insert(_table).values(name=self._name, version=VERSION, value=text))
            also(connection)
        self._written = text

    def engine(self) -> Engine:
        """Return the engine of Freqtrade's database, our tables made."""
        engine = Trade.session.get_bind()
        if not self._ready:
            _metadata.create_all(engine)
            bridge.create_tables(engine)
            self._ready = True
        return engine


def upgraded(document: dict[str, Any], version: int) -> dict[str, Any]:
    """Bring a document of an earlier version into the present form: what that version could not know is left to begin anew."""
    if version == 1:
        document = document | {"operator": None, "margin": {}, "bot": None}
    return document
