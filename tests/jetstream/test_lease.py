"""Leases: against a fake in virtual time, with every fault of a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qos_async.jetstream.errors import BrokerError
from qos_async.jetstream.lease import Lease, claim_epoch
from qos_async.testing.virtual import run
from tests.support.fake_jetstream import FakeJetStream, FakeWire

DRIFT = 0.005
SECONDS = 10.0


class Process:
    """A process that wants the lease for as long as it lives, and its own clock."""

    def __init__(self, server: FakeJetStream, chance: random.Random) -> None:
        self.wire = FakeWire(server, chance)
        self._offset = chance.uniform(-1e6, 1e6)
        self._rate = 1 + chance.uniform(-DRIFT, DRIFT)
        self.lease = Lease(self.wire, "QOS", "main", seconds=SECONDS, clock=self.now)
        self.acquired = 0
        self._task: asyncio.Task[None] | None = None

    def now(self) -> float:
        return self._offset + self._rate * asyncio.get_running_loop().time()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self.lease.acquire()
            self.acquired += 1
            await self.lease.keep()

    async def kill(self) -> None:
        """End it as with SIGKILL: it neither releases nor believes anything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.lease._give_up()


class World:
    """Three processes, a broker, and a check that at most one holds the lease."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.server = FakeJetStream()
        self.processes = [Process(self.server, self.chance) for _ in range(3)]
        self.processes[0].lease._is_new = True
        self.most = 0

    @property
    def holders(self) -> list[Process]:
        return [one for one in self.processes if one.lease.is_held]

    async def wait(self, seconds: float) -> None:
        """Let time pass, and look twenty times a second."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            self.most = max(self.most, len(self.holders))
            assert self.most <= 1, f"{len(self.holders)} holders at {loop.time()}"
            await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], object], seconds: float) -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not condition():
            assert loop.time() - began < seconds, "it takes too long"
            await self.wait(0.05)
        return loop.time() - began

    async def fault(self) -> None:
        """Let one fault happen, of those that clusters and machines have."""
        chance = self.chance
        match chance.randrange(6):
            case 0:  # No leader.
                self.server.reads = self.server.writes = False
            case 1:  # A leader without a quorum answers reads for up to 8 s.
                self.server.writes = False
                await self.wait(chance.uniform(0, 8))
                self.server.reads = False
            case 2:
                chance.choice(self.processes).wire.partitioned = True
            case 3:
                process = chance.choice(self.processes)
                await process.kill()
                process.start()
            case 4:
                for process in self.processes:
                    process.wire.faults = chance.uniform(0, 0.4)
            case _:
                for process in self.processes:
                    process.wire.longest_stop = 40.0

    def mend(self) -> None:
        self.server.recover()
        for process in self.processes:
            process.wire.partitioned = False
            process.wire.faults = process.wire.longest_stop = 0.0

    async def __aenter__(self) -> Self:
        for process in self.processes:
            process.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            await process.kill()
            await process.wire.settle()


def pair(server: FakeJetStream) -> tuple[Process, Process]:
    first, second = (Process(server, random.Random(n)) for n in range(2))
    first.lease._is_new = True
    return first, second


def in_world(test: Callable[[World], Awaitable[None]], seed: int = 1) -> None:
    async def main() -> None:
        async with World(seed) as world:
            await test(world)

    run(main)


@pytest.mark.fault("N9")
@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_there_are_never_two_holders_and_in_the_end_there_is_one(seed: int):
    async def test(world: World) -> None:
        for _ in range(6):
            await world.wait(world.chance.uniform(0, 15))
            await world.fault()
            await world.wait(world.chance.uniform(0, 30))
            if world.chance.random() < 0.6:
                world.mend()
        world.mend()
        await world.wait(90)
        assert len(world.holders) == 1

    in_world(test, seed)


@pytest.mark.fault("N8")
@pytest.mark.parametrize("seed", range(5))
def test_a_standby_takes_over_when_the_holder_was_killed(seed: int):
    async def test(world: World) -> None:
        await world.until(lambda: world.holders, 2)
        killed = world.holders[0]
        await world.wait(20)
        await killed.kill()
        took = await world.until(lambda: world.holders, 15)
        assert SECONDS * 0.75 < took < SECONDS + 1
        assert world.holders[0] is not killed

    in_world(test, seed)


@pytest.mark.fault("N8")
@pytest.mark.parametrize("seed", range(5))
def test_a_release_moves_the_lease_at_once(seed: int):
    async def test(world: World) -> None:
        await world.until(lambda: world.holders, 2)
        holder = world.holders[0]
        await world.wait(5)
        await holder.kill()
        holder.lease._revision = world.server.sequence  # It owned it until the release.
        await holder.lease.release()
        assert not holder.lease.is_owned
        assert await world.until(lambda: world.holders, 2) < 1

    in_world(test, seed)


