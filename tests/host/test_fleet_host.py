"""A bot's place in the shared ledger: what it tells, what stands against entries, and what its operator hears, once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.enums import RunMode, TradingMode
from freqtrade.persistence import Trade
from freqtrade.wallets import PositionWallet
from host_database import database
from planned_bot import PlannedBot, open_position

from plimsoll.host import fleet as module
from plimsoll.host.fleet import FIRST_PAUSE, LONGEST_PAUSE, RATE_SECONDS, Fleet
from plimsoll.host.positions import PATIENCE, foreign_positions
from plimsoll.portfolio import Holding, Ledger, LedgerFault, Limits
from plimsoll.rules.answer import Outcome
from plimsoll.rules.breaker import ReadingConfig
from plimsoll.rules.exposure import OpenPosition
from plimsoll.settings import load

BTC, ETH, SOL = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"
STARTED = datetime(2024, 3, 1, tzinfo=UTC)
AT_ONCE = ReadingConfig(confirmations=1)


class Seconds:
    """Monotonic seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    clock = Seconds()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def _no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLIMSOLL_LEDGER_URL", raising=False)


class Sharing:
    """A bot with a ledger; its trades are told as positions of margin and risk."""

    def __init__(
        self, ledger: Any, name: str = "amy", currency: str = "USDT", rate: Any = None, **section: Any
    ) -> None:
        self.rate = rate
        self.asked = 0
        strategy: Any = SimpleNamespace(
            config={"bot_name": name, "stake_currency": currency},
            get_strategy_name=lambda: "Steady",
            dp=SimpleNamespace(_exchange=SimpleNamespace(get_conversion_rate=self._conversion)),
        )
        self.fleet = Fleet(strategy, load({"portfolio": {"ledger": str(ledger), **section}}))
        self.name = f"{name} Steady 1"
        self.equity: float | None = 1000.0
        self.positions: list[OpenPosition] = []
        self.now = STARTED

    def _conversion(self, coin: str, currency: str) -> Any:
        self.asked += 1
        if isinstance(self.rate, Exception):
            raise self.rate
        return self.rate

    def hold(self, pair: str, margin: float, risk: float = 1.0) -> None:
        self.positions.append(OpenPosition(pair, pair.split("/")[0], "long", margin, margin, risk))

    def loop(self, times: int = 1) -> list[str]:
        for _ in range(times):
            self.now += timedelta(seconds=5)
            self.fleet.loop(self.now, "1", self.equity, 0.0, [], self.positions)
        return self.fleet.news()

    def reserve(self, pair: str, margin: float, key: str = "1", risk: float = 1.0) -> Any:
        return self.fleet.reserve(key, pair, "long", margin, risk, self.now)

    def blocked(self) -> str | None:
        answer = self.fleet.answer()
        return None if answer is None or not answer.blocks else answer.reason


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def other(path: Path, name: str = "bob", **values: Any) -> Ledger:
    return Ledger(str(path), Limits(**values), "USDT", readings=AT_ONCE)


# -- Reached or not -----------------------------------------------------------------------------------------------------


def test_bot_when_there_is_no_ledger_or_it_is_off_then_nothing_stands_against_entries(path: Path) -> None:
    strategy: Any = SimpleNamespace(config={"stake_currency": "USDT"}, get_strategy_name=lambda: "Steady")
    for settings in ({}, {"portfolio": {"ledger": str(path)}, "off": ["portfolio"]}):
        fleet = Fleet(strategy, load(settings))
        fleet.loop(STARTED, "1", 1000.0, 0.0, [], [])
        assert (fleet.shared, fleet.answer(), fleet.as_data(), fleet.news()) == (False, None, None, [])
        assert fleet.most(BTC, "long", 1e9, 1e9, STARTED) is None
        assert fleet.reserve("1", BTC, "long", 1e9, 1e9, STARTED) is None
        assert fleet.claimed_by_others() == set()
    assert not path.exists()


def test_ledger_when_named_by_the_environment_then_it_is_the_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLIMSOLL_LEDGER_URL", f"sqlite:///{path}")
    bot = Sharing(tmp_path / "another.sqlite")
    bot.loop()
    assert path.exists()
    assert not (tmp_path / "another.sqlite").exists()


