"""How all bots stand together at one moment."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plimsoll.rules.answer import Outcome
from plimsoll.rules.portfolio import Capital, Claim, Limits, Totals
from plimsoll.rules.portfolio_claims import Change


@dataclass(frozen=True, slots=True, kw_only=True)
class BotStanding:
    """Hold what one bot brings and takes; ``reserved`` is the part of its margin that is no position yet, ``age`` in seconds.

    ``account`` tells the exchange accounts of live bots apart; empty where it is not known, in dry-run for one.
    """

    bot: str
    age: float
    silent: bool
    capital: float
    known: bool
    margin: float
    reserved: float
    risk: float
    unclear: str
    account: str
    claims: tuple[Claim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetStanding:
    """Hold the margin of all bots in one asset, and what is left of its cap."""

    asset: str
    margin: float
    long: float
    short: float
    cap: float

    @property
    def left(self) -> float:
        return max(0.0, self.cap - self.margin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Hold the ledger as of ``time`` (epoch seconds), in its currency.

    ``halted`` says why every bot is halted, None where none is; ``over`` names the limits that are exceeded by more than
    fills and their fees do (the history marks every excess). ``changes`` are those
    that this bot's heartbeat made to its claims. ``drawdown`` is a ratio of the peak per unit, ``peak`` is in today's units.
    """

    time: float
    currency: str
    sequence: int
    limits: Limits
    capital: float
    margin: float
    risk: float
    margin_cap: float
    risk_cap: float
    bots: tuple[BotStanding, ...]
    assets: tuple[AssetStanding, ...]
    drawdown: float | None
    peak: float | None
    halted: str | None
    over: tuple[str, ...]
    changes: tuple[Change, ...] = ()

    @property
    def silent(self) -> tuple[str, ...]:
        return tuple(bot.bot for bot in self.bots if bot.silent)

    @property
    def unclear(self) -> tuple[str, ...]:
        return tuple(f"{bot.bot}: {bot.unclear}" for bot in self.bots if bot.unclear)

    @property
    def margin_left(self) -> float:
        return max(0.0, self.margin_cap - self.margin)

    @property
    def risk_left(self) -> float:
        return max(0.0, self.risk_cap - self.risk)

    @property
    def outcome(self) -> Outcome:
        """Tell whether new risk is possible at all; unknown where something cannot be counted."""
        if self.halted is not None or self.over:
            return Outcome.BREACHED
        return Outcome.UNKNOWN if self.unclear else Outcome.FINE

    def as_data(self) -> dict[str, Any]:
        """Return it as plain values for JSON, what is derived included."""
        data = dataclasses.asdict(self)
        for key, asset in zip(data["assets"], self.assets, strict=True):
            key["left"] = asset.left
        return data | {
            "outcome": str(self.outcome),
            "silent": list(self.silent),
            "unclear": list(self.unclear),
            "margin_left": self.margin_left,
            "risk_left": self.risk_left,
        }


def bot_standings(
    capitals: Iterable[Capital], claims: Sequence[Claim], now: float, accounts: Mapping[str, str]
) -> tuple[BotStanding, ...]:
    """Return each bot with its claims, by name; ``accounts`` by bot."""
    standings = []
    for capital in sorted(capitals, key=lambda capital: capital.bot):
        own = tuple(claim for claim in claims if claim.bot == capital.bot)
        standings.append(
            BotStanding(
                bot=capital.bot,
                age=capital.age(now),
                silent=capital.silent(now),
                capital=capital.capital,
                known=capital.known,
                margin=math.fsum(claim.margin for claim in own),
                reserved=math.fsum(claim.margin for claim in own if claim.state == "reserved"),
                risk=math.fsum(max(claim.risk, 0.0) for claim in own),
                unclear=capital.unclear,
                account=accounts[capital.bot],
                claims=own,
            )
        )
    return tuple(standings)


def asset_standings(claims: Sequence[Claim], totals: Totals, limits: Limits) -> tuple[AssetStanding, ...]:
    """Return each asset with its margin, the largest first."""
    cap = limits.asset * totals.capital
    return tuple(
        AssetStanding(
            asset=asset,
            margin=margin,
            long=math.fsum(claim.margin for claim in claims if (claim.asset, claim.side) == (asset, "long")),
            short=math.fsum(
                claim.margin for claim in claims if (claim.asset, claim.side) == (asset, "short")
            ),
            cap=cap,
        )
        for asset, margin in sorted(totals.assets.items(), key=lambda item: (-item[1], item[0]))
    )
