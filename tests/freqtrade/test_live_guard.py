"""The guard in stock ``freqtrade trade`` with ``dry_run`` false: what it promises beside the account of an exchange."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.enums import RunMode
from guarded_live_bot import (
    BTC,
    ETH,
    LIMITS,
    LTC,
    START,
    SYMBOLS,
    GuardedLiveBot,
    guarded_live_bot,
)

from plimsoll.host.proving import Proving
from plimsoll.market.candle_files import write_market
from plimsoll.market.clock import unavailable
from plimsoll.market.faults import Fault
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market
from plimsoll.rules.proving import MAX_GAP
from plimsoll.settings.load import load

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}"),
]

DAY = 86_400
REFRESH = 301  # seconds: the guard has balance and positions read anew
PROVING: dict[str, Any] = {"gates": {}}


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("candles")
    write_market(simulate_market(8, 36, START, DEFAULT_PAIRS[:3], flash_crash=False), directory)
    return directory


def opened(bot: GuardedLiveBot, *pairs: str) -> bool:
    """Wait until a pair's position is booked and its stop rests."""
    return bot.wait(lambda: all(bot.is_open(pair) and bot.resting_stops(pair) for pair in pairs), 30)


def refusals(bot: GuardedLiveBot, pair: str) -> list[str]:
    return [plan["refusal"] for plan in bot.records("plan") if plan["pair"] == pair and not plan["granted"]]


# -- PROVING -------------------------------------------------------------------------------------------------


class DryRun:
    """The record of a dry-run of the same strategy and settings, made by `Proving` itself on a clock of its own."""

    def __init__(self, directory: Path) -> None:
        stub: Any = SimpleNamespace(
            config={"runmode": RunMode.DRY_RUN, "user_data_dir": directory},
            timeframe="1h",
            get_strategy_name=lambda: "Obeying",
        )
        self._proving = Proving(stub, load(LIMITS | PROVING))
        self._now = int((START - timedelta(days=30)).timestamp())
        self._end = self._now
        self._loop()

    def run_until(self, seconds: int) -> None:
        end = self._end + seconds
        while self._now < end:
            self._now = min(self._now + MAX_GAP, end)
            self._loop()

    def _loop(self) -> None:
        self._proving.loop(datetime.fromtimestamp(self._now, UTC))


def reloaded(bot: GuardedLiveBot, plimsoll: dict[str, Any]) -> None:
    """Have the bot take up other settings."""
    before = bot.log().count("Bot heartbeat")
    bot.configure(plimsoll)
    assert bot.rest("POST", "reload_config")[0] == 200
    assert bot.wait(lambda: bot.log().count("Bot heartbeat") > before, 30), bot.last_words()
    bot.loop(3)


def test_live_bot_when_its_dry_run_is_not_on_record_then_opens_nothing_and_says_how_to_proceed(
    candles: Path, tmp_path: Path
) -> None:
    need = "live entries need 14 days of dry-run on record"
    way_out = "keep the dry-run running, or set plimsoll.gates.proving_override to true"
    with guarded_live_bot(candles, tmp_path, PROVING, api=True) as bot:
        bot.tell(enter={BTC: "long"})
        bot.loop(3)
        status = bot.status()
        assert (status["runmode"], status["entries"]) == ("live", "blocked")
        assert status["proving"] == {"needed_days": 14.0, "days": 0.0, "satisfied": False}
        (block,) = status["blocked_by"]
        refusal = refusals(bot, BTC)[-1]
        for told in (block, refusal):
            assert told.startswith(f"proving: {need}")
            assert told.endswith(way_out)
        assert len(bot.said(way_out)) == 1

        dry_run = DryRun(bot.directory)
        dry_run.run_until(14 * DAY - 60)
        bot.loop(5)
        assert bot.status()["proving"]["days"] == pytest.approx(14.0 - 60 / DAY)
        assert bot.trades() == []
        dry_run.run_until(14 * DAY)
        assert opened(bot, BTC), bot.last_words()
        bot.loop(2)
        status = bot.status()
        assert (status["entries"], status["proving"]["satisfied"]) == ("open", True)
        assert len(bot.said(way_out)) == 1

        # Other settings were never run dry; what is open is still looked after.
        reloaded(bot, PROVING | {"risk": {"per_trade": 0.019}})
        bot.tell(enter={LTC: "short"})
        bot.loop(3)
        assert bot.status()["proving"] == {"needed_days": 14.0, "days": 0.0, "satisfied": False}
        assert refusals(bot, LTC)[-1].startswith(f"proving: {need}")
        assert len(bot.resting_stops(BTC)) == 1
        assert len(bot.said(way_out)) == 2
        bot.tell(exit=[BTC])
        assert bot.wait(lambda: not bot.is_open(BTC), 30), bot.last_words()
        bot.loop(2)
        assert bot.amount(LTC) == 0.0

        reloaded(bot, {"risk": {"per_trade": 0.019}, "gates": {"proving_override": True}})
        assert opened(bot, LTC), bot.last_words()
        bot.loop(2)
        assert bot.status()["proving"] == {"needed_days": 14.0, "days": 0.0, "satisfied": True}


