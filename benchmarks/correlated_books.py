"""Books of correlated positions: what they were sized for, and how volatile they were."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from plimsoll.rules.correlation import correlation_factor, ewma_correlation, mean_correlation_factor
from plimsoll.rules.volatility import blended_volatility

FloatArray = npt.NDArray[np.float64]
Forecast = Callable[[list[int], FloatArray, int], float]

PAIRS = ("BTC", "ETH", "LTC", "SUI", "1000PEPE")
DATA = Path(__file__).parents[2] / "shared" / "data" / "binance"
EACH, BUDGET = 0.01, 0.02  # of equity, a day
WINDOW = 720
DAY = 24
MOST = 8  # positions in a book
EVERY, LASTS = 48.0, 48.0
SIDES = {"all long": 1.0, "3:1 long": 0.75, "random sides": 0.5}


@dataclass(frozen=True)
class Method:
    """Name one way to size a new position by what is held."""

    name: str
    rule: str  # none, mean, marginal
    shrink: float = 0.25
    skip: float = 0.25
    floor: float = 0.0


METHODS = (
    Method("none", "none"),
    Method("mean, floor 25 % (published)", "mean"),
    Method("marginal, floor 25 %", "marginal", shrink=0.0, skip=0.0, floor=0.25),
    Method("marginal, skip", "marginal", shrink=0.0),
    Method("marginal, skip, shrink (default)", "marginal"),
)
NONE, MEAN, MARGINAL = METHODS[0], METHODS[1], METHODS[-1]


class World:
    """Hold hourly returns and forecasts of some pairs on one clock; correlations are measured when asked for."""

    def __init__(self, closes: pd.DataFrame) -> None:
        """Take 1h closes, a column per pair, by opening time in UTC; NaN before a pair is listed."""
        self.begins, self.ends = closes.index[0], closes.index[-1]
        self.pairs = list(closes.columns)
        self.hour = closes.index.hour.to_numpy()
        prices = closes.to_numpy(dtype=np.float64)
        self.returns = np.vstack([np.full(prices.shape[1], np.nan), np.diff(np.log(prices), axis=0)])
        self.simple = np.expm1(self.returns)
        self.sigma = np.column_stack([blended_volatility(column, min_hours=WINDOW) for column in prices.T])
        self._correlations: dict[int, FloatArray] = {}

    def correlation(self, now: int) -> FloatArray:
        """Return the correlation matrix that is known at the close of hour ``now``."""
        if now not in self._correlations:
            self._correlations[now] = ewma_correlation(self.returns[max(0, now - WINDOW + 1) : now + 1])
        return self._correlations[now]

    def known(self, now: int) -> list[int]:
        """Return the pairs with a forecast and with returns for the next day."""
        ahead = self.returns[now + 1 : now + 1 + DAY]
        if len(ahead) < DAY:
            return []
        usable = (self.sigma[now] > 0.0) & np.isfinite(ahead).all(axis=0)
        return list(np.flatnonzero(usable))

    def realised(self, book: list[int], weights: FloatArray, now: int) -> float:
        """Return the volatility of the next 24 hours of a book; weights are signed, notional / equity."""
        hourly = self.simple[now + 1 : now + 1 + DAY][:, book] @ weights
        return math.sqrt(float(hourly @ hourly))


def real_world(data: Path, end: str = "2024-06-01") -> World:
    """Read the 1h futures candles of the five pairs from Freqtrade's data directory."""
    columns = {}
    for pair in PAIRS:
        frame = pd.read_feather(
            data / "futures" / f"{pair}_USDT_USDT-1h-futures.feather", columns=["date", "close"]
        )
        columns[pair] = frame.set_index("date")["close"]
    closes = pd.DataFrame(columns).sort_index()
    return World(closes[closes.index < pd.Timestamp(end, tz="UTC")].asfreq("1h"))


def simulated_world(seed: int = 1, days: int = 240, alts: int = 7) -> World:
    """Simulate the five pairs and some alts that move much with the market, more pairs than a book holds."""
    from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

    more = [
        replace(
            DEFAULT_PAIRS[2], pair=f"ALT{number}/USDT:USDT", market_correlation=0.80, daily_volatility=0.045
        )
        for number in range(1, alts + 1)
    ]
    market = simulate_market(seed, days, datetime(2024, 1, 1, tzinfo=UTC), (*DEFAULT_PAIRS, *more))
    return World(
        pd.DataFrame({pair: data.candles_1h.set_index("date")["close"] for pair, data in market.items()})
    )


def size(world: World, method: Method, held: Mapping[int, float], pair: int, side: int, now: int) -> float:
    """Return the share of a position that a method takes, beside what is held (pair -> signed notional / equity)."""
    if method.rule == "none":
        return 1.0
    book, rho = list(held), world.correlation(now)
    if method.rule == "mean":
        return mean_correlation_factor(correlations=rho[pair, book], floor=0.25).value or 0.0
    weights = np.array([held[each] for each in book])
    answer = correlation_factor(
        held_volatility=np.abs(weights) * world.sigma[now, book],
        held_side=np.sign(weights),
        held_correlation=rho[np.ix_(book, book)],
        new_correlation=rho[pair, book],
        new_side=side,
        new_volatility=EACH,
        budget=BUDGET,
        shrink=method.shrink,
        skip_below=method.skip,
    )
    return max(answer.value or 0.0, method.floor)


