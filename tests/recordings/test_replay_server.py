"""Replay server: a recording served over a real socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qos_async import Client, Gap, Limits, Timing
from qos_async.recordings.replay_server import ReplayServer
from tests.support.memory_transport import gaps_and_ticks, snapshot, trade
from tests.support.recording_files import (
    event,
    fetched,
    frame,
    recorded,
    started,
    trades,
    write,
)

pytestmark = pytest.mark.slow

AAPL = "US:AAPL"
PLAN = Limits(command_interval=0.0, http_requests=1000)
TIMING = Timing(backoff_initial=0.01, backoff_max=0.01, close_timeout=0.1)


def client_of(server: ReplayServer) -> Client:
    return Client(
        server.key,
        http_url=server.http_url,
        stream_url=server.stream_url,
        limits=PLAN,
        timing=TIMING,
    )


async def test_a_client_of_a_replay_server_receives_what_was_recorded(tmp_path):
    raw = b'{"tp":"T","c":"US:AAPL","p":2.50,"v":"1","ts":1,"d":1,"new":1}'
    outage = event(2, "lost", reason="the cable") + event(3, "opened")
    parts = frame(1, snapshot(7), trade(1), trade(8, "US:TSLA")), frame(1.5, raw)
    topics = f"trade {AAPL}", "trade US:TSLA", f"snapshot {AAPL}"
    day = recorded(*parts, outage, trades(4, 3), topics=topics, end=5)
    write(tmp_path, day)
    got: list[Any] = []
    async with (
        ReplayServer(tmp_path, speed=50, plan=PLAN) as server,
        client_of(server) as client,
    ):
        async for one in gaps_and_ticks(client.watch_trades(AAPL).events()):
            got.append(one)
            if len(got) == 4:
                break
        await server.ended.wait()
        snapshots = await client.fetch_snapshots(AAPL, "US:TSLA", "US:MSFT")
        last = await client.fetch_trades(AAPL, count=3)
        nothing = await client.fetch_instruments(AAPL)
        assert server.violations == []
        assert server.now == 1_700_000_005
    assert [str(one.price) for one in got if not isinstance(one, Gap)] == [
        "1",
        "2.50",
        "3",
    ]
    assert isinstance(got[2], Gap)
    assert snapshots[AAPL].last_price == 7
    assert snapshots.missing == ("US:TSLA", "US:MSFT")
    assert [str(one.price) for one in last[AAPL]] == ["3"]  # Without a hole.
    assert nothing.missing == (AAPL,)


async def test_the_server_waits_for_the_first_subscription(tmp_path):
    write(tmp_path, recorded(trades(1, 1), end=2))
    async with ReplayServer(tmp_path, speed=1000) as server:
        await asyncio.sleep(0.05)
        assert not server.ended.is_set()
        assert server.now == 1_700_000_000


@pytest.mark.fault("N157")
async def test_a_client_never_takes_the_time_between_two_runs_for_filled(tmp_path):
    topics = [f"trade {AAPL}"]
    for number, run in enumerate("ab"):
        at = number * 4
        begin = started(at, run=run, gaps=True), event(at, "opened")
        ticks = [
            frame(at + n / 4, trade(n + at * 4, ts=n + at * 4)) for n in range(1, 10)
        ]
        parts = *begin, event(at, "subscribed", topics=topics), *ticks
        write(tmp_path, *parts, event(at + 3, "closed"), name=f"qos-{number}")
    events: list[Any] = []
    async with (
        ReplayServer(tmp_path, speed=4, plan=PLAN) as server,
        client_of(server) as client,
    ):
        async for one in gaps_and_ticks(client.watch_trades(AAPL).events()):
            events.append(one)
            if not isinstance(one, Gap) and one.price == 25:
                break
    [gap] = [one for one in events if isinstance(one, Gap)]
    assert gap.status != "filled"


async def test_a_server_that_is_closed_amid_its_recording_leaves_nothing_open(tmp_path):
    parts = [frame(at, trade(at, ts=at)) for at in (1, 100, 200, 300)]
    write(tmp_path, recorded(*parts, end=400))
    async with (
        ReplayServer(tmp_path, plan=PLAN) as server,
        client_of(server) as client,
    ):
        await anext(client.watch_trades(AAPL))
        assert not server.ended.is_set()


@pytest.mark.parametrize("speed", [0, float("inf"), float("nan"), 10**400, None, "x"])
def test_an_invalid_speed_raises(tmp_path, speed):
    with pytest.raises(ValueError, match="speed must be a number above 0, not"):
        ReplayServer(tmp_path, speed=speed)


async def test_a_client_that_was_cut_recovers_what_was_fetched_live(tmp_path):
    outage = event(2, "lost", reason="the cable") + event(5, "opened")
    ack = event(5, "subscribed", topics=[f"trade {AAPL}"])
    rows = [trade(n, ts=n) for n in (3, 4)]
    before = frame(1, *(trade(n, ts=n) for n in (1, 2)))
    after = [frame(at, trade(at, ts=at)) for at in (6, 9, 12)]
    parts = before, outage, ack, after[0], fetched(7, *rows), *after[1:]
    write(tmp_path, recorded(*parts, gaps=True, end=13))
    events: list[Any] = []
    async with (
        ReplayServer(tmp_path, speed=2, plan=PLAN) as server,
        client_of(server) as client,
    ):
        async for one in gaps_and_ticks(client.watch_trades(AAPL).events()):
            events.append(one)
            if len(events) == 7:
                break
    assert [int(one.price) for one in events if not isinstance(one, Gap)] == [
        *(1, 2, 3, 4, 6, 9),
    ]
    assert isinstance(events[2], Gap)
    assert events[2].recovered == 2
