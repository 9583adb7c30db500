"""The lease as the gate before the dial, with a lease in memory and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from qos_async.jetstream.gate import LinkGate, parse_conflict
from qos_async.jetstream.lease import LeaseRecord

pytestmark = pytest.mark.virtual_time

OTHER = LeaseRecord(token="b", seconds=10.0, host="second", pid=7)


class Lease:
    """A lease that a test gives and takes."""

    def __init__(self) -> None:
        self.holder: LeaseRecord | None = None
        self.last_error = ""
        self.is_owned = False
        self.until = 0.0
        self._changed = asyncio.Event()

    @property
    def is_held(self) -> bool:
        return self.confirmed_for > 0

    @property
    def confirmed_for(self) -> float:
        return self.until - asyncio.get_running_loop().time()

    def give(self, seconds: float = 10.0) -> None:
        """Have it acquired or renewed."""
        self.is_owned = True
        self.until = asyncio.get_running_loop().time() + seconds
        self._changed.set()

    def take(self) -> None:
        """Have another process take it."""
        self.is_owned, self.until, self.holder = False, 0.0, OTHER
        self._changed.set()

    async def acquire(self) -> None:
        while not self.is_owned:
            self._changed.clear()
            await self._changed.wait()

    async def keep(self) -> LeaseRecord:
        while self.is_owned:
            self._changed.clear()
            await self._changed.wait()
        return OTHER

    async def release(self) -> None:
        self.is_owned = False


class Link:
    """What a gate did with a link."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.revoked: list[str] = []

    def hold(self, reason: str) -> None:
        self.held.append(reason)

    def revoke(self, reason: str) -> None:
        self.revoked.append(reason)

    def inherit(self, outages: object) -> None:
        raise AssertionError("the gate inherits nothing")


@asynccontextmanager
async def running(
    lease: Lease | None, **options: Any
) -> AsyncIterator[tuple[LinkGate, Link]]:
    gate, link = LinkGate(lease, **options), Link()
    task = asyncio.create_task(gate.run())
    yield gate, link
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def dialled(gate: LinkGate, link: Link) -> Callable[[], bool]:
    """Ask for a dial; return whether it was permitted by now."""
    asking = asyncio.create_task(gate.before_dial(link))
    await asyncio.sleep(0)
    return asking.done


async def test_a_link_is_permitted_when_the_lease_is_taken():
    lease = Lease()
    lease.holder = OTHER
    async with running(lease) as (gate, link):
        is_permitted = await dialled(gate, link)
        await asyncio.sleep(3600)
        assert not is_permitted()
        assert link.held == [
            "waiting for the lease, which process 7 on second has",
        ]
        lease.give()
        await asyncio.sleep(0.2)
        assert is_permitted()
        assert gate.may_keep() == ""


async def test_why_a_link_waits_is_reported_anew_when_it_changes():
    lease = Lease()
    async with running(lease) as (gate, link):
        is_permitted = await dialled(gate, link)
        await asyncio.sleep(1)
        lease.holder = OTHER
        await asyncio.sleep(1)
        assert link.held == [
            "waiting for the lease: it is about to be taken",
            "waiting for the lease, which process 7 on second has",
        ]
        lease.give()
        await asyncio.sleep(0.2)
        assert is_permitted()


@pytest.mark.fault("N36")
async def test_a_lease_in_other_hands_closes_the_link_at_once():
    lease, lost = Lease(), list[bool]()
    async with running(lease, on_lost=lambda: lost.append(True)) as (gate, link):
        lease.give()
        await dialled(gate, link)
        await asyncio.sleep(1)
        lease.take()
        await asyncio.sleep(0.01)
        assert link.revoked == ["the lease was taken by process 7 on second"]
        assert lost == [True]
        assert gate.may_keep()
        is_permitted = await dialled(gate, link)
        await asyncio.sleep(60)
        assert not is_permitted()
        lease.give()
        await asyncio.sleep(0.2)
        assert is_permitted()


@pytest.mark.fault("N30")
async def test_without_a_broker_the_link_stays_and_no_new_one_is_dialled():
    lease = Lease()
    async with running(lease) as (gate, link):
        lease.give(10)
        await dialled(gate, link)
        lease.last_error = "no reply"
        await asyncio.sleep(60)
        assert link.revoked == []
        assert gate.may_keep() == ""
        is_permitted = await dialled(gate, link)
        await asyncio.sleep(60)
        assert not is_permitted()
        assert link.held == ["the lease cannot be renewed: no reply"]
        lease.give(10)
        await asyncio.sleep(0.2)
        assert is_permitted()


async def test_close_ends_the_link_when_the_lease_has_run_out():
    lease = Lease()
    async with running(lease, on_broker_loss="close") as (gate, link):
        lease.give(10)
        await dialled(gate, link)
        await asyncio.sleep(9.5)
        assert link.revoked == []
        await asyncio.sleep(1)
        assert len(link.revoked) == 1
        await asyncio.sleep(60)
        assert len(link.revoked) == 1


async def test_close_ends_a_link_without_a_lease_when_the_broker_is_away_for_long():
    connected = [True]
    options: dict[str, Any] = {"is_connected": lambda: connected[0]}
    async with running(None, on_broker_loss="close", **options) as (gate, link):
        assert (await dialled(gate, link))()
        await asyncio.sleep(60)
        connected[0] = False
        await asyncio.sleep(9)
        assert link.revoked == []
        await asyncio.sleep(2)
        assert link.revoked == ["the broker cannot be reached"]
        is_permitted = await dialled(gate, link)
        await asyncio.sleep(60)
        assert not is_permitted()
        connected[0] = True
        await asyncio.sleep(0.2)
        assert is_permitted()


async def test_without_a_lease_a_link_is_kept_whatever_the_broker_does():
    options: dict[str, Any] = {"is_connected": lambda: False}
    async with running(None, **options) as (gate, link):
        await asyncio.sleep(60)
        assert (await dialled(gate, link))()
        assert (link.held, link.revoked) == ([], [])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("yield", None),
        ("retake", 0.0),
        ("retake-after 15m", 900.0),
        ("retake-after 2h", 7200.0),
        ("retake-after 30s", 30.0),
    ],
)
def test_what_happens_at_a_conflict_is_read_from_text(text, seconds):
    assert parse_conflict(text) == seconds


@pytest.mark.parametrize("text", ["", "Yield", "retake-after", "retake-after 15", 5])
def test_another_text_is_refused_with_those_that_are_taken(text):
    with pytest.raises(ValueError, match='must be "yield", "retake" or "retake-after'):
        parse_conflict(text)
