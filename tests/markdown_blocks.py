"""The code blocks of a Markdown page, with the line they begin in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = (REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md")))
FENCE = re.compile(r"^```(\S*)\n(.*?)^```\s*$", re.M | re.S)
INDENTED = re.compile(r"(?<=\n\n) {4,}(?![*-])\S.*", re.M)


@dataclass(frozen=True)
class Block:
    """Hold one fenced block: its page, the line of its first line, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(page: Path, language: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, of one language or all, in their order."""
    text = page.read_text(encoding="utf-8")
    found = [Block(page, text.count("\n", 0, m.start()) + 2, m[1], m[2]) for m in FENCE.finditer(text)]
    return [block for block in found if language in (None, block.language)]


def unfenced(page: Path) -> list[str]:
    """Return lines that Markdown would show as code although they are in no fence."""
    return INDENTED.findall(FENCE.sub("", page.read_text(encoding="utf-8")))


def commands(block: Block) -> list[str]:
    """Return the command lines of a shell block: comments gone, continued lines joined."""
    text = block.text.replace("\\\n", " ")
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]
