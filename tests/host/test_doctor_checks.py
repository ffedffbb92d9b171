"""Every check of the doctor: a setup that fails it and one that passes, thresholds from both sides, fixes that mend."""

from __future__ import annotations

import json
import shlex
import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import freqtrade
import pytest
from doctor_cases import BY_HAND, CASES, ERROR, NOTE, UNKNOWN, WARNING, Case
from doctor_world import BTC, REPOSITORY, SUI, World, found, severities, strategy
from doctor_world import market as market
from doctor_world import world as world

from plimsoll.doctor import checks as checks
from plimsoll.doctor.checks.environment import TESTED
from plimsoll.doctor.finding import CHECKS, Part, Severity
from plimsoll.doctor.setup import Setup
from plimsoll.doctor.typical import typical_plans, why_no_tiers


@pytest.mark.parametrize("case", CASES, ids=[f"{case.check}-{place}" for place, case in enumerate(CASES)])
def test_check_when_a_setup_is_changed_then_it_is_found_or_passes(
    case: Case, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.change(world)
    findings = found(world.examine(monkeypatch), case.check)
    if case.severity is None:
        assert findings == []
        return
    assert case.severity in severities(findings), findings
    said = next(finding for finding in findings if finding.severity is case.severity)
    assert case.words in f"{said.what} {said.why} {said.fix}"
    if case.severity is not UNKNOWN:
        assert said.why
        assert said.fix
    if said.fix.startswith('"') or "# in the strategy" in said.fix:
        after = found(world.mend(said.fix), case.check)
        assert case.severity not in severities(after) or case.check in BY_HAND, after


VERSIONS = [
    ("2026.6", ERROR),
    ("2026.7", None),
    ("2026.9.2", None),
    ("2026.10-dev-a1b2c3", WARNING),
    ("2027.1", WARNING),
    ("develop", UNKNOWN),
]


@pytest.mark.parametrize(("version", "severity"), VERSIONS)
def test_freqtrade_version_when_outside_the_tested_range_then_it_is_found(
    version: str, severity: Severity | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freqtrade.__version__", version)
    findings = found(Setup(stated={}, config={}), "freqtrade_version")
    assert severities(findings) == ({severity} if severity else set())


def test_checks_when_registered_then_each_has_a_case_that_fails_and_one_that_passes() -> None:
    failing = {case.check for case in CASES if case.severity is not None} | {"freqtrade_version"}
    passing = {case.check for case in CASES if case.severity is None} | {"freqtrade_version"}
    assert set(CHECKS) - failing == set()
    assert set(CHECKS) - passing == set()


@pytest.mark.parametrize("name", sorted(set(CHECKS) - {"freqtrade_refuses"}))  # that one says what is missing
def test_check_when_a_part_is_missing_then_it_is_unknown_and_not_passed(name: str) -> None:
    missing = dict.fromkeys(Part, "it is not there")
    findings = CHECKS[name].run(Setup(stated={}, config={}, missing=missing))
    assert severities(findings) == {UNKNOWN}
    assert findings[0].what == "it is not there"


def test_check_when_it_fails_itself_then_that_is_said_and_nothing_escapes() -> None:
    # A setup without an exchange section.
    findings = CHECKS["liquidation_buffer"].run(
        Setup(stated={}, config={"trading_mode": "futures", "liquidation_buffer": "a lot"})
    )
    assert severities(findings) == {UNKNOWN}
    assert "the check itself failed" in findings[0].what


def test_base_stop_when_just_inside_and_just_outside_the_guards_stop_then_only_the_tighter_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = typical_plans(world.examine(monkeypatch)).values()
    guards = max(plan.stop_price_ratio * plan.leverage for plan in plans)
    assert guards < 0.25
    for factor, expected in ((1.001, set()), (0.999, {WARNING})):
        world.config["stoploss"] = -guards * factor
        again = world.mend(f'"stoploss": {-guards * factor}')
        assert severities(found(again, "base_stop_against_guard")) == expected


def test_minimum_stake_when_the_wallet_is_just_under_and_at_what_the_fix_says_then_only_the_smaller_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.config["dry_run_wallet"], world.status = 100, None
    (finding,) = found(world.examine(monkeypatch), "minimum_stake")
    needed = int(finding.fix.split("   #")[0].split(": ")[1])
    assert 100 < needed < 2000
    assert found(world.mend(f'"dry_run_wallet": {needed}'), "minimum_stake") == []
    assert severities(found(world.mend(f'"dry_run_wallet": {needed * 0.99}'), "minimum_stake")) == {WARNING}


@pytest.mark.parametrize(
    ("exposure", "can_short", "expected"),
    [
        ({"max_short": 0}, True, {NOTE}),  # a valid setting: longs are granted
        ({"max_long": 0, "max_short": 0}, True, {ERROR}),
        ({"max_long": 0}, False, {ERROR}),
        ({"max_short": 0}, False, set()),
    ],
)
def test_no_entry_when_a_side_is_refused_then_only_a_pair_without_any_side_trades_nothing(
    exposure: dict[str, int],
    can_short: bool,
    expected: set[Severity],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.config["plimsoll"] |= {"exposure": exposure}
    world.source = strategy(f"can_short = {can_short}")
    findings = found(world.examine(monkeypatch), "no_entry_granted")
    assert severities(findings) == expected, findings
    assert all(BTC in finding.what and SUI in finding.what for finding in findings)


def test_no_entry_when_one_pair_has_no_side_and_another_one_then_each_is_told_for_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = world.examine(monkeypatch)
    plans = typical_plans(setup)
    for key in ((SUI, "long"), (SUI, "short"), (BTC, "short")):
        plans[key] = replace(plans[key], refusal="a reason")
    first, second = found(setup, "no_entry_granted")
    assert (first.severity, second.severity) == (WARNING, NOTE)
    assert "entries are refused in SUI/USDT:USDT: a reason" in first.what
    assert "shorts are refused in BTC/USDT:USDT: a reason" in second.what


@pytest.mark.parametrize(
    ("exchange", "asked", "words"),
    [
        ("bybit", False, "--online asks the exchange"),
        ("bybit", True, "told none"),
        ("Binance", False, "the installed Freqtrade"),
        ("binance", True, "the installed Freqtrade"),
    ],
)
def test_tiers_when_unknown_then_says_where_that_exchanges_come_from(
    exchange: str, asked: bool, words: str
) -> None:
    setup = Setup(stated={}, config={"exchange": {"name": exchange}}, exchange=object() if asked else None)
    assert words in why_no_tiers(setup, BTC)


def test_fix_when_a_path_has_a_space_then_the_shell_takes_it_as_one_word(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.root = tmp_path / "my bots; $HOME"
    world.root.mkdir()
    world.parameters = "{"
    world.config["plimsoll"] |= {"portfolio": {"ledger": str(world.root / "of all" / "ledger.sqlite")}}
    world.touch.append(lambda world: world.file(SUI, "1h", "futures").unlink())
    setup = world.examine(monkeypatch)
    (download,) = found(setup, "candle_files")
    words = shlex.split(download.fix)
    assert words[:4] == ["freqtrade", "download-data", "-c", str(world.root / "config.json")]
    assert words[words.index("--pairs") + 1] == SUI
    for check in ("ledger_place", "parameter_file"):
        (finding,) = found(setup, check)
        subprocess.run(finding.fix, shell=True, check=True, cwd=tmp_path)
        assert found(setup, check) == []


def test_fix_when_bots_need_a_ledger_then_its_line_is_json_in_any_directory(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / 'the "first" bot'
    place.mkdir()
    monkeypatch.chdir(place)
    world.other_bots = ("Other",)
    (finding,) = found(world.examine(monkeypatch), "several_bots")
    line = finding.fix.partition("; and ")[2].partition("   #")[0]
    section = json.loads("{" + line + "}")["plimsoll"]
    assert section == {"portfolio": {"ledger": str(place / "user_data" / "ledger.sqlite")}}


def test_typical_plan_when_volatility_differs_then_the_calmer_pair_gets_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = typical_plans(world.examine(monkeypatch))
    assert set(plans) == {(pair, side) for pair in (BTC, SUI) for side in ("long", "short")}
    assert all(plan.granted and plan.signal.rate > 0.0 for plan in plans.values())
    assert plans[BTC, "long"].notional > plans[SUI, "long"].notional
    equity = 9812.375  # the running bot's
    assert plans[BTC, "long"].risk == pytest.approx(0.0025 * equity, rel=1e-6)


def test_tested_range_when_the_package_asks_for_a_freqtrade_then_it_begins_there_and_holds_the_installed_one() -> (
    None
):
    first, last = TESTED
    asked = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "dependencies"
    ]
    assert f"freqtrade>={first[0]}.{first[1]}" in asked
    year, month = map(int, freqtrade.__version__.split(".")[:2])
    assert first <= (year, month) <= last