def test_live_bot_when_margin_is_cross_then_refuses_to_start_and_says_the_way_out(
    candles: Path, tmp_path: Path
) -> None:
    with guarded_live_bot(candles, tmp_path, overrides={"margin_mode": "cross"}) as bot:
        bot.tell(enter={BTC: "long"})
        assert not bot.wait(lambda: False, 60)
        assert bot.process is not None
        assert bot.process.poll() not in (None, 0), bot.last_words()
        assert "set margin_mode to isolated, or plimsoll.gates.allow_cross_margin to true" in bot.last_words()
        assert (bot.loops(), bot.account.orders) == (0, {})


# -- THE ACCOUNT BEHIND THE BOT'S BACK -----------------------------------------------------------------------


def losses(bot: GuardedLiveBot) -> dict[str, float]:
    """Return what the breakers take for lost, and the peak per unit."""
    found = {name: bot.breaker(name)["value"] for name in ("drawdown", "daily_loss", "weekly_loss")}
    return found | {"peak": bot.memory()["breakers"]["equity"]["drawdown"]["peak"]}


def money_moves(bot: GuardedLiveBot, amount: float) -> None:
    """A deposit and two withdrawals are no profit and no loss."""
    before, equity = losses(bot), bot.status()["equity"]
    bot.account.deposit(amount)
    for moved in (amount, 0.0, -amount):
        bot.forward(REFRESH, 5)
        assert bot.status()["equity"] == pytest.approx(equity + moved, rel=1e-4)
        assert bot.memory()["flows"]["total"] == pytest.approx(moved, abs=0.5)
        assert losses(bot) == pytest.approx(before, abs=2e-5)
        if moved >= 0.0:
            bot.account.withdraw(amount)
    assert bot.records("breaker") == []


def stop_is_missing(bot: GuardedLiveBot) -> None:
    """A stop that the exchange drops and refuses stops entries of all pairs after a minute, and no exit."""
    missing = f"the stop of {BTC} has not rested on the exchange"
    bot.account.refuse_stops()
    bot.account.drop_stops(SYMBOLS[BTC])
    bot.loop(3)
    bot.forward(58)
    assert (bot.said(missing), bot.status()["entries"]) == ([], "open")
    bot.forward(4)
    assert len(bot.said(missing)) == 1
    (block,) = bot.status()["blocked_by"]
    assert missing in block
    assert bot.position(BTC)["stop_on_exchange"] is False

    bot.tell(enter={LTC: "short"}, exit=[ETH])
    assert bot.wait(lambda: not bot.is_open(ETH), 30), bot.last_words()
    assert (bot.trade(ETH)["exit_reason"], bot.amount(ETH)) == ("told", 0.0)
    bot.forward(30, 5)
    assert bot.amount(LTC) == 0.0
    assert missing in refusals(bot, LTC)[-1]
    assert len(bot.said(missing)) == 1

    bot.tell(exit=[])
    bot.account.refuse_stops(None)
    assert opened(bot, BTC, LTC), bot.last_words()
    bot.loop(2)
    assert bot.status()["blocked_by"] == []
    assert len(bot.said(f"{BTC}: fits again")) == 1


