"""Stop entries when realised equity is too far under its peak.

``protections = [{"method": "DrawdownBreaker", "limit": 0.20, "stop_duration": 10080}]``. Without
``stop_duration``, ``stop_duration_candles`` or ``unlock_at`` it is latched: it ends when its lock is removed
(``/unlock``, FreqUI). Then, and after a stop, the equity of that moment is the new peak. It sees closed
trades and partial exits, and only when a trade closes; the mixin sees open loss in every loop.
"""

from __future__ import annotations

from typing import Any, ClassVar

from plimsoll.host.protections import CLOSED_ONLY, REALISED_READINGS, EquityProtection, ratio
from plimsoll.rules import drawdown
from plimsoll.rules.breaker import limit_percent


class DrawdownBreaker(EquityProtection):
    """Lock all pairs once realised equity is ``limit`` under its highest value since the first trade or the
    last reset.
    """

    rule = drawdown
    parameters: ClassVar = {"limit": ratio(0.20)}
    stops_itself = True

    def machine(self, minutes: float | None) -> Any:
        limit = self.values["limit"]
        if minutes is None:
            return drawdown.Config(limit=limit, reset="latched", readings=REALISED_READINGS)
        return drawdown.Config(
            limit=limit, reset="cooldown", cooldown_minutes=minutes, readings=REALISED_READINGS
        )

    def short_desc(self) -> str:
        stop = self.stop_words("until its lock is removed")
        limit = limit_percent(self.values["limit"])
        return f"{self.name} - Stops entries {stop} at a drawdown of {limit} from the peak. {CLOSED_ONLY}"
