"""What a process remembers of its bots is forgotten before each test: files run in any order, in any worker."""

from __future__ import annotations

import pytest

from plimsoll.host import start


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bot has traded in this process yet."""
    monkeypatch.setattr(start, "_process", {"has_traded": False})
