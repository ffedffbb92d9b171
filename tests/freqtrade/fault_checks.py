"""What may not be in a bot's records after something went wrong: entries that a rule forbids, exits that came late."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fault_runs import HOUR_MS, Episode, Rig, milliseconds

from plimsoll.market.bot import TradingBot

STALE_MS = 2 * HOUR_MS
COARSE_MS = 20_000  # a stop that is crossed stays so for longer
CANDLE_SLACK_MS = 300_000  # candles are read before the order is placed
PLAN_SLACK = 180.0  # seconds of a fast clock from the plan to its order; a plan older than 60 is refused
EQUITY_MOVES = 1.02  # a plan is journaled once an hour, while equity moves on
STOPS = {"stop_loss", "trailing_stop_loss"}
OUTAGES = {"timeout", "lost_answer", "server_error", "rate_limit", "banned"}


def entries(bot: TradingBot) -> list[dict[str, Any]]:
    """Return the first order of every trade, with its trade."""
    found = []
    orders = bot.orders()
    for trade in bot.trades():
        side = "sell" if trade["is_short"] else "buy"
        own = [o for o in orders if o["ft_trade_id"] == trade["id"] and o["ft_order_side"] == side]
        found += [{**trade, "order": order} for order in own[:1]]
    return found


def newest_hour_closed(episodes: Sequence[Episode], pair: str, at_ms: int) -> int:
    """Return when the newest 1h candle that Freqtrade could know as finished had closed."""
    told_until, missing = at_ms, []
    for episode in episodes:
        if not episode.concerns(pair):
            continue
        kind = episode.fault.kind
        if kind == "gap" and episode.begin <= at_ms:
            missing.append(episode)
        elif episode.during(at_ms) and kind == "stale_candles":
            told_until = min(told_until, episode.begin)
        elif episode.during(at_ms) and kind == "clock_offset":
            told_until += round(episode.fault.offset_seconds * 1000)
    # The last candle told counts as unfinished, for Freqtrade even where a gap follows it.
    opened = told_until // HOUR_MS * HOUR_MS
    while any(episode.begin <= opened < episode.end for episode in missing):
        opened -= HOUR_MS
    return opened


def last_price_seen(episodes: Sequence[Episode], pair: str, at_ms: int) -> int:
    """Return when the exchange last told anything about a pair."""
    dark = [
        e.begin for e in episodes if e.during(at_ms) and e.fault.pairs == (pair,) and not e.fault.endpoints
    ]
    return min(dark, default=at_ms)


def forbidden_entries(rig: Rig, bot: TradingBot, journal: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with each entry: its candles, its plan, a breaker or lock at that moment, an early loop."""
    found = []
    loops = rig.loops(bot)
    plans = [r for r in journal if r["kind"] == "plan"]
    breakers = [r for r in journal if r["kind"] == "breaker"]
    locks = [lock for lock in bot.locks() if lock["reason"] != "Auto lock"]
    for trade in entries(bot):
        order, pair = trade["order"], trade["pair"]
        at_ms = milliseconds(order["order_date"])
        at = at_ms / 1000
        side = "short" if trade["is_short"] else "long"
        said = f"{side} {pair} at {order['order_date']:%m-%d %H:%M:%S}"
        age = at_ms - newest_hour_closed(rig.episodes, pair, at_ms)
        if age >= STALE_MS + CANDLE_SLACK_MS:
            found.append(f"stale: {said}, its newest 1h candle closed {age / HOUR_MS:.2f} h before")
        if bisect_right(loops, at) < 3:
            found.append(f"equity: {said}, before it was confirmed")
        for other in bot.trades():
            begun = milliseconds(other["open_date"])
            if begun < at_ms < (milliseconds(other["close_date"]) if other["close_date"] else math.inf):
                unknown = at_ms - last_price_seen(rig.episodes, other["pair"], at_ms)
                if unknown >= STALE_MS + CANDLE_SLACK_MS:
                    found.append(
                        f"equity: {said}, nothing was told of {other['pair']} for {unknown / HOUR_MS:.2f} h"
                    )
        fault = plan_fault(trade, at, [p for p in plans if (p["pair"], p["side"]) == (pair, side)])
        if fault is not None:
            found.append(f"plan: {said}, {fault}")
        state = {(b["breaker"], b["pair"]): b for b in breakers if b["time"] <= at}
        found += [
            f"breaker: {said}, {b['reason']}"
            for b in state.values()
            if b["blocked"] and b["pair"] in ("*", pair)
        ]
        found += [
            f"lock: {said}, {lock['reason']}"
            for lock in locks
            if lock["active"]
            and lock["pair"] in ("*", pair)
            and lock["lock_time"] <= order["order_date"] < lock["lock_end_time"]
        ]
    return found


