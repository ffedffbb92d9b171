"""Shared builders: the market the tests run on and the real candles where they are present."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
REAL_CANDLES = REPOSITORY.parent / "shared" / "data" / "binance"


@pytest.fixture(scope="session")
def real_candles() -> Path:
    """Freqtrade's data directory with real candles; a test that asks for it is skipped where there are none."""
    if not (REAL_CANDLES / "futures").is_dir():
        pytest.skip("the shared real candles are not on this machine")
    return REAL_CANDLES
