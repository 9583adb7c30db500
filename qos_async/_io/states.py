"""Link states: transitions, their log lines, and the iterators over them."""

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
    """A transition of the link.

    Attributes:
        state: The new state.
        reason: The reason, as text.
        attempt: How many attempts have failed in a row; 0 while none has.
        retry_in: Seconds until the next attempt; 0 where none is planned.
    """

    state: LinkState
    reason: str = ""
    attempt: int = 0
    retry_in: float = 0.0


class LinkStates:
    """The state machine of the link, and the iterators over its transitions.

    Attributes:
        changed_at: When the last transition was, in epoch seconds.
        reason: The last reason that is not empty.
        lost_for_pace: Whether the server closed the last link for the pace.
        stood_by: Whether another recorder of the key was seen, whose dead link may still
            hold the plan's only slot.
    """

    def __init__(self) -> None:
        self.changed_at = time.time()
        self.reason = ""
        self.lost_for_pace = self.stood_by = False
        self._link = Link()
        # Weak: an iterator without other references must not collect changes for ever.
        self._watchers: WeakSet[StateChanges] = WeakSet()

    @property
    def state(self) -> LinkState:
        """The state of the link."""
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
        """Change the state, log one line, and notify the iterators.

        Args:
            event: What happened.
            reason: The reason, as text.
            attempt: As in ``StateChange``.
            retry_in: As in ``StateChange``.
            failed: Whether this is an unexpected shutdown.
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

    def watch(self, binding: LoopBinding | None = None) -> StateChanges:
        """Return an iterator over all changes from now on, to be awaited at ``binding``."""
        ended = self.state is LinkState.CLOSED
        watcher = StateChanges(self._watchers, binding or LoopBinding(), ended=ended)
        self._watchers.add(watcher)
        return watcher

    async def wait_open(self, changes: StateChanges) -> StateChange | None:
        """Wait until the link is open; return the change that ended the attempt, if any.

        A link that was closed for the pace does not count: the next one follows soon.

        Args:
            changes: The changes since before the attempt; it is closed.
        """
        try:
            while self.state is not LinkState.OPEN:
                change = await anext(changes)
                lost = change.state is LinkState.BACKOFF
                if lost and self.lost_for_pace:
                    continue
                if lost or change.state is LinkState.CLOSED:
                    return change
        finally:
            await changes.aclose()
        return None


class StateChanges:
    """An iterator over the state changes of a link; it ends after ``CLOSED``."""

    def __init__(
        self, watchers: WeakSet[StateChanges], binding: LoopBinding, *, ended: bool
    ) -> None:
        self._watchers = watchers
        self._binding = binding
        self._changes: deque[StateChange] = deque(maxlen=_REMEMBERED)
        self._notifier = Notifier()
        self._ended = ended

    def put(self, change: StateChange) -> None:
        """Add a change."""
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
        """End the iteration; a task that waits in it gets its end, too."""
        self._ended = True
        self._changes.clear()
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
