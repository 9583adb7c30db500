"""Statistics collector: reads the counters of a stream from where they are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from qos_async._core.protocol import StreamProtocol
from qos_async._core.router import Router, TopicActivity
from qos_async._core.sanitize import printable
from qos_async._core.stats import report
from qos_async._io.states import LinkStates
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.stats import Stats
from qos_async.topics import Topic

__all__ = ["StatsCollector"]


class StatsCollector:
    """Returns the statistics and the condition of a stream, at any time of its life.

    Args:
        protocol: The core, with the counters.
        router: Counts ticks by channel.
        queues: The open subscriptions.
        states: The state of the link.
        clock: The time that the core is given; called only if it was given any.
    """

    def __init__(
        self,
        protocol: StreamProtocol[Any],
        router: Router[SubscriptionQueue],
        queues: Collection[SubscriptionQueue],
        states: LinkStates,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._protocol = protocol
        self._router = router
        self._queues = queues
        self._states = states
        self._clock = clock

    def stats(self) -> Stats:
        """Return a snapshot of all counters."""
        counts, waits = self._protocol.stats, self._protocol.scheduler.stats.waits
        held = self._protocol.recovery.held
        queues = tuple(self._queues)
        subscriptions = [queue.stats for queue in queues]
        offset, error = self._clock_offset()
        return Stats(
            state=self._states.state,
            links=counts.links,
            reconnects_by_reason=dict(counts.reconnects),
            frames_received=counts.frames_received,
            frames_sent=counts.frames_sent,
            bytes_received=counts.bytes_received,
            bytes_sent=counts.bytes_sent,
            ticks_by_channel=self._router.ticks(),
            answers=counts.answers,
            unmatched=counts.unmatched,
            unreadable=counts.unreadable,
            unknown=counts.unknown,
            unrouted=self._router.unrouted(),
            repeated=counts.recovery.undelivered - held,
            held=held,
            gaps_by_status={**Stats().gaps_by_status, **counts.recovery.gaps},
            recovered=counts.recovery.recovered,
            dropped=counts.dropped + sum(one.dropped for one in subscriptions),
            subscriptions=sum(not queue.acks.ended for queue in queues),
            backlog=sum(one.backlog for one in subscriptions),
            consumer_lag=max((one.lag for one in subscriptions), default=0.0),
            commands=waits.count,
            command_wait_last=waits.last,
            command_wait_max=waits.max,
            command_wait_total=waits.total,
            heartbeat_round_trip=self._protocol.scheduler.stats.round_trip,
            clock_offset=offset,
            clock_error=error,
            http_requests=counts.http.requests,
            http_retries=counts.http.retries,
            http_bytes_received=counts.http.bytes_received,
            http_bytes_sent=counts.http.bytes_sent,
        )

    def report(self) -> str:
        """Return the same as plain text."""
        subscriptions = [(queue.label, queue.stats) for queue in tuple(self._queues)]
        return report(
            self.stats(),
            subscriptions,
            since=self._states.changed_at,
            reason=printable(self._states.reason, 400),
            now=time.time(),
        )

    def activity(self, topic: Topic) -> TopicActivity | None:
        """Return how many ticks a topic had; None while it is not live."""
        live = self._protocol.registry.holds(topic)
        return self._router.activity(topic) if live else None

    @property
    def is_starved(self) -> bool:
        """Whether a consumer waits for more, and none has anything left to take.

        And whether the server has acknowledged all subscriptions.
        """
        queues = self._queues
        return (
            self.is_settled
            and any(queue.is_waiting for queue in queues)
            and all(queue.is_waiting or not queue.buffer for queue in queues)
        )

    @property
    def queues(self) -> tuple[SubscriptionQueue, ...]:
        """The open subscriptions."""
        return tuple(self._queues)

    @property
    def longest_backlog(self) -> int:
        """The largest number of ticks that wait for one consumer."""
        return max((len(queue.buffer) for queue in self._queues), default=0)

    def count_unreadable(self) -> None:
        """Count a frame that the recorded client could not read."""
        self._protocol.stats.unreadable += 1

    @property
    def is_settled(self) -> bool:
        """Whether the server holds exactly what is subscribed."""
        return self._protocol.registry.settled

    @property
    def has_subscriptions(self) -> bool:
        """Whether the server holds anything."""
        return bool(self._protocol.registry.held)

    def clock_offset(self) -> float | None:
        """Return the server's clock minus this machine's, in seconds; None if unknown."""
        return self._clock_offset()[0]

    def _clock_offset(self) -> tuple[float, float] | tuple[None, None]:
        estimate = self._protocol.scheduler.stats.clock.offset
        if estimate is None:
            return None, None
        # The core compares it with its own time; the user has a wall clock.
        return estimate[0] + self._clock() - time.time(), estimate[1]
