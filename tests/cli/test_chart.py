"""``qos chart``: texts, terminal, files, and error messages."""

from __future__ import annotations

import asyncio
import io
import json
import re
import struct
import sys
import webbrowser
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from msgspec.structs import replace
from rich.console import Console

from qos_async import Interval, Kline
from qos_async.charts import html, picture
from qos_async.charts.model import ChartModel, Look
from qos_async.cli import main
from qos_async.cli.charts.terminal import bars_that_fit, print_chart
from qos_async.cli.watch.chart import draw_klines, label_width
from qos_async.sim import Simulator, Variants
from tests.cli.conftest import FAST
from tests.support.factories import flat_kline

CORNER = datetime(2025, 1, 30, 16, tzinfo=UTC)


def chart_model(count=120, *, interval=Interval.MIN_1, symbol="CF:BTCUSDT", step=None):
    length = step or timedelta(minutes=int(interval))
    klines = [
        Kline(
            symbol=symbol,
            interval=interval,
            timestamp=int((CORNER + n * length).timestamp()),
            open=Decimal(100 + n % 7),
            high=Decimal(110 + n % 5),
            low=Decimal(90),
            close=Decimal("101.5") + n % 11,
            volume=Decimal(n % 13) if n % 17 else None,
        )
        for n in range(count)
    ]
    return ChartModel(klines, Look(source="here"))


def printed(model, width, height=24, **options):
    out = io.StringIO()
    print_chart(model, Console(file=out, width=width, height=height, **options))
    return out.getvalue().splitlines()


# Size


@pytest.mark.parametrize("width", [40, 60, 100])
@pytest.mark.parametrize("height", [20, 24])
def test_the_chart_and_the_prompt_fit_the_terminal(width, height):
    """Also where the title and the times need two lines each."""
    lines = printed(chart_model(), width, height)
    assert len(lines) < height
    assert all(len(line) <= width for line in lines)


# Words

UNUSUAL = [
    ("-18", "-19.5", "-8.33%", False),
    ("-37.63", "10.01", "+126.60%", True),
    ("100000", "100000.5", "0.00%", None),
    ("11.2", "0", "-", None),
    ("0", "11.2", "-", None),
]


def two_bars(first, last):
    klines = [flat_kline(n, Decimal(price)) for n, price in enumerate((first, last))]
    return ChartModel(klines, Look(source="here"))


@pytest.mark.fault("F9")
@pytest.mark.parametrize(("first", "last", "text", "rises"), UNUSUAL)
def test_the_change_of_unusual_prices_is_right_in_sign_and_colour(
    first, last, text, rises
):
    shown = two_bars(first, last)
    words = [f"{text} last bar", f"{text} in 2 bars"]
    assert shown.changes == [(word, rises) for word in words]
    code = {True: "\x1b[32m", False: "\x1b[31m", None: ""}[rises]
    head = printed(shown, 80, force_terminal=True, color_system="standard")[0]
    assert f"{code}  {text} last bar" in head
    page = html.page(shown, theme="light", cdn=True)
    [title] = re.findall(r'"title":(\{"pad".*?"yanchor":"top"\})', page)
    title = json.loads(title)["text"]
    assert all(word in title for word in words)
    colour = {True: "#26a69a", False: "#ef5350", None: ""}[rises]
    assert ("color:" in title) == bool(colour)
    assert colour in title


@pytest.mark.fault("F9")
@pytest.mark.parametrize(("first", "last", "text", "rises"), UNUSUAL)
def test_a_picture_has_the_same_change(first, last, text, rises, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        picture,
        "_after",
        lambda *words, **style: drawn.append((words[2], style["color"])),
    )
    picture.png(two_bars(first, last), io.BytesIO(), theme="light")
    colour = {True: "#26a69a", False: "#ef5350", None: "#6b7684"}[rises]
    assert drawn[1:3] == [(f"{text} last bar", colour), (f"{text} in 2 bars", colour)]


