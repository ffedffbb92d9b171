"""Which backtests a comparison consists of, and the classes that they run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

from plimsoll.compare.errors import CompareError
from plimsoll.guarded_source import class_text, parameters_for
from plimsoll.report.comparison import Kind
from plimsoll.settings import Settings
from plimsoll.settings.limits import Layer

LAYERS: Final[tuple[str, ...]] = get_args(Layer)
# The class's own methods could hide what these set; they come first in the order of resolution.
_UNGUARDED: Final = """
    plimsoll_raw = True  # without the guard that `Guarded` would put in front; no trading bot heeds it
"""
_LEVERAGE: Final = """
    def leverage(
        self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs
    ):
        return min({leverage!r}, max_leverage)
"""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One backtest of a comparison: the class it runs and the layers that are off in it."""

    name: str
    kind: Kind
    strategy: str
    layer: str | None = None
    leverage: float | None = None
    off: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """Return the name as part of a file name."""
        return self.name.replace(" ", "-")

    @property
    def guarded(self) -> bool:
        """Tell whether the guard takes part."""
        return self.kind in ("guarded", "without")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is compared, as Freqtrade loaded it."""

    strategy: str
    file: Path
    guarded: bool
    settings: Settings
    spot: bool = False
    has_target: bool = False
    shares_ledger: bool = False


def variants(subject: Subject, layers: Sequence[str], leverages: Sequence[float]) -> list[Variant]:
    """List the backtests: raw, guarded, guarded without each of ``layers``, raw at each of ``leverages``."""
    name, off = subject.strategy, subject.settings.off
    raw, guarded = (f"Raw{name}", name) if subject.guarded else (name, f"Guarded{name}")
    whole = Variant(name="guarded", kind="guarded", strategy=guarded, off=off)
    return [
        Variant(name="raw", kind="raw", strategy=raw),
        whole,
        *(
            replace(whole, name=f"without {layer}", kind="without", layer=layer, off=(*off, layer))
            for layer in layers
        ),
        *(
            Variant(
                name=f"raw at {value:g}x",
                kind="leverage",
                strategy=f"{name}At{value:g}x".replace(".", "_"),
                leverage=value,
            )
            for value in leverages
        ),
    ]


def check_layers(asked: Sequence[str] | None) -> None:
    """Check the names of layers.

    :raises CompareError: where one is not known.
    """
    unknown = sorted(set(asked or ()) - set(LAYERS))
    if unknown:
        raise CompareError(f"--layers must be of {', '.join(LAYERS)}, was {', '.join(unknown)}")


def choose_layers(subject: Subject, asked: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Choose the layers to switch off in turn, all that do something unless some are asked for.

    :returns: the layers, and those left out with the reason.
    """
    idle = {layer: reason for layer, reason in _idle(subject) if asked is None or layer in asked}
    return [layer for layer in LAYERS if layer not in idle and (asked is None or layer in asked)], idle


def _idle(subject: Subject) -> Iterator[tuple[str, str]]:
    settings = subject.settings
    for layer in LAYERS:
        if layer in settings.off:
            yield layer, "is off already"
        elif layer == "deadman":
            yield layer, "does nothing in a backtest: there is no operator"
        elif layer == "portfolio" and not subject.shares_ledger:
            yield layer, "does nothing in a backtest without a ledger in the settings"
        elif layer == "reward_risk" and not subject.has_target and settings.reward_risk.take_profit_r is None:
            yield (
                layer,
                "does nothing: neither take_profit_price() nor reward_risk.take_profit_r sets a target",
            )
        elif layer in ("leverage", "funding", "margin_health") and subject.spot:
            yield layer, "does nothing in spot markets"


# -- Classes -----------------------------------------------------------------------------------------------------------


def write_classes(subject: Subject, chosen: Iterable[Variant], directory: Path) -> None:
    """Write each class that the backtests run beside the subject's own, with its hyperopted parameters.

    Freqtrade finds parameters beside a class's file and refuses those of another name, so the subject's are written again
    under each class's own.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for variant in chosen:
        if variant.strategy == subject.strategy:
            continue
        file = directory / f"{variant.strategy}.py"
        _write(file, source(subject, variant))
        parameters = parameters_for(variant.strategy, subject.strategy, subject.file)
        if parameters is None:
            file.with_suffix(".json").unlink(missing_ok=True)
        else:
            _write(file.with_suffix(".json"), parameters)


def source(subject: Subject, variant: Variant) -> str:
    """Return the module with a variant's class; empty where it is the subject's own."""
    if variant.strategy == subject.strategy:
        return ""
    body = _UNGUARDED if subject.guarded else ""
    if variant.leverage is not None:
        body += _LEVERAGE.format(leverage=variant.leverage)
    file, body = str(subject.file), body.lstrip("\n")
    return class_text(variant.strategy, subject.strategy, file, guard=variant.guarded, body=body)


def _write(path: Path, text: str) -> None:
    # A running backtest of another comparison may be reading it.
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
