"""Every received frame is counted once, by its outcome."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from qos_async import Client, Depth, DropOldest, Latest, Stats, Subscription
from qos_async.sim import Simulator
from qos_async.testing.virtual import run
from tests.support.memory_transport import Frame, Peer, kline, snapshot, trade
from tests.support.scripted_server import AAPL, ScriptedServer, connected

pytestmark = pytest.mark.fault("I7")

TSLA = "US:TSLA"
GARBAGE = (
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"tp":"T","c":"US:AAPL","p":[]}',
    b"null",
)


class Witness:
    """Counts what every link hands to the client, on its own."""

    def __init__(self, server: ScriptedServer) -> None:
        self.frames = self.size = 0
        server.net.on_link = self._watch

    def _watch(self, peer: Peer) -> None:
        receive, listen = peer.receive, peer.set_sync_handler

        async def counted() -> list[bytes]:
            frames = await receive()
            self._count(frames)
            return frames

        def listened(
            handler: Callable[[Sequence[bytes]], None],
            on_error: Callable[[BaseException], None],
        ) -> None:
            def counting(frames: Sequence[bytes]) -> None:
                self._count(frames)
                handler(frames)

            listen(counting, on_error)

        peer.receive, peer.set_sync_handler = counted, listened  # type: ignore[method-assign]

    def _count(self, frames: Sequence[bytes]) -> None:
        self.frames += len(frames)
        self.size += sum(map(len, frames))


def check_sums(stats: Stats, subs: list[Subscription[Any]]) -> None:
    """See that no frame is missing and none counts twice; one subscription a topic."""
    skipped = stats.unreadable + stats.unknown
    assert stats.frames_received == stats.ticks + stats.answers + skipped
    mine = [sub.stats for sub in subs]
    # Recovered ticks are delivered, too, and are not counted as received.
    handed = sum(s.received + s.unfinished - s.recovered for s in mine)
    assert stats.ticks == handed + stats.unrouted + stats.repeated + stats.held
    assert stats.dropped == sum(s.dropped for s in mine)
    assert stats.gaps == sum(s.gaps for s in mine)
    assert stats.recovered == sum(s.recovered for s in mine)
    for each in mine:
        assert each.received == each.delivered + each.dropped + each.backlog


class Play:
    """A client and its server, with random faults."""

    def __init__(self, server: ScriptedServer, client: Client, seed: int) -> None:
        self.server = server
        self.client = client
        self.chance = random.Random(seed)
        self.subs: list[Subscription[Any]] = []

    async def open(self) -> None:
        watch = self.client
        self.subs = [
            watch.watch_trades(AAPL, buffer=DropOldest(5)),
            watch.watch_snapshots(AAPL, TSLA),
            watch.watch_depth(AAPL, buffer=Latest()),
            watch.watch_klines(AAPL, interval="1m", final=True),
        ]
        await asyncio.sleep(2.0)

    def _push(self, frame: Frame | bytes) -> None:
        for peer in self.server.net.open_peers:
            peer.push(frame)

    def _state(self, letter: str, symbol: str = AAPL) -> Frame:
        second = self.server.second
        if letter == "K":
            return kline(second - second % 60, close=self.chance.randint(1, 9))
        if letter == "D":
            level = {"p": "1", "v": str(self.chance.randint(1, 9))}
            return {"tp": "D", "c": symbol, "b": [level], "a": [], "ts": second}
        return snapshot(self.chance.randint(1, 9), symbol, ts=second)

    async def go(self, steps: int) -> None:
        deeds: list[Callable[[], object]] = [
            *[lambda: self.server.trade(AAPL)] * 6,
            *[lambda: self._push(self._state("K"))] * 3,
            *[lambda: self._push(self._state("S", self.chance.choice([AAPL, TSLA])))]
            * 2,
            lambda: self._push(self._state("D")),
            lambda: self._push(trade(symbol="HK:7")),
            self._push_late,
            lambda: self._push(self.chance.choice(GARBAGE)),
            lambda: self._push({"tp": "X", "c": AAPL}),
            lambda: self._push({"type": "T", "msg": "OK", "reqid": 77}),
            self._read,
            self._cut,
        ]
        for _ in range(steps):
            self.chance.choice(deeds)()
            await asyncio.sleep(self.chance.choice([0.0, 0.0, 0.01, 0.3, 1.0]))
            check_sums(self.client.stats, self.subs)

    def _push_late(self) -> None:
        if self.server.tape:
            late = self.chance.choice(self.server.tape[-10:])
            self._push({"tp": "T", **late})

    def _read(self) -> None:
        buffer = self.subs[self.chance.randrange(len(self.subs))]._queue.buffer
        while buffer:
            buffer.take()

    def _cut(self) -> None:
        for row in (self._state("K"), self._state("S"), self._state("D")):
            self.server.rows["R" + row["tp"], AAPL] = row
        for peer in self.server.net.open_peers:
            peer.end(self.chance.choice([None, 1001]))
        self.server.net.script.append(self.chance.choice([0.0, 1.0, 5.0]))


def perform(seed: int) -> Stats:
    async def main() -> Stats:
        server = ScriptedServer()
        witness = Witness(server)
        async with connected(server) as client:
            play = Play(server, client, seed)
            await play.open()
            await play.go(150)
        check_sums(client.stats, play.subs)
        assert client.stats.held == 0
        assert (client.stats.frames_received, client.stats.bytes_received) == (
            witness.frames,
            witness.size,
        )
        return client.stats

    return run(main)


@pytest.mark.parametrize("seed", range(12))
def test_each_frame_is_delivered_or_counted_by_its_outcome(seed):
    perform(seed)


def test_the_sums_include_every_outcome_of_a_frame():
    # Else the test above could pass for want of something to count.
    plays = [perform(seed) for seed in range(12)]
    for name in (
        *("ticks", "answers", "unmatched", "unreadable", "unknown", "unrouted"),
        *("repeated", "dropped", "recovered", "gaps", "reconnects"),
    ):
        assert sum(getattr(stats, name) for stats in plays), name
    for channel in ("trade", "snapshot", "depth", "kline"):
        assert all(stats.ticks_by_channel[channel] for stats in plays)


async def test_the_counts_of_client_and_server_are_equal():
    async with Simulator(rate=200.0, seed=5, history=10.0) as sim:
        client = Client(
            sim.key, http_url=sim.http_url, stream_url=sim.stream_url, limits=sim.plan
        )
        async with client, client.watch_depth("CF:BTCUSDT") as books:
            count = 0
            async for book in books:
                assert isinstance(book, Depth)
                count += 1
                if count == 50:
                    break
            stats = client.stats
            check_sums(stats, [books])
            assert 50 <= stats.ticks_by_channel["depth"] <= sim.pushed["D"]
