"""Versions, the clock, the cache of backtests, and secrets."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import plimsoll
from plimsoll.doctor.finding import Finding, Part, check, error, unknown, warning
from plimsoll.doctor.secrets import leaves, looks_secret
from plimsoll.doctor.setup import Setup
from plimsoll.terminal import moment

TESTED: Final = ((2026, 7), (2026, 9))  # of Freqtrade, the first and the last
CLOCK_WARNING, CLOCK_ERROR = 1.0, 5.0  # seconds; Binance refuses a request that is 5 s late
CACHE_SECONDS: Final = {"day": 86_400, "week": 604_800, "month": 2_592_000}


@check()
def freqtrade_version(setup: Setup) -> Iterator[Finding]:
    """Report a Freqtrade outside the range that was tested."""
    import freqtrade

    said = str(freqtrade.__version__)
    found = re.match(r"(\d+)\.(\d+)", said)
    (first, last) = (f"{year}.{month}" for year, month in TESTED)
    if found is None:
        yield unknown(f"Freqtrade calls its version {said}")
        return
    version = (int(found[1]), int(found[2]))
    if version < TESTED[0]:
        yield error(
            f"Freqtrade is {said}; Plimsoll needs {first}",
            "callbacks are asked in another order and with other arguments",
            f"pip install 'freqtrade>={first}'",
        )
    elif version > TESTED[1]:
        yield warning(
            f"Freqtrade is {said}; Plimsoll was tested up to {last}",
            "what Freqtrade changed since is not known here; run it dry, and the tests",
            f"pip install 'freqtrade=={last}'",
        )


@check()
def clock(setup: Setup) -> Iterator[Finding]:
    """Report a clock that is not the exchange's."""
    offset = setup.clock_offset
    if offset is None:
        yield unknown(setup.why_no_clock)
    elif abs(offset) >= CLOCK_WARNING:
        yield (error if abs(offset) >= CLOCK_ERROR else warning)(
            f"this machine's clock is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the exchange's",
            "orders and stops are refused where the difference is too large, and candles are asked for too early or too late",
            "sudo timedatectl set-ntp true",
        )


@check()
def secrets_in_settings(setup: Setup) -> Iterator[Finding]:
    """Report secrets in the section plimsoll, or in the strategy's own."""
    own = None if setup.strategy is None else getattr(type(setup.strategy), "plimsoll", None)
    for where, section in (("the configuration", setup.stated.get("plimsoll")), ("the strategy", own)):
        for name in dict.fromkeys(path for path, value in leaves(section) if looks_secret(path, value)):
            variable = "PLIMSOLL_LEDGER_URL" if "ledger" in name else "PLIMSOLL_HEARTBEAT_URL"
            yield error(
                f"plimsoll.{name} of {where} holds what looks like a secret",
                "Freqtrade writes the configuration into every backtest's zip, and shares it by API",
                f"export {variable}=...   # and take plimsoll.{name} out; change the secret where results were shared",
            )


@check(Part.STRATEGY)
def stale_backtest_cache(setup: Setup) -> Iterator[Finding]:
    """Report cached backtests that are older than code they were made with, of which Freqtrade does not know."""
    kept = CACHE_SECONDS.get(str(setup.config.get("backtest_cache", "day")))
    if kept is None:
        return
    directory = Path(
        setup.config.get("exportdirectory") or setup.config["user_data_dir"] / "backtest_results"
    )
    made = _cached_at(directory, type(setup.strategy).__name__)
    if made is None or setup.now - made > kept:
        return
    newer = [file for file in _code(setup) if file.stat().st_mtime > made]
    if newer:
        yield warning(
            f"a backtest of {moment(made)} is cached, and {newer[0].name} was changed since",
            "Freqtrade compares configuration and strategy file only: the same command may return the old result",
            "freqtrade backtesting --cache none",
        )


def _cached_at(directory: Path, strategy: str) -> float | None:
    found = []
    for file in directory.glob("*.meta.json") if directory.is_dir() else ():
        try:
            content: Any = json.loads(file.read_text(encoding="utf-8"))
            found.append(float(content[strategy]["backtest_start_time"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return max(found, default=None)


def _code(setup: Setup) -> list[Path]:
    """Return the files of code that a backtest runs through, newest first, without the strategy's own and Freqtrade's."""
    files = set()
    if setup.guarded:
        files |= set(Path(str(plimsoll.__file__)).parent.rglob("*.py"))
    own = Path(str(getattr(type(setup.strategy), "__file__", ""))).resolve()
    for cls in type(setup.strategy).__mro__:
        if cls.__module__.partition(".")[0] in ("builtins", "freqtrade", "abc", "plimsoll"):
            continue
        if cls.__module__ in sys.modules:
            files.add(Path(inspect.getfile(cls)))
    known = [file for file in files if file.is_file() and file.resolve() != own]
    return sorted(known, key=lambda file: file.stat().st_mtime, reverse=True)
