"""One breaker at run time, and which of them the settings ask for."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plimsoll.portfolio import LedgerFault, address
from plimsoll.rules import deadman, decay, drawdown, loss_limit, streak
from plimsoll.rules.breaker import ReadingConfig, Verdict
from plimsoll.settings import Settings

BOT_WIDE = "*"


@dataclass(slots=True)
class Machine:
    """Hold one breaker: its module, configuration, state and last verdict, and the pair it speaks for."""

    rule: Any
    config: Any
    pair: str = BOT_WIDE
    state: Any = None
    verdict: Verdict | None = None
    told: tuple[bool, bool, float, int] = (False, False, 1.0, 0)
    was_known: bool = False
    stepped: bool = False

    def __post_init__(self) -> None:
        self.state = self.rule.State() if self.state is None else self.state

    @property
    def is_windowed(self) -> bool:
        return self.rule is decay and self.config.method == "sharpe"

    def step(self, sample: Any) -> Verdict:
        self.stepped = True
        self.state, self.verdict = self.rule.step(self.state, self.config, sample)
        return self.verdict


def equity_machines(settings: Settings, *, confirmations: int, attended: bool) -> dict[str, Machine]:
    """Return the breakers that equity is told to, by name."""
    found: dict[str, Machine] = {}
    off = settings.off
    readings = ReadingConfig(confirmations=confirmations)
    if "loss_limit" not in off:
        found["daily_loss"] = _loss_limit(settings, settings.loss_limit.daily, "day", readings)
        found["weekly_loss"] = _loss_limit(settings, settings.loss_limit.weekly, "week", readings)
    if "drawdown" not in off:
        config = drawdown.Config(
            limit=settings.drawdown.limit,
            reset=settings.drawdown.reset,
            cooldown_minutes=settings.drawdown.cooldown_minutes,
            ladder=settings.drawdown.ladder,
            readings=readings,
        )
        found["drawdown"] = Machine(drawdown, config)
    if not attended and shares_ledger(settings):
        # A backtest is a portfolio of one bot; a trading bot's ledger judges all of them.
        alone = drawdown.Config(limit=settings.portfolio.drawdown, readings=readings)
        found["portfolio"] = Machine(drawdown, alone)
    return found


def trade_machines(settings: Settings) -> dict[str, Machine]:
    """Return the breakers that every closed trade is told to, by name."""
    found: dict[str, Machine] = {}
    if "streak" not in settings.off:
        found["streak"] = Machine(streak, streak_config(settings))
    if "decay" not in settings.off:
        # A baseline that cannot be read blocks entries from the start; stops need a run all the same.
        with suppress(OSError, KeyError, TypeError, ValueError):
            found["decay"] = Machine(decay, decay_config(settings))
    return found


def operator_machines(settings: Settings, *, attended: bool) -> dict[str, Machine]:
    """Return the breakers that an operator's check-ins are told to, by name."""
    if not attended or "deadman" in settings.off:
        return {}
    d = settings.deadman
    switch = deadman.Config(hours=d.hours, warning=d.warning, critical=d.critical)
    return {"deadman": Machine(deadman, switch)}


def _loss_limit(
    settings: Settings, ratio: float, period: Literal["day", "week"], readings: ReadingConfig
) -> Machine:
    s = settings.loss_limit
    config = loss_limit.Config(
        limit=ratio, period=period, timezone=s.timezone, rolling=s.rolling, readings=readings
    )
    return Machine(loss_limit, config)


def streak_config(settings: Settings) -> streak.Config:
    """Build the streak breaker's configuration."""
    s = settings.streak
    return streak.Config(
        method=s.method,
        losses=s.losses,
        floor=s.floor,
        win_rate=s.win_rate,
        cooldown_losses=s.cooldown_losses,
        cooldown_minutes=s.cooldown_minutes,
    )


def decay_config(settings: Settings) -> decay.Config:
    """Build the decay breaker's configuration, its baseline read from the file that ``plimsoll calibrate`` wrote."""
    s = settings.decay
    baseline = (
        None if s.baseline is None else decay.Baseline(**json.loads(Path(s.baseline).read_text())["decay"])
    )
    return decay.Config(
        method=s.method,
        baseline=baseline,
        window_days=s.window_days,
        min_trades=s.min_trades,
        min_sharpe=s.min_sharpe,
    )


def shares_ledger(settings: Settings) -> bool:
    """Tell whether the bot has a ledger, or names one that cannot be used."""
    if "portfolio" in settings.off:
        return False
    try:
        return address(settings.portfolio.ledger, os.environ) is not None
    except LedgerFault:
        return True


def deadline(switch: Machine) -> int | None:
    """Return when the dead man's switch stops entries unless somebody checks in; None before it counts."""
    return deadman.due(switch.state, switch.config)
