"""Several bots in one ledger: each limit at it and over it, the order of time, drawdown and halt."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plimsoll.compare.together import Bot, Entry, Trade, replay
from plimsoll.portfolio import Limits

HOUR = 3_600
START = 1_704_067_200  # 2024-01-01
END = START + 60 * 24 * HOUR
BALANCE = 10_000.0
BTC, ETH, SOL = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"
WIDE = Limits(exposure=1.0, asset=1.0, heat=1.0, drawdown=0.99)


def trade(
    begins: float,
    ends: float,
    margin: float,
    profit: float = 0.0,
    pair: str = BTC,
    side: Any = "long",
    risk: float = 1.0,
) -> Trade:
    """A trade by the hours since the start."""
    entry = Entry(START + begins * HOUR, margin, risk, profit)
    return Trade(pair, side, START + ends * HOUR, (entry,))


def bot(name: str, *trades: Trade, balance: float = BALANCE, begins: float = START, ends: float = END) -> Bot:
    return Bot(name, f"{name}.zip", "USDT", balance, begins, ends, trades)


def reasons(result: Any) -> list[tuple[str, str]]:
    return [(refusal.bot, refusal.reason) for refusal in result.refusals]


# -- Each limit, at it and over it: two bots of 10,000 -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "pair", "at", "reason"),
    [
        (replace(WIDE, exposure=0.5), ETH, (7_000.0, 1.0), "margin of all bots"),
        (replace(WIDE, asset=0.25), BTC, (2_000.0, 1.0), "one asset"),
        (replace(WIDE, heat=0.06), ETH, (500.0, 1_199.0), "heat"),
    ],
)
@pytest.mark.parametrize("side", ["long", "short"])
def test_replay_when_an_entry_fills_a_limit_then_it_enters_and_just_over_it_is_refused(
    limits: Limits, pair: str, at: tuple[float, float], reason: str, side: str
) -> None:
    margin, risk = at
    held = trade(0, 10, 3_000.0, pair=BTC, side="long")
    fits = bot("B", trade(1, 5, margin, 70.0, pair, side, risk))
    assert replay([bot("A", held), fits], limits).refusals == ()

    grown = (margin, risk * 1.001) if reason == "heat" else (margin * 1.001, risk)
    over = bot("B", trade(1, 5, grown[0], 70.0, pair, side, grown[1]))
    result = replay([bot("A", held), over], limits)
    assert reasons(result) == [("B", reason)]
    [refusal] = result.refusals
    assert refusal.side == side
    assert refusal.profit == 70.0
    assert refusal.fits == pytest.approx(margin, rel=1e-3)
    assert refusal.fits <= margin * (1 + 1e-9)
    assert result.without.profit - result.limited.profit == pytest.approx(70.0)
    assert result.limited.margin < result.without.margin


def test_replay_when_two_limits_are_exceeded_then_the_tighter_one_is_named() -> None:
    limits = replace(WIDE, exposure=0.5, asset=0.25)
    held = bot("A", trade(0, 10, 4_000.0, pair=ETH), trade(0, 10, 3_000.0, pair=SOL))
    [refusal] = replay([held, bot("B", trade(1, 5, 5_500.0))], limits).refusals
    assert (refusal.reason, refusal.fits) == ("margin of all bots", pytest.approx(3_000.0))
    held = bot("A", trade(0, 10, 4_000.0, pair=BTC))
    [refusal] = replay([held, bot("B", trade(1, 5, 6_500.0))], limits).refusals
    assert (refusal.reason, refusal.fits) == ("one asset", pytest.approx(1_000.0))


def test_replay_when_two_names_are_one_asset_then_they_share_its_limit() -> None:
    other = trade(1, 5, 2_001.0, pair="BTC/USDC:USDC", side="short")
    result = replay([bot("A", trade(0, 10, 3_000.0)), bot("B", other)], replace(WIDE, asset=0.25))
    assert reasons(result) == [("B", "one asset")]
    assert (result.without.asset, result.without.asset_name) == (pytest.approx(5_001 / 20_000), "BTC")


# -- Time --------------------------------------------------------------------------------------------------------------


def test_replay_when_an_exit_and_an_entry_are_at_one_moment_then_the_exit_makes_room_first() -> None:
    limits = replace(WIDE, asset=0.25)
    # The bot that enters is the first of the two: only the order of exit before entry lets it in.
    entering, leaving = bot("A", trade(10, 20, 5_000.0)), bot("B", trade(0, 10, 5_000.0))
    assert replay([entering, leaving], limits).refusals == ()
    late = bot("B", trade(0, 10.001, 5_000.0))
    assert reasons(replay([entering, late], limits)) == [("A", "one asset")]


def test_replay_when_entries_are_at_one_moment_then_the_first_bot_is_let_in() -> None:
    a, b = bot("A", trade(1, 5, 5_000.0)), bot("B", trade(1, 5, 5_000.0))
    limits = replace(WIDE, asset=0.25)
    assert reasons(replay([a, b], limits)) == [("B", "one asset")]
    assert reasons(replay([b, a], limits)) == [("A", "one asset")]


def test_replay_when_a_trade_ends_where_it_began_then_it_counts_and_ends() -> None:
    short = bot("A", trade(1, 1, 5_000.0, -10.0), trade(2, 3, 4_990.0, 4.0))
    result = replay([short, bot("B", trade(1, 1, 5_000.0))], replace(WIDE, asset=0.25))
    assert reasons(result) == [("B", "one asset")]
    assert result.limited.profit == pytest.approx(-6.0)


def test_replay_when_profit_is_made_then_it_raises_the_capital_and_a_refused_one_does_not() -> None:
    limits = replace(WIDE, asset=0.25)
    won = bot("A", trade(0, 1, 5_000.0, 4_000.0))
    assert replay([won, bot("B", trade(2, 3, 6_000.0))], limits).refusals == ()
    assert reasons(replay([won, bot("B", trade(2, 3, 6_001.0))], limits)) == [("B", "one asset")]
    refused = bot("A", trade(0, 1, 5_001.0, 4_000.0))
    result = replay([refused, bot("B", trade(2, 3, 5_001.0))], limits)
    assert reasons(result) == [("A", "one asset"), ("B", "one asset")]
    assert result.limited.profit == 0.0


def test_replay_when_a_backtest_has_not_begun_or_is_over_then_its_capital_does_not_count() -> None:
    limits = replace(WIDE, asset=0.25)
    early = bot("A", trade(0, 1, 10.0), ends=START + 100 * HOUR)
    for hour, fits in ((99, True), (101, False)):
        result = replay([early, bot("B", trade(hour, hour + 1, 5_000.0))], limits)
        assert (result.refusals == ()) is fits
    late = bot("A", begins=START + 100 * HOUR)
    for hour, fits in ((99, False), (101, True)):
        result = replay([late, bot("B", trade(hour, hour + 1, 5_000.0))], limits)
        assert (result.refusals == ()) is fits
        assert result.limited.drawdown == 0.0  # capital that comes and goes is neither profit nor loss


# -- Drawdown ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "halts"), [(2_999.0, False), (3_000.0, True)])
@pytest.mark.parametrize("side", ["long", "short"])
def test_replay_when_all_bots_are_at_the_drawdown_then_every_later_entry_is_refused(
    loss: float, halts: bool, side: str
) -> None:
    limits = replace(WIDE, drawdown=0.15)
    first = bot("A", trade(0, 5, 100.0, -loss, side=side))
    other = bot(
        "B",
        trade(4, 9, 100.0, 50.0, ETH),
        trade(6, 7, 100.0, 500.0, SOL),
        trade(8, 9, 100.0, -90.0, BTC, side),
    )
    result = replay([first, other], limits)
    assert result.limited.drawdown == pytest.approx(loss / 2 / BALANCE)
    if not halts:
        assert result.halt is None
        assert result.refusals == ()
        return
    assert result.halt is not None
    assert result.halt[0] == START + 5 * HOUR
    assert "15" in result.halt[1]
    assert reasons(result) == [("B", "halt"), ("B", "halt")]
    assert [refusal.fits for refusal in result.refusals] == [0.0, 0.0]
    # What was open goes on: 50 of it; the refused made 410.
    assert result.limited.profit == pytest.approx(50.0 - loss)
    assert result.without.profit == pytest.approx(460.0 - loss)


def test_replay_when_the_limits_refuse_the_losers_then_the_drawdown_is_that_of_the_rest() -> None:
    losers = bot("B", trade(1, 2, 6_000.0, -4_000.0), trade(3, 4, 1_000.0, -500.0))
    result = replay([bot("A", trade(0, 10, 1_000.0, 100.0, ETH)), losers], replace(WIDE, asset=0.25))
    assert result.without.drawdown == pytest.approx(4_500 / 20_000)
    assert result.limited.drawdown == pytest.approx(500 / 20_000)
    assert result.limited.drawdown_time == START + 4 * HOUR


@pytest.mark.parametrize(("limit", "halts"), [(0.101, False), (0.1, True)])
def test_replay_when_a_bot_joins_after_a_profit_then_the_drawdown_is_of_the_capital_of_both(
    limit: float, halts: bool
) -> None:
    first = bot("A", trade(0, 1, 100.0, 10_000.0), trade(60, 61, 100.0, -3_000.0))
    result = replay([first, bot("B", begins=START + 50 * HOUR)], replace(WIDE, drawdown=limit))
    assert result.without.drawdown == result.limited.drawdown == pytest.approx(3_000 / 30_000)
    assert (result.halt is not None) is halts  # the ledger counts the same


def test_replay_when_a_bot_lost_everything_then_its_entries_are_unknown_and_nothing_raises() -> None:
    broke = bot("A", trade(0, 1, 100.0, -BALANCE), trade(2, 3, 100.0, 5.0))
    result = replay([broke, bot("B", trade(2, 3, 100.0))], WIDE)
    assert reasons(result) == [("A", "unknown")]


# -- Additions and partial exits ---------------------------------------------------------------------------------------


def test_replay_when_an_addition_does_not_fit_then_only_it_is_refused_with_its_part_of_the_profit() -> None:
    entries = (Entry(START + HOUR, 4_000.0, 1.0, 30.0), Entry(START + 2 * HOUR, 1_001.0, 1.0, 7.0))
    added = Trade(BTC, "long", START + 5 * HOUR, entries)
    result = replay([bot("A", added), bot("B")], replace(WIDE, asset=0.25))
    [refusal] = result.refusals
    assert refusal.addition
    assert (refusal.profit, refusal.margin) == (7.0, 1_001.0)
    assert result.limited.profit == 30.0
    result = replay([bot("A", added), bot("B")], replace(WIDE, asset=0.19))
    [refusal] = result.refusals
    assert not refusal.addition
    assert refusal.profit == 37.0


def test_replay_when_a_trade_was_refused_then_its_additions_are_not_asked_for() -> None:
    entries = (Entry(START + HOUR, 5_001.0, 1.0, 30.0), Entry(START + 2 * HOUR, 100.0, 1.0, 7.0))
    added = Trade(BTC, "long", START + 5 * HOUR, entries)
    result = replay([bot("A", added), bot("B", trade(3, 4, 5_000.0))], replace(WIDE, asset=0.25))
    [refusal] = result.refusals
    assert refusal.profit == 37.0
    assert result.limited.profit == 0.0


def test_replay_when_half_is_closed_then_half_of_its_margin_is_free() -> None:
    entry = (Entry(START, 4_000.0, 1.0, 0.0),)
    halved = Trade(BTC, "long", START + 9 * HOUR, entry, ((START + 2 * HOUR, 0.5),))
    for hour, margin, fits in (
        (1, 1_000.0, True),
        (1, 1_001.0, False),
        (2, 3_000.0, True),
        (2, 3_001.0, False),
    ):
        result = replay([bot("A", halved), bot("B", trade(hour, 5, margin))], replace(WIDE, asset=0.25))
        assert (result.refusals == ()) is fits
