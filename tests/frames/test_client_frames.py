"""Frames of results, history and batches of a client."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from qos_async import Depth, Instrument, Kline, Snapshot, Topic, Trade, TransportError
from qos_async.frames import columns
from tests.io.test_history import Server, paging
from tests.support.full_records import KINDS
from tests.support.memory_transport import Network, opened, trade

# Responses


@pytest.mark.virtual_time
async def test_a_result_without_records_still_has_its_columns():
    net = Network()
    async with opened(net) as client:
        how: Any = {"via": "stream"}
        answers: dict[Any, Any] = {
            Instrument: await client.fetch_instruments("US:NO", **how),
            Snapshot: await client.fetch_snapshots("US:NO", **how),
            Depth: await client.fetch_depth("US:NO", **how),
            Trade: await client.fetch_trades("US:NO", **how),
            Kline: await client.fetch_klines("US:NO", interval="1m", **how),
        }
        history = await client.fetch_history("US:NO", interval="1m", **how)
    for kind, answer in answers.items():
        assert kind in KINDS
        assert answer.missing == ("US:NO",)
        frame = answer.to_polars()
        assert (len(frame), tuple(frame.columns)) == (0, columns(kind, live=False))
    assert history.to_arrow().column_names == list(columns(Kline, live=False))


# History


def times(frame: Any) -> list[int]:
    return [int(at.timestamp()) for at in frame["time"]]


async def test_history_is_one_ascending_frame_without_duplicates():
    server = Server(range(60, 481, 60))
    frame = await paging(server).to_polars()
    assert times(frame) == list(range(60, 481, 60))
    assert tuple(frame.columns) == columns(Kline, live=False)


async def test_history_can_be_a_frame_of_each_library():
    server = Server(range(60, 301, 60))
    pages = paging(server)
    frame = await pages.to_pandas(numbers=str)
    assert times(frame) == list(range(60, 301, 60))
    assert frame["close"].tolist() == ["1"] * 5
    requested = len(server.requested_ends)
    assert (await pages.to_arrow())["close"].to_pylist() == [1.0] * 5
    assert len(server.requested_ends) == requested  # What was read once is kept.


async def test_history_without_a_bar_is_an_empty_frame():
    frame = await paging(Server([])).to_polars()
    assert (len(frame), tuple(frame.columns)) == (0, columns(Kline, live=False))


async def test_a_failure_keeps_the_klines_fetched_before_it():
    server = Server(range(60, 481, 60))
    pages = paging(server)
    real, answered = server.ask, 0

    async def ask(query: Any) -> Any:
        nonlocal answered
        answered += 1
        if answered == 2:
            raise TransportError("down")
        return await real(query)

    pages._fetch = ask
    with pytest.raises(TransportError):
        await pages.to_polars()
    assert times(await pages.to_polars()) == list(range(60, 481, 60))


async def test_history_has_the_pages_that_were_not_iterated_over():
    pages = paging(Server(range(60, 481, 60)))
    newest = await anext(pages)
    frame = await pages.to_polars()
    assert times(frame) == list(range(60, newest[0].timestamp, 60))


async def test_a_missing_package_costs_no_request(monkeypatch: Any):
    monkeypatch.setitem(sys.modules, "polars", None)
    server = Server(range(60, 481, 60))
    with pytest.raises(ModuleNotFoundError, match=r"qos-async\[polars\]"):
        await paging(server).to_polars()
    assert server.requested_ends == []


# Streams


@pytest.mark.virtual_time
async def test_each_batch_of_a_stream_becomes_a_frame():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(*[trade(n) for n in range(5)])
        frames = trades.batches(max_items=2, max_wait=0.5).to_polars(numbers=str)
        got = []
        async for frame in frames:
            got.append(frame["price"].to_list())
            if len(got) == 3:
                break
    assert got == [["0", "1"], ["2", "3"], ["4"]]


@pytest.mark.virtual_time
async def test_batches_can_be_frames_of_each_library():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(7), trade(8))
        table = await anext(trades.batches(max_items=1).to_arrow())
        assert table["price"].to_pylist() == [7.0]
        frame = await anext(trades.batches(max_items=1).to_pandas())
        assert frame["price"].tolist() == [8.0]


@pytest.mark.virtual_time
async def test_the_end_of_a_subscription_ends_its_frames():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(1))
        frames = trades.batches(max_wait=0.1).to_polars()
        assert len(await anext(frames)) == 1
        await trades.aclose()
        assert [frame async for frame in frames] == []


@pytest.mark.virtual_time
async def test_draining_in_a_loop_over_frames_does_not_wait_for_that_loop():
    net = Network()
    async with opened(net) as client, client.watch_trades("US:AAPL") as trades:
        net.peers[0].push(trade(1), trade(2))
        await asyncio.sleep(1)
        got = []
        async for frame in trades.batches(max_items=1).to_polars():
            got += frame["price"].to_list()
            if len(got) == 1:
                start = asyncio.get_running_loop().time()
                await client.drain(5)
                assert asyncio.get_running_loop().time() < start + 1
    assert got == [1.0, 2.0]


@pytest.mark.virtual_time
async def test_channels_with_different_columns_raise_at_once():
    async with opened(Network()) as client:
        mixed = client.watch(Topic("trade", "US:A"), Topic("depth", "US:A"))
        with pytest.raises(ValueError, match=r"has \['depth', 'trade'\]: watch each"):
            mixed.batches().to_polars()


@pytest.mark.virtual_time
async def test_a_missing_package_raises_before_the_first_batch(monkeypatch: Any):
    monkeypatch.setitem(sys.modules, "pandas", None)
    async with opened(Network()) as client, client.watch_trades("US:A") as trades:
        with pytest.raises(ModuleNotFoundError, match=r"qos-async\[pandas\]"):
            trades.batches().to_pandas()
