"""``plimsoll calibrate`` on generated backtest exports and databases in Freqtrade's own formats."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.data.btanalysis import load_backtest_data
from freqtrade.optimize.optimize_reports.bt_storage import store_backtest_results

from plimsoll import cli
from plimsoll.calibrate import (
    CalibrationError,
    calibrate,
    daily_returns,
    from_backtest,
    from_database,
    measure,
)
from plimsoll.host.machines import decay_config
from plimsoll.rules import decay
from plimsoll.rules.bootstrap import bootstrap_drawdown
from plimsoll.settings import load

START = datetime(2024, 1, 1, tzinfo=UTC)
BALANCE = 10_000.0
FAST = {"paths": 500}


def trades_of(
    days: int, per_day: float, *, mean: float = 0.002, seed: int = 1, lose: bool = False
) -> list[dict[str, Any]]:
    """Generate trades as a backtest exports them: 5x leverage, a tenth of the balance as margin."""
    rng = np.random.default_rng(seed)
    every = []
    for number in range(int(days * per_day)):
        opened = START + timedelta(days=number / per_day)
        closed = opened + timedelta(hours=5)
        on_notional = (-0.01 if lose else mean) + 0.01 * rng.standard_normal()
        leverage = 5.0
        every.append(
            {
                "pair": "BTC/USDT:USDT",
                "open_date": str(opened),
                "close_date": str(closed),
                "open_timestamp": int(opened.timestamp() * 1000),
                "close_timestamp": int(closed.timestamp() * 1000),
                "profit_ratio": on_notional * leverage,
                "profit_abs": on_notional * leverage * 0.1 * BALANCE,
                "leverage": leverage,
                "is_short": False,
                "enter_tag": "",
                "stake_amount": 1_000.0,
                "orders": [],
            }
        )
    return every


def export(directory: Path, days: int, **trades: list[dict[str, Any]]) -> Path:
    """Store a backtest result of some strategies with Freqtrade's own function."""
    directory.mkdir(parents=True, exist_ok=True)
    ends = START + timedelta(days=days)
    strategies = {
        name: {
            "strategy_name": name,
            "trades": each,
            "backtest_start_ts": int(START.timestamp() * 1000),
            "backtest_end_ts": int(ends.timestamp() * 1000),
            "starting_balance": BALANCE,
        }
        for name, each in trades.items()
    }
    config = {"exportdirectory": directory, "original_config": {}}
    stats = {"metadata": {}, "strategy": strategies, "strategy_comparison": []}
    return store_backtest_results(config, stats, "2024-06-01_00-00-00")


