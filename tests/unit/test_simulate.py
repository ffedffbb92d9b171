from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from freqtrade.data.history import load_pair_history
from freqtrade.enums import CandleType

from plimsoll.market.candle_files import write_market
from plimsoll.market.simulate import DEFAULT_PAIRS, MarketData, simulate_market

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 20
FRAMES = ("candles_5m", "candles_1h", "mark_1h", "funding")
STEPS = {"candles_5m": "5min", "candles_1h": "1h", "mark_1h": "1h", "funding": "8h"}
PRICE_FRAMES = FRAMES[:3]
DEPTHS = {model.pair: model.crash_depth for model in DEFAULT_PAIRS}


@pytest.fixture(scope="module")
def market() -> dict[str, MarketData]:
    return simulate_market(7, DAYS, START)


def assert_identical(one: dict[str, MarketData], other: dict[str, MarketData]) -> None:
    assert one.keys() == other.keys()
    for pair in one:
        for name in FRAMES:
            pd.testing.assert_frame_equal(
                getattr(one[pair], name), getattr(other[pair], name), check_exact=True
            )


def gaps(candles: pd.DataFrame) -> pd.Series:
    return (candles["open"] / candles["close"].shift() - 1).set_axis(candles["date"])


def test_market_when_seed_is_the_same_then_frames_are_identical(market: dict[str, MarketData]) -> None:
    assert_identical(market, simulate_market(7, DAYS, START))


def test_market_when_seed_differs_then_every_pair_differs(market: dict[str, MarketData]) -> None:
    other = simulate_market(8, DAYS, START)

    for pair, data in market.items():
        assert not data.candles_5m["close"].equals(other[pair].candles_5m["close"])


def test_market_when_global_random_state_changes_then_frames_are_identical(
    market: dict[str, MarketData],
) -> None:
    np.random.seed(1)

    assert_identical(market, simulate_market(7, DAYS, START))


def test_market_when_pairs_are_left_out_and_reordered_then_the_others_do_not_change(
    market: dict[str, MarketData],
) -> None:
    some = (DEFAULT_PAIRS[3], DEFAULT_PAIRS[0])

    assert_identical(
        {model.pair: market[model.pair] for model in some}, simulate_market(7, DAYS, START, pairs=some)
    )


def test_market_when_eighty_pairs_are_asked_for_then_all_are_simulated_and_distinct() -> None:
    models = [replace(DEFAULT_PAIRS[i % 5], pair=f"COIN{i}/USDT:USDT") for i in range(80)]

    market = simulate_market(1, 2, START, models)

    assert list(market) == [model.pair for model in models]
    assert len({data.candles_5m["close"].to_numpy().tobytes() for data in market.values()}) == 80


@pytest.mark.parametrize("days", [1, 2, 3, DAYS])
def test_frames_when_simulated_then_dates_are_complete_and_whole(days: int) -> None:
    for data in simulate_market(3, days, START).values():
        for name, step in STEPS.items():
            frame = getattr(data, name)
            expected = pd.date_range(
                START, START + timedelta(days=days), freq=step, inclusive="left", unit="ms"
            )
            assert list(frame.columns) == ["date", "open", "high", "low", "close", "volume"]
            assert pd.DatetimeIndex(frame["date"]).equals(expected)
            assert not frame.isna().any(axis=None)
            assert np.isfinite(frame.drop(columns="date").to_numpy()).all()


@pytest.mark.parametrize("name", PRICE_FRAMES)
def test_candles_when_simulated_then_high_and_low_enclose_open_and_close(
    market: dict[str, MarketData], name: str
) -> None:
    for data in market.values():
        frame = getattr(data, name)
        assert (frame["low"] > 0).all()
        assert (frame["low"] <= frame[["open", "close"]].min(axis=1)).all()
        assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()


def test_candles_when_simulated_then_prices_are_multiples_of_the_tick(market: dict[str, MarketData]) -> None:
    for model in DEFAULT_PAIRS:
        prices = market[model.pair].candles_5m[["open", "high", "low", "close"]]
        pd.testing.assert_frame_equal(prices, prices.round(model.price_decimals), check_exact=True)
        assert prices["open"].iloc[0] == model.start_price
        assert (market[model.pair].candles_5m["volume"] > 0).all()


def test_prices_when_near_zero_then_they_stay_at_least_one_tick() -> None:
    coarse = replace(DEFAULT_PAIRS[4], start_price=0.02, price_decimals=2)

    candles = simulate_market(2, 60, START, [coarse])[coarse.pair].candles_5m

    assert candles["low"].min() == 0.01


def test_hourly_candles_when_aggregated_from_5m_then_they_are_the_same(market: dict[str, MarketData]) -> None:
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    for data in market.values():
        aggregated = data.candles_5m.resample("1h", on="date").agg(how).reset_index()
        prices = ["date", "open", "high", "low", "close"]
        pd.testing.assert_frame_equal(
            aggregated[prices], data.candles_1h[prices], check_exact=True, check_freq=False
        )
        np.testing.assert_allclose(aggregated["volume"], data.candles_1h["volume"], rtol=1e-12)


def test_flash_crash_when_simulated_then_all_pairs_gap_down_at_once_and_nowhere_else(
    market: dict[str, MarketData],
) -> None:
    for data in market.values():
        assert data.crash_start is not None
        crash = pd.date_range(data.crash_start, periods=3, freq="5min")
        gap = gaps(data.candles_5m)
        assert set(gap[gap.abs() > 0.01].index) == set(crash)
        assert gap[crash[0]] < -0.02
        assert gap[crash[1]] < -0.05
    assert len({data.crash_start for data in market.values()}) == 1


