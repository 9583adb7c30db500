"""An event loop whose clock is a number: waiting costs nothing.

A selector that is asked to wait moves the clock instead. To wait for nothing at all is
a deadlock, and an error at once.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

__all__ = ["Deadlock", "Horizon", "VirtualLoop", "VirtualSelector", "block", "run"]

T = TypeVar("T")


class Deadlock(AssertionError):  # noqa: N818 - it tells what happened, as in trio
    """Nothing is ready and no timer runs: the code would hang for ever."""


class Horizon(AssertionError):  # noqa: N818 - see Deadlock
    """More time, or more steps, than any test needs: the code goes round in circles."""


class VirtualSelector(selectors.BaseSelector):
    """Moves its clock instead of waiting; a loop may bring its own.

    Attributes:
        now: The clock, in seconds from 0.
        loop: Whose selector it is, once it is somebody's.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.loop: asyncio.AbstractEventLoop | None = None

    def select(self, timeout: float | None = None) -> list[Any]:
        """Let ``timeout`` pass.

        Raises:
            Deadlock: Without a timeout: nothing would ever wake anybody.
        """
        if timeout is None:
            loop = self.loop
            tasks: set[Any] = set() if loop is None else asyncio.all_tasks(loop)
            waiting = "\n".join(sorted(repr(task) for task in tasks))
            raise Deadlock(f"everybody waits for ever at {self.now:g} s:\n{waiting}")
        self.now += max(timeout, 0.0)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        """Refuse: what the machine does takes real time."""
        raise AssertionError(f"a real file or socket in virtual time: {fileobj}")

    def unregister(self, fileobj: Any) -> Any:
        """Say that it was never registered."""
        raise KeyError(fileobj)

    def get_map(self) -> Mapping[Any, Any]:
        """Give what is registered: nothing."""
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which a day of waiting takes no time. It has no sockets.

    Args:
        horizon: Seconds after which it ends, by raising ``Horizon``.
        most: Steps after which it does.
        selector: What moves the clock; one of its own by default.

    Attributes:
        horizon: Seconds after which it ends.
        steps: How many rounds it has made.
        on_step: Called with ``steps`` before each round.
    """

    def __init__(
        self,
        *,
        horizon: float = 20_000.0,
        max_steps: float = 500_000,
        selector: VirtualSelector | None = None,
    ) -> None:
        self._virtual = VirtualSelector() if selector is None else selector
        super().__init__(self._virtual)
        self._virtual.loop = self
        self._clock_resolution = 1e-9
        self.steps = 0
        self.on_step: Callable[[int], None] | None = None
        self.horizon, self._max_steps = horizon, max_steps

    def time(self) -> float:
        """Give the clock, in seconds from 0."""
        return self._virtual.now

    def set_debug(self, enabled: bool) -> None:  # noqa: FBT001 - as asyncio has it
        """Stay out of asyncio's debug mode, even under ``python -X dev``.

        It takes a traceback for each callback, which triples the time of a long run,
        and what it calls slow is a matter of a clock that stands still.
        """
        super().set_debug(False)

    def block(self, seconds: float) -> None:
        """Let time pass as a blocking call does: nothing runs meanwhile."""
        self._virtual.now += seconds

    def cancel_and_close(self) -> None:
        """Cancel what is left, and close."""
        self.on_step = None
        for task in asyncio.all_tasks(self):
            task.cancel()
        self.run_until_complete(asyncio.sleep(0))
        self.close()

    def _run_once(self) -> None:
        self.steps += 1
        now = self._virtual.now
        if now > self.horizon or self.steps > self._max_steps:
            # Once is enough: what cleans up after the test has all the time it needs.
            self.horizon, self._max_steps = math.inf, math.inf
            raise Horizon(
                f"{now:g} virtual seconds and {self.steps} steps have passed: somebody "
                "waits for what never comes, or needs a longer horizon"
            )
        if self.on_step is not None:
            self.on_step(self.steps)
        super()._run_once()  # type: ignore[misc] # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None  # Nobody writes from other threads.

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
    """Run ``main`` on a ``VirtualLoop`` of its own, without a network.

    Args:
        main: Makes the coroutine to run.
        on_step: Called before each round of the loop.
        horizon: Virtual seconds that it may take.

    Raises:
        AssertionError: If a task, or an error that nobody took, is left behind.
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
