"""One strategy through stock backtests: raw, guarded, without each layer, at forced leverages."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from plimsoll import __version__
from plimsoll.compare import cache, child, execute
from plimsoll.compare.errors import CompareError
from plimsoll.compare.probe import probe
from plimsoll.compare.request import Request, configs, environment, lookup
from plimsoll.compare.variants import (
    Subject,
    Variant,
    check_layers,
    choose_layers,
    source,
    variants,
    write_classes,
)
from plimsoll.market.exchange import LoopbackExchange, exchange_config
from plimsoll.report.comparison import Comparison, Run
from plimsoll.settings import load
from plimsoll.shipped import config_file

USER_DATA: Final = Path("user_data")
_REFUSED_CONFIG: Final = "- ERROR - Configuration error: "


@dataclass(kw_only=True)
class Outcome:
    """What came out: the finished runs by variant, those that failed with their last words, layers left out with the reason."""

    directory: Path
    comparison: Comparison | None
    finished: dict[Variant, cache.Finished]
    failed: dict[str, str]
    left_out: dict[str, str]
    notes: list[str] = field(default_factory=list)


def compare(request: Request, shown: Console) -> Outcome:
    """Run what has not been run yet, and write the comparison into its directory.

    :raises CompareError: where Freqtrade does not accept the request, or a layer is not known.
    """
    check_layers(request.layers)
    user_data = (request.user_data or USER_DATA).resolve()
    user_data.mkdir(parents=True, exist_ok=True)
    directory = (request.output or user_data / "plimsoll" / "compare" / request.strategy).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    files = configs(request, user_data)
    own_config = files != [config_file().resolve()]
    offline = not own_config if request.offline is None else request.offline
    arguments = ["backtesting", "--userdir", str(user_data), *request.options]
    for path in files:
        arguments += ["-c", str(path)]
    if request.pairs:
        arguments += ["--pairs", *request.pairs]
    env = environment(offline)
    with shown.status("Strategy and candles ..."):
        facts = probe(
            [*arguments, *lookup(request, user_data)],
            os.environ,
            every_pair=not own_config and not request.pairs,
        )
        subject = _subject(request.strategy, facts)
        if facts["spot"] and request.leverages:
            raise CompareError("--leverage needs a futures market: the configuration trades spot")
        layers, left_out = choose_layers(subject, request.layers)
        chosen = variants(subject, layers, request.leverages)
        write_classes(subject, chosen, directory / "strategies")
        parts = _parts(request, facts, offline, directory)
    runs = cache.Runs(directory / "runs")
    runs.sweep()
    keys = {each: _key(subject, each, parts) for each in chosen}
    finished = {each: known for each in chosen if (known := runs.find(each.slug, keys[each]))}
    pending = [each for each in chosen if each not in finished]
    outcome = Outcome(directory=directory, comparison=None, finished={}, failed={}, left_out=left_out)
    outcome.notes += _notes(runs, parts, pending, facts, offline, own_config)
    at_once = 1 if facts["freqai"] else request.jobs or execute.cpus()
    try:
        with _stage(facts, offline, bool(pending)) as overlay, _progress(shown, len(chosen)) as moved:
            moved(len(finished), ())
            work = {}
            for each in pending:
                place = runs.begin(each.slug, keys[each])
                work[each.name] = (each, place, _job(each, place, subject, facts, arguments, overlay))
            running: list[str] = []

            def started(job: execute.Job) -> None:
                running.append(job.name)
                moved(0, running)

            jobs = [job for _, _, job in work.values()]
            env = execute.environment(env, at_once)
            with closing(execute.execute(jobs, at_once, env, started)) as ended:
                for end in ended:
                    each, place, _ = work[end.job.name]
                    running.remove(end.job.name)
                    taken = _taken(end, place)
                    log = directory / f"failed-{each.slug}.log"
                    if isinstance(taken, str):
                        outcome.failed[each.name] = taken
                        shutil.copyfile(end.job.log, log)
                    else:
                        finished[each] = runs.finish(place, each.slug, keys[each], parts, end.seconds, taken)
                        log.unlink(missing_ok=True)
                    moved(1, running)
    finally:
        runs.sweep()
    outcome.finished = {each: finished[each] for each in chosen if each in finished}
    if outcome.finished:
        outcome.comparison = _comparison(outcome, request, facts)
        outcome.comparison.write(directory)
    return outcome


# -- What is run -------------------------------------------------------------------------------------------------------


def _subject(strategy: str, facts: Mapping[str, Any]) -> Subject:
    return Subject(
        strategy=strategy,
        file=Path(facts["file"]),
        guarded=facts["guarded"],
        settings=load(facts["settings"]),
        spot=facts["spot"],
        has_target=facts["has_target"],
        shares_ledger=facts["shares_ledger"],
    )


def _parts(request: Request, facts: Mapping[str, Any], offline: bool, directory: Path) -> dict[str, str]:
    """Return hashes of everything that a backtest depends on, by what it is."""
    baseline = facts["settings"]["decay"]["baseline"]
    baselines = [Path(baseline)] if baseline and Path(baseline).is_file() else []
    options = {
        "options": request.options, "pairs": facts["pairs"], "timerange": facts["timerange"], "offline": offline,
        "ledger": facts["shares_ledger"],
    }  # fmt: skip
    return {
        "settings": cache.digest([facts["config"], facts["settings"], cache.hash_files(baselines)]),
        "code": cache.hash_code(),
        "strategy": cache.hash_files(Path(path) for path in facts["sources"]),
        "data": cache.hash_data(Path(facts["datadir"]), directory / "data-hashes.json"),
        "versions": cache.digest(cache.versions()),
        "options": cache.digest(options),
    }


def _key(subject: Subject, variant: Variant, parts: Mapping[str, str]) -> str:
    made = source(subject, variant).replace(str(subject.file.parent), "")
    return cache.digest([cache.FORMAT, parts, variant.strategy, made, variant.off if variant.guarded else ()])


@contextmanager
def _stage(facts: Mapping[str, Any], offline: bool, needed: bool) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        if not (offline and needed):
            yield {}
            return
        exchange = stack.enter_context(LoopbackExchange(facts["pairs"]))
        yield exchange_config(exchange.url, facts["pairs"])


def _job(
    variant: Variant,
    place: Path,
    subject: Subject,
    facts: Mapping[str, Any],
    arguments: Sequence[str],
    overlay: Mapping[str, Any],
) -> execute.Job:
    (place / child.RESULTS).mkdir()
    config: dict[str, Any] = dict(overlay)
    if variant.guarded:
        config["plimsoll"] = {
            "off": list(variant.off),
            # What a strategy sets itself would stand otherwise.
            "override": sorted({*facts["override"], "off", "journal.enabled", "journal.path"}),
            "journal": {"enabled": True, "path": str(place / child.JOURNAL)},
        }
    (place / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    own = variant.strategy == subject.strategy
    where = subject.file.parent if own else place.parents[1] / "strategies"
    forced = "-" if variant.leverage is None else repr(variant.leverage)
    started = [
        *(sys.executable, "-m", "plimsoll.compare.child", str(os.getpid()), str(place)),
        *(str(facts["liquidation_buffer"]), forced, facts["datadir"], facts["data_format"]),
    ]
    ours = [
        *("-c", str(place / "config.json"), "--strategy", variant.strategy, "--strategy-path", str(where)),
        *("--datadir", facts["datadir"], "--timerange", facts["timerange"], "--cache", "none"),
        *("--export", "trades", "--backtest-directory", str(place / child.RESULTS)),
    ]
    return execute.Job(name=variant.name, command=(*started, *arguments, *ours), log=place / "freqtrade.log")


def _taken(end: execute.Ended, place: Path) -> dict[str, Any] | str:
    """Return the figures of a run, or its last words where it failed."""
    file = place / child.FIGURES
    # Freqtrade ends with 0 after refusing a configuration.
    if end.status != 0 or _REFUSED_CONFIG in end.said or not file.is_file():
        return f"ended with status {end.status}\n{end.last_lines}"
    taken: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return taken


# -- What came out -----------------------------------------------------------------------------------------------------


def _notes(
    runs: cache.Runs,
    parts: Mapping[str, str],
    pending: Sequence[Variant],
    facts: Mapping[str, Any],
    offline: bool,
    own_config: bool,
) -> list[str]:
    notes = []
    if offline and own_config:
        notes.append(
            "Offline: rules of the markets and fees are those of the loopback exchange, not of yours."
        )
    if facts["freqai"]:
        notes.append("FreqAI keeps its models in one directory, so the backtests ran one after the other.")
    changed = runs.changed(pending[0].slug, parts) if pending else None
    if changed:
        notes.append(f"Run anew, as there is a change in: {', '.join(changed)}.")
    return notes


def _comparison(outcome: Outcome, request: Request, facts: Mapping[str, Any]) -> Comparison:
    pairs = {tuple(found.taken["pairs"]): None for found in outcome.finished.values()}
    begins = {str(found.taken["begins"]) for found in outcome.finished.values()}
    if len(begins) > 1:
        outcome.notes.append(f"Not all runs begin at the same candle: {', '.join(sorted(begins))}.")
    return Comparison(
        strategy=request.strategy,
        timerange=facts["timerange"],
        pairs=next(iter(pairs)),
        liquidation_buffer=facts["liquidation_buffer"],
        settings=facts["settings"],
        freqtrade=cache.versions()["freqtrade"],
        plimsoll=__version__,
        runs=tuple(_run(each, found, outcome.directory) for each, found in outcome.finished.items()),
    )


def _run(variant: Variant, found: cache.Finished, directory: Path) -> Run:
    journal, worst = found.journal, found.worst_prices
    return Run(
        name=variant.name,
        kind=variant.kind,
        strategy=variant.strategy,
        export=str(found.export.relative_to(directory)),
        journal=None if journal is None else str(journal.relative_to(directory)),
        layer=variant.layer,
        leverage=variant.leverage,
        seconds=found.seconds,
        cached=found.cached,
        worst_prices=None if worst is None else str(worst.relative_to(directory)),
    )


@contextmanager
def _progress(shown: Console, total: int) -> Iterator[Callable[[int, Sequence[str]], None]]:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=shown, transient=True) as progress:
        task = progress.add_task("", total=total)

        def moved(by: int, running: Sequence[str]) -> None:
            progress.update(task, advance=by, description=", ".join(running))

        yield moved
