"""One message a day: equity, the day's trades in R, what has tripped."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from freqtrade.persistence import Trade

from plimsoll.host.breakers import Breakers
from plimsoll.host.runlog import stored_plan
from plimsoll.rules.breaker import money, percent
from plimsoll.settings import Settings


class Digest:
    """Say once per day, when it is over, how it went; the day is that of the loss limits."""

    def __init__(self, settings: Settings) -> None:
        self._zone = ZoneInfo(settings.loss_limit.timezone)
        self._day: str | None = None
        self._opened: float | None = None

    def due(self, now: datetime, equity: float | None, breakers: Breakers) -> str | None:
        """Return the message when a day has ended since the last loop."""
        today = now.astimezone(self._zone).date().isoformat()
        if self._day is None or (self._opened is None and self._day == today):
            self._day, self._opened = today, equity
        if self._day == today:
            return None
        day, opened = self._day, self._opened
        self._day, self._opened = today, equity
        return self._message(day, opened, equity, breakers)

    def dump(self) -> dict[str, Any]:
        """Return what has to survive a restart, as plain JSON."""
        return {"day": self._day, "opened": self._opened}

    def restore(self, stored: dict[str, Any] | None) -> None:
        """Take up what :meth:`dump` returned.

        :raises ValueError: where it does not fit.
        """
        if stored is not None:
            day, opened = stored["day"], stored["opened"]
            self._day = None if day is None else date.fromisoformat(day).isoformat()
            self._opened = None if opened is None else float(opened)

    def _message(self, day: str, opened: float | None, equity: float | None, breakers: Breakers) -> str:
        parts = [f"{day}: equity {'unknown' if equity is None else money(equity)}"]
        if equity is not None and opened:
            change = equity / opened - 1.0
            parts[0] += f" ({'+' if change >= 0.0 else '-'}{percent(abs(change))} since the day began)"
        begin = datetime.fromisoformat(day).replace(tzinfo=self._zone).astimezone(UTC)
        closed = [
            trade
            for trade in Trade.get_trades_proxy(is_open=False, close_date=begin)
            if trade.close_date_utc.astimezone(self._zone).date().isoformat() == day
        ]
        parts.append(f"{len(closed)} trades closed{_in_r(closed)}")
        tripped = [name for name, m in breakers.machines() if m.verdict is not None and m.verdict.blocked]
        parts.append("entries blocked by " + ", ".join(tripped) if tripped else "nothing tripped")
        return "; ".join(parts)


def _in_r(trades: list[Any]) -> str:
    known = [(trade.close_profit_abs or 0.0, plan.risk) for trade in trades if (plan := stored_plan(trade))]
    if not known or not all(risk > 0.0 for _, risk in known):
        return ""
    return f" ({sum(profit / risk for profit, risk in known):+.2f} R)"
