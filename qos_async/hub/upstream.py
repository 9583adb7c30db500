"""Upstream: what the hub needs of its client beyond the public verbs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

from qos_async._core.queries import Query
from qos_async._io.http import HttpClient
from qos_async._io.subscription import Subscription
from qos_async.client import Client
from qos_async.config import Limits
from qos_async.enums import LinkState
from qos_async.topics import Topic

__all__ = ["Upstream"]

_claimed: WeakSet[Client[Any]] = WeakSet()
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

    def claim(self) -> None:
        """Take the client for this hub alone.

        Raises:
            RuntimeError: If another hub has it.
        """
        if self.client in _claimed:
            raise RuntimeError("the client belongs to another hub: make one for each")
        _claimed.add(self.client)

    @property
    def is_open(self) -> bool:
        """Whether the link is open."""
        return self.client.state is LinkState.OPEN

    @property
    def is_closed(self) -> bool:
        """Whether the client is closed, or its link has ended for good."""
        return self.client.state is LinkState.CLOSED

    @property
    def reason(self) -> str:
        """Why the link was last lost or could not be opened; empty if it never was."""
        return self._stream.states.reason

    def check(self) -> None:
        """Raise the error that has ended the link for good, if it has ended."""
        self._stream.check_usable()

    def now(self) -> float:
        """Return the service's time, in epoch seconds, as far as it is known."""
        return self._stream.server_time()

    def watch(self, topics: Sequence[Topic]) -> Subscription[Any]:
        """Return a subscription."""
        return self.client.watch(*topics)

    async def fetch(self, query: Query[Any]) -> Any:
        """Send a query: over the link, which has the larger budget, or over HTTP.

        A large one is sent over HTTP while the quota has a slot for it.
        """
        if query.operation and self.is_open:
            is_small = _rows(query) <= _STREAM_ROWS_MAX
            if is_small or self.wait_for_http() > 0:
                return await self._stream.fetch(query)
        return await self._http.fetch(query)

    def wait(self) -> float:
        """Return the seconds until a request could be sent, as far as is known."""
        return 0.0 if self.is_open else self.wait_for_http()

    def wait_for_http(self) -> float:
        """Return the seconds until the HTTP quota has a slot, as far as is known."""
        if not isinstance(self._http, HttpClient):
            return 0.0
        # It is infinite while requests on their way have all slots.
        return min(self._http.ready_in(), self.limits.http_period)


def _rows(query: Query[Any]) -> int:
    """Return how many rows a reply may have."""
    items: Sequence[Any] = query.body.get("kline_reqs", ())
    rows: int = max([query.body.get("count", 1), *(item["co"] for item in items)])
    return rows * len(query.symbols)
