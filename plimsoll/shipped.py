"""What Plimsoll ships beside its code: the configuration, the strategies and the scenarios; and where a user's own are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class SetupError(Exception):
    """What the user can put right; the message says how."""


def shipped(name: str) -> Path:
    """Find a file or directory that Plimsoll ships: at the root of a checkout, in an installed package."""
    package = Path(__file__).parent
    found = next((path for path in (package.parent / name, package / name) if path.exists()), None)
    if found is None:
        raise SetupError(f"{name} is missing in this installation of Plimsoll")
    return found


def config_file() -> Path:
    """Return the configuration that Plimsoll ships."""
    return shipped("config.json")


def shipped_config() -> dict[str, Any]:
    """Read the configuration that Plimsoll ships."""
    config: dict[str, Any] = json.loads(config_file().read_text(encoding="utf-8"))
    return config


def strategy_places() -> list[Path]:
    """Return where strategies are looked for: those that Plimsoll ships, then the user's."""
    return [shipped("strategies"), Path("user_data", "strategies")]
