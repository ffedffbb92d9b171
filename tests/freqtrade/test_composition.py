"""A guarded strategy keeps its say: what it wants tighter is kept, what it wants looser is brought within the limits."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from boundary_harness import (
    CONFIG,
    PAIRS,
    RISK,
    START,
    WALLET,
    WARM_UP_DAYS,
    Outcome,
    Traded,
    backtest,
    faults_of,
    write_user_data,
)
from boundary_harness import small_market as simulated
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType

pytestmark = pytest.mark.freqtrade

DAYS = 12
SPOT_PAIRS = ("BTC/USDT", "ETH/USDT")

STRATEGIES = """
class Plain(Guarded, Steady):
    pass

class LowerLeverage(Guarded, Steady):
    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return 2.0

class HigherLeverage(Guarded, Steady):
    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return 50.0

class OddLeverage(Guarded, Steady):
    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return 2.7

class SmallStake(Guarded, Steady):
    def custom_stake_amount(self, pair, proposed_stake, **kwargs):
        return 111.0

class TightStop(Guarded, Steady):
    use_custom_stoploss = True
    def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, **kwargs):
        return -0.01

class TightAfterFill(Guarded, Steady):
    use_custom_stoploss = True
    def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
        return 0.01 if after_fill else None

class WideAfterFill(Guarded, Steady):
    use_custom_stoploss = True
    def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
        return 4.5 if after_fill else None

class Trailing(Guarded, Steady):
    trailing_stop = True
    trailing_stop_positive = 0.005
    trailing_stop_positive_offset = 0.01
    trailing_only_offset_is_reached = True

class Protected(Guarded, Steady):
    protections = [
        {"method": "StoplossGuard", "lookback_period_candles": 12, "trade_limit": 1, "stop_duration_candles": 12},
        {"method": "MaxDrawdown", "lookback_period_candles": 48, "trade_limit": 5, "stop_duration_candles": 12,
         "max_allowed_drawdown": 0.2},
    ]

class WithSignals(Guarded, Signalling):
    pass

class IgnoresSignals(Guarded, Signalling):
    use_exit_signal = False

class ProfitOnly(Guarded, Signalling):
    exit_profit_only = True

class Informed(Guarded, Steady):
    @informative("4h")
    def populate_indicators_4h(self, dataframe, metadata):
        dataframe["mean"] = dataframe["close"].rolling(3).mean()
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe = super().populate_entry_trend(dataframe, metadata)
        dataframe.loc[dataframe["mean_4h"].isna(), ["enter_long", "enter_short"]] = 0
        return dataframe

class LongOnly(Guarded, Steady):
    can_short = False

class OwnBody(Guarded):
    timeframe = "1h"
    can_short = True
    stoploss = -0.3
    minimal_roi = {"0": 0.02}

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["date"].dt.hour % 4 == 0, ["enter_long", "enter_tag"]] = (1, "own")
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe

    def leverage(self, **kwargs):
        return super().leverage(**kwargs) + 1.0  # Freqtrade's own answer is 1

    def confirm_trade_entry(self, pair, **kwargs):
        return super().confirm_trade_entry(pair=pair, **kwargs) and pair.startswith("BTC")

class Deeper(LowerLeverage):
    stoploss = -0.02
    def leverage(self, **kwargs):
        return super().leverage(**kwargs) - 1.0

class AddsToLosers(Guarded, Adding):
    pass

class MayAddToLosers(Guarded, Adding):
    plimsoll = {"exposure": {"add_to_losers": True}}

class AddsToWinners(Guarded, Adding):
    adds_to = "winners"

class TargetInR(Guarded, Steady):
    minimal_roi = {"0": 10.0}
    plimsoll = {"reward_risk": {"take_profit_r": 2.0}}
"""
NAMES = [
    line.split("(")[0].removeprefix("class ") for line in STRATEGIES.splitlines() if line.startswith("class ")
]
LEAST_TRADES = 10
MOST_MARGIN = 0.15 * WALLET * 1.1


@pytest.fixture(scope="module")
def market():
    return simulated(DAYS)


@pytest.fixture(scope="module")
def made(market, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the user directory: both pairs in 5m, 1h, 4h and 1d, and as spot."""
    user_data = write_user_data(tmp_path_factory.mktemp("composition"), market, STRATEGIES)
    handler = get_datahandler(user_data / "data" / "binance", "feather")
    for pair, data in market.items():
        for timeframe in ("4h", "1d"):
            handler.ohlcv_store(pair, timeframe, resampled(data.candles_1h, timeframe), CandleType.FUTURES)
        handler.ohlcv_store(pair.split(":")[0], "1h", data.candles_1h, CandleType.SPOT)
    return user_data


def resampled(frame: pd.DataFrame, timeframe: str) -> pd.DataFrame:
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return frame.resample(timeframe, on="date").agg(rules).reset_index()


