"""The record of a dry-run on disk: who counts, who reads, what other settings and a broken file do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from freqtrade.enums import RunMode

from plimsoll.host.proving import WRITE_EVERY, Proving
from plimsoll.rules.answer import Outcome
from plimsoll.rules.proving import MAX_GAP
from plimsoll.settings import load

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400


class Bots:
    """Dry and live bots of one user directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.second = 0

    def bot(
        self,
        runmode: RunMode = RunMode.DRY_RUN,
        *,
        name: str = "Steady",
        timeframe: str = "5m",
        **changes: Any,
    ) -> Proving:
        strategy: Any = SimpleNamespace(
            config={"runmode": runmode, "user_data_dir": self.directory},
            timeframe=timeframe,
            get_strategy_name=lambda: name,
        )
        return Proving(strategy, load(changes))

    @property
    def file(self) -> Path:
        return self.directory / "plimsoll" / "proving-Steady.json"

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.second)

    def run(self, bot: Proving, seconds: int, every: int = 900) -> None:
        """Loop for a while."""
        bot.loop(self.now)
        for _ in range(seconds // every):
            self.second += every
            bot.loop(self.now)

    def live(self, **changes: Any) -> Any:
        """Return what stands against a live bot's entries that starts now."""
        bot = self.bot(RunMode.LIVE, **changes)
        bot.loop(self.now)
        return bot.answer()


@pytest.fixture
def bots(tmp_path: Path) -> Bots:
    return Bots(tmp_path)


def test_live_when_no_dry_run_was_ever_seen_then_entries_are_blocked(bots: Bots) -> None:
    answer = bots.live()
    assert answer.blocks
    assert "14 days of dry-run" in answer.reason
    assert not bots.file.exists()


@pytest.mark.parametrize(("days", "blocks"), [(14.0, False), (14.0 - 900 / DAY, True)])
def test_live_when_the_dry_run_was_long_enough_then_entries_are_open(
    bots: Bots, days: float, blocks: bool
) -> None:
    bots.run(bots.bot(), int(days * DAY))
    answer = bots.live()

    assert answer.blocks == blocks
    assert answer.numbers["observed_days"] == pytest.approx(days, abs=1e-9)


def test_dry_run_when_restarted_again_and_again_then_its_days_add_up_and_gaps_do_not(bots: Bots) -> None:
    for _ in range(14):
        bots.run(bots.bot(), DAY)
        bots.second += MAX_GAP + 61  # down for longer than a loop may take
    record = bots.bot(RunMode.LIVE)
    record.loop(bots.now)

    # What was not written when it went down is lost, at most a minute each time.
    assert 14.0 - 14 * WRITE_EVERY / DAY <= record.as_data()["days"] <= 14.0


def test_dry_run_when_down_for_weeks_then_they_do_not_count(bots: Bots) -> None:
    bots.run(bots.bot(), DAY)
    bots.second += 30 * DAY
    bots.run(bots.bot(), 900)
    assert bots.live().blocks


def test_dry_run_when_the_clock_jumps_then_the_jump_does_not_count(bots: Bots) -> None:
    bot = bots.bot()
    bots.run(bot, 900)
    bots.second += 20 * DAY
    bots.run(bot, 900)
    bots.second -= 20 * DAY
    bots.run(bot, 900)
    assert bot.as_data()["days"] * DAY == 2_700


OTHER: list[dict[str, Any]] = [
    {"name": "Other"},
    {"timeframe": "1h"},
    {"risk": {"per_trade": 0.005}},
    {"off": ["streak"]},
    {"leverage": {"cap": 2}},
]
SAME: list[dict[str, Any]] = [
    {"journal": {"enabled": False}},
    {"deadman": {"hours": 12.0}},
]


@pytest.mark.parametrize("changes", OTHER)
def test_live_when_what_is_traded_differs_then_another_record_counts(
    bots: Bots, changes: dict[str, Any]
) -> None:
    bots.run(bots.bot(), 14 * DAY)
    assert bots.live(**changes).blocks
    assert not bots.live().blocks


@pytest.mark.parametrize("changes", SAME)
def test_live_when_only_what_is_not_traded_differs_then_the_record_counts(
    bots: Bots, changes: dict[str, Any]
) -> None:
    bots.run(bots.bot(), 14 * DAY)
    assert not bots.live(**changes).blocks


def test_live_when_the_days_needed_are_others_then_the_same_record_is_measured_by_them(bots: Bots) -> None:
    bots.run(bots.bot(), 3 * DAY)
    assert bots.live(gates={"proving_days": 3.5}).blocks
    assert not bots.live(gates={"proving_days": 3}).blocks
    assert not bots.live(gates={"proving_days": 0}).blocks


def test_live_when_overridden_then_nothing_stands_against_it(bots: Bots) -> None:
    bot = bots.bot(RunMode.LIVE, gates={"proving_override": True})
    bot.loop(bots.now)
    assert bot.answer() is None
    assert bot.as_data()["satisfied"] is True


def test_dry_run_when_it_trades_then_nothing_stands_against_it(bots: Bots) -> None:
    bot = bots.bot()
    bots.run(bot, 900)
    assert bot.answer() is None
    assert bot.as_data() == {"needed_days": 14.0, "days": 900 / DAY, "satisfied": False}


def test_live_when_it_runs_then_its_own_time_is_no_proof_and_the_file_is_left_alone(bots: Bots) -> None:
    bots.run(bots.bot(), DAY)
    before = bots.file.read_text()
    bots.run(bots.bot(RunMode.LIVE), 15 * DAY, every=900)
    assert bots.file.read_text() == before
    assert bots.live().blocks


def test_live_when_the_dry_run_goes_on_beside_it_then_it_sees_that_without_a_restart(bots: Bots) -> None:
    dry, live = bots.bot(), bots.bot(RunMode.LIVE)
    live.loop(bots.now)
    bots.run(dry, 13 * DAY)
    live.loop(bots.now)
    assert live.answer().blocks  # type: ignore[union-attr]
    bots.run(dry, DAY + 900)
    live.loop(bots.now)
    assert not live.answer().blocks  # type: ignore[union-attr]


def test_records_when_two_dry_runs_of_one_strategy_differ_then_both_are_kept(bots: Bots) -> None:
    one, other = bots.bot(), bots.bot(risk={"per_trade": 0.005})
    for _ in range(20):
        bots.second += 300
        one.loop(bots.now)
        other.loop(bots.now)
    assert len(json.loads(bots.file.read_text())) == 2


@pytest.mark.parametrize(
    "broken", ["", "{", "[1, 2]", "null", "\x00\xff", '{"KEY": 3}', '{"KEY": {"first": 1}}']
)
def test_record_when_broken_then_live_entries_are_unknown_and_nobody_writes_over_it(
    bots: Bots, broken: str
) -> None:
    bots.run(bots.bot(), 14 * DAY)
    (key,) = json.loads(bots.file.read_text())
    good = bots.file.read_text()
    broken = broken.replace("KEY", key)
    bots.file.write_text(broken, encoding="latin-1")
    answer = bots.live()
    assert answer.blocks
    assert answer.outcome is Outcome.UNKNOWN
    dry = bots.bot()
    bots.run(dry, 900)
    assert bots.file.read_text(encoding="latin-1") == broken
    assert dry.as_data()["satisfied"] is False

    bots.file.write_text(good)
    assert not bots.live().blocks


@pytest.mark.parametrize(
    "record", [{"first": 1, "last": 2, "seconds": -5}, {"first": None, "last": 2, "seconds": 10**9}]
)
def test_record_when_it_cannot_be_then_live_entries_are_unknown(bots: Bots, record: dict[str, Any]) -> None:
    bots.run(bots.bot(), 900)
    (key,) = json.loads(bots.file.read_text())
    bots.file.write_text(json.dumps({key: record}))
    answer = bots.live()
    assert answer.blocks
    assert answer.outcome is Outcome.UNKNOWN


def test_dry_run_when_the_record_cannot_be_written_for_a_while_then_it_goes_on_counting(
    bots: Bots, monkeypatch: Any, caplog: Any
) -> None:
    dry = bots.bot()

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fails)
        bots.run(dry, DAY)
    assert "No space left on device" in caplog.text
    assert caplog.text.count("No space left on device") < 5
    bots.run(dry, DAY)
    assert dry.as_data()["days"] == pytest.approx(2.0)
    live = bots.bot(RunMode.LIVE)
    live.loop(bots.now)
    assert live.as_data()["days"] == pytest.approx(2.0)


def test_dry_run_when_it_writes_then_no_half_file_is_left(bots: Bots) -> None:
    bots.run(bots.bot(), 3_600)
    assert [path.name for path in bots.file.parent.iterdir()] == [bots.file.name]
