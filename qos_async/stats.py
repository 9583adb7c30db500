"""Statistics of clients and subscriptions."""

from __future__ import annotations

from msgspec import Struct, field

from qos_async.enums import Channel, LinkState
from qos_async.metrics import openmetrics

__all__ = ["Stats", "SubscriptionStats"]


def _no_ticks() -> dict[str, int]:
    return dict.fromkeys(map(str, Channel), 0)


def _no_gaps() -> dict[str, int]:
    return dict.fromkeys(("filled", "partial", "unverified", "unfilled"), 0)


class Stats(Struct, frozen=True, kw_only=True):
    """Counters and measures of one client, from its first use on: a picture, not live.

    Every frame is accounted for: ``frames_received`` is ``ticks + answers + unreadable +
    unknown``. Each of the ``ticks`` went to the subscriptions that watch its topic, or
    is one of ``unrouted``, ``repeated`` or ``held``.

    Times are in seconds, sizes in bytes.

    Attributes:
        state: Where the websocket is.
        links: Websocket connections on which the server said something.
        reconnects_by_reason: Links that ended and attempts that failed, each followed
            by another attempt, by a few fixed words: ``"silence"`` (see
            ``Timing.silence``), ``"close 1001"`` (the server's close code; ``"close
            3xxx"``, ``"close 4xxx"`` and ``"close other"`` for those above 1015),
            ``"broken"`` (without a close frame), ``"protocol"`` (not websocket),
            ``"send"`` (it stopped reading), ``"unreachable"``, ``"timeout"`` (of an
            attempt), ``"http 503"`` (that status instead of a websocket),
            ``"redirect"``, ``"key refused"`` (after it had been accepted), ``"other"``.
        frames_received: Whole frames, of any kind.
        frames_sent: Whole frames, heartbeats included.
        bytes_received: Payload of those received.
        bytes_sent: Payload of those sent.
        ticks_by_channel: Pushes that could be read, by the name of their channel.
        answers: Answers to anything, heartbeats included.
        unmatched: Those of ``answers`` to nothing that is pending: late, doubled or
            foreign.
        unreadable: Frames that nobody can read; skipped, and a ``Gap`` tells of them.
        unknown: Pushes of a kind that this version does not know; skipped.
        unrouted: Ticks for topics that nobody watches (any more).
        repeated: Ticks that came while an outage was made good, and were not delivered
            since what was fetched is the same or newer.
        held: Ticks that are held back now until an outage is made good.
        gaps_by_status: Gaps told, by status: topics times outages, for each
            subscription.
        recovered: Ticks fetched after outages, for each subscription.
        dropped: Ticks that buffers lost or replaced because their reader was slow;
            closed subscriptions included.
        subscriptions: Subscriptions that are open.
        backlog: Ticks that wait for the readers of those now.
        consumer_lag: How long ago the oldest of these was received; 0 if none waits.
        commands: Subscriptions, their ends, and questions that left on the websocket.
        command_wait_last: How long the newest of them waited for its turn, at the
            plan's pace, since it was wanted (or since there was a link, if later).
        command_wait_max: How long any of them waited at most.
        command_wait_total: How long they waited together.
        heartbeat_round_trip: From the last heartbeat that was answered to its answer,
            as this process saw it; None before the first.
        clock_offset: How far the server's clock is ahead of this machine's; None as
            long as the server has not told its time. It tells whole seconds: each
            answer bounds the offset to one second and a round trip, and the estimate is
            the middle of what all of them leave.
        clock_error: How far ``clock_offset`` may be off, either way.
        http_requests: HTTP requests that left, repeats included.
        http_retries: HTTP requests that were repeated.
        http_bytes_received: Bodies of whole HTTP answers, decompressed.
        http_bytes_sent: Bodies of HTTP requests.
    """

    state: LinkState = LinkState.IDLE
    links: int = 0
    reconnects_by_reason: dict[str, int] = {}
    frames_received: int = 0
    frames_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    ticks_by_channel: dict[str, int] = field(default_factory=_no_ticks)
    answers: int = 0
    unmatched: int = 0
    unreadable: int = 0
    unknown: int = 0
    unrouted: int = 0
    repeated: int = 0
    held: int = 0
    gaps_by_status: dict[str, int] = field(default_factory=_no_gaps)
    recovered: int = 0
    dropped: int = 0
    subscriptions: int = 0
    backlog: int = 0
    consumer_lag: float = 0.0
    commands: int = 0
    command_wait_last: float = 0.0
    command_wait_max: float = 0.0
    command_wait_total: float = 0.0
    heartbeat_round_trip: float | None = None
    clock_offset: float | None = None
    clock_error: float | None = None
    http_requests: int = 0
    http_retries: int = 0
    http_bytes_received: int = 0
    http_bytes_sent: int = 0

    @property
    def reconnects(self) -> int:
        """Links that ended and attempts that failed, for whatever reason."""
        return sum(self.reconnects_by_reason.values())

    @property
    def ticks(self) -> int:
        """Pushes that could be read, on all channels."""
        return sum(self.ticks_by_channel.values())

    @property
    def gaps(self) -> int:
        """Gaps told, whatever became of them."""
        return sum(self.gaps_by_status.values())

    def to_openmetrics(self) -> str:
        """Write all of this as OpenMetrics text, for Prometheus and its kin.

        Serve it as ``application/openmetrics-text; version=1.0.0; charset=utf-8``. Names
        begin with ``qos_``. What is None is left out.
        """
        return openmetrics(self)


class SubscriptionStats(Struct, frozen=True, kw_only=True):
    """Counters of one subscription; ``received = delivered + dropped + backlog``.

    Attributes:
        received: Ticks that came for this subscription.
        delivered: Ticks that its reader took.
        dropped: Ticks that its buffer lost or replaced because the reader was slow.
        recovered: Ticks among ``received`` that were fetched after an outage.
        unfinished: Klines that were still growing, and so not among ``received``;
            always 0 without ``final=True``.
        gaps: Topics times outages.
        backlog: Ticks that wait for the reader now.
        lag: How many seconds ago the oldest of these was received; 0 if none waits.
    """

    received: int
    delivered: int
    dropped: int
    recovered: int
    unfinished: int = 0
    gaps: int
    backlog: int
    lag: float = 0.0
