"""Where the labels of points go, on a phone as well as on a desktop, and which there is no room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# The pixels that the points span on a phone and on a desktop, the room around them left out.
SPANS: Final = ((170.0, 240.0), (620.0, 240.0))
ROOM: Final = (0.25, 0.2)  # around them, of their span
LETTER: Final = 6.2
MARKER: Final = 6.0
GAP: Final = 8.0  # or two numbers read as one

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Point:
    """Hold a point and what it is called."""

    x: float
    y: float
    name: str


def placed(points: Sequence[Point]) -> tuple[list[str], bool]:
    """Return Plotly's position for the label of each point, and whether none of them overlaps anything.

    A label without room gets an empty position. Points without a name are only what others must not cover.
    """
    scaled = [_scaled(points, span) for span in SPANS]
    taken = [[(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in at] for at in scaled]
    found, free = [], True
    for place, point in enumerate(points):
        options = [_boxes(*at[place], point.name) for at in scaled]
        fitting = [
            name
            for name in options[0]
            if all(
                _inside(boxes[name], span) and not any(_overlap(boxes[name], other) for other in others)
                for boxes, others, span in zip(options, taken, SPANS, strict=True)
            )
        ]
        if not point.name or not fitting:
            found.append("")
            free = free and not point.name
            continue
        found.append(fitting[0])
        for boxes, others in zip(options, taken, strict=True):
            others.append(boxes[fitting[0]])
    return found, free


def groups(points: Sequence[Point]) -> list[list[int]]:
    """Return the places of points whose markers cover one another even on a desktop, each group under its first."""
    at = _scaled(points, SPANS[-1])
    found: list[list[int]] = []
    for place, (x, y) in enumerate(at):
        for group in found:
            first = at[group[0]]
            if abs(first[0] - x) < MARKER and abs(first[1] - y) < MARKER:
                group.append(place)
                break
        else:
            found.append([place])
    return found


def _scaled(points: Sequence[Point], span: tuple[float, float]) -> list[tuple[float, float]]:
    def along(values: list[float], pixels: float) -> list[float]:
        low, high = min(values), max(values)
        return [pixels * (value - low) / max(high - low, 1e-12) for value in values]

    across, up = along([p.x for p in points], span[0]), along([p.y for p in points], span[1])
    return list(zip(across, up, strict=True))


def _boxes(x: float, y: float, name: str) -> dict[str, Box]:
    wide = LETTER * len(name) + GAP
    return {
        "top center": (x - wide / 2, y + 8, x + wide / 2, y + 22),
        "bottom center": (x - wide / 2, y - 22, x + wide / 2, y - 8),
        "middle right": (x + 9, y - 7, x + 9 + wide, y + 7),
        "middle left": (x - 9 - wide, y - 7, x - 9, y + 7),
    }


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(box: Box, span: tuple[float, float]) -> bool:
    beside, above = ROOM[0] * span[0] + GAP / 2, ROOM[1] * span[1]
    return -beside <= box[0] and box[2] <= span[0] + beside and -above <= box[1] and box[3] <= span[1] + above
