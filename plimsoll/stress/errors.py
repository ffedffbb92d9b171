"""What ``plimsoll stress`` refuses."""

from __future__ import annotations


class StressError(Exception):
    """What the user can put right; the message says how."""
