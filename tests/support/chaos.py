"""Chaos runs: some minutes of random faults and user actions, then a quiet end.

A seed determines the server, a schedule of actions, and everything random. The real
client and the simulator run through it on a ``SimLoop``, checked by an
``InvariantChecker``; then the faults stop, and every subscription must recover. Equal
seeds give equal runs, to the byte.

Left out, because no client can survive them: rejected unsubscriptions, forged replies
with the right id, rejections without an id that arrive after the timeout. And because
they end a client for good: a rejected key for more than two minutes, five closes in a
row with a code that blames the client, three with 1008.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from qos_async import Client, QosError
from qos_async._core.wire import LETTERS
from qos_async.enums import LinkState
from qos_async.sim.faults import FaultRules
from qos_async.testing.virtual import SimLoop, simulate
from tests.support.chaos_actions import ChaosActions, ChaosSimulator, make_simulator
from tests.support.chaos_schedule import (
    SYMBOLS,
    UNKNOWN_SYMBOL,
    USER_ACTIONS,
    Step,
    draw_server,
    schedule,
)
from tests.support.client_sizes import client_sizes
from tests.support.delivery_checks import check_deliveries
from tests.support.invariants import (
    KEY,
    InvariantChecker,
    InvariantViolation,
    RecordingConsumer,
)
from tests.support.observations import START
from tests.support.observed_transport import ObservedTransport
from tests.support.state_checks import check_states

__all__ = [
    "ChaosRun",
    "Outcome",
    "chaos",
    "checked_logs",
    "patched_clocks",
    "start_run",
]

REPEAT_COMMAND = (
    "again: QOS_CHAOS_SEED={} python -m pytest -n0 tests/faults/test_chaos.py -k seed"
)
SETTLE_TIMEOUT = 300


class Outcome(NamedTuple):
    """The result of a run; equal for equal seeds."""

    hash: str
    links: int
    frames: int
    gaps: int


class ChaosRun(ChaosActions):
    """One run: starts actions, checks invariants, and ends."""

    def start(self, action: str, arguments: dict[str, Any]) -> None:
        """Start an action in a task."""
        self.checker.record(str(Step(self.loop.time(), action, arguments))[9:])
        task = self.loop.create_task(getattr(self, action)(**arguments), name=action)
        (self.tasks if action in USER_ACTIONS else self.faults).append(task)

    async def run(self, steps: list[Step]) -> None:
        """Run a schedule, and check all invariants every second."""
        for step in steps:
            while (left := step.at - self.loop.time()) > 0:
                await asyncio.sleep(min(left, 1.0))
                self.check_now()
            self.start(step.action, step.arguments)
        self.check_now()

    def check_now(self) -> None:
        """Raise the first violation."""
        checker = self.checker
        checker.check_now(self.sim, self.client)
        if self.client.state is LinkState.CLOSED:
            checker.fail("I1", f"the client gave up: {self.client._stream._error!r}")
        for task in [*self.faults, *self.tasks]:
            if task.done() and not task.cancelled():
                task.result()
        self.tasks = [task for task in self.tasks if not task.done()]
        if checker.violation is not None:
            raise checker.violation

    def stop_faults(self) -> None:
        """Stop all faults."""
        for task in self.faults:
            task.cancel()
        self.net.latency, self.net.slice, self.net.merge = self._usual_latency, 0, 0.0
        self.net.syn.clear()
        self.net.dns.clear()
        self.net.on_connect = None
        for connection in self.net.connections:
            connection.up.cut_after = connection.down.cut_after = None
            connection.restore()
            connection.server.resume_reading()
        sim = self.sim
        sim.unmute()
        sim.allow_upgrades()
        faults = sim._faults
        kinds: list[FaultRules[Any]] = [
            faults.rejections,
            faults.delays,
            faults.drops,
            faults.responses,
            faults.duplicates,
        ]
        for kind in kinds:
            kind.rules.clear()

    # The end

    @property
    def desired(self) -> set[tuple[str, str, int | None]]:
        """The topics that the server should have."""
        return {
            (LETTERS[topic.channel], topic.symbol, topic.interval)
            for consumer in self.checker.consumers
            if not consumer.ended
            for topic in consumer.sub.topics
            if topic.symbol != UNKNOWN_SYMBOL
        }

    def unsettled_reason(self) -> str:
        """Return why the subscriptions are not as the users want them, or an empty text."""
        actual, desired = self.sim.subscribed, self.desired
        protocol = self.client._stream._protocol
        if self.client.state is not LinkState.OPEN:
            return f"the link is {self.client.state}"
        if actual != desired:
            missing, extra = desired - actual, actual - desired
            return (
                f"missing {sorted(map(str, missing))}, extra {sorted(map(str, extra))}"
            )
        if protocol.outages.open:
            return f"outages {protocol.outages.open}"
        return "" if protocol.registry.settled else "not settled"

    async def settle(self) -> None:
        """Stop the faults, and check that everything recovers."""
        self.stop_faults()
        self.checker.record("the faults stop")
        settled_seconds = 0
        for _ in range(SETTLE_TIMEOUT):
            await asyncio.sleep(1.0)
            self.check_now()
            settled_seconds = 0 if self.unsettled_reason() else settled_seconds + 1
            if settled_seconds == 8:
                break
        else:
            self.checker.fail(
                "I1",
                f"{SETTLE_TIMEOUT} s after the last fault: {self.unsettled_reason()}",
            )
        for consumer in self.consumers:
            if consumer.ended:
                continue
            lost = consumer.open - set(consumer.sub.topics)
            lost = {topic for topic in lost if topic.symbol not in consumer.rejected}
            text = f"{consumer.name} lost {lost} without an error"
            self.checker.check("I1", not lost, text)
        self.checker.settled_at = self.loop.time()
        for via in ("stream", "http"):
            await self.fetch("snapshots", [SYMBOLS[0]], via, None)
            answered = self.checker.trace[-1].endswith("answered")
            self.checker.check("I1", answered, self.checker.trace[-1])
        self.check_now()

    async def unsubscribe_all(self) -> None:
        """Close all subscriptions, and check that nothing is left."""
        for consumer in list(self.consumers):
            consumer.removed(consumer.open)
            await consumer.sub.aclose()
        await asyncio.sleep(30.0)
        self.check_now()
        text = f"still subscribed: {self.sim.subscribed}"
        self.checker.check("I1", not self.sim.subscribed, text)
        for name, size in client_sizes(self.client).items():
            self.checker.check("I16", not size, f"{name} holds {size} in the end")

    async def close_client(self) -> None:
        """Close the client, and check that no task waits any longer."""
        before = self.checker.closed_at = self.loop.time()
        await self.client.aclose()
        took = self.loop.time() - before
        most = 3.5 + self.checker.slack(before)
        self.checker.check("I11", took <= most, f"aclose took {took:g} s")
        for consumer in self.checker.consumers:
            consumer.removed(consumer.open)
            consumer.pause = 0.0
        _, waiting = await asyncio.wait([*self._consuming, self._idle()], timeout=120.0)
        self.checker.check("I12", not waiting, f"still consuming: {waiting}")
        for consumer in self.checker.consumers:
            await self._check_ended(consumer)
        await asyncio.sleep(1.0)
        for fetch in self.checker.fetches:
            done = fetch.done_at is not None
            self.checker.check("I5", done, f"{fetch} waits after aclose")
        left = [*self.faults, *self.tasks, *self._consuming]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self.checker.check_no_key(
            f"{self.client!r} {vars(self.client)!r}", "the client"
        )
        for frame in self.sim.frames:
            self.checker.check_no_key(str(frame.body), "a frame")
        where = {request.key_in for request in self.sim.requests}
        self.checker.check("I13", where <= {"header"}, f"the key was in {where}")

    def _idle(self) -> asyncio.Task[None]:
        return self.loop.create_task(asyncio.sleep(0))

    async def _check_ended(self, consumer: RecordingConsumer) -> None:
        try:
            async with asyncio.timeout(0.1):
                while True:
                    await anext(consumer.sub)
        except (StopAsyncIteration, QosError):
            pass
        except TimeoutError:
            self.checker.fail("I12", f"{consumer.name} waits after the end")


@contextmanager
def patched_clocks(loop: SimLoop) -> Iterator[None]:
    """Take the wall clock from the loop; the machine is never suspended."""

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
def checked_logs(checker: InvariantChecker) -> Iterator[None]:
    """Have the checker check every log record."""
    handler, names = checker.log_handler(), ("qos_async", "aiohttp", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


async def start_run(
    sim: ChaosSimulator, checker: InvariantChecker, **options: Any
) -> ChaosRun:
    """Make a client that the checker observes."""
    port = sim._address[1]
    client = Client(
        KEY,
        http_url=f"http://localhost:{port}",
        stream_url=f"ws://localhost:{port}/ws",
        limits=sim.plan,
        **options,
    )
    links = client._stream._supervisor
    links._transport = ObservedTransport(links._transport, checker)
    return ChaosRun(sim, client, checker)


def chaos(seed: int) -> Outcome:
    """Run the chaos of a seed.

    Raises:
        AssertionError: For a violation; with the schedule, the end of the trace and the
            command that repeats the run.
    """
    rng = random.Random(f"chaos {seed}")
    options, variants = draw_server(rng)
    steps = schedule(rng)
    ending = rng.choices(["released", "settled", "midway"], [6, 3, 1])[0]
    checkers: list[InvariantChecker] = []

    async def main() -> Outcome:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        checker = InvariantChecker(loop.time)
        checkers.append(checker)
        with patched_clocks(loop), checked_logs(checker):
            async with make_simulator(seed=seed, variants=variants, **options) as sim:
                await _run(await start_run(sim, checker), steps, ending)
                check_deliveries(checker, sim)
        if checker.violation is not None:
            raise checker.violation
        checker.record(loop.trace)
        gaps = sum(consumer.sub.stats.gaps for consumer in checker.consumers)
        return Outcome(
            checker.hash, len(checker.links), sum(checker.counts.values()), gaps
        )

    try:
        return simulate(main, seed=seed)
    except Exception as exc:
        is_violation = isinstance(exc, InvariantViolation)
        report = [
            f"{exc}" if is_violation else f"I11/I18: {type(exc).__name__}: {exc}",
            f"seed {seed}, ends {ending}, {options}, {variants}",
            *map(str, steps),
            "the end of the trace:",
            *(line for checker in checkers for line in checker.trace[-40:]),
            REPEAT_COMMAND.format(seed),
        ]
        raise AssertionError("\n".join(report)) from exc


async def _run(run: ChaosRun, steps: list[Step], ending: str) -> None:
    states: Coroutine[Any, Any, None] = check_states(run.checker, run.client)
    watching = asyncio.create_task(states)
    await asyncio.sleep(0)
    first, second = SYMBOLS[:2]
    try:
        for channel, symbols, final in (
            ("trade", [first, second], False),
            ("depth", [first], False),
            ("snapshot", [second], False),
            ("kline", [first], False),
            ("kline", [first, second], True),
        ):
            arguments = {"channel": channel, "symbols": symbols, "final": final}
            run.start("subscribe", arguments)
        await asyncio.sleep(5.0)  # A link that was never open is not retried.
        await run.run(steps)
        if ending != "midway":
            await run.settle()
        if ending == "released":
            await run.unsubscribe_all()
    finally:
        await run.close_client()
        run.stop_faults()
        await watching
