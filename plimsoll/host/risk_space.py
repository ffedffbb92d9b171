"""``class My(RiskSpace, MyStrategy)``: a guarded strategy whose limits ``freqtrade hyperopt --spaces risk`` may search.

Only a run that names the space searches it. Freqtrade counts every custom space to ``default`` and to ``all``, so in a run that
does not name it the parameters are not there at all. A parameter only tightens: the setting stands wherever it is tighter.

Like :mod:`plimsoll.host.guarded` this module is pickled by value in parallel hyperopt: no lock, no file, no mutable state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from freqtrade.enums import RunMode
from freqtrade.exceptions import OperationalException
from freqtrade.strategy import DecimalParameter, IntParameter

from plimsoll.host import internals
from plimsoll.host.guarded import Guarded
from plimsoll.host.start import may_only_block
from plimsoll.settings import Settings, SettingsError, load

SPACE = "risk"
PREFIX = "plimsoll_"
# Setting -> decimals of its parameter and, of the setting, the smallest value that is tried. All are tighter when lower, and none
# is needed before a plan is made: the candles are prepared once for all epochs.
SEARCHED: Mapping[str, tuple[int, float]] = {
    "leverage.cap": (0, 0.0),
    "risk.per_trade": (4, 0.1),
    "stop.atr_multiple": (2, 0.4),
    "exposure.position_margin": (3, 0.2),
    "exposure.total_margin": (3, 0.2),
    "exposure.heat": (3, 0.2),
    "correlation.budget": (4, 0.2),
    "loss_limit.daily": (3, 0.2),
    "drawdown.limit": (3, 0.25),
}

Ranges = Mapping[str, tuple[float, float] | None]


class RiskSpace(Guarded):
    """Guard the strategy, and offer limits as the space ``risk``.

    ``risk_space`` names the settings to search and, of each, the range (None: from a share of the setting up to it). What a
    hyperopt exports is taken up by every later run of the strategy, as tighter limits.
    """

    risk_space: ClassVar[Ranges] = dict.fromkeys(SEARCHED)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        planner: Any = getattr(self, "_planner", None)
        if planner is None:
            return  # made without the guard, as `plimsoll compare` does: no limits, and none to search
        self._limits: Settings = planner.settings
        planner.limits = self.chosen_limits
        self._searched: dict[str, float] = {}  # name -> the setting, as precise as the parameter
        # Without the parameters their values are these, from the file that a hyperopt wrote.
        self._stored: dict[str, Any] = {
            **getattr(self, f"{SPACE}_params", {}),
            **internals.parameters_from_file(self, SPACE),
        }
        asked = config.get("runmode") != RunMode.HYPEROPT or SPACE in (config.get("spaces") or ())
        try:
            made = parameters(self.risk_space, self._limits)
            for name, (parameter, setting) in made.items():
                self._searched[name] = setting
                if asked:
                    setattr(self, name, parameter)
        except ValueError as error:
            self._unusable(error)

    def ft_load_hyper_params(self, hyperopt: bool = False) -> None:
        if not hasattr(self, "_planner"):
            super().ft_load_hyper_params(hyperopt)
            return
        try:
            super().ft_load_hyper_params(hyperopt)
            self._planner.take(self.chosen_limits())
        except (SettingsError, TypeError, ValueError) as error:
            self._unusable(error)

    def get_no_optimize_params(self) -> dict[str, dict[str, Any]]:
        # What a run exports that does not search the space would otherwise lose it.
        found: dict[str, dict[str, Any]] = super().get_no_optimize_params()
        if (
            hasattr(self, "_planner")
            and self._stored
            and not any(hasattr(self, name) for name in self._searched)
        ):
            found[SPACE] = dict(self._stored)
        return found

    def chosen_limits(self) -> Settings:
        """Return the settings tightened by the parameters as they are now.

        :raises SettingsError: where a value cannot be used.
        """
        chosen: dict[str, dict[str, float]] = {}
        for name, setting in self._searched.items():
            parameter = getattr(self, name, None)
            value = self._stored.get(name, setting) if parameter is None else parameter.value
            if value != setting:
                section, _, key = KEYS[name].partition(".")
                chosen.setdefault(section, {})[key] = value
        return load(chosen, self._limits.model_dump()) if chosen else self._limits

    def _unusable(self, error: Exception) -> None:
        reason = f"the space `{SPACE}` cannot be used: {error}"
        if not may_only_block(self.config):
            raise OperationalException(f"Plimsoll: {reason}") from error
        self._planner.gates.blockers["risk_space"] = reason


def name_of(key: str) -> str:
    """Return the name of the parameter of a setting; no attribute of a strategy is called like that."""
    return PREFIX + key.replace(".", "_")


KEYS: Mapping[str, str] = {name_of(key): key for key in SEARCHED}


def parameters(ranges: Any, limits: Settings) -> dict[str, tuple[Any, float]]:
    """Return by name each parameter and the setting it cannot exceed; a setting that leaves no room has none.

    :raises ValueError: where a range names no setting that can be searched, or is none.
    """
    if not isinstance(ranges, Mapping):
        raise ValueError(f"risk_space = {ranges!r}: must be a mapping of settings to (low, high) or None")
    made: dict[str, tuple[Any, float]] = {}
    for key, span in ranges.items():
        if key not in SEARCHED:
            raise ValueError(f"risk_space: `{key}` cannot be searched, only {', '.join(SEARCHED)}")
        decimals, share = SEARCHED[key]
        section, _, field = key.partition(".")
        setting = float(getattr(getattr(limits, section), field))
        step = 10.0**-decimals
        low, high = _span(key, span, setting, max(share * setting, step))
        low, high = max(_round_up(low, decimals), step), _round_down(min(high, setting), decimals)
        if low >= high:
            continue
        if decimals == 0:
            whole = int(setting)
            made[name_of(key)] = (IntParameter(int(low), int(high), default=whole, space=SPACE), float(whole))
        else:
            parameter = DecimalParameter(low, high, default=setting, decimals=decimals, space=SPACE)
            made[name_of(key)] = (parameter, round(setting, decimals))
    return made


def _span(key: str, span: Any, setting: float, smallest: float) -> tuple[float, float]:
    if span is None:
        return smallest, setting
    try:
        low, high = (float(bound) for bound in span)
    except (TypeError, ValueError):
        low = high = math.nan
    if not 0.0 < low < high < math.inf:
        raise ValueError(f"risk_space: {key} = {span!r}: must be (low, high) with 0 < low < high")
    return low, high


def _round_up(value: float, decimals: int) -> float:
    return round(math.ceil(round(value * 10**decimals, 6)) / 10**decimals, decimals)


def _round_down(value: float, decimals: int) -> float:
    return round(math.floor(round(value * 10**decimals, 6)) / 10**decimals, decimals)
