"""The gate before the dial: links are opened by permission, and closed without it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qos_async import ConnectError, LimitError, LinkState, StateChange
from qos_async._io.transport import DialError
from tests.support.memory_transport import Network, opened, trade

pytestmark = pytest.mark.virtual_time

S = LinkState


class Gate:
    """A recorder that permits links as a test says.

    Attributes:
        link: What controls the link; None before the first dial was asked for.
        asked: How often a dial was asked for.
        lost_reasons: Why links were lost.
    """

    def __init__(self, *, held: bool, conflict: float | None = None) -> None:
        self.link: Any = None
        self.asked = 0
        self.lost_reasons: list[str] = []
        self._conflict = conflict
        self._held = asyncio.Event()
        if held:
            self._held.set()

    def take(self) -> None:
        self._held.set()

    def lose(self, *, close: bool = True) -> None:
        self._held.clear()
        if close:
            self.link.revoke("another has the lease")

    async def before_dial(self, link: Any) -> None:
        self.link = link
        self.asked += 1
        if not self._held.is_set():
            link.hold("another has the lease")
            await self._held.wait()

    def may_keep(self) -> str:
        return "" if self._held.is_set() else "another has the lease"

    def conflict_wait(self) -> float | None:
        return self._conflict

    def _ignore(self, *args: Any, **more: Any) -> None:
        pass

    def lost(self, reason: str) -> None:
        self.lost_reasons.append(reason)

    attach = opened = frames = subscribed = unsubscribed = _ignore
    rejected = suspect = fetched = _ignore

    async def aclose(self) -> None:
        pass


@pytest.mark.fault("N36")
async def test_no_link_is_dialled_before_the_gate_permits_it():
    net, gate = Network(), Gate(held=False)
    async with opened(net, recorder=gate) as client:
        states = client.states()
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(3600)
        assert net.dialled_at == []
        assert not connecting.done()
        assert client.state is S.STANDBY
        gate.take()
        await connecting
        assert [await anext(states) for _ in range(3)] == [
            StateChange(S.STANDBY, "another has the lease"),
            StateChange(S.CONNECTING),
            StateChange(S.OPEN),
        ]


async def test_another_reason_to_wait_is_no_other_state():
    net, gate = Network(), Gate(held=False)
    async with opened(net, recorder=gate) as client:
        states = client.states()
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(1)
        gate.link.hold("a third has the lease")
        assert "a third has the lease" in client.report()
        gate.take()
        await connecting
        seen = [(await anext(states)).state for _ in range(3)]
        assert seen == [S.STANDBY, S.CONNECTING, S.OPEN]


async def test_a_gate_that_permits_links_costs_no_state():
    net, gate = Network(), Gate(held=True)
    async with opened(net, recorder=gate) as client:
        states = client.states()
        await client.connect()
        assert (await anext(states)).state is S.CONNECTING
    assert gate.asked == 1


@pytest.mark.fault("N36")
async def test_a_revoked_link_is_closed_at_once_and_dialled_when_permitted_again():
    net, gate = Network(), Gate(held=True)
    async with opened(net, recorder=gate) as client:
        trades = client.watch_trades("US:AAPL")
        await trades.ready()
        peer = await net.link()
        states = client.states()
        gate.lose()
        assert (await anext(states)).reason == "another has the lease"
        assert peer.closed_gracefully is False
        await asyncio.sleep(3600)
        assert client.state is S.STANDBY
        assert len(net.peers) == 1
        assert client.stats.reconnects_by_reason == {"lease": 1}
        gate.take()
        await net.until(lambda: len(net.peers) == 2 and net.peers[1].topics)
        net.peers[1].push(trade(7))
        assert (await anext(trades)).price == 7
        await trades.aclose()


@pytest.mark.fault("N36")
async def test_a_link_that_opens_after_permission_has_ended_is_closed():
    net, gate = Network(5.0), Gate(held=True)
    async with opened(net, recorder=gate) as client:
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(1)
        gate.lose()
        with pytest.raises(ConnectError, match="another has the lease"):
            await connecting
        await asyncio.sleep(60)
        assert [peer.closed_gracefully for peer in net.peers] == [False]
        assert client.state is S.STANDBY


async def test_a_client_that_stands_by_can_be_closed():
    async with opened(Network(), recorder=Gate(held=False)) as client:
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(1)
    assert client.state is S.CLOSED
    with pytest.raises(Exception, match="closed"):
        await connecting


def evict(peer: Any) -> None:
    """End each link as a service does that has another client of the same key."""
    asyncio.get_running_loop().call_later(1, peer.end, 1000, "another connection")


@pytest.mark.fault("N38")
async def test_a_stranger_on_the_key_ends_the_client_unless_the_gate_waits():
    net = Network()
    net.on_link = evict
    gate = Gate(held=True)
    async with opened(net, recorder=gate) as client:
        await client.connect()
        await asyncio.sleep(3600)
        assert client.state is S.CLOSED
        assert "another client seems to use the key" in gate.lost_reasons[-1]
        with pytest.raises(LimitError, match="another client seems to use"):
            await client.connect()


@pytest.mark.fault("N38")
@pytest.mark.parametrize("wait", [0.0, 900.0])
async def test_a_gate_may_have_the_link_dialled_again_after_a_conflict(wait):
    net = Network()
    net.on_link = evict
    gate = Gate(held=True, conflict=wait)
    async with opened(net, recorder=gate) as client:
        await client.connect()
        await net.link(5)
        conflicts = ["another client" in reason for reason in gate.lost_reasons]
        assert conflicts == [False] * 4 + [True]
        assert client.state is not S.CLOSED
        assert net.dialled_at[5] - net.dialled_at[4] >= wait


@pytest.mark.fault("N37")
async def test_a_standby_is_patient_with_the_dead_link_of_the_holder_before_it():
    refused = DialError("HTTP 403", is_permanent=True)
    net, gate = Network(*[refused] * 5), Gate(held=False)
    async with opened(net, recorder=gate) as client:
        trades = client.watch_trades("US:AAPL")
        ready = asyncio.create_task(trades.ready())
        await asyncio.sleep(1)
        gate.take()
        await ready
        assert len(net.dialled_at) == 6
        await trades.aclose()


async def test_a_client_that_never_stood_by_reports_a_refusal_at_once():
    net = Network(DialError("HTTP 403", is_permanent=True))
    async with opened(net, recorder=Gate(held=True)) as client:
        with pytest.raises(ConnectError, match="403"):
            await client.connect()
        assert client.state is S.CLOSED
