"""What the doctor says, and the registry of what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from plimsoll.doctor.setup import Setup


class Severity(StrEnum):
    """Rank a finding: errors lose money unseen or stop the bot, warnings may, notes only say; unknown was not checked."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    UNKNOWN = "unknown"


class Part(StrEnum):
    """Name what a check needs; where it is missing, the check is not made, and that is said."""

    CONFIG = "the configuration"
    SETTINGS = "the settings of Plimsoll"
    STRATEGY = "the strategy"
    CANDLES = "the candles"
    BOT = "the running bot"
    EXCHANGE = "the exchange"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Hold one fault: what is wrong, why it matters, and what to write or run to mend it."""

    check: str
    severity: Severity
    what: str
    why: str = ""
    fix: str = ""


Function = Callable[["Setup"], Iterable[Finding]]


@dataclass(frozen=True, kw_only=True)
class Check:
    """Hold a check: a function of the setup, what it needs, and whether it is about the guard only."""

    name: str
    group: str
    function: Function
    needs: tuple[Part, ...]
    guarded_only: bool

    def run(self, setup: Setup) -> list[Finding]:
        """Return what the check finds; a part that is missing, or a check that fails, is an unknown."""
        if self.guarded_only and setup.guarded is False:
            return []
        for part in self.needs:
            reason = setup.missing.get(part)
            if reason is not None:
                return [Finding(check=self.name, severity=Severity.UNKNOWN, what=reason)]
        try:
            return [replace(found, check=self.name) for found in self.function(setup)]
        except Exception as fault:
            return [
                Finding(
                    check=self.name, severity=Severity.UNKNOWN, what=f"the check itself failed: {fault!r}"
                )
            ]


CHECKS: Final[dict[str, Check]] = {}


def check(*needs: Part, guarded_only: bool = False, always: bool = False) -> Callable[[Function], Function]:
    """Register a function as a check, by its name; its module is the group it is printed in.

    :param needs: parts without which it cannot be made. :param guarded_only: it says nothing of a strategy without the guard.
    :param always: it is made with a configuration, too, that cannot be used.
    """

    def register(function: Function) -> Function:
        group = function.__module__.rpartition(".")[2]
        CHECKS[function.__name__] = Check(
            name=function.__name__,
            group=group,
            function=function,
            needs=needs if always else (Part.CONFIG, *needs),
            guarded_only=guarded_only,
        )
        return function

    return register


def error(what: str, why: str, fix: str) -> Finding:
    """Return a finding that costs money unseen, or that the bot does not start with."""
    return Finding(check="", severity=Severity.ERROR, what=what, why=why, fix=fix)


def warning(what: str, why: str, fix: str) -> Finding:
    """Return a finding that may cost money."""
    return Finding(check="", severity=Severity.WARNING, what=what, why=why, fix=fix)


def note(what: str, why: str, fix: str) -> Finding:
    """Return a finding that is good to know."""
    return Finding(check="", severity=Severity.NOTE, what=what, why=why, fix=fix)


def unknown(reason: str) -> Finding:
    """Return that something could not be checked, and why."""
    return Finding(check="", severity=Severity.UNKNOWN, what=reason)
