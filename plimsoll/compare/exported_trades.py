"""Exported backtests as the bots of one portfolio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from plimsoll import journal
from plimsoll.compare.errors import CompareError
from plimsoll.compare.together import Bot, Entry, Trade
from plimsoll.rules.answer import Side
from plimsoll.rules.exposure import asset_of
from plimsoll.rules.liquidation import all_finite, all_positive
from plimsoll.rules.sizing import loss_at_stop_ratio
from plimsoll.settings import Settings
from plimsoll.terminal import moment

SAME: Final = 1e-6  # of a profit: the journal's and the export's are rounded differently


def read_bots(paths: Sequence[Path], settings: Settings) -> list[Bot]:
    """Read exported backtests, each strategy as a bot; names that repeat are numbered.

    R of a trade comes from the journal that the guard wrote beside the export, where it has this very trade; else from the stop
    that the trade began with, at most its whole margin.

    :raises CompareError: where one cannot be read, or their stake currencies differ.
    """
    bots: list[Bot] = []
    for path in paths:
        for name, stats in _exported(path).items():
            count = sum(bot.name == name or bot.name.startswith(f"{name} #") for bot in bots)
            unique = f"{name} #{count + 1}" if count else name
            try:
                bots.append(_bot(unique, name, path, stats, settings))
            except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
                raise CompareError(f"the trades of {name} in {path} cannot be read: {error!r}") from error
    currencies = sorted({bot.currency for bot in bots})
    if len(currencies) > 1:
        raise CompareError(f"all backtests must have one stake currency, were {', '.join(currencies)}")
    return bots


def _exported(path: Path) -> Mapping[str, Any]:
    # Freqtrade takes seconds to import, which no argument error should wait for.
    from freqtrade.data.btanalysis import load_backtest_stats
    from freqtrade.exceptions import OperationalException

    place = next((p for p in (path / "backtest_results", path) if p.is_dir()), path)
    try:
        loaded: Any = load_backtest_stats(place)
        strategies: Mapping[str, Any] = loaded["strategy"]
    except (ValueError, KeyError, TypeError, OSError, OperationalException) as error:
        raise CompareError(f"no backtest could be read from {path}: {error}") from error
    return strategies


def _bot(name: str, strategy: str, path: Path, stats: Mapping[str, Any], settings: Settings) -> Bot:
    stops = _planned_stops(path, strategy)
    trades, planned = [], 0
    for exported in stats["trades"]:
        profit, stop = stops.get(
            (exported["pair"], int(exported["open_timestamp"]) // 1000), (math.nan, None)
        )
        same = abs(profit - exported["profit_abs"]) <= SAME * max(1.0, abs(profit))
        planned += same and stop is not None
        trades.append(_trade(exported, stop if same else None, settings))
    balance = float(stats["starting_balance"])
    if not all_positive(balance):
        raise CompareError(f"the starting balance of {name} in {path} must be above 0, was {balance}")
    return Bot(
        name=name,
        source=str(path),
        currency=str(stats["stake_currency"]),
        balance=balance,
        begins=stats["backtest_start_ts"] / 1000.0,
        ends=stats["backtest_end_ts"] / 1000.0,
        trades=tuple(trades),
        planned=planned,
    )


def _planned_stops(path: Path, strategy: str) -> dict[tuple[str, int], tuple[float, float]]:
    directory = path if path.is_dir() else path.parent
    places = [
        user_data / "plimsoll" / f"{strategy}-backtest.jsonl" for user_data in (directory, directory.parent)
    ]
    found = next((place for place in places if place.is_file()), None)
    return {
        (record["pair"], record["opened"]): (record["profit"], record["stop_price_ratio"])
        for record in (journal.read(found) if found is not None else ())
        if record.get("kind") == "outcome" and record.get("stop_price_ratio") is not None
    }


def _trade(exported: Mapping[str, Any], stop: float | None, settings: Settings) -> Trade:
    side: Side = "short" if exported["is_short"] else "long"
    leverage, opened = float(exported.get("leverage") or 1.0), float(exported["open_rate"])
    if not asset_of(exported["pair"]) or not all_positive(leverage, opened):
        raise ValueError(f"pair {exported['pair']!r}, leverage {leverage}, open_rate {opened}")
    if stop is None:
        stop = abs(1.0 - float(exported.get("initial_stop_loss_abs") or math.nan) / opened)
    loss = loss_at_stop_ratio(
        side=side,
        stop_price_ratio=stop,
        fee_open=float(exported.get("fee_open") or 0.0),
        fee_close=float(exported.get("fee_close") or 0.0),
        slippage=settings.risk.slippage,
    )
    whole = 1.0 / leverage
    loss = min(loss, whole) if all_positive(loss) else whole
    orders = [order for order in exported.get("orders") or () if order.get("order_filled_timestamp")]
    begins, ends = exported["open_timestamp"] / 1000.0, exported["close_timestamp"] / 1000.0
    profit = float(exported["profit_abs"])
    entries = [order for order in orders if order["ft_is_entry"]]
    if len(entries) < 2:
        margin = float(exported.get("max_stake_amount") or exported["stake_amount"])
        parts = [(begins, margin, profit)]
    else:
        parts = _parts(orders, leverage, 1 if side == "long" else -1, profit)
    if not all_finite(profit) or not all(all_positive(margin) for _, margin, _ in parts):
        raise ValueError(
            f"{exported['pair']} at {moment(begins)}: profit {profit}, margins {[p[1] for p in parts]}"
        )
    return Trade(
        pair=exported["pair"],
        side=side,
        closed=ends,
        entries=tuple(Entry(time, margin, loss * leverage * margin, made) for time, margin, made in parts),
        reductions=tuple(_reductions(orders)),
    )


def _parts(
    orders: Sequence[Mapping[str, Any]], leverage: float, way: int, profit: float
) -> list[tuple[float, float, float]]:
    """Return time, margin and profit of each entry: all leave at the mean exit price, fees and funding go by notional."""
    entries = [order for order in orders if order["ft_is_entry"]]
    exits = [order for order in orders if not order["ft_is_entry"]]
    mean = math.fsum(o["amount"] * o["safe_price"] for o in exits) / math.fsum(o["amount"] for o in exits)
    gross = [way * order["amount"] * (mean - order["safe_price"]) for order in entries]
    notional = [order["amount"] * order["safe_price"] for order in entries]
    costs, whole = profit - math.fsum(gross), math.fsum(notional)
    return [
        (order["order_filled_timestamp"] / 1000.0, size / leverage, made + costs * size / whole)
        for order, size, made in zip(entries, notional, gross, strict=True)
    ]


def _reductions(orders: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    held, found = 0.0, []
    last = max((place for place, order in enumerate(orders) if not order["ft_is_entry"]), default=-1)
    for place, order in enumerate(orders):
        if order["ft_is_entry"]:
            held += order["amount"]
        elif place != last and held > 0.0:
            left = max(0.0, 1.0 - order["amount"] / held)
            found.append((order["order_filled_timestamp"] / 1000.0, left))
            held *= left
    return found
