"""The report's page, JSON and Markdown from comparisons made by hand; what a browser makes of it is tested elsewhere."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_world import World, breaker, outcome, plan, trade

from plimsoll.audit import audit
from plimsoll.cli import main
from plimsoll.figures import BEYOND_R
from plimsoll.report.charts.base import sentence, shown
from plimsoll.report.charts.labels import SPANS, Point, groups, placed
from plimsoll.report.command import make
from plimsoll.report.contents import Contents, contents
from plimsoll.report.summary import escaped, summary

HOSTILE = "<img src=x onerror=alert(1)></script><!--|`$"
TRADES = [
    trade(1, 50.0),
    trade(3, -80.0, is_short=True, pair="ETH/USDT:USDT"),
    trade(26, -30.0),
    trade(30, 20.0),
]
RECORDS = [
    plan(1),
    plan(3, side="short"),
    plan(5, "streak: paused"),
    breaker(4, True),
    *(outcome(t) for t in TRADES),
]
CHARTS = [
    "equity",
    "planned",
    "realised",
    "leverage",
    "size",
    "refused",
    "stops",
    "nearest",
    "calendar",
    "chance",
    "pairs",
]


class Elements(HTMLParser):
    """Collect the elements of a page and the text outside of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        if len(data) < 20_000:
            self.text += data


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def said(world: World, **settings: Any) -> Contents:
    return contents(world.write(**settings))


def charts(found: Contents) -> dict[str, Any]:
    return {chart.key: chart for chart in found.charts}


# -- Whatever there is ---------------------------------------------------------------------------------------


def test_page_when_there_are_only_raw_and_guarded_then_every_chart_is_drawn_but_the_ablation(
    world: World,
) -> None:
    found = said(world.run("raw", TRADES).run("guarded", TRADES, RECORDS))
    assert [chart.key for chart in found.charts] == CHARTS
    missing = [chart.key for chart in found.charts if chart.spec is None]
    assert missing == ["chance"]  # three days
    assert found.disagreements == []


def test_page_when_there_are_no_trades_at_all_then_it_says_so(world: World) -> None:
    world.run("raw", []).run("guarded", [], [])
    page = make(world.write()).read_text(encoding="utf-8")
    found = contents(world.directory)
    assert (
        found.verdict == "Any never traded, neither as it is nor guarded: nothing is shown by these candles."
    )
    assert found.verdict in page
    assert "No entry in any run." in page
    assert found.disagreements == []


def test_page_when_there_is_no_journal_then_charts_that_need_it_say_so(world: World) -> None:
    found = charts(said(world.run("raw", TRADES).run("guarded", TRADES)))
    for key in ("planned", "refused"):
        assert found[key].spec is None
        assert "no journal" in found[key].missing
    assert "trips of breakers are not known" in found["equity"].caption


@pytest.mark.parametrize("kind", ["raw", "guarded"])
def test_page_when_there_is_one_run_only_then_it_is_shown_and_nothing_compared(
    world: World, kind: Any
) -> None:
    found = said(world.run(kind, TRADES))
    assert "the other run is missing" in found.verdict
    assert make(world.directory).is_file()


def test_page_when_layers_were_off_then_each_has_a_point_and_a_row(world: World) -> None:
    world.run("raw", TRADES).run("guarded", TRADES[1:], RECORDS[:4] + RECORDS[5:])
    for layer in ("kelly", "streak"):
        world.run("without", TRADES[2:], [], layer=layer)
    chart = charts(said(world))["ablation"]
    assert chart.spec["data"][0]["text"] == ["guarded", "without kelly", "without streak", "as it is"]
    assert [row[0] for row in chart.table.rows] == ["guarded", "without kelly", "without streak", "as it is"]
    assert chart.table.rows[1][1:3] == ("-1.00%", "+8.00 pt")


def test_page_when_raw_lies_far_outside_then_it_is_no_point_but_said_and_listed(world: World) -> None:
    world.run("raw", [trade(1, -900.0)]).run("guarded", TRADES, RECORDS).run(
        "without", TRADES, [], layer="kelly"
    )
    chart = charts(said(world))["ablation"]
    assert chart.spec["data"][0]["text"] == ["guarded", "without kelly"]
    assert chart.notes == ["As it is lies far outside: -90.0% at a drawdown of 90.0%."]
    assert chart.table.rows[-1][0] == "as it is"