def positions_differ(bot: GuardedLiveBot) -> None:
    """A position that is gone, another size or the other side is reported and stops entries until it fits again."""
    gone = f"the position in {BTC} is gone from the exchange, the trade is still open"
    other = f"of {LTC}, the trade"
    long, short = bot.amount(BTC), bot.amount(LTC)
    assert long > 0.0 > short
    bot.account.close_position(SYMBOLS[BTC])
    bot.account.open_foreign_position(SYMBOLS[LTC], round(-0.05 * short, 3))
    bot.tell(enter={})
    bot.forward(REFRESH)
    assert (bot.said(gone), bot.said(other)) == ([], [])
    bot.forward(121)
    assert len(bot.said(gone)) == len(bot.said(other)) == 1
    bot.tell(enter={ETH: "long"})
    bot.loop(3)
    blocks = bot.status()["blocked_by"]
    assert [gone in block for block in blocks] == [True, False]
    assert other in blocks[1]
    refused = refusals(bot, ETH)[-1]
    assert gone in refused

    bot.account.open_foreign_position(SYMBOLS[BTC], long, leverage=2)
    bot.account.open_foreign_position(SYMBOLS[LTC], -short - bot.amount(LTC))
    assert bot.amount(LTC) == -short
    bot.forward(REFRESH)
    (block,) = bot.status()["blocked_by"]
    assert block.endswith(f"the exchange holds a long in {LTC}, the trade is short")
    assert len(bot.said(f"the exchange holds a long in {LTC}")) == 1
    bot.account.open_foreign_position(SYMBOLS[LTC], 2 * short)
    bot.forward(REFRESH)
    assert opened(bot, ETH), bot.last_words()
    bot.loop(2)
    assert bot.status()["blocked_by"] == []


def liquidated(bot: GuardedLiveBot) -> None:
    """What an exchange takes is a loss, said once, and no entry until a candle without the signal and one with it."""
    name = f"liquidated {BTC}"
    before, status, streak = losses(bot), bot.status(), bot.breaker("streak")["value"]
    margin = bot.account.positions[SYMBOLS[BTC]].isolated_wallet
    assert margin > 0.2 * status["equity"]
    bot.tell(enter={BTC: "long"})
    bot.price(BTC, 0.45 * bot.trade(BTC)["open_rate"])
    assert bot.liquidations()
    assert bot.wait(lambda: not bot.trade(BTC)["is_open"], 30), bot.last_words()
    bot.loop(4)

    outcome = bot.records("outcome")[-1]
    assert (outcome["pair"], outcome["profit"]) == (BTC, pytest.approx(-margin, rel=0.02))
    assert [each["blocked"] for each in bot.records("breaker") if each["breaker"] == name] == [True]
    assert len(bot.said(f"{name}: liquidated at")) == 1
    assert bot.breaker("streak")["value"] == streak + 1
    after, lost = losses(bot), margin / status["equity"]
    assert after["peak"] == pytest.approx(before["peak"], rel=1e-9)
    for each in ("drawdown", "daily_loss", "weekly_loss"):
        assert 1.0 - (1.0 - after[each]) / (1.0 - before[each]) == pytest.approx(lost, rel=0.02)

    trades = len(bot.trades())
    for _ in range(3):  # the candle of the liquidation, and two with the signal that is no new one
        bot.forward(3600, 4)
        assert len(bot.trades()) == trades
        locks = [each for each in bot.locks() if each["pair"] == BTC and each["active"]]
        (lock,) = [each for each in locks if each["lock_end_time"] > bot.clock.now()]
        assert (name in lock["reason"], bot.breaker(name)["state"]) == (True, "tripped")
    bot.tell(enter={})
    bot.forward(3600, 4)
    assert bot.breaker(name)["state"] == "tripped"
    bot.tell(enter={BTC: "long"})
    bot.forward(3600, 4)
    assert opened(bot, BTC), bot.last_words()
    bot.loop(2)
    assert len(bot.trades()) == trades + 1


