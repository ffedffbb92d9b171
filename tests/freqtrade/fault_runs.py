"""A guarded and an unguarded bot side by side on one replayed, scripted market, and what they were told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from dry_run_config import DRY_RUN

from plimsoll.market.bot import TradingBot
from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import WallClock
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.faults import Fault, Faults
from plimsoll.market.history import FileHistory
from plimsoll.market.replay import Replay
from plimsoll.market.simulate import DEFAULT_PAIRS, MarketData, simulate_market

PAIRS = [model.pair for model in DEFAULT_PAIRS]
BTC, ETH, LTC, SUI, PEPE = PAIRS
START = datetime(2024, 1, 1, tzinfo=UTC)
SCRIPT = START + timedelta(days=33)
HOUR_MS = 3_600_000
DAYS = 36
# Every 5m candle goes from one side of its level to the other, so that there is an ATR where nothing happens.
WIGGLE = 0.0025
# The time leaps by what a bot used to miss during a loop at a speed, and only when every bot has begun a loop since the last leap: so
# what the bots see of the market does not depend on how fast they are. In between it goes on at a pace at which little happens.
LEAP = 0.3  # real seconds
PACE = 20.0
HEAD = """
import os
import time

from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class Looping(IStrategy):
    can_short = True
    timeframe = "5m"
    minimal_roi = {"0": 100}
    startup_candle_count = 20

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe

    def bot_loop_start(self, current_time, **kwargs):
        with open(os.environ["LOOPS"], "a") as file:
            file.write(f"{time.time()}\\n")

