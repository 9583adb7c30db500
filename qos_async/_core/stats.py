"""Statistics: the counters of a client, and the text report on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from qos_async._wording import plural
from qos_async.stats import Stats, SubscriptionStats

__all__ = ["Counters", "HttpCounters", "RecoveryCounters", "report"]

_WIDTH = 16
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_THOUSAND = 1000


class HttpCounters:
    """Counters of HTTP requests.

    Attributes:
        requests: Attempts, including retries.
        retries: Attempts that followed a failed one.
        bytes_sent: Bytes of request bodies.
        bytes_received: Bytes of complete response bodies, decompressed.
    """

    __slots__ = ("bytes_received", "bytes_sent", "requests", "retries")

    def __init__(self) -> None:
        self.requests = self.retries = 0
        self.bytes_received = self.bytes_sent = 0


class RecoveryCounters:
    """Counters of gaps and of what recovery held back.

    Attributes:
        gaps: Gaps emitted, by status.
        recovered: Ticks that were fetched after an outage.
        held: Ticks that were held back until a recovery was settled, in total.
        released: Those of them that were then delivered.
        echoes: Pushes that repeated a recovered tick and were not delivered again.
    """

    __slots__ = ("echoes", "gaps", "held", "recovered", "released")

    def __init__(self) -> None:
        self.gaps: Counter[str] = Counter()
        self.recovered = 0
        self.held = self.released = self.echoes = 0

    @property
    def undelivered(self) -> int:
        """Return how many pushes are still held, or were not delivered at all."""
        return self.echoes + self.held - self.released


class Counters:
    """Counters of one client, from its first use on; ``Stats`` documents most of them.

    Not a Struct: some are incremented for each batch of frames, and a plain slot takes
    two thirds of the time of a Struct's field.

    Attributes:
        dropped: Ticks dropped by the buffers of subscriptions that are closed.
    """

    __slots__ = (
        "answers",
        "bytes_received",
        "bytes_sent",
        "dropped",
        "frames_received",
        "frames_sent",
        "http",
        "links",
        "reconnects",
        "recovery",
        "unknown",
        "unmatched",
        "unreadable",
    )

    def __init__(self) -> None:
        self.links = 0
        self.reconnects: Counter[str] = Counter()
        self.frames_received = self.frames_sent = 0
        self.bytes_received = self.bytes_sent = 0
        self.answers = self.unmatched = 0
        self.unreadable = self.unknown = 0
        self.dropped = 0
        self.http = HttpCounters()
        self.recovery = RecoveryCounters()


def report(
    stats: Stats,
    subscriptions: Iterable[tuple[str, SubscriptionStats]],
    *,
    since: float,
    reason: str,
    now: float,
) -> str:
    """Return a report of a client's statistics as lines of text, with a final newline.

    Args:
        stats: The statistics of the client.
        subscriptions: The label and the statistics of each open subscription.
        since: When the link entered its state, in epoch seconds.
        reason: The last reason of a state change, already sanitized.
        now: The current time, in epoch seconds.
    """
    head = f"QOS client at {_format_time(now)}"
    rows = [*_link_rows(stats, since, reason, now), *_flow_rows(stats)]
    own = [f"  {title}: {_format_subscription(each)}" for title, each in subscriptions]
    rest = [*_pace_rows(stats), *_http_rows(stats)]
    return "\n".join([head, *map(_format_row, rows), *own, *map(_format_row, rest), ""])


def _format_row(row: tuple[str, str]) -> str:
    name, text = row
    return f"{name:<{_WIDTH}}{text}"


def _link_rows(
    stats: Stats, since: float, reason: str, now: float
) -> Iterator[tuple[str, str]]:
    lasted = _format_span(max(now - since, 0.0))
    yield "state", f"{stats.state} for {lasted}, since {_format_time(since)}"
    yield "last reason", reason or "none"
    yield "links", f"{stats.links:,} opened"
    yield "reconnects", _format_counts(stats.reconnects_by_reason)


def _flow_rows(stats: Stats) -> Iterator[tuple[str, str]]:
    yield (
        "frames in",
        f"{stats.frames_received:,}, {_format_size(stats.bytes_received)}",
    )
    yield "frames out", f"{stats.frames_sent:,}, {_format_size(stats.bytes_sent)}"
    yield "ticks", _format_counts(stats.ticks_by_channel)
    undelivered = {
        "unrouted": stats.unrouted,
        "repeated": stats.repeated,
        "held back": stats.held,
    }
    yield "  undelivered", _format_counts(undelivered)
    yield "answers", f"{stats.answers:,} ({stats.unmatched:,} unmatched)"
    yield (
        "skipped",
        _format_counts({"unreadable": stats.unreadable, "unknown": stats.unknown}),
    )
    recovered = f"; {plural(stats.recovered, 'tick')} recovered" if stats.gaps else ""
    yield "gaps", _format_counts(stats.gaps_by_status) + recovered
    yield "dropped", f"{stats.dropped:,}"
    waiting = _format_backlog(stats.backlog, stats.consumer_lag)
    yield "subscriptions", f"{stats.subscriptions:,} open, {waiting}"


def _format_subscription(stats: SubscriptionStats) -> str:
    gaps = "1 gap" if stats.gaps == 1 else f"{stats.gaps:,} gaps"
    return (
        f"{stats.received:,} received, {stats.delivered:,} delivered, "
        f"{stats.dropped:,} dropped, {gaps}, {_format_backlog(stats.backlog, stats.lag)}"
    )


def _format_backlog(backlog: int, lag: float) -> str:
    return f"{backlog:,} waiting" + (f", up to {_format_span(lag)}" if backlog else "")


def _pace_rows(stats: Stats) -> Iterator[tuple[str, str]]:
    last, most = (
        _format_span(stats.command_wait_last),
        _format_span(stats.command_wait_max),
    )
    mean = _format_span(stats.command_wait_total / max(stats.commands, 1))
    waits = f"; waited {last} last, {mean} on average, {most} at most"
    yield "commands", f"{stats.commands:,} sent" + (waits if stats.commands else "")
    trip = stats.heartbeat_round_trip
    yield (
        "heartbeat",
        "none yet" if trip is None else f"round trip {_format_span(trip)}",
    )
    yield "server clock", _format_clock(stats)


def _format_clock(stats: Stats) -> str:
    offset, error = stats.clock_offset, stats.clock_error
    if offset is None or error is None:
        return "not known yet"
    return f"{abs(offset):.2f} s {'behind' if offset < 0 else 'ahead'}, ± {error:.2f} s"


def _http_rows(stats: Stats) -> Iterator[tuple[str, str]]:
    received = _format_size(stats.http_bytes_received)
    sent = _format_size(stats.http_bytes_sent)
    requests = f"{stats.http_requests:,} requests ({stats.http_retries:,} repeated)"
    yield "HTTP", f"{requests}, {received} in, {sent} out"


def _format_counts(counts: Mapping[str, int]) -> str:
    shares = [f"{count:,} {name}" for name, count in counts.items() if count]
    if len(shares) == 1:
        return shares[0]
    total = f"{sum(counts.values()):,}"
    return f"{total}: {', '.join(shares)}" if shares else total


def _format_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _format_span(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    days, hours = divmod(whole // _HOUR, _DAY // _HOUR)
    minutes, rest = divmod(whole % _HOUR, _MINUTE)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2])


def _format_size(count: float) -> str:
    if count < _THOUSAND:
        return f"{count} B"
    for unit in ("kB", "MB", "GB"):
        count /= _THOUSAND
        if count < _THOUSAND:
            return f"{count:.1f} {unit}"
    return f"{count / _THOUSAND:,.1f} TB"
