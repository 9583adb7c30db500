"""The network in memory does what it says, and what a real one does."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from qos_async import Client, Gap, QosError
from qos_async.sim import Simulator
from qos_async.testing.virtual import Connection, Deadlock, Horizon, SimLoop, simulate
from tests.support.memory_transport import KEY

START = 1_741_958_430.0
PORT = 80


class Ear(asyncio.Protocol):
    """Writes down what its transport tells it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.told: list[str] = []
        self.times: list[float] = []
        self.transport: Any = None
        self.on_data: Callable[[str], object] = str

    @property
    def heard(self) -> bytes:
        return b"".join(self.chunks)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.on_data(data.decode())
        self.times.append(asyncio.get_running_loop().time())

    def eof_received(self) -> None:
        self.told.append("eof")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost" if exc is None else type(exc).__name__)


def the_loop() -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


def between(
    scenario: Callable[[Ear, Ear, Connection], Awaitable[None]],
    *,
    before: Callable[[SimLoop], None] = lambda _: None,
) -> None:
    """Run with a connection: client, server, and the connection itself."""

    async def main() -> None:
        loop = the_loop()
        before(loop)
        server, ear = Ear(), Ear()
        listener = await loop.create_server(lambda: server, "127.0.0.1", PORT)
        await loop.create_connection(lambda: ear, "127.0.0.1", PORT)
        await asyncio.sleep(1.0)
        await scenario(ear, server, loop.net.connections[0])
        ear.transport.abort()
        listener.close()

    simulate(main)


def test_bytes_arrive_whole_and_in_order() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        sent = b"".join(b"%d," % n for n in range(500))
        for number in range(500):
            client.transport.write(b"%d," % number)
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(1.0)
        assert server.heard == sent
        assert link.up.passed == len(sent)
        assert link.down.passed == 0

    between(scenario)


def test_a_latency_is_drawn_from_its_range() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        written = []
        for _ in range(20):
            written.append(the_loop().time())
            client.transport.write(b"x")
            await asyncio.sleep(5.0)
        late = [at - sent for at, sent in zip(server.times, written, strict=True)]
        assert all(0.5 <= seconds <= 2.0 for seconds in late)
        assert max(late) - min(late) > 0.5

    def before(loop: SimLoop) -> None:
        loop.net.latency = (0.5, 2.0)

    between(scenario, before=before)


def test_slices_are_as_small_as_asked_and_lose_nothing() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        the_loop().net.slice = 1
        client.transport.write(b"one by one")
        await asyncio.sleep(1.0)
        assert server.chunks == [bytes([byte]) for byte in b"one by one"]
        the_loop().net.slice = 4
        server.transport.write(b"x" * 400)
        await asyncio.sleep(1.0)
        assert client.heard == b"x" * 400
        assert {len(chunk) for chunk in client.chunks} == {1, 2, 3, 4}

    between(scenario)


def test_merged_writes_arrive_as_one() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        the_loop().net.merge = 10.0
        for _ in range(5):
            client.transport.write(b"abc")
            await asyncio.sleep(0.5)
        await asyncio.sleep(10.0)
        assert server.chunks == [b"abc" * 5]
        assert server.times == [10.0]

    between(scenario)


@pytest.mark.parametrize("count", [0, 1, 7, 9])
def test_a_cut_comes_after_exactly_so_many_bytes(count: int) -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        link.up.cut_after = count
        client.transport.write(b"0123")
        client.transport.write(b"456789")
        await asyncio.sleep(1.0)
        assert server.heard == b"0123456789"[:count]
        assert server.told == client.told == ["ConnectionResetError"]

    between(scenario)


def test_a_silent_end_is_an_end_of_file_for_both() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        link.down.cut_after, link.down.cut_how = 3, "end"
        server.transport.write(b"abcdef")
        await asyncio.sleep(1.0)
        assert client.heard == b"abc"
        assert client.told == server.told == ["eof", "lost"]

    between(scenario)


def test_a_black_hole_tells_nobody_anything() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        link.up.cut_after, link.up.cut_how = 3, "blackhole"
        client.transport.write(b"abcdef")
        server.transport.write(b"nor back")
        await asyncio.sleep(5000.0)
        assert (server.heard, client.heard) == (b"abc", b"")
        assert client.told == server.told == []

    between(scenario)


def test_a_black_hole_that_heals_has_lost_nothing() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        link.blackhole()
        client.transport.write(b"late, ")
        client.transport.close()
        await asyncio.sleep(100.0)
        assert client.told == ["lost"]
        assert server.heard == b""
        link.restore()
        await asyncio.sleep(1.0)
        assert server.heard == b"late, "
        assert server.told == ["eof", "lost"]

    between(scenario)


def test_one_direction_can_be_a_black_hole_alone() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        link.up.blackhole()
        client.transport.write(b"unheard")
        server.transport.write(b"heard")
        await asyncio.sleep(10.0)
        assert (server.heard, client.heard) == (b"", b"heard")

    between(scenario)


def test_a_reader_that_pauses_holds_the_writer_up() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        server.transport.pause_reading()
        sent = 0
        while "pause" not in client.told:
            client.transport.write(bytes(10_000))
            sent += 10_000
            await asyncio.sleep(0.1)
        assert sent > 256 * 1024
        assert client.transport.get_write_buffer_size() > 64 * 1024
        await asyncio.sleep(10.0)
        assert server.heard == b""
        server.transport.resume_reading()
        await asyncio.sleep(1.0)
        assert len(server.heard) == sent
        assert client.told == ["pause", "resume"]

    between(scenario)


