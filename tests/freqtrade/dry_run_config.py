"""What every dry-run bot of the tests is configured with, beside its timeframe and stake."""

from __future__ import annotations

from typing import Any

DRY_RUN: dict[str, Any] = {
    "dry_run": True,
    "dry_run_wallet": 10_000.0,
    "stake_currency": "USDT",
    "max_open_trades": 4,
    "trading_mode": "futures",
    "margin_mode": "isolated",
    "fee": 0.0005,
    "entry_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "order_types": {"entry": "market", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False},
    "pairlists": [{"method": "StaticPairList"}],
    # The exchange is a thread of the test's process, which a busy machine may keep for longer than the usual ten seconds.
    "exchange": {"ccxt_config": {"timeout": 120_000}, "ccxt_async_config": {"timeout": 120_000}},
}
