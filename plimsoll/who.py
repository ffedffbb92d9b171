"""Who gives a command."""

from __future__ import annotations

import argparse
import getpass

from plimsoll.bridge import BY_LENGTH


def login() -> str:
    """Return the name of the login, as long as it can be stored."""
    try:
        return getpass.getuser()[:BY_LENGTH]
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return "operator"


def operator_name(text: str) -> str:
    """Return a name given on the command line.

    :raises argparse.ArgumentTypeError: where it is none that can be stored and shown.
    """
    if not 0 < len(text) <= BY_LENGTH or not text.isprintable():
        raise argparse.ArgumentTypeError(f"must be 1 to {BY_LENGTH} printable characters, was {text!r}")
    return text
