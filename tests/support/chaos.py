"""Seeded chaos: some minutes in which everything goes wrong, then a quiet end.

A seed gives a server, a schedule of faults and of whims of the users, and all of chance
in between. The real client and the simulator run through it on a ``SimLoop``, watched
by a ``Judge``; then the faults stop, and all must come to what the users want. Equal
seeds give equal runs, to the byte.

Left out, because no client can cope: refused unsubscriptions, forged answers with the
right id, refusals without an id that come when nobody waits for them any more. And
because they end a client for good: a refused key for more than two minutes, five polite
closes in a row, three for a breach of rules.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from qos_async import (
    Client,
    DropOldest,
    Latest,
    Limits,
    QosError,
    Strict,
    Topic,
)
from qos_async._core.wire import LETTERS
from qos_async.enums import LinkState
from qos_async.sim import Simulator, Variants
from qos_async.sim.faults import Rules
from qos_async.sim.link import Link
from qos_async.testing.virtual import Connection, SimLoop, simulate
from tests.support.invariants import KEY, START, Ask, Broken, Judge, Reader, Tap, sizes

__all__ = ["Outcome", "Step", "World", "chaos", "schedule"]

SYMBOLS = ("CF:BTCUSDT", "CF:ETHUSDT", "US:AAPL", "HK:700", "SH:600519")
NOWHERE = "US:NOPE"
A, B = SYMBOLS[:2]
GUILTY = (1000, 1008, 3000, 4000)
INNOCENT = (1001, 1002, 1006, 1011, 1012, 1013)
NOISE = (
    b"\xff\x00{",
    b"",
    b"null",
    b"[]",
    b"[" * 5000,
    b'{"tp":"T"}',
    b'{"tp":"T","c":"CF:BTCUSDT","p":"x","ts":1}',
    b'{"tp":"K","c":"CF:BTCUSDT","kt":1,"ts":[]}',
    b'{"tp":"X","c":"CF:BTCUSDT"}',
    b'{"type":"T","msg":"OK","reqid":1000000}',
    b'{"type":"RS","msg":"Server busy.","reqid":1000000}',
    b'{"type":"XX","msg":"OK"}',
)
COMMANDS = ("T", "S", "D", "K")
QUESTIONS = ("RT", "RS", "RD", "RK")
PATHS = ("/trade", "/snapshot", "/depth", "/kline")
AGAIN = (
    "again: QOS_CHAOS_SEED={} python -m pytest -n0 tests/faults/test_chaos.py -k seed"
)
USERS = ("watch", "leave", "add", "remove", "ask")
LONGEST = 300


class Step(NamedTuple):
    """Something that happens at a time."""

    at: float
    deed: str
    what: dict[str, Any]

    def __str__(self) -> str:
        words = ", ".join(f"{name}={value!r}" for name, value in self.what.items())
        return f"{self.at:8.3f} {self.deed}({words})"


class Outcome(NamedTuple):
    """How a run went."""

    hash: str
    links: int
    frames: int
    gaps: int


def schedule(dice: random.Random) -> list[Step]:
    """Draw what happens."""
    at, until = 10.0, dice.uniform(200.0, 540.0)
    steps: list[Step] = []
    guilty = refused = 0
    wildness = dice.choice([4.0, 10.0, 25.0])
    while at < until:
        deed = dice.choice(_DEEDS)
        what = _draw(deed, dice)
        if deed == "close" and what["code"] in GUILTY:
            guilty += 1
            if guilty > 4 or (what["code"] == 1008 and guilty > 2):
                what["code"] = 1001
        if deed == "shut" and what["status"] in (401, 403):
            refused += 1
            if refused > 1:
                what["status"] = 503
        steps.append(Step(round(at, 3), deed, what))
        at += dice.expovariate(1 / wildness)
    return steps


_DEEDS = (
    ["cut"] * 4
    + ["snap"] * 2
    + ["dark"] * 3
    + ["one_way", "lag", "lag", "slice", "syn", "names", "deaf"]
    + ["close"] * 2
    + ["shut"] * 2
    + ["mute", "late", "late", "lose", "lose", "double", "refuse", "refuse"]
    + ["noise", "noise", "flood", "block", "http"]
    + ["watch"] * 4
    + ["leave"] * 3
    + ["add"] * 3
    + ["remove"] * 3
    + ["ask"] * 8
)


def _draw(deed: str, dice: random.Random) -> dict[str, Any]:
    lasting = round(dice.choice([0.5, 3.0, 12.0, 30.0, 45.0]) * dice.random(), 2)
    types = dice.choice([None, COMMANDS, QUESTIONS, ("H",), ("T",), ("RT",)])
    count = dice.randint(1, 4)
    which = dice.randrange(100)
    some = dice.sample([*SYMBOLS, NOWHERE], dice.randint(1, 3))
    choice, chance = dice.choice, dice.random
    most = {"slice": 6.0}.get(deed, 60.0)
    span = {"lasting": min(lasting, most)}
    kinds = [COMMANDS, ("T",), QUESTIONS, ("H",), PATHS]
    statuses = [401, 403, 404, 429, 500, 503, 503, None]
    words = ["Server busy.", "Rate limit exceeded.", "Unknown code."]
    counted = {"types": types, "count": count}
    edit = {"which": which, "symbols": some}
    draws: dict[str, Callable[[], dict[str, Any]]] = {
        "cut": lambda: {"how": choice(["reset", "end"])},
        "snap": lambda: {
            "how": choice(["reset", "end", "hole"]),
            "after": dice.randint(0, 400),
            "up": chance() < 0.3,
        },
        "dark": lambda: {**span, "newcomers": chance() < 0.5},
        "one_way": lambda: {**span, "up": chance() < 0.5},
        "lag": lambda: {
            **span,
            "latency": choice([(0.15, 0.3), (0.5, 1.0), (1.5, 3.0)]),
        },
        "slice": lambda: {**span, "most": choice([1, 7, 50])},
        "syn": lambda: {**span, "how": choice(["drop", "refuse"])},
        "names": lambda: {**span, "how": choice(["hang", "fail"])},
        "close": lambda: {"code": choice(GUILTY + INNOCENT)},
        "shut": lambda: {**span, "status": choice(statuses)},
        "mute": lambda: {**span, "newcomers": chance() < 0.5},
        "late": lambda: {**counted, "seconds": choice([0.5, 2.0, 7.9, 8.1, 12.0])},
        "lose": lambda: counted,
        "double": lambda: counted,
        "refuse": lambda: {
            "message": choice(words),
            "types": choice(kinds),
            "count": count,
        },
        "noise": lambda: {"frames": [choice(NOISE) for _ in range(count)]},
        "flood": lambda: {"frames": choice([70, 300])},
        "block": lambda: {
            "seconds": round(choice([0.3, 2.0, 9.0, 40.0]) * chance(), 2)
        },
        "deaf": lambda: span,
        "http": lambda: {"status": choice([500, 503, 429, None, 502]), "count": count},
        "watch": lambda: {
            "channel": choice(["trade", "snapshot", "depth", "kline", "mixed"]),
            "symbols": some,
            "buffer": choice(["default", "default", "small", "strict"]),
            "pause": choice([0.0, 0.0, 0.0, 0.7]),
            "enter": chance() < 0.5,
            "final": chance() < 0.3,
        },
        "leave": lambda: {"which": which},
        "add": lambda: {**edit, "patience": choice([None, 0.5, 3.0])},
        "remove": lambda: edit,
        "ask": lambda: {
            "kind": choice(["klines", "trades", "snapshots", "depth"]),
            "symbols": some,
            "via": choice(["stream", "stream", "http"]),
            "patience": choice([None, None, 0.2, 2.0]),
        },
    }
    return draws[deed]()


def settings(dice: random.Random) -> tuple[dict[str, Any], Variants]:
    """Draw the server."""
    variants = Variants(
        trades_newest_first=dice.random() < 0.3,
        json_numbers=dice.random() < 0.2,
        push_on_subscribe=dice.random() < 0.3,
        unknown_symbol=dice.choice(["refuse", "omit"]),
        second_connection=dice.choice(["refuse", "close_oldest"]),
        too_fast=dice.choice(["error", "drop"]),
        compression=dice.random() < 0.5,
    )
    options = {
        "rate": dice.choice([0.2, 0.5, 1.0, 2.0]),
        "beat": 0.25,
        "history": dice.choice([5.0, 100.0]),
        "plan": Limits(symbols=dice.choice([3, 4, 10])),
    }
    return options, variants


class _Sim(Simulator):
    _doubles: Rules[bool]

    def _deliver(self, link: Link, type: str, answer: bytes) -> None:
        super()._deliver(link, type, answer)
        if self._doubles.take(type):
            super()._deliver(link, type, answer)


class World:
    """A client, its server, the network between them, and the users.

    Its methods named like a ``Step``'s deed are what can happen.
    """

    def __init__(self, sim: _Sim, client: Client, judge: Judge) -> None:
        self.sim = sim
        self.client = client
        self.judge = judge
        self.readers: list[Reader] = []
        self.faults: list[asyncio.Task[None]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._reading: list[asyncio.Task[None]] = []
        self._marks = 100
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.net = loop.net
        self._usual = self.net.latency

    # Everybody

    def spawn(self, deed: str, what: dict[str, Any]) -> None:
        """Let something happen."""
        self.judge.note(str(Step(self.loop.time(), deed, what))[9:])
        task = self.loop.create_task(getattr(self, deed)(**what), name=deed)
        (self.tasks if deed in USERS else self.faults).append(task)

    async def run(self, steps: list[Step]) -> None:
        """Let all of a schedule happen, and look every second."""
        for step in steps:
            while (left := step.at - self.loop.time()) > 0:
                await asyncio.sleep(min(left, 1.0))
                self.look()
            self.spawn(step.deed, step.what)
        self.look()

    def look(self) -> None:
        """Fail at the first breach."""
        judge = self.judge
        judge.look(self.sim, self.client)
        if self.client.state is LinkState.CLOSED:
            judge.fail("I1", f"the client gave up: {self.client._stream._error!r}")
        for task in [*self.faults, *self.tasks]:
            if task.done() and not task.cancelled():
                task.result()
        self.tasks = [task for task in self.tasks if not task.done()]
        if judge.broken is not None:
            raise judge.broken

    def calm(self) -> None:
        """Stop all faults."""
        for task in self.faults:
            task.cancel()
        self.net.latency, self.net.slice, self.net.merge = self._usual, 0, 0.0
        self.net.syn.clear()
        self.net.dns.clear()
        self.net.on_connect = None
        for connection in self.net.connections:
            connection.up.cut_after = connection.down.cut_after = None
            connection.heal()
            connection.server.resume_reading()
        sim = self.sim
        sim.unmute()
        sim.allow_upgrades()
        rules: list[Rules[Any]] = [sim._refusals, sim._delays, sim._losses]
        for some in (*rules, sim._failures, sim._doubles):
            some.turns.clear()

    # The network

    def _open(self) -> list[Connection]:
        return [c for c in self.net.connections if not c.client.lost]

    async def cut(self, how: Any) -> None:
        for connection in self._open():
            connection.cut(how)

    async def snap(self, *, how: Any, after: int, up: bool) -> None:
        found = self._open()
        pipes = [connection.up if up else connection.down for connection in found]
        for pipe in pipes:
            pipe.cut_after, pipe.cut_how = pipe.passed + after, how
        if how == "hole":
            await self._dark(40.0, found)
            for pipe in pipes:
                pipe.cut_after = None

    async def dark(self, *, lasting: float, newcomers: bool) -> None:
        for connection in (found := self._open()):
            connection.blackhole()
        if newcomers:
            self.net.on_connect = Connection.blackhole
        await self._dark(lasting, self.net.connections if newcomers else found)
        self.net.on_connect = None

    async def one_way(self, *, lasting: float, up: bool) -> None:
        for connection in (found := self._open()):
            (connection.up if up else connection.down).blackhole()
        await self._dark(lasting, found)

    async def _dark(self, lasting: float, dark: list[Connection]) -> None:
        with self.judge.blinded():
            await asyncio.sleep(lasting)
        for connection in dark:
            connection.heal()

    async def lag(self, latency: Any, lasting: float) -> None:
        self.net.latency = latency
        await asyncio.sleep(lasting)
        self.net.latency = self._usual

    async def slice(self, most: int, lasting: float) -> None:
        self.net.slice = most
        await asyncio.sleep(lasting)
        self.net.slice = 0

    async def syn(self, how: Any, lasting: float) -> None:
        port = self.sim._address[1]
        self.net.syn[port] = how
        await asyncio.sleep(lasting)
        self.net.syn.pop(port, None)

    async def names(self, how: str, lasting: float) -> None:
        self.net.dns["localhost"] = "hang" if how == "hang" else OSError("no such name")
        await asyncio.sleep(lasting)
        self.net.dns.clear()

    async def deaf(self, lasting: float) -> None:
        for connection in (found := self._open()):
            connection.server.pause_reading()
        with self.judge.blinded():
            await asyncio.sleep(lasting)
        for connection in found:
            connection.server.resume_reading()

    # The server

    async def close(self, code: int) -> None:
        await self.sim.close(code, "because")

    async def shut(self, status: int | None, lasting: float) -> None:
        self.sim.refuse_upgrades(status, None)
        await asyncio.sleep(lasting)
        self.sim.allow_upgrades()

    async def mute(self, *, lasting: float, newcomers: bool) -> None:
        self.sim.mute(newcomers=newcomers)
        await asyncio.sleep(lasting)
        self.sim.unmute()

    async def late(self, seconds: float, types: Any, count: int) -> None:
        self.sim.answer_late(seconds, types, count)

    async def lose(self, types: Any, count: int) -> None:
        self.sim.lose_answers(types, count)

    async def double(self, types: Any, count: int) -> None:
        self.sim._doubles.add(True, types, count)

    async def refuse(self, message: str, types: Any, count: int) -> None:
        self.sim.refuse(message, types, count)

    async def noise(self, frames: list[bytes]) -> None:
        for frame in frames:
            self.sim.garbage(frame)

    async def flood(self, frames: int) -> None:
        for number in range(frames):
            self.sim.push({"tp": "X", "number": number})

    async def http(self, status: int | None, count: int) -> None:
        self.sim.fail_http(status, count, headers={"Retry-After": "2"})

    # Our own process

    async def block(self, seconds: float) -> None:
        self.loop.block(seconds)
        self.judge.stalled(seconds)

    # The users

    async def watch(
        self,
        channel: str,
        symbols: list[str],
        *,
        buffer: str = "default",
        pause: float = 0.0,
        enter: bool = False,
        final: bool = False,
    ) -> None:
        policies: dict[str, Any] = {
            "default": None,
            "small": Latest() if channel in ("snapshot", "depth") else DropOldest(5),
            "strict": Strict(500),
        }
        policy, client = policies[buffer], self.client
        name = f"reader {len(self.judge.readers)}"
        topics = _topics(channel, symbols)
        try:
            match channel:
                case "trade":
                    sub: Any = client.watch_trades(symbols, buffer=policy)
                case "snapshot":
                    sub = client.watch_snapshots(symbols, buffer=policy)
                case "depth":
                    sub = client.watch_depth(symbols, buffer=policy)
                case "kline":
                    sub = client.watch_klines(
                        symbols, interval="1m", final=final, buffer=policy
                    )
                case _:
                    sub = client.watch(*topics, buffer=policy)
        except QosError as exc:
            self.judge.note(f"{name} hears {exc!r}")
            return
        pause = pause if buffer != "strict" else 0.0
        reader = Reader(
            self.judge,
            name,
            sub,
            topics,
            pause=pause,
            final=final and channel == "kline",
        )
        reading = self.loop.create_task(reader.run(), name=name)
        self._reading.append(reading)
        self.readers.append(reader)
        if enter:
            try:
                await sub.__aenter__()
            except QosError as exc:
                reader.told(exc)
                reader.leaves(reader.open)
            else:
                reader.agreed()

    def _reader(self, which: int) -> Reader | None:
        self.readers = [reader for reader in self.readers if not reader.over]
        return self.readers[which % len(self.readers)] if self.readers else None

    async def leave(self, which: int) -> None:
        reader = self._reader(which)
        if reader is not None and len(self.readers) > 3:
            reader.leaves(reader.open)
            self.readers.remove(reader)
            await reader.sub.aclose()

    async def add(self, which: int, symbols: list[str], patience: float | None) -> None:
        reader = self._reader(which)
        if reader is None:
            return
        topics = _topics(_channel(reader), symbols)
        mixed = len({topic.channel for topic in reader.stints}) > 1
        try:
            async with asyncio.timeout(patience):
                adding = reader.sub.add(*(topics if mixed else symbols))
                reader.wants(topics)
                await adding
        except QosError as exc:
            reader.told(exc)
        except TimeoutError:
            self.judge.note(f"{reader.name} does not wait")
        else:
            reader.agreed()

    async def remove(self, which: int, symbols: list[str]) -> None:
        reader = self._reader(which)
        if reader is None:
            return
        topics = _topics(_channel(reader), symbols)
        mixed = len({topic.channel for topic in reader.stints}) > 1
        if set(reader.sub.topics) <= set(topics):
            return
        reader.leaves(topics)
        await reader.sub.remove(*(topics if mixed else symbols))

    async def ask(
        self, kind: str, symbols: list[str], via: Any, patience: float | None
    ) -> None:
        self._marks += 1
        mark = self._marks % 900 + 100 if kind == "klines" else None
        options: dict[str, Any] = (
            {} if mark is None else {"interval": "1m", "count": mark}
        )
        asked = Ask(f"{kind} {symbols} {mark}", self.loop.time(), via, mark)
        self.judge.asks.append(asked)
        said = "answered"
        try:
            async with asyncio.timeout(patience) as limit:
                await getattr(self.client, f"fetch_{kind}")(symbols, via=via, **options)
        except TimeoutError as exc:
            asked.cancelled = limit.expired()
            said = repr(exc)
        except QosError as exc:
            said = repr(exc)
        asked.done_at = self.loop.time()
        self.judge.secret(said, "the answer to a question")
        self.judge.note(f"{asked.what} via {via}: {said}")

    # The end

    @property
    def desired(self) -> set[tuple[str, str, int | None]]:
        """What the server should have."""
        return {
            (LETTERS[topic.channel], topic.symbol, topic.interval)
            for reader in self.judge.readers
            if not reader.over
            for topic in reader.sub.topics
            if topic.symbol != NOWHERE
        }

    def unsettled(self) -> str:
        """Say what is not as the users want it; nothing if all is well."""
        has, desired = self.sim.subscribed, self.desired
        session = self.client._stream._protocol
        if self.client.state is not LinkState.OPEN:
            return f"the link is {self.client.state}"
        if has != desired:
            return f"wanted {sorted(map(str, desired - has))}, not {sorted(map(str, has - desired))}"
        if session.outages.open:
            return f"outages {session.outages.open}"
        return "" if session.registry.settled else "not settled"

    async def settle(self) -> None:
        """Stop the faults: all must come to what is wanted."""
        self.calm()
        self.judge.note("the faults stop")
        well = 0
        for _ in range(LONGEST):
            await asyncio.sleep(1.0)
            self.look()
            well = 0 if self.unsettled() else well + 1
            if well == 8:
                break
        else:
            self.judge.fail(
                "I1", f"{LONGEST} s after the last fault: {self.unsettled()}"
            )
        for reader in self.readers:
            lost = reader.open - set(reader.sub.topics) if not reader.over else set()
            kept = {t for t in lost if t.symbol not in reader.refused}
            self.judge.check("I1", not kept, f"{reader.name} lost {kept} untold")
        self.judge.quiet_at = self.loop.time()
        for via in ("stream", "http"):
            await self.ask("snapshots", [A], via, None)
            answered = self.judge.trace[-1].endswith("answered")
            self.judge.check("I1", answered, self.judge.trace[-1])
        self.look()

    async def release(self) -> None:
        """Everybody leaves: nothing may be left."""
        for reader in list(self.readers):
            reader.leaves(reader.open)
            await reader.sub.aclose()
        await asyncio.sleep(30.0)
        self.look()
        text = f"still subscribed: {self.sim.subscribed}"
        self.judge.check("I1", not self.sim.subscribed, text)
        for name, size in sizes(self.client).items():
            self.judge.check("I16", not size, f"{name} holds {size} in the end")

    async def finish(self) -> None:
        """Close the client: nobody may wait any longer."""
        before = self.judge.ended_at = self.loop.time()
        await self.client.aclose()
        took = self.loop.time() - before
        most = 3.5 + self.judge.slack(before)
        self.judge.check("I11", took <= most, f"aclose took {took:g} s")
        for reader in self.judge.readers:
            reader.leaves(reader.open)
            reader.pause = 0.0
        _, waiting = await asyncio.wait([*self._reading, self._idle()], timeout=120.0)
        self.judge.check("I12", not waiting, f"still reading: {waiting}")
        for reader in self.judge.readers:
            await self._ended(reader)
        await asyncio.sleep(1.0)
        for ask in self.judge.asks:
            self.judge.check("I5", ask.done_at is not None, f"{ask} waits after aclose")
        left = [*self.faults, *self.tasks, *self._reading]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.judge.secret(f"{self.client!r} {vars(self.client)!r}", "the client")
        for frame in self.sim.frames:
            self.judge.secret(str(frame.body), "a frame")
        where = {request.key_in for request in self.sim.requests}
        self.judge.check("I13", where <= {"header"}, f"the key was in {where}")

    def _idle(self) -> asyncio.Task[None]:
        return self.loop.create_task(asyncio.sleep(0))

    async def _ended(self, reader: Reader) -> None:
        try:
            async with asyncio.timeout(0.1):
                while True:
                    await anext(reader.sub)
        except (StopAsyncIteration, QosError):
            pass
        except TimeoutError:
            self.judge.fail("I12", f"{reader.name} waits after the end")


@contextmanager
def clocks(loop: SimLoop) -> Iterator[None]:
    """Let the wall clock show the loop's time; the machine never sleeps."""

    def now() -> float:
        return START + loop.time()

    def now_ns() -> int:
        return int(now() * 1e9)

    with (
        mock.patch("time.time", now),
        mock.patch("time.time_ns", now_ns),
        mock.patch("qos_async._io.clocks._total_suspended", return_value=0.0),
    ):
        yield


