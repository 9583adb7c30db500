"""A dead TLS link is aborted at once, without a TLS shutdown."""

from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from qos_async import Client, Timing
from qos_async.sim import Simulator
from tests.support.chaos_proxy import ChaosProxy
from tests.support.memory_transport import KEY

TIMING = Timing(
    heartbeat=0.2,
    silence=0.5,
    request_timeout=0.3,
    connect_timeout=2.0,
    backoff_initial=0.02,
    backoff_max=0.1,
    close_timeout=0.2,
)


@pytest.mark.fault("T3", "T4", "I4", "I11")
async def test_a_silent_tls_link_leaves_no_socket_behind() -> None:
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with Simulator(key=KEY) as sim:
        port = int(sim.http_url.rpartition(":")[2])
        async with ChaosProxy(port, tls=serving) as tls, ChaosProxy(tls.port) as wire:
            client = Client(
                KEY,
                stream_url=f"wss://127.0.0.1:{wire.port}/ws",
                ssl=trusting,
                timing=TIMING,
            )
            await client.connect()
            assert (wire.accepted, wire.ended) == (1, 0)
            wire.to_client.timeout = wire.to_server.timeout = True
            await client.aclose()
            async with asyncio.timeout(5):  # A TLS shutdown would take 30 s.
                while not wire.ended:  # noqa: ASYNC110 - the proxy's own count.
                    await asyncio.sleep(0.005)