def test_page_when_leverage_was_forced_then_its_table_has_the_audits_numbers(world: World) -> None:
    reached = trade(1, -20.0, min_rate=70.0)
    forced = [reached, trade(3, -99.0, exit_reason="liquidation", min_rate=75.0), trade(5, 5.0, is_short=True, max_rate=110.0), trade(7, 1.0, leverage=4.0)]  # fmt: skip
    found = said(world.run("raw", TRADES).run("leverage", forced, leverage=5.0))
    chart, run = charts(found)["audit"], found.runs[1]
    theirs = audit(run.backtest, 0.05, 5.0)
    row = dict(zip(chart.table.headings, chart.table.rows[0], strict=True))
    assert row["liquidated"] == f"{theirs.liquidated}" == "1"
    assert row["reached it"] == f"{theirs.reached}" == "2"
    assert row["margin lost"] == f"{theirs.whole_margins}" == "1"
    assert row["nearest"] == f"{theirs.nearest:.1%}"
    assert (
        "buffered price at the true tier: nearer to the entry than the exchange's by 5 % of" in chart.caption
    )
    assert chart.notes == [
        "At 5x 1 of 4 trades got less: the exchange allows no more.",
        "At 5x worst prices of 4 trades are the export's, with the exit's whole candle.",
    ]


@pytest.mark.parametrize(
    ("worst", "reached", "way", "rough"),
    [
        ([97.0, 99.0], "0", "16%", 0),
        ([97.0, None], "1", "100%", 1),
        ([97.0], "1", "100%", 2),  # not of these trades
        (None, "1", "100%", 2),
    ],
)
def test_page_when_worst_prices_are_kept_with_a_run_then_both_charts_take_them_and_else_say_so(
    world: World, worst: list[float | None] | None, reached: str, way: str, rough: int
) -> None:
    trades = [trade(1, -1.0), trade(3, 1.0, min_rate=70.0)]
    found = charts(
        said(world.run("raw", trades, worst=worst).run("leverage", trades, leverage=5.0, worst=worst))
    )
    row = dict(zip(found["audit"].table.headings, found["audit"].table.rows[0], strict=True))
    assert row["reached it"] == reached
    assert f"Nearest: as it is {way}." in found["nearest"].caption
    for key in ("audit", "nearest"):
        notes = [note for note in found[key].notes if "with the exit's whole candle" in note]
        assert len(notes) == bool(rough)
        assert all(f" {rough} trades" in note for note in notes)


@pytest.mark.parametrize(("profit", "beyond"), [(-10.4, 0), (-10.6, 1)])
def test_page_when_a_trade_lost_more_than_planned_then_it_is_drawn_apart(
    world: World, profit: float, beyond: int
) -> None:
    lost = trade(1, profit)
    assert (profit / 10.0 < BEYOND_R) == bool(beyond)
    chart = charts(said(world.run("guarded", [lost, TRADES[0]], [outcome(lost), outcome(TRADES[0])])))[
        "planned"
    ]
    names = [trace["name"] for trace in chart.spec["data"]]
    assert names == ["within 1.05 R", "beyond 1.05 R"][: 1 + beyond]
    assert f"{beyond} of 2 lost over 1.05 R" in chart.caption


def test_page_when_the_drawdown_layer_is_off_then_no_limit_is_drawn(world: World) -> None:
    world.run("raw", TRADES)
    limits = [charts(said(world, off=off))["equity"].spec["layout"]["shapes"] for off in ([], ["drawdown"])]
    assert [len(shapes) for shapes in limits] == [1, 0]
    assert limits[0][0]["y0"] == -0.2


# -- Amounts, limits, days -------------------------------------------------------------------------------------


