"""The operator's bridge in Freqtrade's own database: a bot writes its status there and finds requests there.

Both sides may write at once, from several processes. Times are epoch seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    column,
    insert,
    inspect,
    select,
    table,
    update,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

NAME_LENGTH: Final = 100
COMMAND_LENGTH: Final = 20
BY_LENGTH: Final = 50

_metadata = MetaData()
_requests = Table(
    "plimsoll_requests",
    _metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("time", BigInteger, nullable=False),
    Column("bot", String(NAME_LENGTH), nullable=False),
    Column("command", String(COMMAND_LENGTH), nullable=False),
    Column("argument", String(NAME_LENGTH), nullable=False),
    Column("by", String(BY_LENGTH), nullable=False, quote=True),
    Column("handled", BigInteger),
    Column("answer", Text),
    Index("plimsoll_requests_open", "bot", "handled"),
    sqlite_autoincrement=True,  # an id is never given twice, so an answer is never another's
)
_status = Table(
    "plimsoll_status",
    _metadata,
    Column("bot", String(NAME_LENGTH), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("value", Text, nullable=False),
)
_memory = table("plimsoll_memory", column("name"))  # plimsoll.host.memory's


class BridgeFault(Exception):
    """Say that what is stored cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Hold what an operator asked of a bot: ``command`` with its ``argument``, at ``time``, ``by`` whom."""

    id: int
    time: int
    bot: str
    command: str
    argument: str
    by: str


@dataclass(frozen=True, kw_only=True)
class StoredStatus:
    """Hold a bot's status document and when it was written."""

    time: int
    document: dict[str, Any]


def create_tables(engine: Engine) -> None:
    """Create the bridge's tables where they are missing; another process may do so at the same time."""
    try:
        _metadata.create_all(engine)
    except SQLAlchemyError:
        if not all(inspect(engine).has_table(name) for name in _metadata.tables):
            _metadata.create_all(engine)  # the other is not through yet, or this is no race


def ask(engine: Engine, bot: str, command: str, argument: str, time: int, by: str) -> int:
    """Store a request and return its id.

    :raises ValueError: where a text is longer than its column or holds a NUL, which PostgreSQL cannot store.
    """
    values = {"bot": bot, "command": command, "argument": argument, "by": by}
    longest = {"bot": NAME_LENGTH, "command": COMMAND_LENGTH, "argument": NAME_LENGTH, "by": BY_LENGTH}
    for name, value in values.items():
        if len(value) > longest[name] or "\0" in value:
            raise ValueError(f"{name} must have at most {longest[name]} characters and no NUL, was {value!r}")
    with engine.begin() as connection:
        return int(
            connection.execute(
                insert(_requests).values(time=time, **values).returning(_requests.c.id)
            ).scalar_one()
        )


def open_requests(connection: Connection, bot: str) -> list[Request]:
    """Return a bot's requests that were not answered yet, the oldest first."""
    query = select(_requests).where(_requests.c.bot == bot, _requests.c.handled.is_(None))
    return [
        Request(id=row.id, time=row.time, bot=row.bot, command=row.command, argument=row.argument, by=row.by)
        for row in connection.execute(query.order_by(_requests.c.id))
    ]


def answer(connection: Connection, request_id: int, time: int, text: str) -> None:
    """Answer a request; the first answer stands. An answer that begins with ``refused:`` is a refusal."""
    connection.execute(
        update(_requests)
        .where(_requests.c.id == request_id, _requests.c.handled.is_(None))
        .values(handled=time, answer=text.replace("\0", ""))
    )


def answer_of(engine: Engine, request_id: int) -> str | None:
    """Return the answer to a request, None while there is none."""
    with engine.connect() as connection:
        row = connection.execute(
            select(_requests.c.answer, _requests.c.handled).where(_requests.c.id == request_id)
        ).one_or_none()
    return None if row is None or row.handled is None else row.answer or ""


def write_status(connection: Connection, bot: str, time: int, document: Mapping[str, Any]) -> None:
    """Replace a bot's status; numbers that are not finite become null.

    The caller commits. Writing comes before reading here, so that two writers wait for each other instead of failing.
    """
    try:
        text = json.dumps(document, allow_nan=False)
    except (TypeError, ValueError):  # a number that is none, or not a plain one
        text = json.dumps(_plain(document))
    values = {"time": time, "value": text}
    replace = update(_status).where(_status.c.bot == bot).values(values)
    if connection.execute(replace).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(_status).values(bot=bot, **values))
    except IntegrityError:  # another wrote its first status in between
        connection.execute(replace)


def read_status(engine: Engine, bot: str) -> StoredStatus | None:
    """Return a bot's last status, None when it never wrote one.

    :raises BridgeFault: where what is stored is no status.
    """
    if not inspect(engine).has_table(_status.name):
        return None
    with engine.connect() as connection:
        row = connection.execute(select(_status).where(_status.c.bot == bot)).one_or_none()
    if row is None:
        return None
    try:
        document = json.loads(row.value)
    except ValueError as error:
        raise BridgeFault(f"the status of {bot} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise BridgeFault(f"the status of {bot} is no mapping")
    return StoredStatus(time=row.time, document=document)


def bots(engine: Engine) -> list[str]:
    """Return the names of the bots that left a status or a memory in this database."""
    names: set[str] = set()
    known = inspect(engine)
    with engine.connect() as connection:
        for source, name in ((_status, _status.c.bot), (_memory, _memory.c.name)):
            if known.has_table(source.name):
                names.update(connection.execute(select(name)).scalars())
    return sorted(names)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # numpy's scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
