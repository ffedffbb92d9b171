"""Margin health of a bot's positions: what is asked of Freqtrade, until it was done, and over restarts."""

from __future__ import annotations

import json
import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.persistence import disable_database_use, enable_database_use
from hypothesis import given, settings, strategies

from plimsoll.host import internals
from plimsoll.host.margin import Exit, Margin
from plimsoll.rules.liquidation import MaintenanceTier, liquidation_price
from plimsoll.settings import load

TIERS = (
    MaintenanceTier(0.0, 50_000.0, 0.004, 0.0, 125.0),
    MaintenanceTier(50_000.0, 600_000.0, 0.005, 50.0, 100.0),
    MaintenanceTier(600_000.0, None, 0.05, 27_050.0, 20.0),
)
SIDES = ["long", "short"]


class World:
    """Prices and positions; loops as the planner makes them, and exits as Freqtrade carries them out."""

    def __init__(self, **changes: Any) -> None:
        self.settings = load(changes)
        self.rate: float | None = 100.0
        self.minimum: float | None = None
        self.spot = False
        self.tiers: Any = lambda pair: TIERS
        self.now = 1_000
        self.trades: list[Any] = []
        self.said: list[tuple[int, str]] = []
        self.restart(stored={})

    def restart(self, stored: dict[str, Any] | None = None) -> None:
        kept = json.loads(json.dumps(self.margin.dump())) if stored is None else stored
        inputs: Any = SimpleNamespace(
            spot=self.spot,
            current_rate=lambda pair, now: self.rate,
            tiers=lambda pair: self.tiers(pair),
            buffer=lambda: 0.05,
            minimum_stake=lambda pair, rate, leverage: self.minimum,
        )
        trades: Any = SimpleNamespace(liquidation=self.liquidation)
        self.margin = Margin(self.settings, inputs, trades)
        self.margin.begin(kept)

    def liquidation(self, trade: Any) -> float:
        return liquidation_price(
            side="short" if trade.is_short else "long",
            open_rate=trade.open_rate,
            amount=trade.amount,
            margin=trade.stake_amount,
            tiers=self.tiers(trade.pair),
            extra=min(0.0, trade.funding_fees),
            buffer=0.05,
        )

    def open(self, side: str = "long", *, leverage: float = 5.0, amount: float = 10.0, **more: Any) -> Any:
        values = {
            "id": len(self.trades) + 1,
            "pair": "BTC/USDT:USDT",
            "is_short": side == "short",
            "open_rate": 100.0,
            "amount": amount,
            "stake_amount": amount * 100.0 / leverage,
            "leverage": leverage,
            "funding_fees": 0.0,
            "liquidation_price": None,
            "has_open_position": True,
        }
        trade = SimpleNamespace(**(values | more))
        self.trades.append(trade)
        return trade

    def loop(self, rate: float | None, times: int = 1) -> None:
        self.rate = rate
        for _ in range(times):
            self.now += 5
            self.said += [
                (trade.id, health.action) for trade, health in self.margin.review(self.trades, self.now)
            ]

    def fill(self, trade: Any, ratio: float = 1.0) -> float:
        """Carry out what is asked for, as far as it fills; return the share of the position that went."""
        asked = self.margin.exit(trade, self.rate or 0.0)
        if asked is None:
            return 0.0
        share = ratio * -asked[0] / trade.stake_amount
        trade.amount *= 1.0 - share
        trade.stake_amount *= 1.0 - share
        if trade.amount <= 1e-9:
            trade.amount, trade.has_open_position = 0.0, False
            self.trades.remove(trade)
        return share

    def asked(self, trade: Any) -> tuple[float, str] | None:
        """Return the share of the position asked for, and why."""
        found = self.margin.exit(trade, self.rate or 0.0)
        return None if found is None else (-found[0] / trade.stake_amount, found[1])


def at_distance(world: World, trade: Any, distance: float) -> float:
    """Return the rate from which liquidation is this ratio of the rate away."""
    liquidation = world.liquidation(trade)
    return liquidation / (1.0 + distance) if trade.is_short else liquidation / (1.0 - distance)


