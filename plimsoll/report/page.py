"""Render the page: one file with everything inside, that runs nothing but its own two scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from plimsoll.figure_table import amount, figure_rows
from plimsoll.figures import Figures
from plimsoll.report.charts.base import Cells, run_name
from plimsoll.report.checks import unit
from plimsoll.report.contents import Contents
from plimsoll.settings import SettingsError, load
from plimsoll.terminal import clean

TEMPLATES: Final = "templates"
MOST_DISAGREEMENTS: Final = 50


def render(contents: Contents) -> str:
    """Return the page. Texts from outside are escaped, and the policy in its head lets no other script run."""
    # Large, and of use to nobody who only asks for JSON.
    from plotly.offline import get_plotlyjs

    place = resources.files("plimsoll.report") / TEMPLATES
    environment = Environment(
        loader=FileSystemLoader(str(place)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clean"] = clean
    own = (place / "page.js").read_text(encoding="utf-8")
    plotly = _script(get_plotlyjs())
    first, *_ = contents.compared
    return environment.get_template("page.html").render(
        contents=contents,
        comparison=contents.comparison,
        currency=first.currency,
        unit=unit(first),
        begins=min(run.begins for run in contents.runs),
        ends=max(run.ends for run in contents.runs),
        cards=_cards(contents),
        figures=_figures(contents),
        runs=_runs(contents),
        charts=contents.charts,
        specifications=htmlsafe_json_dumps({c.key: c.spec for c in contents.charts if c.spec is not None}),
        settings=list(_settings(contents.comparison.settings)),
        disagreements=contents.disagreements[:MOST_DISAGREEMENTS],
        style=Markup((place / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(plotly), Markup(_script(own))],
        hashes=[_hash(plotly), _hash(_script(own))],
    )


def _script(text: str) -> str:
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("a script that ends its own element cannot be inlined")
    return text.replace("\r\n", "\n")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _cards(contents: Contents) -> list[dict[str, str]]:
    raw, guarded = contents.first("raw"), contents.first("guarded")
    main = guarded or contents.compared[0]
    f, other = main.figures, raw.figures if raw is not None and guarded is not None else None
    worst, lost = "Worst, of margin", f.worst_margin

    def balance(figures: Figures) -> str:
        return amount(figures.final_balance, main.decimals)

    cards = [
        (f"Final balance, {main.currency}", balance(f), other and balance(other)),
        ("Total profit", f"{f.profit:+.2%}", other and f"{other.profit:+.2%}"),
        ("Max drawdown", f"{f.max_drawdown:.2%}", other and f"{other.max_drawdown:.2%}"),
        (worst, _ratio(lost), other and _ratio(other.worst_margin)),
    ]
    return [{"name": name, "value": value, "other": before or ""} for name, value, before in cards]


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1%}"


def _figures(contents: Contents) -> Cells:
    runs = contents.compared
    rows = figure_rows([run.figures for run in runs], runs[0].currency, runs[0].decimals)
    return Cells(headings=("", *(run_name(run) for run in runs)), rows=rows)


def _runs(contents: Contents) -> Cells:
    rows = [
        (
            run_name(run),
            run.run.strategy,
            run.run.export,
            run.run.journal or "–",
            "reused" if run.run.cached else f"{run.run.seconds:.0f} s",
        )
        for run in contents.runs
    ]
    return Cells(headings=("run", "strategy", "Freqtrade's export", "journal", "time"), rows=rows, left=4)


def _settings(settings: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str, bool]]]]:
    usual = _defaults(settings)
    general = [(k, v) for k, v in settings.items() if not isinstance(v, Mapping)]
    sections = [("general", dict(general)), *((k, v) for k, v in settings.items() if isinstance(v, Mapping))]
    for name, section in sections:
        base = usual if name == "general" else usual.get(name, {})
        rows = [(key, _value(value), key not in base or base[key] != value) for key, value in section.items()]
        if rows:
            yield name, rows


def _defaults(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        defaults: Mapping[str, Any] = load({"profile": settings.get("profile", "calibrated")}).model_dump(
            mode="json"
        )
    except SettingsError:
        return {}
    return defaults


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | int):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value) or "none"
    return str(value)
