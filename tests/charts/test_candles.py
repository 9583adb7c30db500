"""``qos_async.charts.candles``: what it takes, what it refuses, and what it writes."""

from __future__ import annotations

import sys
import time
import webbrowser
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from qos_async import Interval, Kline, Result, Snapshot, Trade
from qos_async.charts import Chart, candles
from qos_async.frames import to_arrow, to_pandas, to_polars
from qos_async.markets import Bar
from tests.support.factories import flat_kline, trade_at

START = int(datetime(2026, 3, 2, 1, 30, tzinfo=UTC).timestamp())


def klines(count: int = 5, symbol: str = "HK:700", numbers: Any = Decimal) -> list[Any]:
    """Return bars of 15 minutes that close at 501.2, 502.2, ..."""
    return [
        Kline(
            symbol=symbol,
            interval=Interval.MIN_15,
            timestamp=START + 900 * n,
            open=numbers("500.0"),
            high=numbers("510.5"),
            low=numbers("499.5"),
            close=numbers("501.2") + n if numbers is not str else f"{501 + n}.2",
            volume=numbers("1000") if n else None,
        )
        for n in range(count)
    ]


def bar_of(kline: Kline[Any]) -> Bar[Any]:
    names = ("symbol", "interval", "timestamp", "open", "high", "low", "close")
    fields = {name: getattr(kline, name) for name in names}
    return Bar(end_timestamp=kline.timestamp + 900, volume=kline.volume, **fields)


def drawn(chart: Chart) -> str:
    return chart._repr_html_()


ROWS = klines()
TAKEN = {
    "a list": ROWS,
    "an iterator": lambda: iter(ROWS),
    "newest first": ROWS[::-1],
    "bars of trades": [bar_of(one) for one in ROWS],
    "floats": klines(numbers=float),
    "texts": klines(numbers=str),
    "a result": Result(("HK:700",), {"HK:700": ROWS}, Kline),
    "a dict": {"HK:700": ROWS},
    "polars": lambda: to_polars(ROWS),
    "polars, exact": lambda: to_polars(ROWS, numbers=Decimal),
    "pandas": lambda: to_pandas(ROWS),
    "pandas, exact": lambda: to_pandas(ROWS, numbers=Decimal),
    "pandas, text": lambda: to_pandas(ROWS, numbers=str),
    "pandas, by time": lambda: to_pandas(ROWS).set_index("time"),
    "arrow": lambda: to_arrow(ROWS),
    "arrow, exact": lambda: to_arrow(ROWS, numbers=Decimal),
    "an arrow batch": lambda: to_arrow(ROWS).to_batches()[0],
    "without volumes": lambda: to_polars(ROWS).drop("volume"),
    "with timestamps": lambda: [
        to_pandas(ROWS)
        .assign(timestamp=[row.timestamp for row in ROWS])
        .drop(columns="time")
    ][0],
}


@pytest.mark.parametrize("name", TAKEN)
def test_bars_of_every_kind_give_the_same_chart(name):
    bars: Any = TAKEN[name]
    chart = candles(bars() if callable(bars) else bars, ma=2)
    assert (
        repr(chart) == "<Chart HK:700  15m, 2026-03-02 09:30 to 2026-03-02 10:30 "
        "Hong Kong, 5 bars>"
    )
    text = drawn(chart)
    for part in ("505.2", "+0.20% last bar", "+1.04% in 5 bars", "MA2", "Close 501.2"):
        assert part in text


@pytest.mark.fault("C5")
def test_of_bars_with_the_same_time_the_last_one_is_drawn():
    """As they are received from a stream, where the newest bar grows."""
    grown = replace(ROWS[-1], close=Decimal("509.9"))
    chart = candles([*ROWS, grown])
    assert "5 bars" in repr(chart)
    assert "509.9" in drawn(chart)


def test_a_price_of_floats_has_no_more_places_than_are_read():
    rows = klines(numbers=float)
    rows[1] = replace(rows[1], close=501.123456789012)
    assert "501.123457" in drawn(candles(rows))
    assert "501.1234567" not in drawn(candles(rows))


