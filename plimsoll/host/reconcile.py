"""At start: does what is remembered fit the bot and the database that is there? What does not fit blocks entries and says so."""

from __future__ import annotations

from typing import Any

from freqtrade.persistence import Trade
from freqtrade.strategy import IStrategy
from sqlalchemy import func, select

MEMORY = "memory"  # what an operator resets to give up what is remembered
_GIVE_UP = f"put that right, or give up what is remembered: plimsoll reset {MEMORY}"


def newest_trade() -> int:
    """Return the highest id of a closed trade in the database, 0 when there is none; an open one's entry may be cancelled."""
    return int(Trade.session.scalar(select(func.max(Trade.id)).where(Trade.is_open.is_(False))) or 0)


def bot_facts(strategy: IStrategy, newest: int) -> dict[str, Any]:
    """Return what a later start has to find again."""
    config: Any = strategy.config
    return {
        "stake_currency": config["stake_currency"],
        "runmode": getattr(config.get("runmode"), "value", None),
        "newest_trade": newest,
    }


def what_does_not_fit(stored: dict[str, Any] | None, strategy: IStrategy) -> str | None:
    """Compare what is remembered of the bot with the bot that starts; None where it fits or nothing is remembered."""
    if stored is None:
        return None
    now = bot_facts(strategy, newest_trade())
    for key in ("stake_currency", "runmode"):
        if stored[key] != now[key]:
            return f"peaks and openings are remembered from {key} {stored[key]}, the bot has {now[key]}; {_GIVE_UP}"
    if now["newest_trade"] < int(stored["newest_trade"]):
        return (
            f"trades up to {stored['newest_trade']} were seen, the database ends at {now['newest_trade']}: losses are missing;"
            f" {_GIVE_UP}"
        )
    return None
