"""The exchange's positions against Freqtrade's trades: gone, of another size, of the other side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.enums import RunMode, TradingMode
from freqtrade.wallets import PositionWallet

from plimsoll.host.positions import PATIENCE, READINGS, foreign_positions, positions_that_do_not_fit
from plimsoll.rules.exposure import OpenPosition

PAIR = "BTC/USDT:USDT"
LATER = (0, PATIENCE // 2, PATIENCE)


class Account:
    """A live bot's wallets as Freqtrade read them from the exchange."""

    def __init__(self, runmode: RunMode = RunMode.LIVE, mode: TradingMode = TradingMode.FUTURES) -> None:
        self.held: dict[str, PositionWallet] = {}
        self.seen: dict[str, tuple[int, int]] = {}
        self.strategy: Any = SimpleNamespace(
            config={"runmode": runmode, "trading_mode": mode},
            wallets=SimpleNamespace(get_all_positions=lambda: self.held),
        )

    def hold(self, amount: float, side: str = "long", pair: str = PAIR) -> None:
        self.held[pair] = PositionWallet(pair, position=amount, leverage=4.0, collateral=50.0, side=side)

    def foreign(self, trades: list[Any], *times: int, claimed: set[str] | None = None) -> list[OpenPosition]:
        found: list[OpenPosition] = []
        for time in times:
            found = foreign_positions(self.strategy, trades, claimed or set(), time, self.seen)
        return found

    def review(self, trades: list[Any], *times: int) -> dict[str, str]:
        found: dict[str, str] = {}
        for time in times:
            found = positions_that_do_not_fit(self.strategy, trades, time, self.seen)
        return found


def trade(amount: float = 2.0, side: str = "long", **more: Any) -> Any:
    values = {
        "pair": PAIR,
        "amount": amount,
        "is_short": side == "short",
        "trade_direction": side,
        "has_open_position": amount > 0.0,
        "open_orders": [],
    }
    return SimpleNamespace(**(values | more))


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize(
    ("held", "fits"),
    [(2.0, True), (2.039, True), (1.961, True), (2.041, False), (1.959, False), (4.0, False)],
)
def test_position_when_of_another_size_than_the_trade_then_is_named(
    side: str, held: float, fits: bool
) -> None:
    account = Account()
    account.hold(held, side)
    found = account.review([trade(side=side)], *LATER)
    expected = {} if fits else {PAIR: f"the exchange holds {held:g} of {PAIR}, the trade 2"}
    assert found == expected


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize("listed", [True, False])
def test_position_when_gone_then_is_named(side: str, listed: bool) -> None:
    account = Account()
    if listed:
        account.hold(0.0, side)
    assert account.review([trade(side=side)], *LATER) == {
        PAIR: f"the position in {PAIR} is gone from the exchange, the trade is still open"
    }


@pytest.mark.parametrize(("held", "traded"), [("long", "short"), ("short", "long")])
def test_position_when_of_the_other_side_then_is_named(held: str, traded: str) -> None:
    account = Account()
    account.hold(2.0, held)
    assert account.review([trade(side=traded)], *LATER) == {
        PAIR: f"the exchange holds a {held} in {PAIR}, the trade is {traded}"
    }


def test_position_when_it_has_not_been_so_for_long_then_nothing_is_said() -> None:
    account = Account()
    assert READINGS == 3
    assert account.review([trade()], 0, 1, 2, PATIENCE - 1) == {}
    assert account.review([trade()], PATIENCE) != {}


def test_position_when_read_few_times_then_nothing_is_said() -> None:
    account = Account()
    assert account.review([trade()], 0, 10 * PATIENCE) == {}
    assert account.review([trade()], 10 * PATIENCE + 1) != {}


def test_position_when_it_fits_in_between_then_the_time_counts_anew() -> None:
    account = Account()
    account.review([trade()], *LATER)
    account.hold(2.0)
    assert account.review([trade()], 200) == {}
    account.held.clear()
    assert account.review([trade()], 300, 350, 300 + PATIENCE - 1) == {}
    assert account.review([trade()], 300 + PATIENCE) != {}


@pytest.mark.parametrize(
    "changes", [{"open_orders": ["an order"]}, {"amount": 0.0, "has_open_position": False}]
)
def test_position_when_orders_are_open_or_nothing_is_filled_then_is_not_compared(
    changes: dict[str, Any],
) -> None:
    assert Account().review([trade(**changes)], *LATER) == {}


@pytest.mark.parametrize(
    ("runmode", "mode"), [(RunMode.DRY_RUN, TradingMode.FUTURES), (RunMode.LIVE, TradingMode.SPOT)]
)
def test_position_when_there_is_no_exchange_to_ask_then_nothing_is_compared(
    runmode: RunMode, mode: TradingMode
) -> None:
    account = Account(runmode, mode)
    account.seen["BTC"] = (0, 1)
    assert account.review([trade()], *LATER) == {}
    assert account.seen == {}


def test_position_when_nobody_trades_the_pair_then_it_is_not_ours_to_judge() -> None:
    account = Account()
    account.hold(3.0, pair="ETH/USDT:USDT")
    account.hold(2.0)
    assert account.review([trade()], *LATER) == {}


# -- In no bot's books ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["long", "short"])
def test_foreign_position_when_there_for_a_while_then_its_whole_margin_counts_as_risk(side: str) -> None:
    account = Account()
    account.hold(-2.0 if side == "short" else 2.0, side)
    assert account.foreign([], *LATER) == [OpenPosition(PAIR, "BTC", side, 50.0, 200.0, 50.0)]  # type: ignore[arg-type]
    assert account.foreign([], PATIENCE + 1) != []
    account.held.clear()
    assert account.foreign([], PATIENCE + 2) == []
    assert account.seen == {}


def test_foreign_position_when_seen_few_times_or_shortly_then_it_does_not_count_yet() -> None:
    account = Account()
    account.hold(2.0)
    assert account.foreign([], 0, 1, 2, PATIENCE - 1) == []
    assert account.foreign([], PATIENCE) != []
    seldom = Account()
    seldom.hold(2.0)
    assert seldom.foreign([], 0, 10 * PATIENCE) == []
    assert seldom.foreign([], 10 * PATIENCE + 1) != []


def test_foreign_position_when_in_a_trade_of_ours_or_claimed_or_empty_then_it_is_none() -> None:
    account = Account()
    account.hold(2.0)
    assert account.foreign([trade()], *LATER) == []
    assert account.foreign([], *LATER, claimed={PAIR}) == []
    account.hold(0.0)
    assert account.foreign([], *LATER) == []
    # A claim that ends begins the wait anew.
    account.hold(2.0)
    assert account.foreign([], 1000, 1001, 1000 + PATIENCE - 1) == []
    assert account.foreign([], 1000 + PATIENCE) != []


@pytest.mark.parametrize(
    ("runmode", "mode"), [(RunMode.DRY_RUN, TradingMode.FUTURES), (RunMode.LIVE, TradingMode.SPOT)]
)
def test_foreign_position_when_there_is_no_exchange_to_ask_then_there_is_none(
    runmode: RunMode, mode: TradingMode
) -> None:
    account = Account(runmode, mode)
    account.hold(2.0)
    assert account.foreign([], *LATER) == []
