"""The handbook: it builds without a warning and without the net, and every block of code in it is run or parsed."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from markdown_blocks import DOCS, PAGES, REPOSITORY, Block, blocks, commands, unfenced

from plimsoll.cli import _parser
from plimsoll.settings import load
from plimsoll.settings.limits import Settings
from plimsoll.settings.reference import TITLES, reference
from plimsoll.stress.book import from_file

SHOWN = "text"  # what a command prints, not something to run
LANGUAGES = {"python", "json", "toml", "bash", SHOWN}
# The shell's own, and what a reader has before Plimsoll; `make` and the two programs are looked into.
PLAIN = {".", "cd", "cp", "export", "pip", "python3", "docker", "kill", "ls", "cat", "mkdir", "sleep"}
RESOURCE = re.compile(
    r"""<(?:link|script|img|iframe|source)\b[^>]*?(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)"""
)


def of(language: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for page in PAGES for block in blocks(page, language)]


@pytest.fixture(autouse=True)
def _readers_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Some arguments are refused where a file is not there, and the pages name these.
    (tmp_path / "user_data" / "data" / "binance").mkdir(parents=True)
    for name in ("config.json", "user_data/config.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.chdir(tmp_path)


# -- The site ----------------------------------------------------------------------------------------------------


def test_site_when_it_is_built_strictly_then_has_no_warning_and_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(
        command,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(PAGES) - 1  # all but the README, and the page for what is not found
    elsewhere = {
        (page.name, found)
        for page in pages
        for found in RESOURCE.findall(page.read_text())
        if 'rel="canonical"' not in found
    }
    assert not elsewhere
    for style in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"""url\(["']?(https?:)?//|@import""", style.read_text()), style


def test_pages_when_they_are_linked_from_the_readme_then_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)", (REPOSITORY / "README.md").read_text())
    here = [link for link in links if "://" not in link]
    assert here
    assert [link for link in here if not (REPOSITORY / link).exists()] == []


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_files_of_the_repository_when_named_in_a_sentence_then_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:plimsoll|strategies|protections|docs|docker|tests)/[\w./-]*)`", page.read_text()
    )
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


# -- What is generated -------------------------------------------------------------------------------------------


def test_settings_page_when_the_model_is_as_it_is_then_is_current() -> None:
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_settings_page_when_a_section_is_added_then_has_a_title_for_it() -> None:
    sections = {
        name for name, field in Settings.model_fields.items() if not isinstance(field.default, tuple | str)
    }
    assert sections - set(TITLES) == set()


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    sys.path.insert(0, str(DOCS / "pictures"))
    try:
        return runpy.run_path(str(DOCS / "pictures" / "__main__.py"), run_name="pictures")["drawn"]()
    finally:
        sys.path.remove(str(DOCS / "pictures"))
        for name in ("account", "chart", "entry", "supervision"):
            sys.modules.pop(name, None)


def test_pictures_when_the_rules_are_as_they_are_then_are_current(drawn: dict[str, str]) -> None:
    assert len(drawn) >= 12
    kept = {name: (DOCS / "images" / name).read_text(encoding="utf-8") for name in drawn}
    stale = [name for name, svg in drawn.items() if not same(kept[name], svg)]
    assert stale == [], "run `make docs`"


def test_pictures_when_one_point_has_moved_then_are_not_the_same(drawn: dict[str, str]) -> None:
    svg = drawn["stop.svg"]
    moved = re.sub(r'width="(\d+)\.(\d)"', lambda m: f'width="{int(m[1]) + 1}.{m[2]}"', svg, count=1)
    assert svg != moved
    assert not same(svg, moved)
    assert same(svg, svg)


def same(one: str, other: str) -> bool:
    """Tell whether two pictures are the same but for the rounding of another processor or numpy: a tenth of a pixel."""
    number = re.compile(r"-?\d+\.\d")
    if number.sub("#", one) != number.sub("#", other):
        return False
    pairs = zip(number.findall(one), number.findall(other), strict=True)
    return all(abs(float(a) - float(b)) < 0.15 for a, b in pairs)


def test_pictures_when_a_layer_has_a_page_then_it_shows_one(drawn: dict[str, str]) -> None:
    shown = {
        page.stem: set(re.findall(r"images/([\w-]+\.svg)", page.read_text()))
        for page in (DOCS / "layers").glob("*.md")
    }
    assert [name for name, pictures in shown.items() if not pictures] == ["index"]
    assert set.union(*shown.values()) == set(drawn)


def test_pictures_when_the_page_is_light_or_dark_then_every_text_has_contrast(drawn: dict[str, str]) -> None:
    style = re.search(r"<style>(.*)</style>", drawn["stop.svg"])
    assert style is not None
    light, dark = style[1].split("@media(prefers-color-scheme:dark)")
    for scheme in (light, dark):
        fill = dict(re.findall(r"\.([a-z]+)\{fill:(#\w{6})\}", scheme))
        for name in fill.keys() - {"card", "grid"}:
            assert contrast(fill[name], fill["card"]) >= 4.5, name


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, as WCAG 2 defines it; 4.5 is enough for text."""

    def luminance(colour: str) -> float:
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


# -- Code --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_page_when_it_shows_code_then_says_in_which_language(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
    assert unfenced(page) == []
    if page.name not in ("README.md", "tutorial.md", "performance.md"):
        assert blocks(page, SHOWN) == []


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.name) for page in PAGES if blocks(page, "python")]
)
def test_python_blocks_when_run_in_their_order_then_hold(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks about a reader's own strategy name it MyStrategy.
    from freqtrade.strategy import IStrategy

    own: Any = ModuleType("MyStrategy")
    own.MyStrategy = type("MyStrategy", (IStrategy,), {})
    monkeypatch.setitem(sys.modules, "MyStrategy", own)
    namespace: dict[str, Any] = {"__name__": "page", "MyStrategy": own.MyStrategy}
    for block in blocks(page, "python"):
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
    for name, function in list(namespace.items()):
        if name.startswith("test_"):
            function()
    assert len(namespace) > 2  # the blocks of each page define or import something


@pytest.mark.parametrize("block", of("json"))
def test_json_block_when_given_to_freqtrade_then_is_a_configuration(block: Block) -> None:
    from freqtrade.config_schema.config_schema import CONF_SCHEMA

    config = json.loads(block.text)
    assert config.keys() <= CONF_SCHEMA["properties"].keys() | {"plimsoll"}
    load(config.get("plimsoll"))


@pytest.mark.parametrize("block", of("toml"))
def test_toml_block_when_given_to_the_stress_command_then_is_a_book_of_positions(
    block: Block, tmp_path: Path
) -> None:
    (tmp_path / "book.toml").write_text(block.text)
    assert from_file(tmp_path / "book.toml", load()).positions


# -- Commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", of("bash"))
def test_shell_block_when_parsed_then_every_command_exists_as_written(block: Block) -> None:
    assert commands(block)
    for line in commands(block):
        check(line)


def check(line: str) -> None:
    """Parse one command line with the parser of its program; raise where it would not be understood."""
    words = shlex.split(line)
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if not words:
        return
    program, arguments = words[0], [re.sub(r"\$\{?\w+\}?", "Any", word) for word in words[1:] if word != "&"]
    parsers: dict[str, Callable[[list[str]], Any]] = {
        "plimsoll": _plimsoll,
        "freqtrade": _freqtrade,
        "make": _make,
    }
    if program == "docker" and "exec" in arguments:  # docker compose exec SERVICE COMMAND
        program, *arguments = arguments[arguments.index("exec") + 2 :]
    if program in parsers:
        parsers[program](arguments)
    else:
        assert program in PLAIN, f"{program} is nothing that a reader is known to have: {line}"


def _plimsoll(arguments: list[str]) -> None:
    parsed = _parsed(_parser().parse_args, arguments)
    rest = [word for word in getattr(parsed, "command", None) or [] if word not in ("--", "freqtrade")]
    if rest:
        _freqtrade(rest)


def _freqtrade(arguments: list[str]) -> None:
    from freqtrade.commands import Arguments

    _parsed(lambda words: Arguments(words).get_parsed_arg(), arguments)


def _make(arguments: list[str]) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in arguments:
        assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"no target {target}"


def _parsed(parse: Callable[[list[str]], Any], arguments: list[str]) -> Any:
    try:
        return parse(arguments)
    except SystemExit as refused:
        raise AssertionError(f"not understood: {' '.join(arguments)}") from refused


@pytest.mark.parametrize(
    "wrong",
    [
        "plimsoll sail",
        "plimsoll status --loudly",
        "plimsoll replay --seed 1 -- trade --no-such-option",
        "freqtrade no-such-command",
        "make no-such-target",
        "curl https://example.org",
    ],
)
def test_command_when_it_is_wrong_then_the_check_fails(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check(wrong)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_commands_when_named_in_a_sentence_then_exist(page: Path) -> None:
    known = set(_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr]
    named = set(re.findall(r"`plimsoll ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named - known == set()
