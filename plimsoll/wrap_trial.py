"""The short backtest of ``plimsoll wrap``: on the user's candles where they suffice, else on a simulated market."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from plimsoll import journal
from plimsoll.figures import bound
from plimsoll.market.exchange import LoopbackExchange
from plimsoll.market.runner import load_backtest, run_freqtrade
from plimsoll.market.simulate import DEFAULT_PAIRS, MarketData, simulate_market
from plimsoll.prepared_market import WARM_UP
from plimsoll.shipped import config_file

TRADED: Final = timedelta(days=14)
SEED: Final = 7
MOST_PAIRS: Final = 5
SIMULATED: Final = DEFAULT_PAIRS[:3]
LONGEST_SIMULATION: Final = timedelta(days=500)
START: Final = datetime(2023, 1, 1, tzinfo=UTC)
# Beside the strategy's own timeframe, what strategies commonly ask for.
INFORMATIVE: Final = ("5m", "15m", "30m", "1h", "2h", "4h", "1d")


class WrapError(Exception):
    """What the user can put right; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the backtest has to know of the strategy; ``startup`` in candles of ``timeframe``."""

    name: str
    directory: Path
    timeframe: str
    startup: int


@dataclass(frozen=True, kw_only=True)
class Market:
    """The candles of a trial, in words and as Freqtrade takes them."""

    words: str
    datadir: Path
    pairs: tuple[str, ...]
    begin: datetime
    end: datetime
    config: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came out: profit as ratio of the balance, plans granted and refused as counted in the journal."""

    market: str
    trades: int
    profit: float
    most_leverage: float | None
    refused: int
    faults: int


def try_out(facts: Facts, configs: list[Path], config: dict[str, Any], userdir: Path, work: Path) -> Trial:
    """Backtest the guarded strategy in ``work``, a directory of its own.

    :raises WrapError: where the configuration cannot be read.
    :raises RunFailed, RunTimeout: where Freqtrade did not do it.
    """
    own = _listed(_section(config, "plimsoll"), "override")
    _check_timeframe(facts.timeframe)
    work.mkdir(parents=True, exist_ok=True)
    futures = config.get("trading_mode", "spot") == "futures"
    try:
        found = _own_candles(facts, config, userdir, futures=futures)
    except (TypeError, ValueError, AttributeError) as error:  # it may hold anything anywhere
        raise WrapError(f"no candles can be looked up with this configuration: {error}") from error
    market = found if isinstance(found, Market) else _simulated(facts, futures, work / "data", found)
    # The user's settings, but neither the user's journal nor log, which are of other runs; a backtest starts no API server.
    limits = {"journal": {"path": None}, "override": [*own, "journal.path"]}
    last = market.config | {"plimsoll": limits, "logfile": ""}
    arguments = ["backtesting", "--strategy", facts.name, "--strategy-path", str(facts.directory)]
    arguments += ["--cache", "none", "--datadir", str(market.datadir)]
    arguments += ["--timerange", f"{market.begin:%Y%m%d}-{market.end:%Y%m%d}"]
    with LoopbackExchange(market.pairs) as exchange:
        run_freqtrade(
            arguments,
            user_data=work,
            configs=[*(configs or [config_file()]), last],
            exchange_url=exchange.url,
            pairs=market.pairs,
            env={"PYTHONDONTWRITEBYTECODE": "1"},
            timeout=1800.0,
        ).check()
    result = load_backtest(work, facts.name)
    trades = result["trades"]
    record = bound(journal.read(work / "plimsoll" / f"{facts.name}-backtest.jsonl"))
    return Trial(
        market=market.words,
        trades=len(trades),
        profit=float(result["stats"]["profit_total"]),
        most_leverage=float(trades["leverage"].max()) if len(trades) else None,
        refused=sum(record.refused.values()),
        faults=record.faults,
    )