def test_close_waits_for_what_is_unsent_and_abort_does_not() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        server.transport.pause_reading()
        client.transport.write(bytes(400_000))
        client.transport.close()
        await asyncio.sleep(1000.0)
        assert client.told == ["pause"]
        client.transport.abort()
        await asyncio.sleep(0)
        assert client.told == ["pause", "lost"]

    between(scenario)


def test_an_abort_is_an_end_of_file_unless_the_socket_was_told_not_to_linger() -> None:
    async def politely(client: Ear, server: Ear, link: Connection) -> None:
        server.transport.abort()
        await asyncio.sleep(1.0)
        assert client.told == ["eof", "lost"]

    async def rudely(client: Ear, server: Ear, link: Connection) -> None:
        plug = server.transport.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.transport.abort()
        await asyncio.sleep(1.0)
        assert client.told == ["ConnectionResetError"]

    between(politely)
    between(rudely)


def test_whoever_writes_to_a_closed_end_is_reset() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        link.down.blackhole()  # So that the server's goodbye does not arrive.
        server.transport.close()
        client.transport.write(b"anybody?")
        await asyncio.sleep(1.0)
        link.down.restore()
        await asyncio.sleep(1.0)
        client.transport.write(b"anybody?")
        await asyncio.sleep(1.0)
        assert server.heard == b""
        assert client.told == ["eof", "lost"]

    between(scenario)


def test_what_came_while_the_loop_stood_still_is_read_before_timers() -> None:
    async def scenario(client: Ear, server: Ear, link: Connection) -> None:
        loop = the_loop()
        order: list[str] = []
        loop.call_later(0.5, order.append, "timer")
        loop.net.latency = (50.0, 50.0)
        client.on_data = order.append
        server.transport.write(b"data")
        loop.block(60.0)
        await asyncio.sleep(0.1)
        assert order == ["data", "timer"]

    between(scenario)


@pytest.mark.parametrize("mode", ["refuse", "drop"])
def test_dials_are_refused_or_dropped_as_told(mode: Literal["refuse", "drop"]) -> None:
    async def main() -> None:
        loop = the_loop()
        async with Simulator(start=START, key=KEY) as sim:
            loop.net.syn[20_000] = mode
            with pytest.raises(QosError):
                await _fetch(sim)
            assert sim.requests == []
            waited = loop.time()
            assert (waited > 8.0) == (mode == "drop")
            loop.net.syn.clear()
            await _fetch(sim)

    simulate(main)


def test_names_are_looked_up_as_told() -> None:
    async def main() -> None:
        net = the_loop().net
        async with Simulator(start=START, key=KEY) as sim:
            for answer in (socket.gaierror(-2, "Name or service not known"), "hang"):
                net.dns["qos.test"] = answer
                with pytest.raises(QosError):
                    await _fetch(sim)
            assert sim.requests == []
            net.dns["qos.test"] = ["::1", "10.0.0.1"]
            net.syn["::1"] = "drop"
            await _fetch(sim)
            assert len(sim.requests) == 1

    simulate(main)


async def _fetch(sim: Simulator) -> None:
    url = sim.http_url.replace("127.0.0.1", "qos.test")
    async with Client(KEY, http_url=url, allow_insecure=True) as client:
        assert await client.fetch_snapshots("US:AAPL")


def watch(seed: int, seconds: float, **options: Any) -> tuple[str, int, int]:
    """Let a client watch the simulator; give the trace, the steps and the ticks."""

    async def main() -> tuple[str, int, int]:
        loop, ticks = the_loop(), 0
        options.setdefault("rate", 0.5)
        async with (
            Simulator(start=START, push_interval=0.5, key=KEY, **options) as sim,
            Client(KEY, http_url=sim.http_url, stream_url=sim.stream_url) as client,
            client.watch_trades("US:AAPL", "HK:700") as trades,
        ):
            async for _ in trades:
                ticks += 1
                if loop.time() > seconds:
                    break
            assert sim.violations == []
        return loop.trace, loop.steps, ticks

    return simulate(main, seed=seed)


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    first = watch(7, 120.0)
    assert watch(7, 120.0) == first
    assert watch(8, 120.0)[0] != first[0]


def test_an_hour_of_watching_costs_little() -> None:
    began = time.process_time()
    _, _, ticks = watch(1, 3600.0)
    assert ticks > 3000
    assert time.process_time() - began < 10.0


def test_a_cut_link_is_seen_by_the_real_client() -> None:
    async def main() -> None:
        async with (
            Simulator(start=START, rate=1.0, key=KEY) as sim,
            Client(KEY, http_url=sim.http_url, stream_url=sim.stream_url) as client,
            client.watch_trades("US:AAPL") as trades,
        ):
            await anext(trades)
            the_loop().net.connections[0].cut("reset")
            async for event in trades.events():
                if isinstance(event, Gap):
                    break
            await anext(trades)
            assert len(the_loop().net.connections) == 2

    simulate(main)


def test_simulate_fails_on_what_is_left_behind() -> None:
    async def forgets_a_task() -> None:
        main.append(asyncio.create_task(asyncio.sleep(100.0)))

    async def forgets_a_socket() -> None:
        await the_loop().create_server(Ear, "127.0.0.1", PORT)
        await the_loop().create_connection(Ear, "127.0.0.1", PORT)

    async def forgets_an_error() -> None:
        the_loop().call_soon(_fail)

    main: list[asyncio.Task[None]] = []
    for forgetful in (forgets_a_task, forgets_a_socket, forgets_an_error):
        with pytest.raises(AssertionError):
            simulate(forgetful)


def test_what_never_ends_is_an_error() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    async def goes_round() -> None:
        for _ in range(1000):
            await asyncio.sleep(1.0)

    with pytest.raises(Deadlock):
        simulate(waits)
    with pytest.raises(Horizon):
        simulate(goes_round, horizon=100.0)


def _fail() -> None:
    raise ValueError("on purpose")
