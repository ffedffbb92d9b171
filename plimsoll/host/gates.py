"""What the host itself knows against entering: faults at the start, answers that cannot be used, breakers, the loop's checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from plimsoll.host import internals
from plimsoll.host.breakers import BOT_WIDE
from plimsoll.rules.answer import Answer, gate

if TYPE_CHECKING:
    from plimsoll.host.planner import Planner


class Gates:
    """Hold what blocks every pair or one, beside what the breakers and the trading loop say."""

    def __init__(self, planner: Planner) -> None:
        self.blockers: dict[str, str] = {}  # subject -> why no pair may be entered
        self._planner = planner
        self._pair_blockers: dict[str, dict[str, str]] = {}  # pair -> subject -> why it may not be entered

    def answers(self, pair: str) -> Iterator[Answer]:
        """Yield what the host itself knows against entering a pair."""
        yield from self._bot_wide()
        for subject, reason in self._pair_blockers.get(pair, {}).items():
            yield gate(subject, False, reason, {})
        yield from self._planner.run().breakers.answers(pair)

    def closed(self, pair: str) -> str | None:
        """Return why no new risk may be taken in a pair at this moment, None where it may."""
        closed = next((answer for answer in self.answers(pair) if answer.blocks), None)
        return None if closed is None else f"{closed.rule}: {closed.reason}"

    def _bot_wide(self) -> Iterator[Answer]:
        for subject, reason in self.blockers.items():
            yield gate(subject, False, reason, {})
        if not internals.is_offline():
            yield from self._planner.trading.gates()

    def bot_wide_blocks(self) -> list[str]:
        """Return what blocks every pair, each with its reason."""
        answers = (*self._bot_wide(), *self._planner.run().breakers.answers(BOT_WIDE))
        return [f"{answer.rule}: {answer.reason}" for answer in answers if answer.blocks]

    def unusable(self, pair: str, callback: str, error: Exception, *, blocks: bool) -> None:
        """Report a strategy's unusable answer; where it belongs to an entry it blocks the pair until it is usable again."""
        self._planner.complaints.about(f"{callback} {pair}", str(error), error)
        if blocks:
            self._pair_blockers.setdefault(pair, {})[callback] = str(error)

    def usable(self, pair: str, callback: str) -> None:
        """Take back what :meth:`unusable` said."""
        self._planner.complaints.settled(f"{callback} {pair}")
        self._pair_blockers.get(pair, {}).pop(callback, None)

    @contextmanager
    def analysing(self, pair: str, step: str) -> Iterator[None]:
        """Block a pair whose analysis failed: a trading bot would go on with the last signal it found."""
        try:
            yield
        except Exception as error:
            self._pair_blockers.setdefault(pair, {})[step] = f"{step} raised {error!r}"
            raise
        self._pair_blockers.get(pair, {}).pop(step, None)
