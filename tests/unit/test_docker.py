"""The Docker files, as far as a machine without Docker can tell: no image is built here."""

from __future__ import annotations

import fnmatch
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from freqtrade.commands import Arguments

from scripts.compat import RELEASES

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "docker"
SERVICE: dict[str, Any] = yaml.safe_load((DOCKER / "docker-compose.yml").read_text())["services"]["freqtrade"]
INSTRUCTIONS = [
    shlex.split(line, comments=True)
    for line in (DOCKER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


def test_dockerfile_when_its_base_is_read_then_it_is_the_newest_freqtrade_that_is_tested() -> None:
    (base,) = [words[1] for words in INSTRUCTIONS if words[0] == "FROM"]
    assert version("freqtrade") in RELEASES
    assert base == f"freqtradeorg/freqtrade:{RELEASES[-1]}"


def test_dockerfile_when_it_copies_then_every_path_exists_and_is_not_ignored() -> None:
    copied = [
        word
        for words in INSTRUCTIONS
        if words[0] == "COPY"
        for word in words[1:-1]
        if not word.startswith("--")
    ]
    assert {"plimsoll", "pyproject.toml", "hyperopts"} <= set(copied)
    sent = [
        line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    for path in copied:
        assert (REPOSITORY / path).exists()
        assert any(fnmatch.fnmatch(path, pattern) for pattern in sent)
    assert not any(path.startswith((".", "user_data")) for path in sent)


def test_dockerfile_when_it_copies_then_leaves_out_nothing_that_the_wheel_is_made_of() -> None:
    included = re.findall(r'^"([^"]+)" = "plimsoll/', (REPOSITORY / "pyproject.toml").read_text(), re.M)
    copied = {word for words in INSTRUCTIONS if words[0] == "COPY" for word in words[1:-1]}
    assert {"strategies", "protections", "hyperopts", "config.json"} <= set(included)
    assert set(included) <= copied


def test_compose_when_its_build_is_read_then_points_to_the_dockerfile() -> None:
    context = (DOCKER / SERVICE["build"]["context"]).resolve()
    assert context == REPOSITORY
    assert (context / SERVICE["build"]["dockerfile"]).resolve() == DOCKER / "Dockerfile"


def test_compose_when_its_command_is_given_to_freqtrade_then_it_is_accepted() -> None:
    command = shlex.split(SERVICE["command"])
    parsed = Arguments(command).get_parsed_arg()
    assert parsed["command"] == "trade"
    assert parsed["strategy"] == "TrendFollowing1h"
    assert (REPOSITORY / "strategies" / f"{parsed['strategy']}.py").is_file()
    paths = [*parsed["config"], parsed["logfile"], parsed["db_url"].removeprefix("sqlite:///")]
    (inside,) = {volume.split(":")[1] for volume in SERVICE["volumes"]}
    assert all(path.startswith(f"{inside}/") for path in paths)
    with pytest.raises(SystemExit):
        Arguments([*command, "--no-such-option"]).get_parsed_arg()


def test_compose_when_a_port_is_published_then_it_is_of_this_machine_only() -> None:
    assert SERVICE["ports"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICE["ports"])
