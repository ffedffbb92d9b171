"""The breakers of a bot: skipping what cannot change anything changes nothing; the estimate folds as if after each trade."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plimsoll.host.breakers import NO_BAND, Breakers
from plimsoll.host.runlog import Edge
from plimsoll.rules.breaker import ClosedTrade, EquitySample
from plimsoll.rules.kelly import kelly_estimate, without_growth_after_loss
from plimsoll.settings import load

HOUR = 3600
START = 1_700_000_000 // HOUR * HOUR


class Unskipped(Breakers):
    def _quiet_band(self) -> tuple[float, float, int]:
        return NO_BAND


def words(breakers: Breakers) -> dict[str, Any]:
    return {
        name: (m.verdict.blocked, m.verdict.factor, m.verdict.until)
        for name, m in breakers.machines()
        if m.verdict
    }


@given(
    moves=st.lists(st.floats(-0.06, 0.06), min_size=5, max_size=150),
    profile=st.sampled_from(["calibrated", "classic"]),
    reset=st.sampled_from(["latched", "cooldown"]),
)
@hypothesis_settings(derandomize=True, max_examples=150, deadline=None)
def test_breakers_when_quiet_steps_are_skipped_then_every_verdict_is_the_same(
    moves: Any, profile: Any, reset: Any
) -> None:
    settings = load({"profile": profile, "drawdown": {"reset": reset, "cooldown_minutes": 600.0}})
    skipping, full = Breakers(settings, confirmations=1), Unskipped(settings, confirmations=1)
    equity = 10_000.0
    for hour, move in enumerate(moves):
        equity *= 1.0 + move
        sample = EquitySample(START + hour * HOUR, equity)
        skipping.equity(sample)
        full.equity(sample)
        assert words(skipping) == words(full)


def test_breakers_when_equity_stays_in_the_band_then_nothing_is_stepped() -> None:
    breakers = Breakers(load(), confirmations=1)
    breakers.equity(EquitySample(START, 10_000.0))
    before = breakers.by_equity["drawdown"].state
    breakers.equity(EquitySample(START + 1, 9_990.0))
    assert breakers.by_equity["drawdown"].state is before
    breakers.equity(EquitySample(START + 2, None))
    assert breakers.by_equity["drawdown"].verdict.unknown  # type: ignore[union-attr]


def test_breakers_when_live_readings_need_confirming_then_no_step_is_skipped() -> None:
    breakers = Breakers(load(), confirmations=2)
    for second in range(5):
        breakers.equity(EquitySample(START + second, 10_000.0))
    assert breakers.by_equity["drawdown"].state.readings.time == START + 4


def trade(value: float | None) -> Any:
    return SimpleNamespace(close_profit=None if value is None else value * 3.0, leverage=3.0)


@given(
    returns=st.lists(st.sampled_from([-0.03, -0.01, -0.001, 0.0, 0.004, 0.012, 0.05]), max_size=90),
    asked=st.lists(st.booleans(), min_size=90, max_size=90),
)
@hypothesis_settings(derandomize=True, max_examples=100, deadline=None)
def test_edge_when_asked_at_any_time_then_it_equals_the_fold_over_every_trade(
    returns: Any, asked: Any
) -> None:
    settings = load({"kelly": {"window_trades": 25, "min_trades": 8}})
    k = settings.kelly
    edge = Edge(settings)
    plain: dict[str, Any] = {"method": k.method, "multiple": k.multiple, "shrink_trades": k.shrink_trades}
    expected = None
    for index, value in enumerate(returns):
        edge.add(trade(value))
        estimate = kelly_estimate(returns[max(0, index - 24) : index + 1], min_trades=8, **plain)
        expected = without_growth_after_loss(expected, estimate, value)
        if asked[index]:
            found = edge.estimate()
            assert found.stage == expected.stage
            assert found.notional_to_equity == pytest.approx(expected.notional_to_equity)


def test_edge_when_a_trade_has_no_result_then_it_is_left_out() -> None:
    edge = Edge(load())
    edge.add(trade(None))
    assert edge.estimate().trades == 0


def test_breakers_when_an_exit_inside_a_candle_is_followed_by_an_earlier_dated_one_then_time_does_not_run_back() -> (
    None
):
    breakers = Breakers(load({"streak": {"per_pair": True}}), confirmations=1)
    breakers.closed(ClosedTrade(START, "A/USDT:USDT", -0.01), known=START + HOUR)
    breakers.closed(ClosedTrade(START, "A/USDT:USDT", -0.01))
    breakers.closed(ClosedTrade(START + HOUR, "A/USDT:USDT", -0.01), known=START + 2 * HOUR)
    assert breakers.by_trade["streak"].verdict.until == START + 3 * HOUR  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("setting", "url", "off", "shared"),
    [
        (None, None, [], False),
        ("ledger.sqlite", None, [], True),
        (None, "sqlite:///ledger.sqlite", [], True),
        (None, " ", [], False),
        (None, "sqlite:///ledger.sqlite", ["portfolio"], False),
        ("postgresql://host/x", None, [], True),  # cannot be used, and is no reason to allow more
    ],
)
def test_backtest_when_its_bot_shares_a_ledger_then_it_has_the_portfolios_drawdown_breaker(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, url: str | None, off: list[str], shared: bool
) -> None:
    monkeypatch.delenv("PLIMSOLL_LEDGER_URL", raising=False)
    if url is not None:
        monkeypatch.setenv("PLIMSOLL_LEDGER_URL", url)
    settings = load(
        {"portfolio": {"ledger": setting, "drawdown": 0.1}, "drawdown": {"limit": 0.5}, "off": off}
    )
    assert "portfolio" not in Breakers(settings, confirmations=1, attended=True).by_equity
    breakers = Breakers(settings, confirmations=1)
    for hour, equity in enumerate((10_000.0, 9_001.0)):
        breakers.equity(EquitySample(START + hour * HOUR, equity))
    verdict = breakers.by_equity["portfolio"].verdict if shared else None
    assert ("portfolio" in breakers.by_equity) == shared
    assert verdict is None or not verdict.blocked
    breakers.equity(EquitySample(START + 2 * HOUR, 9_000.0))
    verdict = breakers.by_equity["portfolio"].verdict if shared else None
    assert (verdict is not None and verdict.blocked) == shared