@pytest.fixture(scope="module")
def outcome(made: Path) -> Outcome:
    """Backtest all strategies in one process."""
    return backtest(made, NAMES, arguments=("--timeframe", "1h", "--enable-protections"))


@pytest.fixture
def own(made: Path, tmp_path: Path):
    """Return a way to run one strategy with files and options of its own."""

    def run(name: str, *arguments: str, edit=None, timeframe: str = "1h", **options) -> Outcome:
        user_data = tmp_path / "user_data"
        if not user_data.exists():
            copied(made, user_data)
        if edit is not None:
            edit(user_data)
        return backtest(user_data, [name], arguments=("--timeframe", timeframe, *arguments), **options)

    return run


def copied(made: Path, user_data: Path) -> None:
    for file in [*made.glob("data/**/*.feather"), made / "strategies" / "generated.py"]:
        target = user_data / file.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())


def traded(
    outcome: Outcome, name: str, market, *, timeframe: str = "1h", least: int = LEAST_TRADES
) -> Traded:
    """Return what a strategy traded after the checks that every guarded strategy has to pass."""
    found = outcome.by_name[name]
    assert len(found.trades) >= least
    assert faults_of(found, market, timeframe=timeframe) == []
    assert most_margin(found) <= MOST_MARGIN
    return found


def most_margin(found: Traded) -> float:
    """Return the largest sum of margins held at once."""
    trades = found.trades
    moments = trades["open_timestamp"]
    return max(
        trades.loc[(trades["open_timestamp"] <= at) & (trades["close_timestamp"] > at), "stake_amount"].sum()
        for at in moments
    )


def stop_distance(fill: dict) -> float:
    return abs(fill["open_rate"] - fill["stop"]) / fill["open_rate"]


def first_fills(found: Traded) -> list[dict]:
    return [fill for fill in found.fills if fill["entries"] == 1 and fill["exits"] == 0]


@pytest.mark.parametrize("name", NAMES)
def test_backtest_when_a_strategy_is_guarded_then_every_limit_holds(name, outcome, market):
    found = outcome.by_name[name]

    assert len(found.trades) >= LEAST_TRADES
    assert faults_of(found, market) == []
    assert most_margin(found) <= MOST_MARGIN


def test_stop_when_it_is_hit_then_the_loss_is_r(outcome, market):
    plain = traded(outcome, "Plain", market)

    stopped = [o for o in plain.of("outcome") if o["exit_reason"] == "stop_loss"]
    assert len(stopped) >= 10
    assert all(-1.02 < o["realised_r"] < -0.85 for o in stopped)
    assert {o["side"] for o in stopped} == {"long", "short"}


def test_leverage_when_the_strategys_is_lower_then_is_kept(outcome, market):
    assert set(traded(outcome, "LowerLeverage", market).trades["leverage"]) == {2.0}


def test_leverage_when_the_strategys_is_higher_then_is_the_plans(outcome, market):
    higher, plain = traded(outcome, "HigherLeverage", market), traded(outcome, "Plain", market)

    assert set(higher.trades["leverage"]) == set(plain.trades["leverage"])
    assert max(higher.trades["leverage"]) <= 5


def test_leverage_when_the_strategys_is_broken_then_is_floored(outcome, market):
    assert set(traded(outcome, "OddLeverage", market).trades["leverage"]) <= {1.0, 2.0}


def test_stake_when_the_strategys_is_lower_then_is_kept(outcome, market):
    found = traded(outcome, "SmallStake", market)

    assert found.trades["stake_amount"].max() <= 111.0
    assert found.trades["stake_amount"].min() > 95.0


def test_stop_when_the_strategys_is_tighter_then_it_is_the_strategys(outcome, market):
    found = traded(outcome, "TightStop", market)

    assert "trailing_stop_loss" in found.reasons()
    # 1 % of margin and fees at up to 5x; Freqtrade does not ask in a candle that reaches the planned stop first.
    assert found.trades["profit_ratio"].quantile(0.1) > -0.017


def test_stop_when_the_strategy_sets_it_after_the_fill_then_it_is_the_strategys(outcome, market):
    found = traded(outcome, "TightAfterFill", market)

    for fill in first_fills(found):
        assert stop_distance(fill) == pytest.approx(0.01 / fill["leverage"], rel=0.02)


def test_stop_when_the_strategy_widens_it_after_the_fill_then_stays_as_planned(outcome, market):
    wide, plain = traded(outcome, "WideAfterFill", market), traded(outcome, "Plain", market)

    assert [fill["stop"] for fill in wide.fills] == [fill["stop"] for fill in plain.fills]


