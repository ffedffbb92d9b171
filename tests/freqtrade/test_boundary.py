"""Whatever a strategy or one of our own rules raises or answers: no risk is opened by it, no exit blocked, no process ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from boundary_bot import COINS, Bot, pair_of, running_bot
from boundary_harness import Outcome, Traded, backtest, faults_of, small_market, write_user_data
from boundary_strategies import Steady, faulty
from freqtrade.enums import CandleType, RunMode

from plimsoll import Guarded

pytestmark = pytest.mark.freqtrade

DAYS = 5
SHORT_DAYS = 3  # enough where only entries are at stake
VALUES = ("none", "nan", "inf", "minus_inf", "negative", "text", "pair_of_text", "huge")
EVERY = ("raises", *VALUES)
REFUSED, TRADED, EITHER = "refused", "traded", "either"


@dataclass(frozen=True)
class Cell:
    """One generated strategy: what is broken, how, and what must come of it."""

    subject: str
    fault: str
    expected: str
    base: str = "Steady"
    body: str = "{subject} = faulty({fault!r})"

    @property
    def name(self) -> str:
        return re.sub(r"\W", "_", f"{self.subject}_{self.fault}_{self.base}")

    def source(self) -> str:
        lines = self.body.format(subject=self.subject, fault=self.fault).splitlines()
        return f"\nclass {self.name}(Guarded, {self.base}):\n" + "".join(f"    {line}\n" for line in lines)


CONTROL = Cell("control", "nothing", TRADED, body="pass")


def cells(
    subject: str, refused: Iterable[str] = (), either: Iterable[str] = (), faults=EVERY, **options
) -> list[Cell]:
    """Return a callback's row of the matrix; what is neither refused nor either has to trade."""
    expected = dict.fromkeys(faults, TRADED) | dict.fromkeys(either, EITHER) | dict.fromkeys(refused, REFUSED)
    return [Cell(subject, fault, expected[fault], **options) for fault in faults]


def without(*left_out: str) -> list[str]:
    return [fault for fault in EVERY if fault not in left_out]


STOP_ASKED = "use_custom_stoploss = True\ncustom_stoploss = faulty_stop({fault!r}, after_fill=%s)"
MATRIX: dict[str, list[Cell]] = {
    "entry": [
        *cells("leverage", refused=without("huge")),
        *cells("custom_stake_amount", refused=without("huge")),
        *cells("confirm_trade_entry", refused=EVERY),
        *cells("custom_entry_price", refused=without("none", "huge"), either=["huge"]),
        *cells("take_profit_price", refused=without("none", "huge"), either=["huge"]),
    ],
    "exit": [
        *cells("confirm_trade_exit", faults=[*EVERY, "no"]),
        *cells("custom_exit"),
        *cells("custom_exit_price"),
        *cells("custom_roi", body="use_custom_roi = True\ncustom_roi = faulty({fault!r})"),
        *cells("custom_stoploss", body=STOP_ASKED % False),
        *[
            replace(cell, subject="stop_after_fill")
            for cell in cells("custom_stoploss", body=STOP_ASKED % True)
        ],
    ],
    "orders": [
        *cells(
            "adjust_trade_position",
            body="position_adjustment_enable = True\nadjust_trade_position = faulty({fault!r})",
        ),
        *cells("adjust_order_price", base="Delayed", either=EVERY),
        *cells("adjust_entry_price", base="Delayed", either=EVERY),
        *cells("adjust_exit_price", base="Delayed"),
        *cells("check_entry_timeout", base="Delayed", either=EVERY),
        *cells("check_exit_timeout", base="Delayed"),
    ],
    "other": [
        *cells("order_filled"),
        *cells("bot_loop_start"),
        *cells("bot_start", faults=VALUES),
        *cells("informative_pairs"),
        *cells("version"),
    ],
}

