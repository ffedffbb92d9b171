"""Every limit with its default, unit and bounds: one frozen model per rule.

``tighter`` tells which direction of a value restricts more: it decides who wins when a strategy and the config both set a key,
and it is what the reference prints. ``classic`` is the default under ``profile: classic``; without it both profiles agree.
Values are ratios, never percent.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from plimsoll.rules.leverage import HARD_MAXIMUM_LEVERAGE

Tighter = Literal["lower", "higher", "true", "false"]


class Section(BaseModel):
    """Refuse unknown keys, changes after creation, NaN and silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def _set(
    default: Any, unit: str, meaning: str, tighter: Tighter | None = None, classic: Any = None, **bounds: Any
) -> Any:
    extra = {"unit": unit, "tighter": tighter} | ({} if classic is None else {"classic": classic})
    return Field(default=default, description=meaning, json_schema_extra=extra, **bounds)


class Leverage(Section):
    cap: float = _set(5.0, "x", "Highest leverage, floored to an integer; the hard maximum cannot be raised", "lower", 3.0,
                      ge=1.0, le=HARD_MAXIMUM_LEVERAGE)  # fmt: skip
    stop_to_liquidation: float = _set(0.5, "ratio", "The stop lies at most this far on the way from entry to liquidation",
                                      "lower", 0.65, gt=0.0, le=0.65)  # fmt: skip
    hard_stop_to_liquidation: float = _set(0.65, "ratio", "No stop is ever left further on the way than this", "lower",
                                           gt=0.0, le=0.65)  # fmt: skip
    min_liquidation_distance: float = _set(0.15, "ratio of price", "Liquidation is at least this far from the entry", "higher",
                                           ge=0.0, lt=1.0)  # fmt: skip
    daily_ranges_to_liquidation: float = _set(1.0, "normal daily ranges", "Liquidation is at least this many away", "higher",
                                              ge=0.0, le=20.0)  # fmt: skip


class Volatility(Section):
    method: Literal["blend", "daily"] = _set("blend", "", "blend: EWMA and 30-day mean of 1h returns; daily: 30 daily closes",
                                             None, "daily")  # fmt: skip
    mode: Literal["mean", "max"] = _set(
        "mean", "", "How the blend's two legs combine; max is the conservative one"
    )
    half_life_hours: float = _set(24.0, "hours", "Half-life of the fast leg", ge=1.0, le=720.0)
    window_hours: int = _set(720, "hours", "Length of the slow leg", ge=72, le=2160)
    min_hours: int = _set(720, "hours", "Shorter history is unknown: no entries", "higher", ge=72, le=2160)
    high: float = _set(
        0.05,
        "per day",
        "Above this daily volatility the high regime's leverage applies",
        "lower",
        gt=0.0,
        le=1.0,
    )
    mid: float = _set(0.02, "per day", "From this daily volatility on the middle regime's leverage applies", "lower", gt=0.0,
                      le=1.0)  # fmt: skip
    high_leverage: float = _set(1.0, "x", "Most leverage in the high regime", "lower", ge=1.0, le=5.0)
    mid_leverage: float = _set(3.0, "x", "Most leverage in the middle regime", "lower", ge=1.0, le=5.0)
    low_leverage: float = _set(5.0, "x", "Most leverage in the low regime", "lower", ge=1.0, le=5.0)
    budget: float = _set(0.02, "ratio of equity", "Loss budget of one position for one day, at one sigma unless exceedance is set",
                         "lower", gt=0.0, le=0.1)  # fmt: skip
    exceedance: float | None = _set(None, "probability", "Chance per day of losing more than the budget; none: one sigma",
                                    None, ge=0.001, le=0.1)  # fmt: skip


