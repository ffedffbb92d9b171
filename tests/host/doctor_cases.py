"""Changes to a sound setup, each with the check that finds it; and such that pass."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

from doctor_world import BTC, SUI, World, bare, strategy

from plimsoll.doctor.finding import Severity

ERROR, WARNING, NOTE, UNKNOWN = Severity.ERROR, Severity.WARNING, Severity.NOTE, Severity.UNKNOWN
Change = Callable[[World], Any]


class Case(NamedTuple):
    check: str
    change: Change
    severity: Severity | None  # none: passes
    words: str = ""


def config(**values: Any) -> Change:
    return lambda world: world.config.update(deepcopy(values))


def plimsoll(**values: Any) -> Change:
    return lambda world: world.config["plimsoll"].update(values)


def source(text: str) -> Change:
    return lambda world: setattr(world, "source", text)


def set_world(**values: Any) -> Change:
    return lambda world: [setattr(world, name, value) for name, value in values.items()]


def on_disk(change: Callable[[World], Any]) -> Change:
    return lambda world: world.touch.append(change)


def both(*changes: Change) -> Change:
    return lambda world: [change(world) for change in changes]


def live(world: World) -> None:
    world.config |= {"dry_run": False, "available_capital": 10_000}
    world.config["exchange"] |= {"key": "k" * 40 + "7", "secret": "s" * 40 + "8"}


def at(leverage: float, stop: float = -0.25, *, short: bool = True) -> str:
    body = f"stoploss = {stop}\ncan_short = {short}\n"
    return bare(f"{body}def leverage(self, pair, **kwargs): return {leverage}")


def cut(pair: str, kind: str, keep: Callable[[Any], Any], timeframe: str = "1h") -> Change:
    """Keep only some rows of a file."""

    def change(world: World) -> None:
        frame = world.frame(pair, timeframe, kind)
        world.store(pair, timeframe, kind, frame[keep(frame)])

    return on_disk(change)


def without(start: int, count: int) -> Callable[[Any], Any]:
    return lambda frame: [not start <= place < start + count for place in range(len(frame))]


def spoil(row: int, column: str, value: float) -> Change:
    def change(world: World) -> None:
        frame = world.frame(SUI, "1h", "futures")
        frame.loc[row, column] = value
        world.store(SUI, "1h", "futures", frame)

    return on_disk(change)


def rename(kind: str, timeframe: str) -> Change:
    return on_disk(lambda world: world.file(SUI, "1h", kind).rename(world.file(SUI, timeframe, kind)))


def delete(pair: str, kind: str) -> Change:
    return on_disk(lambda world: world.file(pair, "1h", kind).unlink())


def cached(age: float, code_age: float) -> Change:
    """A cached backtest, and a strategy that inherits from a module that was changed."""

    def change(world: World) -> None:
        results = world.root / "backtest_results"
        results.mkdir()
        text = f'{{"Sound": {{"run_id": "a", "backtest_start_time": {time.time() - age}}}}}'
        (results / "backtest-result.meta.json").write_text(text, encoding="utf-8")
        sys.modules.pop("doctor_base", None)  # of another test's directory
        base = world.root / "strategies" / "doctor_base.py"
        base.write_text("from freqtrade.strategy import IStrategy\nclass Base(IStrategy): pass\n")
        os.utime(base, (time.time() - code_age,) * 2)

    return both(source("from doctor_base import Base\n" + strategy(bases="Base")), on_disk(change))


def sibling(**values: Any) -> Change:
    def change(world: World) -> None:
        other = world.config | {"bot_name": "other"} | values
        (world.root / "other.json").write_text(json.dumps(other), encoding="utf-8")

    return both(live, on_disk(change))


def whitelist(*pairs: str) -> Change:
    return lambda world: world.config["exchange"].update(pair_whitelist=list(pairs))


def ledger(path: str) -> Change:
    return plimsoll(portfolio={"ledger": path})


STOP_OFF = {"entry": "market", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False}
OWN_STOP = "use_custom_stoploss = True\ndef custom_stoploss(self, pair, trade, {}, **kwargs): return None"
POSITIONAL = OWN_STOP.format("current_time, current_rate, current_profit, after_fill")
KEYWORD = OWN_STOP.format("current_time, current_rate, current_profit, *, after_fill")
PARAMETERS: dict[str, Any] = {"strategy_name": "Sound", "params": {"stoploss": {"stoploss": -0.4}}}

# Their fix is more than a line: one per bot, or of a limit among others.
BY_HAND = {"several_bots"}

CASES = [
    # -- stops
    Case("margin_mode", config(margin_mode="cross"), ERROR, "does not start"),
    Case("margin_mode", both(config(margin_mode="cross"), source(bare())), ERROR, "cross"),
    Case(
        "margin_mode",
        both(config(margin_mode="cross"), plimsoll(gates={"allow_cross_margin": True})),
        NOTE,
        "allows it",
    ),
    Case("margin_mode", config(), None),
    # A short at 5x is liquidated (1/5 - mmr) / (1 + mmr) x 0.95 away: SUI, mmr 1 % in its first tier, at 0.8936 of the margin.
    Case("stop_behind_liquidation", source(at(5, -0.99)), ERROR, "19.80% of the price at 5x"),
    Case("stop_behind_liquidation", source(at(5, -0.894)), ERROR, "17.87% (SUI/USDT:USDT)"),
    Case("stop_behind_liquidation", source(at(5, -0.893)), None),
    # A long, (1/5 - mmr) / (1 - mmr) x 0.95: 0.9116.
    Case("stop_behind_liquidation", source(at(5, -0.912, short=False)), ERROR, "18.23% (SUI/USDT:USDT)"),
    Case("stop_behind_liquidation", source(at(5, -0.911, short=False)), None),
    Case("stop_behind_liquidation", source(at(20, -0.80)), ERROR, "at 20x"),
    Case("stop_behind_liquidation", source(at(20, -0.60)), None),
    Case("stop_behind_liquidation", source(bare("stoploss = -0.9")), None),
    Case("stop_behind_liquidation", source(strategy("stoploss = -0.99")), NOTE, "the guard's stops"),
    Case("stop_behind_liquidation", source(strategy("stoploss = -0.94")), None),
    Case(
        "stop_behind_liquidation",
        source(bare("def leverage(self, pair, **kwargs): return self.nothing")),
        UNKNOWN,
        "leverage() raised",
    ),
    Case("liquidation_tiers", lambda w: w.config["exchange"].update(name="bybit"), UNKNOWN, "--online"),
    Case("liquidation_tiers", whitelist("NOPE/USDT:USDT"), UNKNOWN, "of NOPE/USDT:USDT are not known"),
    Case("liquidation_tiers", whitelist("NOPE/USDT:USDT"), UNKNOWN, "installed Freqtrade"),
    Case("liquidation_tiers", config(), None),
    Case("whole_margin_stop_on_exchange", source(bare("stoploss = -0.99")), ERROR, "-0.99"),
    Case("whole_margin_stop_on_exchange", source(bare("stoploss = -0.95")), ERROR, "-0.95"),
    Case("whole_margin_stop_on_exchange", source(bare("stoploss = -0.94")), None),
    Case(
        "whole_margin_stop_on_exchange",
        both(source(bare("stoploss = -0.99")), config(order_types=STOP_OFF)),
        None,
    ),
    Case("stops_on_exchange", config(order_types=STOP_OFF), WARNING, "do not rest"),
    Case("stops_on_exchange", config(), None),
    Case("base_stop_against_guard", source(strategy("stoploss = -0.01")), WARNING, "tighter"),
    Case("base_stop_against_guard", config(stoploss=-0.01), WARNING, "tighter"),
    Case("base_stop_against_guard", source(strategy("stoploss = -0.25")), None),
    Case("liquidation_buffer", config(liquidation_buffer=0.0), WARNING, "is 0"),
    Case("liquidation_buffer", config(liquidation_buffer=0.019), WARNING, "0.019"),
    Case("liquidation_buffer", config(liquidation_buffer=0.02), None),
    Case("after_fill_argument", source(bare(KEYWORD)), WARNING, "positional"),
    Case("after_fill_argument", source(strategy(KEYWORD)), WARNING, "positional"),
    Case("after_fill_argument", source(bare(POSITIONAL)), None),
    Case("not_guarded", source(at(7)), WARNING, "at 7x"),
    Case("not_guarded", config(), None),
    # -- overrides
    Case("freqtrade_refuses", config(stake_amount="lots"), ERROR, "lots"),
    Case("freqtrade_refuses", lambda w: w.config["exchange"].update(name="nowhere"), ERROR, "nowhere"),
    Case("freqtrade_refuses", config(protections=[]), ERROR, "protections"),
    Case("freqtrade_refuses", config(entry_pricing={"price_side": "same"}), ERROR, "price_side"),
    Case("freqtrade_refuses", config(), None),
    Case("strategy_loads", source("import nothing_of_the_kind\n" + strategy()), ERROR, "nothing_of_the_kind"),
    Case("strategy_loads", source(strategy("x = 1 / 0")), ERROR, "ZeroDivisionError"),
    Case("strategy_loads", source("raise SystemExit(3)\n" + strategy()), ERROR, "ended the process"),
    Case("strategy_loads", source("class Other: pass"), ERROR, "no class Sound"),
    Case(
        "strategy_loads",
        set_world(parameters=PARAMETERS | {"strategy_name": "Else"}),
        ERROR,
        "Invalid parameter file",
    ),
    Case("strategy_loads", config(), None),
    Case("guard_refuses", plimsoll(decay={"baseline": "nowhere.json"}), ERROR, "decay.baseline"),
    Case("guard_refuses", config(), None),
    Case("custom_stoploss_off", config(use_custom_stoploss=False), None),
    Case(
        "custom_stoploss_off",
        both(config(use_custom_stoploss=False), source(bare(POSITIONAL))),
        ERROR,
        "never asked",
    ),
    Case(
        "custom_stoploss_off",
        both(config(use_custom_stoploss=False, order_types=STOP_OFF), source(strategy(POSITIONAL))),
        WARNING,
        "only the guard's",
    ),
    Case("custom_stoploss_off", both(config(use_custom_stoploss=False), source(bare())), None),
    Case(
        "custom_stoploss_off",
        source(bare(POSITIONAL.replace("use_custom_stoploss = True", ""))),
        WARNING,
        "never asked",
    ),
    Case("custom_stoploss_off", config(use_custom_stoploss=True), None),
    Case("exit_signal_off", config(use_exit_signal=False), WARNING, "use_exit_signal"),
    Case(
        "exit_signal_off",
        both(config(use_exit_signal=False), source(strategy("use_exit_signal = False"))),
        None,
    ),
    Case("exit_signal_off", config(use_exit_signal=True), None),
    Case("config_overrides", config(stoploss=-0.3, timeframe="5m"), NOTE, "stoploss -0.3 instead of -0.25"),
    Case("config_overrides", config(stoploss=-0.25, minimal_roi={}), None),
    Case("parameter_file", set_world(parameters=PARAMETERS), WARNING, "stoploss -0.4 instead of -0.25"),
    Case(
        "parameter_file",
        set_world(parameters={"strategy_name": "Sound", "params": {"roi": {"0": 0.1}}}),
        NOTE,
        "minimal_roi",
    ),
    Case("parameter_file", set_world(parameters="{"), WARNING, "cannot be read"),
    Case("parameter_file", both(set_world(parameters=PARAMETERS), config(stoploss=-0.25)), None),
    Case(
        "parameter_file",
        set_world(parameters={"strategy_name": "Sound", "params": {"stoploss": {"stoploss": -0.25}}}),
        None,
    ),
    Case("protections_off", source(strategy(bases="IStrategy")), WARNING, "no protections"),
    Case("protections_off", source(bare()), NOTE, "backtests leave"),
    Case("protections_off", both(source(bare()), config(enable_protections=True)), None),
    Case("protections_off", plimsoll(off=["drawdown"]), WARNING, "drawdown"),
    Case("protections_off", plimsoll(off=["deadman", "drawdown"]), WARNING, "drawdown"),
    Case("protections_off", plimsoll(off=["deadman"]), NOTE, "deadman"),
    Case("protections_off", config(), None),
    # -- sizing
    Case("settings_faults", plimsoll(risk={"per_trade": 0.021}), ERROR, "risk.per_trade = 0.021"),
    Case("settings_faults", plimsoll(risk={"per_trade": 0.02}), None),
    Case("settings_faults", source(strategy('plimsoll = {"leverage": {"cap": 6.0}}')), ERROR, "leverage.cap"),
    Case("unlimited_stake", config(max_open_trades=-1), ERROR, "max_open_trades"),
    Case("unlimited_stake", source(at(2)), WARNING, "leverage 2x"),
    Case("unlimited_stake", both(source(at(2)), config(tradable_balance_ratio=0.5)), None),
    Case("unlimited_stake", both(source(at(2)), config(tradable_balance_ratio=0.51)), WARNING, "1.0 times"),
    Case("unlimited_stake", source(at(1)), None),
    Case("unlimited_stake", both(source(at(2)), config(stake_amount=100)), None),
    Case("unlimited_stake", config(), None),
    Case("stake_against_rules", config(stake_amount=20), NOTE, "the rules grant"),
    Case("stake_against_rules", config(max_open_trades=100), NOTE, "over 100 slots"),
    Case("stake_against_rules", config(stake_amount=2000), None),
    Case("slots_against_limits", config(max_open_trades=30), NOTE, "max_open_trades is 30"),
    Case("slots_against_limits", config(max_open_trades=2), None),
    Case(
        "slots_against_limits",
        both(
            config(max_open_trades=25),
            delete_all := on_disk(lambda w: [f.unlink() for f in w.futures.iterdir()]),
        ),
        NOTE,
        "24 positions",
    ),
    Case("slots_against_limits", both(config(max_open_trades=24), delete_all), None),
    Case("slots_against_limits", source(bare("stoploss = -0.21")), WARNING, "21%"),
    Case("slots_against_limits", source(bare("stoploss = -0.20")), None),
    Case("minimum_stake", both(config(dry_run_wallet=60), set_world(status=None)), ERROR, "2 of 2"),
    Case(
        "minimum_stake",
        both(config(dry_run_wallet=400), set_world(status=None)),
        WARNING,
        "1 of 2 pairs: BTC",
    ),
    Case("minimum_stake", both(config(stake_amount=20), source(at(5))), WARNING, "BTC"),
    Case("minimum_stake", both(config(stake_amount=30), source(at(5))), None),
    Case("minimum_stake", config(), None),
    Case(
        "minimum_stake",
        both(live, set_world(status=None), lambda w: w.config.pop("available_capital")),
        UNKNOWN,
        "available_capital",
    ),
    Case("no_entry_granted", plimsoll(leverage={"min_liquidation_distance": 0.99}), ERROR, "refused in BTC"),
    Case("no_entry_granted", plimsoll(exposure={"max_short": 0}), NOTE, "shorts are refused in BTC"),
    Case("no_entry_granted", plimsoll(exposure={"max_long": 0}), NOTE, "longs are refused in BTC"),
    Case("no_entry_granted", config(), None),
    Case("no_entry_granted", lambda w: w.config["exchange"].update(name="bybit"), UNKNOWN, "tiers"),
    Case("base_stop_against_guard", lambda w: w.config["exchange"].update(name="bybit"), UNKNOWN, "tiers"),
    Case(
        "stake_against_rules",
        delete_hours := both(delete(BTC, "futures"), delete(SUI, "futures")),
        UNKNOWN,
        "1h candles",
    ),
    Case("minimum_stake", delete_hours, UNKNOWN, "1h candles"),
    # -- candles
    Case("candle_files", delete(SUI, "futures"), WARNING, "SUI"),
    Case("candle_files", source(strategy('timeframe = "5m"')), WARNING, "no 5m candles"),
    Case("candle_files", config(), None),
    Case("funding_files", delete(SUI, "funding_rate"), WARNING, "ends at once"),
    Case("funding_files", both(delete(SUI, "funding_rate"), source(bare())), ERROR, "silently 0"),
    Case("funding_files", both(delete(SUI, "funding_rate"), config(futures_funding_rate=0.0001)), None),
    Case("funding_files", both(delete(SUI, "funding_rate"), plimsoll(off=["funding"])), ERROR, "silently 0"),
    Case("funding_files", delete(SUI, "mark"), ERROR, "no mark file of SUI"),
    Case("funding_files", rename("funding_rate", "8h"), ERROR, "as -8h-, Freqtrade looks for -1h-"),
    Case("funding_files", rename("mark", "8h"), ERROR, "wrong name"),
    Case("funding_files", config(), None),
    Case("funding_coverage", cut(SUI, "funding_rate", without(0, 4)), WARNING, "SUI"),
    Case("funding_coverage", cut(SUI, "funding_rate", without(0, 3)), None),
    Case(
        "funding_coverage",
        both(cut(SUI, "funding_rate", without(0, 9)), config(futures_funding_rate=0.0001)),
        None,
    ),
    Case("funding_coverage", cut(SUI, "mark", lambda f: f["date"].dt.hour != 8), ERROR, "64 of 192"),
    Case("funding_coverage", cut(SUI, "mark", lambda f: f["date"].dt.hour % 8 == 0), None),
    Case("candle_gaps", cut(SUI, "futures", without(500, 6)), WARNING, "6 1h candles of SUI"),
    Case("candle_gaps", cut(SUI, "futures", without(500, 1)), None),
    Case("candle_gaps", cut(SUI, "futures", lambda f: f.index % 400 != 7), WARNING, "4 1h candles"),
    Case("candle_values", spoil(40, "low", -1.0), WARNING, "1 1h candles of SUI"),
    Case("candle_values", spoil(40, "high", 0.0001), WARNING, "cannot be"),
    Case("candle_values", config(), None),
    Case("history_length", cut(SUI, "futures", lambda f: f.index < 744), WARNING, "744 1h candles"),
    Case("history_length", cut(SUI, "futures", lambda f: f.index < 745), None),
    Case(
        "whitelist_on_file",
        lambda w: w.config["exchange"].update(pair_whitelist=["XRP/USDT:USDT"]),
        UNKNOWN,
        "none of",
    ),
    Case("whitelist_on_file", config(), None),
    # -- accounts
    Case("several_bots", set_world(other_bots=("Other",)), ERROR, "2 bots run on one database"),
    Case(
        "several_bots",
        both(set_world(other_bots=("Other",)), ledger("ledger.sqlite")),
        ERROR,
        "2 bots run on one database",
    ),
    Case("several_bots", set_world(other_bots=("Other",), status_age=61), None),
    Case("several_bots", sibling(), WARNING, "other.json trades the same account"),
    Case("several_bots", both(sibling(), set_world(environment={"PLIMSOLL_LEDGER_URL": "l.sqlite"})), None),
    Case(
        "several_bots",
        both(
            sibling(),
            set_world(environment={"PLIMSOLL_LEDGER_URL": "l.sqlite"}),
            lambda w: w.config.pop("available_capital"),
        ),
        WARNING,
        "none has a part of it",
    ),
    Case("several_bots", sibling(dry_run=True), None),
    Case("several_bots", sibling(exchange={"name": "binance", "key": "another key"}), None),
    Case("ledger_place", ledger("nowhere/ledger.sqlite"), ERROR, "directory"),
    Case("ledger_place", ledger("postgresql+psycopg://ann:word@host/db"), ERROR, "was a URL"),
    Case("ledger_place", ledger("ledger.sqlite"), None),
    Case(
        "bot_blocks_entries",
        set_world(status={"entries": "blocked", "blocked_by": ["drawdown: 21 %"]}),
        WARNING,
        "21 %",
    ),
    Case("bot_blocks_entries", config(), None),
    Case(
        "bot_stops_resting",
        set_world(status={"positions": [{"pair": BTC, "stop_on_exchange": False}]}),
        WARNING,
        BTC,
    ),
    Case("bot_stops_resting", config(), None),
    Case("bot_is_this_one", set_world(status={"plimsoll": "0.0.9"}), WARNING, "0.0.9"),
    Case("bot_is_this_one", set_world(status={"runmode": "live"}), WARNING, "mode is live"),
    Case("bot_is_this_one", config(), None),
    Case("proving_record", live, WARNING, "live entries stay closed"),
    Case("proving_record", both(live, plimsoll(gates={"proving_override": True})), NOTE, "proving_override"),
    Case("proving_record", config(), None),
    # -- environment
    Case("clock", set_world(clock_offset=1.0), WARNING, "1.0 s ahead"),
    Case("clock", set_world(clock_offset=-0.99), None),
    Case("clock", set_world(clock_offset=-5.0), ERROR, "5.0 s behind"),
    Case("clock", set_world(clock_offset=None), UNKNOWN, "only asked with --online"),
    Case("secrets_in_settings", ledger("postgresql+psycopg://ann:word@host/db"), ERROR, "portfolio.ledger"),
    Case("secrets_in_settings", ledger("postgresql+psycopg://ann@host/db"), None),
    Case(
        "secrets_in_settings",
        plimsoll(heartbeat_url="https://hc-ping.com/0d3c9c1e-8a4b-4e62-9f8d-1f2a3b4c5d6e"),
        ERROR,
        "heartbeat_url",
    ),
    Case(
        "secrets_in_settings", plimsoll(journal={"path": "https://host/x?token=abc"}), ERROR, "journal.path"
    ),
    Case(
        "secrets_in_settings",
        source(strategy('plimsoll = {"journal": {"path": "ftp://a:b@c/d"}}')),
        ERROR,
        "journal.path of the strategy",
    ),
    Case("secrets_in_settings", plimsoll(journal={"path": "/srv/bots/journal-of-the-first-bot.jsonl"}), None),
    Case("stale_backtest_cache", cached(3600, 600), WARNING, "doctor_base.py was changed"),
    Case("stale_backtest_cache", cached(3600, 7200), None),
    Case("stale_backtest_cache", both(cached(3600, 600), config(backtest_cache="none")), None),
    Case("stale_backtest_cache", cached(90_000, 600), None),
    Case(
        "stale_backtest_cache",
        both(cached(90_000, 600), config(backtest_cache="week")),
        WARNING,
        "--cache none",
    ),
]
