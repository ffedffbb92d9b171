"""Credentials of an exchange: all that Freqtrade knows, wherever they stand, and nothing else."""

from __future__ import annotations

from freqtrade.configuration.config_secrets import _SENSITIVE_KEYS

from plimsoll.credentials import CREDENTIALS, without_credentials


def test_credentials_when_compared_with_freqtrades_then_none_is_missing() -> None:
    theirs = {name.removeprefix("exchange.") for name in _SENSITIVE_KEYS if name.startswith("exchange.")}
    assert len(theirs) >= 12
    assert theirs <= CREDENTIALS


def test_exchange_when_credentials_are_left_out_then_all_else_stays() -> None:
    options = {"options": {"defaultType": "swap"}, "timeout": 5000}
    section = {
        "name": "binance",
        "pair_whitelist": ["BTC/USDT:USDT"],
        "ccxt_config": options | {"apiKey": "a"},
    }
    section |= dict.fromkeys(CREDENTIALS, "a secret")
    assert without_credentials(section) == {
        "name": "binance", "pair_whitelist": ["BTC/USDT:USDT"], "ccxt_config": options,
    }  # fmt: skip
    assert section["ccxt_config"]["apiKey"] == "a"
