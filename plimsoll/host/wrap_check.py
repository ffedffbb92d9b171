"""Load a strategy and its guarded form as Freqtrade does, in a process of its own: ``python -m`` with a JSON request.

A strategy's code runs while it is loaded; it may end the process or print whatever it likes, so the answer goes to a file.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from freqtrade.enums import CandleType, RunMode, TradingMode
from freqtrade.resolvers import StrategyResolver
from freqtrade.resolvers.iresolver import PathModifier
from freqtrade.strategy import IStrategy

from plimsoll.host.guarded import Guarded


def facts(source: Path, name: str, guarded: Path, userdir: Path) -> dict[str, Any]:
    """Return the timeframe, warm-up and sides of the guarded strategy in ``guarded``, or under ``fault`` why there is none."""
    raw = _strategy(source, name)
    if isinstance(raw, str):
        return {"fault": raw}
    if issubclass(raw, Guarded):
        return {"fault": f"{name} is guarded already"}
    config: Any = {
        "strategy": f"Guarded{name}",
        "strategy_path": str(guarded.parent),
        "user_data_dir": userdir,
        "runmode": RunMode.BACKTEST,
        "trading_mode": TradingMode.FUTURES if getattr(raw, "can_short", False) else TradingMode.SPOT,
        "candle_type_def": CandleType.FUTURES,
    }
    try:
        made = StrategyResolver.load_strategy(config)
    except BaseException as error:
        return {"fault": f"the guarded {name} does not load: {_words(error, guarded)}"}
    return {
        "timeframe": getattr(made, "timeframe", None),
        "startup": int(made.startup_candle_count),
        "can_short": bool(made.can_short),
    }


def has_guard(source: Path, name: str) -> dict[str, Any]:
    """Return under ``guarded`` whether a strategy has the guard, or under ``fault`` why nobody can tell."""
    raw = _strategy(source, name)
    return {"fault": raw} if isinstance(raw, str) else {"guarded": issubclass(raw, Guarded)}


def _strategy(source: Path, name: str) -> type | str:
    # The class, or in words why there is none.
    try:
        raw = _class(source, name)
    except BaseException as error:
        return f"{source} does not load: {_words(error, source)}"
    if not (isinstance(raw, type) and issubclass(raw, IStrategy)):
        return f"{name} in {source} is no strategy: it does not derive from IStrategy"
    return raw


def _class(path: Path, name: str) -> Any:
    with PathModifier(path.parent):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError("no Python file")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)


def _words(error: BaseException, path: Path) -> str:
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    where = f", line {lines[-1]}" if lines and lines[-1] else ""
    return f"{type(error).__name__}: {error}{where}"


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    source_ = Path(request["source"])
    if "guarded" in request:
        answer = facts(source_, request["name"], Path(request["guarded"]), Path(request["userdir"]))
    else:
        answer = has_guard(source_, request["name"])
    Path(request["answer"]).write_text(json.dumps(answer), encoding="utf-8")
