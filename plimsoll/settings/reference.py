"""The settings reference, ``docs/settings.md``, written from the model: ``python -m plimsoll.settings.reference``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic.fields import FieldInfo

from plimsoll.settings.load import CLASSIC, ORDERED, STRICTLY_ORDERED, allowed_range, describe

HEAD: Final = """\
<!-- Written by `make docs` from plimsoll/settings/limits.py. Do not edit. -->

# Settings

Every number of Plimsoll is a setting under the key `plimsoll` of Freqtrade's configuration. Values are ratios, never percent:
0.05 is 5 %. Unknown keys and values outside their range are refused at the start, all faults in one message.

```json
{
    "plimsoll": {
        "profile": "calibrated",
        "risk": {"per_trade": 0.005},
        "loss_limit": {"daily": 0.03, "timezone": "Europe/Berlin"}
    }
}
```

* **Profiles.** `calibrated` is the default, `classic` has the numbers as they are commonly published. Where the two columns below
  show one value, both profiles share it.
* **Tighter** is the direction that restricts more. A strategy may set the same keys as a class attribute,
  `plimsoll = {"risk": {"per_trade": 0.005}}`. Where the strategy and the configuration both set a key, the tighter value wins.
  Where the column is empty neither direction is tighter, and the strategy's value stands.
* **`override`** lists the keys that the configuration sets even where it is looser: `"override": ["risk.per_trade"]`. No override
  goes beyond the allowed range.
* **Environment.** Freqtrade's own way works: `FREQTRADE__PLIMSOLL__RISK__PER_TRADE=0.005`.
"""

TITLES: Final = {
    "": ("General", "index.md"),
    "leverage": ("Leverage", "layers/stop.md"),
    "volatility": ("Volatility", "layers/size.md#volatility"),
    "kelly": ("Kelly", "layers/size.md#kelly"),
    "stop": ("Stop", "layers/stop.md"),
    "risk": ("Risk", "layers/size.md#risk-per-trade"),
    "exposure": ("Exposure", "layers/size.md#margin-notional-and-heat"),
    "correlation": ("Correlation", "layers/size.md#correlation"),
    "reward_risk": ("Reward to risk", "layers/size.md#two-gates-beside-the-size"),
    "funding": ("Funding", "layers/size.md#two-gates-beside-the-size"),
    "streak": ("Losing streak", "layers/streak.md"),
    "drawdown": ("Drawdown", "layers/drawdown.md"),
    "loss_limit": ("Loss limits", "layers/loss-limits.md"),
    "decay": ("Decay", "layers/decay.md"),
    "margin_health": ("Margin health", "layers/stop.md#while-it-is-open-margin-health"),
    "deadman": ("Dead man's switch", "layers/dead-mans-switch.md"),
    "portfolio": ("Portfolio", "layers/portfolio.md"),
    "gates": ("Gates at the start", "layers/dead-mans-switch.md#proving"),
    "journal": ("Journal", "behaviour.md"),
}

COLUMNS: Final = ("Setting", "Calibrated", "Classic", "Unit", "Allowed", "Tighter")


def reference() -> str:
    """Return the whole page as Markdown: a table per section, defaults of both profiles, units, bounds and direction."""
    return "\n".join([HEAD, *_sections(), *_orders()])


def _sections() -> Iterator[str]:
    fields = list(describe())
    names = dict.fromkeys(key.rpartition(".")[0] for key, _, _ in fields)
    for name in names:
        title, page = TITLES.get(name, (name.replace("_", " ").capitalize(), ""))
        yield f"## {title}\n"
        if page and name:
            yield f"Section `{name}`; what it does: [{page.partition('#')[0]}]({page}).\n"
        yield _row(COLUMNS)
        yield _row(["---"] * len(COLUMNS))
        for key, field, _ in fields:
            if key.rpartition(".")[0] == name:
                yield _row(_cells(key, field))
        yield ""


def _orders() -> Iterator[str]:
    yield "## Which go together\n"
    yield "Each pair has to be in order, or the start is refused:\n"
    for lower, upper in ORDERED:
        yield f"* `{lower}` is at most `{upper}`"
    for lower, upper in STRICTLY_ORDERED:
        yield f"* `{lower}` is under `{upper}`"
    yield ""


def _cells(key: str, field: FieldInfo) -> list[str]:
    extra: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    default = _value(field.default)
    classic = _value(CLASSIC[key]) if key in CLASSIC else default
    return [
        f"`{key}`<br>{_plain(str(field.description or ''))}",
        default,
        classic,
        str(extra.get("unit") or ""),
        _allowed(field),
        str(extra.get("tighter") or ""),
    ]


def _allowed(field: FieldInfo) -> str:
    kind = str(field.annotation)
    allowed = allowed_range(field)
    if allowed[:1] in "([":
        return re.sub(r"\.0(?=[,)\]])", "", allowed) + (" or none" if "None" in kind else "")
    if "Literal[" in allowed:
        names = allowed[allowed.index("Literal[") + 8 :].rstrip("].,").split("]")[0]
        return ("any of: " if "tuple" in kind else "") + names.replace("'", "")
    words = {"bool": "true or false", "str": "text", "str | None": "text or none"}
    return words.get(allowed, "list")


def _value(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "none" if value is None else f"`{json.dumps(value)}`"


def _plain(text: str) -> str:
    return text.replace("<", "&lt;")


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(reference(), end="")
