"""Settings: bounds, profiles, who wins, and every fault in one message."""

from typing import Any

import pytest
from pydantic import ValidationError

from plimsoll.rules.leverage import HARD_MAXIMUM_LEVERAGE
from plimsoll.settings import Settings, SettingsError, describe, load
from plimsoll.settings.load import FIELDS


def nested(key: str, value: Any) -> dict[str, Any]:
    section, _, name = key.partition(".")
    return {section: {name: value}} if name else {section: value}


def faults(**sources: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(**sources)
    return caught.value.faults


def test_settings_when_nothing_is_set_then_the_calibrated_defaults_hold() -> None:
    settings = load()
    assert settings.profile == "calibrated"
    assert settings.leverage.cap == 5.0
    assert settings.exposure.total_margin == 0.15
    assert settings.kelly.multiple == 0.25


def test_settings_when_profile_is_classic_then_its_column_holds_and_single_keys_override() -> None:
    settings = load({"profile": "classic", "kelly": {"multiple": 0.3}})
    assert settings.leverage.cap == 3.0
    assert settings.exposure.total_margin == 0.60
    assert settings.volatility.method == "daily"
    assert settings.kelly.method == "binary"
    assert settings.kelly.multiple == 0.3


@pytest.mark.parametrize("profile", ["calibrated", "classic"])
def test_settings_when_a_profile_is_written_out_then_it_is_valid_itself(profile: str) -> None:
    settings = load({"profile": profile})
    assert Settings.model_validate(settings.model_dump()) == settings


def test_settings_when_frozen_then_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load().risk.per_trade = 0.5  # type: ignore[misc]


def test_settings_when_several_faults_then_all_are_in_one_message_with_key_value_and_range() -> None:
    found = faults(
        config={"risk": {"per_trade": 0.05, "tpyo": 1}, "nonsense": 2, "leverage": {"cap": 7.0}, "kelly": 3}
    )
    text = "\n".join(found)
    assert len(found) == 5
    assert "risk.per_trade = 0.05: allowed is (0.0, 0.02]" in text
    assert "leverage.cap = 7.0: allowed is [1.0, 5.0]" in text
    assert "`risk.tpyo` is no setting" in text
    assert "`nonsense` is no setting" in text
    assert "kelly (config) = 3" in text


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("leverage.cap", HARD_MAXIMUM_LEVERAGE, HARD_MAXIMUM_LEVERAGE + 1e-9),
        ("risk.per_trade", 0.02, 0.0200001),
        ("exposure.position_margin", 0.25, 0.2500001),
        ("leverage.hard_stop_to_liquidation", 0.65, 0.6500001),
        ("kelly.multiple", 0.5, 0.5000001),
        ("volatility.exceedance", 0.001, 0.00099),
        ("drawdown.limit", 0.999, 1.0),
    ],
)
def test_settings_when_a_value_is_just_inside_its_bound_then_valid_and_just_outside_then_refused(
    key: str, inside: float, outside: float
) -> None:
    load(nested(key, inside))
    assert any(key in fault for fault in faults(config=nested(key, outside)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "0.01", True, None, [0.01]])
def test_settings_when_a_ratio_is_no_finite_number_then_refused(bad: Any) -> None:
    assert "risk.per_trade" in faults(config={"risk": {"per_trade": bad}})[0]


@pytest.mark.parametrize("source", [3, "x", [1]])
def test_settings_when_the_section_is_no_mapping_then_refused(source: Any) -> None:
    assert "must be a mapping" in faults(config=source)[0]


def test_settings_when_both_set_a_limit_then_the_tighter_wins() -> None:
    strategy = {"risk": {"per_trade": 0.008}, "leverage": {"min_liquidation_distance": 0.2}}
    assert load({"risk": {"per_trade": 0.005}}, strategy).risk.per_trade == 0.005
    assert load({"risk": {"per_trade": 0.009}}, strategy).risk.per_trade == 0.008
    assert (
        load({"leverage": {"min_liquidation_distance": 0.3}}, strategy).leverage.min_liquidation_distance
        == 0.3
    )
    assert (
        load({"leverage": {"min_liquidation_distance": 0.1}}, strategy).leverage.min_liquidation_distance
        == 0.2
    )


