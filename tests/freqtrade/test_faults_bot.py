"""Stock dry-run bots, guarded and not, while a market crashes, an exchange fails, and a clock jumps.

The unguarded bot is the control: it lives on the same exchange at the same time, so what it could not do either is Freqtrade's
or the exchange's, and what it did although a rule forbids it has to be found by the same checks.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import freqtrade
import pytest
from fault_checks import (
    STOPS,
    could_exit_from,
    entries,
    forbidden_entries,
    journal_of,
    loops_to_exit,
    own_exceptions,
)
from fault_runs import BTC, ETH, LTC, PAIRS, PEPE, SUI, Rig, moment, running, write_scripted

from plimsoll.market.clock import unavailable
from plimsoll.market.faults import Fault
from plimsoll.rules.liquidation import MaintenanceTier, liquidation_price

pytestmark = [
    pytest.mark.freqtrade,
    pytest.mark.skipif(unavailable() is not None, reason=f"no clock for the bot: {unavailable()}"),
]

LONGEST = 1e6  # minutes
FLAT = ((0.0, 1.0), (LONGEST, 1.0))
HELD = {BTC, ETH, LTC}
# Wide enough for every position at once, and nothing that lasts: an earlier episode must not decide about a later one.
ROOM: dict[str, Any] = {
    "exposure": {"total_margin": 0.6, "position_margin": 0.1},
    "off": ["streak", "correlation", "decay"],
    "loss_limit": {"daily": 0.5, "weekly": 0.9},
    "drawdown": {"limit": 0.5},
}


def open_pairs(bot) -> set[str]:
    return {trade["pair"] for trade in bot.trades() if trade["is_open"] and trade["amount"]}


def closed(bot) -> list[dict[str, Any]]:
    return [trade for trade in bot.trades() if not trade["is_open"]]


# -- CRASH -----------------------------------------------------------------------------------------------

LEVERAGED = """
class Plain(Looping):
    stoploss = -0.99

    def leverage(self, *args, **kwargs):
        return 5.0

    def populate_entry_trend(self, dataframe, metadata):
        long = metadata["pair"][:3] in ("BTC", "LTC", "SUI")
        early = dataframe["date"] < "2024-02-03 02:00"
        dataframe.loc[early, "enter_long" if long else "enter_short"] = 1
        return dataframe


class Careful(Guarded, Plain):
    pass
"""
FALLS_AT, FALLS_FOR = 130.0, 20.0


def true_liquidation(trade: Mapping[str, Any]) -> float:
    """Return where the exchange liquidates, without any buffer, by the tier of the notional."""
    file = Path(freqtrade.__file__).parent / "exchange" / "binance_leverage_tiers.json"
    tiers = [
        MaintenanceTier(
            float(tier["minNotional"]),
            float(tier["maxNotional"]),
            float(tier["maintenanceMarginRate"]),
            float(tier["info"]["cum"]),
        )
        for tier in json.loads(file.read_text())[trade["pair"]]
    ]
    return liquidation_price(
        side="short" if trade["is_short"] else "long",
        open_rate=trade["open_rate"],
        amount=trade["amount"],
        margin=trade["stake_amount"],
        tiers=tiers,
        buffer=0.0,
    )


def worst_within_a_loop(rig: Rig, trade: Mapping[str, Any]) -> float:
    """Return the worst price from the stop's crossing until the end of the first whole loop after it."""
    begin = could_exit_from(rig, trade)
    assert begin is not None, trade
    later = [at for at in rig.loops(rig.guarded) if at > begin / 1000]
    end = int(later[1] * 1000) if len(later) > 1 else rig.true_ms()
    prices = [rig.told(trade["pair"], at) for at in range(begin, end + 1000, 1000)]
    return max(prices) if trade["is_short"] else min(prices)