def test_the_texts_have_symbol_prices_range_and_source():
    shown = chart_model()
    assert shown.title == "CF:BTCUSDT  1m"
    assert shown.last == "110.5"
    assert shown.changes == [("+0.91% last bar", True), ("+10.50% in 120 bars", True)]
    assert shown.span == "2025-01-30 16:00 to 2025-01-30 17:59 UTC, 120 bars"
    assert (
        shown.newest(2).span
        == "2025-01-30 17:58 to 2025-01-30 17:59 UTC, newest 2 of 120"
    )
    days = chart_model(
        3, interval=Interval.DAY, symbol="HK:700", step=timedelta(days=1)
    )
    assert days.span == "2025-01-31 to 2025-02-02, 3 bars"
    assert shown.credit == "here · qos-async"
    assert (shown.round(1234.567), shown.price_format) == ("1,234.6", ",.1f")


@pytest.mark.parametrize(
    ("interval", "step", "count", "marks"),
    [
        (Interval.MIN_1, None, 60, "30 Jan 16:10 16:20 16:30 16:40 16:50"),
        (Interval.HOUR_1, None, 24, "30 Jan 20:00 31 Jan 04:00 08:00 12:00"),
        (
            Interval.DAY,
            timedelta(days=1),
            60,
            "03 Feb 2025 10 Feb 17 Feb 24 Feb 03 Mar",
        ),
        (
            Interval.MONTH,
            timedelta(days=31),
            12,
            "Mar 2025 May Jul Sep Nov Jan 2026",
        ),
        (Interval.YEAR, timedelta(days=366), 8, "2026 2027 2028 2029"),
        (Interval.MIN_1, None, 1, "30 Jan 16:00"),
    ],
)
def test_the_axis_has_round_times(interval, step, count, marks):
    """Each label has what differs from the one before."""
    ticks = chart_model(count, interval=interval, step=step).ticks(10)
    assert len(ticks) <= 10
    assert marks in " ".join(tick.text for tick in ticks)


# Terminal


@pytest.mark.parametrize("width", [24, 40, 80, 120, 200])
def test_it_fits_the_terminal(width):
    lines = printed(chart_model(), width)
    assert max(map(len, lines)) <= width
    assert len(lines) < 24
    assert lines[0].startswith(" CF:BTCUSDT  1m  110.5")
    shown = "newest" if width < 120 + 7 else "120 bars"
    assert shown in lines[-1] or width < 80
    assert any("110.5" in line for line in lines[1:]), "the newest price is on the axis"


def test_few_bars_are_spread_and_many_are_close():
    few, many = (printed(chart_model(count), 80) for count in (15, 60))
    assert re.search(r"█   █", few[-4])
    assert re.search(r"██", many[-4])
    assert 30 < bars_that_fit(80) < 40
    assert bars_that_fit(5) == 1


def test_colours_are_for_terminals():
    assert "\x1b" not in "".join(printed(chart_model(), 80))
    coloured = "".join(
        printed(chart_model(), 80, force_terminal=True, color_system="standard")
    )
    assert "\x1b[32m" in coloured
    assert "\x1b[31m" in coloured


def test_the_command_draws_the_klines_of_the_server(live, qos):
    ran = qos("chart", "US:AAPL")
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines[0].startswith(" US:AAPL  1d  ")
    foot = " ".join(ran.out.split())
    assert re.search(r"\d bars MA20 MA60 http://127.0.0.1:\d+$", foot)
    few = qos("chart", "CF:BTCUSDT", "--interval", "1m", "--count", "7")
    assert ", 7 bars" in few.out


@pytest.mark.fault("C2")
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    ("interval", "step", "form"),
    [(Interval.DAY, timedelta(days=1), "%d %b"), (Interval.MIN_1, None, "%H:%M")],
)
def test_the_middle_of_each_label_is_under_its_bar(interval, step, form, width):
    shown = chart_model(25, interval=interval, step=step)
    lines = printed(shown, width)
    room = width - label_width(shown.klines, shown.price) - 2
    candle_width = next(one for one in (4, 3, 2) if 25 * one <= room)
    left = room - 25 * candle_width
    labels = list(re.finditer(r"(?:\S+ )*\S+", lines[-2]))
    assert len(labels) >= 2
    for label in labels[1:-1]:  # Those at the edges may be moved into the picture.
        middle = label.start() + len(label[0]) // 2
        bar, rest = divmod(middle - left, candle_width)
        assert rest == 0
        assert f"{shown.times[bar]:{form}}" == label[0]


