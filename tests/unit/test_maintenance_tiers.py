"""Maintenance tiers in the forms in which Freqtrade has them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from plimsoll.doctor.setup import Setup
from plimsoll.doctor.typical import tiers_of
from plimsoll.figures import maintenance_tiers
from plimsoll.maintenance_tiers import binance_tiers, tier_of_freqtrade
from plimsoll.market.positions import leverage_tiers
from plimsoll.rules.liquidation import MaintenanceTier

TIER: dict[str, Any] = {"minNotional": 0, "maxNotional": 5000.0, "maintenanceMarginRate": 0.01}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"maintAmt": 25.0, "maxLeverage": 50}, MaintenanceTier(0.0, 5000.0, 0.01, 25.0, 50.0)),
        ({"info": {"cum": "25.0"}}, MaintenanceTier(0.0, 5000.0, 0.01, 25.0)),
        ({"maintAmt": None, "info": {}}, MaintenanceTier(0.0, 5000.0, 0.01, 0.0)),
        ({"maxNotional": None, "info": None}, MaintenanceTier(0.0, math.inf, 0.01, 0.0)),
    ],
)
def test_tier_when_in_freqtrades_or_ccxts_form_then_is_the_same(
    more: dict[str, Any], expected: MaintenanceTier
) -> None:
    assert tier_of_freqtrade(TIER | more) == expected


def test_tiers_when_read_by_figures_stress_and_doctor_then_are_one_table() -> None:
    pair = "BTC/USDT:USDT"
    setup = Setup(stated={}, config={"exchange": {"name": "binance"}})
    assert binance_tiers()[pair] == leverage_tiers(pair) == maintenance_tiers()[pair] == tiers_of(setup, pair)
    assert binance_tiers()[pair][0].maintenance_amount == 0.0 < binance_tiers()[pair][1].maintenance_amount
