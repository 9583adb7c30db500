"""Event loops, threads, forks and signals."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from qos_async import Client, Limits, LinkState, Timing
from qos_async.sim import Simulator
from qos_async.testing.virtual import run
from tests.support.memory_transport import KEY, Network, opened, trade

ROOT = Path(__file__).parents[2]
PLAN = Limits(connections=9, command_interval=0.0, http_requests=1000, http_period=1.0)

HEAD = """
import asyncio, gc, os, sys, time
from qos_async import Client, Limits
LIMITS = Limits(
    connections=9, command_interval=0.0, http_requests=1000, http_period=1.0
)
"""


class Server:
    """A simulator in a thread of its own."""

    def __init__(self) -> None:
        self._ready, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Simulator:
        self._thread.start()
        assert self._ready.wait(10)
        return self.sim

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)

    async def _serve(self) -> None:
        async with Simulator(key=KEY, plan=PLAN, rate=50.0, history=10.0) as self.sim:
            self._ready.set()
            await asyncio.to_thread(self._over.wait)


@pytest.fixture(scope="module")
def sim() -> Generator[Simulator]:
    with Server() as sim:
        yield sim


def client_of(sim: Simulator, **options: Any) -> Client:
    return Client(
        KEY, http_url=sim.http_url, stream_url=sim.stream_url, limits=PLAN, **options
    )


def start(script: str, sim: Simulator, *options: str) -> subprocess.Popen[str]:
    """Run a program that uses a client of ``sim``."""
    settings = {
        "QOS_API_KEY": KEY,
        "QOS_HTTP_URL": sim.http_url,
        "QOS_STREAM_URL": sim.stream_url,
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, *options, "-c", HEAD + script],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """Wait for a program; return the lines of its stdout and stderr."""
    with process:
        out, err = process.communicate(timeout=60)
    return out.splitlines(), err


# The end of a program (U13, U15)

FORGETFUL = {
    "run ends": "asyncio.run(main())",
    "the loop is closed": """
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
""",
    "the loop is closed, and all is collected": """
loop = asyncio.new_event_loop()
kept = loop.run_until_complete(main())
loop.close()
del kept, loop
gc.collect()
""",
}

USE = """
async def main():
    client = Client(limits=LIMITS)
    await client.fetch_snapshots("US:AAPL")
    trades = client.watch_trades("US:AAPL")
    await anext(trades)
    return client, trades
"""


@pytest.mark.fault("U13", "U20", "I18")
@pytest.mark.parametrize("end", FORGETFUL)
def test_a_program_that_does_not_close_gets_one_warning_and_nothing_else(end, sim):
    loud = start(USE + FORGETFUL[end], sim, "-W", "always::ResourceWarning")
    calm = start(USE + FORGETFUL[end], sim)
    _, complaints = outcome(loud)
    assert complaints.count("ResourceWarning: Unclosed client") == 1, complaints
    for noise in ("Traceback", "Error", "never", "destroyed", "session", "connector"):
        assert noise not in complaints
    assert outcome(calm) == ([], "")
    assert loud.returncode == calm.returncode == 0


INTERRUPTED = """
async def main():
    global client
    async with Client(limits=LIMITS) as client, client.watch_trades("US:AAPL") as trades:
        async for trade in trades:
            if trades.stats.delivered == 3:
                print("reading", flush=True)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    gc.collect()
    print("interrupted", client.state)
