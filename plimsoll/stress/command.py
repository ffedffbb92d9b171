"""``plimsoll stress``: positions under shocks, and with ``markets`` strategies through many simulated markets."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from plimsoll import bridge
from plimsoll.bot_database import (
    DatabaseFault,
    add_arguments,
    choose_bot,
    configuration,
    default_config,
    open_database,
)
from plimsoll.rules import margin_health
from plimsoll.rules.shock import MOST_SETTLEMENTS, Shock, in_order, strike
from plimsoll.rules.shock_limits import Bands, Limits, answers
from plimsoll.settings import Settings, SettingsError, load
from plimsoll.status_view import is_silent
from plimsoll.stress import markets
from plimsoll.stress.book import FEE, Book, from_file, from_status, limits_in_force
from plimsoll.stress.errors import StressError
from plimsoll.stress.shocks_view import Stressed, StressView, document
from plimsoll.terminal import clean, complain, console, duration, moment

NAME: Final = "stress"
AS_IT_IS: Final = "as it is"
GAPS: Final = (-0.10, -0.20, -0.40, 0.20)
AGAINST: Final = 0.20
# The bound of Binance's funding for most pairs, per settlement; three days of it.
FUNDING_RATE, SETTLEMENTS = 0.0075, 9
VOLATILITY: Final = 2.0
BUFFER: Final = 0.05


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        NAME,
        help="put open or hypothetical positions under shocks, or strategies through many markets",
        description="Show which position is liquidated first and at which move, what gaps, correlation to one, a funding spike"
        " and doubled volatility cost, and what the limits would do. Positions are those of a bot, read from its database, or"
        " those of --positions. Ends with 1 where they cannot be told.",
    )
    add_arguments(parser)
    parser.add_argument("--positions", type=Path, metavar="FILE",
                        help="hypothetical positions instead, JSON or TOML: equity, and a list of positions with pair, side,"
                        " leverage, margin, open_rate, and if you like rate, stop, volatility, tiers")  # fmt: skip
    parser.add_argument("--gap", type=float, action="append", metavar="RATIO",
                        help="move of every price, -0.2 is a fall of 20 %%; may be repeated (default"
                        f" {', '.join(f'{gap:+g}' for gap in GAPS)})")  # fmt: skip
    parser.add_argument("--against", type=float, default=AGAINST, metavar="RATIO",
                        help=f"move of every price against the position in it (default {AGAINST})")  # fmt: skip
    parser.add_argument("--funding-rate", type=float, default=FUNDING_RATE, metavar="RATIO",
                        help=f"what every position pays per settlement (default {FUNDING_RATE})")  # fmt: skip
    parser.add_argument("--settlements", type=int, default=SETTLEMENTS, metavar="N",
                        help=f"of that funding, at most {MOST_SETTLEMENTS:,} (default {SETTLEMENTS})")  # fmt: skip
    parser.add_argument("--volatility", type=float, default=VOLATILITY, metavar="MULTIPLE",
                        help=f"of the present volatility (default {VOLATILITY:g})")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print it as one document")
    parser.set_defaults(run=run, refuse=parser.error)
    markets.add_parser(parser.add_subparsers(title="commands", metavar="COMMAND"))


def run(arguments: argparse.Namespace) -> int:
    """Print what the shocks do; return the exit status."""
    try:
        shocks = standard_shocks(
            gaps=arguments.gap or GAPS,
            against=arguments.against,
            funding_rate=arguments.funding_rate,
            settlements=arguments.settlements,
            volatility=arguments.volatility,
        )
    except ValueError as error:
        arguments.refuse(str(error))
        raise AssertionError from error
    try:
        config = _config(arguments)
        book, settings, remark = (
            _hypothetical(arguments, config) if arguments.positions else _running(arguments, config)
        )
    except (StressError, SettingsError, DatabaseFault) as error:
        complain(NAME, error)
        return 1
    buffer = _buffer(config)
    limits = shock_limits(settings)
    struck = [strike(book.positions, equity=book.equity, shock=s, buffer=buffer, fee=FEE) for s in shocks]
    stressed = Stressed(
        book=book,
        order=in_order(book.positions, buffer=buffer, funding_rate=arguments.funding_rate),
        funding_rate=arguments.funding_rate,
        shocks=[
            (each, answers(each, book.before, limits, buffer=buffer, others=book.others)) for each in struck
        ],
        consequences=consequences(settings),
        remark=remark,
    )
    if arguments.json:
        print(json.dumps(document(stressed), allow_nan=False))
    else:
        console().print(StressView(stressed))
    return 0


def standard_shocks(
    *, gaps: Sequence[float], against: float, funding_rate: float, settlements: int, volatility: float
) -> list[Shock]:
    """Return the shocks that the command applies: first none, which shows what is breached already, last all that goes against you.

    :raises ValueError: where one is out of range.
    """

    def shock(name: str, *, moves: float = 0.0, paid: bool = False, times: float = 1.0) -> Shock:
        return Shock(
            name,
            against=moves,
            funding_rate=funding_rate if paid else 0.0,
            settlements=settlements if paid else 0,
            volatility=times,
            correlated=moves > 0.0,
        )

    return [
        Shock(AS_IT_IS),
        *(Shock(f"gap {100 * gap:+.4g} %", market_move=gap) for gap in gaps),
        shock(f"all against {100 * against:.4g} %", moves=against),
        shock(f"funding {100 * funding_rate:.4g} % x{settlements}", paid=True),
        shock(f"volatility x{volatility:g}", times=volatility),
        shock("all at once", moves=against, paid=True, times=volatility),
    ]


def shock_limits(settings: Settings) -> Limits:
    """Return the numbers of the settings that a shock is measured against."""
    v, h = settings.volatility, settings.margin_health
    return Limits(
        drawdown=settings.drawdown.limit,
        daily_loss=settings.loss_limit.daily,
        weekly_loss=settings.loss_limit.weekly,
        heat=settings.exposure.heat,
        total_margin=settings.exposure.total_margin,
        gross_notional=settings.exposure.gross_notional,
        bands=Bands(v.high, v.mid, v.high_leverage, v.mid_leverage, v.low_leverage),
        volatility_budget=v.budget,
        exceedance=v.exceedance,
        portfolio_volatility=settings.correlation.budget,
        health=margin_health.Config(
            alert=h.alert,
            close=h.close,
            reduce_distance=h.reduce_distance,
            close_distance=h.close_distance,
            reduce_by=h.reduce_by,
            rearm=h.rearm,
            confirmations=1,
        ),
        off=frozenset(settings.off),
    )


def consequences(settings: Settings) -> dict[str, str]:
    """Return what each limit does once it is breached."""
    latched = settings.drawdown.reset == "latched"
    cooldown = duration(settings.drawdown.cooldown_minutes * 60.0)
    rolling = settings.loss_limit.rolling
    return {
        "drawdown": f"no entries {'until an operator resets it' if latched else f'for {cooldown}'}",
        "daily_loss": f"no entries {'for 24 hours' if rolling else 'until the next day'}",
        "weekly_loss": f"no entries {'for 7 days' if rolling else 'until the next week'}",
        "heat_limit": "no entries until there is room",
        "total_margin": "no entries until there is room",
        "gross_notional": "no entries until there is room",
        "volatility_regime": "new entries at less leverage; the open one stays",
        "volatility_budget": "new entries smaller; the open one stays",
        "portfolio_volatility": "new entries scaled down or skipped",
    }


# -- Where it comes from -------------------------------------------------------------------------------------


def _config(arguments: argparse.Namespace) -> dict[str, Any]:
    # A file of positions or a database that is named does without a configuration, where there is none.
    needed = arguments.positions is None and arguments.db_url is None
    if not needed and arguments.config is None and default_config(arguments.user_data_dir) is None:
        return {}
    config = configuration(arguments.config, arguments.user_data_dir)
    mode, margin = config.get("trading_mode", "spot"), config.get("margin_mode", "")
    if mode != "futures" or margin != "isolated":
        raise StressError(
            f"shocks are of futures under isolated margin; trading_mode is {mode!r}, margin_mode {margin!r}"
        )
    return config


def _buffer(config: Mapping[str, Any]) -> float:
    value = config.get("liquidation_buffer", BUFFER)
    return float(value) if isinstance(value, int | float) and 0.0 <= value < 1.0 else BUFFER


def _hypothetical(arguments: argparse.Namespace, config: Mapping[str, Any]) -> tuple[Book, Settings, str]:
    settings = load(config.get("plimsoll"))
    return from_file(arguments.positions, settings), settings, ""


def _running(arguments: argparse.Namespace, config: Mapping[str, Any]) -> tuple[Book, Settings, str]:
    database = open_database(arguments)
    bot = choose_bot(database, arguments.bot, must_be_known=True)
    stored = None
    if bot is not None:
        with database.explained():
            stored = bridge.read_status(database.engine, bot)
    if bot is None or stored is None:
        raise StressError(f"no bot has written a status into {database.shown} yet; see --positions")
    # What the bot reports stands like a strategy's settings: the tighter of both.
    settings = load(config.get("plimsoll"), limits_in_force(stored.document))
    now = time.time()
    remark = ""
    if is_silent(stored, now):
        remark = f"the bot is silent: this is as of {moment(stored.time)}"
    return from_status(stored.document, clean(bot)), settings, remark
