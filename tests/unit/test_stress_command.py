"""`plimsoll stress`: what it reads, prints and refuses."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from plimsoll import bridge
from plimsoll.cli import main
from plimsoll.stress.command import AS_IT_IS

MISSING: Any = object()
TIER = {"min_notional": 0.0, "mmr": 0.01}
LONG = {"pair": "BTC/USDT:USDT", "side": "long", "leverage": 5.0, "margin": 200.0, "open_rate": 100.0}
LONG |= {"stop": 95.0, "volatility": 0.03, "tiers": [TIER]}
SHORT = LONG | {"pair": "ETH/USDT:USDT", "side": "short", "leverage": 10.0, "margin": 100.0, "stop": 101.0}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    for name in os.environ:
        if name.startswith("FREQTRADE__"):
            monkeypatch.delenv(name)


def positions(*listed: dict[str, Any], **values: Any) -> str:
    """Write a file of positions and return its name."""
    Path("positions.json").write_text(
        json.dumps({"equity": 1000.0, "stake_currency": "USDT", "positions": listed} | values)
    )
    return "positions.json"


def stressed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run the command where it has to succeed and return its document."""
    assert main(["stress", *arguments, "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    document: dict[str, Any] = json.loads(said.out)
    return document


def complained(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command where it has to end with 1, and return what it complained of."""
    assert main(["stress", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("plimsoll stress")
    return said.err


def shock(document: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in document["shocks"] if each["name"] == name)


def breached(shock: dict[str, Any]) -> dict[str, str]:
    return {a["rule"]: a["consequence"] for a in shock["limits"] if a["outcome"] == "breached"}


# -- Hypothetical positions ----------------------------------------------------------------------------------


def test_stress_when_positions_are_given_then_says_who_goes_first_and_what_each_shock_costs(capsys) -> None:
    found = stressed(capsys, "--positions", positions(LONG, SHORT))
    # Buffered by 5 % of the way: long 100 - 0.95 x 19.19, short 100 + 0.95 x 8.91.
    order = [(each["pair"], each["move_to_liquidation"]) for each in found["order"]]
    assert order == [
        ("ETH/USDT:USDT", pytest.approx(0.08465, abs=1e-5)),
        ("BTC/USDT:USDT", pytest.approx(0.18232, abs=1e-5)),
    ]
    fall = shock(found, "gap -10 %")
    assert [hit["outcome"] for hit in fall["positions"]] == ["stopped", "open"]
    assert fall["equity_after"] == pytest.approx(1000.0 - 100.0 - 0.45 + 100.0)
    against = shock(found, "all against 20 %")
    assert against["liquidated_in_order"] == ["ETH/USDT:USDT", "BTC/USDT:USDT"]
    assert against["equity_after"] == pytest.approx(700.0)
    assert breached(against) == {
        "drawdown": "no entries until an operator resets it",
        "daily_loss": "no entries until the next day",
        "weekly_loss": "no entries until the next week",
        "portfolio_volatility": "new entries scaled down or skipped",
    }


def test_stress_when_correlation_goes_to_one_then_the_hedge_is_none(capsys) -> None:
    found = stressed(capsys, "--positions", positions(LONG, SHORT, correlation=1.0))
    # 1,000 of notional each at 3 % a day: nothing together, 6 % at worst.
    assert found["before"]["volatility"] == pytest.approx(0.0)
    assert found["before"]["volatility_at_one"] == pytest.approx(0.06)


def test_stress_when_nothing_happens_then_says_what_is_breached_already(capsys) -> None:
    found = stressed(capsys, "--positions", positions(LONG))
    now = shock(found, "as it is")
    assert (now["loss"], now["equity_after"]) == (0.0, 1000.0)
    # 200 of at most 150; 1,000 x (5 % + fees and slippage) of at most 60
    assert set(breached(now)) == {"total_margin"}


def test_stress_when_drawn_then_the_first_to_be_liquidated_leads(capsys) -> None:
    assert main(["stress", "--positions", positions(LONG, SHORT)]) == 0
    shown = capsys.readouterr().out
    first = next(line for line in shown.splitlines() if line.startswith("First liquidated"))
    assert first.startswith(
        "First liquidated: ETH/USDT:USDT short 10x, at a move of 8.5% against it (10.0% of"
    )
    rows = [line for line in shown.splitlines() if line.startswith(("1  ", "2  "))]
    assert ["ETH/USDT" in rows[0], "BTC/USDT" in rows[1]] == [True, True]
    assert "a stop inside it fills behind it" in shown


def test_stress_when_there_are_no_positions_then_says_so(capsys) -> None:
    assert main(["stress", "--positions", positions()]) == 0
    assert "nothing to lose" in capsys.readouterr().out


def test_stress_when_the_file_is_toml_then_reads_the_same(capsys) -> None:
    from_json = stressed(capsys, "--positions", positions(LONG))
    lines = [f"{key} = {json.dumps(value)}" for key, value in LONG.items() if key != "tiers"]
    tiers = ["[[positions.tiers]]", "min_notional = 0.0", "mmr = 0.01"]
    head = ["equity = 1000.0", 'stake_currency = "USDT"', "[[positions]]"]
    Path("positions.toml").write_text("\n".join([*head, *lines, *tiers]))
    from_toml = stressed(capsys, "--positions", "positions.toml")
    assert from_toml | {"source": ""} == from_json | {"source": ""}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"leverage": 0.5}, "positions.0.leverage"),
        ({"leverage": "5"}, "positions.0.leverage"),
        ({"side": "up"}, "positions.0.side"),
        ({"margin": 0.0}, "positions.0.margin"),
        ({"tiers": []}, "positions.0.tiers"),
        ({"colour": "red"}, "positions.0.colour"),
    ],
)
def test_stress_when_a_position_makes_no_sense_then_names_what(
    capsys, wrong: dict[str, Any], named: str
) -> None:
    said = complained(capsys, "--positions", positions(LONG | wrong))
    assert named in said
    assert f"was {next(iter(wrong.values()))!r}" in said


def test_stress_when_there_is_no_file_or_no_json_then_says_so(capsys) -> None:
    assert "cannot be read" in complained(capsys, "--positions", "missing.json")
    Path("broken.json").write_text("{")
    assert "cannot be read" in complained(capsys, "--positions", "broken.json")


@pytest.mark.parametrize(
    "option", [["--gap", "-1"], ["--against", "1"], ["--volatility", "0"], ["--settlements", "-1"]]
)
def test_stress_when_a_shock_is_out_of_range_then_refuses_with_the_range(capsys, option: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["stress", "--positions", positions(LONG), *option])
    assert "must be" in capsys.readouterr().err


def test_stress_when_the_configuration_has_limits_then_these_count(capsys) -> None:
    config = {"trading_mode": "futures", "margin_mode": "isolated", "liquidation_buffer": 0.0}
    config |= {
        "plimsoll": {"exposure": {"total_margin": 0.25}, "drawdown": {"limit": 0.05}, "off": ["loss_limit"]}
    }
    Path("config.json").write_text(json.dumps(config))
    found = stressed(capsys, "--positions", positions(LONG), "-c", "config.json", "--gap", "-0.06")
    assert found["order"][0]["move_to_liquidation"] == pytest.approx(0.19192, abs=1e-5)
    assert set(breached(shock(found, "as it is"))) == set()
    assert set(breached(shock(found, "gap -6 %"))) == {"drawdown"}


def test_stress_when_no_configuration_is_named_then_the_default_one_counts(capsys) -> None:
    config = {"trading_mode": "futures", "margin_mode": "isolated"}
    config |= {"plimsoll": {"exposure": {"total_margin": 0.25}}}
    file = positions(LONG)  # 20 % of equity as margin
    assert set(breached(shock(stressed(capsys, "--positions", file), AS_IT_IS))) == {"total_margin"}
    Path("config.json").write_text(json.dumps(config))
    assert breached(shock(stressed(capsys, "--positions", file), AS_IT_IS)) == {}
    # The user directory's comes first, as in Freqtrade.
    Path("user_data").mkdir()
    config["plimsoll"] = {"exposure": {"total_margin": 0.10, "gross_notional": 1.0}}
    Path("user_data/config.json").write_text(json.dumps(config))
    assert set(breached(shock(stressed(capsys, "--positions", file), AS_IT_IS))) == {
        "total_margin",
        "gross_notional",
    }
    # 10,000 of 9,800: the bot does not tell this limit, its default is 3.
    now = shock(stressed(capsys, "--db-url", write_status()), AS_IT_IS)
    assert numbers(now, "gross_notional")["ratio"] == 1.0


def test_stress_when_the_default_configuration_is_unusable_then_says_so(capsys) -> None:
    Path("config.json").write_text(json.dumps({"trading_mode": "spot"}))
    assert "isolated margin" in complained(capsys, "--positions", positions(LONG))
    Path("config.json").write_text("{")
    complained(capsys, "--db-url", write_status())


@pytest.mark.parametrize(
    "mode", [{}, {"trading_mode": "spot"}, {"trading_mode": "futures", "margin_mode": "cross"}]
)
def test_stress_when_margin_is_not_isolated_then_refuses(capsys, mode: dict[str, str]) -> None:
    Path("config.json").write_text(json.dumps(mode))
    assert "isolated margin" in complained(capsys, "-c", "config.json", "--positions", positions(LONG))


# -- A running bot -------------------------------------------------------------------------------------------


def write_status(age: float = 0.0, **values: Any) -> str:
    """Write a bot's status as it would, into a database like Freqtrade's, and return its URL."""
    url = f"sqlite:///{Path('trades.sqlite').absolute()}"
    position = {"pair": "BTC/USDT:USDT", "side": "long", "margin": 2000.0, "notional": 10_000.0}
    position |= {
        "open_rate": 50_000.0,
        "rate": 49_000.0,
        "stop": 48_000.0,
        "liquidation": 44_000.0,
        "risk": 900.0,  # as planned; the stop has moved since
        "risk_at_stop": 450.0,
        "funding": -30.0,
    }
    document: dict[str, Any] = {
        "equity": 9_800.0,
        "stake_currency": "USDT",
        "breakers": [
            # Headroom 1,800 above 80 % of a peak of 10,000; a day that opened at 10,000.
            {"name": "drawdown", "pair": "*", "value": 0.02, "limit": 0.2, "headroom": 1_800.0},
            {"name": "daily_loss", "pair": "*", "value": 0.02, "limit": 0.04, "headroom": 200.0},
        ],
        "exposure": {
            "volatility": 0.015,
            "effective_bets": 4.0,
            "volatility_limit": 0.02,
            "margin_limit": 0.15,
        },
        "positions": [position],
        "other_positions": [],
    }
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE trades (id INTEGER PRIMARY KEY)"))
    bridge.create_tables(engine)
    with engine.begin() as connection:
        told = {key: value for key, value in (document | values).items() if value is not MISSING}
        bridge.write_status(connection, "MyGuarded", int(time.time() - age), told)
    engine.dispose()
    return url


def test_stress_when_a_bot_runs_then_takes_its_positions_peak_openings_and_limits(capsys) -> None:
    found = stressed(capsys, "--db-url", write_status(), "--gap", "-0.03")
    assert (found["source"], found["equity"], found["remark"]) == ("MyGuarded", 9_800.0, "")
    before = found["before"]
    assert (before["peak"], before["day"], before["week"]) == (
        pytest.approx(10_000.0),
        pytest.approx(10_000.0),
        None,
    )
    # Four independent bets of 1.5 % together are 3 % when nothing is independent any more.
    assert (before["volatility"], before["volatility_at_one"]) == (0.015, pytest.approx(0.03))
    (reach,) = found["order"]
    # The bot's liquidation price is nearer than that of the tiers alone.
    assert reach["liquidation"] == 44_000.0
    assert reach["move_to_liquidation"] == pytest.approx(5 / 49)
    gap = shock(found, "gap -3 %")
    assert [hit["outcome"] for hit in gap["positions"]] == ["stopped"]
    assert gap["equity_after"] == pytest.approx(9_800.0 - 0.2 * 1470.0 - 0.0005 * 0.2 * 47_530.0)
    assert breached(gap) == {"daily_loss": "no entries until the next day"}  # at the bot's own 4 %
    outcomes = {a["rule"]: a["outcome"] for a in gap["limits"]}
    assert outcomes["weekly_loss"] == "unknown"


def numbers(shock: dict[str, Any], rule: str) -> dict[str, Any]:
    return next(a["numbers"] for a in shock["limits"] if a["rule"] == rule)


def test_stress_when_a_bot_runs_then_as_it_is_counts_what_its_limits_count(capsys) -> None:
    others = [
        {"pair": "ETH/USDT:USDT", "side": "short", "kind": "foreign"}
        | {"margin": 300.0, "notional": 900.0, "risk": 300.0},
        {"pair": "SUI/USDT:USDT", "side": "long", "kind": "entry"}
        | {"margin": 50.0, "notional": 200.0, "risk": 20.0},
    ]
    found = stressed(capsys, "--db-url", write_status(other_positions=others), "--gap", "-0.03")
    assert [(each["pair"], each["margin"]) for each in found["others"]] == [
        ("ETH/USDT:USDT", 300.0),
        ("SUI/USDT:USDT", 50.0),
    ]
    now = shock(found, AS_IT_IS)
    assert now["margin_after"] == pytest.approx(2_350.0 / 9_800.0)
    assert now["heat_after"] == pytest.approx(770.0 / 9_800.0)  # at the present stop, not as planned
    assert numbers(now, "total_margin")["used"] == pytest.approx(2_350.0)
    assert numbers(now, "gross_notional")["used"] == pytest.approx(
        11_100.0
    )  # at the entry, as the guard counts
    assert numbers(now, "heat_limit")["open_risk"] == pytest.approx(770.0)
    # The bot's own position is stopped; the others are not moved, and count on.
    gap = shock(found, "gap -3 %")
    assert [hit["pair"] for hit in gap["positions"]] == ["BTC/USDT:USDT"]
    assert numbers(gap, "heat_limit")["open_risk"] == pytest.approx(320.0)
    assert gap["margin_after"] == pytest.approx(350.0 / gap["equity_after"])


@pytest.mark.parametrize(("risk", "outcome"), [(586.0, "fine"), (589.0, "breached"), (None, "unknown")])
def test_stress_when_the_risk_at_the_stops_meets_the_heat_limit_then_answers_as_the_rule_does(
    capsys, risk: float | None, outcome: str
) -> None:
    # 6 % of 9,800 is 588; the planned risk would be far beyond it.
    position = {
        "pair": "BTC/USDT:USDT",
        "side": "long",
        "margin": 1000.0,
        "notional": 5_000.0,
        "funding": 0.0,
    }
    position |= {
        "open_rate": 50_000.0,
        "rate": 50_000.0,
        "stop": 48_000.0,
        "risk": 2_000.0,
        "risk_at_stop": risk,
    }
    found = stressed(capsys, "--db-url", write_status(positions=[position]))
    outcomes = {a["rule"]: a["outcome"] for a in shock(found, AS_IT_IS)["limits"]}
    assert outcomes["heat_limit"] == outcome


@pytest.mark.parametrize("side", ["long", "short"])
def test_stress_when_funding_was_paid_then_a_liquidated_position_loses_that_much_less(
    capsys, side: str
) -> None:
    position = {"pair": "BTC/USDT:USDT", "side": side, "margin": 2000.0, "notional": 10_000.0}
    position |= {"open_rate": 50_000.0, "rate": 50_000.0, "stop": None, "risk_at_stop": 2_000.0}
    found = stressed(capsys, "--db-url", write_status(positions=[position | {"funding": -30.0}]))
    assert shock(found, "all against 20 %")["loss"] == pytest.approx(1_970.0)


def test_stress_when_there_are_other_positions_only_then_they_are_named(capsys) -> None:
    other = {"pair": "ETH/USDT:USDT", "side": "short", "margin": 300.0, "notional": 900.0, "risk": 300.0}
    assert main(["stress", "--db-url", write_status(positions=[], other_positions=[other])]) == 0
    shown = capsys.readouterr().out
    assert "counted in the limits only: ETH/USDT short, margin 300.00" in shown
    assert "no open positions" in shown


def test_stress_when_the_bot_is_of_an_older_version_then_it_has_to_be_restarted(capsys) -> None:
    assert "restart the bot" in complained(capsys, "--db-url", write_status(other_positions=MISSING))


def test_stress_when_no_rate_is_known_then_says_unknown_and_not_fine(capsys) -> None:
    url = write_status(positions=[{"pair": "BTC/USDT:USDT", "side": "long", "margin": 2000.0, "notional": 10_000.0,
                                   "open_rate": 50_000.0, "rate": None, "risk_at_stop": 450.0, "funding": 0.0}])  # fmt: skip
    found = stressed(capsys, "--db-url", url)
    gap = shock(found, "gap -20 %")
    assert [hit["outcome"] for hit in gap["positions"]] == ["unknown"]
    assert gap["equity_after"] is None
    assert {a["outcome"] for a in gap["limits"]} == {"unknown"}


def test_stress_when_the_bot_is_silent_then_says_as_of_when(capsys) -> None:
    assert "silent" in stressed(capsys, "--db-url", write_status(age=700.0))["remark"]


def test_stress_when_there_is_no_bot_then_ends_with_1(capsys) -> None:
    assert "there is no database" in complained(capsys, "--db-url", "sqlite:///missing.sqlite")
    url = write_status()
    assert "--bot must be one of MyGuarded" in complained(capsys, "--db-url", url, "--bot", "Other")


def test_stress_when_the_status_has_no_equity_then_ends_with_1(capsys) -> None:
    assert "no equity" in complained(capsys, "--db-url", write_status(equity=None))