class Kelly(Section):
    method: Literal["exact", "binary"] = _set(
        "exact", "", "exact growth optimum, or win rate and payoff", None, "binary"
    )
    multiple: float = _set(0.25, "ratio", "Fraction of the growth optimum", "lower", 0.5, gt=0.0, le=0.5)
    shrink_trades: float = _set(100.0, "trades", "The mean is shrunk by n/(n+this); 200 for trades of an optimised backtest",
                                "higher", 0.0, ge=0.0, le=10000.0)  # fmt: skip
    window_trades: int = _set(200, "trades", "Closed trades looked at", ge=10, le=10000)
    min_trades: int = _set(30, "trades", "Fewer are a cold start", "higher", 10, ge=5, le=1000)
    cold_start_risk: float = _set(
        0.0025, "ratio of equity", "Risk per trade in a cold start", "lower", 0.01, gt=0.0, le=0.02
    )
    floor_risk: float = _set(0.001, "ratio of equity", "Risk per trade without an edge: never 0, or the estimate would freeze",
                             "lower", gt=0.0, le=0.02)  # fmt: skip


class Stop(Section):
    atr_multiple: float = _set(2.0, "ATR", "Stop distance", "lower", gt=0.0, le=10.0)
    atr_period: int = _set(14, "1h candles", "Wilder's period", ge=2, le=200)
    exit_when_missing: bool = _set(
        True,
        "",
        "Exit when the price is through a stop that should rest on the exchange and does not",
        "true",
    )


class Risk(Section):
    per_trade: float = _set(0.01, "ratio of equity", "Loss of one trade at its stop, fees and slippage inside", "lower", gt=0.0,
                            le=0.02)  # fmt: skip
    slippage: float = _set(
        0.0005, "ratio of price", "Allowance for the fill of a stop", "higher", ge=0.0, le=0.05
    )


class Exposure(Section):
    position_margin: float = _set(0.20, "ratio of equity", "Margin of one position", "lower", gt=0.0, le=0.25)
    total_margin: float = _set(0.15, "ratio of equity", "Margin of all positions: what is lost if every stop fails", "lower", 0.60,
                               gt=0.0, le=1.0)  # fmt: skip
    asset_margin: float = _set(0.25, "ratio of equity", "Margin on one asset", "lower", gt=0.0, le=1.0)
    gross_notional: float = _set(3.0, "ratio of equity", "Longs plus shorts", "lower", gt=0.0, le=25.0)
    net_notional: float = _set(2.0, "ratio of equity", "Longs minus shorts", "lower", gt=0.0, le=25.0)
    heat: float = _set(0.06, "ratio of equity", "Sum of all open risk", "lower", gt=0.0, le=0.5)
    max_long: int | None = _set(None, "positions", "Open longs; none: no cap", "lower", ge=0)
    max_short: int | None = _set(None, "positions", "Open shorts; none: no cap", "lower", ge=0)
    add_to_losers: bool = _set(False, "", "Allow additions to a position that is losing", "false")


class Correlation(Section):
    method: Literal["marginal", "mean"] = _set(
        "marginal", "", "marginal portfolio variance, or mean correlation", None, "mean"
    )
    half_life_hours: float = _set(168.0, "hours", "Half-life of the correlation", ge=1.0, le=720.0)
    window_hours: int = _set(720, "hours", "History of the correlation", ge=168, le=2160)
    missing: float = _set(
        0.8, "correlation", "Taken where history is missing or short", "higher", ge=0.0, le=1.0
    )
    budget: float = _set(0.02, "per day", "Portfolio volatility", "lower", gt=0.0, le=0.2)
    shrink_to_one: float = _set(0.25, "ratio", "Little credit for hedges", "higher", ge=0.0, le=1.0)
    skip_below: float = _set(0.25, "factor", "A smaller factor skips the entry", "higher", ge=0.0, le=1.0)
    floor: float = _set(
        0.25, "factor", "Smallest factor of the mean-correlation rule", "lower", ge=0.0, le=1.0
    )


class RewardRisk(Section):
    minimum: float = _set(1.5, "R", "Reward at the stated target", "higher", ge=0.0, le=20.0)
    take_profit_r: float | None = _set(
        None, "R", "Target where the strategy states none; none: no target", None, gt=0.0, le=100.0
    )