def test_trailing_stop_when_native_then_trails_from_our_stop(outcome, market):
    found = traded(outcome, "Trailing", market)

    trailed = found.trades[found.trades["exit_reason"] == "trailing_stop_loss"]
    assert (trailed["profit_ratio"] > 0).any()
    assert "stop_loss" in found.reasons()


def test_protections_when_the_strategy_has_its_own_then_they_hold(outcome, market):
    found = traded(outcome, "Protected", market)

    stopped = found.trades[found.trades["exit_reason"] == "stop_loss"]
    twelve_hours = 12 * 3600 * 1000
    for closed in stopped["close_timestamp"]:
        entries = found.trades["open_timestamp"]
        assert not ((entries > closed) & (entries < closed + twelve_hours)).any()
    assert len(found.trades) < len(outcome.by_name["Plain"].trades)


def test_exit_signal_when_used_ignored_or_for_profit_only_then_the_strategy_decides(outcome, market):
    used, ignored = traded(outcome, "WithSignals", market), traded(outcome, "IgnoresSignals", market)
    profit_only = traded(outcome, "ProfitOnly", market)

    assert "exit_signal" in used.reasons()
    assert "exit_signal" not in ignored.reasons()
    signalled = profit_only.trades[profit_only.trades["exit_reason"] == "exit_signal"]
    assert len(signalled)
    # Judged at the candle's open, without the fee of the exit's own price.
    assert signalled["profit_ratio"].min() > -0.001
    assert "stop_loss" in ignored.reasons() & profit_only.reasons()


def test_can_short_when_false_then_no_short(outcome, market):
    assert not traded(outcome, "LongOnly", market).trades["is_short"].any()


def test_super_when_used_in_a_guarded_body_then_reaches_freqtrades_own(outcome, market):
    found = traded(outcome, "OwnBody", market)

    assert set(found.trades["pair"]) == {PAIRS[0]}
    assert set(found.trades["leverage"]) == {2.0}
    assert set(found.trades["enter_tag"]) == {"own"}


def test_subclass_when_of_a_guarded_class_then_is_guarded_and_inherits(outcome, market):
    found = traded(outcome, "Deeper", market)

    assert set(found.trades["leverage"]) == {1.0}
    assert max(stop_distance(fill) for fill in first_fills(found)) <= 0.0201


def test_addition_when_to_a_loser_then_is_refused(outcome, market):
    found = traded(outcome, "AddsToLosers", market)

    assert {fill["entries"] for fill in found.fills} == {1}
    assert any("losing" in record["refusal"] for record in found.of("addition"))


@pytest.mark.parametrize("name", ["MayAddToLosers", "AddsToWinners"])
def test_addition_when_allowed_then_the_whole_position_stays_within_its_limits(name, outcome, market):
    found = traded(outcome, name, market)

    additions = [fill for fill in found.fills if fill["entries"] > 1]
    assert len(additions) >= 3
    for fill in additions:
        sign = -1 if fill["short"] else 1
        lost = fill["amount"] * sign * (fill["open_rate"] - fill["stop"])
        fees = fill["amount"] * (fill["open_rate"] + fill["stop"]) * CONFIG["fee"]
        assert lost + fees <= RISK * WALLET * 1.05
        assert fill["amount"] * fill["open_rate"] <= 3.0 * WALLET


def test_target_when_stated_in_r_then_closes_there(outcome, market):
    found = traded(outcome, "TargetInR", market)

    won = [o["realised_r"] for o in found.of("outcome") if o["exit_reason"] == "roi"]
    assert won
    assert all(1.9 < r < 2.2 for r in won)


# -- Options, files and modes of their own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["option", "config"])
def test_backtest_when_positions_stack_then_their_sum_stays_within_the_limits(by, own, market):
    if by == "option":
        finished = own("Plain", "--enable-position-stacking")
    else:
        finished = own("Plain", configs=[{"position_stacking": True}])

    trades = traded(finished, "Plain", market).trades
    overlapping = trades.sort_values("open_timestamp").groupby("pair")[["open_timestamp", "close_timestamp"]]
    assert any(
        (group["open_timestamp"].shift(-1) < group["close_timestamp"]).any() for _, group in overlapping
    )


def test_backtest_when_spot_then_sizes_and_stops_without_leverage(own, market):
    spot = {name.split(":")[0]: data for name, data in market.items()}

    finished = own("LongOnly", pairs=SPOT_PAIRS, configs=[{"trading_mode": "spot", "margin_mode": ""}])

    found = traded(finished, "LongOnly", spot)
    assert set(found.trades["pair"]) == set(SPOT_PAIRS)
    assert set(found.trades["leverage"]) == {1.0}
    assert "stop_loss" in found.reasons()


