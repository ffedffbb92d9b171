"""A guarded live bot on a simulated account whose clock, prices, signals and mishaps are the test's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from stepped_bot import SteppedBot

from plimsoll import journal
from plimsoll.host.runlog import TRADE_DATA
from plimsoll.market.account import SimulatedAccount
from plimsoll.market.clock import WallClock
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.faults import Faults
from plimsoll.market.history import FileHistory
from plimsoll.market.orders import Order, StopOrder
from plimsoll.rules.liquidation import tier_of

BTC, ETH, LTC = PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT", "LTC/USDT:USDT")
SYMBOLS = {BTC: "BTCUSDT", ETH: "ETHUSDT", LTC: "LTCUSDT"}
START = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN = START + timedelta(days=33, hours=1, minutes=2)
WALLET = 10_000.0
PATIENCE = 5.0  # times the seconds that a wait takes at most: another machine may be slow, or busy
# The test tells it what to do, in a file: which pairs signal an entry, and which trades it closes.
STRATEGY = """
import json


def told():
    with open(DIRECTORY + "/told") as file:
        return json.load(file)


class Obedient(Counting):
    timeframe = "1h"
    can_short = True
    stoploss = -0.99
    minimal_roi = {"0": 100}
    process_only_new_candles = False

    def leverage(self, pair, *args, **kwargs):
        return told()["leverage"].get(pair, 2.0)

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        side = told()["enter"].get(metadata["pair"])
        if side:
            dataframe[f"enter_{side}"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        if metadata["pair"] in told()["columns"]:
            dataframe[["exit_long", "exit_short"]] = 1
        return dataframe

    def custom_exit(self, pair, *args, **kwargs):
        return "told" if pair in told()["exit"] else None


class Obeying(Guarded, Obedient):
    pass
"""
# Positions large enough for their margin to matter, and no limit near that is not the test's subject.
LIMITS: dict[str, Any] = {
    "kelly": {"cold_start_risk": 0.02, "min_trades": 1000},
    "risk": {"per_trade": 0.02},
    "volatility": {"budget": 0.1},
    "exposure": {"heat": 0.5, "total_margin": 1.0},
    "correlation": {"budget": 0.2},
    "loss_limit": {"daily": 0.9, "weekly": 0.9},
    "drawdown": {"limit": 0.9},
    "streak": {"losses": 1, "floor": 0.5, "cooldown_losses": 10},
    "gates": {"proving_override": True},
}
OVERRIDES: dict[str, Any] = {
    "order_types": {"emergency_exit": "market", "stoploss_on_exchange": True},
    "ignore_buying_expired_candle_after": 0,
    "plimsoll": LIMITS,
}


class StandingPrices(FileHistory):
    """Tell each pair's price of one moment times a factor, last and mark alike, while the candles go on."""

    def __init__(self, datadir: Path, at: datetime) -> None:
        super().__init__(datadir)
        self.factors: dict[str, float] = {}
        self._at_ms = round(at.timestamp() * 1000)

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        price = super().last_price(pair, now_ms=self._at_ms)
        return None if price is None else round(price * self.factors.get(pair, 1.0), 6)

    def mark_price(self, pair: str, *, now_ms: int) -> float | None:
        return self.last_price(pair, now_ms=now_ms)


class GuardedLiveBot(SteppedBot):
    """A `SteppedBot` that trades live, and what is at its other end."""

    def __init__(
        self,
        exchange: LoopbackExchange,
        directory: Path,
        clock: WallClock,
        prices: StandingPrices,
        faults: Faults,
        **options: Any,
    ) -> None:
        directory.mkdir(parents=True)
        self._told: dict[str, Any] = {"enter": {}, "exit": [], "columns": [], "leverage": {}}
        self._orders_file = directory / "told"
        self.tell()
        options["env"] = {"COLUMNS": "4000"}  # of the log, so that no message is broken
        super().__init__(exchange, directory, "Obeying", STRATEGY, clock, live=True, **options)
        assert exchange.account is not None
        self.account: SimulatedAccount = exchange.account
        self.exchange, self.prices, self.faults = exchange, prices, faults

    def tell(self, **what: Any) -> None:
        """Tell the strategy what to do from now on: ``enter``, ``exit``, ``columns``, ``leverage``."""
        self._told |= what
        beside = self._orders_file.with_suffix(".new")
        beside.write_text(json.dumps(self._told))
        beside.rename(self._orders_file)

    def configure(self, plimsoll: Mapping[str, Any]) -> None:
        """Write other settings of Plimsoll into its configuration; a reload or a start takes them up."""
        path = self.directory / "config-3.json"
        path.write_text(json.dumps(OVERRIDES | {"plimsoll": {**LIMITS, **plimsoll}}))

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        return super().wait(condition, PATIENCE * seconds)

    def rest(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = PATIENCE * 40
    ) -> tuple[int, Any]:
        return super().rest(method, path, body, seconds=seconds)

    def forward(self, seconds: float, times: int = 3) -> None:
        """Let the clock jump and wait for some whole loops."""
        self.step(self.clock.now() + timedelta(seconds=seconds), times)

    def price(self, pair: str, price: float) -> None:
        """Move a pair's price to a value."""
        with self.account.lock:
            self.prices.factors.pop(pair, None)
            standing = self.prices.last_price(pair, now_ms=0)
            assert standing is not None
            self.prices.factors[pair] = price / standing
            self.account.advance()

    def trade(self, pair: str) -> dict[str, Any]:
        """Return a pair's latest trade."""
        return [each for each in self.trades() if each["pair"] == pair][-1]

    def is_open(self, pair: str) -> bool:
        return any(each["is_open"] and each["amount"] for each in self.trades() if each["pair"] == pair)

    def amount(self, pair: str) -> float:
        """Return what the exchange holds, negative for a short."""
        return self.account.positions[SYMBOLS[pair]].amount

    def resting_stops(self, pair: str) -> list[StopOrder]:
        stops = list(self.account.stop_orders.values())
        return [each for each in stops if each.symbol == SYMBOLS[pair] and each.is_resting]

    def filled(self, pair: str, side: str) -> list[Order]:
        """Return the filled orders of a pair and side (``BUY``, ``SELL``) that the bot placed."""
        with self.account.lock:
            orders = [each for each in self.account.orders.values() if each.symbol == SYMBOLS[pair]]
        ours = [each for each in orders if not each.client_id.startswith(("web_", "autoclose-"))]
        return [each for each in ours if each.side == side and each.filled]

    def liquidations(self) -> list[Order]:
        """Return the orders by which the exchange took positions over."""
        with self.account.lock:
            every = list(self.account.orders.values())
        return [each for each in every if each.client_id.startswith("autoclose-")]

    def position(self, pair: str) -> dict[str, Any]:
        """Return what the status document says of a position."""
        (found,) = [each for each in self.status()["positions"] if each["pair"] == pair]
        return dict(found)

    def breaker(self, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.status()["breakers"] if each["name"] == name]
        return dict(found)

    def records(self, kind: str) -> list[dict[str, Any]]:
        path = self.directory / "plimsoll" / "Obeying-live.jsonl"
        return [each for each in journal.read(path) if each["kind"] == kind]

    def said(self, words: str) -> list[str]:
        """Return the messages to the operator that contain some words, one of each line of the log."""
        return [
            line for line in self.log().splitlines() if " - plimsoll - WARNING - " in line and words in line
        ]

    def plans(self) -> dict[int, dict[str, float]]:
        """Return the plan of each trade, as Freqtrade's database has it."""
        rows = self.query("select * from trade_custom_data where cd_key = :key", key=TRADE_DATA)
        return {row["ft_trade_id"]: json.loads(row["cd_value"]) for row in rows}

    def price_at_distance(self, pair: str, distance: float) -> float:
        """Return the price from which a position's liquidation is so far away, as a ratio of that price."""
        known = self.position(pair)
        return float(known["liquidation"] / (1.0 + (distance if known["side"] == "short" else -distance)))

    def price_at_margin_used(self, pair: str, used: float) -> float:
        """Return the price at which a losing position uses so much of its margin, funding left out."""
        trade, sign = self.trade(pair), -1.0 if self.amount(pair) < 0 else 1.0
        amount, tiers = trade["amount"], self.account.tiers[SYMBOLS[pair]]
        tier = tier_of(tiers, amount * trade["open_rate"])
        assert tier is not None
        spent = used * trade["stake_amount"] - sign * amount * trade["open_rate"]
        return float((spent + tier.maintenance_amount) / (amount * (tier.mmr - sign)))


@contextmanager
def guarded_live_bot(
    candles: Path,
    directory: Path,
    plimsoll: Mapping[str, Any] | None = None,
    pairs: Sequence[str] = PAIRS,
    **options: Any,
) -> Iterator[GuardedLiveBot]:
    """Run a guarded live bot until the block ends."""
    directory.mkdir(parents=True, exist_ok=True)
    prices, faults = StandingPrices(candles, BEGIN), Faults()
    overrides = OVERRIDES | {"plimsoll": {**LIMITS, **(plimsoll or {})}} | options.pop("overrides", {})
    with WallClock(directory / "clock", BEGIN) as clock:
        account = SimulatedAccount(pairs, prices, clock.milliseconds, wallet_balance=WALLET)
        with LoopbackExchange(pairs, prices, clock.milliseconds, faults, account) as exchange:
            made = GuardedLiveBot(
                exchange, directory / "bot", clock, prices, faults, overrides=overrides, **options
            )
            with made as bot:
                yield made
                assert [*exchange.unknown_requests, *exchange.failed_requests] == []
                assert bot is made
