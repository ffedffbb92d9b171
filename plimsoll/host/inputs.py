"""What the plan needs to know of a pair's market: volatility, ATR, funding, fee, tiers, last rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from freqtrade.enums import TradingMode
from freqtrade.exceptions import OperationalException
from freqtrade.exchange import timeframe_to_seconds
from freqtrade.strategy import IStrategy
from pandas import DataFrame

from plimsoll.host import internals, sources
from plimsoll.host.boundary import Complaints
from plimsoll.host.candles import (
    HOUR,
    REQUIRED_HOURS,
    FundingRates,
    HourlyCandles,
    Reading,
    Series,
    closes,
    epoch_seconds,
    funding_rates,
    hourly,
)
from plimsoll.host.correlations import Correlations
from plimsoll.maintenance_tiers import tier_of_freqtrade
from plimsoll.plan import Held, Market
from plimsoll.rules.exposure import OpenPosition
from plimsoll.rules.liquidated import Signal
from plimsoll.rules.liquidation import MaintenanceTier
from plimsoll.settings import Settings

SETTLEMENTS_PER_DAY = 3.0
FUNDING_STALE_AFTER = 2 * 24 * HOUR
NOTHING_HELD = Held()


class Inputs:
    """Keep each pair's series, computed when Freqtrade analyses the pair, and answer for a moment in time."""

    def __init__(self, strategy: IStrategy, settings: Settings, complaints: Complaints) -> None:
        self._strategy = strategy
        self._settings = settings
        self._complaints = complaints
        self._timeframe: tuple[str, int] = ("", 0)
        self._last_rates: tuple[int, dict[str, float | None]] = (0, {})
        self._hourly: dict[str, HourlyCandles] = {}
        self._hours_known: dict[str, tuple[Any, ...]] = {}  # what the series were computed from
        self._correlations = Correlations(settings)
        self._closes: dict[str, Series] = {}
        self._funding: dict[str, FundingRates] = {}
        self._grid = 0  # seconds that every settlement is a multiple of
        self._signals: dict[str, Series] = {}
        self._tiers: dict[str, tuple[MaintenanceTier, ...]] = {}
        self._fees: dict[str, float] = {}

    @property
    def spot(self) -> bool:
        return bool(self._strategy.config.get("trading_mode", TradingMode.SPOT) == TradingMode.SPOT)

    @property
    def _seconds(self) -> int:
        # A config's timeframe replaces the strategy's after it was made, so it is the name that is remembered.
        name, seconds = self._timeframe
        if name != self._strategy.timeframe:
            name = self._strategy.timeframe
            seconds = timeframe_to_seconds(name)
            self._timeframe = (name, seconds)
        return seconds

    @property
    def _wants_funding(self) -> bool:
        return not self.spot and "funding" not in self._settings.off

    def required_startup(self) -> int:
        """Return how many candles of the strategy's timeframe Freqtrade has to load.

        A 1h strategy's own candles are the risk inputs. Another's come as informative candles, of which a trading bot loads as
        many as of the strategy's; offline they are read from the files, whatever the start-up count.
        """
        if self._seconds == HOUR or internals.is_live_or_dry(self._strategy.config):
            return REQUIRED_HOURS
        return 0

    def informative_pairs(self) -> list[Any]:
        """Return the pairs and timeframes that a trading bot has to keep up to date for us."""
        strategy = self._strategy
        if strategy.dp is None or not internals.is_live_or_dry(strategy.config):
            return []
        found: list[Any] = []
        for pair in strategy.dp.current_whitelist():
            if self._seconds != HOUR:
                found.append((pair, "1h"))
            if self._wants_funding:
                found.append((pair, sources.funding_timeframe(strategy), "funding_rate"))
        return found

    def prepare(self, pair: str, frame: DataFrame) -> None:
        """Compute a pair's series from untouched candles of the strategy's timeframe.

        :raises OperationalException: offline, where candles or funding are missing: better no backtest than a neutral number.
        """
        seconds = self._seconds
        hours = frame if seconds == HOUR else sources.hourly_frame(self._strategy, pair)
        if hours.empty:
            self._hourly.pop(pair, None)
            self._hours_known.pop(pair, None)
            timeframes = f"{self._strategy.timeframe} 1h"
            self._missing(
                pair,
                f"there are no 1h candles of {pair}; stops and sizes need 31 days of them."
                f" Get them: freqtrade download-data --timeframes {timeframes}",
            )
            return
        self._last_rates = (0, {})
        self._prepare_hours(pair, hours)
        self._closes[pair] = closes(frame, seconds) if seconds <= HOUR else closes(hours, HOUR)
        if self._wants_funding:
            self._prepare_funding(pair)

    def _prepare_hours(self, pair: str, hours: DataFrame) -> None:
        # A 5m strategy is analysed twelve times an hour.
        last = hours.iloc[-1]
        known = (len(hours), last["date"], last["close"], last["high"], last["low"], hours["close"].iloc[0])
        if self._hours_known.get(pair) == known:
            return
        made = self._hourly[pair] = hourly(hours, self._settings)
        self._hours_known[pair] = known
        if "correlation" not in self._settings.off:
            self._correlations.add(pair, made.times, made.close)

    def _prepare_funding(self, pair: str) -> None:
        if pair in self._funding and not internals.is_live_or_dry(self._strategy.config):
            return  # the files do not change under a backtest
        frame = sources.funding_frame(self._strategy, pair)
        if not frame.empty:
            self._funding[pair] = funding_rates(frame)
            self._grid = math.gcd(self._grid, self._funding[pair].grid)
        elif self._strategy.config.get("futures_funding_rate") is None:
            self._missing(
                pair,
                f"there are no funding rates of {pair}; Freqtrade would take them as 0. Get them: freqtrade download-data"
                ' --trading-mode futures, or state futures_funding_rate in the config, or plimsoll: {"off": ["funding"]}',
            )

    def _missing(self, pair: str, message: str) -> None:
        if not internals.is_live_or_dry(self._strategy.config):
            raise OperationalException(f"Plimsoll: {message}")
        self._complaints.about(f"data {pair}", message)

    def hours(self, pair: str) -> HourlyCandles | None:
        """Return the pair's 1h series as last prepared; none before, and where its candles are missing."""
        return self._hourly.get(pair)

    def reading(self, pair: str, now: int) -> Reading | None:
        """Return what the pair's 1h candles said last; none where they are missing or stale."""
        series = self._hourly.get(pair)
        return None if series is None else series.at(now)

    def market(self, pair: str, now: int, exchange_maximum: float) -> Market:
        """Return the plan's view of a pair; what is not known is NaN."""
        reading = self.reading(pair, now)
        nan = math.nan
        return Market(
            atr=reading.atr if reading else nan,
            sigma_day=reading.sigma_day if reading else nan,
            daily_range=reading.daily_range if reading else nan,
            fee=self.fee(pair),
            exchange_maximum=exchange_maximum,
            liquidation_buffer=self.buffer(),
            tiers=None if self.spot else self.tiers(pair),
            funding_per_day=self._expected_funding(pair, now) if self._wants_funding else 0.0,
        )

    def held(self, pair: str, positions: Sequence[OpenPosition], equity: float, now: int) -> Held | None:
        """Return what is held in terms of risk, for an entry in a pair; None where the correlation sizer is off."""
        if "correlation" in self._settings.off:
            return None
        if not positions:
            return NOTHING_HELD
        toward, among = self._correlations.between(pair, [position.pair for position in positions], now)
        volatility = [self._sigma_day(p.pair, now) * p.notional / equity for p in positions]
        return Held(volatility, [1 if p.side == "long" else -1 for p in positions], toward, among)

    def _sigma_day(self, pair: str, now: int) -> float:
        series = self._hourly.get(pair)
        place = None if series is None else series.place(now)
        return math.nan if series is None or place is None else series.sigma_day.item(place)

    def last_rate(self, pair: str, now: int) -> float | None:
        """Return the close that values an open position; none where it is missing or stale."""
        if self._last_rates[0] != now:
            self._last_rates = (now, {})
        known = self._last_rates[1]
        if pair not in known:
            known[pair] = self._read_last_rate(pair, now)
        return known[pair]

    def _read_last_rate(self, pair: str, now: int) -> float | None:
        series = self._closes.get(pair)
        if series is None:
            return None
        rate = series.at(now, max(2 * HOUR, 3 * series.seconds))
        return rate if rate is not None and 0.0 < rate < math.inf else None

    def current_rate(self, pair: str, now: int) -> float | None:
        """Return the rate that values an open position now: a trading bot's last exit rate, a backtest's last close."""
        if internals.is_offline():
            return self.last_rate(pair, now)
        rate = internals.cached_exit_rate(self._strategy, pair)
        return self.last_rate(pair, now) if rate is None else rate

    def note_signals(self, pair: str, frame: DataFrame) -> None:
        """Keep which side each candle signals, for pairs that wait for a new signal after a liquidation."""
        sides = np.zeros(len(frame), dtype=np.float64)
        for column, value in (("enter_long", 1.0), ("enter_short", -1.0)):
            if column in frame:
                sides[frame[column].to_numpy() == 1] += value
        self._signals[pair] = Series(epoch_seconds(frame), sides, self._seconds)

    def signal(self, pair: str, now: int) -> Signal | None:
        """Return what the last closed candle of a pair signals; none where it was not analysed yet."""
        series = self._signals.get(pair)
        if series is None:
            return None
        # A trading bot's loop begins before the new candle is analysed: the candle before it must not speak for it.
        candle = now - now % series.seconds - series.seconds
        place = int(series.times.searchsorted(candle))
        side = series.at(now, 2 * series.seconds)
        if side is None or place >= len(series.times) or series.times[place] != candle:
            return None
        return Signal(now, candle, "long" if side > 0 else "short" if side < 0 else None)

    def settlement_near(self, now: int) -> bool:
        """Tell whether funding is settled in the candle before, this one or the next; between settlements nothing is to be done."""
        if not self._grid:
            return False
        return (now + 2 * self._seconds - 1) // self._grid != (now - self._seconds - 1) // self._grid

    def funding_ahead(self, pair: str, now: int) -> float:
        """Return the funding rate expected before the stop can be moved again: within this and the next candle."""
        rates = self._funding.get(pair)
        if rates is None:
            return 0.0
        return rates.expected_between(now, now + 2 * self._seconds)

    def tiers(self, pair: str) -> tuple[MaintenanceTier, ...]:
        """Return a pair's maintenance tiers, read once."""
        known = self._tiers.get(pair, ())
        if not known:
            exchange = internals.exchange_of(self._strategy)
            raw = internals.leverage_tiers_of(exchange, pair) if exchange is not None else []
            known = self._tiers[pair] = tuple(map(tier_of_freqtrade, raw))
        return known

    def fee(self, pair: str) -> float:
        """Return the fee of one way: the config's, else the dearer of the pair's taker and maker fees, as backtests take it."""
        known = self._fees.get(pair)
        if known is None:
            fee = self._strategy.config.get("fee")
            if fee is None:
                exchange = internals.exchange_of(self._strategy)
                market = exchange.markets.get(pair, {}) if exchange is not None else {}
                offered = [x for x in (market.get("taker"), market.get("maker")) if x is not None]
                fee = max(offered) if offered else math.nan
            known = self._fees[pair] = float(fee)
        return known

    def buffer(self) -> float:
        """Return the share of the way to liquidation that Freqtrade keeps as a buffer."""
        return float(self._strategy.config.get("liquidation_buffer", 0.05))

    def minimum_stake(self, pair: str, rate: float, leverage: float) -> float | None:
        """Return the exchange's minimum for an addition; backtests offer one that leaves leverage out."""
        exchange = internals.exchange_of(self._strategy)
        if exchange is None:
            return None
        found = exchange.get_min_pair_stake_amount(pair, rate, 0.0, leverage=leverage)
        return None if found is None else float(found)

    def _expected_funding(self, pair: str, now: int) -> float:
        series = self._funding.get(pair)
        if series is None:
            constant = self._strategy.config.get("futures_funding_rate")
            return math.nan if constant is None else float(constant) * SETTLEMENTS_PER_DAY
        value = series.expected_per_day(now, FUNDING_STALE_AFTER)
        return math.nan if value is None else value
