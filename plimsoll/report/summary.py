"""The comparison as Markdown, for a pull request or a chat."""

from __future__ import annotations

import re
from collections.abc import Sequence

from plimsoll.figure_table import figure_rows
from plimsoll.report.charts.base import Cells, run_name
from plimsoll.report.checks import unit
from plimsoll.report.contents import Contents
from plimsoll.terminal import clean

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#|!~&@:])")


def summary(contents: Contents) -> str:
    """Return verdict, figures, refused entries, each layer off and checks as Markdown; texts from outside are escaped."""
    comparison = contents.comparison
    runs = contents.compared
    figures = figure_rows([run.figures for run in runs], runs[0].currency, runs[0].decimals)
    parts = [
        f"# {escaped(comparison.strategy)}: raw and guarded",
        escaped(contents.verdict),
        _table(("", *(run_name(run) for run in runs)), figures),
    ]
    for chart in contents.charts:
        if chart.key in ("refused", "ablation", "audit", "chance") and chart.table is not None:
            parts += [f"## {chart.title}", _cells(chart.table), chart.caption]
            parts += [escaped(note) for note in chart.notes]
    parts += ["## Checked against Freqtrade's own numbers", _checked(contents)]
    parts.append(
        f"{escaped(comparison.timerange)}, {len(comparison.pairs)} pairs, Freqtrade {escaped(comparison.freqtrade)},"
        f" Plimsoll {escaped(comparison.plimsoll)}."
    )
    return "\n\n".join(parts) + "\n"


def escaped(text: object) -> str:
    """Return a text from outside as Markdown shows it: one line, no markup, no links, no HTML."""
    return _SPECIAL.sub(r"\\\1", clean(text))


def _cells(cells: Cells) -> str:
    return _table(cells.headings, cells.rows)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---", *(["---:"] * (len(headings) - 1))], *rows]
    return "\n".join(
        f"| {' | '.join(cell if place == 1 else escaped(cell) for cell in line)} |"
        for place, line in enumerate(lines)
    )


def _checked(contents: Contents) -> str:
    wrong = contents.disagreements
    if not wrong:
        return f"All {len(contents.checks):,} numbers compared agree, amounts to half of {escaped(unit(contents.compared[0]))}."
    lines = [
        f"- {escaped(one.run)}: {escaped(one.name)}: {one.ours:.10g} here, {one.theirs:.10g} in the export"
        for one in wrong
    ]
    return "\n".join([f"**{len(wrong):,} of {len(contents.checks):,} numbers disagree:**", "", *lines[:50]])