# -- Thresholds -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (0.101, None),
        (0.099, (0.5, "plimsoll_margin_reduce")),
        (0.051, (0.5, "plimsoll_margin_reduce")),
        (0.049, (1.0, "plimsoll_margin_close")),
        (-0.02, (1.0, "plimsoll_margin_close")),
    ],
)
def test_exit_when_liquidation_comes_near_then_reduces_and_closes(
    side: str, distance: float, expected: Any
) -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    trade = world.open(side, leverage=4.0)
    world.loop(at_distance(world, trade, distance), 2)

    assert world.asked(trade) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("used", "action", "share"), [(0.79, "none", None), (0.81, "alert", None), (0.91, "close", 1.0)]
)
def test_exit_when_the_margin_is_used_up_then_alerts_and_closes(
    side: str, used: float, action: str, share: Any
) -> None:
    near = {"reduce_distance": 0.001, "close_distance": 0.0}
    world = World(margin_health=near)
    trade = world.open(side, leverage=5.0)
    sign = 1.0 if side == "short" else -1.0
    # (maintenance + loss) / margin = used, maintenance at the rate
    move = (used * 200.0 - 0.004 * 1000.0) / (1000.0 * (1.0 + sign * 0.004))
    world.loop(100.0 * (1.0 + sign * move), 2)

    assert world.margin.told(1).margin_used == pytest.approx(used)
    assert world.margin.told(1).action == action
    found = world.asked(trade)
    assert (None if found is None else found[0]) == share


@pytest.mark.parametrize("side", SIDES)
def test_exit_when_only_one_reading_is_bad_then_nothing_is_asked(side: str) -> None:
    world = World()
    trade = world.open(side)
    world.loop(100.0, 3)
    world.loop(at_distance(world, trade, -0.5))
    assert world.margin.exit(trade, 100.0) is None
    assert world.margin.allows_addition(trade) is not None
    world.loop(100.0, 3)
    assert world.margin.exit(trade, 100.0) is None
    assert world.margin.allows_addition(trade) is None


def test_health_when_the_rate_is_unknown_then_nothing_is_asked_and_an_exit_under_way_stays() -> None:
    world = World()
    trade = world.open()
    world.loop(None, 5)
    assert world.margin.exit(trade, 100.0) is None
    assert world.margin.told(1).action == "unknown"
    assert world.margin.allows_addition(trade) is not None

    world.loop(at_distance(world, trade, 0.02), 2)
    world.loop(None, 3)
    assert world.asked(trade) == (1.0, "plimsoll_margin_close")


def test_health_when_an_action_lasts_then_it_is_said_once() -> None:
    world = World()
    trade = world.open()
    world.loop(100.0, 3)
    world.loop(at_distance(world, trade, 0.02), 10)
    assert world.said == [(1, "close")]


def test_health_when_the_clock_steps_back_then_positions_are_judged_all_the_same() -> None:
    world = World()
    trade = world.open()
    world.loop(100.0, 3)
    world.now -= 3_600
    world.loop(at_distance(world, trade, 0.02), 2)

    assert world.asked(trade) == (1.0, "plimsoll_margin_close")


def test_health_when_one_position_cannot_be_judged_then_the_others_are() -> None:
    world = World()
    world.open(pair="BAD/USDT:USDT")
    trade = world.open()

    def tiers(pair: str) -> Any:
        if pair.startswith("BAD"):
            raise TypeError("no tiers")
        return TIERS

    rate = at_distance(world, trade, 0.02)
    world.tiers = tiers
    for _ in range(3):
        with pytest.raises(TypeError, match="no tiers"):  # the loop that fails blocks entries
            world.loop(rate)

    assert world.asked(trade) == (1.0, "plimsoll_margin_close")


