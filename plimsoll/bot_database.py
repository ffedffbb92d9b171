"""Find a bot's database as Freqtrade would, and open it only where it exists."""

from __future__ import annotations

import argparse
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, Engine, NullPool, create_engine, inspect, make_url
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from plimsoll import bridge
from plimsoll.terminal import clean

CONFIG: Final = "config.json"
TIMEOUT_SECONDS: Final = 10


class DatabaseFault(Exception):
    """What the operator can put right, in one line and without a password."""


@dataclass(frozen=True, kw_only=True)
class Database:
    """Hold the open database of a bot, and its URL."""

    url: URL
    engine: Engine

    @property
    def shown(self) -> str:
        """Return the URL with its password hidden."""
        return clean(self.url.set(query={}).render_as_string(hide_password=True))  # a query may carry one too

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what the database or its driver raises into one line.

        :raises DatabaseFault: in its place.
        """
        try:
            yield
        except bridge.BridgeFault as error:
            raise DatabaseFault(clean(error)) from None
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise DatabaseFault(f"{self.shown}: {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        lines = str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__]
        secrets: list[Any] = [self.url.password]
        for name, value in self.url.query.items():
            if "pass" in name.lower():
                secrets += [value] if isinstance(value, str) else value
        reason = lines[0]
        for secret in filter(None, secrets):
            reason = reason.replace(str(secret), "***")
        return clean(reason)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a database and a bot in it."""
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        metavar="FILE",
        help="Freqtrade's configuration, as the bot was started with; may be repeated"
        f" (default user_data/{CONFIG}, else {CONFIG})",
    )
    parser.add_argument(
        "--db-url",
        metavar="URL",
        help="the bot's database, instead of what the configuration says; a relative path is relative to"
        " the working directory",
    )
    parser.add_argument("--user-data-dir", "--userdir", metavar="DIR", help=f"where {CONFIG} is looked for")
    parser.add_argument(
        "--bot", metavar="NAME", help="the strategy's class name, where several bots share it"
    )


def open_database(arguments: argparse.Namespace) -> Database:
    """Open the database that the arguments name; an SQLite file that does not exist is not created.

    :raises DatabaseFault: where there is none, it cannot be reached or it is not Freqtrade's.
    """
    address = arguments.db_url or configured_url(arguments.config, arguments.user_data_dir)
    try:
        url = make_url(address)
    except (SQLAlchemyError, ValueError):
        raise DatabaseFault(
            "the database URL must be like sqlite:///tradesv3.sqlite or postgresql+psycopg://user@host/name"
        ) from None
    try:
        engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _server(url)
    except NoSuchModuleError:
        raise DatabaseFault(f"SQLAlchemy knows no database {clean(url.drivername)!r}") from None
    except ModuleNotFoundError as error:
        raise DatabaseFault(
            f"{clean(url.drivername)} needs the package {error.name}, which is missing"
        ) from None
    except (SQLAlchemyError, TypeError, ValueError):
        raise DatabaseFault(f"the options of the {clean(url.drivername)} URL cannot be used") from None
    database = Database(url=url, engine=engine)
    with database.explained():
        if not inspect(engine).has_table("trades"):
            raise DatabaseFault(f"{database.shown} has no table `trades`: it is no database of Freqtrade's")
    return database


def configured_url(files: Sequence[str] | None, user_data_dir: str | None) -> str:
    """Return the URL that `freqtrade trade` uses with these configuration files and this environment.

    :raises DatabaseFault: where the configuration cannot be read.
    """
    from freqtrade import constants

    config = configuration(files, user_data_dir)
    dry_run, url = config.get("dry_run", False), config.get("db_url")
    if dry_run and url in (None, "", constants.DEFAULT_DB_PROD_URL):
        return str(constants.DEFAULT_DB_DRYRUN_URL)
    return str(url or constants.DEFAULT_DB_PROD_URL)


def configuration(files: Sequence[str] | None, user_data_dir: str | None) -> dict[str, Any]:
    """Return what Freqtrade's configuration files and its environment variables say, without its own checks.

    Freqtrade's own ``Configuration`` would create directories, set up logging and check the exchange on the way.

    :raises DatabaseFault: where the configuration cannot be read.
    """
    from freqtrade.configuration.environment_vars import environment_vars_to_dict
    from freqtrade.configuration.load_config import load_from_files
    from freqtrade.exceptions import OperationalException
    from freqtrade.misc import deep_merge_dicts

    try:
        config = load_from_files(list(files) if files else [_default_config(user_data_dir)])
        merged: Any = deep_merge_dicts(environment_vars_to_dict(), config)
    except OperationalException as error:
        # What follows the first line is a piece of the file, which may hold a key.
        raise DatabaseFault(clean(str(error).splitlines()[0])) from None
    except (OSError, ValueError) as error:
        raise DatabaseFault(f"the configuration cannot be read: {clean(error)}") from None
    except (TypeError, AttributeError):
        raise DatabaseFault("the configuration is no mapping") from None
    if not isinstance(merged, dict):
        raise DatabaseFault("the configuration is no mapping")
    return merged


def choose_bot(database: Database, wanted: str | None, *, must_be_known: bool) -> str | None:
    """Return the bot to speak of: the wanted, else the only one there is; None where there is none at all.

    :param must_be_known: refuse a wanted name that is not there while others are.
    :raises DatabaseFault: where it has to be chosen, or is unknown.
    """
    with database.explained():
        known = bridge.bots(database.engine)
    listed = ", ".join(map(clean, known))
    if wanted is not None:
        if len(wanted) > bridge.NAME_LENGTH:
            raise DatabaseFault(f"--bot must have at most {bridge.NAME_LENGTH} characters, had {len(wanted)}")
        if must_be_known and known and wanted not in known:
            raise DatabaseFault(f"--bot must be one of {listed} in {database.shown}, was {clean(wanted)}")
        return wanted
    if len(known) > 1:
        raise DatabaseFault(f"several bots are in {database.shown}; choose with --bot: {listed}")
    return known[0] if known else None


def default_config(user_data_dir: str | None) -> Path | None:
    """Return the configuration file that Freqtrade takes where none is named; None where there is none."""
    return next((place for place in _places(user_data_dir) if place.is_file()), None)


def _places(user_data_dir: str | None) -> tuple[Path, Path]:
    # Freqtrade's arguments look in the same order.
    return Path(user_data_dir or "user_data") / CONFIG, Path(CONFIG)


def _default_config(user_data_dir: str | None) -> str:
    found, places = default_config(user_data_dir), _places(user_data_dir)
    if found is None:
        raise DatabaseFault(f"there is neither {places[0]} nor {places[1]}: give --config or --db-url")
    return str(found)


def _sqlite(url: URL) -> Engine:
    name = url.database or ""
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    if name in ("", ":memory:"):
        raise DatabaseFault(f"{url.drivername}:// is in the bot's memory, where no other process sees it")
    path = Path(name)
    if not path.is_file():
        raise DatabaseFault(
            f"there is no database {clean(path.absolute())}: the bot was never started here, or with another --db-url"
        )
    address = f"{path.resolve().as_uri()}?mode=rw"  # never creates

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(address, uri=True, timeout=TIMEOUT_SECONDS, check_same_thread=False)

    return create_engine("sqlite://", creator=connect, poolclass=NullPool)


def _server(url: URL) -> Engine:
    limits = {}
    if url.get_driver_name() in ("psycopg", "psycopg2") and "connect_timeout" not in url.query:
        limits["connect_timeout"] = TIMEOUT_SECONDS
    return create_engine(url, pool_pre_ping=True, connect_args=limits)
