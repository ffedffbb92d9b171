"""What the report computes from single trades, against exports made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_world import BALANCE, DAY, HOUR, START, World, breaker, outcome, plan, trade

from plimsoll.figures import Figures
from plimsoll.report.charts.base import thinned
from plimsoll.report.checks import check
from plimsoll.report.comparison import ComparisonFault, read
from plimsoll.report.course import MOST_POINTS, course, daily, drawdown_by_chance
from plimsoll.report.decisions import distances, outcomes, refused, sizes, trips
from plimsoll.report.evidence import Evidence, gather
from plimsoll.report.verdict import verdict
from plimsoll.rules.bootstrap import DrawdownDistribution

TRADES = [
    trade(1, 50.0),
    trade(3, -80.0, is_short=True, pair="ETH/USDT:USDT"),
    trade(26, -30.0, exit_reason="stop_loss", enter_tag="dip"),
    trade(30, 20.0),
]


def evidence(world: World, **settings: object) -> list[Evidence]:
    directory = world.write(**settings)
    return gather(directory, read(directory))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# -- Checks against the export ---------------------------------------------------------------------------------


def test_check_when_the_export_states_the_sums_of_its_trades_then_all_agree(world: World) -> None:
    [run] = evidence(world.run("raw", TRADES))
    checks = check(run)
    assert [one for one in checks if not one.agrees] == []
    names = {one.name for one in checks}
    assert {
        "final balance",
        "long profit",
        "short trades",
        "pair ETH/USDT:USDT, profit",
        "enter tag dip, trades",
    } <= names
    assert "profit of 2023-11-16" in names


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"final_balance": BALANCE - 40.0 + 0.0006}, "final balance"),
        ({"profit_total_abs": -40.0 - 0.0006}, "profit"),
        ({"total_trades": 5}, "trades"),
        ({"profit_total_short_abs": -79.0}, "short profit"),
        ({"trade_count_long": 2}, "long trades"),
        ({"max_drawdown_abs": 109.99}, "max drawdown, amount"),
        ({"max_drawdown_account": 0.1047}, "max drawdown, ratio"),
        ({"max_relative_drawdown": 0.2}, "max relative drawdown, ratio"),
        ({"daily_profit": [["2023-11-15", -30.0], ["2023-11-16", -9.9]]}, "profit of 2023-11-16"),
        ({"wins": 3}, "wins"),
    ],
)
def test_check_when_a_statistic_differs_then_that_one_disagrees(
    world: World, changed: dict[str, object], name: str
) -> None:
    [run] = evidence(world.run("raw", TRADES, changed=changed))
    assert [one.name for one in check(run) if not one.agrees] == [name]


def test_check_when_a_difference_is_within_half_of_the_last_decimal_then_it_agrees(world: World) -> None:
    [run] = evidence(world.run("raw", TRADES, changed={"final_balance": BALANCE - 40.0 + 0.0004}))
    checks = check(run)
    assert (checks[0].name, checks[0].ours == checks[0].theirs) == ("final balance", False)
    assert all(one.agrees for one in checks)


def test_check_when_a_pair_is_missing_in_the_export_then_it_disagrees(world: World) -> None:
    rows = [{"key": "BTC/USDT:USDT", "profit_total_abs": 40.0, "trades": 3}]
    [run] = evidence(world.run("raw", TRADES, changed={"results_per_pair": rows}))
    wrong = [one.name for one in check(run) if not one.agrees]
    assert wrong == ["pair ETH/USDT:USDT, profit", "pair ETH/USDT:USDT, trades"]


def test_check_when_the_journal_is_of_another_run_then_it_disagrees(world: World) -> None:
    [run] = evidence(world.run("guarded", TRADES, [outcome(TRADES[0])]))
    assert [one.name for one in check(run) if not one.agrees] == ["journal's outcomes", "journal's profit"]


def test_check_when_there_are_no_trades_then_all_agree(world: World) -> None:
    [run] = evidence(world.run("raw", []))
    checks = check(run)
    assert {"final balance", "trades", "max drawdown, amount"} <= {one.name for one in checks}
    assert all(one.agrees for one in checks)
    assert run.figures.trades == 0


# -- Balance, drawdown, days -----------------------------------------------------------------------------------


def test_course_when_profit_comes_before_losses_then_drawdown_is_from_the_peak(world: World) -> None:
    [run] = evidence(world.run("raw", TRADES))
    found = course(run)
    assert found.balance.tolist() == [1000.0, 1050.0, 970.0, 940.0, 960.0, 960.0]
    assert found.deepest_amount == 110.0
    assert found.deepest_ratio == found.ratio_at_deepest_amount == pytest.approx(110.0 / 1050.0)


def test_course_when_the_deepest_ratio_is_not_the_deepest_amount_then_both_are_known(world: World) -> None:
    trades = [trade(1, -200.0), trade(3, 1200.0), trade(5, -300.0)]
    [run] = evidence(world.run("raw", trades))
    found = course(run)
    assert (found.deepest_ratio, found.deepest_amount) == (pytest.approx(0.2), 300.0)
    assert found.ratio_at_deepest_amount == pytest.approx(0.15)
    assert all(one.agrees for one in check(run))


@pytest.mark.parametrize("trades", [40, 3000])
def test_course_when_many_trades_close_at_one_moment_then_drawdown_is_freqtrades_own(
    tmp_path: Path, trades: int
) -> None:
    from freqtrade.data.metrics import calculate_max_drawdown

    random = np.random.default_rng(5)
    made = [trade(int(random.integers(0, 50)), float(random.normal(0.0, 5.0))) for _ in range(trades)]
    [run] = evidence(World(tmp_path).run("raw", made))
    frame = pd.DataFrame(made)
    frame["close_date"] = pd.to_datetime(frame["close_timestamp"], unit="ms", utc=True).astype(
        "datetime64[us, UTC]"
    )
    theirs = calculate_max_drawdown(frame, starting_balance=BALANCE)
    found = course(run)
    assert found.deepest_amount == pytest.approx(theirs.drawdown_abs, abs=1e-9)
    assert found.ratio_at_deepest_amount == pytest.approx(theirs.relative_account_drawdown)


def test_course_when_there_are_too_many_trades_then_each_days_extremes_stay(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    trades = [trade(hour, float(random.normal()), close_timestamp=(START + hour * HOUR + 60) * 1000)
              for hour in range(MOST_POINTS + 100)]  # fmt: skip
    [run] = evidence(World(tmp_path, days=(MOST_POINTS + 100) // 24 + 2).run("raw", trades))
    found = course(run)
    whole = BALANCE + np.cumsum([t["profit_abs"] for t in trades])
    assert found.thinned
    assert len(found.balance) < MOST_POINTS
    assert found.balance.min() == pytest.approx(min(whole.min(), BALANCE))
    assert found.balance.max() == pytest.approx(max(whole.max(), BALANCE))
    assert found.drawdown.max() == found.deepest_ratio
    assert all(one.agrees for one in check(run))


def test_daily_when_a_day_has_no_trades_then_it_is_zero_of_its_balance(world: World) -> None:
    [run] = evidence(world.run("raw", TRADES))
    days = daily(run)
    assert days["profit"].tolist() == [-30.0, -10.0, 0.0]
    assert days["ratio"].tolist() == pytest.approx([-0.03, -10.0 / 970.0, 0.0])


def test_daily_when_everything_is_lost_then_later_days_have_no_ratio(world: World) -> None:
    [run] = evidence(world.run("raw", [trade(1, -1000.0), trade(30, 5.0)]))
    assert daily(run)["ratio"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize(("days", "drawn"), [(59, False), (60, True)])
def test_drawdown_by_chance_when_days_are_few_then_it_says_so(tmp_path: Path, days: int, drawn: bool) -> None:
    trades = [trade(24 * day + 1, 10.0 if day % 3 else -25.0) for day in range(days)]
    [run] = evidence(World(tmp_path, days=days).run("raw", trades))
    found = drawdown_by_chance(run)
    assert isinstance(found, DrawdownDistribution) == drawn
    assert drawn or found == "59 days, 60 are needed"


def test_drawdown_by_chance_when_everything_was_lost_then_it_says_so(tmp_path: Path) -> None:
    [run] = evidence(World(tmp_path, days=70).run("raw", [trade(1, -1000.0)]))
    assert "lost everything" in str(drawdown_by_chance(run))


# -- Decisions -------------------------------------------------------------------------------------------------


def test_refused_when_the_raw_run_took_the_signal_then_it_is_valued_else_only_counted(world: World) -> None:
    raw = [trade(1, 50.0), trade(3, -80.0, is_short=True), trade(5, 10.0)]
    records = [
        plan(1, "streak: paused"),
        plan(3, "streak: paused", side="short"),
        plan(3, "streak: paused"),  # the other side of a trade is another signal
        plan(4, "heat_limit: full"),
        plan(5),
    ]
    first, second = evidence(world.run("raw", raw).run("guarded", [], records))
    streak, heat, granted = refused(second, first)
    assert (streak.reason, streak.entries, streak.matched) == ("streak", 3, 2)
    assert (streak.gains_missed, streak.losses_saved, streak.made) == (50.0, 80.0, -30.0)
    assert streak.mean_return == pytest.approx((0.1 - 0.16) / 2)
    assert (heat.entries, heat.matched, heat.made, heat.mean_return) == (1, 0, 0.0, None)
    assert (granted.reason, granted.entries, granted.made) == ("granted", 1, 10.0)


def test_refused_when_a_signal_was_planned_twice_then_the_last_plan_counts(world: World) -> None:
    [run] = evidence(world.run("guarded", [], [plan(1, "streak: paused"), plan(1)]))
    assert [(row.reason, row.entries) for row in refused(run, None)] == [("granted", 1)]


def test_trips_when_a_breaker_blocks_twice_in_a_row_then_it_tripped_once(world: World) -> None:
    records = [
        breaker(1, True),
        breaker(2, True),
        breaker(3, False),
        breaker(4, True),
        breaker(4, True, "liquidated X/Y:Y"),
    ]
    [run] = evidence(world.run("guarded", [], records))
    found = trips(run)
    assert [(trip.family, trip.time.timestamp()) for trip in found] == [
        ("streak", START + HOUR),
        ("streak", START + 4 * HOUR),
        ("liquidated", START + 4 * HOUR),
    ]


def test_sizes_when_there_is_a_journal_then_equity_with_open_losses_is_the_base(world: World) -> None:
    [run] = evidence(world.run("guarded", [], [plan(1), plan(2, "streak: paused")]))
    [row] = sizes(run).to_dict("records")
    assert (row["leverage"], row["size"], row["bound_size"]) == (3, 0.15, "kelly")


def test_sizes_when_there_is_no_journal_then_the_balance_closed_by_then_is_the_base(world: World) -> None:
    [run] = evidence(world.run("raw", [trade(1, -500.0), trade(2, 0.0), trade(5, 0.0)]))
    # The second opens at the moment the first closes, as Freqtrade hands its margin on.
    assert sizes(run)["size"].tolist() == pytest.approx([0.5, 1.0, 1.0])


def test_outcomes_when_a_trade_was_not_planned_then_it_is_left_out(world: World) -> None:
    unplanned = outcome(TRADES[1]) | {"planned_risk": None, "realised_r": None}
    [run] = evidence(world.run("guarded", TRADES[:2], [outcome(TRADES[0]), unplanned]))
    assert outcomes(run)["realised"].tolist() == [5.0]


@pytest.mark.parametrize("short", [False, True])
def test_distances_when_a_pairs_tiers_are_known_then_liquidation_lies_beyond_the_stop(
    world: World, short: bool
) -> None:
    [run] = evidence(world.run("raw", [trade(1, 0.0, is_short=short), trade(3, 0.0, pair="NONE/USDT:USDT")]))
    known, unknown = distances(run).to_dict("records")
    assert known["stop"] == pytest.approx(0.05)
    assert known["worst"] == pytest.approx(0.02)
    assert 0.17 < known["liquidation"] < 0.2
    assert np.isnan(unknown["liquidation"])


# -- Verdict and thinning --------------------------------------------------------------------------------------


def figures(profit: float, drawdown: float, trades: int = 10) -> Figures:
    return Figures(
        final_balance=BALANCE * (1 + profit), profit=profit, max_drawdown=drawdown, trades=trades, liquidations=0, whole_margin_losses=0,
        worst_margin=-0.1, worst_r=None, beyond_r=None, stops_outside=0, mean_leverage=2.0, max_margin=0.1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "guarded", "ends"),
    [
        (
            figures(-0.9, 0.95),
            figures(-0.05, 0.09),
            "the guard made the loss smaller, not the strategy profitable.",
        ),
        (figures(-0.9, 0.95), figures(0.05, 0.09), "no return given up for it."),
        (figures(0.78, 0.5), figures(0.1, 0.09), "the smaller drawdown was paid for with return."),
        (figures(0.1, 0.05), figures(0.2, 0.09), "more return, for a deeper drawdown."),
        (figures(0.1, 0.05), figures(0.05, 0.09), "made both return and drawdown worse."),
        (figures(0.1, 0.05), figures(0.1, 0.05), "the guard changed nothing."),
        (figures(0, 0, 0), figures(0, 0, 0), "nothing is shown by these candles."),
        (figures(0.1, 0.05), figures(0, 0, 0), "a drawdown of 5.0%."),
        (None, figures(0.1, 0.05), "the other run is missing, so nothing is compared."),
        (None, None, "nothing can be compared."),
    ],
)
def test_verdict_when_the_runs_differ_then_it_says_for_better_or_worse(
    raw: Figures | None, guarded: Figures | None, ends: str
) -> None:
    assert verdict("Any", "USDT", 3, raw, guarded).endswith(ends)


@pytest.mark.parametrize(
    ("currency", "decimals", "said"), [("BTC", 8, "0.50500000 BTC"), ("USDT", 3, "0.505 USDT")]
)
def test_verdict_when_a_currency_has_many_decimals_then_all_of_them_are_said(
    currency: str, decimals: int, said: str
) -> None:
    one = replace(figures(0.01, 0.1), final_balance=0.505)
    assert f"ended at {said} (+1.0%)" in verdict("Any", currency, decimals, one, one)


def test_thinned_when_there_are_too_many_points_then_the_extremes_stay_and_it_is_said(world: World) -> None:
    [run] = evidence(world.run("raw", [trade(n, float(n % 97)) for n in range(500)]))
    kept, note = thinned(run.trades, "profit_abs", 100)
    assert len(kept) <= 100
    assert (kept["profit_abs"].min(), kept["profit_abs"].max()) == (0.0, 96.0)
    assert "of 500 points drawn" in note
    assert thinned(run.trades, "profit_abs", 500) == (run.trades, "")


def test_gather_when_an_export_is_missing_then_the_fault_names_the_run(world: World) -> None:
    directory = world.run("raw", TRADES).write()
    (directory / "raw" / "result.zip").unlink()
    with pytest.raises(ComparisonFault, match="run 'raw' could not be read"):
        gather(directory, read(directory))


def test_gather_when_a_journals_last_line_is_torn_then_the_rest_is_read(world: World) -> None:
    directory = world.run("guarded", TRADES, [plan(1), plan(2)]).write()
    with (directory / "guarded" / "journal.jsonl").open("a") as file:
        file.write('{"kind": "pl')
    [run] = gather(directory, read(directory))
    assert len(run.plans) == 2
    assert run.begins.timestamp() == START
    assert run.ends.timestamp() == START + 3 * DAY - HOUR
