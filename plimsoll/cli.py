"""The command ``plimsoll``; each of its commands is a module of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from plimsoll import __version__, demo, init, portfolio_command, requests_to_bot, status, wrap
from plimsoll.calibrate import command as calibrate
from plimsoll.compare import command as compare
from plimsoll.doctor import command as doctor
from plimsoll.drill import command as drill
from plimsoll.replay import command as replay
from plimsoll.report import command as report
from plimsoll.stress import command as stress

# A command's module adds its parser to the subparsers and sets the default ``run``, which is given the parsed
# arguments and returns the exit status.
COMMANDS = (
    demo,
    wrap,
    init,
    doctor,
    compare,
    report,
    replay,
    drill,
    stress,
    calibrate,
    status,
    requests_to_bot,
    portfolio_command,
)

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; wrong arguments end with status 2, as argparse does it."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="plimsoll", description="Leverage risk control for Freqtrade.")
    parser.add_argument("--version", action="version", version=f"plimsoll {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
