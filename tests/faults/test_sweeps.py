"""Sweeps: calls are cancelled, closed or delayed at every step of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from qos_async import Client, Gap, LinkState, Subscription
from qos_async.errors import ClosedError, QosError
from qos_async.sim import Simulator, Variants
from qos_async.testing.virtual import simulate
from tests.support.sweep import (
    OTHER,
    SYMBOL,
    TIMING,
    check_deliveries,
    check_no_violations,
    make_client,
    running_loop,
    serve,
    until,
)

THIRD = "US:TSLA"
_KEPT: list[Subscription[Any]] = []
Deed = Callable[[Client[Any]], Coroutine[Any, Any, object]]


class Interrupted(Exception):  # noqa: N818
    """A cancellation was swallowed."""


async def cancelled_after(steps: int, deed: Coroutine[Any, Any, object]) -> bool:
    """Cancel a call after ``steps`` steps; return whether it was still running."""
    loop = running_loop()
    task = asyncio.create_task(deed)
    last, requested = loop.steps + steps, False

    def hook(step: int) -> None:
        nonlocal requested
        if step == last:
            requested = task.cancel()

    loop.on_step = hook
    await asyncio.wait([task])
    loop.on_step = None
    if task.cancelled():
        return True
    error = task.exception()
    if error is not None:
        raise error
    if requested:
        raise Interrupted(f"cancelled after {steps} steps, yet it finished")
    return False


class Bystander:
    """A client in use, which must not be affected by other clients."""

    def __init__(self, sim: Simulator, client: Client[Any]) -> None:
        self.sim, self.client = sim, client
        self.events: list[Any] = []
        self._base: tuple[object, ...] = ()

    async def read(self, trades: Subscription[Any]) -> None:
        async for event in trades.events():
            self.events.append(event)

    def settle(self) -> None:
        """Record the current state."""
        self._base = self._holdings()

    async def check(self) -> None:
        """See that the client works, and holds no more than before."""
        assert await self.client.fetch_snapshots(SYMBOL)
        assert await self.client.fetch_snapshots(SYMBOL, via="stream")
        seen = len(self.events)
        await until(lambda: len(self.events) > seen)
        await until(lambda: self._holdings() == self._base, within=5.0)

    def _holdings(self) -> tuple[object, ...]:
        stream = self.client._stream
        tasks = [repr(task.get_coro()) for task in asyncio.all_tasks()]
        return (
            self.sim.subscribed,
            len(stream._queues),
            len(stream._pending._futures),
            len(stream.states._watchers),
            len(running_loop().net.open_clients),
            # One for each connection, and none of the client.
            sum("RequestHandler" not in task for task in tasks),
        )


@asynccontextmanager
async def in_use() -> AsyncGenerator[Bystander]:
    async with serve() as sim, make_client(sim) as client:
        async with client.watch_trades(SYMBOL) as trades:
            bystander = Bystander(sim, client)
            reading = asyncio.create_task(bystander.read(trades))
            await client.fetch_snapshots(SYMBOL)
            await until(lambda: bystander.events)
            bystander.settle()
            yield bystander
            reading.cancel()
            await asyncio.wait([reading])
        check_deliveries(bystander.events, sim)
        assert not any(isinstance(event, Gap) for event in bystander.events)
        check_no_violations(sim)


async def _subscribe(client: Client[Any]) -> None:
    async with AsyncExitStack() as stack:
        for watch in (client.watch_depth, client.watch_snapshots):
            _KEPT.append(watch(OTHER))  # Garbage would unsubscribe, too.
            await stack.enter_async_context(_KEPT[-1])


async def _add(client: Client[Any]) -> None:
    async with client.watch_klines(OTHER, interval="1m") as klines:
        await klines.add(THIRD)
        await klines.remove(OTHER)


async def _page(client: Client[Any]) -> None:
    pages = client.iter_history(SYMBOL, interval="1d", start=1_735_000_000.0)
    async with contextlib.aclosing(pages):
        async for _ in pages:
            pass


def _fetches(via: Any) -> dict[str, Deed]:
    return {
        "instruments": lambda c: c.fetch_instruments(SYMBOL, via=via),
        "snapshots": lambda c: c.fetch_snapshots(SYMBOL, OTHER, via=via),
        "depth": lambda c: c.fetch_depth(SYMBOL, via=via),
        "trades": lambda c: c.fetch_trades(SYMBOL, count=3, via=via),
        "klines": lambda c: c.fetch_klines(SYMBOL, interval="1m", count=3, via=via),
        "history": lambda c: c.fetch_history(
            SYMBOL, interval="1m", end=1_741_958_000, count=3, via=via
        ),
    }


DEEDS: dict[str, Deed] = {
    **{f"http {name}": deed for name, deed in _fetches("http").items()},
    **{f"stream {name}": deed for name, deed in _fetches("stream").items()},
    "calendar": lambda c: c.fetch_calendar("US"),
    "products": lambda c: c.fetch_products("US"),
    "pages": _page,
    "subscribe": _subscribe,
    "add and remove": _add,
    "connect": lambda c: c.connect(),
}


@pytest.mark.fault("U1", "I1", "I2", "I5", "I11", "I16", "I18")
@pytest.mark.parametrize("name", DEEDS)
def test_a_call_can_be_cancelled_at_every_step(name: str) -> None:
    async def main() -> None:
        async with in_use() as bystander:
            for steps in itertools.count(1):
                deed = DEEDS[name](bystander.client)
                if not await cancelled_after(steps, deed):
                    break
                await bystander.check()
            await bystander.check()
            assert steps > 1 or name == "connect"

    simulate(main)
    _KEPT.clear()


@pytest.mark.fault("U1", "I11", "I18")
def test_the_first_connect_can_be_cancelled_at_every_step() -> None:
    async def main() -> None:
        async with serve() as sim:
            for steps in itertools.count(1):
                async with make_client(sim) as client:
                    cancelled = await cancelled_after(steps, client.connect())
                    await client.connect()
                    assert client.state is LinkState.OPEN
                    assert await client.fetch_snapshots(SYMBOL, via="stream")
                    assert len(running_loop().net.open_clients) == 1
                await gone(sim)
                if not cancelled:
                    break
            assert steps > 10
            check_no_violations(sim)

    simulate(main)


@pytest.mark.fault("U1", "U7", "I11", "I12", "I18")
@pytest.mark.parametrize("name", ["aclose", "drain"])
def test_closing_can_be_cancelled_at_every_step_and_repeated(name: str) -> None:
    def close(client: Client[Any]) -> Coroutine[Any, Any, object]:
        return client.aclose() if name == "aclose" else client.drain(0.1)

    async def main() -> None:
        async with serve() as sim:
            for steps in itertools.count(1):
                client = make_client(sim)
                trades = client.watch_trades(SYMBOL)
                await trades.add(SYMBOL)
                await anext(trades)
                await client.fetch_snapshots(SYMBOL)
                cancelled = await cancelled_after(steps, close(client))
                await client.aclose()
                async for _ in trades:
                    pass
                assert client.state is LinkState.CLOSED
                await gone(sim)
                if not cancelled:
                    break
            assert steps > 3

    simulate(main)


READERS: dict[str, Callable[[Subscription[Any]], Callable[[], Awaitable[Any]]]] = {
    "ticks": lambda sub: sub.__anext__,
    "events": lambda sub: sub.events().__anext__,
    "batches": lambda sub: sub.batches(max_items=3, max_wait=0.5).__anext__,
}


@pytest.mark.fault("U2", "I7", "I9")
@pytest.mark.parametrize("name", READERS)
def test_no_tick_is_lost_to_a_cancelled_reader(name: str) -> None:
    async def main() -> None:
        async with (
            serve(rate=3.0) as sim,
            make_client(sim) as client,
            client.watch_trades(SYMBOL) as trades,
        ):
            taken: list[Any] = []
            take = READERS[name](trades)

            async def read() -> None:
                found = await take()
                taken.extend(found if isinstance(found, list) else [found])

            cancelled = 0
            for _ in range(20):
                for steps in range(1, 24):
                    cancelled += await cancelled_after(steps, read())
            assert cancelled > 100
            assert len(taken) > 50
            check_deliveries(taken, sim)
            stats = trades.stats
            assert stats.delivered == len(taken)
            assert stats.received == stats.delivered + stats.backlog
            assert stats.dropped == 0

    simulate(main)


@pytest.mark.fault("U1")
def test_waiting_for_a_change_of_state_can_be_cancelled() -> None:
    async def main() -> None:
        async with serve() as sim, make_client(sim) as client:
            await client.connect()
            changes = client.states()
            for steps in range(1, 12):
                assert await cancelled_after(steps, changes.__anext__())
            running_loop().net.connections[-1].cut("reset")
            states = [(await anext(changes)).state for _ in range(3)]
            assert states == [LinkState.BACKOFF, LinkState.CONNECTING, LinkState.OPEN]

    simulate(main)


# Closing


async def gone(sim: Simulator) -> None:
    """See that a closed client has left nothing, not even at the server."""
    await asyncio.sleep(0.2)
    assert running_loop().net.open_clients == []
    await until(lambda: not sim.links, within=10.0)


async def live(client: Client[Any], marks: list[str]) -> None:
    """Do a bit of everything, an outage included."""
    await client.connect()
    marks.append("connected")
    async with client.watch_trades(SYMBOL) as trades:
        marks.append("subscribed")
        await anext(trades, None)
        await client.fetch_snapshots(SYMBOL)
        marks.append("cut")
        running_loop().net.connections[0].cut("reset")
        running_loop().net.connections[-1].cut("reset")
        async for event in trades.events():
            if isinstance(event, Gap):
                marks.append("recovered")
                break
        await anext(trades, None)
        await client.fetch_snapshots(SYMBOL, via="stream")
    marks.append("lived")


@pytest.mark.fault("U7", "I11", "I12", "I18")
@pytest.mark.parametrize("dead", [False, True])
def test_a_client_can_be_closed_at_every_step_of_its_life(dead: bool) -> None:  # noqa: FBT001
    async def close_at(sim: Simulator, steps: int, marks: list[str]) -> None:
        loop, client = running_loop(), make_client(sim)
        loop.net.connections.clear()
        closing: list[asyncio.Task[None]] = []
        living = asyncio.create_task(live(client, marks))
        waiting = asyncio.create_task(_wait(client))
        last = loop.steps + steps

        async def close() -> None:
            await client.aclose()
            names = [task.get_name() for task in asyncio.all_tasks()]
            assert "qos_async.stream" not in names
            assert loop.net.open_clients == []

        def hook(step: int) -> None:
            # Three times, while the first is still at it.
            if step in (last, last + 1, last + 3):
                for link in loop.net.connections if dead else ():
                    link.blackhole()
                closing.append(loop.create_task(close()))

        loop.on_step = hook
        await until(lambda: closing)
        began = loop.time()
        await until(lambda: len(closing) == 3, within=1.0)
        loop.on_step = None
        await _ended([*closing, living, waiting])
        assert loop.time() - began <= TIMING.close_timeout + 0.1
        with pytest.raises(ClosedError):
            await client.fetch_snapshots(SYMBOL)
        with pytest.raises(ClosedError):
            client.watch_trades(SYMBOL)
        for link in loop.net.connections:
            link.restore()
        await gone(sim)

    async def main() -> None:
        async with serve() as sim:
            reached: set[str] = set()
            for steps in itertools.count(1):
                marks: list[str] = []
                await close_at(sim, steps, marks)
                reached.update(marks)
                if "lived" in marks:
                    break
            assert reached == {"connected", "subscribed", "cut", "recovered", "lived"}

    simulate(main, horizon=1e6)


async def _ended(tasks: list[asyncio.Task[None]]) -> None:
    """Check that all tasks end soon, with no errors but those of the library."""
    await asyncio.wait(tasks, timeout=3.0)
    for task in tasks:
        assert task.done(), f"it hangs: {task}"
        error = task.exception()
        assert error is None or isinstance(error, QosError), repr(error)


async def _wait(client: Client[Any]) -> None:
    async with client.watch_klines(OTHER, interval="1m") as klines:
        async for _ in klines:
            pass


# Holding up


@pytest.mark.fault("U10", "I1", "I8", "I9", "I11")
@pytest.mark.parametrize("patient", [True, False])
def test_the_loop_may_block_for_a_minute_at_every_step(patient: bool) -> None:  # noqa: FBT001
    async def stall_at(sim: Simulator, steps: int) -> bool:
        loop, stalled, was_open = running_loop(), False, False
        last, before = loop.steps + steps, len(sim.requests)

        def hook(step: int) -> None:
            nonlocal stalled, was_open
            if step == last:
                stalled, was_open = True, client.state is LinkState.OPEN
                loop.block(60.0)

        async with make_client(sim) as client:
            loop.on_step = hook
            with contextlib.suppress(QosError):
                await client.connect()
            async with client.watch_trades(SYMBOL) as trades:
                ticks = trades.events()  # Gaps included, from the first one on.
                events = [await anext(ticks)]
                assert await client.fetch_snapshots(SYMBOL)
                assert await client.fetch_snapshots(SYMBOL, via="stream")
                ended = loop.time() + 3.0
                while loop.time() < ended:
                    events.append(await anext(ticks))
                assert await client.fetch_snapshots(SYMBOL, via="stream")
                check_deliveries(events, sim)
                await until(lambda: sim.subscribed == {("T", SYMBOL, None)})
            dials = [
                request for request in sim.requests[before:] if request.path == "/ws"
            ]
            assert len(dials) == 1 or not (patient and was_open)
            loop.on_step = None
        await gone(sim)
        return stalled

    async def main() -> None:
        kept = Variants(no_heartbeat="ignore" if patient else "close")
        async with serve(variants=kept) as sim:
            for steps in itertools.count(1):
                if not await stall_at(sim, steps):
                    break
            assert steps > 50

    simulate(main, horizon=1e6)
