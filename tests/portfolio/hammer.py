"""Many bots on one ledger, some killed at any instant; then the ledger's own history is checked at every sequence number.

Run as a program of its own: it forks, and must not know Freqtrade. Each bot has an "exchange": a file with the positions it really
has, which outlives the bot. A bot opens a position there only after the ledger granted it.

    python hammer.py URL --processes 64 --seconds 60
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select

from plimsoll.portfolio import Holding, Ledger, LedgerFault, Limits, schema
from plimsoll.rules.breaker import ReadingConfig
from plimsoll.rules.portfolio import ROUNDING

PAIRS = (
    "BTC/USDT:USDT",
    "BTC/USDC:USDC",
    "ETH/USDT:USDT",
    "SOL/USDT:USDT",
    "1000PEPE/USDT:USDT",
    "PEPE/USDT",
)
EQUITY, GRACE, TIMEOUT = 100.0, 0.5, 3.0  # little capital, so that the last free unit is soon fought for
PATIENT = 120.0  # of who prepares and settles, and may not fail
LONGEST = 300.0  # seconds in which there was a fight on any machine
LIMITS = Limits()
ONE = ReadingConfig(confirmations=1)
OPERATIONS = ("heartbeat", "reserve", "confirm", "release")
ENDS = ("released", "expired")
_RECORD = struct.Struct("<BBd")


class Exchange:
    """The positions a bot really has, by key: one file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.positions: dict[str, tuple[str, str, float, float]] = {}
        if path.exists():
            self.positions = {key: tuple(value) for key, value in json.loads(path.read_text()).items()}

    def write(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self.positions))
        fresh.replace(self._path)

    def holdings(self) -> list[Holding]:
        merged: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for pair, side, margin, risk in self.positions.values():
            merged.setdefault((pair, side), []).append((margin, risk))
        return [
            Holding(pair, side, math.fsum(m for m, _ in parts), math.fsum(r for _, r in parts))  # type: ignore[arg-type]
            for (pair, side), parts in merged.items()
        ]


