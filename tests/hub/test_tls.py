"""A hub over TLS: its clients, its status, and connections that are no TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from qos_async import Client
from qos_async.hub import Hub, Token
from qos_async.hub.status import StatusError, fetch_status
from qos_async.sim import Simulator

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def secured(authority: trustme.CA) -> AsyncGenerator[Hub]:
    """Run a hub over TLS, which needs a token."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    # In debug mode asyncio reports each handshake that fails as an error.
    asyncio.get_running_loop().set_debug(False)
    async with Simulator(rate=20.0) as sim:
        upstream = Client(sim.key, http_url=sim.http_url, stream_url=sim.stream_url)
        tokens = {"bot": Token(token=TOKEN)}
        async with Hub(upstream, tokens=tokens, ssl=context) as hub:
            yield hub


async def check_served(hub: Hub, authority: trustme.CA) -> None:
    """See that a client has a reply and a trade."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    urls: Any = {"http_url": hub.http_url, "stream_url": hub.stream_url}
    async with (
        Client(TOKEN, ssl=context, **urls) as client,
        client.watch_trades("US:AAPL") as trades,
    ):
        await anext(aiter(trades))
        assert (await client.fetch_snapshots("US:AAPL")).missing == ()


async def test_clients_reach_a_hub_over_tls(authority):
    async with secured(authority) as hub:
        assert hub.http_url.startswith("https://127.0.0.1:")
        assert hub.stream_url.startswith("wss://127.0.0.1:")
        await check_served(hub, authority)


async def test_a_status_names_a_certificate_that_is_not_trusted(authority):
    async with secured(authority) as hub:
        url = hub.http_url.removesuffix("/hub")
        with pytest.raises(StatusError, match=f"the hub at {url} has no valid certif"):
            await fetch_status(url, TOKEN)
        with pytest.raises(StatusError, match="one with TLS has an address with https"):
            await fetch_status(url.replace("https", "http"), TOKEN)


@pytest.mark.fault("H32")
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_connection_without_tls_is_closed(authority, monkeypatch, sent):
    monkeypatch.setattr("qos_async.hub.connections._TLS_TIMEOUT", 0.3)
    async with secured(authority) as hub:
        where = urlsplit(hub.http_url)
        links = [
            await asyncio.open_connection(where.hostname, where.port)
            for _ in range(150)
        ]
        for _, writer in links:
            writer.write(sent)
        await check_served(hub, authority)
        for reader, writer in links:
            with suppress(ConnectionResetError):  # That closes it, too.
                async with asyncio.timeout(10):
                    assert len(await reader.read()) < 10  # At most an alert.
            writer.close()


@pytest.mark.fault("H32")
async def test_a_tls_connection_without_a_request_is_closed(authority, monkeypatch):
    monkeypatch.setattr("qos_async.hub.connections._HEAD_TIMEOUT", 0.5)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with secured(authority) as hub:
        where = urlsplit(hub.http_url)
        reader, writer = await asyncio.open_connection(
            where.hostname, where.port, ssl=context, server_hostname="127.0.0.1"
        )
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
