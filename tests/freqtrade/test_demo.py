"""`plimsoll demo` and the drop-in strategies, through stock ``freqtrade backtesting`` on a small market."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import freqtrade
import pandas as pd
import pytest

from plimsoll import demo
from plimsoll.cli import main
from plimsoll.figures import figures
from plimsoll.journal import read
from plimsoll.market.runner import Backtest, load_backtest
from plimsoll.prepared_market import given

pytestmark = pytest.mark.freqtrade

STRATEGIES = Path(__file__).parents[2] / "strategies"
DROP_INS = ("TrendFollowing1h", "Breakout1h", "MeanReversion5m")
DAYS = 20
TIERS = json.loads(
    (Path(freqtrade.__file__).parent / "exchange" / "binance_leverage_tiers.json").read_text(encoding="utf-8")
)

OWN = """
from EmaCross import EmaCross


class Own(EmaCross):
    def leverage(self, *args, **kwargs):
        return {leverage}
"""


@dataclass(frozen=True)
class Shown:
    """What the demo printed and left behind."""

    directory: Path
    output: str

    def row(self, label: str) -> list[str]:
        """Return both columns of a row."""
        line = next(line for line in self.output.splitlines() if line.strip().startswith(label))
        return line.strip().removeprefix(label).split()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    directory = tmp_path_factory.mktemp("demo")
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.setenv("COLUMNS", "100")
        status = main(["demo", "--days", str(DAYS), "--keep", str(directory)])
    assert status == 0
    return Shown(directory, output.getvalue())


@pytest.fixture(scope="module")
def raw(shown: Shown) -> Backtest:
    return load_backtest(shown.directory / "raw", "EmaCross")


@pytest.fixture(scope="module")
def guarded(shown: Shown) -> Backtest:
    return load_backtest(shown.directory / "guarded", "GuardedEmaCross")


@pytest.fixture(scope="module")
def drop_ins(shown: Shown, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Backtest every drop-in strategy on the demo's market; return their user directories."""
    directory = tmp_path_factory.mktemp("drop-ins")
    prepared = given(shown.directory / "data", None)
    prepared = replace(prepared, pairs=prepared.pairs[:3])
    runs = demo.backtest_both(prepared, {directory / name: (name, STRATEGIES) for name in DROP_INS})
    for run in runs:
        assert "entry refused" not in run.check().output
    return {name: directory / name for name in DROP_INS}


def with_plans(trades: pd.DataFrame, user_data: Path, strategy: str) -> pd.DataFrame:
    """Join Freqtrade's trades with the journal's outcomes."""
    records = read(user_data / "plimsoll" / f"{strategy}-backtest.jsonl")
    outcomes = pd.DataFrame([record for record in records if record["kind"] == "outcome"])
    joined = trades.assign(opened=trades["open_timestamp"] // 1000).merge(
        outcomes[["pair", "opened", "stop_price_ratio", "realised_r"]], on=["pair", "opened"]
    )
    assert len(joined) == len(trades)
    return joined


def liquidation_distance(trade: pd.Series[Any]) -> float:
    """Return the way to liquidation by the exchange's formula, without a buffer and without its maintenance amount."""
    notional = trade["amount"] * trade["open_rate"]
    rate = next(
        tier["maintenanceMarginRate"]
        for tier in TIERS[trade["pair"]]
        if tier["minNotional"] <= notional < tier["maxNotional"]
    )
    return (1 / trade["leverage"] - rate) / (1 + rate if trade["is_short"] else 1 - rate)


# -- Demo --------------------------------------------------------------------------------------------------


def test_demo_when_it_ran_then_prints_freqtrades_own_figures(
    shown: Shown, raw: Backtest, guarded: Backtest
) -> None:
    both = (raw, guarded)
    assert shown.row("Final balance, USDT") == [f"{each['stats']['final_balance']:,.2f}" for each in both]
    assert shown.row("Total profit") == [f"{each['stats']['profit_total']:+.2%}" for each in both]
    assert shown.row("Max drawdown") == [f"{each['stats']['max_drawdown_account']:.2%}" for each in both]
    assert shown.row("Trades") == [f"{each['stats']['total_trades']:,}" for each in both]
    assert shown.row("Liquidations") == [
        str((each["trades"].exit_reason == "liquidation").sum()) for each in both
    ]
    assert shown.row("Worst trade, of its margin") == [
        f"{each['trades'].profit_ratio.min():+.1%}" for each in both
    ]
    assert shown.row("Average leverage") == [f"{each['trades'].leverage.mean():.2f}x" for each in both]


