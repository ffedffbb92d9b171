"""Stop entries for the rest of a day that lost too much.

``protections = [{"method": "DailyLoss", "limit": 0.05}]``. Without ``stop_duration``,
``stop_duration_candles`` or ``unlock_at`` the lock lasts until the next day begins (``rolling``: as long as
the window); with one, every further loss that day locks anew. It sees closed trades and partial exits, and
only when a trade closes; the mixin sees open loss in every loop.
"""

from __future__ import annotations

from typing import Any, ClassVar

from plimsoll.host.protections import CLOSED_ONLY, REALISED_READINGS, EquityProtection, flag, ratio, text
from plimsoll.rules import loss_limit
from plimsoll.rules.breaker import limit_percent


class DailyLoss(EquityProtection):
    """Lock all pairs once the trades closed in a day lost ``limit`` of the realised equity that the day began
    with.
    """

    rule = loss_limit
    parameters: ClassVar = {
        "limit": ratio(0.05),
        "timezone": text("UTC", "the IANA name of a time zone"),
        "rolling": flag(False),
    }

    def machine(self, minutes: float | None) -> Any:
        return loss_limit.Config(
            limit=self.values["limit"],
            period="day",
            timezone=self.values["timezone"],
            rolling=self.values["rolling"],
            readings=REALISED_READINGS,
        )

    def short_desc(self) -> str:
        rolling = self.values["rolling"]
        window = "24 hours" if rolling else f"a day ({self.values['timezone']})"
        stop = self.stop_words("for 24 hours" if rolling else "until the next day")
        limit = limit_percent(self.values["limit"])
        return f"{self.name} - Stops entries {stop} after losing {limit} in {window}. {CLOSED_ONLY}"