def database(path: Path, trades: list[dict[str, Any]], started: datetime | None = None) -> str:
    """Write closed trades into a database of Freqtrade's, made by Freqtrade, in a process of its own state."""
    from freqtrade.persistence.base import ModelBase
    from sqlalchemy import create_engine

    url = f"sqlite:///{path}"
    engine = create_engine(url)
    ModelBase.metadata.create_all(engine)
    engine.dispose()
    with sqlite3.connect(path) as connection:
        for number, trade in enumerate(trades):
            row = {
                "id": number + 1,
                "exchange": "binance",
                "pair": trade["pair"],
                "is_open": 0,
                "strategy": "Steady",
                "open_date": trade["open_date"].replace("+00:00", ".000000"),
                "close_date": trade["close_date"].replace("+00:00", ".000000"),
                "close_profit": trade["profit_ratio"],
                "close_profit_abs": trade["profit_abs"],
                "leverage": trade["leverage"],
                "open_rate": 1.0,
                "stake_amount": 1_000.0,
                "max_stake_amount": 1_000.0,
                "amount": 1.0,
                "fee_open": 0.0,
                "fee_close": 0.0,
                "stop_loss": 0.0,
                "initial_stop_loss": 0.0,
                "is_short": 0,
                "is_stop_loss_trailing": 0,
                "record_version": 2,
                "interest_rate": 0.0,
            }
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO trades ({names}) VALUES ({marks})", tuple(row.values()))
        if started is not None:
            connection.execute(
                "INSERT INTO KeyValueStore (key, value_type, datetime_value) VALUES ('bot_start_time', 'datetime', ?)",
                (f"{started:%Y-%m-%d %H:%M:%S.%f}",),
            )
    return url


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strategy with an edge: 200 days, 2 trades a day."""
    return export(tmp_path_factory.mktemp("good"), 200, Steady=trades_of(200, 2.0))


def test_export_when_generated_then_freqtrade_itself_loads_it(good):
    assert len(load_backtest_data(good, "Steady")) == 400


def test_history_when_read_from_a_file_a_directory_or_user_data_then_is_the_same(good, tmp_path):
    (tmp_path / "user_data").mkdir()
    (tmp_path / "user_data" / "backtest_results").symlink_to(good.parent)

    for path in (good, good.parent, tmp_path / "user_data"):
        history = from_backtest(path)
        assert (history.strategy, len(history.trades), history.balance) == ("Steady", 400, BALANCE)
        assert history.days == 200.0


def test_daily_returns_when_days_have_no_trades_then_they_are_zero(tmp_path):
    few = [trades_of(100, 1.0)[day] for day in (3, 4, 50)]
    returns = daily_returns(from_backtest(export(tmp_path, 100, Rare=few)))

    assert len(returns) == 101  # both ends included
    assert list(np.flatnonzero(returns)) == [3, 4, 50]
    assert returns[3] == pytest.approx(few[0]["profit_abs"] / BALANCE)
    assert returns[4] == pytest.approx(few[1]["profit_abs"] / (BALANCE + few[0]["profit_abs"]))


def test_daily_returns_when_compounded_then_give_the_final_balance(good):
    history = from_backtest(good)

    assert BALANCE * np.prod(1.0 + daily_returns(history)) == pytest.approx(
        BALANCE + history.trades["profit"].sum()
    )


def test_baseline_when_measured_then_is_on_notional(good):
    found = calibrate(from_backtest(good), **FAST).baseline

    ratios = [trade["profit_ratio"] / 5.0 for trade in trades_of(200, 2.0)]
    assert found.mean == pytest.approx(np.mean(ratios))
    assert found.deviation == pytest.approx(np.std(ratios, ddof=1))
    assert (found.trades, found.trades_per_day) == (400, 2.0)


def test_baseline_when_written_then_the_decay_breaker_reads_it(good, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "PATHS", 500)
    path = tmp_path / "new" / "baseline.json"
    assert run([str(good), "--output", str(path)]) == 0

    config = decay_config(load({"decay": {"baseline": str(path)}}))
    assert config.baseline == calibrate(from_backtest(good), **FAST).baseline
    assert decay.levels(config).pause is not None
    shown = " ".join(capsys.readouterr().out.split())
    assert decay.statement(config) in shown
    assert "one false alarm in" in shown
    assert "days until noticed" in shown
    assert str(path) in shown


def test_json_when_asked_for_then_prints_what_is_written(good, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "PATHS", 500)
    path = tmp_path / "baseline.json"
    assert run([str(good), "--output", str(path), "--json"]) == 0

    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(path.read_text())
    assert printed["of"] | {"source": ""} == {
        "strategy": "Steady",
        "source": "",
        "begins": "2024-01-01T00:00:00+00:00",
        "ends": "2024-07-19T00:00:00+00:00",
        "days": 201,
        "trades": 400,
    }


@pytest.mark.parametrize(("days", "calibrated"), [(58, False), (59, True)])
def test_drawdown_when_under_60_days_then_says_so_and_calibrates_nothing(tmp_path, days, calibrated):
    found = calibrate(from_backtest(export(tmp_path, days, New=trades_of(days, 2.0))), **FAST)

    assert found.days == days + 1
    assert (found.drawdown is not None) == calibrated
    assert any("60 are needed" in note for note in found.notes) != calibrated


@pytest.mark.parametrize(("count", "pauses"), [(99, False), (100, True)])
def test_baseline_when_under_100_trades_then_says_so_and_only_halves_the_size(tmp_path, count, pauses):
    found = calibrate(from_backtest(export(tmp_path, 100, New=trades_of(100, 1.0)[:count])), **FAST)

    assert found.baseline.trades == count
    assert (decay.levels(decay.Config(baseline=found.baseline)).pause is not None) == pauses
    assert any("100 are needed" in note for note in found.notes) != pauses
    assert ("no pause level" in found.statement) != pauses


@pytest.mark.parametrize(
    ("trades", "said"),
    [
        (trades_of(100, 1.0, mean=-0.005), "no edge"),
        (trades_of(100, 1.0)[:1], "1 trades: no decay baseline"),
        ([], "0 trades: no decay baseline"),
        ([trade | {"profit_ratio": 0.05} for trade in trades_of(100, 1.0)], "all trades earn the same"),
    ],
)
def test_baseline_when_there_is_none_to_measure_then_none_is_written(tmp_path, trades, said):
    found = calibrate(from_backtest(export(tmp_path, 100, Poor=trades)), **FAST)

    assert found.baseline is None
    assert any(said in note for note in found.notes)
    assert "decay" not in measure.document(found)
    assert found.statement.startswith(decay.NO_BASELINE)


def test_size_when_the_95th_percentile_is_beyond_the_limit_then_is_scaled_until_it_fits(tmp_path):
    risky = [trade | {"profit_abs": 5 * trade["profit_abs"]} for trade in trades_of(200, 2.0, mean=0.0005)]
    found = calibrate(from_backtest(export(tmp_path, 200, Risky=risky)), limit=0.2, **FAST).drawdown

    assert found.median < found.q95 < found.q99
    assert found.q95 > 0.2
    assert 0.0 < found.size_factor < 1.0
    assert found.q95_at_size == pytest.approx(0.2, abs=0.002)
    assert 0.05 < found.exceed_probability < 1.0


def test_size_when_the_drawdown_fits_then_is_left_as_it_is(good):
    found = calibrate(from_backtest(good), limit=0.99, **FAST).drawdown

    assert (found.size_factor, found.q95_at_size, found.exceed_probability) == (1.0, found.q95, 0.0)


def test_paths_when_resampled_then_their_ends_differ(good):
    returns = daily_returns(from_backtest(good))

    assert bootstrap_drawdown(returns, paths=500).terminal.var() > 0.0
    assert bootstrap_drawdown(returns, paths=500, horizon=len(returns)).terminal.std() > 0.01


def test_strategies_when_several_then_one_is_chosen_by_name(tmp_path):
    path = export(tmp_path, 100, One=trades_of(100, 1.0), Two=trades_of(100, 2.0))

    assert from_backtest(path, "Two").strategy == "Two"
    with pytest.raises(CalibrationError, match="--strategy must be one of One, Two"):
        from_backtest(path)
    with pytest.raises(CalibrationError, match="was Three"):
        from_backtest(path, "Three")


def test_account_when_ruined_then_says_when(tmp_path):
    path = export(tmp_path, 100, Ruin=trades_of(100, 5.0, lose=True))

    with pytest.raises(CalibrationError, match="had lost everything by 2024-0"):
        daily_returns(from_backtest(path))


# -- Databases ------------------------------------------------------------------------------------------------------------------


def test_database_when_read_then_gives_what_the_export_of_the_same_trades_gives(good, tmp_path):
    url = database(tmp_path / "dry.sqlite", trades_of(200, 2.0), START)
    before = (tmp_path / "dry.sqlite").read_bytes()

    found, exported = from_database(url, BALANCE), from_backtest(good)

    pd.testing.assert_frame_equal(found.trades, exported.trades, check_dtype=False)
    assert found.begins == exported.begins
    assert found.days == pytest.approx(200.0, abs=0.5)
    assert calibrate(found, **FAST).baseline.mean == calibrate(exported, **FAST).baseline.mean
    assert (tmp_path / "dry.sqlite").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dry.sqlite"]


def test_database_when_the_bot_started_before_its_first_trade_then_those_days_count(tmp_path):
    url = database(tmp_path / "dry.sqlite", trades_of(10, 1.0), START - timedelta(days=20))

    assert len(daily_returns(from_database(url, BALANCE))) == 30


@pytest.mark.parametrize(
    "content", [None, b"", b"no database at all, but long enough to be taken for one" * 50]
)
def test_database_when_it_is_none_then_says_so(tmp_path, content):
    path = tmp_path / "dry.sqlite"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(CalibrationError):
        from_database(f"sqlite:///{path}", BALANCE)


# -- Arguments ------------------------------------------------------------------------------------------------------------------


def run(arguments: list[str]) -> int:
    return cli.main(["calibrate", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.zip", "--db", "sqlite:///b"],
        ["--db", "sqlite:///b"],
        ["a.zip", "--balance", "1000"],
        ["a.zip", "--limit", "20"],
        ["a.zip", "--limit", "nan"],
        ["--db", "sqlite:///b", "--balance", "0"],
    ],
)
def test_arguments_when_they_make_no_sense_then_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    assert "usage: plimsoll calibrate" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["missing.zip", "broken.zip", "empty"])
def test_backtest_when_unreadable_then_status_1_and_no_file(tmp_path, name, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    output = tmp_path / "baseline.json"

    assert run([str(tmp_path / name), "--output", str(output)]) == 1
    assert "plimsoll calibrate: no backtest could be read" in " ".join(capsys.readouterr().err.split())
    assert not output.exists()
