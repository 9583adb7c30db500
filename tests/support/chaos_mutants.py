"""Mutants of the client, each of which the chaos runs must detect; see ``MUTANTS``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from qos_async._core.keepalive import Liveness
from qos_async._core.link import Backoff
from qos_async._core.rate_limits import Pacer
from qos_async._core.recovery.cases import RecoveryCase, _Trades
from qos_async._core.recovery.trades import MergedTrades
from qos_async._core.registry import Registry
from qos_async._core.scheduler import CommandScheduler, RequestQueue
from qos_async._io import receiver
from qos_async._io.stream import Stream
from qos_async._io.subscription_queue import SubscriptionQueue
from qos_async.config import Timing

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """A way to break the client.

    Attributes:
        owner: The class or module with the replaced attribute.
        part: The attribute's name.
        make: Returns the replacement of the original.
        caught_by: A pattern that the error must match.
        seeds: At least one of these must fail.
    """

    name: str
    owner: Any
    part: str
    make: Callable[[Any], Any]
    caught_by: str
    seeds: range = range(10)

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Replace the attribute."""
        patch.setattr(self.owner, self.part, self.make(getattr(self.owner, self.part)))


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _keeps_some_topics(forget: Any) -> Any:
    def broken(self: Registry) -> None:
        forget(self)
        for topic in list(self.dirty)[:1]:
            del self.dirty[topic]

    return broken


def _emits_no_gap(tell: Any) -> Any:
    def broken(self: SubscriptionQueue, gap: Any, *more: Any) -> None:
        self.gaps.interrupted.discard(gap.topic)

    return broken


def _delivers_some_twice(deliver: Any) -> Any:
    def broken(self: SubscriptionQueue, ticks: Any) -> None:
        for tick in ticks:
            deliver(self, [tick])
            if self.buffer.received % 50 == 1:
                deliver(self, [tick])

    return broken


def _loses_some(deliver: Any) -> Any:
    def broken(self: SubscriptionQueue, ticks: Any) -> None:
        deliver(self, [tick for tick in ticks if tick.timestamp % 60 != 7])

    return broken


def _is_always_free(is_free: Any) -> Any:
    return lambda self, now: True


def _late_heartbeat(beat: Any) -> Any:
    def broken(self: Liveness, now: float) -> None:
        self.heartbeat_at = now + 40.0

    return broken


def _short_timeout(init: Any) -> Any:
    def broken(
        self: CommandScheduler, *requested: Any, timing: Timing, **more: Any
    ) -> None:
        init(self, *requested, timing=replace(timing, request_timeout=2.0), **more)

    return broken


def _claims_filled(merged: Any) -> Any:
    def broken(self: Any) -> Any:
        found = merged(self)
        return MergedTrades("filled", found.recovered)

    return broken


def _delivers_everything_fetched(merged: Any) -> Any:
    def broken(self: Any) -> Any:
        return MergedTrades("unverified", tuple(self.rows or ()))

    return broken


def _drops_held_ticks(hold: Any) -> Any:
    def broken(self: RecoveryCase[Any], tick: Any) -> Any:
        return self.result()

    return broken


def _never_counts_attempts(failed: Any) -> Any:
    def broken(self: Backoff, lived: float, *more: Any) -> Any:
        return failed(self, 60.0 if lived else 0.0, *more)

    return broken


def _keeps_topics(close: Any) -> Any:
    def broken(self: Stream[Any], inbox: Any) -> None:
        self._queues.pop(inbox, None)
        inbox.end()

    return broken


MUTANTS = [
    Mutant(
        "a topic is not subscribed again",
        Registry,
        "link_up",
        _keeps_some_topics,
        "I[18] ",
    ),
    Mutant(
        "gaps are not emitted", SubscriptionQueue, "put_gap", _emits_no_gap, "I[78] "
    ),
    Mutant(
        "ticks come twice", SubscriptionQueue, "put", _delivers_some_twice, "I(7|9|10) "
    ),
    Mutant("ticks are lost", SubscriptionQueue, "put", _loses_some, "I(7|10) "),
    Mutant("the command interval is ignored", Pacer, "is_free", _is_always_free, "I2 "),
    Mutant("heartbeats are late", Liveness, "heartbeat_sent", _late_heartbeat, "I3 "),
    Mutant(
        "replies are not awaited", CommandScheduler, "__init__", _short_timeout, "I6 "
    ),
    Mutant(
        "requests outlive their link",
        RequestQueue,
        "take_sent",
        lambda _: _take_none,
        "I5 ",
        range(9, 10),
    ),
    Mutant("every gap is filled", _Trades, "_merged", _claims_filled, "I10 "),
    Mutant(
        "everything fetched is delivered",
        _Trades,
        "_merged",
        _delivers_everything_fetched,
        "I(9|10) ",
    ),
    Mutant(
        "held ticks are dropped", RecoveryCase, "hold", _drops_held_ticks, "I(7|10) "
    ),
    Mutant(
        "the back-off starts again",
        Backoff,
        "next_wait",
        _never_counts_attempts,
        "I14 ",
    ),
    Mutant(
        "topics of closed subscriptions stay",
        Stream,
        "close",
        _keeps_topics,
        "I(1|16) ",
    ),
    Mutant(
        "the receiver never yields",
        receiver,
        "_FRAMES_BEFORE_YIELD",
        lambda _: 10**9,
        "I17 ",
        range(20),
    ),
]


def _take_none(self: RequestQueue) -> list[Any]:
    self._sent.clear()
    return []