ANSWERS = [
    "plan.answers.volatility_regime",
    "plan.answers.volatility_budget",
    "plan.answers.kelly_limit",
    "plan.answers.heat_limit",
    "plan.answers.risk_size",
    "plan.answers.reward_to_risk",
    "rules.leverage.leverage_cap",
    "rules.leverage.leverage_from_stop",
    "rules.leverage.leverage_from_liquidation",
    "rules.exposure.position_margin",
    "rules.exposure.total_margin",
    "rules.exposure.asset_margin",
    "rules.exposure.gross_notional",
    "rules.exposure.net_notional",
    "rules.exposure.side_cap",
    "rules.funding.funding_gate",
    "rules.stops.atr_stop",
    "host.entries.make_plan",
    "Entries.plan",
    "Entries.size",
    "Gates.answers",
    "Entries.account",
    "Entries.positions",
    "Inputs.market",
]
ENTRY_STEPS = [
    "Entries.confirm",
    "Entries.waiting",
    "Entries.waits_for_size",
    "Inputs.reading",
    "Inputs.last_rate",
    "Inputs.tiers",
    "Inputs.fee",
    "Inputs.buffer",
    "Book.trades",
    "Book.positions",
    "Book.equity",
    "RunLog.kelly",
    "rules.sizing.loss_at_stop_ratio",
    "rules.sizing.planned_risk",
    "rules.liquidation.tier_of",
]
STOP_STEPS = [
    "OpenTrades.filled",
    "OpenTrades.plan_of",
    "OpenTrades.stop_price",
    "OpenTrades.liquidation",
    "OpenTrades.freqtrade_stop",
    "OpenTrades.review",
    "host.open_trades.liquidation_price",
    "host.open_trades.stop_ratio_within_risk",
    "rules.stops.stop_price",
    "rules.stops.tighten_inside",
    "rules.stops.stop_ratio_for_freqtrade",
]
SERVICES = [
    "Planner.loop",
    "Entries.fail",
    "RunLog.collect",
    "RunLog.record",
    "Journal.plan",
    "Journal.record",
    "Journal._add",
    "Complaints.about",
    "host.internals.has_own",
    "host.internals.own_takes_after_fill",
]
OWN_FAULTS = ("raises", "none", "nan", "inf", "text")


def own(subjects: Iterable[str], expected: str, **exceptions: str) -> list[Cell]:
    return [
        Cell(
            subject,
            fault,
            exceptions.get(fault, expected),
            base="OwnFault",
            body="use_custom_roi = True\nown_fault = ({subject!r}, {fault!r})",
        )
        for subject in subjects
        for fault in OWN_FAULTS
    ]


OWN_MATRIX: dict[str, list[Cell]] = {
    "answers": own(ANSWERS, REFUSED),
    "entry": own(ENTRY_STEPS, EITHER),
    "stop": own(STOP_STEPS, EITHER),
    "services": [
        *own(SERVICES, EITHER),
        # A fault while a fault is dealt with.
        *own(
            [
                f"{step}+Entries.fail"
                for step in ("host.entries.make_plan", "Entries.size", "Entries.confirm")
            ],
            REFUSED,
        )[:: len(OWN_FAULTS)],
    ],
}


@pytest.fixture(scope="module")
def market():
    return small_market(DAYS)


@pytest.fixture
def user_data(market, tmp_path: Path) -> Path:
    return write_user_data(tmp_path, market)


def judge(
    user_data: Path, row: list[Cell], market, *, days: int, env: Mapping[str, str] | None = None
) -> dict[str, list[str]]:
    """Run every cell and return what is wrong, by cell; a cell that ends the process does not keep the others from running."""
    control = replace(CONTROL, base=row[0].base)
    by_name = {cell.name: cell for cell in [*row, control]}
    write_user_data(user_data, {}, "".join(cell.source() for cell in by_name.values()))
    wrong: dict[str, list[str]] = {}
    traded: dict[str, Traded] = {}
    remaining = list(by_name)
    while remaining:
        outcome = backtest(user_data, remaining, days=days, check=False, env=env)
        if outcome.run.succeeded:
            traded |= outcome.by_name
            break
        culprit = _last_strategy(outcome)
        assert culprit in remaining, outcome.run.output[-6000:]
        wrong[culprit] = [f"ended the process: {_last_error(outcome)}"]
        index = remaining.index(culprit)
        traded |= {name: outcome.by_name[name] for name in remaining[:index]}
        remaining = remaining[index + 1 :]
    for name, found in traded.items():
        problems = faults_of(found, market)
        if by_name[name].expected == REFUSED and found.fills:
            problems.append(f"{len(found.fills)} fills, should have refused every entry")
        if by_name[name].expected == TRADED and len(found.fills) < 5:
            problems.append(f"only {len(found.fills)} fills, should have traded")
        if problems:
            wrong[name] = [
                problems[0] if len(problems) == 1 else f"{problems[0]} (one of {len(problems)} faults)"
            ]
    assert traded[CONTROL.name if row[0].base == "Steady" else list(by_name)[-1]].reasons() >= {
        "roi",
        "stop_loss",
    }
    return wrong


