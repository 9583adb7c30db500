"""Outages of the broker, as a follower sees them.

A follower goes on where it was when the broker is back. While it is away nothing is known
of the market: so after some seconds its topics are interrupted, and the link of the log is
lost; both end when the stream can be read again. Nothing was missed by that, so that the
gaps are filled, as those of a live client of which everything was fetched: what was stored
meanwhile follows. If the stream has lost some of it, it has another gap.
"""

from __future__ import annotations

import asyncio
import time

from msgspec.structs import replace

from qos_async.jetstream.feed import Feed, Placed
from qos_async.jetstream.messages import Stamp
from qos_async.jetstream.recorder_links import RecorderLinks
from qos_async.jetstream.wanted import Wanted
from qos_async.recordings.format import Entry, Kind
from qos_async.topics import Topic

__all__ = ["SILENCE", "StoreOutage", "StreamClock"]

SILENCE = 5.0
"""Seconds without the broker after which that is an outage."""


class StoreOutage:
    """Reads a feed, and finds out when the broker is away.

    Args:
        feed: The messages.
        states: The topics that are live.
        clock: The time of the log.

    Attributes:
        run: Names the log in its entries.
    """

    def __init__(self, feed: Feed, states: RecorderLinks, clock: StreamClock) -> None:
        self.run = ""
        self._feed, self._states, self._clock = feed, states, clock
        self._reading: asyncio.Task[list[Placed]] | None = None
        self._began_at = self._since = 0.0
        self._links = 0
        self._lost: Entry | None = None
        self._interrupted: frozenset[Topic] = frozenset()
        self._ready: list[Entry] = []

    def opened(self) -> Entry:
        """Return the entry of the link of the log, which is open with the stream."""
        states = self._states
        return replace(
            self._clock.entry("started"),
            topics=tuple(sorted(states.topics)),
            awaited=tuple(sorted(states.awaited)),
            gaps=True,
            link=True,
            run=self.run,
            number=self._links,
        )

    def interrupt(self, wanted: Wanted, *, is_live: bool) -> None:
        """Let the feed read other topics, also if a read waits."""
        self._feed.want(wanted, is_live=is_live)
        if self._reading is not None:
            self._reading.cancel()

    def fall_silent(self, recorder: str) -> None:
        """Add the entries of a recorder that is silent."""
        entry = self._clock.entry("unknown")
        self._ready += self._states.fall_silent(recorder, entry)
        if self._ready and self._reading is not None:
            self._reading.cancel()

    async def read(self) -> list[Placed]:
        """Return the next messages; none if an outage has begun or ended.

        A task that waits here may be cancelled; no message is lost by that.

        Raises:
            RecordingError: If the stream cannot be read any more.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(
                self._feed.read(), name="qos_async.feed"
            )
            self._began_at = time.monotonic()
        reading = self._reading
        await asyncio.wait([reading], timeout=self._seconds_left())
        if not reading.done():
            if self._lost is None and self._seconds_left() == 0:
                self._begin()
            return []
        self._reading = None
        if reading.cancelled():
            return []
        found = reading.result()
        if self._lost is not None:
            self._end(self._lost)
        return found

    def _seconds_left(self) -> float | None:
        """Return the seconds until the silence is an outage; None if it is one."""
        if self._lost is not None:
            return None
        alive_at = max(self._began_at, self._feed.pull.alive_at)
        return max(alive_at + SILENCE - time.monotonic(), 0.0)

    def entries(self) -> list[Entry]:
        """Return the entries of what has happened to the broker since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def _begin(self) -> None:
        self._interrupted = self._states.topics - self._states.awaited
        self._since = max(self._began_at, self._feed.pull.alive_at)
        place = self._feed.place
        why = (self._feed.last_error or "no reply").replace(f" at {place}", "")
        self._lost = replace(
            self._clock.entry("lost"), reason=f"the store {place}: {why}"
        )
        self._ready.append(self._lost)

    def _end(self, lost: Entry) -> None:
        self._lost = None
        self._links += 1
        self._clock.advance(round((time.monotonic() - self._since) * 1e9))
        self._ready.append(self.opened())
        ended = self._clock.entry("fetched")
        for topic in sorted(self._interrupted):
            self._ready.append(
                replace(
                    ended,
                    topics=(topic,),
                    status="filled",
                    reason=lost.reason,
                    since=lost.at,
                    until=ended.at,
                )
            )

    async def aclose(self) -> None:
        """End the read."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])


class StreamClock:
    """Time that does not go back, over all recorders.

    Attributes:
        at: The time of the last entry, in nanoseconds since the epoch.
        elapsed: Nanoseconds since the first entry.
    """

    def __init__(self) -> None:
        self.at = self.elapsed = 0
        self._offsets: dict[tuple[str, int], int] = {}

    def entry(self, kind: Kind) -> Entry:
        """Return an entry at the time of the last one, of no message."""
        return Entry(at=self.at, elapsed=self.elapsed, kind=kind)

    def advance(self, nanoseconds: int) -> None:
        """Let time go on, without a message."""
        self.at += nanoseconds
        self.elapsed += nanoseconds

    def tick(self, stamp: Stamp) -> int:
        """Return the time of a message."""
        key = stamp.recorder, stamp.position.epoch
        offset = self._offsets.get(key)
        if offset is None:
            # A gap between two epochs is known by the wall clock only.
            now = self.elapsed + max(stamp.at - (self.at or stamp.at), 0)
            offset = self._offsets[key] = now - stamp.up
        self.at, self.elapsed = stamp.at, max(self.elapsed, offset + stamp.up)
        return self.elapsed
