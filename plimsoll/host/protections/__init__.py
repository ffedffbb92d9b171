"""What the drop-in files of ``protections/`` share: parameters, the fold over Freqtrade's trades, locks, and
how they are found.

A Freqtrade protection is asked only after a trade closed (in a backtest also after a partial exit), is told
no price, and answers with the end of a lock. So it sees realised profit only. The mixin's breakers see open
loss in every loop; these cannot.

Nothing is stored: what a protection knows follows from Freqtrade's trades, and from locks that an operator
removed, which re-arm it with a new reference. Offline the trades are taken up one by one; with a database all
of them are folded anew at each close.
"""

from plimsoll.host.protections.finding import DIRECTORY, use
from plimsoll.host.protections.folds import CLOSED_ONLY, REALISED_READINGS, EquityProtection, TradeProtection
from plimsoll.host.protections.parameters import (
    Parameter,
    baseline,
    count,
    flag,
    lookback,
    number,
    ratio,
    text,
)
from plimsoll.host.protections.realised import exits

__all__ = [
    "CLOSED_ONLY",
    "DIRECTORY",
    "REALISED_READINGS",
    "EquityProtection",
    "Parameter",
    "TradeProtection",
    "baseline",
    "count",
    "exits",
    "flag",
    "lookback",
    "number",
    "ratio",
    "text",
    "use",
]
