"""OpenMetrics text of ``Stats`` and ``RecorderStats``, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from qos_async.enums import LinkState

__all__ = ["openmetrics", "recorder_metrics"]


class _Family(NamedTuple):
    """One metric: its name without prefix, type, source, help, and label if any."""

    name: str
    type: str
    attribute: str
    help: str
    label: str = ""


_FAMILIES = (
    _Family("link_state", "stateset", "state", "The state of the websocket."),
    _Family(
        "links", "counter", "links", "Connections on which the server sent something."
    ),
    _Family(
        "reconnects",
        "counter",
        "reconnects_by_reason",
        "Links that ended and attempts that failed.",
        "reason",
    ),
    _Family("frames_received", "counter", "frames_received", "Websocket frames."),
    _Family(
        "frames_sent",
        "counter",
        "frames_sent",
        "Websocket frames, heartbeats included.",
    ),
    _Family(
        "received_bytes", "counter", "bytes_received", "Payload of frames received."
    ),
    _Family("sent_bytes", "counter", "bytes_sent", "Payload of frames sent."),
    _Family("ticks", "counter", "ticks_by_channel", "Readable pushes.", "channel"),
    _Family("answers", "counter", "answers", "Replies of any kind."),
    _Family("unmatched", "counter", "unmatched", "Replies to nothing that is pending."),
    _Family("unreadable", "counter", "unreadable", "Frames that cannot be decoded."),
    _Family("unknown", "counter", "unknown", "Pushes of an unknown kind."),
    _Family("unrouted", "counter", "unrouted", "Ticks without a subscription."),
    _Family("repeated", "counter", "repeated", "Ticks that repeat recovered ones."),
    _Family("held", "gauge", "held", "Ticks held back until recovery is complete."),
    _Family(
        "gaps",
        "counter",
        "gaps_by_status",
        "Gaps by status.",
        "status",
    ),
    _Family("recovered", "counter", "recovered", "Ticks fetched after outages."),
    _Family(
        "dropped", "counter", "dropped", "Ticks dropped because of slow consumers."
    ),
    _Family("subscriptions", "gauge", "subscriptions", "Open subscriptions."),
    _Family("backlog", "gauge", "backlog", "Buffered ticks."),
    _Family(
        "consumer_lag_seconds",
        "gauge",
        "consumer_lag",
        "Age of the oldest buffered tick.",
    ),
    _Family("commands", "counter", "commands", "Commands and requests sent."),
    _Family(
        "command_wait_seconds",
        "counter",
        "command_wait_total",
        "Their total wait for the rate limit.",
    ),
    _Family(
        "command_wait_last_seconds",
        "gauge",
        "command_wait_last",
        "Wait of the last command for the rate limit.",
    ),
    _Family(
        "command_wait_max_seconds",
        "gauge",
        "command_wait_max",
        "Longest wait of a command for the rate limit.",
    ),
    _Family(
        "heartbeat_round_trip_seconds",
        "gauge",
        "heartbeat_round_trip",
        "From the last heartbeat to its reply.",
    ),
    _Family(
        "clock_offset_seconds",
        "gauge",
        "clock_offset",
        "How far the server's clock is ahead of this machine's.",
    ),
    _Family(
        "clock_error_seconds",
        "gauge",
        "clock_error",
        "Largest error of the clock offset, either way.",
    ),
    _Family(
        "retention_left_seconds",
        "gauge",
        "retention_left",
        "Until the stream removes what a durable follower has not handled.",
    ),
    _Family("http_requests", "counter", "http_requests", "HTTP requests sent."),
    _Family("http_retries", "counter", "http_retries", "HTTP requests retried."),
    _Family(
        "http_received_bytes",
        "counter",
        "http_bytes_received",
        "Bodies of HTTP responses, decompressed.",
    ),
    _Family(
        "http_sent_bytes", "counter", "http_bytes_sent", "Bodies of HTTP requests."
    ),
)
_RECORDER_FAMILIES = (
    _Family("recorder_frames", "counter", "frames", "Frames recorded."),
    _Family("recorder_dropped", "counter", "dropped", "Frames not recorded."),
    _Family("recorder_waiting_bytes", "gauge", "waiting", "Frames not written yet."),
    _Family(
        "recorder_written_bytes",
        "gauge",
        "bytes_written",
        "Compressed bytes of files; of a stream, of its spool.",
    ),
    _Family("recorder_published", "counter", "published", "Messages sent to a stream."),
    _Family("recorder_stored", "counter", "stored", "Messages that it acknowledged."),
    _Family("recorder_pending", "gauge", "pending", "Messages that it did not."),
    _Family("recorder_epoch", "gauge", "epoch", "The number under which it may write."),
    _Family("recorder_lease_held", "gauge", "lease_held", "Whether it has the lease."),
    _Family(
        "recorder_lease_renewed_seconds",
        "gauge",
        "lease_renewed_at",
        "When the lease was renewed, since the epoch.",
    ),
    _Family(
        "recorder_lag_seconds",
        "gauge",
        "lag",
        "Age of the oldest message that a stream does not have.",
    ),
    _Family(
        "recorder_age_seconds",
        "gauge",
        "ages",
        "Since the last tick was recorded, by channel and market.",
        "feed",
    ),
    _Family(
        "recorder_failing", "gauge", "last_error", "Whether a stream gets nothing."
    ),
)
_UNITS = ("seconds", "bytes")


def openmetrics(stats: object) -> str:
    """Return the OpenMetrics text of a ``Stats``."""
    return _text(_FAMILIES, stats)


def recorder_metrics(stats: object) -> str:
    """Return the OpenMetrics text of a ``RecorderStats``."""
    return _text(_RECORDER_FAMILIES, stats)


def _text(families: tuple[_Family, ...], stats: object) -> str:
    lines = [line for family in families for line in _lines(family, stats)]
    return "\n".join([*lines, "# EOF", ""])


def _lines(family: _Family, stats: object) -> Iterator[str]:
    name = f"qos_{family.name}"
    yield f"# TYPE {name} {family.type}"
    unit = name.rpartition("_")[2]
    if unit in _UNITS:
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {_escaped(family.help)}"
    sample = f"{name}_total" if family.type == "counter" else name
    value: Any = getattr(stats, family.attribute)
    if isinstance(value, LinkState):
        states = {state.value: int(state is value) for state in LinkState}
        yield from _samples(sample, name, states)
    elif family.label:
        yield from _samples(sample, family.label, value)
    elif value is not None:
        number = int(bool(value)) if isinstance(value, (bool, str)) else value
        yield f"{sample} {number}"


def _samples(name: str, label: str, values: Mapping[str, float]) -> Iterator[str]:
    for word, value in values.items():
        yield f'{name}{{{label}="{_escaped(word)}"}} {value}'


def _escaped(text: str) -> str:
    """Escape characters that end a label's value or a line."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