@pytest.mark.parametrize("factor", [0.72, pytest.param(1.28, marks=pytest.mark.slow)])
def test_positions_when_a_crash_unfolds_then_each_exits_at_its_stop_within_r_and_a_loop(tmp_path, factor):
    data = tmp_path / "data"
    shape = [(0, 1), (FALLS_AT, 1), (FALLS_AT + FALLS_FOR, factor), (LONGEST, factor)]
    write_scripted(data, dict.fromkeys(PAIRS, shape))
    limits = {"exposure": {"total_margin": 0.6}, "off": ["correlation"]}
    more = {
        "max_open_trades": 5,
        "exchange": {"ccxt_config": {"timeout": 120_000}, "ccxt_async_config": {"timeout": 120_000}},
    }
    # Without Freqtrade's buffer the control shows what an exchange does to it, however fast its loops are.
    unbuffered = {"liquidation_buffer": 0.0}
    with running(tmp_path, data, LEVERAGED, moment(55), limits, config=more, raw_config=unbuffered) as rig:
        assert rig.each(lambda bot: len(open_pairs(bot)) == 5, speed=100), rig.words()
        rig.until(moment(FALLS_AT - 1), 1200)
        before = {trade["id"]: trade for trade in rig.guarded.trades()}
        losing = [t["id"] for t in before.values() if t["is_short"] == (factor > 1)]

        def all_out(bot) -> bool:
            return sum(t["is_short"] == (factor > 1) for t in closed(bot)) >= len(losing)

        # Slowly: a bot that stands for a while must not miss the way from its stop to its liquidation.
        assert rig.each(lambda bot: bot is rig.raw or all_out(bot), speed=20, pace=4.0), rig.words()
        assert rig.each(all_out, speed=120), rig.words()
        trades = {trade["id"]: trade for trade in rig.guarded.trades()}
        control = {trade["pair"]: trade for trade in rig.raw.trades()}
        assert rig.guarded.alive()
        losses = {i: -trades[i]["close_profit_abs"] for i in losing}
        delays = {i: loops_to_exit(rig, rig.guarded, trades[i]) for i in losing}
        worst = {i: worst_within_a_loop(rig, trades[i]) for i in losing}
        rig.guarded.stop()
    outcomes = {r["trade_id"]: r for r in journal_of(tmp_path) if r["kind"] == "outcome"}
    plans = [r for r in journal_of(tmp_path) if r["kind"] == "plan" and r["granted"]]
    assert len(before) == 5
    assert len(losing) == (2 if factor > 1 else 3)
    for i in losing:
        trade, sign = trades[i], (-1 if trades[i]["is_short"] else 1)
        # The market went through the liquidation price of who has the strategy's leverage, and took nearly all of its margin.
        raw = control[trade["pair"]]
        assert sign * (raw["close_rate"] - true_liquidation(raw)) < 0
        assert raw["close_profit"] < -0.9
        assert trade["exit_reason"] in STOPS
        assert trade["stop_loss"] == pytest.approx(before[i]["stop_loss"])
        assert sign * (trade["stop_loss"] - true_liquidation(trade)) > 0
        assert sign * (trade["close_rate"] - true_liquidation(trade)) > 0
        assert delays[i] in (0, 1, 2), (trade, delays)
        slipped = max(0.0, sign * (trade["stop_loss"] - worst[i])) * trade["amount"]
        risk = next(r["risk"] for r in plans if r["pair"] == trade["pair"])
        planned = outcomes[i]["planned_risk"] if i in outcomes else risk
        print(f"{trade['pair']}: lost {losses[i] / planned:.3f} R, bound {1 + slipped / planned:.3f} R")
        assert planned <= risk * 1.001
        assert 0 < losses[i] <= planned + slipped * 1.001
    for i in before.keys() - set(losing):
        assert trades[i]["exit_reason"] not in {"liquidation", *STOPS}
    assert not own_exceptions(rig.guarded.log())


# -- FAULTS ----------------------------------------------------------------------------------------------

STEADY = """
class Plain(Looping):
    stoploss = -0.008

    def leverage(self, *args, **kwargs):
        return 1.0

    def populate_entry_trend(self, dataframe, metadata):
        minute = dataframe["date"].dt.minute
        late = metadata["pair"][:3] in ("SUI", "100")
        side = "enter_short" if metadata["pair"].startswith("ETH") else "enter_long"
        dataframe.loc[minute.between(20, 55) | (not late), side] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        if metadata["pair"][:3] in ("SUI", "100"):
            dataframe.loc[dataframe["date"].dt.minute.between(0, 15), "exit_long"] = 1
        return dataframe


class Careful(Guarded, Plain):
    pass
"""
BOOKS = ("depth",)
OFFSET = 600.0
TOGETHER = [
    [
        Fault(kind="timeout", endpoints=BOOKS, pairs=(BTC,), hold_seconds=2.0),
        Fault(kind="rate_limit", endpoints=BOOKS, pairs=(ETH,)),
        Fault(kind="banned", endpoints=BOOKS, pairs=(LTC,)),
    ],
    [
        Fault(kind="lost_answer", endpoints=BOOKS, pairs=(BTC,), hold_seconds=2.0),
        Fault(kind="server_error", status=503),
    ],
    [Fault(kind="frozen_price")],
    [Fault(kind="clock_offset", offset_seconds=-OFFSET)],
]
ALONE = [
    [Fault(kind="timeout", endpoints=BOOKS, pairs=(BTC,), hold_seconds=2.0)],
    [Fault(kind="lost_answer", endpoints=BOOKS, pairs=(ETH,), hold_seconds=2.0)],
    [Fault(kind="server_error", status=500)],
    [Fault(kind="server_error", status=502, endpoints=("klines",))],
    [Fault(kind="server_error", probability=0.5)],
    [Fault(kind="rate_limit", endpoints=BOOKS)],
    [Fault(kind="banned", endpoints=BOOKS)],
    [Fault(kind="frozen_price")],
    [Fault(kind="frozen_price"), Fault(kind="stale_candles")],
    [Fault(kind="clock_offset", offset_seconds=-OFFSET)],
    [Fault(kind="clock_offset", offset_seconds=OFFSET)],
]
# Candles are stale, and an open position's value unknown, after two hours only, so these last three.
LONG = [
    [Fault(kind="stale_candles", pairs=(BTC, ETH, LTC, PEPE)), Fault(kind="gap", pairs=(SUI,))],
    [Fault(kind="server_error", pairs=(BTC,))],
]


