"""What the doctor examines: configuration, strategy, settings, candles, the running bot."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from plimsoll import bridge
from plimsoll.doctor.candle_store import CandleStore
from plimsoll.doctor.finding import Part
from plimsoll.plan import Plan
from plimsoll.rules.answer import Side
from plimsoll.settings import Settings


@dataclass(kw_only=True)
class Setup:
    """Hold everything a check looks at.

    ``stated`` is what files and environment say, ``config`` the same with Freqtrade's defaults and what the strategy adds.
    ``missing`` has a reason for each part that there is not.
    """

    stated: dict[str, Any]
    config: dict[str, Any]
    config_faults: list[str] = field(default_factory=list)
    settings: Settings | None = None
    settings_faults: list[str] = field(default_factory=list)
    strategy: Any = None
    strategy_fault: str | None = None
    candles: CandleStore | None = None
    bot: bridge.StoredStatus | None = None
    bots: list[str] = field(default_factory=list)  # in the bot's database, heard of a moment ago
    exchange: Any = None
    clock_offset: float | None = None  # seconds, positive where this machine is ahead
    why_no_clock: str = "the exchange is only asked with --online, or while the bot runs"
    files: tuple[Path, ...] = ()
    now: float = field(default_factory=time.time)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    missing: dict[Part, str] = field(default_factory=dict)
    typical: dict[tuple[str, Side], Plan] | None = None  # reckoned when it is asked for

    @property
    def guarded(self) -> bool | None:
        """Tell whether the strategy is guarded; None where it could not be loaded."""
        if self.strategy is None:
            return None
        from plimsoll.host.guarded import Guarded

        return isinstance(self.strategy, Guarded)

    @property
    def futures(self) -> bool:
        return str(self.config.get("trading_mode") or "spot") == "futures"

    @property
    def live(self) -> bool:
        return not self.config.get("dry_run", True)

    @property
    def limits(self) -> Settings:
        """Return the settings; a check that asks for them needs them."""
        assert self.settings is not None
        return self.settings

    @property
    def store(self) -> CandleStore:
        """Return the candles; a check that asks for them needs them."""
        assert self.candles is not None
        return self.candles

    @property
    def timeframe(self) -> str:
        return str(getattr(self.strategy, "timeframe", None) or self.config.get("timeframe") or "")

    @property
    def kind(self) -> str:
        """Return the kind of the candles that are traded on."""
        return "futures" if self.futures else "spot"

    @property
    def stops_on_exchange(self) -> bool:
        types = getattr(self.strategy, "order_types", None) or self.config.get("order_types") or {}
        return bool(types.get("stoploss_on_exchange"))

    @property
    def stake_currency(self) -> str:
        return str(self.config.get("stake_currency", ""))

    @cached_property
    def pairs(self) -> list[str]:
        """Return the whitelist; where it is dynamic or empty, the pairs there are candles of."""
        from freqtrade.plugins.pairlist.pairlist_helpers import expand_pairlist

        exchange = self.config.get("exchange") or {}
        known = self.candles.pairs if self.candles is not None else []
        lists = self.config.get("pairlists") or [{"method": "StaticPairList"}]
        wanted = [str(pair) for pair in exchange.get("pair_whitelist") or []]
        if not wanted or lists[0].get("method") != "StaticPairList":
            return known
        try:
            refused = set(expand_pairlist(exchange.get("pair_blacklist") or [], [*wanted, *known]))
            expanded = expand_pairlist(wanted, known, keep_invalid=True)
        except ValueError:
            return wanted
        plain = [pair for pair in expanded if "*" not in pair and pair not in refused]
        return list(dict.fromkeys(plain))

    @property
    def wallet(self) -> float | None:
        """Return the equity to trade with, in stake currency: the running bot's, else a dry run's or ``available_capital``."""
        told = None if self.bot is None else self.bot.document.get("equity")
        if isinstance(told, int | float) and told > 0.0:
            return float(told)
        stated = self.config.get("available_capital")
        if stated is None and not self.live:
            stated = self.config.get("dry_run_wallet", 1000)
            if isinstance(stated, Mapping):
                stated = stated.get(self.stake_currency)
        return float(stated) if isinstance(stated, int | float) and stated > 0.0 else None

    @property
    def slots(self) -> float:
        """Return ``max_open_trades``, infinite where it is not limited."""
        stated = self.config.get("max_open_trades", -1)
        return float("inf") if stated in (None, -1) or float(stated) < 0 else float(stated)

    def class_value(self, name: str) -> Any:
        """Return what the strategy's own classes say, before the configuration and the guard; None where they say nothing."""
        from plimsoll.host.guard_base import GuardBase

        classes = type(self.strategy).__mro__
        for cls in classes[classes.index(GuardBase) + 1 :] if GuardBase in classes else classes:
            if name in cls.__dict__:
                found = cls.__dict__[name]
                return getattr(self.strategy, name) if isinstance(found, property) else found
        return None

    def has_own(self, name: str) -> bool:
        """Tell whether the strategy itself defines a callback."""
        from freqtrade.strategy import IStrategy

        found = self.class_value(name)
        return found is not None and found is not IStrategy.__dict__.get(name)
