"""Tests of ``qos_async.cli.history.progress``."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from qos_async import (
    Limits,
)
from qos_async.cli.history.partial import PartialDownload
from qos_async.cli.history.progress import (
    BarProgress,
    EtaEstimator,
    Progress,
    format_duration,
)
from tests.support.history_pages import (
    REQUEST,
    bars,
)


@pytest.fixture
def half(path):
    with PartialDownload(path, REQUEST) as part:
        yield part


def test_the_time_left_follows_the_plan_or_the_pace_so_far(half):
    pace = EtaEstimator(half, Limits(http_requests=2, http_period=60.0), 1000.0)
    assert (pace.share, pace.eta(1000.0)) == (0.0, None)
    half.add(bars(75))
    pace.page(1001.0)
    assert pace.share == 0.25
    # Four pages in all: two of them a minute, so that the last one comes after one.
    assert pace.eta(1001.0) == 59.0
    assert pace.eta(1031.0) == 29.0
    assert pace.eta(1061.0) is None, "late"
    half.add(bars(50))
    pace.page(1100.0)
    assert pace.eta(1100.0) == 100.0, "slower than the plan"


def test_without_a_terminal_a_line_is_printed_every_ten_seconds(half, capsys):
    times = iter([1000.0, 1005.0, 1011.0, 1012.0, 1030.0])
    progress = Progress(EtaEstimator(half, Limits(), 1000.0), lambda: next(times))
    with progress:
        for minute in (90, 75, 60, 50):
            half.add(bars(minute))
            progress.page()
    assert capsys.readouterr().err == (
        "qos: 2 bars back to 2025-01-31 01:15, 25%, about 33 s left\n"
        "qos: 4 bars back to 2025-01-31 00:50, 50%, about 30 s left\n"
    )


def test_a_long_wait_is_reported_once_a_minute_and_a_short_one_not(half, capsys):
    progress = Progress(EtaEstimator(half, Limits(), 1000.0), lambda: 1000.0)
    for reason, seconds in [
        ("gone", 0.2),
        ("gone", 3.0),
        ("gone", 30.0),
        ("gone", 30.0),
        ("gone", 40.0),
        ("too fast", 60.0),
        ("too fast", 60.0),
    ]:
        progress.waiting(reason, seconds)
    progress.page()
    progress.waiting("too fast", 60.0)
    assert capsys.readouterr().err.splitlines() == [
        "qos: gone; asking again in 3 s",
        "qos: gone; asking again in 40 s",
        *["qos: too fast; asking again in 1 min"] * 3,
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_fits_the_terminal(width, half):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    progress = BarProgress(EtaEstimator(half, Limits(), 1000.0), console)
    with progress:
        half.add(bars(50))
        progress.page()
        progress.waiting("gone", 7.0)
    shown = out.getvalue()
    assert "CF:BTCUSDT 1m" in shown
    assert "50 %" in shown
    assert ("back to 2025-01-31 00:50" in shown) == (width == 120)
    assert "qos: gone; asking again in 7 s" in shown
    for line in shown.replace("\r", "\n").splitlines():
        assert len(Console().render_str(line)) <= width + 20, "cursor moves aside"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_are_formatted_with_a_unit(seconds, words):
    assert format_duration(seconds) == words