def steps(ratio: float, at: Sequence[float]) -> list[tuple[float, float]]:
    """Return a level that steps within the five minutes after each of these, where every stop is crossed."""
    shape, factor = [(0.0, 1.0)], 1.0
    for minutes in at:
        shape.append((minutes, factor))
        factor *= ratio
        shape.append((minutes + 5, factor))
    return [*shape, (LONGEST, factor)]


def all_held(bot) -> bool:
    return open_pairs(bot) >= HELD


def episode(rig: Rig, faults: list[Fault], begin: float, end: float) -> None:
    """Let faults come over full positions, and go after every stop was crossed; wait until all are closed."""
    assert rig.each(all_held, speed=150), f"{faults}\n{rig.words()}"
    rig.until(moment(begin - 6), 900)
    rig.until(moment(begin), 300)
    assert all(all_held(bot) for bot in rig.bots.values()), f"{faults}\n{rig.words()}"
    held = {bot.directory: {t["id"] for t in bot.trades() if t["is_open"]} for bot in rig.bots.values()}
    counted = [rig.faults.counts[fault.kind] for fault in faults]
    made = rig.on(*faults)
    rig.until(moment(end - 15), 1500)
    rig.until(moment(end), 300)
    assert rig.pass_loops(2 if faults in LONG else 1, speed=100), f"{faults}\n{rig.words()}"
    rig.off(made)
    for fault, before in zip(faults, counted, strict=True):
        assert rig.faults.counts[fault.kind] > before, fault
    assert [bot.alive() for bot in rig.bots.values()] == [True, True], f"{faults}\n{rig.words()}"

    def stopped(bot) -> bool:
        own = {t["id"] for t in closed(bot) if t["pair"] in HELD}
        return len(own & held[bot.directory]) == len(HELD)

    assert rig.each(stopped, speed=100), f"{faults}\n{rig.words()}"