"""
CONFIG: dict[str, Any] = {
    **DRY_RUN,
    "stake_amount": 1000,
    "timeframe": "5m",
    # Freqtrade's own look at the age of candles is put off, so that only the guard's is left.
    "exchange": {
        "outdated_offset": 10_000,
        # Books are asked for with the first, candles with the second, many at once.
        "ccxt_config": {"timeout": 1500},
        "ccxt_async_config": {"timeout": 60_000},
    },
    "internals": {"process_throttle_secs": 1},
}

Shape = Sequence[tuple[float, float]]  # minutes since SCRIPT, factor of the price there


def write_scripted(datadir: Path, shapes: Mapping[str, Shape], *, seed: int = 4) -> None:
    """Write 33 simulated days and then what the shapes say, joined without a gap."""
    market = simulate_market(seed, DAYS, START, DEFAULT_PAIRS, flash_crash=False)
    decimals = {model.pair: model.price_decimals for model in DEFAULT_PAIRS}
    write_market({p: _scripted(data, shapes[p], decimals[p]) for p, data in market.items()}, datadir)


def _scripted(data: MarketData, shape: Shape, decimals: int) -> MarketData:
    rows = data.candles_5m.copy()
    first = int((rows["date"] < SCRIPT).sum())
    nodes = np.arange(len(rows) - first + 1)
    minutes, factors = np.array(shape).T
    level = float(rows["close"].iloc[first - 1]) * np.interp(nodes * 5.0, minutes, factors)
    level[1:] *= 1 + WIGGLE * (-1.0) ** nodes[1:]
    level = np.round(level, decimals)
    opens, closes = level[:-1], level[1:]
    columns = {
        "open": opens,
        "high": np.maximum(opens, closes),
        "low": np.minimum(opens, closes),
        "close": closes,
    }
    for name, values in columns.items():
        rows.loc[first:, name] = values
    hours = rows.resample("1h", on="date").agg(
        {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    )
    hours = hours.reset_index()
    funding = data.funding.copy()
    funding["open"] = 0.0001
    return MarketData(rows, hours, hours.copy(), funding, None)


@dataclass
class Episode:
    """What went wrong, and from when to when, milliseconds since the epoch."""

    fault: Fault
    begin: int
    end: int = 2**60

    def during(self, at_ms: float) -> bool:
        return self.begin <= at_ms < self.end

    def concerns(self, pair: str) -> bool:
        return not self.fault.pairs or pair in self.fault.pairs


@dataclass
class Rig:
    """Bots, their clock and market, and everything that went wrong."""

    bots: dict[str, TradingBot]
    clock: WallClock
    replay: Replay
    faults: Faults
    exchange: LoopbackExchange
    market_clock: WallClock  # the exchange's own where only the bot's is to jump
    episodes: list[Episode] = field(default_factory=list)

    @property
    def guarded(self) -> TradingBot:
        return self.bots["guarded"]

    @property
    def raw(self) -> TradingBot:
        return self.bots["raw"]

    def true_ms(self) -> int:
        """Return the exchange's time, whatever the faults."""
        return self.market_clock.milliseconds()

    def run(self, speed: float, at: datetime | None = None) -> None:
        """Let the time pass, on the bot's clock from ``at`` on."""
        if self.market_clock is not self.clock:
            self.market_clock.run(speed)
        self.clock.run(speed, at)

    def loops(self, bot: TradingBot) -> list[float]:
        """Return when each loop began, seconds of the bot's clock."""
        path = bot.directory / "loops"
        return [float(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []

    def on(self, *faults: Fault) -> list[Episode]:
        with self.standing():
            for fault in faults:
                self.faults.on(fault)
            made = [Episode(fault, self.true_ms()) for fault in faults]
        self.episodes += made
        return made

    def off(self, made: Sequence[Episode]) -> None:
        with self.standing():
            for episode in made:
                self.faults.off(episode.fault)
                episode.end = self.true_ms()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Let the exchange's time stand, so that what happens and what is noted of it have one moment."""
        speed = self.market_clock.speed
        self.market_clock.step(self.market_clock.now())
        yield
        self.market_clock.run(speed)

    def leap(self, seconds: float, pace: float) -> None:
        """Let the time leap and then go on at a pace, and wait until every bot has begun a loop since."""
        by = timedelta(seconds=seconds)
        if self.market_clock is not self.clock:
            self.market_clock.run(pace, self.market_clock.now() + by)
        self.clock.run(pace, self.clock.now() + by)
        begun = {bot.directory: len(self.loops(bot)) for bot in self.bots.values()}
        deadline = time.monotonic() + 300.0
        while any(len(self.loops(bot)) <= begun[bot.directory] for bot in self.bots.values()):
            assert all(bot.alive() for bot in self.bots.values()), self.words()
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.02)

    def until(self, at: datetime, speed: float) -> None:
        """Let the time pass at a speed until a moment; it goes on then."""
        while (left := (at - self.clock.now()).total_seconds()) > 0.0:
            self.leap(min(left, LEAP * speed), PACE)

    def each(
        self, holds: Callable[[TradingBot], bool], seconds: float = 600.0, *, speed: float, pace: float = PACE
    ) -> bool:
        """Let the time pass at a speed until something holds for every bot, real seconds at most."""
        deadline = time.monotonic() + seconds
        while not all(holds(bot) for bot in self.bots.values()):
            if time.monotonic() >= deadline:
                return False
            self.leap(LEAP * speed, pace)
        return True

    def pass_loops(self, number: int, seconds: float = 600.0, *, speed: float) -> bool:
        goals = {bot.directory: len(self.loops(bot)) + number + 1 for bot in self.bots.values()}
        return self.each(lambda bot: len(self.loops(bot)) >= goals[bot.directory], seconds, speed=speed)

    def words(self) -> str:
        return "\n\n".join(f"{name}\n{bot.last_words()}" for name, bot in self.bots.items())

    def told(self, pair: str, at_ms: int) -> float | None:
        """Return the last price that the exchange told at a moment."""
        for episode in self.episodes:
            if episode.during(at_ms) and episode.concerns(pair):
                if episode.fault.kind == "frozen_price":
                    at_ms = episode.begin
                elif episode.fault.kind == "clock_offset":
                    at_ms += round(episode.fault.offset_seconds * 1000)
        return self.replay.last_price(pair, now_ms=at_ms)


@contextmanager
def running(
    directory: Path,
    data: Path,
    source: str,
    begin: datetime,
    plimsoll: Mapping[str, Any],
    *,
    raw: bool = True,
    own_clock: bool = False,
    config: Mapping[str, Any] | None = None,
    raw_config: Mapping[str, Any] | None = None,
) -> Iterator[Rig]:
    """Start the strategies ``Careful`` and ``Plain`` on a standing clock, and let it run when both are up.

    ``config`` goes to both, ``raw_config`` to the unguarded one alone.
    """
    replay, faults = Replay(FileHistory(data)), Faults(seed=1)
    (directory / "strategies").mkdir()
    (directory / "strategies" / "generated.py").write_text(HEAD + source)
    with ExitStack() as stack:
        clock = stack.enter_context(WallClock(directory / "clock", begin))
        # Where only the bot's clock is to jump, the exchange has one of its own.
        other = stack.enter_context(WallClock(directory / "own", begin)) if own_clock else clock
        exchange = stack.enter_context(
            LoopbackExchange(PAIRS, source=replay, now=other.milliseconds, faults=faults)
        )
        bots = {}
        for name, strategy in (("guarded", "Careful"), ("raw", "Plain"))[: 2 if raw else 1]:
            own = directory / name
            bots[name] = TradingBot(
                exchange,
                own,
                strategy,
                configs=[CONFIG, {"plimsoll": plimsoll, **(config or {})}],
                overrides=raw_config if name == "raw" else None,
                user_data=directory,
                clock=clock,
                env={"LOOPS": str(own / "loops")},
            )
            stack.enter_context(bots[name])
        rig = Rig(bots, clock, replay, faults, exchange, other)
        for bot in bots.values():
            assert bot.ready(600), bot.last_words()
        rig.run(PACE)
        yield rig
    assert not exchange.unknown_requests
    assert not exchange.failed_requests


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def moment(minutes: float) -> datetime:
    return SCRIPT + timedelta(minutes=minutes)
