"""Properties of drawn charts: series, labels, colours, and what a page must not have."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pytest
from matplotlib.figure import Figure

from qos_async import Interval, Kline
from qos_async.charts import html, picture
from qos_async.charts.model import ChartModel, Look
from qos_async.charts.ticks import AxisTick, fitting

HONG_KONG = ZoneInfo("Asia/Hong_Kong")
GREEN, RED = "#26a69a", "#ef5350"
# Bars that close above, below and at their open, the last one after a fall.
SHAPES = {"rise": 2, "fall": -2, "flat": 0}
START = 1_772_415_000


def model(*shapes: str, **look: Any) -> ChartModel:
    rows = [
        Kline(
            symbol="HK:700",
            interval=Interval.MIN_15,
            timestamp=START + 900 * n,
            open=Decimal(100 - n),
            high=Decimal("1234.5") if n == 0 else Decimal(105),
            low=Decimal(90),
            close=Decimal(100 - n + SHAPES[shape]),
            volume=Decimal(1_234_567),
        )
        for n, shape in enumerate(shapes)
    ]
    return ChartModel(rows, Look(**look))


def page(chart: ChartModel, theme: str = "light") -> str:
    return html.page(chart, theme=theme, cdn=True)


def figure(chart: ChartModel) -> tuple[dict[str, dict[str, Any]], dict[str, Any], Any]:
    """Return the series by name, the layout, and the configuration."""
    text = page(chart)
    at, found, decode = text.index("Plotly.newPlot("), [], json.JSONDecoder().raw_decode
    for mark in ("[{", "{", "{"):
        value, at = decode(text, text.index(mark, at))
        found.append(value)
    traces, layout, config = found
    return {trace["name"]: trace for trace in traces}, layout, config


def svg(chart: ChartModel, theme: str = "light") -> str:
    file = io.BytesIO()
    picture.svg(chart, file, theme=theme)
    return file.getvalue().decode()


MIXED = ("rise", "fall", "flat", "fall", "flat")


# Colours


@pytest.mark.fault("C3")
@pytest.mark.parametrize("red_up", [False, True])
def test_flat_bars_have_the_colour_of_rises_in_html(red_up):
    series, _, _ = figure(model(*MIXED, red_up=red_up))
    rise, fall = (RED, GREEN) if red_up else (GREEN, RED)
    assert series["rises"]["x"] == [0, 2, 4]
    assert series["falls"]["x"] == [1, 3]
    for name, colour in (("rises", rise), ("falls", fall)):
        for side in ("increasing", "decreasing"):  # Whatever the bar before was.
            assert series[name][side]["line"]["color"] == colour
    bars = series["volume"]["marker"]["color"]
    assert bars == [rise, fall, rise, fall, rise]


@pytest.mark.fault("C3")
@pytest.mark.parametrize("red_up", [False, True])
def test_flat_bars_have_the_colour_of_rises_in_pictures(red_up):
    rise, fall = (RED, GREEN) if red_up else (GREEN, RED)
    flat, falls = svg(model("flat", red_up=red_up)), svg(model("fall", red_up=red_up))
    assert rise in flat
    assert fall not in flat
    assert fall in falls
    assert rise not in falls


# Last price and hover


def test_the_last_price_has_a_line_and_a_tag():
    _, layout, _ = figure(model(*MIXED))
    [line] = layout["shapes"]
    assert (line["y0"], line["y1"], line["line"]["color"]) == (96, 96, GREEN)
    tag = next(one for one in layout["annotations"] if one["text"] == "<b>96.0</b>")
    assert (tag["y"], tag["bgcolor"]) == (96, GREEN)


def test_hover_shows_prices_volume_averages_and_the_zone():
    chart = model(*MIXED, ma=(2,), zone=HONG_KONG)
    series, _, _ = figure(chart)
    assert series["details"]["text"][1].split("<br>") == [
        "Mon 2026-03-02 09:45 Hong Kong",
        "Open 99.0",
        "High 105.0",
        "Low 90.0",
        "Close 97.0 (-4.90%)",
        "Volume 1,234,567",
        "MA2 99.5",
    ]
    assert series["details"]["hoverinfo"] == "text"
    others = {name for name in series if name != "details"}
    assert {series[name]["hoverinfo"] for name in others} == {"skip"}
    titles = re.findall(r"<title>(.*?)</title>", svg(chart), re.DOTALL)
    assert len(titles) == 5
    assert titles[1].splitlines()[0] == "Mon 2026-03-02 09:45 Hong Kong"


def test_averages_have_a_value_from_as_many_bars_on():
    series, _, _ = figure(model(*MIXED, ma=(2, 5, 60)))
    assert series["MA2"]["y"] == [None, 99.5, 97.5, 96.5, 95.5]
    assert series["MA5"]["y"] == [None, None, None, None, 97.6]
    assert "MA60" not in series, "there are too few bars"
    assert series["MA2"]["line"]["color"] != series["MA5"]["line"]["color"]
    text = svg(model(*MIXED, ma=(2, 60)))
    assert "MA2<" in text
    assert "MA60" not in text


@pytest.mark.fault("C1")
def test_bars_before_those_shown_are_in_the_averages_and_the_last_change():
    whole = model(*MIXED, ma=(5,))
    last = ChartModel(whole.klines, whole.look, shown=1)
    assert last.averages[0].values == [97.6]
    assert [one.text for one in last.changes] == ["+1.05% last bar", "0.00% in 1 bar"]
    assert [one.text for one in model("rise").changes] == ["+2.00% in 1 bar"]


# The page


@pytest.mark.fault("C4")
def test_a_page_has_no_button_that_uploads_or_selects():
    _, _, config = figure(model(*MIXED))
    [buttons] = config["modeBarButtons"]
    assert buttons == [
        *("pan2d", "zoom2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage")
    ]
    assert config["showSendToCloud"] is False


@pytest.mark.fault("C4")
@pytest.mark.parametrize("cdn", [False, True])
def test_a_page_may_connect_to_no_address_but_that_of_plotly_with_cdn(cdn):
    text = html.page(model(*MIXED), theme="auto", cdn=cdn)
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert ("https://" in policy) is cdn
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', text)
    assert all(url.startswith(rules["script-src"].split()[-1]) for url in loaded)
    assert bool(loaded) is cdn


def test_text_of_the_user_is_escaped_and_need_not_be_english():
    hostile = model(*MIXED, title="<b>腾讯</b> & $x$ </script>", source="<i>")
    text = page(hostile)
    assert "&lt;b&gt;腾讯" in text
    assert text.count("</script>") == text.count("<script")
    drawn = svg(hostile)
    ET.fromstring(drawn)
    assert "腾讯" in drawn


@pytest.mark.parametrize("shapes", [("flat",), ("rise",), MIXED])
def test_few_bars_are_drawn_in_every_format(shapes):
    file = io.BytesIO()
    picture.png(model(*shapes), file, theme="dark")
    assert struct.unpack(">II", file.getvalue()[16:24]) == (1920, 1080)
    assert "<title>HK:700" in page(model(*shapes), "auto")


@pytest.mark.parametrize("places", [(0, 60), (1, 118), (2, 119)])
def test_the_labels_of_the_time_axis_stay_between_the_edges(places, monkeypatch):
    labels = [AxisTick(place, "23 Nov 2026", "", major=False) for place in places]
    monkeypatch.setattr(ChartModel, "ticks", lambda *_: labels)
    drawn: list[Any] = []
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *_, **__: drawn.append(figure)
    )
    picture.png(model(*["flat"] * 120), io.BytesIO(), theme="light")
    volume = drawn[0].axes[1]
    room = volume.get_window_extent()
    for label in volume.get_xticklabels():
        extent = label.get_window_extent()
        assert room.x0 <= extent.x0 < extent.x1 <= room.x1


@pytest.mark.parametrize(
    "font", ["WenQuanYi Micro Hei", "Noto Sans CJK JP", "Heiti TC", "SimHei"]
)
def test_a_chinese_title_is_drawn_with_an_installed_font_that_has_it(font, monkeypatch):
    font_manager = pytest.importorskip("matplotlib.font_manager")
    monkeypatch.setattr(font_manager, "get_font_names", lambda: ["Arial", font])
    used = picture._fonts(model("rise", title="腾讯"))["font.family"]
    assert used == ["sans-serif", font]


def test_a_title_without_a_font_is_one_warning_that_names_it(monkeypatch):
    font_manager = pytest.importorskip("matplotlib.font_manager")
    monkeypatch.setattr(font_manager, "get_font_names", list)
    with pytest.warns(UserWarning, match="no font of this machine has") as caught:
        picture.png(model("rise", title="腾讯"), io.BytesIO(), theme="light")
    assert len(caught) == 1
    assert "'腾讯'" in str(caught[0].message)


def test_an_svg_has_texts_labels_and_no_random_ids():
    chart = model(*MIXED * 10, zone=HONG_KONG)
    text = svg(chart)
    for part in (
        chart.title.split()[0],
        chart.last,
        chart.span,
        *(t.text for t in chart.ticks(10)),
    ):
        assert part in text
    assert text == svg(chart)
    assert "<dc:date>" not in text


# In a browser

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ZOOM = """
<script>
setTimeout(() => Plotly.relayout("chart", {"xaxis.range": [10.4, 20.6]}).then(() => {
  const chart = document.getElementById("chart"), layout = chart.layout;
  const state = {
    prices: layout.yaxis.range, volume: layout.yaxis2.range,
    places: layout.xaxis.tickvals, labels: layout.xaxis.ticktext,
    buttons: [...chart.querySelectorAll("[data-title]")].map(one => one.dataset.title),
  };
  const mark = document.createElement("pre");
  mark.id = "state";
  mark.textContent = JSON.stringify(state);
  document.body.append(mark);
}), 200);
</script></body>"""


@pytest.mark.fault("C2")
@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
@pytest.mark.timeout(150)
def test_the_axes_follow_a_zoom_in_a_browser(tmp_path: Path):
    chart = model(*MIXED * 20)
    path = tmp_path / "chart.html"
    text = html.page(chart, theme="auto", cdn=False)
    path.write_text(text.replace("</body>", ZOOM), "utf-8")
    assert CHROMIUM is not None
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,800")
    home = f"--user-data-dir={tmp_path / 'home'}"
    done = subprocess.run(
        [
            CHROMIUM,
            *options,
            home,
            "--virtual-time-budget=8000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    [found] = re.findall(r'<pre id="state">(.*?)</pre>', done.stdout)
    state = json.loads(found)
    low, high = state["prices"]
    assert 88 < low < 90, "of the bars in view, which do not include the first"
    assert 105 < high < 107
    assert state["volume"][0] == 0
    shown = [tick for level in chart.tick_levels for tick in level]
    assert all(10 < place < 21 for place in state["places"])
    assert len(state["places"]) > 1
    assert state["labels"][0] in {tick.full for tick in shown}
    assert state["buttons"][-1] == "Download plot as a PNG"
    assert not any("hare" in one or "elect" in one for one in state["buttons"])


def test_the_page_and_python_choose_the_same_labels():
    """The page has them for each zoom; this is the one it opens with."""
    chart = model(*MIXED * 20)
    _, layout, _ = figure(chart)
    ticks = fitting(chart.tick_levels, 10, 100)
    assert layout["xaxis"]["ticktext"] == [tick.text for tick in ticks]