def _section(config: dict[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name, {})
    if not isinstance(found, Mapping):
        # Without its value: the one of the exchange may be a key.
        raise WrapError(f"`{name}` in the configuration must be a mapping, was {_kind(found)}")
    return found


def _listed(section: Mapping[str, Any], name: str) -> list[Any]:
    found = section.get(name, [])
    if not isinstance(found, list | tuple):
        raise WrapError(f"`{name}` in the configuration must be a list, was {_kind(found)}")
    return list(found)


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _check_timeframe(timeframe: Any) -> None:
    from freqtrade.exchange import timeframe_to_seconds

    try:
        timeframe_to_seconds(timeframe)
    except Exception:  # ccxt's own, or whatever comes of what is no text
        raise WrapError(f"the timeframe must be one such as 5m or 1h, was {timeframe!r}") from None


def _warm_up(facts: Facts) -> timedelta:
    from freqtrade.exchange import timeframe_to_seconds

    own = timedelta(seconds=facts.startup * timeframe_to_seconds(facts.timeframe))
    return timedelta(days=math.ceil(max(own, WARM_UP) / timedelta(days=1)))


def _own_candles(facts: Facts, config: dict[str, Any], userdir: Path, *, futures: bool) -> Market | str:
    # The market, or in words why there is none.
    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType, TradingMode
    from freqtrade.exchange import timeframe_to_seconds

    exchange = _section(config, "exchange")
    datadir = Path(config.get("datadir") or userdir / "data" / str(exchange.get("name", "binance")))
    if not datadir.is_dir():
        return f"no candles in {datadir}"
    kept_as = config.get("dataformat_ohlcv", "feather")
    try:
        handler = get_datahandler(datadir, kept_as)
    except ValueError as error:
        raise WrapError(f"dataformat_ohlcv must be one that Freqtrade knows, was {kept_as!r}") from error
    mode, kind = (TradingMode.FUTURES, CandleType.FUTURES) if futures else (TradingMode.SPOT, CandleType.SPOT)
    there: dict[str, set[tuple[str, Any]]] = {}
    for pair, step, what in handler.ohlcv_get_available_data(datadir, mode):
        there.setdefault(pair, set()).add((step, what))
    stake = config.get("stake_currency", "USDT")
    usable = [
        pair
        for pair, held in there.items()
        if {(facts.timeframe, kind), ("1h", kind)} <= held
        and (not futures or {CandleType.MARK, CandleType.FUNDING_RATE} <= {what for _, what in held})
        and pair.partition(":")[0].endswith(f"/{stake}")
    ]
    listed = [pair for pair in _listed(exchange, "pair_whitelist") if pair in usable]
    pairs = tuple((listed or sorted(usable))[:MOST_PAIRS])
    wanted = f"{facts.timeframe} and 1h candles" if facts.timeframe != "1h" else "1h candles"
    if not pairs:
        return f"no {wanted}{', mark prices and funding rates' if futures else ''} of any {stake} pair in {datadir}"
    spans = [
        (*handler.ohlcv_data_min_max(pair, step, kind)[:2], timedelta(seconds=timeframe_to_seconds(step)))
        for pair in pairs
        for step in (facts.timeframe, "1h")
    ]
    # A candle's date is its beginning.
    first, last = max(span[0] for span in spans), min(span[1] + span[2] for span in spans)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC)
    if end - TRADED < first + _warm_up(facts):
        return f"{datadir} holds less than the {(_warm_up(facts) + TRADED).days} days that a trial needs"
    words = f"the last {TRADED.days} days of {len(pairs)} pair{'s' * (len(pairs) > 1)} from {datadir}"
    return Market(words=words, datadir=datadir, pairs=pairs, begin=end - TRADED, end=end, config={})


def _simulated(facts: Facts, futures: bool, directory: Path, why: str) -> Market:
    warm_up = min(_warm_up(facts), LONGEST_SIMULATION)
    market = simulate_market(SEED, (warm_up + TRADED).days, START, SIMULATED, flash_crash=False)
    pairs = tuple(model.pair if futures else model.pair.partition(":")[0] for model in SIMULATED)
    _write(dict(zip(pairs, market.values(), strict=True)), directory, facts.timeframe, futures=futures)
    words = f"{TRADED.days} days of a simulated market on the loopback exchange ({why})"
    return Market(
        words=words,
        datadir=directory,
        pairs=pairs,
        begin=START + warm_up,
        end=START + warm_up + TRADED,
        config={"stake_currency": "USDT", "dataformat_ohlcv": "feather"},
    )


def _write(market: dict[str, MarketData], datadir: Path, timeframe: str, *, futures: bool) -> None:
    from freqtrade.data.converter import ohlcv_fill_up_missing_data
    from freqtrade.data.history import get_datahandler
    from freqtrade.enums import CandleType
    from freqtrade.exchange import timeframe_to_resample_freq, timeframe_to_seconds

    from plimsoll.market.candle_files import write_market

    datadir.mkdir(parents=True, exist_ok=True)
    if futures:
        write_market(market, datadir)
    handler = get_datahandler(datadir, "feather")
    kind = CandleType.FUTURES if futures else CandleType.SPOT
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    for pair, data in market.items():
        for step in {*INFORMATIVE, timeframe}:
            candles = data.candles_5m
            if timeframe_to_seconds(step) > 300:
                frequency = timeframe_to_resample_freq(step)
                candles = candles.resample(frequency, on="date").agg(rules).dropna().reset_index()
            elif step != "5m":
                # Finer than what is simulated: between two 5m candles the price stands still.
                candles = ohlcv_fill_up_missing_data(candles, step, pair)
            handler.ohlcv_store(pair, step, candles[["date", *rules]], candle_type=kind)
