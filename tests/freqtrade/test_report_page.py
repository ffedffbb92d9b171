"""The report of real backtests, opened in Chromium: nothing fails, everything is drawn, hostile names do nothing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import freqtrade
import pytest
from report_world import World, breaker, outcome, plan, trade

from plimsoll import demo
from plimsoll.market.runner import load_backtest
from plimsoll.prepared_market import simulated
from plimsoll.report.command import make
from plimsoll.report.comparison import Comparison, Run
from plimsoll.report.contents import Contents, contents
from plimsoll.settings import load
from plimsoll.shipped import shipped

pytestmark = pytest.mark.freqtrade

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HOSTILE = "<img src=x onerror=\"document.title='hit'\"></script><script>document.title='hit'</script>"
DAYS = 62  # the bootstrap wants 60
MILLISECONDS = 240_000.0  # for whatever the browser does
STRATEGIES = f"""
import sys

sys.path.insert(0, {str(shipped("strategies"))!r})

from EmaCross import EmaCross
from plimsoll import Guarded


class Tagged(EmaCross):
    def populate_entry_trend(self, dataframe, metadata):
        dataframe = super().populate_entry_trend(dataframe, metadata)
        dataframe["enter_tag"] = {HOSTILE!r}
        return dataframe


class GuardedTagged(Guarded, Tagged):
    pass
"""
CHARTS = {"equity", "planned", "realised", "leverage", "size", "refused", "ablation", "audit", "stops", "nearest", "calendar", "chance", "pairs"}  # fmt: skip


@dataclass
class Shown:
    """A page that a browser has drawn, and everything that the browser had to say."""

    page: Any
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no Chromium: neither `chromium` in PATH nor {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=MILLISECONDS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backtest a strategy with a hostile tag, raw and guarded; the runs stand in for those of other kinds as well."""
    place = tmp_path_factory.mktemp("report")
    (place / "strategies").mkdir()
    (place / "strategies" / "Tagged.py").write_text(STRATEGIES, encoding="utf-8")
    prepared = replace(simulated(place, 7, DAYS), pairs=("BTC/USDT:USDT", "ETH/USDT:USDT", "SUI/USDT:USDT"))
    names = {"raw": "Tagged", "guarded": "GuardedTagged"}
    ended = demo.backtest_both(
        prepared, {place / kind: (name, place / "strategies") for kind, name in names.items()}
    )
    for run in ended:
        run.check()
    exports = {
        kind: str(load_backtest(place / kind, name)["path"].relative_to(place))
        for kind, name in names.items()
    }
    raw = Run(name="raw", kind="raw", strategy="Tagged", export=exports["raw"])
    journal = "guarded/plimsoll/GuardedTagged-backtest.jsonl"
    guarded = Run(
        name="guarded", kind="guarded", strategy="GuardedTagged", export=exports["guarded"], journal=journal
    )
    Comparison(
        strategy="Tagged",
        timerange=prepared.timerange,
        pairs=prepared.pairs,
        liquidation_buffer=0.05,
        settings=load().model_dump(mode="json"),
        freqtrade=freqtrade.__version__,
        plimsoll="0",
        runs=(
            raw,
            guarded,
            replace(guarded, name="without kelly", kind="without", layer="kelly"),
            replace(raw, name="raw at 5x", kind="leverage", leverage=5.0),
        ),
    ).write(place)
    make(place)
    return place


@pytest.fixture(scope="module")
def found(directory: Path) -> Contents:
    return contents(directory)


def opened(browser: Any, page: Path, width: int, scheme: str) -> Shown:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    context.set_default_timeout(MILLISECONDS)
    shown = Shown(context.new_page())
    shown.page.on("console", lambda message: shown.said.append(f"{message.type}: {message.text}"))
    shown.page.on("pageerror", lambda error: shown.said.append(f"error: {error}"))
    shown.page.on("dialog", lambda dialog: shown.said.append(f"dialog: {dialog.message}"))
    shown.page.on("request", lambda request: shown.requests.append(request.url))
    shown.page.goto(page.as_uri())
    shown.page.wait_for_selector("html[data-drawn]", state="attached")
    return shown


