"""``plimsoll portfolio``: all bots of one owner, what they take of the shared limits, and the operator's word to them."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from plimsoll.bot_database import CONFIG, DatabaseFault, configuration
from plimsoll.live_option import add_live
from plimsoll.portfolio import ENVIRONMENT, Ledger, LedgerFault, Standing, address
from plimsoll.portfolio_view import PortfolioView
from plimsoll.rules.answer import Outcome
from plimsoll.terminal import (
    BAD,
    clean,
    complain,
    console,
)
from plimsoll.who import login, operator_name

NAME: Final = "portfolio"
FINE, HALTED, UNREACHABLE = 0, 1, 2


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        NAME,
        help="show all bots that share a ledger; end their halt, or let a dead bot leave",
        description="Print all bots that share a ledger. `reset` ends a halt: the capital of now is the new peak. `release BOT`"
        " lets a bot leave that will not come back: its reservations, positions and capital no longer count. Ends with 0"
        " where all is fine or what was asked is done, 1 where bots are halted, over a limit or cannot be counted, 2 where"
        " there is no ledger to ask or it refused.",
    )
    parser.add_argument("action", nargs="?", choices=("reset", "release"), metavar="reset | release BOT")
    parser.add_argument("name", nargs="?", metavar="BOT", help=argparse.SUPPRESS)
    parser.add_argument(
        "--ledger",
        metavar="URL|PATH",
        help=f"where it is (default: {ENVIRONMENT} of the environment, else plimsoll.portfolio.ledger of the configuration);"
        " a URL given here is seen by every user of this machine, its password too",
    )
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        metavar="FILE",
        help=f"Freqtrade's configuration; may be repeated (default user_data/{CONFIG}, else {CONFIG})",
    )
    parser.add_argument("--user-data-dir", "--userdir", metavar="DIR", help=f"where {CONFIG} is looked for")
    parser.add_argument("--json", action="store_true", help="print it as one document")
    add_live(parser)
    parser.add_argument(
        "--by", type=operator_name, metavar="NAME", help="who asks (default: the name of your login)"
    )
    parser.add_argument("--force", action="store_true", help="release a bot that was heard of lately, too")
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Show the portfolio, or do what the operator asks; return the exit status."""
    shows = arguments.json or arguments.live is not None
    if arguments.json and arguments.live is not None:
        arguments.refuse("--json prints one document; --live draws")
    if arguments.action is not None and shows:
        arguments.refuse(f"--json and --live show; they do not go with {arguments.action}")
    if (arguments.action == "release") != (arguments.name is not None):
        arguments.refuse("release needs the name of one BOT, as `plimsoll portfolio` shows it")
    place = (arguments.ledger, arguments.config, arguments.user_data_dir)
    if arguments.action == "reset":
        return reset(*place, arguments.by)
    if arguments.action == "release":
        by = arguments.by or login()
        return _ask(
            place,
            lambda ledger: ledger.release_bot(arguments.name, time.time(), by, force=arguments.force),
            f"{clean(arguments.name)} has left: its positions and capital no longer count",
        )
    try:
        ledger = _open(*place)
        if arguments.live is not None:
            return _live(ledger, arguments.live, console())
        standing = ledger.standing(time.time())
    except LedgerFault as fault:
        complain(NAME, fault)
        return UNREACHABLE
    if arguments.json:
        print(json.dumps(standing.as_data()))
    else:
        console().print(PortfolioView(standing))
    return exit_status(standing)


def reset(ledger: str | None, config: Sequence[str] | None, user_data_dir: str | None, by: str | None) -> int:
    """End the halt of all bots that share a ledger; return the exit status."""
    name = by or login()
    return _ask(
        (ledger, config, user_data_dir),
        lambda ledger: ledger.reset(time.time(), name),
        "the halt is over, and drawdown counts anew",
    )


def exit_status(standing: Standing) -> int:
    """Return 0 where bots may reserve, 1 where all are halted, over a limit or cannot be counted."""
    return FINE if standing.outcome is Outcome.FINE else HALTED


def _open(ledger: str | None, config: Sequence[str] | None, user_data_dir: str | None) -> Ledger:
    place = ledger or address(None, os.environ) or address(_configured(config, user_data_dir), {})
    if place is None:
        raise LedgerFault(
            f"no ledger is configured: give --ledger, {ENVIRONMENT} or `portfolio.ledger` in plimsoll's configuration"
        )
    return Ledger(place, None, None)


def _configured(files: Sequence[str] | None, user_data_dir: str | None) -> str | None:
    try:
        section: Any = configuration(files, user_data_dir).get("plimsoll")
    except DatabaseFault as fault:
        raise LedgerFault(f"give --ledger or {ENVIRONMENT}: {fault}") from None
    for key in ("portfolio", "ledger"):
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, str) else None


def _ask(
    place: tuple[str | None, Sequence[str] | None, str | None], work: Callable[[Ledger], Standing], done: str
) -> int:
    try:
        ledger = _open(*place)
        work(ledger)
    except LedgerFault as fault:
        complain(NAME, fault)
        return UNREACHABLE
    console().print(Text(f"{done} ({clean(ledger.shown)})"), soft_wrap=True)
    return FINE


def _live(ledger: Ledger, seconds: float, output: Console) -> int:
    last, ended = None, UNREACHABLE
    with Live(console=output, auto_refresh=False) as live:
        try:
            while True:
                try:
                    last = ledger.standing(time.time())
                    shown, ended = Group(PortfolioView(last)), exit_status(last)
                except LedgerFault as fault:
                    parts = [] if last is None else [PortfolioView(last)]
                    shown, ended = Group(*parts, Text(str(fault), BAD)), UNREACHABLE
                live.update(shown, refresh=True)
                time.sleep(seconds)
        except KeyboardInterrupt:
            return ended
