"""The link is cut after each byte, both ways, in three ways; or it stalls, or crawls."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Literal

import pytest
from msgspec.structs import asdict

from qos_async import Gap, Limits, LinkState, Subscription, Trade
from qos_async.errors import QosError, RequestTimeoutError
from qos_async.sim import Simulator, Variants
from qos_async.testing.virtual import WALL, Connection, End, Pipe, simulate
from tests.support.sweep import (
    EFFORT,
    LIMITS,
    OTHER,
    SYMBOL,
    TIMING,
    check_deliveries,
    check_no_violations,
    make_client,
    points,
    running_loop,
    serve,
    until,
)

Way = Literal["up", "down"]
WATCHED = {("T", SYMBOL, None), ("K", OTHER, 1)}

# Bytes from the first one of a link to its first tick after a recovery, and some more.
REACH = {"up": 640, "down": 3600}
SPARSE = {"up": 15, "down": 60}
# Bytes of an HTTP request, and of its response.
ASKED = {"up": 240, "down": 680}

# All points take minutes, and no test should.
PARTS = 1 if EFFORT < 10 else 16

# A third of the points for each way to cut, so that they cover more together.
hows = pytest.mark.parametrize(
    ("how", "third"),
    [
        pytest.param("reset", 0, marks=pytest.mark.fault("T1")),
        pytest.param("end", 1, marks=pytest.mark.fault("T2")),
        pytest.param("blackhole", 2, marks=pytest.mark.fault("T3")),
    ],
)
ways = pytest.mark.parametrize("way", ["up", "down"])


def pipe_of(link: Connection, way: Way) -> Pipe:
    return link.up if way == "up" else link.down


def cut_next(way: Way, how: End, count: int) -> None:
    """Let the next connection end after some bytes one way."""
    net = running_loop().net

    def arm(link: Connection) -> None:
        pipe = pipe_of(link, way)
        pipe.cut_after, pipe.cut_how = count, how
        net.on_connect = None

    net.on_connect = arm


async def revived(
    sim: Simulator, trades: Subscription[Trade[Any]], links: int
) -> list[Any]:
    """Read until all is as it was, on the link with that number or a later one."""
    net, events = running_loop().net, list[Any]()
    async with asyncio.timeout(90.0):
        async for event in trades.events():
            events.append(event)
            fresh = isinstance(event, Trade) and not event.recovered
            if fresh and len(net.connections) >= links and sim.subscribed == WATCHED:
                return events
    raise AssertionError("the stream ended")


@pytest.mark.fault("I1", "I2", "I4", "I8", "I9", "I10", "I11", "I18")
@hows
@ways
@pytest.mark.parametrize("part", range(PARTS))
def test_a_link_cut_after_any_byte_is_replaced_and_reported_as_a_gap(
    way: Way, how: End, third: int, part: int
) -> None:
    async def main() -> None:
        net, every = running_loop().net, SPARSE[way]
        async with (
            serve() as sim,
            make_client(sim) as client,
            client.watch_klines(OTHER, interval="1m"),
            client.watch_trades(SYMBOL) as trades,
        ):
            events: list[Any] = [await anext(trades)]
            chosen = points(REACH[way], every=every, offset=third * every // 3)
            for count in chosen[part::PARTS]:
                cut_next(way, how, count)
                before = len(net.connections)
                net.connections[-1].cut("reset")
                received = await revived(sim, trades, before + 2)
                gaps = [event for event in received if isinstance(event, Gap)]
                assert gaps, f"cut after byte {count}, and no gap received"
                assert len(net.open_clients) == 1
                events += received
            check_deliveries(events, sim)
            check_no_violations(sim, lingering=how == "blackhole")

    simulate(main, seed=third, horizon=1e6)


@pytest.mark.fault("I1", "I11", "I18")
@hows
@ways
def test_the_very_first_link_may_be_cut_after_any_byte(
    way: Way, how: End, third: int
) -> None:
    async def main() -> None:
        async with serve() as sim:
            for count in points(330, every=30, offset=third * 10):
                cut_next(way, how, count)
                async with make_client(sim) as client:
                    trades = client.watch_trades(SYMBOL)
                    ticks = trades.events()
                    while True:
                        with contextlib.suppress(
                            RequestTimeoutError
                        ):  # As the document specifies.
                            await trades.add(SYMBOL)
                            break
                    async with trades:
                        check_deliveries([await anext(ticks) for _ in range(4)], sim)
                        await until(lambda: sim.subscribed == {("T", SYMBOL, None)})
                # The server may hold a dead link for as long as it waits for an H.
                await until(lambda: not sim.links)
            check_no_violations(sim, lingering=how == "blackhole")

    simulate(main, seed=third, horizon=1e6)


@pytest.mark.fault("I5", "I11", "I18")
@hows
@ways
def test_an_http_request_cut_at_any_byte_is_retried(
    way: Way, how: End, third: int
) -> None:
    async def main() -> None:
        net = running_loop().net
        async with serve(speed=0.0) as sim, make_client(sim) as client:
            expected = await client.fetch_snapshots(SYMBOL)
            for count in points(ASKED[way], every=24, offset=third * 8):
                pipe = pipe_of(net.connections[-1], way)
                pipe.cut_after, pipe.cut_how = pipe.passed + count, how
                assert await client.fetch_snapshots(SYMBOL) == expected
                if count < ASKED[way] - 40:
                    assert len(net.open_clients) == 1

    simulate(main, seed=third, horizon=1e6)


@pytest.mark.fault("T4", "I4", "I9", "I11")
def test_late_bytes_of_a_closed_link_are_not_delivered() -> None:
    async def main() -> None:
        net = running_loop().net
        lenient = Variants(no_heartbeat="ignore", second_connection="accept")
        async with (
            serve(variants=lenient) as sim,
            make_client(sim) as client,
            client.watch_klines(OTHER, interval="1m"),
            client.watch_trades(SYMBOL) as trades,
        ):
            events: list[Any] = [await anext(trades)]
            old = net.connections[-1]
            old.blackhole()
            events += await revived(sim, trades, len(net.connections) + 1)
            assert sim.connections == 2  # The server pushes to both.
            before = client.stats.frames_received
            at = running_loop().time()
            old.restore()
            while running_loop().time() < at + 5.0:
                events.append(await anext(trades))
            received_frames = client.stats.frames_received - before
            assert (
                received_frames
                <= sum(isinstance(event, Trade) for event in events) + 20
            )
            assert sim.connections == 1
            assert net.open_clients == [net.connections[-1].client]
            check_deliveries(events, sim)

    simulate(main)


@pytest.mark.fault("T3", "I8")
def test_the_gap_of_a_silent_link_begins_at_the_last_received_bytes() -> None:
    async def main() -> None:
        loop = running_loop()
        async with (
            serve() as sim,
            make_client(sim) as client,
            client.watch_trades(SYMBOL) as trades,
        ):
            await anext(trades)
            loop.net.connections[-1].blackhole()
            died = loop.time()
            gap = await _gap(trades)
            assert loop.time() - died < TIMING.silence + 10.0
            since = gap.since.timestamp() - WALL
            until = gap.until.timestamp() - WALL
            # Frames in flight at the time still arrived.
            assert died - 2.0 < since <= died + 0.1
            assert died + TIMING.silence < until < loop.time()

    simulate(main)


async def _gap(trades: Subscription[Trade[Any]]) -> Gap:
    async for event in trades.events():
        if isinstance(event, Gap):
            return event
    raise AssertionError("the stream ended")


@pytest.mark.fault("T5", "P3", "I5", "I11")
@pytest.mark.parametrize("window", [0, 100_000])
def test_a_server_that_reads_nothing_is_received_until_it_ends_the_link(
    window: int,
) -> None:
    async def main() -> None:
        loop = running_loop()
        async with (
            serve() as sim,
            make_client(sim) as client,
            client.watch_klines(OTHER, interval="1m"),
            client.watch_trades(SYMBOL) as trades,
        ):
            events: list[Any] = [await anext(trades)]
            link = loop.net.connections[-1]
            link.server.pause_reading()
            link.up.window = window
            at = loop.time()
            with pytest.raises(RequestTimeoutError):
                await client.fetch_snapshots(SYMBOL, via="stream")
            assert loop.time() - at <= TIMING.request_timeout + 0.1
            assert trades.stats.backlog > 0
            # It receives no heartbeat for 8 s, and closes the link.
            events += await revived(sim, trades, 2)
            assert loop.time() - at < 20.0
            assert [e.reason for e in events if isinstance(e, Gap)] != []
            await asyncio.sleep(2.0)
            assert len(loop.net.open_clients) == 1
            check_deliveries(events, sim)

    simulate(main)


@pytest.mark.fault("T5", "I5", "I11")
def test_a_frame_that_the_server_does_not_read_ends_the_link_in_time() -> None:
    symbols = [f"US:{number:020}" for number in range(20_000)]
    roomy = Limits(**{**asdict(LIMITS), "symbols": len(symbols)})

    async def main() -> None:
        loop = running_loop()
        async with (
            serve(plan=roomy, heartbeat_limit=60.0) as sim,
            make_client(sim, limits=roomy) as client,
            client.watch_klines(OTHER, interval="1m"),
            client.watch_trades(SYMBOL) as trades,
        ):
            events: list[Any] = [await anext(trades)]
            link = loop.net.connections[-1]
            link.server.pause_reading()
            link.up.window = 0
            at = loop.time()
            with pytest.raises(QosError):
                await client.fetch_trades(symbols, via="stream")
            assert loop.time() - at <= TIMING.request_timeout + 0.1
            await until(lambda: client.state is not LinkState.OPEN, within=5.0)
            link.server.resume_reading()
            link.up.window = 100_000
            events += await revived(sim, trades, 2)
            assert [e.reason for e in events if isinstance(e, Gap)][:1] == [
                "the server stopped reading"
            ]
            assert loop.net.open_clients == [loop.net.connections[-1].client]
            check_deliveries(events, sim)

    simulate(main)


@pytest.mark.fault("T25", "I9")
def test_results_do_not_depend_on_how_bytes_arrive() -> None:
    async def main() -> list[Any]:
        async with (
            serve(speed=0.0, heartbeat_limit=60.0, history=120.0) as sim,
            make_client(sim, timing=None) as client,
        ):
            return [
                await fetch(SYMBOL, OTHER, **more, via=via)
                for via in ("http", "stream")
                for fetch, more in (
                    (client.fetch_instruments, {}),
                    (client.fetch_snapshots, {}),
                    (client.fetch_depth, {}),
                    (client.fetch_trades, {"count": 20}),
                    (client.fetch_klines, {"interval": "1m", "count": 20}),
                )
            ]

    async def watch() -> None:
        async with (
            serve(heartbeat_limit=60.0) as sim,
            make_client(sim, timing=None) as client,
            client.watch_trades(SYMBOL) as trades,
        ):
            check_deliveries([await anext(trades) for _ in range(30)], sim)
            assert len(running_loop().net.connections) == 1
            check_no_violations(sim)

    shapes: list[dict[str, Any]] = [
        {},
        {"slice": 1},
        {"merge": 0.5},
        {"latency": (1.5, 1.5)},
        {"slice": 100, "latency": (0.0, 0.5)},
    ]
    results = []
    for shape in shapes:
        results.append(simulate(lambda: _shaped(shape, main())))  # noqa: B023
        simulate(lambda: _shaped(shape, watch()))  # noqa: B023
    assert all(result == results[0] for result in results[1:])


async def _shaped(shape: dict[str, Any], main: Any) -> Any:
    for name, value in shape.items():
        setattr(running_loop().net, name, value)
    return await main
