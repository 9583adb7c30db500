"""History pages."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qos_async._core.queries import Queries
from qos_async._io.history import HistoryPages
from qos_async.errors import DecodeError, TransportError
from qos_async.models import Kline
from tests.support.factories import flat_kline

QUERIES = Queries(Decimal, chunk=10)
ONE = Decimal(1)


class Server:
    """A server with a bar for each minute, which returns at most ``most`` of them."""

    def __init__(
        self,
        times: Any,
        *,
        most: int = 3,
        respects_end: bool = True,
        includes: bool = True,
    ) -> None:
        self.times = sorted(times)
        self.most, self.respects_end, self.includes = most, respects_end, includes
        self.requested_ends: list[int] = []
        self.failures = 0

    async def ask(self, query: Any) -> dict[str, list[Kline[Decimal]]]:
        [entry] = query.body["kline_reqs"]
        assert (entry["c"], entry["co"], entry["kt"]) == ("US:A", 1000, 1)
        self.requested_ends.append(entry["e"])
        if self.failures:
            self.failures -= 1
            raise TransportError("down")
        end = entry["e"] + self.includes if self.respects_end else 10**10
        known = [at for at in self.times if at < end][-self.most :]
        return {"US:A": [flat_kline(at, ONE) for at in known]} if known else {}


def paging(server: Server, **options: Any) -> HistoryPages[Decimal]:
    known: dict[str, Any] = {"interval": "1m", "start": 0, "clock": lambda: 9999.5}
    return HistoryPages(server.ask, QUERIES, "US:A", **(known | options))


async def pages_of(server: Server, **options: Any) -> list[list[int]]:
    pages = paging(server, **options)
    return [[one.timestamp for one in page] async for page in pages]


@pytest.mark.parametrize("includes", [True, False])
async def test_the_newest_page_is_first_and_no_bar_is_repeated(includes):
    server = Server(range(60, 481, 60), includes=includes)
    found = await pages_of(server)
    assert list(itertools.chain(*reversed(found))) == list(range(60, 481, 60))
    assert found[0] == [360, 420, 480]
    assert server.requested_ends[:2] == [9999, 360]


async def test_the_iteration_ends_at_the_start_without_another_request():
    server = Server(range(60, 601, 60))
    assert await pages_of(server, start=540) == [[540, 600]]
    assert len(server.requested_ends) == 1


async def test_bars_outside_of_the_requested_range_are_dropped():
    server = Server(range(60, 601, 60), respects_end=False, most=100)
    assert await pages_of(server, start=100, end=250) == [[120, 180, 240]]
    start, end = (datetime.fromtimestamp(at, UTC) for at in (100, 250))
    assert await pages_of(server, start=start, end=end) == [[120, 180, 240]]


async def test_a_server_that_ignores_the_end_yields_one_page():
    server = Server(range(60, 601, 60), respects_end=False)
    assert await pages_of(server) == [[480, 540, 600]]
    assert server.requested_ends == [9999, 480]


async def test_a_page_without_a_bar_in_range_is_skipped():
    server = Server(range(60, 601, 60), respects_end=False)
    assert await pages_of(server, end=300) == []


async def test_no_bars_end_the_iteration():
    assert await pages_of(Server([])) == []


async def test_a_failed_page_is_requested_again():
    server = Server(range(60, 301, 60))
    pages = paging(server)
    first = await anext(pages)
    server.failures = 1
    with pytest.raises(TransportError):
        await anext(pages)
    rest = [page async for page in pages]
    times = [one.timestamp for page in [*reversed(rest), first] for one in page]
    assert times == [60, 120, 180, 240, 300]


async def test_the_iterator_can_be_closed_early():
    server = Server(range(60, 601, 60))
    async with paging(server) as pages:
        async for _ in pages:
            break
    assert [page async for page in pages] == []
    assert len(server.requested_ends) == 1


async def test_the_newest_bar_is_kept_if_the_local_clock_is_behind():
    assert await pages_of(Server([9960, 10020], respects_end=False)) == [[9960, 10020]]


@pytest.mark.fault("F42")
async def test_no_bar_is_lost_where_the_clock_of_the_server_is_known_to_be_ahead():
    server = Server(range(9_960, 13_621, 60), most=1000)
    [page] = await pages_of(server, ahead=lambda: 3600.0)
    assert page[-1] == 13_560  # The first end is 13,599.
    assert server.requested_ends[0] == 13_599


@pytest.mark.fault("F42")
@pytest.mark.parametrize(
    ("ahead", "newest"), [(3600, 13_560), (3, 9_960), (-3600, 9_960)]
)
async def test_no_bar_is_lost_where_the_first_response_shows_that_it_is(ahead, newest):
    server = Server(range(9_960, 13_621, 60), most=1000)
    found = await pages_of(server, ahead=lambda: ahead * bool(server.requested_ends))
    assert found[0][-1] == newest
    assert len(found) == 1


@pytest.mark.fault("F42")
@pytest.mark.parametrize("ahead", [3600, -3600])
async def test_the_present_of_the_server_is_known_after_a_response(ahead):
    server = Server(range(60, 601, 60))
    known: list[float] = []
    async with paging(server, ahead=lambda: ahead * len(known)) as pages:
        assert pages.server_time() == 9_999.5
        known.append(1)
        assert pages.server_time() == 9_999.5 + ahead


def test_invalid_arguments_raise_before_any_request():
    server = Server([])
    for options, words in (
        ({"start": 200, "end": 100}, "after end"),
        ({"start": 99999}, "after end"),
        ({"interval": "7m"}, "7m"),
        ({"adjust": 5}, "adjustment"),
        ({"start": datetime(2025, 1, 1)}, "time zone"),  # noqa: DTZ001
    ):
        with pytest.raises(ValueError, match=words):
            paging(server, **options)
    with pytest.raises(ValueError, match="single symbol"):
        HistoryPages(server.ask, QUERIES, "US:A,B", interval="1m", start=0)


@settings(max_examples=60)
@given(
    times=st.sets(st.integers(1, 400)),
    most=st.integers(2, 9),
    includes=st.booleans(),
    ends=st.tuples(st.integers(0, 400), st.integers(0, 400)).map(sorted),
)
async def test_the_pages_hold_every_bar_in_range(times, most, includes, ends):
    start, end = ends
    server = Server(times, most=most, includes=includes)
    found = await pages_of(server, start=start, end=end)
    whole = list(itertools.chain(*reversed(found)))
    expected = [at for at in sorted(times) if start <= at <= end]
    # If the server excludes the end itself, that bar is not there.
    assert whole == [at for at in expected if includes or at != end]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if (record.name, record.levelname) == ("qos_async.http", "WARNING")
    ]


@pytest.mark.parametrize("options", [{}, {"end": 300}])
async def test_a_server_that_ignores_the_end_is_logged_once(options, caplog):
    server = Server(range(60, 601, 60), respects_end=False)
    pages = paging(server, **options)
    for _ in range(2):
        assert len([page async for page in pages]) <= 1
    [words] = warnings(caplog)
    assert "ignored the end time 480 for US:A 1m" in words


@pytest.mark.parametrize("includes", [True, False])
async def test_a_server_that_respects_the_end_is_not_logged(includes, caplog):
    server = Server(range(60, 601, 60), includes=includes)
    assert len(await pages_of(server)) >= 3
    assert await pages_of(Server([9960, 10020])) == [[9960]]
    assert await pages_of(Server([])) == []
    assert warnings(caplog) == []


async def test_the_iterator_says_whether_the_server_ignored_the_end():
    respecting = paging(Server(range(60, 601, 60)))
    assert [page async for page in respecting]
    assert respecting.end_ignored is False
    ignoring = paging(Server(range(60, 601, 60), respects_end=False))
    assert ignoring.end_ignored is False
    await anext(ignoring)
    assert ignoring.end_ignored is False  # The newest page was what was requested.
    assert [page async for page in ignoring] == []
    assert ignoring.end_ignored is True


async def test_bars_past_an_explicit_end_show_at_once_that_it_was_ignored():
    pages = paging(Server(range(60, 601, 60), respects_end=False), end=540)
    assert [bar.timestamp for bar in await anext(pages)] == [480, 540]
    assert pages.end_ignored is True


async def test_bars_past_the_present_are_a_difference_of_clocks():
    pages = paging(Server([9960, 10020]))
    assert len([page async for page in pages]) == 1
    assert pages.end_ignored is False


# Pages that cannot be read


def reading(page: Any, **options: Any) -> HistoryPages[Decimal]:
    """Return the pages of a server that has ``page`` after a first page of one bar."""
    replies = [json.dumps([{"c": "US:A", "k": rows}]) for rows in ([sent(600)], page)]

    async def ask(query: Any) -> Any:
        return query.read(replies.pop(0).encode())

    known: dict[str, Any] = {"interval": "1m", "start": 0, "clock": lambda: 9999.5}
    return HistoryPages(ask, QUERIES, "US:A", **(known | options))


def sent(at: int | None, **changed: Any) -> dict[str, Any]:
    """Return a bar as the server sends it."""
    prices = dict.fromkeys(("o", "cl", "h", "l", "v"), "1")
    return {"c": "US:A", "ts": at, "kt": 1, **prices, **changed}


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    "page",
    [
        [sent(540, cl="-"), sent(480, cl="-")],
        [sent(540_000_000_000_000)],
        [sent(540, cl="-"), sent(600)],
        [sent(None), sent(600)],
        [sent(None)],
    ],
    ids=["no price", "milliseconds", "no new one", "no time", "no time at all"],
)
async def test_an_unreadable_page_is_not_the_oldest_page(page):
    pages = reading(page)
    assert [bar.timestamp for bar in await anext(pages)] == [600]
    with pytest.raises(DecodeError):
        await anext(pages)


@pytest.mark.fault("F22")
async def test_an_unreadable_bar_of_a_page_that_ignores_the_end_is_no_error():
    pages = reading([sent(600), sent(660), sent(720, cl="-")], end=700)
    assert [[bar.timestamp for bar in page] async for page in pages] == [[600]]
    assert pages.end_ignored
