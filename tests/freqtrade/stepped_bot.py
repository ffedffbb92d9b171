"""A stock dry-run bot whose clock only the test moves; it counts its loops, and may be told to die in the middle of one.

Prices move a minute before each hour and stand otherwise, so that what a bot decides does not depend on how fast it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from dry_run_config import DRY_RUN
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from plimsoll.market.bot import TradingBot
from plimsoll.market.clock import WallClock
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.history import FileHistory

CONFIG: dict[str, Any] = {
    **DRY_RUN,
    "stake_amount": "unlimited",
    "timeframe": "1h",
    "ignore_buying_expired_candle_after": 60,
    "internals": {"process_throttle_secs": 0},
}
# Put before a strategy, with bases for it: `Counting` tells the test its loops; the process ends itself with SIGKILL at the n-th
# write to the database after the file was laid down, a write being a statement or a commit that is just about to be made.
COUNTING = """
import os
import signal
import sys

import pandas as pd
from freqtrade.strategy import IStrategy
from plimsoll import Guarded
from sqlalchemy import Engine, event

DIRECTORY = os.environ["STEPPED_BOT"]
left = []


def closing():
    # Freqtrade commits a filled exit before the trade that it closes: killed in between, it exits a second time.
    frame, names = sys._getframe(), set()
    while frame is not None:
        names.add(frame.f_code.co_name)
        frame = frame.f_back
    return {"execute_trade_exit", "update_trade_state"} <= names


def written(connection, statement="commit"):
    if not left and not os.path.exists(DIRECTORY + "/die"):
        return
    if not left:
        with open(DIRECTORY + "/die") as file:
            left.append(int(file.read() or 1))
    left[0] -= 1
    if left[0] <= 0 and not closing():
        with open(DIRECTORY + "/died", "a") as file:
            print(*statement.split()[:3], file=file)
        os.kill(os.getpid(), signal.SIGKILL)


def executed(connection, cursor, statement, *_):
    if statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE"):
        written(connection, statement)


event.listen(Engine, "before_cursor_execute", executed)
event.listen(Engine, "commit", written)


class Counting(IStrategy):
    def bot_loop_start(self, current_time, **kwargs):
        with open(DIRECTORY + "/loops", "ab") as file:
            file.write(b".")
        if os.path.exists(DIRECTORY + "/stop"):
            os.remove(DIRECTORY + "/stop")
            os.kill(os.getpid(), signal.SIGINT)

    def confirm_trade_exit(self, *_, **__):
        with open(DIRECTORY + "/exits", "a") as file:
            print(os.path.getsize(DIRECTORY + "/loops"), file=file)
        return True


class Told(Counting):
    '''Enter long the pairs that a file names, and leave them all while another file is there.'''

    timeframe = "1h"
    minimal_roi = {"0": 100}

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        try:
            with open(DIRECTORY + "/enter") as file:
                dataframe["enter_long"] = int(metadata["pair"] in file.read())
        except FileNotFoundError:
            dataframe["enter_long"] = 0
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        return dataframe

    def custom_exit(self, pair, trade, current_time, current_rate, current_profit, **kwargs):
        return "told" if os.path.exists(DIRECTORY + "/exit") else None


