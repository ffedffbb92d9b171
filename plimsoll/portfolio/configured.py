"""Where the ledger is and which limits hold, as configured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from plimsoll.portfolio.connection import LedgerFault
from plimsoll.rules.portfolio import Limits
from plimsoll.settings.limits import Portfolio

ENVIRONMENT: Final = "PLIMSOLL_LEDGER_URL"


def address(setting: str | None, environment: Mapping[str, str]) -> str | None:
    """Return where the ledger is: the environment's ``PLIMSOLL_LEDGER_URL``, else the file of the setting ``portfolio.ledger``.

    None where neither says. ``~`` is the home directory.

    :raises LedgerFault: where the setting is a URL, which may hold a password and belongs into the environment.
    """
    url = environment.get(ENVIRONMENT, "").strip()
    if url:
        return url
    if setting is None or not setting.strip():
        return None
    if "://" in setting:
        raise LedgerFault(
            f"`portfolio.ledger` must be a path, was a URL: that goes into the environment's {ENVIRONMENT}"
        )
    return str(Path(setting).expanduser())


def limits_of(section: Portfolio) -> Limits:
    """Return the shared limits that a bot's settings ask for."""
    return Limits(
        exposure=section.exposure,
        asset=section.asset,
        heat=section.heat,
        drawdown=section.drawdown,
        silent_seconds=section.silent_minutes * 60.0,
    )
