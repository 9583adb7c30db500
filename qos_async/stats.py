"""Statistics of clients and subscriptions."""

from __future__ import annotations

from msgspec import Struct, field

from qos_async.enums import Channel, LinkState

__all__ = ["Stats", "SubscriptionStats"]


def _no_ticks() -> dict[str, int]:
    return dict.fromkeys(map(str, Channel), 0)


def _no_gaps() -> dict[str, int]:
    return dict.fromkeys(("filled", "partial", "unverified", "unfilled"), 0)


class Stats(Struct, frozen=True, kw_only=True):
    """Counters and measures of one client since its first use, at one moment.

    Every frame is counted once: ``frames_received`` is ``ticks + answers + unreadable +
    unknown``. Each of the ``ticks`` was delivered to the subscriptions of its topic, or is
    one of ``unrouted``, ``repeated`` or ``held``.

    Times are in seconds, sizes in bytes.

    Attributes:
        state: The state of the websocket.
        links: Websocket connections on which the server sent something.
        reconnects_by_reason: Links that ended and attempts that failed, each followed
            by another attempt, by reason: ``"silence"`` (see
            ``Timing.silence``), ``"close 1001"`` (the server's close code; ``"close
            3xxx"``, ``"close 4xxx"`` and ``"close other"`` for those above 1015),
            ``"broken"`` (without a close frame), ``"protocol"`` (not websocket),
            ``"send"`` (the server stopped reading), ``"lease"`` (another recorder has the
            lease), ``"unreachable"``, ``"timeout"`` (of an
            attempt), ``"http 503"`` (the status of a rejected handshake),
            ``"redirect"``, ``"key refused"`` (a key accepted before), ``"other"``.
        frames_received: Whole frames, of any kind.
        frames_sent: Whole frames, heartbeats included.
        bytes_received: Payload of the frames received.
        bytes_sent: Payload of the frames sent.
        ticks_by_channel: Readable pushes, by the name of their channel.
        answers: Replies to commands, requests and heartbeats.
        unmatched: Replies to nothing that is pending: late, duplicate or of another
            client.
        unreadable: Frames that cannot be decoded; they are skipped, and reported by a
            ``Gap``.
        unknown: Pushes of a kind that this version does not know; they are skipped.
        unrouted: Ticks of topics without a subscription (any more).
        repeated: Ticks received during recovery and not delivered, since the fetched
            ones are the same or newer.
        held: Ticks held back now, until recovery is complete.
        gaps_by_status: Gaps by status: topics times outages, for each subscription.
        recovered: Ticks fetched after outages, for each subscription.
        dropped: Ticks that buffers dropped or replaced because a consumer was slow; closed
            subscriptions included.
        subscriptions: Open subscriptions.
        backlog: Ticks that are buffered in them now.
        consumer_lag: The age of the oldest of these since its receipt; 0 if there are
            none.
        commands: Subscribe and unsubscribe commands, and requests, sent on the websocket.
        command_wait_last: The wait of the last of them for the rate limit, since it could
            have been sent.
        command_wait_max: The longest such wait.
        command_wait_total: The sum of these waits.
        heartbeat_round_trip: From the last acknowledged heartbeat to its reply, as seen
            by this process; None before the first.
        clock_offset: How far the server's clock is ahead of this machine's; None before
            the first reply with a time. Times are whole seconds: each reply bounds the
            offset to one second plus a round trip, and the estimate is the middle of the
            intersection.
        clock_error: The largest error of ``clock_offset``, either way.
        retention_left: Of a follower of a stream with a durable name: how long it takes
            until the stream removes what it has not handled, estimated every ten seconds
            from how fast the stream grows; None without a limit, and for others.
        http_requests: HTTP requests sent, retries included.
        http_retries: HTTP requests that were retried.
        http_bytes_received: Bodies of complete HTTP responses, decompressed.
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
    retention_left: float | None = None
    http_requests: int = 0
    http_retries: int = 0
    http_bytes_received: int = 0
    http_bytes_sent: int = 0

    @property
    def reconnects(self) -> int:
        """Links that ended and attempts that failed, for any reason."""
        return sum(self.reconnects_by_reason.values())

    @property
    def ticks(self) -> int:
        """Readable pushes, on all channels."""
        return sum(self.ticks_by_channel.values())

    @property
    def gaps(self) -> int:
        """Gaps, of any status."""
        return sum(self.gaps_by_status.values())

    def to_openmetrics(self) -> str:
        """Return all of this as OpenMetrics text, for Prometheus and compatible systems.

        Serve it as ``application/openmetrics-text; version=1.0.0; charset=utf-8``. Names
        begin with ``qos_``. Values that are None are left out.
        """
        from qos_async.metrics import openmetrics  # noqa: PLC0415 - for servers only

        return openmetrics(self)


class SubscriptionStats(Struct, frozen=True, kw_only=True):
    """Counters of one subscription; ``received = delivered + dropped + backlog``.

    Attributes:
        received: Ticks for this subscription.
        delivered: Ticks that its consumer has read.
        dropped: Ticks that its buffer dropped or replaced because the consumer was slow.
        recovered: Ticks among ``received`` that were fetched after an outage.
        unfinished: Klines that were still open, and so not among ``received``; always 0
            without ``final=True``.
        gaps: Topics times outages.
        backlog: Ticks that are buffered now.
        lag: Seconds since the receipt of the oldest of these; 0 without any.
    """

    received: int
    delivered: int
    dropped: int
    recovered: int
    unfinished: int = 0
    gaps: int
    backlog: int
    lag: float = 0.0
