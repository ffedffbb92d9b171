"""Run the stock ``freqtrade`` command and read what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from plimsoll.market.exchange import exchange_config

_LAST_LINES = 30
# Freqtrade ends with 0 after refusing a configuration (`main` leaves its return code unset).
_REFUSED_CONFIG = "- ERROR - Configuration error: "


@dataclass(frozen=True, kw_only=True)
class CompletedRun:
    """What a finished ``freqtrade`` command was and answered; ``seconds`` is its wall time."""

    arguments: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def output(self) -> str:
        """Return both streams: Freqtrade prints results to the one and logs to the other."""
        return f"{self.stdout}\n{self.stderr}"

    @property
    def succeeded(self) -> bool:
        """Return whether the command did its work; a refused configuration is one that did not."""
        return self.returncode == 0 and _REFUSED_CONFIG not in self.stderr

    def check(self) -> CompletedRun:
        """Return the run itself, or raise `RunFailed` unless it succeeded."""
        if not self.succeeded:
            raise RunFailed(self)
        return self


class RunFailed(RuntimeError):
    """A ``freqtrade`` command did not do its work; the message holds its last lines."""

    def __init__(self, run: CompletedRun) -> None:
        tail = "\n".join(run.output.strip().splitlines()[-_LAST_LINES:])
        super().__init__(f"freqtrade {' '.join(run.arguments)} ended with {run.returncode}:\n{tail}")
        self.run = run


class RunTimeout(RuntimeError):
    """A ``freqtrade`` command was ended because it took longer than allowed."""


class Backtest(TypedDict):
    """One strategy's backtest: its name, Freqtrade's statistics, its trades and the file they are from."""

    strategy: str
    stats: dict[str, Any]
    trades: pd.DataFrame
    path: Path


def run_freqtrade(
    arguments: Sequence[str],
    *,
    user_data: Path,
    configs: Iterable[Mapping[str, Any] | Path] = (),
    exchange_url: str | None = None,
    pairs: Iterable[str] | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 600.0,
) -> CompletedRun:
    """Run ``freqtrade`` of this interpreter's environment in a process of its own and return what it said.

    Parameters
    ----------
    arguments : the command and its options, without ``-c`` and ``--user-data-dir``
    user_data : Freqtrade's user directory
    configs : configurations, files or mappings, the later over the earlier
    exchange_url : address of a `LoopbackExchange`; its configuration comes last, over all others
    pairs : whitelist given with ``exchange_url``; None leaves the one in ``configs``
    env : variables added to the environment; any ``FREQTRADE__`` variable already there is not handed on, so
        that a run depends on its arguments only
    timeout : seconds until the command and every process it started are ended and `RunTimeout` is raised

    """
    layers: list[Mapping[str, Any] | Path] = list(configs)
    if exchange_url is not None:
        layers.append(exchange_config(exchange_url, pairs))
    with tempfile.TemporaryDirectory(prefix="plimsoll-run-") as directory:
        command = [sys.executable, "-m", "freqtrade", *arguments, "--user-data-dir", str(user_data)]
        for number, layer in enumerate(layers):
            path = layer
            if not isinstance(layer, Path):
                path = Path(directory, f"config-{number}.json")
                path.write_text(json.dumps(layer, indent=2), encoding="utf-8")
            command += ["-c", str(path)]
        return _run(command, tuple(arguments), _environment(env), timeout)


def load_backtest(user_data: Path, strategy: str | None = None) -> Backtest:
    """Return the newest backtest under ``user_data``; ``strategy`` picks one where several ran together."""
    from freqtrade.data.btanalysis import (
        get_latest_backtest_filename,
        load_backtest_data,
        load_backtest_stats,
    )

    results = Path(user_data, "backtest_results")
    path = results / get_latest_backtest_filename(results)
    every = load_backtest_stats(path)["strategy"]
    if strategy is None:
        if len(every) != 1:
            raise ValueError(f"`strategy` must be one of {sorted(every)}, as {path.name} holds several")
        strategy = next(iter(every))
    if strategy not in every:
        raise ValueError(f"`strategy` must be one of {sorted(every)}, was {strategy!r}")
    return Backtest(
        strategy=strategy, stats=every[strategy], trades=load_backtest_data(path, strategy), path=path
    )


def _environment(added: Mapping[str, str] | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FREQTRADE__")}
    # Tables are cut at the width of a terminal; whatever started this process may have set one.
    return {**inherited, "COLUMNS": "200", "NO_COLOR": "1", **(added or {})}


def _run(
    command: list[str], arguments: tuple[str, ...], environment: dict[str, str], timeout: float
) -> CompletedRun:
    started = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            stdout, stderr = process.communicate()
            tail = "\n".join(stderr.strip().splitlines()[-_LAST_LINES:])
            raise RunTimeout(f"freqtrade {' '.join(arguments)} took over {timeout:g} s:\n{tail}") from None
        except BaseException:
            _end(process)
            raise
    return CompletedRun(
        arguments=arguments,
        returncode=process.returncode,
        stdout=stdout,
        stderr=stderr,
        seconds=time.monotonic() - started,
    )


def _end(process: subprocess.Popen[str]) -> None:
    # The command leads a process group of its own, which its hyperopt workers share.
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