def test_backtest_when_detailed_in_5m_then_every_limit_holds_within_the_candle(own, market):
    finished = own("Plain", "--timeframe-detail", "5m")

    found = traded(finished, "Plain", market, timeframe="5m")
    assert "stop_loss" in found.reasons()
    assert any(trade % 3_600_000 for trade in found.trades["close_timestamp"])


def test_stop_when_config_says_no_custom_stoploss_then_is_set_all_the_same(own, market):
    finished = own("TightStop", configs=[{"use_custom_stoploss": False}])

    found = traded(finished, "TightStop", market)
    plans = {(plan["pair"], plan["time"]): plan for plan in found.of("plan") if plan["granted"]}
    for fill in first_fills(found):
        # The strategy's own is switched off by the config's word, ours is not.
        planned = plans[fill["pair"], int(fill["time"])]["stop_price_ratio"]
        assert stop_distance(fill) == pytest.approx(planned, rel=0.02)


def test_stoploss_when_a_parameter_file_sets_it_then_is_the_strategys_own(own, market):
    def edit(user_data: Path) -> None:
        parameters = {
            "strategy_name": "Plain",
            "params": {"stoploss": {"stoploss": -0.015}},
            "ft_stratparam_v": 1,
        }
        (user_data / "strategies" / "generated.json").write_text(json.dumps(parameters))

    finished = own("Plain", edit=edit)

    found = traded(finished, "Plain", market)
    for fill in first_fills(found):
        assert stop_distance(fill) <= 0.0151 / fill["leverage"]


@pytest.mark.parametrize(("timeframe", "every"), [("5m", 3), ("4h", 8), ("1d", 24)])
def test_backtest_when_the_timeframe_is_not_1h_then_risk_comes_from_1h_files(timeframe, every, own, market):
    source = f'\n\nclass Timed(Guarded, Steady):\n    timeframe = "{timeframe}"\n    every = {every}\n'
    finished = own("Timed", edit=lambda user_data: append(user_data, source), timeframe=timeframe)

    found = traded(finished, "Timed", market, timeframe=timeframe, least=5)
    # The same ATR of 1h candles: a stop of a 1d strategy is no wider than that of a 5m one.
    assert all(0.002 < stop_distance(fill) < 0.04 for fill in first_fills(found))


def append(user_data: Path, source: str) -> None:
    with (user_data / "strategies" / "generated.py").open("a") as file:
        file.write(source)


def remove(pattern: str):
    def edit(user_data: Path) -> None:
        found = list((user_data / "data").rglob(pattern))
        assert found
        for file in found:
            file.unlink()

    return edit


def test_backtest_when_1h_candles_are_missing_then_ends_and_says_so(own):
    def edit(user_data: Path) -> None:
        append(user_data, '\n\nclass Timed(Guarded, Steady):\n    timeframe = "5m"\n')
        remove("*1h-futures.feather")(user_data)

    finished = own("Timed", edit=edit, timeframe="5m", check=False)

    assert finished.run.returncode != 0
    assert "there are no 1h candles of BTC/USDT:USDT" in " ".join(finished.run.output.split())
    assert "Traceback" not in finished.run.output


def test_backtest_when_1h_candles_start_too_late_then_nothing_is_traded_on_half_a_forecast(own, market):
    first = START + pd.Timedelta(days=WARM_UP_DAYS)

    def edit(user_data: Path) -> None:
        append(user_data, '\n\nclass Timed(Guarded, Steady):\n    timeframe = "5m"\n')
        handler = get_datahandler(user_data / "data" / "binance", "feather")
        for pair, data in market.items():
            late = data.candles_1h[data.candles_1h["date"] >= first - pd.Timedelta(days=10)]
            handler.ohlcv_store(pair, "1h", late.reset_index(drop=True), CandleType.FUTURES)

    finished = own("Timed", edit=edit, timeframe="5m", check=False)

    assert not finished.by_name["Timed"].fills
    if finished.run.succeeded:
        assert all(not plan["granted"] for plan in finished.by_name["Timed"].of("plan"))


def test_backtest_when_funding_is_missing_then_ends_and_says_so(own):
    finished = own("Plain", edit=remove("*funding_rate.feather"), check=False)

    assert finished.run.returncode != 0
    assert "there are no funding rates of BTC/USDT:USDT" in " ".join(finished.run.output.split())
    assert "Traceback" not in finished.run.output


def test_backtest_when_settings_are_wrong_then_one_message_names_them_all(own):
    settings = {"leverage": {"cap": 20}, "risk": {"per_trade": 0.5, "per_trad": 1}, "unheard_of": True}

    finished = own("Plain", configs=[{"plimsoll": settings}], check=False)

    output = finished.run.output
    assert finished.run.returncode != 0
    assert output.count("plimsoll settings are not usable") == 1
    assert all(key in output for key in ("leverage.cap", "risk.per_trade", "`risk.per_trad`", "unheard_of"))
    assert "Traceback" not in output
