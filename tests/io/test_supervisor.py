"""The link supervisor: dialling, back-off, sending and final errors."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise
from typing import Any

import pytest

from qos_async import (
    AuthenticationError,
    ConnectError,
    DropOldest,
    LimitError,
    Limits,
    LinkState,
)
from qos_async._io.transport import DialError
from qos_async.testing.virtual import block
from tests.support.memory_transport import Network, Peer, opened, trade

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("delivery")]


def waits(net: Network) -> list[float]:
    return [later - earlier for earlier, later in pairwise(net.dialled_at)]


# Back-off


async def test_waits_double_up_to_their_maximum():
    net = Network(*[ConnectError("no")] * 12)
    async with opened(net) as client:
        with pytest.raises(ConnectError):
            await client.connect()
        await net.link()
    assert waits(net) == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.999])
async def test_each_wait_is_drawn_between_nothing_and_its_bound(chance):
    net = Network(*[ConnectError("no")] * 5)
    async with opened(net, jitter=chance) as client:
        with pytest.raises(ConnectError):
            await client.connect()
        await net.link()
    assert waits(net) == pytest.approx([chance * b for b in (0.5, 1, 2, 4, 8)])


@pytest.mark.fault("T12", "I14")
async def test_short_lived_links_back_off_further_and_further():
    net = Network()
    net.on_link = lambda peer: peer.end()
    async with opened(net) as client:
        asyncio.get_running_loop().call_later(
            3600, lambda: setattr(net, "on_link", None)
        )
        with pytest.raises(ConnectError):
            await client.connect()
        await asyncio.sleep(3700)
        assert client.state is LinkState.OPEN
    assert len(net.peers) < 75  # An hour at 60 s each, and a few quick ones before.


@pytest.mark.fault("T12")
async def test_a_short_lived_link_is_a_failed_attempt_too():
    net = Network()
    net.on_link = lambda peer: asyncio.get_running_loop().call_later(10, peer.end)
    async with opened(net) as client:
        await client.connect()
        await net.link(4)
    assert waits(net) == [10.5, 11, 12, 14]


@pytest.mark.fault("T12")
async def test_a_link_that_lived_long_enough_starts_over_from_the_shortest_wait():
    net = Network()
    lives = iter([10, 10, 60, 10])
    net.on_link = lambda peer: asyncio.get_running_loop().call_later(
        next(lives, 1000), peer.end
    )
    async with opened(net) as client:
        await client.connect()
        await net.link(4)
    assert waits(net) == [10.5, 11, 60.5, 11]


@pytest.mark.fault("T15", "T16")
async def test_retry_after_lengthens_the_wait():
    net = Network(DialError("busy", retry_after=30.0))
    async with opened(net) as client:
        with pytest.raises(ConnectError):
            await client.connect()
        await net.link()
    assert waits(net) == [30.0]


async def test_connecting_does_not_wait_for_the_back_off():
    net = Network(None, ConnectError("no"), ConnectError("no"), ConnectError("no"))
    async with opened(net, jitter=1.0) as client:
        await client.connect()
        net.peers[0].end()
        async for change in client.states():
            if change.state is LinkState.BACKOFF and len(net.dialled_at) == 4:
                break
        start = asyncio.get_running_loop().time()
        await client.connect()
        assert asyncio.get_running_loop().time() - start < 0.5


# Final errors


@pytest.mark.fault("T14")
async def test_a_rejected_key_is_not_retried():
    net = Network(AuthenticationError("refused"))
    async with opened(net) as client:
        with pytest.raises(AuthenticationError, match="refused"):
            await client.connect()
        await asyncio.sleep(3600)
    assert len(net.dialled_at) == 1


@pytest.mark.fault("T18")
async def test_a_redirect_is_not_retried():
    net = Network(DialError("moved", is_permanent=True))
    async with opened(net) as client:
        with pytest.raises(ConnectError, match="moved"):
            await client.connect()
        await asyncio.sleep(3600)
        assert client.state is LinkState.CLOSED
    assert len(net.dialled_at) == 1


@pytest.mark.fault("T14")
async def test_a_rejected_upgrade_is_retried_while_a_dead_link_may_hold_the_slot():
    no = AuthenticationError("refused the websocket (HTTP 403)")
    net = Network(None, no, no, no)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].end()
        (await net.link(1)).push(trade(1))
        assert (await anext(trades)).price == 1


@pytest.mark.fault("T14", "P24", "T18")
@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (AuthenticationError("refused"), AuthenticationError),
        (DialError("the server redirects", is_permanent=True), ConnectError),
    ],
)
async def test_a_rejected_upgrade_that_lasts_is_final(refusal: Any, error: Any):
    net = Network(None, *[refusal] * 100)
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        start = asyncio.get_running_loop().time()
        net.peers[0].end()
        with pytest.raises(error):
            await anext(trades)
        assert 120 <= asyncio.get_running_loop().time() - start <= 240


def evicting(code: int | None):
    def on_link(peer: Peer) -> None:
        asyncio.get_running_loop().call_later(5, peer.end, code)

    return on_link


@pytest.mark.fault("P23")
async def test_two_clients_that_close_each_others_links_end_with_a_limit_error():
    net = Network()
    net.on_link = evicting(1000)
    async with opened(net) as client:
        trades = client.watch_trades("US:AAPL")
        with pytest.raises(LimitError, match="another client"):
            await anext(trades)
        assert client.state is LinkState.CLOSED
    assert len(net.peers) == 5


@pytest.mark.fault("P23", "T6", "T7", "T9")
@pytest.mark.parametrize("code", [None, 1001, 1006, 1011, 1012, 1013])
async def test_ordinary_endings_are_no_evictions(code):
    net = Network()
    net.on_link = evicting(code)
    async with opened(net) as client:
        await client.connect()
        await net.link(20)


@pytest.mark.fault("P23")
async def test_evictions_are_ignored_if_the_plan_has_more_connections():
    net = Network()
    net.on_link = evicting(1000)
    limits = Limits(connections=2, command_interval=0.0)
    async with opened(net, limits=limits) as client:
        await client.connect()
        await net.link(20)


@pytest.mark.fault("P23")
async def test_evictions_far_apart_are_no_contention():
    net = Network()
    net.on_link = lambda peer: asyncio.get_running_loop().call_later(40, peer.end, 1000)
    async with opened(net) as client:
        await client.connect()
        await net.link(20)


@pytest.mark.fault("T6", "P23")
async def test_maintenance_without_a_code_is_no_contention(caplog):
    caplog.set_level(logging.ERROR)
    net = Network()
    net.on_link = lambda peer: peer.end(1005 if peer.number < 20 else None)
    async with opened(net) as client:
        with pytest.raises(ConnectError):
            await client.connect()
        await net.link(25)
        assert client.state is not LinkState.CLOSED


# The life of a link


@pytest.mark.fault("I3")
async def test_an_idle_link_is_kept_alive_by_heartbeats_for_hours():
    net = Network(latency=0.05)
    async with opened(net, limits=Limits()) as client:
        await client.connect()
        await asyncio.sleep(3600)
        beats = [frame["type"] for frame in net.peers[0].sent]
    assert len(net.peers) == 1
    assert set(beats) == {"H"}
    assert 3600 / 30 < len(beats) <= 3600 / 10


@pytest.mark.fault("P1", "T3")
async def test_a_silent_link_is_aborted_within_thirty_seconds():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL"):
        net.respond = lambda peer, frame: None if peer.number == 0 else "OK"
        start = asyncio.get_running_loop().time()
        peer = await net.link(1)
        assert asyncio.get_running_loop().time() - start < 30
        assert net.peers[0].closed_gracefully is False
        await peer.next_frame("T")


async def test_a_link_to_a_server_that_stops_reading_is_aborted():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        first = net.peers[0]
        first.stops_reading = True
        ticking = asyncio.create_task(tick_for_ever(first))
        await net.link(1)
        assert first.closed_gracefully is False
        net.peers[1].push(trade(7))
        while (await anext(trades)).price != 7:
            pass
        ticking.cancel()


async def tick_for_ever(peer: Peer) -> None:
    while True:
        peer.push(trade(1))
        await asyncio.sleep(1)


async def test_a_new_link_sends_at_once_although_a_send_hangs_on_the_old_one():
    net = Network()
    async with opened(net, jitter=0.0) as client, client.watch_trades("US:AAPL"):
        first = net.peers[0]
        first.stops_reading = True
        await asyncio.sleep(15.5)  # The heartbeat hangs.
        first.end()
        start = asyncio.get_running_loop().time()
        await (await net.link(1)).next_frame("T")
        assert asyncio.get_running_loop().time() - start < 1


async def test_a_link_that_the_server_ended_is_closed_gracefully():
    net = Network()
    async with opened(net) as client:
        await client.connect()
        net.peers[0].end(1001)
        await net.link(1)
        assert net.peers[0].closed_gracefully is True


async def test_a_stall_of_the_loop_does_not_end_the_link():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        for _ in range(20):
            await asyncio.sleep(3)
            net.peers[0].push(trade(1))
            block(60)
            assert (await anext(trades)).price == 1
    assert len(net.peers) == 1


@pytest.mark.fault("I4")
async def test_there_is_never_more_than_one_link_at_a_time():
    net = Network()

    def on_link(peer: Peer) -> None:
        assert net.open_peers == [peer]
        peer.close_delay = 2.0
        asyncio.get_running_loop().call_later(5, peer.end)

    net.on_link = on_link
    async with opened(net) as client:
        await client.connect()
        await net.link(10)


@pytest.mark.fault("P22", "I2")
async def test_frames_keep_the_plans_pace_over_reconnects():
    sent: list[float] = []

    def respond(peer: Peer, frame: dict[str, Any]) -> str:
        sent.append(asyncio.get_running_loop().time())
        return "OK"

    net = Network(respond=respond, latency=0.2)
    net.on_link = lambda peer: asyncio.get_running_loop().call_later(20, peer.end)
    async with opened(net, limits=Limits(), jitter=0.0) as client:
        client_loops = [
            client.watch_trades("US:AAPL"),
            client.watch_depth("HK:700"),
            client.watch_klines("CF:BTCUSDT", interval="1m"),
        ]
        await net.link(6)
        assert client_loops
    gaps = [later - earlier for earlier, later in pairwise(sent)]
    assert min(gaps) >= 1.0


# Received frames


async def test_garbage_is_skipped_counted_and_logged_once_a_minute(caplog):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        caplog.clear()
        for _ in range(90):
            net.peers[0].push(b"\xff{", b"", b"null", b'{"tp":"T","c":7}')
            await asyncio.sleep(1)
        net.peers[0].push(trade(1))
        assert (await anext(trades)).price == 1
        assert client.stats.unreadable >= 3 * 90
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert 1 <= len(warnings) <= 2
    assert len(net.peers) == 1


@pytest.mark.fault("P6")
async def test_errors_of_the_server_do_not_flood_the_log(caplog):
    net = Network()
    async with opened(net) as client:
        await client.connect()
        caplog.clear()
        for _ in range(100):
            net.peers[0].push({"msg": "please be patient"})
            await asyncio.sleep(0.1)
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1


@pytest.mark.fault("P16", "I17")
async def test_an_idle_reader_is_not_starved_by_a_burst_of_buffered_frames():
    net = Network()
    async with opened(net) as client:  # noqa: SIM117
        async with client.watch_trades("US:AAPL", buffer=DropOldest(200)) as trades:
            net.peers[0].push(*[trade(i) for i in range(20_000)])
            async for tick in trades:
                if tick.price == 19_999:
                    break
            assert trades.stats.dropped == 0
            assert trades.stats.delivered == 20_000
