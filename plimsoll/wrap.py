"""``plimsoll wrap MyStrategy``: write the guarded strategy beside a strategy, load it and backtest it for two weeks."""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any, Final

from plimsoll.bot_database import DatabaseFault, configuration
from plimsoll.guarded_source import SourceError, facts_of, find, guarded_files
from plimsoll.market.runner import RunFailed, RunTimeout
from plimsoll.shipped import SetupError, config_file
from plimsoll.terminal import clean, complain, console
from plimsoll.wrap_trial import Facts, Trial, WrapError, try_out

NAME: Final = "wrap"
GUARDS: Final = {"Guarded", "RiskSpace"}


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        NAME,
        help="write the guarded form of a strategy beside it, and try it",
        description="Write Guarded<STRATEGY>.py beside the strategy's file, check that Freqtrade loads it, and backtest it for two"
        " weeks: on candles in the user directory where they suffice, else on a simulated market. Nothing leaves this machine."
        " Where anything fails, no file stays behind.",
    )
    parser.add_argument("strategy", metavar="STRATEGY", help="name of the strategy's class")
    parser.add_argument(
        "--strategy-path",
        type=Path,
        metavar="DIR",
        help="where its file is (default: strategies in --userdir, and below)",
    )
    parser.add_argument(
        "--userdir", type=Path, metavar="DIR", help="Freqtrade's user directory (default user_data)"
    )
    parser.add_argument(
        "-c",
        "--config",
        action="append",
        type=Path,
        metavar="FILE",
        help="Freqtrade's configuration (default config.json in --userdir or here, else Plimsoll's)",
    )
    parser.add_argument("--no-backtest", action="store_true", help="only check that it loads")
    parser.set_defaults(run=run, refuse=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Write, load and try the guarded strategy; 0 only where all three succeeded."""
    if not arguments.strategy.isidentifier():
        arguments.refuse(f"STRATEGY: must be the name of a class, was {arguments.strategy!r}")
    try:
        _wrap(arguments)
    except (WrapError, SourceError, SetupError, DatabaseFault, RunFailed, RunTimeout, OSError) as error:
        complain(NAME, error)
        return 1
    return 0


def _wrap(arguments: argparse.Namespace) -> None:
    userdir = arguments.userdir or Path("user_data")
    configs = _configs(arguments.config, userdir)
    config = configuration([str(path) for path in configs or [config_file()]], None)
    source = _source(arguments.strategy, _places(arguments, config, userdir))
    target = source.parent / f"Guarded{arguments.strategy}.py"
    files = {
        source.parent / name: text
        for name, text in guarded_files(arguments.strategy, source, source.name, by_hand=True).items()
    }
    _refuse_clashes(arguments.strategy, source, list(files))
    written: list[Path] = []
    done = False
    try:
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
        with tempfile.TemporaryDirectory(prefix="plimsoll-wrap-") as work:
            facts = facts_of(arguments.strategy, source, target, userdir)
            _say("Written", f"{target}")
            for path in written[1:]:
                _say("", f"{path}, the parameters of {source.with_suffix('.json').name} under its name")
            timeframe = config.get("timeframe") or facts.get("timeframe")
            _say("Loaded", f"Guarded{arguments.strategy}, {timeframe or 'no timeframe'}")
            if not arguments.no_backtest:
                if not timeframe:
                    raise WrapError(f"{arguments.strategy} has no timeframe, and the configuration has none")
                known = Facts(
                    name=f"Guarded{arguments.strategy}",
                    directory=target.parent.resolve(),
                    timeframe=timeframe,
                    startup=int(facts["startup"]),
                )
                _say("Backtest", _words(try_out(known, configs, config, userdir, Path(work) / "user_data")))
        done = True
    finally:
        if not done:
            for path in written:
                path.unlink(missing_ok=True)
    _say("Next", _next(arguments, target, userdir, configs))


def _say(what: str, words: str) -> None:
    console().print(f"{what:<9} {clean(words)}", soft_wrap=True, markup=False)


def _configs(given: list[Path] | None, userdir: Path) -> list[Path]:
    if given:
        for path in given:
            if not path.is_file():
                raise WrapError(f"there is no file {path}")
        return given
    return [path for path in (userdir / "config.json", Path("config.json")) if path.is_file()][:1]


def _places(arguments: argparse.Namespace, config: dict[str, Any], userdir: Path) -> list[Path]:
    if arguments.strategy_path is not None:
        if not arguments.strategy_path.is_dir():
            raise WrapError(f"there is no directory {arguments.strategy_path}")
        return [arguments.strategy_path]
    configured = config.get("strategy_path") or ""
    if not isinstance(configured, str):
        raise WrapError(f"`strategy_path` in the configuration must be a directory, was {configured!r}")
    return [userdir / "strategies", *([Path(configured)] if configured else [])]


# -- Finding -------------------------------------------------------------------------------------------------


def _source(strategy: str, places: list[Path]) -> Path:
    found = find(strategy, places)
    if len(found) > 1:
        raise WrapError(
            f"{strategy} is in several files: {', '.join(map(str, found))}; choose one with --strategy-path"
        )
    return found[0]


def _refuse_clashes(strategy: str, source: Path, files: list[Path]) -> None:
    for path in files:
        if os.path.lexists(path):
            raise WrapError(f"{path} is there already and stays as it is; move it to have a new one")
    if strategy in GUARDS:
        raise WrapError(f"a strategy called {strategy} cannot be told from Plimsoll's; give it another name")
    for path in sorted(source.parent.glob("*.py")):
        # Freqtrade takes the first file in which it finds this text.
        if f"class Guarded{strategy}(" in path.read_text(encoding="utf-8", errors="replace"):
            raise WrapError(f"there is a class Guarded{strategy} in {path} already")


# -- Printing ------------------------------------------------------------------------------------------------


def _words(trial: Trial) -> str:
    if not trial.trades:
        return f"{trial.market}: no trade, {trial.refused:,} refused; it runs, and that is all this shows"
    leverage = "" if trial.most_leverage is None else f", at most {trial.most_leverage:g}x"
    faults = f", {trial.faults:,} callbacks failed" if trial.faults else ""
    return f"{trial.market}: {trial.trades:,} trades{leverage}, {trial.refused:,} refused, {trial.profit:+.2%}{faults}"


def _next(arguments: argparse.Namespace, target: Path, userdir: Path, configs: list[Path]) -> str:
    command = ["freqtrade", "backtesting", "--strategy", f"Guarded{arguments.strategy}"]
    if target.parent.resolve() != (userdir / "strategies").resolve():
        command += ["--strategy-path", str(target.parent)]
    if userdir != Path("user_data"):
        command += ["--userdir", str(userdir)]
    for path in configs or [config_file()]:
        command += ["-c", str(path)]
    return shlex.join(command)