class Bot:
    """One process: heartbeats, reserves, fills, confirms and releases until it is told to end, or killed."""

    def __init__(self, url: str, place: Path, name: str, seed: int, timeout: float = TIMEOUT) -> None:
        self._ledger = Ledger(url, LIMITS, "USDT", timeout, readings=ONE, grace=GRACE)
        self._over = place / "over"
        self._exchange = Exchange(place / f"{name}.json")
        self._times = os.open(place / f"{name}.times", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._name, self._random = name, random.Random(seed)
        self._numbers = iter(range(seed * 1_000_000, (seed + 1) * 1_000_000))

    def go(self) -> None:
        parent = os.getppid()
        while not self._over.exists() and os.getppid() == parent:
            self.timed("heartbeat", lambda: self.heartbeat())
            for _ in range(self._random.randint(1, 6)):
                if self._exchange.positions and self._random.random() < 0.4:
                    self._close()
                else:
                    self._open()

    def heartbeat(self) -> Any:
        now = time.time()
        return self._ledger.heartbeat(self._name, now, EQUITY, 0.0, self._exchange.holdings())

    def close_everything(self) -> None:
        self._exchange.positions.clear()
        self._exchange.write()

    def timed(self, operation: str, work: Any) -> Any:
        begun = time.perf_counter()
        result, fault = None, 0
        try:
            result = work()
        except LedgerFault:
            fault = 1
        seconds = time.perf_counter() - begun
        os.write(self._times, _RECORD.pack(OPERATIONS.index(operation), fault, seconds))
        return result

    def _open(self) -> None:
        key = str(next(self._numbers))
        pair, side = self._random.choice(PAIRS), self._random.choice(("long", "short"))
        margin = self._random.choice((50.0, 100.0, 100.0 / 3.0, 250.0))
        risk = margin * self._random.choice((0.05, 0.12, 0.2))
        decision = self.timed(
            "reserve",
            lambda: self._ledger.reserve(self._name, key, pair, side, margin, risk, time.time()),  # type: ignore[arg-type]
        )
        if decision is None or not decision.granted:
            return
        fate = self._random.random()
        if fate < 0.15:  # the order was cancelled
            self.timed("release", lambda: self._ledger.release(self._name, key, time.time()))
        elif fate < 0.25:  # it never got to the exchange, and nobody said so
            pass
        else:
            self._exchange.positions[key] = (pair, side, margin, risk)
            self._exchange.write()
            if fate < 0.9:  # else the fill is found by the next heartbeat
                self.timed("confirm", lambda: self._ledger.confirm(self._name, key, time.time()))

    def _close(self) -> None:
        key = self._random.choice(sorted(self._exchange.positions))
        del self._exchange.positions[key]
        self._exchange.write()
        if self._random.random() < 0.8:
            self.timed("release", lambda: self._ledger.release(self._name, key, time.time()))


def hammer(url: str, processes: int, seconds: float, kills_per_second: float, seed: int) -> dict[str, Any]:
    """Run the bots, kill some, reconcile all, and return the report."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="plimsoll-hammer-") as directory:
        place = Path(directory)
        names = [f"bot-{number:02d}" for number in range(processes)]
        for name in names:
            Bot(url, place, name, 0, PATIENT).heartbeat()  # all capital is there before anything is reserved
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()  # a process with threads must not fork
        begun = time.time()
        running = {_fork(url, place, name, seed + number): name for number, name in enumerate(names)}
        killed = _kill_some(running, url, place, seconds, kills_per_second, dice, seed + processes)
        (place / "over").touch()
        crashed = sum(_wait(child) != 0 for child in running)
        lasted = time.time() - begun
        time.sleep(GRACE + 0.1)
        bots = [Bot(url, place, name, 0, PATIENT) for name in names]
        for bot in bots:
            last = bot.heartbeat()
        held = _held(url)
        real = {name: Exchange(place / f"{name}.json").holdings() for name in names}
        mismatches = _mismatches(held, real)
        for bot in bots:
            bot.close_everything()
            last = bot.heartbeat()
        report = check(url) | {
            "processes": processes,
            "seconds": round(lasted, 2),
            "killed": killed,
            "crashed": crashed,
            "positions_at_the_end": sum(map(len, real.values())),
            "mismatches": mismatches,
            "left_margin": last.margin,
            "left_claims": sum(len(bot.claims) for bot in last.bots),
        }
        return report | _latencies(place, lasted)


def fought(url: str) -> bool:
    """Return whether enough has happened for the check of it to tell something."""
    report = check(url)
    events = report["events"]
    return bool(
        events.get("expired") and events.get("reserved", 0) > 20 and max(report["fullest"].values()) > 0.95
    )


def check(url: str) -> dict[str, Any]:
    """Rebuild every claim from the history, line by line, and compare with its totals and with every cap at that instant."""
    with create_engine(url if "://" in url else f"sqlite:///{url}").connect() as connection:
        lines = [
            dict(row._mapping)
            for row in connection.execute(select(schema.history).order_by(schema.history.c.sequence))
        ]
        current = {
            (row.bot, row.key): (row.margin, row.risk) for row in connection.execute(select(schema.claims))
        }
    return check_lines(lines, current)


def check_lines(lines: list[dict[str, Any]], current: dict[Any, Any]) -> dict[str, Any]:
    """Check history lines; what is counted here comes from the claims' own lines, not from the totals they carry."""
    claims: dict[tuple[str, str], dict[str, Any]] = {}
    violations, wrong, gaps, fullest = [], [], 0, {"margin": 0.0, "asset": 0.0, "risk": 0.0}
    for number, line in enumerate(lines, 1):
        gaps += line["sequence"] != number
        place = (line["bot"], line["key"])
        if line["event"] in ENDS:
            if claims.pop(place, None) is None:
                wrong.append(line["sequence"])
        elif line["key"]:
            claims[place] = line
        assets: dict[str, list[float]] = {}
        for claim in claims.values():
            assets.setdefault(claim["asset"], []).append(claim["margin"])
        used = {
            "margin": math.fsum(claim["margin"] for claim in claims.values()),
            "asset": max((math.fsum(margins) for margins in assets.values()), default=0.0),
            "risk": math.fsum(claim["risk"] for claim in claims.values()),
        }
        told = (line["total_margin"], line["total_risk"])
        if not all(
            math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-6)
            for a, b in zip(told, (used["margin"], used["risk"]), strict=True)
        ):
            wrong.append(line["sequence"])
        for name, value in used.items():
            cap = line[f"{name}_cap"]
            if value > cap * (1.0 + ROUNDING):
                violations.append((line["sequence"], name, value, cap))
            if cap > 0.0:
                fullest[name] = max(fullest[name], value / cap)
    rebuilt = {place: (claim["margin"], claim["risk"]) for place, claim in claims.items()}
    return {
        "lines": len(lines),
        "gaps": gaps,
        "wrong_totals": wrong[:5],
        "violations": violations[:5],
        "fullest": {name: round(value, 4) for name, value in fullest.items()},
        "events": dict(Counter(line["event"] for line in lines)),
        "rebuilt_equals_claims": rebuilt == current,
    }


