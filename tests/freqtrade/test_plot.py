"""Freqtrade's REST API, as its UI asks it: what a guarded strategy's chart holds in a running bot and in the webserver.

FreqUI's own page is not part of Freqtrade's package: how it draws what is answered here is not seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from boundary_bot import MovablePrices, market_until_now
from stepped_bot import CONFIG

from plimsoll.host import chart
from plimsoll.market.bot import TradingBot
from plimsoll.market.exchange import LoopbackExchange

pytestmark = pytest.mark.freqtrade

LONG, SHORT = PAIRS = ("BTC/USDT:USDT", "ETH/USDT:USDT")
SECONDS = 120.0  # for an answer
OURS = {chart.STOP_LONG, chart.STOP_SHORT, chart.VOLATILITY}
OVERRIDES = {
    "timeframe": "5m",
    "ignore_buying_expired_candle_after": 0,
    "internals": {"process_throttle_secs": 1},
}
STRATEGIES = """
from freqtrade.strategy import IStrategy
from plimsoll import Guarded


class Charted(IStrategy):
    timeframe = "5m"
    can_short = True
    stoploss = -0.5
    minimal_roi = {"0": 100}
    startup_candle_count = 20
    plot_config = {"main_plot": {"mean": {"color": "black"}}}

    def populate_indicators(self, dataframe, metadata):
        dataframe["mean"] = dataframe["close"].rolling(20).mean()
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe["enter_long" if metadata["pair"].startswith("BTC") else "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe

    def plot_annotations(self, pair, start_date, end_date, dataframe, **kwargs):
        if pair.startswith("ETH"):
            raise RuntimeError("on purpose")
        return [{"type": "point", "x": end_date, "y": float(dataframe["close"].iloc[-1]), "label": "own"}]


class GuardedCharted(Guarded, Charted):
    pass


class GuardedFailing(Guarded, Charted):
    @property
    def plot_config(self):
        raise RuntimeError("on purpose")
"""


class Webserver(TradingBot):
    """`freqtrade webserver` in place of a bot."""

    def __init__(self, exchange: LoopbackExchange, directory: Path, user_data: Path) -> None:
        super().__init__(
            exchange, directory, "-", configs=[CONFIG | OVERRIDES], user_data=user_data, api=True
        )
        at = self._command.index("trade")
        self._command[at : at + 3] = ["webserver"]

    def ready(self, seconds: float = 400.0) -> bool:
        return self.wait(lambda: self.rest("GET", "ping")[0] == 200, seconds)

    def __exit__(self, *_: object) -> None:
        self.kill()  # it holds nothing, and takes half a minute to end by itself


@pytest.fixture(scope="module")
def user_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plot")
    (directory / "strategies").mkdir()
    (directory / "strategies" / "charted.py").write_text(STRATEGIES)
    return directory


@pytest.fixture(scope="module")
def exchange(user_data: Path) -> Iterator[LoopbackExchange]:
    prices: MovablePrices = market_until_now(user_data / "data" / "binance", PAIRS)
    with LoopbackExchange(PAIRS, prices) as exchange:
        yield exchange


@pytest.fixture(scope="module")
def bot(exchange: LoopbackExchange, user_data: Path) -> Iterator[TradingBot]:
    own = {"configs": [CONFIG | OVERRIDES], "user_data": user_data, "api": True}
    with TradingBot(exchange, user_data / "bot", "GuardedCharted", **own) as bot:
        assert bot.wait(lambda: {each["pair"] for each in open_trades(bot)} == set(PAIRS), 400), (
            bot.last_words()
        )
        yield bot


@pytest.fixture(scope="module")
def webserver(exchange: LoopbackExchange, user_data: Path) -> Iterator[Webserver]:
    with Webserver(exchange, user_data / "web", user_data) as web:
        assert web.ready(), web.last_words()
        yield web


def ask(of: TradingBot, path: str) -> Any:
    status, answer = of.rest("GET", path, seconds=SECONDS)
    assert status == 200, (answer, of.last_words())
    return answer


def open_trades(bot: TradingBot) -> list[dict[str, Any]]:
    status, answer = bot.rest("GET", "status", seconds=SECONDS)
    # A stop is there once the fill has been seen.
    return [each for each in answer if each["amount"] and each["stop_loss_abs"]] if status == 200 else []


def chart_and_trade(bot: TradingBot, pair: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the chart of a pair and its trade as it was at that moment: at a candle's end a stop may move."""
    seen: list[dict[str, Any]] = []

    def stands() -> bool:
        (before,) = [each for each in open_trades(bot) if each["pair"] == pair]
        answer = ask(bot, f"pair_candles?pair={quote(pair)}&timeframe=5m")
        (after,) = [each for each in open_trades(bot) if each["pair"] == pair]
        seen[:] = [answer, after]
        return all(before[name] == after[name] for name in ("stop_loss_abs", "liquidation_price"))

    assert bot.wait(stands, 120), bot.last_words()
    answer, trade = seen
    return answer, trade


def rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(answer["columns"], row, strict=True)) for row in answer["data"]]


