"""Pause entries after losses in a row, whatever the exits' reasons.

``protections = [{"method": "LossStreak", "trade_limit": 3, "stop_duration": 60}]``; ``only_per_pair`` counts
and locks each pair by itself. Every further loss in a row starts the pause anew. The mixin also halves the
size of what is traded after the pause; a lock cannot express that.
"""

from __future__ import annotations

from typing import Any, ClassVar

from freqtrade.misc import plural

from plimsoll.host.protections import TradeProtection, count, flag
from plimsoll.rules import streak


class LossStreak(TradeProtection):
    """Lock all pairs, or the pair, after ``trade_limit`` losing trades in a row; break-even neither counts
    nor resets.
    """

    rule = streak
    parameters: ClassVar = {"trade_limit": count(3, 1, 50, "trades"), "only_per_pair": flag(False)}
    default_stop = 60
    stops_itself = True

    def machine(self, minutes: float | None) -> Any:
        return streak.Config(cooldown_losses=int(self.values["trade_limit"]), cooldown_minutes=minutes or 0.0)

    def short_desc(self) -> str:
        what = "entries on a pair" if self.per_pair else "entries"
        losses = self.values["trade_limit"]
        return f"{self.name} - Stops {what} {self.stop_words('')} after {losses} {plural(losses, 'loss', 'losses')} in a row."