def test_ledger_when_it_was_not_asked_yet_then_entries_wait_and_three_loops_open_them(path: Path) -> None:
    bot = Sharing(path)
    assert bot.blocked() == "the ledger was not asked yet"
    assert bot.fleet.as_data() == {"outcome": "unknown", "reason": "the ledger was not asked yet"}
    (said,) = bot.loop()
    assert said == f"portfolio: the ledger {path} is reached"
    assert bot.blocked() is None
    assert bot.reserve(BTC, 100.0).outcome is Outcome.UNKNOWN  # its equity is not confirmed
    assert bot.loop() == []
    assert bot.reserve(BTC, 100.0).outcome is Outcome.UNKNOWN
    assert bot.loop() == []
    assert bot.reserve(BTC, 100.0).granted
    data = bot.fleet.as_data()
    assert data is not None
    assert (data["outcome"], data["capital"], data["margin_left"]) == ("fine", 1000.0, 500.0)


def test_ledger_when_it_cannot_be_used_at_all_then_entries_are_blocked_and_it_is_said_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("setting", "postgresql://ann:secret@host/x"),
        ("environment", "mysql://ann:secret@host/x"),
    ):
        if name == "environment":
            monkeypatch.setenv("PLIMSOLL_LEDGER_URL", value)
        bot = Sharing(value if name == "setting" else path)
        assert bot.fleet.shared
        assert bot.blocked() is not None
        (said,) = bot.loop(5)
        assert "no entries until it is set right" in said
        assert "secret" not in said
        with pytest.raises(LedgerFault):
            bot.reserve(BTC, 1.0)
        with pytest.raises(LedgerFault):
            bot.fleet.most(BTC, "long", 1.0, 1.0, STARTED)


