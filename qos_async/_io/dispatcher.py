"""From the links to the readers, and what stands between after an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import force_setattr

from qos_async._core.protocol import StreamProtocol
from qos_async._core.recovery.cases import RecoveryResult
from qos_async._core.recovery.gaps import Gap
from qos_async._core.router import Route, Router
from qos_async._io.clocks import SYSTEM_CLOCK, SuspendDetector, WallClock
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.enums import Channel
from qos_async.errors import LaggedError
from qos_async.models import AnyTick
from qos_async.topics import Topic

__all__ = ["Dispatcher"]

_SUSPEND_CHECK_INTERVAL = (
    5_000_000_000  # Nanoseconds between two looks at how long the machine slept.
)


class Dispatcher:
    """Hands ticks to those who watch their topic.

    After an outage it hands them to the session's recovery first, which holds them back
    until it is decided what was missed: then a gap is told, then what it hid, then they.

    Args:
        protocol: The core.
        routes: Who watches what.
        silence: How many seconds the machine may sleep without having missed anything.
        close: Closes the inbox of a reader that may not lose anything, and did.
        notify: Called when the core may have something to say.
        clock: Tells the time of the calendar.
    """

    def __init__(
        self,
        protocol: StreamProtocol[Any],
        router: Router[SubscriptionQueue],
        *,
        silence: float,
        close: Callable[[SubscriptionQueue], None],
        notify: Callable[[], None],
        clock: WallClock = SYSTEM_CLOCK,
    ) -> None:
        self._protocol = protocol
        self._router = router
        self._suspend_detector = SuspendDetector()
        self._silence = silence
        self._next_check_at = 0
        self._close = close
        self._notify = notify
        self._clock = clock
        self._now = clock.now
        self._stats = protocol.stats
        self._recovery = recovery = protocol.recovery
        # Looked at for each tick; all three are empty as long as all is well.
        self._outages = protocol.outages.open
        self._dirty = protocol.registry.dirty
        self._echoes: dict[Topic, Any] = {} if recovery is None else recovery.echoes

    def on_pushes(self, pushes: Sequence[AnyTick[Any]]) -> None:
        """Hand ticks that came together to everyone who watches their topics."""
        now = self._now()
        if now > self._next_check_at:
            self.check_suspend()
        if self._outages or self._dirty or self._echoes:
            for push in pushes:
                _stamp(push, now)
                self._dispatch_one(push)
            return
        kinds = {*map(type, pushes)}
        audience = self._router.shared_subscribers.get(kinds.pop())
        if audience is None or kinds:
            self._dispatch_batch(pushes, now)
        else:
            self._dispatch_shared(pushes, now, audience)

    def _dispatch_shared(
        self,
        pushes: Sequence[AnyTick[Any]],
        now: int,
        audience: tuple[SubscriptionQueue, ...],
    ) -> None:
        """Hand pushes of one kind to those who watch all of it, in half the time."""
        routes, kind = self._router, type(pushes[0])
        keep = routes.tail_append[kind]
        strays = set[int]()
        for push in pushes:
            force_setattr(push, "received_at", now)
            if push.recovered:
                force_setattr(push, "recovered", False)
            try:
                keep[push.symbol](push)
            except KeyError:
                route = routes.find(push)
                if route.subscribers:
                    route.tail.append(push)
                else:
                    route.ticks += 1
                    strays.add(id(push))
        if strays:
            pushes = [push for push in pushes if id(push) not in strays]
        routes.count(kind, len(pushes))
        for inbox in audience:
            self._put_all(inbox, pushes)

    def _dispatch_batch(self, pushes: Sequence[AnyTick[Any]], now: int) -> None:
        # As long as all is well nothing can happen in between: so a reader gets what is
        # for it at once, which takes half the time.
        routes, find = self._router.by_symbol, self._router.find
        shares: list[SubscriptionQueue] = []
        for push in pushes:
            force_setattr(push, "received_at", now)
            if push.recovered:
                force_setattr(push, "recovered", False)
            route = routes[push.__class__].get(push.symbol) or find(push)
            route.ticks += 1
            route.tail.append(push)
            for inbox in route.subscribers:
                share = inbox.batch
                if not share:
                    shares.append(inbox)
                share.append(push)
        for inbox in shares:
            share, inbox.batch = inbox.batch, []
            self._put_all(inbox, share)

    def _put_all(
        self, inbox: SubscriptionQueue, pushes: Sequence[AnyTick[Any]]
    ) -> None:
        try:
            inbox.put_all(pushes)
        except LaggedError as exc:
            inbox.end(exc)
            self._close(inbox)

    def _dispatch_one(self, push: AnyTick[Any]) -> None:
        route = self._router.find(push)
        route.ticks += 1
        if not route.subscribers:
            return
        unusual = self._outages or self._dirty or self._echoes
        if unusual and self._dispatch_during_recovery(push, route):
            return
        route.tail.append(push)
        self._put(push, route.subscribers)

    def check_suspend(self) -> None:
        """Look whether the machine slept: then all may have missed something."""
        self._next_check_at = self._now() + _SUSPEND_CHECK_INTERVAL
        slept = self._suspend_detector.seconds_suspended()
        if slept > self._silence:
            self._protocol.suspended(slept, asyncio.get_running_loop().time())
            self._notify()

    def on_resubscribed(self, topics: Iterable[Topic], second: int | None) -> None:
        """Make good, or at least tell, what ``topics`` missed: they are live again.

        Args:
            topics: Which; those that had no outage do not matter.
            second: The server's time, if its yes tells so.
        """
        now, recovery = asyncio.get_running_loop().time(), self._recovery
        for topic in topics:
            outage = self._outages.get(topic)
            if outage is None:
                continue
            route = self._router.of(topic)
            if recovery is None or recovery.open_case(topic, outage, route.tail, now):
                for inbox in route.subscribers:
                    inbox.begin_gap(topic)
            if recovery is None:
                self.finish_recovery(RecoveryResult(topic, outage, now, "unfilled"))
            else:
                recovery.acknowledged(topic, second)

    def add_subscriber(self, inbox: SubscriptionQueue, topics: Iterable[Topic]) -> None:
        """Spare one reader what is held back already of topics that it has joined."""
        cases = {} if self._recovery is None else self._recovery.cases
        for topic in cases.keys() & topics:
            case = cases[topic]
            inbox.skip_held[topic] = frozenset(
                map(id, (*case.held_earlier, *case.held))
            )

    def remove_subscriber(
        self, inbox: SubscriptionQueue, topics: Iterable[Topic]
    ) -> None:
        """Give one reader what is held back of topics that it is about to leave."""
        if self._recovery is None or inbox.ended:
            return
        for topic in inbox.topics.intersection(topics) & self._recovery.cases.keys():
            case = self._recovery.cases[topic]
            if not case.live:
                inbox.begin_gap(topic)
            healing = case.close()
            if self._router.of(topic).subscribers == (inbox,):
                self._stats.released += healing.received
            if topic in inbox.interrupted:
                self._emit_gap(healing, (inbox,))
            for tick in healing.held:
                self._put_unless_skipped(tick, topic, (inbox,))
            inbox.skip_held.pop(topic, None)

    def finish(self) -> None:
        """Hand out what is still held back: no more will come."""
        if self._recovery is None:
            return
        for topic, case in self._recovery.cases.items():
            if (
                not case.live
            ):  # Who came since it was begun has a share in the next gap.
                for inbox in self._router.of(topic).subscribers:
                    inbox.begin_gap(topic)
        for healing in self._recovery.close_all():
            self.finish_recovery(healing)

    def finish_recovery(self, healing: RecoveryResult) -> None:
        """Tell of a gap, then of what it hid, then of what came since."""
        topic, route = healing.topic, self._router.of(healing.topic)
        self._protocol.outages.end(topic)
        self._stats.released += healing.received
        missed = tuple(w for w in route.subscribers if topic in w.interrupted)
        self._emit_gap(healing, missed)
        trades, status = topic.channel is Channel.TRADE, healing.status
        if trades and status != "filled":
            # They bridge the next outage only if there is no hole among them.
            route.tail.clear()
        if not trades or status in ("filled", "partial"):
            route.tail.extend(healing.recovered)
        for tick in healing.held:
            route.tail.append(tick)
            self._put_unless_skipped(tick, topic, route.subscribers)
        for inbox in route.subscribers:
            inbox.skip_held.pop(topic, None)

    def _emit_gap(
        self, healing: RecoveryResult, missed: tuple[SubscriptionQueue, ...]
    ) -> None:
        gap, torn = (
            _make_gap(healing, self._clock),
            healing.status in ("unfilled", "unverified"),
        )
        for inbox in missed:
            self._stats.gaps[gap.status] += 1
            self._stats.recovered += healing.fetched
            inbox.put_gap(gap, healing.fetched)
        for place, tick in enumerate(healing.recovered):
            if place < gap.recovered:
                force_setattr(tick, "recovered", True)
            # Nobody saw how a bar ended that was brought in the midst of this.
            brought = torn and tick.received_at
            if brought:
                _discard_open_klines(missed, gap.topic)
            self._put_unless_skipped(tick, gap.topic, missed)
            if brought:
                _discard_open_klines(missed, gap.topic)
        if torn:
            _discard_open_klines(missed, gap.topic)

    def _dispatch_during_recovery(
        self, push: AnyTick[Any], route: Route[SubscriptionQueue]
    ) -> bool:
        """Look at a tick that comes before all is confirmed and made good.

        Returns:
            Whether it is held back, or was delivered already.
        """
        topic = push.topic
        self._notify()
        self._protocol.note_early_tick(topic)
        self.on_resubscribed([topic], None)
        for inbox in route.subscribers:
            inbox.live.add(topic)
        recovery = self._recovery
        if recovery is None:
            return False
        if topic not in recovery.cases:
            echoed = recovery.is_echo(topic, push)
            self._stats.echoes += echoed
            return echoed
        self._stats.held += 1
        healing = recovery.hold(topic, push)
        if healing is not None:
            self.finish_recovery(healing)
        return True

    def _put_unless_skipped(
        self, tick: Any, topic: Topic, inboxes: tuple[SubscriptionQueue, ...]
    ) -> None:
        for inbox in inboxes:
            if id(tick) not in inbox.skip_held.get(topic, ()):
                self._put(tick, (inbox,))

    def _put(self, tick: Any, inboxes: tuple[SubscriptionQueue, ...]) -> None:
        for inbox in inboxes:
            try:
                inbox.put(tick)
            except LaggedError as exc:
                inbox.end(exc)
                self._close(inbox)


def _discard_open_klines(inboxes: Iterable[SubscriptionQueue], topic: Topic) -> None:
    """Let nobody take the bar that grew before a hole for a finished one."""
    for inbox in inboxes:
        inbox.discard_open_klines([topic])


def _stamp(push: AnyTick[Any], now: int) -> None:
    force_setattr(push, "received_at", now)
    if push.recovered:  # Not the server's to say.
        force_setattr(push, "recovered", False)


def _make_gap(healing: RecoveryResult, wall: WallClock) -> Gap:
    return Gap(
        topic=healing.topic,
        since=wall.from_loop_time(healing.outage.since),
        until=wall.from_loop_time(healing.until),
        reason=healing.outage.reason,
        status=healing.status,
        recovered=healing.recovered_count,
    )