def test_page_when_the_stake_is_bitcoin_then_amounts_have_its_eight_decimals(tmp_path: Path) -> None:
    world = World(tmp_path, days=70, balance=0.5)
    btc = {"stake_currency": "BTC", "stake_currency_decimals": 8}
    trades = [
        trade(25 * day, 0.00012345 if day % 3 else -0.00054321, stake_amount=0.001) for day in range(66)
    ]
    records = [
        *(
            plan(25 * day, answers=[{"rule": "risk_size", "numbers": {"equity": 0.50000678}}])
            for day in range(66)
        ),
        plan(1, "streak: paused"),
        *(outcome(one, planned=0.00043219) for one in trades),
    ]
    missed = [trade(1, 0.00012345, stake_amount=0.001), *trades[1:]]
    world.run("raw", missed, changed=btc).run("guarded", trades, records, changed=btc)
    world.run("leverage", trades, leverage=5.0, changed=btc)
    found = said(world)
    drawn = charts(found)
    assert found.disagreements == []
    assert len(found.checks) > 200
    balance = drawn["equity"].spec["data"]
    assert balance[0]["y"][:3] == [0.5, 0.50012345, 0.5002469]
    assert balance[2]["y"][:2] == [0.5, 0.49945679]
    assert balance[4]["y"][0] == 0.50000678
    assert [balance[place]["hovertemplate"] for place in (0, 4)] == ["%{y:,.8f} BTC", "%{y:,.8f}"]
    planned = drawn["planned"].spec["data"]
    points = {(x, y) for trace in planned for x, y in zip(trace["x"], trace["y"], strict=True)}
    assert points == {(0.00043219, 0.00012345), (0.00043219, -0.00054321)}
    assert planned[0]["hovertemplate"].startswith("%{text}<br>planned %{x:,.8f}, made %{y:,.8f}")
    made = 44 * 0.00012345 - 22 * 0.00054321
    assert drawn["pairs"].spec["data"][0]["x"] == [round(made, 8)]
    assert drawn["pairs"].spec["data"][0]["hovertemplate"].startswith("%{y}: %{x:+,.8f}")
    assert drawn["pairs"].table.rows[0][-1] == f"{made:+.8f}"
    refused = drawn["refused"]
    assert refused.spec["data"][1]["x"] == [-0.00012345]
    assert "%{x:,.8f}" in refused.spec["data"][1]["hovertemplate"]
    assert refused.table.rows[0][3:6] == ("0.00000000", "0.00012345", "+0.00012345")
    assert drawn["audit"].table.rows[0][1] == f"{0.5 + made:.8f}"
    final = f"{0.5 + made:.8f} BTC"
    assert f"Guarded, Any ended at {final}" in found.verdict
    page, markdown = make(world.directory).read_text(encoding="utf-8"), summary(found)
    for text in (page, markdown):
        assert "Final balance, BTC" in text
        assert "agree, amounts to half of 0.00000001 BTC." in text
    assert f'<p class="card-value">{0.5 + made:.8f}</p>' in page
    assert f"| {0.5 + made:.8f} |" in markdown


def test_page_when_a_limit_is_no_whole_percent_then_labels_tell_it_exactly(tmp_path: Path) -> None:
    trades = [trade(25 * day, 10.0 if day % 3 else -12.0) for day in range(66)]
    world = World(tmp_path, days=70).run("raw", trades)
    found = charts(said(world, drawdown={"limit": 0.125}, loss_limit={"daily": 0.025}))
    for key in ("equity", "chance"):
        assert [note["text"] for note in found[key].spec["layout"]["annotations"]] == ["breaker 12.5 %"]
    assert "chance past 12.5 %" in found["chance"].table.headings
    days = found["calendar"]
    assert days.spec["data"][0]["colorbar"]["ticktext"] == ["−2.5 % or less", "0", "+2.5 % or more"]
    assert "the daily limit of 2.5 %. Days" in days.caption


@pytest.mark.parametrize(("lost", "beyond"), [(29.9, 0), (30.0, 1), (30.1, 1)])
def test_page_when_a_day_reaches_the_daily_limit_then_it_is_marked(
    world: World, lost: float, beyond: int
) -> None:
    days = charts(said(world.run("raw", [trade(1, -lost)]), loss_limit={"daily": 0.03}))["calendar"]
    assert f"as it is: {beyond} of 3 days" in days.caption
    assert len(days.spec["data"][1]["x"]) == beyond


def test_page_when_the_loss_limit_layer_is_off_then_no_daily_limit_is_drawn(world: World) -> None:
    world.run("raw", [trade(1, -400.0)]).run("guarded", TRADES, RECORDS)
    settings = {"loss_limit": {"daily": 0.03, "timezone": "Asia/Tokyo"}}
    drawn, off = (charts(said(world, off=off, **settings))["calendar"] for off in ([], ["loss_limit"]))
    marks = "at or beyond the daily limit"
    assert marks in [trace.get("name") for trace in drawn.spec["data"]]
    assert drawn.spec["data"][0]["zmax"] == 0.03
    assert marks not in [trace.get("name") for trace in off.spec["data"]]
    assert off.caption.endswith("the colours end at 5 %. No daily limit was in force.")
    assert off.notes == []


