"""What the benchmarks run on: a simulated market, the loopback exchange, Freqtrade's backtesting class."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plimsoll.market.candle_files import write_market
from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.market.simulate import DEFAULT_PAIRS, PairModel, simulate_market

START = datetime(2024, 1, 1, tzinfo=UTC)
WARM_UP_HOURS = (
    745  # what a guarded strategy asks for; raw ones get as many, so that both walk the same candles
)
STRATEGIES = Path(__file__).with_name("strategies.py")


@dataclass(frozen=True)
class Stage:
    """A user directory with candles and strategies, and the configuration that leads to them."""

    user_data: Path
    config: Path
    timerange: str
    days: int

    def arguments(self, *strategies: str) -> list[str]:
        """Return the command line that backtests strategies on the whole market."""
        return [
            *("backtesting", "--cache", "none", "--export", "none", "-c", str(self.config)),
            *("--user-data-dir", str(self.user_data), "--timerange", self.timerange),
            *("--strategy-list", *strategies),
        ]

    @contextmanager
    def backtesting(self, *strategies: str) -> Iterator[Any]:
        """Yield Freqtrade's own ``Backtesting`` with the strategies loaded."""
        from freqtrade.commands import Arguments
        from freqtrade.commands.optimize_commands import setup_optimize_configuration
        from freqtrade.enums import RunMode
        from freqtrade.optimize.backtesting import Backtesting
        from freqtrade.system import gc_set_threshold

        logging.disable(logging.WARNING)
        gc_set_threshold()  # as the command does
        arguments = Arguments(self.arguments(*strategies)).get_parsed_arg()
        config = setup_optimize_configuration(arguments, RunMode.BACKTEST)
        backtesting = Backtesting(config, progress_callback=lambda task: None)
        try:
            yield backtesting
        finally:
            backtesting.cleanup()
            backtesting.exchange.close()


@contextmanager
def stage(days: int, *, pairs: int = 5) -> Iterator[Stage]:
    """Set the stage: ``days`` of 1h candles of ``pairs`` pairs after the warm-up, always the same."""
    models = pair_models(pairs)
    names = [each.pair for each in models]
    warm_up = -(-WARM_UP_HOURS // 24)
    with TemporaryDirectory(prefix="plimsoll-bench-") as directory, LoopbackExchange(names) as exchange:
        user_data = Path(directory)
        (user_data / "strategies").mkdir()
        (user_data / "strategies" / "BenchmarkStrategies.py").write_text(
            STRATEGIES.read_text("utf-8"), "utf-8"
        )
        market = simulate_market(11, days + warm_up, START - timedelta(days=warm_up), models)
        write_market(market, user_data / "data" / "binance")
        config = user_data / "config.json"
        config.write_text(json.dumps(_config(exchange.url, names)), "utf-8")
        end = START + timedelta(days=days)
        yield Stage(user_data, config, f"{START:%Y%m%d}-{end:%Y%m%d}", days)


def pair_models(count: int) -> list[PairModel]:
    """Return models of ``count`` pairs: those of the simulated market first, then as many others alike as are asked for."""
    known = list(DEFAULT_PAIRS[:count])
    named = {each.pair for each in known}
    return (
        known
        + [model(pair) for pair in usual_pairs(count + len(known)) if pair not in named][: count - len(known)]
    )


def usual_pairs(count: int) -> list[str]:
    """Return pairs whose maintenance tiers Freqtrade brings along."""
    import freqtrade

    tiers = json.loads((Path(freqtrade.__file__).parent / "exchange/binance_leverage_tiers.json").read_text())
    usual = [pair for pair in tiers if pair.endswith("/USDT:USDT") and pair.split("/")[0].isascii()]
    return [pair for pair in usual if pair.split("/")[0].isalpha()][:count]


def model(pair: str) -> PairModel:
    """Return an ordinary coin's model."""
    return PairModel(
        pair=pair,
        start_price=100.0,
        price_decimals=2,
        daily_volatility=0.022,
        market_correlation=0.8,
        crash_depth=0.3,
        daily_quote_volume=1e9,
    )


def _config(url: str, pairs: Sequence[str]) -> dict[str, Any]:
    base = {
        "timeframe": "1h",
        "trading_mode": "futures",
        "margin_mode": "isolated",
        "stake_currency": "USDT",
        "stake_amount": "unlimited",
        "tradable_balance_ratio": 0.99,
        "dry_run_wallet": 1_000_000,
        "max_open_trades": len(pairs),
        "entry_pricing": {"price_side": "other", "use_order_book": True},
        "exit_pricing": {"price_side": "other", "use_order_book": True},
        "order_types": {
            "entry": "market",
            "exit": "market",
            "stoploss": "market",
            "stoploss_on_exchange": False,
        },
    }
    return base | exchange_config(url, pairs)
