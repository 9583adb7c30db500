"""Chaos actions: faults of network, server and process, and what users do."""

from __future__ import annotations

import asyncio
from typing import Any

from qos_async import Client, DropOldest, Latest, QosError, Strict, Topic
from qos_async.sim import Simulator
from qos_async.sim.connection import SimulatedConnection
from qos_async.sim.faults import FaultRules, Faults
from qos_async.testing.virtual import Connection, SimLoop
from tests.support.invariants import KEY, InvariantChecker, RecordingConsumer
from tests.support.observations import START, Fetch

__all__ = ["ChaosActions", "ChaosSimulator", "make_simulator"]


class _Faults(Faults):
    """Faults that can also send a reply twice."""

    def __init__(self) -> None:
        super().__init__()
        self.duplicates: FaultRules[bool] = FaultRules()

    def send_reply(self, link: SimulatedConnection, type: str, reply: bytes) -> None:
        super().send_reply(link, type, reply)
        if self.duplicates.next_action(type):
            super().send_reply(link, type, reply)


class ChaosSimulator(Simulator):
    """A simulator that can also send a reply twice."""

    _faults: _Faults


def make_simulator(**options: Any) -> ChaosSimulator:
    """Return a simulator that starts at ``START``."""
    sim = ChaosSimulator(start=START, key=KEY, **options)
    sim._faults = _Faults()
    return sim


