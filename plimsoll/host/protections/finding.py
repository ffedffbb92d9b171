"""How Freqtrade finds the drop-in files of ``protections/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freqtrade.resolvers import ProtectionResolver

import plimsoll

_ROOT = Path(plimsoll.__file__).parent
DIRECTORY = next(
    (path for path in (_ROOT / "protections", _ROOT.parent / "protections") if path.is_dir()),
    _ROOT / "protections",
)


def use(protections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let Freqtrade find the drop-in protections, and return the list as it is.

    To be called inside the strategy's ``protections`` property: Freqtrade reads it right before it resolves
    them, in a hyperopt worker too, where no module code of the strategy runs. Freqtrade's own protections,
    and those in ``user_data/protections`` where that exists, are found as well.
    """
    ProtectionResolver.build_search_paths = classmethod(_search_paths)
    return protections


def _search_paths(
    cls: Any, config: Any, user_subdir: str | None = None, extra_dirs: list[str] | None = None
) -> list[Path]:
    # `user_subdir`, empty for protections, takes one directory only, and somebody else may have set it.
    paths = super(ProtectionResolver, cls).build_search_paths(
        config, user_subdir=user_subdir, extra_dirs=extra_dirs
    )
    own = Path(config["user_data_dir"], "protections")
    first = [own] if user_subdir is None and own.is_dir() else []
    return [*first, *paths, DIRECTORY]
