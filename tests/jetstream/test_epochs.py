"""Epochs never decrease, whatever the sequences of a stream do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from qos_async.jetstream.lease import Lease, claim_epoch, ensure_leases, last_fence
from qos_async.jetstream.order import Ordering
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.pull import PulledMessage
from qos_async.jetstream.streams import StreamOptions, ensure_stream
from qos_async.jetstream.subjects import fence_subject
from qos_async.jetstream.wire import Wire
from tests.support.nats_servers import NatsServer

pytestmark = pytest.mark.fault("N122")


@pytest.fixture
async def wire(node: NatsServer, stream_name: str) -> AsyncGenerator[Wire]:
    async with Wire(parse_place(f"{node.url}/{stream_name}", {})) as made:
        await made.connect()
        await ensure_stream(made, stream_name, StreamOptions(max_bytes=10_000_000))
        yield made


async def test_a_new_epoch_is_above_all_that_are_known(wire: Wire, stream_name: str):
    high = 10**15
    first = await claim_epoch(wire, stream_name, "main", "a")
    second = await claim_epoch(wire, stream_name, "main", "b", known=high)
    assert first.epoch < high < second.epoch
    assert await last_fence(wire, stream_name, "main") == second
    assert (second.sequence, second.token) == (2, "b")
    third = await claim_epoch(wire, stream_name, "main", "c")
    assert third.epoch > second.epoch
    # Of other names nothing is known.
    assert (await claim_epoch(wire, stream_name, "other", "d")).epoch < high


@pytest.mark.fault("N98")
async def test_an_epoch_is_above_one_of_which_nothing_is_left(
    wire: Wire, stream_name: str
):
    """Its stream was set back, and no process of it runs any more."""
    before = await claim_epoch(wire, stream_name, "main", "a")
    await wire.request(f"$JS.API.STREAM.DELETE.{stream_name}", b"")
    await ensure_stream(wire, stream_name, StreamOptions(max_bytes=10_000_000))
    after = await claim_epoch(wire, stream_name, "main", "b")
    assert after.sequence == before.sequence
    assert after.epoch > before.epoch


async def test_an_epoch_of_which_the_fence_was_lost_is_begun_again(
    wire: Wire, stream_name: str
):
    fence = await claim_epoch(wire, stream_name, "main", "a", again=77)
    assert await last_fence(wire, stream_name, "main") == fence
    assert (fence.epoch, fence.sequence) == (77, 1)
    assert await last_fence(wire, stream_name, "other") is None


async def test_readers_take_the_epoch_of_a_fence_for_its_sequence(
    wire: Wire, stream_name: str
):
    await claim_epoch(wire, stream_name, "main", "a", again=77)
    subject = fence_subject(stream_name, "main")
    reply = await wire.request(
        f"$JS.API.DIRECT.GET.{stream_name}", b'{"last_by_subj":"%s"}' % subject.encode()
    )
    ordering = Ordering()
    assert not [*ordering.add(PulledMessage(1, subject, None, reply.data, 0))]
    headers = {"Qos-Entry": "1 main 76 0 - 1 1"}
    late = PulledMessage(2, f"{stream_name}.T.US.A", headers, b"{}", 0)
    assert not [*ordering.add(late)]
    assert ordering.superseded == 1


async def test_a_fence_that_cannot_be_read_counts_with_its_sequence(
    wire: Wire, stream_name: str
):
    await wire.request(fence_subject(stream_name, "main"), b"?")
    fence = await last_fence(wire, stream_name, "main")
    assert fence == (1, 1, "", 0)
    assert (await claim_epoch(wire, stream_name, "main", "a")).epoch > 1


async def test_a_standby_knows_the_epoch_of_the_holder_from_its_lease(
    wire: Wire, stream_name: str
):
    await ensure_leases(wire, stream_name)
    holder = Lease(wire, stream_name, "main", seconds=1.0, is_new=True)
    standby = Lease(wire, stream_name, "main", seconds=1.0)
    holder.epoch = 5000
    await holder.acquire()
    taking = asyncio.create_task(standby.acquire())
    await asyncio.sleep(0.2)
    assert standby.epoch == 5000
    await holder.release()
    await taking
    assert standby.is_held
    assert standby.epoch == 5000
    await standby.release()
