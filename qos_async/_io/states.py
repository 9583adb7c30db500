"""Who is told about the link, and how."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Self
from weakref import WeakSet

from msgspec import Struct

from qos_async._core.link import Link, LinkEvent
from qos_async._io.loop_binding import LoopBinding
from qos_async._io.notifier import Notifier
from qos_async.enums import LinkState

__all__ = ["LinkStates", "StateChange", "StateChanges"]

_log = logging.getLogger("qos_async.stream")

_REMEMBERED = 1000


class StateChange(Struct, frozen=True):
    """A move of the link.

    Attributes:
        state: Where it is now.
        reason: Why, in words.
        attempt: How many attempts have failed in a row; 0 while all is well.
        retry_in: Seconds until the next attempt; 0 where none is planned.
    """

    state: LinkState
    reason: str = ""
    attempt: int = 0
    retry_in: float = 0.0


class LinkStates:
    """The link's state machine, with those who watch it.

    Attributes:
        changed_at: When it moved last, in epoch seconds.
        reason: The last one that was told.
    """

    def __init__(self) -> None:
        self.changed_at = time.time()
        self.reason = ""
        self._link = Link()
        # Weakly: an iterator that was dropped must not collect moves for ever.
        self._watchers: WeakSet[StateChanges] = WeakSet()

    @property
    def state(self) -> LinkState:
        """Where the link is."""
        return self._link.state

    def transition(
        self,
        event: LinkEvent,
        reason: str = "",
        *,
        attempt: int = 0,
        retry_in: float = 0.0,
        failed: bool = False,
    ) -> None:
        """Move, write one line to the log, and tell everybody.

        Args:
            event: What happened.
            reason: Why, in words.
            attempt: As in ``StateChange``.
            retry_in: As in ``StateChange``.
            failed: Whether this is an end that nobody wished for.
        """
        if self.state is LinkState.CLOSED:
            return
        was = self.state
        change = StateChange(self._link.fire(event), reason, attempt, retry_in)
        self.changed_at = time.time()
        self.reason = reason or self.reason
        _log_change(change, was, failed=failed)
        for watcher in tuple(self._watchers):
            watcher.put(change)

    def watch(self, home: LoopBinding | None = None) -> StateChanges:
        """Watch all moves from now on; only at ``home`` they can be waited for."""
        ended = self.state is LinkState.CLOSED
        watcher = StateChanges(self._watchers, home or LoopBinding(), ended=ended)
        self._watchers.add(watcher)
        return watcher


class StateChanges:
    """An iterator over the moves of a link; it ends after ``CLOSED``."""

    def __init__(
        self, watchers: WeakSet[StateChanges], home: LoopBinding, *, ended: bool
    ) -> None:
        self._watchers = watchers
        self._binding = home
        self._changes: deque[StateChange] = deque(maxlen=_REMEMBERED)
        self._notifier = Notifier()
        self._ended = ended

    def put(self, change: StateChange) -> None:
        """Take in a move."""
        self._changes.append(change)
        self._notifier.notify_all()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StateChange:
        while not self._changes:
            if self._ended:
                raise StopAsyncIteration
            self._binding.check()
            await self._notifier.wait()
        change = self._changes.popleft()
        if change.state is LinkState.CLOSED:
            await self.aclose()
        return change

    async def aclose(self) -> None:
        """Stop watching."""
        self._ended = True
        self._watchers.discard(self)
        self._notifier.notify_all()


def _log_change(change: StateChange, previous: LinkState, *, failed: bool) -> None:
    reason = f": {change.reason}" if change.reason else ""
    if change.state is LinkState.BACKOFF:
        what = "lost" if previous is LinkState.OPEN else "not opened"
        number, wait = change.attempt + 1, change.retry_in
        _log.warning("link %s%s; attempt %d in %.1f s", what, reason, number, wait)
    else:
        level = logging.WARNING if failed else logging.INFO
        _log.log(level, "link %s%s", change.state, reason)