def _last_strategy(outcome: Outcome) -> str:
    return re.findall(r"Running backtesting for Strategy (\w+)", outcome.run.output)[-1]


def _last_error(outcome: Outcome) -> str:
    lines = [
        line
        for line in outcome.run.stderr.splitlines()
        if re.match(r"[\w.]*(Error|Exception|Invalid\w+)\b", line)
    ]
    return lines[-1] if lines else outcome.run.stderr[-300:]


def table(wrong: Mapping[str, list[str]]) -> str:
    return "\n" + "\n".join(f"{name}: {problem}" for name, problems in wrong.items() for problem in problems)


@pytest.mark.parametrize("group", MATRIX)
def test_backtest_when_a_strategys_callback_fails_then_no_risk_opens_and_every_exit_works(
    group, user_data, market
):
    wrong = judge(user_data, MATRIX[group], market, days=DAYS if group in ("exit", "orders") else SHORT_DAYS)

    assert not wrong, table(wrong)


@pytest.mark.parametrize("group", OWN_MATRIX)
def test_backtest_when_our_own_rule_fails_then_no_risk_opens_and_every_exit_works(group, user_data, market):
    days = DAYS if group == "stop" else SHORT_DAYS
    wrong = judge(user_data, OWN_MATRIX[group], market, days=days, env={"BREAKABLE": "1"})

    assert not wrong, table(wrong)


def test_judgement_when_a_strategy_is_not_guarded_then_finds_what_is_wrong(user_data, market):
    write_user_data(
        user_data,
        {},
        "\nclass Reckless(Steady):\n    leverage = lambda self, **kwargs: 20.0\n    stoploss = -0.99\n",
    )

    reckless = backtest(user_data, ["Reckless"], days=DAYS).by_name["Reckless"]

    found = " ".join(faults_of(reckless, market))
    assert all(word in found for word in ("has leverage 20", "of the way to liquidation", "has a margin of"))


# -- Where a failing backtest is right --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "callback", ["bot_start", "populate_indicators", "populate_entry_trend", "populate_exit_trend"]
)
def test_backtest_when_data_or_start_fails_then_it_ends_and_says_why(callback, user_data):
    cell = Cell(callback, "raises", REFUSED)
    write_user_data(user_data, {}, cell.source())

    outcome = backtest(user_data, [cell.name], check=False)

    assert outcome.run.returncode != 0
    assert "fault on purpose" in outcome.run.output
    assert not outcome.by_name[cell.name].fills


def made(callback: str, fault: str) -> Guarded:
    strategy_class = type("Made", (Guarded, Steady), {callback: faulty(fault)})
    strategy = strategy_class({"runmode": RunMode.DRY_RUN, "candle_type_def": CandleType.FUTURES})
    strategy.dp = None
    return strategy


@pytest.mark.parametrize("fault", EVERY)
def test_informative_pairs_when_the_strategys_are_unusable_then_freqtrade_can_gather_the_others(fault):
    gathered = made("informative_pairs", fault).gather_informative_pairs()

    assert all(len(each) == 3 and isinstance(each[2], CandleType) for each in gathered)
    assert all("/" in pair for pair, *_ in gathered)


@pytest.mark.parametrize("fault", EVERY)
def test_version_when_it_is_unusable_then_is_text_or_none(fault):
    assert isinstance(made("version", fault).version(), str | None)


# -- A trading bot ------------------------------------------------------------------------------------------------------------

