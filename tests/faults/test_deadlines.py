"""Replies shortly before, at, and shortly after a deadline."""

from __future__ import annotations

import asyncio

import pytest

from qos_async import LinkState
from qos_async.errors import ConnectError, RequestTimeoutError
from qos_async.testing.virtual import simulate
from tests.support.sweep import (
    OTHER,
    SYMBOL,
    TIMING,
    check_deliveries,
    check_no_violations,
    make_client,
    running_loop,
    serve,
    until,
)

MOMENT = 1e-3
moments = pytest.mark.parametrize("epsilon", [-MOMENT, 0.0, MOMENT])

# In one direction, so that the delay of a reply is exact.
LATENCY = 0.25
LATE = TIMING.request_timeout - 2 * LATENCY


@pytest.mark.fault("P3", "P4", "I5", "I6")
@pytest.mark.parametrize("epsilon", [-MOMENT, 0.0, MOMENT, 0.4])
def test_a_reply_around_the_deadline_settles_one_request_and_no_other(
    epsilon: float,
) -> None:
    async def main() -> None:
        net = running_loop().net
        net.latency = (LATENCY, LATENCY)
        async with serve(speed=0.0) as sim, make_client(sim) as client:
            expected = await client.fetch_snapshots(OTHER, via="stream")
            await asyncio.sleep(1.0)
            sim.delay_replies(LATE + epsilon, "RS", 1)
            began = running_loop().time()
            requested = asyncio.create_task(
                client.fetch_snapshots(SYMBOL, via="stream")
            )
            await asyncio.wait([requested])
            in_time = requested.exception() is None
            assert isinstance(requested.exception(), RequestTimeoutError | None)
            assert running_loop().time() - began <= TIMING.request_timeout + MOMENT
            assert await client.fetch_snapshots(OTHER, via="stream") == expected
            assert in_time or epsilon >= 0
            assert not in_time or epsilon <= 0
            assert client.stats.unmatched == (not in_time)
            assert len(net.connections) == 1
            check_no_violations(sim)

    simulate(main)


@pytest.mark.fault("P3", "P4", "I1")
@moments
def test_an_ack_around_the_deadline_leaves_client_and_server_consistent(
    epsilon: float,
) -> None:
    async def main() -> None:
        net = running_loop().net
        net.latency = (LATENCY, LATENCY)
        async with (
            serve() as sim,
            make_client(sim) as client,
            client.watch_trades(SYMBOL) as trades,
        ):
            events = [await anext(trades)]
            sim.delay_replies(LATE + epsilon, "D", 1)
            books = client.watch_depth(OTHER)
            adding = asyncio.create_task(books.add(OTHER))
            await asyncio.wait([adding])
            in_time = adding.exception() is None
            assert isinstance(adding.exception(), RequestTimeoutError | None)
            assert in_time or epsilon >= 0
            assert not in_time or epsilon <= 0
            assert (await anext(books)).symbol == OTHER
            await books.add(OTHER)
            await books.aclose()
            await until(lambda: sim.subscribed == {("T", SYMBOL, None)})
            async with client.watch_depth(OTHER) as books:
                assert (await anext(books)).symbol == OTHER
            events += [await anext(trades) for _ in range(trades.stats.backlog)]
            check_deliveries(events, sim)
            assert len(net.connections) == 1
            check_no_violations(sim)

    simulate(main)


@pytest.mark.fault("P1", "I2", "I3")
@moments
def test_a_heartbeat_reply_around_the_deadline_keeps_the_link(
    epsilon: float,
) -> None:
    async def main() -> None:
        net = running_loop().net
        net.latency = (LATENCY, LATENCY)
        async with (
            serve() as sim,
            make_client(sim) as client,
            client.watch_trades(SYMBOL) as trades,
        ):
            sim.delay_replies(LATE + epsilon, "H", None)
            events = [await anext(trades) for _ in range(60)]
            check_deliveries(events, sim)
            assert len(sim.received("H")) > 5
            assert len(net.connections) == 1
            check_no_violations(sim)

    simulate(main)


@pytest.mark.fault("T13", "U7", "I4", "I11")
@moments
def test_a_dial_around_its_deadline_succeeds_or_fails(epsilon: float) -> None:
    async def main() -> None:
        net = running_loop().net
        # A round trip for TCP and one for the upgrade.
        late = (TIMING.connect_timeout + epsilon) / 4
        async with (
            serve() as sim,
            make_client(sim, stream_url=sim.stream_url) as client,
        ):
            net.latency = (late, late)
            dialling = asyncio.create_task(client.connect())
            await asyncio.wait([dialling])
            assert isinstance(dialling.exception(), ConnectError | None)
            in_time = dialling.exception() is None
            assert in_time or epsilon >= 0
            assert not in_time or epsilon <= 0
            net.latency = (0.01, 0.02)
            # The server may not have noticed yet that the late dial was abandoned.
            await until(lambda: client.state is LinkState.OPEN)
            assert await client.fetch_snapshots(SYMBOL, via="stream")
            await asyncio.sleep(10.0)
            assert len(net.open_clients) == sim.connections == 1

    simulate(main)


@pytest.mark.fault("I5")
@moments
def test_an_http_response_around_the_deadline_is_used_or_requested_again(
    epsilon: float,
) -> None:
    async def main() -> None:
        net = running_loop().net
        late = (TIMING.request_timeout + epsilon) / 2
        async with serve(speed=0.0) as sim, make_client(sim) as client:
            expected = await client.fetch_snapshots(SYMBOL)
            net.latency = (late, late)
            request = asyncio.create_task(client.fetch_snapshots(SYMBOL))
            await asyncio.sleep(TIMING.request_timeout + 2 * MOMENT)
            net.latency = (0.01, 0.02)
            assert await request == expected
            requested = len(sim.requests) - 1
            assert requested == 1 or epsilon >= 0
            assert requested == 2 or epsilon <= 0
            assert len(net.open_clients) == 1

    simulate(main)
