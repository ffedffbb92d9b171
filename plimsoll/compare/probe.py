"""Ask Freqtrade, in a process of its own, what it makes of a strategy and a configuration, without running either.

The user's strategy is code: it is loaded where its modules, its prints and its failures are nobody else's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from plimsoll.compare.errors import CompareError
from plimsoll.credentials import without_credentials

LAST_LINES: Final = 12
DAY_SECONDS: Final = 86_400
# Not what a backtest depends on, and some of it is secret.
_LEFT_OUT: Final = ("telegram", "discord", "webhook", "api_server", "db_url", "bot_name", "original_config")


def probe(arguments: Sequence[str], environment: Mapping[str, str], *, every_pair: bool) -> dict[str, Any]:
    """Return the facts about what these arguments of ``freqtrade backtesting`` would run.

    ``every_pair`` adds to the configured pairs all others that there are candles of.

    :raises CompareError: with Freqtrade's last words, where it refuses them.
    """
    with tempfile.TemporaryDirectory(prefix="plimsoll-probe-") as directory:
        answer = Path(directory, "facts.json")
        command = [
            sys.executable,
            "-m",
            "plimsoll.compare.probe",
            str(answer),
            str(int(every_pair)),
            *arguments,
        ]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=dict(environment), check=False
        )  # fmt: skip
        if not answer.is_file():
            said = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-LAST_LINES:])
            raise CompareError(f"Freqtrade does not accept what it was given:\n{said}")
        facts: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "refusal" in facts:
        raise CompareError(facts["refusal"])
    return facts


def _facts(arguments: Sequence[str], every_pair: bool) -> dict[str, Any]:
    from freqtrade.commands import Arguments
    from freqtrade.configuration import Configuration
    from freqtrade.enums import RunMode
    from freqtrade.exceptions import FreqtradeException
    from freqtrade.resolvers import StrategyResolver

    from plimsoll.host.breakers import shares_ledger
    from plimsoll.host.guarded import Guarded
    from plimsoll.portfolio import LedgerFault
    from plimsoll.settings import SettingsError, load

    try:
        config: Any = Configuration(
            Arguments(list(arguments)).get_parsed_arg(), RunMode.BACKTEST
        ).get_config()
        strategy: Any = StrategyResolver.load_strategy(config)
        settings = load(config.get("plimsoll"), getattr(type(strategy), "plimsoll", None))
        file = Path(strategy.__file__).resolve()
        return {
            "file": str(file),
            "sources": [str(path) for path in _sources(file)],
            "guarded": isinstance(strategy, Guarded),
            "has_target": callable(getattr(strategy, "take_profit_price", None)),
            "shares_ledger": shares_ledger(settings),
            "settings": settings.model_dump(mode="json"),
            "override": list((config.get("plimsoll") or {}).get("override", ())),
            "config": _redacted(config["original_config"]),
            "spot": str(config.get("trading_mode", "spot")) != "futures",
            "liquidation_buffer": float(config.get("liquidation_buffer", 0.05)),
            "datadir": str(config["datadir"]),
            "data_format": str(config.get("dataformat_ohlcv", "feather")),
            "freqai": bool(config.get("freqai", {}).get("enabled", False)),
            **_market(config, strategy, every_pair),
        }
    except (FreqtradeException, SettingsError, LedgerFault) as error:
        return {"refusal": str(error)}


def _market(config: Any, strategy: Any, every_pair: bool) -> dict[str, Any]:
    """Return the pairs, and the timerange from which on every variant trades: the guard needs a month of candles first."""
    from datetime import UTC, datetime, timedelta

    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType, TradingMode
    from freqtrade.exchange import timeframe_to_seconds
    from freqtrade.plugins.pairlist.pairlist_helpers import expand_pairlist

    from plimsoll.prepared_market import WARM_UP

    mode = TradingMode(config.get("trading_mode", "spot"))
    kind = CandleType.get_default(str(mode))
    handler = get_datahandler(config["datadir"], config.get("dataformat_ohlcv", "feather"))
    asked = list(config["exchange"].get("pair_whitelist", ()))
    available = handler.ohlcv_get_available_data(config["datadir"], mode)
    found = {pair for pair, step, stored in available if (step, stored) == (strategy.timeframe, kind)}
    # Freqtrade asks the pairs in this order, and whoever comes first gets the free slot.
    pairs = list(dict.fromkeys(expand_pairlist(asked, sorted(found))))
    if every_pair:
        pairs += sorted(found.difference(pairs))
    if not pairs:
        return {
            "refusal": f"{config['datadir']} has no {strategy.timeframe} candles of {', '.join(asked) or 'any pair'}; get them"
            " with `freqtrade download-data`, or name their directory by --data"
        }
    facts = {"pairs": pairs}
    if config.get("timerange"):
        return facts | {"timerange": config["timerange"]}
    spans = [handler.ohlcv_data_min_max(pair, strategy.timeframe, kind)[:2] for pair in pairs]
    steps = int(strategy.startup_candle_count or 0) * timeframe_to_seconds(strategy.timeframe)
    first = min(span[0] for span in spans).timestamp() + max(WARM_UP.total_seconds(), steps)
    begins = datetime.fromtimestamp(-(-first // DAY_SECONDS) * DAY_SECONDS, UTC)
    ends = max(span[1] for span in spans)
    if begins + timedelta(days=1) > ends:
        return {"refusal": f"the candles end {ends:%Y-%m-%d}, before the guard's month of warm-up is over"}
    return facts | {"timerange": f"{begins:%Y%m%d}-{ends:%Y%m%d}"}


def _sources(file: Path) -> list[Path]:
    """Return the strategy's file, what it imports from its directory, at once or later, and its hyperopted parameters."""
    root = file.parent
    modules = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(name).resolve() for name in modules if isinstance(name, str)}
    found = {path for path in paths if path.is_relative_to(root) and "site-packages" not in path.parts}
    pending, siblings = [file, *found], sorted(root.glob("*.py"))
    while pending:
        path = pending.pop()
        found.add(path)
        text = path.read_text(encoding="utf-8", errors="replace") if path.suffix == ".py" else ""
        for sibling in (each.resolve() for each in siblings):
            named = rf"^\s*(?:from|import)\b.*\b{re.escape(sibling.stem)}\b"
            if sibling not in found and re.search(named, text, re.MULTILINE):
                pending.append(sibling)
    return sorted({*found, *(path for path in [file.with_suffix(".json")] if path.is_file())})


def _redacted(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in config.items() if name not in _LEFT_OUT}
    return {**kept, "exchange": without_credentials(config.get("exchange") or {})}


if __name__ == "__main__":
    facts = _facts(sys.argv[3:], bool(int(sys.argv[2])))
    Path(sys.argv[1]).write_text(json.dumps(facts, default=str), encoding="utf-8")
    sys.stdout.flush()
    # Whatever threads a strategy started would keep this process.
    os._exit(0)
