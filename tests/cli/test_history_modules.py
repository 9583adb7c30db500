"""The parts of ``qos history``: the side file, holes, patience and progress."""

from __future__ import annotations

import io
import logging
from datetime import date
from typing import Any, cast
from unittest.mock import Mock

import pytest
from msgspec.structs import replace
from rich.console import Console

from qos_async import (
    Interval,
    Kline,
    LimitError,
    Limits,
    RejectedError,
    TradingDay,
    TransportError,
)
from qos_async.cli.history.paging import IGNORED, OLDEST, START, page_back
from qos_async.cli.history.partial import PartError, PartialDownload, Request
from qos_async.cli.history.progress import (
    BarProgress,
    EtaEstimator,
    Progress,
    format_duration,
)
from qos_async.cli.history.report import Hole, Span, breaks, find_missing
from qos_async.enums import Market
from tests.cli.test_times import at

START_AT = at(2025, 1, 31)
MINUTE = 60
REQUEST = Request(
    symbol="CF:BTCUSDT",
    interval="1m",
    adjusted=False,
    source="simulator, seed 1",
    asked=("2025-01-31", None),
    start=START_AT,
    end=START_AT + 100 * MINUTE,
)


def bars(*minutes):
    return [
        Kline(
            symbol="CF:BTCUSDT",
            interval=Interval.MIN_1,
            timestamp=START_AT + minute * MINUTE,
            open="1.10",
            high="1.30",
            low="1.00",
            close="1.20",
            volume=None,
        )
        for minute in minutes
    ]


def minutes(part):
    return [
        (bar.timestamp - START_AT) // MINUTE for page in part.pages() for bar in page
    ]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bars.csv.part"


@pytest.fixture
def kept(path):
    """Three pages of an earlier run."""
    with PartialDownload(path, REQUEST) as part:
        for page in ([80, 81, 82], [70, 75], [60]):
            part.add(bars(*page))
    return path


def test_pages_come_back_oldest_first_and_exact(kept):
    with PartialDownload(kept, REQUEST) as part:
        assert minutes(part) == [60, 70, 75, 80, 81, 82]
        assert next(part.pages()) == bars(60)
        assert (part.count, part.resumed_from, part.ended) == (6, 6, None)
        assert part.progress_text() == "6 bars back to 2025-01-31 01:00"
        part.add(bars(58, 59))
        part.finish(START)
        assert minutes(part)[:3] == [58, 59, 60]
    with PartialDownload(kept, REQUEST) as part:
        assert (part.count, part.ended) == (8, START)


def test_a_truncated_tail_is_cut_off_wherever_it_is_cut(kept):
    """And what comes next is a line of its own."""
    whole = kept.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in {0, 1, *(end + by for end in ends for by in (-9, -1, 0, 9))}:
        kept.write_bytes(whole[:cut])
        pages = max(sum(end <= cut for end in ends) - 1, 0)
        with PartialDownload(kept, REQUEST) as part:
            assert part.count == [0, 3, 5, 6][pages]
            part.add(bars(1))
        with PartialDownload(kept, REQUEST) as part:
            assert part.count == [0, 3, 5, 6][pages] + 1


@pytest.mark.parametrize(
    "line",
    [
        b'{"bars":[]}',
        b'{"bars":[[1738281540,"1","1","1","1",null]]',
        b'{"bars":[["x","1","1","1","1",null]]}',
        b'{"bars":[[1738285200,"1","1","1","1",null]]}',  # As old as the one before.
        b'{"bars":[[1738281600,"1","1","1","1",null],[1738281540,"1","1","1","1","2"]]}',
        b'{"bars":[[1738281539,"1","1","1","1",null]]}',  # Before the start.
        b"\x00" * 40,
    ],
)
def test_a_line_that_cannot_be_is_cut_off_with_all_that_follows(line, kept):
    with kept.open("ab") as file:
        file.write(line + b'\n{"ended":"start"}\n')
    with PartialDownload(kept, REQUEST) as part:
        assert (part.count, part.ended) == (6, None)


def test_nothing_in_it_leaves_nothing_behind(path):
    with PartialDownload(path, REQUEST):
        assert path.exists()
    assert not path.exists()


def test_times_back_from_now_have_moved_on(kept):
    """The range is the one of the run that began."""
    later = replace(REQUEST, start=START_AT + 60, end=START_AT + 99)
    with PartialDownload(kept, later) as part:
        assert (part.request, part.count) == (REQUEST, 6)


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "CF:ETHUSDT"},
        {"interval": "5m"},
        {"adjusted": True},
        {"source": "https://api.qos.hk"},
        {"asked": ("2025-01-30", None)},
        {"asked": ("2025-01-31", "2025-01-31")},
    ],
)
def test_pages_of_another_request_are_not_mixed_in(other, kept):
    different = replace(REQUEST, **other)
    told = "CF:BTCUSDT 1m from 2025-01-31 .simulator, seed 1.: finish it .* --force"
    with pytest.raises(PartError, match=told):
        PartialDownload(kept, different)
    with PartialDownload(kept, REQUEST) as part:
        assert part.count == 6, "nothing was lost"
    with PartialDownload(kept, different, anew=True) as part:
        assert part.count == 0


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"a":1}\n'])
def test_a_file_of_somebody_else_is_left_alone(content, path):
    path.write_bytes(content)
    with pytest.raises(PartError, match=r"in the way: .*; move it"):
        PartialDownload(path, REQUEST, anew=True)
    assert path.read_bytes() == content


