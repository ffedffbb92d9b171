"""What the guard adds to Freqtrade's charts: columns, and lines of the open trade.

Pickled by value in parallel hyperopt, as every module with a base class of a strategy: no lock, no file, no mutable state.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from freqtrade.exchange import timeframe_to_seconds
from freqtrade.persistence import Trade
from pandas import DataFrame

from plimsoll.host import chart, internals
from plimsoll.host.boundary import ask
from plimsoll.host.guard_base import GuardBase


class ChartCallbacks(GuardBase):
    """Draw beside what the strategy draws; no fault of a chart reaches anything else."""

    _own_plot_config: Any = None

    @property
    def plot_config(self) -> dict[str, Any]:
        # A new one for each question: Freqtrade adds to what it gets.
        try:
            own = self._own_plot_config
            return chart.plot_config(super().plot_config if own is None else own)
        except Exception as error:
            self._complain("plot_config", f"the strategy's plot_config is left out: {error!r}", error)
            return chart.plot_config({})

    @plot_config.setter
    def plot_config(self, value: Any) -> None:
        self._own_plot_config = value

    def analyze_ticker(self, dataframe: DataFrame, metadata: dict[str, Any]) -> DataFrame:
        # Backtests and hyperopt do not come this way.
        # Informative methods run outside our own populate_indicators: where one fails, Freqtrade goes on with the last signal.
        with self._planner.gates.analysing(metadata["pair"], "analysis"):
            frame = super().analyze_ticker(dataframe, metadata)
        try:
            if chart.may_be_asked(self.config):
                planner, pair = self._planner, metadata["pair"]
                hours, multiple = planner.inputs.hours(pair), planner.settings.stop.atr_multiple
                return chart.with_columns(frame, hours, timeframe_to_seconds(self.timeframe), multiple)
        except Exception as error:
            self._complain("chart columns", f"the chart has no columns of ours: {error!r}", error)
        return frame

    def plot_annotations(
        self, pair: str, start_date: datetime, end_date: datetime, dataframe: DataFrame, **kwargs: Any
    ) -> list[Any]:
        found = []
        try:
            asked = {"pair": pair, "start_date": start_date, "end_date": end_date, "dataframe": dataframe}
            found += chart.own_annotations(
                ask(super().plot_annotations, "plot_annotations", **asked, **kwargs)
            )
        except Exception as error:
            self._complain(f"plot_annotations {pair}", str(error), error)
        try:
            if internals.is_live_or_dry(self.config):
                seconds = timeframe_to_seconds(self.timeframe)
                trades = Trade.get_trades_proxy(pair=pair, is_open=True)
                liquidation = self._planner.trades.liquidation
                # What was found before an error is drawn.
                found.extend(chart.lines_of(trades, liquidation, start_date, end_date, seconds))
        except Exception as error:
            self._complain(f"chart {pair}", f"the chart lacks the open trade: {error!r}", error)
        return found
