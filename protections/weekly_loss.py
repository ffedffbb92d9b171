"""Stop entries for the rest of a week that lost too much.

``protections = [{"method": "WeeklyLoss", "limit": 0.15}]``. Without ``stop_duration``,
``stop_duration_candles`` or ``unlock_at`` the lock lasts until the next ISO week begins (``rolling``: as long
as the window); with one, every further loss that week locks anew. It sees closed trades and partial exits,
and only when a trade closes; the mixin sees open loss in every loop.
"""

from __future__ import annotations

from typing import Any, ClassVar

from plimsoll.host.protections import CLOSED_ONLY, REALISED_READINGS, EquityProtection, flag, ratio, text
from plimsoll.rules import loss_limit
from plimsoll.rules.breaker import limit_percent


class WeeklyLoss(EquityProtection):
    """Lock all pairs once the trades closed in an ISO week lost ``limit`` of the realised equity that the
    week began with.
    """

    rule = loss_limit
    parameters: ClassVar = {
        "limit": ratio(0.15),
        "timezone": text("UTC", "the IANA name of a time zone"),
        "rolling": flag(False),
    }

    def machine(self, minutes: float | None) -> Any:
        return loss_limit.Config(
            limit=self.values["limit"],
            period="week",
            timezone=self.values["timezone"],
            rolling=self.values["rolling"],
            readings=REALISED_READINGS,
        )

    def short_desc(self) -> str:
        rolling = self.values["rolling"]
        window = "7 days" if rolling else f"a week ({self.values['timezone']})"
        stop = self.stop_words("for 7 days" if rolling else "until the next week")
        limit = limit_percent(self.values["limit"])
        return f"{self.name} - Stops entries {stop} after losing {limit} in {window}. {CLOSED_ONLY}"
