"""The history that a replay unfolds: simulated, or candles on disk, and the moment it begins at."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

SEED: Final = 7
DAYS: Final = 30
# The guard needs 745 hours of candles before the first plan.
WARM_UP: Final = timedelta(days=32)
START: Final = datetime(2023, 1, 1, tzinfo=UTC)


class ReplayError(Exception):
    """What the user can put right; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Market:
    """Hold where the candles are, the pairs, and whether they replace the configured whitelist."""

    datadir: Path
    pairs: tuple[str, ...]
    whitelist: bool
    said: str


def simulated(arguments: argparse.Namespace, directory: Path) -> Market:
    """Simulate a market, and write its candles below the directory.

    :raises ReplayError: where it cannot be made as asked.
    """
    from plimsoll.market.candle_files import write_market

    seed = SEED if arguments.seed is None else arguments.seed
    days = DAYS if arguments.days is None else arguments.days
    if seed < 0:
        raise ReplayError(f"--seed must be a whole number from 0 on, was {seed}")
    known = {model.pair: model for model in DEFAULT_PAIRS}
    chosen = _chosen(arguments.pairs, tuple(known), "the simulated market")
    datadir = directory / "data" / "binance"
    write_market(simulate_market(seed, WARM_UP.days + days, START, [known[pair] for pair in chosen]), datadir)
    said = f"{len(chosen)} simulated pairs, seed {seed}, {days} days after a warm-up of {WARM_UP.days}"
    return Market(datadir=datadir, pairs=chosen, whitelist=True, said=said)


def given(arguments: argparse.Namespace) -> Market:
    """Find the pairs of the candles on disk.

    :raises ReplayError: where there are none, or not of the pairs asked for.
    """
    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType, TradingMode

    data: Path = arguments.data
    datadir = next((place for place in (data, data / "binance") if any(_candle_files(place))), None)
    if datadir is None:
        raise ReplayError(
            f"there are no candles (*.feather) in {data}; Freqtrade's are in user_data/data/binance"
        )
    handler = get_datahandler(datadir, "feather")
    found: set[str] = set()
    for mode, kind in ((TradingMode.FUTURES, CandleType.FUTURES), (TradingMode.SPOT, CandleType.SPOT)):
        found |= {pair for pair, _, of in handler.ohlcv_get_available_data(datadir, mode) if of == kind}
    pairs = _chosen(arguments.pairs, tuple(sorted(found)), str(datadir))
    said = f"{len(pairs)} pairs from {datadir}"
    return Market(datadir=datadir, pairs=pairs, whitelist=arguments.pairs is not None, said=said)


def _candle_files(directory: Path) -> Iterator[Path]:
    yield from directory.glob("*.feather")
    yield from directory.glob("futures/*.feather")


def _chosen(wanted: Sequence[str] | None, known: tuple[str, ...], place: str) -> tuple[str, ...]:
    unknown = sorted(set(wanted or ()) - set(known))
    if unknown or not known:
        raise ReplayError(
            f"--pairs must be of {', '.join(known) or 'no pair'} in {place}, was {', '.join(unknown)}"
        )
    return tuple(wanted or known)


def checked(moment: datetime | None, span: tuple[int, int] | None) -> datetime:
    """Return the moment to begin at, by default after the warm-up.

    :raises ReplayError: where it is outside the history.
    """
    if span is None:
        raise ReplayError("there are no usable candles of these pairs")
    begins, ends = (datetime.fromtimestamp(each / 1000, UTC) for each in span)
    chosen = begins + WARM_UP if moment is None else moment
    if not begins < chosen < ends:
        raise ReplayError(
            f"--from must be after {begins:%Y-%m-%dT%H:%M} and before {ends:%Y-%m-%dT%H:%M},"
            f" was {chosen:%Y-%m-%dT%H:%M}"
        )
    return chosen
