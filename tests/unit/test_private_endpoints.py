"""How the private endpoints of the loopback exchange tell the simulated account, and what they refuse."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from simulated_world import (
    BTC,
    ETH,
    HOUR,
    PAIRS,
    START,
    TAKER,
    TIERS,
    Prices,
    World,
)

from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.history import Funding


@pytest.fixture
def world() -> World:
    return World()


# -- ENDPOINTS -------------------------------------------------------------------------------------------


class Client:
    """Ask a loopback exchange as ccxt does: GET and DELETE in the address, POST in the body."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, method: str, path: str, key: str = "any", **sent: Any) -> tuple[int, Any]:
        query = urlencode({"timestamp": START, **sent, "signature": "any"})
        address = f"{self.url}{path}" if method == "POST" else f"{self.url}{path}?{query}"
        body = query.encode() if method == "POST" else None
        return self._send(urllib.request.Request(address, body, {"X-MBX-APIKEY": key}, method=method))

    def unsigned(self, path: str) -> tuple[int, Any]:
        return self._send(urllib.request.Request(f"{self.url}{path}", headers={"X-MBX-APIKEY": "any"}))

    def _send(self, request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    with LoopbackExchange(PAIRS, world.prices, world.account.now, account=world.account) as exchange:
        yield Client(exchange.url)
    assert exchange.unknown_requests == exchange.failed_requests == []


def test_request_when_it_lacks_a_key_or_a_signature_then_is_refused_as_binance_does(client):
    assert client("GET", "/fapi/v3/account", key="") == (
        401,
        {"code": -2014, "msg": "API-key format invalid."},
    )
    for lacking in ("signature=any", f"timestamp={START}"):
        status, body = client.unsigned(f"/fapi/v3/account?{lacking}")
        assert (status, body["code"]) == (400, -1102)


def test_private_endpoints_when_there_is_no_account_then_are_unknown():
    with LoopbackExchange(PAIRS) as exchange:
        status, _ = Client(exchange.url)("GET", "/fapi/v3/account")

    assert status == 404
    assert exchange.unknown_requests == ["GET /fapi/v3/account"]


def test_exchange_when_the_account_has_other_prices_then_is_refused(world):
    with pytest.raises(ValueError, match="`account` must have the same `source`"):
        LoopbackExchange(PAIRS, Prices(), account=world.account)


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize(("side", "amount", "profit"), [("BUY", "2", 2 * 49.9), ("SELL", "-2", -100.0)])
def test_account_when_a_position_is_open_then_tells_wallet_margin_and_profit(
    world, client, version, side, amount, profit
):
    world.account.place(BTC, side, "MARKET", 2.0)
    world.account.place(ETH, "BUY", "LIMIT", 1.0, price=99.0)
    world.move(1_050.0)
    _, body = client("GET", f"/fapi/{version}/account")

    (asset,) = body["assets"]
    margin = world.btc.isolated_wallet
    assert float(asset["walletBalance"]) == pytest.approx(world.account.wallet_balance)
    assert float(asset["unrealizedProfit"]) == pytest.approx(profit)
    assert float(asset["marginBalance"]) == pytest.approx(world.account.wallet_balance + profit)
    assert float(asset["crossWalletBalance"]) == pytest.approx(world.account.wallet_balance - margin)
    assert float(asset["availableBalance"]) == pytest.approx(world.account.wallet_balance - margin - 99.0 / 5)
    assert float(asset["positionInitialMargin"]) == pytest.approx(2 * 1_050.0 / 5)
    assert float(asset["openOrderInitialMargin"]) == pytest.approx(99.0 / 5)
    assert float(asset["maintMargin"]) == pytest.approx(2 * 1_050.0 * 0.01)
    assert body["totalWalletBalance"] == asset["walletBalance"]
    assert [(each["symbol"], each["positionAmt"]) for each in body["positions"]] == [(BTC, amount)]


@pytest.mark.parametrize(("side", "amount", "profit"), [("BUY", "2", 2 * 49.9), ("SELL", "-2", -100.0)])
def test_position_risk_when_asked_then_signs_the_amount_and_tells_the_liquidation_price(
    world, client, side, amount, profit
):
    world.account.place(BTC, side, "MARKET", 2.0)
    world.move(1_050.0)
    _, (third,) = client("GET", "/fapi/v3/positionRisk")
    _, (second,) = client("GET", "/fapi/v2/positionRisk", symbol=BTC)

    margin = world.btc.isolated_wallet
    for body in (second, third):
        assert body["positionAmt"] == amount
        assert body["positionSide"] == "BOTH"
        assert float(body["notional"]) == float(amount) * 1_050.0
        assert float(body["unRealizedProfit"]) == pytest.approx(profit)
        assert float(body["isolatedWallet"]) == pytest.approx(margin)
        assert float(body["isolatedMargin"]) == pytest.approx(margin + profit)
        assert float(body["liquidationPrice"]) == pytest.approx(world.btc.liquidation_price(TIERS))
    assert (second["leverage"], second["marginType"]) == ("5", "isolated")
    assert "leverage" not in third


def test_position_risk_when_nothing_is_open_then_the_third_version_tells_nothing(client):
    assert client("GET", "/fapi/v3/positionRisk") == (200, [])
    assert [each["positionAmt"] for each in client("GET", "/fapi/v2/positionRisk")[1]] == ["0", "0"]


def test_order_when_sent_asked_for_and_cancelled_then_is_told_each_time(client):
    sent = {
        "symbol": BTC,
        "side": "BUY",
        "type": "LIMIT",
        "quantity": "1",
        "price": "990",
        "timeInForce": "GTC",
    }
    _, placed = client("POST", "/fapi/v1/order", newClientOrderId="mine", **sent)
    _, asked = client("GET", "/fapi/v1/order", symbol=BTC, orderId=placed["orderId"])
    _, resting = client("GET", "/fapi/v1/openOrders", symbol=BTC)
    _, cancelled = client("DELETE", "/fapi/v1/order", symbol=BTC, origClientOrderId="mine")
    status, again = client("DELETE", "/fapi/v1/order", symbol=BTC, orderId=placed["orderId"])

    assert placed == asked == resting[0]
    assert (placed["status"], placed["executedQty"], placed["price"]) == ("NEW", "0", "990")
    assert cancelled["status"] == "CANCELED"
    assert (status, again["code"]) == (400, -2011)
    assert client("GET", "/fapi/v1/openOrders") == (200, [])
    assert client("GET", "/fapi/v1/order", symbol=BTC, orderId=5)[1]["code"] == -2013


def test_stop_order_when_it_has_triggered_then_names_the_order_it_placed(world, client):
    world.account.place(BTC, "BUY", "MARKET", 2.0)
    sent = {"symbol": BTC, "side": "SELL", "type": "STOP_MARKET", "quantity": "2", "triggerPrice": "950"}
    _, placed = client("POST", "/fapi/v1/algoOrder", algoType="CONDITIONAL", reduceOnly="true", **sent)
    assert (placed["algoStatus"], placed["actualOrderId"], placed["triggerPrice"]) == ("NEW", "", "950")
    assert client("GET", "/fapi/v1/openAlgoOrders", symbol=BTC)[1] == [placed]
    world.prices.last["BTC/USDT:USDT"] = 940.0

    _, asked = client("GET", "/fapi/v1/algoOrder", algoId=placed["algoId"])
    _, order = client("GET", "/fapi/v1/order", symbol=BTC, orderId=asked["actualOrderId"])
    _, trades = client("GET", "/fapi/v1/userTrades", symbol=BTC, orderId=asked["actualOrderId"])
    assert (asked["algoStatus"], asked["actualPrice"]) == ("FINISHED", "940")
    assert (order["status"], order["avgPrice"], order["side"]) == ("FILLED", "940", "SELL")
    assert float(trades[0]["realizedPnl"]) == pytest.approx(2 * (940 - 1_000.1))
    assert float(trades[0]["commission"]) == pytest.approx(2 * 940 * TAKER)
    assert client("DELETE", "/fapi/v1/algoOrder", algoId=placed["algoId"])[1]["code"] == -2011


def test_income_when_filtered_then_tells_only_that_kind(world, client):
    world.account.place(BTC, "BUY", "MARKET", 2.0)
    world.prices.payments = [Funding(START + HOUR, 0.001)]
    world.now = START + 2 * HOUR
    _, funding = client("GET", "/fapi/v1/income", incomeType="FUNDING_FEE", symbol=BTC, startTime=START)
    _, every = client("GET", "/fapi/v1/income")

    assert [(each["income"], each["time"]) for each in funding] == [("-2", START + HOUR)]
    assert {each["incomeType"] for each in every} == {"COMMISSION", "FUNDING_FEE"}


def test_settings_when_changed_then_are_answered_as_binance_does(client):
    _, leverage = client("POST", "/fapi/v1/leverage", symbol=BTC, leverage=20)
    status, margin = client("POST", "/fapi/v1/marginType", symbol=BTC, marginType="ISOLATED")
    _, brackets = client("GET", "/fapi/v1/leverageBracket", symbol=BTC)

    assert leverage == {"symbol": BTC, "leverage": 20, "maxNotionalValue": "10000"}
    assert (status, margin) == (400, {"code": -4046, "msg": "No need to change margin type."})
    assert [each["cum"] for each in brackets[0]["brackets"]] == [0.0, 100.0]
    assert client("POST", "/fapi/v1/marginType", symbol=BTC, marginType="CROSSED")[0] == 400
    assert client("GET", "/fapi/v1/positionSide/dual") == (200, {"dualSidePosition": False})
    assert client("GET", "/fapi/v1/multiAssetsMargin") == (200, {"multiAssetsMargin": False})


@pytest.mark.parametrize(("sent", "own", "known"), [
    ({"quantity": "50"}, -2019, "InsufficientFunds"),
    ({"quantity": "1", "reduceOnly": "true"}, -2022, "InvalidOrder"),
    ({"quantity": "0.05"}, -4164, "InvalidOrder"),
])  # fmt: skip
def test_refusal_when_ccxt_knows_its_code_by_address_only_then_is_answered_with_one_of_the_same_class(
    client, sent, own, known
):
    import ccxt

    _, body = client("POST", "/fapi/v1/order", symbol=BTC, side="BUY", type="MARKET", **sent)

    exceptions = ccxt.binance().exceptions
    assert exceptions["linear"]["exact"][str(own)].__name__ == known
    assert exceptions["exact"][str(body["code"])].__name__ == known
    assert f"(Binance's {own})" in body["msg"]


def test_refusal_of_a_stop_when_sent_through_ccxt_then_is_the_error_that_binance_itself_would_cause(world):
    """A stop that would trigger at once is refused for good, an overloaded exchange is not."""
    import ccxt

    with LoopbackExchange(PAIRS, world.prices, world.account.now, account=world.account) as exchange:
        settings = exchange_config(exchange.url, live=True)["exchange"]
        keys = {"apiKey": settings["key"], "secret": settings["secret"], "options": {"defaultType": "swap"}}
        sender = ccxt.binance({**settings["ccxt_config"], **keys})

        def place(trigger: float) -> Any:
            sent = {"stopPrice": trigger, "reduceOnly": True}
            return sender.create_order("BTC/USDT:USDT", "stop_market", "sell", 1.0, None, sent)

        with pytest.raises(ccxt.OrderImmediatelyFillable, match="Binance's -2021"):
            place(1_000.0)
        world.account.refuse_stops()
        with pytest.raises(ccxt.OperationFailed, match="Binance's -1008"):
            place(950.0)
        world.account.refuse_stops(None)
        assert place(950.0)["status"] == "open"
        sender.create_order("BTC/USDT:USDT", "market", "buy", 2.0)
        (position,) = sender.fetch_positions(["BTC/USDT:USDT"])
        assert (position["side"], position["contracts"], position["marginMode"]) == ("long", 2.0, "isolated")
        assert position["liquidationPrice"] == pytest.approx(world.btc.liquidation_price(TIERS))
        assert sender.fetch_balance()["USDT"]["total"] == pytest.approx(
            world.account.wallet_balance + world.account.open_profit()
        )


def test_config_when_live_then_has_invented_credentials_and_is_no_dry_run():
    live = exchange_config("http://127.0.0.1:1", live=True)
    dry = exchange_config("http://127.0.0.1:1")

    assert live["dry_run"] is False
    assert live["exchange"]["key"]
    assert live["exchange"]["secret"]
    assert dry["dry_run"] is True
    assert dry["exchange"]["key"] == dry["exchange"]["secret"] == ""
    assert live["exchange"]["ccxt_config"] == dry["exchange"]["ccxt_config"]
