"""The host's correlations against the rule, hour by hour, and what they do without history."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plimsoll.host import internals
from plimsoll.host.correlations import Correlations
from plimsoll.rules.correlation import ewma_correlation
from plimsoll.settings import load

HOUR = 3600
BEGIN = 400_000  # hours since the epoch
PAIRS = ("A/USDT:USDT", "B/USDT:USDT", "C/USDT:USDT")


def market(seed: int, hours: int, missing: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return log returns (hours, 3) with gaps, and closes of which they are the returns."""
    random = np.random.default_rng(seed)
    shared = random.standard_t(4, (hours, 1))
    prices = np.exp(np.cumsum(0.01 * (0.7 * shared + 0.7 * random.standard_t(4, (hours, 3))), axis=0))
    present = random.random((hours, 3)) >= missing
    present[[0, -1]] = True
    closes = np.where(present, prices, np.nan)
    return np.diff(np.log(closes), axis=0), [closes[:, i] for i in range(3)]


def filled(closes: list[np.ndarray]) -> Correlations:
    made = Correlations(load())
    for pair, close in zip(PAIRS, closes, strict=True):
        known = np.flatnonzero(np.isfinite(close))
        made.add(pair, (BEGIN + known) * HOUR, close[known])
    return made


@pytest.mark.parametrize("offline", [True, False])
@given(seed=st.integers(0, 10_000), missing=st.sampled_from([0.0, 0.05, 0.5]), hours=st.integers(300, 1800))
@hypothesis_settings(max_examples=15, deadline=None)
def test_correlations_when_asked_at_any_hour_then_are_the_rules(offline, seed, missing, hours):
    returns, closes = market(seed, hours, missing)
    at = int(np.random.default_rng(seed).integers(200, hours))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(internals, "is_offline", lambda: offline)
        made = filled(closes)
        toward, among = made.between(PAIRS[0], PAIRS[1:], (BEGIN + at + 1) * HOUR + 17)
    # Hour `at` has the return of row at - 1; later rows must not matter.
    rho = ewma_correlation(returns[:at], half_life_hours=168.0, window_hours=720, min_hours=168)
    np.testing.assert_allclose(toward, rho[0, 1:], atol=1e-9)
    np.testing.assert_allclose(among, [[1.0, rho[1, 2]], [rho[2, 1], 1.0]], atol=1e-9)


@pytest.mark.parametrize("offline", [True, False])
def test_correlations_when_the_future_changes_then_the_past_does_not(offline, monkeypatch):
    monkeypatch.setattr(internals, "is_offline", lambda: offline)
    _, closes = market(1, 1000, 0.0)
    now = (BEGIN + 700) * HOUR
    before = filled([close[:700] for close in closes]).between(PAIRS[0], PAIRS[1:], now)
    wild = [np.concatenate((close[:700], close[700:] * 9.0)) for close in closes]
    after = filled(wild).between(PAIRS[0], PAIRS[1:], now)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("offline", [True, False])
def test_correlations_when_history_is_short_or_missing_then_unknown(offline, monkeypatch):
    monkeypatch.setattr(internals, "is_offline", lambda: offline)
    _, closes = market(2, 400, 0.0)
    made = filled(closes)

    def at(hours: int, held: tuple[str, ...]) -> np.ndarray:
        return made.between(PAIRS[0], held, (BEGIN + hours + 1) * HOUR)[0]

    assert np.isnan(at(167, PAIRS[1:2])).all()
    assert np.isfinite(at(168, PAIRS[1:2])).all()
    assert np.isnan(at(300, ("X/USDT:USDT",))).all()
    assert at(300, (PAIRS[0],)) == pytest.approx([1.0])
    assert made.between(PAIRS[0], (), (BEGIN + 300) * HOUR)[1].shape == (0, 0)
    made.add(PAIRS[1], np.empty(0, dtype=np.int64), np.empty(0))
    assert np.isnan(at(300, PAIRS[1:2])).all()
