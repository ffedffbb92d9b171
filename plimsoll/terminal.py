"""What the operator's commands print: texts that others stored, numbers that may be missing, bars."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

UNKNOWN: Final = "?"
LONGEST: Final = 400
BAR_CELLS: Final = 10
LABEL_CELLS: Final = 18
GOOD, WARNING, BAD, FAINT = "green", "yellow", "bold red", "dim"


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints whatever names there are, also where the terminal lacks their characters."""
    stream: Any = sys.stderr if stderr else sys.stdout
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="replace")
    return Console(file=stream, highlight=False)


def complain(command: str, error: Exception) -> None:
    """Print one line to the error output."""
    console(stderr=True).print(Text(f"plimsoll {command}: {error}"), soft_wrap=True)


# -- Values --------------------------------------------------------------------------------------------------


def clean(value: object) -> str:
    """Return a text that was stored by others, fit for a terminal: one line, no control characters."""
    text = str(value)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text).strip()


def words(value: Any, otherwise: str = UNKNOWN) -> str:
    """Return a text, or what stands for one that is missing."""
    return clean(value) or otherwise if isinstance(value, str) else otherwise


def number(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def items(value: Any) -> list[Any]:
    """Return a list, an empty one for anything else."""
    return value if isinstance(value, list) else []


def mappings(value: Any) -> list[Mapping[str, Any]] | None:
    """Return the mappings of a list, None for anything else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else None


def number_or(value: Any, pattern: str) -> str:
    """Return a number as the pattern has it, or what stands for one that is missing."""
    known = number(value)
    return UNKNOWN if known is None else pattern.format(known)


def money(value: Any) -> str:
    """Return an amount of a currency."""
    known = number(value)
    if known is None:
        return UNKNOWN
    return f"{known:,.2f}" if 1.0 <= abs(known) < 1e12 or known == 0.0 else f"{known:.4g}"


def price(value: Any) -> str:
    """Return a price to six digits, however small."""
    known = number(value)
    if known is None or known == 0.0 or not 1e-12 < abs(known) < 1e12:
        return UNKNOWN if known is None else f"{known:g}"
    shown = f"{known:,.{max(0, 5 - math.floor(math.log10(abs(known))))}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def percent(value: float | None) -> str:
    """Return a ratio as a percentage."""
    if value is None:
        return UNKNOWN
    return f"{value:.1%}" if abs(value) < 1e4 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Return a span of time in its two largest units."""
    whole = int(max(seconds, 0.0))
    for unit, name, lesser, part in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min")):
        if whole >= unit:
            rest = whole % unit // lesser
            return f"{whole // unit:,} {name}" + (f" {rest} {part}" if rest else "")
    return f"{whole // 60} min" if whole >= 120 else f"{whole} s"


def moment(epoch: float) -> str:
    """Return a time in epoch seconds as UTC, to the second."""
    try:
        return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return UNKNOWN


def share(value: float | None, limit: float | None) -> float | None:
    """Return how much of a limit is used, None where it cannot be told."""
    return value / limit if value is not None and limit is not None and limit > 0.0 else None


# -- Drawing -------------------------------------------------------------------------------------------------


def bar(used: float | None, style: str, options: ConsoleOptions) -> Text:
    """Draw how much is used; only what is used up is drawn full."""
    if used is None:
        return Text()
    full, empty = ("#", ".") if options.ascii_only else ("█", "░")
    cells = int(min(max(used, 0.0), 1.0) * BAR_CELLS)
    return Text.assemble((full * cells, style), (empty * (BAR_CELLS - cells), FAINT))


def label(name: str, *values: Text) -> Table:
    """Return a name and its values, one below the other."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="bold", width=LABEL_CELLS)
    grid.add_column(overflow="fold")
    for place, value in enumerate(values):
        grid.add_row("" if place else name, value)
    return grid


def titled(name: str, remark: str) -> Table:
    """Return a table under its name."""
    title = Text.assemble("\n", (name, "bold"), (f"  {remark}", FAINT))
    return Table(
        title=title,
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row as it reads: a plain text would be taken for markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
