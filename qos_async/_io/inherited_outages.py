"""Outages that another client with the same key has left, to be recovered by this one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from qos_async._core.protocol import StreamProtocol
from qos_async._core.recovery import Outage, inherited_case
from qos_async._core.router import Router
from qos_async._io.clocks import WallClock
from qos_async._io.dial_gate import InheritedOutage, OlderPush
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.models import AnyTick
from qos_async.topics import Topic

__all__ = ["InheritedOutages"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class InheritedOutages:
    """Begins the outages of topics: at once, or when they are subscribed.

    Args:
        protocol: The core.
        router: Has the tails of topics.
        clock: Has the time of the event loop as a wall clock.
        began: Gets the beginnings of outages, by their time of the event loop.
    """

    def __init__(
        self,
        protocol: StreamProtocol[Any],
        router: Router[SubscriptionQueue],
        clock: WallClock,
        began: dict[float, datetime],
    ) -> None:
        self._waiting: dict[Topic, InheritedOutage] = {}
        self._protocol, self._router, self._clock = protocol, router, clock
        self._began = began

    def begin_all(self, outages: Iterable[InheritedOutage]) -> None:
        """Begin the outages of topics that are subscribed; others when they are."""
        self._waiting = {outage.topic: outage for outage in outages}
        for topic in [*self._waiting]:
            if self._router.of(topic).subscribers:
                self.begin(topic)

    def begin(self, topic: Topic) -> None:
        """Begin the outage of a topic that has a subscriber, if there is one."""
        inherited = self._waiting.pop(topic, None)
        if inherited is None:
            return
        now = asyncio.get_running_loop().time()
        began = _EPOCH + timedelta(microseconds=inherited.since // 1000)
        age = (self._clock.from_loop_time(now) - began).total_seconds()
        outage = Outage(now - max(age, 0.0), inherited.reason)
        protocol, route = self._protocol, self._router.of(topic)
        protocol.outages.inherit(topic, outage)
        route.tail.clear()
        route.tail.extend(self._decode(inherited.tail))
        if held := self._decode(inherited.held):
            case = inherited_case(topic, outage, route.tail, held, now=now)
            protocol.recovery.cases[topic] = case
            route.ticks += len(held)
            protocol.stats.recovery.held += len(held)
        self._began.setdefault(outage.since, began)

    def _decode(self, pushes: Iterable[OlderPush]) -> list[AnyTick[Any]]:
        ticks: list[AnyTick[Any]] = []
        for push in pushes:
            try:
                tick = self._protocol.decoder.push(push.frame)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                continue
            force_setattr(tick, "received_at", push.at)
            ticks.append(tick)
        return ticks