@pytest.mark.parametrize(("width", "count"), [(120, 1), (60, 2)])
def test_the_foot_is_on_as_many_lines_as_it_needs(width, count):
    shown = chart_model(24, interval=Interval.HOUR_1)
    shown.look = shown.look._replace(ma=(5,), source="the simulator")
    *_, axis = printed(shown, width)[:-count]
    foot = printed(shown, width)[-count:]
    assert "31 Jan" in axis
    assert foot[0].startswith(" 2025-01-30 16:00 to")
    assert foot[-1].endswith(" MA5  the simulator")


def test_averages_are_dots_in_colours_of_their_own():
    rising = [flat_kline(60 * n, Decimal(n)) for n in range(1, 31)]
    shown = ChartModel(rising, Look(ma=(6, 12)))
    text = "".join(printed(shown, 80, force_terminal=True, color_system="standard"))
    assert "\x1b[33m•" in text
    assert "\x1b[34m•" in text
    assert "\x1b[33m  MA6" in text


def test_red_up_swaps_the_colours_in_the_terminal():
    shown = chart_model(30)
    shown.look = shown.look._replace(red_up=True)
    head = printed(shown, 80, force_terminal=True, color_system="standard")[0]
    assert "\x1b[31m  +" in head


@pytest.mark.fault("C1")
def test_the_changes_are_the_same_in_all_outputs(live, qos, tmp_path):
    words = ("chart", "HK:700", "--count", "20", "--to", "yesterday")
    name = re.compile(r"[+-]?\d+\.\d\d% (?:last bar|in 20 bars)")
    found = [name.findall(qos(*words).lines[0])]
    for suffix in ("html", "svg"):
        assert qos(*words, "-o", tmp_path / f"a.{suffix}").code == 0
        found.append(name.findall((tmp_path / f"a.{suffix}").read_text("utf-8")))
    assert len(found[0]) == 2
    assert found == [found[0]] * 3


# Which bars


def test_from_and_to_choose_the_bars(live, qos):
    ran = qos("chart", "CF:BTCUSDT", "--interval", "1h", "--from", "30h", "--tz", "UTC")
    assert ", 30 bars" in ran.out
    days = qos("chart", "HK:700", "--from", "2024-03-04", "--to", "2024-03-08")
    assert "2024-03-04 to 2024-03-08, 5 bars  MA20  MA60" in days.out
    newest = qos("chart", "HK:700", "--count", "5", "--to", "2024-03-08")
    assert "2024-03-04 to 2024-03-08, 5 bars" in newest.out


def test_bars_before_from_are_for_the_averages_only(live, qos, tmp_path):
    out = tmp_path / "a.svg"
    words = ("HK:700", "--interval", "15m", "--from", "5d", "--to", "now")
    assert qos("chart", *words, "--ma", "100", "-o", out).code == 0
    assert (
        "MA100 " in re.findall(r"<title>(.*?)</title>", out.read_text(), re.DOTALL)[0]
    )


def test_times_are_in_the_zone_of_tz(live, qos, tmp_path):
    words = ("chart", "HK:700", "--interval", "1h", "--count", "3")
    assert " Hong Kong, 3 bars" in qos(*words, "-o", tmp_path / "a.svg").err
    assert " UTC, 3 bars" in qos(*words, "-o", tmp_path / "a.svg", "--tz", "UTC").err
    assert " Hong Kong, 3 bars" in qos(*words, "--tz", "market").out


def test_red_up_is_an_option_of_the_command(live, qos, tmp_path):
    words = ("chart", "SZ:000001", "--count", "1", "--ma", "none")
    colours = []
    for option in ((), ("--red-up",)):
        assert qos(*words, *option, "-o", tmp_path / "a.svg").code == 0
        text = (tmp_path / "a.svg").read_text()
        colours.append({one for one in ("#26a69a", "#ef5350") if one in text})
    assert colours[0] != colours[1]


def test_bars_that_are_missing_are_explained(live, qos):
    closed = ("--interval", "1h", "--from", "2024-03-09", "--to", "2024-03-10")
    ran = qos("chart", "HK:700", *closed)
    assert ran.code == 1
    assert "no 1h bars of HK:700 in that time: the market was closed, or" in ran.err
    short = qos("chart", "CF:BTCUSDT", "--interval", "1m", "--from", "100d")
    assert short.code == 0
    assert "qos: the server has no 1m bars of CF:BTCUSDT before 20" in short.err


