"""Checks of a fire drill on entries: none where a rule forbids them, some where none does, and how large."""

from __future__ import annotations

from plimsoll.drill.evidence import Evidence, Finding, Record, failed, held, name_of, not_arisen, opened
from plimsoll.drill.expectations import AllowEntries, ReduceSize, RefuseEntries
from plimsoll.drill.scenario import Scenario

GRACE_SECONDS = 90.0  # an entry under way when a breaker trips
SIZE_TOLERANCE = 1.05


def refuse_entries(expected: RefuseEntries, evidence: Evidence, _: Scenario) -> Finding:
    """Find that nothing was opened, and that the attempts were refused by the rule."""
    if expected.after is not None:
        begin = evidence.at(expected.after)
    else:
        trips = evidence.trips(expected.rule)
        if not trips:
            return not_arisen(f"{expected.rule} never tripped", None)
        begin = trips[0] + GRACE_SECONDS
    until = evidence.ended if expected.until is None else evidence.at(expected.until)
    if (through := evidence.opened_within(begin, until)) != []:
        return failed(f"{name_of(through[0])} was opened", opened(through[0]))
    tried = [e for e in evidence.happened if e.do == "enter" and begin <= e.time <= until]
    refused = [event for event in tried if event.refused]
    if len(tried) < expected.attempts:
        return not_arisen(f"{len(tried)} entries were tried, {expected.attempts} are needed", begin)
    if len(refused) < len(tried):
        return failed("a forced entry was not refused", next(e.time for e in tried if not e.refused))
    named = [plan for plan in _plans(evidence, begin, until) if _is_refused_by(plan, expected.rule)]
    if not named:
        why = next(
            (str(p.get("refusal")) for p in _plans(evidence, begin, until)), "no plan is in the journal"
        )
        return failed(f"refused, but not by {expected.rule}: {why}", refused[0].time)
    return held(f"nothing opened; {len(refused)} forced {_entries(len(refused))} refused", refused[0].time)


def _entries(count: int) -> str:
    return "entry" if count == 1 else "entries"


def _plans(evidence: Evidence, begin: float, until: float) -> list[Record]:
    plans = [r for r in evidence.journal if r.get("kind") == "plan"]
    return [plan for plan in plans if begin <= float(plan.get("time") or 0.0) <= until]


def _is_refused_by(plan: Record, rule: str) -> bool:
    if plan.get("granted"):
        return False
    answers = plan.get("answers") or ()
    blocking = [answer.get("rule") for answer in answers if answer.get("outcome") != "fine"]
    return rule in blocking or str(plan.get("refusal") or "").startswith(f"{rule}:")


def allow_entries(expected: AllowEntries, evidence: Evidence, _: Scenario) -> Finding:
    """Find something that was opened."""
    found = evidence.opened_within(evidence.at(expected.after), evidence.at(expected.before))
    if found:
        return held(f"{name_of(found[0])} was opened", opened(found[0]))
    refusals = _plans(evidence, evidence.at(expected.after), evidence.at(expected.before))
    return failed(
        f"nothing was opened; {refusals[-1].get('refusal') if refusals else 'no plan was made'}", None
    )


def reduce_size(expected: ReduceSize, evidence: Evidence, _: Scenario) -> Finding:
    """Find that R of what was opened later is smaller."""
    after = evidence.at(expected.after)
    before_risks = _risks(evidence, evidence.began, after)
    later = _risks(evidence, after, evidence.ended)
    if not before_risks or not later:
        return not_arisen(f"{len(before_risks)} plans granted before it, {len(later)} after it", after)
    normal = max(risk for _, risk in before_risks)
    time, largest = max(later, key=lambda each: each[1])
    did = f"R of {largest / normal:.2f} of the former at most"
    return (held if largest <= normal * expected.factor * SIZE_TOLERANCE else failed)(did, time)


def _risks(evidence: Evidence, begin: float, until: float) -> list[tuple[float, float]]:
    # Of positions that were opened: R in the journal's plans may be lowered until the entry.
    found = []
    for trade in evidence.opened_within(begin, until):
        mine = [
            plan
            for plan in _plans(evidence, opened(trade) - 60.0, opened(trade) + 60.0)
            if plan.get("granted") and plan.get("pair") == trade["pair"] and plan.get("risk")
        ]
        if mine:
            found.append((opened(trade), float(min(plan["risk"] for plan in mine))))
    return found
