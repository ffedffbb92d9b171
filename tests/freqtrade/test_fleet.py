"""Three guarded dry-run bots that share a ledger, on one exchange and clock: what fits, a halt, a dead bot, a ledger cut off."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres
from stepped_bot import SteppedBot, SteppingPrices

from plimsoll.journal import read
from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import WallClock, unavailable
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market
from plimsoll.portfolio import Ledger, Standing
from plimsoll.portfolio.connection import TIMEOUT_SECONDS

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}"),
]

START = datetime(2024, 1, 1, tzinfo=UTC)
BEGIN = START + timedelta(days=32, hours=12, minutes=59, seconds=30)
PAIRS = tuple(model.pair for model in DEFAULT_PAIRS)
BTC, ETH, LTC, *_ = PAIRS
NAMES = {"amy": BTC, "bob": ETH, "cat": LTC}
STAKE = 600.0
WALLET = 10_000.0
PORTFOLIO = {"exposure": 0.03, "drawdown": 0.002, "silent_minutes": 90.0}
CAP = PORTFOLIO["exposure"] * WALLET * len(NAMES)  # one stake and a half
RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ - ", re.MULTILINE)
CUT, REACHED = "no entries until it can", "is reached"
FILLS = 1.005  # an order fills beside the rate it was planned at
PATIENT = 120.0
# What it waits for the ledger is noted, by the machine's monotonic clock, which stays real. It waits as shipped where the ledger is
# cut off: at other times a process that stands in the midst of a transaction must not be taken for that.
STRATEGY = """
import time

from plimsoll.portfolio.connection import TIMEOUT_SECONDS, Store

run = Store.run


def timed(store, *arguments, **options):
    store._timeout = TIMEOUT_SECONDS if os.path.exists(DIRECTORY + "/cut") else 120.0
    begun = time.monotonic()
    try:
        return run(store, *arguments, **options)
    finally:
        with open(DIRECTORY + "/waits", "a") as file:
            print(begun, time.monotonic(), file=file)


Store.run = timed


class Sharing(Guarded, Told):
    stoploss = -0.9
    plimsoll = {
        "stop": {"atr_multiple": 8.0},
        "risk": {"per_trade": 0.02},
        "kelly": {"cold_start_risk": 0.02, "floor_risk": 0.02},
        "loss_limit": {"daily": 0.5, "weekly": 0.6},
        "drawdown": {"limit": 0.7},
    }
"""


@dataclass
class Shared:
    """Bots, their clock and market, and their ledger."""

    bots: dict[str, SteppedBot]
    clock: WallClock
    prices: SteppingPrices
    ledger: str

    def loop(self, times: int = 2) -> None:
        """Wait for so many whole loops of each bot that runs."""
        goals = {bot.directory: (bot, bot.loops() + times + 1) for bot in self.bots.values() if bot.alive()}
        for bot, goal in goals.values():
            assert bot.wait(lambda b=bot, g=goal: b.loops() >= g, 300), bot.last_words()

    def move(self, **by: float) -> None:
        self.clock.step(self.clock.now() + timedelta(**by))
        self.loop()

    def signal(self, *names: str) -> None:
        """Give bots the entry signal of one and the same candle, each for its own pair."""
        for name in names:
            (self.bots[name].directory / "enter").write_text(NAMES[name])
        hour = self.clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        for second, times in ((-6, 1), (2, 4)):
            self.clock.step(hour + timedelta(seconds=second))
            self.loop(times)
        for name in names:
            (self.bots[name].directory / "enter").unlink()
        self.move(seconds=90)  # too late for that candle

    def leave(self, *names: str) -> None:
        for name in names:
            (self.bots[name].directory / "exit").touch()
        self.move(seconds=5)
        self.loop(1)
        for name in names:
            (self.bots[name].directory / "exit").unlink()

    def holds(self, name: str) -> dict[str, float]:
        return {
            trade["pair"]: trade["stake_amount"] for trade in self.bots[name].trades() if trade["is_open"]
        }

    def holding(self) -> list[str]:
        return [name for name in self.bots if self.holds(name)]

    def standing(self) -> Standing:
        return Ledger(self.ledger, None, None, PATIENT).standing(self.clock.now().timestamp())

    def history(self, after: int = 0) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.ledger, timeout=PATIENT)) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(
                "select * from plimsoll_ledger_history where sequence > ? order by sequence", (after,)
            )
            return [dict(row) for row in rows]

    def plimsoll(self, *arguments: str) -> tuple[int, str]:
        """Run the command line beside the bots, by the same clock; return its exit status and what it printed."""
        return next(iter(self.bots.values())).plimsoll(*arguments, "--ledger", self.ledger)

    def refusals(self, name: str, since: datetime) -> list[str]:
        """Return why a bot's entries were refused, from its journal."""
        path = self.bots[name].directory / "plimsoll" / "Sharing-dry_run.jsonl"
        return [
            record["refusal"]
            for record in read(path)
            if record["kind"] == "plan" and record["refusal"] and record["time"] >= since.timestamp()
        ]

    def said(self, name: str, what: str) -> int:
        """Count the messages to a bot's operator."""
        records = RECORD.split(self.bots[name].log())  # whose long lines are folded
        said = [record for record in records if record.startswith("plimsoll - WARNING - portfolio: ")]
        return sum("".join(what.split()) in "".join(record.split()) for record in said)