@pytest.mark.fault("N10")
@pytest.mark.parametrize("absent", [3.0, 7.0, 13.0, 600.0])
@pytest.mark.parametrize("seed", range(3))
def test_an_election_or_an_absent_broker_moves_no_lease(absent: float, seed: int):
    async def test(world: World) -> None:
        await world.until(lambda: world.holders, 2)
        holder = world.holders[0]
        await world.wait(world.chance.uniform(3, 10))
        world.server.reads = world.server.writes = False
        await world.wait(absent)
        assert holder.lease.is_owned
        assert holder.lease.is_held == (absent < 8)
        world.server.recover()
        await world.wait(30)
        assert world.holders == [holder]
        assert [one.acquired for one in world.processes if one is not holder] == [0, 0]

    in_world(test, seed)


@pytest.mark.fault("N10")
@pytest.mark.parametrize("served", [1.0, 4.0, 7.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_leader_that_only_serves_reads_for_a_while_moves_no_lease(
    served: float, seed: int
):
    async def test(world: World) -> None:
        await world.until(lambda: world.holders, 2)
        holder = world.holders[0]
        await world.wait(world.chance.uniform(3, 10))
        world.server.writes = False
        await world.wait(served)
        world.server.reads = False
        await world.wait(world.chance.uniform(0.5, 20))
        world.server.recover()
        await world.wait(30)
        assert world.holders == [holder]
        assert sum(one.acquired for one in world.processes) == 1

    in_world(test, seed)


@pytest.mark.fault("N10")
def test_a_write_that_timed_out_is_adopted_as_its_own():
    async def test(world: World) -> None:
        await world.until(lambda: world.holders, 2)
        holder = world.holders[0]
        await world.wait(3)
        stored, world.server.loses = world.server.stored, 0.0
        world.server.writes = False
        await world.wait(4.5)
        world.server.recover()
        assert world.server.stored > stored  # One of those that timed out.
        await world.wait(5)
        assert world.holders == [holder]
        assert holder.lease._revision == world.server.sequence

    in_world(test)


@pytest.mark.fault("N9")
@pytest.mark.parametrize("stopped", [11.0, 100.0])
def test_a_holder_that_was_stopped_longer_than_its_lease_learns_who_has_it(
    stopped: float,
):
    async def main() -> None:
        server = FakeJetStream()
        first, second = pair(server)
        await first.lease.acquire()
        second.start()
        await asyncio.sleep(stopped + 5)  # The first one does nothing meanwhile.
        assert not first.lease.is_held
        assert first.lease.is_owned
        found = await first.lease.keep()
        assert found.token == second.lease.token
        assert not first.lease.is_owned
        assert second.lease.is_held
        await second.kill()

    run(main)


def test_a_standby_that_was_stopped_itself_takes_no_live_lease():
    async def main() -> None:
        server = FakeJetStream()
        first, second = pair(server)
        first.start()
        await asyncio.sleep(3)
        second.start()
        await asyncio.sleep(5)
        second.wire.longest_stop = 1000.0
        second.wire.chance = _Stops()
        await asyncio.sleep(2000)
        assert first.acquired == 1
        assert second.acquired == 0
        await first.kill()
        await second.kill()

    run(main)


class _Stops(random.Random):
    """Stops a process at each third chance."""

    def random(self) -> float:
        return 0.0 if super().random() < 0.3 else 0.5


@pytest.mark.fault("N9")
@pytest.mark.parametrize("seed", range(5))
def test_a_standby_that_was_stopped_while_the_broker_was_absent_begins_anew(seed: int):
    async def main() -> None:
        server = FakeJetStream()
        first, second = pair(server)
        go_on = asyncio.Event()
        go_on.set()
        second.wire.before_request = go_on.wait
        first.start()
        await asyncio.sleep(3 + seed / 3)
        second.start()
        await asyncio.sleep(5)
        go_on.clear()
        server.reads = server.writes = False
        server.loses = 1.0
        await asyncio.sleep(30)
        server.recover()
        go_on.set()
        await asyncio.sleep(30)
        assert first.lease.is_held
        assert second.acquired == 0
        await first.kill()
        await second.kill()

    run(main)


@pytest.mark.fault("N10")
@pytest.mark.parametrize("seed", range(5))
def test_time_in_which_reads_fail_now_and_then_does_not_count(seed: int):
    async def test(world: World) -> None:
        await world.until(lambda: world.holders, 2)
        holder = world.holders[0]
        await world.wait(world.chance.uniform(3, 10))
        holder.wire.partitioned = True
        for _ in range(8):
            world.server.reads = not world.server.reads
            await world.wait(2.5)
        assert sum(one.acquired for one in world.processes) == 1
        took = await world.until(lambda: world.holders, 15)
        assert took > 5

    in_world(test, seed)


@pytest.mark.fault("N9")
@pytest.mark.parametrize("seed", range(20))
def test_clocks_that_do_not_run_alike_make_no_second_holder(seed: int):
    async def test(world: World) -> None:
        for process in world.processes:
            process._rate = 1 + DRIFT
        await world.until(lambda: world.holders, 2)
        holder = world.holders[0]
        holder._rate = 1 - DRIFT
        await world.wait(world.chance.uniform(3, 10))
        holder.wire.partitioned = True
        await world.until(lambda: holder not in world.holders, 15)
        await world.until(lambda: world.holders, 15)

    in_world(test, seed)


def test_the_duration_in_the_record_counts_if_it_is_longer():
    async def main() -> None:
        server = FakeJetStream()
        first, second = pair(server)
        first.lease.seconds = 30.0
        await first.lease.acquire()
        began = asyncio.get_running_loop().time()
        second.lease.seconds = 2.0
        await second.lease.acquire()
        assert asyncio.get_running_loop().time() - began > 29

    run(main)


@pytest.mark.parametrize("data", [b"", b"\xff", b"{}", b'{"token":1}'])
def test_a_record_that_cannot_be_read_is_held_by_an_unknown_process(data: bytes):
    async def main() -> None:
        server = FakeJetStream()
        server.sequence, server.data = 5, data
        process = Process(server, random.Random(1))
        began = asyncio.get_running_loop().time()
        await process.lease.acquire()
        assert asyncio.get_running_loop().time() - began > SECONDS * 0.99

    run(main)


@pytest.mark.fault("N13")
def test_a_record_that_was_removed_is_written_again():
    async def test(world: World) -> None:
        await world.until(lambda: world.holders, 2)
        world.server.sequence = 0
        await world.wait(20)
        assert len(world.holders) == 1

    in_world(test)


@pytest.mark.fault("N13")
def test_a_release_that_a_store_set_back_shows_again_is_not_believed():
    async def test(world: World) -> None:
        await world.until(lambda: world.holders, 2)
        first = world.holders[0]
        await world.wait(4)
        await first.kill()
        first.lease._revision = world.server.sequence
        await first.lease.release()
        old = world.server.sequence, world.server.data
        await world.until(lambda: world.holders, 2)
        await world.wait(20)
        world.server.sequence, world.server.data = old
        await world.wait(20)
        assert len(world.holders) == 1

    in_world(test)


@pytest.mark.fault("N150")
def test_a_holder_that_was_cut_off_learns_that_another_had_the_lease():
    """And has released it: what that one recorded is between its own messages."""

    async def main() -> None:
        server = FakeJetStream()
        first, second = pair(server)
        first.lease.epoch, second.lease.epoch = 5, 9
        await first.lease.acquire()
        await second.lease.acquire()
        await second.lease.release()
        record = await first.lease.keep()
        assert (record.token, record.epoch) == ("", 9)
        assert not first.lease.is_owned
        await first.lease.acquire()
        assert first.lease.is_held

    run(main)


@pytest.mark.fault("N13")
def test_a_name_without_a_record_waits_for_a_holder_that_may_be_there():
    async def main() -> None:
        process = Process(FakeJetStream(), random.Random(1))
        began = asyncio.get_running_loop().time()
        await process.lease.acquire()
        assert asyncio.get_running_loop().time() - began > SECONDS * 0.99

    run(main)


def test_a_release_without_a_broker_ends():
    async def main() -> None:
        server = FakeJetStream()
        process = Process(server, random.Random(1))
        await process.lease.acquire()
        process.wire.partitioned = True
        began = asyncio.get_running_loop().time()
        await process.lease.release()
        assert asyncio.get_running_loop().time() - began < SECONDS
        assert not process.lease.is_held
        assert process.lease.failures
        assert "no reply" in process.lease.last_error

    run(main)


def test_its_repr_shows_its_state():
    async def main() -> None:
        process = Process(FakeJetStream(), random.Random(1))
        lease = process.lease
        assert repr(lease) == "<Lease $KV.QOS-lease.main: not held>"
        await lease.acquire()
        assert repr(lease).endswith(": held>")
        assert 9 < lease.confirmed_for <= SECONDS
        await asyncio.sleep(11)
        assert repr(lease).endswith(": unconfirmed>")

    run(main)


# Epochs


def test_epochs_grow_and_a_fence_that_timed_out_is_its_own():
    async def main() -> None:
        server = FakeJetStream()
        wire = FakeWire(server, random.Random(3))
        first = await claim_epoch(wire, "QOS", "main", "a")
        second = await claim_epoch(wire, "QOS", "main", "b")
        assert second.epoch > first.epoch
        wire.faults = 0.2
        epochs: list[int] = []
        for number in range(30):
            with contextlib.suppress(BrokerError):
                fence = await claim_epoch(wire, "QOS", "main", f"t{number}")
                epochs.append(fence.epoch)
        assert epochs == sorted(set(epochs))
        assert len(epochs) > 5
        await wire.settle()

    run(main)


@pytest.mark.fault("N11")
def test_a_process_without_the_lease_writes_no_fence():
    async def main() -> None:
        server = FakeJetStream()
        wire = FakeWire(server, random.Random(3))
        with pytest.raises(BrokerError, match="the lease of main is not held"):
            await claim_epoch(wire, "QOS", "main", "a", is_held=lambda: False)
        assert not server.stored

    run(main)
