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
        symbols_max: The places of the plan.
        topics: The topics upstream, those that linger included.
        interrupted: The topics with an open outage.
        ticks: The number of ticks received from upstream.
        answered: How many symbols of requests were answered, by ``live`` (from what was
            pushed), ``kept`` (finished klines on disk) and ``upstream``.
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
    samples = {
        "ready gauge": int(stats.ready),
        "clients gauge": len(clients),
        "symbols gauge": stats.symbols,
        "symbols_max gauge": stats.symbols_max,
        "topics gauge": stats.topics,
        "interrupted gauge": stats.interrupted,
        "ticks counter": stats.ticks,
        "requests counter": stats.requests,
        "refused counter": stats.refused,
        "backlog gauge": sum(client.backlog for client in clients),
        "loop_lag_max_seconds gauge": stats.loop_lag_max,
    }
    lines: list[str] = []
    for title, value in samples.items():
        name, kind = title.split()
        end = "_total" if kind == "counter" else ""
        lines += [f"# TYPE qos_hub_{name} {kind}", f"qos_hub_{name}{end} {value}"]
    lines.append("# TYPE qos_hub_answered counter")
    lines += [
        f'qos_hub_answered_total{{source="{source}"}} {count}'
        for source, count in stats.answered.items()
    ]
    return "\n".join([*lines, ""])
