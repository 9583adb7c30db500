"""Gap delivery: outages and recovered ticks, for subscription queues."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import force_setattr, replace

from qos_async._core.notices import Gap, Interrupted
from qos_async._core.protocol import StreamProtocol
from qos_async._core.recovery import Outage, RecoveryResult
from qos_async._core.router import Route, Router
from qos_async._io.clocks import WallClock
from qos_async._io.dial_gate import InheritedOutage
from qos_async._io.inherited_outages import InheritedOutages
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async._io.transport import FrameObserver
from qos_async.enums import Channel
from qos_async.models import AnyTick
from qos_async.topics import Topic, in_order

__all__ = ["GapDelivery"]

_MAX_OUTAGES = 16  # With beginnings that differ, at one time.


class GapDelivery:
    """Puts interruptions, gaps, recovered and held ticks into the queues of their topic.

    Recovery holds the ticks of a topic back until it is decided what an outage missed.
    Then each queue gets the gap, the recovered ticks, and the held ones, in this order.

    Args:
        protocol: The core.
        router: Which queues each topic has.
        clock: Stamps interruptions and gaps.
        observer: Gets the outages of topics, and what was recovered.

    Attributes:
        frames_left: How many frames of those that arrived together are not delivered.
    """

    def __init__(
        self,
        protocol: StreamProtocol[Any],
        router: Router[SubscriptionQueue],
        clock: WallClock,
        observer: FrameObserver | None = None,
    ) -> None:
        self.frames_left = 0
        self._router = router
        self._clock = clock
        self._observer = observer
        self._protocol = protocol
        self._stats = protocol.stats.recovery
        self._outages = protocol.outages
        self._recovery = protocol.recovery
        # The beginning of outages, in the caller's time, as their notices had it.
        self._began: dict[float, datetime] = {}
        self._inherited = InheritedOutages(protocol, router, clock, self._began)

    # Topics of queues

    def add_queue(self, queue: SubscriptionQueue, topics: Iterable[Topic]) -> None:
        """Route topics to a queue, but not what recovery holds back of them now."""
        for topic in topics:
            if topic in self._recovery.cases:
                queue.gaps.skip_held[topic] = self._recovery.held_ids(topic)
            self._router.add(topic, queue)
            self._inherited.begin(topic)

    def remove_queue(self, queue: SubscriptionQueue, topics: Iterable[Topic]) -> None:
        """Route topics to a queue no more, after it was given what recovery holds back."""
        for topic in topics:
            if topic in self._recovery.cases and not queue.acks.ended:
                self._release_held(queue, topic)
            self._router.remove(topic, queue)

    def _release_held(self, queue: SubscriptionQueue, topic: Topic) -> None:
        if not self._recovery.is_live(topic):
            self._interrupt(queue, topic)
        result = self._recovery.result_so_far(topic)
        gap = self._gap(result)
        if self._router.of(topic).subscribers == (queue,):
            self._stats.released += result.received
            self._observe(gap, result)
        if topic in queue.gaps.interrupted:
            self._put_gap_and_recovered(gap, result, (queue,))
        self._put_held(result, (queue,))
        queue.gaps.skip_held.pop(topic, None)

    def enable_events(self, queue: SubscriptionQueue) -> None:
        """Queue a notice of each interruption from now on, and of those that last."""
        if queue.gaps.wants_events:
            return
        queue.gaps.wants_events = True
        interrupted = queue.gaps.interrupted
        for topic in in_order(queue.gaps.live & self._outages.open.keys()):
            # A queue that joined during recovery is live, though the others still wait.
            joined = topic in self._recovery.cases and self._recovery.is_live(topic)
            if topic in interrupted or not joined:
                interrupted.add(topic)
                queue.put_interrupted(self._interrupted(topic))

    # Outages

    def _interrupted(self, topic: Topic) -> Interrupted:
        outage = self._outages.open[topic]
        since = self._clock.from_loop_time(outage.since)
        return Interrupted(topic=topic, since=since, reason=outage.reason)

    def _span(self, outage: Outage, until: float) -> tuple[datetime, datetime]:
        """Return the beginning of an outage and a time after it, by the wall clock.

        Both are by the clock as it was at the beginning, when the ticks before were
        stamped, even if it was set since: so the length is the real one.
        """
        since, end = map(self._clock.from_loop_time, (outage.since, until))
        began = self._began.get(outage.since, since)
        return began, began + max(end - since, timedelta())

    def _interrupt(self, queue: SubscriptionQueue, topic: Topic) -> None:
        if queue.interrupt(topic):
            queue.put_interrupted(self._interrupted(topic))

    def _interrupt_all(self, topic: Topic) -> None:
        for queue in self._router.of(topic).subscribers:
            self._interrupt(queue, topic)

    def on_outage(self, outage: Outage) -> None:
        """Queue notices that live topics are interrupted: the link is lost."""
        since = self._clock.from_loop_time(outage.since)
        if self._outages.open:
            self._began.setdefault(outage.since, since)
        if len(self._began) > _MAX_OUTAGES:
            del self._began[next(iter(self._began))]
        for queue in self._router.subscribers():
            if queue.gaps.wants_events:
                for topic in in_order(queue.gaps.live & self._outages.open.keys()):
                    if queue.interrupt(topic):
                        queue.put_interrupted(
                            Interrupted(topic=topic, since=since, reason=outage.reason)
                        )

    def on_live(self, topics: Iterable[Topic], second: int | None) -> None:
        """Open the recovery of those of ``topics`` that had an outage: they are live.

        Args:
            topics: Topics that were acknowledged, or tick.
            second: The server's time in the acknowledgement, if it has one.
        """
        if not self._outages.open:
            return
        now, recovery = asyncio.get_running_loop().time(), self._recovery
        for topic in topics:
            outage = self._outages.open.get(topic)
            if outage is None:
                continue
            route = self._router.of(topic)
            if recovery.open_case(topic, outage, route.tail, now):
                if self._observer is not None:
                    notice = self._interrupted(topic)
                    self._observer.suspect(notice, left=self.frames_left)
                self._interrupt_all(topic)
            if recovery.awaits(topic):
                recovery.acknowledged(topic, second)
            else:
                self.finish_recovery(recovery.close_case(topic))

    def intercept(self, tick: AnyTick[Any], route: Route[SubscriptionQueue]) -> bool:
        """Hold a tick back while its topic is in recovery, or drop an echo.

        It may close the case, and so deliver the tick behind the gap.

        Returns:
            Whether the tick was dealt with; else the dispatcher delivers it.
        """
        topic, recovery = tick.topic, self._recovery
        self._outages.note_early_tick(topic)
        self.frames_left += 1  # This tick is not delivered either.
        self.on_live([topic], None)
        self.frames_left -= 1
        for queue in route.subscribers:
            queue.gaps.live.add(topic)
        if topic not in recovery.cases:
            echoed = recovery.is_echo(topic, tick)
            self._stats.echoes += echoed
            return echoed
        self._stats.held += 1
        result = recovery.hold(topic, tick)
        if result is not None:
            self.finish_recovery(result)
        return True

    def inherit(self, outages: Iterable[InheritedOutage]) -> None:
        """Begin the outages that another client has left; give up those of this one.

        The observer does not get these: the other client received what they missed.
        """
        now = asyncio.get_running_loop().time()
        for topic, outage in [*self._outages.open.items()]:
            route = self._router.of(topic)
            self._recovery.open_case(topic, outage, route.tail, now)
            self._interrupt_all(topic)
            self.finish_recovery(self._recovery.close_case(topic), observed=False)
        self._inherited.begin_all(outages)

    def finish_recovery(self, result: RecoveryResult, *, observed: bool = True) -> None:
        """Emit a gap; deliver the recovered ticks, and the ticks held back since."""
        topic, route = result.topic, self._router.of(result.topic)
        self._outages.end(topic)
        self._stats.released += result.received
        gap = self._gap(result)
        if observed:
            self._observe(gap, result)
        interrupted = [q for q in route.subscribers if topic in q.gaps.interrupted]
        self._put_gap_and_recovered(gap, result, interrupted)
        trades, status = topic.channel is Channel.TRADE, result.status
        if trades and status != "filled":
            # The tail bridges the next outage only if nothing is missing in it.
            route.tail.clear()
        if not trades or status in ("filled", "partial"):
            route.tail.extend(result.recovered)
        route.tail.extend(result.held)
        self._put_held(result, route.subscribers)
        for queue in route.subscribers:
            queue.gaps.skip_held.pop(topic, None)
        self.forget_ended_outages()

    def begin_recorded(self, topics: Collection[Topic], outage: Outage) -> None:
        """Begin an outage as it was recorded, of topics whose link is open."""
        self._protocol.mark_suspect(outage, topics.__contains__)
        self.on_live(topics, None)

    def deliver_recorded(self, result: RecoveryResult, then: Outage | None) -> None:
        """Deliver the end of an outage as it was recorded; begin the next if there is one.

        Subscriptions that joined since it began get the held ticks only.
        """
        topic, route = result.topic, self._router.of(result.topic)
        if not route.subscribers:
            return
        self.on_live([topic], None)
        if topic in self._recovery.cases:
            self._recovery.close_with(result)
        else:
            result = replace(result, recovered=())
        route.ticks += result.received
        self._stats.held += result.received
        self.finish_recovery(result)
        if then is not None:
            self._outages.inherit(topic, then)
            self._interrupt_all(topic)

    def forget_ended_outages(self) -> None:
        """Forget when outages began of which no topic has its gap still to come."""
        if self._began and not self._outages.open:
            self._began.clear()

    def _gap(self, result: RecoveryResult) -> Gap:
        since, until = result.span or self._span(result.outage, result.until)
        return Gap(
            topic=result.topic,
            since=since,
            until=until,
            reason=result.outage.reason,
            status=result.status,
            recovered=result.recovered_count,
        )

    def _observe(self, gap: Gap, result: RecoveryResult) -> None:
        """Pass a gap to the observer, with what was recovered; see ``FrameObserver``."""
        if self._observer is None:
            return
        numbers = {id(tick): number for number, tick in enumerate(result.pushed)}
        rows = [
            numbers.pop(id(tick)) if tick.received_at else tick
            for tick in result.recovered
        ]
        for tick in result.held:
            numbers.pop(id(tick), None)
        self._observer.fetched(gap, rows, [*numbers.values()], left=self.frames_left)

    def _put_gap_and_recovered(
        self, gap: Gap, result: RecoveryResult, queues: Sequence[SubscriptionQueue]
    ) -> None:
        for queue in queues:
            self._stats.gaps[gap.status] += 1
            self._stats.recovered += result.fetched
            queue.put_gap(gap, result.fetched)
        for number, tick in enumerate(result.recovered):
            if number < gap.recovered:
                force_setattr(tick, "recovered", True)
            # A kline that a link brought amid an incomplete gap was not seen to its end.
            unseen_end = result.is_incomplete and tick.received_at
            for queue in queues:
                if unseen_end:
                    queue.discard_open_klines([gap.topic])
                if id(tick) not in queue.gaps.skip_held.get(gap.topic, ()):
                    queue.put((tick,))
                if unseen_end:
                    queue.discard_open_klines([gap.topic])
        if result.is_incomplete:
            for queue in queues:
                queue.discard_open_klines([gap.topic])

    @staticmethod
    def _put_held(result: RecoveryResult, queues: Sequence[SubscriptionQueue]) -> None:
        for queue in queues:
            skip = queue.gaps.skip_held.get(result.topic, ())
            queue.put([tick for tick in result.held if id(tick) not in skip])

    def finish(self) -> None:
        """Deliver what is still held back: no more will be received."""
        for topic in self._recovery.cases:
            if not self._recovery.is_live(topic):
                # A queue that joined since has a share in the next gap.
                self._interrupt_all(topic)
        for result in self._recovery.close_all():
            self.finish_recovery(result)
