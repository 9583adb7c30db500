"""Long loads: reconnects, ticks, days with outages, and short subscriptions."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import random
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from qos_async import Client, Gap, Interrupted, Interval, Latest, Limits, Strict
from qos_async.sim import Simulator
from tests.support.memory_transport import (
    KEY,
    Network,
    Peer,
    kline,
    opened,
    snapshot,
    trade,
)
from tests.support.soak_meter import Meter, Report

__all__ = ["churn", "days", "firehose", "reconnects"]

_ROOT = Path(__file__).parents[2]
_MEASURED = (
    "qos_async._",
    "qos_async.client",
    "qos_async.models",
    "aiohttp",
    "asyncio",
)
_CHUNKS = 100
_KEPT = 100

_Row: TypeAlias = tuple[str, str, int]


class BoundedNetwork(Network):
    """A network that keeps only the newest link, and its last 100 frames."""

    async def dial(self) -> Peer:
        peer = await super().dial()
        del self.peers[:-1], self.dialled_at[:-1]
        peer.sent = _BoundedList()
        return peer


class _BoundedList(list[Any]):
    def append(self, frame: Any) -> None:
        del self[:-100]
        super().append(frame)


def _remove_loop_limits() -> None:
    loop: Any = asyncio.get_running_loop()
    loop._max_steps = loop.horizon = math.inf


# Reconnects


async def reconnects(target: int, seconds: float, *, seed: int = 1) -> Report:
    """Cut a link as soon as it is restored, in virtual time."""
    _remove_loop_limits()
    rng = random.Random(seed)
    net = BoundedNetwork(latency=0.05)
    received = {"ticks": 0, "gaps": 0}

    async def read(source: Any) -> None:
        async for event in source.events():
            if not isinstance(event, Interrupted):
                received["gaps" if isinstance(event, Gap) else "ticks"] += 1

    async with opened(net, limits=Limits(), jitter=0.5) as client:
        async with (
            client.watch_trades("US:AAPL,TSLA") as trades,
            client.watch_klines("US:AAPL", interval="1m") as bars,
            client.watch_snapshots("US:AAPL") as quotes,
        ):
            readers = [asyncio.create_task(read(s)) for s in (trades, bars, quotes)]
            meter = Meter("reconnects", target, seconds, client)
            for number in itertools.count():
                peer = net.peers[-1]
                await net.until(lambda peer=peer: len(peer.topics) == 4)  # type: ignore[misc]
                second = int(asyncio.get_running_loop().time())
                peer.push(trade(number, ts=second), trade(number, "US:TSLA", ts=second))
                peer.push(kline(second // 60 * 60, number), snapshot(number, ts=second))
                await asyncio.sleep(rng.choice([0.1, 3.0, 8.0, 70.0]))
                peer.end(rng.choice([None, 1001, 1012]))
                await net.until(lambda peer=peer: net.peers[-1] is not peer)  # type: ignore[misc]
                if not meter.add():
                    break
            virtual = asyncio.get_running_loop().time()
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        await asyncio.sleep(30)
        report = meter.report(virtual_hours=round(virtual / 3600, 1), **received)
    meter.check(report)
    assert report.left == {}, report.left
    assert client.stats.links >= meter.count
    assert received["gaps"] >= 3 * meter.count
    return report


# Ticks


@asynccontextmanager
async def _server() -> AsyncGenerator[tuple[tuple[str, str], Callable[[int], None]]]:
    """Start a simulator in a separate process, which sends blasts on command."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.soak.server",
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    urls = msgspec.json.decode(await process.stdout.readline(), type=tuple[str, str])
    stdin = process.stdin
    try:
        yield urls, lambda count: stdin.write(b"%d\n" % count)
    finally:
        stdin.close()
        await process.wait()


