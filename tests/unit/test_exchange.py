"""The loopback exchange and its sources of prices."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest

from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.history import Candle, FileHistory, NoHistory, Window
from plimsoll.market.instruments import DEFAULT_PAIRS, Instrument, instrument

MINUTE = 60_000
HOUR = 60 * MINUTE
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
NOW = START + 30 * HOUR + 17 * MINUTE  # 3 candles of 5 minutes into the hour, 2 minutes into the fourth
PAIR = "BTC/USDT:USDT"


def get(url: str, path: str, method: str = "GET", **query: Any) -> tuple[int, Any]:
    request = urllib.request.Request(f"{url}{path}?{urlencode(query)}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def candles(first: int, length: int, count: int, base: float = 40_000.0) -> pd.DataFrame:
    opened = base + 10.0 * np.arange(count)
    return pd.DataFrame(
        {
            "date": pd.to_datetime(first + length * np.arange(count), unit="ms", utc=True),
            "open": opened,
            "high": opened + 7.0,
            "low": opened - 3.0,
            "close": opened + 5.0,
            "volume": 12.0,
        }
    )


@pytest.fixture(scope="module")
def datadir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from freqtrade.data.history.datahandlers import get_datahandler
    from freqtrade.enums import CandleType

    directory = tmp_path_factory.mktemp("history")
    (directory / "futures").mkdir()
    handler = get_datahandler(directory, "feather")
    handler.ohlcv_store(PAIR, "5m", candles(START, 5 * MINUTE, 48 * 12), CandleType.FUTURES)
    handler.ohlcv_store(PAIR, "1h", candles(START, HOUR, 48), CandleType.FUTURES)
    handler.ohlcv_store(PAIR, "1h", candles(START, HOUR, 48, 39_999.0), CandleType.MARK)
    funding = pd.DataFrame(
        {
            "date": pd.to_datetime(START + 8 * HOUR * np.arange(6), unit="ms", utc=True),
            "funding_rate": 0.0001 * np.arange(6),
            # Where Freqtrade 2026.7 keeps the rate.
            "open": 0.0001 * np.arange(6),
            "high": 0.0,
            "low": 0.0,
            "close": 0.0,
            "volume": 0.0,
        }
    )
    handler.ohlcv_store(PAIR, "1h", funding, CandleType.FUNDING_RATE)
    handler.ohlcv_store("ETH/USDT", "1h", candles(START, HOUR, 48, 2_000.0), CandleType.SPOT)
    return directory


@pytest.fixture(scope="module")
def exchange(datadir: Path) -> Iterator[LoopbackExchange]:
    pairs = (*DEFAULT_PAIRS, "ETH/USDT")
    with LoopbackExchange(pairs, source=FileHistory(datadir), now=lambda: NOW) as exchange:
        yield exchange


# -- ENDPOINTS -------------------------------------------------------------------------------------------


def test_exchange_info_when_futures_then_lists_perpetuals_with_their_filters(exchange):
    status, body = get(exchange.url, "/fapi/v1/exchangeInfo")

    symbols = {each["symbol"]: each for each in body["symbols"]}
    filters = {each["filterType"]: each for each in symbols["BTCUSDT"]["filters"]}
    assert status == 200
    assert body["serverTime"] == NOW
    assert set(symbols) == {"BTCUSDT", "ETHUSDT", "LTCUSDT", "SUIUSDT", "1000PEPEUSDT"}
    assert {each["contractType"] for each in symbols.values()} == {"PERPETUAL"}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.10"
    assert filters["LOT_SIZE"]["stepSize"] == filters["MARKET_LOT_SIZE"]["stepSize"] == "0.001"
    assert filters["MIN_NOTIONAL"]["notional"] == "100"


def test_exchange_info_when_spot_or_coin_margined_then_lists_only_what_belongs_there(exchange):
    _, spot = get(exchange.url, "/api/v3/exchangeInfo")
    _, coin = get(exchange.url, "/dapi/v1/exchangeInfo")

    assert [each["symbol"] for each in spot["symbols"]] == ["ETHUSDT"]
    assert "contractType" not in spot["symbols"][0]
    assert coin["symbols"] == []


@pytest.mark.parametrize("prefix", ["/fapi/v1", "/api/v3"])
def test_time_and_ping_when_asked_then_tell_the_clock(exchange, prefix):
    assert get(exchange.url, f"{prefix}/ping") == (200, {})
    assert get(exchange.url, f"{prefix}/time") == (200, {"serverTime": NOW})


def test_klines_when_asked_then_have_twelve_fields_as_binance_sends_them(exchange):
    _, rows = get(exchange.url, "/fapi/v1/klines", symbol="BTCUSDT", interval="1h", limit=3)

    assert rows[0] == [
        *(START + 28 * HOUR, "40280", "40287", "40277", "40285", "12", START + 29 * HOUR - 1),
        *("483420", 0, "0", "0", "0"),
    ]
    assert [row[0] for row in rows] == [START + hours * HOUR for hours in (28, 29, 30)]


def test_klines_when_start_is_given_then_are_the_first_from_there(exchange):
    asked = {"symbol": "BTCUSDT", "interval": "1h", "startTime": START + 5 * HOUR, "limit": 2}
    _, rows = get(exchange.url, "/fapi/v1/klines", **asked)
    _, bounded = get(exchange.url, "/fapi/v1/klines", **asked, endTime=START + 5 * HOUR)

    assert [row[0] for row in rows] == [START + 5 * HOUR, START + 6 * HOUR]
    assert [row[0] for row in bounded] == [START + 5 * HOUR]


def test_klines_when_spot_then_come_from_the_spot_market(exchange):
    _, rows = get(exchange.url, "/api/v3/klines", symbol="ETHUSDT", interval="1h", startTime=START, limit=1)

    assert rows[0][1] == "2000"


def test_mark_price_klines_when_asked_then_differ_from_trades(exchange):
    asked = {"symbol": "BTCUSDT", "interval": "1h", "startTime": START, "limit": 1}

    assert get(exchange.url, "/fapi/v1/markPriceKlines", **asked)[1][0][1] == "39999"
    assert get(exchange.url, "/fapi/v1/klines", **asked)[1][0][1] == "40000"


def test_funding_rate_when_asked_then_lists_only_payments_made(exchange):
    _, rows = get(exchange.url, "/fapi/v1/fundingRate", symbol="BTCUSDT", startTime=START)

    assert [row["fundingTime"] for row in rows] == [START + hours * HOUR for hours in (0, 8, 16, 24)]
    assert rows[-1]["fundingRate"] == "0.00030000"


def test_premium_index_when_asked_for_one_or_all_then_tells_mark_and_funding(exchange):
    _, one = get(exchange.url, "/fapi/v1/premiumIndex", symbol="BTCUSDT")
    _, every = get(exchange.url, "/fapi/v1/premiumIndex")

    assert one["markPrice"] == "40299"
    assert one["lastFundingRate"] == "0.00030000"
    assert one["nextFundingTime"] == START + 32 * HOUR
    assert every == [one]  # the other pairs have no history


@pytest.mark.parametrize("limit", [5, 20])
def test_depth_when_asked_then_is_one_tick_wide_around_the_last_price(exchange, limit):
    _, book = get(exchange.url, "/fapi/v1/depth", symbol="BTCUSDT", limit=limit)

    bids, asks = ([float(price) for price, _ in book[side]] for side in ("bids", "asks"))
    last = float(get(exchange.url, "/fapi/v1/ticker/24hr", symbol="BTCUSDT")[1]["lastPrice"])
    assert len(bids) == len(asks) == limit
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] <= last < asks[0]
    assert asks[0] - bids[0] == pytest.approx(0.1)
    assert all(float(quantity) > 0 for _, quantity in book["bids"] + book["asks"])


def test_ticker_when_asked_for_one_or_all_then_tells_the_last_day(exchange):
    _, one = get(exchange.url, "/fapi/v1/ticker/24hr", symbol="BTCUSDT")
    _, every = get(exchange.url, "/fapi/v1/ticker/24hr")

    assert every == [one]
    assert one["lastPrice"] == "43630"  # open of the candle of 5 minutes in progress
    assert float(one["lowPrice"]) <= float(one["openPrice"]) <= float(one["highPrice"])
    assert "bidPrice" not in one
    assert "bidPrice" in get(exchange.url, "/api/v3/ticker/24hr", symbol="ETHUSDT")[1]


def test_book_ticker_when_asked_for_one_or_all_then_has_both_sides(exchange):
    _, one = get(exchange.url, "/fapi/v1/ticker/bookTicker", symbol="BTCUSDT")
    _, every = get(exchange.url, "/fapi/v1/ticker/bookTicker")
    _, spot = get(exchange.url, "/api/v3/ticker/bookTicker", symbols='["ETHUSDT"]')

    assert every == [one]
    assert (one["bidPrice"], one["askPrice"]) == ("43630.0", "43630.1")
    assert [each["symbol"] for each in spot] == ["ETHUSDT"]
    assert "time" not in spot[0]


# -- REFUSALS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/fapi/v1/klines", {"interval": "1h"}, -1102),
        ("/fapi/v1/klines", {"symbol": "NOPEUSDT", "interval": "1h"}, -1121),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1h", "limit": 1501}, -1130),
        ("/fapi/v1/klines", {"symbol": "BTCUSDT", "interval": "1h", "startTime": "soon"}, -1100),
        ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": 7}, -4021),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1h"}, -1121),
    ],
)
def test_request_when_it_is_wrong_then_is_refused_in_binances_form(exchange, path, query, code):
    status, body = get(exchange.url, path, **query)

    assert status == 400
    assert body["code"] == code
    assert set(body) == {"code", "msg"}


def test_price_when_none_is_known_then_is_refused_as_temporary(exchange):
    status, body = get(exchange.url, "/fapi/v1/ticker/24hr", symbol="SUIUSDT")

    assert (status, body["code"]) == (503, -1001)
    assert "SUI/USDT:USDT" in body["msg"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/fapi/v1/nothing"), ("POST", "/fapi/v1/depth")])
def test_unknown_endpoint_when_asked_then_is_refused_logged_and_collected(caplog, method, path):
    with caplog.at_level(logging.WARNING), LoopbackExchange() as exchange:
        status, body = get(exchange.url, path, method, signature="private")

    assert status == 404
    assert body == {"code": -1000, "msg": f"plimsoll loopback exchange: unknown endpoint {method} {path}"}
    assert exchange.unknown_requests == [f"{method} {path}"]
    assert f"unknown endpoint {method} {path}" in caplog.text
    assert "private" not in caplog.text


def test_source_when_it_breaks_then_the_request_fails_and_is_collected(caplog):
    class Broken(NoHistory):
        def last_price(self, pair: str, *, now_ms: int) -> float | None:
            raise OSError("disk")

    with LoopbackExchange(source=Broken()) as exchange:
        status, body = get(exchange.url, "/fapi/v1/depth", symbol="BTCUSDT", limit=5)

    assert (status, body["code"]) == (500, -1000)
    assert exchange.failed_requests == ["GET /fapi/v1/depth"]


# -- TIME -------------------------------------------------------------------------------------------


def test_candle_when_in_progress_then_holds_only_what_has_happened(datadir):
    shown = FileHistory(datadir).candles(PAIR, "1h", Window(NOW))[-1]

    # Three whole candles of 5 minutes, numbers 360 to 362 (open 43 600 to 43 620), and the open of the fourth.
    assert shown == Candle(START + 30 * HOUR, 40_300.0, 43_630.0, 40_300.0, 43_630.0, 36.0)


def test_candle_when_in_progress_without_shorter_ones_then_is_flat_at_its_open(datadir):
    shown = FileHistory(datadir).candles("ETH/USDT", "1h", Window(NOW))[-1]

    assert shown == Candle(START + 30 * HOUR, *[2_300.0] * 4, 0.0)


def test_candle_when_its_last_millisecond_has_passed_then_is_whole(datadir):
    history = FileHistory(datadir)
    opened = START + 30 * HOUR

    assert history.candles("ETH/USDT", "1h", Window(opened + HOUR, end_ms=opened))[-1].close == 2_305.0
    assert history.candles("ETH/USDT", "1h", Window(opened + HOUR - 1))[-1].close == 2_300.0


def test_interval_when_it_has_no_file_then_is_combined_from_shorter_candles(datadir):
    rows = FileHistory(datadir).candles(PAIR, "15m", Window(NOW, start_ms=START, limit=2))

    assert rows[0] == Candle(START, 40_000.0, 40_027.0, 39_997.0, 40_025.0, 36.0)
    assert rows[1].open_ms == START + 15 * MINUTE


@pytest.mark.parametrize("interval", ["5m", "15m", "1h", "4h"])
@pytest.mark.parametrize("now", [START - 1, START, START + 1, NOW, START + 47 * HOUR, START + 99 * HOUR])
def test_history_when_the_future_is_different_then_answers_are_the_same(tmp_path, datadir, interval, now):
    """Change everything after ``now`` on disk: no answer may tell the difference."""
    futures = tmp_path / "futures"
    futures.mkdir()
    lengths = {"5m": 5 * MINUTE, "1h": HOUR}
    for file in (datadir / "futures").iterdir():
        frame = pd.read_feather(file)
        later = frame["date"] > pd.Timestamp(now, unit="ms", tz="UTC")
        columns = [column for column in frame.columns if column != "date"]
        frame.loc[later, columns] *= 3
        if "funding" not in file.name:
            length = pd.Timedelta(lengths[file.stem.split("-")[1]], unit="ms")
            unfinished = ~later & (frame["date"] + length > pd.Timestamp(now, unit="ms", tz="UTC"))
            frame.loc[unfinished, ["high", "close", "volume"]] *= 3
            frame.loc[unfinished, "low"] /= 3
        frame.to_feather(futures / file.name)

    def answers(directory: Path) -> list[Any]:
        source = FileHistory(directory)
        far = START + 1_000 * HOUR
        return [
            source.candles(PAIR, interval, Window(now)),
            source.candles(PAIR, interval, Window(now, start_ms=START, end_ms=far, limit=1500)),
            source.candles(PAIR, interval, Window(now, start_ms=START, limit=1500), kind="mark"),
            source.funding(PAIR, Window(now, start_ms=START, end_ms=far)),
            source.last_price(PAIR, now_ms=now),
            source.mark_price(PAIR, now_ms=now),
        ]

    told = answers(tmp_path)
    assert told == answers(datadir)
    assert all(row.open_ms <= now for row in told[0] + told[1] + told[2])
    assert all(paid.time_ms <= now for paid in told[3])


def test_exchange_when_its_clock_moves_then_tells_more(datadir):
    moment = [START]
    with LoopbackExchange(source=FileHistory(datadir), now=lambda: moment[0]) as exchange:
        seen = []
        for moment[0] in (START - 1, START, START + 5 * HOUR):
            query = {"symbol": "BTCUSDT", "interval": "1h", "endTime": START + 99 * HOUR}
            seen.append(len(get(exchange.url, "/fapi/v1/klines", **query)[1]))

    assert seen == [0, 1, 6]


# -- LIFE -------------------------------------------------------------------------------------------


def test_exchanges_when_two_run_at_once_then_have_own_ports_pairs_and_records():
    with LoopbackExchange() as first, LoopbackExchange(["SOL/USDT:USDT"]) as second:
        assert first.url != second.url
        _, body = get(second.url, "/fapi/v1/exchangeInfo")
        get(first.url, "/nothing")

    assert [each["symbol"] for each in body["symbols"]] == ["SOLUSDT"]
    assert first.unknown_requests == ["GET /nothing"]
    assert second.unknown_requests == []


def test_exchange_when_left_then_closes_port_and_thread_and_may_start_again():
    exchange = LoopbackExchange()
    before = set(threading.enumerate())
    with exchange:
        url = exchange.url
        with pytest.raises(RuntimeError, match="running already"):
            exchange.__enter__()
        assert get(url, "/fapi/v1/ping") == (200, {})

    assert set(threading.enumerate()) <= before  # one that another test left may have ended
    with pytest.raises(urllib.error.URLError):
        get(url, "/fapi/v1/ping")
    with pytest.raises(RuntimeError, match="not running"):
        _ = exchange.url
    with exchange:
        assert get(exchange.url, "/fapi/v1/ping") == (200, {})


def test_exchange_when_used_in_a_running_loop_then_serves_from_it():
    async def ask() -> tuple[int, Any]:
        async with LoopbackExchange() as exchange:
            return await asyncio.to_thread(get, exchange.url, "/fapi/v1/ping")

    assert asyncio.run(ask()) == (200, {})


# -- CONFIGURATION -------------------------------------------------------------------------------------------


def test_exchange_config_when_ccxt_knows_an_address_then_it_is_moved_to_the_loopback():
    config = exchange_config("http://127.0.0.1:1234", ["BTC/USDT:USDT"])

    def addresses(each: Any) -> list[str]:
        return (
            [found for value in each.values() for found in addresses(value)]
            if isinstance(each, dict)
            else [each]
        )

    urls = config["exchange"]["ccxt_config"]["urls"]["api"]
    assert urls["fapiPublic"] == "http://127.0.0.1:1234/fapi/v1"
    assert urls["public"] == "http://127.0.0.1:1234/api/v3"
    assert all(each.split("/")[2] == "127.0.0.1:1234" for each in addresses(urls))
    assert config["exchange"]["ccxt_async_config"]["urls"]["api"] == urls
    assert config["exchange"]["pair_whitelist"] == ["BTC/USDT:USDT"]
    assert config["dry_run"] is True
    assert "pair_whitelist" not in exchange_config("http://127.0.0.1:1234", None)["exchange"]


def test_ccxt_when_configured_for_the_loopback_then_every_public_call_works(exchange):
    import ccxt

    settings = exchange_config(exchange.url)["exchange"]["ccxt_config"]
    settings["timeout"] = 120_000
    client = ccxt.binance({**settings, "options": {"defaultType": "swap"}})
    spot_client = ccxt.binance({**settings, "options": {"defaultType": "spot"}})
    markets = client.load_markets()

    assert markets[PAIR]["precision"]["price"] == 0.1
    assert markets[PAIR]["precision"]["amount"] == 0.001
    assert markets[PAIR]["limits"]["cost"]["min"] == 100
    assert markets["1000PEPE/USDT:USDT"]["precision"]["price"] == 1e-7
    assert markets["ETH/USDT"]["spot"]
    assert markets["ETH/USDT"]["limits"]["cost"]["min"] == 5
    assert client.fetch_time() == NOW
    assert client.fetch_ohlcv(PAIR, "1h", limit=1) == [[START + 30 * HOUR, 40300, 43630, 40300, 43630, 36]]
    assert client.fetch_ohlcv(PAIR, "1h", START, 1, {"price": "mark"})[0][1] == 39_999
    assert client.fetch_ticker(PAIR)["last"] == 43_630
    assert client.fetch_tickers()[PAIR]["quoteVolume"] > 0
    assert client.fetch_bids_asks()[PAIR]["ask"] == 43_630.1
    assert spot_client.fetch_ticker("ETH/USDT")["bid"] == 2_300
    assert client.fetch_order_book(PAIR, 5)["bids"][0][0] == 43_630
    assert client.fetch_funding_rate(PAIR)["fundingRate"] == 0.0003
    assert client.fetch_funding_rates()[PAIR]["markPrice"] == 40_299
    assert [each["fundingRate"] for each in client.fetch_funding_rate_history(PAIR, limit=2)] == [
        0.0002,
        0.0003,
    ]
    with pytest.raises(ccxt.OperationFailed, match="no price of SUI"):
        client.fetch_ticker("SUI/USDT:USDT")
    assert exchange.unknown_requests == []
    assert exchange.failed_requests == []


@pytest.mark.parametrize("pair", ["BTCUSDT", "BTC/", "/USDT", "BTC/USDT:BTC", "BTC/USDT:"])
def test_instrument_when_pair_is_malformed_then_is_refused(pair):
    with pytest.raises(ValueError, match="`pair`"):
        instrument(pair)


def test_instrument_when_rules_are_given_then_they_are_published():
    own = Instrument(pair="NEW/USDT:USDT", tick_size="0.5", lot_size="10", min_notional="7")
    with LoopbackExchange([own, "OTHER/USDT:USDT"]) as exchange:
        _, body = get(exchange.url, "/fapi/v1/exchangeInfo")

    assert body["symbols"][0]["filters"][0]["tickSize"] == "0.5"
    assert body["symbols"][1]["filters"][0]["tickSize"] == "0.0001"