def waited(bot: SteppedBot, since: float, until: float) -> float:
    """Return how long of a time a bot waited for the ledger, seconds of the machine's monotonic clock."""
    lines = (bot.directory / "waits").read_text().split("\n")[:-1]
    spans = [tuple(map(float, line.split())) for line in lines]
    return sum(max(0.0, min(ended, until) - max(begun, since)) for begun, ended in spans)


def why_not(bot: SteppedBot) -> str:
    """Return why a bot cannot use the ledger, as it wrote in its last loop."""
    return str(bot.status()["portfolio"].get("reason"))


def called(standing: Standing, name: str) -> str:
    return next(bot.bot for bot in standing.bots if bot.bot.startswith(f"{name} "))


@contextmanager
def sharing(
    directory: Path,
    candles: Path,
    names: Mapping[str, str],
    portfolio: Mapping[str, Any],
    url: str | None = None,
) -> Iterator[Shared]:
    ledger = url or str(directory / "ledger.sqlite")
    prices = SteppingPrices(candles)
    with ExitStack() as stack:
        clock = stack.enter_context(WallClock(directory / "clock", BEGIN))
        exchange = stack.enter_context(LoopbackExchange(PAIRS, source=prices, now=clock.milliseconds))
        bots = {}
        for name, pair in names.items():
            settings = {"portfolio": {**portfolio, **({} if url else {"ledger": ledger})}}
            bots[name] = SteppedBot(
                exchange,
                directory / name,
                "Sharing",
                STRATEGY,
                clock,
                pairs=[pair],
                env={"PLIMSOLL_LEDGER_URL": f"{url}?connect_timeout={TIMEOUT_SECONDS:.0f}" if url else ""},
                overrides={"bot_name": name, "stake_amount": STAKE, "plimsoll": settings},
            )
            stack.enter_context(bots[name])
        found = Shared(bots, clock, prices, ledger)
        found.loop(4)
        yield found
        for bot in bots.values():
            assert bot.alive(), bot.last_words()
            bot.kill()  # an orderly end takes seconds


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("candles")
    write_market(simulate_market(4, 34, START, DEFAULT_PAIRS, flash_crash=False), directory)
    return directory


