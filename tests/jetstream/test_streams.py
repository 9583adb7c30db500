"""Creation and comparison of streams, on real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from qos_async.jetstream import streams
from qos_async.jetstream.api import call, check_reply, last_message, store
from qos_async.jetstream.errors import (
    BrokerReplyError,
    BrokerUnavailableError,
    WrongRevisionError,
)
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.streams import StreamOptions, differences, ensure_stream
from qos_async.jetstream.wire import Wire
from tests.support.nats_servers import NatsCluster, NatsServer

SMALL = StreamOptions(max_bytes=10_000_000)


def wire_to(url: str) -> Wire:
    return Wire(parse_place(f"{url}/Q", {}))


@pytest.fixture
async def wire(node: NatsServer) -> AsyncGenerator[Wire]:
    async with wire_to(node.url) as made:
        await made.connect()
        yield made


async def test_a_stream_is_created_with_explicit_limits(wire: Wire, stream_name: str):
    options = StreamOptions(max_bytes=20_000_000, max_age=86_400)
    info, found = await ensure_stream(wire, stream_name, options)
    config = info.config
    assert config.subjects == (f"{stream_name}.>",)
    assert (config.max_bytes, config.max_age) == (20_000_000, 86_400 * 10**9)
    assert (config.num_replicas, config.duplicate_window) == (1, 60 * 10**9)
    assert (config.discard, config.storage, config.retention) == (
        "old",
        "file",
        "limits",
    )
    assert config.allow_direct
    assert info.batches == "fast"
    assert info.created_ms > 1_700_000_000_000
    assert not found


@pytest.mark.fault("N7")
async def test_by_default_it_gets_at_most_half_of_what_the_server_offers(
    own_node: NatsServer,
):
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url) as wire:
        info, found = await ensure_stream(wire, "Q", StreamOptions())
        offer = own_node.max_store
        assert offer // 4 <= info.config.max_bytes <= offer // 2
        assert not found


async def test_a_limit_of_the_account_counts_as_what_the_server_offers(
    own_node: NatsServer,
):
    own_node.configure(
        "accounts { A { jetstream { max_file: 40MB }, users: [{user: a, password: b}] } }"
    )
    await asyncio.to_thread(own_node.start)
    async with wire_to(own_node.url.replace("://", "://a:b@")) as wire:
        info, _ = await ensure_stream(wire, "Q", StreamOptions())
        assert info.config.max_bytes == 20 * 1024**2


@pytest.mark.fault("N7")
async def test_a_stream_without_room_is_an_error_with_the_remedy(
    wire: Wire, stream_name
):
    options = StreamOptions(max_bytes=10**15)
    with pytest.raises(BrokerReplyError, match=r"no room .* smaller max_bytes"):
        await ensure_stream(wire, stream_name, options)


@pytest.mark.fault("N7")
async def test_replicas_without_nodes_are_an_error_with_the_remedy(
    wire: Wire, stream_name
):
    options = StreamOptions(max_bytes=1_000_000, replicas=3)
    with pytest.raises(BrokerReplyError, match="needs 3 nodes with JetStream"):
        await ensure_stream(wire, stream_name, options)


async def test_an_overlap_is_an_error_with_the_remedy(wire: Wire, stream_name: str):
    body = {
        "name": f"{stream_name}x",
        "subjects": [f"{stream_name}.a"],
        "max_bytes": 10**6,
    }
    await call(wire, f"STREAM.CREATE.{stream_name}x", body)
    with pytest.raises(BrokerReplyError, match="choose another name"):
        await ensure_stream(wire, stream_name, SMALL)


@pytest.mark.fault("N7")
async def test_an_existing_stream_is_never_changed_and_its_differences_are_sentences(
    wire: Wire, stream_name: str
):
    body = {
        "name": stream_name,
        "subjects": [f"{stream_name}.>"],
        "max_msgs_per_subject": 1,
        "retention": "interest",
        "storage": "memory",
        "discard": "new",
        "duplicate_window": 10**9,
    }
    await call(wire, f"STREAM.CREATE.{stream_name}", body)
    before = await streams.stream_info(wire, stream_name)
    options = StreamOptions(max_age=86_400, replicas=3)
    info, found = await ensure_stream(wire, stream_name, options)
    assert info == before
    text = "\n".join(found)
    for part in (
        "it keeps 1 messages of each subject",
        "messages vanish once they are read",
        "it is stored in memory",
        "set discard to old",
        "no max_bytes: it grows until the disk is full",
        "max_age is no limit, and 1 days were asked for",
        "on 1 node(s), and 3 were asked for",
        "its duplicate window is 1 s",
        "allow_direct is off",
        "allow_batched is off",
    ):
        assert part in text
    assert all(line.startswith(f"stream {stream_name}: ") for line in found)


async def test_a_stream_of_other_subjects_is_reported(wire: Wire, stream_name: str):
    body = {"name": stream_name, "subjects": [f"{stream_name}.a"], "max_bytes": 10**6}
    await call(wire, f"STREAM.CREATE.{stream_name}", body)
    info, _ = await ensure_stream(wire, stream_name, SMALL)
    found = differences(stream_name, info, SMALL)
    assert any("what a recorder sends is refused" in line for line in found)
    assert any("holds 1000000 bytes, and 10000000 were asked for" in x for x in found)


async def test_a_stream_of_three_replicas_names_its_leader(
    cluster: NatsCluster, stream_name: str
):
    options = StreamOptions(max_bytes=10_000_000, replicas=3)
    async with wire_to(cluster.url) as wire:
        await ensure_stream(wire, stream_name, options)
        leader = await asyncio.to_thread(cluster.leader, stream_name)
        info = await streams.stream_info(wire, stream_name)
        assert info is not None
        assert info.cluster is not None
        assert info.cluster.leader == leader.name
        assert len(info.cluster.replicas) == 2


async def test_a_stream_that_is_missing_has_no_information(wire: Wire):
    assert await streams.stream_info(wire, "missing") is None


# Last messages


async def test_a_write_with_another_revision_stores_nothing(
    wire: Wire, stream_name: str
):
    await ensure_stream(wire, stream_name, SMALL)
    subject = f"{stream_name}.fence.a"
    assert await last_message(wire, stream_name, subject) is None
    first = await store(wire, subject, b"one", revision=0)
    with pytest.raises(WrongRevisionError, match="wrong last sequence"):
        await store(wire, subject, b"two", revision=0)
    second = await store(wire, subject, b"three", revision=first)
    assert second > first
    found = await last_message(wire, stream_name, subject)
    assert found == (second, b"three")


async def test_a_read_of_a_stream_that_is_missing_is_an_error(wire: Wire):
    with pytest.raises(BrokerReplyError, match="stream not found"):
        await last_message(wire, "missing", "missing.a")


def error(code: int, number: int) -> bytes:
    body = {"code": code, "err_code": number, "description": "why\x1b[2J"}
    return json.dumps({"error": body}).encode()


def test_errors_of_jetstream_are_exceptions_of_their_kind():
    with pytest.raises(WrongRevisionError, match=r"refused a: why\\x1b\[2J \(10071\)"):
        check_reply(error(400, 10071), "a")
    with pytest.raises(WrongRevisionError):
        check_reply(error(400, 10164), "a")
    with pytest.raises(BrokerUnavailableError):
        check_reply(error(503, 10008), "a")
    with pytest.raises(BrokerReplyError, match="10077"):
        check_reply(error(503, 10077), "a")
    with pytest.raises(BrokerReplyError, match="with no JSON"):
        check_reply(b"\xff", "a")
