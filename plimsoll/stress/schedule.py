"""Run jobs on this machine's cores with joblib, or on a Dask cluster; both call the same function with the same values."""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from plimsoll.stress.errors import StressError
from plimsoll.stress.job import Job, Record, failed, run_job

SECONDS_TO_CONNECT: Final = 10.0
PACKAGES: Final = ("freqtrade-plimsoll", "freqtrade", "numpy", "pandas")


def locally(jobs: Sequence[Job], workers: int) -> Iterator[list[Record]]:
    """Yield each job's records as it ends; leaving early ends the worker processes and all that they started."""
    from joblib import Parallel, delayed

    left = dict(enumerate(jobs))
    with _scratch() as scratch:
        pool = Parallel(n_jobs=min(workers, len(jobs)), backend="loky", return_as="generator_unordered")
        ended = pool(delayed(_numbered)(n, replace(job, scratch=scratch)) for n, job in left.copy().items())
        try:
            for number, records in ended:
                del left[number]
                yield records
        except Exception as error:  # a worker was killed, and the pool with it
            for job in left.values():
                yield failed(job, f"a worker process ended: {type(error).__name__}")
        finally:
            ended.close()


def on_dask(jobs: Sequence[Job], address: str) -> Iterator[list[Record]]:
    """Yield each job's records as it ends; leaving early withdraws what has not begun yet.

    :raises StressError: where Dask is not installed, the cluster cannot be reached or its workers have other versions.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise StressError(
            f"--scheduler needs the package {error.name}: pip install 'freqtrade-plimsoll[dask]'"
        ) from error
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise StressError(f"--scheduler {address} cannot be reached: {_first_line(error)}") from error
    with client:
        _check_workers(client, address)
        # `pure` would hand out results of an earlier run; a key of its own would do so for equal jobs.
        futures = {client.submit(run_job, job, pure=False, retries=0): job for job in jobs}
        try:
            for future in as_completed(futures, loop=client.loop):
                try:
                    yield future.result()
                except Exception as error:  # its worker was killed
                    yield failed(futures[future], f"a worker ended: {type(error).__name__}")
        finally:
            client.cancel([future for future in futures if not future.done()])


def versions() -> dict[str, str]:
    """Return what results may depend on."""
    return {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES}


def _numbered(number: int, job: Job) -> tuple[int, list[Record]]:
    return number, run_job(job)


@contextmanager
def _scratch() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="plimsoll-stress-", ignore_cleanup_errors=True) as directory:
        yield directory


def _check_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=SECONDS_TO_CONNECT)
        found = client.run(versions)
    except TimeoutError as error:
        raise StressError(f"--scheduler {address} has no worker") from error
    except Exception as error:  # whatever a worker raises that lacks a package
        raise StressError(
            f"a worker of {address} needs freqtrade-plimsoll installed: {_first_line(error)}"
        ) from error
    ours = versions()
    for worker, theirs in sorted(found.items()):
        for package, version in ours.items():
            if theirs[package] != version:
                raise StressError(
                    f"worker {worker} has {package} {theirs[package]}, this machine {version}: the results could differ"
                )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
