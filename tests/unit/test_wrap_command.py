"""`plimsoll wrap` without Freqtrade's processes: finding, writing, clashes, and what stays behind."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from freqtrade.data.history import get_datahandler
from freqtrade.enums import CandleType, TradingMode

from plimsoll import wrap
from plimsoll.cli import main
from plimsoll.guarded_source import guarded_files
from plimsoll.host.wrap_check import facts
from plimsoll.market.candle_files import write_market
from plimsoll.market.simulate import DEFAULT_PAIRS, simulate_market
from plimsoll.wrap_trial import Facts, Market, Trial, _own_candles, _simulated, try_out

HEAD = "from freqtrade.strategy import IStrategy\n"
BODY = """
class {name}({bases}):
    timeframe = "1h"
    stoploss = -0.1
    minimal_roi = {{}}

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe
"""
TRIED = Trial(market="somewhere", trades=3, profit=0.01, most_leverage=2.0, refused=1, faults=0)


def strategy(name: str = "My", bases: str = "IStrategy") -> str:
    return HEAD + BODY.format(name=name, bases=bases)


@pytest.fixture
def strategies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a directory with an empty user directory; nothing is loaded or backtested."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    directory = Path("user_data", "strategies")
    directory.mkdir(parents=True)
    monkeypatch.setattr(wrap, "facts_of", lambda *_: {"timeframe": "1h", "startup": 30, "can_short": False})
    monkeypatch.setattr(wrap, "try_out", lambda *_: TRIED)
    return directory


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("candles")
    write_market(simulate_market(1, 2, START, TWO), directory)
    return directory


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_wrap_when_the_file_can_be_imported_then_writes_an_import_and_a_class(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (strategies / "MyFile.py").write_text(strategy())
    assert main(["wrap", "My"]) == 0
    assert (strategies / "GuardedMy.py").read_text() == (
        "from MyFile import My\nfrom plimsoll import Guarded\n\n\nclass GuardedMy(Guarded, My):\n    pass\n"
    )
    said = capsys.readouterr().out
    assert "somewhere: 3 trades, at most 2x, 1 refused, +1.00%" in said
    assert "freqtrade backtesting --strategy GuardedMy" in said


def test_wrap_when_the_guarded_file_is_there_then_refuses_and_keeps_it(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (strategies / "My.py").write_text(strategy())
    (strategies / "GuardedMy.py").write_text("# mine\n")
    assert main(["wrap", "My"]) == 1
    assert (strategies / "GuardedMy.py").read_text() == "# mine\n"
    assert "is there already and stays as it is" in capsys.readouterr().err


def test_wrap_when_a_class_of_the_guarded_name_is_in_another_file_then_refuses(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (strategies / "My.py").write_text(strategy())
    (strategies / "Others.py").write_text(strategy("GuardedMy"))
    assert main(["wrap", "My"]) == 1
    assert "there is a class GuardedMy in" in capsys.readouterr().err
    assert files(strategies) == {"My.py", "Others.py"}


@pytest.mark.parametrize(
    "name", ["my-strategy", "2nd", "my strategy v1.2", "class", "random", "numpy", "freqtrade"]
)
def test_wrap_when_an_import_could_not_name_the_file_then_loads_it_by_its_path(
    strategies: Path, name: str
) -> None:
    (strategies / f"{name}.py").write_text(strategy())
    assert main(["wrap", "My"]) == 0
    written = strategies / "GuardedMy.py"
    assert f'strategy_in("{name}.py", "My", beside=__file__)' in written.read_text()
    found = facts(strategies / f"{name}.py", "My", written.resolve(), Path("user_data"))
    assert found == {"timeframe": "1h", "startup": 745, "can_short": False}


@pytest.mark.parametrize("place", ["", "sub", "sub/below"])
def test_wrap_when_the_file_is_in_a_subfolder_then_writes_beside_it(
    strategies: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    directory = strategies / place
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Both.py").write_text(strategy("Other") + BODY.format(name="My", bases="Other"))
    assert main(["wrap", "My"]) == 0
    assert files(directory) == {"Both.py", "GuardedMy.py"}
    assert (f"--strategy-path {directory}" in capsys.readouterr().out) is bool(place)


def test_wrap_when_two_files_define_the_strategy_then_asks_which(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (strategies / "a", strategies / "b", strategies / ".hidden", strategies / "__pycache__"):
        place.mkdir()
        (place / "My.py").write_text(strategy())
    assert main(["wrap", "My"]) == 1
    error = capsys.readouterr().err
    assert "is in several files" in error
    assert ".hidden" not in error
    assert "__pycache__" not in error
    assert main(["wrap", "My", "--strategy-path", str(strategies / "b")]) == 0
    assert (strategies / "b" / "GuardedMy.py").is_file()


def test_wrap_when_the_strategy_is_unknown_then_names_those_there_are(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (strategies / "My.py").write_text(strategy())
    assert main(["wrap", "Mine"]) == 1
    assert "there is no strategy Mine in user_data/strategies; there are My" in capsys.readouterr().err


def test_wrap_when_the_file_cannot_be_parsed_then_says_where(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (strategies / "My.py").write_text(strategy() + "\n    def (\n")
    assert main(["wrap", "My"]) == 1
    error = capsys.readouterr().err
    assert "My.py does not load" in error
    assert "line 17" in error


def test_wrap_when_an_argument_is_wrong_then_ends_with_2_or_says_what_is_missing(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["wrap", "my-strategy"])
    assert stopped.value.code == 2
    assert main(["wrap", "My", "--strategy-path", "nowhere"]) == 1
    assert main(["wrap", "My", "-c", "nowhere.json"]) == 1
    error = capsys.readouterr().err
    assert "must be the name of a class, was 'my-strategy'" in error
    assert "there is no directory nowhere" in error
    assert "there is no file nowhere.json" in error


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"plimsoll": None}, "`plimsoll` in the configuration must be a mapping, was null"),
        ({"plimsoll": ["off"]}, "`plimsoll` in the configuration must be a mapping, was a list"),
        ({"plimsoll": {"override": "off"}}, "`override` in the configuration must be a list, was a str"),
        ({"exchange": None}, "`exchange` in the configuration must be a mapping, was null"),
        ({"exchange": ["a-key"]}, "`exchange` in the configuration must be a mapping, was a list"),
        (
            {"exchange": {"pair_whitelist": None}},
            "`pair_whitelist` in the configuration must be a list, was null",
        ),
        ({"dataformat_ohlcv": "arrow"}, "dataformat_ohlcv must be one that Freqtrade knows, was 'arrow'"),
        ({"datadir": 5}, "no candles can be looked up with this configuration"),
        ({"timeframe": "1 hour"}, "the timeframe must be one such as 5m or 1h, was '1 hour'"),
        ({"timeframe": 5}, "the timeframe must be one such as 5m or 1h, was 5"),
        ({"strategy_path": 5}, "`strategy_path` in the configuration must be a directory, was 5"),
    ],
)
def test_wrap_when_the_configuration_cannot_be_used_then_says_why_and_leaves_no_file(
    strategies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    candles: Path, written: dict[str, Any], message: str,
) -> None:  # fmt: skip
    (strategies / "My.py").write_text(strategy())
    config = {"trading_mode": "futures", "datadir": str(candles)} | written
    Path("user_data", "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(wrap, "try_out", try_out)
    assert main(["wrap", "My"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "a-key" not in error
    assert files(strategies) == {"My.py"}


def test_wrap_when_a_path_has_a_space_then_the_command_for_copying_quotes_it(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    below = strategies / "my own"
    below.mkdir()
    (below / "My.py").write_text(strategy())
    Path("a config.json").write_text("{}")
    assert main(["wrap", "My", "-c", "a config.json"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("Next").strip()
    assert shlex.split(command)[-4:] == ["--strategy-path", str(below), "-c", "a config.json"]


def test_wrap_when_loading_or_the_backtest_fails_then_leaves_no_file(
    strategies: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> Any:
        assert "GuardedMy.py" in files(strategies)
        raise wrap.WrapError("this is what failed")

    (strategies / "My.py").write_text(strategy())
    (strategies / "My.json").write_text('{"strategy_name": "My", "params": {}}')
    for step in ("try_out", "facts_of"):
        monkeypatch.setattr(wrap, step, fails)
        assert main(["wrap", "My"]) == 1
        assert "this is what failed" in capsys.readouterr().err
        assert files(strategies) == {"My.py", "My.json"}


def test_wrap_when_interrupted_then_leaves_no_file(strategies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    (strategies / "My.py").write_text(strategy())
    monkeypatch.setattr(wrap, "facts_of", interrupted)
    assert main(["wrap", "My"]) == 130
    assert files(strategies) == {"My.py"}


def test_wrap_when_a_hyperopt_left_parameters_then_the_guarded_strategy_has_them_too(
    strategies: Path,
) -> None:
    stored = {"strategy_name": "My", "params": {"buy": {"fast": 7}, "stoploss": {"stoploss": -0.2}}}
    (strategies / "My.py").write_text(strategy())
    (strategies / "My.json").write_text(json.dumps(stored))
    assert main(["wrap", "My"]) == 0
    assert json.loads((strategies / "GuardedMy.json").read_text()) == stored | {"strategy_name": "GuardedMy"}
    assert json.loads((strategies / "My.json").read_text()) == stored


def test_wrap_when_parameters_of_the_guarded_name_are_there_then_keeps_them_and_refuses(
    strategies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (strategies / "My.py").write_text(strategy())
    (strategies / "My.json").write_text('{"strategy_name": "My", "params": {}}')
    (strategies / "GuardedMy.json").write_text("{}")
    assert main(["wrap", "My"]) == 1
    assert (strategies / "GuardedMy.json").read_text() == "{}"
    assert files(strategies) == {"My.py", "My.json", "GuardedMy.json"}
    assert "GuardedMy.json is there already" in capsys.readouterr().err


# -- Loading -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import no_such_module\n" + strategy(),
            "ModuleNotFoundError: No module named 'no_such_module', line 1",
        ),
        (strategy() + "\nraise SystemExit(3)\n", "SystemExit: 3, line 17"),
        (strategy() + "\nMy.x = 1 / 0\n", "ZeroDivisionError: division by zero, line 17"),
        ("class My(object):\n    pass\n", "does not derive from IStrategy"),
        (
            strategy(bases="Guarded, IStrategy").replace(HEAD, HEAD + "from plimsoll import Guarded\n"),
            "My is guarded already",
        ),
        (
            "from plimsoll import Guarded as Base\n" + BODY.format(name="My", bases="Base"),
            "My is guarded already",
        ),
        (
            "from plimsoll import RiskSpace\n" + strategy(bases="RiskSpace, IStrategy"),
            "My is guarded already",
        ),
        (
            "from plimsoll import RiskSpace\n"
            + BODY.format(name="Above", bases="RiskSpace")
            + BODY.format(name="My", bases="Above"),
            "My is guarded already",
        ),
        (strategy().replace("populate_entry_trend", "populate"), "the guarded My does not load"),
    ],
)
def test_loading_when_it_fails_then_says_what(strategies: Path, text: str, message: str) -> None:
    source, guarded = (strategies / "My.py").resolve(), (strategies / "GuardedMy.py").resolve()
    source.write_text(text)
    guarded.write_text(guarded_files("My", source, source.name, by_hand=True)[guarded.name])
    assert message in facts(source, "My", guarded, Path("user_data"))["fault"]


# -- Candles of the trial --------------------------------------------------------------------------------------

FACTS = Facts(name="GuardedMy", directory=Path(), timeframe="1h", startup=745)
START = datetime(2024, 1, 1, tzinfo=UTC)
TWO = DEFAULT_PAIRS[:2]


@pytest.mark.parametrize(("days", "enough"), [(46, True), (45, False)])
def test_trial_when_the_user_has_candles_then_takes_the_last_two_weeks_where_the_warm_up_fits(
    tmp_path: Path, days: int, enough: bool
) -> None:
    write_market(simulate_market(1, days, START, TWO), tmp_path / "data" / "binance")
    config = {"exchange": {"pair_whitelist": ["ETH/USDT:USDT", "XRP/USDT:USDT"]}, "stake_currency": "USDT"}
    found = _own_candles(FACTS, config, tmp_path, futures=True)
    if not enough:
        assert found == f"{tmp_path / 'data' / 'binance'} holds less than the 46 days that a trial needs"
        return
    assert isinstance(found, Market)
    assert found.pairs == ("ETH/USDT:USDT",)
    assert (found.end - found.begin).days == 14
    assert (found.begin - START).days == 32
    assert "the last 14 days of 1 pair from" in found.words


def test_trial_when_candles_do_not_fit_then_says_why(tmp_path: Path) -> None:
    assert "no candles in" in str(_own_candles(FACTS, {}, tmp_path, futures=True))
    write_market(simulate_market(1, 2, START, TWO), tmp_path / "data" / "binance")
    quarter = Facts(name="GuardedMy", directory=Path(), timeframe="15m", startup=30)
    assert "no 15m and 1h candles" in str(_own_candles(quarter, {}, tmp_path, futures=True))
    assert "no 1h candles of any" in str(_own_candles(FACTS, {}, tmp_path, futures=False))
    other = {"stake_currency": "USDC"}
    assert "of any USDC pair" in str(_own_candles(FACTS, other, tmp_path, futures=True))


@pytest.mark.parametrize(("timeframe", "futures"), [("1m", False), ("4h", True)])
def test_simulated_market_when_a_strategy_has_another_timeframe_then_has_its_candles(
    tmp_path: Path, timeframe: str, futures: bool
) -> None:
    asked = Facts(name="GuardedMy", directory=Path(), timeframe=timeframe, startup=240)
    made = _simulated(asked, futures, tmp_path / "data", "why not")
    assert "simulated market on the loopback exchange (why not)" in made.words
    assert (made.begin - datetime(2023, 1, 1, tzinfo=UTC)).days == (40 if timeframe == "4h" else 32)
    mode, kind = (TradingMode.FUTURES, CandleType.FUTURES) if futures else (TradingMode.SPOT, CandleType.SPOT)
    written = get_datahandler(tmp_path / "data", "feather").ohlcv_get_available_data(tmp_path / "data", mode)
    assert {(pair, step, kind) for pair in made.pairs for step in ("1h", timeframe)} <= set(written)
    assert all((":" in pair) is futures for pair in made.pairs)
    candles = get_datahandler(tmp_path / "data", "feather").ohlcv_load(made.pairs[0], timeframe, kind)
    seconds = {"1m": 60, "4h": 4 * 3600}[timeframe]
    assert set(candles["date"].diff().dropna().dt.total_seconds()) == {seconds}
