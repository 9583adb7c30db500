"""Sizes of a client's collections, by name."""

from __future__ import annotations

from typing import Any

from qos_async import Client

__all__ = ["client_sizes"]


def client_sizes(client: Client) -> dict[str, int]:
    """Return the sizes of a client's collections; all of them must stay small."""
    stream: Any = client._stream
    protocol = stream._protocol
    registry, recovery = protocol.registry, protocol.recovery
    requests, outages = protocol.scheduler.requests, protocol.outages
    return {
        "wanted": len(registry._wanted),
        "held": len(registry._held),
        "unknown": len(registry._unknown),
        "dirty": len(registry.dirty),
        "split_batches": len(registry._split_batches),
        "outages": len(outages.open),
        "ticking_unacked": len(outages._ticking_unacked),
        "rejections": len(outages._rejections),
        "cases": len(recovery.cases),
        "echoes": len(recovery.echoes),
        "recovery_requests": len(recovery._sent),
        "requests": len(requests._unsent) + len(requests._sent),
        "futures": len(stream._pending._futures),
        "routes": sum(map(len, stream.gaps._router.by_symbol.values())),
        "queues": len(stream._queues),
    }
