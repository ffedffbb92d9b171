"""Shared builders: the market the tests run on and the real candles where they are present."""

from __future__ import annotations

import signal
from pathlib import Path

import hypothesis
import pytest
from postgres import postgres_server as postgres_server  # fixtures for every test
from postgres import postgres_url as postgres_url

# A deadline, or a limit of what drawing may take, would make each a timed test, on a machine that does other things.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")

REPOSITORY = Path(__file__).parents[1]
REAL_CANDLES = REPOSITORY.parent / "shared" / "data" / "binance"


def pytest_configure(config: pytest.Config) -> None:
    """Take SIGINT as usual: a shell's background job starts with it ignored, and so would every bot that a test stops."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a PostgreSQL server: it belongs into the suite and not into its quick part."""
    for item in items:
        asked = set(getattr(item, "fixturenames", ())) & {"postgres_server", "postgres_url"}
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if asked or any(isinstance(value, str) and value == "postgresql" for value in parameters.values()):
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def real_candles() -> Path:
    """Freqtrade's data directory with real candles; a test that asks for it is skipped where there are none."""
    if not (REAL_CANDLES / "futures").is_dir():
        pytest.skip("the shared real candles are not on this machine")
    return REAL_CANDLES
