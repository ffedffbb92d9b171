"""One isolated position at the simulated exchange: its margin, its profit and where it is liquidated."""

from __future__ import annotations

from dataclasses import dataclass

from plimsoll.maintenance_tiers import binance_tiers
from plimsoll.rules.answer import Side
from plimsoll.rules.liquidation import MaintenanceTier, liquidation_price, tier_of

Tiers = tuple[MaintenanceTier, ...]

NOTHING = 1e-9  # less than any lot
# For pairs that Freqtrade's table does not have: those of Binance's smallest coins.
_OTHER_TIERS: Tiers = (
    MaintenanceTier(0.0, 5_000.0, 0.015, 0.0, 50.0),
    MaintenanceTier(5_000.0, 10_000.0, 0.02, 25.0, 25.0),
    MaintenanceTier(10_000.0, 30_000.0, 0.025, 75.0, 20.0),
    MaintenanceTier(30_000.0, 60_000.0, 0.05, 825.0, 10.0),
    MaintenanceTier(60_000.0, 3_000_000.0, 0.1, 3_825.0, 5.0),
)


@dataclass
class Position:
    """Hold what one symbol has: settings, amount and isolated margin.

    ``amount`` is in base currency and negative for a short; ``isolated_wallet`` is the margin set aside for
    it in stake currency, profit not included. Leverage 20 and cross margin are what a new account has.
    """

    leverage: int = 20
    isolated: bool = False
    amount: float = 0.0
    entry_price: float = 0.0
    isolated_wallet: float = 0.0
    updated_ms: int = 0

    @property
    def is_open(self) -> bool:
        """Return whether there is anything in it."""
        return abs(self.amount) > NOTHING

    @property
    def side(self) -> Side:
        """Return the direction; of no use while nothing is open."""
        return "long" if self.amount > 0 else "short"

    def profit(self, price: float) -> float:
        """Return the open profit at a price, stake currency, fees left out."""
        return self.amount * (price - self.entry_price)

    def initial_margin(self, mark: float) -> float:
        """Return the notional at the mark price over the leverage."""
        return abs(self.amount) * mark / self.leverage

    def maintenance_margin(self, mark: float, tiers: Tiers) -> float:
        """Return what must be left of the margin, at the tier of the notional at the mark price."""
        notional = abs(self.amount) * mark
        tier = tier_of(tiers, notional) or tiers[-1]
        return notional * tier.mmr - tier.maintenance_amount

    def is_liquidated(self, mark: float, tiers: Tiers) -> bool:
        """Return whether margin and open profit no longer exceed the maintenance margin."""
        if not self.is_open:
            return False
        return self.isolated_wallet + self.profit(mark) <= self.maintenance_margin(mark, tiers)

    def liquidation_price(self, tiers: Tiers) -> float:
        """Return the mark price at which it is liquidated, 0 where there is none."""
        if not self.is_open or self.isolated_wallet <= 0.0:
            return 0.0
        price = liquidation_price(
            side=self.side,
            open_rate=self.entry_price,
            amount=abs(self.amount),
            margin=self.isolated_wallet,
            tiers=tiers,
            buffer=0.0,
        )
        return price if price > 0.0 else 0.0

    def bankruptcy_price(self) -> float:
        """Return the price at which the margin is used up, at least 0."""
        return max(0.0, self.entry_price - self.isolated_wallet / self.amount)

    def fill(self, quantity: float, price: float) -> float:
        """Take a fill, negative for a sale, and return the profit it realises.

        What is added brings ``price * quantity / leverage`` of margin along; what is closed releases its
        share. A fill larger than the position turns it round.
        """
        closed = 0.0
        realised = 0.0
        if self.is_open and self.amount * quantity < 0:
            closed = min(abs(quantity), abs(self.amount))
            sign = 1.0 if self.amount > 0 else -1.0
            realised = sign * closed * (price - self.entry_price)
            self.isolated_wallet *= 1.0 - closed / abs(self.amount)
            self.amount = _exact(self.amount - sign * closed)
            if not self.is_open:
                self.amount = self.entry_price = self.isolated_wallet = 0.0
        added = abs(quantity) - closed
        if added > NOTHING:
            held = abs(self.amount)
            self.entry_price = (held * self.entry_price + added * price) / (held + added)
            self.isolated_wallet += added * price / self.leverage
            self.amount = _exact(self.amount + (added if quantity > 0 else -added))
        return realised

    def set_leverage(self, leverage: int) -> None:
        """Change the leverage; an open position's margin changes by the difference in initial margin."""
        if self.is_open:
            notional = abs(self.amount) * self.entry_price
            self.isolated_wallet += notional / leverage - notional / self.leverage
        self.leverage = leverage


def leverage_tiers(pair: str) -> Tiers:
    """Return a pair's maintenance tiers as Freqtrade brings them along, else those of a small coin."""
    return binance_tiers().get(pair) or _OTHER_TIERS


def _exact(amount: float) -> float:
    # Sums of lots such as 0.1 + 0.2 are multiples of a lot again.
    return round(amount, 10)
