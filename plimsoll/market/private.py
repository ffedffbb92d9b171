"""What each private endpoint of Binance USD-M futures answers, from a simulated account.

Any key and any signature is accepted: there is one account, it holds nothing, and only this machine can reach
it; a secret that both sides knew would protect nothing and could not be told from a real one in a log. A
request without a key or a signature is refused as Binance does, so that a client that forgot them is found
out. The timestamp is not compared to the clock, because a replay has a clock of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from plimsoll.market import reports
from plimsoll.market.account import SimulatedAccount
from plimsoll.market.endpoints import Answer, BinanceError, integer, required
from plimsoll.market.order_rules import max_notional
from plimsoll.market.private_orders import OrderEndpoints, within

_FORBIDDEN = BinanceError(-1000, "plimsoll loopback exchange: only one-way mode and one asset are simulated")


class PrivateEndpoints:
    """Answer for one account: parameters in, Binance's bodies out."""

    def __init__(self, account: SimulatedAccount) -> None:
        self._account = account

    def by_route(self) -> dict[tuple[str, str], Answer]:
        """Return what answers each method and path."""
        answers: dict[str, Answer] = {
            "GET /fapi/v1/positionSide/dual": lambda query: {"dualSidePosition": False},
            "POST /fapi/v1/positionSide/dual": self._refuse_mode("dualSidePosition"),
            "GET /fapi/v1/multiAssetsMargin": lambda query: {"multiAssetsMargin": False},
            "POST /fapi/v1/multiAssetsMargin": self._refuse_mode("multiAssetsMargin"),
            "GET /fapi/v1/accountConfig": lambda query: _account_config(),
            "GET /fapi/v1/symbolConfig": self._symbol_settings,
            "GET /fapi/v1/commissionRate": self._commission_rate,
            "GET /fapi/v1/leverageBracket": self._leverage_brackets,
            "GET /fapi/v2/balance": lambda query: [reports.balance(self._account)],
            "GET /fapi/v3/balance": lambda query: [reports.balance(self._account)],
            "GET /fapi/v2/account": lambda query: reports.account(self._account),
            "GET /fapi/v3/account": lambda query: reports.account(self._account),
            "GET /fapi/v2/positionRisk": lambda query: self._positions(query, version=2),
            "GET /fapi/v3/positionRisk": lambda query: self._positions(query, version=3),
            "POST /fapi/v1/leverage": self._set_leverage,
            "POST /fapi/v1/marginType": self._set_margin_type,
            "GET /fapi/v1/income": self._incomes,
            # Of spot and margin wallets, which ccxt asks for together with the markets once there is a key.
            "GET /sapi/v1/capital/config/getall": lambda query: _coins(self._account),
            "GET /sapi/v1/margin/allPairs": lambda query: [],
            "GET /sapi/v1/margin/isolated/allPairs": lambda query: [],
        }
        answers |= OrderEndpoints(self._account).by_route()
        return {
            (route.partition(" ")[0], route.partition(" ")[2]): self._signed(answers[route])
            for route in answers
        }

    def _signed(self, answer: Answer) -> Answer:
        def answered(query: Mapping[str, str]) -> Any:
            required(query, "timestamp")
            required(query, "signature")
            try:
                with self._account.lock:
                    self._account.advance()
                    return answer(query)
            except BinanceError as error:
                known = _known_everywhere().get(error.code, error.code)
                if known == error.code:
                    raise
                raise BinanceError(known, f"{error} (Binance's {error.code})", error.status) from None

        return answered

    # -- SETTINGS --------------------------------------------------------------------------------------------

    def _refuse_mode(self, name: str) -> Answer:
        def answer(query: Mapping[str, str]) -> dict[str, Any]:
            if required(query, name).lower() == "true":
                raise _FORBIDDEN
            raise BinanceError(
                -4059 if name == "dualSidePosition" else -4171, "No need to change position side."
            )

        return answer

    def _commission_rate(self, query: Mapping[str, str]) -> dict[str, Any]:
        symbol = self._account.instrument_of(required(query, "symbol")).symbol
        return _commission_rate(self._account, symbol)

    def _symbol_settings(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return [_symbol_settings(self._account, symbol) for symbol in self._symbols(query)]

    def _leverage_brackets(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return [_leverage_bracket(self._account, symbol) for symbol in self._symbols(query)]

    def _set_leverage(self, query: Mapping[str, str]) -> dict[str, Any]:
        symbol, leverage = required(query, "symbol"), integer(query, "leverage")
        if leverage is None:
            raise BinanceError(
                -1102, "Mandatory parameter 'leverage' was not sent, was empty/null, or malformed."
            )
        self._account.set_leverage(symbol, leverage)
        most = max_notional(leverage, self._account.tiers[symbol])
        return {"symbol": symbol, "leverage": leverage, "maxNotionalValue": reports.text(most)}

    def _set_margin_type(self, query: Mapping[str, str]) -> dict[str, Any]:
        symbol, wanted = required(query, "symbol"), required(query, "marginType")
        if wanted != "ISOLATED":
            raise BinanceError(-1000, "plimsoll loopback exchange: only isolated margin is simulated")
        self._account.set_isolated(symbol)
        return {"code": 200, "msg": "success"}

    def _positions(self, query: Mapping[str, str], *, version: int) -> list[dict[str, Any]]:
        symbols = self._symbols(query)
        if version >= 3:
            symbols = [each for each in symbols if self._is_shown(each)]
        return [reports.position(self._account, symbol, version=version) for symbol in symbols]

    def _is_shown(self, symbol: str) -> bool:
        if self._account.positions[symbol].is_open:
            return True
        return any(each.is_resting and each.symbol == symbol for each in self._account.orders.values())

    def _symbols(self, query: Mapping[str, str]) -> list[str]:
        if "symbol" in query:
            return [self._account.instrument_of(query["symbol"]).symbol]
        return list(self._account.instruments)

    # -- HISTORY ---------------------------------------------------------------------------------------------

    def _incomes(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        found = [
            each
            for each in self._account.incomes
            if query.get("symbol", each.symbol) == each.symbol
            and query.get("incomeType", each.kind) == each.kind
        ]
        rows = within(query, found, lambda each: each.time_ms, 100, 1000)
        return [reports.income(self._account, each) for each in rows]


def _account_config() -> dict[str, Any]:
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "dualSidePosition": False,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }


def _symbol_settings(account: SimulatedAccount, symbol: str) -> dict[str, Any]:
    held = account.positions[symbol]
    return {
        "symbol": symbol,
        "marginType": "ISOLATED" if held.isolated else "CROSSED",
        "isAutoAddMargin": False,
        "leverage": held.leverage,
        "maxNotionalValue": reports.text(max_notional(held.leverage, account.tiers[symbol])),
    }


def _commission_rate(account: SimulatedAccount, symbol: str) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "makerCommissionRate": reports.text(account.maker_fee_ratio),
        "takerCommissionRate": reports.text(account.taker_fee_ratio),
    }


def _leverage_bracket(account: SimulatedAccount, symbol: str) -> dict[str, Any]:
    brackets = [
        {
            "bracket": number,
            "initialLeverage": int(tier.max_leverage or 1),
            "notionalCap": tier.max_notional,
            "notionalFloor": tier.min_notional,
            "maintMarginRatio": tier.mmr,
            "cum": tier.maintenance_amount,
        }
        for number, tier in enumerate(account.tiers[symbol], 1)
    ]
    return {"symbol": symbol, "notionalCoef": 1.0, "brackets": brackets}


def _coins(account: SimulatedAccount) -> list[dict[str, Any]]:
    names = sorted({account.asset, *(each.base for each in account.instruments.values())})
    return [
        {
            "coin": name,
            "name": name,
            "depositAllEnable": False,
            "withdrawAllEnable": False,
            "free": "0",
            "locked": "0",
            "freeze": "0",
            "withdrawing": "0",
            "ipoing": "0",
            "ipoable": "0",
            "storage": "0",
            "isLegalMoney": False,
            "trading": True,
            "networkList": [],
        }
        for name in names
    ]


@functools.cache
def _known_everywhere() -> dict[int, int]:
    # ccxt looks some codes up by the address https://fapi.binance.com, which a loopback exchange does not have:
    # it would take them for passing errors, and Freqtrade would go on where it must give up. Each is answered
    # with a code of the same ccxt class, or its nearest base, that is known at every address.
    import ccxt

    exceptions = ccxt.binance().exceptions
    codes: dict[type, int] = {}
    for code, kind in exceptions["exact"].items():
        if code.startswith("-"):
            codes.setdefault(kind, int(code))
    return {
        int(code): next((codes[base] for base in kind.__mro__ if base in codes), int(code))
        for code, kind in exceptions["linear"]["exact"].items()
        if code not in exceptions["exact"]
    }
