"""Keep the record of a dry-run beside the user's data, where the live bot of the same strategy and settings finds it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from freqtrade.enums import RunMode
from freqtrade.strategy import IStrategy

from plimsoll.rules.answer import Answer, Kind, unknown
from plimsoll.rules.breaker import DAY
from plimsoll.rules.proving import RULE, Record, observe, proven
from plimsoll.settings import Settings

logger = logging.getLogger("plimsoll")

WRITE_EVERY = 60  # seconds
# Sections that do not change what is traded.
_NO_MATTER = {"journal", "gates", "deadman"}


class Proving:
    """Count the time a dry-run was seen running, and answer whether live entries are allowed.

    The record belongs to the strategy's name, its timeframe and the settings of Plimsoll; the strategy's code is not looked at.
    """

    def __init__(self, strategy: IStrategy, settings: Settings) -> None:
        self._strategy = strategy
        self._settings = settings
        self._record: Record | None = None
        self._fault: str | None = None
        self._read_at: float | None = None  # the file's time of change
        self._written = 0
        self._said: str | None = None

    def loop(self, now: datetime) -> None:
        """Count this loop of a dry-run; a live bot looks whether the record has grown."""
        self._read()
        if self._runmode() != RunMode.DRY_RUN or self._fault is not None:
            return
        second = int(now.timestamp())
        self._record = observe(self._record, second)
        if abs(second - self._written) >= WRITE_EVERY:
            self._write()
            self._written = second

    def answer(self) -> Answer | None:
        """Return what stands against live entries; None in a dry-run and under the override."""
        gates = self._settings.gates
        if self._runmode() != RunMode.LIVE or gates.proving_override:
            return None
        if self._fault is not None:
            return unknown(RULE, Kind.GATE, self._fault)
        return proven(self._record, gates.proving_days)

    def as_data(self) -> dict[str, Any]:
        """Describe the record, in days."""
        gates = self._settings.gates
        days = 0.0 if self._record is None else self._record.seconds / DAY
        satisfied = gates.proving_override or (self._fault is None and days >= gates.proving_days)
        return {"needed_days": gates.proving_days, "days": days, "satisfied": satisfied}

    def _runmode(self) -> Any:
        return self._strategy.config.get("runmode")

    def _path(self) -> Path:
        directory = Path(self._strategy.config["user_data_dir"]) / "plimsoll"
        return directory / f"proving-{self._strategy.get_strategy_name()}.json"

    def _key(self) -> str:
        traded = self._settings.model_dump(mode="json", exclude=_NO_MATTER | {"override"})
        facts = [self._strategy.get_strategy_name(), self._strategy.timeframe, traded]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def _read(self) -> None:
        path = self._path()
        try:
            changed = path.stat().st_mtime
        except OSError:
            return  # none yet
        if changed == self._read_at:
            return
        try:
            stored = json.loads(path.read_text(encoding="utf-8")).get(self._key())
            if stored is not None and (self._record is None or self._runmode() == RunMode.LIVE):
                self._record = Record.from_json(stored)
            self._fault = None
        except (OSError, ValueError, AttributeError) as error:
            self._fault = f"the record of the dry-run cannot be read: {error}"
            self._say(self._fault)
        self._read_at = changed

    def _write(self) -> None:
        path = self._path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            assert self._record is not None
            known[self._key()] = self._record.to_json()
            beside = path.with_suffix(f".{os.getpid()}.tmp")
            beside.write_text(json.dumps(known, indent=1), encoding="utf-8")
            beside.replace(path)
            self._read_at = path.stat().st_mtime
            self._said = None
        except (OSError, ValueError, TypeError) as error:
            # Tried again: what was counted until then is written once it can be.
            self._say(f"the record of the dry-run cannot be written: {error}")

    def _say(self, fault: str) -> None:
        if fault != self._said:
            self._said = fault
            logger.warning("%s", fault)
