"""What each public endpoint of Binance answers, from a source of prices and the moment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from plimsoll.market.history import INTERVALS_MS, CandleSource, Kind, Window
from plimsoll.market.instruments import Instrument, exchange_info

Answer = Callable[[Mapping[str, str]], Any]

_DAY_MS = 86_400_000
_FUNDING_EVERY_MS = 28_800_000
_LEVEL_NOTIONAL = 50_000.0
_DEPTH_LIMITS = (5, 10, 20, 50, 100, 500, 1000)


class BinanceError(Exception):
    """Refuse a request with Binance's error code and words."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Endpoints:
    """Answer for the spot or the USD-M side of one exchange: queries in, Binance's bodies out."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        source: CandleSource,
        now: Callable[[], int],
        *,
        futures: bool,
    ) -> None:
        self._source = source
        self._now = now
        self._futures = futures
        self._by_symbol = {each.symbol: each for each in instruments if each.is_futures == futures}

    def by_path(self) -> dict[str, Answer]:
        """Return what answers each path below the market's prefix."""
        answers: dict[str, Answer] = {
            "ping": self._ping,
            "time": self._time,
            "exchangeInfo": self._exchange_info,
            "klines": self._trade_klines,
            "depth": self._depth,
            "ticker/24hr": self._tickers,
            "ticker/bookTicker": self._book_tickers,
        }
        if self._futures:
            answers |= {
                "markPriceKlines": self._mark_klines,
                "fundingRate": self._funding_rates,
                "premiumIndex": self._premium_indices,
            }
        return answers

    def _ping(self, query: Mapping[str, str]) -> dict[str, Any]:
        return {}

    def _time(self, query: Mapping[str, str]) -> dict[str, Any]:
        return {"serverTime": self._now()}

    def _exchange_info(self, query: Mapping[str, str]) -> dict[str, Any]:
        return exchange_info(self._by_symbol.values(), self._now(), futures=self._futures)

    def _trade_klines(self, query: Mapping[str, str]) -> list[list[Any]]:
        return self._klines(query, "trade")

    def _mark_klines(self, query: Mapping[str, str]) -> list[list[Any]]:
        return self._klines(query, "mark")

    def _klines(self, query: Mapping[str, str], kind: Kind) -> list[list[Any]]:
        each, interval = self._instrument(query), required(query, "interval")
        if interval not in INTERVALS_MS:
            raise BinanceError(-1120, "Invalid interval.")
        limit = limit_of(query, 500, 1500 if self._futures else 1000)
        window = Window(self._now(), integer(query, "startTime"), integer(query, "endTime"), limit)
        rows = self._source.candles(each.pair, interval, window, kind=kind)
        return [
            [
                row.open_ms,
                *map(number_text, (row.open, row.high, row.low, row.close, row.volume)),
                row.open_ms + INTERVALS_MS[interval] - 1,
                number_text(row.volume * row.close),
                0,
                "0",
                "0",
                "0",
            ]
            for row in rows
        ]

    def _funding_rates(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        each, limit = self._instrument(query), limit_of(query, 100, 1000)
        window = Window(self._now(), integer(query, "startTime"), integer(query, "endTime"), limit)
        payments = self._source.funding(each.pair, window)
        return [
            {
                "symbol": each.symbol,
                "fundingTime": paid.time_ms,
                "fundingRate": f"{paid.rate:.8f}",
                "markPrice": "",
            }
            for paid in payments
        ]

    def _premium_indices(self, query: Mapping[str, str]) -> Any:
        return self._one_or_all(query, self._premium_index)

    def _depth(self, query: Mapping[str, str]) -> dict[str, Any]:
        each, now_ms = self._instrument(query), self._now()
        limit = limit_of(query, 500 if self._futures else 100, 5000)
        if self._futures and limit not in _DEPTH_LIMITS:
            raise BinanceError(-4021, f"{limit} is not valid depth limit.")
        tick = float(each.tick_size)
        bid, ask = self._best(each, now_ms)
        bids = [bid - tick * level for level in range(limit)]
        asks = [ask + tick * level for level in range(limit)]
        return {
            "lastUpdateId": now_ms,
            "E": now_ms,
            "T": now_ms,
            "bids": [[_price(each, price), _quantity(each, price)] for price in bids if price > tick / 2],
            "asks": [[_price(each, price), _quantity(each, price)] for price in asks],
        }

    def _tickers(self, query: Mapping[str, str]) -> Any:
        return self._one_or_all(query, self._ticker)

    def _book_tickers(self, query: Mapping[str, str]) -> Any:
        return self._one_or_all(query, self._book_ticker)

    def _premium_index(self, each: Instrument, now_ms: int) -> dict[str, Any]:
        mark = self._source.mark_price(each.pair, now_ms=now_ms)
        if mark is None:
            raise _no_price(each)
        paid = self._source.funding(each.pair, Window(now_ms, limit=1))
        return {
            "symbol": each.symbol,
            "markPrice": number_text(mark),
            "indexPrice": number_text(mark),
            "estimatedSettlePrice": number_text(mark),
            "lastFundingRate": f"{paid[-1].rate if paid else 0.0:.8f}",
            "interestRate": "0.00010000",
            "nextFundingTime": (now_ms // _FUNDING_EVERY_MS + 1) * _FUNDING_EVERY_MS,
            "time": now_ms,
        }

    def _ticker(self, each: Instrument, now_ms: int) -> dict[str, Any]:
        last = self._last(each, now_ms)
        # Hours that opened within the last day, because a request for minutes would be 1440 rows for each
        # symbol.
        hours = self._source.candles(each.pair, "1h", Window(now_ms, start_ms=now_ms - _DAY_MS, limit=25))
        opened = hours[0].open if hours else last
        volume = sum(hour.volume for hour in hours)
        turnover = sum(hour.volume * hour.close for hour in hours)
        answer = {
            "symbol": each.symbol,
            "priceChange": number_text(last - opened),
            "priceChangePercent": f"{(last / opened - 1) * 100:.3f}",
            "weightedAvgPrice": number_text(turnover / volume if volume else last),
            "lastPrice": number_text(last),
            "lastQty": each.lot_size,
            "openPrice": number_text(opened),
            "highPrice": number_text(max([last, *(hour.high for hour in hours)])),
            "lowPrice": number_text(min([last, *(hour.low for hour in hours)])),
            "volume": number_text(volume),
            "quoteVolume": number_text(turnover),
            "openTime": now_ms - _DAY_MS,
            "closeTime": now_ms,
            "firstId": 1,
            "lastId": 1,
            "count": 1,
        }
        if not self._futures:
            answer |= self._book_ticker(each, now_ms)
        return answer

    def _book_ticker(self, each: Instrument, now_ms: int) -> dict[str, Any]:
        bid, ask = self._best(each, now_ms)
        answer: dict[str, Any] = {
            "symbol": each.symbol,
            "bidPrice": _price(each, bid),
            "bidQty": _quantity(each, bid),
            "askPrice": _price(each, ask),
            "askQty": _quantity(each, ask),
        }
        if self._futures:
            answer["time"] = now_ms  # ccxt takes an answer without it for spot
        return answer

    def _one_or_all(
        self, query: Mapping[str, str], describe: Callable[[Instrument, int], dict[str, Any]]
    ) -> Any:
        now_ms = self._now()
        if "symbol" in query:
            return describe(self._instrument(query), now_ms)
        asked: Iterable[Instrument] = self._by_symbol.values()
        if "symbols" in query:
            asked = [self._lookup(name.strip('" ')) for name in query["symbols"].strip("[]").split(",")]
        priced = [each for each in asked if self._source.last_price(each.pair, now_ms=now_ms) is not None]
        return [describe(each, now_ms) for each in priced]

    def _best(self, each: Instrument, now_ms: int) -> tuple[float, float]:
        return best_prices(each, self._last(each, now_ms))

    def _last(self, each: Instrument, now_ms: int) -> float:
        last = self._source.last_price(each.pair, now_ms=now_ms)
        if last is None:
            raise _no_price(each)
        return last

    def _instrument(self, query: Mapping[str, str]) -> Instrument:
        return self._lookup(required(query, "symbol"))

    def _lookup(self, symbol: str) -> Instrument:
        if symbol not in self._by_symbol:
            raise BinanceError(-1121, "Invalid symbol.")
        return self._by_symbol[symbol]


def best_prices(each: Instrument, last: float) -> tuple[float, float]:
    """Return the best bid and ask of the book that is shown around the last price: one tick apart."""
    tick = float(each.tick_size)
    bid = max(1, math.floor(last / tick + 1e-9)) * tick
    return bid, bid + tick


def _no_price(each: Instrument) -> BinanceError:
    return BinanceError(-1001, f"plimsoll loopback exchange: no price of {each.pair} at this time", 503)


def required(query: Mapping[str, str], name: str) -> str:
    """Return a parameter, or refuse a request without it."""
    if not query.get(name):
        raise BinanceError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return query[name]


def integer(query: Mapping[str, str], name: str) -> int | None:
    """Return a whole number, None where it was not sent, or refuse what is none."""
    if name not in query:
        return None
    try:
        return int(query[name])
    except ValueError:
        raise BinanceError(-1100, f"Illegal characters found in parameter '{name}'.") from None


def limit_of(query: Mapping[str, str], default: int, maximum: int) -> int:
    """Return how many rows are asked for, or refuse a number out of range."""
    limit = integer(query, "limit")
    if limit is None:
        return default
    if not 1 <= limit <= maximum:
        raise BinanceError(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def number_text(number: float) -> str:
    """Write a number as Binance does: decimal places, no exponent, no zeros at the end."""
    return np.format_float_positional(number, trim="-")


def _price(each: Instrument, price: float) -> str:
    return f"{price:.{each.decimals}f}"


def _quantity(each: Instrument, price: float) -> str:
    lot = float(each.lot_size)
    return number_text(round(max(1, round(_LEVEL_NOTIONAL / price / lot)) * lot, 8))
