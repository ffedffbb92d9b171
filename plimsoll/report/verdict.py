"""The comparison in one sentence, without taking the guard's side."""

from __future__ import annotations

from plimsoll.figure_table import amount
from plimsoll.figures import Figures

ROUNDING = 5e-5  # of the wallet: what the page shows as the same


def verdict(strategy: str, currency: str, decimals: int, raw: Figures | None, guarded: Figures | None) -> str:
    """Say what each run ended with and what the guard changed, for better or worse; ``decimals`` are the currency's."""
    if raw is None or guarded is None:
        known = guarded or raw
        if known is None:
            return f"There is neither a raw nor a guarded run of {strategy}: nothing can be compared."
        name = f"{strategy}, {'guarded' if guarded else 'as it is'},"
        return (
            f"{name} {_ended(known, currency, decimals)}; the other run is missing, so nothing is compared."
        )
    if not raw.trades and not guarded.trades:
        return f"{strategy} never traded, neither as it is nor guarded: nothing is shown by these candles."
    if not guarded.trades:
        return f"Guarded, {strategy} never traded; as it is, it {_ended(raw, currency, decimals)}."
    return (
        f"Guarded, {strategy} {_ended(guarded, currency, decimals)}; as it is, it {_ended(raw, currency, decimals)}:"
        f" {_judgement(raw, guarded)}."
    )


def _ended(figures: Figures, currency: str, decimals: int) -> str:
    if not figures.trades:
        return "never traded"
    return (
        f"ended at {amount(figures.final_balance, decimals)} {currency} ({figures.profit:+.1%}) with a drawdown of"
        f" {figures.max_drawdown:.1%}"
    )


def _judgement(raw: Figures, guarded: Figures) -> str:
    more = guarded.profit - raw.profit
    deeper = guarded.max_drawdown - raw.max_drawdown
    if abs(more) < ROUNDING and abs(deeper) < ROUNDING:
        return "the guard changed nothing"
    if more >= -ROUNDING and deeper <= ROUNDING:
        if guarded.profit < 0.0:
            return "the guard made the loss smaller, not the strategy profitable"
        return "a smaller drawdown, and no return given up for it"
    if deeper <= ROUNDING:
        return "the smaller drawdown was paid for with return"
    if more >= -ROUNDING:
        return "more return, for a deeper drawdown"
    return "on these candles the guard made both return and drawdown worse"
