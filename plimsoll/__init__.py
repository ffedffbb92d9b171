"""Plimsoll: leverage risk control for Freqtrade."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Guarded", "RiskSpace", "__version__"]


def __getattr__(name: str) -> Any:
    # Freqtrade is imported only by those who ask for the mixin; the rules work without it.
    if name == "Guarded":
        return import_module("plimsoll.host.guarded").Guarded
    if name == "RiskSpace":
        return import_module("plimsoll.host.risk_space").RiskSpace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
