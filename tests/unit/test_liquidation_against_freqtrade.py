"""The liquidation price against Freqtrade's own for Binance: equal where it is right, and where it is not."""

import pytest
from freqtrade.enums import CandleType, MarginMode, RunMode, TradingMode
from freqtrade.exchange.binance import Binance

from plimsoll.rules.liquidation import MaintenanceTier, liquidation_price, tier_of

PAIRS = ["BTC/USDT:USDT", "ETH/USDT:USDT", "WIF/USDT:USDT", "1000PEPE/USDT:USDT", "1MBABYDOGE/USDT:USDT"]
SIDES = ["long", "short"]


@pytest.fixture(scope="module")
def binance():
    """Build Freqtrade's Binance without a connection, with the tiers that it ships."""
    exchange = Binance.__new__(Binance)
    exchange._config = {"dry_run": True, "runmode": RunMode.BACKTEST, "candle_type_def": CandleType.FUTURES}
    exchange.trading_mode = TradingMode.FUTURES
    exchange.margin_mode = MarginMode.ISOLATED
    exchange.liquidation_buffer = 0.05
    exchange._leverage_tiers = {}
    exchange.fill_leverage_tiers()
    yield exchange
    exchange._api = exchange._api_async = exchange._ws_async = exchange._exchange_ws = None
    exchange.close = lambda: None


def tiers_of(exchange, pair):
    return tuple(
        MaintenanceTier(
            tier["minNotional"],
            tier["maxNotional"],
            tier["maintenanceMarginRate"],
            tier["maintAmt"],
            tier["maxLeverage"],
        )
        for tier in exchange._leverage_tiers[pair]
    )


def position(side, notional, leverage, rate):
    return {"side": side, "open_rate": rate, "amount": notional / rate, "margin": notional / leverage}


def freqtrade_price(exchange, pair, trade, leverage, *, buffered=True):
    ask = {
        "pair": pair,
        "open_rate": trade["open_rate"],
        "is_short": trade["side"] == "short",
        "amount": trade["amount"],
        "stake_amount": trade["margin"],
        "leverage": leverage,
        "wallet_balance": trade["margin"],
        "open_trades": [],
    }
    return exchange.get_liquidation_price(**ask) if buffered else exchange.dry_run_liquidation_price(**ask)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("leverage", [1, 2, 3, 5, 10, 20])