def test_two_runs_do_not_write_to_one_file(kept):
    with (
        PartialDownload(kept, REQUEST),
        pytest.raises(PartError, match="another qos history"),
    ):
        PartialDownload(kept, REQUEST)


# Holes


def unknown(market):
    return None


def test_bars_that_touch_leave_no_gap():
    starts = [START_AT + 60 * n for n in (0, 1, 2, 5, 6)]
    found = breaks(starts, "CF:BTCUSDT", Interval.MIN_1, START_AT + 9 * 60 + 59)
    assert list(found) == [
        Span(START_AT + 180, START_AT + 300),
        Span(START_AT + 420, START_AT + 599),
    ]
    assert list(breaks(starts, "CF:BTCUSDT", Interval.MIN_1, START_AT + 450)) == [
        Span(START_AT + 180, START_AT + 300)
    ], "the bar at the end is not over"
    assert list(breaks([], "CF:BTCUSDT", Interval.MIN_1, START_AT)) == []


def test_where_the_market_never_closes_every_bar_counts():
    span = Span(at(2025, 2, 1, 10), at(2025, 2, 1, 12, 30))
    for interval, missing in ((Interval.MIN_1, 150), (Interval.HOUR_1, 2)):
        assert find_missing([span], "CF:BTCUSDT", interval, unknown) == [
            Hole(*span, missing, is_certain=True)
        ]
    days = Span(at(2025, 2, 1), at(2025, 2, 4))
    assert find_missing([days], "CF:BTCUSDT", Interval.DAY, unknown)[0].missing == 3


@pytest.mark.parametrize(
    ("symbol", "since", "until", "interval"),
    [
        ("HK:700", (2025, 2, 5, 4), (2025, 2, 5, 5), Interval.MIN_1),  # Lunch.
        ("HK:700", (2025, 2, 5, 8), (2025, 2, 6, 1, 30), Interval.MIN_1),  # Night.
        ("HK:700", (2025, 2, 5, 4, 30), (2025, 2, 5, 5), Interval.HOUR_1),
        ("US:AAPL", (2025, 2, 7, 21), (2025, 2, 10, 14, 30), Interval.MIN_1),
        ("US:AAPL", (2025, 2, 5, 10), (2025, 2, 5, 14, 30), Interval.MIN_1),
        ("HK:700", (2025, 2, 7, 16), (2025, 2, 9, 16), Interval.DAY),  # Weekend.
        ("FX:EURUSD", (2025, 2, 7, 22), (2025, 2, 9, 22), Interval.MIN_1),
    ],
)
def test_closed_times_are_no_holes(symbol, since, until, interval):
    """Nor are the hours before and after the regular session of a stock."""
    assert find_missing([Span(at(*since), at(*until))], symbol, interval, unknown) == []


def test_what_is_missing_within_a_session_is_a_hole():
    within = Span(at(2025, 2, 5, 1, 40), at(2025, 2, 5, 6))
    assert find_missing([within], "HK:700", Interval.MIN_1, unknown) == [
        Hole(*within, 140 + 60, is_certain=True)
    ]


def test_a_holiday_is_a_hole_only_as_long_as_nobody_knows_it():
    asked = []

    def calendar(market):
        asked.append(market)
        days = {31, 28, 29, 30}  # January 2025: new year was on the 29th.
        return {
            Market(market): [TradingDay(date=date(2025, 1, day)) for day in days - {29}]
        }

    night = Span(at(2025, 1, 28, 8), at(2025, 1, 30, 1, 30))
    [hole] = find_missing([night], "HK:700", Interval.MIN_1, unknown)
    assert hole == Hole(*night, 330, is_certain=False)
    assert find_missing([night] * 2, "HK:700", Interval.MIN_1, calendar) == []
    assert asked == ["HK"], "once"
    day = Span(at(2025, 1, 28, 16), at(2025, 1, 29, 16))
    assert find_missing([day], "HK:700", Interval.DAY, unknown)[0].missing == 1
    assert find_missing([day], "HK:700", Interval.DAY, calendar) == []
    traded = Span(at(2025, 1, 29, 16), at(2025, 1, 30, 16))
    assert find_missing([traded], "HK:700", Interval.DAY, calendar) == [
        Hole(*traded, 1, is_certain=True)
    ]


def test_a_market_without_known_hours_is_not_judged():
    with pytest.raises(ValueError, match="hours of market 'IX' are unknown"):
        find_missing([Span(0, 600)], "IX:HSI", Interval.MIN_1, unknown)