class Funding(Section):
    hold_hours: float = _set(24.0, "hours", "Expected holding time", "higher", ge=0.0, le=2160.0)
    max_share_of_risk: float = _set(
        0.25, "ratio of R", "Most that expected funding may cost", "lower", gt=0.0, le=10.0
    )
    reserve_days: float = _set(
        3.0, "days", "Funding set aside from the way to liquidation", "higher", ge=0.0, le=60.0
    )


class Streak(Section):
    method: Literal["published", "win_rate"] = _set(
        "published", "", "Fixed streak length, or from the win rate"
    )
    win_rate: float | None = _set(
        None, "ratio", "The strategy's win rate, for method win_rate", None, gt=0.0, lt=1.0
    )
    losses: int = _set(
        3,
        "trades",
        "Losses in a row that halve the size; each further one halves again",
        "lower",
        ge=1,
        le=50,
    )
    floor: float = _set(0.10, "factor", "Smallest size", "lower", gt=0.0, le=1.0)
    cooldown_losses: int = _set(3, "trades", "Losses in a row that stop entries", "lower", ge=1, le=50)
    cooldown_minutes: float = _set(60.0, "minutes", "For how long", "higher", ge=0.0, le=43200.0)
    per_pair: bool = _set(False, "", "Count per pair as well", "true")


class Drawdown(Section):
    limit: float = _set(0.20, "ratio of peak equity", "Entries stop", "lower", gt=0.0, lt=1.0)
    reset: Literal["latched", "cooldown"] = _set("latched", "", "Until an operator resets it, or for a time")
    cooldown_minutes: float = _set(
        10080.0, "minutes", "After which equity is the new reference", "higher", gt=0.0, le=525600.0
    )
    ladder: tuple[tuple[float, float, float | None], ...] = _set(
        (), "(drawdown, size factor, most leverage)",
        "Size steps down under the peak; the leverage of the deepest step holds until a new peak", None,
        ((0.05, 0.75, 3.0), (0.10, 0.5, 2.0), (0.15, 0.25, 1.0)), strict=False)  # fmt: skip


class LossLimit(Section):
    daily: float = _set(
        0.05, "ratio of opening equity", "Loss of a day, open loss included", "lower", gt=0.0, lt=1.0
    )
    weekly: float = _set(
        0.15, "ratio of opening equity", "Loss of a week, open loss included", "lower", gt=0.0, lt=1.0
    )
    rolling: bool = _set(False, "", "The last 24 hours and 7 days instead of the calendar's")
    timezone: str = _set("UTC", "IANA name", "Where a day begins")


class Decay(Section):
    method: Literal["cusum", "sharpe"] = _set(
        "cusum", "", "Sequential test, or rolling Sharpe ratio", None, "sharpe"
    )
    window_days: float = _set(30.0, "days", "Window of the Sharpe ratio", gt=0.0, le=365.0)
    min_trades: int = _set(10, "trades", "Fewer tell nothing", ge=2, le=1000)
    min_sharpe: float = _set(0.5, "per year", "Below it entries pause", "higher", ge=-10.0, le=10.0)
    baseline: str | None = _set(None, "path", "Baseline of the sequential test")


class MarginHealth(Section):
    alert: float = _set(0.80, "ratio of margin used", "Alert", "lower", gt=0.0, le=1.0)
    close: float = _set(0.90, "ratio of margin used", "Close", "lower", gt=0.0, le=1.0)
    reduce_distance: float = _set(
        0.10, "ratio of price", "Liquidation nearer: reduce", "higher", ge=0.0, lt=1.0
    )
    close_distance: float = _set(
        0.05, "ratio of price", "Liquidation nearer: close", "higher", ge=0.0, lt=1.0
    )
    reduce_by: float = _set(
        0.5, "ratio of position", "How much a reduction takes off", "higher", gt=0.0, le=1.0
    )
    rearm: float = _set(1.25, "times reduce_distance", "After a reduction no additions until liquidation is further than this",
                        "higher", ge=1.0, le=10.0)  # fmt: skip


