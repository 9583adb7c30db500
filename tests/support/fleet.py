"""A fleet: simulator, broker, recorder with standby, two followers, and faults in them.

``run_seed`` draws what happens from a seed. Each process is one of the system, as is each
node of the broker; recorders are started again when they end, as by systemd.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import nats.errors

from qos_async.sim import Simulator, Variants
from tests.support.chaos_proxy import ChaosProxy
from tests.support.fleet_judge import Tape, Verdict, judge_all
from tests.support.fleet_process import CLEAN, PATIENCE, Program
from tests.support.fleet_programs import rows_of
from tests.support.nats_servers import NatsCluster, NatsServer
from tests.support.observations import trade_key
from tests.support.stream_judge import read_stream

__all__ = ["SYMBOLS", "Fleet", "FleetOptions", "fleet"]

SYMBOLS = ("CF:BTCUSDT", "CF:ETHUSDT")
STREAM = "FLEET"

_POLL = 0.05
_FOLLOWERS = {"durable": "bot-1", "placed": ""}


class FleetOptions(NamedTuple):
    """What a fleet is made with.

    Attributes:
        seed: Of the market, and of what is drawn.
        nodes: Nodes of the broker: one or three.
        rate: Trades a second, of each symbol.
        lease: Seconds of the lease.
        second_connection: What the service does with a second link.
        tiny_spool: Whether the spools of recorders hold a few seconds only.
        sabotage: Whether the recorder drops some frames, and records others twice.
    """

    seed: int
    nodes: int = 1
    rate: float = 25.0
    lease: float = 2.0
    second_connection: Any = "close_oldest"
    tiny_spool: bool = False
    sabotage: bool = False

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.nodes} nodes, {self.rate:g}/s, lease {self.lease:g}, "
            f"{self.second_connection}"
        )


class Servers(NamedTuple):
    """The simulator, the nodes of the broker, and proxies before these."""

    sim: Simulator
    nodes: list[NatsServer]
    proxies: list[ChaosProxy]
    cluster: NatsCluster | None


class Fleet:
    """All parts.

    Attributes:
        sim: The service.
        nodes: The nodes of the broker.
        proxies: Before the nodes, for the first recorder.
        cluster: Three nodes, or None.
        random: Draws what is not in the plan.
        journal: What was done, in words.
        is_clock_set: Whether the wall clock of a recorder was set.
        recorders: ``one``, behind the proxies, and ``two``.
        followers: ``durable`` has a durable name, ``placed`` goes on at its last place.
        rival: Another one of the durable name, which is not started.
    """

    def __init__(
        self, directory: Path, options: FleetOptions, servers: Servers
    ) -> None:
        self.directory, self.options = directory, options
        self.sim, self.nodes, self.proxies, self.cluster = servers
        self.random = random.Random(options.seed)
        self.journal: list[str] = []
        self.is_clock_set = False
        self._began = time.monotonic()
        direct = ",".join(node.url for node in self.nodes)
        proxied = ",".join(f"nats://127.0.0.1:{proxy.port}" for proxy in self.proxies)
        self.recorders = {
            name: self._recorder(name, urls)
            for name, urls in (("one", proxied), ("two", direct))
        }
        self.followers = {
            name: self._follower(name, durable, direct)
            for name, durable in _FOLLOWERS.items()
        }
        self.rival = self._follower("rival", _FOLLOWERS["durable"], direct)

    def _recorder(self, name: str, urls: str) -> Program:
        sim, options = self.sim, self.options
        spool = str(self.directory / f"spool-{name}")
        return Program(
            name,
            self.directory,
            *("record", *SYMBOLS, "-o", f"{urls}/{STREAM}", "--name", "main"),
            *("--lease", f"{options.lease:g}", "--spool", spool),
            QOS_API_KEY=sim.key,
            QOS_HTTP_URL=sim.http_url,
            QOS_STREAM_URL=sim.stream_url,
            FLEET_SABOTAGE="1" if options.sabotage else "",
            FLEET_TINY_SPOOL="1" if options.tiny_spool else "",
        )

    def _follower(self, name: str, durable: str, urls: str) -> Program:
        path = str(self.directory / f"{name}.jsonl")
        words = ("follow", f"{urls}/{STREAM}", path, durable, *SYMBOLS)
        state = str(self.directory / "state")
        return Program(name, self.directory, *words, XDG_STATE_HOME=state)

    def log(self, *words: object) -> None:
        text = " ".join(map(str, words))
        self.journal.append(f"{time.monotonic() - self._began:6.1f} {text}")

    def rows(self, name: str) -> list[dict[str, Any]]:
        return rows_of(self.directory / f"{name}.jsonl")

    # Beginning and end

    async def start(self) -> None:
        """Start everything, and wait until both followers receive."""
        for program in self.recorders.values():
            program.start()
        await self.until(lambda: self._count("topics to") == 1, "a recorder begins")
        for program in self.followers.values():
            program.start()
        waits = "waiting for the lease"
        await self.until(lambda: waits in self.standby.text(), "the standby waits")
        await self.catch_up(3)

    def _count(self, words: str) -> int:
        return sum(words in program.text() for program in self.recorders.values())

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            await self.restart_ended()
            if time.monotonic() > deadline:
                raise AssertionError(f"in vain: {what}\n{self.report()}")
            await asyncio.sleep(_POLL)

    async def restart_ended(self) -> None:
        """Start what has ended by itself, as systemd does."""
        for program in (*self.recorders.values(), *self.followers.values()):
            if program.process is not None and not program.runs:
                code = program.process.returncode
                program.codes.append(code)
                self.log(program.name, "ended by itself with", code)
                assert len(program.codes) < 40, self.report()
                await asyncio.sleep(0.5)
                program.start()

    async def catch_up(self, more: int) -> None:
        """Wait until both followers have trades that do not exist yet."""
        targets = {symbol: len(self.sim.tape(symbol)) for symbol in SYMBOLS}

        for name in self.followers:
            await self.until(
                partial(self._has_since, name, targets, more), f"{name} receives"
            )

    def _has_since(self, name: str, counts: dict[str, int], more: int) -> bool:
        """Return whether the last trades of a follower are after the first ``counts``."""
        trades = [row for row in self.rows(name) if row["kind"] == "trade"]
        last = {row["symbol"]: key_of(row) for row in trades}
        for symbol, count in counts.items():
            new = self.sim.tape(symbol)[count + more - 1 :]
            if last.get(symbol) not in set(map(trade_key, new)):
                return False
        return True

    async def repair(self) -> None:
        """End all faults, and wait until the followers receive again."""
        for proxy in self.proxies:
            proxy.clear()
        self.sim.unmute()
        self.sim.come_back()
        for program in (*self.recorders.values(), *self.followers.values()):
            if program.process is None:
                program.start()
            program.send(signal.SIGCONT)
        if self.cluster is not None:
            await asyncio.to_thread(self.cluster.repair)
        else:
            await self.start_node(self.nodes[0])
        self.log("repaired")
        await self.catch_up(3)
        self.log("received again")

    async def finish(self) -> list[Verdict]:
        """End all processes, and judge."""
        await self._end(self.recorders)
        last = await self._last_stored()
        await self.until(
            lambda: all(self._has_all(name, last) for name in self.followers),
            f"all of {last}",
        )
        await self._end(self.followers)
        tapes = {symbol: Tape(self.sim.tape(symbol)) for symbol in SYMBOLS}
        names = list(self.followers)
        consumers = {name: self.rows(name) for name in names}
        return judge_all(consumers, tapes, checks_times=not self.is_clock_set)

    async def _end(self, programs: dict[str, Program]) -> None:
        codes = await asyncio.gather(*(one.end() for one in programs.values()))
        self.log(*programs, "ended with", *codes)
        assert set(codes) <= CLEAN, self.report()

    async def _last_stored(self) -> dict[str, Any]:
        """Return the last trade of each symbol that is in the stream."""
        found: dict[str, Any] = {}
        ends_at = time.monotonic() + PATIENCE
        while True:
            try:
                messages = await read_stream(self.nodes[0].url, STREAM)
                break
            except nats.errors.Error:  # A cluster may elect leaders for a while.
                assert time.monotonic() < ends_at, self.report()
        epoch = max(message.epoch for message in messages)
        for message in messages:
            kind, *parts = message.subject.removeprefix(f"{STREAM}.").split(".")
            if kind == "T" and message.epoch == epoch:
                row = msgspec.json.decode(message.payload.split(b"\n")[-1])
                found[":".join(parts)] = trade_key(row)
        return found

    def _has_all(self, name: str, last: dict[str, Any]) -> bool:
        rows = self.rows(name)[-500:]
        keys = {(row["symbol"], key_of(row)) for row in rows if row["kind"] == "trade"}
        return keys >= set(last.items())

    def report(self) -> str:
        """Return what was done, and the ends of all outputs."""
        lines = list(self.journal)
        for program in (*self.recorders.values(), *self.followers.values(), self.rival):
            lines += [f"--- {program.name}", *program.text().splitlines()[-40:]]
        return "\n".join([f"in {self.directory}", *lines])

    def kill(self) -> None:
        """End all processes."""
        for program in (*self.recorders.values(), *self.followers.values(), self.rival):
            program.kill()
        for node in self.nodes:
            node.kill()

    # Who is who

    @property
    def holder(self) -> Program:
        """The recorder that took the lease last, as far as its output shows."""
        holders = [
            program for program in self.recorders.values()
            if program.runs and _is_holder(program.text_of_run())
        ]  # fmt: skip
        return (holders or list(self.recorders.values()))[-1]

    @property
    def durable(self) -> Program:
        return self.followers["durable"]

    @property
    def placed(self) -> Program:
        return self.followers["placed"]

    @property
    def standby(self) -> Program:
        holder = self.holder
        return next(one for one in self.recorders.values() if one is not holder)

    async def pause(self, low: float, high: float) -> None:
        ends_at = time.monotonic() + self.random.uniform(low, high)
        while time.monotonic() < ends_at:
            await self.restart_ended()
            await asyncio.sleep(_POLL)

    async def leader(self) -> NatsServer:
        """Return the node that leads the stream."""
        if self.cluster is None:
            return self.nodes[0]
        return await asyncio.to_thread(self.cluster.leader, STREAM)

    async def start_node(self, node: NatsServer) -> None:
        if node.process is None or node.process.poll() is not None:
            await asyncio.to_thread(node.start)
        else:
            node.resume()


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    timestamp, price, size = row["key"]
    return trade_key({"ts": timestamp, "p": price, "v": size})


def _is_holder(text: str) -> bool:
    """Return whether the last of the lines about the lease is of a link."""
    lines = text.splitlines()
    for line in reversed(lines):
        if "topics to" in line or line.endswith("Z open"):
            return True
        if "waiting for the lease" in line:
            return False
    return False


@asynccontextmanager
async def fleet(directory: Path, options: FleetOptions) -> AsyncGenerator[Fleet]:
    """Run a fleet that receives, and end it."""
    many = options.nodes > 1
    cluster = NatsCluster(directory / "nodes") if many else None
    nodes = [NatsServer(directory / "node")] if cluster is None else list(cluster)
    simulator = Simulator(
        seed=options.seed + 1,
        rate=options.rate,
        history=10.0,
        variants=Variants(second_connection=options.second_connection),
    )
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(simulator)
        made = [ChaosProxy(node.port, seed=options.seed) for node in nodes]
        proxies = [await stack.enter_async_context(proxy) for proxy in made]
        found = Fleet(directory, options, Servers(sim, nodes, proxies, cluster))
        try:
            await asyncio.to_thread((cluster or nodes[0]).start)
            await found.start()
            yield found
        finally:
            await asyncio.to_thread(found.kill)