@pytest.fixture(scope="module")
def desktop(browser: Any, directory: Path) -> Shown:
    return opened(browser, directory / "report.html", 1280, "light")


@pytest.fixture(scope="module")
def phone(browser: Any, directory: Path) -> Shown:
    return opened(browser, directory / "report.html", 390, "dark")


@pytest.fixture(scope="module")
def hostile(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A page with hostile names where Freqtrade would let none through: pairs, rules, breakers, the currency."""
    trades = [
        trade(25 * day, 10.0 if day % 2 else -12.0, pair=HOSTILE, enter_tag=HOSTILE, exit_reason=HOSTILE)
        for day in range(62)
    ]
    records = [
        *(plan(25 * day, pair=HOSTILE, bound_leverage=HOSTILE, bound_size=HOSTILE) for day in range(62)),
        plan(3, f"{HOSTILE}: no", pair=HOSTILE),
        breaker(30, True, HOSTILE, HOSTILE),
        *(outcome(one) for one in trades),
    ]
    world = World(tmp_path_factory.mktemp("hostile"), days=66, strategy=HOSTILE)
    changed = {"stake_currency": HOSTILE}
    world.run("raw", trades, changed=changed | {"final_balance": 1.0}).run(
        "guarded", trades, records, changed=changed
    )
    world.run("without", trades[:9], [], layer=HOSTILE, changed=changed)
    return opened(browser, make(world.write()), 390, "light")


# -- Numbers ---------------------------------------------------------------------------------------------------


def test_report_when_freqtrade_wrote_the_exports_then_every_number_agrees_to_the_cent(
    found: Contents,
) -> None:
    assert found.disagreements == []
    assert len(found.checks) > 250
    for run in found.runs:
        names = {one.name for one in found.checks if one.run == run.run.name}
        assert {
            "final balance",
            "max drawdown, amount",
            "max relative drawdown, ratio",
            "short profit",
        } <= names
        assert sum(name.startswith("profit of 2023-") for name in names) >= DAYS - 2
        assert sum(name.startswith("pair ") for name in names) == 2 * 3
        assert sum(name.startswith("enter tag <img") for name in names) == 2
        assert all(one.tolerance <= 0.005 for one in found.checks)


def test_report_when_freqtrade_wrote_the_exports_then_the_page_shows_its_numbers(
    found: Contents, desktop: Shown
) -> None:
    cells = desktop.page.locator("#figures tbody tr").all_inner_texts()
    raw, guarded = (run.stats for run in found.compared)
    assert cells[0].split("\t") == [
        "Final balance, USDT",
        f"{raw['final_balance']:,.3f}",
        f"{guarded['final_balance']:,.3f}",
    ]
    assert cells[1].split("\t")[1:] == [f"{stats['profit_total']:+.2%}" for stats in (raw, guarded)]
    assert cells[2].split("\t")[1:] == [f"{stats['max_drawdown_account']:.2%}" for stats in (raw, guarded)]
    assert cells[3].split("\t")[1:] == [f"{stats['total_trades']:,}" for stats in (raw, guarded)]


def test_report_when_equity_is_drawn_then_it_ends_at_freqtrades_final_balance(
    found: Contents, desktop: Shown
) -> None:
    ends = desktop.page.evaluate(
        "() => document.querySelector('[data-chart=equity]').data.slice(0, 3).map((trace) => trace.y.at(-1))"
    )
    raw, guarded = (run.stats for run in found.compared)
    assert [ends[0], ends[2]] == [round(stats["final_balance"], 3) for stats in (raw, guarded)]


def test_report_when_breakers_tripped_then_every_trip_is_marked(found: Contents, desktop: Shown) -> None:
    trips = found.document["decisions"]["trips"]
    drawn = desktop.page.evaluate(
        "() => document.querySelectorAll('[data-chart=equity] .xy3 .points path, [data-chart=equity] .x1y3 .points path').length"
    )
    assert len(trips) > 5
    assert drawn == len(trips)


# -- In the browser ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["desktop", "phone"])
def test_page_when_opened_offline_then_nothing_fails_and_nothing_is_fetched(
    name: str, directory: Path, request: pytest.FixtureRequest
) -> None:
    shown = request.getfixturevalue(name)
    assert shown.said == []
    assert shown.requests == [(directory / "report.html").as_uri()]


@pytest.mark.parametrize("name", ["desktop", "phone"])
def test_page_when_opened_then_every_chart_is_drawn(name: str, request: pytest.FixtureRequest) -> None:
    shown = request.getfixturevalue(name)
    marks = shown.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("[data-chart]")].map((place) => [place.dataset.chart,
            place.querySelectorAll(".plot .trace path, .hm image, .bars path, .points path, .lines path").length]))"""
    )
    assert set(marks) == CHARTS
    assert {key for key, count in marks.items() if not count} == set()
    assert shown.page.locator("p.missing").count() == 0


