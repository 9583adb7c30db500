"""The network in memory behaves as documented, and as a real one."""

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


class Recorder(asyncio.Protocol):
    """Records the callbacks of its transport."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.calls: list[str] = []
        self.times: list[float] = []
        self.transport: Any = None
        self.on_data: Callable[[str], object] = str

    @property
    def received(self) -> bytes:
        return b"".join(self.chunks)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.on_data(data.decode())
        self.times.append(asyncio.get_running_loop().time())

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost" if exc is None else type(exc).__name__)


def the_loop() -> SimLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop


def run_scenario(
    scenario: Callable[[Recorder, Recorder, Connection], Awaitable[None]],
    *,
    before: Callable[[SimLoop], None] = lambda _: None,
) -> None:
    """Run a scenario with a client, a server and the connection between them."""

    async def main() -> None:
        loop = the_loop()
        before(loop)
        server, client = Recorder(), Recorder()
        listener = await loop.create_server(lambda: server, "127.0.0.1", PORT)
        await loop.create_connection(lambda: client, "127.0.0.1", PORT)
        await asyncio.sleep(1.0)
        await scenario(client, server, loop.net.connections[0])
        client.transport.abort()
        listener.close()

    simulate(main)


def test_bytes_arrive_whole_and_in_order() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        sent = b"".join(b"%d," % n for n in range(500))
        for number in range(500):
            client.transport.write(b"%d," % number)
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(1.0)
        assert server.received == sent
        assert link.up.passed == len(sent)
        assert link.down.passed == 0

    run_scenario(scenario)


def test_a_latency_is_drawn_from_its_range() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
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

    run_scenario(scenario, before=before)


def test_slices_have_the_given_size_and_lose_nothing() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        the_loop().net.slice = 1
        client.transport.write(b"one by one")
        await asyncio.sleep(1.0)
        assert server.chunks == [bytes([byte]) for byte in b"one by one"]
        the_loop().net.slice = 4
        server.transport.write(b"x" * 400)
        await asyncio.sleep(1.0)
        assert client.received == b"x" * 400
        assert {len(chunk) for chunk in client.chunks} == {1, 2, 3, 4}

    run_scenario(scenario)


def test_merged_writes_arrive_as_one() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        the_loop().net.merge = 10.0
        for _ in range(5):
            client.transport.write(b"abc")
            await asyncio.sleep(0.5)
        await asyncio.sleep(10.0)
        assert server.chunks == [b"abc" * 5]
        assert server.times == [10.0]

    run_scenario(scenario)


@pytest.mark.parametrize("count", [0, 1, 7, 9])
def test_a_cut_comes_after_exactly_so_many_bytes(count: int) -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        link.up.cut_after = count
        client.transport.write(b"0123")
        client.transport.write(b"456789")
        await asyncio.sleep(1.0)
        assert server.received == b"0123456789"[:count]
        assert server.calls == client.calls == ["ConnectionResetError"]

    run_scenario(scenario)


def test_a_cut_with_fin_is_an_end_of_file_for_both_ends() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        link.down.cut_after, link.down.cut_how = 3, "end"
        server.transport.write(b"abcdef")
        await asyncio.sleep(1.0)
        assert client.received == b"abc"
        assert client.calls == server.calls == ["eof", "lost"]

    run_scenario(scenario)


def test_neither_end_notices_a_black_hole() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        link.up.cut_after, link.up.cut_how = 3, "blackhole"
        client.transport.write(b"abcdef")
        server.transport.write(b"neither")
        await asyncio.sleep(5000.0)
        assert (server.received, client.received) == (b"abc", b"")
        assert client.calls == server.calls == []

    run_scenario(scenario)


def test_a_black_hole_that_ends_has_lost_nothing() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        link.blackhole()
        client.transport.write(b"late, ")
        client.transport.close()
        await asyncio.sleep(100.0)
        assert client.calls == ["lost"]
        assert server.received == b""
        link.restore()
        await asyncio.sleep(1.0)
        assert server.received == b"late, "
        assert server.calls == ["eof", "lost"]

    run_scenario(scenario)


def test_a_single_direction_can_be_a_black_hole() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        link.up.blackhole()
        client.transport.write(b"held")
        server.transport.write(b"received")
        await asyncio.sleep(10.0)
        assert (server.received, client.received) == (b"", b"received")

    run_scenario(scenario)


def test_a_paused_reader_pauses_the_writer() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        server.transport.pause_reading()
        sent = 0
        while "pause" not in client.calls:
            client.transport.write(bytes(10_000))
            sent += 10_000
            await asyncio.sleep(0.1)
        assert sent > 256 * 1024
        assert client.transport.get_write_buffer_size() > 64 * 1024
        await asyncio.sleep(10.0)
        assert server.received == b""
        server.transport.resume_reading()
        await asyncio.sleep(1.0)
        assert len(server.received) == sent
        assert client.calls == ["pause", "resume"]

    run_scenario(scenario)


def test_close_waits_for_unsent_bytes_and_abort_does_not() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        server.transport.pause_reading()
        client.transport.write(bytes(400_000))
        client.transport.close()
        await asyncio.sleep(1000.0)
        assert client.calls == ["pause"]
        client.transport.abort()
        await asyncio.sleep(0)
        assert client.calls == ["pause", "lost"]

    run_scenario(scenario)


def test_an_abort_is_an_end_of_file_unless_the_socket_does_not_linger() -> None:
    async def lingering(client: Recorder, server: Recorder, link: Connection) -> None:
        server.transport.abort()
        await asyncio.sleep(1.0)
        assert client.calls == ["eof", "lost"]

    async def not_lingering(
        client: Recorder, server: Recorder, link: Connection
    ) -> None:
        sock = server.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.transport.abort()
        await asyncio.sleep(1.0)
        assert client.calls == ["ConnectionResetError"]

    run_scenario(lingering)
    run_scenario(not_lingering)


def test_writing_to_a_closed_end_resets_the_connection() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        link.down.blackhole()  # Holds the server's FIN back.
        server.transport.close()
        client.transport.write(b"data")
        await asyncio.sleep(1.0)
        link.down.restore()
        await asyncio.sleep(1.0)
        client.transport.write(b"data")
        await asyncio.sleep(1.0)
        assert server.received == b""
        assert client.calls == ["eof", "lost"]

    run_scenario(scenario)


def test_bytes_that_arrived_while_the_loop_was_blocked_are_read_before_timers() -> None:
    async def scenario(client: Recorder, server: Recorder, link: Connection) -> None:
        loop = the_loop()
        order: list[str] = []
        loop.call_later(0.5, order.append, "timer")
        loop.net.latency = (50.0, 50.0)
        client.on_data = order.append
        server.transport.write(b"data")
        loop.block(60.0)
        await asyncio.sleep(0.1)
        assert order == ["data", "timer"]

    run_scenario(scenario)


@pytest.mark.parametrize("mode", ["refuse", "drop"])
def test_dials_can_be_refused_or_dropped(mode: Literal["refuse", "drop"]) -> None:
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


def test_names_resolve_as_configured() -> None:
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


def receive_ticks(seed: int, seconds: float, **options: Any) -> tuple[str, int, int]:
    """Receive ticks for a while; return the trace, the steps and the number of ticks."""

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
    first = receive_ticks(7, 120.0)
    assert receive_ticks(7, 120.0) == first
    assert receive_ticks(8, 120.0)[0] != first[0]


def test_an_hour_of_pushes_takes_little_cpu_time() -> None:
    began = time.process_time()
    _, _, ticks = receive_ticks(1, 3600.0)
    assert ticks > 3000
    assert time.process_time() - began < 10.0


def test_the_client_notices_a_cut_link() -> None:
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
    async def leaves_a_task() -> None:
        main.append(asyncio.create_task(asyncio.sleep(100.0)))

    async def leaves_a_socket() -> None:
        await the_loop().create_server(Recorder, "127.0.0.1", PORT)
        await the_loop().create_connection(Recorder, "127.0.0.1", PORT)

    async def leaves_an_error() -> None:
        the_loop().call_soon(_fail)

    main: list[asyncio.Task[None]] = []
    for leaving in (leaves_a_task, leaves_a_socket, leaves_an_error):
        with pytest.raises(AssertionError):
            simulate(leaving)


def test_a_test_that_never_ends_is_an_error() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    async def never_ends() -> None:
        for _ in range(1000):
            await asyncio.sleep(1.0)

    with pytest.raises(Deadlock):
        simulate(waits)
    with pytest.raises(Horizon):
        simulate(never_ends, horizon=100.0)


def _fail() -> None:
    raise ValueError("on purpose")