class ChaosActions:
    """Actions on a client, its server, the network between them and its users.

    Each method is an action of a ``Step``.
    """

    def __init__(
        self, sim: ChaosSimulator, client: Client, checker: InvariantChecker
    ) -> None:
        self.sim = sim
        self.client = client
        self.checker = checker
        self.consumers: list[RecordingConsumer] = []
        self.faults: list[asyncio.Task[None]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._consuming: list[asyncio.Task[None]] = []
        self._fetch_number = 100
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.net = loop.net
        self._usual_latency = self.net.latency

    # The network

    def _open(self) -> list[Connection]:
        return [c for c in self.net.connections if not c.client.lost]

    async def cut(self, how: Any) -> None:
        for connection in self._open():
            connection.cut(how)

    async def cut_after(self, *, how: Any, after: int, up: bool) -> None:
        found = self._open()
        pipes = [connection.up if up else connection.down for connection in found]
        for pipe in pipes:
            pipe.cut_after, pipe.cut_how = pipe.passed + after, how
        if how == "blackhole":
            await self._wait_and_restore(40.0, found)
            for pipe in pipes:
                pipe.cut_after = None

    async def blackhole(self, *, duration: float, new_connections: bool) -> None:
        for connection in (found := self._open()):
            connection.blackhole()
        if new_connections:
            self.net.on_connect = Connection.blackhole
        await self._wait_and_restore(
            duration, self.net.connections if new_connections else found
        )
        self.net.on_connect = None

    async def blackhole_one_way(self, *, duration: float, up: bool) -> None:
        for connection in (found := self._open()):
            (connection.up if up else connection.down).blackhole()
        await self._wait_and_restore(duration, found)

    async def _wait_and_restore(self, duration: float, dark: list[Connection]) -> None:
        with self.checker.blackout():
            await asyncio.sleep(duration)
        for connection in dark:
            connection.restore()

    async def lag(self, latency: Any, duration: float) -> None:
        self.net.latency = latency
        await asyncio.sleep(duration)
        self.net.latency = self._usual_latency

    async def slice(self, size: int, duration: float) -> None:
        self.net.slice = size
        await asyncio.sleep(duration)
        self.net.slice = 0

    async def syn(self, how: Any, duration: float) -> None:
        port = self.sim._address[1]
        self.net.syn[port] = how
        await asyncio.sleep(duration)
        self.net.syn.pop(port, None)

    async def fail_dns(self, how: str, duration: float) -> None:
        self.net.dns["localhost"] = "hang" if how == "hang" else OSError("no such name")
        await asyncio.sleep(duration)
        self.net.dns.clear()

    async def pause_server_reads(self, duration: float) -> None:
        for connection in (found := self._open()):
            connection.server.pause_reading()
        with self.checker.blackout():
            await asyncio.sleep(duration)
        for connection in found:
            connection.server.resume_reading()

    # The server

    async def close(self, code: int) -> None:
        await self.sim.close(code, "because")

    async def reject_upgrades(self, status: int | None, duration: float) -> None:
        self.sim.reject_upgrades(status, None)
        await asyncio.sleep(duration)
        self.sim.allow_upgrades()

    async def mute(self, *, duration: float, new_connections: bool) -> None:
        self.sim.mute(new_connections=new_connections)
        await asyncio.sleep(duration)
        self.sim.unmute()

    async def delay_replies(self, seconds: float, types: Any, count: int) -> None:
        self.sim.delay_replies(seconds, types, count)

    async def drop_replies(self, types: Any, count: int) -> None:
        self.sim.drop_replies(types, count)

    async def duplicate_replies(self, types: Any, count: int) -> None:
        self.sim._faults.duplicates.add(True, types, count)

    async def reject(self, message: str, types: Any, count: int) -> None:
        self.sim.reject(message, types, count)

    async def push_noise(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.sim.push_garbage(frame)

    async def push_flood(self, frames: int) -> None:
        for number in range(frames):
            self.sim.push({"tp": "X", "number": number})

    async def fail_http(self, status: int | None, count: int) -> None:
        self.sim.fail_http(status, count, headers={"Retry-After": "2"})

    # The client's process

    async def block(self, seconds: float) -> None:
        self.loop.block(seconds)
        self.checker.record_block(seconds)

    # The users

    async def subscribe(
        self,
        channel: str,
        symbols: list[str],
        *,
        buffer: str = "default",
        pause: float = 0.0,
        enter: bool = False,
        final: bool = False,
    ) -> None:
        name = f"consumer {len(self.checker.consumers)}"
        topics = _topics(channel, symbols)
        try:
            sub = self._watch(channel, symbols, topics, buffer, final=final)
        except QosError as exc:
            self.checker.record(f"{name} raises {exc!r}")
            return
        pause = pause if buffer != "strict" else 0.0
        consumer = RecordingConsumer(
            self.checker,
            name,
            sub,
            topics,
            pause=pause,
            final=final and channel == "kline",
        )
        self._consuming.append(self.loop.create_task(consumer.run(), name=name))
        self.consumers.append(consumer)
        if enter:
            try:
                await sub.__aenter__()
            except QosError as exc:
                consumer.raised(exc)
                consumer.removed(consumer.open)

    def _watch(
        self,
        channel: str,
        symbols: list[str],
        topics: list[Topic],
        buffer: str,
        *,
        final: bool,
    ) -> Any:
        client = self.client
        policy: Any = None
        if buffer == "small":
            conflates = channel in ("snapshot", "depth")
            policy = Latest() if conflates else DropOldest(5)
        elif buffer == "strict":
            policy = Strict(500)
        match channel:
            case "trade":
                return client.watch_trades(symbols, buffer=policy)
            case "snapshot":
                return client.watch_snapshots(symbols, buffer=policy)
            case "depth":
                return client.watch_depth(symbols, buffer=policy)
            case "kline":
                return client.watch_klines(
                    symbols, interval="1m", final=final, buffer=policy
                )
            case _:
                return client.watch(*topics, buffer=policy)

    def _consumer(self, index: int) -> RecordingConsumer | None:
        self.consumers = [one for one in self.consumers if not one.ended]
        return self.consumers[index % len(self.consumers)] if self.consumers else None

    async def unsubscribe(self, index: int) -> None:
        consumer = self._consumer(index)
        if consumer is not None and len(self.consumers) > 3:
            consumer.removed(consumer.open)
            self.consumers.remove(consumer)
            await consumer.sub.aclose()

    async def add_topics(
        self, index: int, symbols: list[str], give_up_after: float | None
    ) -> None:
        consumer = self._consumer(index)
        if consumer is None:
            return
        topics = _topics(_channel(consumer), symbols)
        mixed = len({topic.channel for topic in consumer.spans}) > 1
        try:
            async with asyncio.timeout(give_up_after):
                adding = consumer.sub.add(*(topics if mixed else symbols))
                consumer.added(topics)
                await adding
        except QosError as exc:
            consumer.raised(exc)
        except TimeoutError:
            self.checker.record(f"{consumer.name} gives up waiting")

    async def remove_topics(self, index: int, symbols: list[str]) -> None:
        consumer = self._consumer(index)
        if consumer is None:
            return
        topics = _topics(_channel(consumer), symbols)
        mixed = len({topic.channel for topic in consumer.spans}) > 1
        if set(consumer.sub.topics) <= set(topics):
            return
        consumer.removed(topics)
        await consumer.sub.remove(*(topics if mixed else symbols))

    async def fetch(
        self, kind: str, symbols: list[str], via: Any, give_up_after: float | None
    ) -> None:
        self._fetch_number += 1
        count = self._fetch_number % 900 + 100 if kind == "klines" else None
        options: dict[str, Any] = {}
        if count is not None:
            options = {"interval": "1m", "count": count}
        label = f"{kind} {symbols} {count}"
        fetch = Fetch(label, self.loop.time(), via, count)
        self.checker.fetches.append(fetch)
        outcome = "answered"
        try:
            async with asyncio.timeout(give_up_after) as limit:
                await getattr(self.client, f"fetch_{kind}")(symbols, via=via, **options)
        except TimeoutError as exc:
            fetch.cancelled = limit.expired()
            outcome = repr(exc)
        except QosError as exc:
            outcome = repr(exc)
        fetch.done_at = self.loop.time()
        self.checker.check_no_key(outcome, "the result of a fetch")
        self.checker.record(f"{label} via {via}: {outcome}")


def _channel(consumer: RecordingConsumer) -> str:
    found = {str(topic.channel) for topic in consumer.spans}
    return found.pop() if len(found) == 1 else "mixed"


def _topics(channel: str, symbols: list[str]) -> list[Topic]:
    if channel == "mixed":
        return [
            *(Topic("trade", symbol) for symbol in symbols),
            *(Topic("kline", symbol, "5m") for symbol in symbols),
        ]
    interval = "1m" if channel == "kline" else None
    return [Topic(channel, symbol, interval) for symbol in symbols]