def _fork(url: str, place: Path, name: str, seed: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        Bot(url, place, name, seed).go()
        status = 0
    except BaseException as error:
        print(f"{name}: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _kill_some(
    running: dict[int, str],
    url: str,
    place: Path,
    seconds: float,
    per_second: float,
    dice: random.Random,
    seed: int,
) -> int:
    # It goes on for so many seconds, and on a machine that did too little in them until there was a fight.
    killed, begun = 0, time.monotonic()
    while True:
        time.sleep(dice.expovariate(per_second))
        lasted = time.monotonic() - begun
        if lasted >= LONGEST or (lasted >= seconds and killed and fought(url)):
            break
        child = dice.choice(sorted(running))
        os.kill(child, signal.SIGKILL)
        _wait(child)
        name = running.pop(child)
        killed += 1
        running[_fork(url, place, name, seed + killed)] = name
    return killed


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _held(url: str) -> dict[tuple[str, str, str], float]:
    with create_engine(url if "://" in url else f"sqlite:///{url}").connect() as connection:
        rows = connection.execute(select(schema.claims)).all()
    held: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        held.setdefault((row.bot, row.pair, row.side), []).append(row.margin)
    return {place: math.fsum(margins) for place, margins in held.items()}


def _mismatches(held: dict[tuple[str, str, str], float], real: dict[str, list[Holding]]) -> int:
    wanted = {(name, item.pair, item.side): item.margin for name, items in real.items() for item in items}
    places = held.keys() | wanted.keys()
    return sum(not math.isclose(held.get(p, 0.0), wanted.get(p, 0.0), rel_tol=1e-5) for p in places)


def _latencies(place: Path, seconds: float) -> dict[str, Any]:
    by_operation: dict[str, list[float]] = {name: [] for name in OPERATIONS}
    faults = 0
    longest = 0.0
    for path in place.glob("*.times"):
        whole = path.read_bytes()
        for operation, fault, took in _RECORD.iter_unpack(whole[: len(whole) // _RECORD.size * _RECORD.size]):
            faults += fault
            longest = max(longest, took)
            if not fault:
                by_operation[OPERATIONS[operation]].append(took)
    everything = [took for times in by_operation.values() for took in times]
    return {
        "operations": len(everything),
        "per_second": round(len(everything) / seconds, 1),
        "faults": faults,
        "longest_ms": round(1000.0 * longest, 1),
        "p50_ms": _quantile(everything, 0.5),
        "p99_ms": _quantile(everything, 0.99),
        "reserve_p99_ms": _quantile(by_operation["reserve"], 0.99),
    }


def _quantile(values: Iterable[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(1000.0 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1) if ordered else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--processes", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills-per-second", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    report = hammer(given.url, given.processes, given.seconds, given.kills_per_second, given.seed)
    report["knows_freqtrade"] = "freqtrade" in sys.modules
    print(json.dumps(report))


if __name__ == "__main__":
    main()
