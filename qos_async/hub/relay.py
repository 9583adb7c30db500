"""Relay: one upstream subscription, and its ticks to the links of all clients."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from qos_async._core.notices import Dropped, Gap, Interrupted, Rejected
from qos_async._io.notifier import Notifier
from qos_async._io.subscription import Subscription
from qos_async._io.transport import missing_reason
from qos_async._server.connection import text_frame
from qos_async.errors import (
    ClosedError,
    LimitError,
    QosError,
    RejectedError,
    RequestTimeoutError,
)
from qos_async.hub.link import HubLink, Push
from qos_async.hub.live import LiveState
from qos_async.hub.places import Places
from qos_async.hub.upstream import Upstream
from qos_async.hub.wire import push_frame, slot_of
from qos_async.models import CHANNELS, AnyTick, Kline
from qos_async.topics import Topic, in_order

__all__ = ["Relay"]

_log = logging.getLogger("qos_async.hub")

_SERVICE_RESTART = 1012
_POLICY = 1008
_OUTAGE_HIDDEN = 5.0  # Seconds after which an outage upstream ends the links.
_INTERVAL = 0.5


class Relay:
    """Subscribes upstream what the clients want, and forwards what arrives.

    Args:
        upstream: The client upstream.
        places: The subscriptions of the clients.

    Attributes:
        live: What was received, for replies and for new clients.
        interrupted: The topics with an open outage: when it was noticed, on the loop's
            clock, and since when ticks may be missing.
        forwarded: How many ticks were received from upstream.
    """

    def __init__(self, upstream: Upstream, places: Places[HubLink]) -> None:
        self.places = places
        self.live = LiveState()
        self.interrupted: dict[Topic, tuple[float, datetime]] = {}
        self.forwarded = 0
        self._upstream = upstream
        self._subscription: Subscription[Any] | None = None
        self._subscribed: set[Topic] = set()
        self._topics: dict[tuple[Any, ...], Topic] = {}
        self._groups: list[tuple[Collection[Topic], list[HubLink]]] | None = None
        self._open_at = -math.inf
        self._begun = asyncio.Event()
        self._resumed = Notifier()

    # What clients want

    def reserve(self, link: HubLink, topics: Sequence[Topic]) -> list[Topic]:
        """Add topics to what a link has; return those that it did not have.

        ``subscribe`` has to follow.

        Raises:
            Rejection: There are no such topics.
            NoPlaceError: The plan has no place for the symbols.
        """
        self._upstream.check_topics(topics)
        return self.places.subscribe(link, topics)

    async def subscribe(
        self, link: HubLink, topics: Sequence[Topic], added: Sequence[Topic]
    ) -> None:
        """Return when the topics are live upstream.

        The caller then calls ``attach``, in the same step as it replies.

        Args:
            link: The link.
            topics: The topics.
            added: What ``reserve`` returned; the link loses them if this fails.

        Raises:
            RejectedError: The service rejected one of the symbols.
        """
        link.pending.update(topics)
        try:
            await self._subscribe_upstream(topics)
        except QosError:
            link.pending -= Counter(topics)
            # Another command of this link may have been acknowledged, or may wait.
            lost = [t for t in added if t not in link.topics and not link.pending[t]]
            self.places.unsubscribe(link, lost, self._now())
            raise
        while any(topic in self.interrupted for topic in topics):
            await self._resumed.wait()
        link.pending -= Counter(topics)

    def attach(self, link: HubLink, topics: Iterable[Topic]) -> list[bytes]:
        """Send a link the topics from now on; return their state up to now, as pushes."""
        added = [
            topic
            for topic in topics
            if topic in self.places.topics.get(link, ()) and topic not in link.topics
        ]
        link.topics.update(dict.fromkeys(added))
        self._groups = None
        found = map(self.live.state, added)
        return [frame for frame in found if frame is not None]

    def unsubscribe(self, link: HubLink, topics: Sequence[Topic]) -> None:
        """Unsubscribe a link from topics."""
        for topic in topics:
            link.topics.pop(topic, None)
        self._groups = None
        self.places.unsubscribe(link, topics, self._now())

    def add(self, link: HubLink) -> None:
        """Add a link, without topics."""
        self.places.add_client(link, link.owner)

    def remove(self, link: HubLink) -> None:
        """Remove a link that is closed."""
        self._groups = None
        self.places.remove_client(link, self._now())

    @property
    def is_ready(self) -> bool:
        """Whether the link upstream is open, or was within the last seconds."""
        hidden = self._now() - self._open_at <= _OUTAGE_HIDDEN
        return self._upstream.is_open or hidden

    # Upstream

    async def run(self) -> None:
        """Forward what arrives, until the client is closed.

        Raises:
            QosError: What ended the stream for good.
        """
        while True:
            await self._begun.wait()
            self._begun.clear()
            subscription = self._subscription
            assert subscription is not None
            try:
                await self._read(subscription)
            except RejectedError as exc:
                if isinstance(exc, LimitError) and not exc.symbols:
                    raise  # Another program takes the connection of the key.
                # The last topic was rejected, which ends a subscription.
                for topic in [t for t in self._subscribed if t.symbol in exc.symbols]:
                    self._on_rejected(topic, exc.message)
            if self._upstream.is_closed:
                return
            if self._subscription is subscription:
                self._subscription = None

    async def _read(self, subscription: Subscription[Any]) -> None:
        async for batch in subscription.batches(events=True, max_wait=0):
            ticks: list[Any] = []
            for item in batch:
                if item.__class__ in CHANNELS:
                    ticks.append(item)
                    continue
                self._forward(ticks)
                ticks = []
                self._on_notice(item)
            self._forward(ticks)

    async def keep_up(self) -> None:
        """Unsubscribe what lingered for long enough, end links of long outages; for ever."""
        while True:
            if self._upstream.is_open:
                self._open_at = self._now()
            await asyncio.sleep(_INTERVAL)
            self.places.expire(self._now())
            await self._drop_unwanted()
            self._end_late()

    def _end_late(self) -> None:
        """End the links of topics with a long outage, or of all while nothing is live."""
        ready, outage = self.is_ready, self._upstream.outage
        late = {
            topic: since
            for topic, (noticed_at, since) in self.interrupted.items()
            if self._now() - noticed_at > _OUTAGE_HIDDEN or not ready
        }
        if not ready and self._open_at > -math.inf:
            age = self._now() - self._open_at + self._upstream.notices_after
            late = dict.fromkeys(self._subscribed, _ago(age)) | late
        if late:
            self._end_links(late, f"{_missing(min(late.values()))}: {outage}")
        for link in [one for one in self.places.topics if one.pending and not ready]:
            # Of what it waits for, nothing is known.
            link.end(_SERVICE_RESTART, outage)

    async def _subscribe_upstream(self, topics: Sequence[Topic]) -> None:
        await self._drop_unwanted()  # First: it may make the room.
        self._subscribed.update(topics)
        while True:
            subscription = self._subscription
            if subscription is None:
                subscription = self._subscription = self._upstream.watch(topics)
                self._begun.set()
            try:
                await subscription.add(*topics)
            except RequestTimeoutError:
                continue  # The client subscribes again.
            except ClosedError:
                # Its last topic was rejected: begin a new one, unless the client is closed.
                if self._subscription is subscription:
                    self._subscription = None
                if self._upstream.is_closed:
                    raise
                continue
            break
        self.live.live.update(
            topic
            for topic in topics
            if topic in self._subscribed and topic not in self.interrupted
        )

    async def _drop_unwanted(self) -> None:
        topics = self._subscribed - {*self.places.upstream}
        if not topics or self._subscription is None:
            return
        self._subscribed.difference_update(topics)
        for topic in topics:
            self._forget(topic)
        await self._subscription.remove(*topics)

    def _forget(self, topic: Topic) -> None:
        self.live.remove(topic)
        self.interrupted.pop(topic, None)
        self._resumed.notify_all()

    # What arrives

    def _forward(self, ticks: Sequence[AnyTick[Any]]) -> None:
        if not ticks:
            return
        self.forwarded += len(ticks)
        pushes: list[Push] = []
        for tick in ticks:
            topic = self._topic_of(tick)
            if topic not in self.live.live:
                continue  # Held back until it was unsubscribed, or not acknowledged yet.
            frame = push_frame(tick)
            self.live.update(topic, tick, frame)
            pushes.append(Push(topic, slot_of(tick), text_frame(frame)))
        for topics, links in self._links_by_topics():
            own = [push for push in pushes if push.topic in topics]
            if own:
                payload = b"".join([push.encoded for push in own])
                for link in links:
                    link.push(own, payload)

    def _links_by_topics(self) -> list[tuple[Collection[Topic], list[HubLink]]]:
        """Return the links, those with the same topics together; computed after a change."""
        if self._groups is None:
            groups: dict[frozenset[Topic], list[HubLink]] = {}
            for link in self.places.topics:
                if link.topics:
                    groups.setdefault(frozenset(link.topics), []).append(link)
            self._groups = list(groups.items())
        return self._groups

    def _topic_of(self, tick: AnyTick[Any]) -> Topic:
        interval = tick.interval if type(tick) is Kline else None
        key = (tick.__class__, tick.symbol, interval)
        found = self._topics.get(key)
        if found is None:
            found = self._topics[key] = tick.topic
        return found

    def _on_notice(self, notice: object) -> None:
        match notice:
            case Interrupted(topic=topic, since=since):
                self.live.live.discard(topic)
                self.interrupted.setdefault(topic, (self._now(), since))
            case Gap(topic=topic):
                self._on_gap(notice)
            case Rejected(topic, message):
                self._on_rejected(topic, message)
            case Dropped(count):
                _log.error("the hub is too slow: %d ticks were dropped", count)
                self._lose(self._subscribed, f"{count} ticks were dropped")
            case _:
                raise AssertionError(f"{notice!r} is no notice")

    def _on_rejected(self, topic: Topic, message: str) -> None:
        self._end_links([topic], message, code=_POLICY)
        self.places.forget(topic)
        self._subscribed.discard(topic)
        self._forget(topic)

    def _on_gap(self, gap: Gap) -> None:
        self.interrupted.pop(gap.topic, None)
        if gap.status != "filled":
            self._lose([gap.topic], _missing(gap.since))
            if gap.status != "partial":  # There the end of what was fetched is certain.
                self.live.start_after(gap.topic, gap.until)
        if gap.topic in self._subscribed:
            self.live.live.add(gap.topic)
        self._resumed.notify_all()

    def _lose(self, topics: Iterable[Topic], reason: str) -> None:
        """End the links of topics of which ticks are missing, and forget their state."""
        lost = in_order(topics)
        for topic in lost:
            self.live.remove(topic)
            if topic in self._subscribed and topic not in self.interrupted:
                self.live.live.add(topic)
        self._end_links(lost, reason)

    def _end_links(
        self, topics: Collection[Topic], reason: str, *, code: int = _SERVICE_RESTART
    ) -> None:
        for link in list(self.places.topics):
            concerned = [topic for topic in topics if topic in link.topics]
            if concerned:
                link.end(code, f"{_named(concerned)}: {reason}")

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _named(topics: Sequence[Topic]) -> str:
    more = f" and {len(topics) - 1} more" if len(topics) > 1 else ""
    return f"{topics[0].symbol}{more}"


def _ago(seconds: float) -> datetime:
    return datetime.fromtimestamp(time.time() - seconds, UTC)


def _missing(since: datetime) -> str:
    # One second more, for the way to the client.
    return missing_reason(math.ceil(time.time() - since.timestamp()) + 1)