def test_flash_crash_when_simulated_then_the_gap_is_in_the_hourly_candles_too(
    market: dict[str, MarketData],
) -> None:
    for data in market.values():
        gap = gaps(data.candles_1h)
        assert list(gap[gap.abs() > 0.01].index) == [data.crash_start + timedelta(minutes=5)]


@pytest.mark.parametrize("seed", range(5))
def test_flash_crash_when_simulated_then_depth_and_recovery_are_as_modelled(seed: int) -> None:
    for pair, data in simulate_market(seed, 3, START).items():
        candles = data.candles_5m.set_index("date")
        before = candles["close"][data.crash_start - timedelta(minutes=5)]
        low = candles["low"][data.crash_start : data.crash_start + timedelta(hours=1)].min()
        settled = candles["close"][data.crash_start + timedelta(hours=1)]
        depth = 1 - low / before
        assert 0.2 <= depth <= 0.6
        assert depth == pytest.approx(DEPTHS[pair], rel=0.06)
        assert 0.3 < (settled - low) / (before - low) < 0.8


def test_flash_crash_when_simulated_then_mark_price_stays_above_the_low_of_last(
    market: dict[str, MarketData],
) -> None:
    for data in market.values():
        hour = data.candles_1h["date"] == data.crash_start + timedelta(minutes=5)
        assert data.mark_1h["low"][hour].item() > data.candles_1h["low"][hour].item() * 1.05


def test_flash_crash_when_switched_off_then_nothing_gaps(market: dict[str, MarketData]) -> None:
    calm = simulate_market(7, DAYS, START, flash_crash=False)

    for pair, data in calm.items():
        assert data.crash_start is None
        assert gaps(data.candles_5m).abs().max() == 0
        before = data.candles_5m["date"] < market[pair].crash_start
        columns = ["date", "open", "high", "low", "close"]
        pd.testing.assert_frame_equal(
            data.candles_5m.loc[before, columns],
            market[pair].candles_5m.loc[before, columns],
            check_exact=True,
        )


def test_mark_price_when_calm_then_it_stays_close_to_last() -> None:
    for data in simulate_market(7, DAYS, START, flash_crash=False).values():
        ratio = data.mark_1h["close"] / data.candles_1h["close"] - 1
        assert ratio.abs().quantile(0.99) < 0.02
        assert data.mark_1h["close"].diff().std() < data.candles_1h["close"].diff().std() * 1.02
        assert (data.mark_1h["volume"] == 0).all()


def test_funding_when_price_has_risen_then_rate_is_higher() -> None:
    for data in simulate_market(11, 300, START).values():
        closes = data.candles_1h.set_index("date")["close"]
        past = np.log(closes).diff(72).shift(1).reindex(data.funding["date"]).to_numpy()
        rates = data.funding["open"].to_numpy()
        known = ~np.isnan(past)
        up, down = rates[known & (past > 0)].mean(), rates[known & (past < 0)].mean()
        assert up > down
        assert np.corrcoef(past[known], rates[known])[0, 1] > 0.15


def test_funding_when_simulated_long_then_mean_is_near_base_rate_and_within_limits() -> None:
    market = simulate_market(11, 300, START)

    means = [data.funding["open"].mean() for data in market.values()]
    extremes = [data.funding["open"].abs().max() for data in market.values()]

    assert 0.00005 < np.mean(means) < 0.00015
    assert 0.0003 < max(extremes) <= 0.0075


def test_funding_when_later_prices_differ_then_earlier_rates_do_not() -> None:
    crash, calm = (simulate_market(7, 10, START, flash_crash=on) for on in (True, False))
    for pair, data in crash.items():
        earlier = data.funding["date"] <= data.crash_start
        after = ~earlier & (data.funding["date"] <= data.crash_start + timedelta(days=1))
        gap = data.funding["open"] - calm[pair].funding["open"]
        assert (gap[earlier] == 0).all()
        assert gap[after].mean() < 0


@pytest.mark.parametrize(
    "start",
    [
        datetime(2024, 1, 1),
        datetime(2024, 1, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_market_when_start_is_not_midnight_utc_then_refused(start: datetime) -> None:
    with pytest.raises(ValueError, match="`start` must be a midnight in UTC"):
        simulate_market(1, 1, start)


def test_market_when_days_is_zero_then_refused() -> None:
    with pytest.raises(ValueError, match="`days` must be at least 1, was 0"):
        simulate_market(1, 0, START)


def test_write_market_when_loaded_by_freqtrade_then_frames_come_back(
    market: dict[str, MarketData], tmp_path: Path
) -> None:
    datadir = tmp_path / "binance"

    write_market(market, datadir)

    def load(pair: str, timeframe: str, candle_type: CandleType) -> pd.DataFrame:
        return load_pair_history(
            pair,
            timeframe,
            datadir,
            fill_up_missing=False,
            drop_incomplete=False,
            data_format="feather",
            candle_type=candle_type,
        )

    for pair, data in market.items():
        for name, timeframe, candle_type in (
            ("candles_5m", "5m", CandleType.FUTURES),
            ("candles_1h", "1h", CandleType.FUTURES),
            ("mark_1h", "1h", CandleType.MARK),
        ):
            loaded = load(pair, timeframe, candle_type)
            pd.testing.assert_frame_equal(loaded, getattr(data, name), check_exact=True, check_freq=False)
        funding = load(pair, "1h", CandleType.FUNDING_RATE)
        rate = "funding_rate" if "funding_rate" in funding else "open"
        assert funding["date"].tolist() == data.funding["date"].tolist()
        assert funding[rate].tolist() == data.funding["open"].tolist()