async def firehose(target: int, seconds: float) -> Report:
    """Read ticks from a real socket as fast as they come."""
    chunk = target // _CHUNKS
    async with _server() as ((http_url, stream_url), blast):
        client = Client(
            KEY,
            numbers=str,
            http_url=http_url,
            stream_url=stream_url,
            limits=Limits(command_interval=0.1),
        )
        async with (
            client,
            client.watch_trades("US:AAPL,TSLA", buffer=Strict(200_000)) as trades,
        ):
            batches = trades.batches(max_items=1000)
            meter = Meter("ticks through a socket", target, seconds, client)
            expected = itertools.cycle(map(str, range(10)))
            running = True
            while running:
                blast(chunk)
                got = 0
                while got < chunk:
                    batch = await anext(batches)
                    got += len(batch)
                    wanted = list(itertools.islice(expected, len(batch)))
                    assert [tick.price for tick in batch] == wanted
                running = meter.add(chunk)
            stats = trades.stats
            assert stats.received == stats.delivered == meter.count
            assert (stats.dropped, stats.gaps, client.stats.links) == (0, 0, 1)
        report = meter.report()
    report.more["ticks_per_second"] = round(meter.count / report.seconds)
    report.more["ticks_per_cpu_second"] = round(meter.count / report.cpu_seconds)
    meter.check(report)
    return report


# Days


async def days(target: int, seconds: float, *, seed: int = 1) -> Report:
    """Run for hours of virtual time with two outages in each; compare with the tape."""
    _remove_loop_limits()
    rng = random.Random(seed)
    tally = _TapeComparison()

    async def read(source: Any) -> None:
        async for event in source.events():
            if not isinstance(event, Interrupted):
                tally.add(event)

    loop: Any = asyncio.get_running_loop()
    market = Simulator(
        start=time.time(), rate=0.2, push_interval=1.0, history=600.0, key=KEY
    )
    async with market as sim:
        async with (
            Client(KEY, http_url=sim.http_url, stream_url=sim.stream_url) as client,
            client.watch_trades("CF:BTCUSDT") as trades,
        ):
            reading = asyncio.create_task(read(trades))
            meter = Meter("hours", target, seconds, client, only=_MEASURED)
            running = True
            while running:
                for _ in range(2):
                    await asyncio.sleep(1800 * rng.uniform(0.6, 1.3))
                    await _outage(sim, rng)
                await asyncio.sleep(300)  # By then every gap is settled.
                tally.match(sim.tape("CF:BTCUSDT"))
                # The history of the simulator would hide growth of the client.
                tape = sim.market.tape("CF:BTCUSDT", sim.now)
                while len(tape.trades) > _KEPT:
                    tape.trades.popleft()
                bars = tape.series(Interval.MIN_1).klines
                for start in list(bars)[:-_KEPT]:
                    del bars[start]
                sim.frames.clear()
                sim.requests.clear()
                del loop.net.connections[:-1]
                running = meter.add()
            reading.cancel()
            await asyncio.wait([reading])
            report = meter.report(
                trades=tally.delivered,
                outages=2 * meter.count,
                links=client.stats.links,
                gaps=dict(tally.gaps),
                trades_missing_in_gaps=tally.missing,
                trades_missing_silently=0,
                trades_delivered_twice=0,
            )
        assert sim.violations == []
    meter.check(report)
    assert tally.gaps["filled"] >= 0.2 * sum(tally.gaps.values()) > 0
    assert report.left == {}, report.left
    return report


async def _outage(sim: Simulator, rng: random.Random) -> None:
    match rng.randrange(5):
        case 0:
            sim.cut()
        case 1:
            sim.cut(reset=False)
        case 2:
            sim.reject_upgrades(503, rng.randrange(1, 5))
            sim.cut()
        case 3:
            await sim.close(rng.choice([1001, 1011, 1012]), "maintenance")
        case _:
            sim.mute()
            await asyncio.sleep(rng.uniform(10, 60))
            sim.unmute()


