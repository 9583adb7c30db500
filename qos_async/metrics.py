"""OpenMetrics text of ``Stats``, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from qos_async.enums import LinkState

__all__ = ["openmetrics"]


class _Family(NamedTuple):
    """One metric: its name without prefix, type, source, help, and label if any."""

    name: str
    type: str
    attribute: str
    help: str
    label: str = ""


_FAMILIES = (
    _Family("link_state", "stateset", "state", "Where the websocket is."),
    _Family(
        "links", "counter", "links", "Connections on which the server said something."
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
        "received_bytes", "counter", "bytes_received", "Payload of those received."
    ),
    _Family("sent_bytes", "counter", "bytes_sent", "Payload of those sent."),
    _Family(
        "ticks", "counter", "ticks_by_channel", "Pushes that were read.", "channel"
    ),
    _Family("answers", "counter", "answers", "Answers to anything."),
    _Family("unmatched", "counter", "unmatched", "Answers to nothing that is pending."),
    _Family("unreadable", "counter", "unreadable", "Frames that nobody can read."),
    _Family("unknown", "counter", "unknown", "Pushes of an unknown kind."),
    _Family("unrouted", "counter", "unrouted", "Ticks that nobody watches."),
    _Family("repeated", "counter", "repeated", "Ticks that recovery made superfluous."),
    _Family("held", "gauge", "held", "Ticks held back until an outage is made good."),
    _Family(
        "gaps",
        "counter",
        "gaps_by_status",
        "Gaps told, by what became of them.",
        "status",
    ),
    _Family("recovered", "counter", "recovered", "Ticks fetched after outages."),
    _Family("dropped", "counter", "dropped", "Ticks that slow readers lost."),
    _Family("subscriptions", "gauge", "subscriptions", "Subscriptions that are open."),
    _Family("backlog", "gauge", "backlog", "Ticks that wait for their readers."),
    _Family(
        "consumer_lag_seconds", "gauge", "consumer_lag", "Age of the oldest of these."
    ),
    _Family("commands", "counter", "commands", "Commands and questions that left."),
    _Family(
        "command_wait_seconds",
        "counter",
        "command_wait_total",
        "How long they waited for their turn.",
    ),
    _Family(
        "command_wait_last_seconds",
        "gauge",
        "command_wait_last",
        "How long the newest waited for its turn.",
    ),
    _Family(
        "command_wait_max_seconds",
        "gauge",
        "command_wait_max",
        "How long any of them waited at most.",
    ),
    _Family(
        "heartbeat_round_trip_seconds",
        "gauge",
        "heartbeat_round_trip",
        "From the last heartbeat to its answer.",
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
        "How far the clock offset may be off, either way.",
    ),
    _Family("http_requests", "counter", "http_requests", "HTTP requests that left."),
    _Family("http_retries", "counter", "http_retries", "HTTP requests repeated."),
    _Family(
        "http_received_bytes",
        "counter",
        "http_bytes_received",
        "Bodies of HTTP answers, decompressed.",
    ),
    _Family(
        "http_sent_bytes", "counter", "http_bytes_sent", "Bodies of HTTP requests."
    ),
)
_UNITS = ("seconds", "bytes")


def openmetrics(stats: object) -> str:
    """Return the OpenMetrics text of a ``Stats``."""
    lines = [line for family in _FAMILIES for line in _lines(family, stats)]
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
        yield f"{sample} {value}"


def _samples(name: str, label: str, values: Mapping[str, int]) -> Iterator[str]:
    for word, value in values.items():
        yield f'{name}{{{label}="{_escaped(word)}"}} {value}'


def _escaped(text: str) -> str:
    """Escape what would end a label's value, or a line."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