def plan_fault(trade: Mapping[str, Any], at: float, plans: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what does not fit between an entry and the last plan before it."""
    before = [plan for plan in plans if plan["time"] <= at]
    if not before:
        return "there is no plan"
    plan = before[-1]
    # Its outcome is journaled again in the next hour, so a plan of an hour before says nothing any more.
    if at - plan["time"] > PLAN_SLACK and int(at) // 3600 != int(plan["time"]) // 3600:
        return f"the last plan was {at - plan['time']:.0f} seconds before"
    if not plan["granted"]:
        return f"the plan was refused: {plan['refusal']}"
    if not math.isclose(plan["leverage"], trade["leverage"]):
        return f"leverage {trade['leverage']}, planned {plan['leverage']}"
    notional = trade["order"]["ft_amount"] * trade["open_rate"]
    if not notional <= plan["notional"] * EQUITY_MOVES:
        return f"notional {notional:.2f}, planned {plan['notional']:.2f}"
    return None


def hides_prices(episode: Episode) -> bool:
    """Return whether no price at all can be asked for while it lasts."""
    fault = episode.fault
    asked = not fault.endpoints or "depth" in fault.endpoints
    return fault.kind in OUTAGES and asked and fault.probability == 1.0


def could_exit_from(rig: Rig, trade: Mapping[str, Any]) -> int | None:
    """Return from when on the exchange told prices through a trade's stop, while orders and books were to be had."""
    begin = milliseconds(trade["open_date"])
    end = milliseconds(trade["close_date"]) if trade["close_date"] else rig.true_ms()

    def possible(at: int) -> bool:
        price = rig.told(trade["pair"], at)
        if price is None or (price - trade["stop_loss"]) * (-1 if trade["is_short"] else 1) > 1e-9:
            return False
        return not any(e.during(at) and e.concerns(trade["pair"]) and hides_prices(e) for e in rig.episodes)

    found = next((at for at in (*range(begin, end, COARSE_MS), end) if possible(at)), None)
    if found is None:
        return None
    return next(at for at in (*range(max(begin, found - COARSE_MS), found, 1000), found) if possible(at))


def loops_to_exit(rig: Rig, bot: TradingBot, trade: Mapping[str, Any]) -> int | None:
    """Return how many loops had begun since the exit was possible; None where the stop was not told to be crossed."""
    possible = could_exit_from(rig, trade)
    if possible is None:
        return None
    closed = trade["close_date"]
    until = math.inf if closed is None else milliseconds(closed) / 1000
    loops = rig.loops(bot)
    return bisect_right(loops, until) - bisect_left(loops, possible / 1000)


def own_exceptions(log: str) -> list[str]:
    """Return the tracebacks in a log that run through Plimsoll's own files."""
    blocks = re.split(r"(?m)^(?=\d{4}-\d\d-\d\d \d\d:\d\d)", log)
    return [b for b in blocks if "Traceback" in b and re.search(r'File "[^"]*/plimsoll/[a-z_/]+\.py"', b)]


def journal_of(directory: Path) -> list[dict[str, Any]]:
    """Return every whole record of the guarded bot's journal."""
    found = []
    for path in (directory / "plimsoll").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found
