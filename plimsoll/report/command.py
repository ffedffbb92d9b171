"""``plimsoll report``: the page of a comparison, and the same as JSON and Markdown."""

from __future__ import annotations

import argparse
import json
import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from plimsoll.report.comparison import ComparisonFault
from plimsoll.terminal import clean, complain

if TYPE_CHECKING:
    from plimsoll.report.contents import Contents

NAME: Final = "report"
PAGE: Final = "report.html"
SUMMARY: Final = "summary.md"


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        NAME,
        help="write what a comparison shows as one page",
        description="Read what `plimsoll compare` left in a directory and write one HTML file that works offline: verdict, charts,"
        " and every number checked against Freqtrade's own. Ends with 1 where a number disagrees.",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="of `plimsoll compare`")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"of the page (default DIR/{PAGE})")
    parser.add_argument("--json", action="store_true", help="print everything as one document")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a summary as Markdown too")
    parser.add_argument(
        "--open",
        choices=("yes", "no"),
        help="show it in the browser (default: yes in a terminal of a desktop)",
    )
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is; 1 where there is nothing to read or a number disagrees with Freqtrade's."""
    page = arguments.output or arguments.directory / PAGE
    try:
        found = _contents(arguments.directory)
        _write(page, _page(found))
        if arguments.markdown is not None:
            _write(arguments.markdown, _summary(found))
    except (ComparisonFault, OSError) as error:
        complain(NAME, error)
        return 1
    wrong = found.disagreements
    if arguments.json:
        print(json.dumps(found.document))
    else:
        print(clean(found.verdict))
        print(f"\nPage     {page}")
        print(f"Checked  {len(found.checks):,} numbers against Freqtrade's own, {len(wrong):,} disagree")
    for one in wrong[:10]:
        complain(
            NAME, ComparisonFault(f"{one.run}: {one.name} is {one.ours:.10g} here, {one.theirs:.10g} there")
        )
    if arguments.open == "yes" or (arguments.open is None and not arguments.json and _has_desktop()):
        webbrowser.open(page.resolve().as_uri())
    return 1 if wrong else 0


def make(directory: Path) -> Path:
    """Write page and summary into the directory of a comparison and return the page.

    :raises ComparisonFault: where the comparison or an export cannot be read
    """
    found = _contents(directory)
    _write(directory / SUMMARY, _summary(found))
    return _write(directory / PAGE, _page(found))


def _contents(directory: Path) -> Contents:
    # These take a while to import, which no argument error should wait for.
    from plimsoll.report.contents import contents

    return contents(directory)


def _page(found: Contents) -> str:
    from plimsoll.report.page import render

    return render(found)


def _summary(found: Contents) -> str:
    from plimsoll.report.summary import summary

    return summary(found)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The page's policy knows its scripts by their bytes: no line ending may change.
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _has_desktop() -> bool:
    known = sys.platform in ("darwin", "win32") or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return known and sys.stdout.isatty()
