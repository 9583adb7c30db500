"""Iterators over the states of the link."""

from __future__ import annotations

import asyncio
import gc

import pytest

from qos_async import ConnectError, LinkState, StateChange
from qos_async._core.link import LinkEvent
from qos_async._io.states import LinkStates
from tests.support.memory_transport import Network, opened

pytestmark = pytest.mark.virtual_time

S = LinkState


async def test_every_iterator_of_states_gets_every_change_from_its_start_on():
    states = LinkStates()
    early = states.watch()
    states.transition(LinkEvent.DIAL)
    late = states.watch()
    states.transition(LinkEvent.OPENED)
    states.transition(LinkEvent.STOP, "enough")
    assert [c.state async for c in early] == [S.CONNECTING, S.OPEN, S.CLOSED]
    assert [c async for c in late] == [
        StateChange(S.OPEN),
        StateChange(S.CLOSED, "enough"),
    ]


async def test_states_of_a_closed_link_end_at_once():
    states = LinkStates()
    states.transition(LinkEvent.STOP)
    assert [change async for change in states.watch()] == []


@pytest.mark.fault("U3")
async def test_a_dropped_iterator_collects_nothing():
    states = LinkStates()
    states.watch()
    gc.collect()
    assert not states._watchers


async def test_a_cancelled_wait_loses_no_change():
    states = LinkStates()
    changes = states.watch()
    waiting = asyncio.create_task(anext(changes))
    await asyncio.sleep(0)
    states.transition(LinkEvent.DIAL)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await anext(changes)).state is S.CONNECTING


async def test_the_states_of_a_client_have_reasons_attempts_and_waits():
    net = Network(ConnectError("nobody home"), None)
    async with opened(net) as client:
        changes: list[StateChange] = []

        async def listen() -> None:
            changes.extend([change async for change in client.states()])

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        assert client.state is S.IDLE
        with pytest.raises(ConnectError, match="nobody home"):
            await client.connect()
        await client.connect()
        assert client.stats.links == 1
        await client.aclose()
        await listening
    assert [change.state for change in changes] == [
        S.CONNECTING,
        S.BACKOFF,
        S.CONNECTING,
        S.OPEN,
        S.CLOSED,
    ]
    assert changes[1] == StateChange(S.BACKOFF, "nobody home", 1, 0.5)
    assert changes[-1].reason == "closed by the user"
