"""What the UI draws: ours beside the strategy's own, and never an error in place of a chart."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from freqtrade.enums import CandleType, RunMode
from freqtrade.ft_types.plot_annotation_type import AnnotationTypeTA
from freqtrade.persistence import Trade
from freqtrade.strategy import IStrategy

from plimsoll import Guarded
from plimsoll.host import chart
from plimsoll.host.boundary import Unusable
from plimsoll.host.candles import HOUR, HourlyCandles

START = datetime(2024, 1, 1, tzinfo=UTC)
PAIR = "BTC/USDT:USDT"
BEGIN = int(START.timestamp())


def candles(count: int, seconds: int) -> pd.DataFrame:
    dates = pd.date_range(START, periods=count, freq=f"{seconds}s", unit="ms")
    close = 100.0 + np.arange(count) % 7
    return pd.DataFrame(
        {"date": dates, "open": close, "high": close, "low": close, "close": close, "volume": 1.0}
    )


def hours(count: int) -> HourlyCandles:
    times = BEGIN + HOUR * np.arange(count)
    one = np.arange(count, dtype=np.float64)
    return HourlyCandles(times, 100.0 + one, 1.0 + one / 100, 0.01 + one / 1000, 0.02 + one / 1000)


def trade(side: str = "long", **values: Any) -> Any:
    short = side == "short"
    given = {
        "has_open_position": True,
        "is_short": short,
        "open_rate": 100.0,
        "stop_loss": 103.0 if short else 97.0,
    }
    return SimpleNamespace(**given | {"open_date_utc": START + timedelta(hours=2)} | values)


def drawn(*trades: Any, liquidation: float | None = 80.0, last: int = 10) -> list[dict[str, Any]]:
    end = START + timedelta(hours=last)
    found = list(chart.lines_of(trades, lambda _: liquidation, START, end, HOUR))
    for each in found:  # as Freqtrade checks them
        AnnotationTypeTA.validate_python(each, extra="forbid")
    return found


# -- Plot configuration ------------------------------------------------------------------------------------------------


def test_plot_config_when_the_strategy_has_none_then_it_is_ours_with_both_parts() -> None:
    for own in (None, {}):
        assert chart.plot_config(own) == chart.OURS


def test_plot_config_when_the_strategy_has_its_own_then_both_are_there_and_its_entries_win() -> None:
    own = {
        "main_plot": {"ema": {"color": "red"}, chart.STOP_LONG: {"color": "pink"}},
        "subplots": {"RSI": {"rsi": {}}},
        "more": 1,
    }
    merged = chart.plot_config(own)

    assert merged["main_plot"]["ema"] == {"color": "red"}
    assert merged["main_plot"][chart.STOP_LONG] == {"color": "pink"}
    assert chart.STOP_SHORT in merged["main_plot"]
    assert set(merged["subplots"]) == {"RSI", "Volatility per day"}
    assert merged["more"] == 1


def test_plot_config_when_merged_and_changed_then_neither_the_strategys_nor_ours_changes() -> None:
    own: dict[str, Any] = {"main_plot": {"ema": {}}}
    merged = chart.plot_config(own)
    merged["main_plot"]["ema"]["color"] = "x"
    merged["subplots"]["Volatility per day"][chart.VOLATILITY]["color"] = "x"

    assert own == {"main_plot": {"ema": {}}}
    assert chart.plot_config(None)["subplots"]["Volatility per day"][chart.VOLATILITY] == {
        "color": chart.BLUE
    }


def test_plot_config_when_a_part_has_another_form_then_it_is_left_as_it_is() -> None:
    merged = chart.plot_config({"main_plot": ["ema"]})
    assert merged["main_plot"] == ["ema"]
    assert merged["subplots"] == chart.OURS["subplots"]
    with pytest.raises(Unusable, match="no dict"):
        chart.plot_config("ema")


# -- Columns -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [300, HOUR, 4 * HOUR])
def test_columns_when_added_then_each_candle_has_what_a_plan_at_its_close_would_read(seconds: int) -> None:
    frame, series = candles(40, seconds), hours(200)
    found = chart.with_columns(frame, series, seconds, 2.0)

    assert list(frame.columns) == ["date", "open", "high", "low", "close", "volume"]
    for row in found.to_dict("records"):
        reading = series.at(int(row["date"].timestamp()) + seconds)
        atr, sigma = (reading.atr, reading.sigma_day) if reading else (math.nan, math.nan)
        expected = (row["close"] - 2.0 * atr, row["close"] + 2.0 * atr, sigma)
        assert (row[chart.STOP_LONG], row[chart.STOP_SHORT], row[chart.VOLATILITY]) == pytest.approx(
            expected, nan_ok=True
        )
    assert found[chart.VOLATILITY].notna().sum() == (40 if seconds >= HOUR else 29)


def test_columns_when_the_hours_end_then_values_last_until_stale_and_not_longer() -> None:
    found = chart.with_columns(candles(10, HOUR), hours(5), HOUR, 2.0)
    # The reading of the candle that closed at 5:00 holds until before 7:00.
    assert found[chart.VOLATILITY].notna().tolist() == [True] * 6 + [False] * 4


@pytest.mark.parametrize("series", [None, hours(0)])
def test_columns_when_there_are_no_hours_then_they_are_unknown(series: HourlyCandles | None) -> None:
    found = chart.with_columns(candles(3, HOUR), series, HOUR, 2.0)
    assert found[[chart.STOP_LONG, chart.STOP_SHORT, chart.VOLATILITY]].isna().all(axis=None)


def test_columns_when_the_strategy_has_one_of_that_name_then_its_own_stays() -> None:
    frame = candles(3, HOUR).assign(**{chart.STOP_LONG: 1.0})
    found = chart.with_columns(frame, hours(3), HOUR, 2.0)
    assert found[chart.STOP_LONG].tolist() == [1.0] * 3
    assert found[chart.STOP_SHORT].notna().all()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"runmode": RunMode.WEBSERVER}, True),
        ({"runmode": RunMode.PLOT}, True),
        ({"runmode": RunMode.DRY_RUN, "api_server": {"enabled": True}}, True),
        ({"runmode": RunMode.DRY_RUN, "api_server": {"enabled": False}}, False),
        ({"runmode": RunMode.LIVE}, False),
        ({"runmode": RunMode.BACKTEST, "api_server": {"enabled": True}}, False),
        ({"runmode": RunMode.HYPEROPT, "api_server": {"enabled": True}}, False),
    ],
)
def test_columns_when_nobody_can_ask_for_them_then_are_not_wanted(
    config: dict[str, Any], expected: bool
) -> None:
    assert chart.may_be_asked(config) is expected


# -- Annotations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "stop", "liquidation"), [("long", 97.0, 80.0), ("short", 103.0, 120.0)])
def test_annotations_when_a_position_is_open_then_stop_liquidation_and_what_is_at_risk_are_drawn(
    side: str, stop: float, liquidation: float
) -> None:
    area, stop_line, liquidation_line = drawn(trade(side), liquidation=liquidation)
    span = {"start": START + timedelta(hours=2), "end": START + timedelta(hours=11)}

    assert area == {"type": "area", "y_start": 100.0, "y_end": stop, "color": chart.AT_RISK, **span}
    assert (stop_line["y_start"], stop_line["y_end"]) == (stop, stop)
    assert stop_line["label"] == f"Stop {stop:g}"
    assert (liquidation_line["y_start"], liquidation_line["y_end"]) == (liquidation, liquidation)
    assert liquidation_line["label"] == f"Liquidation {liquidation:g}"


@pytest.mark.parametrize(("side", "stop"), [("long", 101.0), ("short", 99.0)])
def test_annotations_when_the_stop_has_passed_the_entry_then_the_area_is_what_is_secured(
    side: str, stop: float
) -> None:
    assert drawn(trade(side, stop_loss=stop))[0]["color"] == chart.SECURED


def test_annotations_when_the_trade_is_older_or_younger_than_the_chart_then_it_stays_within_it() -> None:
    older = drawn(trade(open_date_utc=START - timedelta(days=3)))
    younger = drawn(trade(open_date_utc=START + timedelta(hours=10, minutes=30)))
    assert {each["start"] for each in older} == {START}
    assert {each["start"] for each in younger} == {START + timedelta(hours=10)}
    assert {each["end"] for each in younger} == {START + timedelta(hours=11)}


@pytest.mark.parametrize("nothing", [None, 0.0, math.nan, math.inf])
def test_annotations_when_a_price_is_not_known_then_its_line_is_left_out(nothing: float | None) -> None:
    assert [each["label"] for each in drawn(trade(stop_loss=nothing))] == ["Liquidation 80"]
    assert [each.get("label") for each in drawn(trade(), liquidation=nothing)] == [None, "Stop 97"]


def test_annotations_when_the_entry_is_not_filled_then_there_is_nothing_to_draw() -> None:
    assert drawn(trade(has_open_position=False)) == []


# -- The strategy's own ------------------------------------------------------------------------------------------------


class Plain(IStrategy):
    timeframe = "1h"
    stoploss = -0.1
    plot_config = {"main_plot": {"ema": {}}}  # noqa: RUF012

    def populate_indicators(self, dataframe: Any, metadata: Any) -> Any:
        return dataframe

    def populate_entry_trend(self, dataframe: Any, metadata: Any) -> Any:
        return dataframe

    def plot_annotations(
        self, pair: str, start_date: Any, end_date: Any, dataframe: Any, **kwargs: Any
    ) -> Any:
        return [{"type": "point", "x": start_date, "y": float(len(dataframe))}]


class Failing(Plain):
    @property
    def plot_config(self) -> Any:  # type: ignore[override]
        raise RuntimeError("on purpose")

    def plot_annotations(self, **kwargs: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("on purpose")


class Wordy(Plain):
    plot_config = "ema"  # type: ignore[assignment]

    def plot_annotations(self, **kwargs: Any) -> Any:  # type: ignore[override]
        return None


class InBody(Guarded, Plain):
    plot_config = {"main_plot": {"sma": {}}}  # noqa: RUF012


def guarded(own: type, runmode: RunMode = RunMode.WEBSERVER) -> Any:
    """Return a guarded strategy as Freqtrade makes it for a chart."""
    cls = own if issubclass(own, Guarded) else type(f"Guarded{own.__name__}", (Guarded, own), {})
    config = {
        "runmode": runmode,
        "candle_type_def": CandleType.SPOT,
        "plimsoll": {"journal": {"enabled": False}},
    }
    return cls(config)


def asked(strategy: Any) -> Any:
    return strategy.ft_plot_annotations(PAIR, candles(4, HOUR))


def test_guarded_when_asked_as_freqtrade_does_then_the_strategys_own_is_kept_and_ours_added() -> None:
    strategy = guarded(Plain)
    assert set(strategy.plot_config["main_plot"]) == {"ema", chart.STOP_LONG, chart.STOP_SHORT}
    assert "Volatility per day" in strategy.plot_config["subplots"]
    assert Plain.plot_config == {"main_plot": {"ema": {}}}
    assert asked(strategy) == [{"type": "point", "x": START, "y": 4.0}]
    assert "sma" in guarded(InBody).plot_config["main_plot"]
    strategy.plot_config = {"main_plot": {"late": {}}}  # as in bot_start
    assert set(strategy.plot_config["main_plot"]) == {"late", chart.STOP_LONG, chart.STOP_SHORT}


@pytest.mark.parametrize("own", [Failing, Wordy])
def test_guarded_when_the_strategys_own_fails_then_ours_is_drawn_and_nothing_raises(own: type) -> None:
    strategy = guarded(own)
    assert strategy.plot_config == chart.OURS
    assert asked(strategy) == []


def test_guarded_when_a_live_chart_is_asked_for_then_the_open_trade_is_drawn_beside_the_strategys_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strategy = guarded(Plain, RunMode.DRY_RUN)
    wanted = []
    monkeypatch.setattr(Trade, "get_trades_proxy", lambda **which: wanted.append(which) or [trade()])
    monkeypatch.setattr(strategy._planner.trades, "liquidation", lambda _: 80.0)
    assert [each["type"] for each in asked(strategy)] == ["point", "area", "line", "line"]
    assert wanted == [{"pair": PAIR, "is_open": True}]

    def unreachable(_: Any) -> float:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(strategy._planner.trades, "liquidation", unreachable)
    assert [each["type"] for each in asked(strategy)] == ["point", "area", "line"]


def test_guarded_when_analysed_for_a_chart_then_columns_come_last_and_else_not() -> None:
    seen = []

    class Looking(Plain):
        def populate_exit_trend(self, dataframe: Any, metadata: Any) -> Any:
            seen.append(list(dataframe.columns))
            return dataframe

    strategy = guarded(Looking)
    strategy.config["trading_mode"] = "spot"
    frame = strategy.analyze_ticker(candles(900, HOUR), {"pair": PAIR})
    assert frame[chart.VOLATILITY].notna().sum() > 100
    assert not any(name.startswith("plimsoll") for name in seen[0])
    strategy.config["runmode"] = RunMode.DRY_RUN
    assert chart.VOLATILITY not in strategy.analyze_ticker(candles(900, HOUR), {"pair": PAIR})


def test_guarded_when_a_chart_lacks_funding_rates_then_it_is_drawn_and_a_backtest_refused(
    tmp_path: Any,
) -> None:
    from freqtrade.exceptions import OperationalException

    strategy = guarded(Plain)
    strategy.config |= {"trading_mode": "futures", "candle_type_def": CandleType.FUTURES, "datadir": tmp_path}
    strategy.config["dataformat_ohlcv"] = "feather"
    assert chart.VOLATILITY in strategy.analyze_ticker(candles(900, HOUR), {"pair": PAIR})
    strategy.config["runmode"] = RunMode.BACKTEST
    with pytest.raises(OperationalException, match="no funding rates"):
        strategy.analyze_ticker(candles(900, HOUR), {"pair": PAIR})
