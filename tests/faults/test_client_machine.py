"""Hypothesis as the user, the server and the network: client and simulator together.

Rules are synchronous and drive a virtual loop. What a ``Judge`` watches holds after each;
in the end the faults stop, all comes to what is wanted, all is released, and nothing is
left.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qos_async import Limits
from qos_async.sim import Variants
from qos_async.testing.virtual import SimLoop
from tests.support.chaos import (
    COMMANDS,
    NOISE,
    NOWHERE,
    QUESTIONS,
    SYMBOLS,
    World,
    begin,
    clocks,
    overheard,
    simulator,
)
from tests.support.invariants import Judge

symbols = st.lists(
    st.sampled_from([*SYMBOLS[:3], NOWHERE]), min_size=1, max_size=2, unique=True
)
which = st.integers(0, 3)
spans = st.sampled_from([0.3, 4.0, 12.0, 30.0])
types = st.sampled_from([None, COMMANDS, QUESTIONS, ("H",), ("T",)])
counts = st.integers(1, 3)


class ClientAndServer(RuleBasedStateMachine):
    """One client, one simulator, and whatever may happen between them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = SimLoop(seed=1, horizon=100_000.0)
        self.stack = AsyncExitStack()
        self.judge = Judge(self.loop.time)
        self.patches = ExitStack()
        self.patches.enter_context(clocks(self.loop))
        self.patches.enter_context(overheard(self.judge))
        self.world: World = self._do(self._begin())

    def _do(self, deed: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(deed)

    async def _begin(self) -> World:
        sim = simulator(
            seed=1,
            rate=0.5,
            push_interval=0.25,
            history=20.0,
            plan=Limits(symbols=3),
            variants=Variants(unknown_symbol="refuse"),
        )
        await self.stack.enter_async_context(sim)
        world = await begin(sim, self.judge)
        self.watching = asyncio.create_task(self.judge.watch_states(world.client))
        await asyncio.sleep(0)
        await world.watch("trade", [SYMBOLS[0]])
        return world

    def _spawn(self, deed: str, **what: Any) -> None:
        self.world.spawn(deed, what)
        self._do(asyncio.sleep(0))

    # The users

    @rule(
        channel=st.sampled_from(["trade", "snapshot", "depth", "kline", "mixed"]),
        symbols=symbols,
        enter=st.booleans(),
        buffer=st.sampled_from(["default", "small"]),
    )
    def subscribe(self, **what: Any) -> None:
        self._spawn("watch", **what)

    @rule(which=which)
    def unsubscribe(self, which: int) -> None:
        self._spawn("leave", which=which)

    @rule(which=which, symbols=symbols, patience=st.sampled_from([None, 0.5]))
    def add(self, **what: Any) -> None:
        self._spawn("add", **what)

    @rule(which=which, symbols=symbols)
    def remove(self, **what: Any) -> None:
        self._spawn("remove", **what)

    @rule(
        kind=st.sampled_from(["klines", "trades", "depth"]),
        symbols=symbols,
        patience=st.sampled_from([None, None, 0.5]),
    )
    def ask(self, **what: Any) -> None:
        self._spawn("ask", via="stream", **what)

    @rule(seconds=st.sampled_from([0.4, 5.0, 29.0]))
    def block(self, seconds: float) -> None:
        self._spawn("block", seconds=seconds)

    # The network

    @rule(how=st.sampled_from(["reset", "end"]))
    def cut(self, how: str) -> None:
        self._spawn("cut", how=how)

    @rule(lasting=spans, newcomers=st.booleans())
    def black_hole(self, **what: Any) -> None:
        self._spawn("dark", **what)

    @rule(lasting=spans, up=st.booleans())
    def stall(self, **what: Any) -> None:
        self._spawn("one_way", **what)

    @rule()
    def heal(self) -> None:
        self.world.calm()

    # The server

    @rule(lasting=spans, newcomers=st.booleans())
    def mute(self, **what: Any) -> None:
        self._spawn("mute", **what)

    @rule(message=st.sampled_from(["Server busy."]), types=types, count=counts)
    def refuse(self, message: str, types: Any, count: int) -> None:
        self._spawn("refuse", message=message, types=types or COMMANDS, count=count)

    @rule(lasting=spans, status=st.sampled_from([429, 503, None]))
    def refuse_upgrades(self, **what: Any) -> None:
        self._spawn("shut", **what)

    @rule(frame=st.sampled_from(NOISE))
    def garbage(self, frame: bytes) -> None:
        self._spawn("noise", frames=[frame])

    @rule(seconds=st.sampled_from([2.0, 7.9, 8.1]), types=types, count=counts)
    def answer_late(self, **what: Any) -> None:
        self._spawn("late", **what)

    @rule(types=types, count=counts)
    def lose_answers(self, **what: Any) -> None:
        self._spawn("lose", **what)

    @rule(code=st.sampled_from([1001, 1011, 1012]))
    def hang_up(self, code: int) -> None:
        self._spawn("close", code=code)

    # Time

    @rule(seconds=st.sampled_from([0.05, 1.0, 1.1, 8.0, 26.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        self.world.look()

    def teardown(self) -> None:
        try:
            self._do(self._end())
        finally:
            self.patches.close()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self._do(asyncio.sleep(0))
            self.loop.close()

    async def _end(self) -> None:
        world, judge = self.world, self.judge
        broken = judge.broken
        async with self.stack:
            try:
                if broken is None:
                    await world.settle()
                    await world.release()
            finally:
                await world.finish()
                world.calm()
                await self.watching
            judge.verdict(world.sim)
        await asyncio.sleep(1.0)
        left = self.loop.net.open_clients
        judge.check("I11", not left, f"still open: {left}")
        judge.check("I18", not self.loop.unhandled, f"{self.loop.unhandled}")
        if broken is None and judge.broken is not None:
            raise judge.broken


more = int(os.environ.get("QOS_TEST_EFFORT", "1"))
TestClientAndServer = pytest.mark.slow(
    pytest.mark.fault("U8", "U9", "U18", "I1", "I8", "I10", "I16")(
        ClientAndServer.TestCase
    )
)
TestClientAndServer.settings = settings(
    max_examples=25 * more,
    stateful_step_count=25,
    deadline=None,
    derandomize=more == 1,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
