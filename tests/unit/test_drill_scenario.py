"""Scenarios of fire drills: what is refused, all of it at once, and how shapes bend a market."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plimsoll.drill.command import on_history, shipped_scenarios
from plimsoll.drill.market import path, simulated
from plimsoll.drill.scenario import (
    FlashCrash,
    History,
    ScenarioError,
    Simulated,
    Trend,
    Whipsaw,
    read_scenario,
    scenario_from,
)
from plimsoll.market.replay import Replay

PAIR = "BTC/USDT:USDT"
START = datetime(2024, 3, 6, 10, 30, tzinfo=UTC)


def plain(**changed: Any) -> dict[str, Any]:
    """Return a scenario as its file would say it, with changed parts."""
    raw: dict[str, Any] = {
        "title": "A title",
        "teaches": "What it teaches.",
        "market": {"kind": "simulated", "seed": 1, "start": START, "pairs": [PAIR]},
        "run": {"hours": 1.0},
        "events": [],
        "expect": [{"layer": "stop", "must": "never_be_liquidated"}],
    }
    return raw | changed


def faults(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ScenarioError) as refused:
        scenario_from(raw, "it")
    assert str(refused.value).startswith("the scenario it is not usable:\n  - ")
    return refused.value.faults


def expect(**values: Any) -> list[dict[str, Any]]:
    return [{"layer": "a layer", **values}]


@pytest.mark.parametrize("file", shipped_scenarios(), ids=lambda file: file.stem)
def test_scenario_when_it_is_shipped_then_it_is_usable_and_says_what_it_teaches(file: Path) -> None:
    scenario = read_scenario(file)
    assert scenario.teaches.endswith(".")
    assert scenario.run.hours <= 4.0
    assert scenario.run.strategy == "GuardedEmaCross"


def test_scenarios_when_they_are_listed_then_the_six_drills_are_there() -> None:
    assert {file.stem for file in shipped_scenarios()} >= {
        "flash_crash",
        "slow_bleed",
        "losing_streak",
        "exchange_outage",
        "operator_absent",
        "kill_in_between",
    }


def test_scenario_when_everything_is_right_then_it_is_read_back() -> None:
    scenario = scenario_from(plain(), "it")
    assert scenario.market == Simulated(kind="simulated", seed=1, start=START, pairs=(PAIR,))
    assert scenario.settings().drawdown.limit == 0.2


def test_scenario_when_several_things_are_wrong_then_all_are_told_at_once() -> None:
    found = faults(
        plain(
            title="",
            run={"hours": 0.0, "plimsoll": {"drawdown": {"limit": 2.0}, "nothing": {"such": 1}}},
            events=[{"at": 0.5, "do": "fault", "kind": "earthquake", "minutes": 1.0, "size": 3}],
            surprise=1,
        )
    )
    text = "\n".join(found)
    assert "title: " in text
    assert "run.hours: Input should be greater than 0, was 0.0" in text
    assert "run.plimsoll: " in text
    assert "drawdown.limit" in text
    assert "nothing" in text
    assert "events.0.fault.kind: " in text
    assert "events.0.fault.size: there is no such key" in text
    assert "surprise: there is no such key" in text


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"events": [{"at": 1.0, "do": "checkin"}]}, "events.0.at must be under run.hours (1), was 1"),
        ({"events": [{"at": 0.5, "do": "enter", "pair": "X/USDT:USDT"}]}, "events.0.pair must be one of BTC"),
        (
            {"expect": expect(must="exit_at_stop", at=1.01, within_minutes=5)},
            "expect.0.at must be at most run.hours",
        ),
        (
            {"expect": expect(must="allow_entries", after=0.5, before=0.5)},
            "expect.0.before must be above after (0.5)",
        ),
        ({"expect": expect(must="trip", breaker="drawdown")}, "run.plimsoll must set drawdown.limit"),
        ({"expect": expect(must="remember", breakers=["streak"])}, "nothing is killed in this scenario"),
        ({"expect": expect(must="refuse_entries", rule="atr_stop")}, "expect.0.after must be given"),
        ({"expect": []}, "expect: "),
        ({"expect": expect(must="sing")}, "expect.0: "),
        (
            {"market": {"kind": "simulated", "seed": 1, "start": "2024-03-06T10:30:00", "pairs": [PAIR]}},
            "start",
        ),
    ],
)
def test_scenario_when_its_parts_do_not_fit_then_says_which(changed: dict[str, Any], message: str) -> None:
    assert any(message in fault for fault in faults(plain(**changed)))


@pytest.mark.parametrize(
    "changed",
    [
        {"events": [{"at": 0.99, "do": "checkin"}]},
        {"events": [{"at": 0.5, "do": "enter", "pair": PAIR, "side": "short"}]},
        {"expect": expect(must="exit_at_stop", at=1.0, within_minutes=5)},
        {"expect": expect(must="allow_entries", after=0.5, before=0.51)},
        {
            "run": {"hours": 1.0, "plimsoll": {"drawdown": {"limit": 0.1}}},
            "expect": expect(must="trip", breaker="drawdown"),
        },
        {"expect": expect(must="refuse_entries", rule="streak")},
    ],
)
def test_scenario_when_its_parts_just_fit_then_it_is_usable(changed: dict[str, Any]) -> None:
    assert scenario_from(plain(**changed), "it").run.hours == 1.0


def test_scenario_when_its_file_is_no_toml_then_says_so(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("title = ", encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"mine\.toml is not usable"):
        read_scenario(file)


def test_scenario_when_it_is_moved_to_history_then_nothing_is_required_there(tmp_path: Path) -> None:
    moved = on_history(scenario_from(plain(), "it"), tmp_path, START)
    assert moved.market == History(kind="history", data=tmp_path, moment=START)
    assert [each.required for each in moved.expect] == [False]


# -- Shapes --------------------------------------------------------------------------------------------------

HOURS = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 6.0])


@pytest.mark.parametrize("per_day", [0.24, -0.24])
def test_trend_when_it_is_over_then_the_price_stays_where_it_led(per_day: float) -> None:
    moved = path(Trend(kind="trend", at=0.0, hours=1.0, per_day=per_day), HOURS)
    assert moved[:2] == pytest.approx([0.0, 0.0])
    assert moved[3:] == pytest.approx([math.log1p(per_day) / 24.0] * 3)


@pytest.mark.parametrize("move", [0.3, -0.3])
def test_flash_crash_when_it_recovers_half_then_half_of_the_log_move_lasts(move: float) -> None:
    moved = path(FlashCrash(kind="flash_crash", at=0.0, move=move, minutes=60.0, recovers=0.5), HOURS)
    assert moved == pytest.approx(np.log1p(move) * np.array([0.0, 0.0, 0.5, 1.0, 0.875, 0.5]))


def test_whipsaw_when_pairs_take_turns_then_each_dips_alone_and_comes_back() -> None:
    shape = Whipsaw(kind="whipsaw", at=0.0, move=-0.1, every_minutes=60.0, times=2)
    hours = np.linspace(0.0, 4.0, 481)
    first, second = path(shape, hours, 0, 2), path(shape, hours, 1, 2)
    assert first.min() == pytest.approx(math.log1p(-0.1))
    assert ((first < 0.0) & (second < 0.0)).sum() == 0
    assert [int((one < -0.1).sum() > 0) for one in (first, second)] == [1, 1]
    assert first[-1] == second[-1] == 0.0


@pytest.mark.parametrize("move", [-0.2, 0.2])
def test_market_when_a_crash_is_asked_for_then_the_replay_shows_it_at_its_hour(move: float) -> None:
    shape = FlashCrash(kind="flash_crash", at=0.5, move=move, minutes=10.0, recovers=0.0)
    bent, calm = (
        Simulated(kind="simulated", seed=3, start=START, pairs=(PAIR,), shape=shapes)
        for shapes in ((shape,), ())
    )

    def price(market: Simulated, hours: float) -> float:
        at = round(START.timestamp() * 1000) + round(hours * 3_600_000)
        found = Replay(simulated(market, START, 1.0)).last_price(PAIR, now_ms=at)
        assert found is not None
        return found

    assert price(bent, 0.45) == price(calm, 0.45)
    assert price(bent, 0.7) / price(calm, 0.7) == pytest.approx(1.0 + move, rel=2e-3)


def test_market_when_a_pair_is_not_simulated_then_refuses() -> None:
    market = Simulated(kind="simulated", seed=3, start=START, pairs=("DOGE/USDT:USDT",))
    with pytest.raises(ValueError, match="was DOGE/USDT:USDT"):
        simulated(market, START, 1.0)
