"""What trades and locks cannot tell, kept in Freqtrade's own database: peaks, period openings, latches, resets."""

from __future__ import annotations

import json
from typing import Any

from freqtrade.persistence import Trade
from sqlalchemy import BigInteger, Column, Engine, MetaData, String, Table, Text, delete, insert, select

VERSION = 1
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
    """Store one JSON document per bot, each time it changed, in a transaction of its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._written: str | None = None
        self._ready = False

    def load(self) -> dict[str, Any] | None:
        """Return what was stored, None when nothing was.

        :raises MemoryFault: where the database or the document cannot be read, or comes from a newer Plimsoll.
        """
        try:
            with self._engine().connect() as connection:
                row = connection.execute(select(_table).where(_table.c.name == self._name)).one_or_none()
            if row is None:
                return None
            if row.version > VERSION:
                raise MemoryFault(
                    f"it was written by a newer Plimsoll (version {row.version}, this one reads {VERSION})"
                )
            self._written = row.value
            stored = json.loads(row.value)
        except MemoryFault:
            raise
        except Exception as error:
            raise MemoryFault(f"the memory in Freqtrade's database cannot be read: {error!r}") from error
        if not isinstance(stored, dict):
            raise MemoryFault("the memory in Freqtrade's database is no mapping")
        return stored

    def save(self, document: dict[str, Any]) -> None:
        """Write the document if it differs from what is stored."""
        text = json.dumps(document, sort_keys=True)
        if text == self._written:
            return
        with self._engine().begin() as connection:
            connection.execute(delete(_table).where(_table.c.name == self._name))
            connection.execute(insert(_table).values(name=self._name, version=VERSION, value=text))
        self._written = text

    def _engine(self) -> Engine:
        engine = Trade.session.get_bind()
        if not self._ready:
            _metadata.create_all(engine)
            self._ready = True
        return engine