def test_a_result_of_one_symbol_has_a_chart():
    result = Result(("HK:700",), {"HK:700": ROWS}, Kline)
    chart = result.chart(title="Tencent", tz="UTC", ma=(), red_up=True, theme="dark")
    assert repr(chart).startswith("<Chart Tencent, 2026-03-02 01:30 to")
    assert "#0b0e14" in drawn(chart)


# Zones


@pytest.mark.parametrize(
    ("tz", "first"),
    [
        ("market", "09:30 Hong Kong"),
        ("UTC", "01:30 UTC"),
        ("utc", "01:30 UTC"),
        ("America/New_York", "20:30 New York"),
        (ZoneInfo("Asia/Kolkata"), "07:00 Kolkata"),
        (timezone(timedelta(hours=1)), "02:30 UTC+01:00"),
        ("local", "10:30 JST"),
    ],
)
def test_times_are_in_the_chosen_zone_and_name_it(tz, first, monkeypatch):
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        text = drawn(candles(ROWS, tz=tz))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert first in text


@pytest.mark.parametrize("tz", ["market", "UTC", "America/New_York"])
def test_bars_of_a_day_have_the_date_of_their_market_in_every_zone(tz):
    at = int(datetime(2026, 3, 1, 16, tzinfo=UTC).timestamp())
    days = [flat_kline(at + 86_400 * n, 1, "HK:700", Interval.DAY) for n in range(3)]
    assert "2026-03-02 to 2026-03-04, 3 bars" in repr(candles(days, tz=tz))


# Mistakes

TWO = Result(
    ("HK:700", "US:AAPL"),
    {"HK:700": ROWS, "US:AAPL": klines(symbol="US:AAPL")},
    Kline,
)


async def later():
    yield ROWS[0]


def without(*names: str) -> Any:
    return to_polars(ROWS).drop(*names)


@pytest.mark.fault("C5")
@pytest.mark.parametrize(
    ("bars", "error", "says"),
    [
        ([], ValueError, "there are no bars to draw"),
        (lambda: to_polars([], kind=Kline), ValueError, "there are no bars to draw"),
        (None, TypeError, "expected klines of one symbol"),
        ("HK:700", TypeError, "expected klines of one symbol"),
        ([1, 2], TypeError, "not records of int"),
        (
            [trade_at(1)],
            TypeError,
            r"records of Trade \(bars of trades: qos_async.markets",
        ),
        ([ROWS], TypeError, "not records of list"),
        (later, TypeError, "collect it first"),
        (
            TWO,
            ValueError,
            r"one symbol, not 2 \(HK:700, US:AAPL\): pass .*result\['HK:700'\]",
        ),
        ({"HK:700": ROWS[0]}, TypeError, "not Kline"),
        (
            Result(("US:NOSUCH",), {}, Kline),
            ValueError,
            "no bars to draw: the service sent none of US:NOSUCH",
        ),
        (Result(("HK:700",), {"HK:700": trade_at(1)}, Trade), TypeError, "not Trade"),
        (
            Result(("HK:700",), {"HK:700": Snapshot(symbol="HK:700")}, Snapshot),
            TypeError,
            "not Snapshot",
        ),
        (ROWS + klines(1, "US:AAPL"), ValueError, "one symbol, not 2"),
        (
            [*ROWS, flat_kline(1, symbol="HK:700", interval=Interval.DAY)],
            ValueError,
            r"one interval, not 2 \(15m, 1d\)",
        ),
        (
            lambda: without("close", "open"),
            ValueError,
            "no column open, close: a chart",
        ),
        (lambda: without("time"), ValueError, "no column time"),
        (lambda: to_pandas([trade_at(1)]), ValueError, "no column interval, open"),
        (
            [replace(ROWS[0], close=Decimal("nan"))],
            ValueError,
            "the close of the bar of 2026-03-02 01:30 UTC is no number",
        ),
        (
            [replace(ROWS[0], high="much")],
            ValueError,
            "the high of .* no number: 'much'",
        ),
        ([replace(ROWS[0], low=None)], ValueError, "2026-03-02 01:30 UTC has no low"),
        ([replace(ROWS[0], timestamp=10**13)], ValueError, "out of range"),
        (
            lambda: to_pandas(ROWS).assign(time=[datetime(2026, 1, 1)] * 5),  # noqa: DTZ001
            ValueError,
            "has no time zone: make it UTC",
        ),
        (lambda: to_pandas(ROWS).assign(time="noon"), ValueError, "a time .*'noon'"),
        (lambda: to_pandas(ROWS).assign(interval="3m"), ValueError, "unknown interval"),
        (lambda: to_pandas(ROWS).assign(symbol="700"), ValueError, "symbol"),
    ],
)
def test_bars_that_cannot_be_drawn_are_refused_with_a_sentence(bars, error, says):
    with pytest.raises(error, match=says):
        candles(bars() if callable(bars) else bars)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"title": 5}, "title must be text or None, not 5"),
        (
            {"ma": "20,60"},
            r"ma must be numbers of bars, such as \(20, 60\), not '20,60'",
        ),
        ({"ma": None}, "ma must be numbers of bars"),
        ({"ma": (20, 0)}, "ma must be a whole number from 1 to 1000, not 0"),
        ({"ma": 2.5}, "ma must be numbers of bars"),
        ({"tz": "Hong Kong"}, 'tz must be "market", "local", "UTC", a time zone'),
        ({"tz": "../etc"}, "tz must be"),
        ({"tz": "America"}, "tz must be"),
        ({"tz": 8}, "tz must be .* not 8"),
        ({"red_up": "yes"}, "red_up must be True or False, not 'yes'"),
        ({"theme": "blue"}, 'theme must be "auto", "light" or "dark", not \'blue\''),
        ({"theme": None}, "theme must be"),
    ],
)
def test_other_arguments_are_checked_with_a_sentence(options, says):
    with pytest.raises(ValueError, match=says):
        candles(ROWS, **options)


