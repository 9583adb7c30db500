"""Running a test in a world of its own: its clock, its network, its chance."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest import mock

from aiohttp.http import WebSocketWriter

from qos_async.testing.virtual.loop import SimLoop

__all__ = ["WALL", "patched_time_and_random", "simulate"]

T = TypeVar("T")

WALL = 1_741_958_430.0
"""What the wall clock shows in the beginning: 2025-03-14, before New York opens."""

_GRACE = 3.0  # Seconds in which what was closed has to be gone.


def simulate(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    horizon: float = 20_000.0,
    on_step: Callable[[int], None] | None = None,
) -> T:
    """Run ``main`` on a ``SimLoop`` of its own, with its own chance and wall clock.

    ``time.time`` shows ``WALL`` when the loop's clock shows 0.

        async def main() -> None:
            async with Simulator() as simulator:
                ...

        simulate(main)

    Args:
        main: Makes the coroutine to run.
        seed: Of the network, of ``random`` and of aiohttp's masks: the same seed, the
            same run.
        horizon: Virtual seconds that it may take.
        on_step: Called with the number of each round of the loop, before it.

    Raises:
        AssertionError: If a task, an open socket of the client side, a timer of the
            client's or an error that nobody took is left three seconds later.
        Deadlock: If nothing can ever happen any more.
        Horizon: If it takes more than ``horizon`` virtual seconds.
    """
    loop = SimLoop(seed=seed, horizon=horizon)
    loop.on_step = on_step
    try:
        with patched_time_and_random(loop, seed):
            result = loop.run_until_complete(main())
            loop.run_until_complete(asyncio.sleep(_GRACE))
        left = _leaks(loop)
        gc.collect()  # Errors that nobody took complain now.
        assert not left, f"left behind at {loop.time():g} s: {left}"
        assert not loop.unhandled, loop.unhandled
        return result
    finally:
        loop.cancel_and_close()


@contextmanager
def patched_time_and_random(loop: SimLoop, seed: int) -> Generator[None]:
    """Take ``time.time`` from the loop, and everything random from ``seed``, an int."""

    def now() -> float:
        return WALL + loop.time()

    def now_ns() -> int:
        return int(now() * 1e9)

    state = random.getstate()
    random.seed(seed)
    loop.random.seed(seed)
    _websocket_mask_rng().seed(seed)
    try:
        with (
            mock.patch.object(time, "time", now),
            mock.patch.object(time, "time_ns", now_ns),
        ):
            yield
    finally:
        random.setstate(state)


def _leaks(loop: SimLoop) -> list[object]:
    scheduled: list[asyncio.TimerHandle] = getattr(loop, "_scheduled")  # noqa: B009 - asyncio has no other way to tell
    timers: list[object] = [
        timer
        for timer in scheduled
        if not timer.cancelled() and "qos_async" in repr(timer)
    ]
    return [*asyncio.all_tasks(loop), *loop.net.open_clients, *timers]


def _websocket_mask_rng() -> random.Random:
    """Give what aiohttp draws the masks of its frames from."""
    found = inspect.signature(WebSocketWriter.__init__).parameters["random"].default
    assert isinstance(found, random.Random)
    return found