def assert_ours_beside_the_candles(answer: dict[str, Any]) -> None:
    found = rows(answer)
    assert len(found) > 100
    for row in found[-100:]:
        close, below, above = row["close"], row[chart.STOP_LONG], row[chart.STOP_SHORT]
        assert 0.0 < below < close < above
        assert above - close == pytest.approx(close - below)
        assert 0.001 < row[chart.VOLATILITY] < 0.2


@pytest.mark.parametrize(("pair", "side"), [(LONG, "long"), (SHORT, "short")])
def test_bot_when_its_chart_is_asked_for_then_it_has_columns_and_the_open_trades_lines(
    bot: TradingBot, pair: str, side: str
) -> None:
    answer, trade = chart_and_trade(bot, pair)
    assert_ours_beside_the_candles(answer)
    assert set(answer["all_columns"]) >= OURS

    drawn = [each for each in answer["annotations"] if each.get("label") != "own"]
    # The strategy's own fails for the short pair, and takes nothing of ours with it.
    assert len(answer["annotations"]) - len(drawn) == (1 if side == "long" else 0)
    area, stop, liquidation = drawn
    assert (area["type"], stop["type"], liquidation["type"]) == ("area", "line", "line")
    assert stop["y_start"] == stop["y_end"] == area["y_end"] == trade["stop_loss_abs"]
    assert area["y_start"] == trade["open_rate"]
    order = [liquidation["y_start"], stop["y_start"], trade["open_rate"]]
    assert order == sorted(order, reverse=side == "short")
    # The nearer of Freqtrade's price and the guard's, which takes the tier of the notional.
    theirs = trade["liquidation_price"]
    assert liquidation["y_start"] >= theirs if side == "long" else liquidation["y_start"] <= theirs
    last = datetime.fromtimestamp(answer["data_stop_ts"] / 1000, UTC)
    for each in drawn:
        assert datetime.fromisoformat(each["start"]) <= last
        assert datetime.fromisoformat(each["end"]) == last + timedelta(minutes=5)
    assert bot.log().count(f"plot_annotations {SHORT}: ") <= 1  # said once, however often it is asked


def test_bot_when_the_ui_asks_for_some_columns_then_it_gets_those(bot: TradingBot) -> None:
    body = {"pair": LONG, "timeframe": "5m", "columns": [chart.STOP_LONG], "limit": 5}
    status, answer = bot.rest("POST", "pair_candles", body, seconds=SECONDS)
    assert (status, len(answer["data"])) == (200, 5)
    assert OURS & set(answer["columns"]) == {chart.STOP_LONG}


def test_bot_when_its_plot_config_is_asked_for_then_the_strategys_and_ours_are_there_each_time(
    bot: TradingBot,
) -> None:
    for _ in range(2):
        found = ask(bot, "plot_config")
        assert found["main_plot"] == {"mean": {"color": "black"}, **chart.OURS["main_plot"]}
        assert found["subplots"] == chart.OURS["subplots"]


def test_webserver_when_history_is_asked_for_then_it_has_columns_and_no_trades_lines(
    webserver: Webserver,
) -> None:
    since = datetime.now(UTC) - timedelta(days=1)
    answer = ask(
        webserver,
        f"pair_history?pair={quote(LONG)}&timeframe=5m&timerange={since:%Y%m%d}-&strategy=GuardedCharted",
    )
    assert_ours_beside_the_candles(answer)
    assert [each["label"] for each in answer["annotations"]] == ["own"]


def test_webserver_when_plot_configs_are_asked_for_then_a_failing_one_leaves_ours(
    webserver: Webserver,
) -> None:
    assert "mean" in ask(webserver, "plot_config?strategy=GuardedCharted")["main_plot"]
    assert ask(webserver, "plot_config?strategy=GuardedFailing") == chart.OURS