@contextmanager
def overheard(judge: Judge) -> Iterator[None]:
    """Let the judge hear every log."""
    ears, names = judge.listen(), ("qos_async", "aiohttp", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(ears)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(ears)
            logger.setLevel(level)


async def begin(sim: _Sim, judge: Judge, **options: Any) -> World:
    """Connect a client that the judge watches."""
    port = sim._address[1]
    client = Client(
        KEY,
        http_url=f"http://localhost:{port}",
        stream_url=f"ws://localhost:{port}/ws",
        limits=sim.plan,
        **options,
    )
    links = client._stream._supervisor
    links._transport = Tap(links._transport, judge)
    return World(sim, client, judge)


def simulator(**options: Any) -> _Sim:
    """Make a simulator with a clock of its own, which doubles answers, too."""
    sim = _Sim(start=START, key=KEY, **options)
    sim._doubles = Rules([])
    return sim


def chaos(seed: int) -> Outcome:
    """Run through the chaos of a seed.

    Raises:
        AssertionError: With everything that is needed to find out why, and to see it
            again.
    """
    dice = random.Random(f"chaos {seed}")
    options, variants = settings(dice)
    steps = schedule(dice)
    ending = dice.choices(["released", "settled", "midway"], [6, 3, 1])[0]
    judges: list[Judge] = []

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        judge = Judge(loop.time)
        judges.append(judge)
        with clocks(loop), overheard(judge):
            async with simulator(seed=seed, variants=variants, **options) as sim:
                await _live(await begin(sim, judge), steps, ending)
                judge.verdict(sim)
        if judge.broken is not None:
            raise judge.broken
        judge.note(loop.trace)
        gaps = sum(reader.sub.stats.gaps for reader in judge.readers)
        return Outcome(judge.hash, len(judge.links), sum(judge.counts.values()), gaps)

    try:
        return simulate(main, seed=seed)
    except Exception as exc:
        told = judges[0].trace[-40:] if judges else []
        broken = isinstance(exc, Broken)
        raise AssertionError(
            "\n".join(
                [
                    f"{exc}" if broken else f"I11/I18: {type(exc).__name__}: {exc}",
                    f"seed {seed}, ends {ending}, {options}, {variants}",
                    *map(str, steps),
                    "the last of the trace:",
                    *told,
                    AGAIN.format(seed),
                ]
            )
        ) from exc


async def _live(world: World, steps: list[Step], ending: str) -> None:
    states: Coroutine[Any, Any, None] = world.judge.watch_states(world.client)
    watching = asyncio.create_task(states)
    await asyncio.sleep(0)
    try:
        for channel, symbols, final in (
            ("trade", [A, B], False),
            ("depth", [A], False),
            ("snapshot", [B], False),
            ("kline", [A], False),
            ("kline", [A, B], True),
        ):
            world.spawn(
                "watch", {"channel": channel, "symbols": symbols, "final": final}
            )
        await asyncio.sleep(5.0)  # Nothing is retried that never went well.
        await world.run(steps)
        if ending != "midway":
            await world.settle()
        if ending == "released":
            await world.release()
    finally:
        await world.finish()
        world.calm()
        await watching


def _channel(reader: Reader) -> str:
    found = {str(topic.channel) for topic in reader.stints}
    return found.pop() if len(found) == 1 else "mixed"


def _topics(channel: str, symbols: list[str]) -> list[Topic]:
    if channel == "mixed":
        return [
            *(Topic("trade", symbol) for symbol in symbols),
            *(Topic("kline", symbol, "5m") for symbol in symbols),
        ]
    interval = "1m" if channel == "kline" else None
    return [Topic(channel, symbol, interval) for symbol in symbols]