class _TapeComparison:
    """Comparison with the tape: each trade is delivered once, in order, or in a gap."""

    def __init__(self) -> None:
        self.delivered = 0
        self.missing = 0
        self.gaps = Counter[str]()
        self._got: deque[_Row] = deque()
        self._open: list[tuple[float, float]] = []

    def add(self, event: Any) -> None:
        if not isinstance(event, Gap):
            self._got.append((str(event.price), str(event.size), event.timestamp))
            return
        self.gaps[event.status] += 1
        if event.status != "filled":
            self._open.append((event.since.timestamp(), event.until.timestamp()))

    def match(self, tape: Sequence[dict[str, Any]]) -> None:
        """Compare with the tape from the last trade that was matched on."""
        rows = [(row["p"], row["v"], int(row["ts"])) for row in tape]
        pending = 0
        begun = [at for at in range(len(rows)) if rows[at] == self._got[0]]
        for row in rows[begun[-1] :]:
            if self._got and row == self._got[0]:
                self.delivered += 1
                last = self._got.popleft()
            elif not self._got:
                pending += 1
            else:
                # Timestamps of trades are whole seconds.
                known = any(s - 1 <= row[2] <= u + 1 for s, u in self._open)
                assert known, f"neither delivered nor in a gap: {row}"
                self.missing += 1
        assert not self._got, f"delivered twice, or out of order: {self._got[0]}"
        assert pending <= 2
        self._got.append(last)
        self.delivered -= 1
        self._open.clear()


# Subscriptions


async def churn(
    *, symbols: int, readers: int, seconds: float = 1e9, seed: int = 1
) -> Report:
    """Open and close subscriptions to many symbols in every way; measure what is left."""
    _remove_loop_limits()
    rng = random.Random(seed)
    net = BoundedNetwork(latency=0.01)
    names = [f"US:S{number}" for number in range(symbols)]
    turn = itertools.cycle(names)
    subscriptions: list[Any] = []
    limits = Limits(symbols=symbols, command_interval=0.01)
    async with opened(net, limits=limits, jitter=0.5) as client:
        await client.connect()
        gc.collect()
        meter = Meter("readers", readers, seconds, client)
        running = True
        while running:
            some = [next(turn) for _ in range(rng.randrange(1, 20))]
            subscriptions.append(_subscribe(client, some, rng))
            peer = net.peers[-1]
            for topic in rng.sample(list(peer.topics), min(5, len(peer.topics))):
                peer.push(_tick(topic))
            if len(subscriptions) > 300:
                sub = subscriptions.pop(rng.randrange(len(subscriptions)))
                await _leave(sub, next(turn), rng)
                del sub
            if rng.random() < 0.002:
                peer.end()
            if rng.random() < 0.3:
                await asyncio.sleep(0.01)
            running = meter.add()
        for sub in subscriptions[::2]:
            await sub.aclose()
        subscriptions.clear()
        del sub
        gc.collect()
        await asyncio.sleep(120)
        assert net.peers[-1].topics == {}
        report = meter.report(symbols=symbols)
    assert report.left == {}, report.left
    return report


def _subscribe(client: Client[Any], some: list[str], rng: random.Random) -> Any:
    buffer: Any = rng.choice([None, Latest(), Strict(1000)])
    match rng.randrange(4):
        case 0:
            return client.watch_trades(some, buffer=buffer)
        case 1:
            return client.watch_snapshots(some, buffer=buffer)
        case 2:
            return client.watch_klines(some, interval="1m", final=True, buffer=buffer)
        case _:
            return client.watch_klines(some, interval="5m", buffer=buffer)


async def _leave(sub: Any, name: str, rng: random.Random) -> None:
    match rng.randrange(5):
        case 0:
            await sub.aclose()
        case 1:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await anext(sub)
        case 2:
            reading = asyncio.create_task(anext(sub.events()))
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])
        case 3:
            adding = asyncio.create_task(sub.add(name))
            await asyncio.sleep(0)
            adding.cancel()
            await asyncio.wait([adding])
        case _:
            await sub.remove(*(topic.symbol for topic in sub.topics[::2]))


def _tick(topic: tuple[str, str, int | None]) -> Any:
    letter, symbol, interval = topic
    if letter == "K":
        return kline(60, 1, symbol, interval or 1)
    return (trade if letter == "T" else snapshot)(1, symbol)
