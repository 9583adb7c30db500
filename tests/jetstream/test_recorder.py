"""The recorder of a stream, with a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from qos_async import Client, LinkState, Recorder, RecordingError, Trade, follow
from qos_async.sim import Simulator
from tests.support.nats_servers import NatsServer
from tests.support.observations import trade_key, trade_key_of
from tests.support.recording_client import recording_client
from tests.support.stream_judge import check_tape, live_entries, read_stream
from tests.support.sweep import until

SYMBOLS = ("CF:BTCUSDT", "US:AAPL")


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(rate=50) as simulator:
        yield simulator


@asynccontextmanager
async def recording(
    sim: Simulator, place: str, **options: Any
) -> AsyncIterator[tuple[Recorder, Any]]:
    """Record the trades of the symbols, until the end of the block."""
    recorder = Recorder(place, **options)
    async with recording_client(sim, recorder, *SYMBOLS) as client:
        yield recorder, client


async def check(node: NatsServer, stream: str, sim: Simulator, least: int = 20) -> Any:
    """Check the stream against the tape; return its live messages."""
    found = live_entries(await read_stream(node.url, stream))
    for symbol in SYMBOLS:
        assert check_tape(found, symbol, sim.tape(symbol)) >= least
    return found


def kinds(messages: Any) -> list[str]:
    return [one.entry.kind for one in messages if one.entry is not None]


async def test_what_is_received_is_in_the_stream_when_the_client_is_closed(
    sim, node, stream_name
):
    async with recording(sim, f"{node.url}/{stream_name}") as (recorder, _):
        await until(lambda: recorder.stats.frames > 100)
    stats = recorder.stats
    assert stats.stored == stats.published > 0
    assert stats.pending == stats.dropped == 0
    found = await check(node, stream_name, sim)
    assert len(found) == stats.stored
    assert kinds(found) == [
        "started",
        "opened",
        "subscribed",
        "unsubscribed",
        "closed",
    ]
    assert found[0].entry.gaps
    assert found[0].epoch == stats.epoch


@pytest.mark.fault("N30")
async def test_the_broker_may_come_later_and_nothing_is_lost(
    sim, own_node, stream_name
):
    place = f"{own_node.url}/{stream_name}"
    async with recording(sim, place) as (recorder, client):
        await until(lambda: recorder.stats.frames > 50)
        assert client.state is LinkState.OPEN
        assert recorder.stats.pending > 0
        await asyncio.to_thread(own_node.start)
        await until(lambda: recorder.stats.pending == 0)
    found = await check(own_node, stream_name, sim)
    assert "dropped" not in kinds(found)


@pytest.mark.fault("N30")
async def test_a_broker_that_is_killed_and_started_again_has_everything(
    sim, own_node, stream_name
):
    await asyncio.to_thread(own_node.start)
    place = f"{own_node.url}/{stream_name}"
    async with recording(sim, place) as (recorder, client):
        await until(lambda: recorder.stats.stored > 20)
        await asyncio.to_thread(own_node.kill)
        frames = recorder.stats.frames
        await until(lambda: recorder.stats.frames > frames + 100)
        assert client.state is LinkState.OPEN
        await asyncio.to_thread(own_node.start)
        await until(lambda: recorder.stats.pending == 0)
        await recorder.flush()
    found = await check(own_node, stream_name, sim, 50)
    assert {one.epoch for one in found} == {recorder.stats.epoch}


@pytest.mark.fault("N31")
async def test_a_store_that_was_rolled_back_gets_what_it_lost_again(
    sim, own_node, stream_name
):
    await asyncio.to_thread(own_node.start)
    place = f"{own_node.url}/{stream_name}"
    async with recording(sim, place) as (recorder, _):
        await until(lambda: recorder.stats.stored > 20)
        await asyncio.sleep(1.2)
        await asyncio.to_thread(own_node.terminate)
        copy = await asyncio.to_thread(own_node.copy_store)
        await asyncio.to_thread(own_node.start)
        stored = recorder.stats.stored
        await until(lambda: recorder.stats.stored > stored + 100)
        await asyncio.to_thread(own_node.kill)
        await asyncio.to_thread(own_node.roll_back, copy)
        await asyncio.to_thread(own_node.start)
        await until(lambda: recorder.stats.pending == 0)
    found = await check(own_node, stream_name, sim, 100)
    assert {one.epoch for one in found} == {recorder.stats.epoch}


@pytest.mark.fault("N31")
async def test_a_stream_that_is_gone_is_made_again_with_all_that_the_spool_has(
    sim, own_node, stream_name
):
    await asyncio.to_thread(own_node.start)
    copy = await asyncio.to_thread(own_node.copy_store)
    place = f"{own_node.url}/{stream_name}"
    async with recording(sim, place) as (recorder, client):
        await until(lambda: recorder.stats.stored > 20)
        await asyncio.to_thread(own_node.kill)
        await asyncio.to_thread(own_node.roll_back, copy)
        await asyncio.to_thread(own_node.start)
        await until(lambda: recorder.stats.pending == 0)
        assert client.state is LinkState.OPEN
    found = await check(own_node, stream_name, sim, 10)
    assert kinds(found)[:3] == ["started", "opened", "subscribed"]
    assert {one.epoch for one in found} == {recorder.stats.epoch}


@pytest.mark.fault("N122")
async def test_a_store_that_has_lost_an_epoch_gets_it_again_and_the_next_is_above_it(
    sim, own_node, stream_name, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    await asyncio.to_thread(own_node.start)
    place = f"{own_node.url}/{stream_name}"
    async with recording(sim, place) as (first, _):
        await until(lambda: first.stats.stored > 20)
        await asyncio.to_thread(own_node.terminate)
        copy = await asyncio.to_thread(own_node.copy_store)
        await asyncio.to_thread(own_node.start)
        await until(lambda: first.stats.stored > 100)
    got: list[Trade[Any]] = []
    async with recording(sim, place) as (second, _), AsyncExitStack() as stack:
        await until(lambda: second.stats.stored > 100)
        follower = await stack.enter_async_context(follow(place))
        reading = asyncio.create_task(_collect(follower.watch_trades(*SYMBOLS), got))
        await until(lambda: len(got) > 50)
        await asyncio.to_thread(own_node.kill)
        await asyncio.to_thread(own_node.roll_back, copy)
        await asyncio.to_thread(own_node.start)
        stored = second.stats.stored
        await until(lambda: second.stats.stored > stored + 100)
        epoch = second.stats.epoch
        count = len(got)
        await until(lambda: len(got) > count + 50)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    found = await read_stream(own_node.url, stream_name)
    assert epoch > first.stats.epoch
    assert live_entries(found)[-1].epoch == epoch
    assert [one.sequence for one in found if one.stamp is None][-1] < epoch
    places = [trade.place for trade in got]
    assert places == sorted(set(places))
    for symbol in SYMBOLS:
        tape = [trade_key(row) for row in sim.tape(symbol)]
        keys = [trade_key_of(trade) for trade in got if trade.symbol == symbol]
        begin = next(n for n in range(len(tape)) if tape[n : n + 5] == keys[:5])
        assert keys == tape[begin : begin + len(keys)]
    async with follow(place, got[-20].place) as again:
        assert (await anext(aiter(again.watch_trades(*SYMBOLS)))).place == places[-19]
    async with recording(sim, place) as (third, _):
        await until(lambda: third.stats.stored > 20)
    assert third.stats.epoch > epoch


async def _collect(trades: Any, into: list[Trade[Any]]) -> None:
    async for trade in trades:
        into.append(trade)  # noqa: PERF401 - it never ends


@pytest.mark.fault("N40")
async def test_a_permission_that_is_missing_is_reported_and_ends_nothing(
    sim, own_node, stream_name, monkeypatch
):
    monkeypatch.setattr("qos_async.jetstream.sender._PATIENCE", 1.0)
    user = 'authorization { users: [{ user: "u", password: "p-word", permissions: {'
    denied = f'publish: {{ allow: ">", deny: "{stream_name}.T.>" }} }} }}] }}'
    own_node.configure(user + denied)
    await asyncio.to_thread(own_node.start)
    errors = list[RecordingError]()
    place = f"nats://u:p-word@127.0.0.1:{own_node.port}/{stream_name}"
    async with recording(sim, place, on_error=errors.append) as (recorder, client):
        await until(lambda: errors)
        assert recorder.error is None
        assert client.state is LinkState.OPEN
        own_node.configure('authorization { user: "u", password: "p-word" }')
        await asyncio.to_thread(own_node.terminate)
        await asyncio.to_thread(own_node.start)
        await until(lambda: recorder.stats.stored > 20)
    assert "ermission" in str(errors[0])
    assert "p-word" not in str(errors)


@pytest.mark.fault("N35")
async def test_a_second_recorder_of_the_same_name_ends_the_first_one(
    sim, node, stream_name
):
    place, errors = f"{node.url}/{stream_name}", list[RecordingError]()
    async with recording(sim, place, on_error=errors.append) as (first, client):
        await until(lambda: first.stats.stored > 10)
        async with Simulator(rate=50) as other, recording(other, place) as (second, _):
            await until(lambda: first.error is not None)
            await until(lambda: second.stats.stored > 10)
        assert client.state is LinkState.OPEN
    assert errors == [first.error]
    assert "another recorder with the name default" in str(first.error)
    assert second.stats.epoch > first.stats.epoch


@pytest.mark.fault("N30")
async def test_a_leader_that_is_killed_loses_and_repeats_nothing(
    sim, cluster, stream_name
):
    place = f"{cluster.url}/{stream_name}"
    async with recording(sim, place, lease=10.0) as (recorder, client):
        await until(lambda: recorder.stats.stored > 20)
        leader = cluster.leader(stream_name)
        await asyncio.to_thread(leader.kill)
        frames = recorder.stats.frames
        await until(lambda: recorder.stats.frames > frames + 200)
        await until(lambda: recorder.stats.pending == 0)
        assert client.state is LinkState.OPEN
        assert client.stats.links == 1
    await asyncio.to_thread(cluster.repair)
    found = await check(cluster.follower(stream_name), stream_name, sim, 200)
    assert {one.epoch for one in found} == {recorder.stats.epoch}


async def test_recorders_of_two_names_share_a_stream(sim, node, stream_name):
    place = f"{node.url}/{stream_name}"
    async with Simulator(rate=50) as other:
        async with (
            recording(sim, place, name="a") as (one, _),
            recording(other, place, name="b") as (two, _),
        ):
            await until(lambda: min(one.stats.stored, two.stats.stored) > 50)
        messages = await read_stream(node.url, stream_name)
        for name, source in (("a", sim), ("b", other)):
            found = live_entries(messages, name)
            assert check_tape(found, SYMBOLS[0], source.tape(SYMBOLS[0])) > 10


@pytest.mark.fault("N36")
async def test_a_standby_takes_over_when_the_holder_is_closed(sim, node, stream_name):
    place = f"{node.url}/{stream_name}"
    async with recording(sim, place, lease=2.0) as (first, _):
        await until(lambda: first.stats.stored > 20)
        assert first.stats.lease_held
        assert first.stats.lease_renewed_at > 0
        recorder = Recorder(place, lease=2.0)
        standby = Client(
            sim.key, http_url=sim.http_url, stream_url=sim.stream_url, recorder=recorder
        )
        trades = standby.watch_trades(*SYMBOLS)
        taking_over = asyncio.create_task(trades.ready())
        await until(lambda: standby.state is LinkState.STANDBY)
        await asyncio.sleep(3)
        assert standby.state is LinkState.STANDBY
        assert not recorder.stats.lease_held
    async with standby:
        await taking_over
        await until(lambda: recorder.stats.stored > 20)
        await trades.aclose()
    found = await check(node, stream_name, sim)
    assert len({one.epoch for one in found}) == 2
