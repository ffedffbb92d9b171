"""``plimsoll doctor``: what is wrong with a setup, why it matters, and the line that mends it."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from rich.console import Console
from rich.text import Text

import plimsoll.doctor.checks  # noqa: F401 - registers the checks
from plimsoll.bot_database import DatabaseFault, add_arguments
from plimsoll.doctor.finding import CHECKS, Finding, Severity
from plimsoll.doctor.gather import examine, quiet
from plimsoll.doctor.secrets import hide, secrets_of
from plimsoll.doctor.setup import Setup
from plimsoll.terminal import BAD, FAINT, GOOD, WARNING, console

NAME: Final = "doctor"
FINE, ERRORS, USAGE, WARNINGS = 0, 1, 2, 3
GROUPS: Final = ("overrides", "stops", "sizing", "candles", "accounts", "environment")
_STYLES: Final = {Severity.ERROR: BAD, Severity.WARNING: WARNING, Severity.NOTE: FAINT}


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        NAME,
        help="check a configuration, a strategy, its data and the running bot",
        description="Print what is wrong, why it matters and the line that mends it. The strategy is loaded as Freqtrade loads it,"
        " which runs its code, and is asked for its leverage. Nothing is changed, and nothing is asked of the network without"
        " --online, except the exchange's time while the bot runs. Ends with 0 where there are at most notes, 1 with errors,"
        " 2 where the arguments are wrong or there is no configuration to read, 3 with warnings only. What could not be checked is"
        " listed and does not change the status.",
    )
    add_arguments(parser)
    parser.add_argument(
        "-s", "--strategy", metavar="NAME", help="the strategy's class, instead of the configuration's"
    )
    parser.add_argument("--strategy-path", metavar="DIR", help="where else to look for it")
    parser.add_argument(
        "-d", "--datadir", "--data-dir", metavar="DIR", help="candles, such as user_data/data/binance"
    )
    parser.add_argument("-i", "--timeframe", metavar="TF", help="timeframe, instead of the strategy's")
    parser.add_argument(
        "--online",
        action="store_true",
        help="ask the exchange for its time, its markets and, but for Binance, its maintenance tiers: Binance's come with the"
        " installed Freqtrade",
    )
    parser.add_argument("--json", action="store_true", help="print one document")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Examine the setup, print the findings and return the exit status."""
    try:
        # A strategy that prints would spoil the document.
        with contextlib.redirect_stdout(sys.stderr):
            setup = examine(arguments)
            findings = diagnose(setup)
    except DatabaseFault as fault:
        console(stderr=True).print(Text(f"plimsoll {NAME}: {fault}"), soft_wrap=True)
        return USAGE
    if arguments.json:
        print(json.dumps(document(setup, findings), indent=1))
    else:
        show(setup, findings, console())
    return exit_status(findings)


def diagnose(setup: Setup) -> list[Finding]:
    """Run every check; errors come first, then warnings and notes, each in the order of the groups, and what is unknown."""
    own = None if setup.strategy is None else getattr(type(setup.strategy), "plimsoll", None)
    secrets = secrets_of(setup.stated, setup.stated.get("plimsoll"), own)
    with quiet():
        found = [finding for check in CHECKS.values() for finding in check.run(setup)]
    ranks = {severity: rank for rank, severity in enumerate(Severity)}
    found.sort(key=lambda one: (ranks[one.severity], GROUPS.index(CHECKS[one.check].group)))
    return [
        replace(one, what=hide(one.what, secrets), why=hide(one.why, secrets), fix=hide(one.fix, secrets))
        for one in found
    ]


def exit_status(findings: Sequence[Finding]) -> int:
    """Return 1 with errors, 3 with warnings only, else 0."""
    found = {finding.severity for finding in findings}
    if Severity.ERROR in found:
        return ERRORS
    return WARNINGS if Severity.WARNING in found else FINE


def document(setup: Setup, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what was found as plain values."""
    return {
        "status": exit_status(findings),
        "strategy": setup.config.get("strategy"),
        "guarded": setup.guarded,
        "findings": [asdict(one) for one in findings if one.severity is not Severity.UNKNOWN],
        "not_checked": [
            {"check": one.check, "reason": one.what} for one in findings if one.severity is Severity.UNKNOWN
        ],
        "checks": len(CHECKS),
    }


def show(setup: Setup, findings: Sequence[Finding], output: Console) -> None:
    """Print the findings; a line is left to the terminal to wrap, so that a fix can be copied whole."""
    lines = [_heading(setup)]
    for finding in findings:
        if finding.severity in _STYLES:
            lines += [Text(), *_lines(finding)]
    reasons: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        if finding.severity is Severity.UNKNOWN:
            reasons[finding.what].append(finding.check)
    if reasons:
        lines.append(Text())
    for reason, checks in reasons.items():
        named = ", ".join(dict.fromkeys(checks))
        lines.append(Text.assemble(("not checked: ", WARNING), f"{named}: {_plain(reason)}"))
    lines += [Text(), _summary(findings, len({check for checks in reasons.values() for check in checks}))]
    for line in lines:
        output.print(line, soft_wrap=True)


def _heading(setup: Setup) -> Text:
    name = setup.config.get("strategy") or "no strategy"
    guarded = {True: "guarded", False: "not guarded", None: "not loaded"}[setup.guarded]
    files = ", ".join(map(str, setup.files)) or "no file"
    said = [guarded] if setup.config.get("strategy") else []
    said += ["live" if setup.live else "dry run", files]
    return Text.assemble((_plain(f"Doctor: {name}"), "bold"), (f"  {_plain(', '.join(said))}", FAINT))


def _lines(finding: Finding) -> list[Text]:
    label = (f"{finding.severity.value:<8}", _STYLES[finding.severity])
    return [
        Text.assemble(label, (_plain(finding.what), "bold"), (f"  [{finding.check}]", FAINT)),
        Text.assemble(("  why   ", FAINT), _plain(finding.why)),
        Text.assemble(("  fix   ", FAINT), (_plain(finding.fix), GOOD)),
    ]


def _summary(findings: Sequence[Finding], unknown: int) -> Text:
    counts = {severity: sum(one.severity is severity for one in findings) for severity in _STYLES}
    said = [f"{count} {name.value}{'s' if count != 1 else ''}" for name, count in counts.items() if count]
    text = ", ".join(said) or "nothing found"
    text += f"; {len(CHECKS)} checks" + (f", {unknown} of them not made in full" if unknown else "")
    style = {ERRORS: BAD, WARNINGS: WARNING, FINE: GOOD}[exit_status(findings)]
    return Text(text, style)


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
