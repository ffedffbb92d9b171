"""The option ``--live``: how often a view is drawn anew."""

from __future__ import annotations

import argparse
from typing import Final

REFRESH_SECONDS: Final = 5.0


def add_live(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command that shows something."""
    parser.add_argument(
        "--live",
        nargs="?",
        type=_seconds,
        const=REFRESH_SECONDS,
        metavar="SECONDS",
        help=f"refresh until ctrl-c (every {REFRESH_SECONDS:g} s)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 86_400.0:
        raise argparse.ArgumentTypeError(f"must be seconds from 0.1 to 86400, was {text!r}")
    return value
