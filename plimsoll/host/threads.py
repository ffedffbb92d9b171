"""One lock per planner: force commands run in the threads of the API and of Telegram, beside the bot's own loop.

Locks live here and not on the strategy, which parallel hyperopt pickles; this module is imported by reference.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from threading import Lock, RLock
from typing import Any, Concatenate, ParamSpec, TypeVar

from plimsoll.host import internals

Given = ParamSpec("Given")
Answer = TypeVar("Answer")
Owner = TypeVar("Owner")

PATIENCE = (
    20.0  # seconds; a loop of ours takes milliseconds, so whoever waits longer has met a hanging database
)

_locks: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
_making = Lock()


class Busy(Exception):
    """Say that another thread held the planner for too long."""


@contextmanager
def one_at_a_time(owner: Any) -> Iterator[None]:
    """Let one thread at a time work with an owner; the same thread may enter again.

    :raises Busy: rather than wait without end, so that a fault in one thread never becomes a deadlock of the bot.
    """
    lock = _locks.get(owner)
    if lock is None:
        with _making:
            lock = _locks.setdefault(owner, RLock())
    if not lock.acquire(timeout=PATIENCE):
        raise Busy(f"another thread has been at work for {PATIENCE:g} seconds")
    try:
        yield
    finally:
        lock.release()


def alone(method: Callable[Concatenate[Owner, Given], Answer]) -> Callable[Concatenate[Owner, Given], Answer]:
    """Let one thread at a time into a method of its owner, or of ``lock_of`` where it has one; offline there is one thread only."""

    def entered(self: Owner, /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        if internals.is_offline():
            return method(self, *args, **kwargs)
        with one_at_a_time(getattr(self, "lock_of", self)):
            return method(self, *args, **kwargs)

    update_wrapper(entered, method)
    return entered
