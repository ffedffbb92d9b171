"""The benchmarks' last result and their method as a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

from benchmarks.measure import Record

COMMAND = 'make bench BENCH="--markdown docs/performance.md"'
METHOD = """# Performance

`make bench` measures what the guard costs on your machine and prints one table; `{command}`
writes this page. Seconds of one machine say nothing about another, so what is given is a ratio to Freqtrade alone **in the same
run**, or where a part has no counterpart in Freqtrade, its share of the time that Freqtrade alone takes for the step in which it is
asked.

## Method

* Everything runs offline on simulated markets with fixed seeds, through stock Freqtrade and the loopback exchange.
* Raw and guarded variants take turns within each round, the order reversed every other round. A ratio is taken within a round; the
  median of the rounds is given with the lowest and the highest. CPU time stands beside wall time: where the two differ, the machine
  was busy.
* **backtest**: the same strategy raw and guarded, sized and stopped so that both make the same trades (the note has the share found
  again); what differs is the guard. *Few* is nearly always in the market with few trades, *Many* enters whenever it may. More pairs
  have fewer days, and the 31 days of candles that are prepared before a backtest begins weigh the more: the ratio is given without
  them too. Whole commands in processes of their own measure wall time, CPU time and peak memory.
* **plan**: `leverage()`, `custom_stake_amount()` and `confirm_trade_entry()` as Freqtrade asks them, with 100 to 100,000 closed
  trades and 0, 5 and 40 open ones; shares are of Freqtrade's own entry in a backtest (stake, order and trade, without any callback
  of a strategy).
* **rules**: each rule by itself, a microsecond or so: a share of Freqtrade's own entry. Preparing a pair's candles is a share of
  Freqtrade's own walk over them.
* **breakers**: one step of each: a share of Freqtrade's own candle of one pair, although it is made once for all pairs.
* **bootstrap**: a share of a raw backtest of the year whose results are drawn from, reckoned from the time of one candle.
* **live loop**: a raw and a guarded bot in turns on one database with 80 pairs, 40 open and 200 closed trades: quiet loops, loops
  with a new candle, loops with a new hour. The parts are shares of the raw bot's whole loop.
* **ledger**: the calls of three bots that share a ledger: shares of Freqtrade's own commit of one trade on the same kind of
  database.

A goal is an upper bound of the median; `missed` is not hidden.

## Last result
"""
NOTHING = "\nNo figures yet. Run `{command}` on a quiet machine.\n"


def page(records: Sequence[Record], machine: str) -> str:
    """Return the page; without records it says how to get them."""
    head = METHOD.format(command=COMMAND)
    if not records:
        return head + NOTHING.format(command=COMMAND)
    lines = [head, f"{datetime.now(UTC):%Y-%m-%d}: {machine}.\n"]
    for benchmark, group in groupby(records, key=lambda each: each.benchmark):
        lines.append(f"### {benchmark[:1].upper()}{benchmark[1:]}\n")
        lines.append("| what | median | lowest to highest | share of Freqtrade's own step | goal | note |")
        lines.append("|---|---:|---:|---|---|---|")
        lines += [_row(each) for each in group]
        lines.append("")
    return "\n".join(lines)


def share(each: Record) -> str:
    """Return a record's share of Freqtrade's own step in words, empty without one."""
    if each.share is None:
        return ""
    percent = 100.0 * each.share
    return f"{percent:,.0f} % of {each.share_of}" if percent >= 10 else f"{percent:.2g} % of {each.share_of}"


def figure(value: float) -> str:
    """Write a figure with three digits or so."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def _row(each: Record) -> str:
    span = f"{figure(each.low)} to {figure(each.high)}" if each.samples > 1 else ""
    verdict = {None: "", True: "holds", False: "**missed**"}[each.holds]
    goal = "" if each.goal is None else f"{each.goal:g}, {verdict}"
    cells = (each.name, f"{figure(each.value)} {each.unit}", span, share(each), goal, each.note)
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"