def test_live_bot_when_the_account_changes_behind_its_back_then_tells_flows_stops_positions_and_losses_apart(
    candles: Path, tmp_path: Path
) -> None:
    with guarded_live_bot(candles, tmp_path) as bot:
        bot.tell(enter={BTC: "long", ETH: "short"})
        assert opened(bot, BTC, ETH), bot.last_words()
        bot.tell(enter={})
        bot.forward(1)
        money_moves(bot, bot.position(BTC)["margin"])
        stop_is_missing(bot)
        positions_differ(bot)
        liquidated(bot)
        assert bot.records("fault") == []


# -- KILL -9 AND MARGIN HEALTH -------------------------------------------------------------------------------


def killed_and_started(bot: GuardedLiveBot) -> None:
    """Nothing is bought or sold twice, stop and plan are still there."""
    bot.loop(3)  # what was just opened is written down
    trades, plans, placed = bot.trades(), bot.plans(), dict(bot.account.orders)
    stops = [bot.resting_stops(pair)[0].id for pair in (BTC, ETH)]
    assert plans.keys() == {trade["id"] for trade in trades}
    risk = {each["pair"]: each["risk"] for each in bot.status()["positions"]}
    bot.kill()
    bot.start()
    bot.loop(4)
    assert [[stop.id for stop in bot.resting_stops(pair)] for pair in (BTC, ETH)] == [[id_] for id_ in stops]
    assert {trade["id"]: trade["amount"] for trade in bot.trades()} == {t["id"]: t["amount"] for t in trades}
    assert bot.account.orders == placed
    assert bot.plans() == plans
    assert {each["pair"]: each["risk"] for each in bot.status()["positions"]} == risk


def walk(bot: GuardedLiveBot, pair: str, price: float) -> tuple[float, str]:
    """Move a price, and return what is left of a position then and what was said of its margin first."""
    before = len(bot.records("margin_health"))
    bot.price(pair, price)
    bot.loop(6)
    actions = [each["action"] for each in bot.records("margin_health")[before:] if each["pair"] == pair]
    return abs(bot.amount(pair)), actions[0] if actions else "none"


def test_live_bot_when_stops_fail_and_liquidation_comes_near_then_alerts_halves_and_closes_through_kills_and_outages(
    candles: Path, tmp_path: Path
) -> None:
    outage = Fault(kind="server_error", endpoints=("POST order",))
    lost = Fault(kind="lost_answer", endpoints=("POST order",), hold_seconds=0.2)
    # Otherwise the guard exits where the stop should have: margin health is the line behind that.
    behind = {"stop": {**LIMITS.get("stop", {}), "exit_when_missing": False}}
    with guarded_live_bot(candles, tmp_path, plimsoll=behind, overrides={"use_exit_signal": False}) as bot:
        bot.tell(enter={BTC: "long", ETH: "short"}, leverage={BTC: 2.0, ETH: 1.0})
        assert opened(bot, BTC, ETH), bot.last_words()
        bot.tell(columns=[BTC, ETH])  # and the entry signals stay: what is sold must not be bought again
        killed_and_started(bot)

        long, short = bot.amount(BTC), -bot.amount(ETH)
        bot.account.refuse_stops()
        for pair in (BTC, ETH):
            bot.account.drop_stops(SYMBOLS[pair])
        assert walk(bot, BTC, bot.price_at_margin_used(BTC, 0.79)) == (long, "none")
        assert walk(bot, BTC, bot.price_at_margin_used(BTC, 0.81)) == (long, "alert")
        assert len(bot.said(f"margin health of {BTC}")) == 1
        assert walk(bot, ETH, bot.price_at_distance(ETH, 0.105)) == (short, "none")

        # Decided, not carried out, killed: the next process carries it out, once.
        bot.faults.on(outage)
        assert walk(bot, ETH, bot.price_at_distance(ETH, 0.095)) == (short, "reduce")
        assert bot.faults.counts["server_error"] >= 2
        assert bot.memory()["margin"]["exits"].keys() == {str(bot.trade(ETH)["id"])}
        bot.kill()
        bot.faults.off(outage)
        bot.start()
        assert bot.wait(lambda: -bot.amount(ETH) < short, 60), bot.last_words()
        bot.loop(6)
        assert -bot.amount(ETH) == bot.trade(ETH)["amount"] == pytest.approx(short / 2, abs=0.001)
        assert len(bot.filled(ETH, "BUY")) == 1
        assert bot.memory()["margin"]["exits"] == {}

        # The long: first refused, then carried out without an answer, and not once more while it is not known.
        bot.faults.on(outage)
        assert walk(bot, BTC, bot.price_at_distance(BTC, 0.095)) == (long, "reduce")
        bot.faults.on(lost)
        bot.faults.off(outage)
        assert bot.wait(lambda: bot.amount(BTC) < long, 30), bot.last_words()
        bot.loop(6)
        assert bot.faults.counts["lost_answer"] == 1
        bot.faults.off(lost)
        assert bot.amount(BTC) == bot.trade(BTC)["amount"] == pytest.approx(long / 2, abs=0.001)
        for pair, whole in ((BTC, long), (ETH, short)):
            left, action = walk(bot, pair, bot.price_at_distance(pair, 0.055))
            assert (left, action) == (pytest.approx(whole / 4, abs=0.002), "reduce")
            assert walk(bot, pair, bot.price_at_distance(pair, 0.045)) == (0.0, "close")
            trade = bot.trade(pair)
            assert (trade["is_open"], trade["exit_reason"]) == (0, "plimsoll_margin_close")
        assert (len(bot.filled(BTC, "SELL")), len(bot.filled(ETH, "BUY"))) == (3, 3)
        assert (len(bot.filled(BTC, "BUY")), len(bot.filled(ETH, "SELL"))) == (1, 1)
        assert bot.liquidations() == []
        assert bot.records("fault") == []