def test_demo_when_it_ran_then_both_traded_the_same_days(raw: Backtest, guarded: Backtest) -> None:
    for key in ("backtest_start", "backtest_end", "timerange", "starting_balance", "max_open_trades"):
        assert raw["stats"][key] == guarded["stats"][key]
    assert raw["stats"]["backtest_days"] == DAYS - 1


def test_demo_when_it_ran_then_the_raw_strategy_is_at_5x_and_its_stops_are_behind_liquidation(
    shown: Shown, raw: Backtest
) -> None:
    assert (raw["trades"]["leverage"] == 5.0).all()
    assert shown.row("Stops outside liquidation at fill")[0] == str(len(raw["trades"]))


def test_demo_when_it_ran_then_the_guarded_strategy_kept_its_limits(shown: Shown, guarded: Backtest) -> None:
    records = read(shown.directory / "guarded" / "plimsoll" / "GuardedEmaCross-backtest.jsonl")
    found = figures(guarded, records, 0.05)
    assert found.trades > 0
    assert found.liquidations == found.whole_margin_losses == found.stops_outside == 0
    assert found.worst_r is not None
    # The total margin is 15 % of equity, of which the balance leaves open profit out.
    assert found.max_margin < 0.20
    assert not any(record["kind"] == "fault" for record in records)


def test_demo_when_it_ran_then_says_where_everything_is(
    shown: Shown, raw: Backtest, guarded: Backtest
) -> None:
    journal = shown.directory / "guarded" / "plimsoll" / "GuardedEmaCross-backtest.jsonl"
    for path in (raw["path"], guarded["path"], journal):
        assert path.is_file()
        assert str(path) in shown.output
    assert "plimsoll demo --data" in shown.output


def test_demo_when_given_another_strategy_and_candles_then_guards_it(
    shown: Shown, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # No import could name it, and its parameters are only of use to the guarded class under that one's name.
    (tmp_path / "my-own.py").write_text(OWN.format(leverage="4.0"))
    stored = {"strategy_name": "Own", "params": {"stoploss": {"stoploss": -0.17}}}
    (tmp_path / "my-own.json").write_text(json.dumps(stored))
    (tmp_path / "EmaCross.py").write_text((STRATEGIES / "EmaCross.py").read_text())
    arguments = ["--strategy", "Own", "--strategy-path", str(tmp_path), "--keep", str(tmp_path / "kept")]
    data = ["--data", str(shown.directory / "data" / "binance"), "--timerange", "20230202-20230207"]
    assert main(["demo", *arguments, *data]) == 0
    assert "GuardedOwn-backtest.jsonl" in capsys.readouterr().out
    raw = load_backtest(tmp_path / "kept" / "raw", "Own")
    guarded = load_backtest(tmp_path / "kept" / "guarded", "GuardedOwn")
    assert (raw["trades"]["leverage"] == 4.0).all()
    assert guarded["trades"]["leverage"].max() <= 4.0
    assert len(guarded["trades"]) > 0
    assert raw["stats"]["stoploss"] == guarded["stats"]["stoploss"] == -0.17


# -- Drop-in strategies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(STRATEGIES.glob("*.py")), ids=lambda path: path.stem)
def test_strategy_file_when_read_then_is_short_and_named_as_its_class(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 90
    assert f"class {path.stem}(" in text


@pytest.mark.parametrize("strategy", DROP_INS)
def test_drop_in_strategy_when_backtested_then_trades_with_every_stop_inside_liquidation(
    drop_ins: dict[str, Path], strategy: str
) -> None:
    trades = with_plans(load_backtest(drop_ins[strategy])["trades"], drop_ins[strategy], strategy)
    assert len(trades) > 0
    assert {True, False} == set(trades["is_short"])
    for _, trade in trades.iterrows():
        last = (trade["open_rate"] - trade["stop_loss_abs"]) / trade["open_rate"]
        looser = max(-last if trade["is_short"] else last, trade["stop_price_ratio"])
        assert looser <= 0.65 * liquidation_distance(trade)
    assert (trades["exit_reason"] != "liquidation").all()
