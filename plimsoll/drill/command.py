"""``plimsoll drill``: a strategy through a fire drill, and what each layer did, read from outside the bot."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plimsoll.drill.checks import judge, passed
from plimsoll.drill.evidence import Row
from plimsoll.drill.run import conduct
from plimsoll.drill.scenario import History, Scenario, ScenarioError, read_scenario
from plimsoll.drill.stage import DrillFault, Options
from plimsoll.market.clock import FASTEST, unavailable
from plimsoll.shipped import SetupError, shipped
from plimsoll.terminal import BAD, FAINT, GOOD, clean, complain, console

SCENARIOS: Final = Path(__file__).with_name("scenarios")
PASSED, FAILED, USAGE, COULD_NOT_RUN = 0, 1, 2, 3
_SHOWN: Final = {"held": ("yes", GOOD), "failed": ("NO", BAD), "did not arise": ("-", FAINT)}


@dataclass(frozen=True, kw_only=True)
class Result:
    """Hold the outcome of one drill; ``fault`` says why it could not run."""

    name: str
    scenario: Scenario
    strategy: str
    seconds: float
    rows: tuple[Row, ...] = ()
    fault: str | None = None

    @property
    def status(self) -> int:
        if self.fault is not None:
            return COULD_NOT_RUN
        return PASSED if passed(self.rows) else FAILED


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        "drill",
        help="run a guarded strategy through fire drills, offline",
        description="Run a strategy in stock `freqtrade trade --dry-run` through scenarios, and print what each layer"
        " should have done, what it did, and when. Nothing leaves this machine. Ends with 0 where every layer did what"
        " it had to, 1 where one did not, 2 for wrong arguments, 3 where a drill could not run.",
    )
    parser.add_argument(
        "scenario",
        nargs="*",
        metavar="SCENARIO",
        help="names of --list, or TOML files (default: all of --list)",
    )
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    parser.add_argument("--strategy", metavar="NAME", help="guarded strategy (default: the scenario's)")
    parser.add_argument("--strategy-path", type=_directory, metavar="DIR", help="where its file is")
    parser.add_argument(
        "--data", type=_directory, metavar="DIR", help="real candles instead, e.g. user_data/data/binance"
    )
    parser.add_argument(
        "--from", dest="moment", type=_moment, metavar="MOMENT", help="of --data, e.g. 2024-08-05T00:00"
    )
    parser.add_argument(
        "--speed", type=_speed, metavar="N", help="at most N times real time; 1 needs no clock of ours"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep log, database and journal there")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Run the drills and return the exit status; one that could not run counts more than one that failed."""
    if (arguments.data is None) != (arguments.moment is None):
        arguments.refuse("--data and --from belong together")
    if arguments.list:
        _list()
        return PASSED
    try:
        chosen = [(path.stem, read_scenario(path)) for path in _paths(arguments)]
    except ScenarioError as error:
        complain("drill", error)
        return USAGE
    if arguments.data is not None:
        chosen = [(name, on_history(each, arguments.data, arguments.moment)) for name, each in chosen]
    reason = None if arguments.speed == 1.0 else unavailable()
    if reason is not None:
        hours = sum(scenario.run.hours for _, scenario in chosen)
        complain(
            "drill", DrillFault(f"no fast clock: {reason}. --speed 1 takes {hours:.1f} hours, as they are")
        )
        return COULD_NOT_RUN
    output = console(stderr=True) if arguments.json else console()
    results = []
    for name, scenario in chosen:
        results.append(_drill(name, scenario, arguments, output))
        if not arguments.json:
            _show(results[-1], output)
    if arguments.json:
        print(json.dumps([_as_data(result) for result in results], indent=2))
    elif len(results) > 1:
        done = sum(result.status == PASSED for result in results)
        output.print(
            f"{done} of {len(results)} drills passed, {sum(r.seconds for r in results):.0f} s in total"
        )
    return max(result.status for result in results)


def on_history(scenario: Scenario, data: Path, moment: datetime) -> Scenario:
    """Return a scenario on real candles; what does not arise there is no fault then."""
    expected = tuple(each.model_copy(update={"required": False}) for each in scenario.expect)
    market = History(kind="history", data=data, moment=moment)
    return scenario.model_copy(update={"market": market, "expect": expected})


def _drill(name: str, scenario: Scenario, arguments: argparse.Namespace, output: Console) -> Result:
    started = time.monotonic()
    strategy = arguments.strategy or scenario.run.strategy
    rows: tuple[Row, ...] = ()
    fault = None
    try:
        place = _place_of(strategy, arguments.strategy_path)
        options = Options(strategy=strategy, strategy_path=place, speed=arguments.speed)
        with _directory_for(arguments.keep, name) as directory, output.status(f"{scenario.title} ..."):
            rows = tuple(judge(scenario, conduct(scenario, directory, options)))
    except (DrillFault, SetupError, OSError) as error:
        fault = str(error)
    seconds = time.monotonic() - started
    return Result(name=name, scenario=scenario, strategy=strategy, seconds=seconds, rows=rows, fault=fault)


