"""Sizes of a client's collections, by name."""

from __future__ import annotations

from typing import Any

from qos_async import Client

__all__ = ["client_sizes"]


def client_sizes(client: Client) -> dict[str, int]:
    """Return the sizes of a client's collections; all of them must stay small."""
    stream: Any = client._stream
    session = stream._session
    registry, requests, recovery = session.registry, session._requests, session.recovery
    return {
        "wanted": len(registry._wanted),
        "held": len(registry._held),
        "unsure": len(registry._unsure),
        "dirty": len(registry.dirty),
        "suspects": len(registry._suspects),
        "outages": len(session.outages.open),
        "early": len(session._interruptions._early),
        "refusals": len(session._interruptions._refusals),
        "cases": len(recovery.cases),
        "echoes": len(recovery.echoes),
        "asked": len(recovery._asked),
        "requests": len(requests._unsent) + len(requests._sent),
        "futures": len(stream._questions._futures),
        "routes": sum(map(len, stream._routes.tables.values())),
        "inboxes": len(stream._inboxes),
    }