@pytest.mark.parametrize(
    ("days", "notes"),
    [
        ({}, []),
        ({"timezone": "UTC"}, []),
        (
            {"timezone": "Asia/Tokyo"},
            ["The guard's own limit counts days of Asia/Tokyo, these days are UTC."],
        ),
        ({"rolling": True}, ["The guard's own limit counts the last 24 hours, these days are UTC."]),
    ],
)
def test_page_when_the_guards_days_are_not_those_drawn_then_it_is_said(
    world: World, days: dict[str, Any], notes: list[str]
) -> None:
    assert charts(said(world.run("raw", TRADES), loss_limit=days))["calendar"].notes == notes


def test_page_when_trades_were_open_at_the_end_then_balance_outcomes_and_pairs_say_so(world: World) -> None:
    ended = [*TRADES, trade(40, 3.0, exit_reason="force_exit")]
    found = charts(said(world.run("raw", TRADES).run("guarded", ended, [outcome(t) for t in ended])))
    for key in ("equity", "realised", "pairs"):
        assert [note for note in found[key].notes if "(force_exit)" in note] == [
            "Trades still open at the end: guarded 1. They count as Freqtrade closed them, at the open of the last candle (force_exit)."
        ]


def test_page_when_all_trades_had_closed_then_none_is_said_to_be_open(world: World) -> None:
    found = charts(said(world.run("raw", TRADES).run("guarded", TRADES, RECORDS)))
    assert [note for chart in found.values() for note in chart.notes if "force_exit" in note] == []


# -- Labels of the ablation ------------------------------------------------------------------------------------


def test_page_when_many_layers_are_close_together_then_labels_are_numbers_and_hover_has_the_names(
    world: World,
) -> None:
    world.run("guarded", TRADES, RECORDS)
    layers = ["leverage", "volatility", "kelly", "risk", "exposure", "correlation", "funding", "streak", "drawdown", "loss_limit"]  # fmt: skip
    for place, layer in enumerate(layers):
        world.run("without", TRADES if place < 6 else [*TRADES, trade(40, -9.0 * place)], [], layer=layer)
    chart = charts(said(world))["ablation"]
    trace = chart.spec["data"][0]
    assert trace["text"] == ["guarded", *[""] * 6, "7", "8", "9", "10"]
    assert chart.notes == [
        "Labels are the numbers of the table.",
        "At the same point as guarded: 1, 2, 3, 4, 5, 6.",
    ]
    assert trace["hovertext"][0].split("<br>") == ["guarded", *(f"without {layer}" for layer in layers[:6])]
    assert trace["hovertext"][6] == trace["hovertext"][0]
    assert trace["hovertext"][7] == "without funding"
    rows = [row[0] for row in chart.table.rows]
    assert rows == ["guarded", *(f"{place} without {layer}" for place, layer in enumerate(layers, 1))]


def test_placed_when_labels_would_overlap_at_a_phones_width_then_they_are_left_out() -> None:
    corners = [Point(0.0, 0.0, ""), Point(1.0, 1.0, "")]
    near = 10.0 / SPANS[0][0]
    crowd = [Point(0.5 + near * step, 0.5, "a name") for step in range(5)]
    positions, free = placed([*corners, *crowd])
    assert not free
    assert positions[:2] == ["", ""]
    assert 0 < sum(bool(position) for position in positions) < 5
    apart = [Point(0.1 + 0.15 * step, 0.1 + 0.15 * step, "abc") for step in range(5)]
    assert placed([*corners, *apart]) == (["", "", *["top center"] * 5], True)


def test_groups_when_markers_cover_one_another_on_a_desktop_then_they_are_one() -> None:
    step = 6.0 / SPANS[-1][0]
    points = [Point(x, y, "") for x, y in ((0.0, 0.0), (0.9 * step, 0.0), (1.1 * step, 0.0), (1.0, 1.0), (0.0, 0.0))]  # fmt: skip
    assert groups(points) == [[0, 1, 4], [2], [3]]


def test_page_when_a_setting_differs_from_its_profile_then_it_is_marked(world: World) -> None:
    page = make(world.run("raw", TRADES).write(risk={"per_trade": 0.005})).read_text(encoding="utf-8")
    assert re.search(r'<div class="set"><dt>per_trade</dt><dd>0.005</dd></div>', page)
    assert page.count('class="set"') == 1


