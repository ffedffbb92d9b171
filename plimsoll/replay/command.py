"""``plimsoll replay``: a candle history as a live market on this machine, for stock ``freqtrade trade`` in dry-run."""

from __future__ import annotations

import argparse
import math
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from plimsoll.market.clock import FASTEST, ClockUnavailable, WallClock, unavailable
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.history import FileHistory
from plimsoll.market.replay import Replay, hours_to_shift
from plimsoll.replay import bot, history
from plimsoll.replay.bot import POLL_SECONDS
from plimsoll.replay.history import DAYS, SEED, ReplayError


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        "replay",
        help="replay a candle history as a live market, for `freqtrade trade` in dry-run",
        description="Replay downloaded or simulated candles as a live market on this machine. After `--` comes"
        " a stock command that is started on it; without one, the configuration to give to it is printed."
        " Nothing leaves this machine, and nothing of a replay gets into your user directory's records.",
        epilog="Example: plimsoll replay --data user_data/data/binance --from 2024-03-05T12:00 --speed 60"
        " -- trade -s MyStrategy -c config.json",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="downloaded candles, e.g. user_data/data/binance"
    )
    parser.add_argument("--seed", type=int, help=f"of a simulated market instead (default {SEED})")
    parser.add_argument("--days", type=int, help=f"simulated days after the warm-up (default {DAYS})")
    parser.add_argument(
        "--pairs", nargs="+", metavar="PAIR", help="only these (default: every pair, your own whitelist)"
    )
    parser.add_argument(
        "--from",
        dest="moment",
        type=_moment,
        metavar="MOMENT",
        help="what happens now, e.g. 2024-03-05T12:00, in UTC (default: 32 days after the first candle)",
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        help="times real time (default 1); above 1 it needs a command after `--`",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="where to write (default below user_data/replay, or temporary)",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="e.g. trade -s X")
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Replay until the command ends, the keyboard interrupts or, with a command, the history ends."""
    command = list(arguments.command)
    if command[:1] == ["--"]:
        command = command[1:]
    if command[:1] == ["freqtrade"]:
        command = command[1:]
    if arguments.data is not None and (arguments.seed is not None or arguments.days is not None):
        arguments.refuse("--seed and --days are of the simulated market, not of --data")
    if arguments.days is not None and arguments.days < 1:
        arguments.refuse(f"--days must be at least 1, was {arguments.days}")
    if arguments.speed != 1.0 and not command:
        arguments.refuse("--speed needs a command after `--`: the bot's clock is set before it starts")
    try:
        return _replay(arguments, command, Console(highlight=False))
    except (ReplayError, ClockUnavailable, ValueError, OSError) as error:
        Console(stderr=True, highlight=False).print(Text(f"plimsoll replay: {error}"), soft_wrap=True)
        return 1


def _replay(arguments: argparse.Namespace, command: list[str], console: Console) -> int:
    parsed = bot.parsed(command) if command else {}
    user_data = Path(parsed.get("user_data_dir") or "user_data")
    directory = bot.directory_for(arguments.keep, user_data)
    market = (
        history.given(arguments) if arguments.data is not None else history.simulated(arguments, directory)
    )
    source = FileHistory(market.datadir)
    replay = Replay(source)
    moment = history.checked(arguments.moment, replay.span_ms(market.pairs))
    reason = unavailable()
    if reason is not None and arguments.speed != 1.0:
        raise ReplayError(
            f"--speed must be 1 on this machine, as a clock cannot be told to the bot: {reason}"
        )
    with ExitStack() as stack:
        if command and reason is None:
            clock = stack.enter_context(WallClock(directory / "clock", moment))
            now = clock.milliseconds
            said = f"the bot's clock begins at {moment:%Y-%m-%d %H:%M} UTC, speed {arguments.speed:g}"
        else:
            clock, now = None, _system_clock
            replay = Replay(source, shift_hours=hours_to_shift(moment, now()))
            happening = datetime.fromtimestamp((now() - replay.shift_ms) / 1000, UTC)
            said = f"{happening:%Y-%m-%d %H:%M} UTC happens now, speed 1, history moved by whole hours"
        span = replay.span_ms(market.pairs)
        assert span is not None
        exchange = stack.enter_context(LoopbackExchange(market.pairs, source=replay, now=now))
        config = bot.write_config(directory, user_data, exchange, market)
        left = (span[1] - now()) / 3_600_000 / arguments.speed
        console.print(f"Market    {market.said}", soft_wrap=True)
        console.print(f"Replay    {said}; the history ends in {left:,.1f} real hours", soft_wrap=True)
        console.print(f"Exchange  {exchange.url}")
        console.print(f"Config    {config}", soft_wrap=True)
        if command:
            database = parsed.get("db_url") or f"sqlite:///{directory / 'trades.sqlite'}"
            console.print(Text(f"Database  {database}"), soft_wrap=True)
            return bot.run_command(
                bot.complete(command, parsed, config, directory),
                exchange,
                clock,
                arguments.speed,
                span[1],
                console,
            )
        console.print(f"Next      freqtrade trade -s STRATEGY -c config.json -c {config}", soft_wrap=True)
        if reason is not None:
            console.print(f"Only speed 1 is possible here: {reason}", soft_wrap=True)
        console.print("Ctrl-C ends it.")
        while now() < span[1]:
            time.sleep(POLL_SECONDS)
        console.print("The history has ended; the price stands still from here on.")
        while True:
            time.sleep(3600)


def _system_clock() -> int:
    return time.time_ns() // 1_000_000


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like 2024-03-05T12:00, was {text!r}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0.0 < speed <= FASTEST:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {FASTEST:g}, was {text!r}")
    return speed
