"""Certificates: which servers the client trusts."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import threading
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from socket import create_server
from typing import Any

import aiohttp
import pytest
import trustme

from qos_async import Client, ConnectError, LinkState
from qos_async.sim import Simulator
from tests.faults.test_handshakes import CALM, listening
from tests.support.chaos_proxy import ChaosProxy
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY

HOST = "127.0.0.1"
LONG_AGO = {
    "not_before": datetime(2020, 1, 1, tzinfo=UTC),
    "not_after": datetime(2020, 2, 1, tzinfo=UTC),
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def serving_as(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@asynccontextmanager
async def secured(certificate: trustme.LeafCert) -> AsyncGenerator[ChaosProxy]:
    """Run a simulator over TLS."""
    async with Simulator(key=KEY) as sim:
        port = int(sim.http_url.rpartition(":")[2])
        async with ChaosProxy(port, tls=serving_as(certificate)) as proxy:
            yield proxy


def client_at(port: int, **options: Any) -> Client:
    return Client(
        KEY,
        http_url=f"https://{HOST}:{port}",
        stream_url=f"wss://{HOST}:{port}/ws",
        timing=options.pop("timing", CALM),
        **options,
    )


async def is_refused_for_good(client: Client, words: str) -> None:
    """See that neither HTTP nor stream try a second time."""
    async with client:
        with pytest.raises(ConnectError, match=words) as one:
            await client.fetch_snapshots("US:AAPL")
        assert client.stats.http_requests == 1
        changes = client.states()
        with pytest.raises(ConnectError, match=words) as other:
            await client.connect()
        assert [change.state async for change in changes] == [
            LinkState.CONNECTING,
            LinkState.CLOSED,
        ]
        assert_absent(KEY, one.value, other.value)


BAD: dict[str, tuple[bool, list[str], dict[str, Any], str]] = {
    "unknown authority": (False, [HOST], {}, "unable to get local issuer"),
    "wrong host": (True, ["other.example"], {}, "not valid for"),
    "expired": (True, [HOST], LONG_AGO, "expired"),
}


@pytest.mark.fault("T20", "D1")
@pytest.mark.parametrize("name", BAD)
async def test_a_server_without_a_valid_certificate_never_gets_the_key(name, authority):
    trusted, hosts, dates, words = BAD[name]
    async with secured(authority.issue_cert(*hosts, **dates)) as proxy:
        client = client_at(proxy.port, ssl=trusting(authority) if trusted else True)
        await is_refused_for_good(client, rf"cannot be trusted.*{words}.*SSLContext")
        assert proxy.passed == 0


@pytest.mark.fault("T20")
async def test_a_certificate_that_does_not_match_the_fingerprint_is_rejected(authority):
    async with secured(authority.issue_cert(HOST)) as proxy:
        client = client_at(proxy.port, ssl=aiohttp.Fingerprint(b"x" * 32))
        await is_refused_for_good(client, "cannot be trusted")
        assert proxy.passed == 0


@pytest.mark.fault("T20", "D1")
async def test_a_custom_context_or_fingerprint_is_used_by_http_and_stream(authority):
    certificate = authority.issue_cert(HOST)
    der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    prints = aiohttp.Fingerprint(hashlib.sha256(der).digest())
    async with secured(certificate) as proxy:
        for trust in (trusting(authority), prints):
            async with client_at(proxy.port, ssl=trust) as client:
                await client.connect()
                assert [*await client.fetch_snapshots("US:AAPL")] == ["US:AAPL"]


@pytest.mark.fault("T20")
async def test_a_borrowed_session_may_bring_its_own_trust_in_a_certificate(authority):
    connector = aiohttp.TCPConnector(ssl=trusting(authority))
    async with (
        secured(authority.issue_cert(HOST)) as proxy,
        aiohttp.ClientSession(connector=connector) as session,
        client_at(proxy.port, session=session) as client,
    ):
        await client.connect()
        assert [*await client.fetch_snapshots("US:AAPL")] == ["US:AAPL"]


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    received = await reader.read(4096)
    assert KEY.encode() not in received
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


@pytest.mark.fault("T20")
async def test_plain_text_instead_of_tls_is_reported_at_once():
    async with listening(plain) as address:
        client = client_at(int(address.rpartition(":")[2]))
        await is_refused_for_good(
            client, r"does not speak TLS.*check the address and its port"
        )


class Ancient(threading.Thread):
    """A server of TLS 1.1 at most; in a thread, as asyncio would swallow its alert."""

    def __init__(self, certificate: trustme.LeafCert) -> None:
        super().__init__()
        self._tls = serving_as(certificate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1
            self._tls.maximum_version = ssl.TLSVersion.TLSv1_1
        self._tls.set_ciphers("ALL:@SECLEVEL=0")
        self._listener = create_server((HOST, 0))
        self._listener.settimeout(5.0)
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        with self._listener:
            for _ in range(2):
                with (
                    suppress(OSError),
                    self._listener.accept()[0] as peer,
                    self._tls.wrap_socket(peer, server_side=True) as wrapped,
                ):
                    wrapped.recv(1)


@pytest.mark.fault("T20", "D1")
async def test_a_server_without_tls_1_2_is_reported_at_once(authority):
    server = Ancient(authority.issue_cert(HOST))
    server.start()
    try:
        client = client_at(server.port)
        await is_refused_for_good(client, r"does not speak TLS 1\.2 or later")
    finally:
        await asyncio.to_thread(server.join)


@pytest.mark.fault("T20", "D1")
@pytest.mark.parametrize("trust", [False, None])
def test_no_option_turns_the_checks_off(trust: Any):
    with pytest.raises(ValueError, match="certificate checks off"):
        Client(KEY, ssl=trust)
