"""Pictures of the layers with a memory: they step the real rules through made-up histories."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from chart import Chart
from entry import percent

from plimsoll.rules import drawdown, loss_limit, streak
from plimsoll.rules.breaker import DAY, EquitySample, ReadingConfig
from plimsoll.rules.liquidation import MaintenanceTier
from plimsoll.rules.margin_health import measure

CERTAIN = ReadingConfig(confirmations=1)
MONDAY = 1_704_067_200  # 2024-01-01 00:00 UTC
HOUR = 3600


def _path(anchors: list[tuple[float, float]], length: int, noise: float, seed: int) -> list[float]:
    """Values along straight lines between (position, value), with a little noise that returns to them."""
    random, wander, values = Random(seed), 0.0, []
    for index in range(length):
        wander = 0.8 * wander + random.gauss(0.0, noise)
        for (x0, y0), (x1, y1) in pairwise(anchors):
            if x0 <= index <= x1:
                values.append(y0 + (y1 - y0) * (index - x0) / (x1 - x0) + wander)
                break
    return values


def margin_health() -> Chart:
    """What margin health sees of a 5x long as the price falls towards liquidation."""
    chart = Chart(
        "A 5x long on its way down, were there no stop: reduce, then close",
        x=(0.0, 0.20),
        y=(0.0, 1.0),
        x_label="price below the entry",
        y_label="ratio",
    )
    chart.x_ticks(percent([0, 0.05, 0.10, 0.15, 0.20]))
    chart.y_ticks(percent([0, 0.2, 0.4, 0.6, 0.8, 1.0]))
    tiers = (MaintenanceTier(0.0, None, 0.01, 0.0),)
    used, away = [], []
    for step in range(201):
        fall = step / 1000
        seen = measure(
            side="long",
            open_rate=100.0,
            rate=100.0 * (1 - fall),
            amount=1.0,
            margin=20.0,
            funding=0.0,
            tiers=tiers,
        )
        used.append((fall, min(seen.margin_used, 1.0)))
        away.append((fall, max(seen.distance, 0.0)))
    reduce = next(x for x, distance in away if distance < 0.10)
    close = next(
        x for (x, distance), (_, share) in zip(away, used, strict=True) if distance < 0.05 or share >= 0.9
    )
    chart.box((reduce, close), (0, 1), "amber", 0.2)
    chart.box((close, 0.20), (0, 1), "red", 0.2)
    chart.line(used, "blue")
    chart.line(away, "green")
    chart.text(0.03, 0.26, "margin used", "blue")
    chart.text(0.03, 0.10, "distance to liquidation", "green")
    chart.text(reduce, 0.93, "reduce by half", "amber", dx=6)
    chart.text(close, 0.93, "close", "red", dx=6)
    return chart


def drawdown_picture() -> Chart:
    """Equity, its peak, and what the breaker and the classic ladder make of it."""
    config = drawdown.Config(
        limit=0.20, ladder=((0.05, 0.75, 3.0), (0.10, 0.5, 2.0), (0.15, 0.25, 1.0)), readings=CERTAIN
    )
    values = _path(
        [(0, 10_000), (40, 12_000), (70, 10_900), (95, 11_800), (150, 9_350), (200, 10_600)], 201, 45, 4
    )
    state, peaks, factors, tripped = drawdown.State(), [], [], None
    for day, equity in enumerate(values):
        state, verdict = drawdown.step(state, config, EquitySample(MONDAY + day * DAY, equity))
        peaks.append((float(day), state.peak or equity))
        factors.append((float(day), verdict.factor))
        if verdict.blocked and tripped is None:
            tripped = day
    assert tripped is not None
    chart = Chart(
        "20 % under the peak: no entries until somebody resets it",
        x=(0, 200),
        y=(7_200, 12_600),
        x_label="days",
        y_label="equity",
        height=380,
    )
    chart.y_ticks([(value, f"{value:,}") for value in (9_000, 10_000, 11_000, 12_000)])
    chart.x_ticks([(day, f"{day}") for day in (0, 50, 100, 150, 200)])
    chart.box((tripped, 200), (7_200, 12_400), "red", 0.14)
    chart.line(peaks, "faint", 1.5)
    chart.line([(day, 0.8 * peak) for day, peak in peaks], "red", 1.5, "5 4")
    chart.line([(float(day), value) for day, value in enumerate(values)], "blue")
    chart.text(200, 12_160, "peak", "faint", "end")
    chart.text(60, 9_300, "20 % under the peak", "red")
    chart.text(200, 8_700, "no entries, exits go on", "red", "end", dx=-6)
    chart.steps([(day, 7_300 + 900 * factor) for day, factor in factors], "amber")
    chart.text(30, 8_330, "size factor of the classic ladder: 1, 0.75, 0.5, 0.25, then 0", "amber")
    return chart


def loss_limits() -> Chart:
    """A week of hourly equity against the openings of its days."""
    config = loss_limit.Config(limit=0.05, readings=CERTAIN)
    values = _path([(0, 10_000), (20, 10_150), (36, 9_900), (44, 9_560), (60, 9_760), (96, 9_900)], 97, 22, 8)
    state, floor, blocked = loss_limit.State(), [], []
    for hour, equity in enumerate(values):
        state, verdict = loss_limit.step(state, config, EquitySample(MONDAY + hour * HOUR, equity))
        floor.append((float(hour), 0.95 * (state.opening or equity)))
        if verdict.blocked:
            blocked.append(hour)
    chart = Chart(
        "5 % of the day's opening equity, open losses counted",
        x=(0, 96),
        y=(9_100, 10_350),
        x_label="days",
        y_label="equity",
    )
    chart.y_ticks([(value, f"{value:,}") for value in (9_250, 9_500, 9_750, 10_000, 10_250)])
    chart.x_ticks(
        [(24 * day + 12, name) for day, name in enumerate(("Monday", "Tuesday", "Wednesday", "Thursday"))]
    )
    for day in range(1, 4):
        chart.line([(24 * day, 9_100), (24 * day, 10_350)], "grid", 1.5)
    chart.box((blocked[0], blocked[-1] + 1), (9_100, 10_350), "red", 0.14)
    chart.steps(floor, "red", 1.5)
    chart.line([(float(hour), value) for hour, value in enumerate(values)], "blue")
    chart.text(1, floor[0][1], "95 % of the opening", "red", dy=-6)
    chart.text(blocked[0], 10_250, "no entries", "red", dx=4)
    chart.text(blocked[0], 10_190, "until midnight", "red", dx=4)
    return chart


def streak_picture() -> Chart:
    """The size factor after losses in a row, and how common such a streak is for a healthy strategy."""
    chart = Chart(
        "Losses in a row: the size that is left, and how often a healthy strategy sees it",
        x=(0.4, 10.6),
        y=(0.0, 1.08),
        x_label="losses in a row",
    )
    chart.y_ticks(percent([0, 0.25, 0.5, 0.75, 1.0]))
    chart.x_ticks([(n, f"{n}") for n in range(1, 11)])
    config = streak.Config()
    for losses in range(1, 11):
        factor = streak.factor_after(losses, config)
        chart.box((losses - 0.3, losses + 0.3), (0, factor), "blue" if factor == 1.0 else "amber", 0.7)
    chance = [(float(n), streak.streak_probability(0.5, n, 200)) for n in range(1, 11)]
    chart.line(chance, "red")
    for n, value in chance:
        chart.dot(n, value, "red")
    chart.text(10.6, 0.92, "chance of such a streak", "red", "end")
    chart.text(10.6, 0.86, "in 200 trades at 50 % winners", "red", "end")
    chart.text(3.45, 0.29, "size", "amber")
    return chart


PICTURES = {
    "margin-health": margin_health,
    "drawdown": drawdown_picture,
    "loss-limits": loss_limits,
    "streak": streak_picture,
}