class Deadman(Section):
    hours: float = _set(24.0, "hours", "Without a check-in entries stop", "lower", gt=0.0, le=8760.0)
    warning: float = _set(0.83, "ratio of hours", "Warning", "lower", gt=0.0, le=1.0)
    critical: float = _set(0.96, "ratio of hours", "Critical", "lower", gt=0.0, le=1.0)
    close_positions: bool = _set(False, "", "Close positions as well", "true")
    heartbeat_minutes: float = _set(
        5.0, "minutes", "Minutes between pings to PLIMSOLL_HEARTBEAT_URL", gt=0.0, le=1440.0
    )


class Portfolio(Section):
    exposure: float = _set(0.50, "ratio of capital", "Margin of all bots", "lower", gt=0.0, le=1.0)
    asset: float = _set(0.25, "ratio of capital", "Margin of all bots on one asset", "lower", gt=0.0, le=1.0)
    drawdown: float = _set(
        0.15, "ratio of peak capital", "Halts every bot until a manual reset", "lower", gt=0.0, lt=1.0
    )
    heat: float = _set(0.06, "ratio of capital", "Sum of all open risk of all bots", "lower", gt=0.0, le=0.5)
    ledger: str | None = _set(
        None,
        "path",
        "SQLite file that the bots share; a URL goes into PLIMSOLL_LEDGER_URL; none: one bot alone",
    )
    silent_minutes: float = _set(
        10.0, "minutes", "A bot not heard of for longer is named; its positions and capital count on", "lower",
        gt=0.0, le=1440.0)  # fmt: skip


class Gates(Section):
    allow_cross_margin: bool = _set(False, "", "Cross margin is refused without it", "false")
    proving_days: float = _set(
        14.0, "days", "Dry-run on record before live entries", "higher", ge=0.0, le=365.0
    )
    proving_override: bool = _set(False, "", "Trade live without the record", "false")


class Journal(Section):
    enabled: bool = _set(True, "", "Record every plan and outcome; always off in hyperopt")
    path: str | None = _set(
        None, "path", "JSON lines file; none: user_data/plimsoll/<strategy>-<runmode>.jsonl"
    )


Layer = Literal["leverage", "volatility", "kelly", "risk", "exposure", "correlation", "reward_risk", "funding", "streak",
                "drawdown", "loss_limit", "decay", "margin_health", "deadman", "portfolio"]  # fmt: skip


class Settings(Section):
    """Hold every limit of Plimsoll, as found under the config key ``plimsoll``.

    Keys are ``section.name``; ratios are of the stated base. Construct it with :func:`plimsoll.settings.load`, which applies the
    profile, weighs config against strategy and reports all faults at once.
    """

    profile: Literal["calibrated", "classic"] = _set("calibrated", "", "The set of defaults")
    override: tuple[str, ...] = _set((), "keys", "Keys that the config sets even where it is looser than the strategy",
                                     strict=False)  # fmt: skip
    off: tuple[Layer, ...] = _set(
        (), "layers", "Layers switched off, to measure what each does", strict=False
    )
    leverage: Leverage = Leverage()
    volatility: Volatility = Volatility()
    kelly: Kelly = Kelly()
    stop: Stop = Stop()
    risk: Risk = Risk()
    exposure: Exposure = Exposure()
    correlation: Correlation = Correlation()
    reward_risk: RewardRisk = RewardRisk()
    funding: Funding = Funding()
    streak: Streak = Streak()
    drawdown: Drawdown = Drawdown()
    loss_limit: LossLimit = LossLimit()
    decay: Decay = Decay()
    margin_health: MarginHealth = MarginHealth()
    deadman: Deadman = Deadman()
    portfolio: Portfolio = Portfolio()
    gates: Gates = Gates()
    journal: Journal = Journal()
