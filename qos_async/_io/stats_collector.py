"""How everything stands, gathered from where it is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from qos_async._core.protocol import StreamProtocol
from qos_async._core.router import Router
from qos_async._core.sanitize import printable
from qos_async._core.stats import report
from qos_async._io.states import LinkStates
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.stats import Stats

__all__ = ["StatsCollector"]


class StatsCollector:
    """Takes pictures of a stream, at any time, also before it begins and after its end.

    Args:
        session: The core, with the counters.
        routes: Who watches what.
        inboxes: Those that are open.
        states: Where the link is.
        clock: The time that the core is given; asked only if it was given any.
    """

    def __init__(
        self,
        session: StreamProtocol[Any],
        routes: Router[SubscriptionQueue],
        inboxes: Collection[SubscriptionQueue],
        states: LinkStates,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._session = session
        self._routes = routes
        self._inboxes = inboxes
        self._states = states
        self._clock = clock

    def stats(self) -> Stats:
        """Count and measure."""
        counts, waits = self._session.stats, self._session.conversation.waits
        recovery = self._session.recovery
        held = 0 if recovery is None else recovery.held
        inboxes = tuple(self._inboxes)
        readers = [inbox.stats for inbox in inboxes]
        offset, error = self._clock_offset()
        nothing = Stats()
        return Stats(
            state=self._states.state,
            links=counts.links,
            reconnects_by_reason=dict(counts.reconnects),
            frames_received=counts.frames_received,
            frames_sent=counts.frames_sent,
            bytes_received=counts.bytes_received,
            bytes_sent=counts.bytes_sent,
            ticks_by_channel=self._routes.ticks(),
            answers=counts.answers,
            unmatched=counts.unmatched,
            unreadable=counts.unreadable,
            unknown=counts.unknown,
            unrouted=self._routes.unrouted(),
            repeated=counts.echoes + counts.held - counts.released - held,
            held=held,
            gaps_by_status={**nothing.gaps_by_status, **counts.gaps},
            recovered=counts.recovered,
            dropped=counts.dropped + sum(reader.dropped for reader in readers),
            subscriptions=sum(not inbox.ended for inbox in inboxes),
            backlog=sum(reader.backlog for reader in readers),
            consumer_lag=max((reader.lag for reader in readers), default=0.0),
            commands=waits.count,
            command_wait_last=waits.last,
            command_wait_max=waits.max,
            command_wait_total=waits.total,
            heartbeat_round_trip=self._session.conversation.round_trip,
            clock_offset=offset,
            clock_error=error,
            http_requests=counts.http_requests,
            http_retries=counts.http_retries,
            http_bytes_received=counts.http_bytes_received,
            http_bytes_sent=counts.http_bytes_sent,
        )

    def report(self) -> str:
        """Tell the same to a person."""
        readers = [(inbox.label, inbox.stats) for inbox in tuple(self._inboxes)]
        return report(
            self.stats(),
            readers,
            since=self._states.changed_at,
            reason=printable(self._states.reason, 400),
            now=time.time(),
        )

    def _clock_offset(self) -> tuple[float, float] | tuple[None, None]:
        ahead = self._session.conversation.clock.offset
        if ahead is None:
            return None, None
        # The core compared it with its own time; the user has a calendar.
        return ahead[0] + self._clock() - time.time(), ahead[1]