def test_more_bars_than_can_be_drawn_are_refused(live, qos, monkeypatch):
    monkeypatch.setattr("qos_async.cli.charts.klines._MOST", 1500)
    ran = qos("chart", "CF:BTCUSDT", "--interval", "1m", "--from", "2d")
    assert ran.code == 1
    says = "there are more than 1,500 bars since 2d: take a longer --interval"
    assert says in ran.err


async def test_a_server_that_ignores_to_is_reported(home, monkeypatch, capfd):
    variants = Variants(history_ignores_end=True)
    async with Simulator(plan=FAST, variants=variants) as sim:
        monkeypatch.setenv("QOS_API_KEY", sim.key)
        monkeypatch.setenv("QOS_HTTP_URL", sim.http_url)
        monkeypatch.setenv("QOS_STREAM_URL", sim.stream_url)
        words = ["chart", "HK:700", "--interval", "1m", "--to", "2024-03-08"]
        for more in (["--count", "5"], ["--from", "2024-03-04"]):
            assert await asyncio.to_thread(main, [*words, *more]) == 1
            assert (
                "the server ignored --to and sent its newest" in capfd.readouterr().err
            )


# The browser


def test_open_shows_the_file_or_a_page(live, qos, tmp_path, monkeypatch):
    opened: list[str] = []

    def show(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", show)
    out = tmp_path / "a.svg"
    assert qos("chart", "US:AAPL", "--open", "-o", out).code == 0
    ran = qos("chart", "US:AAPL", "--open", "--cdn")
    assert (ran.code, ran.out) == (0, "")
    assert opened[0] == out.as_uri()
    assert opened[1].endswith("/US-AAPL-1d.html")
    assert ran.err.startswith(opened[1].removeprefix("file://"))


def test_open_without_a_browser_names_the_file(live, qos, tmp_path, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    out = tmp_path / "a.svg"
    ran = qos("chart", "US:AAPL", "--open", "-o", out)
    assert ran.code == 1
    assert f"qos: no browser was found: open {out} in one" in ran.err
    assert out.exists()


# Files


def test_html_is_complete_and_loads_nothing_from_the_network(live, qos, tmp_path):
    out = tmp_path / "chart.html"
    ran = qos("chart", "HK:700", "--interval", "1d", "--count", "30", "-o", out)
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith(f"{out}: HK:700  1d, 20")
    text = out.read_text()
    assert not re.search(r"<(script|link)[^>]+(src|href)=", text)
    assert "<title>HK:700  1d  " in text
    assert "prefers-color-scheme: dark" in text
    begin = text.index("Plotly.newPlot(")
    drawn = json.JSONDecoder().raw_decode(text, text.index("[{", begin))[0]
    traces = {trace["name"]: trace for trace in drawn}
    assert [*traces] == ["rises", "falls", "MA20", "MA60", "volume", "details"]
    places = [*traces["rises"]["x"], *traces["falls"]["x"]]
    assert sorted(places) == traces["volume"]["x"] == [*range(30)]
    assert len(traces["MA60"]["y"]) == 30, "from bars that are not shown"
    assert None not in traces["MA60"]["y"]


def test_html_with_cdn_is_small_and_a_theme_is_fixed(live, qos, tmp_path):
    out = tmp_path / "chart.html"
    ran = qos("chart", "CF:BTCUSDT", "--cdn", "--theme", "dark", "-o", out)
    assert ran.code == 0
    text = out.read_text()
    assert len(text) < 100_000
    assert re.search(r'<script[^>]+src="https://cdn', text)
    assert "matchMedia" not in text
    assert text.count("background: #0b0e14") == 2, "whatever the viewer has"


def test_png_needs_no_display(live, qos, tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    out = tmp_path / "chart.png"
    ran = qos("chart", "CF:BTCUSDT", "--count", "20", "-o", out)
    assert ran.code == 0
    content = out.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (1920, 1080)
    assert "matplotlib.pyplot" not in sys.modules


# Mistakes


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["-o", "a.html"],
            (
                "HTML charts need plotly, which is not installed: "
                "pip install 'qos-async[plot]'"
            ),
        ),
        (
            ["-o", "a.png"],
            (
                "PNG charts need matplotlib, which is not installed: "
                "pip install 'qos-async[plot]'"
            ),
        ),
        (
            [],
            "charts in the terminal need rich, which is not installed: pip install 'qos-async[cli]'",
        ),
    ],
)
def test_a_missing_package_is_reported_before_any_request(
    words, says, live, qos, monkeypatch
):
    for package in ("plotly", "matplotlib", "rich"):
        monkeypatch.setitem(sys.modules, package, None)
    requested = len(live.sim.requests)
    ran = qos("chart", "US:AAPL", *words)
    assert (ran.code, ran.err) == (1, f"qos: {says}\n")
    assert len(live.sim.requests) == requested


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["-o", "a.pdf"], 2, "'a.pdf' should end in .html, .png or .svg"),
        (["-o", "none/a.png"], 1, "there is no directory none: create it first"),
        (["-o", "/proc/a.html"], 1, "cannot write /proc/a.html: "),
        (["--count", "1001"], 2, "a whole number from 1 to 1000"),
        (["--ma", "20,x"], 2, "not a list of numbers of bars from 1 to 1000: try"),
        (["--ma", "0"], 2, "--ma 20,60, or --ma none"),
        (["--tz", "Mars"], 2, "'Mars' is not a time zone: take local, market, UTC"),
        (["--from", "2d", "--count", "5"], 2, "take it, or --from, not both"),
        (["--from", "2100"], 2, "--from 2100 is in the future"),
        (["--from", "2d", "--to", "3d"], 2, "--from 2d is not before --to 3d"),
        (["--from", "soon"], 2, "'soon' is not a time: try a day"),
        (["--interval", "3m"], 2, "take one of 1m 5m 15m"),
        (["--seed", "3"], 2, "add --sim"),
    ],
)
def test_usage_and_output_errors_are_messages(words, code, says, live, qos):
    ran = qos("chart", "CF:BTCUSDT", *words)
    assert ran.code == code
    assert says in ran.err


