"""Names that do not resolve, addresses that lead nowhere, and those that change."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from qos_async import Client, ConnectError, LinkState
from qos_async.sim import Simulator
from tests.faults.test_handshakes import CALM, HASTY, client_of
from tests.support.leak_check import assert_absent
from tests.support.memory_transport import KEY


class Names:
    """Replaces the loop's resolver: scripted results of each lookup."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.lookups: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        if not host.endswith(".example"):
            return [_info(host, port)]
        self.lookups.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return [_info(one, port) for one in answer]


def _info(host: str, port: int) -> tuple[Any, ...]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    where = (host, port, 0, 0) if ":" in host else (host, port)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where


@pytest.fixture
async def name(monkeypatch):
    """Set the results of the next lookups of a name; None means no result."""

    def answer(*answers: Any) -> Names:
        names = Names(*answers)
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", names.getaddrinfo)
        return names

    return answer


def client_at(sim: Simulator, host: str, **options: Any) -> Client:
    port = sim.http_url.rpartition(":")[2]
    return client_of(
        f"{host}:{port}",
        allow_insecure=True,
        limits=sim.plan,
        timing=options.pop("timing", CALM),
        **options,
    )


async def opens(client: Client) -> None:
    async with asyncio.timeout(20):
        while client.state is not LinkState.OPEN:  # noqa: ASYNC110 - short.
            await asyncio.sleep(0.005)


@pytest.mark.fault("T19")
async def test_a_name_that_does_not_resolve_is_reported_and_looked_up_again(name):
    failure = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    names = name(failure, failure, ["127.0.0.1"])
    async with Simulator(key=KEY) as sim, client_at(sim, "qos.example") as client:
        with pytest.raises(ConnectError, match=r"qos\.example.*not known") as caught:
            await client.connect()
        await opens(client)
        assert_absent(KEY, caught.value)
    assert names.lookups == ["qos.example"] * 3


@pytest.mark.fault("T19")
async def test_a_name_server_that_hangs_times_out_and_is_queried_again(name):
    names = name(None, None, ["127.0.0.1"])
    async with Simulator(key=KEY) as sim:
        async with client_at(sim, "qos.example", timing=HASTY) as client:
            with pytest.raises(ConnectError, match=r"within 0\.3 s"):
                await client.connect()
            await opens(client)
        assert len(names.lookups) >= 3


@pytest.mark.fault("T19")
async def test_an_http_request_times_out_with_a_name_server_that_hangs(name):
    name(None)
    async with client_of("qos.example", allow_insecure=True, timing=HASTY) as client:
        async with asyncio.timeout(20):
            with pytest.raises(ConnectError, match=r"within 0\.3 s"):
                await client.fetch_snapshots("US:AAPL")
        assert client.stats.http_requests == 4


@pytest.mark.fault("T24")
async def test_a_changed_address_is_used_by_the_next_attempt(name):
    names = name(["127.0.0.1"], ["127.0.0.3"], ["127.0.0.2"])
    old = Simulator(key=KEY)
    async with old:
        client = client_at(old, "qos.example")
        await client.connect()
        port = int(old.http_url.rpartition(":")[2])
    async with Simulator(key=KEY, host="127.0.0.2", port=port), client:
        await opens(client)
        assert [*await client.fetch_snapshots("US:AAPL")] == ["US:AAPL"]
    assert len(names.lookups) >= 4


@pytest.mark.fault("T23")
async def test_an_unreachable_address_does_not_delay_the_other(name, monkeypatch):
    name(["2001:db8::1", "127.0.0.1"])
    loop = asyncio.get_running_loop()
    connect, tried = loop.sock_connect, []

    async def reach(plug: socket.socket, where: Any) -> None:
        tried.append(where[0])
        if plug.family is socket.AF_INET6:
            await asyncio.Event().wait()
        await connect(plug, where)

    monkeypatch.setattr(loop, "sock_connect", reach)
    async with Simulator(key=KEY) as sim, client_at(sim, "qos.example") as client:
        start = loop.time()
        await client.connect()
        assert loop.time() - start < 10.0
        assert tried == ["2001:db8::1", "127.0.0.1"]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.fault("T23")
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_literal_ipv6_address_works_and_stands_in_brackets():
    async with Simulator(key=KEY, host="::1") as sim:
        assert "[::1]" in sim.http_url
        async with client_at(sim, "[::1]") as client:
            await client.connect()
            assert [*await client.fetch_snapshots("US:AAPL")] == ["US:AAPL"]


@pytest.mark.fault("T23")
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
async def test_a_name_with_nothing_but_an_ipv6_address_works(name):
    name(["::1"])
    async with (
        Simulator(key=KEY, host="::1") as sim,
        client_at(sim, "qos.example") as client,
    ):
        await client.connect()