"""


@pytest.mark.fault("U15", "I11")
def test_a_program_that_is_interrupted_closes_its_client(sim):
    process = start(INTERRUPTED, sim, "-W", "always")
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    lines, complaints = outcome(process)
    assert lines == ["interrupted closed"]
    assert complaints == ""
    assert time.monotonic() - began < 10


@pytest.mark.fault("U15", "U6", "U7")
@pytest.mark.virtual_time
@pytest.mark.parametrize("where", ["inside", "outside"])
async def test_a_failed_sibling_task_ends_a_client_within_the_close_timeout(where):
    net = Network()
    ends: list[float] = []

    async def watch() -> None:
        async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
            try:
                if where == "inside":
                    async with asyncio.TaskGroup() as group:
                        group.create_task(fail())
                        group.create_task(read(trades))
                else:
                    await read(trades)
            finally:
                net.peers[0].close_delay = 60.0
                began = asyncio.get_running_loop().time()
        ends.append(asyncio.get_running_loop().time() - began)

    async def read(trades: Any) -> None:
        async for _ in trades:
            pass

    async def fail() -> None:
        await asyncio.sleep(5)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            if where == "outside":
                group.create_task(fail())
    assert caught.value.split(ZeroDivisionError)[1] is None
    assert net.open_peers == []
    assert asyncio.get_running_loop().time() <= 5 + 60 + 1


# Other processes (U12)

FORKED = """
async def ended(work):
    try:
        async with asyncio.timeout(5):
            return await work()
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"

async def read(trades):
    async for _ in trades:
        pass

def child(client, trades):
    async def watch():
        client.watch_trades("US:AAPL")

    for work in (
        client.connect,
        lambda: client.fetch_snapshots("US:AAPL"),
        lambda: client.fetch_snapshots("US:AAPL", via="stream"),
        client.drain,
        watch,
        lambda: trades.add("US:TSLA"),
        lambda: trades.remove("US:AAPL"),
        lambda: read(trades),
        lambda: anext(client.states()),
        client.aclose,
        trades.aclose,
    ):
        print(asyncio.run(ended(work)), flush=True)
    try:
        watch().send(None)  # As code goes on that was forked inside of a coroutine.
    except RuntimeError as exc:
        print(exc, flush=True)

async def main():
    async with Client(limits=LIMITS) as client:
        async with client.watch_trades("US:AAPL") as trades:
            await anext(trades)
            pid = os.fork()
            if not pid:
                child(client, trades)
                del client, trades
                gc.collect()
                os._exit(0)
            async for _ in trades:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    break
            seen = trades.stats.received
            async for _ in trades:
                if trades.stats.received > seen + 20:
                    break
            await client.fetch_snapshots("US:AAPL", via="stream")
            print(client.stats.links, trades.stats.gaps)

asyncio.run(main())
"""


@pytest.mark.fault("U12")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_raises_and_does_not_affect_its_parent(sim):
    lines, complaints = outcome(start(FORKED, sim))
    message = "this client belongs to the process that was forked"
    assert complaints == ""
    assert len(lines) == 13
    for line in lines[:9]:
        assert line.startswith(f"RuntimeError: {message}")
        assert "make a new Client in the child" in line
    assert lines[9:11] == [
        "None",
        "None",
    ]  # Closing the client of another process is no error.
    assert lines[11].startswith(message)
    assert lines[12] == "1 0"


UNUSED = """
client = Client(limits=LIMITS)  # As a server does that forks its workers later.
pid = os.fork()
if pid:
    os.waitpid(pid, 0)

async def main():
    async with client:
        return len(await client.fetch_snapshots("US:AAPL"))