@pytest.mark.parametrize("how", ["spot", "off"])
def test_health_when_it_does_not_apply_then_nothing_is_judged_but_the_dead_mans_close_is(how: str) -> None:
    world = World(**({"off": ["margin_health"]} if how == "off" else {}))
    world.spot = how == "spot"
    world.restart()
    trade = world.open()
    world.loop(1.0, 5)
    assert world.margin.exit(trade, 1.0) is None
    assert world.margin.allows_addition(trade) is None
    world.margin.close_all(world.trades, "plimsoll_deadman")
    assert world.asked(trade) == (1.0, "plimsoll_deadman")


# -- Until it was done --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_reduction_when_not_executed_yet_then_is_asked_for_again_and_when_executed_no_more(side: str) -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    trade = world.open(side, leverage=4.0)
    rate = at_distance(world, trade, 0.09)
    world.loop(rate, 2)
    for _ in range(5):
        assert world.asked(trade) == (0.5, "plimsoll_margin_reduce")
        assert world.margin.wants_exits
        assert "being reduced" in str(world.margin.allows_addition(trade))
        world.loop(rate)
    world.fill(trade)
    assert trade.amount == pytest.approx(5.0)
    for _ in range(5):
        world.loop(rate)
        assert world.asked(trade) is None
    assert not world.margin.wants_exits
    assert world.margin.allows_addition(trade) is not None  # until it is far enough again
    world.loop(100.0 if side == "long" else 95.0, 3)
    assert world.margin.allows_addition(trade) is None


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("filled", [0.3, 0.6, 0.9])
def test_reduction_when_it_fills_in_parts_then_no_more_than_its_share_goes(side: str, filled: float) -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    trade = world.open(side, leverage=4.0)
    rate = at_distance(world, trade, 0.09)
    world.loop(rate, 2)
    for _ in range(40):
        world.fill(trade, filled)
        world.loop(rate)

    assert trade.amount == pytest.approx(5.0, rel=0.01)
    assert world.asked(trade) is None


def test_reduction_when_lots_are_coarse_then_no_more_than_its_share_goes() -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    world.minimum = 25.0 * 1.05  # one lot
    trade = world.open(amount=5.0, leverage=4.0)
    rate = at_distance(world, trade, 0.09)
    world.loop(rate, 2)
    for _ in range(5):
        asked = world.margin.exit(trade, rate)
        if asked is not None:
            lots = math.floor(-asked[0] * trade.amount / trade.stake_amount + 1e-9)
            trade.stake_amount *= (trade.amount - lots) / trade.amount
            trade.amount -= lots
        world.loop(rate)

    assert trade.amount == 3.0
    assert not world.margin.wants_exits


@pytest.mark.parametrize(
    ("minimum", "share"), [(None, 0.5), (50.0, 0.5), (84.0, 1.0), (100.0, 1.0), (1000.0, 1.0)]
)
def test_reduction_when_it_or_its_rest_is_under_the_exchanges_minimum_then_the_whole_is_closed(
    minimum: float | None, share: float
) -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    world.minimum = minimum
    trade = world.open(leverage=4.0)  # 250 of margin
    world.loop(at_distance(world, trade, 0.09), 2)

    assert world.asked(trade) == (share, "plimsoll_margin_reduce")


def test_reduction_when_freqtrade_reserves_a_wide_stop_then_its_check_of_the_rest_passes_or_the_whole_goes() -> (
    None
):
    # Freqtrade drops a reduction whose rest is under its minimum, up to 1.5 times the exchange's; ours is asked with 1.05.
    for margin in range(60, 260):
        world = World(margin_health={"alert": 0.97, "close": 0.98})
        world.minimum = 1.05 * 50.0
        trade = world.open(amount=margin / 100.0, leverage=1.0)
        world.margin._exits[1] = Exit(0.5, "plimsoll_margin_reduce", trade.amount)
        found = world.asked(trade)
        assert found is not None
        rest = (1.0 - found[0]) * margin
        assert rest == 0.0 or rest >= 1.5 * 50.0, margin


def test_close_when_the_position_recovers_then_is_wanted_until_executed() -> None:
    world = World()
    trade = world.open()
    world.loop(at_distance(world, trade, 0.02), 2)
    world.loop(100.0, 20)
    assert world.asked(trade) == (1.0, "plimsoll_margin_close")
    world.fill(trade, 0.5)
    world.loop(100.0)
    assert world.asked(trade) == (1.0, "plimsoll_margin_close")
    world.fill(trade)
    world.loop(100.0)
    assert not world.margin.wants_exits


