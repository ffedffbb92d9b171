"""Load a strategy from a file that an ``import`` cannot name, would confuse with another module, or does not find."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any


def strategy_in(file: str, name: str, *, beside: str) -> Any:
    """Return class ``name`` of a file, its path relative to the directory of ``beside``; what Plimsoll writes has such lines.

    :raises AttributeError: where the file has no such class, and whatever its code raises.
    """
    path = Path(beside).resolve().parent / file
    # A name of its own: what else is called like the file stays what it is.
    spec = spec_from_file_location(
        f"plimsoll_beside_{''.join(c if c.isalnum() else '_' for c in path.stem)}", path
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return getattr(module, name)
