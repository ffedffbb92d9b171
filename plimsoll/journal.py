"""Record every plan and outcome as JSON lines, buffered, without a clock of its own: same run, same bytes."""

from __future__ import annotations

import atexit
import json
import math
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plimsoll.plan import Plan
from plimsoll.rules.answer import Answer

VERSION = 1
BUFFERED_RECORDS = 2000


class Journal:
    """Append records to a file; what is buffered is written when full, on :meth:`flush` and at exit.

    A file that cannot be written loses records, never a trade: the fault is kept in ``fault`` for the host to report.
    """

    def __init__(self, path: Path, *, truncate: bool, buffered: int = BUFFERED_RECORDS) -> None:
        self.path = path
        self.fault: OSError | None = None
        self._truncate = truncate
        self._whole = False  # whether the file is known to end with a whole line
        self._buffered = buffered
        self._pending: list[Mapping[str, Any] | Plan] = []
        # A strong reference would keep every backtest's journal alive until the process ends.
        _open_journals.add(self)

    def plan(self, plan: Plan) -> None:
        """Record a plan; it is formatted only when written."""
        self._add(plan)

    def record(self, kind: str, values: Mapping[str, Any]) -> None:
        """Record anything else, such as an outcome."""
        self._add({"kind": kind, **values})

    def flush(self) -> None:
        """Write what is buffered."""
        pending, self._pending = self._pending, []
        if not pending and not self._truncate:
            return
        lines = [_line(item) for item in pending]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torn = not self._truncate and not self._whole and _is_torn(self.path)
            with self.path.open("w" if self._truncate else "a", encoding="utf-8") as file:
                if torn:  # what is appended to half a line would be lost with it
                    file.write("\n")
                file.writelines(f"{line}\n" for line in lines)
            self._truncate, self._whole = False, True
        except OSError as error:
            self.fault, self._whole = error, False

    def _add(self, item: Mapping[str, Any] | Plan) -> None:
        self._pending.append(item)
        if len(self._pending) >= self._buffered:
            self.flush()


def plan_record(plan: Plan) -> dict[str, Any]:
    """Turn a plan into a plain record: what was asked, what was granted, every rule's answer."""
    signal = plan.signal
    asked = signal.own_leverage or signal.fixed_leverage
    return {
        "kind": "plan",
        "version": VERSION,
        "time": signal.time,
        "pair": signal.pair,
        "side": signal.side,
        "rate": signal.rate,
        "asked_leverage": asked,
        "granted": plan.granted,
        "refusal": plan.refusal,
        "leverage": plan.leverage,
        "notional": plan.notional,
        "margin": plan.margin,
        "stop_price_ratio": plan.stop_price_ratio,
        "risk": plan.risk,
        "bound_leverage": plan.bound_leverage,
        "bound_size": plan.bound_size,
        "answers": [answer_record(answer) for answer in plan.answers],
    }


def answer_record(answer: Answer) -> dict[str, Any]:
    """Turn a rule's answer into a plain record."""
    return {
        "rule": answer.rule,
        "kind": str(answer.kind),
        "outcome": str(answer.outcome),
        "value": answer.value,
        "reason": answer.reason,
        "numbers": dict(answer.numbers),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Read a journal back, empty where there is none to be read; a torn last line (a killed process) is left out."""
    records: list[dict[str, Any]] = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return records
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _is_torn(path: Path) -> bool:
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() != b"\n"


def _line(item: Mapping[str, Any] | Plan) -> str:
    record = plan_record(item) if isinstance(item, Plan) else item
    try:
        return _ENCODER.encode(record)
    except ValueError:  # JSON knows no NaN
        return _ENCODER.encode(_without_nan(record))


def _without_nan(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {key: _without_nan(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_without_nan(value) for value in item]
    if isinstance(item, float) and not math.isfinite(item):
        return None
    return item


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=str)
_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


@atexit.register
def _flush_all() -> None:
    for journal in list(_open_journals):
        journal.flush()
