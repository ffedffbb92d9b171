"""The market of a fire drill: simulated and bent into the shapes of the scenario, or candles on disk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

import numpy as np
import numpy.typing as npt
import pandas as pd

from plimsoll.drill.scenario import FlashCrash, Shape, Simulated, Trend, Whipsaw
from plimsoll.market.history import Candle, Funding, Kind, NoHistory, Window
from plimsoll.market.simulate import DEFAULT_PAIRS, MarketData, simulate_market

# The guard needs 745 hours of candles, Freqtrade the strategy's own.
WARM_UP_DAYS = 33
_PRICES = ["open", "high", "low", "close"]
Floats = npt.NDArray[np.float64]


def simulated(market: Simulated, began: datetime, hours: float) -> FrameSource:
    """Simulate the scenario's market around a run that begins at ``began`` (aware).

    :raises ValueError: where a pair is none of the simulated ones.
    """
    models = {model.pair: model for model in DEFAULT_PAIRS}
    unknown = [pair for pair in market.pairs if pair not in models]
    if unknown:
        raise ValueError(f"market.pairs must be among {', '.join(models)}, was {', '.join(unknown)}")
    first = (began - timedelta(days=WARM_UP_DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
    days = WARM_UP_DAYS + 2 + ceil(hours / 24.0)
    plain = simulate_market(
        market.seed, days, first, [models[pair] for pair in market.pairs], flash_crash=False
    )
    frames = {}
    for pair, data in plain.items():
        shapes = [(shape, _turn(shape, pair, market.pairs)) for shape in market.shape]
        mine = [(shape, turn) for shape, turn in shapes if not shape.pairs or pair in shape.pairs]
        frames[pair] = data if not mine else _bent(data, mine, began, models[pair].price_decimals)
    return FrameSource(frames)


class FrameSource(NoHistory):
    """Tell 5-minute candles and funding of simulated pairs; `plimsoll.market.replay.Replay` makes the rest of them."""

    def __init__(self, frames: dict[str, MarketData]) -> None:
        self._frames = frames

    def candles(self, pair: str, interval: str, window: Window, *, kind: Kind = "trade") -> list[Candle]:
        """Return all 5-minute candles of trades; there are no others."""
        if interval != "5m" or kind != "trade" or pair not in self._frames:
            return []
        frame = self._frames[pair].candles_5m
        columns = [frame[name].tolist() for name in (*_PRICES, "volume")]
        return [Candle(*row) for row in zip(_milliseconds(frame), *columns, strict=True)]

    def funding(self, pair: str, window: Window) -> list[Funding]:
        """Return all funding payments."""
        if pair not in self._frames:
            return []
        frame = self._frames[pair].funding
        return [Funding(*row) for row in zip(_milliseconds(frame), frame["open"].tolist(), strict=True)]


def path(shape: Shape, hours: Floats, turn: int = 0, turns: int = 1) -> Floats:
    """Return by how much a shape moves the log price at times, in hours after the begin; ``turn`` of ``turns`` in a whipsaw."""
    match shape:
        case Trend():
            per_hour = np.log1p(shape.per_day) / 24.0
            return np.asarray(per_hour * np.clip(hours - shape.at, 0.0, shape.hours), dtype=np.float64)
        case FlashCrash():
            moved, length = np.log1p(shape.move), shape.minutes / 60.0
            times = [shape.at, shape.at + length, shape.at + 5.0 * length]
            return np.asarray(
                np.interp(hours, times, [0.0, moved, moved * (1.0 - shape.recovers)]), dtype=np.float64
            )
        case Whipsaw():
            moved, every = np.log1p(shape.move), shape.every_minutes / 60.0
            found: Floats = np.zeros_like(hours)
            for round_ in range(shape.times):
                at = shape.at + (round_ * turns + turn) * every
                found += np.interp(hours, [at, at + 0.3 * every, at + 0.6 * every], [0.0, moved, 0.0])
            return found


def _turn(shape: Shape, pair: str, pairs: Sequence[str]) -> tuple[int, int]:
    in_turn = list(shape.pairs or pairs)
    return (in_turn.index(pair) if pair in in_turn else 0, len(in_turn))


def _bent(
    data: MarketData, shapes: Sequence[tuple[Shape, tuple[int, int]]], began: datetime, decimals: int
) -> MarketData:
    frame = data.candles_5m.copy()
    hours = (np.array(_milliseconds(frame), dtype=np.float64) / 1000.0 - began.timestamp()) / 3600.0
    # Three points in a candle: its ends, and the middle, so that no turning point is lost altogether.
    points = [
        sum(path(shape, hours + part, *turn) for shape, turn in shapes) for part in (0.0, 1 / 24, 1 / 12)
    ]
    offsets = np.column_stack([np.asarray(point, dtype=np.float64) for point in points])
    prices = np.log(frame[_PRICES].to_numpy(dtype=np.float64))
    bent = np.empty_like(prices)
    bent[:, 0], bent[:, 3] = prices[:, 0] + offsets[:, 0], prices[:, 3] + offsets[:, 2]
    bent[:, 1] = np.maximum(prices[:, 1] + offsets.mean(axis=1), np.maximum(bent[:, 0], bent[:, 3]))
    bent[:, 2] = np.minimum(prices[:, 2] + offsets.mean(axis=1), np.minimum(bent[:, 0], bent[:, 3]))
    frame[_PRICES] = np.maximum(np.round(np.exp(bent), decimals), 10.0**-decimals)
    return MarketData(
        candles_5m=frame,
        candles_1h=data.candles_1h,
        mark_1h=data.mark_1h,
        funding=data.funding,
        crash_start=None,
    )


def _milliseconds(frame: pd.DataFrame) -> list[int]:
    return [int(time) for time in frame["date"].astype("datetime64[ms, UTC]").astype("int64")]
