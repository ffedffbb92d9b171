"""Candles, mark prices and funding on file: present, rightly named, complete."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from plimsoll.doctor.finding import Finding, Part, check, error, unknown, warning
from plimsoll.doctor.setup import Setup
from plimsoll.settings import Settings

HOUR: Final = 3600
MOST_MISSING: Final = 0.001  # ratio of candles
LONGEST_GAP: Final = 6 * HOUR
FUNDING_SLACK: Final = 24 * HOUR
NAMED: Final = 3


@check(Part.CANDLES, Part.STRATEGY)
def candle_files(setup: Setup) -> Iterator[Finding]:
    """Report whitelisted pairs without candles of a timeframe that a backtest reads."""
    lacking: dict[str, list[str]] = {}
    for timeframe in _timeframes(setup):
        lacking[timeframe] = [
            pair for pair in setup.pairs if timeframe not in setup.store.timeframes(pair, setup.kind)
        ]
    for timeframe, pairs in lacking.items():
        if not pairs:
            continue
        own = timeframe == setup.timeframe
        why = (
            "a backtest leaves such a pair out, with one line in the log"
            if own
            else "stops and sizes come from 31 days of 1h candles; a backtest with the guard ends at once"
        )
        yield warning(
            f"there are no {timeframe} candles of {_some(pairs)} in {setup.store.datadir}",
            why,
            _download(setup, pairs, [timeframe]),
        )


@check(Part.CANDLES)
def funding_files(setup: Setup) -> Iterator[Finding]:
    """Report funding and mark files that are missing, or named after another timeframe than Freqtrade asks for."""
    if not setup.futures:
        return
    for kind, timeframe in _funding_kinds(setup):
        missing = [
            pair for pair in _pairs_on_file(setup) if timeframe not in setup.store.timeframes(pair, kind)
        ]
        if kind == "funding_rate" and setup.config.get("futures_funding_rate") is not None:
            continue
        named = {pair: other for pair in missing for other in sorted(setup.store.timeframes(pair, kind))[:1]}
        if named:
            yield error(
                f"{kind} of {_some(list(named))} is on file as {' and '.join(f'-{name}-' for name in sorted(set(named.values())))},"
                f" Freqtrade looks for -{timeframe}-",
                "a file under the wrong name is no file: funding is silently 0 in backtests",
                _download(setup, list(named), [timeframe]),
            )
        absent = [pair for pair in missing if pair not in named]
        if absent and kind == "funding_rate" and setup.guarded and _wants_funding(setup):
            yield warning(
                f"there are no funding rates of {_some(absent)} on file",
                "a backtest with the guard ends at once; one without it would take funding as 0",
                _download(setup, absent, [timeframe]),
            )
        elif absent:
            yield error(
                f"there is no {kind} file of {_some(absent)}",
                "funding is silently 0 in backtests: it needs rate and mark price of the same hour",
                _download(setup, absent, [timeframe]),
            )


@check(Part.CANDLES)
def funding_coverage(setup: Setup) -> Iterator[Finding]:
    """Report funding that begins late, ends early, has holes, or meets no mark price."""
    if not setup.futures:
        return
    kinds = dict(_funding_kinds(setup))
    mark_kind = next(kind for kind in kinds if kind != "funding_rate")
    short, unmatched = {}, {}
    for pair in _pairs_on_file(setup):
        funding = setup.store.frame(pair, kinds["funding_rate"], "funding_rate")
        mark = setup.store.frame(pair, kinds[mark_kind], mark_kind)
        candles = _traded(setup, pair)
        if funding.empty or mark.empty or not len(candles):
            continue  # missing files have a check of their own
        paid = _seconds(funding)
        paid = paid[(paid >= candles[0]) & (paid <= candles[-1])]
        edges = np.concatenate(([candles[0]], paid, [candles[-1]]))
        hole = int(np.diff(edges).max())
        leading = setup.config.get("futures_funding_rate") is not None
        if leading and len(paid):
            hole = int(np.diff(edges[1:]).max())
        if hole > FUNDING_SLACK:
            short[pair] = hole
        lost = len(paid) - int(np.isin(paid, _seconds(mark)).sum())
        if lost:
            unmatched[pair] = (lost, len(paid))
    if short:
        pair = max(short, key=lambda name: short[name])
        yield warning(
            f"funding rates leave {short[pair] / 86400:.0f} days of the candles of {pair} out ({_some(list(short))})",
            "where there is no rate, a backtest takes funding as 0",
            _download(setup, list(short), [kinds["funding_rate"]], erase=True),
        )
    if unmatched:
        pair = max(unmatched, key=lambda name: unmatched[name][0])
        lost, every = unmatched[pair]
        yield error(
            f"{lost} of {every} funding payments of {pair} have no mark price of that hour ({_some(list(unmatched))})",
            "such a payment is silently left out of a backtest",
            _download(setup, list(unmatched), [kinds[mark_kind]], erase=True),
        )


@check(Part.CANDLES)
def candle_gaps(setup: Setup) -> Iterator[Finding]:
    """Report candles with holes."""
    from freqtrade.exchange import timeframe_to_seconds

    for timeframe in _timeframes(setup):
        step = timeframe_to_seconds(timeframe)
        found = {}
        for pair in _pairs_on_file(setup):
            times = _seconds(setup.store.frame(pair, timeframe, setup.kind))
            if len(times) < 2:
                continue
            steps = np.diff(times)
            missing = (int(times[-1] - times[0]) // step + 1) - len(times)
            longest = int(steps.max()) - step
            if missing / (missing + len(times)) > MOST_MISSING or longest >= LONGEST_GAP:
                found[pair] = (missing, longest, int(times[int(steps.argmax())]))
        if found:
            pair = max(found, key=lambda name: found[name][0])
            missing, longest, at = found[pair]
            yield warning(
                f"{missing} {timeframe} candles of {pair} are missing, {longest / HOUR:.1f} hours in one piece from"
                f" {np.datetime64(at, 's')} ({_some(list(found))})",
                "Freqtrade fills the hole with candles that do not move: ATR and volatility come out too small, stops too near",
                _download(setup, list(found), [timeframe], erase=True),
            )


@check(Part.CANDLES)
def candle_values(setup: Setup) -> Iterator[Finding]:
    """Report candles whose prices cannot be."""
    broken = {}
    for timeframe in _timeframes(setup):
        for pair in _pairs_on_file(setup):
            frame = setup.store.frame(pair, timeframe, setup.kind)
            if frame.empty:
                continue
            prices = frame[["open", "high", "low", "close"]].to_numpy(dtype=float)
            bad = (
                ~np.isfinite(prices).all(axis=1) | (prices <= 0.0).any(axis=1) | (prices[:, 1] < prices[:, 2])
            )
            if bad.any():
                broken[pair, timeframe] = int(bad.sum())
    if broken:
        (pair, timeframe), count = max(broken.items(), key=lambda item: item[1])
        yield warning(
            f"{count} {timeframe} candles of {pair} have prices that cannot be ({_some([p for p, _ in broken])})",
            "ATR starts anew after each, so there is no stop and no entry for 14 hours",
            _download(setup, [p for p, _ in broken], [timeframe], erase=True),
        )


@check(Part.CANDLES, Part.STRATEGY, Part.SETTINGS, guarded_only=True)
def history_length(setup: Setup) -> Iterator[Finding]:
    """Report pairs whose 1h candles are too few for a volatility."""
    needed = setup.limits.volatility.min_hours + 25
    short = {}
    for pair in setup.pairs:
        hours = len(setup.store.frame(pair, "1h", setup.kind))
        if 0 < hours < needed:
            short[pair] = hours
    if short:
        pair = min(short, key=lambda name: short[name])
        yield warning(
            f"{pair} has {short[pair]} 1h candles on file, {needed} are needed ({_some(list(short))})",
            "volatility is unknown until then, and unknown refuses entries: a backtest shows no trades",
            _download(setup, list(short), ["1h"], erase=True),
        )


@check(Part.CANDLES)
def whitelist_on_file(setup: Setup) -> Iterator[Finding]:
    """Say where no whitelisted pair is on file, so that candles could not be checked."""
    if setup.pairs and not _pairs_on_file(setup):
        yield unknown(f"none of the whitelisted pairs has candles in {setup.store.datadir}")


def _timeframes(setup: Setup) -> list[str]:
    wanted = [setup.timeframe] if setup.timeframe else []
    return list(dict.fromkeys([*wanted, *(["1h"] if setup.guarded is not False else [])]))


def _funding_kinds(setup: Setup) -> list[tuple[str, str]]:
    if setup.exchange is not None:
        mark = str(setup.exchange.get_option("mark_ohlcv_price"))
        return [
            ("funding_rate", str(setup.exchange.get_option("funding_fee_timeframe"))),
            (mark, str(setup.exchange.get_option("mark_ohlcv_timeframe"))),
        ]
    # What Freqtrade asks for unless an exchange's own class says otherwise.
    name = str(setup.config["exchange"].get("name", "")).lower()
    return [("funding_rate", "1h"), ("futures" if name == "hyperliquid" else "mark", "1h")]


def _wants_funding(setup: Setup) -> bool:
    settings: Settings | None = setup.settings
    return settings is None or "funding" not in settings.off


def _pairs_on_file(setup: Setup) -> list[str]:
    known = set(setup.store.pairs)
    return [pair for pair in setup.pairs if pair in known]


def _traded(setup: Setup, pair: str) -> np.ndarray[Any, Any]:
    timeframes = setup.store.timeframes(pair, setup.kind)
    chosen = next((name for name in ("1h", setup.timeframe) if name in timeframes), None)
    return np.array([]) if chosen is None else _seconds(setup.store.frame(pair, chosen, setup.kind))


def _seconds(frame: Any) -> np.ndarray[Any, Any]:
    if frame.empty:
        return np.array([], dtype=np.int64)
    return np.asarray(frame["date"].to_numpy(dtype="datetime64[s]").astype(np.int64))


def _download(setup: Setup, pairs: list[str], timeframes: list[str], *, erase: bool = False) -> str:
    files = [word for file in setup.files for word in ("-c", str(file))]
    mode = ["--trading-mode", "futures"] if setup.futures else []
    which = ["--timeframes", *timeframes, "--pairs", *dict.fromkeys(pairs), "--days", "400"]
    again = ["--erase"] if erase else []
    return shlex.join(["freqtrade", "download-data", *files, *mode, *which, *again])


def _some(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:NAMED]) + (f" and {len(unique) - NAMED} more" if len(unique) > NAMED else "")