BOT_CONFIG = {
    "dry_run_wallet": 100_000,
    "max_open_trades": 50,
    "entry_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "plimsoll": {
        "kelly": {"cold_start_risk": 0.0005, "floor_risk": 0.0005, "min_trades": 1000},
        "exposure": {"total_margin": 1.0, "heat": 0.5, "gross_notional": 25.0, "net_notional": 25.0},
    },
}
BOT_RISK = 0.0005 * 100_000
FORBIDDEN = [
    *[("leverage", fault) for fault in ("raises", "none", "nan", "inf", "negative", "text")],
    *[("custom_stake_amount", fault) for fault in ("raises", "none", "nan", "inf", "negative", "text")],
    *[("confirm_trade_entry", fault) for fault in ("raises", "none", "nan", "inf", "text")],
    *[("custom_entry_price", fault) for fault in ("raises", "nan", "inf", "minus_inf", "text")],
]
HELD = [
    *[("custom_stoploss", fault) for fault in ("raises", "nan", "inf", "text", "huge")],
    *[
        ("adjust_trade_position", fault)
        for fault in ("raises", "nan", "inf", "minus_inf", "text", "pair_of_text")
    ],
    *[("custom_exit_price", fault) for fault in ("raises", "nan", "inf", "minus_inf", "text")],
    *[("confirm_trade_exit", fault) for fault in ("raises", "none", "no")],
    ("custom_exit", "raises"),
    ("order_filled", "raises"),
    ("check_exit_timeout", "text"),
]
STALE = [
    *[("populate_entry_trend", fault) for fault in ("raises", "none", "cut")],
    ("populate_indicators", "raises"),
    ("populate_exit_trend", "raises"),
]
OWN_FORBIDDEN = [
    *[("host.entries.make_plan", fault) for fault in ("raises", "none", "text")],
    ("Entries.plan", "raises"),
    ("Entries.size", "raises"),
    ("Entries.confirm", "raises"),
    ("Inputs.market", "raises"),
    ("Inputs.tiers", "nan"),
]
OWN_HELD = [
    ("OpenTrades.filled", "raises"),
    ("OpenTrades.plan_of", "raises"),
    ("OpenTrades.stop_price", "raises"),
    ("OpenTrades.stop_price", "nan"),
    ("OpenTrades.liquidation", "raises"),
    ("OpenTrades.freqtrade_stop", "raises"),
]


def assigned(*rows: list[tuple[str, str]], start: int = 0) -> dict[str, tuple[str, str]]:
    every = [cell for row in rows for cell in row]
    return {pair_of(start + number): cell for number, cell in enumerate(every)}


def opened(bot: Bot) -> dict[str, dict]:
    return {trade["pair"]: trade for trade in bot.trades()}


def filled_pairs(bot: Bot) -> set[str]:
    return {trade["pair"] for trade in bot.trades() if trade["amount"] > 0 and trade["liquidation_price"]}


def still_open(bot: Bot) -> set[str]:
    return {trade["pair"] for trade in bot.trades() if trade["is_open"]}


def names(cells: Mapping[str, tuple[str, str]], pairs: Iterable[str]) -> list[tuple[str, str]]:
    return sorted(cells.get(pair, ("none", pair)) for pair in pairs)


STRATEGY = """
class InTrouble(Guarded, PerPair):
    cells = {cells!r}
    quiet = {quiet!r}
    global_fault = {global_fault!r}

break_for_pairs({broken!r})
"""
CONTROL_PAIR, QUIET_PAIRS = pair_of(len(COINS) - 1), (pair_of(len(COINS) - 2), pair_of(len(COINS) - 3))


def bot(
    directory: Path,
    cells: Mapping,
    *,
    broken: Mapping | None = None,
    global_fault: str,
    env: Mapping | None = None,
):
    broken = broken or {}
    source = STRATEGY.format(
        cells=dict(cells), quiet=QUIET_PAIRS, global_fault=global_fault, broken={**broken}
    )
    pairs = [*cells, *broken, *QUIET_PAIRS, CONTROL_PAIR]
    assert len(set(pairs)) == len(pairs)
    return running_bot(directory, "InTrouble", source, pairs, BOT_CONFIG, env or {})


def settle(running: Bot, expected: set[str]) -> None:
    """Wait until all expected entries are filled, and a few loops more in which nothing else may be."""
    running.wait(lambda: filled_pairs(running) >= expected, 60)
    assert running.wait_loops(4), running.last_words()


def crash(running: Bot) -> None:
    """Let every price fall by a tenth and wait for the exits."""
    running.prices.factor = 0.9
    running.wait(lambda: not still_open(running), 40)
    assert running.alive(), running.last_words()