def test_settings_when_the_config_says_so_explicitly_then_its_looser_value_wins() -> None:
    config = {"override": ["risk.per_trade"], "risk": {"per_trade": 0.009}}
    assert load(config, {"risk": {"per_trade": 0.008}}).risk.per_trade == 0.009


def test_settings_when_override_names_no_setting_then_refused() -> None:
    assert "override: `risk.nothing` is no setting" in faults(config={"override": ["risk.nothing"]})


def test_settings_when_a_method_is_set_by_both_then_the_strategys_stands_unless_overridden() -> None:
    strategy = {"volatility": {"method": "daily"}}
    assert load({"volatility": {"method": "blend"}}, strategy).volatility.method == "daily"
    config = {"override": ["volatility.method"], "volatility": {"method": "blend"}}
    assert load(config, strategy).volatility.method == "blend"


def test_settings_when_a_permission_is_set_by_both_then_the_refusal_wins() -> None:
    permissive, strict = {"gates": {"allow_cross_margin": True}}, {"gates": {"allow_cross_margin": False}}
    assert load(strict, permissive).gates.allow_cross_margin is False
    assert load(permissive, strict).gates.allow_cross_margin is False


def test_settings_when_one_has_no_cap_then_the_others_cap_wins() -> None:
    assert load({"exposure": {"max_long": 2}}, {"exposure": {"max_long": None}}).exposure.max_long == 2
    assert load({"exposure": {"max_long": None}}, {"exposure": {"max_long": 2}}).exposure.max_long == 2


def test_settings_when_the_config_is_tighter_but_invalid_then_the_fault_is_not_hidden() -> None:
    assert any(
        "risk.per_trade" in f
        for f in faults(config={"risk": {"per_trade": -1.0}}, strategy={"risk": {"per_trade": 0.01}})
    )


def test_settings_when_two_limits_contradict_then_refused() -> None:
    assert "loss_limit.daily = 0.3: must not be above loss_limit.weekly = 0.15" in faults(
        config={"loss_limit": {"daily": 0.3}}
    )


def test_settings_when_described_then_every_key_has_meaning_and_every_number_a_unit() -> None:
    described = list(describe())
    assert len(described) == len(FIELDS) > 80
    for key, field, allowed in described:
        assert field.description, key
        assert allowed, key
        if field.annotation in (float, int):
            assert field.json_schema_extra["unit"], key  # type: ignore[index,call-overload]


def test_settings_when_values_come_from_the_environment_then_freqtrades_types_are_taken() -> None:
    from freqtrade.configuration.environment_vars import _flat_vars_to_nested_dict

    variables = {
        "FREQTRADE__PLIMSOLL__RISK__PER_TRADE": "0.005",
        "FREQTRADE__PLIMSOLL__LEVERAGE__CAP": "2",
        "FREQTRADE__PLIMSOLL__EXPOSURE__ADD_TO_LOSERS": "true",
        "FREQTRADE__PLIMSOLL__OFF": '["kelly"]',
    }
    settings = load(_flat_vars_to_nested_dict(variables, "FREQTRADE__")["plimsoll"])
    assert (settings.risk.per_trade, settings.leverage.cap) == (0.005, 2.0)
    assert settings.exposure.add_to_losers is True
    assert settings.off == ("kelly",)


def test_settings_when_a_ladder_comes_from_json_then_it_is_taken_and_a_bad_one_named() -> None:
    ladder = [[0.05, 0.75, 3], [0.1, 0.5, None]]
    assert load({"drawdown": {"ladder": ladder}}).drawdown.ladder == ((0.05, 0.75, 3.0), (0.1, 0.5, None))
    assert any(
        "drawdown.ladder" in f
        for f in faults(config={"drawdown": {"ladder": [[0.1, 0.5, 3.0], [0.05, 0.75, 3.0]]}})
    )