def test_exit_when_the_bot_restarts_then_it_goes_on_and_its_reductions_are_remembered() -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    trade = world.open(leverage=4.0)
    rate = at_distance(world, trade, 0.09)
    world.loop(rate, 2)
    world.restart()
    assert world.asked(trade) == (0.5, "plimsoll_margin_reduce")
    world.loop(rate)
    world.fill(trade)
    world.restart()
    world.loop(rate, 5)
    assert world.asked(trade) is None
    assert trade.amount == pytest.approx(5.0)


def test_exit_when_it_was_executed_while_the_bot_was_down_then_is_not_repeated() -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    trade = world.open(leverage=4.0)
    rate = at_distance(world, trade, 0.09)
    world.loop(rate, 2)
    kept = world.margin.dump()
    world.fill(trade)
    world.restart(json.loads(json.dumps(kept)))
    world.loop(rate)
    assert world.asked(trade) is None


def test_exit_when_its_trade_is_gone_then_another_trades_is_not_touched() -> None:
    world = World()
    trade = world.open()
    world.loop(at_distance(world, trade, 0.02), 2)
    world.trades.clear()
    world.loop(100.0)
    other = world.open()
    assert other.id == trade.id
    world.loop(100.0, 2)
    assert world.asked(other) is None


def test_deadman_when_it_closes_positions_then_all_go_and_a_reduction_becomes_a_close() -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    first, second = world.open(leverage=4.0), world.open("short")
    world.loop(at_distance(world, first, 0.09), 2)
    assert world.asked(first) == (0.5, "plimsoll_margin_reduce")
    world.margin.close_all(world.trades, "plimsoll_deadman")

    assert world.asked(first) == (1.0, "plimsoll_deadman")
    assert world.asked(second) == (1.0, "plimsoll_deadman")
    world.loop(100.0)
    world.fill(first)
    world.fill(second)
    assert world.trades == []


def test_deadman_when_an_operator_resets_it_in_time_then_its_closes_go_and_a_reduction_is_due_again() -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    first, second = world.open(leverage=4.0), world.open("short")
    world.loop(at_distance(world, first, 0.09), 2)
    world.margin.close_all(world.trades, "plimsoll_deadman")
    assert world.margin.allows_addition(second) == "it is being reduced: plimsoll_deadman"
    world.margin.withdraw("plimsoll_deadman")

    assert world.asked(first) == (0.5, "plimsoll_margin_reduce")
    assert world.asked(second) is None
    assert world.margin.wants_exits


def test_deadman_when_the_bot_starts_anew_while_it_closes_then_the_closes_stand_and_can_be_withdrawn() -> (
    None
):
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    trade = world.open()
    world.loop(100.0, 2)
    world.margin.close_all(world.trades, "plimsoll_deadman")
    world.margin.begin(world.margin.dump())

    assert world.asked(trade) == (1.0, "plimsoll_deadman")
    world.margin.withdraw("plimsoll_deadman")
    assert world.asked(trade) is None


def test_deadman_when_liquidation_comes_near_while_it_closes_then_still_the_whole_goes() -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    trade = world.open(leverage=4.0)
    world.loop(100.0, 2)
    world.margin.close_all(world.trades, "plimsoll_deadman")
    world.loop(at_distance(world, trade, 0.09), 3)

    assert world.asked(trade)[0] == 1.0  # type: ignore[index]


# -- What a backtest skips ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def offline() -> Any:
    disable_database_use("1h")
    yield
    enable_database_use()


def measured(world: World) -> World:
    """Make a world that skips nothing."""
    world.margin._is_quiet = lambda trade, rate: False  # type: ignore[method-assign]
    return world


