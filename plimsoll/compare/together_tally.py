"""What all bots of a portfolio have and take as time goes by, whether or not anything limits them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from plimsoll.rules.exposure import asset_of

_WORTHLESS: Final = 1e-12  # per unit; who joins after that buys units of something


@dataclass(frozen=True, slots=True)
class Course:
    """Hold how all bots did together: ratios are the highest there were, of the capital or, the drawdown, of its peak."""

    profit: float
    drawdown: float
    drawdown_time: float
    margin: float
    asset: float
    asset_name: str
    heat: float


@dataclass(slots=True)
class Tally:
    """Hold what all bots have and take, its highest marks, and their capital per unit as a fund counts it."""

    equity: dict[str, float] = field(default_factory=dict)
    profit: float = 0.0
    _claims: dict[tuple[str, str], tuple[str, float, float]] = field(default_factory=dict)
    _units: float = 0.0
    _price: float = 1.0
    _peak: float = 1.0
    _drawdown: tuple[float, float] = (0.0, math.nan)
    _margin: float = 0.0
    _asset: tuple[float, str] = (0.0, "")
    _heat: float = 0.0

    def join(self, bot: str, balance: float) -> None:
        """Take in a bot and its balance, which is no profit."""
        self._units += balance / self._price
        self.equity[bot] = balance

    def leave(self, bot: str) -> None:
        """Let a bot go with its equity, which is no loss."""
        self._units -= self.equity.pop(bot) / self._price

    def hold(self, bot: str, claim: str, pair: str, margin: float, risk: float) -> None:
        """Add a position."""
        self._claims[bot, claim] = (asset_of(pair), margin, risk)
        self._mark()

    def held(self, bot: str, claim: str) -> tuple[float, float]:
        """Return margin and R of a position."""
        return self._claims[bot, claim][1:]

    def reduce(self, bot: str, trade: str, left: float) -> None:
        """Leave a ratio of a trade's positions."""
        for place in self._of(bot, trade):
            asset, margin, risk = self._claims[place]
            self._claims[place] = (asset, margin * left, risk * left)

    def close(self, time: float, bot: str, trade: str, profit: float) -> None:
        """End a trade's positions and take its profit."""
        for place in self._of(bot, trade):
            del self._claims[place]
        self.equity[bot] += profit
        self.profit += profit
        self._price = max(math.fsum(self.equity.values()) / self._units, _WORTHLESS)
        self._peak = max(self._peak, self._price)
        depth = 1.0 - self._price / self._peak
        if depth > self._drawdown[0]:
            self._drawdown = (depth, time)

    def course(self) -> Course:
        """Return the highest marks so far."""
        return Course(self.profit, *self._drawdown, self._margin, *self._asset, self._heat)

    def _of(self, bot: str, trade: str) -> list[tuple[str, str]]:
        return [place for place in self._claims if place[0] == bot and place[1].startswith(trade)]

    def _mark(self) -> None:
        capital = math.fsum(self.equity.values())
        if not capital > 0.0:
            return
        assets: dict[str, float] = {}
        for asset, margin, _ in self._claims.values():
            assets[asset] = assets.get(asset, 0.0) + margin
        self._margin = max(self._margin, math.fsum(assets.values()) / capital)
        self._heat = max(self._heat, math.fsum(risk for _, _, risk in self._claims.values()) / capital)
        name = max(assets, key=lambda asset: assets[asset])
        if assets[name] / capital > self._asset[0]:
            self._asset = (assets[name] / capital, name)
