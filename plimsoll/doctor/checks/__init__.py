"""The checks, by theme; importing this package registers them."""

from plimsoll.doctor.checks import accounts, candles, environment, overrides, sizing, stops

__all__ = ["accounts", "candles", "environment", "overrides", "sizing", "stops"]
