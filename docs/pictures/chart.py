"""A chart as SVG text: enough for the pictures of the handbook, the same bytes for the same numbers.

Every picture brings its own background, so it can be read on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

WIDTH, LEFT, RIGHT = 760, 64, 24
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"

# name: (on light, on dark). `card` is the background that the others are read on.
COLOURS = {
    "card": ("#ffffff", "#1b1f27"),
    "text": ("#20262e", "#e4e8ee"),
    "faint": ("#5c6672", "#a3adba"),
    "grid": ("#e1e5ea", "#343b46"),
    "blue": ("#0b5cad", "#7db7ff"),
    "red": ("#b3261e", "#ff9b91"),
    "green": ("#1a6b3a", "#77d49a"),
    "amber": ("#8a5200", "#f0b95c"),
}


def _style() -> str:
    def rules(index: int) -> str:
        return "".join(
            f".{name}{{fill:{shades[index]}}}.{name}-line{{stroke:{shades[index]};fill:none}}"
            for name, shades in COLOURS.items()
        )

    return (
        f"text{{font-family:{FONT};font-size:13px}}{rules(0)}@media(prefers-color-scheme:dark){{{rules(1)}}}"
    )


@dataclass
class Chart:
    """Collect shapes in data coordinates and write them as one SVG document."""

    title: str
    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str = ""
    y_label: str = ""
    height: int = 340
    left: int = LEFT
    shapes: list[str] = field(default_factory=list)

    def px(self, x: float) -> float:
        low, high = self.x
        return self.left + (x - low) / (high - low) * (WIDTH - self.left - RIGHT)

    def py(self, y: float) -> float:
        low, high = self.y
        top, bottom = 48, self.height - (46 if self.x_label else 30)
        return bottom - (y - low) / (high - low) * (bottom - top)

    def x_ticks(self, ticks: Iterable[tuple[float, str]]) -> None:
        for at, text in ticks:
            self.text(at, self.y[0], text, "faint", "middle", dy=18)

    def y_ticks(self, ticks: Iterable[tuple[float, str]]) -> None:
        for at, text in ticks:
            self.line([(self.x[0], at), (self.x[1], at)], "grid", 1)
            self.text(self.x[0], at, text, "faint", "end", dx=-8, dy=4)

    def line(
        self, points: Sequence[tuple[float, float]], colour: str, width: float = 2, dash: str = ""
    ) -> None:
        path = " ".join(f"{self.px(x):.1f},{self.py(y):.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.shapes.append(
            f'<polyline class="{colour}-line" stroke-width="{width:g}"{dashes} points="{path}"/>'
        )

    def steps(self, points: Sequence[tuple[float, float]], colour: str, width: float = 2) -> None:
        corners = [points[0]]
        for (_, before), (x, after) in pairwise(points):
            corners += [(x, before), (x, after)]
        self.line(corners, colour, width)

    def box(self, x: tuple[float, float], y: tuple[float, float], colour: str, opacity: float = 1.0) -> None:
        left, right, top, bottom = self.px(x[0]), self.px(x[1]), self.py(y[1]), self.py(y[0])
        self.shapes.append(
            f'<rect class="{colour}" fill-opacity="{opacity:g}" x="{left:.1f}" y="{top:.1f}"'
            f' width="{right - left:.1f}" height="{bottom - top:.1f}"/>'
        )

    def dot(self, x: float, y: float, colour: str) -> None:
        self.shapes.append(f'<circle class="{colour}" cx="{self.px(x):.1f}" cy="{self.py(y):.1f}" r="4.5"/>')

    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = "text",
        anchor: str = "start",
        dx: float = 0,
        dy: float = 0,
    ) -> None:
        self.shapes.append(
            f'<text class="{colour}" x="{self.px(x) + dx:.1f}" y="{self.py(y) + dy:.1f}"'
            f' text-anchor="{anchor}">{escape(text)}</text>'
        )

    def svg(self) -> str:
        """Return the document; the title is also what a screen reader says."""
        middle = (self.left + WIDTH - RIGHT) / 2
        labels = [f'<text class="text" x="16" y="26" font-weight="600">{escape(self.title)}</text>']
        if self.x_label:
            labels.append(
                f'<text class="faint" x="{middle:g}" y="{self.height - 8}" text-anchor="middle">{escape(self.x_label)}</text>'
            )
        if self.y_label:
            labels.append(f'<text class="faint" x="{self.left}" y="42">{escape(self.y_label)}</text>')
        size = f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" height="{self.height}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{_style()}</style>",
                f'<rect class="card" width="{WIDTH}" height="{self.height}" rx="8"/>',
                *self.shapes,
                *labels,
                "</svg>\n",
            ]
        )
