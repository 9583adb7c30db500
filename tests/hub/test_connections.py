"""Connections that send nothing, too little, or only part of a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from qos_async.testing.virtual import simulate
from tests.support.hub_rig import Rig, rigged

HEAD = b"POST /hub/snapshot HTTP/1.1\r\nHost: localhost\r\nkey: any\r\n"


class Stranger(asyncio.Protocol):
    """A connection that sends what it is given."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()


async def connect(rig: Rig) -> Stranger:
    """Open a connection to the hub."""
    where = urlsplit(rig.hub.http_url)
    assert where.hostname is not None
    assert where.port is not None
    loop = asyncio.get_running_loop()
    _, stranger = await loop.create_connection(Stranger, where.hostname, where.port)
    return stranger


@asynccontextmanager
async def dripping(stranger: Stranger, data: bytes) -> AsyncGenerator[None]:
    """Send a byte a second, as long as the connection lasts."""

    async def drip() -> None:
        for byte in data:
            stranger.transport.write(bytes([byte]))
            await asyncio.sleep(1)

    task = asyncio.create_task(drip())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.fault("H32")
@pytest.mark.parametrize("data", [b"", HEAD, b"\r\n" * 100, b"\x16\x03\x01\x02"])
def test_a_connection_that_sends_no_whole_request_is_closed(data: bytes):
    async def main() -> None:
        async with rigged() as rig:
            stranger = await connect(rig)
            async with dripping(stranger, data), asyncio.timeout(12):
                await stranger.ended.wait()

    simulate(main)


@pytest.mark.fault("H32")
def test_a_body_that_does_not_arrive_ends_the_request():
    async def main() -> None:
        async with rigged() as rig:
            stranger = await connect(rig)
            stranger.transport.write(HEAD + b"Content-Length: 1000\r\n\r\n")
            async with dripping(stranger, b" " * 1000), asyncio.timeout(15):
                await stranger.ended.wait()
            assert stranger.received.startswith(b"HTTP/1.1 408 ")

    simulate(main)


@pytest.mark.fault("H32")
def test_a_response_that_is_not_read_is_given_up():
    async def main() -> None:
        async with rigged() as rig:
            stranger = await connect(rig)
            loop = asyncio.get_running_loop()
            connection = loop.net.connections[-1]  # type: ignore[attr-defined]
            connection.down.window = 10
            stranger.transport.pause_reading()
            head = HEAD.replace(b"snapshot", b"kline")
            body = b'{"kline_reqs":[{"c":"US:AAPL","kt":1,"co":1000}]}'
            length = f"Content-Length: {len(body)}\r\n\r\n".encode()
            stranger.transport.write((head + length + body) * 2)
            await asyncio.sleep(20)
            assert not connection.server.lost
            await asyncio.sleep(120)
            assert connection.server.lost
            stranger.transport.abort()

    simulate(main)


@pytest.mark.fault("H32")
def test_silent_connections_keep_no_client_out():
    async def main() -> None:
        async with rigged() as rig:
            strangers = [await connect(rig) for _ in range(600)]
            consumer = await rig.consumer("US:AAPL")
            assert (await rig.post("/snapshot", {"codes": ["US:AAPL"]}))[0] == 200
            assert sum(not one.ended.is_set() for one in strangers) <= 101
            await asyncio.sleep(12)
            assert all(one.ended.is_set() for one in strangers)
            await rig.end_undisturbed(consumer)

    simulate(main)


@pytest.mark.fault("H32")
def test_connections_between_requests_are_few_and_end():
    async def main() -> None:
        async with rigged() as rig:
            request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"
            strangers = []
            for _ in range(600):
                strangers.append(await connect(rig))
                strangers[-1].transport.write(request)
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            assert all(b" 200 OK" in one.received for one in strangers)
            left = [one for one in strangers if not one.ended.is_set()]
            assert 400 < len(left) <= 501
            left[0].transport.write(request)  # A client may use it again.
            await asyncio.sleep(1)
            assert left[0].received.count(b" 200 OK") == 2
            await asyncio.sleep(80)
            assert all(one.ended.is_set() for one in strangers)

    simulate(main)


@pytest.mark.fault("H32")
def test_too_many_requests_at_a_time_are_refused(monkeypatch):
    monkeypatch.setattr("qos_async.hub.connections._ACTIVE_MAX", 5)

    async def main() -> None:
        async with rigged() as rig:
            strangers = [await connect(rig) for _ in range(5)]
            for one in strangers:
                one.transport.write(HEAD + b"Content-Length: 1000\r\n\r\n")
            await asyncio.sleep(1)
            status, body, headers = await rig.post("/snapshot", {"codes": ["US:A"]})
            assert (status, body["msg"]) == (503, "Too many requests at once.")
            assert headers["Retry-After"] == "1"
            await asyncio.sleep(15)
            assert (await rig.post("/snapshot", {"codes": ["US:AAPL"]}))[0] == 200

    simulate(main)


@pytest.mark.fault("H15")
@pytest.mark.parametrize(
    "data",
    [
        b"GET /hub/ws?key=a-secret-token HTTP/1.1\x01\r\n\r\n",
        b"GET /hub/ws HTTP/1.1\r\nkey: a-secret-token\x00\r\n\r\n",
        b"GET /hub/ws HTTP/1.1\r\nkey: a-secret-token" + b"x" * 9000 + b"\r\n\r\n",
        b"a-secret-token\r\n\r\n",
    ],
)
def test_what_cannot_be_parsed_is_in_no_log(data: bytes, caplog):
    async def main() -> None:
        async with rigged() as rig:
            stranger = await connect(rig)
            stranger.transport.write(data)
            async with asyncio.timeout(12):
                await stranger.ended.wait()
            assert stranger.received.startswith(b"HTTP/1.0 400 ")

    simulate(main)
    assert "a-secret-token" not in caplog.text
    assert "Traceback" not in caplog.text
