"""A Hypothesis state machine that drives client, simulator and network together.

Rules are synchronous and drive a virtual loop. All invariants are checked after each; in
the end the faults stop, everything recovers, all is unsubscribed, and nothing is left.
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
from tests.support.chaos import ChaosRun, checked_logs, patched_clocks, start_run
from tests.support.chaos_actions import make_simulator
from tests.support.chaos_schedule import (
    COMMANDS,
    NOISE,
    REQUESTS,
    SYMBOLS,
    UNKNOWN_SYMBOL,
)
from tests.support.delivery_checks import check_deliveries
from tests.support.invariants import InvariantChecker
from tests.support.state_checks import check_states

symbols = st.lists(
    st.sampled_from([*SYMBOLS[:3], UNKNOWN_SYMBOL]), min_size=1, max_size=2, unique=True
)
index = st.integers(0, 3)
spans = st.sampled_from([0.3, 4.0, 12.0, 30.0])
types = st.sampled_from([None, COMMANDS, REQUESTS, ("H",), ("T",)])
counts = st.integers(1, 3)


class ClientAndServer(RuleBasedStateMachine):
    """One client, one simulator, and the actions of a chaos run."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = SimLoop(seed=1, horizon=100_000.0)
        self.stack = AsyncExitStack()
        self.checker = InvariantChecker(self.loop.time)
        self.patches = ExitStack()
        self.patches.enter_context(patched_clocks(self.loop))
        self.patches.enter_context(checked_logs(self.checker))
        self.chaos: ChaosRun = self._do(self._begin())

    def _do(self, action: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(action)

    async def _begin(self) -> ChaosRun:
        sim = make_simulator(
            seed=1,
            rate=0.5,
            push_interval=0.25,
            history=20.0,
            plan=Limits(symbols=3),
            variants=Variants(unknown_symbol="refuse"),
        )
        await self.stack.enter_async_context(sim)
        run = await start_run(sim, self.checker)
        self.watching = asyncio.create_task(check_states(self.checker, run.client))
        await asyncio.sleep(0)
        await run.subscribe("trade", [SYMBOLS[0]])
        return run

    def _start(self, action: str, **arguments: Any) -> None:
        self.chaos.start(action, arguments)
        self._do(asyncio.sleep(0))

    # The users

    @rule(
        channel=st.sampled_from(["trade", "snapshot", "depth", "kline", "mixed"]),
        symbols=symbols,
        enter=st.booleans(),
        buffer=st.sampled_from(["default", "small"]),
    )
    def subscribe(self, **arguments: Any) -> None:
        self._start("subscribe", **arguments)

    @rule(index=index)
    def unsubscribe(self, index: int) -> None:
        self._start("unsubscribe", index=index)

    @rule(index=index, symbols=symbols, give_up_after=st.sampled_from([None, 0.5]))
    def add(self, **arguments: Any) -> None:
        self._start("add_topics", **arguments)

    @rule(index=index, symbols=symbols)
    def remove(self, **arguments: Any) -> None:
        self._start("remove_topics", **arguments)

    @rule(
        kind=st.sampled_from(["klines", "trades", "depth"]),
        symbols=symbols,
        give_up_after=st.sampled_from([None, None, 0.5]),
    )
    def fetch(self, **arguments: Any) -> None:
        self._start("fetch", via="stream", **arguments)

    @rule(seconds=st.sampled_from([0.4, 5.0, 29.0]))
    def block(self, seconds: float) -> None:
        self._start("block", seconds=seconds)

    # The network

    @rule(how=st.sampled_from(["reset", "end"]))
    def cut(self, how: str) -> None:
        self._start("cut", how=how)

    @rule(duration=spans, new_connections=st.booleans())
    def blackhole(self, **arguments: Any) -> None:
        self._start("blackhole", **arguments)

    @rule(duration=spans, up=st.booleans())
    def blackhole_one_way(self, **arguments: Any) -> None:
        self._start("blackhole_one_way", **arguments)

    @rule()
    def stop_faults(self) -> None:
        self.chaos.stop_faults()

    # The server

    @rule(duration=spans, new_connections=st.booleans())
    def mute(self, **arguments: Any) -> None:
        self._start("mute", **arguments)

    @rule(message=st.sampled_from(["Server busy."]), types=types, count=counts)
    def reject(self, message: str, types: Any, count: int) -> None:
        self._start("reject", message=message, types=types or COMMANDS, count=count)

    @rule(duration=spans, status=st.sampled_from([429, 503, None]))
    def reject_upgrades(self, **arguments: Any) -> None:
        self._start("reject_upgrades", **arguments)

    @rule(frame=st.sampled_from(NOISE))
    def push_noise(self, frame: bytes) -> None:
        self._start("push_noise", frames=[frame])

    @rule(seconds=st.sampled_from([2.0, 7.9, 8.1]), types=types, count=counts)
    def delay_replies(self, **arguments: Any) -> None:
        self._start("delay_replies", **arguments)

    @rule(types=types, count=counts)
    def drop_replies(self, **arguments: Any) -> None:
        self._start("drop_replies", **arguments)

    @rule(code=st.sampled_from([1001, 1011, 1012]))
    def close(self, code: int) -> None:
        self._start("close", code=code)

    # Time

    @rule(seconds=st.sampled_from([0.05, 1.0, 1.1, 8.0, 26.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self._do(asyncio.sleep(seconds))

    @invariant()
    def all_invariants_hold(self) -> None:
        self.chaos.check_now()

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
        run, checker = self.chaos, self.checker
        failed = checker.violation is not None
        async with self.stack:
            try:
                if not failed:
                    await run.settle()
                    await run.unsubscribe_all()
            finally:
                await run.close_client()
                run.stop_faults()
                await self.watching
            check_deliveries(checker, run.sim)
        await asyncio.sleep(1.0)
        left = self.loop.net.open_clients
        checker.check("I11", not left, f"still open: {left}")
        checker.check("I18", not self.loop.unhandled, f"{self.loop.unhandled}")
        if not failed and checker.violation is not None:
            raise checker.violation


effort = int(os.environ.get("QOS_TEST_EFFORT", "1"))
TestClientAndServer = pytest.mark.slow(
    pytest.mark.fault("U8", "U9", "U18", "I1", "I8", "I10", "I16")(
        ClientAndServer.TestCase
    )
)
TestClientAndServer.settings = settings(
    max_examples=25 * effort,
    stateful_step_count=25,
    deadline=None,
    derandomize=effort == 1,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
