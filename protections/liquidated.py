"""Keep away from a pair that was liquidated.

``protections = [{"method": "Liquidated", "stop_duration": 1440}]``. The mixin waits for a new signal on the
pair; a protection sees no signals, so it waits for a time: one day, unless ``stop_duration``,
``stop_duration_candles`` or ``unlock_at`` says otherwise.
"""

from __future__ import annotations

from typing import Any

from plimsoll.host.protections import TradeProtection
from plimsoll.rules import liquidated
from plimsoll.rules.breaker import Verdict, utc


class Liquidated(TradeProtection):
    """Lock a pair after a liquidation, or a loss of at least 95 % of the margin."""

    rule = liquidated
    per_pair = True
    default_stop = 1440

    def machine(self, minutes: float | None) -> Any:
        return liquidated.Config()

    def words(self, verdict: Verdict, end: int) -> str:
        return f"{verdict.reason.partition(',')[0]}, no entries on this pair until {utc(end)}"

    def short_desc(self) -> str:
        return f"{self.name} - Stops entries on a pair {self.stop_words('')} after its liquidation."
