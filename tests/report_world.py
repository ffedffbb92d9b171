"""Comparisons made by hand: exports as Freqtrade writes them, journals and the file that names them."""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plimsoll.report.comparison import Comparison, Kind, Run
from plimsoll.settings import load

START = 1_700_006_400  # 2023-11-15 00:00 UTC
HOUR = 3600
DAY = 24 * HOUR
BALANCE = 1000.0


def trade(hour: int, profit: float, **values: Any) -> dict[str, Any]:
    """Describe a long of 100 USDT margin at 5x, opened ``hour`` hours after the start and closed an hour later."""
    short = bool(values.get("is_short", False))
    made: dict[str, Any] = {
        "pair": "BTC/USDT:USDT",
        "is_short": False,
        "open_timestamp": (START + hour * HOUR) * 1000,
        "close_timestamp": (START + (hour + 1) * HOUR) * 1000,
        "open_rate": 100.0,
        "close_rate": 100.0,
        "min_rate": 98.0,
        "max_rate": 102.0,
        "amount": 5.0,
        "stake_amount": 100.0,
        "max_stake_amount": 100.0,
        "leverage": 5.0,
        "profit_ratio": profit / 100.0,
        "profit_abs": profit,
        "exit_reason": "exit_signal",
        "enter_tag": "",
        "initial_stop_loss_abs": 105.0 if short else 95.0,
        "stop_loss_abs": 105.0 if short else 95.0,
        "orders": [],
    }
    return made | values


def statistics(
    trades: Sequence[dict[str, Any]], days: int, strategy: str, balance: float = BALANCE
) -> dict[str, Any]:
    """State what Freqtrade states of trades, in plain sums of its own; they close one after the other."""
    profit = sum(t["profit_abs"] for t in trades)
    long, short = ([t["profit_abs"] for t in trades if t["is_short"] is side] for side in (False, True))
    daily: dict[str, float] = defaultdict(float)
    held = peak = balance
    deepest = ratio = relative = 0.0
    for t in trades:
        daily[f"{datetime.fromtimestamp(t['close_timestamp'] / 1000, UTC):%Y-%m-%d}"] += t["profit_abs"]
        held += t["profit_abs"]
        peak = max(peak, held)
        relative = max(relative, (peak - held) / peak)
        if peak - held > deepest:
            deepest, ratio = peak - held, (peak - held) / peak
    return {
        "trades": list(trades),
        "strategy_name": strategy,
        "stake_currency": "USDT",
        "stake_currency_decimals": 3,
        "starting_balance": balance,
        "final_balance": balance + profit,
        "backtest_start_ts": START * 1000,
        "backtest_end_ts": (START + days * DAY - HOUR) * 1000,
        "profit_total": profit / balance,
        "profit_total_abs": profit,
        "total_trades": len(trades),
        "trade_count_long": len(long),
        "trade_count_short": len(short),
        "profit_total_long_abs": sum(long),
        "profit_total_short_abs": sum(short),
        "wins": sum(t["profit_abs"] > 0 for t in trades),
        "draws": sum(t["profit_abs"] == 0 for t in trades),
        "losses": sum(t["profit_abs"] < 0 for t in trades),
        "max_drawdown_account": ratio,
        "max_drawdown_abs": deepest,
        "max_relative_drawdown": relative,
        "results_per_pair": _rows(trades, "pair"),
        "exit_reason_summary": _rows(trades, "exit_reason"),
        "results_per_enter_tag": _rows(trades, "enter_tag"),
        "daily_profit": [[day, value] for day, value in daily.items()],
    }


