"""The settings of Plimsoll: every limit, its default, unit and bounds."""

from plimsoll.settings.limits import Settings
from plimsoll.settings.load import SettingsError, describe, load

__all__ = ["Settings", "SettingsError", "describe", "load"]
