"""The time that a guard takes in a running bot, by its callbacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from time import perf_counter_ns, thread_time_ns
from typing import Any

# Freqtrade's own analysis with ours inside: the callbacks it asks are timed, the whole is not the guard's.
AROUND = ("analyze_ticker",)


class Meter:
    """Time a strategy's guard by wrapping its public methods and properties; without the strategy's own methods."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._inside = False
        self._own = 0
        self._cpu = 0

    def attach(self, strategy: Any, module: str) -> None:
        """Wrap what stands in front of a strategy, and apart from it what the classes of its own module define.

        :raises RuntimeError: where there is no such class, for the strategy's time would count as the guard's.
        """
        classes = type(strategy).__mro__
        guard = next(each for each in classes if each.__name__ == "_Guard")
        front = classes[: classes.index(guard) + 1]
        for name, value in {n: v for each in reversed(front) for n, v in vars(each).items()}.items():
            if isinstance(value, property):
                setattr(classes[0], name, property(self._timed(name, value.fget), value.fset))
            elif callable(value) and not name.startswith("_") and name not in AROUND:
                setattr(classes[0], name, self._timed(name, value))
        own = [each for each in classes[len(front) :] if each.__module__ == module]
        if not own:
            raise RuntimeError(f"no class of {type(strategy).__name__} comes from the module {module}")
        for each in own:
            for name, value in list(vars(each).items()):
                if callable(value) and not name.startswith("_"):
                    setattr(each, name, self._left_out(value))

    def take(self) -> dict[str, float]:
        """Return the milliseconds since the last time, by callback."""
        spent = {name: value / 1e6 for name, value in self.spent.items()}
        self.spent.clear()
        return spent

    def take_cpu(self) -> float:
        """Return the milliseconds of processor time since the last time, which other processes do not lengthen."""
        spent, self._cpu = self._cpu / 1e6, 0
        return spent

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            self._inside, self._own = True, 0
            started, cpu = perf_counter_ns(), thread_time_ns()
            try:
                return function(*args, **kwargs)
            finally:
                self._cpu += thread_time_ns() - cpu
                self.spent[name] += perf_counter_ns() - started - self._own
                self._inside = False

        return timed

    def _left_out(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def left_out(*args: Any, **kwargs: Any) -> Any:
            started, cpu = perf_counter_ns(), thread_time_ns()
            try:
                return function(*args, **kwargs)
            finally:
                if self._inside:
                    self._cpu -= thread_time_ns() - cpu
                self._own += perf_counter_ns() - started

        return left_out