def test_page_when_it_is_390_wide_then_nothing_overflows_it(phone: Shown) -> None:
    width, wide = phone.page.evaluate(
        """() => [document.documentElement.scrollWidth, [...document.querySelectorAll("body *")]
            .filter((one) => !one.closest(".wide") && !one.closest(".plot > *") && one.getBoundingClientRect().right > 390.5)
            .map((one) => one.outerHTML.slice(0, 80))]"""
    )
    assert (width, wide) == (390, [])
    scrolls = phone.page.evaluate(
        "() => getComputedStyle(document.querySelector('#chart-pairs .wide')).overflowX"
    )
    assert scrolls == "auto"
    plots = phone.page.evaluate(
        "() => [...document.querySelectorAll('.plot .nsewdrag')].map((one) => one.getBoundingClientRect().width)"
    )
    assert min(plots) > 150  # axes and legends leave room for the drawing
    font = phone.page.evaluate(
        "() => parseFloat(getComputedStyle(document.querySelector('.caption')).fontSize)"
    )
    assert font >= 13


def test_page_when_the_theme_is_switched_then_charts_follow(browser: Any, directory: Path) -> None:
    shown = opened(browser, directory / "report.html", 1280, "dark")
    look = """() => [getComputedStyle(document.body).backgroundColor,
        document.querySelector('[data-chart=equity]').data[0].line.color]"""
    dark = shown.page.evaluate(look)
    shown.page.click("#theme")
    light = shown.page.evaluate(look)
    assert dark == ["rgb(18, 22, 26)", "#e0964a"]
    assert light == ["rgb(247, 247, 245)", "#c06a14"]
    assert shown.said == []


# -- Hostile names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["desktop", "hostile"])
def test_page_when_names_are_hostile_then_they_are_shown_and_do_nothing(
    name: str, request: pytest.FixtureRequest
) -> None:
    shown = request.getfixturevalue(name)
    for place in shown.page.locator("[data-chart]").all():  # hovering builds more from names
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert shown.page.locator("img").count() == 0
    assert shown.page.locator("script").count() == 3
    assert shown.page.title() != "hit"
    assert "<img src=x onerror=" in shown.page.locator("#chart-pairs").inner_text()
    assert shown.said == []
    assert shown.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_page_when_markup_slips_through_then_the_policy_still_runs_none_of_it(
    browser: Any, directory: Path, tmp_path: Path
) -> None:
    text = (directory / "report.html").read_text(encoding="utf-8")
    torn = tmp_path / "torn.html"
    torn.write_text(text.replace("<main>", f"<main>{HOSTILE}", 1), encoding="utf-8", newline="\n")
    shown = opened(browser, torn, 1280, "light")
    deadline = time.monotonic() + 60.0
    while not shown.said and time.monotonic() < deadline:
        shown.page.wait_for_timeout(100)
    assert any("Content Security Policy" in said for said in shown.said)
    assert shown.page.title() != "hit"


def test_specifications_when_read_back_then_they_are_the_charts(found: Contents, desktop: Shown) -> None:
    drawn = desktop.page.evaluate("() => document.getElementById('specifications').textContent")
    assert json.loads(drawn) == {chart.key: chart.spec for chart in found.charts}