@pytest.mark.parametrize(
    ("name", "start"), [("A.HTML", b"<!DO"), ("a.Png", b"\x89PNG")]
)
def test_the_suffix_may_be_written_in_capitals(name, start, live, qos, tmp_path):
    assert qos("chart", "CF:BTCUSDT", "--cdn", "-o", tmp_path / name).code == 0
    assert (tmp_path / name).read_bytes().startswith(start)


def test_an_unknown_symbol_is_reported(live, qos):
    ran = qos("chart", "CF:NOPE")
    assert (ran.code, ran.out) == (1, "")
    assert "the server has no 1d bars of CF:NOPE" in ran.err


def test_without_a_key_the_exit_code_is_3(qos):
    assert qos("chart", "CF:BTCUSDT").code == 3


def test_an_encoding_without_blocks_is_reported(live, qos, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    ran = qos("chart", "CF:BTCUSDT")
    assert ran.code == 1
    assert "the encoding of this output, ascii, has no block characters" in ran.err


def test_a_closed_pipe_is_no_failure(live, qos, monkeypatch):
    """As in ``qos chart | head -1``."""

    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    program = sys.modules["qos_async.cli.command_line"]
    monkeypatch.setattr(program, "discard_output", lambda stream: None)
    monkeypatch.setattr(sys, "stdout", Gone())
    ran = qos("chart", "CF:BTCUSDT")
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.fault("F9")
@pytest.mark.parametrize(
    ("bars", "labels"),
    [
        ([("-5", "-1", "-9000", "-99"), ("-99", "-2", "-9000", "-9000")], ["-9000"]),
        (
            [
                ("9.5", "9.9", "-1037.63", "-1000.25"),
                ("-1000", "5", "-1037.6", "1.5"),
            ],
            ["-500.00"],
        ),
    ],
)
def test_labels_of_negative_prices_are_whole(bars, labels):
    klines = []
    for n, (open_, high, low, close) in enumerate(bars):
        bar = flat_kline(86_400 * n, symbol="CM:OIL", interval=Interval.DAY)
        prices = {"open": open_, "high": high, "low": low, "close": close}
        exact = {name: Decimal(text) for name, text in prices.items()}
        klines.append(replace(bar, **exact))
    places = 2 if "." in labels[0] else 0
    lines = draw_klines(klines, lambda price: f"{price:.{places}f}", 50, 18)
    shown = ["".join(part[0] for part in line) for line in lines]
    assert max(map(len, shown)) <= 50  # A terminal cuts off what is wider.
    for label in labels:
        assert any(label in line for line in shown)
