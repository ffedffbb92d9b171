"""Pictures of the layers that look from further away: decay, portfolio and the dead man's switch."""

from __future__ import annotations

import math
from random import Random

from chart import Chart

from plimsoll.rules import deadman, decay, portfolio
from plimsoll.rules.breaker import DAY, ClosedTrade, Tick
from plimsoll.rules.exposure import asset_of

MONDAY = 1_704_067_200  # 2024-01-01 00:00 UTC


def decay_picture() -> Chart:
    """The CUSUM score of a strategy whose edge is gone after half of the time."""
    config = decay.Config(baseline=decay.Baseline(mean=0.004, deviation=0.02, trades=400, trades_per_day=2.0))
    levels = decay.levels(config)
    assert levels is not None
    assert levels.pause is not None
    random, state, scores, seen = Random(6), decay.State(), [], {}
    for trade in range(900):
        mean = 0.004 if trade < 400 else -0.002
        sample = ClosedTrade(MONDAY + trade * DAY // 2, "BTC/USDT:USDT", random.gauss(mean, 0.02))
        state, verdict = decay.step(state, config, sample)
        scores.append((trade / 2, state.score))
        word = "pause" if verdict.blocked else "half" if verdict.factor < 1.0 else "fine"
        if trade >= 400:
            seen.setdefault(word, trade / 2)
        if verdict.blocked:
            break
    chart = Chart(
        "The edge is lost at day 200: half size, then a pause",
        x=(0, 300),
        y=(0, 36),
        x_label="days",
        y_label="decay score, in deviations of one trade",
    )
    chart.y_ticks([(value, f"{value}") for value in (0, 10, 20, 30)])
    chart.x_ticks([(day, f"{day}") for day in (0, 50, 100, 150, 200, 250, 300)])
    chart.line([(200, 0), (200, 34)], "faint", 1.5, "4 4")
    chart.text(200, 33, "edge lost", "faint", "end", dx=-6)
    for level, colour, words in (
        (levels.warn, "amber", "half size"),
        (levels.pause, "red", "pause of 30 days"),
    ):
        chart.line([(0, level), (300, level)], colour, 1.5, "5 4")
        chart.text(4, level, words, colour, dy=-6)
    chart.line(scores, "blue")
    for word, colour in (("half", "amber"), ("pause", "red")):
        if word in seen:
            chart.dot(seen[word], dict(scores)[seen[word]], colour)
            chart.text(seen[word], dict(scores)[seen[word]], f"day {seen[word]:.0f}", colour, dx=8, dy=14)
    return chart


def portfolio_picture() -> Chart:
    """Five requests of three bots, one after another, against the shared limits."""
    limits, now = portfolio.Limits(), float(MONDAY)
    capitals = [portfolio.Capital(bot, 10_000.0, now, 600.0) for bot in ("A", "B", "C")]
    asks = [
        ("A", "BTC", 5_000, 400),
        ("B", "BTC", 4_000, 300),
        ("B", "ETH", 6_000, 500),
        ("C", "SOL", 4_000, 300),
        ("C", "ADA", 1_000, 500),
    ]
    claims: list[portfolio.Claim] = []
    chart = Chart(
        "Three bots of 10,000 each ask one after another: margin in use by all",
        x=(0, 18_000),
        y=(-0.6, 5.0),
        x_label="margin of all bots (limit 50 % of 30,000; one asset 25 %; open risk 6 %)",
        left=160,
    )
    chart.x_ticks([(value, f"{value:,}") for value in (0, 5_000, 10_000, 15_000)])
    chart.line([(15_000, -0.5), (15_000, 4.6)], "red", 1.5, "5 4")
    for row, (bot, asset, margin, risk) in enumerate(asks):
        pair, y = f"{asset}/USDT:USDT", 4 - row
        used = sum(claim.margin for claim in claims)
        wanted = portfolio.Wanted(bot, pair, pair, "long", float(margin), float(risk))
        answer = portfolio.decide(
            wanted=wanted, claims=claims, capitals=capitals, limits=limits, halted=None, now=now
        )
        granted = float(margin) if answer.granted else max(answer.most_margin or 0.0, 0.0)
        if granted:
            claims.append(
                portfolio.Claim(
                    bot,
                    pair,
                    pair,
                    asset_of(pair),
                    "long",
                    granted,
                    risk * granted / margin,
                    "confirmed",
                    now,
                )
            )
        chart.text(0, y, f"{bot} wants {asset} {margin:,}", "text", "end", dx=-8, dy=4)
        chart.box((0, used), (y - 0.28, y + 0.28), "faint", 0.3)
        chart.box((used, used + granted), (y - 0.28, y + 0.28), "green", 0.8)
        full = granted == margin
        why = "" if full else f" ({answer.reason.split(':')[0].split(' is ')[0]})"
        words = f"{granted:,.0f}{'' if full else f' of {margin:,}'}"
        colour = "green" if full else "amber" if granted else "red"
        chart.text(
            min(used + granted, 9_000) if not full else used + granted,
            y,
            words + why,
            colour,
            dx=8,
            dy=4 if full else -16,
        )
    return chart


def dead_mans_switch() -> Chart:
    """The levels of the switch from a check-in on, and a check-in that comes too late."""
    config, state = deadman.Config(), deadman.State()
    state, _ = deadman.step(state, config, deadman.CheckIn(MONDAY, "you"))
    points = []
    for minute in range(0, 30 * 60, 6):
        sample: deadman.CheckIn | Tick = Tick(MONDAY + minute * 60)
        if minute == 26 * 60:
            sample = deadman.CheckIn(MONDAY + minute * 60, "you")
        state, verdict = deadman.step(state, config, sample)
        points.append((minute / 60, float(verdict.level)))
    chart = Chart(
        "24 hours without a check-in",
        x=(0, 30),
        y=(-0.4, 3.6),
        x_label="hours since the last check-in",
        left=90,
        height=280,
    )
    chart.y_ticks([(float(level), name) for level, name in enumerate(deadman.LEVELS)])
    chart.x_ticks([(hour, f"{hour}") for hour in (0, 6, 12, 18, 24, 30)])
    chart.steps(points, "blue", 2.5)
    for level, colour in ((1.0, "amber"), (2.0, "amber"), (3.0, "red")):
        at = next(hour for hour, value in points if value == level)
        chart.dot(at, level, colour)
        chart.text(
            at,
            level,
            f"{at:.1f} h" if not math.isclose(at, round(at)) else f"{at:.0f} h",
            colour,
            "end",
            dx=-10,
            dy=-4,
        )
    chart.dot(26, 3.0, "green")
    chart.text(26, 3.0, "too late: only a", "green", dx=-4, dy=22)
    chart.text(26, 3.0, "reset ends it", "green", dx=-4, dy=38)
    return chart


PICTURES = {
    "decay": decay_picture,
    "portfolio": portfolio_picture,
    "dead-mans-switch": dead_mans_switch,
}
