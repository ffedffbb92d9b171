"""The stock command that a replay starts: its arguments, its configuration and user directory, its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from plimsoll.market.clock import WallClock
from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.replay.history import Market

LINKED: Final = ("strategies", "protections", "freqaimodels")
FORWARDED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
POLL_SECONDS: Final = 0.1
_STANDING_SECONDS: Final = 300.0
_ENDING_SECONDS: Final = 300.0
_AGAIN_SECONDS: Final = 30.0  # until another interrupt: Python drops one that meets a finalizer


def parsed(command: list[str]) -> dict[str, Any]:
    """Return what Freqtrade makes of the words of a command."""
    from freqtrade.commands import Arguments

    return dict(Arguments(command).get_parsed_arg())


def complete(command: list[str], parsed: dict[str, Any], config: Path, directory: Path) -> list[str]:
    """Return the command with the replay's configuration, and the default one where none is named."""
    words = [sys.executable, "-m", "freqtrade", *command]
    if not any(word.startswith(("-c", "--config")) for word in command):
        # Freqtrade looks for its default only where no configuration is given, and ours is one.
        for path in parsed.get("config") or ():
            words += ["-c", path]
    return [*words, "-c", str(config), "--user-data-dir", str(directory)]


def write_config(directory: Path, user_data: Path, exchange: LoopbackExchange, market: Market) -> Path:
    """Write the configuration of a replay into its directory, and return the file."""
    # A user directory of its own: a replay must not count as dry-run on record, nor write into the journal.
    for name in LINKED:
        if (user_data / name).is_dir() and not (directory / name).exists():
            (directory / name).symlink_to((user_data / name).resolve())
    config = exchange_config(exchange.url, market.pairs if market.whitelist else None)
    config["initial_state"] = "running"
    config["user_data_dir"] = str(directory)
    config["db_url"] = f"sqlite:///{directory / 'trades.sqlite'}"
    path = directory / "replay.json"
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    return path


def directory_for(keep: Path | None, user_data: Path) -> Path:
    """Make the directory that a replay writes to, and return it."""
    if keep is not None:
        directory = keep
    elif user_data.is_dir() and os.access(user_data, os.W_OK):
        directory = user_data / "replay" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
    else:
        directory = Path(tempfile.mkdtemp(prefix="plimsoll-replay-"))
    directory.mkdir(parents=True, exist_ok=True)
    return directory.resolve()


def run_command(
    command: list[str],
    exchange: LoopbackExchange,
    clock: WallClock | None,
    speed: float,
    end_ms: int,
    console: Console,
) -> int:
    """Run a command until it ends or the history does, and return its exit status."""
    environment = {**os.environ, **(clock.environment() if clock else {})}
    # A group of its own, so that an interrupt of the keyboard reaches the bot once, forwarded.
    process = subprocess.Popen(command, env=environment, process_group=0)
    started, ended, told = time.monotonic(), None, -_AGAIN_SECONDS
    try:
        with _forwarding(process):
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                if clock is not None and clock.speed == 0.0 and _begun(exchange, started):
                    clock.run(speed)
                if exchange.now() >= end_ms and ended is None:
                    ended = time.monotonic()
                    console.print("The history has ended; ending the bot.")
                if ended is not None and time.monotonic() > told + _AGAIN_SECONDS:
                    told = time.monotonic()
                    process.send_signal(signal.SIGINT)
                if ended is not None and time.monotonic() > ended + _ENDING_SECONDS:
                    process.kill()
    finally:
        process.kill()
        status = process.wait()
    if ended is not None and status == 128 + signal.SIGINT:
        return 0
    return 128 - status if status < 0 else status


def _begun(exchange: LoopbackExchange, started: float) -> bool:
    # Until the bot asks for a price, the clock stands and it misses nothing.
    asked = any(name.endswith(("/klines", "/depth")) for name in list(exchange.requests))
    return asked or time.monotonic() > started + _STANDING_SECONDS


@contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[None]:
    numbers = [getattr(signal, name) for name in FORWARDED if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda got, _: process.send_signal(got)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
