"""Maintenance tiers as Freqtrade writes them, and the table of Binance's that it brings along."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from plimsoll.rules.liquidation import MaintenanceTier


def tier_of_freqtrade(tier: Mapping[str, Any]) -> MaintenanceTier:
    """Return a tier from Freqtrade's own form or from ccxt's, whose maintenance amount is Binance's ``cum``."""
    amount = tier.get("maintAmt") or (tier.get("info") or {}).get("cum")
    leverage = tier.get("maxLeverage")
    return MaintenanceTier(
        min_notional=float(tier["minNotional"]),
        max_notional=float(tier["maxNotional"] or math.inf),
        mmr=float(tier["maintenanceMarginRate"]),
        maintenance_amount=float(amount or 0.0),
        max_leverage=None if leverage is None else float(leverage),
    )


@cache
def binance_tiers() -> Mapping[str, tuple[MaintenanceTier, ...]]:
    """Read the table of the installed Freqtrade, by pair: what it takes in every run that is not live."""
    import freqtrade

    path = Path(freqtrade.__file__).parent / "exchange" / "binance_leverage_tiers.json"
    table: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    return {pair: tuple(map(tier_of_freqtrade, tiers)) for pair, tiers in table.items()}
