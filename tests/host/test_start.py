"""The start: faults end it, or block entries once the bot has traded; settings without effect are named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.enums import MarginMode, RunMode, TradingMode
from freqtrade.exceptions import OperationalException

from plimsoll.host import start
from plimsoll.settings import load


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    fresh = {"has_traded": False}
    monkeypatch.setattr(start, "_process", fresh)
    return fresh


BAD: Any = {"plimsoll": {"risk": {"per_trade": 0.5}}}


def test_settings_when_bad_at_the_first_start_then_it_ends_with_all_faults(process: dict[str, bool]) -> None:
    with pytest.raises(OperationalException, match=r"risk\.per_trade = 0\.5"):
        start.load_settings(BAD | {"runmode": RunMode.DRY_RUN}, object)


def test_settings_when_bad_after_a_reload_then_entries_are_blocked_and_the_process_lives(
    process: dict[str, bool],
) -> None:
    start.note_started({"runmode": RunMode.DRY_RUN})
    settings, fault = start.load_settings(BAD | {"runmode": RunMode.DRY_RUN}, object)
    assert settings == load()
    assert "risk.per_trade = 0.5" in str(fault)


def test_settings_when_bad_in_a_backtest_then_it_always_ends(process: dict[str, bool]) -> None:
    start.note_started({"runmode": RunMode.BACKTEST})
    with pytest.raises(OperationalException):
        start.load_settings(BAD | {"runmode": RunMode.BACKTEST}, object)


@pytest.mark.parametrize(
    ("margin_mode", "allowed", "subjects"),
    [
        (MarginMode.ISOLATED, False, []),
        (MarginMode.CROSS, False, ["margin_mode"]),
        (MarginMode.CROSS, True, []),
    ],
)
def test_start_when_margin_is_cross_then_refused_unless_allowed(
    margin_mode: Any, allowed: bool, subjects: list[str]
) -> None:
    config = {"trading_mode": TradingMode.FUTURES, "margin_mode": margin_mode}
    settings = load({"gates": {"allow_cross_margin": allowed}})
    found = list(start.start_faults(SimpleNamespace(config=config, stoploss=-0.1), settings))  # type: ignore[arg-type]
    assert [subject for subject, _ in found] == subjects
    assert all("allow_cross_margin" in reason for _, reason in found)


def test_backtest_when_the_bot_shares_a_ledger_then_the_portfolios_tighter_limits_hold() -> None:
    classic = {"profile": "classic"}  # 60 % of equity as margin, the portfolio 50 %
    assert start.alone_in_portfolio(load(classic)).exposure.total_margin == 0.6
    shared = load(classic | {"portfolio": {"ledger": "ledger.sqlite", "asset": 0.1, "heat": 0.02}})
    tighter = start.alone_in_portfolio(shared).exposure
    assert (tighter.total_margin, tighter.asset_margin, tighter.heat) == (0.5, 0.1, 0.02)
    assert (
        start.alone_in_portfolio(load({"portfolio": {"ledger": "x", "exposure": 0.9}})).exposure.total_margin
        == 0.15
    )


def test_backtest_when_the_environment_names_the_ledger_then_the_portfolio_counts_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tight: dict[str, Any] = {"profile": "classic", "portfolio": {"asset": 0.1}}
    monkeypatch.delenv("PLIMSOLL_LEDGER_URL", raising=False)
    assert start.alone_in_portfolio(load(tight)).exposure.total_margin == 0.6
    for url, shared in (("postgresql+psycopg://ann@host/ledger", True), ("  ", False), ("", False)):
        monkeypatch.setenv("PLIMSOLL_LEDGER_URL", url)
        found = start.alone_in_portfolio(load(tight)).exposure
        assert (found.total_margin == 0.5, found.asset_margin == 0.1) == (shared, shared)
    monkeypatch.setenv("PLIMSOLL_LEDGER_URL", "ledger.sqlite")
    assert start.alone_in_portfolio(load(tight | {"off": ["portfolio"]})).exposure.total_margin == 0.6


def test_backtest_when_the_ledger_is_a_url_in_the_settings_then_the_portfolio_counts_all_the_same() -> None:
    settings = load({"profile": "classic", "portfolio": {"ledger": "postgresql://host/x"}})
    assert start.alone_in_portfolio(settings).exposure.total_margin == 0.5


def test_start_when_the_decay_baseline_is_missing_then_it_is_named_with_the_way_out() -> None:
    config = {"trading_mode": TradingMode.SPOT}
    settings = load({"decay": {"baseline": "/nowhere/baseline.json"}})
    ((subject, reason),) = start.start_faults(SimpleNamespace(config=config, stoploss=-0.1), settings)  # type: ignore[arg-type]
    assert subject == "decay"
    assert "/nowhere/baseline.json" in reason
    assert "plimsoll calibrate" in reason


def test_start_when_there_is_a_baseline_then_false_alarms_and_delay_are_stated_and_without_one_it_says_so(
    tmp_path: Any,
) -> None:
    baseline = tmp_path / "baseline.json"
    baseline.write_text('{"decay": {"mean": 0.002, "deviation": 0.02, "trades": 300, "trades_per_day": 3.0}}')
    (stated,) = start.statements(load({"decay": {"baseline": str(baseline)}}))
    assert "false" in stated
    assert "days" in stated
    (without,) = start.statements(load())
    assert "baseline" in without
    assert start.statements(load({"off": ["decay"]})) == []
