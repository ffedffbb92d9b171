"""A seeded market of correlated USDT-margined perpetual futures.

Per 5-minute bar t and pair i, in log prices, with z standard normal:

- return: r_i = sigma_i / sqrt(288) * (rho_i s sqrt(m) z + sqrt(1 - rho_i^2) s_i sqrt(m_i) z_i) + jumps +
  drift; one common factor, one term of the pair's own; sigma_i is the daily volatility, rho_i^2 the factor's
  share.
- fat tails: m is inverse gamma with mean 1, so sqrt(m) z is Student t with 4 degrees of freedom,
  cut off at m = 16.
- volatility: log s = Markov regime (quiet, normal, stormy) + slow + fast AR(1) + hour of day, E[s^2] = 1; s_i
  shares part of s. Long memory is approximated by the sum of components, as in Corsi's HAR (2009).
- jumps: compound Poisson, normal sizes (Merton 1976), some hit every pair, some a single one.
- drift: -1/2 of the conditional variance, so no simple return is expected beyond the trend, a Markov chain of
  up, none and down. Persistence of the trend is the only edge in this market.
- bar range: the exact marginal laws of maximum and minimum of a Brownian bridge from open to close.
- volume: proportional to the bar's log range, times log-normal noise.
- one flash crash: every pair gaps and falls at 20:55 UTC of a random day, is deepest in the bar opening at
  21:00 (so the gap shows in 1h candles too) and wins back 60 % of the log fall; volatility stays raised for a
  day.
- funding: 0.01 % per 8 h plus the premium beyond a dead band, as Binance computes it; the premium follows the
  return of the past three days and an AR(1). The rate is clipped to +-0.75 %.
- mark price: exponential smoothing of the 5-minute candles; it does not reach the depth of the crash.

The aims are the facts of Cont (2001): fat tails, no autocorrelation of returns, slow decay of that of
absolute returns. Sizes were set by comparison with hourly Binance candles of 2023 and 2024
(`test_stylised_facts.py`).

Not modelled: order books, spreads and market impact; the leverage effect; correlation that rises in storms
other than the crash; a second crash; listings, delistings and outages; weekends; basis between mark and last
beyond the smoothing; cascades caused by anyone's own positions. High and low of a bar are drawn independently
of each other.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

BARS_PER_DAY = 288
BARS_PER_HOUR = 12
BARS_PER_FUNDING = 96
FUNDING_BASE_RATE = 0.0001
FUNDING_LIMIT_RATE = 0.0075

_CRASH_BAR_OF_DAY = 20 * BARS_PER_HOUR + 11
# Per bar: open, high, low, close as shares of the log fall; from a close to the next open is the gap.
_CRASH_SHAPE = np.array([(0.12, 0.08, 0.40, 0.30), (0.55, 0.45, 1.00, 0.72), (0.60, 0.46, 0.78, 0.52)])
_CRASH_LASTING_SHARE = 0.40


@dataclass(frozen=True, kw_only=True)
class PairModel:
    """Describe one simulated pair.

    Attributes:
        pair: name in ccxt notation.
        start_price: first open, quote currency.
        price_decimals: prices are multiples of 10^-price_decimals.
        daily_volatility: standard deviation of a day's log return, outside jumps and crash.
        market_correlation: correlation of the pair's return with the common factor, 0 to 1.
        crash_depth: fall of the price at the bottom of the flash crash, ratio, 0.2 to 0.6.
        daily_quote_volume: mean turnover of a day, quote currency.
    """

    pair: str
    start_price: float
    price_decimals: int
    daily_volatility: float
    market_correlation: float
    crash_depth: float
    daily_quote_volume: float


@dataclass(frozen=True)
class MarketData:
    """Hold one pair's data as Freqtrade keeps it: columns date (UTC), open, high, low, close, volume.

    `funding` has a row each 00:00, 08:00 and 16:00 UTC with the rate in `open`. `crash_start` is the date of
    the 5m candle in which the flash crash begins, None without one.
    """

    candles_5m: pd.DataFrame
    candles_1h: pd.DataFrame
    mark_1h: pd.DataFrame
    funding: pd.DataFrame
    crash_start: datetime | None


def _pair(
    name: str, price: float, decimals: int, volatility: float, rho: float, depth: float, turnover: float
) -> PairModel:
    return PairModel(
        pair=f"{name}/USDT:USDT",
        start_price=price,
        price_decimals=decimals,
        daily_volatility=volatility,
        market_correlation=rho,
        crash_depth=depth,
        daily_quote_volume=turnover,
    )


DEFAULT_PAIRS = (
    _pair("BTC", 30_000.0, 1, 0.023, 0.91, 0.24, 13.4e9),
    _pair("ETH", 1_800.0, 2, 0.026, 0.95, 0.30, 6.3e9),
    _pair("LTC", 80.0, 2, 0.034, 0.76, 0.42, 3.7e8),
    _pair("SUI", 1.2, 4, 0.055, 0.64, 0.52, 3.0e8),
    _pair("1000PEPE", 0.004, 7, 0.075, 0.63, 0.56, 6.2e8),
)


def simulate_market(
    seed: int,
    days: int,
    start: datetime,
    pairs: Sequence[PairModel] | None = None,
    *,
    flash_crash: bool = True,
) -> dict[str, MarketData]:
    """Simulate `days` days of every pair (default: `DEFAULT_PAIRS`) from `start`, a midnight in UTC.

    The same arguments give identical frames. Each pair draws from its own stream, so that adding or leaving
    out a pair does not change the others.
    """
    if start.utcoffset() != timedelta(0) or start.time() != time():
        raise ValueError(f"`start` must be a midnight in UTC, was {start.isoformat()}")
    if days < 1:
        raise ValueError(f"`days` must be at least 1, was {days}")
    models = DEFAULT_PAIRS if pairs is None else pairs
    market = _Market(np.random.default_rng(seed), days, flash_crash)
    return {
        model.pair: _simulate_pair(
            np.random.default_rng([seed, zlib.crc32(model.pair.encode())]), model, market, start
        )
        for model in models
    }


class _Market:
    # What all pairs share: the crash, the factor's returns and their variance, in units of the daily sigma.
    def __init__(self, rng: np.random.Generator, days: int, flash_crash: bool) -> None:
        n = days * BARS_PER_DAY
        self.bars = n
        crash_day = int(rng.integers(int(0.4 * days), max(int(0.8 * days), 1)))
        severity = rng.uniform(0.95, 1.05)
        self.severity = severity if flash_crash else 0.0
        self.crash_bar = crash_day * BARS_PER_DAY + _CRASH_BAR_OF_DAY if flash_crash else None

        self.seasonal_log_vol = 0.25 * np.cos(2 * np.pi * (np.arange(n) / BARS_PER_DAY - 15 / 24))
        self.slow_log_vol = _markov(rng, n, 4.0, (-0.4, 0.0, 0.45)) + 0.22 * _ar1(rng, n, 2 * BARS_PER_DAY)
        self.fast_log_vol = 0.45 * _ar1(rng, n, 24)
        variance = self.variance(self.slow_log_vol + self.fast_log_vol) * _tail_mixing(rng, n)
        self.factor_variance = variance + _jump_variance(rng, n)
        self.factor = np.sqrt(self.factor_variance) * rng.standard_normal(n)
        self.factor += _markov(rng, n, 8.0, (-0.15, 0.0, 0.15)) / BARS_PER_DAY

    def variance(self, log_vol: Floats) -> Floats:
        variance = np.exp(2 * (log_vol + self.seasonal_log_vol))
        variance /= variance.mean() * BARS_PER_DAY
        if self.crash_bar is not None:
            since = np.arange(self.bars - self.crash_bar)
            variance[self.crash_bar :] *= (1 + 2 * 0.5 ** (since / 72)) ** 2
        return variance


def _simulate_pair(
    rng: np.random.Generator, model: PairModel, market: _Market, start: datetime
) -> MarketData:
    n, sigma, rho = market.bars, model.daily_volatility, model.market_correlation
    own_log_vol = 0.7 * market.slow_log_vol + 0.5 * market.fast_log_vol
    own_log_vol = own_log_vol + 0.25 * _ar1(rng, n, 2 * BARS_PER_DAY) + 0.4 * _ar1(rng, n, 24)
    own_variance = market.variance(own_log_vol) * _tail_mixing(rng, n) + _jump_variance(rng, n)
    own = np.sqrt(own_variance) * rng.standard_normal(n)

    variance = sigma**2 * (rho**2 * market.factor_variance + (1 - rho**2) * own_variance)
    log_returns = sigma * (rho * market.factor + np.sqrt(1 - rho**2) * own) - variance / 2
    if market.crash_bar is not None:
        log_returns[market.crash_bar : market.crash_bar + len(_CRASH_SHAPE)] = 0.0
    log_ohlc = np.log(model.start_price) + _log_ohlc(rng, log_returns, variance)
    if market.crash_bar is not None:
        _add_crash(log_ohlc, market.crash_bar, float(np.log1p(-model.crash_depth * market.severity)))

    # Clipping at one tick only guards against a price of zero; rounding keeps the order of the four prices.
    prices = np.maximum(np.round(np.exp(log_ohlc), model.price_decimals), 10.0**-model.price_decimals)
    activity = (log_ohlc[:, 1] - log_ohlc[:, 2]) * np.exp(0.35 * rng.standard_normal(n))
    quote_volume = model.daily_quote_volume * activity / activity.mean() / BARS_PER_DAY
    volume = np.maximum(np.round(quote_volume / prices[:, 3], 3), 0.001)

    candles_5m = _frame(start, "5min", prices, volume)
    smooth = candles_5m[["open", "high", "low", "close"]].ewm(alpha=0.25, adjust=False).mean().to_numpy()
    mark_5m = _frame(start, "5min", np.round(smooth, model.price_decimals + 2), np.zeros(n))
    rates = _funding_rates(rng, log_ohlc[:, 3], sigma)
    rates_and_zeros = np.column_stack([rates, np.zeros((len(rates), 3))])
    return MarketData(
        candles_5m=candles_5m,
        candles_1h=_hourly(candles_5m),
        mark_1h=_hourly(mark_5m),
        funding=_frame(start, "8h", rates_and_zeros, np.zeros(len(rates))),
        crash_start=None if market.crash_bar is None else start + market.crash_bar * timedelta(minutes=5),
    )


def _log_ohlc(rng: np.random.Generator, log_returns: Floats, variance: Floats) -> Floats:
    closes = np.cumsum(log_returns)
    opens = closes - log_returns
    opens[1:] = closes[:-1]
    reach = -2 * variance * np.log1p(-rng.random((2, len(closes))))
    span = np.sqrt((closes - opens) ** 2 + reach)
    return np.column_stack([opens, (opens + closes + span[0]) / 2, (opens + closes - span[1]) / 2, closes])


def _add_crash(log_ohlc: Floats, bar: int, log_fall: float) -> None:
    before = log_ohlc[bar - 1, 3]
    crash = slice(bar, bar + len(_CRASH_SHAPE))
    after = np.arange(len(log_ohlc) - crash.stop + 1)
    share = _CRASH_LASTING_SHARE + (_CRASH_SHAPE[-1, 3] - _CRASH_LASTING_SHARE) * 0.5 ** (after / 6)
    opens, closes = share[:-1], share[1:]
    shares = [opens, np.minimum(opens, closes), np.maximum(opens, closes), closes]
    log_ohlc[crash.stop :] += log_fall * np.column_stack(shares)
    log_ohlc[crash] = before + log_fall * _CRASH_SHAPE


def _funding_rates(rng: np.random.Generator, log_closes: Floats, sigma: float) -> Floats:
    # Known at a funding date: the closes before it.
    known = np.concatenate([log_closes[:1], log_closes[BARS_PER_FUNDING - 1 : -1 : BARS_PER_FUNDING]])
    past = np.concatenate([np.repeat(known[:1], 9), known])[: len(known)]
    momentum = (known - past) / (sigma * np.sqrt(3))
    premium = 0.0065 * sigma * (0.3 * momentum + 0.95 * _ar1(rng, len(known), 4))
    dead_band = 0.5 * 0.0065 * sigma
    beyond = np.sign(premium) * np.maximum(np.abs(premium) - dead_band, 0.0)
    return np.round(np.clip(FUNDING_BASE_RATE + beyond, -FUNDING_LIMIT_RATE, FUNDING_LIMIT_RATE), 8)


def _ar1(rng: np.random.Generator, n: int, half_life: float) -> Floats:
    # Stationary, unit variance. ewm is the recursion y = (1 - alpha) y + alpha x without a Python loop.
    alpha = 1 - 0.5 ** (1 / half_life)
    shocks = rng.standard_normal(n)
    shocks[1:] *= np.sqrt(1 - (1 - alpha) ** 2) / alpha
    return cast(Floats, pd.Series(shocks).ewm(alpha=alpha, adjust=False).mean().to_numpy())


def _markov(rng: np.random.Generator, n: int, mean_days: float, levels: Sequence[float]) -> Floats:
    switches = rng.random(n) < 1 / (mean_days * BARS_PER_DAY)
    spells: Floats = rng.choice(np.asarray(levels, dtype=np.float64), size=int(switches.sum()) + 1)
    return spells[np.cumsum(switches)]


def _tail_mixing(rng: np.random.Generator, n: int, degrees: int = 4) -> Floats:
    # The cap keeps a single draw from being a second flash crash.
    return cast(Floats, np.minimum((degrees - 2) / rng.chisquare(degrees, n), 16.0))


def _jump_variance(rng: np.random.Generator, n: int) -> Floats:
    return (rng.poisson(0.07 / BARS_PER_DAY, n) * 1.2**2).astype(np.float64)


def _frame(start: datetime, step: str, prices: Floats, volume: Floats) -> pd.DataFrame:
    dates = pd.date_range(start, periods=len(prices), freq=step, unit="ms", name="date", tz="UTC")
    frame = pd.DataFrame(prices, columns=["open", "high", "low", "close"])
    frame.insert(0, "date", dates)
    frame["volume"] = volume
    return frame


def _hourly(candles_5m: pd.DataFrame) -> pd.DataFrame:
    # A simulation covers whole days, so every hour has its twelve rows.
    def blocks(column: str) -> Floats:
        return cast(Floats, candles_5m[column].to_numpy().reshape(-1, BARS_PER_HOUR))

    opens, closes = blocks("open")[:, 0], blocks("close")[:, -1]
    prices = np.column_stack([opens, blocks("high").max(axis=1), blocks("low").min(axis=1), closes])
    return _frame(candles_5m["date"].iloc[0], "1h", prices, blocks("volume").sum(axis=1))
