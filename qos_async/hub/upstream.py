"""Upstream: what the hub needs of its client beyond the public verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qos_async._core.queries import Query
from qos_async._io.http import HttpClient
from qos_async._io.subscription import Subscription
from qos_async.client import Client
from qos_async.config import Limits
from qos_async.enums import LinkState
from qos_async.hub.questions import Ask
from qos_async.topics import Topic

__all__ = ["Upstream"]

_STREAM_ROWS_MAX = 2_000  # A larger reply would delay the ticks on the link.


class Upstream:
    """The client upstream, and requests whose rows stay as they are received.

    Args:
        client: A client, which nothing else has entered.

    Attributes:
        client: As passed.
        limits: What the plan allows.
        numbers: The type of prices and sizes.
    """

    def __init__(self, client: Client[Any]) -> None:
        self.client = client
        # No public verb returns rows as they are received.
        self._stream = client._stream  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self._http = client._http  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        self.limits: Limits = self._stream.limits
        self.numbers = client._queries.numbers  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    @property
    def is_open(self) -> bool:
        """Whether the link is open."""
        return self.client.state is LinkState.OPEN

    def watch(self, topics: Sequence[Topic]) -> Subscription[Any]:
        """Return a subscription."""
        return self.client.watch(*topics)

    async def fetch(self, query: Query[Any]) -> Any:
        """Send a query: over the link, which has the larger budget, or over HTTP."""
        if query.operation and self._is_for_stream(query.symbols, query.body):
            return await self._stream.fetch(query)
        return await self._http.fetch(query)

    def wait(self, ask: Ask, symbols: Sequence[str]) -> float:
        """Return the seconds until a request could be sent, as far as is known."""
        over_stream = self._is_for_stream(symbols, ask.query(symbols).body)
        if over_stream or not isinstance(self._http, HttpClient):
            return 0.0
        return self._http.ready_in()

    def _is_for_stream(self, symbols: Sequence[str], body: dict[str, Any]) -> bool:
        items = body.get("kline_reqs", ())
        rows = max([body.get("count", 1), *(item["co"] for item in items)])
        return self.is_open and rows * len(symbols) <= _STREAM_ROWS_MAX