# Files


@pytest.mark.parametrize(
    ("name", "start"), [("a.html", b"<!DO"), ("a.PNG", b"\x89PNG"), ("a.svg", b"<?xml")]
)
def test_the_suffix_is_the_format_of_the_file(name, start, tmp_path):
    path = candles(ROWS).save(tmp_path / name)
    assert path == tmp_path / name
    assert path.read_bytes().startswith(start)
    assert candles(ROWS).save(str(path)) == path, "an existing file is replaced"


@pytest.mark.parametrize("name", ["a.pdf", "a", ".html", ""])
def test_another_suffix_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"should end in \.html, \.png or \.svg|is empty"
    ):
        candles(ROWS).save(name)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "a.html",
            "HTML charts need plotly, which is not installed: pip install",
        ),
        ("a.png", "PNG charts need matplotlib"),
        (
            "a.svg",
            (
                "SVG charts need matplotlib, which is not installed: "
                r"pip install 'qos-async\[plot\]'"
            ),
        ),
    ],
)
def test_a_missing_package_is_a_sentence_and_no_file(name, says, tmp_path, monkeypatch):
    for package in ("plotly", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=says):
        candles(ROWS).save(tmp_path / name)
    assert not [*tmp_path.iterdir()]


def test_a_notebook_without_the_package_shows_the_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    chart = candles(ROWS)
    assert "Charts in notebooks need matplotlib, which is not" in chart._repr_html_()
    assert chart._repr_png_() is None


def test_a_notebook_shows_a_picture_that_fits():
    html, png = candles(ROWS)._repr_html_(), candles(ROWS)._repr_png_()
    assert html.startswith('<div style="max-width:960px"><svg style="width:100%')
    assert "<?xml" not in html
    assert "<style" not in html, "it would be that of the whole page"
    assert png is not None
    assert png[0].startswith(b"\x89PNG")
    assert png[1] == {"width": 960}


def test_open_shows_a_page_in_the_browser(monkeypatch):
    opened: list[str] = []

    def show(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(webbrowser, "open", show)
    path = candles(ROWS).open()
    assert opened == [path.as_uri()]
    assert path.name == "HK-700-15m.html"
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_open_without_a_browser_names_the_file(monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    with pytest.raises(RuntimeError, match=r"no browser was found: open .*html in one"):
        candles(ROWS).open()


def test_drawing_needs_no_display(tmp_path: Path):
    candles(ROWS).save(tmp_path / "a.svg")
    assert "matplotlib.pyplot" not in sys.modules
