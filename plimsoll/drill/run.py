"""Conduct a fire drill: one bot on the replay of a market, the scenario's events at their times, and what is left behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from plimsoll import bridge, journal
from plimsoll.drill.evidence import Evidence, Happened, Sample, reckoned_equity
from plimsoll.drill.scenario import (
    CheckIn,
    Enter,
    Exit,
    FaultEvent,
    History,
    Kill,
    Pace,
    Reset,
    Scenario,
)
from plimsoll.drill.stage import (
    WALLET,
    Clock,
    DrillFault,
    Options,
    RealClock,
    ToldClock,
    config_of,
    fault_of,
    market_of,
)
from plimsoll.market.bot import TradingBot
from plimsoll.market.clock import ClockUnavailable, WallClock
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.faults import REQUEST_KINDS, Fault, Faults
from plimsoll.market.replay import Replay
from plimsoll.shipped import config_file

START_SECONDS: Final = 600.0
POLL_SECONDS: Final = 0.02
SAMPLE_SECONDS: Final = 0.2
CRAWL: Final = 10.0  # not 0: Freqtrade's sleeps take as long as the clock says
FAILING: Final = 300.0  # while requests fail a loop takes long, so nothing is waited for
UNSEEN: Final = (
    30.0  # seconds of the market beyond those of a loop; then it hardly goes on while a process is held up
)
LOOP_DONE: Final = b"Bot heartbeat"
LAST_LOOPS_SECONDS: Final = 120.0
BY: Final = "drill"


def conduct(scenario: Scenario, directory: Path, options: Options) -> Evidence:
    """Run the strategy through a scenario and return the evidence; everything is written below ``directory``.

    :raises DrillFault: where the drill itself could not run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if options.speed == 1.0:
        return _conduct(scenario, directory, options, RealClock())
    moment = scenario.market.moment if isinstance(scenario.market, History) else scenario.market.start
    try:
        with WallClock(directory / "clock", moment) as clock:
            return _conduct(scenario, directory, options, ToldClock(clock), clock)
    except ClockUnavailable as error:
        raise DrillFault(f"{error}; --speed 1 runs at the system's clock") from None


def _conduct(
    scenario: Scenario, directory: Path, options: Options, clock: Clock, told: WallClock | None = None
) -> Evidence:
    source, pairs = market_of(scenario, clock, shifted=told is None)
    faults = Faults(seed=1)
    configs: list[Mapping[str, Any] | Path] = [
        config_file(),
        config_of(scenario, len(pairs), fast=told is not None),
    ]
    with LoopbackExchange(pairs, source=source, now=clock.milliseconds, faults=faults) as exchange:
        bot = TradingBot(
            exchange,
            directory,
            options.strategy,
            configs=configs,
            api=True,
            clock=told,
            arguments=["--strategy-path", str(options.strategy_path)],
        )
        try:
            return _Run(scenario, options, clock, source, pairs, faults, bot).conduct()
        finally:
            bot.kill()


