"""`plimsoll init`: drop-in files and the config section into a user directory, without touching what is the user's."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from plimsoll.bot_database import configuration
from plimsoll.cli import main
from plimsoll.init import SECTION, with_section

REPOSITORY = Path(__file__).parents[2]
DROP_IN = ("strategies/EmaCross.py", "protections/daily_loss.py", "hyperopts/PlimsollLoss.py")
COMMENTED = """{
    // my bot
    "bot_name": "mine",
    "max_open_trades": 3, /* few */
    "dry_run": true,
}
"""


@pytest.fixture
def userdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    directory = tmp_path / "user_data"
    (directory / "strategies").mkdir(parents=True)
    return directory


def everything(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_init_when_the_user_directory_is_new_then_puts_every_drop_in_file_and_the_section(
    userdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (userdir / "config.json").write_text('{\n    "bot_name": "mine"\n}\n')
    assert main(["init"]) == 0
    for name in DROP_IN:
        assert (userdir / name).read_bytes() == (REPOSITORY / name).read_bytes()
    ours = {
        p.name
        for kind in ("strategies", "protections", "hyperopts")
        for p in (REPOSITORY / kind).glob("*.py")
    }
    assert {path.name for path in userdir.rglob("*.py")} == ours
    assert (userdir / "config.json").read_text() == (
        '{\n    "bot_name": "mine",\n    "plimsoll": {\n        "profile": "calibrated"\n    }\n}\n'
    )
    assert "nothing else changed" in capsys.readouterr().out


def test_init_when_run_again_then_changes_nothing(userdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (userdir / "config.json").write_text('{"bot_name": "mine"}')
    assert main(["init"]) == 0
    first = everything(userdir)
    capsys.readouterr()
    assert main(["init"]) == 0
    assert everything(userdir) == first
    said = capsys.readouterr().out
    assert "written" not in said
    assert "unchanged" in said


def test_init_when_a_file_differs_then_names_it_keeps_it_and_puts_the_others(
    userdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (userdir / "config.json").write_text("{}")
    mine = userdir / "strategies" / "EmaCross.py"
    mine.write_text("# mine\n")
    assert main(["init"]) == 1
    assert mine.read_text() == "# mine\n"
    said = capsys.readouterr()
    assert f"kept as they are: {Path('user_data', 'strategies', 'EmaCross.py')}" in said.err
    assert (userdir / "protections" / "daily_loss.py").is_file()
    assert json.loads((userdir / "config.json").read_text()) == {"plimsoll": SECTION}


@pytest.mark.parametrize("text", [COMMENTED, '{"bot_name": "mine",}'])
def test_init_when_the_configuration_is_no_plain_json_then_writes_a_second_file_and_says_how(
    userdir: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    config = userdir / "config.json"
    config.write_text(text)
    for _ in range(2):
        assert main(["init"]) == 0
        assert config.read_text() == text
        beside = Path("user_data", "config-plimsoll.json")
        assert json.loads(beside.read_text()) == {"plimsoll": SECTION}
        assert f"-c {Path('user_data', 'config.json')} -c {beside}" in capsys.readouterr().out
    both = configuration([str(config), str(beside)], None)
    assert both["plimsoll"] == SECTION
    assert both["bot_name"] == "mine"


def test_init_when_there_is_a_section_already_then_leaves_the_configuration(userdir: Path) -> None:
    text = '{\n  // limits\n  "plimsoll": {"risk": {"per_trade": 0.005}},\n}'
    (userdir / "config.json").write_text(text)
    assert main(["init"]) == 0
    assert (userdir / "config.json").read_text() == text
    assert not (userdir / "config-plimsoll.json").exists()


def test_init_when_another_file_of_the_configuration_has_the_section_then_leaves_it(userdir: Path) -> None:
    text = '{"add_config_files": ["limits.json"]}'
    (userdir / "config.json").write_text(text)
    (userdir / "limits.json").write_text('{"plimsoll": {}}')
    assert main(["init"]) == 0
    assert (userdir / "config.json").read_text() == text


def test_init_when_there_is_no_configuration_then_writes_the_section_alone(
    userdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init"]) == 0
    assert json.loads((userdir / "config-plimsoll.json").read_text()) == {"plimsoll": SECTION}
    assert "-c YOUR_CONFIG.json" in capsys.readouterr().out


def test_init_when_a_path_has_a_space_then_what_is_offered_for_copying_quotes_it(
    userdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = userdir.rename(userdir.with_name("my data"))
    for config in (None, directory / "config.json"):
        if config is not None:
            config.write_text(COMMENTED)
        assert main(["init", "--userdir", str(directory)]) == 0
        offered = capsys.readouterr().out.splitlines()[-1]
        words = shlex.split(offered[offered.index("freqtrade trade") :])
        assert words == [
            *("freqtrade", "trade", "-c", str(config or "YOUR_CONFIG.json")),
            *("-c", str(directory / "config-plimsoll.json"), "--strategy", "..."),
        ]
    assert main(["init", "--userdir", "no where"]) == 1
    assert "create-userdir --userdir 'no where'`" in capsys.readouterr().err


def test_init_when_the_second_file_is_the_users_own_then_keeps_it(
    userdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (userdir / "config.json").write_text(COMMENTED)
    mine = userdir / "config-plimsoll.json"
    mine.write_text('{"telegram": {}}')
    assert main(["init"]) == 1
    assert mine.read_text() == '{"telegram": {}}'
    assert "config-plimsoll.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--userdir", "nowhere"), "there is no directory nowhere; make one with `freqtrade create-userdir"),
        (("-c", "nowhere.json"), "there is no file nowhere.json"),
        (("-c", "broken.json"), "broken.json cannot be read: Parse error"),
        (("-c", "list.json"), "list.json is no mapping"),
    ],
)
def test_init_when_something_is_missing_or_broken_then_says_what(
    userdir: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    Path("broken.json").write_text('{"key": "secret-of-mine"')
    Path("list.json").write_text("[1]")
    before = {p.name: p.read_text() for p in Path().glob("*.json")}
    assert main(["init", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "secret-of-mine" not in error
    assert {p.name: p.read_text() for p in Path().glob("*.json")} == before


def test_init_when_the_configuration_is_a_link_with_rights_then_both_stay(userdir: Path) -> None:
    real = userdir / "real.json"
    real.write_text("{}")
    real.chmod(0o600)
    (userdir / "config.json").symlink_to(real)
    assert main(["init"]) == 0
    assert (userdir / "config.json").is_symlink()
    assert json.loads(real.read_text()) == {"plimsoll": SECTION}
    assert real.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{\n}\n",
        '{"a": 1}',
        '{"a":{"b":[1,2]}}\n',
        '{\n  "a": 1\n}\n',
        '{\n\t"a": {\n\t\t"b": 1\n\t}\n}',
        '{\r\n    "a": "}"\r\n}\r\n',
        '{ "a": 1,\n  "b": 2 }\n\n',
    ],
)
def test_section_when_added_to_plain_json_then_all_else_stays_to_the_letter(text: str) -> None:
    after = with_section(text)
    assert after is not None
    assert json.loads(after) == json.loads(text) | {"plimsoll": SECTION}
    begin = after.index('"plimsoll"')
    kept = text[: text.rindex("}")].rstrip()
    assert after.startswith(kept)
    assert after[:begin].strip() == (kept if not json.loads(text) else f"{kept},")
    assert after.endswith(text[text.rindex("}") :])
    assert ("\n" in after) is ("\n" in text)
    assert after.count("\r\n") == (after.count("\n") if "\r" in text else 0)


@pytest.mark.parametrize("text", ["[]", "// {}\n{}", '{"a": 1,}', ""])
def test_section_when_the_text_is_no_plain_mapping_then_there_is_none(text: str) -> None:
    assert with_section(text) is None
