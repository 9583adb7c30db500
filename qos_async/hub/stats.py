"""Statistics of a hub."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["HubClientStats", "HubStats", "hub_metrics"]


class HubClientStats(Struct, frozen=True, kw_only=True):
    """One client of a hub.

    Attributes:
        number: From 1, in the order in which links were opened.
        owner: The name of its token; without tokens, its address.
        topics: What it has subscribed, as text.
        sent: The number of frames that were sent to it.
        backlog: The number of frames that wait because it reads too slowly.
        conflated: The number of frames that a newer one of their slot replaced.
    """

    number: int
    owner: str
    topics: list[str]
    sent: int
    backlog: int
    conflated: int


class HubStats(Struct, frozen=True, kw_only=True):
    """A snapshot of a hub's counters.

    Attributes:
        ready: Whether clients are accepted.
        upstream: The state of the link upstream.
        upstream_reason: Why that link was last lost, or could not be opened; empty if it
            never was.
        symbols: The distinct symbols upstream.
        symbols_max: The places of the plan; 0 for a hub of a recording, which has none.
        topics: The topics upstream, those that linger included.
        interrupted: The topics with an open outage.
        ticks: The number of ticks received from upstream.
        answered: How many symbols of requests were answered, by ``live`` (from what was
            pushed), ``kept`` (finished klines on disk) and ``upstream`` (the service, or
            the last values of a recording).
        requests: The number of requests upstream.
        refused: The number of handshakes and requests that were refused.
        loop_lag_max: The longest time in seconds that the event loop was held.
        clients: The clients.
    """

    ready: bool
    upstream: str
    symbols: int
    symbols_max: int
    topics: int
    interrupted: int
    ticks: int
    answered: dict[str, int]
    requests: int
    refused: int
    loop_lag_max: float
    clients: list[HubClientStats]
    upstream_reason: str = ""


def hub_metrics(stats: HubStats) -> str:
    """Return the OpenMetrics text of a hub, without the end-of-file line."""
    clients = stats.clients
    values = {
        "ready": int(stats.ready),
        "clients": len(clients),
        "symbols": stats.symbols,
        "symbols_max": stats.symbols_max,
        "topics": stats.topics,
        "interrupted": stats.interrupted,
        "ticks": stats.ticks,
        "requests": stats.requests,
        "refused": stats.refused,
        "backlog": sum(client.backlog for client in clients),
        "loop_lag_max_seconds": stats.loop_lag_max,
    }
    lines: list[str] = []
    for name, (kind, about) in _FAMILIES.items():
        lines += [
            f"# TYPE qos_hub_{name} {kind}",
            f"# HELP qos_hub_{name} {about}",
        ]
        end = "_total" if kind == "counter" else ""
        if name in values:
            lines.append(f"qos_hub_{name}{end} {values[name]}")
    # The last one has a label.
    lines += [
        f'qos_hub_answered_total{{source="{source}"}} {count}'
        for source, count in stats.answered.items()
    ]
    return "\n".join([*lines, ""])


_FAMILIES = {
    "ready": ("gauge", "Whether clients are accepted."),
    "clients": ("gauge", "Open websockets of clients."),
    "symbols": ("gauge", "Symbols that are subscribed upstream."),
    "symbols_max": ("gauge", "Symbols that the plan allows."),
    "topics": ("gauge", "Topics that are subscribed upstream."),
    "interrupted": ("gauge", "Topics with an open outage."),
    "ticks": ("counter", "Ticks received from upstream."),
    "requests": ("counter", "Requests sent upstream."),
    "refused": ("counter", "Handshakes and requests that were refused."),
    "backlog": ("gauge", "Frames that wait for slow clients."),
    "loop_lag_max_seconds": ("gauge", "The longest hold of the event loop."),
    "answered": ("counter", "Symbols of requests, by what they were answered from."),
}
