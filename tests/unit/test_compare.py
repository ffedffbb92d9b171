"""``plimsoll compare --together`` on exports made by hand, in Freqtrade's own format."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from freqtrade.optimize.optimize_reports.bt_storage import store_backtest_results

from plimsoll import cli
from plimsoll.compare.errors import CompareError
from plimsoll.compare.exported_trades import read_bots
from plimsoll.settings import load

HOUR = 3_600
START = 1_704_067_200  # 2024-01-01
END = START + 60 * 24 * HOUR
BALANCE = 10_000.0
BTC = "BTC/USDT:USDT"


# -- Exports -----------------------------------------------------------------------------------------------------------


def exported(
    begins: float,
    ends: float,
    margin: float,
    profit: float,
    *,
    short: bool = False,
    stop: float | None = 0.02,
    pair: str = BTC,
) -> dict[str, Any]:
    """A trade as Freqtrade exports it: 5x, opened at 100."""
    return {
        "pair": pair,
        "is_short": short,
        "leverage": 5.0,
        "stake_amount": margin,
        "max_stake_amount": margin,
        "amount": margin * 5.0 / 100.0,
        "open_rate": 100.0,
        "initial_stop_loss_abs": None if stop is None else 100.0 * (1 + stop if short else 1 - stop),
        "fee_open": 0.0005,
        "fee_close": 0.0005,
        "open_timestamp": int((START + begins * HOUR) * 1000),
        "close_timestamp": int((START + ends * HOUR) * 1000),
        "open_date": "",
        "close_date": "",
        "profit_abs": profit,
        "profit_ratio": profit / margin,
        "enter_tag": "",
        "orders": [],
    }


def export(directory: Path, currency: str = "USDT", **strategies: list[dict[str, Any]]) -> Path:
    results = directory / "backtest_results"
    results.mkdir(parents=True, exist_ok=True)
    stats = {
        name: {
            "strategy_name": name,
            "trades": trades,
            "stake_currency": currency,
            "starting_balance": BALANCE,
            "backtest_start_ts": START * 1000,
            "backtest_end_ts": END * 1000,
        }
        for name, trades in strategies.items()
    }
    content = {"metadata": {}, "strategy": stats, "strategy_comparison": []}
    config = {"exportdirectory": results, "original_config": {}}
    return store_backtest_results(config, content, "2024-06-01_00-00-00")


@pytest.mark.parametrize("short", [False, True])
def test_read_bots_when_no_journal_is_there_then_risk_is_that_of_the_first_stop_at_most_the_margin(
    tmp_path: Path, short: bool
) -> None:
    trades = [exported(0, 1, 100.0, 5.0, short=short, stop=stop) for stop in (0.02, 0.3, None)]
    [found] = read_bots([export(tmp_path, A=trades)], load())
    near, far, none = (each.entries[0] for each in found.trades)
    slippage = load().risk.slippage
    stop_value = 1.02 if short else 0.98
    assert near.risk == pytest.approx(500 * (0.02 + 0.0005 + (0.0005 + slippage) * stop_value))
    assert (far.risk, none.risk) == (pytest.approx(100.0), pytest.approx(100.0))
    assert found.planned == 0
    assert found.trades[0].side == ("short" if short else "long")


def test_read_bots_when_the_journal_has_this_very_trade_then_its_stop_counts_and_anothers_does_not(
    tmp_path: Path,
) -> None:
    path = export(tmp_path, A=[exported(0, 1, 100.0, 5.0, stop=0.3), exported(2, 3, 100.0, 6.0, stop=0.3)])
    outcomes = [
        {
            "kind": "outcome",
            "pair": BTC,
            "opened": START + hour * HOUR,
            "profit": 5.0,
            "stop_price_ratio": 0.01,
        }
        for hour in (0, 2)  # the second made 6, so it is of another run
    ]
    (tmp_path / "plimsoll").mkdir()
    journal = tmp_path / "plimsoll" / "A-backtest.jsonl"
    journal.write_text("\n".join(json.dumps(each) for each in outcomes))
    [found] = read_bots([path], load())
    assert found.trades[0].entries[0].risk < 7.0
    assert found.trades[1].entries[0].risk == pytest.approx(100.0)
    assert found.planned == 1


@pytest.mark.parametrize(("short", "gross"), [(False, (-17.5, 32.5)), (True, (17.5, -32.5))])
def test_read_bots_when_a_trade_was_added_to_and_closed_in_parts_then_parts_add_up_to_its_profit(
    tmp_path: Path, short: bool, gross: tuple[float, float]
) -> None:
    def order(hour: float, price: float, amount: float, entry: bool) -> dict[str, Any]:
        stamp = int((START + hour * HOUR) * 1000)
        return {"amount": amount, "safe_price": price, "ft_is_entry": entry, "order_filled_timestamp": stamp}

    profit = sum(gross) + 3.0
    raw = exported(0, 4, 100.0, profit, short=short)
    raw["orders"] = [
        order(0, 100.0, 5.0, True), order(1, 90.0, 5.0, True), order(2, 95.0, 2.5, False), order(4, 97.0, 7.5, False),
    ]  # fmt: skip
    [found] = read_bots([export(tmp_path, A=[raw])], load())
    [one] = found.trades
    first, second = one.entries
    assert (first.margin, second.margin) == (pytest.approx(100.0), pytest.approx(90.0))
    assert one.profit == pytest.approx(profit)
    # Out at 96.5 on average; what is missing to the profit (3) goes by notional, 10 to 9.
    assert first.profit == pytest.approx(gross[0] + 3.0 * 10 / 19)
    assert second.profit == pytest.approx(gross[1] + 3.0 * 9 / 19)
    assert one.reductions == ((START + 2 * HOUR, 0.75),)


def test_read_bots_when_a_strategy_repeats_then_it_is_numbered_and_currencies_must_agree(
    tmp_path: Path,
) -> None:
    path = export(tmp_path / "a", A=[], B=[])
    assert [each.name for each in read_bots([path, path], load())] == ["A", "B", "A #2", "B #2"]
    other = export(tmp_path / "b", "USDC", C=[])
    with pytest.raises(CompareError, match="USDC, USDT"):
        read_bots([path, other], load())


# -- The command -------------------------------------------------------------------------------------------------------


def test_compare_when_two_backtests_overlap_then_it_says_what_was_refused_and_what_that_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = export(tmp_path / "a", Alpha=[exported(0, 9, 3_000.0, 100.0)])
    b = export(tmp_path / "b", Beta=[exported(1, 5, 2_001.0, -40.0), exported(6, 7, 2_100.0, 300.0, short=True), exported(10, 12, 100.0, 1.0)])  # fmt: skip
    assert cli.main(["compare", "--together", str(a), str(b), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    asset = found["bots"]["Beta"]["refused"]["one asset"]
    assert (asset["entries"], asset["gains_missed"], asset["losses_saved"], asset["profit"]) == (
        2,
        300.0,
        40.0,
        260.0,
    )
    assert found["refused"]["one asset"] == asset
    assert found["bots"]["Alpha"]["refused"]["one asset"]["entries"] == 0
    assert found["halt"] is None
    assert found["without_limits"]["profit"] - found["with_limits"]["profit"] == pytest.approx(260.0)
    assert all(math.isfinite(x) for x in asset.values())

    assert cli.main(["compare", "--together", str(a), str(b)]) == 0
    shown = capsys.readouterr().out
    for text in ("never", "one asset", "Beta", "+260", "+361.00", "+101.00", "25.0%"):
        assert text in shown


def test_compare_when_settings_are_given_then_their_limits_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = export(tmp_path / "a", Alpha=[exported(0, 9, 1_000.0, -900.0)])
    b = export(tmp_path / "b", Beta=[exported(10, 12, 100.0, 1.0)])
    config = tmp_path / "config.json"
    for drawdown, halted in ((0.046, False), (0.045, True)):
        config.write_text(json.dumps({"plimsoll": {"portfolio": {"drawdown": drawdown}}}))
        assert cli.main(["compare", "--together", str(a), str(b), "--settings", str(config), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["halt"] is not None) is halted
        assert found["refused"]["halt"]["entries"] == int(halted)
    assert cli.main(["compare", "--together", str(a), str(b), "--settings", str(config)]) == 0
    assert "2024-01-01 09:00:00 UTC" in capsys.readouterr().out


@pytest.mark.parametrize("broken", ["missing", "alone", "settings", "trades"])
def test_compare_when_it_cannot_be_done_then_it_says_why_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    a, b = export(tmp_path / "a", A=[exported(0, 1, 10.0, 1.0)]), export(tmp_path / "b", B=[])
    arguments = ["compare", "--together", str(a), str(b)]
    match broken:
        case "missing":
            arguments[3], said = str(tmp_path / "none.zip"), "none.zip"
        case "alone":
            arguments, said = arguments[:3], "at least 2 bots, was 1"
        case "settings":
            config = tmp_path / "config.json"
            config.write_text(json.dumps({"plimsoll": {"portfolio": {"asset": 2.0}}}))
            arguments, said = [*arguments, "--settings", str(config)], "portfolio.asset = 2.0"
        case _:
            arguments[3], said = str(export(tmp_path / "c", C=[{"pair": BTC}])), "trades of C"
    assert cli.main(arguments) == 1
    assert said in capsys.readouterr().err
