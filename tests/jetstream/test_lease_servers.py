"""Leases on real servers and real processes."""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from qos_async.jetstream.api import last_message
from qos_async.jetstream.lease import Lease, claim_epoch, ensure_leases
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.wire import Wire
from tests.support.markdown import ROOT
from tests.support.nats_servers import NatsCluster, NatsServer

# Writes a line when it acquires the lease, and one each time that it looks while it
# holds it, with the time of the clock that all processes of a machine share.
HOLDER = """
import asyncio, sys, time
from qos_async.jetstream.lease import Lease
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.wire import Wire

async def look(lease):
    while True:
        if lease.is_held:
            print("held", time.monotonic(), flush=True)
        await asyncio.sleep(0.01)

async def main(url, stream, seconds):
    async with Wire(parse_place(f"{url}/{stream}", {})) as wire:
        await wire.connect()
        lease = Lease(wire, stream, "main", seconds=float(seconds))
        looking = asyncio.create_task(look(lease))
        while True:
            await lease.acquire()
            print("acquired", time.monotonic(), flush=True)
            found = await lease.keep()
            print("lost", time.monotonic(), found.token, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


class HolderProcess:
    """A process that holds the lease or waits for it.

    Attributes:
        lines: What it wrote: a word and a time.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[tuple[str, float]] = []
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if not line.endswith(b"\n"):  # It was killed while it wrote.
                break
            word, at, *_ = line.decode().split()
            self.lines.append((word, float(at)))

    def has(self, word: str) -> bool:
        return any(found == word for found, _ in self.lines)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        await self.process.wait()
        await self._task


@asynccontextmanager
async def holders(
    url: str, stream: str, seconds: float, count: int
) -> AsyncGenerator[list[HolderProcess]]:
    made: list[HolderProcess] = []
    try:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", HOLDER, url, stream, str(seconds)),
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
            )
            made.append(HolderProcess(process))
        yield made
    finally:
        for one in made:
            await one.end()


async def in_order(found: list[HolderProcess]) -> list[HolderProcess]:
    """Wait until one has the lease; return it before the other."""
    await until(lambda: any(one.has("held") for one in found))
    return sorted(found, key=lambda one: not one.has("held"))


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - lines of processes, without an event
            await asyncio.sleep(0.01)


def lease_of(wire: Wire, stream: str, seconds: float, *, is_new: bool = False) -> Lease:
    return Lease(wire, stream, "main", seconds=seconds, is_new=is_new)


@asynccontextmanager
async def connected(url: str, stream: str) -> AsyncGenerator[Wire]:
    async with Wire(parse_place(f"{url}/{stream}", {}), connect_timeout=1) as wire:
        await wire.connect()
        yield wire


@pytest.mark.fault("N8")
async def test_a_released_lease_goes_to_the_standby(node: NatsServer, stream_name: str):
    async with (
        connected(node.url, stream_name) as wire,
        connected(node.url, stream_name) as other,
    ):
        assert await ensure_leases(wire, stream_name)
        assert not await ensure_leases(other, stream_name)
        first = lease_of(wire, stream_name, 5, is_new=True)
        second = lease_of(other, stream_name, 5)
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.3)
        assert first.is_held
        assert not waiting.done()
        await first.release()
        async with asyncio.timeout(4):  # Less than the lease lasts.
            await waiting
        assert not first.is_held
        assert second.is_held
        holder = second.holder
        assert holder is not None
        assert holder.token == second.token


@pytest.mark.fault("N8")
async def test_a_killed_process_loses_its_lease_to_the_standby(
    node: NatsServer, stream_name: str
):
    async with connected(node.url, stream_name) as wire:
        await ensure_leases(wire, stream_name)
    async with holders(node.url, stream_name, 1.0, 2) as both:
        first, second = await in_order(both)
        first.process.kill()
        await until(lambda: second.has("held"))
    check_never_two([first, second])


def check_never_two(found: list[HolderProcess]) -> None:
    """Check that no process looked and held it while another one did."""
    looks = sorted(
        (at, number)
        for number, one in enumerate(found)
        for word, at in one.lines
        if word == "held"
    )
    assert looks
    turns = [number for _, number in looks]
    changes = sum(a != b for a, b in itertools.pairwise(turns))
    acquired = sum(word == "acquired" for one in found for word, _ in one.lines)
    assert changes < acquired, "two processes held it in turn without acquiring it"


@pytest.mark.fault("N9")
async def test_a_stopped_process_that_goes_on_does_not_hold_it(
    node: NatsServer, stream_name: str
):
    async with connected(node.url, stream_name) as wire:
        await ensure_leases(wire, stream_name)
    async with holders(node.url, stream_name, 1.0, 2) as both:
        first, second = await in_order(both)
        first.process.send_signal(signal.SIGSTOP)
        await until(lambda: second.has("acquired"))
        await asyncio.sleep(0.5)
        first.process.send_signal(signal.SIGCONT)
        await until(lambda: first.has("lost"))
        await asyncio.sleep(0.3)
    check_never_two([first, second])
    taken = next(at for word, at in second.lines if word == "acquired")
    assert not [at for word, at in first.lines if word == "held" and at > taken]


@pytest.mark.fault("N10")
@pytest.mark.slow
async def test_no_lease_moves_when_the_leader_of_three_is_killed(
    cluster: NatsCluster, stream_name: str
):
    async with (
        connected(cluster.url, stream_name) as wire,
        connected(cluster.url, stream_name) as other,
    ):
        await ensure_leases(wire, stream_name, replicas=3)
        first = lease_of(wire, stream_name, 2.5, is_new=True)
        second = lease_of(other, stream_name, 2.5)
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(1)
        leader = await asyncio.to_thread(cluster.leader, f"KV_{stream_name}-lease")
        renewals = first.renewals
        await asyncio.to_thread(leader.kill)
        await until(lambda: first.renewals >= renewals + 2, 40)
        await asyncio.sleep(4)
        assert first.is_held
        assert not keeping.done()
        assert not waiting.done()
        for task in (keeping, waiting):
            task.cancel()
        await asyncio.gather(keeping, waiting, return_exceptions=True)


@pytest.mark.fault("N11")
async def test_the_server_refuses_what_an_older_epoch_sends(
    node: NatsServer, stream_name: str
):
    async with connected(node.url, stream_name) as wire:
        await ensure_stream(wire, stream_name, StreamOptions(max_bytes=10_000_000))
        first = await claim_epoch(wire, stream_name, "main", "a")
        second = await claim_epoch(wire, stream_name, "main", "b")
        assert second.epoch > first.epoch
        subject = f"{stream_name}.T.US.AAPL"
        for fence, expected in ((first, b"10071"), (second, b'"seq":3')):
            headers = {
                "Nats-Expected-Last-Subject-Sequence": str(fence.sequence),
                "Nats-Expected-Last-Subject-Sequence-Subject": (
                    f"{stream_name}.fence.main"
                ),
            }
            reply = await wire.request(subject, b"x", headers=headers)
            assert expected in reply.data
        found = await last_message(wire, stream_name, f"{stream_name}.fence.main")
        assert found is not None
        assert found.sequence == second.sequence