# -- Books at one moment -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """Hold errors as root mean squares of log ratios; ``used`` are means of realised volatility / budget."""

    books: int
    above: int
    forecast: Mapping[str, float]
    error: Mapping[str, float]
    used: Mapping[str, float]


def targets(world: World, long_share: float, *, seed: int = 7, step: int = 8, per_moment: int = 2) -> Target:
    """Draw books at every ``step``-th hour, and compare what was aimed at with what came."""
    generator = np.random.default_rng(seed)
    forecasts: dict[str, list[float]] = {"ignored": [], "measured": []}
    errors: dict[str, list[float]] = {
        name: [] for name in ("none", "mean", "B / sigma", "mean 1by1", "marginal 1by1")
    }
    for now in range(WINDOW, len(world.returns) - DAY, step):
        known = world.known(now)
        for _ in range(per_moment if len(known) >= 2 else 0):
            book = list(generator.permutation(known)[: generator.integers(2, min(len(known), MOST) + 1)])
            sides = np.where(generator.random(len(book)) < long_share, 1.0, -1.0)
            full = sides * EACH / world.sigma[now, book]
            rho = world.correlation(now)[np.ix_(book, book)]
            came = world.realised(book, full, now)
            forecast = EACH * math.sqrt(max(float(sides @ rho @ sides), 1e-12))
            forecasts["ignored"].append(math.log(came / (EACH * math.sqrt(len(book)))))
            forecasts["measured"].append(math.log(came / forecast))
            if forecast <= BUDGET:
                continue
            among = rho[np.triu_indices(len(book), 1)]
            shares = {
                "none": np.ones(len(book)),
                "mean": np.full(len(book), 1.0 - 0.75 * max(float(among.mean()), 0.0)),
                "B / sigma": np.full(len(book), min(max(BUDGET / forecast, 0.25), 1.0)),
                "mean 1by1": one_by_one(world, MEAN, book, full, now),
                "marginal 1by1": one_by_one(world, MARGINAL, book, full, now),
            }
            for name, share in shares.items():
                errors[name].append(math.log(world.realised(book, share * full, now) / BUDGET))
    return Target(
        books=len(forecasts["ignored"]),
        above=len(errors["none"]),
        forecast={name: _rms(values) for name, values in forecasts.items()},
        error={name: _rms(values) for name, values in errors.items()},
        used={name: float(np.exp(values).mean()) for name, values in errors.items()},
    )


def one_by_one(world: World, method: Method, book: list[int], full: FloatArray, now: int) -> FloatArray:
    """Build a book as a bot does, each position sized beside those before it; return the shares."""
    held: dict[int, float] = {}
    shares = np.zeros(len(book))
    for place, pair in enumerate(book):
        shares[place] = size(world, method, held, pair, 1 if full[place] > 0.0 else -1, now)
        if shares[place] > 0.0:
            held[pair] = shares[place] * full[place]
    return shares


def _rms(values: Iterable[float]) -> float:
    return math.sqrt(float(np.mean(np.square(list(values)))))


# -- Books that come and go --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Days:
    """Hold what the days with a position were like, all as ratios; ``worst`` is the 99.9 % quantile of a day's loss / budget."""

    days: int
    positions: float
    taken: float
    used: float
    above: float
    losses: float
    worst: float


def arrivals(world: World, method: Method, long_share: float, *, seed: int = 11, runs: int = 3) -> Days:
    """Let signals come and go; every method sees the same signals, and a refused one is gone."""
    volatility, loss, counts = list[float](), list[float](), list[int]()
    asked = taken = 0
    for run in range(runs):
        generator = np.random.default_rng([seed, run])
        signals = generator.random(world.returns.shape) < 1.0 / EVERY
        lasts = generator.geometric(1.0 / LASTS, world.returns.shape)
        sides = np.where(generator.random(world.returns.shape) < long_share, 1, -1)
        held, until = dict[int, float](), dict[int, int]()
        returns = list[float]()
        at_start = 0
        for now in range(WINDOW, len(world.returns)):
            made = sum(weight * world.simple[now, pair] for pair, weight in held.items())
            if world.hour[now] == 0:  # the candle that opens at midnight is the first of its day
                if at_start and len(returns) == DAY:
                    volatility.append(math.sqrt(math.fsum(each * each for each in returns)) / BUDGET)
                    loss.append(-math.fsum(returns) / BUDGET)
                    counts.append(at_start)
                returns, at_start = [], len(held)
            returns.append(made)
            held = {pair: weight for pair, weight in held.items() if until[pair] > now}
            for pair in np.flatnonzero(signals[now]):
                if pair in held or len(held) >= MOST or not world.sigma[now, pair] > 0.0:
                    continue
                side = int(sides[now, pair])
                share = size(world, method, held, int(pair), side, now)
                asked, taken = asked + 1, taken + (share > 0.0)
                if share > 0.0:
                    held[int(pair)] = side * share * EACH / world.sigma[now, pair]
                    until[int(pair)] = now + int(lasts[now, pair])
    came, lost = np.array(volatility), np.array(loss)
    return Days(
        days=len(came),
        positions=float(np.mean(counts)),
        taken=taken / asked,
        used=float(came.mean()),
        above=float((came > 1.5).mean()),
        losses=float((lost > 2.0).mean()),
        worst=float(np.quantile(lost, 0.999)),
    )
