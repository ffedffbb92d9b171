"""The runs of one comparison, as `plimsoll compare` leaves them and the report reads them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["raw", "guarded", "without", "leverage"]
FILE: Final = "comparison.json"
VERSION: Final = 1


class ComparisonFault(Exception):
    """What the user can put right; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One stock backtest: the strategy raw, guarded, guarded ``without`` one layer, or raw at a forced ``leverage``.

    ``export`` is Freqtrade's own zip, ``journal`` the guard's where it had one, ``worst_prices`` a list in JSON with the worst
    price of each trade while it was open, in the order of the export; all relative to the comparison's directory.
    """

    name: str
    kind: Kind
    strategy: str
    export: str
    journal: str | None = None
    layer: str | None = None
    leverage: float | None = None
    seconds: float = 0.0
    cached: bool = False
    worst_prices: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Hold what was compared: the runs, the settings in force (as plain values) and where the candles came from."""

    strategy: str
    timerange: str
    pairs: tuple[str, ...]
    liquidation_buffer: float
    settings: dict[str, Any]
    freqtrade: str
    plimsoll: str
    runs: tuple[Run, ...]

    def write(self, directory: Path) -> Path:
        """Write it beside its runs and return the file."""
        path = directory / FILE
        path.write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=1), encoding="utf-8")
        return path


def read(directory: Path) -> Comparison:
    """Read the comparison of a directory.

    :raises ComparisonFault: where there is none, or not one of this version
    """
    path = directory / FILE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored.pop("version") != VERSION:
            raise ComparisonFault(
                f"{path} is of another version than {VERSION}: run `plimsoll compare` again"
            )
        runs = tuple(Run(**run) for run in stored.pop("runs"))
        return Comparison(**{**stored, "pairs": tuple(stored["pairs"]), "runs": runs})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ComparisonFault(f"no comparison could be read from {path}: {error}") from error