# Paging


class Recorded(Progress):
    """Counts pages, and keeps the messages."""

    def __init__(self):
        super().__init__(cast("Any", Mock()))
        self.pages, self.notes = 0, []

    def _show(self, now):
        self.pages += 1

    def _print(self, text):
        self.notes.append(text)


class Pages:
    """Gives what it was told to: pages, and errors in between."""

    def __init__(self, *steps, log=None):
        self.steps, self.log = list(steps), log

    def iter_history(self, symbol, **asked):
        self.asked = {"symbol": symbol, **asked}
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        pass

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.steps:
            if self.log:
                logging.getLogger("qos_async.http").log(*self.log)
            raise StopAsyncIteration
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


async def paged(path, *steps, now=REQUEST.end, log=None):
    client, told = cast("Any", Pages(*steps, log=log)), Recorded()
    with PartialDownload(path, REQUEST) as part:
        await page_back(client, part, told, clock=lambda: now)
        return part, told, client


async def test_a_page_ends_where_the_last_one_began(path):
    """No bar twice, and not the one that still grows."""
    now = START_AT + 99 * MINUTE + 30
    part, _, client = await paged(path, bars(96, 97, 98, 99), bars(95, 96), now=now)
    assert part.count == 4
    assert client.asked["end"] == REQUEST.end - 1
    assert part.ended == OLDEST
    part.path.write_bytes(part.path.read_bytes().rpartition(b'{"ended')[0])
    part, told, client = await paged(path, bars(94, 95), bars(0, 1))
    assert client.asked["end"] == START_AT + 95 * MINUTE
    assert (part.count, part.resumed_from, told.pages) == (7, 4, 2)
    assert part.ended == START


async def test_what_is_complete_is_not_asked_for(path):
    await paged(path, bars(0, 1))
    _, told, client = await paged(path)
    assert (told.pages, hasattr(client, "asked")) == (0, False)
    path.write_bytes(path.read_bytes().rpartition(b'{"ended')[0])
    part, _, client = await paged(path)
    assert (part.ended, hasattr(client, "asked")) == (START, False)


async def test_a_server_that_ignores_the_end_is_told_apart(path):
    words = "/history: the server ignored the end time"
    part, told, _ = await paged(path, bars(90), log=(logging.WARNING, words))
    assert (part.ended, told.notes) == (IGNORED, [])


@pytest.mark.virtual_time
async def test_an_outage_on_the_way_is_waited_out(path):
    """Each reason is told once a page."""
    errors = [TransportError("gone"), TransportError("gone"), LimitError("too fast")]
    part, told, _ = await paged(path, bars(90), *errors, bars(80))
    assert part.count == 2
    assert told.notes == [f"{why}; waiting to retry" for why in ("gone", "too fast")]


@pytest.mark.virtual_time
async def test_an_outage_without_end_is_given_up_on(path):
    errors = [TransportError("gone")] * 14
    with pytest.raises(TransportError, match="gone"):
        await paged(path, bars(90), *errors, bars(80))
    with PartialDownload(path, REQUEST) as part:
        assert part.count == 1, "what had come is kept"


@pytest.mark.parametrize(
    "steps", [[TransportError("x")], [bars(9), RejectedError("x")]]
)
async def test_where_waiting_is_no_use_it_is_told_at_once(steps, path):
    with pytest.raises(type(steps[-1])):
        await paged(path, *steps, bars(8))


# Progress


@pytest.fixture
def half(path):
    with PartialDownload(path, REQUEST) as part:
        yield part


def test_the_time_left_is_the_plans_or_what_it_took_so_far(half):
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


def test_without_a_bar_there_is_a_line_every_ten_seconds(half, capsys):
    times = iter([1000.0, 1005.0, 1011.0, 1012.0, 1030.0])
    progress = Progress(EtaEstimator(half, Limits(), 1000.0), lambda: next(times))
    with progress:
        for minute in (90, 75, 60, 50):
            half.add(bars(minute))
            progress.page()
        progress.note("gone")
    assert capsys.readouterr().err == (
        "qos: 2 bars back to 2025-01-31 01:15, 25%, about 33 s left\n"
        "qos: 4 bars back to 2025-01-31 00:50, 50%, about 30 s left\n"
        "qos: gone\n"
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_bar_fits_the_terminal(width, half):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    progress = BarProgress(EtaEstimator(half, Limits(), 1000.0), console)
    with progress:
        half.add(bars(50))
        progress.page()
        progress.note("gone; asking again")
    shown = out.getvalue()
    assert "CF:BTCUSDT 1m" in shown
    assert "50 %" in shown
    assert ("back to 2025-01-31 00:50" in shown) == (width == 120)
    assert "qos: gone; asking again" in shown
    for line in shown.replace("\r", "\n").splitlines():
        assert len(Console().render_str(line)) <= width + 20, "cursor moves aside"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59, "59 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_are_spelt_for_people(seconds, words):
    assert format_duration(seconds) == words
