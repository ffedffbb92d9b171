"""``plimsoll compare``: a strategy with and without its guard; ``--together`` puts several bots under one portfolio."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, Final

from plimsoll.bot_database import DatabaseFault, configuration
from plimsoll.compare import runs_view, together_view
from plimsoll.compare.comparing import Outcome, compare
from plimsoll.compare.errors import CompareError
from plimsoll.compare.exported_trades import read_bots
from plimsoll.compare.request import Request
from plimsoll.compare.together import replay
from plimsoll.portfolio import LedgerFault, limits_of
from plimsoll.report.comparison import ComparisonFault
from plimsoll.settings import Settings, SettingsError, load
from plimsoll.shipped import SetupError
from plimsoll.terminal import complain, console

NAME: Final = "compare"
MAXIMUM_LEVERAGE: Final = 125.0
# Freqtrade's options that say what the comparison itself decides.
_OURS: Final = frozenset(
    ("-s", "--strategy", "--strategy-list", "--strategy-path", "-c", "--config", "--userdir", "--user-data-dir", "-d", "--datadir",
     "--timerange", "--pairs", "-p", "--cache", "--export", "--export-filename", "--export-directory", "--backtest-directory",
     "--backtest-filename", "--logfile", "--freqai-backtest-live-models")
)  # fmt: skip


def add_parser(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser(
        NAME,
        help="backtest a strategy raw, guarded and without each layer; or replay several bots as one portfolio",
        description="Run stock backtests of one strategy: as it is, guarded, and guarded with each layer switched off in turn; with"
        " --leverage also unguarded at forced leverages, as a liquidation audit. Finished runs are kept and not run again unless"
        " settings, code, strategy or candles change. Or, with --together, take the exported trades of several backtests through"
        " one ledger in time order, and print what the limits of the portfolio would have refused.",
        epilog="Example: plimsoll compare --strategy EmaCross --timerange 20230201-20240501 -- --max-open-trades 5",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "-s",
        "--strategy",
        metavar="NAME",
        help="strategy, guarded or not; a guard is taken off for the raw run",
    )
    what.add_argument(
        "--together",
        nargs="+",
        type=Path,
        metavar="BACKTEST",
        help="exports of backtests, each strategy in one is a bot; entries of the same moment ask in this order",
    )
    _add_runs(parser)
    parser.add_argument(
        "--settings",
        metavar="FILE",
        help="of --together: Freqtrade's configuration with the limits in its section plimsoll.portfolio",
    )
    parser.add_argument("--json", action="store_true", help="print it as one document")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="-- OPTION ...", help="of freqtrade backtesting"
    )
    parser.set_defaults(run=run, refuse=parser.error)


def _add_runs(parser: argparse.ArgumentParser) -> None:
    runs = parser.add_argument_group("of --strategy")
    runs.add_argument(
        "-c", "--config", action="append", type=_file, metavar="FILE", default=[],
        help="Freqtrade's configuration, may be repeated (default: user_data/config.json, else config.json, else Plimsoll's own)",
    )  # fmt: skip
    runs.add_argument("--timerange", help="default: all candles after the guard's month of warm-up")
    runs.add_argument(
        "-p", "--pairs", nargs="+", default=[], metavar="PAIR", help="default: the configured ones"
    )
    runs.add_argument(
        "-d", "--data", "--datadir", type=_directory, metavar="DIR", help="e.g. user_data/data/binance"
    )
    runs.add_argument("--strategy-path", type=_directory, metavar="DIR", help="where the strategy's file is")
    runs.add_argument("--userdir", "--user-data-dir", type=Path, metavar="DIR", help="default user_data")
    runs.add_argument(
        "--offline", action=argparse.BooleanOptionalAction,
        help="markets from an exchange on this machine, with Binance's rules, instead of the configured one (default: only where"
        " no configuration of yours is used)",
    )  # fmt: skip
    runs.add_argument(
        "--layers", nargs="*", metavar="LAYER", help="only these are switched off; none named: none"
    )
    runs.add_argument(
        "--leverage",
        nargs="+",
        type=_leverage,
        default=[],
        metavar="X",
        help="audit the raw strategy at each, e.g. 1 3 5 10",
    )
    runs.add_argument(
        "-j", "--jobs", type=_jobs, metavar="N", help="backtests at once (default: the number of CPUs)"
    )
    runs.add_argument("--output", type=Path, metavar="DIR", help="default user_data/plimsoll/compare/NAME")
    runs.add_argument("--no-report", action="store_true", help="leave report.html unwritten")


def run(arguments: argparse.Namespace) -> int:
    """Run the comparison and print what came out; return the exit status."""
    options = list(arguments.options)
    if options[:1] == ["--"]:
        options = options[1:]
    elif options:
        arguments.refuse(f"options of freqtrade come after `--`, was {' '.join(options)}")
    if arguments.together is not None:
        if options:
            arguments.refuse("--together runs no backtest that options of freqtrade could be for")
        return _together(arguments)
    if arguments.settings is not None:
        arguments.refuse(
            "--settings is of --together; the settings of --strategy are in its configuration, -c"
        )
    taken = sorted({option.partition("=")[0] for option in options} & _OURS)
    if taken:
        arguments.refuse(
            f"{', '.join(taken)} cannot come after `--`: the comparison sets it, see its own options"
        )
    return _strategy(arguments, tuple(options))


def _strategy(arguments: argparse.Namespace, options: tuple[str, ...]) -> int:
    request = Request(
        strategy=arguments.strategy,
        configs=tuple(arguments.config),
        timerange=arguments.timerange,
        pairs=tuple(arguments.pairs),
        data=arguments.data,
        strategy_path=arguments.strategy_path,
        user_data=arguments.userdir,
        options=options,
        offline=arguments.offline,
        layers=None if arguments.layers is None else tuple(arguments.layers),
        leverages=tuple(sorted(set(arguments.leverage))),
        jobs=arguments.jobs,
        output=arguments.output,
    )
    try:
        outcome = compare(request, console(stderr=True))
    except (CompareError, SetupError, SettingsError, OSError) as error:
        complain(NAME, error)
        return 1
    faults: list[Exception] = [
        CompareError(f"the run {name!r} {said}") for name, said in outcome.failed.items()
    ]
    report = None
    try:
        report = None if arguments.no_report else _report(outcome)
    except (ComparisonFault, OSError) as error:
        faults.append(error)
    if arguments.json:
        print(json.dumps(runs_view.document(outcome, report)))
    else:
        shown = console()
        shown.print(runs_view.RunsView(outcome))
        for name, path in (("Runs", outcome.directory), ("Report", report)):
            if path is not None:
                shown.print(f"{name:<8}{path}", soft_wrap=True, markup=False)
    for fault in faults:
        complain(NAME, fault)
    return 1 if faults else 0


def _report(outcome: Outcome) -> Path | None:
    if outcome.comparison is None:
        return None
    # Drawing takes seconds to import, which no argument error should wait for.
    from plimsoll.report.command import make

    return make(outcome.directory)


def _together(arguments: argparse.Namespace) -> int:
    try:
        settings = _settings(arguments.settings)
        bots = read_bots(arguments.together, settings)
        if len(bots) < 2:
            raise CompareError(f"--together needs backtests of at least 2 bots, was {len(bots)}")
        result = replay(bots, limits_of(settings.portfolio))
    except (CompareError, SettingsError, DatabaseFault, LedgerFault, OSError) as error:
        complain(NAME, error)
        return 1
    if arguments.json:
        print(json.dumps(together_view.document(result)))
    else:
        console().print(together_view.TogetherView(result))
    return 0


def _settings(path: str | None) -> Settings:
    return load() if path is None else load(configuration([path], None).get("plimsoll"))


# -- Arguments ---------------------------------------------------------------------------------------------------------


def _leverage(text: str) -> float:
    try:
        value = float(text.removesuffix("x"))
    except ValueError:
        value = math.nan
    if not 1.0 <= value <= MAXIMUM_LEVERAGE:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MAXIMUM_LEVERAGE:g}, was {text!r}")
    return value


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, was {text!r}")
    return int(text)


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text}")
    return Path(text).resolve()
