"""Which backtests `plimsoll compare` runs, and the classes it writes for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plimsoll.compare.errors import CompareError
from plimsoll.compare.variants import (
    LAYERS,
    Subject,
    Variant,
    check_layers,
    choose_layers,
    source,
    variants,
    write_classes,
)
from plimsoll.settings import load

STRATEGY = """
from plimsoll.host.guarded import Guarded
from plimsoll.host.risk_space import RiskSpace
from freqtrade.strategy import IStrategy


class Silent(IStrategy):
    timeframe = "1h"

    def populate_indicators(self, dataframe, metadata):
        return dataframe


class Plain(Silent):

    def leverage(self, *args, **kwargs):
        return 2.0


class Mine(Guarded, Plain):
    pass


class Own(Guarded, Silent):
    stoploss = -0.5


class Searched(RiskSpace, Plain):
    pass
"""


def subject(name: str = "Plain", *, guarded: bool = False, **values: Any) -> Subject:
    made: dict[str, Any] = {"file": Path("/nowhere/strategies.py"), "settings": load()} | values
    return Subject(strategy=name, guarded=guarded, **made)


def class_of(variant: Variant, of: Subject) -> type:
    namespace: dict[str, Any] = {
        "__name__": variant.strategy,
        "__file__": f"/elsewhere/{variant.strategy}.py",
    }
    exec(source(of, variant), namespace)
    made: type = namespace[variant.strategy]
    return made


@pytest.fixture(params=["compared-strategies", "random"])  # no import statement would find either
def file(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"{request.param}.py"
    path.write_text(STRATEGY)
    return path


def test_variants_when_layers_and_leverages_are_given_then_raw_and_guarded_come_first() -> None:
    found = variants(subject(settings=load({"off": ["kelly"]})), ["streak", "risk"], [3.0, 7.5])
    assert [each.name for each in found] == [
        "raw", "guarded", "without streak", "without risk", "raw at 3x", "raw at 7.5x",
    ]  # fmt: skip
    assert [each.off for each in found[:4]] == [
        (),
        ("kelly",),
        ("kelly", "streak"),
        ("kelly", "risk"),
    ]
    assert [each.strategy for each in found] == [
        "Plain", "GuardedPlain", "GuardedPlain", "GuardedPlain", "PlainAt3x", "PlainAt7_5x",
    ]  # fmt: skip
    assert [each.guarded for each in found] == [False, True, True, True, False, False]


def test_choose_layers_when_nothing_is_asked_then_leaves_out_what_does_nothing_and_says_why() -> None:
    chosen, left_out = choose_layers(subject(settings=load({"off": ["kelly"]})), None)
    assert set(chosen) | set(left_out) == set(LAYERS)
    assert set(left_out) == {"kelly", "deadman", "portfolio", "reward_risk"}
    assert left_out["kelly"] == "is off already"


@pytest.mark.parametrize(
    ("layer", "values"),
    [
        ("portfolio", {"shares_ledger": True}),
        ("reward_risk", {"has_target": True}),
        ("reward_risk", {"settings": load({"reward_risk": {"take_profit_r": 2.0}})}),
    ],
)
def test_choose_layers_when_a_layer_has_something_to_do_then_it_is_switched_off_in_turn(
    layer: str, values: dict[str, Any]
) -> None:
    assert layer in choose_layers(subject(**values), None)[0]
    assert layer not in choose_layers(subject(), None)[0]


def test_choose_layers_when_spot_then_leaves_out_what_belongs_to_futures() -> None:
    assert {"leverage", "funding", "margin_health"} <= set(choose_layers(subject(spot=True), None)[1])


def test_layers_when_some_are_asked_for_then_only_these_and_an_unknown_one_is_refused() -> None:
    assert choose_layers(subject(), ["streak", "deadman"]) == (
        ["streak"],
        {"deadman": "does nothing in a backtest: there is no operator"},
    )
    assert choose_layers(subject(), []) == ([], {})
    with pytest.raises(CompareError, match=r"must be of leverage, .* was strike"):
        check_layers(["streak", "strike"])
    check_layers(None)


def test_class_when_the_strategy_is_unguarded_then_raw_is_its_own_and_guarded_has_the_guard(
    file: Path,
) -> None:
    of = subject(file=file)
    raw, guarded, forced = variants(of, [], [3.0])
    assert source(of, raw) == ""
    config: dict[str, Any] = {}
    made: Any = class_of(guarded, of)(config)
    assert any(each.__name__ == "_Guard" for each in type(made).__mro__)
    instance: Any = class_of(forced, of)(config)
    asked = {
        "pair": "",
        "current_time": None,
        "current_rate": 1.0,
        "proposed_leverage": 1.0,
        "entry_tag": None,
    }
    assert instance.leverage(**asked, max_leverage=50.0, side="long") == 3.0
    assert instance.leverage(**asked, max_leverage=2.0, side="short") == 2.0


@pytest.mark.parametrize("name", ["Mine", "Own", "Searched"])
def test_class_when_the_strategy_is_guarded_then_raw_and_forced_ones_are_without_the_guard(
    file: Path, name: str
) -> None:
    of = subject(name, guarded=True, file=file)
    raw, guarded, forced = variants(of, [], [3.0])
    assert source(of, guarded) == ""
    for each in (raw, forced):
        made: Any = class_of(each, of)({})
        assert not any(base.__name__ == "_Guard" for base in type(made).__mro__)
        made.ft_load_hyper_params()
        assert "risk" not in made.get_no_optimize_params()
    # The control: the class itself has it.
    itself: Any = class_of(raw, of).__mro__[1]
    assert any(base.__name__ == "_Guard" for base in type(itself({})).__mro__)


def test_write_classes_when_the_strategy_has_parameters_then_each_class_gets_them_under_its_name(
    file: Path, tmp_path: Path
) -> None:
    of = subject(file=file)
    chosen = variants(of, ["streak"], [3.0])
    file.with_suffix(".json").write_text(json.dumps({"strategy_name": "Plain", "params": {"buy": {"n": 3}}}))
    write_classes(of, chosen, tmp_path / "made")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "GuardedPlain.json", "GuardedPlain.py", "PlainAt3x.json", "PlainAt3x.py",
    ]  # fmt: skip
    stored = json.loads((tmp_path / "made" / "PlainAt3x.json").read_text())
    assert stored == {"strategy_name": "PlainAt3x", "params": {"buy": {"n": 3}}}
    file.with_suffix(".json").unlink()
    write_classes(of, chosen, tmp_path / "made")
    assert not list((tmp_path / "made").glob("*.json"))