@pytest.mark.parametrize("pair", PAIRS)
def test_price_when_margin_and_notional_share_a_tier_then_equals_freqtrades(binance, pair, side, leverage):
    tiers = tiers_of(binance, pair)
    compared = 0
    for tier in tiers:
        for share in (0.0, 0.3, 0.9, 0.999):
            notional = max(tier.min_notional + share * (tier.max_notional - tier.min_notional), 10.0)
            trade = position(side, notional, leverage, 123.456)
            theirs = freqtrade_price(binance, pair, trade, leverage, buffered=False)
            at_entry, at_liquidation = (
                trade["amount"] * trade["open_rate"],
                trade["amount"] * max(theirs, 1e-9),
            )
            if len({tier_of(tiers, value) for value in (trade["margin"], at_entry, at_liquidation)}) > 1:
                continue
            compared += 1
            for buffered, buffer in ((True, 0.05), (False, 0.0)):
                theirs = freqtrade_price(binance, pair, trade, leverage, buffered=buffered)
                ours = liquidation_price(tiers=tiers, buffer=buffer, **trade)
                assert ours == pytest.approx(max(theirs, 0.0), rel=1e-9, abs=1e-9)
    assert compared >= 1


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("leverage", [1, 2, 3, 5, 10, 20])
@pytest.mark.parametrize("pair", PAIRS)
def test_price_when_freqtrade_is_given_every_tier_then_the_nearest_of_its_prices(
    binance, pair, side, leverage, monkeypatch
):
    tiers = tiers_of(binance, pair)
    nearest = max if side == "long" else min
    for tier in tiers:
        for share in (0.001, 0.5, 0.999):
            notional = tier.min_notional + share * (tier.max_notional - tier.min_notional)
            trade = position(side, notional, leverage, 0.00123)
            theirs = []
            for other in tiers:
                given = (other.mmr, other.maintenance_amount)
                monkeypatch.setattr(binance, "get_maintenance_ratio_and_amt", lambda *_, given=given: given)
                theirs.append(freqtrade_price(binance, pair, trade, leverage))
            ours = liquidation_price(tiers=tiers, **trade)
            if (ours >= trade["open_rate"]) if side == "long" else (ours <= trade["open_rate"]):
                continue  # more leverage than the tier allows: liquidated at once
            # Maintenance margin is convex in the notional, so the tier that counts is the one that hits first.
            assert ours == pytest.approx(nearest(theirs), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("pair", PAIRS)
def test_tier_when_looked_up_at_and_around_every_border_then_freqtrades(binance, pair):
    tiers = tiers_of(binance, pair)
    for tier in tiers:
        for notional in (tier.min_notional + 1e-6, tier.max_notional - 1e-6, tier.max_notional):
            found = tier_of(tiers, notional)
            assert (found.mmr, found.maintenance_amount) == binance.get_maintenance_ratio_and_amt(
                pair, notional
            )
    assert tier_of(tiers, tiers[-1].max_notional + 1e-6) is None


def test_price_when_btc_at_75x_then_freqtrades_is_too_optimistic_by_its_tier(binance):
    tiers = tiers_of(binance, "BTC/USDT:USDT")
    trade = position("long", 3_000_000.0, 75, 61_615.2)

    theirs = freqtrade_price(binance, "BTC/USDT:USDT", trade, 75, buffered=False)
    ours = liquidation_price(tiers=tiers, buffer=0.0, **trade)

    assert theirs == pytest.approx(61_037.8, abs=0.1)
    assert ours == pytest.approx(61_160.4, abs=0.1)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("pair", "margin", "leverage"), [("WIF/USDT:USDT", 4_000.0, 10), ("1MBABYDOGE/USDT:USDT", 2_000.0, 10)]
)
def test_price_when_a_small_pair_at_10x_then_hit_before_freqtrades_buffered_one(
    binance, side, pair, margin, leverage
):
    tiers = tiers_of(binance, pair)
    trade = position(side, margin * leverage, leverage, 1.0)

    theirs = freqtrade_price(binance, pair, trade, leverage)
    correct = liquidation_price(tiers=tiers, buffer=0.0, **trade)

    assert (correct > theirs) if side == "long" else (correct < theirs)


@pytest.mark.parametrize(("side", "notional"), [("long", 700_000.0), ("short", 490_000.0)])
def test_price_when_the_notional_changes_tier_on_the_way_then_liquidated_before_the_entrys_tier_says(
    binance, side, notional
):
    tiers = tiers_of(binance, "VIDT/USDT:USDT")
    entry = tier_of(tiers, notional)
    trade = position(side, notional, 2, 1.0)
    ours = liquidation_price(tiers=tiers, buffer=0.0, **trade)
    by_entry = liquidation_price(tiers=[entry._replace(min_notional=0.0, max_notional=None)], **trade)

    assert tier_of(tiers, ours * trade["amount"]) is not entry
    assert (ours > by_entry) if side == "long" else (ours < by_entry)  # although only theirs is buffered


@pytest.mark.parametrize("side", SIDES)
def test_price_when_compared_over_all_pairs_then_never_further_out_than_freqtrades(binance, side):
    worse = 0
    for pair in binance._leverage_tiers:
        tiers = tiers_of(binance, pair)
        for margin in (100.0, 500.0, 2_000.0):
            trade = position(side, margin * 10, 10, 50.0)
            if tier_of(tiers, margin * 10) is None:
                continue
            theirs, ours = freqtrade_price(binance, pair, trade, 10), liquidation_price(tiers=tiers, **trade)
            gap = (ours - theirs) if side == "long" else (theirs - ours)
            assert gap >= -1e-9
            correct = liquidation_price(tiers=tiers, buffer=0.0, **trade)
            worse += (correct > theirs) if side == "long" else (correct < theirs)
    assert worse > 100
