"""Counters: what happened so far."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Stats", "SubscriptionStats"]


class Stats(Struct, kw_only=True):
    """Counters of one client, from its first use on.

    Attributes:
        links: Websocket connections on which the server said something.
        frames_received: Whole frames, of any kind.
        frames_sent: Whole frames, heartbeats included.
        ticks: Pushes that could be read.
        unreadable: Frames that nobody can read; skipped.
        unknown: Pushes of a kind that this version does not know; skipped.
        unmatched: Answers to nothing that is pending: late, doubled or foreign.
        unrouted: Pushes for topics that nobody watches (any more).
        gaps: Gaps told: topics times outages, for each subscription.
        http_requests: HTTP requests that left, repeats included.
        http_retries: HTTP requests that were repeated.
    """

    links: int = 0
    frames_received: int = 0
    frames_sent: int = 0
    ticks: int = 0
    unreadable: int = 0
    unknown: int = 0
    unmatched: int = 0
    unrouted: int = 0
    gaps: int = 0
    http_requests: int = 0
    http_retries: int = 0


class SubscriptionStats(Struct, frozen=True, kw_only=True):
    """Counters of one subscription; ``received = delivered + dropped + backlog``.

    Attributes:
        received: Ticks that came for this subscription.
        delivered: Ticks that its reader took.
        dropped: Ticks that its buffer lost or replaced because the reader was slow.
        recovered: Ticks among ``received`` that were fetched after an outage.
        gaps: Topics times outages.
        backlog: Ticks that wait for the reader now.
    """

    received: int
    delivered: int
    dropped: int
    recovered: int
    gaps: int
    backlog: int
