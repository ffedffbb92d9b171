"""Limits across bots: a ledger in SQL that all bots of one owner share."""

from plimsoll.portfolio.configured import ENVIRONMENT, address, limits_of
from plimsoll.portfolio.connection import LedgerFault
from plimsoll.portfolio.ledger import Ledger
from plimsoll.portfolio.standing import Standing
from plimsoll.rules.portfolio import Decision, Limits
from plimsoll.rules.portfolio_claims import Change, Holding

__all__ = [
    "ENVIRONMENT",
    "Change",
    "Decision",
    "Holding",
    "Ledger",
    "LedgerFault",
    "Limits",
    "Standing",
    "address",
    "limits_of",
]
