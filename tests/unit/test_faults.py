"""What goes wrong at the loopback exchange: when, for whom, and how often."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

import pytest

from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.faults import Fault, Faults
from plimsoll.market.history import INTERVALS_MS, Candle, Funding, Window

SECOND = 1000
MINUTE = 60 * SECOND
FIVE = 5 * MINUTE
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"


class Rising:
    """A price that is the minutes since the start, and candles of it."""

    def last_price(self, pair: str, *, now_ms: int) -> float:
        return 1000.0 + (now_ms - START) / MINUTE

    mark_price = last_price

    def candles(self, pair: str, interval: str, window: Window, *, kind: str = "trade") -> list[Candle]:
        length, (now, first, _, limit) = INTERVALS_MS[interval], window
        begins = range(START, window.last_ms + 1, length)
        begins = begins[-limit:] if first is None else [each for each in begins if each >= first][:limit]
        told = [self.last_price(pair, now_ms=min(now, each + length)) for each in begins]
        opened = [self.last_price(pair, now_ms=each) for each in begins]
        return [Candle(b, o, c, o, c, 1.0) for b, o, c in zip(begins, opened, told, strict=True)]

    def funding(self, pair: str, window: Window) -> list[Funding]:
        return []


class Told:
    """A clock to set."""

    def __init__(self) -> None:
        self.ms = START + 60 * MINUTE

    def __call__(self) -> int:
        return self.ms

    def wait(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


def ask(url: str, path: str, method: str = "GET", timeout: float = 120.0, **query: Any) -> tuple[int, Any]:
    request = urllib.request.Request(f"{url}{path}?{urlencode(query)}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        body = error.read().decode()
        try:
            return error.code, json.loads(body)
        except ValueError:
            return error.code, body


def last(url: str, symbol: str = "BTCUSDT") -> float:
    return float(ask(url, "/fapi/v1/ticker/24hr", symbol=symbol)[1]["lastPrice"])


def klines(url: str, **query: Any) -> list[list[Any]]:
    rows: list[list[Any]] = ask(url, "/fapi/v1/klines", **{"symbol": "BTCUSDT", "interval": "5m", **query})[1]
    return rows


# -- TIME ------------------------------------------------------------------------------------------------


def test_fault_when_it_has_times_then_happens_between_them():
    now, faults = Told(), Faults([Fault(kind="server_error", begins=10, ends=20)])
    with LoopbackExchange([BTC], Rising(), now, faults) as exchange:
        seen = []
        for seconds in (0, 9.999, 0.001, 9.999, 0.001, 100):
            now.wait(seconds)
            seen.append(ask(exchange.url, "/fapi/v1/ping")[0])
    assert seen == [200, 200, 503, 503, 200, 200]
    assert faults.counts == {"server_error": 2}


def test_fault_when_switched_by_a_test_then_happens_in_between():
    fault, faults = Fault(kind="server_error", status=500), Faults()
    with LoopbackExchange([BTC], Rising(), Told(), faults) as exchange:
        seen = [ask(exchange.url, "/fapi/v1/ping")[0]]
        for switch in (faults.on, faults.on, faults.off, faults.off):
            switch(fault)
            seen.append(ask(exchange.url, "/fapi/v1/ping")[0])
        faults.on(fault)
        faults.clear()
        seen.append(ask(exchange.url, "/fapi/v1/ping")[0])
    assert seen == [200, 500, 500, 200, 200, 200]


def test_fault_when_ended_before_its_time_then_does_not_happen():
    now, fault = Told(), Fault(kind="server_error", begins=10)
    faults = Faults([fault])
    with LoopbackExchange([BTC], Rising(), now, faults) as exchange:
        faults.off(fault)
        now.wait(11)
        assert ask(exchange.url, "/fapi/v1/ping")[0] == 200
    assert not faults.counts


# -- REQUESTS --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "code", "words"),
    [
        (Fault(kind="rate_limit", begins=0), 429, -1003, "Too many requests"),
        (
            Fault(kind="banned", begins=0, retry_seconds=7),
            418,
            -1003,
            f"banned until {START + 60 * MINUTE + 7000}",
        ),
        (Fault(kind="server_error", begins=0), 503, -1001, "Internal error"),
    ],
)
def test_request_when_refused_then_the_answer_is_binances(fault, status, code, words):
    faults = Faults([fault])
    with LoopbackExchange([BTC], Rising(), Told(), faults) as exchange:
        told, body = ask(exchange.url, "/fapi/v1/time")
        assert exchange.requests.total() == 0
    assert (told, body["code"]) == (status, code)
    assert words in body["msg"]
    assert faults.counts == {fault.kind: 1}


@pytest.mark.parametrize("kind", ["rate_limit", "banned"])
def test_request_when_limited_then_retry_after_says_how_long(kind):
    with LoopbackExchange(
        [BTC], now=Told(), faults=Faults([Fault(kind=kind, begins=0, retry_seconds=42)])
    ) as exchange:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{exchange.url}/fapi/v1/ping", timeout=120)
        assert refused.value.headers["Retry-After"] == "42"


@pytest.mark.parametrize("status", [502, 504])
def test_request_when_the_gateway_answers_then_it_is_no_json(status):
    with LoopbackExchange(
        [BTC], faults=Faults([Fault(kind="server_error", begins=0, status=status)])
    ) as exchange:
        told, body = ask(exchange.url, "/fapi/v1/ping")
    assert told == status
    assert body.startswith("<html>")


@pytest.mark.parametrize(("kind", "carried_out"), [("timeout", 0), ("lost_answer", 1)])
def test_request_when_unanswered_then_hangs_and_is_dropped(kind, carried_out):
    faults = Faults([Fault(kind=kind, begins=0, hold_seconds=0.3)])
    with LoopbackExchange([BTC], now=Told(), faults=faults) as exchange:
        begun = time.monotonic()
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(exchange.url, "/fapi/v1/ping")
        assert 0.3 <= time.monotonic() - begun < 60.0
        assert exchange.requests["GET /fapi/v1/ping"] == carried_out
        faults.clear()
        faults.on(Fault(kind=kind))  # longer than a client may take to begin with its waiting
        with pytest.raises(TimeoutError):
            ask(exchange.url, "/fapi/v1/ping", timeout=0.05)
        ends = time.monotonic() + 60  # the client has gone before the exchange may have looked
        while faults.counts[kind] < 2 and time.monotonic() < ends:
            time.sleep(0.01)
        assert exchange.failed_requests == []
    assert faults.counts == {kind: 2}


@pytest.mark.parametrize(
    ("endpoint", "met"),
    [
        ("klines", ["GET /fapi/v1/klines", "GET /api/v3/klines"]),
        ("/fapi/v1/klines", ["GET /fapi/v1/klines"]),
        ("POST klines", ["POST /fapi/v1/klines"]),
        ("ticker/24hr", ["GET /fapi/v1/ticker/24hr"]),
        ("lines", []),
    ],
)
def test_fault_when_of_an_endpoint_then_spares_the_others(endpoint, met):
    extra = ["POST /fapi/v1/klines"] if endpoint.startswith("POST") else []
    asked = [
        "GET /fapi/v1/klines",
        "GET /fapi/v1/markPriceKlines",
        "GET /api/v3/klines",
        "GET /fapi/v1/ticker/24hr",
    ]
    faults = Faults([Fault(kind="rate_limit", begins=0, endpoints=(endpoint,))])
    with LoopbackExchange([BTC, "BTC/USDT"], Rising(), Told(), faults) as exchange:
        seen = []
        for each in [*asked, *extra]:
            method, path = each.split(" ")
            if ask(exchange.url, path, method, symbol="BTCUSDT", interval="5m")[0] == 429:
                seen.append(each)
    assert seen == met


def test_fault_when_of_a_pair_then_spares_other_pairs_and_markets():
    faults = Faults([Fault(kind="rate_limit", begins=0, pairs=(ETH,))])
    with LoopbackExchange([BTC, ETH, "ETH/USDT"], Rising(), Told(), faults) as exchange:
        asked = [("/fapi/v1", "BTCUSDT"), ("/fapi/v1", "ETHUSDT"), ("/api/v3", "ETHUSDT")]
        seen = [ask(exchange.url, f"{prefix}/ticker/24hr", symbol=symbol)[0] for prefix, symbol in asked]
        assert ask(exchange.url, "/fapi/v1/ticker/24hr")[0] == 200
        form = urllib.request.Request(f"{exchange.url}/fapi/v1/klines", data=b"symbol=ETHUSDT", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="429"):
            urllib.request.urlopen(form, timeout=120)
    assert seen == [200, 429, 200]


def test_fault_when_it_has_a_probability_then_is_drawn_from_the_seed_for_each_endpoint():
    def statuses(seed: int, *, between: bool) -> list[int]:
        faults = Faults([Fault(kind="server_error", begins=0, probability=0.5)], seed=seed)
        with LoopbackExchange([BTC], Rising(), Told(), faults) as exchange:
            seen = []
            for _ in range(40):
                seen.append(ask(exchange.url, "/fapi/v1/ping")[0])
                if between:
                    ask(exchange.url, "/fapi/v1/time")
        assert faults.counts["server_error"] >= seen.count(503)
        return seen

    first = statuses(1, between=False)
    assert 8 <= first.count(503) <= 32
    assert statuses(1, between=True) == first
    assert statuses(2, between=False) != first


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_fault_when_never_or_always_then_is_met_never_or_always(probability):
    faults = Faults([Fault(kind="server_error", begins=0, probability=probability)])
    with LoopbackExchange([BTC], faults=faults) as exchange:
        assert {ask(exchange.url, "/fapi/v1/ping")[0] for _ in range(5)} == {503 if probability else 200}
    assert faults.counts["server_error"] == 5 * probability


# -- MARKET ----------------------------------------------------------------------------------------------


def test_candles_when_stale_then_stand_while_prices_go_on():
    now, faults = Told(), Faults()
    fault = Fault(kind="stale_candles", pairs=(BTC,))
    with LoopbackExchange([BTC, ETH], Rising(), now, faults) as exchange:
        faults.on(fault)
        before = klines(exchange.url)
        now.wait(600)
        assert klines(exchange.url) == before
        assert last(exchange.url) == 1070.0
        assert klines(exchange.url, symbol="ETHUSDT")[-1][0] == START + 70 * MINUTE
        assert faults.counts["stale_candles"] > 0
        faults.off(fault)
        assert klines(exchange.url)[-1][0] == START + 70 * MINUTE


def test_price_when_frozen_then_stands_while_candles_go_on():
    now, faults = Told(), Faults()
    fault = Fault(kind="frozen_price", pairs=(BTC,))
    with LoopbackExchange([BTC, ETH], Rising(), now, faults) as exchange:
        faults.on(fault)
        now.wait(600)
        book = ask(exchange.url, "/fapi/v1/depth", symbol="BTCUSDT", limit=5)[1]
        mark = ask(exchange.url, "/fapi/v1/premiumIndex", symbol="BTCUSDT")[1]
        assert last(exchange.url) == float(book["bids"][0][0]) == float(mark["markPrice"]) == 1060.0
        assert last(exchange.url, "ETHUSDT") == 1070.0
        assert float(klines(exchange.url)[-1][4]) == 1070.0
        faults.off(fault)
        assert last(exchange.url) == 1070.0
    assert faults.counts["frozen_price"] > 0


def test_candles_when_there_is_a_gap_then_miss_what_opened_in_it_for_good():
    now, faults = Told(), Faults([Fault(kind="gap", begins=60, ends=15 * 60 + 60)])
    with LoopbackExchange([BTC], Rising(), now, faults) as exchange:
        now.wait(16 * 60)  # of the candles at 65, 70 and 75 minutes none is left
        assert [row[0] for row in klines(exchange.url, limit=2)] == [START + m * MINUTE for m in (55, 60)]
        now.wait(4 * 60)
        assert [row[0] for row in klines(exchange.url, limit=3)] == [START + m * MINUTE for m in (55, 60, 80)]
        first = klines(exchange.url, limit=2, startTime=START + 60 * MINUTE)
        assert [row[0] for row in first] == [START + m * MINUTE for m in (60, 80)]
        assert last(exchange.url) == 1080.0
    assert faults.counts["gap"] > 0


def test_candles_when_a_gap_is_yet_to_come_then_are_all_there():
    now, faults = Told(), Faults([Fault(kind="gap", begins=3600)])
    with LoopbackExchange([BTC], Rising(), now, faults) as exchange:
        now.wait(3599)
        assert len(klines(exchange.url)) == 24
        now.wait(1)  # the candle that opens with it
        assert len(klines(exchange.url)) == 24
    assert faults.counts == {"gap": 1}


@pytest.mark.parametrize("offset", [-90.0, 2.5])
def test_clock_when_it_is_off_then_the_exchange_lives_in_its_own_time(offset):
    now, faults = Told(), Faults()
    fault = Fault(kind="clock_offset", offset_seconds=offset)
    with LoopbackExchange([BTC], Rising(), now, faults) as exchange:
        assert ask(exchange.url, "/fapi/v1/time")[1]["serverTime"] == now.ms
        faults.on(fault)
        assert ask(exchange.url, "/fapi/v1/time")[1]["serverTime"] == now.ms + offset * 1000
        assert klines(exchange.url)[-1][0] == (START + 60 * MINUTE if offset > 0 else START + 55 * MINUTE)
        faults.off(fault)
        assert ask(exchange.url, "/fapi/v1/time")[1]["serverTime"] == now.ms
    assert faults.counts["clock_offset"] > 0


# -- ARGUMENTS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "earthquake"}, "`kind` must be one of the fault kinds, was 'earthquake'"),
        ({"kind": "timeout", "probability": 1.1}, "`probability` must be within 0 and 1, was 1.1"),
        ({"kind": "gap", "probability": 0.5}, "`endpoints` and `probability` must be left alone for 'gap'"),
        (
            {"kind": "gap", "endpoints": ("klines",)},
            "`endpoints` and `probability` must be left alone for 'gap'",
        ),
        ({"kind": "clock_offset", "pairs": (BTC,)}, "`pairs` must be empty for a clock"),
        ({"kind": "server_error", "status": 600}, "`status` must be within 500 and 599, was 600"),
        ({"kind": "timeout", "begins": 5.0, "ends": 5.0}, "`ends` must be after `begins`, was 5.0 and 5.0"),
        ({"kind": "timeout", "ends": 5.0}, "`ends` must be after `begins`, was 5.0 and None"),
    ],
)
def test_fault_when_described_wrongly_then_is_refused(given, words):
    with pytest.raises(ValueError) as refused:
        Fault(**given)
    assert words in str(refused.value)


def test_faults_when_given_to_two_exchanges_then_are_refused():
    faults = Faults()
    LoopbackExchange([BTC], faults=faults)
    with pytest.raises(RuntimeError, match="`faults` must be of one exchange only"):
        LoopbackExchange([BTC], faults=faults)