print(asyncio.run(main()), flush=True)
"""


@pytest.mark.fault("U12")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_client_that_was_not_used_before_the_fork_works_on_both_sides(sim):
    assert outcome(start(UNUSED, sim)) == (["1", "1"], "")


# Other loops and threads (U14)


@pytest.mark.fault("U14")
async def test_in_another_loop_every_call_raises_and_changes_nothing(sim):
    async with client_of(sim) as client, client.watch_trades("US:AAPL") as trades:
        await client.fetch_snapshots("US:AAPL")

        async def watch() -> None:
            client.watch_trades("US:TSLA")

        async def read(source: Any) -> None:
            async for _ in source:
                pass

        for work in (
            client.connect,
            client.aclose,
            client.drain,
            watch,
            trades.aclose,
            trades.__aenter__,
            lambda: trades.add("US:TSLA"),
            lambda: trades.remove("US:AAPL"),
            lambda: read(trades),
            lambda: read(trades.events()),
            lambda: read(trades.batches()),
            lambda: read(client.states()),
            lambda: client.fetch_snapshots("US:AAPL"),
            lambda: client.fetch_snapshots("US:AAPL", via="stream"),
            lambda: client.fetch_calendar("US"),
        ):

            async def use(work: Any = work) -> None:
                async with asyncio.timeout(5):
                    await work()

            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await asyncio.to_thread(asyncio.run, use())
        seen = trades.stats.received
        async with asyncio.timeout(5):
            while trades.stats.received < seen + 10:
                await anext(trades)
        assert client.state is LinkState.OPEN
        assert {topic.symbol for topic in trades.topics} == {"US:AAPL"}


@pytest.mark.fault("U14", "U13")
def test_when_its_loop_was_closed_a_client_can_still_be_closed_elsewhere(sim):
    async def begin() -> tuple[Client, Any]:
        client = client_of(sim)
        trades = client.watch_trades("US:AAPL")
        await anext(trades)
        return client, trades

    async def close(client: Client, trades: Any) -> None:
        async with asyncio.timeout(5):
            with pytest.raises(RuntimeError, match="another event loop"):
                await trades.add("US:TSLA")
            await trades.aclose()
            await client.aclose()
            await client.aclose()

    client, trades = asyncio.run(begin())
    asyncio.run(close(client, trades))
    assert client.state is LinkState.CLOSED


@pytest.mark.fault("U14")
@pytest.mark.parametrize("closed", [True, False])
def test_a_subscription_of_a_loop_that_has_ended_is_not_read_in_another(sim, closed):
    async def begin() -> tuple[Client, Any]:
        client = client_of(sim)
        trades = client.watch_trades("US:AAPL")
        await anext(trades)
        if closed:
            await client.aclose()
        return client, trades

    async def take(ticks: Any) -> None:
        while True:
            await anext(ticks)

    async def read(client: Client, trades: Any) -> None:
        for ticks in (
            trades,
            trades.events(),
            trades.events(stale=True),
            trades.batches(),
        ):
            with pytest.raises(RuntimeError, match="another event loop"):
                async for _ in ticks:
                    pass
            with pytest.raises(RuntimeError, match="another event loop"):
                await take(ticks)
        await client.aclose()

    asyncio.run(read(*asyncio.run(begin())))


@pytest.mark.fault("U14")
@pytest.mark.virtual_time
@pytest.mark.parametrize("how", ["ticks", "events", "batches"])
async def test_a_loop_may_drain_the_client_that_it_reads_from(how):
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        neighbour = asyncio.create_task(_prices(client.watch_trades("US:AAPL")))
        await asyncio.sleep(1)
        net.peers[0].push(*[trade(number) for number in range(5)])
        await asyncio.sleep(1)
        sources: dict[str, Any] = {
            "ticks": trades,
            "events": trades.events(),
            "batches": trades.batches(max_items=1),
        }
        got: list[Any] = []
        async for one in sources[how]:
            if not got:
                async with asyncio.timeout(60):
                    assert await client.drain() is False  # Four wait for this loop.
            got.append(one)
        assert len(got) == 5
        assert await neighbour == [0, 1, 2, 3, 4]
        assert await client.drain() is True


async def _prices(trades: Any) -> list[int]:
    return [int(tick.price) async for tick in trades]


# What asyncio holds by a thread only (U20)


def _collect() -> None:
    gc.collect(0)


@pytest.mark.fault("U20", "I18")
def test_no_task_of_the_client_is_garbage_at_any_step():
    async def use() -> None:
        net = Network()
        async with opened(net, timing=Timing()) as client:
            trades = client.watch_trades("US:AAPL")
            for number in range(3):
                peer = await net.link(number)
                await peer.next_frame("T")
                peer.push(trade(number))
                assert (await anext(trades)).price == number
                peer.end()

    run(use, on_step=lambda _: _collect())


@pytest.mark.fault("U17", "I16")
async def test_a_pooled_connection_keeps_no_reference_to_its_client(sim):
    async with client_of(sim) as client:
        request = asyncio.create_task(client.fetch_snapshots("US:AAPL"))
        await request
        asker = weakref.ref(request)
        del request
        await asyncio.sleep(0)
        gc.collect()
        assert asker() is None
