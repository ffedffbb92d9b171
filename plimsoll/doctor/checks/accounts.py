"""The running bot, and other bots on the same account."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from plimsoll import __version__
from plimsoll.doctor.finding import Finding, Part, check, error, note, unknown, warning
from plimsoll.doctor.setup import Setup

LARGEST_CONFIG: Final = 1_000_000  # bytes


@check()
def several_bots(setup: Setup) -> Iterator[Finding]:
    """Report bots that share a database, or an account without a ledger."""
    section = json.dumps({"portfolio": {"ledger": str(Path("user_data").absolute() / "ledger.sqlite")}})
    fix = f'"plimsoll": {section}   # the same path in each bot\'s configuration'
    if len(setup.bots) > 1:
        yield error(
            f"{len(setup.bots)} bots run on one database ({', '.join(setup.bots)})",
            "Freqtrade takes the trades of the other for its own: each bot needs a database of its own, and the account a ledger",
            f'"db_url": "sqlite:///{setup.bots[-1]}.sqlite"   # one per bot; and {fix}',
        )
    others = _other_configurations(setup)
    if others and not _has_ledger(setup):
        yield warning(
            f"{', '.join(others)} trade{'s' if len(others) == 1 else ''} the same account, and no ledger is shared",
            "each bot keeps its limits as if the account were its own: together they risk a multiple",
            fix,
        )
    elif others and "available_capital" not in setup.config:
        yield warning(
            f"{', '.join(others)} trade{'s' if len(others) == 1 else ''} the same account, and none has a part of it",
            "each bot counts the whole account as its capital, so the ledger's limits are of a multiple of it",
            '"available_capital": 5000   # of each bot, together no more than the account has',
        )


def _has_ledger(setup: Setup) -> bool:
    from plimsoll.portfolio import LedgerFault, address

    try:
        return address(_stated_ledger(setup), setup.environment) is not None
    except LedgerFault:
        return False


def _stated_ledger(setup: Setup) -> str | None:
    if setup.settings is not None:
        return None if "portfolio" in setup.settings.off else setup.settings.portfolio.ledger
    section = setup.stated.get("plimsoll")
    portfolio = section.get("portfolio") if isinstance(section, dict) else None
    stated = portfolio.get("ledger") if isinstance(portfolio, dict) else None
    return stated if isinstance(stated, str) else None


def _other_configurations(setup: Setup) -> list[str]:
    account = _account(setup.stated)
    if not setup.live or account is None:
        return []  # a dry run has a wallet of its own
    own = {file.resolve() for file in setup.files}
    for file in setup.files:
        own |= {(file.parent / name).resolve() for name in setup.stated.get("add_config_files") or []}
    places = sorted({file.resolve().parent for file in setup.files})
    beside = [file for place in places for file in sorted(place.glob("*.json")) if file.resolve() not in own]
    return [file.name for file in beside if _trades_on(file, account)]


def _trades_on(file: Path, account: tuple[str, str]) -> bool:
    from freqtrade.configuration.load_config import load_from_files

    try:
        if file.stat().st_size > LARGEST_CONFIG:
            return False
        found = load_from_files([str(file)])
    except Exception:  # any other JSON file
        return False
    if not isinstance(found, dict) or ("stake_amount" not in found and "pairlists" not in found):
        return False  # a file with the keys only, which another one includes
    return _account(found) == account and not found.get("dry_run", True)


def _account(config: dict[str, Any]) -> tuple[str, str] | None:
    exchange = config.get("exchange")
    if not isinstance(exchange, dict) or not exchange.get("key"):
        return None
    return str(exchange.get("name")), str(exchange["key"])


@check(Part.SETTINGS)
def ledger_place(setup: Setup) -> Iterator[Finding]:
    """Report a ledger that bots cannot use."""
    from plimsoll.portfolio import LedgerFault, address

    try:
        place = address(_stated_ledger(setup), setup.environment)
    except LedgerFault as fault:
        yield error(
            f"the ledger cannot be used: {fault}",
            "the bot does not find it and enters nothing; and Freqtrade writes the configuration into backtest files",
            "export PLIMSOLL_LEDGER_URL=postgresql+psycopg://USER@HOST/NAME   # for each bot",
        )
        return
    if place is None:
        return
    if "://" in place:
        yield unknown("the ledger is on a server; plimsoll portfolio asks it")
    elif not Path(place).parent.is_dir() or not os.access(Path(place).parent, os.W_OK):
        yield error(
            f"the ledger {place} is in a directory that does not exist or cannot be written to",
            "a bot that cannot reach its ledger enters nothing",
            shlex.join(["mkdir", "-p", str(Path(place).parent)]),
        )


@check(Part.BOT)
def bot_blocks_entries(setup: Setup) -> Iterator[Finding]:
    """Report a running bot that enters nothing."""
    document = _document(setup)
    if document.get("entries") == "open":
        return
    reasons = [str(reason) for reason in document.get("blocked_by") or ["it does not say why"]]
    breaker = reasons[0].split(":")[0].split(" ")[0]
    yield warning(
        f"the running bot enters nothing: {'; '.join(reasons)}",
        "it stays so until the reason is gone or an operator resets it; exits go on",
        f"plimsoll status   # then, if it is what you want: plimsoll reset {shlex.quote(breaker)}",
    )


@check(Part.BOT)
def bot_stops_resting(setup: Setup) -> Iterator[Finding]:
    """Report positions of the running bot whose stop does not rest on the exchange."""
    lacking = [
        str(position.get("pair"))
        for position in _document(setup).get("positions") or []
        if position.get("stop_on_exchange") is False
    ]
    if lacking:
        yield warning(
            f"the stop of {', '.join(lacking)} does not rest on the exchange, where it should",
            "a live bot with stops on exchange watches none itself",
            "plimsoll status --live   # it is set again within a minute, or the exchange refuses it: then close the position",
        )


@check(Part.BOT)
def bot_is_this_one(setup: Setup) -> Iterator[Finding]:
    """Report a running bot of another version, or in another mode than the configuration says."""
    document = _document(setup)
    version, mode = document.get("plimsoll"), document.get("runmode")
    wanted = "live" if setup.live else "dry_run"
    if version != __version__:
        yield warning(
            f"the running bot has Plimsoll {version}, installed is {__version__}",
            "the rules that hold are the running bot's; this check reads the installed ones",
            "restart the bot (/reload_config does not load installed packages anew)",
        )
    if mode != wanted:
        yield warning(
            f"the running bot's mode is {mode}, the configuration says {wanted}",
            "what was checked here is not what trades",
            "plimsoll doctor -c CONFIG   # the configuration that the bot was started with",
        )


@check(Part.STRATEGY, Part.SETTINGS, guarded_only=True)
def proving_record(setup: Setup) -> Iterator[Finding]:
    """Say what a live bot still lacks before it opens its first position."""
    if not setup.live:
        return
    from datetime import UTC, datetime

    from plimsoll.host.proving import Proving

    gates = setup.limits.gates
    if gates.proving_override:
        yield note(
            "gates.proving_override is on: live entries without a dry run on record",
            "nothing shows that this strategy does with these settings what you expect",
            '"plimsoll": {"gates": {"proving_override": false}}',
        )
        return
    proving = Proving(setup.strategy, setup.limits)
    proving.loop(datetime.fromtimestamp(setup.now, UTC))  # of a live bot it only reads
    answer = proving.answer()
    if answer is not None and answer.blocks:
        yield warning(
            f"live entries stay closed: {answer.reason}",
            f"the record of {gates.proving_days:g} days of dry run belongs to this strategy, timeframe and these settings",
            '"dry_run": true   # until then; or "plimsoll": {"gates": {"proving_override": true}}',
        )


def _document(setup: Setup) -> dict[str, Any]:
    assert setup.bot is not None
    return setup.bot.document
