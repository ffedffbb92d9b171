"""What the guard decided, from its journal: entries refused, sizes granted, breakers tripped, R kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from plimsoll.figures import maintenance_tiers, stop_and_liquidation, tripped
from plimsoll.report.evidence import Evidence, Record
from plimsoll.worst_prices import worst_rate

GRANTED: Final = "granted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Hold the entries refused for one reason, and what the raw run's trades of the same signals made.

    ``matched`` of the ``entries`` have a trade in the raw run of the same pair, side and candle; the others are not valued.
    Amounts in stake currency at the raw run's sizes; ``mean_return`` is on notional, None where nothing matched.
    """

    reason: str
    entries: int
    matched: int
    gains_missed: float
    losses_saved: float
    mean_return: float | None

    @property
    def made(self) -> float:
        return self.gains_missed - self.losses_saved


@dataclass(frozen=True, slots=True)
class Trip:
    """Hold a breaker's change from armed to blocking."""

    time: pd.Timestamp
    breaker: str
    pair: str
    reason: str

    @property
    def family(self) -> str:
        """Return the breaker's kind: those of single pairs carry the pair in their name."""
        return self.breaker.split(" ")[0]


def refused(guarded: Evidence, raw: Evidence | None) -> list[Refused]:
    """Count refused entries by reason, most first, and value those that the raw run took; the last row is what was granted."""
    reasons: dict[str, list[Record]] = {}
    for plan in guarded.plans:
        reason = GRANTED if plan["granted"] else str(plan["refusal"]).split(":")[0]
        reasons.setdefault(reason, []).append(plan)
    trades = _by_signal(raw)
    rows = [_refused(reason, plans, trades) for reason, plans in reasons.items()]
    return sorted(rows, key=lambda row: (row.reason == GRANTED, -row.entries, row.reason))


def _by_signal(raw: Evidence | None) -> dict[tuple[int, str, str], Any]:
    if raw is None:
        return {}
    trades = raw.trades
    keys = zip(trades["open_timestamp"] // 1000, trades["pair"], trades["side"], strict=True)
    notional = trades["max_stake_amount"] * trades["leverage"]
    values = zip(trades["profit_abs"], notional, strict=True)
    return dict(zip(keys, values, strict=True))


def _refused(reason: str, plans: Sequence[Record], trades: dict[tuple[int, str, str], Any]) -> Refused:
    found = [trades.get((int(plan["time"]), plan["pair"], plan["side"])) for plan in plans]
    made = [(profit, notional) for profit, notional in filter(None, found) if notional > 0.0]
    return Refused(
        reason=reason,
        entries=len(plans),
        matched=len(made),
        gains_missed=sum(max(profit, 0.0) for profit, _ in made),
        losses_saved=sum(max(-profit, 0.0) for profit, _ in made),
        mean_return=sum(profit / notional for profit, notional in made) / len(made) if made else None,
    )


def trips(guarded: Evidence) -> list[Trip]:
    """Return every change of a breaker from armed to blocking, in order of time."""
    return [
        Trip(
            pd.Timestamp(int(record["time"]), unit="s", tz="UTC"),
            str(record["breaker"]),
            str(record["pair"]),
            str(record["reason"]),
        )
        for record in tripped(guarded.records or ())
    ]


def sizes(evidence: Evidence) -> pd.DataFrame:
    """Return ``time``, ``leverage``, ``size`` (notional / equity) and the rules that bound both, for each entry.

    From the granted plans where there is a journal, with open losses in equity; else from the trades, with the balance of what
    had closed by then, and no rules.
    """
    columns = ["time", "pair", "side", "leverage", "size", "bound_leverage", "bound_size"]
    if evidence.records is not None:
        rows = [
            (
                plan["time"] * 1000,
                plan["pair"],
                plan["side"],
                plan["leverage"],
                plan["notional"] / plan["equity"] if plan["equity"] else None,
                str(plan["bound_leverage"] or "nothing"),
                str(plan["bound_size"] or "nothing"),
            )
            for plan in evidence.plans
            if plan["granted"]
        ]
        frame = pd.DataFrame(rows, columns=columns)
    else:
        trades = evidence.trades
        closed = trades.sort_values("close_timestamp")
        earned = closed["profit_abs"].cumsum().to_numpy()
        known = closed["close_timestamp"].searchsorted(trades["open_timestamp"], side="right")
        balance = pd.Series([evidence.balance + (earned[n - 1] if n else 0.0) for n in known], dtype=float)
        size = trades["stake_amount"] * trades["leverage"] / balance.where(balance > 0.0)
        frame = trades[["open_timestamp", "pair", "side", "leverage"]].assign(size=size)
        frame = frame.rename(columns={"open_timestamp": "time"}).assign(bound_leverage="", bound_size="")
    frame["time"] = pd.to_datetime(frame["time"], unit="ms", utc=True)
    return frame


def outcomes(guarded: Evidence) -> pd.DataFrame:
    """Return closed trades with ``planned`` R in stake currency, ``profit`` and ``realised`` in R, unplanned ones left out."""
    columns = ["pair", "side", "opened", "exit_reason", "planned_risk", "profit", "realised_r"]
    frame = pd.DataFrame(guarded.of_kind("outcome"), columns=columns)
    frame = frame.dropna(subset=["planned_risk", "realised_r"])
    frame = frame.rename(columns={"planned_risk": "planned", "realised_r": "realised"})
    frame["opened"] = pd.to_datetime(frame["opened"], unit="s", utc=True)
    return frame.astype({"planned": float, "profit": float, "realised": float})


def distances(evidence: Evidence) -> pd.DataFrame:
    """Return each trade's distances from its entry, as ratios of price: ``liquidation``, ``stop`` and the ``worst`` price seen.

    Liquidation is Plimsoll's, at the true maintenance tier and buffered as Freqtrade buffers it; NaN where the pair's tiers are not
    known. The stop is the one it was filled with. ``exact`` is whether the worst price is the candles', not the export's.
    """
    planned = {(r["pair"], r["opened"]): r.get("stop_price_ratio") for r in evidence.of_kind("outcome")}
    tiers, rows, exact = maintenance_tiers(), [], []
    for trade in evidence.trades.to_dict("records"):
        opened, sign = float(trade["open_rate"]), 1.0 if trade["is_short"] else -1.0
        ratio = planned.get((trade["pair"], trade["open_timestamp"] // 1000))
        stop, liquidation = stop_and_liquidation(trade, ratio, tiers, evidence.buffer)
        worst, known = worst_rate(trade)
        exact.append(known)
        rows.append([max(sign * (price / opened - 1.0), 0.0) for price in (liquidation, stop, worst)])
    places = ["pair", "side", "opened", "exit_reason", "profit_ratio"]
    found = pd.DataFrame(rows, columns=["liquidation", "stop", "worst"], dtype=float).assign(exact=exact)
    return pd.concat([evidence.trades[places].reset_index(drop=True), found], axis=1)