# Before the three bots are started, which would run beside it.
def test_ledger_on_postgres_when_the_network_is_cut_then_entries_stop_once_told_and_exits_go_on(
    postgres_server: Postgres, postgres_url: str, candles: Path, tmp_path: Path
) -> None:
    limits = {"exposure": 0.5, "drawdown": 0.5}
    with sharing(tmp_path, candles, {"amy": BTC}, limits, postgres_url) as fleet:
        bot = fleet.bots["amy"]
        fleet.signal("amy")
        assert fleet.holding() == ["amy"]
        assert [fleet.said("amy", what) for what in (REACHED, CUT)] == [1, 0]
        begun, first = time.monotonic(), bot.loops()
        bot.loop(10)
        usual = (time.monotonic() - begun) / (bot.loops() - first)

        # Packets vanish, and the price falls through the stop.
        since = fleet.clock.now()
        (bot.directory / "cut").touch()
        bot.loop(1)
        postgres_server.freeze()
        time.sleep(1.0)
        assert fleet.holding() == ["amy"]
        fleet.prices.factor = 0.93
        begun, first = time.monotonic(), bot.loops()
        assert bot.wait(lambda: fleet.holding() == [], 120), bot.last_words()
        delay, loops = time.monotonic() - begun, bot.last_exit() - first
        print(
            f"a loop took {usual:.3f} s; with the ledger hanging the stop took {delay:.1f} s, {loops} loops"
        )
        assert loops <= 3
        assert waited(bot, begun, begun + delay) < 8.0
        assert delay < 8.0
        assert bot.trades()[-1]["exit_reason"] in ("stop_loss", "trailing_stop_loss")
        # The first attempt has failed, and was told.
        assert bot.wait(lambda: fleet.said("amy", CUT) == 1, 120), bot.last_words()
        bot.loop(1)
        fleet.signal("amy")
        assert fleet.holding() == []
        assert any("the ledger cannot be used" in reason for reason in fleet.refusals("amy", since))
        assert bot.status()["portfolio"]["outcome"] == "unknown"
        # The second attempt fails with other words, which are not told; that it fails is told once.
        assert bot.wait(lambda: fleet.said("amy", why_not(bot)) == 0, 120), why_not(bot)
        assert [fleet.said("amy", what) for what in (REACHED, CUT)] == [1, 1]
        postgres_server.thaw()
        # The pauses between attempts have grown to a minute at most.
        assert bot.wait(lambda: fleet.said("amy", REACHED) == 2, 300), bot.last_words()
        (bot.directory / "cut").unlink()
        fleet.loop()
        assert fleet.standing().margin == 0.0
        fleet.signal("amy")
        assert fleet.holding() == ["amy"]
        assert fleet.standing().margin == pytest.approx(sum(fleet.holds("amy").values()), rel=1e-3)

        # Without its server a connection is refused at once.
        postgres_server.stop()
        assert bot.wait(lambda: fleet.said("amy", CUT) == 2, 120), bot.last_words()
        fleet.leave("amy")
        assert fleet.holding() == []
        postgres_server.start()
        assert bot.wait(lambda: fleet.said("amy", REACHED) == 3, 300), bot.last_words()
        bot.loop(2)
        assert fleet.standing().margin == 0.0
        assert bot.complaints() == []


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, candles: Path) -> Iterator[Shared]:
    with sharing(tmp_path_factory.mktemp("fleet"), candles, NAMES, PORTFOLIO) as found:
        yield found


@pytest.fixture
def fleet(three: Shared) -> Iterator[Shared]:
    """Three bots without positions and with a fresh peak; none of them says anything that no bot should."""
    three.prices.factor = 1.0
    for bot in three.bots.values():
        if not bot.alive():
            bot.start()
    three.leave(*NAMES)
    Ledger(three.ledger, None, None, PATIENT).reset(three.clock.now().timestamp(), "the test")
    three.loop(1)
    assert three.holding() == []
    yield three
    for bot in three.bots.values():
        assert bot.complaints() == []


def within(rows: list[dict[str, Any]]) -> None:
    """Check every instant of the ledger's history: nothing is reserved over a cap, and what fills adds next to nothing."""
    assert rows
    for row in rows:
        if row["event"] == "reserved":
            assert row["total_margin"] <= row["margin_cap"] * (1 + 1e-9), row
            assert row["asset_margin"] <= row["asset_cap"] * (1 + 1e-9), row
            assert row["total_risk"] <= row["risk_cap"] * (1 + 1e-9), row
        assert row["total_margin"] <= CAP * FILLS, row


def test_three_bots_when_all_signal_in_one_candle_then_exactly_what_fits_is_entered(fleet: Shared) -> None:
    since, begun = fleet.standing().sequence, fleet.clock.now()
    fleet.signal(*NAMES)

    rows = fleet.history(since)
    within(rows)
    cap = max(row["margin_cap"] for row in rows)
    # One whole, one half, none: the last cannot enter what is left.
    entered = sorted(sum(fleet.holds(name).values()) for name in NAMES)
    assert entered[0] == 0.0
    assert entered[1] == pytest.approx(cap - STAKE, rel=0.03)
    assert entered[2] == pytest.approx(STAKE, rel=0.03)
    assert max(row["total_margin"] for row in rows) == pytest.approx(cap, rel=1e-3)
    (refused,) = set(NAMES) - set(fleet.holding())
    reasons = fleet.refusals(refused, begun)
    assert reasons
    assert all("portfolio" in reason for reason in reasons)
    told = fleet.bots[refused].status()
    assert told["portfolio"]["margin_left"] < 10.0
    assert (told["entries"], told["portfolio"]["outcome"]) == ("open", "fine")

    standing = fleet.standing()
    assert standing.margin == pytest.approx(sum(entered), rel=1e-4)
    code, shown = fleet.plimsoll("portfolio")
    assert code == 0
    assert all(f"{name} Sharing" in shown for name in NAMES)
    assert all((f"{pair} long" in shown) == (name != refused) for name, pair in NAMES.items())
    told = json.loads(fleet.plimsoll("portfolio", "--json")[1])
    assert told["margin"] == pytest.approx(standing.margin)
    assert told["outcome"] == "fine"

    # What an exit frees is for whoever asks next.
    largest = max(fleet.holding(), key=lambda name: sum(fleet.holds(name).values()))
    fleet.leave(largest)
    fleet.signal(refused)
    assert sum(fleet.holds(refused).values()) == pytest.approx(STAKE, rel=0.03)
    assert largest not in fleet.holding()
    within(fleet.history(since))