# -- Scenarios and strategies --------------------------------------------------------------------------------


def _paths(arguments: argparse.Namespace) -> list[Path]:
    if not arguments.scenario:
        return shipped_scenarios()
    known = {path.stem: path for path in shipped_scenarios()}
    found = [known.get(wanted.replace("-", "_"), Path(wanted)) for wanted in arguments.scenario]
    for path in found:
        if not path.is_file():
            arguments.refuse(f"SCENARIO must be a TOML file or one of {', '.join(known)}, was '{path}'")
    return found


def shipped_scenarios() -> list[Path]:
    """Return the scenarios that come with Plimsoll."""
    return sorted(SCENARIOS.glob("*.toml"))


def _place_of(strategy: str, directory: Path | None) -> Path:
    places = (
        [directory] if directory is not None else [shipped("strategies"), Path("user_data", "strategies")]
    )
    wanted = re.compile(rf"^class {re.escape(strategy)}\b", re.MULTILINE)
    for place in places:
        for path in sorted(place.glob("*.py")):
            if wanted.search(path.read_text(encoding="utf-8", errors="replace")):
                return place.resolve()
    raise DrillFault(
        f"there is no strategy {strategy} in {' or '.join(map(str, places))}; see --strategy-path"
    )


@contextmanager
def _directory_for(keep: Path | None, name: str) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="plimsoll-drill-") as directory:
            yield Path(directory)
        return
    # A bot that finds an earlier drill's database would go on with its trades.
    path, number = keep / name, 1
    while path.exists():
        number += 1
        path = keep / f"{name}-{number}"
    path.mkdir(parents=True)
    yield path.resolve()


# -- Printing ------------------------------------------------------------------------------------------------


def _list() -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("scenario", "what it teaches", "hours"):
        table.add_column(column, overflow="fold")
    for path in shipped_scenarios():
        scenario = read_scenario(path)
        table.add_row(path.stem, scenario.teaches, f"{scenario.run.hours:g}")
    console().print(table)


def _show(result: Result, output: Console) -> None:
    output.print(Text(f"\n{result.scenario.title} ({result.name}), {result.strategy}", "bold"))
    output.print(Text(result.scenario.teaches, FAINT))
    if result.fault is not None:
        output.print(Text(f"The drill could not run: {result.fault}", BAD), soft_wrap=True)
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("layer", no_wrap=True)
    table.add_column("should", overflow="fold")
    table.add_column("did", overflow="fold")
    table.add_column("when, UTC", no_wrap=True)
    table.add_column("ok")
    for row in result.rows:
        text, style = _SHOWN[row.outcome]
        when = "" if row.when is None else f"{datetime.fromtimestamp(row.when, UTC):%d %b %H:%M:%S}"
        table.add_row(row.layer, Text(row.should), Text(clean(row.did)), when, Text(text, style))
    output.print(table)
    output.print(Text(verdict(result), GOOD if result.status == PASSED else BAD))


def verdict(result: Result) -> str:
    """Say in one line how a drill went."""
    failed = [row for row in result.rows if row.outcome == "failed"]
    idle = sum(row.outcome == "did not arise" for row in result.rows)
    rest = f", {idle} without occasion" if idle else ""
    if failed:
        layers = ", ".join(dict.fromkeys(row.layer for row in failed))
        return f"FAILED: {layers} ({len(failed)} of {len(result.rows)} checks{rest}), {result.seconds:.0f} s"
    if result.status == FAILED:
        return f"FAILED: no layer was put to the test{rest}, {result.seconds:.0f} s"
    return f"PASSED: {len(result.rows) - idle} checks{rest}, {result.seconds:.0f} s"


def _as_data(result: Result) -> dict[str, Any]:
    return {
        "scenario": result.name,
        "title": result.scenario.title,
        "strategy": result.strategy,
        "status": result.status,
        "fault": result.fault,
        "seconds": round(result.seconds, 1),
        "rows": [
            {"layer": r.layer, "should": r.should, "did": r.did, "when": r.when, "outcome": r.outcome}
            for r in result.rows
        ],
    }


# -- Arguments -----------------------------------------------------------------------------------------------


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text}")
    return Path(text).resolve()


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be like 2024-08-05T00:00 (UTC), was {text!r}") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1.0 <= value <= FASTEST:
        raise argparse.ArgumentTypeError(f"must be from 1 to {FASTEST:g}, was {text!r}")
    return value