def _rows(trades: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    keys = dict.fromkeys(t[name] for t in trades)
    rows = [
        {
            "key": key,
            "profit_total_abs": sum(t["profit_abs"] for t in trades if t[name] == key),
            "trades": sum(t[name] == key for t in trades),
        }
        for key in keys
    ]
    total = {"key": "TOTAL", "profit_total_abs": sum(t["profit_abs"] for t in trades), "trades": len(trades)}
    return [*rows, total]


def plan(hour: int, refusal: str | None = None, **values: Any) -> dict[str, Any]:
    """Describe the plan of a long, granted unless refused, at 1,000 USDT of equity."""
    made: dict[str, Any] = {
        "kind": "plan",
        "time": START + hour * HOUR,
        "pair": "BTC/USDT:USDT",
        "side": "long",
        "granted": refusal is None,
        "refusal": refusal,
        "leverage": 3,
        "notional": 150.0 if refusal is None else 0.0,
        "margin": 50.0,
        "risk": 10.0,
        "bound_leverage": "volatility_regime",
        "bound_size": "kelly",
        "answers": [{"rule": "risk_size", "numbers": {"equity": BALANCE}}],
    }
    return made | values


def outcome(trade: dict[str, Any], planned: float = 10.0) -> dict[str, Any]:
    """Describe the outcome of a trade as the guard journals it."""
    return {
        "kind": "outcome",
        "pair": trade["pair"],
        "side": "short" if trade["is_short"] else "long",
        "opened": trade["open_timestamp"] // 1000,
        "exit_reason": trade["exit_reason"],
        "planned_risk": planned,
        "profit": trade["profit_abs"],
        "realised_r": trade["profit_abs"] / planned,
        "stop_price_ratio": 0.05,
    }


def breaker(
    hour: int, blocked: bool, name: str = "streak", reason: str = "3 losses in a row"
) -> dict[str, Any]:
    """Describe a change of a breaker."""
    return {"kind": "breaker", "time": START + hour * HOUR, "breaker": name, "pair": "*", "blocked": blocked, "reason": reason}  # fmt: skip


class World:
    """A directory with a comparison that a test puts together."""

    def __init__(
        self, directory: Path, *, days: int = 3, strategy: str = "Any", balance: float = BALANCE
    ) -> None:
        self.directory = directory
        self._balance = balance
        self._days, self._strategy = days, strategy
        self._runs: list[Run] = []

    def run(
        self,
        kind: Kind,
        trades: Sequence[dict[str, Any]],
        records: Sequence[dict[str, Any]] | None = None,
        *,
        layer: str | None = None,
        leverage: float | None = None,
        changed: dict[str, Any] | None = None,
        worst: Sequence[float | None] | None = None,
    ) -> World:
        """Add a run; ``changed`` are statistics that do not fit its trades, ``worst`` the worst prices kept with it."""
        name = f"without {layer}" if layer else f"raw at {leverage:g}x" if leverage else kind
        stats = statistics(trades, self._days, self._strategy, self._balance) | (changed or {})
        place = self.directory / name.replace(" ", "-").replace("/", "-")[:40]
        place.mkdir()
        with zipfile.ZipFile(place / "result.zip", "w") as file:
            file.writestr(
                "result.json", json.dumps({"strategy": {self._strategy: stats}, "strategy_comparison": []})
            )
        if records is not None:
            lines = "".join(f"{json.dumps(record)}\n" for record in records)
            (place / "journal.jsonl").write_text(lines, encoding="utf-8")
        if worst is not None:
            (place / "worst-prices.json").write_text(json.dumps(worst), encoding="utf-8")
        self._runs.append(
            Run(
                name=name,
                kind=kind,
                strategy=self._strategy,
                export=str((place / "result.zip").relative_to(self.directory)),
                journal=None
                if records is None
                else str((place / "journal.jsonl").relative_to(self.directory)),
                layer=layer,
                leverage=leverage,
                worst_prices=None if worst is None else f"{place.name}/worst-prices.json",
            )
        )
        return self

    def write(self, **settings: Any) -> Path:
        """Write the comparison and return its directory."""
        Comparison(
            strategy=self._strategy,
            timerange="20231115-20231118",
            pairs=("BTC/USDT:USDT",),
            liquidation_buffer=0.05,
            settings=load(settings).model_dump(mode="json"),
            freqtrade="2026.9",
            plimsoll="0.1.0",
            runs=tuple(self._runs),
        ).write(self.directory)
        return self.directory