@pytest.mark.usefixtures("offline")
@settings(max_examples=300, deadline=None)
@given(
    side=strategies.sampled_from(SIDES),
    leverage=strategies.floats(1.0, 20.0),
    amount=strategies.sampled_from([0.5, 10.0, 180.0, 450.0, 4_000.0]),
    mmr=strategies.sampled_from([0.004, 0.02]),
    moves=strategies.lists(strategies.floats(-0.06, 0.06), min_size=3, max_size=40),
    funding=strategies.sampled_from([0.0, 0.02, -0.02, -0.5]),
    profile=strategies.sampled_from(
        [{}, {"rearm": 1.0}, {"reduce_distance": 0.3}, {"alert": 0.3, "close": 0.4}, {"rearm": 10.0}]
    ),
)
def test_backtest_when_a_candle_is_skipped_then_a_measurement_would_have_done_nothing(
    side: str,
    leverage: float,
    amount: float,
    mmr: float,
    moves: list[float],
    funding: float,
    profile: dict[str, float],
) -> None:
    worlds = [World(margin_health=profile), measured(World(margin_health=profile))]
    tiers = (TIERS[0]._replace(mmr=mmr), TIERS[1]._replace(mmr=mmr + 0.001), TIERS[2])
    for world in worlds:
        world.tiers = lambda pair: tiers
        world.open(side, leverage=leverage, amount=amount)
    rate = 100.0
    for move in moves:
        rate *= 1.0 + move
        done = []
        for world in worlds:
            world.loop(rate)
            for trade in list(world.trades):
                trade.funding_fees += funding
                done.append((world.asked(trade), trade.amount))
                world.fill(trade)
        assert len(done) % 2 == 0
        assert done[: len(done) // 2] == done[len(done) // 2 :]
    assert worlds[0].said == worlds[1].said


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("side", SIDES)
def test_backtest_when_an_alert_is_over_then_that_is_measured_and_additions_are_allowed_again(
    side: str,
) -> None:
    world = World(margin_health={"alert": 0.3, "close": 0.4})
    trade = world.open(side, leverage=3.0)
    towards_liquidation = -1.0 if side == "long" else 1.0
    world.loop(100.0)
    assert world.margin.allows_addition(trade) is None
    world.loop(100.0 * (1.0 + towards_liquidation * 0.11))
    assert world.said == [(1, "alert")]
    assert world.margin.allows_addition(trade) is not None
    world.loop(100.0)
    assert world.said == [(1, "alert"), (1, "none")]
    assert world.margin.allows_addition(trade) is None


@pytest.mark.parametrize("offline", [True, False])
def test_backtest_when_its_strategy_is_made_before_freqtrade_turns_its_database_off_then_one_candle_is_enough(
    offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(internals, "is_offline", lambda: False)
    world = World()
    monkeypatch.setattr(internals, "is_offline", lambda: offline)
    world.margin.begin()
    trade = world.open(leverage=4.0)
    world.loop(at_distance(world, trade, 0.09))
    assert (world.asked(trade) is not None) is offline
    world.loop(at_distance(world, trade, 0.09))
    assert world.asked(trade) is not None


@pytest.mark.usefixtures("offline")
def test_backtest_when_positions_are_healthy_then_most_candles_are_skipped() -> None:
    world = World()
    world.open("long", leverage=3.0)
    world.open("short", leverage=3.0)
    steps = 0
    step = world.margin._step

    def counted(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        return step(*args)

    world.margin._step = counted  # type: ignore[method-assign]
    source = random.Random(3)
    for _ in range(500):
        world.loop(100.0 * (1.0 + source.uniform(-0.05, 0.05)))
    assert steps < 50


# -- Freqtrade's side -----------------------------------------------------------------------------------------------------------------


def test_dump_when_stored_as_json_then_comes_back_the_same() -> None:
    world = World(margin_health={"alert": 0.97, "close": 0.98})
    for side in SIDES:
        world.open(side, leverage=4.0)
    world.loop(at_distance(world, world.trades[0], 0.09), 2)
    stored = json.loads(json.dumps(world.margin.dump()))
    world.restart()

    assert world.margin.dump() == stored
    assert stored["exits"].keys() == {"1"}
