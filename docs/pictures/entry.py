"""Pictures of the layers that plan an entry: stop and size. Every number comes from the rules themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import numpy as np
from chart import Chart

from plimsoll.plan import Account, Market, Signal, make_plan
from plimsoll.rules.answer import Kind
from plimsoll.rules.correlation import correlation_factor, mean_correlation_factor
from plimsoll.rules.kelly import KellyEstimate, kelly_estimate
from plimsoll.rules.leverage import leverage_from_stop
from plimsoll.rules.liquidation import MaintenanceTier, buffered_distance_ratio
from plimsoll.rules.regime import volatility_regime
from plimsoll.rules.volatility import blended_volatility, daily_close_volatility
from plimsoll.settings import Settings, load

# Binance's first tiers of an alt coin: 1 % maintenance margin up to 50,000, then 2.5 %.
TIERS = (
    MaintenanceTier(0.0, 50_000.0, 0.01, 0.0, 50.0),
    MaintenanceTier(50_000.0, 500_000.0, 0.025, 750.0, 20.0),
)
STOP = 0.12


def percent(ticks: Sequence[float]) -> list[tuple[float, str]]:
    return [(tick, f"{100 * tick:g} %") for tick in ticks]


def stop() -> Chart:
    """How far liquidation is at each leverage, and which of them keep a stop 12 % away inside."""
    chart = Chart(
        "A long with a stop 12 % away: which leverage keeps it inside liquidation?",
        x=(0.0, 1.0),
        y=(0.4, 5.9),
        x_label="distance below the entry",
        height=360,
    )
    settings = load()
    chart.x_ticks(percent([0, 0.2, 0.4, 0.6, 0.8, 1.0]))
    for leverage in range(1, 6):
        distance = buffered_distance_ratio(leverage=leverage, mmr=TIERS[0].mmr, side="long")
        soft = settings.leverage.stop_to_liquidation * distance
        hard = settings.leverage.hard_stop_to_liquidation * distance
        y = 6 - leverage
        fits = soft >= STOP and distance >= settings.leverage.min_liquidation_distance
        chart.box((0, soft), (y - 0.27, y + 0.27), "green", 0.35)
        chart.box((soft, hard), (y - 0.27, y + 0.27), "amber", 0.35)
        chart.box((hard, distance), (y - 0.27, y + 0.27), "red", 0.35)
        chart.text(0, y, f"{leverage}x", "text", "end", dx=-10, dy=4)
        words = f"liquidation {100 * distance:.1f} % away: {'fits' if fits else 'refused'}"
        inside = distance > 0.6
        where = ("end", -10) if inside else ("start", 10)
        chart.text(
            distance, y, words, "text" if inside else "green" if fits else "red", where[0], where[1], 4
        )
    chart.line([(STOP, 0.55), (STOP, 5.5)], "text", 2, "5 4")
    chart.text(STOP, 5.62, "the stop", "text", "middle")
    legend = (
        ("green", "a stop may lie here"),
        ("amber", "an open one is never left beyond"),
        ("red", "no stop here"),
    )
    for row, (colour, words) in enumerate(legend):
        chart.text(0.62, 3.2 - 0.42 * row, words, colour)
    answer = leverage_from_stop(
        stop_price_ratio=STOP, side="long", tiers=TIERS, notional=10_000.0, fee=0.0005
    )
    chart.text(0.62, 1.5, f"the rule answers {answer.value:g}x", "text")
    return chart


def _plan_numbers(settings: Settings) -> tuple[list[tuple[str, float]], str, float]:
    equity = 10_000.0
    signal = Signal(0, "SUI/USDT:USDT", "long", 4.0, own_stop_margin_ratio=0.9)
    market = Market(
        atr=0.06,
        sigma_day=0.045,
        daily_range=0.08,
        fee=0.0005,
        exchange_maximum=50.0,
        liquidation_buffer=0.05,
        tiers=TIERS,
    )
    random = Random(3)
    returns = [random.gauss(0.009, 0.03) for _ in range(120)]
    kelly = kelly_estimate(returns, multiple=0.25, shrink_trades=100.0, min_trades=30)
    plan = make_plan(signal, market, Account(equity, (), kelly), settings)
    bars = [
        (answer.rule, (answer.value or 0.0) * (plan.leverage if answer.kind is Kind.MARGIN else 1) / equity)
        for answer in plan.answers
        if answer.kind in (Kind.NOTIONAL, Kind.MARGIN) and answer.value is not None
    ]
    return bars, plan.bound_size, plan.notional / equity


def size() -> Chart:
    """Every limit's answer to one signal, as notional over equity: the smallest wins."""
    bars, bound, granted = _plan_numbers(load())
    bars.sort(key=lambda bar: bar[1])
    chart = Chart(
        "One signal, every limit: the smallest wins",
        x=(0.0, 3.3),
        y=(-0.6, len(bars) - 0.4),
        x_label="notional allowed, as a multiple of equity",
        left=150,
        height=90 + 32 * len(bars),
    )
    chart.x_ticks([(tick, f"{tick:g}") for tick in (0, 0.5, 1, 1.5, 2, 2.5, 3)])
    for index, (rule, value) in enumerate(bars):
        y = len(bars) - 1 - index
        colour = "red" if rule == bound else "blue"
        chart.box((0, value), (y - 0.3, y + 0.3), colour, 0.8)
        chart.text(0, y, rule.replace("_", " "), "text", "end", dx=-8, dy=4)
        chart.text(value, y, f"{value:.2f}", colour, dx=6, dy=4)
    chart.line([(granted, -0.5), (granted, len(bars) - 0.5)], "red", 1.5, "5 4")
    return chart


