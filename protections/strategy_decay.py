"""Pause entries when trades no longer earn what the strategy once did.

``protections = [{"method": "StrategyDecay", "baseline": "user_data/plimsoll/baseline.json"}]`` runs the
sequential test against the baseline that ``plimsoll calibrate`` wrote, pausing 30 days or the stop that is
set. Without a baseline the rolling Sharpe ratio of ``lookback_period`` (30 days) pauses while under
``min_sharpe``; its error is large, so healthy strategies are paused often. Half size, the sequential test's
first level, is the mixin's: a lock cannot express it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from plimsoll.host.protections import Parameter, TradeProtection, baseline, count, lookback, number
from plimsoll.rules import decay
from plimsoll.rules.breaker import DAY, MINUTE, require


class StrategyDecay(TradeProtection):
    """Lock all pairs while the closed trades say that the edge is gone."""

    rule = decay
    parameters: ClassVar = {"baseline": baseline(), "false_pause_days": number(730.0, 1.0, 36500.0, "days")}
    of_sharpe: ClassVar = {
        "min_sharpe": number(0.5, -10.0, 10.0, ""),
        "trade_limit": count(10, 2, 1000, "trades"),
    }

    @classmethod
    def known_parameters(cls, timeframe: int) -> dict[str, Parameter]:
        return {**cls.parameters, **cls.of_sharpe, **lookback(timeframe, 365 * DAY // MINUTE)}

    @property
    def stops_itself(self) -> bool:
        return self.values["baseline"] is not None

    def machine(self, minutes: float | None) -> Any:
        of_other = ["false_pause_days"]
        if self.stops_itself:
            of_other = [*self.of_sharpe, "lookback_period", "lookback_period_candles"]
        for key in of_other:
            why = "unset " + ("with" if self.stops_itself else "without") + " a baseline"
            require(key, self._protection_config.get(key), key not in self._protection_config, why)
        if self.stops_itself:
            false_pause = self.values["false_pause_days"]
            return decay.Config(
                baseline=self.values["baseline"],
                pause_days=30.0 if minutes is None else minutes * MINUTE / DAY,
                false_pause_days=false_pause,
                warn_days=min(decay.Config().warn_days, false_pause),
            )
        window = self.window(30 * DAY // MINUTE)
        return decay.Config(
            method="sharpe",
            window_days=window * MINUTE / DAY,
            min_trades=int(self.values["trade_limit"]),
            min_sharpe=float(self.values["min_sharpe"]),
        )

    def short_desc(self) -> str:
        stop = self.stop_words("for 30 days" if self.stops_itself else "until too few bad trades are recent")
        return f"{self.name} - Stops entries {stop}; {decay.statement(self._machine)}."