def test_page_when_a_number_disagrees_then_page_summary_and_status_say_so(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = world.run("raw", TRADES, changed={"final_balance": 2000.0}).write()
    markdown = directory / "out.md"
    assert main(["report", str(directory), "--open", "no", "--markdown", str(markdown)]) == 1
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert 'id="disagreements"' in page
    assert "raw: final balance: 960 here, 2000 there" in page
    assert "numbers disagree" in markdown.read_text(encoding="utf-8")
    assert "raw: final balance is 960 here, 2000 there" in capsys.readouterr().err


# -- The command -----------------------------------------------------------------------------------------------


def test_report_when_asked_for_json_then_the_document_is_all_that_is_printed(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = world.run("raw", TRADES).run("guarded", TRADES, RECORDS).write()
    output = directory / "elsewhere" / "page.html"
    assert main(["report", str(directory), "--json", "--output", str(output)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert output.is_file()
    assert not (directory / "report.html").exists()
    assert document["runs"][0]["figures"]["final_balance"] == 960.0
    assert document["runs"][0]["checks"]["disagree"] == []
    assert document["decisions"]["refused"][0]["reason"] == "streak"
    assert document["decisions"]["trips"][0]["reason"] == "3 losses in a row"
    assert document["results"]["raw"]["sides"]["short"] == {"trades": 1, "won": 0, "profit": -80.0}


def test_report_when_there_is_no_comparison_then_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path), "--open", "no"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("plimsoll report: no comparison could be read")
    assert error.count("\n") == 1


def test_report_when_it_is_made_twice_then_the_bytes_are_the_same(world: World) -> None:
    directory = world.run("raw", TRADES).run("guarded", TRADES, RECORDS).write()
    first = make(directory).read_bytes()
    assert make(directory).read_bytes() == first
    assert (directory / "summary.md").is_file()


# -- Texts from outside ----------------------------------------------------------------------------------------


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    trades = [trade(1, 50.0, pair=HOSTILE, enter_tag=HOSTILE), trade(3, -80.0, exit_reason=HOSTILE)]
    records = [
        plan(1, bound_size=HOSTILE, bound_leverage=HOSTILE, pair=HOSTILE),
        plan(2, f"{HOSTILE}: no"),
        breaker(2, True, HOSTILE, HOSTILE),
        *(outcome(t) for t in trades),
    ]
    world = World(tmp_path, strategy=HOSTILE)
    world.run("raw", trades, changed={"stake_currency": HOSTILE, "final_balance": 0.0})
    world.run("guarded", trades, records).run("without", trades, [], layer=HOSTILE)
    return world.write()


def test_page_when_names_are_hostile_then_they_are_text(hostile: Path) -> None:
    text = make(hostile).read_text(encoding="utf-8")
    page = Elements(text)
    assert "img" not in page.tags
    assert not [name for name in page.attributes if name.startswith("on")]
    assert page.tags.count("script") == 3
    assert "<img src=x onerror=alert(1)>" in page.text  # shown as what it is
    start = text.index('id="specifications">')
    specification = text[start : text.index("</script>", start)]
    assert "onerror" in specification
    assert "<" not in specification.split(">", 1)[1]


def test_page_when_it_is_written_then_nothing_is_fetched_and_only_its_scripts_run(hostile: Path) -> None:
    head = make(hostile).read_text(encoding="utf-8")[:3_000]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', head)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline'; img-src data: blob:" in policy[1]  # styles only
    assert "http:" not in policy[1]


def test_summary_when_names_are_hostile_then_they_are_no_markup(hostile: Path) -> None:
    text = summary(contents(hostile))
    assert "<img" not in text.replace("\\<img", "")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert cells == {4, 8, 9}  # no name opens a cell of its own


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ("two\nlines\x00", "two lines"),
        ("x" * 60, "x" * 33 + "…"),
        ("a&b", "a&amp;b"),
    ],
)
def test_shown_when_a_text_is_from_outside_then_plotly_reads_no_markup(text: str, safe: str) -> None:
    assert shown(text) == safe


def test_sentence_when_a_reason_is_long_then_it_breaks_between_words() -> None:
    lines = sentence("equity fell below the limit of the day " * 3 + "<br>").split("<br>")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 60
    assert lines[-1].endswith("&lt;br&gt;")


def test_escaped_when_a_text_holds_markdown_then_it_is_literal() -> None:
    assert escaped("[x](http://y) <b> a|b\n# c") == r"\[x\]\(http\://y\) \<b\> a\|b \# c"
