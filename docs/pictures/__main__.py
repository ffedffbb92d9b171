"""Write every picture of the handbook into docs/images: ``python docs/pictures``."""

from __future__ import annotations

from pathlib import Path

import account
import entry
import supervision

IMAGES = Path(__file__).resolve().parents[1] / "images"


def drawn() -> dict[str, str]:
    """Return every picture's file name and content."""
    pictures = {**entry.PICTURES, **account.PICTURES, **supervision.PICTURES}
    return {f"{name}.svg": draw().svg() for name, draw in pictures.items()}


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for name, svg in drawn().items():
        (IMAGES / name).write_text(svg, encoding="utf-8")
