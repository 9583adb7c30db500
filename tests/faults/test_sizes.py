"""Responses that are too large, truncated or not JSON: little memory, clear errors."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from qos_async import ConnectError, DecodeError, QosError, TransportError
from qos_async._io.aiohttp_transport import MAX_FRAME
from qos_async._io.http import BODY_MAX
from qos_async._io.transport import LinkClosed
from tests.faults.test_handshakes import ConnectionHandler, client_of, listening
from tests.io.test_aiohttp_transport import talking
from tests.support.http_servers import serving
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY

MEGABYTE = 1 << 20


@contextmanager
def within(megabytes: int) -> Generator[None]:
    """Fail if the body takes more than ``megabytes`` at any time."""
    tracemalloc.start()
    try:
        yield
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < megabytes * MEGABYTE, f"{most / MEGABYTE:.0f} MiB"


async def failed_request(handler: Any, kind: type[QosError], text: str) -> QosError:
    """Send one request to a server that responds with ``handler``."""
    async with serving(handler) as url, client_of(url.authority) as client:
        with pytest.raises(kind, match=text) as caught:
            await client.fetch_snapshots("US:AAPL")
        assert_absent(KEY, caught.value)
        return caught.value


def packed(bits: int, megabytes: int) -> bytes:
    packer = zlib.compressobj(wbits=bits)
    block = bytes(MEGABYTE)
    parts = [packer.compress(block) for _ in range(megabytes)]
    return b"".join([*parts, packer.flush()])


@pytest.mark.fault("P26", "D5")
@pytest.mark.parametrize(("coding", "bits"), [("gzip", 31), ("deflate", 15)])
async def test_a_decompression_bomb_is_stopped_before_it_is_unpacked(coding, bits):
    bomb = packed(bits, 80)
    assert len(bomb) < MEGABYTE

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": coding})

    with within(BODY_MAX // MEGABYTE + 24):
        await failed_request(answer, DecodeError, "too large")


@pytest.mark.fault("P26", "D5")
async def test_an_endless_response_is_stopped_at_the_size_limit():
    block = b" " * MEGABYTE

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(block)

    with within(BODY_MAX // MEGABYTE + 24):
        await failed_request(answer, DecodeError, "too large")


@pytest.mark.fault("P26")
async def test_a_response_that_announces_a_terabyte_takes_no_memory():
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(10**12)})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.abort()
        return response

    with within(8):
        await failed_request(answer, TransportError, "was cut")


async def cut_short(request: web.Request) -> web.StreamResponse:
    body = gzip.compress(b'{"msg":"OK","data":[]}' * 1000)
    response = web.StreamResponse(headers={"Content-Encoding": "gzip"})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    return response


async def no_gzip(request: web.Request) -> web.Response:
    return web.Response(
        body=b'{"msg":"OK","data":[]}', headers={"Content-Encoding": "gzip"}
    )


async def missing_bytes(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b'{"msg":"OK","da')
    assert request.transport is not None
    request.transport.close()
    return response


@pytest.mark.fault("P26")
@pytest.mark.parametrize("answer", [cut_short, no_gzip, missing_bytes])
async def test_a_truncated_response_is_retried_and_never_decoded(answer):
    asked_for = 0

    async def once(request: web.Request) -> Any:
        nonlocal asked_for
        asked_for += 1
        if asked_for == 1:
            return await answer(request)
        return web.json_response({"msg": "OK", "data": [{"c": "US:AAPL", "lp": "1"}]})

    async with serving(once) as url, client_of(url.authority) as client:
        try:
            found = await client.fetch_snapshots("US:AAPL")
        except DecodeError:
            assert asked_for == 1
        else:
            assert [*found] == ["US:AAPL"]
            assert asked_for == 2


@pytest.mark.fault("P26")
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"null", b"7", b'"OK"', b"[" * 100_000, b"\xff\xfe", b"{}"],
)
async def test_a_response_without_a_msg_is_reported_in_a_short_error(body):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body)

    error = await failed_request(answer, DecodeError, "not JSON with a msg")
    assert len(str(error)) < 400


@pytest.mark.fault("P25")
async def test_the_caller_bounds_the_wait_for_a_busy_server():
    busy = True

    async def answer(request: web.Request) -> web.Response:
        if busy:
            return web.Response(status=429, headers={"Retry-After": "300"})
        return web.json_response({"msg": "OK", "data": []})

    async with serving(answer) as url, client_of(url.authority) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.fetch_snapshots("US:AAPL")
        assert client.stats.http_requests == 1
        busy = False
        assert await client.fetch_snapshots("US:AAPL") == {}


@pytest.mark.fault("P25")
async def test_a_server_that_stays_busy_is_requested_four_times_and_no_more():
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=503)

    async with serving(answer) as url, client_of(url.authority) as client:
        with pytest.raises(TransportError, match="503"):
            await client.fetch_snapshots("US:AAPL")
        assert (client.stats.http_requests, client.stats.http_retries) == (4, 3)


@pytest.mark.fault("P15", "D5")
async def test_a_frame_that_announces_a_gigabyte_takes_no_memory():
    for size in (MAX_FRAME + 1, 1 << 30, (1 << 63) - 1):

        async def talk(ws: web.WebSocketResponse, size: int = size) -> None:
            head = b"\x81\x7f" + size.to_bytes(8, "big")
            ws._req.transport.write(head + b" " * 1000)  # type: ignore[union-attr]
            await ws.receive()

        with within(8):
            async with talking(talk) as transport:
                socket = await transport.dial()
                with pytest.raises(LinkClosed, match="protocol"):
                    await socket.receive()
                await socket.close(graceful=False)


@pytest.mark.fault("P16", "D5")
async def test_no_compression_is_offered_so_that_no_frame_can_be_a_bomb():
    offered: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        offered.append(request.headers.get("Sec-WebSocket-Extensions"))
        return web.Response(status=503)

    async with serving(answer) as url, client_of(url.authority) as client:
        with pytest.raises(ConnectError):
            await client.connect()
    assert set(offered) == {None}


def headers(count: int, size: int) -> ConnectionHandler:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(count):
            writer.write(f"X-{number}: {'x' * size}\r\n".encode())
            await writer.drain()
        writer.write(b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    return talk


@pytest.mark.fault("T13", "P26", "D5")
@pytest.mark.parametrize(("count", "size"), [(500, 10), (1, 1_000_000)])
async def test_unlimited_headers_are_not_read(count, size):
    async with (
        listening(headers(count, size)) as address,
        client_of(address) as client,
    ):
        with within(16):
            with pytest.raises(ConnectError):
                await client.connect()
            with pytest.raises(QosError) as caught:
                await client.fetch_snapshots("US:AAPL")
        assert_absent(KEY, caught.value)
