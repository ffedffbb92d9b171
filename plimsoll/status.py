"""``plimsoll status``: what a running bot last said of itself, read from its database."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from plimsoll import bridge
from plimsoll.bot_database import Database, DatabaseFault, add_arguments, choose_bot, open_database
from plimsoll.live_option import add_live
from plimsoll.status_view import StatusView, is_silent
from plimsoll.terminal import BAD, clean, complain, console

FINE, BLOCKED, SILENT = 0, 1, 2


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        "status",
        help="show a running bot's limits, breakers and positions",
        description="Print what a bot last wrote into its database, where it writes each loop. Ends with 0 where"
        " entries are open, 1 where they are blocked, 2 where the bot is silent or never wrote.",
    )
    add_arguments(parser)
    parser.add_argument("--json", action="store_true", help='print the document, and its "age" in seconds')
    add_live(parser)
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Print the status once, or until the keyboard's interrupt; return the exit status of the last one."""
    if arguments.json and arguments.live is not None:
        arguments.refuse("--json prints one document; --live draws")
    try:
        database = open_database(arguments)
        if arguments.live is not None:
            return _live(database, arguments.bot, arguments.live, console())
        stored, now = _read(database, arguments.bot), time.time()
    except DatabaseFault as fault:
        complain("status", fault)
        return SILENT
    if arguments.json:
        print(json.dumps(stored.document | {"age": round(now - stored.time, 3)}))
    else:
        console().print(StatusView(stored, now))
    return exit_status(stored, now)


def exit_status(stored: bridge.StoredStatus, now: float) -> int:
    """Return 0 where entries are open, 1 where they are not, 2 where the status is too old to tell."""
    if is_silent(stored, now):
        return SILENT
    return FINE if stored.document.get("entries") == "open" else BLOCKED


def _live(database: Database, wanted: str | None, seconds: float, output: Console) -> int:
    last, ended = None, SILENT
    with Live(console=output, auto_refresh=False) as live:
        try:
            while True:
                now = time.time()
                try:
                    last = _read(database, wanted)
                    shown, ended = Group(StatusView(last, now)), exit_status(last, now)
                except DatabaseFault as fault:
                    parts = [] if last is None else [StatusView(last, now)]
                    shown, ended = Group(*parts, Text(str(fault), BAD)), SILENT
                live.update(shown, refresh=True)
                time.sleep(seconds)
        except KeyboardInterrupt:
            return ended


def _read(database: Database, wanted: str | None) -> bridge.StoredStatus:
    bot = choose_bot(database, wanted, must_be_known=True)
    stored = None
    if bot is not None:
        with database.explained():
            stored = bridge.read_status(database.engine, bot)
    if stored is None:
        who = "no bot" if bot is None else clean(bot)
        verb = "has" if bot is None else "has not"
        raise DatabaseFault(f"{who} {verb} written a status into {database.shown} yet")
    return stored
