"""``plimsoll checkin`` and ``plimsoll reset``: ask a running bot through its database, and wait for its answer."""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from typing import Any, Final

from rich.text import Text

from plimsoll import bridge, portfolio_command
from plimsoll.bot_database import Database, DatabaseFault, add_arguments, choose_bot, open_database
from plimsoll.status_view import breaker_name, is_silent
from plimsoll.terminal import clean, complain, console, duration, mappings, moment, words
from plimsoll.who import login, operator_name

WAIT_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.25
REFUSAL: Final = "refused:"
ANSWERED, REFUSED, FAILED, STORED = 0, 1, 2, 3
ENDS: Final = "Ends with 0 where the bot did it, 1 where it refused, 3 where the request is stored and not answered yet."


def add_parser(commands: Any) -> None:
    """Add both commands to the parser's subcommands."""
    checkin = commands.add_parser(
        "checkin",
        help="tell a bot's dead man's switch that you are there",
        description=f"Tell a bot's dead man's switch that its operator is there. {ENDS}",
    )
    reset = commands.add_parser(
        "reset",
        help="let a tripped breaker start anew",
        description=f"Let a bot's breaker start anew from now; without a name, list them. {ENDS}",
    )
    reset.add_argument(
        "breaker",
        nargs="*",
        metavar="BREAKER",
        help="its name, as `plimsoll status` shows it; `portfolio` ends the halt of all bots that share a ledger",
    )
    reset.add_argument("--force", action="store_true", help="ask also where the last status does not name it")
    for parser, run in ((checkin, run_checkin), (reset, run_reset)):
        add_arguments(parser)
        parser.add_argument(
            "--by", type=operator_name, metavar="NAME", help="who asks (default: the name of your login)"
        )
        parser.add_argument(
            "--wait",
            type=_seconds,
            default=WAIT_SECONDS,
            metavar="SECONDS",
            help=f"for the bot's answer (default {WAIT_SECONDS:g})",
        )
        parser.set_defaults(run=run)


def run_checkin(arguments: argparse.Namespace) -> int:
    """Check in with the dead man's switch."""
    try:
        database = open_database(arguments)
        return _ask(database, _bot(database, arguments.bot), "checkin", "", arguments)
    except DatabaseFault as fault:
        complain("checkin", fault)
        return FAILED


def run_reset(arguments: argparse.Namespace) -> int:
    """Reset a breaker, or list them."""
    wanted = " ".join(arguments.breaker).strip()
    if wanted == portfolio_command.NAME:  # no bot's: the ledger that they share
        return portfolio_command.reset(None, arguments.config, arguments.user_data_dir, arguments.by)
    try:
        database = open_database(arguments)
        bot = _bot(database, arguments.bot)
        with database.explained():
            stored = bridge.read_status(database.engine, bot)
        breakers = _breakers(stored)
        if not wanted:
            return _list(bot, stored, breakers)
        if wanted not in breakers and not arguments.force:
            listed = ", ".join(sorted(breakers)) or "none, as the bot has not written a status yet"
            raise DatabaseFault(
                f"BREAKER must be one of {listed}; was {clean(wanted)} (--force asks all the same)"
            )
        return _ask(database, bot, "reset", wanted, arguments)
    except DatabaseFault as fault:
        complain("reset", fault)
        return FAILED


def _bot(database: Database, wanted: str | None) -> str:
    bot = choose_bot(database, wanted, must_be_known=True)
    if bot is None:
        raise DatabaseFault(
            f"no bot with Plimsoll ran on {database.shown} yet; --bot stores a request for its start"
        )
    return bot


def _ask(database: Database, bot: str, command: str, argument: str, arguments: argparse.Namespace) -> int:
    with database.explained():
        bridge.create_tables(database.engine)
        by = arguments.by or login()
        try:
            request = bridge.ask(database.engine, bot, command, argument, int(time.time()), by)
        except ValueError as error:
            raise DatabaseFault(clean(error)) from None
    answer = _wait(database, request, arguments.wait)
    if answer is None:
        text = f"Stored as request {request}; {clean(bot)} has not answered within {arguments.wait:g} s"
        with suppress(DatabaseFault), database.explained():
            text += f" ({_heard(bridge.read_status(database.engine, bot))})"
        text += ". It takes the request up in its next loop, or at its next start."
        console().print(Text(text), soft_wrap=True)
        return STORED
    console().print(Text(clean(answer)), soft_wrap=True)
    return REFUSED if answer.startswith(REFUSAL) else ANSWERED


def _wait(database: Database, request: int, seconds: float) -> str | None:
    ends = time.monotonic() + seconds
    while True:
        # The request is stored: a database that fails now is asked again.
        with suppress(DatabaseFault), database.explained():
            answer = bridge.answer_of(database.engine, request)
            if answer is not None:
                return answer
        left = ends - time.monotonic()
        if left <= 0.0:
            return None
        time.sleep(min(POLL_SECONDS, left))


def _heard(stored: bridge.StoredStatus | None) -> str:
    if stored is None:
        return "it never wrote a status"
    age, silent = time.time() - stored.time, is_silent(stored, time.time())
    return f"silent since {moment(stored.time)}" if silent else f"its last status is {duration(age)} old"


def _breakers(stored: bridge.StoredStatus | None) -> dict[str, str]:
    listed = mappings(stored.document.get("breakers")) if stored is not None else None
    return {breaker_name(b): words(b.get("state")) for b in listed or () if isinstance(b.get("name"), str)}


def _list(bot: str, stored: bridge.StoredStatus | None, breakers: dict[str, str]) -> int:
    if stored is None or not breakers:
        raise DatabaseFault(f"{clean(bot)} has not written which breakers it has")
    console().print(Text(f"Breakers of {clean(bot)}, {_heard(stored)}"), soft_wrap=True)
    for name, state in breakers.items():
        console().print(Text(f"  {name}  {state}"), soft_wrap=True)
    return ANSWERED


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 86_400.0:
        raise argparse.ArgumentTypeError(f"must be seconds from 0 to 86400, was {text!r}")
    return value
