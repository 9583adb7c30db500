"""Durable names of followers of a stream: kept in the broker, for all machines."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qos_async import Gap, Trade
from qos_async.jetstream import durables
from qos_async.jetstream.api import call, last_message, store
from qos_async.jetstream.durables import DurableRecord, seconds_left
from qos_async.jetstream.places import parse_place
from qos_async.jetstream.start import StreamResume
from qos_async.jetstream.streams import (
    StreamInfo,
    StreamOptions,
    ensure_stream,
    stream_info,
)
from qos_async.jetstream.wire import Wire
from qos_async.recordings import RecordingError, follow
from qos_async.recordings.source import Resume
from tests.support.nats_servers import NatsServer
from tests.support.written_stream import BTC, ETH, Log, Writer

PROGRAM = """
import asyncio, sys
from qos_async.recordings import follow

async def main():
    place, path, seconds = sys.argv[1:]
    async with follow(place, "first", durable="bot", numbers=str) as client:
        with open(path, "a") as file:
            async for trade in client.watch_trades("CF:BTCUSDT", "CF:ETHUSDT"):
                print(trade.symbol, trade.price, file=file, flush=True)
                await asyncio.sleep(float(seconds))

asyncio.run(main())
"""


@pytest.fixture
async def log(node: NatsServer, stream_name: str) -> AsyncGenerator[Log]:
    async with Wire(parse_place(f"{node.url}/{stream_name}", {})) as wire:
        await wire.connect()
        await ensure_stream(wire, stream_name, StreamOptions(max_bytes=50_000_000))
        yield Log(node, wire, stream_name)
        for name in (stream_name, f"KV_{stream_name}-durable"):
            with suppress(RecordingError):  # Not every test has both.
                await call(wire, f"STREAM.DELETE.{name}")


@pytest.fixture
def place(log: Log) -> str:
    return str(log.place)


async def two_recorders(log: Log, count: int) -> list[tuple[str, str]]:
    """Write trades by two recorders in turn; return their symbols and prices."""
    other = Writer(log.wire, log.stream, "another")  # Sorts before "main".
    other.up = 500  # No two are received at one time.
    for writer, topic in ((log.writer, BTC), (other, ETH)):
        await writer.begin()
        await writer.event("subscribed", topics=[str(topic)])
    written: list[tuple[str, str]] = []
    for number in range(count):
        writer, topic = ((log.writer, BTC), (other, ETH))[number % 3 == 1]
        await writer.trades(topic, number)
        written.append((topic.symbol, str(number)))
    return written


def key(trade: Trade[Any]) -> tuple[str, str]:
    return trade.symbol, str(trade.price)


async def handle(
    place: str, count: int, *, seconds: float = 0, **options: Any
) -> list[tuple[str, str]]:
    """Return the trades that a follower handles, and one that it does not."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(30), follow(place, durable="bot", **options) as client:
        async for trade in client.watch_trades(BTC.symbol, ETH.symbol):
            found.append(key(trade))
            if len(found) > count:
                break
            await asyncio.sleep(seconds)
    return found


@pytest.mark.fault("N140")
async def test_a_name_goes_on_in_a_stream_of_several_recorders(log: Log, place: str):
    written = await two_recorders(log, 60)
    at = 0
    for count in (1, 6, 7, 20):
        found = await handle(place, count, start="first")
        assert found == written[at : at + count + 1]
        at += count


@pytest.mark.fault("N140")
async def test_a_name_goes_on_behind_the_last_tick_of_a_message(log: Log, place: str):
    await log.writer.begin()
    await log.writer.event("subscribed", topics=[str(BTC)])
    for first in range(0, 12, 4):
        await log.writer.trades(BTC, *range(first, first + 4))
    at = 0
    for count in (2, 2, 1, 3):
        found = await handle(place, count, start="first", seconds=0.12)
        assert [int(price) for _, price in found] == list(range(at, at + count + 1))
        at += count


@pytest.mark.fault("N140")
async def test_a_killed_process_goes_on_with_the_next_tick(
    log: Log, place: str, tmp_path: Path
):
    written = await two_recorders(log, 12)
    path = tmp_path / "handled"

    async def run(until: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, place, str(path), "0.4"
        )
        async with asyncio.timeout(60):
            while not path.exists() or path.read_text().count("\n") < until:  # noqa: ASYNC110 - of a process
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)  # In the middle of its work.
        process.kill()
        await process.wait()

    await run(3)
    await run(7)
    found = [tuple(line.split()) for line in path.read_text().splitlines()]
    # The one that was being handled is there twice, and nothing else.
    assert found == [*written[:3], *written[2 : len(found) - 1]]


