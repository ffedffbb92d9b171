"""Print realised against target volatility of portfolios, with the correlation sizer and without.

Run with ``python -m benchmarks.portfolio_volatility [--data DIR | --simulated]``; without candles on a simulated market.
Three questions, each with all positions long, three of four, and sides at random:

- Forecast: a book of 2-8 positions (or as many as there are pairs) at 1 % a day each, its volatility of the next 24 hours
  against the forecast that ignores correlation, and against the one that measures it as the rule does.
- Target: the same books, those forecast above the budget, sized down to it. "Mean" scales the whole book by the published
  factor, "B / sigma" by budget / forecast, clipped to [0.25, 1]; "one by one" asks the guard's own rules for each position in
  turn, with their defaults.
- Arrivals: signals come and go and nothing is resized after entry, as in Freqtrade. Each pair signals once in ``EVERY`` hours on
  average while it has no position, and a position lasts ``LASTS`` hours on average, both drawn at random; quant-methods.md does
  not say which it took. A day is a UTC day that begins with a position. What is used is the mean realised volatility of a day, as a
  ratio of the budget.
"""

from __future__ import annotations

import argparse
import time as clock
from collections.abc import Iterable
from pathlib import Path

from benchmarks.correlated_books import (
    BUDGET,
    DATA,
    EACH,
    EVERY,
    LASTS,
    METHODS,
    SIDES,
    WINDOW,
    World,
    arrivals,
    real_world,
    simulated_world,
    targets,
)

# quant-methods.md, section 7, five pairs: forecast errors, targeting errors, and sequential arrivals all long.
PUBLISHED_FORECAST = {"ignored": 0.519, "measured": 0.444}
PUBLISHED_TARGET = {"all long": (0.557, 0.444), "3:1 long": (0.663, 0.475), "random sides": (0.696, 0.448)}
PUBLISHED_ARRIVALS = {
    "none": (0.94, 0.125, 0.030),
    "mean, floor 25 % (published)": (0.57, 0.026, 0.009),
    "marginal, floor 25 %": (0.73, 0.049, 0.014),
    "marginal, skip": (0.73, 0.047, 0.013),
    "marginal, skip, shrink (default)": (0.72, 0.038, 0.011),
}


def row(cells: Iterable[object]) -> None:
    """Print one row of a Markdown table."""
    print(f"| {' | '.join(str(cell) for cell in cells)} |")


def head(title: str, *columns: str) -> None:
    """Print the head of a Markdown table."""
    print(f"\n{title}\n")
    row(columns)
    row(["---"] * len(columns))


def report(world: World, reference: bool) -> None:
    """Measure and print everything, beside the figures of quant-methods.md where the market is that of its section 7."""
    print(f"{', '.join(world.pairs)}: {world.begins:%Y-%m-%d %H:%M} to {world.ends:%Y-%m-%d %H:%M} UTC;")
    print(f"forecasts after {WINDOW} hours of each pair; {EACH:.0%} a day each, budget {BUDGET:.0%} a day")
    found = {name: targets(world, share) for name, share in SIDES.items()}
    title = "Forecast of the next 24 hours, RMS of log(realised / forecast)"
    head(title, "sides", "books", "correlation ignored", "measured")
    for sides, each in found.items():
        published = PUBLISHED_FORECAST if reference and sides == "all long" else {}
        row(
            [
                sides,
                each.books,
                *(_beside(each.forecast[name], published.get(name)) for name in each.forecast),
            ]
        )
    head(
        "Target, RMS of log(realised / budget), where the forecast is above the budget; in brackets the mean of realised / budget",
        "sides", "books", "none", "mean", "B / sigma", "mean, one by one", "marginal, one by one",
    )  # fmt: skip
    for sides, each in found.items():
        published = (
            dict(zip(("mean", "B / sigma"), PUBLISHED_TARGET[sides], strict=True)) if reference else {}
        )
        cells = [
            f"{_beside(each.error[name], published.get(name))} ({each.used[name]:.0%})" for name in each.error
        ]
        row([sides, each.above, *cells])
    for sides, share in SIDES.items():
        head(
            f"Arrivals, {sides}: a signal each {EVERY:g} h, held {LASTS:g} h on average",
            "method", "days", "positions", "taken", "used", "days over 1.5 B", "losses over 2 B", "q99.9 loss",
        )  # fmt: skip
        for method in METHODS:
            days = arrivals(world, method, share)
            published = PUBLISHED_ARRIVALS[method.name] if reference and sides == "all long" else (None,) * 3
            figures = (days.used, days.above, days.losses)
            cells = [_percent(came, told) for came, told in zip(figures, published, strict=True)]
            row(
                [
                    method.name,
                    days.days,
                    f"{days.positions:.1f}",
                    f"{days.taken:.0%}",
                    *cells,
                    f"{days.worst:.1f} B",
                ]
            )


def _beside(value: float, published: float | None) -> str:
    return f"{value:.3f}" if published is None else f"{value:.3f} [{published:.3f}, {value - published:+.3f}]"


def _percent(value: float, published: float | None) -> str:
    return f"{value:.1%}" if published is None else f"{value:.1%} [{published:.1%}]"


def main() -> None:
    """Measure on real candles where there are any, else on a simulated market."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.portfolio_volatility", description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA, help="Freqtrade's data directory")
    parser.add_argument("--simulated", action="store_true", help="take the simulated market")
    arguments = parser.parse_args()
    started = clock.perf_counter()
    real = not arguments.simulated and (arguments.data / "futures").is_dir()
    if real:
        print("In square brackets: section 7 of quant-methods.md, and the difference.")
    report(real_world(arguments.data) if real else simulated_world(), reference=real)
    print(f"\n{clock.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
