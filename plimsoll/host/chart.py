"""What Freqtrade's own UI draws of the guard: columns of the candles, a plot configuration that names them, lines of open trades.

The columns are added after the strategy's last step, so no strategy sees them, and only where Freqtrade analyses for a chart or for
a bot with an API: never in a backtest or hyperopt, whose results the UI shows with candles that it has analysed anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from freqtrade.persistence import LocalTrade
from pandas import DataFrame

from plimsoll.host import internals
from plimsoll.host.boundary import Unusable
from plimsoll.host.candles import HOUR, STALE_AFTER, HourlyCandles, epoch_seconds

STOP_LONG, STOP_SHORT = "plimsoll_stop_long", "plimsoll_stop_short"
VOLATILITY = "plimsoll_volatility_per_day"
RED, ORANGE, BLUE = "#d62728", "#ff7f0e", "#1f77b4"
AT_RISK, SECURED = "rgba(214, 39, 40, 0.12)", "rgba(44, 160, 44, 0.12)"
OURS: dict[str, dict[str, Any]] = {
    "main_plot": {STOP_LONG: {"color": RED}, STOP_SHORT: {"color": ORANGE}},
    "subplots": {"Volatility per day": {VOLATILITY: {"color": BLUE}}},
}


def may_be_asked(config: Any) -> bool:
    """Tell whether anybody can ask for a chart of what is analysed with this configuration."""
    return internals.is_for_charts(config) or (
        internals.is_live_or_dry(config) and bool(config.get("api_server", {}).get("enabled"))
    )


def plot_config(own: Any) -> dict[str, Any]:
    """Return a strategy's plot configuration with ours added; the strategy's entry wins, and its own object stays as it is.

    :raises Unusable: where it is no mapping; then it has nothing that ours could be added to.
    """
    if own is None:
        own = {}
    if not isinstance(own, dict):
        raise Unusable(f"plot_config is {own!r}, which is no dict")
    merged = deepcopy(own)
    for part, entries in OURS.items():
        theirs = merged.setdefault(part, {})
        if not isinstance(theirs, dict):
            continue  # a form of its own: left alone
        for name, entry in entries.items():
            theirs.setdefault(name, deepcopy(entry))
    return merged


def with_columns(
    frame: DataFrame, hours: HourlyCandles | None, seconds: int, atr_multiple: float
) -> DataFrame:
    """Return analysed candles with the volatility forecast per day and the ATR stops of an entry at each candle's close.

    :param hours: the pair's 1h series; without them every value is unknown, NaN. :param seconds: length of a candle of ``frame``.
    """
    closed_at = epoch_seconds(frame) + seconds
    atr = sigma = np.full(len(frame), math.nan)
    if hours is not None and len(hours.times):
        place = hours.times.searchsorted(closed_at - HOUR, side="right") - 1
        known = (place >= 0) & (closed_at - hours.times[place] - HOUR < STALE_AFTER)
        atr, sigma = (
            np.where(known, hours.atr[place], math.nan),
            np.where(known, hours.sigma_day[place], math.nan),
        )
    close = frame["close"].to_numpy(dtype=np.float64)
    columns = {
        STOP_LONG: close - atr_multiple * atr,
        STOP_SHORT: close + atr_multiple * atr,
        VOLATILITY: sigma,
    }
    return frame.assign(**{name: values for name, values in columns.items() if name not in frame})


def own_annotations(answer: Any) -> list[Any]:
    """Return a strategy's annotations; what is in them Freqtrade checks one by one.

    :raises Unusable: where there is no list of them, which would leave Freqtrade without a chart.
    """
    if not isinstance(answer, list | tuple):
        raise Unusable(f"plot_annotations answered {answer!r}, which is no list")
    return [each for each in answer if isinstance(each, dict)]


def lines_of(
    trades: Iterable[LocalTrade],
    liquidation: Callable[[LocalTrade], float | None],
    start: datetime,
    end: datetime,
    seconds: int,
) -> Iterator[dict[str, Any]]:
    """Yield each open position's stop, liquidation price, and what lies between its entry and its stop.

    :param start: opening of the chart's first candle. :param end: opening of its last one. :param seconds: length of a candle.
    """
    until = end + timedelta(seconds=seconds)
    for trade in trades:
        if not trade.has_open_position:
            continue
        span = {"start": min(max(trade.open_date_utc, start), end), "end": until}
        stop = _price(trade.stop_loss)
        if stop is not None:
            way = (trade.open_rate - stop) * (-1.0 if trade.is_short else 1.0)
            area = {
                "y_start": float(trade.open_rate),
                "y_end": stop,
                "color": AT_RISK if way > 0.0 else SECURED,
            }
            yield {"type": "area", **span, **area}
            yield _line(f"Stop {stop:.8g}", stop, RED, "solid", span)
        price = _price(liquidation(trade))
        if price is not None:
            yield _line(f"Liquidation {price:.8g}", price, ORANGE, "dashed", span)


def _line(label: str, price: float, color: str, style: str, span: dict[str, datetime]) -> dict[str, Any]:
    shape = {"type": "line", "y_start": price, "y_end": price, "width": 2, "line_style": style}
    return {**shape, "label": label, "color": color, **span}


def _price(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) and value > 0.0 else None
