"""Load settings: profile defaults, config against strategy, and all faults in one error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from plimsoll.rules import drawdown
from plimsoll.settings.limits import Settings

Flat = dict[str, Any]


class SettingsError(ValueError):
    """Report every fault of a configuration, one per line."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(
            "plimsoll settings are not usable:\n" + "\n".join(f"  - {fault}" for fault in faults)
        )


def load(config: Any = None, strategy: Any = None) -> Settings:
    """Build the settings from the config section and the strategy's class attribute.

    Where both set a key, the tighter value wins; a looser value of the config wins only where ``override`` names the key. Where
    neither direction is tighter (methods, modes), the strategy's stands unless ``override`` names the key.

    :param config: the section ``plimsoll`` of Freqtrade's config, or None.
    :param strategy: the same as a mapping on the strategy class, or None.
    :raises SettingsError: with every unknown key and every value out of bounds.
    """
    faults: list[str] = []
    from_config = _flatten(config, "config", faults)
    from_strategy = _flatten(strategy, "strategy", faults)
    override = from_config.get("override", ())
    override = set(override) if isinstance(override, list | tuple) else set()
    faults += [f"override: `{key}` is no setting" for key in sorted(map(str, override)) if key not in FIELDS]

    values = from_strategy | {
        key: value
        for key, value in from_config.items()
        if key not in from_strategy or key in override or _is_tighter(key, value, from_strategy[key])
    }
    if values.get("profile") == "classic":
        values = CLASSIC | values

    settings: Settings | None = None
    try:
        settings = Settings.model_validate(_nest(values))
    except ValidationError as error:
        faults += [_fault(item) for item in error.errors()]
    faults += _contradictions(values)
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def describe() -> Iterator[tuple[str, FieldInfo, str]]:
    """Yield key, field and allowed range of every setting, for messages and the reference."""
    for key, field in FIELDS.items():
        yield key, field, allowed_range(field)


def allowed_range(field: FieldInfo) -> str:
    """Word the bounds of a field, such as ``(0, 0.02]``."""
    low, high = "(-inf", "inf)"
    for bound in field.metadata:
        match bound:
            case Ge(ge):
                low = f"[{ge}"
            case Gt(gt):
                low = f"({gt}"
            case Le(le):
                high = f"{le}]"
            case Lt(lt):
                high = f"{lt})"
    if (low, high) != ("(-inf", "inf)"):
        return f"{low}, {high}"
    return str(field.annotation).replace("typing.", "").replace("<class '", "").replace("'>", "")


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


FIELDS = dict(_fields(Settings))
SEQUENCES = {key for key, field in FIELDS.items() if isinstance(field.default, tuple)}
SECTIONS = {key.split(".")[0] for key in FIELDS if "." in key}
CLASSIC: Flat = {key: _extra(field)["classic"] for key, field in FIELDS.items() if "classic" in _extra(field)}


def _flatten(source: Any, origin: str, faults: list[str]) -> Flat:
    if source is None:
        return {}
    if isinstance(source, BaseModel):
        source = source.model_dump(exclude_unset=True)
    if not isinstance(source, Mapping):
        faults.append(f"plimsoll ({origin}) = {source!r}: must be a mapping of settings")
        return {}
    flat: Flat = {}
    for key, value in source.items():
        if key in SECTIONS:
            if isinstance(value, Mapping):
                flat |= {f"{key}.{name}": item for name, item in value.items()}
            else:
                faults.append(f"{key} ({origin}) = {value!r}: must be a mapping of settings")
        else:
            flat[str(key)] = value
    # JSON has no tuples.
    return {key: _as_tuple(value) if key in SEQUENCES else value for key, value in flat.items()}


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value


def _nest(flat: Flat) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.partition(".")
        if name:
            nested.setdefault(section, {})[name] = value
        else:
            nested[section] = value
    return nested


def _is_tighter(key: str, value: Any, other: Any) -> bool:
    tighter = _extra(FIELDS[key]).get("tighter") if key in FIELDS else None
    match tighter:
        case "true" | "false":
            return value is (tighter == "true")
        case "lower" | "higher":
            if value is None or other is None:  # None stands for no limit
                return other is None
            try:
                return bool(value < other) if tighter == "lower" else bool(value > other)
            except TypeError:  # reported with the other faults, so it must reach validation
                return True
    return key not in FIELDS


def _fault(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"] if not isinstance(part, int))
    if error["type"] == "extra_forbidden":
        return f"`{key}` is no setting"
    field = FIELDS.get(key)
    if field is None:
        return f"{key} = {error['input']!r}: {error['msg']}"
    unit = _extra(field).get("unit")
    return f"{key} = {error['input']!r}: allowed is {allowed_range(field)}{f' ({unit})' if unit else ''}"


ORDERED = [
    ("leverage.stop_to_liquidation", "leverage.hard_stop_to_liquidation"),
    ("volatility.mid", "volatility.high"),
    ("volatility.min_hours", "volatility.window_hours"),
    ("volatility.high_leverage", "volatility.mid_leverage"),
    ("volatility.mid_leverage", "volatility.low_leverage"),
    ("kelly.floor_risk", "kelly.cold_start_risk"),
    ("loss_limit.daily", "loss_limit.weekly"),
]
STRICTLY_ORDERED = [
    ("margin_health.alert", "margin_health.close"),
    ("margin_health.close_distance", "margin_health.reduce_distance"),
    ("deadman.warning", "deadman.critical"),
]


def _contradictions(values: Flat) -> list[str]:
    faults = []
    for lower, upper in (*ORDERED, *STRICTLY_ORDERED):
        low, high = (values.get(key, FIELDS[key].default) for key in (lower, upper))
        if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in (low, high)):
            continue
        if low > high:
            faults.append(f"{lower} = {low!r}: must not be above {upper} = {high!r}")
        elif low == high and (lower, upper) in STRICTLY_ORDERED:
            faults.append(f"{lower} = {low!r}: must be under {upper} = {high!r}")
    if values.get("streak.method") == "win_rate" and values.get("streak.win_rate") is None:
        faults.append(
            "streak.win_rate = None: method win_rate needs the strategy's win rate, a ratio in (0, 1)"
        )
    faults += _ladder_faults(values.get("drawdown.ladder"))
    return faults


def _ladder_faults(ladder: Any) -> list[str]:
    try:
        drawdown.Config(ladder=tuple(tuple(step) for step in ladder or ()))
    except (TypeError, ValueError) as error:
        return [f"drawdown.ladder = {ladder!r}: {error}"]
    return []