class _Run:
    # The bot while the drill goes on.
    def __init__(
        self,
        scenario: Scenario,
        options: Options,
        clock: Clock,
        source: Replay,
        pairs: tuple[str, ...],
        faults: Faults,
        bot: TradingBot,
    ) -> None:
        self.scenario, self.options, self.clock, self.source = scenario, options, clock, source
        self.pairs, self.faults, self.bot = pairs, faults, bot
        self.engine = create_engine(bot.db_url, poolclass=NullPool)
        self.samples: list[Sample] = []
        self.prices: dict[str, list[tuple[float, float]]] = {pair: [] for pair in pairs}
        self.happened: list[Happened] = []
        self.loop_seconds = scenario.run.loop_seconds
        self.failing: list[Fault] = []
        self.sampled = 0.0  # this machine's clock
        self.looped = 0.0  # the market's
        self.read = 0  # bytes of the log

    def conduct(self) -> Evidence:
        clock, began = self.clock, self.clock.now()
        self._start()
        if isinstance(clock, RealClock):
            began = clock.now()
        ended = began + timedelta(hours=self.scenario.run.hours)
        self._pace()
        due = list(self._timeline(began))
        died = False
        while clock.now() < ended:
            while due and due[0][0] <= clock.now():
                due.pop(0)[1]()
            if not self.bot.alive():
                died = True
                break
            if time.monotonic() >= self.sampled + SAMPLE_SECONDS:
                self._sample()
            self._pace()
            following = min([ended, *(at for at, _ in due[:1])])
            left = (following - clock.now()).total_seconds() / clock.speed
            time.sleep(min(POLL_SECONDS, max(0.0, left)))
        clock.step(max(ended, clock.now()))
        self._last_loop(clock.now())
        self._sample()
        stopped = clock.now()
        self.bot.kill()
        path = self.bot.directory / "plimsoll" / f"{self.options.strategy}-dry_run.jsonl"
        return Evidence(
            began=began.timestamp(),
            ended=stopped.timestamp(),
            trades=[dict(row) for row in self.bot.trades()],
            orders=[dict(row) for row in self.bot.orders()],
            locks=[dict(row) for row in self.bot.locks()],
            journal=[dict(record) for record in journal.read(path)],
            samples=self.samples,
            happened=self.happened,
            prices=self.prices,
            log=self.bot.log(),
            died=died,
        )

    def _start(self) -> None:
        self.bot.start()
        if not self.bot.ready(START_SECONDS):
            raise DrillFault(f"the bot did not come up; its last lines:\n{self.bot.last_words()}")
        self.looped = self.clock.now().timestamp()

    def _pace(self) -> None:
        # However slow this machine is, the bot looks at the market as often as the scenario says.
        now = self.clock.now().timestamp()
        path = self.bot.directory / "bot.log"
        with path.open("rb") as log:
            log.seek(self.read)
            new = log.read()
        if LOOP_DONE in new:
            self.looped = now
            self.read += new.rindex(LOOP_DONE) + len(LOOP_DONE)
        failing = any(fault.kind in REQUEST_KINDS for fault in self.failing)
        full = min(self.scenario.run.speed, self.options.speed or self.scenario.run.speed)
        waited = now - self.looped - self.loop_seconds
        if failing:
            self.clock.run(min(FAILING, full), datetime.fromtimestamp(now + UNSEEN, UTC))
        elif waited >= UNSEEN:
            self.clock.run(1.0)
        else:
            waits = waited >= 0.0
            last = self.looped + self.loop_seconds + (UNSEEN if waits else 0.001)
            self.clock.run(min(CRAWL, full) if waits else full, datetime.fromtimestamp(last, UTC))

    def _last_loop(self, ended: datetime) -> None:
        # What the bot has to say at the very end it says in the loops after it.
        goal = int(ended.timestamp())

        def said() -> bool:
            status = self._status()
            return status is not None and float(status.get("time") or 0.0) >= goal

        if self._status() is not None:
            self.bot.wait(said, LAST_LOOPS_SECONDS)

    # -- What is seen ----------------------------------------------------------------------------------------

    def _sample(self) -> None:
        self.sampled = time.monotonic()
        now = self.clock.now()
        rates = {
            pair: self.source.last_price(pair, now_ms=round(now.timestamp() * 1000)) for pair in self.pairs
        }
        for pair, rate in rates.items():
            if rate is not None:
                self.prices[pair].append((now.timestamp(), rate))
        trades = self.bot.trades()
        stops = {t["id"]: (t["stop_loss"], t["liquidation_price"]) for t in trades if t["is_open"]}
        equity = reckoned_equity(trades, rates.get, WALLET)
        self.samples.append(Sample(time=now.timestamp(), equity=equity, status=self._status(), stops=stops))

    def _status(self) -> dict[str, Any] | None:
        with suppress(SQLAlchemyError, bridge.BridgeFault):
            stored = bridge.read_status(self.engine, self.options.strategy)
            return None if stored is None else stored.document
        return None

    # -- What happens ----------------------------------------------------------------------------------------

    def _timeline(self, began: datetime) -> Iterator[tuple[datetime, Callable[[], None]]]:
        timed: list[tuple[float, Callable[[], None]]] = []
        for event in self.scenario.events:
            match event:
                case FaultEvent():
                    fault = fault_of(event)
                    ends = event.at + event.minutes / 60.0
                    timed.append((event.at, lambda f=fault: self._fault_begins(f)))  # type: ignore[misc]
                    timed.append((ends, lambda f=fault, e=event: self._fault_over(f, e, began)))  # type: ignore[misc]
                case _:
                    timed.append((event.at, lambda e=event: self._carry_out(e)))  # type: ignore[misc]
        for at, do in sorted(timed, key=lambda each: each[0]):
            yield began + timedelta(hours=at), do

    def _fault_begins(self, fault: Fault) -> None:
        self.faults.on(fault)
        self.failing.append(fault)

    def _fault_over(self, fault: Fault, event: FaultEvent, began: datetime) -> None:
        self.faults.off(fault)
        self.failing.remove(fault)
        self.looped = self.clock.now().timestamp()
        begin = began.timestamp() + event.at * 3600.0
        met = self.faults.counts[fault.kind] - sum(
            each.met for each in self.happened if each.subject == fault.kind
        )
        now = self.clock.now().timestamp()
        self.happened.append(Happened(time=begin, do="fault", subject=fault.kind, until=now, met=met))

    def _carry_out(self, event: Any) -> None:
        match event:
            case Pace():
                self.loop_seconds = event.loop_seconds
            case Kill():
                self._kill(event)
            case CheckIn():
                self._ask("checkin", "")
            case Reset():
                self._ask("reset", event.breaker)
            case Enter():
                body = {"pair": event.pair, "side": event.side}
                self._note("enter", event.pair, *self._asked("forceenter", body))
            case Exit():
                mine = [t for t in self.bot.trades() if t["is_open"] and t["pair"] == event.pair]
                if not mine:
                    self._note("exit", event.pair, "no position is open", True)
                    return
                self._note("exit", event.pair, *self._asked("forceexit", {"tradeid": str(mine[0]["id"])}))

    def _asked(self, path: str, body: Mapping[str, Any]) -> tuple[str, bool]:
        # The answer takes real time, of which little market time shall be made; the next look at the pace undoes it.
        self.clock.run(min(CRAWL, self.clock.speed))
        status, answer = self.bot.rest("POST", path, body)
        text = answer.get("error", answer.get("status", "")) if isinstance(answer, Mapping) else str(answer)
        entered = isinstance(answer, Mapping) and (bool(answer.get("trade_id")) or "result" in answer)
        # Nobody answering is no refusal.
        return f"{status} {text}".strip(), status != 0 and not (status < 400 and entered)

    def _ask(self, command: str, argument: str) -> None:
        now = self.clock.now()
        try:
            bridge.create_tables(self.engine)
            number = bridge.ask(
                self.engine, self.options.strategy, command, argument, int(now.timestamp()), BY
            )
        except SQLAlchemyError as error:
            raise DrillFault(f"the request {command} could not be stored: {error}") from None
        self._note(command, argument, f"request {number}", False)

    def _note(self, do: str, subject: str, answer: str, refused: bool) -> None:
        now = self.clock.now().timestamp()
        self.happened.append(Happened(time=now, do=do, subject=subject, answer=answer, refused=refused))

    def _kill(self, event: Kill) -> None:
        killed = self.clock.now()
        self._sample()
        self.bot.kill()
        back = killed + timedelta(minutes=event.down_minutes)
        self.clock.step(back)
        self._start()
        self.clock.run(self.clock.speed)
        self.happened.append(Happened(time=killed.timestamp(), do="kill", until=back.timestamp()))
