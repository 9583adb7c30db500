"""How a client stands, on a page for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from qos_async.stats import Stats, SubscriptionStats

__all__ = ["report"]

_WIDTH = 16
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_THOUSAND = 1000


def report(
    stats: Stats,
    readers: Iterable[tuple[str, SubscriptionStats]],
    *,
    since: float,
    reason: str,
    now: float,
) -> str:
    """Write the page; it ends with a line feed.

    Args:
        stats: The client's.
        readers: Each open subscription: what it is of, and its own.
        since: When the link came into its state, in epoch seconds.
        reason: The last one that was told for a change of state, fit to be shown.
        now: Epoch seconds.
    """
    head = f"QOS client at {_moment(now)}"
    rows = [*_link(stats, since, reason, now), *_flow(stats)]
    own = [f"  {title}: {_reader(each)}" for title, each in readers]
    rest = [*_pace(stats), *_http(stats)]
    return "\n".join([head, *map(_row, rows), *own, *map(_row, rest), ""])


def _row(row: tuple[str, str]) -> str:
    name, text = row
    return f"{name:<{_WIDTH}}{text}"


def _link(
    stats: Stats, since: float, reason: str, now: float
) -> Iterator[tuple[str, str]]:
    lasted = _span(max(now - since, 0.0))
    yield "state", f"{stats.state} for {lasted}, since {_moment(since)}"
    yield "last reason", reason or "none"
    yield "links", f"{stats.links:,} opened"
    yield "reconnects", _shares(stats.reconnects_by_reason)


def _flow(stats: Stats) -> Iterator[tuple[str, str]]:
    yield "frames in", f"{stats.frames_received:,}, {_size(stats.bytes_received)}"
    yield "frames out", f"{stats.frames_sent:,}, {_size(stats.bytes_sent)}"
    yield "ticks", _shares(stats.ticks_by_channel)
    undelivered = {
        "unrouted": stats.unrouted,
        "repeated": stats.repeated,
        "held back": stats.held,
    }
    yield "  undelivered", _shares(undelivered)
    yield "answers", f"{stats.answers:,} ({stats.unmatched:,} unmatched)"
    yield "skipped", _shares({"unreadable": stats.unreadable, "unknown": stats.unknown})
    recovered = f"; {stats.recovered:,} ticks recovered" if stats.gaps else ""
    yield "gaps", _shares(stats.gaps_by_status) + recovered
    yield "dropped", f"{stats.dropped:,}"
    waiting = _waiting(stats.backlog, stats.consumer_lag)
    yield "subscriptions", f"{stats.subscriptions:,} open, {waiting}"


def _reader(stats: SubscriptionStats) -> str:
    gaps = "1 gap" if stats.gaps == 1 else f"{stats.gaps:,} gaps"
    return (
        f"{stats.received:,} received, {stats.delivered:,} delivered, "
        f"{stats.dropped:,} dropped, {gaps}, {_waiting(stats.backlog, stats.lag)}"
    )


def _waiting(backlog: int, lag: float) -> str:
    return f"{backlog:,} waiting" + (f", up to {_span(lag)}" if backlog else "")


def _pace(stats: Stats) -> Iterator[tuple[str, str]]:
    last, most = _span(stats.command_wait_last), _span(stats.command_wait_max)
    mean = _span(stats.command_wait_total / max(stats.commands, 1))
    waits = f"; waited {last} last, {mean} on average, {most} at most"
    yield "commands", f"{stats.commands:,} sent" + (waits if stats.commands else "")
    trip = stats.heartbeat_round_trip
    yield "heartbeat", "none yet" if trip is None else f"round trip {_span(trip)}"
    yield "server clock", _clock(stats)


def _clock(stats: Stats) -> str:
    offset, error = stats.clock_offset, stats.clock_error
    if offset is None or error is None:
        return "not known yet"
    return f"{abs(offset):.2f} s {'behind' if offset < 0 else 'ahead'}, ± {error:.2f} s"


def _http(stats: Stats) -> Iterator[tuple[str, str]]:
    sizes = f"{_size(stats.http_bytes_received)} in, {_size(stats.http_bytes_sent)} out"
    asked = f"{stats.http_requests:,} requests ({stats.http_retries:,} repeated)"
    yield "HTTP", f"{asked}, {sizes}"


def _shares(counts: Mapping[str, int]) -> str:
    shares = [f"{count:,} {name}" for name, count in counts.items() if count]
    if len(shares) == 1:
        return shares[0]
    total = f"{sum(counts.values()):,}"
    return f"{total}: {', '.join(shares)}" if shares else total


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
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


def _size(count: float) -> str:
    if count < _THOUSAND:
        return f"{count} B"
    for unit in ("kB", "MB", "GB"):
        count /= _THOUSAND
        if count < _THOUSAND:
            return f"{count:.1f} {unit}"
    return f"{count / _THOUSAND:,.1f} TB"