@pytest.mark.fault("N141")
async def test_a_second_follower_of_a_name_is_refused_on_any_machine(
    log: Log, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    await two_recorders(log, 2)
    async with follow(place, durable="bot"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
        words = "another follower of .* has the durable name 'bot', process"
        with pytest.raises(RecordingError, match=words):
            async with follow(place, durable="bot"):
                pass
        async with follow(place, durable="bot-2"):
            pass
    async with asyncio.timeout(2), follow(place, durable="bot"):
        pass  # It was given up, so that there is nothing to wait for.


@pytest.mark.fault("N141")
async def test_a_follower_that_has_lost_its_name_ends_its_loops(log: Log, place: str):
    await two_recorders(log, 2)
    async with follow(place, durable="bot") as client:
        trades = client.watch_trades(BTC.symbol)
        reading = asyncio.create_task(anext(aiter(trades)))
        await asyncio.sleep(0.2)
        bucket, subject = f"KV_{log.stream}-durable", f"$KV.{log.stream}-durable.bot"
        thief = DurableRecord(token="x", resume=Resume(), created_ms=0, host="h", pid=7)
        while True:  # As a process that was stopped for long finds it.
            last = await last_message(log.wire, bucket, subject)
            assert last is not None
            try:
                payload = msgspec.json.encode(thief)
                await store(log.wire, subject, payload, revision=last.sequence)
                break
            except RecordingError:
                pass
        words = "another follower has taken the durable name 'bot', process 7 on h"
        with pytest.raises(RecordingError, match=words):
            async with asyncio.timeout(10):
                await reading


@pytest.mark.fault("N148")
@pytest.mark.parametrize("is_alive", [False, True])
async def test_a_name_is_kept_where_its_store_was_set_back(
    log: Log, place: str, monkeypatch: pytest.MonkeyPatch, *, is_alive: bool
):
    """To the record of a follower before, which may be over."""
    monkeypatch.setattr(durables, "SECONDS", 0.6)
    await two_recorders(log, 2)
    name, subject = f"KV_{log.stream}-durable", f"$KV.{log.stream}-durable.bot"
    async with follow(place, durable="bot") as client:
        trades = client.watch_trades(BTC.symbol)
        reading = asyncio.create_task(anext(aiter(trades)))
        await asyncio.sleep(0.2)
        await call(log.wire, f"STREAM.DELETE.{name}")
        config = {"name": name, "subjects": [subject], "storage": "file"}
        await call(log.wire, f"STREAM.CREATE.{name}", config)
        before = DurableRecord(
            token="x", resume=Resume(), created_ms=0, host="h", pid=7
        )
        await store(log.wire, subject, msgspec.json.encode(before), revision=0)
        if is_alive:
            revision = 1
            while not reading.done():
                await asyncio.sleep(0.1)
                payload = msgspec.json.encode(before)
                revision = await store(log.wire, subject, payload, revision=revision)
            with pytest.raises(
                RecordingError, match=r"another follower .* durable name 'bot'"
            ):
                await reading
            return
        async with asyncio.timeout(10):
            while True:
                last = await last_message(log.wire, name, subject)
                assert last is not None
                if msgspec.json.decode(last.data)["token"] != "x":
                    break
                await asyncio.sleep(0.05)
        await log.writer.trades(BTC, 99)
        async with asyncio.timeout(10):
            assert str((await reading).price) == "99"


async def test_a_follower_says_that_it_waits_for_the_name_of_a_killed_one(
    log: Log,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    await two_recorders(log, 2)
    await handle(place, 1, start="first")
    bucket, subject = f"KV_{log.stream}-durable", f"$KV.{log.stream}-durable.bot"
    last = await last_message(log.wire, bucket, subject)
    assert last is not None
    record = msgspec.json.decode(last.data, type=DurableRecord)
    killed = msgspec.structs.replace(record, token="x", host="h", pid=7)
    await store(log.wire, subject, msgspec.json.encode(killed), revision=last.sequence)
    monkeypatch.setattr(durables, "SECONDS", 0.3)
    with caplog.at_level("INFO", "qos_async.follow"):
        await handle(place, 0)
    assert (
        "waiting for the durable name 'bot', 0.3 s at most: process 7 on h had it"
        in caplog.text
    )


@pytest.mark.fault("N142")
async def test_what_retention_took_from_a_name_is_a_gap_in_its_place(
    log: Log, place: str
):
    written = await two_recorders(log, 30)
    await handle(place, 5, start="first")
    await call(log.wire, f"STREAM.PURGE.{log.stream}", {"keep": 10})
    words = "retention has removed what comes behind the start"
    with pytest.raises(RecordingError, match=words):
        await handle(place, 1, strict=True)
    events: list[Any] = []
    async with asyncio.timeout(30), follow(place, durable="bot") as client:
        async for event in client.watch_trades(BTC.symbol).events():
            events.append(event)
            if isinstance(event, Trade):
                break
    *_, gap, trade = events
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.status) == ("retention", "unfilled")
    assert key(trade) in written[20:22]


@pytest.mark.fault("N142")
async def test_a_quiet_topic_moves_its_place_with_the_stream(
    log: Log, place: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("qos_async.jetstream.feed.IDLE", 0.3)
    await two_recorders(log, 2)
    async with follow(place, "first", durable="bot") as client:
        trades = aiter(client.watch_trades(BTC.symbol))
        await anext(trades)
        waiting = asyncio.create_task(anext(trades))
        for number in range(50):
            await Writer(log.wire, log.stream, "third").trades(ETH, number)
        async with asyncio.timeout(20):
            while True:
                info = await stream_info(log.wire, log.stream)
                subject = f"$KV.{log.stream}-durable.bot"
                kept = await last_message(log.wire, f"KV_{log.stream}-durable", subject)
                assert info is not None
                assert kept is not None
                record = msgspec.json.decode(kept.data, type=DurableRecord)
                if record.resume.sequence >= info.state.last_seq:
                    break
                await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert client.stats.retention_left is None or client.stats.retention_left > 0


@pytest.mark.fault("N140")
async def test_a_name_of_a_stream_that_was_made_anew_is_an_error(log: Log, place: str):
    await two_recorders(log, 4)
    await handle(place, 2, start="first")
    await call(log.wire, f"STREAM.DELETE.{log.stream}")
    await asyncio.sleep(0.01)
    await ensure_stream(log.wire, log.stream, StreamOptions(max_bytes=50_000_000))
    with pytest.raises(RecordingError, match=r"is of another stream .*nats kv del"):
        await handle(place, 1)


def info(**fields: Any) -> StreamInfo:
    config = {"max_age": fields.pop("max_age", 0), "max_bytes": fields.pop("size", -1)}
    state = {
        "messages": 1001,
        "bytes": 1000,
        "first_seq": 1,
        "last_seq": 1001,
        "first_ts": "2026-01-01T00:00:00Z",
        "last_ts": "2026-01-01T01:00:00Z",
    }
    return msgspec.convert({"config": config, "state": state}, StreamInfo)


NOW = msgspec.convert(
    info(), StreamInfo, from_attributes=True
).state.last_ts.timestamp()


@pytest.mark.parametrize(
    ("limits", "sequence", "left"),
    [
        ({}, 1, None),
        ({"max_age": 7200 * 10**9}, 1, 3600),
        ({"max_age": 7200 * 10**9}, 501, 5400),
        ({"max_age": 7200 * 10**9}, 1002, 7200),
        ({"size": 1000}, 1, 0),
        ({"size": 1000}, 501, 1800),
        ({"size": 2000}, 501, 5400),
        ({"size": 2000, "max_age": 7200 * 10**9}, 1, 3600),
    ],
)
def test_the_seconds_until_retention_are_estimated(
    limits: dict[str, int], sequence: int, left: float | None
):
    found = seconds_left(info(**limits), sequence, NOW)
    assert found == (None if left is None else pytest.approx(left))


@pytest.mark.fault("N140")
def test_what_other_recorders_wrote_does_not_end_what_was_handled():
    """Theirs may come first, where a message had to wait for one before it."""
    at = "0000000000001.{}.0000000000000002.000000000{}.00000".format
    resume = StreamResume(at("b", 4))
    for other in ("a", "c"):
        assert not resume.is_past(at(other, 1))
        assert not resume.is_before(at(other, 9))
    assert resume.is_past(at("b", 4))
    assert not resume.is_before(at("b", 3))
    assert resume.is_before(at("b", 5))
