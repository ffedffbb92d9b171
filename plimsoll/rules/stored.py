"""The stored form of a rule's state: frozen dataclasses as strict JSON, so that what is corrupt is never taken for fresh."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints


class Stored:
    """Give a frozen dataclass of plain values a strict JSON form."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """Return the state as dicts, lists, numbers, strings, booleans and None."""
        kind: Any = type(self)
        return {name: _write(getattr(self, name)) for name in _hints(kind)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild the state; raise ValueError on missing, unknown or ill-typed keys: corrupt is not fresh."""
        kind: Any = cls
        hints = _hints(kind)
        if not isinstance(data, Mapping) or set(data) != set(hints):
            keys = sorted(data) if isinstance(data, Mapping) else data
            raise ValueError(f"{cls.__module__} state needs the keys {sorted(hints)}, was {keys!r}")
        return cls(**{name: _read(hint, data[name], name) for name, hint in hints.items()})


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _write(value: Any) -> Any:
    if isinstance(value, Stored):
        return value.to_json()
    return [_write(item) for item in value] if isinstance(value, tuple) else value


def _read(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        known = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _read(known, value, name)
    if origin is tuple and isinstance(value, (list, tuple)):
        if arguments[-1] is Ellipsis:
            return tuple(_read(arguments[0], item, name) for item in value)
        if len(value) == len(arguments):
            return tuple(_read(a, item, name) for a, item in zip(arguments, value, strict=True))
    if origin is Literal and value in arguments:
        return value
    if isinstance(hint, type) and issubclass(hint, Stored):
        return hint.from_json(value)
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise ValueError(f"`{name}` must be {hint}, was {value!r}")
