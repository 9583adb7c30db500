"""``qos demo``: the real client, over real sockets, on the embedded simulator."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator

from qos_async import Client, Dropped, Gap, QosError, StateChange, Subscription
from qos_async.cli import exits
from qos_async.cli.client import end_on_sigterm
from qos_async.cli.commands.demo import Arguments
from qos_async.cli.script import SYMBOLS, Script
from qos_async.cli.tally import AnyTick, Tally
from qos_async.cli.views import View, choose
from qos_async.sim import Simulator

__all__ = ["play", "run_demo"]

_REFRESH = 1 / 6


def run_demo(arguments: Arguments) -> int:
    """Play the demo, sum it up, and give the exit code."""
    # Without a handler Python would write the client's warnings over the table.
    logging.getLogger("qos_async").addHandler(logging.NullHandler())
    script = Script(
        seconds=arguments.seconds, seed=arguments.seed, speed=arguments.speed
    )
    tally = Tally(script.topics)
    view = choose(arguments, script, tally)
    started_at, code = time.monotonic(), exits.OK
    try:
        asyncio.run(play(script, tally, view))
    except KeyboardInterrupt:
        code = exits.INTERRUPTED
    except asyncio.CancelledError:
        code = exits.TERMINATED
    except BaseExceptionGroup as group:
        code = _failed(group)
    view.sum_up(time.monotonic() - started_at)
    return code or (exits.FAILED if tally.breaches else exits.OK)


def _failed(group: BaseExceptionGroup[BaseException]) -> int:
    """Tell of what went wrong in one of the tasks; what nobody expects is raised."""
    first = group.exceptions[0]
    if not isinstance(first, QosError):
        raise first
    print(f"qos: {first}", file=sys.stderr)
    return exits.FAILED


async def play(script: Script, tally: Tally, view: View) -> None:
    """Run the script once, and note in ``tally`` what happens."""
    end_on_sigterm()
    async with Simulator(
        seed=script.seed, speed=script.speed, plan=script.limits
    ) as sim:
        for symbol in SYMBOLS:  # Their past is made up now, not in the demo's time.
            sim.market.tape(symbol, sim.now)
        client = Client(
            sim.key,
            http_url=sim.http_url,
            stream_url=sim.stream_url,
            limits=script.limits,
            timing=script.timing,
        )
        try:
            with view:
                async with client:
                    await _watch(client, sim, script, tally, view)
        finally:
            tally.frames_sent = client.stats.frames_sent
            tally.breaches = list(sim.violations)


async def _watch(
    client: Client, sim: Simulator, script: Script, tally: Tally, view: View
) -> None:
    states = client.states()  # Before there is a link, to see its first move.
    subscription = client.watch(*script.topics)
    try:
        async with asyncio.timeout(script.seconds), asyncio.TaskGroup() as tasks:
            tasks.create_task(_read(subscription, tally, view))
            tasks.create_task(_follow(states, tally, view))
            tasks.create_task(_refresh(view))
            tasks.create_task(_cut(subscription, sim, script, view))
    except TimeoutError:
        pass


async def _read(subscription: Subscription[AnyTick], tally: Tally, view: View) -> None:
    async for event in subscription.events():
        match event:
            case Gap():
                tally.gap(event, time.monotonic())
                view.gap(event)
            case Dropped(count):
                tally.drop(count)
                view.drop(count)
            case _:
                tally.tick(event, time.monotonic())
                view.tick(event)


async def _follow(states: AsyncIterator[StateChange], tally: Tally, view: View) -> None:
    async for change in states:
        tally.move(change, time.monotonic())
        view.move(change)


async def _cut(
    subscription: Subscription[AnyTick], sim: Simulator, script: Script, view: View
) -> None:
    async with asyncio.TaskGroup() as tasks:  # When it is time and all is live.
        tasks.create_task(asyncio.sleep(script.cut_at))
        tasks.create_task(subscription.__aenter__())
    view.note("cutting the link, to see it heal")
    sim.cut()


async def _refresh(view: View) -> None:
    while True:
        view.refresh()
        await asyncio.sleep(_REFRESH)
