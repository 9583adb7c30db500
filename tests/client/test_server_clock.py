"""The present of the service: of the stream, of the dates of HTTP, or of this machine."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from aiohttp import web

from qos_async import Client, Limits
from qos_async._io.clocks import SYSTEM_CLOCK, ServerClock
from qos_async.hub.upstream import Upstream
from tests.support.http_servers import serving

HOUR = 3600.0


@pytest.mark.fault("F80")
def test_the_first_clock_that_is_known_counts():
    stream: list[float] = []
    http: list[float] = []
    clock = ServerClock(
        SYSTEM_CLOCK,
        lambda: stream[0] if stream else None,
        lambda: http[0] if http else None,
    )
    assert clock.ahead() == 0
    http.append(60.0)
    assert clock.ahead() == 60
    stream.append(-60.0)
    assert clock.ahead() == -60
    assert clock.time() == pytest.approx(time.time() - 60, abs=5)


@pytest.mark.fault("F80")
@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
async def test_history_up_to_now_and_a_hub_have_the_clock_that_http_has_shown(ahead):
    ends: list[int] = []

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/history":
            ends.append((await request.json())["kline_reqs"][0]["e"])
        date = formatdate(time.time() + ahead, usegmt=True)
        return web.json_response({"msg": "OK", "data": []}, headers={"Date": date})

    limits = Limits(http_requests=1000, http_period=0.0)
    async with (
        serving(answer) as url,
        Client("key-0123456789", http_url=str(url), limits=limits) as client,
    ):
        for _ in range(2):
            await client.fetch_history("US:A", interval="1m")
        now = Upstream(client).now()
        pages = client.iter_history("US:A", interval="1m", start=0)
        assert pages.server_time() == pytest.approx(now, abs=5)
    assert now == pytest.approx(time.time() + ahead, abs=5)
    assert ends == pytest.approx([time.time(), time.time() + ahead], abs=10)
