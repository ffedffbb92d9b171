"""A replayed market: causal, in agreement with itself, and in the end the source's own candles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.cli import main
from plimsoll.market.candle_files import write_market
from plimsoll.market.endpoints import Endpoints
from plimsoll.market.history import INTERVALS_MS, Candle, FileHistory, Funding, Window
from plimsoll.market.instruments import instrument
from plimsoll.market.replay import Replay, hours_to_shift
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market

PAIR = "BTC/USDT:USDT"
MINUTE = 60_000
FIVE = 5 * MINUTE
HOUR = 60 * MINUTE
START = 1_704_067_200_000  # 2024-01-01 00:00 UTC
COUNT = 72  # six hours
END = START + COUNT * FIVE


class Listed:
    """A source of candles listed in a test; it hides nothing, as only its replay is asked for the past."""

    def __init__(
        self,
        trades: Sequence[Candle],
        marks: Sequence[Candle] = (),
        rates: Sequence[Funding] = (),
        longer: Mapping[str, Sequence[Candle]] | None = None,
    ) -> None:
        self._rows = {("trade", "5m"): trades, ("mark", "1h"): marks}
        self._rows |= {("trade", interval): rows for interval, rows in (longer or {}).items()}
        self._rates = list(rates)

    def candles(self, pair: str, interval: str, window: Window, *, kind: str = "trade") -> list[Candle]:
        return list(self._rows.get((kind, interval), ()))

    def funding(self, pair: str, window: Window) -> list[Funding]:
        return self._rates

    def mark_price(self, pair: str, **_: Any) -> None:
        raise AssertionError("a replay reads candles only")

    last_price = mark_price


def series(ticks: Sequence[tuple[int, int, int]], first: int = 0, opened: float = 1000.0) -> list[Candle]:
    """Make candles of 5 minutes from moves in tenths: close, reach above and reach below."""
    rows = []
    for number, (move, above, below) in enumerate(ticks, first):
        closed = round(max(1.0, opened + move / 10), 1)
        high, low = round(max(opened, closed) + above / 10, 1), round(min(opened, closed) - below / 10, 1)
        rows.append(Candle(START + number * FIVE, opened, high, low, closed, float(1 + above + below)))
        opened = closed
    return rows


def hours(trades: Sequence[Candle], basis: float = 1.0) -> list[Candle]:
    """Put hourly candles together by hand."""
    rows = []
    for begin in range(0, len(trades), 12):
        part = trades[begin : begin + 12]
        prices = [part[0].open, max(p.high for p in part), min(p.low for p in part), part[-1].close]
        volume = sum(p.volume for p in part)
        rows.append(Candle(part[0].open_ms, *(round(basis * price, 2) for price in prices), volume))
    return rows


def told(replay: Replay, now_ms: int) -> dict[str, Any]:
    """Return everything that can be asked at a moment."""
    answers: dict[str, Any] = {
        f"{kind} {interval}": replay.candles(PAIR, interval, Window(now_ms, limit=1500), kind=kind)
        for kind in ("trade", "mark")
        for interval in INTERVALS_MS
    }
    answers["from"] = replay.candles(PAIR, "5m", Window(now_ms, start_ms=START + HOUR, end_ms=END + HOUR))
    answers["funding"] = replay.funding(PAIR, Window(now_ms))
    answers["last"] = replay.last_price(PAIR, now_ms=now_ms)
    answers["mark"] = replay.mark_price(PAIR, now_ms=now_ms)
    return answers


moves = st.tuples(st.integers(-300, 300), st.integers(0, 200), st.integers(0, 200))
days = st.lists(moves, min_size=COUNT, max_size=COUNT)
moments = st.integers(START, END - 1)


# -- CAUSALITY -------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(ticks=days, other=days, now=moments, basis=st.sampled_from([0.99, 1.0, 1.003]))
def test_told_when_what_comes_later_differs_then_is_the_same(ticks, other, now, basis):
    begun = (now - START) // FIVE + 1
    past = series(ticks[:begun])
    futures = [[*past, *series(t[begun:], begun, past[-1].close)] for t in (ticks, other)]
    hour = (now - START) // HOUR + 1
    # The mark candle in progress is the same in both: it is no part of the future.
    marks = hours(futures[0], basis)[:hour]
    rates = [Funding(START + n * HOUR, n / 1e4) for n in range(7)]
    later = [Funding(each.time_ms, 1.0) if each.time_ms > now else each for each in rates]
    one = Replay(Listed(futures[0], marks, rates))
    two = Replay(Listed(futures[1], [*marks, Candle(START + hour * HOUR, 1, 1, 1, 1, 1)], later))
    assert told(one, now) == told(two, now)


@settings(max_examples=40, deadline=None)
@given(
    ticks=days,
    now=moments,
    above=st.integers(0, 500),
    kept=st.sampled_from([1, 2]),
)
def test_told_when_the_rest_of_a_candle_differs_then_is_the_same_so_far(ticks, now, above, kept):
    begun = (now - START) // FIVE
    past = series(ticks[: begun + 1])
    candle = past[-1]
    rising = candle.close >= candle.open
    now = candle.open_ms + kept * FIVE // 3  # one extreme has been seen, or both
    if kept == 1 and rising:
        changed = candle._replace(high=candle.high + above)
    elif kept == 1:
        changed = candle._replace(low=candle.low - above / 10)
    elif rising:
        changed = candle._replace(close=candle.high)
    else:
        changed = candle._replace(close=candle.low)
    one, two = Replay(Listed(past)), Replay(Listed([*past[:-1], changed]))
    assert [row[:5] for row in one.candles(PAIR, "5m", Window(now))] == [
        row[:5] for row in two.candles(PAIR, "5m", Window(now))
    ]
    assert one.last_price(PAIR, now_ms=now) == two.last_price(PAIR, now_ms=now)


@settings(max_examples=40, deadline=None)
@given(ticks=days, now=moments)
def test_told_when_asked_then_opened_by_now_and_stays_within_what_comes(ticks, now):
    replay = Replay(Listed(series(ticks)))
    for interval in ("5m", "15m", "1h", "4h"):
        rows = replay.candles(PAIR, interval, Window(now, limit=1500))
        final = {row.open_ms: row for row in replay.candles(PAIR, interval, Window(END, limit=1500))}
        assert rows[-1].open_ms == now // INTERVALS_MS[interval] * INTERVALS_MS[interval]
        assert rows[:-1] == [final[row.open_ms] for row in rows[:-1]]
        assert final[rows[-1].open_ms].low <= rows[-1].low <= rows[-1].high <= final[rows[-1].open_ms].high
        assert rows[-1].volume <= final[rows[-1].open_ms].volume


@settings(max_examples=40, deadline=None)
@given(ticks=days, now=moments, step=st.integers(1, FIVE))
def test_candle_in_progress_when_time_passes_then_only_widens_and_holds_every_price_told(ticks, now, step):
    replay = Replay(Listed(series(ticks), hours(series(ticks), 1.001)))
    later = min(now + step, now // FIVE * FIVE + FIVE - 1)
    for kind, price in (("trade", replay.last_price), ("mark", replay.mark_price)):
        first, second = (replay.candles(PAIR, "1h", Window(t), kind=kind)[-1] for t in (now, later))
        assert first.open == second.open
        assert second.low <= first.low <= price(PAIR, now_ms=now) <= first.high <= second.high
        assert second.low <= price(PAIR, now_ms=later) <= second.high
        assert first.volume <= second.volume


# -- AGREEMENT -------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(ticks=days, now=moments, basis=st.sampled_from([0.99, 1.0, 1.003]))
def test_prices_when_asked_at_any_moment_then_agree(ticks, now, basis):
    trades = series(ticks)
    replay = Replay(Listed(trades, hours(trades, basis)))
    ask = Endpoints([instrument(PAIR)], replay, lambda: now, futures=True).by_path()
    query = {"symbol": "BTCUSDT"}
    last = replay.last_price(PAIR, now_ms=now)
    ticker, book = ask["ticker/24hr"](query), ask["depth"]({**query, "limit": "5"})
    best = ask["ticker/bookTicker"](query)
    for interval in ("5m", "30m", "1h", "4h"):
        assert replay.candles(PAIR, interval, Window(now))[-1].close == last
        assert float(ask["klines"]({**query, "interval": interval})[-1][4]) == last
    assert float(ticker["lastPrice"]) == last
    assert float(ticker["lowPrice"]) <= last <= float(ticker["highPrice"])
    assert float(book["bids"][0][0]) == pytest.approx(last)  # the path is on the tick
    assert float(book["asks"][0][0]) == pytest.approx(last + 0.1)
    assert (best["bidPrice"], best["askPrice"]) == (book["bids"][0][0], book["asks"][0][0])
    mark = replay.mark_price(PAIR, now_ms=now)
    assert replay.candles(PAIR, "1h", Window(now), kind="mark")[-1].close == mark
    assert float(ask["premiumIndex"](query)["markPrice"]) == mark
    assert mark == pytest.approx(last * basis, rel=2e-5)


@settings(max_examples=20, deadline=None)
@given(ticks=days)
def test_candles_when_finished_then_are_the_sources(ticks):
    trades = series(ticks)
    marks = hours(trades, 1.002)
    replay = Replay(Listed(trades, marks))
    for row in trades:
        assert replay.candles(PAIR, "5m", Window(row.open_ms + FIVE, end_ms=row.open_ms))[-1] == row
    assert replay.candles(PAIR, "1h", Window(END)) == hours(trades)
    assert replay.candles(PAIR, "1h", Window(END), kind="mark") == marks


def test_path_when_a_candle_rises_then_its_low_comes_first_and_when_it_falls_its_high():
    rows = [
        Candle(START, 100.0, 109.0, 94.0, 106.0, 3.0),
        Candle(START + FIVE, 106.0, 112.0, 100.0, 103.0, 3.0),
    ]
    replay = Replay(Listed(rows))
    third = FIVE // 3

    def at(first: int) -> list[float | None]:
        return [replay.last_price(PAIR, now_ms=first + n * third // 2) for n in range(6)]

    assert at(START) == [100.0, 97.0, 94.0, 102.0, 109.0, 108.0]  # whole numbers, as the candles have
    assert at(START + FIVE) == [106.0, 109.0, 112.0, 106.0, 100.0, 102.0]
    assert replay.last_price(PAIR, now_ms=START + 2 * FIVE) == 103.0
    assert replay.last_price(PAIR, now_ms=START - 1) is None
    assert replay.mark_price(PAIR, now_ms=START - 1) is None
    assert replay.candles(PAIR, "5m", Window(START + third)) == [Candle(START, 100.0, 100.0, 94.0, 94.0, 1.0)]


def test_mark_when_it_does_not_reach_the_depth_of_the_trades_then_stays_within_its_own_candle():
    trades = series([(-100, 0, 0)] * 6 + [(100, 0, 0)] * 6)  # down by 60 and back
    mark = Candle(START, 1001.0, 1001.0, 970.0, 1000.0, 0.0)
    replay = Replay(Listed(trades, [mark]))
    assert replay.last_price(PAIR, now_ms=START + 6 * FIVE) == 940.0
    assert replay.mark_price(PAIR, now_ms=START) == 1001.0
    assert replay.mark_price(PAIR, now_ms=START + 6 * FIVE) == 970.0
    assert replay.candles(PAIR, "1h", Window(START + 6 * FIVE), kind="mark")[-1].low == 970.0
    assert replay.mark_price(PAIR, now_ms=START + HOUR) == replay.last_price(PAIR, now_ms=START + HOUR)


# -- SHIFT -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-5, 0, 1, 24, 19_001])
def test_shift_when_hours_are_added_then_long_candles_begin_where_the_clock_says(shift):
    trades = series([(n % 7 - 3, n % 5, n % 3) for n in range(COUNT)])
    rates = [Funding(START + 8 * HOUR * n, n / 1e4) for n in range(2)]
    replay = Replay(Listed(trades, (), rates), shift_hours=shift)
    now = END + shift * HOUR
    moved = [row._replace(open_ms=row.open_ms + shift * HOUR) for row in trades]
    assert replay.candles(PAIR, "5m", Window(now)) == moved
    for interval in ("1h", "4h", "1d"):
        length = INTERVALS_MS[interval]
        rows = replay.candles(PAIR, interval, Window(now))
        assert [row.open_ms for row in rows] == sorted({row.open_ms // length * length for row in moved})
        for row in rows:
            part = [each for each in moved if each.open_ms // length * length == row.open_ms]
            assert row == (
                *(row.open_ms, part[0].open, max(p.high for p in part), min(p.low for p in part)),
                *(part[-1].close, sum(p.volume for p in part)),
            )
    assert replay.funding(PAIR, Window(now)) == [Funding(START + shift * HOUR, 0.0)]
    assert replay.span_ms([PAIR]) == (START + shift * HOUR, now)


def test_shift_when_not_whole_hours_then_is_refused():
    with pytest.raises(ValueError, match=r"`shift_hours` must be a whole number of hours, was 1\.5"):
        Replay(Listed([]), shift_hours=1.5)  # type: ignore[arg-type]


def test_hours_to_shift_when_a_moment_is_chosen_then_its_hour_happens_now():
    moment = datetime(2024, 3, 5, 12, tzinfo=UTC)
    now = round(datetime(2026, 11, 21, 16, 49, 30, tzinfo=UTC).timestamp() * 1000)
    hours = hours_to_shift(moment, now)
    happening = datetime.fromtimestamp((now - hours * HOUR) / 1000, UTC)
    assert happening == datetime(2024, 3, 5, 12, 49, 30, tzinfo=UTC)
    assert hours_to_shift(happening, now) == hours
    with pytest.raises(ValueError, match="`moment` must have a time zone"):
        hours_to_shift(datetime(2024, 3, 5), now)


# -- SOURCES ---------------------------------------------------------------------------------------------


def test_candles_when_short_ones_begin_late_then_longer_ones_fill_the_time_before():
    trades = series([(1, 1, 1)] * 24, first=12)
    early = Candle(START, 990.0, 1003.0, 980.0, 1000.0, 50.0)
    overlapping = Candle(START + HOUR, 1.0, 1.0, 1.0, 1.0, 1.0)
    replay = Replay(Listed(trades, longer={"1h": [early, overlapping]}))
    rows = replay.candles(PAIR, "1h", Window(START + 3 * HOUR))
    assert rows == [early, *hours(trades)]
    assert replay.candles(PAIR, "5m", Window(START + 3 * HOUR)) == trades
    assert replay.last_price(PAIR, now_ms=START + HOUR // 3) == 980.0


def test_candles_when_long_ones_lose_their_boundary_then_are_left_out():
    early = Candle(START, 990.0, 1003.0, 980.0, 1000.0, 50.0)
    source = Listed(series([(1, 1, 1)] * 12, first=48), longer={"4h": [early]})
    assert len(Replay(source, shift_hours=4).candles(PAIR, "4h", Window(END + 4 * HOUR))) == 2
    assert len(Replay(source, shift_hours=3).candles(PAIR, "4h", Window(END + 3 * HOUR))) == 1


def test_candles_when_there_is_a_gap_then_the_next_is_not_told_before_it_begins():
    trades = series([(1, 1, 1)] * 24)
    replay = Replay(
        Listed([row for row in trades if not START + HOUR <= row.open_ms < START + HOUR + 3 * FIVE])
    )
    now = START + HOUR + 2 * FIVE
    assert replay.candles(PAIR, "1h", Window(now))[-1].open_ms == START
    assert replay.last_price(PAIR, now_ms=now) == trades[11].close
    assert replay.candles(PAIR, "1h", Window(now + FIVE))[-1] == (
        *(START + HOUR, trades[15].open, trades[15].open, trades[15].open, trades[15].open, 0.0),
    )


def test_files_when_replayed_then_finished_candles_are_the_files(tmp_path: Path):
    market = simulate_market(3, 4, datetime(2024, 1, 1, tzinfo=UTC), DEFAULT_PAIRS[-1:], flash_crash=True)
    write_market(market, tmp_path)
    history, pair = FileHistory(tmp_path), DEFAULT_PAIRS[-1].pair
    replay, now = Replay(history), START + 96 * HOUR
    for interval, kind in (("5m", "trade"), ("1h", "trade"), ("1h", "mark")):
        asked = Window(now, limit=2000)
        ours, files = (each.candles(pair, interval, asked, kind=kind) for each in (replay, history))
        assert len(ours) == len(files) > 90
        assert [row[:5] for row in ours] == [row[:5] for row in files]
        assert [row.volume for row in ours] == pytest.approx([row.volume for row in files])
    assert replay.funding(pair, Window(now)) == history.funding(pair, Window(now)) != []


def test_real_candles_when_replayed_then_hours_are_the_files_and_the_mark_is_near(real_candles: Path):
    history = FileHistory(real_candles)
    replay = Replay(history)
    asked = Window(START + 31 * 24 * HOUR, start_ms=START, end_ms=START + 30 * 24 * HOUR, limit=1500)
    ours, files = (np.array(each.candles(PAIR, "1h", asked)) for each in (replay, history))
    assert ours.shape == files.shape == (30 * 24 + 1, 6)
    np.testing.assert_allclose(ours, files, rtol=1e-12)
    for minute in range(0, 3 * 24 * 60, 7):
        now = START + minute * MINUTE
        last, mark = replay.last_price(PAIR, now_ms=now), replay.mark_price(PAIR, now_ms=now)
        assert math.isclose(last, mark, rel_tol=2e-3)


# -- COMMAND ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--speed", "2"], "--speed needs a command after `--`"),
        (["--speed", "0"], "must be above 0 and at most 10000, was '0'"),
        (["--speed", "10001"], "must be above 0 and at most 10000, was '10001'"),
        (["--from", "noon"], "must be like 2024-03-05T12:00, was 'noon'"),
        (["--days", "0"], "--days must be at least 1, was 0"),
        (["--data", ".", "--seed", "3"], "--seed and --days are of the simulated market"),
    ],
)
def test_command_when_arguments_cannot_be_used_then_says_why(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["replay", *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pairs", "NOPE/USDT:USDT"], "--pairs must be of BTC/USDT:USDT, "),
        (
            ["--from", "2024-01-01"],
            "--from must be after 2023-01-01T00:00 and before 2023-02-03T00:00, was 2024-01-01",
        ),
        (["--data", "EMPTY"], "there are no candles"),
    ],
)
def test_command_when_the_market_has_no_such_thing_then_says_what_there_is(
    arguments, words, capsys, tmp_path
):
    arguments = [str(tmp_path) if word == "EMPTY" else word for word in arguments]
    simulated = [] if "--data" in arguments else ["--days", "1"]
    assert main(["replay", *simulated, *arguments, "--keep", str(tmp_path / "kept")]) == 1
    assert words in " ".join(capsys.readouterr().err.split())
