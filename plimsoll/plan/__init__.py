"""The plan for one signal: every rule is asked, and the smallest wins."""

from plimsoll.plan.compose import make_plan
from plimsoll.plan.model import Account, Held, Market, Plan, Signal

__all__ = ["Account", "Held", "Market", "Plan", "Signal", "make_plan"]
