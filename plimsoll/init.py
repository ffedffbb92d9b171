"""``plimsoll init``: put the drop-in files and the config section into a user directory, without changing what is there."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any, Final

from plimsoll.shipped import SetupError, shipped
from plimsoll.terminal import clean, complain, console

NAME: Final = "init"
SECTION: Final = {"profile": "calibrated"}
BESIDE: Final = "config-plimsoll.json"
DIRECTORIES: Final = ("strategies", "protections", "hyperopts")


class InitError(Exception):
    """What the user can put right; the message says how."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        NAME,
        help="put the drop-in files and the config section into a user directory",
        description="Copy strategies, protections and the hyperopt loss into Freqtrade's user directory and add the section"
        " `plimsoll` to its configuration. Files that are there and differ are named and left as they are.",
    )
    parser.add_argument(
        "--userdir", type=Path, default=Path("user_data"), metavar="DIR", help="default user_data"
    )
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="Freqtrade's configuration (default config.json in --userdir, else here)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Put everything in its place and say what was done; 1 where a file of the user's stands in the way of one of ours."""
    try:
        kept = _copy_files(arguments.userdir)
        kept += _configure(arguments.config, arguments.userdir)
    except (InitError, SetupError, OSError) as error:
        complain(NAME, error)
        return 1
    if kept:
        complain(NAME, InitError(f"kept as they are: {', '.join(map(str, kept))}. To have ours, move them."))
    return 1 if kept else 0


# -- Files ---------------------------------------------------------------------------------------------------


def _copy_files(userdir: Path) -> list[Path]:
    if not userdir.is_dir():
        raise InitError(
            f"there is no directory {userdir}; make one with"
            f" `freqtrade create-userdir --userdir {shlex.quote(str(userdir))}`"
        )
    kept: list[Path] = []
    for name in DIRECTORIES:
        (userdir / name).mkdir(exist_ok=True)
        sources = sorted(shipped(name).glob("*.py"))
        kept += [
            userdir / name / source.name
            for source in sources
            if not _put(userdir / name / source.name, source.read_bytes())
        ]
    return kept


def _put(target: Path, content: bytes) -> bool:
    if os.path.lexists(target):
        same = target.is_file() and target.read_bytes() == content
        _say("unchanged" if same else "differs", target)
        return same
    with target.open("xb") as file:
        file.write(content)
    _say("written", target)
    return True


def _say(what: str, target: Path, more: str = "") -> None:
    console().print(f"{what:<10} {clean(target)}{more}", soft_wrap=True, markup=False)


# -- Configuration -------------------------------------------------------------------------------------------


def _configure(given: Path | None, userdir: Path) -> list[Path]:
    config = given or next(
        (path for path in (userdir / "config.json", Path("config.json")) if path.is_file()), None
    )
    if config is None:
        beside = userdir / BESIDE
        fits = _put_beside(beside)
        print(f"There is no config.json in {userdir} or here. Add the section with a second -c:")
        print(f"  freqtrade trade -c YOUR_CONFIG.json -c {shlex.quote(str(beside))} --strategy ...")
        return [] if fits else [beside]
    if not config.is_file():
        raise InitError(f"there is no file {config}")
    if "plimsoll" in _read(config):
        _say("unchanged", config, ", which has a section `plimsoll`")
        return []
    with config.open(encoding="utf-8", newline="") as file:
        text = file.read()
    inserted = with_section(text)
    if inserted is not None:
        _replace(config, inserted)
        _say("added", config, ": the section `plimsoll`, nothing else changed")
        return []
    beside = config.parent / BESIDE
    fits = _put_beside(beside)
    print(f"{config} has comments or trailing commas, which a rewrite would lose, so it stays as it is.")
    files = shlex.join(["-c", str(config), "-c", str(beside)])
    print(f"  Add the section with a second -c: freqtrade trade {files} --strategy ...")
    return [] if fits else [beside]


def _put_beside(path: Path) -> bool:
    if path.is_file() and "plimsoll" in _read(path):
        _say("unchanged", path, ", which has a section `plimsoll`")
        return True
    return _put(path, (json.dumps({"plimsoll": SECTION}, indent=4) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    # Freqtrade's own reading: comments, trailing commas, `add_config_files`.
    from freqtrade.configuration.load_config import load_from_files
    from freqtrade.exceptions import OperationalException

    try:
        found: dict[str, Any] = load_from_files([str(path)])
    except OperationalException as error:
        # What follows the first line is a piece of the file, which may hold a key.
        raise InitError(f"{path} cannot be read: {clean(str(error).splitlines()[0])}") from None
    except ValueError as error:
        raise InitError(f"{path} cannot be read: {clean(error)}") from None
    except (TypeError, AttributeError):
        raise InitError(f"{path} is no mapping") from None
    return found


def with_section(text: str) -> str | None:
    """Return a configuration with the section put behind its last key, all else as it was; None where it is no plain JSON."""
    try:
        before = json.loads(text)
    except ValueError:
        return None
    if not isinstance(before, dict):
        return None
    end = text.rindex("}")
    body = text[:end].rstrip()
    newline = "\r\n" if "\r\n" in text else "\n"
    last_line = body[body.rfind("\n") + 1 :]
    indent = last_line[: len(last_line) - len(last_line.lstrip())]
    section = json.dumps(SECTION, indent=indent or 4).replace("\n", newline + indent)
    if "\n" not in text.strip():
        newline = indent = ""
        section = json.dumps(SECTION)
    elif not before:
        indent = "    "
        section = json.dumps(SECTION, indent=4).replace("\n", newline + indent)
    comma = "," if before else ""
    space = " " if not newline and before else ""
    rest = text[len(body) : end] if before and newline else newline
    after = f'{body}{comma}{space}{newline}{indent}"plimsoll": {section}{rest}{text[end:]}'
    return after if json.loads(after) == before | {"plimsoll": SECTION} else None


def _replace(path: Path, text: str) -> None:
    target = path.resolve()  # a link stays one
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(beside).chmod(target.stat().st_mode & 0o7777)
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