def _hourly_closes(days: int, quiet: float, wild: float, burst: tuple[int, int]) -> np.ndarray:
    random, price, closes = Random(11), 100.0, []
    for hour in range(days * 24):
        daily = wild if burst[0] <= hour / 24 < burst[1] else quiet
        price *= math.exp(random.gauss(0.0, daily / math.sqrt(24)))
        closes.append(round(price, 9))
    return np.array(closes)


def volatility() -> Chart:
    """The forecast around a burst of volatility, and what the published measure says meanwhile."""
    days, burst = 90, (45, 52)
    closes = _hourly_closes(days, 0.02, 0.075, burst)
    chart = Chart(
        "A week at 7.5 % a day in a quiet market: who notices, and who forgets?",
        x=(34.0, 90.0),
        y=(0.0, 0.09),
        x_label="days",
        y_label="volatility per day",
    )
    chart.y_ticks(percent([0, 0.02, 0.04, 0.06, 0.08]))
    chart.x_ticks([(day, f"{day}") for day in (40, 50, 60, 70, 80)])
    chart.line(
        [(34, 0.02), (45, 0.02), (45, 0.075), (52, 0.075), (52, 0.02), (90, 0.02)], "faint", 1.5, "4 4"
    )
    chart.text(52.5, 0.076, "what it truly was", "faint")
    blend, published = blended_volatility(closes, min_hours=720), daily_close_volatility(closes)
    for series, colour in ((published, "amber"), (blend, "blue")):
        chart.line([(hour / 24, float(series[hour])) for hour in range(34 * 24, days * 24, 6)], colour)
    chart.text(56, 0.052, "calibrated: 1/2 EWMA of 24 h + 1/2 mean of 30 days", "blue")
    chart.text(60, 0.012, "classic: 30 daily closes", "amber")
    for sigma, y in ((0.0199, 0.0035), (0.05, 0.0415), (0.051, 0.085)):
        most = volatility_regime(sigma_day=sigma).value
        chart.text(34.3, y, f"at most {most:g}x", "faint")
    chart.line([(34, 0.05), (90, 0.05)], "faint", 1)
    return chart


def kelly() -> Chart:
    """What the estimate allows after n trades of a strategy with a small edge, calibrated and classic."""
    random = Random(5)
    returns = [0.02 if random.random() < 0.55 else -0.0185 for _ in range(300)]
    chart = Chart(
        "A small edge (55 % winners of 2 %, losers of 1.85 %): how much does it allow?",
        x=(0, 300),
        y=(-0.6, 5.0),
        x_label="closed trades",
        y_label="notional as a multiple of equity",
    )
    chart.x_ticks([(n, f"{n}") for n in (0, 50, 100, 150, 200, 250, 300)])
    chart.y_ticks([(n, f"{n}") for n in range(6)])

    def series(**parameters: object) -> list[tuple[float, float]]:
        found = []
        for n in range(10, 301, 5):
            estimate: KellyEstimate = kelly_estimate(returns[max(0, n - 200) : n], **parameters)  # type: ignore[arg-type]
            found.append((n, min(estimate.notional_to_equity or 0.0, 5.0)))
        return found

    chart.line(series(method="binary", multiple=0.5, shrink_trades=0.0, min_trades=10), "amber")
    chart.line(series(method="exact", multiple=0.25, shrink_trades=100.0, min_trades=30), "blue")
    chart.text(300, 4.2, "classic: half of the sample's optimum", "amber", "end")
    chart.text(300, -0.4, "calibrated: a quarter, mean shrunk by n/(n+100)", "blue", "end")
    return chart


def correlation() -> Chart:
    """The share of one more equal position that is granted, by how many are held and how alike they are."""
    chart = Chart(
        "One more long of 0.7 % a day beside n others: how much fits into 2 % a day?",
        x=(0, 8),
        y=(0.0, 1.2),
        x_label="positions held at full size",
        y_label="size factor",
    )
    chart.x_ticks([(n, f"{n}") for n in range(9)])
    chart.y_ticks([(n, f"{n:g}") for n in (0, 0.25, 0.5, 0.75, 1)])
    for rho, colour in ((0.0, "green"), (0.5, "blue"), (0.9, "red")):
        points = []
        for n in range(9):
            answer = correlation_factor(
                held_volatility=[0.007] * n,
                held_side=[1] * n,
                held_correlation=np.full((n, n), rho),
                new_correlation=[rho] * n,
                new_side=1,
                new_volatility=0.007,
                budget=0.02,
            )
            points.append((n, answer.value or 0.0))
        chart.line(points, colour)
        for n, value in points:
            chart.dot(n, value, colour)
        full = max(n for n, value in points if value >= 1.0)
        chart.text(full, 1.0, f"correlation {rho:g}", colour, dx=4, dy=-10 - 16 * (full == 2))
    flat = mean_correlation_factor(correlations=[0.9] * 3).value or 0.0
    chart.line([(1, flat), (8, flat)], "amber", 2, "5 4")
    chart.text(8, flat, "classic at correlation 0.9: the same beside 1 and beside 8", "amber", "end", dy=-8)
    return chart


PICTURES = {"stop": stop, "size": size, "volatility": volatility, "kelly": kelly, "correlation": correlation}