def test_live_bot_when_the_exchange_refuses_stops_then_exits_where_the_stop_should_have(
    candles: Path, tmp_path: Path
) -> None:
    with guarded_live_bot(candles, tmp_path) as bot:
        bot.tell(enter={BTC: "long", ETH: "short"})
        assert opened(bot, BTC, ETH), bot.last_words()
        bot.loop(2)
        stops = {pair: bot.trade(pair)["stop_loss"] for pair in (BTC, ETH)}
        bot.account.refuse_stops()
        for pair, way in ((BTC, 1), (ETH, -1)):
            bot.account.drop_stops(SYMBOLS[pair])
            held = abs(bot.amount(pair))
            assert walk(bot, pair, stops[pair] * (1 + way * 0.0005))[0] == held  # just inside
            assert walk(bot, pair, stops[pair] * (1 - way * 0.0005))[0] == 0.0
            assert (bot.trade(pair)["is_open"], bot.trade(pair)["exit_reason"]) == (0, "plimsoll_stop")
        losses = [each["realised_r"] for each in bot.records("outcome")]
        assert len(losses) == 2
        assert all(-1.1 <= loss <= -0.85 for loss in losses)


def test_live_bot_when_a_position_is_in_nobodys_books_then_says_so_once_and_counts_it_in_every_limit(
    candles: Path, tmp_path: Path
) -> None:
    tight = {"exposure": {**LIMITS.get("exposure", {}), "heat": 0.3}}
    with guarded_live_bot(candles, tmp_path, plimsoll=tight) as bot:
        bot.tell(enter={BTC: "long"})
        assert opened(bot, BTC), bot.last_words()
        bot.loop(2)
        before = bot.status()["exposure"]
        # More than the cap of all notional together leaves.
        price, equity = bot.account.quote(SYMBOLS[LTC]).last, bot.status()["equity"]
        bot.account.open_foreign_position(SYMBOLS[LTC], -round(2.0 * equity / price), leverage=5)
        bot.forward(REFRESH)
        bot.forward(REFRESH)
        assert len(bot.said(f"a short position in {LTC} is on the account and in no bot's books")) == 1
        after = bot.status()["exposure"]
        assert after["gross"] - before["gross"] == pytest.approx(2.0, rel=0.05)
        assert after["heat"] > after["heat_limit"]
        trades = len(bot.trades())
        bot.tell(enter={ETH: "long"})
        bot.forward(3600, 6)
        assert len(bot.trades()) == trades
        refused = [each for each in bot.records("plan") if each["pair"] == ETH]
        assert refused
        assert not any(each["granted"] for each in refused)