def test_trade_when_an_entry_callback_fails_then_that_pair_is_not_entered_and_the_bot_lives(tmp_path):
    cells = assigned(FORBIDDEN)

    with bot(tmp_path, cells, global_fault="raises") as running:
        settle(running, {CONTROL_PAIR})
        assert names(cells, filled_pairs(running)) == [("none", CONTROL_PAIR)]
        too_much = running.post("forceenter", {"pair": QUIET_PAIRS[0], "side": "long", "leverage": 50})
        allowed = running.post("forceenter", {"pair": QUIET_PAIRS[1], "side": "long", "leverage": 2})
        faulty_pair = next(iter(cells))
        running.post("forceenter", {"pair": faulty_pair, "side": "long", "leverage": 50})
        running.wait(lambda: QUIET_PAIRS[1] in filled_pairs(running), 15)

        assert too_much[1].get("trade_id") is None if isinstance(too_much[1], dict) else True
        assert isinstance(allowed[1], dict), allowed
        assert allowed[1]["leverage"] == 2.0
        assert filled_pairs(running) == {CONTROL_PAIR, QUIET_PAIRS[1]}
        forced = opened(running)[QUIET_PAIRS[1]]
        assert forced["leverage"] == 2.0
        way_to_stop = (forced["open_rate"] - forced["stop_loss"]) / forced["open_rate"]
        assert forced["stake_amount"] * 2 * way_to_stop < BOT_RISK
        crash(running)
        assert not still_open(running)
        assert all(trade["close_profit_abs"] > -BOT_RISK * 12 for trade in running.trades())


def test_trade_when_an_exit_callback_or_the_analysis_fails_then_stops_work_and_no_stale_signal_is_traded(
    tmp_path,
):
    held, stale = assigned(HELD), assigned(STALE, start=len(HELD))

    with bot(tmp_path, held | stale, global_fault="none") as running:
        settle(running, {CONTROL_PAIR, *held})
        wrong = {
            "not entered": names(held, {CONTROL_PAIR, *held} - filled_pairs(running)),
            "entered on a stale signal": names(stale, set(opened(running)) & set(stale)),
            "stop out of place": loose_stops(running, held),
        }
        crash(running)
        wrong["not closed"] = names(held | stale, still_open(running))
        wrong["not closed by the stop"] = names(
            held | stale,
            {trade["pair"] for trade in running.trades() if "stop_loss" not in str(trade["exit_reason"])},
        )

    assert not any(wrong.values()), wrong


def test_trade_when_our_own_rule_fails_then_no_risk_opens_and_stops_work(tmp_path):
    forbidden, held = assigned(OWN_FORBIDDEN), assigned(OWN_HELD, start=len(OWN_FORBIDDEN))
    broken = forbidden | held

    with bot(tmp_path, {}, broken=broken, global_fault="none", env={"BREAKABLE": "1"}) as running:
        settle(running, {CONTROL_PAIR, *held})
        wrong = {
            "entered": names(broken, set(opened(running)) & set(forbidden)),
            "stop out of place": loose_stops(running, broken),
        }
        crash(running)
        wrong["not closed"] = names(broken, still_open(running))

    assert not any(wrong.values()), wrong


def loose_stops(running: Bot, cells: Mapping[str, tuple[str, str]]) -> list:
    """Return which trades would lose more than planned at the stop that stands."""
    found = []
    for trade in running.trades():
        lost = trade["amount"] * (trade["open_rate"] - trade["stop_loss"])
        if not lost < BOT_RISK * 1.05 or not trade["stop_loss"] > (trade["liquidation_price"] or 0.0):
            found.append(
                (cells.get(trade["pair"]), f"would lose {lost:.2f} at its stop, planned {BOT_RISK:.2f}")
            )
    return found


def test_trade_when_an_entry_is_forced_onto_an_open_position_then_it_still_loses_no_more_than_planned(
    tmp_path,
):
    # Freqtrade asks no callback about the size of such an addition.
    with bot(tmp_path, {}, global_fault="none") as running:
        settle(running, {CONTROL_PAIR})
        before = opened(running)[CONTROL_PAIR]["amount"]
        running.post("forceenter", {"pair": CONTROL_PAIR, "side": "long"})
        assert running.wait_loops(3), running.last_words()
        added = opened(running)[CONTROL_PAIR]["amount"] > before
        wrong = loose_stops(running, {})

    assert wrong == [], f"added: {added}"
