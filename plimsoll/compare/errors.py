"""What ``plimsoll compare`` refuses."""

from __future__ import annotations


class CompareError(Exception):
    """What the user can put right; the message says how."""
