"""The messages of wanted topics in their order, read for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from qos_async.jetstream.errors import BrokerUnavailableError
from qos_async.jetstream.order import Accepted, Ordering
from qos_async.jetstream.places import StreamPlace
from qos_async.jetstream.pull import IDLE, Pull, PulledMessage
from qos_async.jetstream.streams import stream_info
from qos_async.jetstream.wanted import Wanted
from qos_async.jetstream.wire import Wire

__all__ = ["Feed", "Placed"]

_log = logging.getLogger("qos_async.follow")

_PATIENCE = 2.0
"""Seconds for which a message waits for one before it, while nothing else comes."""
_LONGEST_WAIT = 10.0
"""The same, while others come: a cluster elects a leader in 5 to 9 seconds."""
_RETRY = (0.1, 1.0)
_LINK_IDLE = 2.0
"""``Pull.idle`` while no topic is wanted: its first tick is not older than that."""


class Placed(NamedTuple):
    """A message, and where a consumer goes on that has handled it.

    Attributes:
        accepted: The message.
        sequence: The first message to read then.
    """

    accepted: Accepted
    sequence: int


class Feed:
    """Reads a stream from a sequence on.

    Args:
        wire: The connection.
        place: The stream.

    Attributes:
        place: As passed.
        pull: Receives the messages.
        ordering: Puts them into order.
        last_error: Why the broker could not be read from.
    """

    def __init__(self, wire: Wire, place: StreamPlace) -> None:
        self.pull = Pull(wire, place.stream)
        self.ordering = Ordering()
        self.last_error = ""
        self.place = place
        self._wire, self._stream = wire, place.stream
        self._wanted = self._next_wanted = Wanted(place.stream)
        self._placed: list[Placed] = []
        self._waiting_since: float | None = None
        self._asked_at = 0.0

    @property
    def position(self) -> int:
        """The next message to read, or one that waits; 0 if some are not returned."""
        return 0 if self._placed else self._safe(self.pull.next)

    @property
    def has_caught_up(self) -> bool:
        """Whether nothing that is wanted was stored when the last message was received."""
        return self.pull.has_caught_up

    def want(self, wanted: Wanted, *, is_live: bool) -> None:
        """Read other topics from the next ``read`` on."""
        self._next_wanted = wanted
        is_idle = is_live and not (wanted.subjects is None or wanted.subjects)
        self.pull.idle = _LINK_IDLE if is_idle else IDLE

    async def read(self) -> list[Placed]:
        """Return the next messages, or none; wait for them, also without a broker.

        A task that waits here may be cancelled; no message is lost by that.

        Raises:
            NewerFormatError: If one is of a newer form.
            BrokerError: If the broker refuses what is needed for good.
        """
        pause = _RETRY[0]
        while True:
            self._apply()
            try:
                await self._read()
            except BrokerUnavailableError as exc:
                if str(exc) != self.last_error:
                    _log.info("nothing to read from the stream now: %s", exc)
                self.last_error = str(exc)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _RETRY[1])
            else:
                placed, self._placed = self._placed, []
                return placed

    async def _read(self) -> None:
        if self._placed:  # The call before was cancelled.
            return
        if not self.ordering.is_waiting:
            self._waiting_since = None
            self._add(await self.pull.read())
            return
        messages: list[PulledMessage] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                messages = await self.pull.read()
        self._add(messages)
        # Messages do not wait in vain while the broker is away.
        if time.monotonic() - self.pull.alive_at < 2 * _PATIENCE:
            await self._release(is_idle=not messages)

    def _apply(self) -> None:
        wanted, before = self._next_wanted, self._wanted
        if wanted is before:
            return
        self._wanted = wanted
        if wanted.filters != before.filters:
            self.pull.select(wanted.filters)
        if before.subjects is not None:
            added = (wanted.subjects or frozenset()) - before.subjects
            self.ordering.forget(added)

    def _add(self, messages: list[PulledMessage]) -> None:
        ordering, wanted, placed = self.ordering, self._wanted, self._placed
        # What the server filters is not compared again.
        everything = wanted.subjects is None or bool(wanted.filters)
        for message in messages:
            if not (everything or message.subject in wanted):
                continue
            if (accepted := ordering.next(message)) is not None:
                placed.append(Placed(accepted, message.sequence + 1))
                continue
            found = list(ordering.add(message))
            placed += self._place(found, message.sequence)

    def _place(self, found: list[Accepted], sequence: int) -> Iterator[Placed]:
        if not found:
            return
        here = self._safe(sequence)
        for accepted in found[:-1]:
            yield Placed(accepted, here)
        yield Placed(found[-1], self._safe(sequence + 1))

    def _safe(self, sequence: int) -> int:
        if not self.ordering.is_waiting:
            return sequence
        return min(sequence, self.ordering.first_waiting or sequence)

    async def _release(self, *, is_idle: bool) -> None:
        """Go on where messages are missing: removed, or awaited for long enough."""
        now, ordering = time.monotonic(), self.ordering
        if not ordering.is_waiting:
            return
        if self._waiting_since is None:
            self._waiting_since = now
        elif not is_idle and now - self._asked_at < _PATIENCE:
            return
        self._asked_at = now
        info = await stream_info(self._wire, self._stream)
        first = 0 if info is None else info.state.first_seq
        found = list(ordering.flush_removed(first))
        if is_idle or now - self._waiting_since > _LONGEST_WAIT:
            found += ordering.flush(first)
        self._placed += self._place(found, self.pull.next - 1)

    async def aclose(self) -> None:
        """End the consumer."""
        await self.pull.aclose()
