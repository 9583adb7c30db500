"""The proxy of the fault tests does the harm that it promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest

from tests.support.chaos_proxy import ChaosProxy, Toxics


class Ends:
    """The client's end of a connection through the proxy to a server that echoes."""

    def __init__(
        self,
        proxy: ChaosProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer

    async def echo(self, data: bytes) -> float:
        """Send bytes, receive them back; return the seconds that this took."""
        start = asyncio.get_running_loop().time()
        self.writer.write(data)
        assert await self.reader.readexactly(len(data)) == data
        return asyncio.get_running_loop().time() - start


@asynccontextmanager
async def connected() -> AsyncGenerator[Ends]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await reader.read(1000):
                writer.write(chunk)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, ChaosProxy(port) as proxy, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield Ends(proxy, reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def test_without_toxics_bytes_pass_unchanged_both_ways():
    async with connected() as ends:
        await ends.echo(bytes(range(256)) * 100)
        assert ends.proxy.passed == 25_600
        assert (ends.proxy.accepted, ends.proxy.connections) == (1, 1)


@pytest.mark.parametrize(
    "toxics", [Toxics(latency=0.1), Toxics(jitter=0.4), Toxics(bandwidth=1000.0)]
)
async def test_bytes_are_delayed(toxics):
    async with connected() as ends:
        ends.proxy.to_client = toxics
        assert await ends.echo(b"x" * 100) >= 0.05
        ends.proxy.clear()
        assert ends.proxy.to_client == Toxics()


async def test_bytes_arrive_one_at_a_time():
    async with connected() as ends:
        ends.proxy.to_client.slicer = 1
        ends.writer.write(b"x" * 50)
        pieces: list[bytes] = []
        while len(b"".join(pieces)) < 50:
            pieces.append(await ends.reader.read(1000))
        assert len(pieces) > 5


async def test_a_bit_of_some_bytes_is_flipped():
    async with connected() as ends:
        ends.proxy.to_client.corrupt = 3
        ends.writer.write(b"\0" * 4)
        assert await ends.reader.readexactly(4) == b"\1\0\0\1"
        ends.writer.write(b"\0" * 4)
        assert await ends.reader.readexactly(4) == b"\0\0\1\0"


async def test_a_black_hole_swallows_everything_and_stays_open():
    async with connected() as ends:
        ends.proxy.to_client.timeout = True
        ends.writer.write(b"lost")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await ends.reader.read(1)
        ends.proxy.clear()
        await ends.echo(b"found")


async def test_it_closes_after_the_given_number_of_bytes():
    async with connected() as ends:
        ends.proxy.to_client.limit_data = 3
        ends.writer.write(b"12345")
        assert await ends.reader.read() == b"123"


async def test_a_close_is_forwarded_late():
    async with connected() as ends:
        ends.proxy.to_client.limit_data = 0
        ends.proxy.to_client.slow_close = 0.1
        start = asyncio.get_running_loop().time()
        ends.writer.write(b"12345")
        assert await ends.reader.read() == b""
        assert asyncio.get_running_loop().time() - start >= 0.09


async def test_reset_peer_resets_the_connection():
    async with connected() as ends:
        await ends.echo(b"x")
        ends.proxy.reset_peer()
        with pytest.raises(ConnectionResetError):
            await ends.reader.read()


async def test_while_it_is_down_connections_are_reset():
    async with connected() as ends:
        ends.proxy.down = True
        reader, writer = await asyncio.open_connection("127.0.0.1", ends.proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