class Reversing(Counting):
    '''Enter in even hours, by the side of the mean that the price is on, and exit in odd ones when it has crossed.'''

    timeframe = "1h"
    can_short = True
    stoploss = -0.99
    minimal_roi = {"0": 100}
    enters_from = "2024-01-01 00:00"

    def populate_indicators(self, dataframe, metadata):
        dataframe["mean"] = dataframe["close"].rolling(6).mean()
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        due = (dataframe["date"] >= pd.Timestamp(self.enters_from, tz="UTC")) & (dataframe["date"].dt.hour % 2 == 0)
        up = dataframe["close"] > dataframe["mean"]
        dataframe.loc[due & up, "enter_long"] = 1
        dataframe.loc[due & ~up, "enter_short"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        due = dataframe["date"].dt.hour % 2 == 1
        up = dataframe["close"] > dataframe["mean"]
        dataframe.loc[due & ~up, "exit_long"] = 1
        dataframe.loc[due & up, "exit_short"] = 1
        return dataframe

"""


class SteppingPrices(FileHistory):
    """Tell the price at which the next candle opens from a minute before it does, times a factor."""

    factor = 1.0

    def last_price(self, pair: str, *, now_ms: int) -> float | None:
        price = super().last_price(pair, now_ms=now_ms + 60_000)
        return None if price is None else round(price * self.factor, 2)


class Died(Exception):
    """Say that the bot ended while its loops were waited for."""


class SteppedBot(TradingBot):
    """A `TradingBot` without pauses between its loops, and the clock it lives by."""

    def __init__(
        self,
        exchange: LoopbackExchange,
        directory: Path,
        strategy: str,
        source: str,
        clock: WallClock,
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        (directory / "strategies").mkdir(parents=True, exist_ok=True)
        (directory / "strategies" / "generated.py").write_text(COUNTING + source)
        env = {"STEPPED_BOT": str(directory.resolve()), **(env or {})}
        # Freqtrade gives up a lock that another process has for five seconds, and a process may stand for longer.
        url = options.pop("db_url", None) or f"sqlite:///{directory.resolve() / 'trades.sqlite'}?timeout=120"
        super().__init__(
            exchange, directory, strategy, configs=[CONFIG], clock=clock, env=env, db_url=url, **options
        )
        self.clock = clock
        self.starts = 0
        self._loops = self.directory / "loops"
        self._die = self.directory / "die"
        self._stop = self.directory / "stop"

    def start(self) -> None:
        self._die.unlink(missing_ok=True)
        self.starts += 1
        super().start()

    def stop(self, seconds: float = 240.0) -> int | None:
        """End it with SIGINT between two queries: amid one, Freqtrade cannot commit at its end, and logs so."""
        if self.process is not None and self.alive():
            self._stop.touch()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=min(seconds, 60.0))
            self._stop.unlink(missing_ok=True)
        return super().stop(seconds)

    @property
    def environment(self) -> dict[str, str]:
        """Return what puts another command under the bot's clock."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FREQTRADE__")}
        return {**inherited, **self.clock.environment()}

    def plimsoll(self, *arguments: str) -> tuple[int, str]:
        """Run the command line beside the bot, by the same clock; return its exit status and what it printed.

        It waits for the bot's answer as long as it takes, unless told otherwise.
        """
        command, *rest = arguments
        patience = ["--wait", "300"] if command in ("checkin", "reset") else []
        done = subprocess.run(
            [sys.executable, "-m", "plimsoll.cli", command, *patience, *rest],
            capture_output=True,
            text=True,
            timeout=600,
            env=self.environment | {"COLUMNS": "200"},
        )
        return done.returncode, done.stdout + done.stderr

    def loops(self) -> int:
        return self._loops.stat().st_size if self._loops.exists() else 0

    def last_exit(self) -> int:
        """Return the number of the loop in which it made up its mind to exit last."""
        return int((self.directory / "exits").read_text().split()[-1])

    def loop(self, times: int, seconds: float = 300.0) -> None:
        """Wait for so many whole loops from now on; what is running already does not count.

        :raises Died: where the bot ends before.
        """
        goal, deadline = self.loops() + times + 1, time.monotonic() + seconds
        while self.loops() < goal:
            if not self.alive():
                raise Died(self.last_words())
            assert time.monotonic() < deadline, self.last_words()
            time.sleep(0.01)

    def step(self, at: datetime, times: int = 3) -> None:
        """Set the clock and wait for so many whole loops."""
        self.clock.step(at)
        self.loop(times)

    def die_at_write(self, number: int) -> None:
        """Have the process end itself with SIGKILL right before its n-th write from now on."""
        # A file that is there is whole.
        beside = self._die.with_suffix(".new")
        beside.write_text(str(number))
        beside.rename(self._die)

    def status(self) -> dict[str, Any]:
        """Return what it wrote of itself last."""
        (value,) = self.query("select value from plimsoll_status")
        return dict(json.loads(value["value"]))

    def memory(self) -> dict[str, Any]:
        """Return what it would find after a restart."""
        (value,) = self.query("select value from plimsoll_memory")
        return dict(json.loads(value["value"]))

    def query(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """Return the rows of a query; none where the table is not there yet."""
        engine = create_engine(self.db_url, poolclass=NullPool)
        with closing(engine.connect()) as connection:
            try:
                return [dict(row) for row in connection.execute(text(sql), values).mappings()]
            except SQLAlchemyError as error:
                if "no such table" in str(error) or "does not exist" in str(error):
                    return []
                raise

    def exited_half(self) -> bool:
        """Return whether it was killed where Freqtrade itself cannot go on: an exit is filled, its trade is open still."""
        exits = "case when t.is_short then 'buy' else 'sell' end"
        asked = f"select o.id from orders o join trades t on o.ft_trade_id = t.id where t.is_open and o.ft_order_side = {exits}"
        return bool(self.query(f"{asked} and o.status = 'closed'"))

    def complaints(self) -> list[str]:
        """Return the log's lines that no bot should write."""
        signs = ("Traceback", "ERROR", "CRITICAL", "Fatal", "could not be evaluated", "no entries: ")
        refused = "API Error calling"  # what the API answers is its asker's to judge
        lines = (line for line in self.log().splitlines() if refused not in line)
        return [line for line in lines if any(sign in line for sign in signs)]
