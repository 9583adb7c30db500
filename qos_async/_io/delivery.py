"""From the links to the readers, and what stands between after an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import force_setattr

from qos_async._core.cases import Healing
from qos_async._core.gaps import Gap
from qos_async._core.routes import Route, Routes
from qos_async._core.session import Session
from qos_async._core.topics import Push, Topic, topic_of
from qos_async._io.inbox import Inbox
from qos_async._io.slumber import Slumber
from qos_async._io.wall import CALENDAR, Wall
from qos_async.enums import Channel
from qos_async.errors import LaggedError

__all__ = ["Delivery"]

_LOOK = 5_000_000_000  # Nanoseconds between two looks at how long the machine slept.


class Delivery:
    """Hands ticks to those who watch their topic.

    After an outage it hands them to the session's recovery first, which holds them back
    until it is decided what was missed: then a gap is told, then what it hid, then they.

    Args:
        session: The core.
        routes: Who watches what.
        silence: How many seconds the machine may sleep without having missed anything.
        close: Closes the inbox of a reader that may not lose anything, and did.
        ring: Called when the core may have something to say.
        wall: Tells the time of the calendar.
    """

    def __init__(
        self,
        session: Session[Any],
        routes: Routes[Inbox],
        *,
        silence: float,
        close: Callable[[Inbox], None],
        ring: Callable[[], None],
        wall: Wall = CALENDAR,
    ) -> None:
        self._session = session
        self._routes = routes
        self._slumber = Slumber()
        self._silence = silence
        self._look_at = 0
        self._close = close
        self._ring = ring
        self._wall = wall
        self._now = wall.now
        self._stats = session.stats
        self._recovery = recovery = session.recovery
        # Looked at for each tick; all three are empty as long as all is well.
        self._outages = session.outages.open
        self._dirty = session.registry.dirty
        self._echoes: dict[Topic, Any] = {} if recovery is None else recovery.echoes

    def on_pushes(self, pushes: Sequence[Push[Any]]) -> None:
        """Hand ticks that came together to everyone who watches their topics."""
        now = self._now()
        if now > self._look_at:
            self.on_time()
        if self._outages or self._dirty or self._echoes:
            for push in pushes:
                _stamp(push, now)
                self._take_care(push)
            return
        kinds = {*map(type, pushes)}
        audience = self._routes.audiences.get(kinds.pop())
        if audience is None or kinds:
            self._hand_on(pushes, now)
        else:
            self._hand_all(pushes, now, audience)

    def _hand_all(
        self, pushes: Sequence[Push[Any]], now: int, audience: tuple[Inbox, ...]
    ) -> None:
        """Hand pushes of one kind to those who watch all of it, in half the time."""
        routes, kind = self._routes, type(pushes[0])
        keep = routes.keeps[kind]
        strays = set[int]()
        for push in pushes:
            force_setattr(push, "received_at", now)
            if push.recovered:
                force_setattr(push, "recovered", False)
            try:
                keep[push.symbol](push)
            except KeyError:
                route = routes.find(push)
                if route.watchers:
                    route.tail.append(push)
                else:
                    route.ticks += 1
                    strays.add(id(push))
        if strays:
            pushes = [push for push in pushes if id(push) not in strays]
        routes.count(kind, len(pushes))
        for inbox in audience:
            self._deliver(inbox, pushes)

    def _hand_on(self, pushes: Sequence[Push[Any]], now: int) -> None:
        # As long as all is well nothing can happen in between: so a reader gets what is
        # for it at once, which takes half the time.
        routes, find = self._routes.tables, self._routes.find
        shares: list[Inbox] = []
        for push in pushes:
            force_setattr(push, "received_at", now)
            if push.recovered:
                force_setattr(push, "recovered", False)
            route = routes[push.__class__].get(push.symbol) or find(push)
            route.ticks += 1
            route.tail.append(push)
            for inbox in route.watchers:
                share = inbox.share
                if not share:
                    shares.append(inbox)
                share.append(push)
        for inbox in shares:
            share, inbox.share = inbox.share, []
            self._deliver(inbox, share)

    def _deliver(self, inbox: Inbox, pushes: Sequence[Push[Any]]) -> None:
        try:
            inbox.deliver_all(pushes)
        except LaggedError as exc:
            inbox.end(exc)
            self._close(inbox)

    def _take_care(self, push: Push[Any]) -> None:
        route = self._routes.find(push)
        route.ticks += 1
        if not route.watchers:
            return
        unusual = self._outages or self._dirty or self._echoes
        if unusual and self._look_closer(push, route):
            return
        route.tail.append(push)
        self._hand_out(push, route.watchers)

    def on_time(self) -> None:
        """Look whether the machine slept: then all may have missed something."""
        self._look_at = self._now() + _LOOK
        slept = self._slumber.ended()
        if slept > self._silence:
            self._session.slept(slept, asyncio.get_running_loop().time())
            self._ring()

    def restored(self, topics: Iterable[Topic], second: int | None) -> None:
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
            route = self._routes.of(topic)
            if recovery is None or recovery.begin(topic, outage, route.tail, now):
                for inbox in route.watchers:
                    inbox.interrupt(topic)
            if recovery is None:
                self.heal(Healing(topic, outage, now, "unfilled"))
            else:
                recovery.acknowledged(topic, second)

    def join(self, inbox: Inbox, topics: Iterable[Topic]) -> None:
        """Spare one reader what is held back already of topics that it has joined."""
        cases = {} if self._recovery is None else self._recovery.cases
        for topic in cases.keys() & topics:
            case = cases[topic]
            inbox.spared[topic] = frozenset(map(id, (*case.stash, *case.held)))

    def part(self, inbox: Inbox, topics: Iterable[Topic]) -> None:
        """Give one reader what is held back of topics that it is about to leave."""
        if self._recovery is None or inbox.ended:
            return
        for topic in inbox.topics.intersection(topics) & self._recovery.cases.keys():
            case = self._recovery.cases[topic]
            if not case.live:
                inbox.interrupt(topic)
            healing = case.close()
            if self._routes.of(topic).watchers == (inbox,):
                self._stats.released += healing.received
            if topic in inbox.interrupted:
                self._make_good(healing, (inbox,))
            for tick in healing.held:
                self._release(tick, topic, (inbox,))
            inbox.spared.pop(topic, None)

    def finish(self) -> None:
        """Hand out what is still held back: no more will come."""
        if self._recovery is None:
            return
        for topic, case in self._recovery.cases.items():
            if (
                not case.live
            ):  # Who came since it was begun has a share in the next gap.
                for inbox in self._routes.of(topic).watchers:
                    inbox.interrupt(topic)
        for healing in self._recovery.give_up():
            self.heal(healing)

    def heal(self, healing: Healing) -> None:
        """Tell of a gap, then of what it hid, then of what came since."""
        topic, route = healing.topic, self._routes.of(healing.topic)
        self._session.outages.end(topic)
        self._stats.released += healing.received
        missed = tuple(w for w in route.watchers if topic in w.interrupted)
        self._make_good(healing, missed)
        trades, status = topic.channel is Channel.TRADE, healing.status
        if trades and status != "filled":
            # They bridge the next outage only if there is no hole among them.
            route.tail.clear()
        if not trades or status in ("filled", "partial"):
            route.tail.extend(healing.recovered)
        for tick in healing.held:
            route.tail.append(tick)
            self._release(tick, topic, route.watchers)
        for inbox in route.watchers:
            inbox.spared.pop(topic, None)

    def _make_good(self, healing: Healing, missed: tuple[Inbox, ...]) -> None:
        gap, torn = (
            _gap(healing, self._wall),
            healing.status in ("unfilled", "unverified"),
        )
        for inbox in missed:
            self._stats.gaps[gap.status] += 1
            self._stats.recovered += healing.fetched
            inbox.tell(gap, healing.fetched)
        for place, tick in enumerate(healing.recovered):
            if place < gap.recovered:
                force_setattr(tick, "recovered", True)
            # Nobody saw how a bar ended that was brought in the midst of this.
            brought = torn and tick.received_at
            if brought:
                _tear(missed, gap.topic)
            self._release(tick, gap.topic, missed)
            if brought:
                _tear(missed, gap.topic)
        if torn:
            _tear(missed, gap.topic)

    def _look_closer(self, push: Push[Any], route: Route[Inbox]) -> bool:
        """Look at a tick that comes before all is confirmed and made good.

        Returns:
            Whether it is held back, or was delivered already.
        """
        topic = topic_of(push)
        self._ring()
        self._session.ticked(topic)
        self.restored([topic], None)
        for inbox in route.watchers:
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
            self.heal(healing)
        return True

    def _release(self, tick: Any, topic: Topic, inboxes: tuple[Inbox, ...]) -> None:
        for inbox in inboxes:
            if id(tick) not in inbox.spared.get(topic, ()):
                self._hand_out(tick, (inbox,))

    def _hand_out(self, tick: Any, inboxes: tuple[Inbox, ...]) -> None:
        for inbox in inboxes:
            try:
                inbox.deliver(tick)
            except LaggedError as exc:
                inbox.end(exc)
                self._close(inbox)


def _tear(inboxes: Iterable[Inbox], topic: Topic) -> None:
    """Let nobody take the bar that grew before a hole for a finished one."""
    for inbox in inboxes:
        inbox.drop_growing([topic])


def _stamp(push: Push[Any], now: int) -> None:
    force_setattr(push, "received_at", now)
    if push.recovered:  # Not the server's to say.
        force_setattr(push, "recovered", False)


def _gap(healing: Healing, wall: Wall) -> Gap:
    return Gap(
        topic=healing.topic,
        since=wall.at(healing.outage.since),
        until=wall.at(healing.until),
        reason=healing.outage.reason,
        status=healing.status,
        recovered=healing.late,
    )