@pytest.mark.parametrize(
    "quick", [TOGETHER, pytest.param(ALONE, marks=pytest.mark.slow)], ids=["together", "alone"]
)
def test_bot_when_the_exchange_fails_then_enters_nothing_forbidden_and_exits_as_stock_does(tmp_path, quick):
    data = tmp_path / "data"
    # When each episode's faults begin, its stops are crossed, and its faults end.
    times = [(60 * hour + 25, 60 * hour + 30, 60 * hour + 36) for hour in range(1, len(quick) + 1)]
    last = 60 * len(quick)
    times += [(last + 82, last + 220, last + 232), (last + 262, last + 400, last + 412)]
    dips = [dip for _, dip, _ in times]
    falls, rises = steps(0.975, dips), steps(1.025, dips)
    write_scripted(data, {BTC: falls, ETH: rises, LTC: falls, SUI: FLAT, PEPE: FLAT})
    more = {"max_open_trades": 3}
    with running(tmp_path, data, STEADY, moment(61), ROOM, config=more) as rig:
        for faults, (begin, _, end) in zip([*quick, *LONG], times, strict=True):
            late = max(0.0, -faults[0].offset_seconds / 60)
            episode(rig, faults, begin, end + late)
            # The positions of the hour's second half close when the next one begins.
            rig.until(moment(60 * (end // 60) + 62), 900)
    journal, bots = journal_of(tmp_path), rig.bots.items()
    stops = {name: [t for t in closed(bot) if t["pair"] in HELD] for name, bot in bots}
    waited = {
        name: sorted((t["pair"], t["open_date"], loops_to_exit(rig, bot, t)) for t in stops[name])
        for name, bot in bots
    }
    forbidden = {name: forbidden_entries(rig, bot, journal) for name, bot in bots}
    assert forbidden["guarded"] == []
    # The checks see every entry: were the plans refusals, each would be forbidden.
    refusals = [copy.deepcopy(record) | {"granted": False, "refusal": "doctored"} for record in journal]
    doctored = forbidden_entries(rig, rig.guarded, refusals)
    assert len(doctored) == len(entries(rig.guarded)) >= 3 * len(times)
    for when, rule, reason in (
        (rig.episodes[-2], "stale", "volatility is nan"),
        (rig.episodes[-1], "equity", "equity is unknown"),
    ):
        for pair in (SUI, PEPE):
            assert any(fault.startswith(f"{rule}: long {pair}") for fault in forbidden["raw"]), (
                pair,
                forbidden["raw"],
            )
            plans = [
                r
                for r in journal
                if r["kind"] == "plan" and r["pair"] == pair and when.begin < r["time"] * 1000 < when.end
            ]
            assert plans, pair
            assert all(not plan["granted"] and reason in plan["refusal"] for plan in plans), plans
    for name, trades in stops.items():
        assert len(trades) == 3 * len(times), name
        assert {trade["exit_reason"] for trade in trades} <= STOPS, name
    for own, stock in zip(waited["guarded"], waited["raw"], strict=True):
        assert own[0] == stock[0]
        assert None not in (own[2], stock[2])
        assert own[2] <= stock[2] + 1, (own, stock)
    # An exit an hour later would be seen as late.
    trade = stops["guarded"][0]
    later = trade | {"close_date": trade["close_date"] + timedelta(hours=1)}
    assert loops_to_exit(rig, rig.guarded, later) > loops_to_exit(rig, rig.guarded, trade) + 2
    assert not own_exceptions(rig.guarded.log())


# -- CLOCK -----------------------------------------------------------------------------------------------


SECOND = 300.0


@pytest.mark.slow
def test_bot_when_its_clock_jumps_then_enters_nothing_meanwhile_exits_and_recovers(tmp_path):
    data = tmp_path / "data"
    shapes = dict.fromkeys(PAIRS, FLAT)
    write_scripted(data, shapes | {BTC: steps(0.97, (160, SECOND)), ETH: steps(1.03, (SECOND,))})
    # The hours count by the clock: a day forward would stop entries until an operator's word.
    limits = ROOM | {"deadman": {"hours": 72.0}, "off": ["correlation", "decay"]}
    with running(tmp_path, data, STEADY, moment(121), limits, raw=False, own_clock=True) as rig:
        bot, clock = rig.guarded, rig.clock

        def stopped(pair: str, number: int = 1) -> bool:
            return sum(trade["pair"] == pair for trade in closed(bot)) >= number

        def ids() -> set[int]:
            return {trade["id"] for trade in bot.trades()}

        def behind() -> bool:
            return "the clock went back" in bot.log()[told:]

        assert rig.each(lambda _: all_held(bot), speed=100), rig.words()
        rig.until(moment(150), 300)
        told = len(bot.log())
        # Half a minute is a clock that was put right, and changes nothing.
        rig.run(20, clock.now() - timedelta(seconds=30))
        assert rig.pass_loops(2, speed=20)
        assert not behind()
        assert all_held(bot)
        # An hour back: what is stopped out is not entered anew before the clock has been where it was.
        before, ahead = ids(), clock.now()
        rig.run(20, ahead - timedelta(hours=1))
        assert rig.each(lambda _: stopped(BTC), speed=100), rig.words()
        assert rig.pass_loops(3, speed=100)
        assert behind()
        assert ids() == before
        assert clock.now() < ahead
        rig.until(ahead, 600)
        assert rig.each(lambda _: BTC in open_pairs(bot), speed=100), rig.words()
        # A day forward: every candle is a day old, and every position's stop is looked after.
        told, before, right = len(bot.log()), ids(), clock.now() - rig.market_clock.now()
        rig.run(20, clock.now() + timedelta(days=1))
        assert bot.alive()
        assert rig.pass_loops(2, speed=100)
        rig.until(moment(SECOND - 3) + right + timedelta(days=1), 900)
        assert rig.each(lambda _: stopped(BTC, 2) and stopped(ETH), speed=100), rig.words()
        assert rig.pass_loops(3, speed=100)
        assert ids() == before
        assert not behind()
        # Put right again it is a day back, until market and clock have come as far.
        ahead = clock.now()
        rig.run(20, rig.market_clock.now())
        assert rig.pass_loops(3, speed=100)
        assert behind()
        assert ids() == before
        rig.market_clock.step(ahead)
        rig.run(20, ahead)
        assert rig.each(lambda _: all_held(bot), speed=100), rig.words()
        assert not own_exceptions(bot.log())
    outcomes = {r["trade_id"] for r in journal_of(tmp_path) if r["kind"] == "outcome"}
    assert outcomes >= {trade["id"] for trade in closed(bot) if trade["pair"] in (BTC, ETH)}
    assert {t["exit_reason"] for t in closed(bot) if t["pair"] in (BTC, ETH)} <= STOPS
