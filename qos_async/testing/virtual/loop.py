"""Event loop in virtual time: the selector moves the clock instead of waiting.

Waiting takes no time, and waiting without a timeout is a deadlock, reported at once.

async-solipsism 0.10 has the same clock, but its loop lacks ``sock_connect``, which
aiohttp's connector needs, and its sockets have no latency, slicing or black holes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from qos_async._deprecation import renamed, renamed_options

__all__ = ["Deadlock", "Horizon", "VirtualLoop", "VirtualSelector", "block", "run"]

T = TypeVar("T")


class Deadlock(AssertionError):  # noqa: N818 - names what happened, as in trio
    """Nothing is ready and no timer is running: the code would wait forever."""


class Horizon(AssertionError):  # noqa: N818 - see Deadlock
    """The test took more virtual time, or more steps, than it may."""


class VirtualSelector(selectors.BaseSelector):
    """A selector whose clock jumps to the next timer or delivery.

    A delivery is an event of the selector, not a timer: after the loop was blocked,
    bytes that arrived meanwhile are read before timers that expired meanwhile, as on a
    real socket.

    Attributes:
        now: The clock, in seconds from 0.
        loop: The loop that uses the selector.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.loop: asyncio.AbstractEventLoop | None = None
        self._deliveries: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()  # Of deliveries at the same time.

    def deliver(self, at: float, callback: Callable[[], None]) -> None:
        """Call back at a time, before the timers of the same time."""
        heapq.heappush(self._deliveries, (at, next(self._order), callback))

    def select(self, timeout: float | None = None) -> list[Any]:
        """Advance to the next delivery or by ``timeout``; return the due deliveries.

        Raises:
            Deadlock: Without a timeout and without deliveries: nothing can happen.
        """
        until = math.inf if timeout is None else self.now + max(timeout, 0.0)
        if self._deliveries:
            until = min(until, max(self.now, self._deliveries[0][0]))
        if until == math.inf:
            tasks = set[Any]() if self.loop is None else asyncio.all_tasks(self.loop)
            waiting = "\n".join(sorted(repr(task) for task in tasks))
            raise Deadlock(f"all tasks wait forever at {self.now:g} s:\n{waiting}")
        self.now = until
        due: list[Callable[[], None]] = []
        while self._deliveries and self._deliveries[0][0] <= self.now:
            due.append(heapq.heappop(self._deliveries)[2])
        return due

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        """Raise: real files and sockets need real time."""
        raise AssertionError(f"a real file or socket in virtual time: {fileobj}")

    def unregister(self, fileobj: Any) -> Any:
        """Raise, as for every file that is not registered."""
        raise KeyError(fileobj)

    def get_map(self) -> Mapping[Any, Any]:
        """Return an empty mapping: nothing is registered."""
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, without sockets.

    Args:
        horizon: Seconds after which it raises ``Horizon``.
        max_steps: Steps after which it does.

    Attributes:
        horizon: Seconds after which it raises ``Horizon``.
        steps: The number of iterations so far.
        on_step: Called with ``steps`` before each iteration.
        selector: Moves the clock.
    """

    @renamed_options(most="max_steps")
    def __init__(
        self, *, horizon: float = 20_000.0, max_steps: float = 500_000
    ) -> None:
        self.selector = VirtualSelector()
        super().__init__(self.selector)
        self.selector.loop = self
        self._clock_resolution = 1e-9
        self.steps = 0
        self.on_step: Callable[[int], None] | None = None
        self.horizon, self._max_steps = horizon, max_steps

    def time(self) -> float:
        """Return the clock, in seconds from 0."""
        return self.selector.now

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - asyncio's signature
        """Ignore asyncio's debug mode, even under ``python -X dev``.

        It formats a traceback for each callback, which triples the time of a long run,
        and its warnings about slow callbacks make no sense with this clock.
        """
        super().set_debug(False)

    def block(self, seconds: float) -> None:
        """Advance the clock as a blocking call does: no callback runs meanwhile."""
        self.selector.now += seconds

    def cancel_and_close(self) -> None:
        """Cancel all tasks, and close."""
        self.on_step = None
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.run_until_complete(asyncio.sleep(0))
        self.close()

    finish = renamed("finish", cancel_and_close)

    def _run_once(self) -> None:
        self.steps += 1
        now = self.selector.now
        if now > self.horizon or self.steps > self._max_steps:
            # Only once, so that the test's cleanup is not interrupted, too.
            self.horizon, self._max_steps = math.inf, math.inf
            raise Horizon(
                f"{now:g} virtual seconds and {self.steps} steps have passed: a task "
                "waits for an event that never comes, or needs a longer horizon"
            )
        if self.on_step is not None:
            self.on_step(self.steps)
        super()._run_once()  # type: ignore[misc] # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]

    def _process_events(self, event_list: list[Callable[[], None]]) -> None:
        for arrive in event_list:
            arrive()  # Schedules the protocol's callback ahead of expired timers.

    # The self-pipe is a real socket. It only serves calls from other threads.

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def block(seconds: float) -> None:
    """Block the running virtual loop, as user code without an ``await`` would."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.block(seconds)


def run(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    on_step: Callable[[int], None] | None = None,
    horizon: float = 10_000.0,
) -> T:
    """Run ``main`` on a new ``VirtualLoop``, without a network; return its result.

    Args:
        main: Makes the coroutine to run.
        on_step: Called before each iteration of the loop.
        horizon: Virtual seconds that it may take.

    Raises:
        AssertionError: If a task is left behind, or an error was not handled.
        Deadlock: If nothing can ever happen any more.
        Horizon: If it takes more than ``horizon`` seconds.
    """
    unhandled: list[dict[str, Any]] = []
    loop = VirtualLoop(horizon=horizon, max_steps=200_000)
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    loop.on_step = on_step
    try:
        result = loop.run_until_complete(main())
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks outlived the test: {left}"
        assert not unhandled, unhandled
        return result
    finally:
        loop.cancel_and_close()
