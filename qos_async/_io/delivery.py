"""From the links to the readers, and what stands between after an outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import force_setattr

from qos_async._core.cases import Healing
from qos_async._core.gaps import Gap
from qos_async._core.routes import Route, Routes
from qos_async._core.session import Session
from qos_async._core.topics import Push, Topic, topic_of
from qos_async._io.inbox import Inbox
from qos_async.errors import LaggedError

__all__ = ["Delivery"]


class Delivery:
    """Hands ticks to those who watch their topic.

    After an outage it hands them to the session's recovery first, which holds them back
    until it is decided what was missed: then a gap is told, then what it hid, then they.

    Args:
        session: The core.
        routes: Who watches what.
        close: Closes the inbox of a reader that may not lose anything, and did.
        ring: Called when the core may have something to say.
    """

    def __init__(
        self,
        session: Session[Any],
        routes: Routes[Inbox],
        *,
        close: Callable[[Inbox], None],
        ring: Callable[[], None],
    ) -> None:
        self._session = session
        self._routes = routes
        self._close = close
        self._ring = ring
        self._stats = session.stats
        self._recovery = recovery = session.recovery
        # Looked at for each tick; all three are empty as long as all is well.
        self._outages = session.outages.open
        self._dirty = session.registry.dirty
        self._echoes: dict[Topic, Any] = {} if recovery is None else recovery.echoes

    def on_push(self, push: Push[Any]) -> None:
        """Hand a tick to everyone who watches its topic."""
        force_setattr(push, "received_at", time.time_ns())
        if push.recovered:  # Not the server's to say.
            force_setattr(push, "recovered", False)
        self._stats.ticks += 1
        route = self._routes.find(push)
        if not route.watchers:
            self._stats.unrouted += 1
            return
        unusual = self._outages or self._dirty or self._echoes
        if unusual and self._look_closer(push, route):
            return
        route.tail.append(push)
        self._hand_out(push, route.watchers)

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

    def finish(self) -> None:
        """Hand out what is still held back: no more will come."""
        if self._recovery is not None:
            for healing in self._recovery.give_up():
                self.heal(healing)

    def heal(self, healing: Healing) -> None:
        """Tell of a gap, then of what it hid, then of what came since."""
        topic, route = healing.topic, self._routes.of(healing.topic)
        self._session.outages.end(topic)
        missed = tuple(w for w in route.watchers if topic in w.interrupted)
        gap = _gap(healing)
        for inbox in missed:
            self._stats.gaps += 1
            inbox.tell(gap)
        for tick in healing.recovered:
            if not tick.received_at:  # Else a link brought it that did not last.
                force_setattr(tick, "recovered", True)
            self._hand_out(tick, missed)
        # The tail bridges the next outage, so it must not have a hole itself.
        whole = {
            "filled": (*route.tail, *healing.recovered),
            "partial": healing.recovered,
        }
        route.tail.clear()
        route.tail.extend(whole.get(healing.status, ()))
        for tick in healing.held:
            route.tail.append(tick)
            self._hand_out(tick, route.watchers)

    def _look_closer(self, push: Push[Any], route: Route[Inbox]) -> bool:
        """Look at a tick that comes before all is confirmed and made good.

        Returns:
            Whether it is held back, or was delivered already.
        """
        topic = topic_of(push)
        self._session.ticked(topic)
        self.restored([topic], None)
        for inbox in route.watchers:
            inbox.live.add(topic)
        recovery = self._recovery
        if recovery is None:
            return False
        if topic not in recovery.cases:
            return recovery.is_echo(topic, push)
        healing = recovery.hold(topic, push)
        self._ring()
        if healing is not None:
            self.heal(healing)
        return True

    def _hand_out(self, tick: Any, inboxes: tuple[Inbox, ...]) -> None:
        for inbox in inboxes:
            try:
                inbox.deliver(tick)
            except LaggedError as exc:
                inbox.end(exc)
                self._close(inbox)


def _gap(healing: Healing) -> Gap:
    return Gap(
        topic=healing.topic,
        since=_wall(healing.outage.since),
        until=_wall(healing.until),
        reason=healing.outage.reason,
        status=healing.status,
        recovered=sum(not tick.received_at for tick in healing.recovered),
    )


def _wall(moment: float) -> datetime:
    """Turn the loop's time into the calendar's."""
    age = asyncio.get_running_loop().time() - moment
    return datetime.fromtimestamp(time.time() - age, UTC)