def test_portfolio_when_prices_fall_then_all_are_halted_until_the_reset_and_exits_go_on(
    fleet: Shared,
) -> None:
    begun = fleet.clock.now()
    fleet.signal("amy", "bob")
    assert fleet.holding() == ["amy", "bob"]
    over = {name: fleet.said(name, "the halt is over") for name in NAMES}
    fleet.prices.factor = 0.97
    fleet.loop(5)
    fleet.loop()  # a bot that was first has not heard what the last one brought about
    halted = fleet.standing().halted
    assert halted is not None
    assert [fleet.said(name, halted) for name in NAMES] == [1, 1, 1]
    code, shown = fleet.plimsoll("portfolio")
    assert (code, "halted" in shown) == (1, True)

    # Prices that come back do not end it.
    fleet.prices.factor = 1.0
    fleet.signal("cat")
    assert "cat" not in fleet.holding()
    assert any(halted in reason for reason in fleet.refusals("cat", begun))
    told = fleet.bots["cat"].status()
    assert told["entries"] == "blocked"
    assert f"portfolio: {halted}" in told["blocked_by"]
    fleet.leave("amy")
    assert fleet.holding() == ["bob"]

    assert fleet.plimsoll("portfolio", "reset", "--by", "ann")[0] == 0
    fleet.loop()
    assert fleet.standing().halted is None
    assert [fleet.said(name, "the halt is over") - over[name] for name in NAMES] == [1, 1, 1]
    fleet.signal("cat")
    assert fleet.holding() == ["bob", "cat"]
    assert [fleet.said(name, halted) for name in NAMES] == [1, 1, 1]


def test_bot_when_killed_with_a_position_then_is_named_counts_on_and_reconciles_at_its_restart(
    fleet: Shared,
) -> None:
    since = fleet.standing().sequence
    fleet.signal("bob")
    bob = called(fleet.standing(), "bob")
    (before,) = (bot for bot in fleet.standing().bots if bot.bot == bob)
    assert before.margin == pytest.approx(STAKE, rel=0.03)
    heard = fleet.said("amy", "every bot is heard again")
    fleet.bots["bob"].kill()

    last = datetime.fromtimestamp(fleet.standing().time - before.age, UTC)
    for seconds, silent in ((-1, ()), (1, (bob,))):
        at = last + timedelta(minutes=PORTFOLIO["silent_minutes"], seconds=seconds)
        fleet.clock.step(at)
        fleet.loop()
        assert fleet.standing().silent == silent
    assert fleet.standing().silent == (bob,)
    for name in ("amy", "cat"):
        assert fleet.said(name, f"silent bots, whose positions count on: {bob}") == 1
        assert fleet.bots[name].status()["portfolio"]["silent"] == [bob]
    shown = fleet.plimsoll("portfolio")[1]
    assert "silent for" in shown
    # Its place stays taken, and its capital counts.
    fleet.signal("amy", "cat")
    within(fleet.history(since))
    assert sum(sum(fleet.holds(name).values()) for name in ("amy", "cat")) <= CAP - before.margin + 1.0
    (after,) = (bot for bot in fleet.standing().bots if bot.bot == bob)
    assert (after.claims, after.capital) == (before.claims, before.capital)

    fleet.bots["bob"].start()
    fleet.loop(3)
    fleet.loop()  # the others have done theirs before it was up
    assert fleet.standing().silent == ()
    (again,) = (bot for bot in fleet.standing().bots if bot.bot == bob)
    assert [(claim.key, claim.margin) for claim in again.claims] == [
        (claim.key, claim.margin) for claim in before.claims
    ]
    assert fleet.said("amy", "every bot is heard again") == heard + 1
    assert len(fleet.standing().bots) == len(NAMES)

    fleet.leave("bob")
    (gone,) = (bot for bot in fleet.standing().bots if bot.bot == bob)
    assert gone.claims == ()
    assert [row["event"] for row in fleet.history(since) if row["bot"] == bob][-1] == "released"
