"""Tests of ``qos_async.cli.history.paging``."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from qos_async import (
    AuthenticationError,
    Client,
    LimitError,
    Limits,
    RejectedError,
    TransportError,
)
from qos_async.cli.history.paging import IGNORED, OLDEST, START, page_back
from qos_async.cli.history.partial import PartialDownload
from qos_async.sim import Simulator
from qos_async.testing.virtual import simulate
from tests.support.history_pages import (
    MINUTE,
    REQUEST,
    START_AT,
    Recorded,
    bars,
)


class Pages:
    """Returns given pages, and raises given errors."""

    def __init__(self, *steps, now, end_ignored=False):
        self.steps, self.end_ignored = list(steps), end_ignored
        self.server_time = lambda: now

    def iter_history(self, symbol, **requested):
        self.asked = {"symbol": symbol, **requested}
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        pass

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.steps:
            raise StopAsyncIteration
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


async def paged(path, *steps, now=REQUEST.end, end_ignored=False, end_at=None):
    client = cast("Any", Pages(*steps, now=now, end_ignored=end_ignored))
    progress = Recorded()
    with PartialDownload(path, REQUEST) as part:
        await page_back(client, part, progress, end_at=end_at)
        return part, progress, client


async def test_a_page_ends_where_the_last_one_started(path):
    """Each bar comes once, and the unfinished one never."""
    now = START_AT + 99 * MINUTE + 30
    part, _, client = await paged(path, bars(96, 97, 98, 99), bars(95, 96), now=now)
    assert part.count == 4
    assert client.asked["end"] == REQUEST.end - 1
    assert part.ended == OLDEST
    part.path.write_bytes(part.path.read_bytes().rpartition(b'{"ended')[0])
    part, progress, client = await paged(path, bars(94, 95), bars(0, 1))
    assert client.asked["end"] == START_AT + 95 * MINUTE
    assert (part.count, part.resumed_from, progress.pages) == (7, 4, 2)
    assert part.ended == START


@pytest.mark.fault("F80")
@pytest.mark.parametrize("minutes", [60, -60])
async def test_now_is_the_present_of_the_service(path, minutes):
    """This machine's clock is behind that of the service, or ahead of it."""
    last = 99 + minutes
    now = START_AT + last * MINUTE + 30
    newest = bars(last - 2, last - 1, last)
    part, _, client = await paged(path, newest, now=now, end_at=int)
    assert client.asked["end"] is None
    assert part.newest == START_AT + (last - 1) * MINUTE
    assert part.request.end == now
    with PartialDownload(path, REQUEST) as resumed:
        assert (resumed.count, resumed.request.end) == (2, now)
    part, _, client = await paged(path, bars(5), now=now + 600, end_at=int)
    assert part.request.end == now


async def test_a_complete_download_sends_no_request(path):
    await paged(path, bars(0, 1))
    _, progress, client = await paged(path)
    assert (progress.pages, hasattr(client, "asked")) == (0, False)
    path.write_bytes(path.read_bytes().rpartition(b'{"ended')[0])
    part, _, client = await paged(path)
    assert (part.ended, hasattr(client, "asked")) == (START, False)


async def test_a_server_that_ignores_the_end_is_recognised(path):
    part, progress, _ = await paged(path, bars(90), end_ignored=True)
    assert (part.ended, progress.notes) == (IGNORED, [])


async def test_a_wait_is_reported_with_its_reason(path):
    _, progress, client = await paged(path, bars(90))
    client.asked["on_wait"](LimitError("too fast", operation="/history"), 60.0)
    assert progress.notes == ["/history: too fast; asking again in 1 min"]


@pytest.mark.parametrize(
    "steps", [[TransportError("x")], [bars(9), RejectedError("x")]]
)
async def test_an_error_of_the_client_ends_the_download(steps, path):
    with pytest.raises(type(steps[-1])):
        await paged(path, *steps, bars(8))
    with PartialDownload(path, REQUEST) as part:
        assert part.count == len(steps) - 1, "earlier pages are kept"


@pytest.mark.fault("F33")
def test_a_download_waits_out_refusals_for_the_pace_and_says_so(tmp_path):
    limits = Limits(http_requests=1000, http_period=1.0)
    progress = Recorded()

    async def download():
        async with Simulator(plan=limits) as sim:
            sim.fail_http(429, 6, body=b"", paths="/history")
            now = int(sim.now)
            request = replace(REQUEST, start=now - 90_000, end=now)
            async with Client(
                sim.key, http_url=sim.http_url, limits=limits, numbers=str
            ) as client:
                with PartialDownload(tmp_path / "b.csv.part", request) as part:
                    await page_back(client, part, progress)
                    assert part.ended

    simulate(download)
    assert progress.notes == ["/history CF:BTCUSDT: HTTP 429; asking again in 1 s"]


@pytest.mark.fault("F33")
@pytest.mark.parametrize("kind", [AuthenticationError, RejectedError])
async def test_a_refusal_for_good_ends_a_download(kind, tmp_path):
    limits = Limits(http_requests=1000, http_period=1.0)
    async with Simulator(plan=limits) as sim:
        if kind is AuthenticationError:
            sim.expire_key()
        else:
            sim.reject_symbols("CF:BTCUSDT")
        request = replace(REQUEST, start=int(sim.now) - 90_000, end=int(sim.now))
        async with Client(
            sim.key, http_url=sim.http_url, limits=limits, numbers=str
        ) as client:
            path = tmp_path / "b.csv.part"
            with PartialDownload(path, request) as part, pytest.raises(kind):
                await page_back(client, part, Recorded())
    assert len(sim.requests) == 1
