"""Hold what a layer did in a fire drill against what it had to do; pure, over loaded records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from plimsoll.drill.breakers import (
    find_pause,
    find_release,
    find_trip,
    find_warnings,
    never_trips,
    remembers,
    stays_tripped,
)
from plimsoll.drill.entries import allow_entries, reduce_size, refuse_entries
from plimsoll.drill.evidence import (
    STOPS,
    Evidence,
    Finding,
    Record,
    Row,
    callback_faults,
    closed,
    failed,
    held,
    inside,
    is_liquidated,
    name_of,
    not_arisen,
    opened,
)
from plimsoll.drill.expectations import (
    AllowEntries,
    Cooldown,
    ExitAgain,
    ExitAtStop,
    NeverLiquidated,
    NotTrip,
    ReduceSize,
    RefuseEntries,
    Release,
    Remember,
    StayTripped,
    StopsInside,
    Trip,
    Warn,
)
from plimsoll.drill.scenario import Scenario

GRACE_SECONDS = 90.0  # until a fill was noticed


def judge(scenario: Scenario, evidence: Evidence) -> list[Row]:
    """Return a row for each expectation, and for what holds in every drill."""
    rows = []
    for expected in scenario.expect:
        should, check = _CHECKS[type(expected)]
        finding = check(expected, evidence, scenario)
        if finding.outcome == "did not arise" and expected.required:
            finding = failed(f"the occasion never arose: {finding.did}", finding.when)
        rows.append(_row(expected.layer, should(expected), finding))
    return [*rows, *_always(evidence)]


def passed(rows: Sequence[Row]) -> bool:
    """Return whether a drill succeeded: nothing failed, and something was put to the test."""
    return all(row.outcome != "failed" for row in rows) and any(
        row.outcome == "held" for row in rows if row.layer not in ("bot", "guard", "exchange")
    )


def _always(evidence: Evidence) -> list[Row]:
    faults = callback_faults(evidence)
    rows = [
        _row(
            "bot",
            "runs to the end",
            failed("ended by itself", None) if evidence.died else held(_restarts(evidence), None),
        ),
        _row(
            "guard",
            "none of its callbacks fails",
            failed(f"{len(faults)} failed: {faults[0]}", None) if faults else held("none failed", None),
        ),
    ]
    for event in evidence.happened:
        if event.do == "fault":
            found = held if event.met else failed
            did = f"met {event.met} times" if event.met else "nobody met it: this proves nothing"
            rows.append(
                _row("exchange", f"{event.subject.replace('_', ' ')} is felt", found(did, event.time))
            )
    return rows


def _restarts(evidence: Evidence) -> str:
    kills = len(evidence.kills())
    return (
        "ran" if not kills else f"ran; killed and started again {'once' if kills == 1 else f'{kills} times'}"
    )


def _row(layer: str, should: str, finding: Finding) -> Row:
    return Row(layer=layer, should=should, did=finding.did, when=finding.when, outcome=finding.outcome)


# -- Stops and exits -----------------------------------------------------------------------------------------


def _exit_at_stop(expected: ExitAtStop, evidence: Evidence, _: Scenario) -> Finding:
    at = evidence.at(expected.at)
    trades = evidence.open_at(at)
    if len(trades) < expected.at_least:
        return not_arisen(f"{len(trades)} positions were open, {expected.at_least} are needed", at)
    latest, worst = at, 0.0
    for trade in trades:
        end = closed(trade)
        if end is None or end > at + expected.within_minutes * 60.0:
            return failed(f"{trade['pair']} was still open after {expected.within_minutes:g} minutes", end)
        if trade.get("exit_reason") not in STOPS:
            return failed(f"{trade['pair']} left by {trade.get('exit_reason')}", end)
        if is_liquidated(trade):
            return failed(f"{trade['pair']} lost its whole margin", end)
        lost = _r_lost(trade, evidence)
        if lost is None:
            return failed(f"nobody knows what R {trade['pair']} had: its outcome is not in the journal", end)
        if lost > expected.worst_r:
            return failed(f"{trade['pair']} lost {lost:.2f} R", end)
        latest, worst = max(latest, end), max(worst, lost)
    return held(f"{len(trades)} of {len(trades)} left at their stops, {worst:.2f} R lost at most", latest)


def _r_lost(trade: Record, evidence: Evidence) -> float | None:
    outcomes = [
        r for r in evidence.journal if r.get("kind") == "outcome" and r.get("trade_id") == trade["id"]
    ]
    risk = outcomes[-1].get("planned_risk") if outcomes else None
    return -(trade.get("close_profit_abs") or 0.0) / risk if risk else None


def _never_liquidated(_: NeverLiquidated, evidence: Evidence, __: Scenario) -> Finding:
    if not evidence.trades:
        return not_arisen("nothing was traded", None)
    for trade in evidence.trades:
        if is_liquidated(trade):
            return failed(f"{name_of(trade)} was liquidated, or lost its whole margin", closed(trade))
        if (gone := _passed_liquidation(trade, evidence)) is not None:
            return failed(
                f"{name_of(trade)} was not closed before the price was beyond its liquidation", gone
            )
    return held(f"none of {len(evidence.trades)} trades", None)


def _passed_liquidation(trade: Record, evidence: Evidence) -> float | None:
    liquidation = trade.get("liquidation_price")
    if liquidation is None:
        return None
    begin, end = opened(trade), closed(trade) or evidence.ended
    seen = [(time, rate) for time, rate in evidence.prices.get(trade["pair"], ()) if begin <= time <= end]
    # Where the price jumps over both between two loops, Freqtrade books a stop that no exchange would have filled.
    seen += [(end, trade["close_rate"])] if trade.get("close_rate") is not None else []
    short = bool(trade.get("is_short"))
    return next((t for t, rate in seen if (rate >= liquidation if short else rate <= liquidation)), None)


def _stops_inside(_: StopsInside, evidence: Evidence, __: Scenario) -> Finding:
    if not evidence.trades:
        return not_arisen("nothing was traded", None)
    seen = 0
    for trade in evidence.trades:
        orders = [o for o in evidence.orders if o.get("ft_trade_id") == trade["id"]]
        resting = [_stop_of(order) for order in orders if order.get("ft_order_side") == "stoploss"]
        told = [(stop, trade.get("liquidation_price")) for stop in (trade.get("stop_loss"), *resting)]
        # The strategy's own stop stands in the table until the fill was noticed.
        later = (s for s in evidence.samples if s.time >= opened(trade) + GRACE_SECONDS)
        told += [sample.stops[trade["id"]] for sample in later if trade["id"] in sample.stops]
        for stop, liquidation in told:
            if not inside(trade, stop, liquidation):
                where = f"stop {stop} of {name_of(trade)} is not inside its liquidation at {liquidation}"
                return failed(where, opened(trade))
        seen += len(told)
    return held(f"{len(evidence.trades)} trades, {seen} looks at their stops", None)


def _stop_of(order: Record) -> Any:
    return order.get("stop_price") or order.get("ft_price")


def _exit_again(expected: ExitAgain, evidence: Evidence, _: Scenario) -> Finding:
    after = evidence.at(expected.after)
    behind = [trade for trade in evidence.open_at(after) if _stop_is_passed(trade, after, evidence)]
    if len(behind) < expected.at_least:
        return not_arisen(
            f"{len(behind)} positions were behind their stops, {expected.at_least} are needed", after
        )
    ends = []
    for trade in behind:
        end = closed(trade)
        if end is None or end > after + expected.within_minutes * 60.0:
            return failed(f"{trade['pair']} was still open {expected.within_minutes:g} minutes later", end)
        ends.append(end)
    return held(f"{len(behind)} of {len(behind)} positions left", max(ends))


def _stop_is_passed(trade: Record, time: float, evidence: Evidence) -> bool:
    seen = [rate for at, rate in evidence.prices.get(trade["pair"], ()) if at <= time]
    stop = trade.get("stop_loss")
    if not seen or stop is None:
        return False
    return bool(seen[-1] >= stop if trade.get("is_short") else seen[-1] <= stop)


# -- What is checked, in words -------------------------------------------------------------------------------

Check = Callable[[Any, Evidence, Scenario], Finding]


def _until(hours: float | None) -> str:
    return "to the end" if hours is None else f"until hour {hours:g}"


_CHECKS: dict[type, tuple[Callable[[Any], str], Check]] = {
    ExitAtStop: (
        lambda e: f"all open at hour {e.at:g} leave at their stops within {e.within_minutes:g} min",
        _exit_at_stop,
    ),
    NeverLiquidated: (lambda e: "no position is liquidated", _never_liquidated),
    StopsInside: (lambda e: "every stop lies inside liquidation", _stops_inside),
    ExitAgain: (
        lambda e: f"positions behind their stops leave within {e.within_minutes:g} min of hour {e.after:g}",
        _exit_again,
    ),
    RefuseEntries: (
        lambda e: (
            f"no entry while {e.rule} forbids it"
            if e.after is None
            else f"no entry from hour {e.after:g} {_until(e.until)}, by {e.rule}"
        ),
        refuse_entries,
    ),
    AllowEntries: (lambda e: f"entries between hours {e.after:g} and {e.before:g}", allow_entries),
    ReduceSize: (lambda e: f"R at most x{e.factor:g} after hour {e.after:g}", reduce_size),
    Trip: (lambda e: f"{e.breaker} trips within {e.within_minutes:g} min of its occasion", find_trip),
    NotTrip: (lambda e: f"{e.breaker} does not trip", never_trips),
    StayTripped: (lambda e: f"{e.breaker} stays tripped {_until(e.until)}", stays_tripped),
    Release: (lambda e: f"{e.breaker} lets go between hours {e.after:g} and {e.before:g}", find_release),
    Cooldown: (lambda e: "the pause is as long as it is set", find_pause),
    Warn: (lambda e: "warning, critical and stopped, each at its time", find_warnings),
    Remember: (lambda e: f"{', '.join(e.breakers)} and the peak survive kill -9", remembers),
}