class Broken:
    """Let a ledger fail, each time in other words, and count the attempts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken, self.attempts = True, 0
        real = Ledger.heartbeat

        def heartbeat(ledger: Ledger, *arguments: Any, **named: Any) -> Any:
            self.attempts += 1
            if self.broken:
                raise LedgerFault(f"failed for the {self.attempts}. time")
            return real(ledger, *arguments, **named)

        monkeypatch.setattr(Ledger, "heartbeat", heartbeat)


def test_ledger_when_unreachable_then_one_message_and_attempts_grow_rare(
    path: Path, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = Sharing(path)
    bot.loop(3)
    ledger = Broken(monkeypatch)
    said, attempts = [], []
    for _ in range(600):
        seconds.now += 1.0
        before = ledger.attempts
        said += bot.loop()
        if ledger.attempts > before:
            attempts.append(seconds.now)
        assert "the ledger cannot be used" in str(bot.blocked())
    assert len(said) == 1
    assert said[0].endswith("no entries until it can")
    pauses = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert pauses[0] == FIRST_PAUSE
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    data = bot.fleet.as_data()
    assert data is not None
    assert data["outcome"] == "unknown"
    assert f"failed for the {ledger.attempts}. time" in data["reason"]

    ledger.broken = False
    seconds.now += LONGEST_PAUSE
    assert bot.loop() == [f"portfolio: the ledger {path} is reached"]
    assert bot.blocked() is None
    assert bot.reserve(BTC, 100.0).granted
    # The next time begins anew.
    ledger.broken = True
    assert len(bot.loop()) == 1
    seconds.now += FIRST_PAUSE - 0.1
    attempts_before = ledger.attempts
    bot.loop()
    assert ledger.attempts == attempts_before
    seconds.now += 0.1
    assert bot.loop() == []
    assert ledger.attempts == attempts_before + 1


def test_ledger_when_it_fails_at_a_reservation_then_it_raises_and_blocks_until_the_next_loop(
    path: Path, seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = Sharing(path)
    bot.loop(3)

    def fails(*_: Any, **__: Any) -> Any:
        raise LedgerFault("gone")

    for call, ask in (("reserve", lambda: bot.reserve(BTC, 1.0)),
                      ("preview", lambda: bot.fleet.most(BTC, "long", 1.0, 1.0, bot.now))):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, call, fails)
            with pytest.raises(LedgerFault):
                ask()
        assert bot.blocked() == "the ledger cannot be used: gone"
        seconds.now += LONGEST_PAUSE
        assert len(bot.loop()) == 2  # that it failed, and that it is reached
        assert bot.blocked() is None


# -- What is news ---------------------------------------------------------------------------------------------------------


def test_position_when_nobody_reserved_it_then_found_is_said_once(path: Path) -> None:
    bot = Sharing(path)
    bot.loop(3)
    bot.hold(BTC, 100.0)
    assert bot.loop() == [f"portfolio: a position in {BTC} was found that nobody had reserved"]
    assert bot.loop(5) == []


def test_position_when_it_was_reserved_then_nothing_is_said(path: Path) -> None:
    bot = Sharing(path)
    bot.loop(3)
    assert bot.reserve(BTC, 100.0).granted
    bot.hold(BTC, 100.0)
    assert bot.loop(5) == []


def test_halt_when_it_begins_and_ends_then_each_is_said_once(path: Path) -> None:
    bot = Sharing(path)
    bot.loop(3)
    bot.equity = 851.0
    assert bot.loop(3) == []
    bot.equity = 849.0
    (said,) = bot.loop(3)
    standing = bot.fleet.standing
    assert standing is not None
    assert said == f"portfolio: {standing.halted}"
    assert bot.blocked() == standing.halted
    bot.equity = 1000.0
    assert bot.loop(5) == []
    assert bot.blocked() is not None
    Ledger(str(path), None, None).reset(bot.now.timestamp(), "ann")
    assert bot.loop() == ["portfolio: the halt is over"]
    assert bot.loop(3) == []
    assert bot.blocked() is None


def test_limits_when_exceeded_by_moving_amounts_then_said_once(path: Path) -> None:
    bot = Sharing(path)
    bot.loop(3)
    bot.hold(BTC, 240.0)
    bot.loop()
    said = []
    for equity in (965.0, 955.0, 950.0, 945.0, 940.0, 935.0):  # a quarter of 960 is held
        bot.equity = equity
        said += bot.loop()
    (only,) = said
    assert only.startswith("portfolio: over its limits: margin in BTC: 240.00 used of ")
    bot.positions.clear()
    assert bot.loop() == ["portfolio: within its limits again"]


def test_bot_when_silent_then_others_hear_of_it_once_and_of_its_return(path: Path) -> None:
    bot = Sharing(path, silent_minutes=1.0)
    bob = other(path, silent_seconds=60.0)
    bob.heartbeat("bob", bot.now.timestamp(), 1000.0, 0.0, [Holding(ETH, "long", 200.0, 5.0)])
    bot.now += timedelta(seconds=45)
    assert len(bot.loop(3)) == 1
    assert bot.now - STARTED == timedelta(seconds=60)
    assert bot.loop() == ["portfolio: silent bots, whose positions count on: bob"]
    assert bot.loop(3) == []
    assert bot.fleet.claimed_by_others() == {ETH}
    assert bot.reserve(BTC, 501.0).most_margin == 500.0
    bob.heartbeat("bob", bot.now.timestamp(), 1000.0, 0.0, [])
    assert bot.loop() == ["portfolio: every bot is heard again"]
    assert bot.fleet.claimed_by_others() == set()


def test_position_when_another_bot_cannot_count_it_then_entries_are_unknown_and_it_is_said_once(
    path: Path,
) -> None:
    bot = Sharing(path)
    bot.loop(3)
    bob = other(path)
    bob.heartbeat("bob", bot.now.timestamp(), 1000.0, 0.0, [Holding(ETH, "long", float("nan"), 5.0)])
    (said,) = bot.loop(3)
    assert said == f"portfolio: cannot be counted: bob: the margin of {ETH} long"
    answer = bot.fleet.answer()
    assert answer is not None
    assert answer.outcome is Outcome.UNKNOWN
    bob.heartbeat("bob", bot.now.timestamp(), 1000.0, 0.0, [])
    assert bot.loop(3) == ["portfolio: everything can be counted again"]
    assert bot.blocked() is None


# -- Reservations ---------------------------------------------------------------------------------------------------------


def test_reservation_when_asked_for_again_under_its_key_then_it_is_the_same_one(path: Path) -> None:
    bot = Sharing(path)
    bot.loop(3)
    for _ in range(3):
        assert bot.reserve(BTC, 200.0, "a").granted
    assert bot.reserve(ETH, 200.0, "b").granted
    decision = bot.reserve(SOL, 101.0, "c")
    assert decision.outcome is Outcome.BREACHED
    assert decision.most_margin == pytest.approx(100.0)
    most = bot.fleet.most(SOL, "long", 101.0, 1.0, bot.now)
    assert most is not None
    assert most.most_margin == pytest.approx(100.0)
    assert bot.reserve(SOL, 100.0, "c").granted
    # A key of another pair is nobody's.
    assert bot.reserve(SOL, 1.0, "a").outcome is Outcome.UNKNOWN


def test_reservation_when_it_comes_to_nothing_then_its_place_is_free_after_a_minute(path: Path) -> None:
    bot = Sharing(path, "amy", asset=0.1)
    bot.loop(3)
    assert bot.reserve(BTC, 100.0, "a").granted
    bot.now += timedelta(seconds=55)
    bot.loop()
    assert not bot.reserve(BTC, 1.0, "b").granted
    bot.loop()
    assert bot.reserve(BTC, 1.0, "b").granted


# -- Currencies -----------------------------------------------------------------------------------------------------------


def test_currency_when_it_is_another_then_amounts_are_converted_both_ways(
    path: Path, seconds: Seconds
) -> None:
    other(path).heartbeat("bob", STARTED.timestamp(), 1000.0, 0.0, [])
    bot = Sharing(path, currency="EUR", rate=1.25)
    bot.hold("BTC/EUR:EUR", 100.0)
    bot.loop(4)  # at the first it does not know the ledger's currency yet
    standing = bot.fleet.standing
    assert standing is not None
    assert standing.capital == pytest.approx(1000.0 + 1250.0)
    assert standing.margin == pytest.approx(125.0)
    decision = bot.reserve("ETH/EUR:EUR", 1000.0)
    assert decision.outcome is Outcome.BREACHED
    assert decision.most_margin == pytest.approx(0.25 * 2250.0 / 1.25)
    assert bot.asked == 1
    seconds.now += RATE_SECONDS
    bot.loop()
    assert bot.asked == 1
    seconds.now += 1.0
    bot.loop()
    assert bot.asked == 2


@pytest.mark.parametrize(
    "rate", [None, 0.0, -1.0, float("nan"), float("inf"), "1.1", RuntimeError("no tickers")]
)
def test_currency_when_no_rate_is_known_then_entries_are_refused_and_it_is_asked_for_again_soon(
    path: Path, seconds: Seconds, rate: Any
) -> None:
    other(path).heartbeat("bob", STARTED.timestamp(), 1000.0, 0.0, [])
    bot = Sharing(path, currency="EUR", rate=rate)
    bot.loop(5)
    decision = bot.reserve("ETH/EUR:EUR", 1.0)
    assert decision.outcome is Outcome.UNKNOWN
    assert "EUR" in decision.reason
    bot.rate = 1.25
    seconds.now += LONGEST_PAUSE + 1.0
    bot.loop(3)
    assert bot.reserve("ETH/EUR:EUR", 1.0).granted


# -- In the planner ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(path: Path, tmp_path: Path) -> Iterator[PlannedBot]:
    with database():
        yield PlannedBot(tmp_path, portfolio={"ledger": str(path)})


def bots_of(path: Path, bot: PlannedBot) -> Any:
    return Ledger(str(path), None, None).standing(bot.now.timestamp()).bots


def test_trading_bot_when_it_loops_then_its_trades_are_what_the_ledger_holds(
    planned: PlannedBot, path: Path
) -> None:
    trade = open_position(planned.now, BTC)
    planned.loop(3)
    (known,) = bots_of(path, planned)
    (claim,) = known.claims
    assert (claim.pair, claim.margin, claim.side) == (BTC, trade.stake_amount, "long")
    notional = trade.stake_amount * trade.leverage
    assert 0.03 * notional < claim.risk < 0.04 * notional  # to its stop, with fees and slippage
    assert known.bot.startswith("freqtrade Steady ")
    trade.is_open = False
    Trade.session.commit()
    planned.loop()
    (known,) = bots_of(path, planned)
    assert known.claims == ()


def test_trading_bot_when_started_again_then_it_is_the_same_one(planned: PlannedBot, path: Path) -> None:
    planned.loop(3)
    (before,) = bots_of(path, planned)
    planned.restart()
    planned.loop(3)
    (after,) = bots_of(path, planned)
    assert after.bot == before.bot


def test_trading_bot_when_its_memory_cannot_be_read_then_it_tells_nothing_under_another_name(
    planned: PlannedBot, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plimsoll.host.memory import Memory, MemoryFault

    planned.loop(3)
    (before,) = bots_of(path, planned)

    def fails(memory: Memory) -> Any:
        raise MemoryFault("it cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(Memory, "load", fails)
        planned.restart()
        planned.loop(3)
        assert [bot.bot for bot in bots_of(path, planned)] == [before.bot]
        assert any(
            "the ledger was not asked yet" in reason for reason in planned.planner.gates.bot_wide_blocks()
        )
    planned.loop(3)
    assert [bot.bot for bot in bots_of(path, planned)] == [before.bot]
    assert planned.planner.gates.bot_wide_blocks() == []


@pytest.mark.parametrize(
    ("taken", "margin", "refusal"),
    [
        (0.0, 100.0, None),
        (4_950.0, 50.0, None),
        (
            4_995.0,
            5.0,
            "minimum_stake: margin 5.00, bound by portfolio, is under the exchange's minimum of 10.00",
        ),
        (5_001.0, None, "portfolio: margin of all bots: 5,001.00 used of 5,000.00, 100.00 wanted"),
    ],
)
def test_trading_bot_when_others_took_most_of_the_limits_then_it_enters_what_is_left_or_says_why_not(
    tmp_path: Path, path: Path, taken: float, margin: float | None, refusal: str | None
) -> None:
    with database():
        bot = PlannedBot(tmp_path, portfolio={"ledger": str(path), "asset": 1.0})
        bot.loop(3)
        if taken:
            held = [Holding(BTC, "long", taken, 1.0)]
            other(path).heartbeat("bob", bot.now.timestamp(), 1e-6, 0.0, held)
            bot.loop()
        planner = bot.planner
        plan = planner.entries.plan(pair=ETH, side="long", now=bot.now, rate=100.0, exchange_maximum=20.0)
        assert plan.granted, plan.refusal
        plan = planner.entries.size(plan, proposed=100.0, own=None, minimum=10.0, maximum=10_000.0)
        assert plan.refusal == refusal
        if refusal is not None:
            return
        assert margin is not None
        assert plan.margin == pytest.approx(margin, rel=1e-6)
        amount = plan.notional / 100.0
        assert planner.entries.confirm(pair=ETH, side="long", amount=amount, rate=100.0, now=bot.now) is None
        (claim,) = next(known for known in bots_of(path, bot) if known.bot != "bob").claims
        assert (claim.pair, claim.state, claim.margin) == (ETH, "reserved", plan.margin)
        # Nobody else gets it meanwhile; the same order asks once more and has it.
        assert planner.entries.confirm(pair=ETH, side="long", amount=amount, rate=100.0, now=bot.now) is None
        assert len(bots_of(path, bot)[-1].claims) == 1


# -- Positions that are in no bot's books -------------------------------------------------------------------------------------


def test_foreign_position_when_two_bots_count_it_then_the_first_by_name_keeps_it(path: Path) -> None:
    amy, bob = Sharing(path, "amy"), Sharing(path, "bob")
    for bot in (amy, bob):
        bot.hold(BTC, 100.0)
        bot.loop(2)
    amy.loop()
    assert amy.fleet.claimed_by_others() == {BTC}
    assert amy.fleet.claimed_by_others({BTC}) == set()
    assert bob.fleet.claimed_by_others({BTC}) == {BTC}


def test_foreign_position_when_another_bot_reserved_it_then_it_is_that_bots(path: Path) -> None:
    amy, bob = Sharing(path, "amy"), Sharing(path, "bob")
    for bot in (amy, bob):
        bot.loop(3)
    assert bob.reserve(BTC, 100.0).granted
    amy.loop()
    assert amy.fleet.claimed_by_others({BTC}) == {BTC}


def test_foreign_position_when_two_bots_of_an_account_see_it_then_it_counts_all_the_time_and_soon_once(
    path: Path,
) -> None:
    held = {BTC: PositionWallet(BTC, position=2.0, leverage=4.0, collateral=50.0, side="long")}
    live: Any = SimpleNamespace(
        config={"runmode": RunMode.LIVE, "trading_mode": TradingMode.FUTURES},
        wallets=SimpleNamespace(get_all_positions=lambda: held),
    )
    bots = [(Sharing(path, name), dict[str, tuple[int, int]]()) for name in ("amy", "bob")]
    margins, said = [], []
    for _ in range(3 * PATIENCE // 5):
        for bot, seen in bots:
            counted = {position.pair for position in bot.positions}
            claimed = bot.fleet.claimed_by_others(counted)
            bot.positions = foreign_positions(live, [], claimed, int(bot.now.timestamp()), seen)
            said += [text for text in bot.loop() if "found" in text]
        standing = bots[1][0].fleet.standing
        assert standing is not None
        margins.append(standing.margin)
    first = next(place for place, margin in enumerate(margins) if margin)
    assert first * 5 <= PATIENCE + 15
    assert set(margins[first:]) <= {50.0, 100.0}
    assert set(margins[first + 2 :]) == {50.0}
    assert len(said) <= 2
